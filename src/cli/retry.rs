//! `kubectl pilotage retry`: creates a request that did not succeed again, under a new name.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use kube::{Api, Client};

use super::ask::makers_view::{self, MakersView};
use super::ask::settings::SettingsArgs;
use super::ask::{self, Asking, is_forbidden};
use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::Output;
use crate::api::DeploymentRequest;
use crate::api::phase::Phase;
use crate::api::reference::SolutionVersion;
use crate::api::request::{ArtifactSource, DeploymentRequestSpec, OciSource};

/// Create a request again that failed, was rejected or canceled: the same, under a new name, as you. The namespace (-n) is the host, or that
/// of the Solution that tells of it.
#[derive(Args, Debug)]
pub struct RetryArgs {
    /// The request.
    #[arg(value_parser = object_name)]
    request: String,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    asking: Asking,
}

/// Creates the request again.
///
/// # Errors
/// If it has not ended or has succeeded, if what it asked for is not known, or if the API server refuses it.
pub async fn run(connection: &Connection, args: RetryArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let RetryArgs { request: name, settings, mut asking } = args;
    let name = &name;
    settings.check()?;
    let (client, mut namespace) = (connection.client(), connection.named()?);
    let host = connection.namespace().to_owned();
    let found = Api::<DeploymentRequest>::namespaced(client.clone(), &host).get_opt(name).await;
    if !matches!(found, Ok(Some(_))) && asking.from.is_none() && makers_view::tells_of(&client, namespace, name).await? {
        // The namespace that is named is the maker's own.
        asking.from = namespace.take().map(str::to_owned);
    }
    let (settings, asking) = (&settings, &asking);
    let (host, mut spec) = match found {
        Ok(Some(found)) => {
            let phase = found.status.as_ref().map(|s| s.run.phase.as_str()).unwrap_or_default();
            let (solution, stage) = (&found.spec.solution, &found.spec.stage);
            may_be_retried(name, &host, phase, solution, stage)?;
            if found.spec.scheduled_time.is_some() {
                writeln!(out, "its scheduled time is not taken over")?;
            }
            (host, found.spec)
        }
        Ok(None) if namespace.is_some() => {
            let hint = makers_view::whereabouts(&client, &host, asking.from.as_deref(), |e| e.request == *name).await;
            return Err(Exit::NotFound.because(format!("request {name} does not exist in host {host}: {hint}")));
        }
        Ok(None) => from_makers_view(&client, None, name, settings, asking).await?,
        Err(error) if is_forbidden(&error) => from_makers_view(&client, namespace, name, settings, asking).await?,
        Err(error) => return Err(error).with_context(|| format!("reading request {name} of host {host}")),
    };
    spec.deployment_settings = settings.over(spec.deployment_settings)?;
    spec.notes = asking.notes.clone().or(spec.notes);
    spec.scheduled_time = None;
    spec.cancel = false;
    spec.requested_by = None;
    ask::ask(&client, &host, spec, asking, out).await
}

fn may_be_retried(name: &str, host: &str, phase: &str, solution: &SolutionVersion, stage: &str) -> anyhow::Result<()> {
    if Phase::of(phase) == Some(Phase::Succeeded) {
        let SolutionVersion { name: solution, version } = solution;
        bail!(
            "request {name} succeeded. To deploy that version again: kubectl pilotage redeploy {solution} {version} --stage {stage} -n {host}"
        );
    }
    if !Phase::has_ended(phase) {
        bail!("request {name} has not ended: it is {phase}. To withdraw it: kubectl pilotage cancel {name} -n {host}");
    }
    Ok(())
}

/// What the maker's Solution says about a request that the maker may not read: everything except its settings.
async fn from_makers_view(
    client: &Client,
    host: Option<&str>,
    name: &str,
    settings: &SettingsArgs,
    asking: &Asking,
) -> anyhow::Result<(String, DeploymentRequestSpec)> {
    let unseen = || format!("you may not read request {name}: name the namespace of your Solution with --from, whose status tells of it");
    let view = MakersView::open_all(client, asking.from.as_deref()).await.with_context(unseen)?;
    if let Some(host) = host.filter(|host| view.of_request(Some(host), name).is_none()) {
        let hint = makers_view::whereabouts(client, host, asking.from.as_deref(), |e| e.request == name).await;
        bail!("you may not read request {name} in host {host}, and your Solutions tell of none there: {hint}");
    }
    let (Some(entry), Some(solution)) = (view.of_request(host, name), view.solution_of(name)) else {
        bail!(
            "{}. It is not among the newest requests of each stage in namespace {}; what was asked for before is asked for again with kubectl pilotage redeploy",
            unseen(),
            view.namespace
        );
    };
    let wanted = SolutionVersion { name: solution.metadata.name.clone().unwrap_or_default(), version: entry.version.clone() };
    may_be_retried(name, &entry.host, &entry.phase, &wanted, &entry.stage)?;
    let has_settings = !(solution.spec.environment_variables.is_empty() && solution.spec.connection_references.is_empty());
    if has_settings && !settings.are_given() {
        bail!(
            "you may not read the settings of request {name} in host {}: repeat them with --set NAME=VALUE and --connect NAME=SECRET, or take the solution's defaults with --defaults",
            entry.host
        );
    }
    let spec = DeploymentRequestSpec {
        pipeline: entry.pipeline.clone(),
        stage: entry.stage.clone(),
        solution: wanted,
        source_environment: entry.source_environment.clone(),
        artifact: entry.artifact.as_deref().and_then(OciSource::read).map(|oci| ArtifactSource { oci }),
        deployment_settings: None,
        share_with: Vec::new(),
        notes: None,
        on_behalf_of: None,
        scheduled_time: None,
        plan_only: false,
        cancel: false,
        requested_by: None,
    };
    Ok((entry.host.clone(), spec))
}
