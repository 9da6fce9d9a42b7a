//! What the verbs share that make requests: their flags, the request's creation as the caller, and waiting for its end.

pub mod place;
pub mod settings;
pub mod window;

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use self::window::Window;
use crate::api::phase::Phase;
use crate::api::request::DeploymentRequestSpec;
use crate::api::request_status::condition_types::SUCCEEDED;
use crate::api::{DeploymentRequest, condition, duration};

/// How often a request is looked at that is waited for.
const POLL: Duration = Duration::from_millis(500);

/// How it is asked for.
#[derive(Args, Debug)]
pub struct Asking {
    /// The namespace of the Solution, whose status says what you may not read in the host; left out, that of the current context.
    #[arg(long, value_name = "NAMESPACE")]
    pub from: Option<String>,
    /// Anything the approver should know.
    #[arg(long)]
    pub notes: Option<String>,
    /// Wait until the request has ended, and fail where it has not succeeded.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, for example 15m.
    #[arg(long, default_value = "15m", requires = "wait")]
    pub timeout: String,
}

/// Makes the request as the caller, says its name, and waits for its end where that is asked for.
///
/// # Errors
/// Where the API server refuses it; and, waiting, where it does not succeed in time.
pub async fn ask(
    client: &Client,
    host: &str,
    spec: DeploymentRequestSpec,
    asking: &Asking,
    out: &mut (impl Write + Send),
) -> anyhow::Result<()> {
    // Whatever is wrong with a flag is said before anything is made.
    let timeout = duration::parse(&asking.timeout)
        .with_context(|| format!("--timeout {} is not a duration such as 15m; no request was made", asking.timeout))?;
    let what = format!("{} {} to stage {} of pipeline {}", spec.solution.name, spec.solution.version, spec.stage, spec.pipeline);
    let mut request = DeploymentRequest::new("", spec);
    request.metadata.name = None;
    request.metadata.generate_name =
        Some(format!("{}-{}-{}-", request.spec.solution.name, request.spec.solution.version, request.spec.stage));
    let made = Api::<DeploymentRequest>::namespaced(client.clone(), host)
        .create(&PostParams::default(), &request)
        .await
        .with_context(|| format!("asking for {what} in host {host}"))?;
    let name = made.name_any();
    writeln!(out, "request {name} made in host {host}: {what}")?;
    if !asking.wait {
        return Ok(());
    }
    wait(client, host, &made, asking, timeout, out).await
}

/// What is seen of a request.
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
    out: &mut (impl Write + Send),
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
            if *ended && *phase == Phase::Succeeded {
                return Ok(());
            }
            if *ended {
                bail!("request {name} ended {phase}");
            }
        }
        if Instant::now() >= deadline {
            bail!("request {name} has not ended within {}; it goes on", asking.timeout);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The request itself, for whom may read it; else what the Solution's status says of it.
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
            let window = Window::open(client, asking.from.as_deref(), &made.spec.solution.name).await.with_context(|| {
                format!("request {name} was made, but you may not read it in host {host}, nor the Solution that tells of it: name its namespace with --from")
            })?;
            Ok(window.of_request(Some(host), &name).map(|entry| Seen {
                ended: Phase::has_ended(&entry.phase),
                phase: entry.phase.clone(),
                message: entry.message.clone().unwrap_or_default(),
            }))
        }
        Err(error) => Err(error).with_context(|| format!("reading request {name} of host {host}")),
    }
}

/// Whether the caller may not.
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403)
}
