//! Removes one object. Each deletion names the uid and the version of what was decided on. What is gone already is not missed.

use jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use super::Removal;
use crate::api::artifact::BytesRemoved;
use crate::api::reason::Reason;
use crate::api::{Artifact, DeploymentRequest};
use crate::artifact::store::StoreError;
use crate::cluster::blocked::{Until, Wait};
use crate::cluster::errors::{self, Cause};
use crate::runtime::Cluster;
use crate::runtime::controller::ReconcileError;
use crate::runtime::status_writer::RecordError;

/// What became of a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It is gone, or it has changed since: then it is decided about again.
    Over,
    /// It can't be removed in this run.
    Refused(Reason),
}

/// Removes one object, for the run of `pipeline` that began at `since`.
pub(super) async fn remove(
    cluster: &Cluster,
    host: &str,
    pipeline: &str,
    removal: &Removal,
    since: Timestamp,
) -> Result<Done, ReconcileError> {
    match removal {
        Removal::Request(request) => delete_request(cluster, host, request).await,
        Removal::Bytes(artifact) => {
            if asked_for_meanwhile(cluster, host, artifact) && artifact.status.as_ref().is_none_or(|s| s.bytes_removed.is_none()) {
                return Ok(Done::Over);
            }
            remove_bytes(cluster, host, pipeline, artifact, since).await
        }
        Removal::Artifact(artifact) => {
            if asked_for_meanwhile(cluster, host, artifact) {
                return Ok(Done::Over);
            }
            // Chunks are owned by their record. What is in a registry goes before it.
            let is_left = artifact.spec.stored_in.is_some() && artifact.status.as_ref().is_none_or(|s| s.bytes_removed.is_none());
            if is_left {
                return remove_bytes(cluster, host, pipeline, artifact, since).await;
            }
            match cluster.artifacts.give_up(artifact).await {
                Ok(()) => Ok(Done::Over),
                Err(error) => of_store(artifact, error),
            }
        }
    }
}

/// Whether a request for the version was made since the decision.
fn asked_for_meanwhile(cluster: &Cluster, host: &str, artifact: &Artifact) -> bool {
    let solution = &artifact.spec.solution;
    cluster.stores.open_requests_for(host, &solution.name).any(|r| r.spec.solution.version == solution.version)
}

async fn delete_request(cluster: &Cluster, host: &str, request: &DeploymentRequest) -> Result<Done, ReconcileError> {
    let name = request.name_any();
    let preconditions = Preconditions { uid: request.uid(), resource_version: request.resource_version() };
    let requests = Api::<DeploymentRequest>::namespaced(cluster.clients.operator(), host);
    match requests.delete(&name, &DeleteParams::background().preconditions(preconditions)).await {
        Ok(_) => Ok(Done::Over),
        Err(error) => refused(&format!("request {host}/{name}"), error),
    }
}

/// What an error of a deletion means.
fn refused(what: &str, error: kube::Error) -> Result<Done, ReconcileError> {
    match errors::classify(&error) {
        // It is gone, or the cache is behind.
        Cause::NotFound | Cause::Stale => Ok(Done::Over),
        Cause::Transient => Err(error.into()),
        cause => {
            tracing::warn!(what, %error, "retention could not remove it");
            Ok(Done::Refused(cause.reason()))
        }
    }
}

/// The record says first that the bytes go, and last that they are gone.
async fn remove_bytes(
    cluster: &Cluster,
    host: &str,
    pipeline: &str,
    artifact: &Artifact,
    since: Timestamp,
) -> Result<Done, ReconcileError> {
    let (uid, name) = (artifact.uid(), artifact.name_any());
    let known = artifact.status.as_ref().map_or(0, |s| s.deployments.len());
    let removed = BytesRemoved { at: since, pipeline: pipeline.to_owned(), complete: false };
    let begin = move |found: &Artifact, status: &mut crate::api::ArtifactStatus| {
        let is_it = found.uid() == uid;
        if is_it && status.bytes_removed.is_none() && status.deployments.len() == known {
            status.bytes_removed = Some(removed.clone());
        }
        is_it && status.bytes_removed.is_some()
    };
    match cluster.records.artifacts.update(host, &name, begin).await {
        Ok((true, _)) => {}
        // It was deployed meanwhile, or is another one.
        Ok((false, _)) | Err(RecordError::NotFound(_)) => return Ok(Done::Over),
        Err(error) => return Err(error.into()),
    }
    if let Err(error) = cluster.artifacts.remove_bytes(artifact).await {
        return of_store(artifact, error);
    }
    let uid = artifact.uid();
    let end = move |found: &Artifact, status: &mut crate::api::ArtifactStatus| {
        if let Some(removed) = status.bytes_removed.as_mut().filter(|_| found.uid() == uid) {
            removed.complete = true;
        }
    };
    match cluster.records.artifacts.update(host, &name, end).await {
        Ok(_) | Err(RecordError::NotFound(_)) => Ok(Done::Over),
        Err(error) => Err(error.into()),
    }
}

fn of_store(artifact: &Artifact, error: StoreError) -> Result<Done, ReconcileError> {
    let what = format!("artifact {}/{}", artifact.namespace().unwrap_or_default(), artifact.name_any());
    match error {
        StoreError::Api { source, .. } => refused(&what, *source),
        // Somebody has changed it, or the registry has lost it.
        StoreError::Busy { .. } | StoreError::Lost { .. } => Ok(Done::Over),
        error if error.until() == Until::Wait(Wait::Server) => Err(ReconcileError::Transient(error.to_string())),
        error => {
            tracing::warn!(what, %error, "retention could not remove it");
            Ok(Done::Refused(error.of_place().unwrap_or(Reason::Failed)))
        }
    }
}
