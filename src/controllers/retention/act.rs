//! Removes one object. Each deletion names the uid and the version of what was decided on. What is gone already is not missed.

use jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt};

use super::{Removal, What};
use crate::api::artifact::{BytesRemoved, DeploymentRecord};
use crate::api::reason::Reason;
use crate::api::{Artifact, DeploymentRequest};
use crate::artifact::oci::OciError;
use crate::artifact::store::StoreError;
use crate::cluster::blocked::{Until, Wait};
use crate::cluster::errors::{self, Cause};
use crate::runtime::Cluster;
use crate::runtime::controller::ReconcileError;
use crate::runtime::status_writer::RecordError;

/// What became of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// It is gone, or it has changed since: then it is decided about again.
    Over,
    /// It can't be removed in this run.
    Refused(Reason),
    /// It can be removed as soon as a registry works again. Why it does not, in words that name no object.
    Waits(Reason, String),
}

/// What came of archiving what goes.
enum Archived {
    /// It is in the archive: where, and with which records of deployments.
    There(String, Vec<DeploymentRecord>),
    /// Nothing of it is archived.
    NotWanted,
    /// It does not go now.
    Not(Done),
}

/// Removes one object, for the run of `pipeline` that began at `since`.
pub(super) async fn remove(
    cluster: &Cluster,
    host: &str,
    pipeline: &str,
    removal: &Removal,
    since: Timestamp,
) -> Result<Done, ReconcileError> {
    match &removal.what {
        What::Request(request) => {
            if removal.archived
                && let Some(held) = archive_request(cluster, host, request).await?
            {
                return Ok(held);
            }
            delete_request(cluster, host, request).await
        }
        What::Bytes(artifact) => {
            let has_begun = artifact.status.as_ref().is_some_and(|s| s.bytes_removed.is_some());
            if !has_begun && asked_for_meanwhile(cluster, host, artifact) {
                return Ok(Done::Over);
            }
            match archive_artifact(cluster, host, artifact, removal.archived).await? {
                Archived::Not(held) => Ok(held),
                // Somebody may have asked for it while it was archived.
                _ if !has_begun && asked_for_meanwhile(cluster, host, artifact) => Ok(Done::Over),
                archived => remove_bytes(cluster, host, pipeline, artifact, archived, since).await,
            }
        }
        What::Artifact(artifact) => {
            if asked_for_meanwhile(cluster, host, artifact) {
                return Ok(Done::Over);
            }
            let archived = match archive_artifact(cluster, host, artifact, removal.archived).await? {
                Archived::Not(held) => return Ok(held),
                archived => archived,
            };
            if asked_for_meanwhile(cluster, host, artifact) {
                return Ok(Done::Over);
            }
            // Chunks are owned by their record. What is in a registry goes before it.
            let is_left = artifact.spec.stored_in.is_some() && artifact.status.as_ref().is_none_or(|s| s.bytes_removed.is_none());
            if is_left {
                return remove_bytes(cluster, host, pipeline, artifact, archived, since).await;
            }
            match cluster.artifacts.give_up(artifact).await {
                Ok(()) => Ok(Done::Over),
                Err(error) => of_store(artifact, error),
            }
        }
    }
}

/// Archives a request as it was decided on. The result says why it does not go, if it doesn't.
async fn archive_request(cluster: &Cluster, host: &str, request: &DeploymentRequest) -> Result<Option<Done>, ReconcileError> {
    let name = request.name_any();
    // The cache lacks what only people read.
    let live = match Api::<DeploymentRequest>::namespaced(cluster.clients.operator(), host).get_opt(&name).await {
        Ok(Some(live)) if is_as_decided(&live, request) => live,
        Ok(_) => return Ok(Some(Done::Over)),
        Err(error) => return refused(&format!("request {host}/{name}"), error).map(Some),
    };
    match cluster.artifacts.archive_request(&live).await {
        Ok(()) => Ok(None),
        Err(error) => not_archived(&format!("request {host}/{name}"), error).map(Some),
    }
}

/// Archives an artifact as it was decided on, with what is there of its bytes.
async fn archive_artifact(cluster: &Cluster, host: &str, artifact: &Artifact, wanted: bool) -> Result<Archived, ReconcileError> {
    if !wanted {
        return Ok(Archived::NotWanted);
    }
    let name = artifact.name_any();
    let live = match Api::<Artifact>::namespaced(cluster.clients.operator(), host).get_opt(&name).await {
        Ok(Some(live)) if is_as_decided(&live, artifact) => live,
        Ok(_) => return Ok(Archived::Not(Done::Over)),
        Err(error) => return refused(&format!("artifact {host}/{name}"), error).map(Archived::Not),
    };
    match cluster.artifacts.archive_artifact(&live).await {
        Ok(place) => Ok(Archived::There(place, live.status.map(|s| s.deployments).unwrap_or_default())),
        Err(error) => not_archived(&format!("artifact {host}/{name}"), error).map(Archived::Not),
    }
}

/// Whether an object is still the one that was decided on, unchanged.
fn is_as_decided<K: kube::Resource>(live: &K, decided: &K) -> bool {
    live.meta().uid == decided.meta().uid && live.meta().resource_version == decided.meta().resource_version
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
    archived: Archived,
    since: Timestamp,
) -> Result<Done, ReconcileError> {
    let (uid, name) = (artifact.uid(), artifact.name_any());
    let known = artifact.status.as_ref().map_or(0, |s| s.deployments.len());
    let (archived_in, records) = match archived {
        Archived::There(place, records) => (Some(place), Some(records)),
        Archived::NotWanted | Archived::Not(_) => (None, None),
    };
    let removed = BytesRemoved { at: since, pipeline: pipeline.to_owned(), complete: false, archived_in };
    let begin = move |found: &Artifact, status: &mut crate::api::ArtifactStatus| {
        let is_it = found.uid() == uid;
        let is_archived = records.as_ref().is_none_or(|records| *records == status.deployments);
        if is_it && status.bytes_removed.is_none() && status.deployments.len() == known && is_archived {
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
        StoreError::Registry { source, .. } if source.until() == Until::Wait(Wait::Server) => of_registry(&source),
        error if error.until() == Until::Wait(Wait::Server) => Err(ReconcileError::Transient(error.to_string())),
        error => {
            tracing::warn!(what, %error, "retention could not remove it");
            Ok(Done::Refused(error.of_place().unwrap_or(Reason::Failed)))
        }
    }
}

/// What an error of archiving means.
fn not_archived(what: &str, error: StoreError) -> Result<Done, ReconcileError> {
    match error {
        StoreError::Api { source, .. } => refused(what, *source),
        StoreError::Archive { source, .. } | StoreError::Registry { source, .. } if source.until() == Until::Wait(Wait::Server) => {
            of_registry(&source)
        }
        error if error.until() == Until::Wait(Wait::Server) => Err(ReconcileError::Transient(error.to_string())),
        error => {
            tracing::warn!(what, %error, "retention could not archive it");
            // The version can't be read any more. Only somebody with the verb purge removes it unarchived.
            Ok(Done::Refused(error.of_place().unwrap_or(Reason::NotArchived)))
        }
    }
}

/// A registry that does not work for now. It names itself and its repository.
fn of_registry(error: &OciError) -> Result<Done, ReconcileError> {
    match error {
        OciError::Busy => Err(ReconcileError::Transient(error.to_string())),
        error => Ok(Done::Waits(error.reason(), error.to_string())),
    }
}
