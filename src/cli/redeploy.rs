//! `kubectl pilotage redeploy`: asks for a stored version again, with the settings of the last deployment to that stage.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use kube::{Api, Client};
use semver::Version;

use super::ask::place::Place;
use super::ask::settings::SettingsArgs;
use super::ask::{self, Asking, is_forbidden};
use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::Output;
use crate::api::environment::DeployedSolution;
use crate::api::reference::SolutionVersion;
use crate::api::repository;
use crate::api::request::{ArtifactSource, DeploymentRequestSpec, OciSource};
use crate::api::settings::DeploymentSettings;
use crate::api::{Artifact, DeploymentRequest, names};

/// Ask for a stored version again, as you. The settings are those of the last deployment to that stage, if you may read them; flags change
/// them. A version that is not higher than the running one needs a pipeline that allows redeployments. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct RedeployArgs {
    /// The solution.
    #[arg(value_parser = object_name)]
    solution: String,
    /// The version.
    #[arg(value_parser = object_name)]
    version: String,
    /// The stage to deploy it to.
    #[arg(long, value_parser = object_name)]
    stage: String,
    /// The stage's pipeline, if you may not read the stage.
    #[arg(long, value_parser = object_name)]
    pipeline: Option<String>,
    /// The development Environment that it came from, if the pipeline links several and you may not read the artifact.
    #[arg(long, value_name = "ENVIRONMENT", value_parser = object_name)]
    source_environment: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    asking: Asking,
}

impl RedeployArgs {
    /// A version of a solution, to a stage that the caller may read.
    pub(super) fn of(solution: String, version: String, stage: String, settings: SettingsArgs, asking: Asking) -> Self {
        Self { solution, version, stage, pipeline: None, source_environment: None, settings, asking }
    }
}

/// Creates the request, and prints what it will do as far as the caller may know.
///
/// # Errors
/// If the place or the settings of the request are not known, or if the API server refuses it.
pub async fn run(connection: &Connection, args: RedeployArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let (client, namespace) = (connection.client(), connection.named()?);
    let RedeployArgs { solution, version, stage, pipeline, source_environment, settings, asking } = &args;
    settings.check()?;
    let place = Place::find(&client, namespace, asking.from.as_deref(), solution, stage, pipeline.as_deref()).await?;
    let artifact = match Api::<Artifact>::namespaced(client.clone(), &place.host).get_opt(&names::artifact_name(solution, version)).await {
        Ok(Some(artifact)) => Some(artifact),
        Ok(None) => {
            return Err(Exit::NotFound.because(format!(
                "{solution} {version} is not stored in host {}: what was never exported is asked for with a DeploymentRequest to the first stage",
                place.host
            )));
        }
        Err(error) if is_forbidden(&error) => None,
        Err(error) => return Err(error).with_context(|| format!("reading the artifact of {solution} {version} in host {}", place.host)),
    };
    let before = if settings.from_defaults() { None } else { before(&client, &place, solution, settings, out).await? };
    let before = before.map(|before| fitting(before, artifact.as_ref(), out)).transpose()?;
    if let Some(running) = place.running.as_ref().and_then(|r| r.version.as_deref())
        && let (Ok(there), Ok(wanted)) = (Version::parse(running), Version::parse(version))
        && wanted < there
    {
        writeln!(out, "downgrade: stage {stage} runs {solution} {running}")?;
    }
    let stored_from = artifact.filter(|_| place.is_first).map(|a| a.spec.source);
    // If the solution is developed here, a stored version from a registry is meant only if the request names the registry.
    let stored_in = stored_from.as_ref().filter(|_| source_environment.is_none()).and_then(|source| source.oci.as_deref());
    let stored_in = stored_in.and_then(repository::pinned).map(|(repository, digest)| ArtifactSource {
        oci: OciSource { url: repository.to_string(), tag: None, digest: Some(digest.to_owned()) },
    });
    let spec = DeploymentRequestSpec {
        pipeline: place.pipeline.clone(),
        stage: stage.clone(),
        solution: SolutionVersion { name: solution.clone(), version: version.clone() },
        source_environment: source_environment.clone().or(stored_from.and_then(|source| source.environment)),
        artifact: stored_in,
        deployment_settings: settings.over(before)?,
        share_with: Vec::new(),
        notes: asking.notes.clone(),
        on_behalf_of: None,
        scheduled_time: None,
        plan_only: false,
        cancel: false,
        requested_by: None,
    };
    ask::ask(&client, &place.host, spec, asking, out).await
}

