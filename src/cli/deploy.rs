//! `kubectl pilotage deploy`: asks for a deployment from the maker's seat. Host, pipeline and stage come from the status of the Solution.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use tokio::time::Instant;

use super::ask::choice::{self, Choice, How};
use super::ask::needed::{self, Needed};
use super::ask::registry::{self, FromRegistry};
use super::ask::settings::SettingsArgs;
use super::ask::{self, Asking, dry_run, share_with};
use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::{Format, Output};
use crate::api::Solution;
use crate::api::duration;
use crate::api::reason::Reason;
use crate::api::reference::SolutionVersion;
use crate::api::request::{DeploymentRequestSpec, ShareGrant};

/// How long to wait for the operator to look at a Solution that was just changed, and how often.
const LOOKED_AT: (Duration, Duration) = (Duration::from_secs(15), Duration::from_millis(250));

/// Ask for a deployment of a Solution of your namespace (-n).
///
/// Which stage can be next, in which host and through which pipeline, is what the Solution's status tells; you need no right to read the
/// host. The settings that the version needs are listed first. What is missing is asked for on a terminal, and refused elsewhere with the
/// flags to add.
#[derive(Args, Debug)]
pub struct DeployArgs {
    /// The Solution.
    #[arg(value_parser = object_name)]
    solution: String,
    /// The stage, as STAGE or HOST/STAGE. May be left out if there is one that can be next.
    #[arg(long, value_name = "STAGE")]
    to: Option<String>,
    /// The version. Default: the one that can be next in the stage.
    #[arg(long, value_parser = object_name)]
    version: Option<String>,
    /// What a registry holds, as `oci://REGISTRY/REPOSITORY:TAG` or @DIGEST, in place of what is developed here. The pipeline must take from
    /// there. The version is the tag, unless --version names it. If your namespace has no Solution of that name, one is made, whose status
    /// tells what becomes of it.
    #[arg(long, value_name = "OCI-URL")]
    artifact: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Deploy at this time or later (RFC 3339), for example 2026-12-01T06:00:00Z.
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// With whom to share what is deployed: User, Group or `ServiceAccount` (as NAMESPACE/NAME), and the `ClusterRole` that they get; may be
    /// given several times. The stage must allow it.
    #[arg(long, value_name = "KIND:NAME:CLUSTERROLE")]
    share_with: Vec<String>,
    /// Anything the approver should know.
    #[arg(long)]
    notes: Option<String>,
    /// Find out what the deployment would do, print that, and deploy nothing. Nobody is asked to approve it.
    #[arg(long, conflicts_with_all = ["wait", "at"])]
    dry_run: bool,
    /// Wait until the request has ended, and fail if it has not succeeded.
    #[arg(long)]
    wait: bool,
    /// How long to wait, for example 15m.
    #[arg(long, default_value = "15m")]
    timeout: String,
}

