//! A stored version, read as the caller: its record, and its objects, checked against the digest.

use std::sync::Arc;

use kube::{Api, ResourceExt};

use crate::api::{Artifact, names};
use crate::artifact::bundle::Bundle;
use crate::artifact::store::{ArtifactStore, StoreError};
use crate::cli::ask::is_forbidden;
use crate::cli::connection::Connection;
use crate::cli::exit::Exit;
use crate::cluster::blocked::{Until, Wait};

/// An artifact of a host, by its name or by SOLUTION@VERSION.
///
/// # Errors
/// If it does not exist, or the caller may not read it.
pub(crate) async fn named(connection: &Connection, host: &str, what: &str) -> anyhow::Result<Artifact> {
    let name = match what.split_once('@') {
        Some((solution, version)) => names::artifact_name(solution, version),
        None => what.to_owned(),
    };
    match Api::<Artifact>::namespaced(connection.client(), host).get_opt(&name).await {
        Ok(Some(artifact)) => Ok(artifact),
        Ok(None) => Err(Exit::NotFound.because(format!(
            "artifact {name} does not exist in namespace {host}: -n names the host; see kubectl pilotage artifact list -n {host}"
        ))),
        Err(error) if is_forbidden(&error) => Err(Exit::NotAllowed.because(format!(
            "you may not read artifact {name} in namespace {host}: -n names the host; its viewers may (ClusterRole pilotage-viewer)"
        ))),
        Err(error) => Err(error.into()),
    }
}

/// Its objects.
///
/// # Errors
/// If the caller may not read what holds them, or they are kept elsewhere, are gone or don't match the digest.
pub(crate) async fn objects(connection: &Connection, artifact: &Artifact) -> anyhow::Result<Arc<Bundle>> {
    let (name, host) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
    match ArtifactStore::new(connection.client()).load(artifact).await {
        Ok(bundle) => Ok(bundle),
        Err(StoreError::KeptElsewhere { repository, .. }) => Err(Exit::Failed.because(format!(
            "the bytes of artifact {name} are in {repository}: pull them from there with the registry's own client (oras pull)"
        ))),
        Err(error) if error.until() == Until::Wait(Wait::Right) => {
            Err(Exit::NotAllowed.because(format!("you may not read the ConfigMaps of host {host} that hold artifact {name}: {error}")))
        }
        Err(error) => Err(error.into()),
    }
}
