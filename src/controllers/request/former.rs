//! The version that a deployment replaces, with the settings that it was deployed with. It is looked for before anybody is asked to approve
//! a plan that promises to put it back, and when it is put back.

use kube::Api;

use super::export::unreadable;
use super::scope::Scope;
use super::stop::Stop;
use crate::api::environment::DeployedSolution;
use crate::api::reason::Reason;
use crate::api::settings::DeploymentSettings;
use crate::api::{Artifact, DeploymentRequest, names};
use crate::cluster::blocked::Blocked;
use crate::deploy::settings::{self, Resolved};

/// A version that was deployed before, and its settings.
struct Former {
    artifact: Artifact,
    settings: DeploymentSettings,
}

/// Whether the version that is recorded as running could be put back: its record, its bytes and its settings are there.
pub(super) async fn is_there(scope: Scope<'_>, version: &str, digest: &str) -> Result<(), Stop> {
    let Former { artifact, .. } = find(scope, version, digest, &recorded(scope)).await?;
    let bytes = scope.cluster.artifacts.is_there(&artifact).await;
    bytes.map_err(|error| unreadable(&error).map_or_else(Stop::Failed, Stop::Because))
}

/// That version, and its objects with its settings. `record` is what the Environment says now.
pub(super) async fn read(scope: Scope<'_>, version: &str, digest: &str, record: &DeployedSolution) -> Result<(Artifact, Resolved), Stop> {
    let Former { artifact, settings } = find(scope, version, digest, record).await?;
    let bundle = match scope.bundle(&artifact).await {
        Ok(bundle) => bundle,
        Err(error) => return Err(unreadable(&error).map_or_else(Stop::Failed, Stop::Because)),
    };
    let (variables, connections) = (&artifact.spec.environment_variables, &artifact.spec.connection_references);
    match settings::resolve(bundle.objects(), variables, connections, &settings) {
        Ok(resolved) => Ok((artifact, resolved)),
        Err(_) => Err(Stop::Because(unknown(record))),
    }
}

/// What the Environment says of the solution.
fn recorded(scope: Scope<'_>) -> DeployedSolution {
    let solutions = scope.related.target.iter().flat_map(|target| &target.status).flat_map(|status| &status.solutions);
    solutions.into_iter().find(|s| s.name == scope.request.spec.solution.name).cloned().unwrap_or_default()
}

async fn find(scope: Scope<'_>, version: &str, digest: &str, record: &DeployedSolution) -> Result<Former, Stop> {
    let name = names::artifact_name(&scope.request.spec.solution.name, version);
    if record.digest.as_deref() != Some(digest) {
        let message = "the Environment's record names another artifact than the one that was replaced";
        return Err(Stop::Because(Blocked::ends(Reason::RecordChanged, message)));
    }
    let client = scope.cluster.clients.operator();
    // It is read live: caches leave out large settings.
    let artifact = Api::<Artifact>::namespaced(client.clone(), &scope.host()).get_opt(&name).await?;
    let Some(artifact) = artifact.filter(|a| a.spec.digest == digest) else {
        let message = format!("Artifact {name} with digest {digest} does not exist any more");
        return Err(Stop::Because(Blocked::ends(Reason::ArtifactGone, message)));
    };
    // The Environment has the digest of the settings. They are recognized by it wherever they are found: in the artifact's record, in this
    // request if nothing was changed, in the defaults, or in the request that deployed them, if it is an old one.
    let wanted = record.settings_digest.as_deref().unwrap_or_default();
    let records = artifact.status.iter().flat_map(|status| &status.deployments).rev();
    let of_records = records.filter(|d| d.settings_digest == wanted).filter_map(|d| d.settings.clone()).map(DeploymentSettings::from);
    let own = [scope.request.spec.deployment_settings.clone(), Some(DeploymentSettings::default())].into_iter().flatten();
    let is_it = |settings: &DeploymentSettings| {
        settings::digest_of(&artifact.spec.environment_variables, &artifact.spec.connection_references, settings).as_deref() == Some(wanted)
    };
    let mut found = of_records.chain(own).find(is_it);
    if found.is_none()
        && let Some(name) = record.request.as_deref()
    {
        let request = Api::<DeploymentRequest>::namespaced(client, &scope.host()).get_opt(name).await?;
        found = request.and_then(|request| request.spec.deployment_settings).filter(is_it);
    }
    match found {
        Some(settings) => Ok(Former { artifact, settings }),
        None => Err(Stop::Because(unknown(record))),
    }
}

fn unknown(record: &DeployedSolution) -> Blocked {
    let message = format!(
        "the settings that it was deployed with are not known any more: neither the record of its artifact nor request {} has them",
        record.request.as_deref().unwrap_or_default()
    );
    Blocked::ends(Reason::SettingsGone, message)
}