/// Creates the request, as far as the caller may know what it is for.
///
/// # Errors
/// If a flag is wrong, if it is not clear where to, if settings are missing, or if the API server refuses the request.
pub async fn run(connection: &Connection, args: DeployArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    if out.format() == Format::Csv {
        return Err(Exit::Usage.because("-o csv is for lists; here it is table, wide, json, yaml or name"));
    }
    // An error in a flag is told before anything is asked.
    args.settings.check()?;
    let shares = args.share_with.iter().map(|text| share_with::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let at = args.at.as_deref().map(time).transpose()?;
    let timeout = duration::parse(&args.timeout)
        .ok_or_else(|| Exit::Usage.because(format!("--timeout {} is not a duration such as 15m; no request was made", args.timeout)))?;

    let pushed = args.artifact.as_deref().map(|artifact| registry::read(artifact, args.version.as_deref())).transpose()?;

    let namespace = connection.namespace();
    let solutions = Api::<Solution>::namespaced(connection.client(), namespace);
    let mut made = None;
    if let Some(pushed) = &pushed
        && found(&solutions, namespace, &args.solution).await?.is_none()
    {
        made = Some(registry::follow(&solutions, namespace, &args.solution, &pushed.version).await?);
    }
    let (name, is_new) = (args.solution.clone(), made.is_some());
    let prepared = match prepare(connection, args, shares, at, pushed, out).await {
        Ok(prepared) => prepared,
        Err(error) => {
            if let Some(made) = made {
                registry::forget(&solutions, &made).await;
            }
            return Err(error);
        }
    };
    if is_new {
        out.note(&format!("Solution {name} was made in namespace {namespace}: its status tells what becomes of this"))?;
    }
    let Prepared { host, spec, asking } = prepared;
    if spec.plan_only {
        return dry_run::run(&connection.client(), namespace, &host, spec, timeout, out).await;
    }
    ask::ask(&connection.client(), &host, spec, &asking, out).await
}

/// What is to be asked for.
struct Prepared {
    host: String,
    spec: DeploymentRequestSpec,
    asking: Asking,
}

/// Finds out where to and with which settings. Nothing is written.
async fn prepare(
    connection: &Connection,
    args: DeployArgs,
    share_with: Vec<ShareGrant>,
    scheduled_time: Option<String>,
    pushed: Option<FromRegistry>,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<Prepared> {
    let (client, namespace) = (connection.client(), connection.namespace());
    let solution = looked_at(&Api::namespaced(client.clone(), namespace), namespace, &args.solution).await?;
    let how = How { dry_run: args.dry_run, from_registry: pushed.is_some() };
    let version = pushed.as_ref().map(|pushed| pushed.version.as_str()).or(args.version.as_deref());
    let Choice { stage, version } = choice::choose(&client, &solution, args.to.as_deref(), version, how).await?;
    for obstacle in stage.obstacles.iter().filter(|o| o.reason != Reason::PreviousStageNotSucceeded && !how.from_registry) {
        out.note(&format!("not now: {}", obstacle.message))?;
    }
    if !args.dry_run {
        for wait in choice::waits(&stage, Timestamp::now()) {
            out.note(&wait)?;
        }
    }
    let before = if args.settings.from_defaults() { None } else { needed::before(&client, &solution, &stage, out).await? };
    let needed = Needed::of(&solution, &stage.host, &version, how.from_registry);
    let settings = args.settings.over(before.map(|before| needed.fitting(before)))?;
    let deployment_settings = needed.complete(settings, &stage, &version, out)?;
    let spec = DeploymentRequestSpec {
        pipeline: stage.pipeline,
        stage: stage.stage,
        solution: SolutionVersion { name: solution.name_any(), version },
        source_environment: stage.source_environment.filter(|_| pushed.is_none()),
        artifact: pushed.map(|pushed| pushed.source),
        deployment_settings,
        share_with,
        notes: args.notes.clone(),
        on_behalf_of: None,
        scheduled_time,
        plan_only: args.dry_run,
        cancel: false,
        requested_by: None,
    };
    let asking = Asking { from: Some(namespace.to_owned()), notes: args.notes, wait: args.wait, timeout: args.timeout };
    Ok(Prepared { host: stage.host, spec, asking })
}

fn time(text: &str) -> anyhow::Result<String> {
    let read: Result<Timestamp, _> = text.parse();
    // The form that the schema takes has no fractions of a second.
    read.map(|at| crate::api::condition::whole_seconds(at).to_string())
        .map_err(|_| Exit::Usage.because(format!("--at {text} is not a time of RFC 3339, for example 2026-12-01T06:00:00Z")))
}

async fn found(solutions: &Api<Solution>, namespace: &str, name: &str) -> anyhow::Result<Option<Solution>> {
    solutions.get_opt(name).await.with_context(|| format!("reading Solution {name} of namespace {namespace}"))
}

/// The Solution, once its status is about its newest generation. Who has just changed it need not wait for that by themselves.
async fn looked_at(solutions: &Api<Solution>, namespace: &str, name: &str) -> anyhow::Result<Solution> {
    let deadline = Instant::now() + LOOKED_AT.0;
    loop {
        let Some(solution) = found(solutions, namespace, name).await? else {
            return Err(Exit::NotFound.because(format!(
                "Solution {name} does not exist in namespace {namespace}: name your development namespace with -n (kubectl get solutions -n {namespace}), \
                 or what a registry holds with --artifact"
            )));
        };
        let seen = solution.status.as_ref().map(|status| status.observed_generation);
        if seen.is_some() && seen >= solution.metadata.generation {
            return Ok(solution);
        }
        if Instant::now() >= deadline {
            return Err(Exit::TimedOut.because(format!(
                "no operator has looked at Solution {name} of namespace {namespace}: it looks only into namespaces that a validated Environment of type \
                 Development names; ask the administrator of your host"
            )));
        }
        tokio::time::sleep(LOOKED_AT.1).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_taken_in_any_zone_and_without_fractions() {
        assert_eq!(time("2026-12-01T06:00:00.5+01:00").unwrap(), "2026-12-01T05:00:00Z");
        for wrong in ["", "tomorrow", "2026-12-01", "2026-12-01T06:00:00"] {
            assert_eq!(Exit::of(&time(wrong).unwrap_err()), Exit::Usage, "{wrong}");
        }
    }
}