/// The settings of the last deployment to the stage. If they can't be read, other settings are not used unless the caller asks for it.
async fn before(
    client: &Client,
    place: &Place,
    solution: &str,
    settings: &SettingsArgs,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<Option<DeploymentSettings>> {
    let unknown = |why: &str| {
        if settings.are_given() {
            return Ok(None);
        }
        bail!("{why}: give them with --set NAME=VALUE and --connect NAME=SECRET, or take the solution's defaults with --defaults")
    };
    let Some(running) = &place.running else {
        return unknown(&format!(
            "the settings of the last deployment are in host {}, and you may not read them or there was none",
            place.host
        ));
    };
    let Some(name) = &running.request else { return Ok(None) };
    if let Some(settings) = recorded(client, place, solution, running).await? {
        writeln!(out, "settings: those of request {name}, the last deployment there, and what you set")?;
        return Ok(Some(settings));
    }
    match Api::<DeploymentRequest>::namespaced(client.clone(), &place.host).get_opt(name).await {
        Ok(Some(request)) => {
            writeln!(out, "settings: those of request {name}, the last deployment there, and what you set")?;
            Ok(request.spec.deployment_settings)
        }
        Ok(None) => unknown(&format!("neither the artifact's record nor request {name} has the settings of the last deployment any more")),
        Err(error) if is_forbidden(&error) => {
            unknown(&format!("the settings of the last deployment are in request {name} of host {}, which you may not read", place.host))
        }
        Err(error) => Err(error).with_context(|| format!("reading request {name} of host {}", place.host)),
    }
}

/// The settings that the record of the running version's artifact holds. `None` if it has none, or if the caller may not read it.
async fn recorded(
    client: &Client,
    place: &Place,
    solution: &str,
    running: &DeployedSolution,
) -> anyhow::Result<Option<DeploymentSettings>> {
    let Some(version) = &running.version else { return Ok(None) };
    let artifact = match Api::<Artifact>::namespaced(client.clone(), &place.host).get_opt(&names::artifact_name(solution, version)).await {
        Ok(artifact) => artifact,
        Err(error) if is_forbidden(&error) => None,
        Err(error) => return Err(error).with_context(|| format!("reading the artifact of {solution} {version} in host {}", place.host)),
    };
    let records = artifact.into_iter().filter_map(|artifact| artifact.status).flat_map(|status| status.deployments);
    let mut of_deployment = records.filter(|record| Some(&record.settings_digest) == running.settings_digest.as_ref());
    Ok(of_deployment.find_map(|record| record.settings).map(DeploymentSettings::from))
}

/// The settings that this version has definitions for. Others would be refused. They are dropped here, and that is printed.
fn fitting(
    mut settings: DeploymentSettings,
    artifact: Option<&Artifact>,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<DeploymentSettings> {
    let Some(artifact) = artifact else { return Ok(settings) };
    let mut left_out = Vec::new();
    settings.environment_variables.retain(|v| {
        let known = artifact.spec.environment_variables.iter().any(|d| d.name == v.name);
        if !known {
            left_out.push(v.name.clone());
        }
        known
    });
    settings.connection_references.retain(|c| {
        let known = artifact.spec.connection_references.iter().any(|d| d.name == c.name);
        if !known {
            left_out.push(c.name.clone());
        }
        known
    });
    if !left_out.is_empty() {
        writeln!(out, "left out, as {} does not have them: {}", artifact.spec.solution.version, left_out.join(", "))?;
    }
    Ok(settings)
}
