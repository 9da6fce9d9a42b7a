//! Removes an artifact's bytes, after its record says that they go. What was removed before is not missed, so this can be repeated.

use kube::ResourceExt;

use super::error::StoreError;
use super::{ArtifactStore, chunks, registry_store};
use crate::api::artifact::Artifact;

/// Fails if retention has removed the bytes, or is removing them.
pub(super) fn not_removed(artifact: &Artifact) -> Result<(), StoreError> {
    match artifact.status.as_ref().and_then(|s| s.bytes_removed.as_ref()) {
        None => Ok(()),
        Some(removed) => Err(StoreError::Removed {
            artifact: artifact.name_any(),
            namespace: artifact.namespace().unwrap_or_default(),
            pipeline: removed.pipeline.clone(),
            at: removed.at,
        }),
    }
}

impl ArtifactStore {
    /// Deletes the bytes of exactly this artifact, wherever they are. The record must say before that they go.
    pub(crate) async fn remove_bytes(&self, artifact: &Artifact) -> Result<(), StoreError> {
        match &artifact.spec.stored_in {
            Some(stored_in) => registry_store::remove(self.registry_store.as_ref(), artifact, stored_in).await,
            None => chunks::remove(&self.client, artifact).await,
        }
    }
}
