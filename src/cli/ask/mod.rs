//! What all verbs that create requests share: their flags, creating the request as the caller, and waiting for its end.

pub mod choice;
pub mod dry_run;
pub mod makers_view;
pub mod needed;
pub mod place;
pub mod registry;
mod requester;
pub mod settings;
pub mod share_with;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use self::makers_view::MakersView;
use super::exit::Exit;
use super::output::Output;
use crate::api::phase::Phase;
use crate::api::request::DeploymentRequestSpec;
use crate::api::request_status::condition_types::SUCCEEDED;
use crate::api::{DeploymentRequest, condition, duration};
use crate::cli::names::object_name;

/// How often the request is read while waiting for it.
const POLL: Duration = Duration::from_millis(500);

/// The flags of verbs that create requests.
#[derive(Args, Debug)]
pub struct Asking {
    /// The namespace of the Solution. Its status shows what you may not read in the host. Default: the namespace of the current context.
    #[arg(long, value_name = "NAMESPACE", value_parser = object_name)]
    pub from: Option<String>,
    /// Anything the approver should know.
    #[arg(long)]
    pub notes: Option<String>,
    /// Wait until the request has ended, and fail if it has not succeeded.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, for example 15m.
    #[arg(long, default_value = "15m", requires = "wait")]
    pub timeout: String,
}

/// Creates the request as the caller, prints its name, and waits for its end if `--wait` is set.
///
/// # Errors
/// If the API server refuses the request, or if it does not succeed in time while this waits.
pub async fn ask(
    client: &Client,
    host: &str,
    spec: DeploymentRequestSpec,
    asking: &Asking,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<()> {
    // An error in a flag is reported before anything is created.
    let timeout = duration::parse(&asking.timeout)
        .ok_or_else(|| Exit::Usage.because(format!("--timeout {} is not a duration such as 15m; no request was made", asking.timeout)))?;
    let what = format!("{} {} to stage {} of pipeline {}", spec.solution.name, spec.solution.version, spec.stage, spec.pipeline);
    let mut request = DeploymentRequest::new("", spec);
    request.metadata.name = None;
    request.metadata.generate_name =
        Some(format!("{}-{}-{}-", request.spec.solution.name, request.spec.solution.version, request.spec.stage));
    let made = requester::create(client, host, &mut request).await.with_context(|| format!("asking for {what} in host {host}"))?;
    let name = made.name_any();
    out.one(&made, &full_name(&name), &format!("request {name} made in host {host}: {what}"))?;
    if !asking.wait {
        return Ok(());
    }
    wait(client, host, &made, asking, timeout, out).await
}

/// What the caller may see of a request.
struct Seen {
    phase: String,
    message: String,
    ended: bool,
}

async fn wait(
    client: &Client,
    host: &str,
    made: &DeploymentRequest,
    asking: &Asking,
    timeout: Duration,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<()> {
    let (name, deadline) = (made.name_any(), Instant::now() + timeout);
    let mut told = String::new();
    loop {
        let seen = look(client, host, made, asking).await?;
        if let Some(Seen { phase, message, ended }) = &seen {
            let line = format!("{phase}: {}", if *ended { message } else { message.lines().next().unwrap_or_default() });
            if line != told {
                writeln!(out, "{line}")?;
                told = line;
            }
            if *ended && matches!(Phase::of(phase), Some(Phase::Succeeded | Phase::Planned)) {
                return Ok(());
            }
            if *ended {
                return Err(Exit::Unsuccessful.because(format!("request {name} ended {phase}")));
            }
        }
        if Instant::now() >= deadline {
            return Err(Exit::TimedOut.because(format!("request {name} has not ended within {}; it goes on", asking.timeout)));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The request itself, if the caller may read it. Otherwise what the Solution's status says about it.
async fn look(client: &Client, host: &str, made: &DeploymentRequest, asking: &Asking) -> anyhow::Result<Option<Seen>> {
    let name = made.name_any();
    match Api::<DeploymentRequest>::namespaced(client.clone(), host).get_opt(&name).await {
        Ok(Some(request)) => {
            let Some(run) = request.status.map(|s| s.run) else { return Ok(None) };
            let message = condition::find(&run.conditions, SUCCEEDED).map(|c| c.message.clone()).unwrap_or_default();
            Ok(Some(Seen { ended: run.end_time.is_some(), phase: run.phase, message }))
        }
        Ok(None) => bail!("request {name} was deleted"),
        Err(error) if is_forbidden(&error) => {
            let view = MakersView::open(client, asking.from.as_deref(), &made.spec.solution.name).await.with_context(|| {
                format!("request {name} was made, but you may not read it in host {host}, nor the Solution that tells of it: name its namespace with --from")
            })?;
            Ok(view.of_request(Some(host), &name).map(|entry| Seen {
                ended: Phase::has_ended(&entry.phase),
                phase: entry.phase.clone(),
                message: entry.message.clone().unwrap_or_default(),
            }))
        }
        Err(error) => Err(error).with_context(|| format!("reading request {name} of host {host}")),
    }
}

/// A request as kubectl names it.
pub(super) fn full_name(request: &str) -> String {
    format!("deploymentrequest.pilotage.dev/{request}")
}

/// Whether the caller lacks the right.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
