//! Removes an artifact's bytes, after its record says that they go. What was removed before is not missed, so this can be repeated.

use kube::{Api, ResourceExt};

use super::error::StoreError;
use super::{ArtifactStore, chunks, registry_store};
use crate::api::artifact::Artifact;

/// The error, if retention has removed the bytes or is removing them.
pub(super) fn removed(artifact: &Artifact) -> Option<StoreError> {
    let removed = artifact.status.as_ref()?.bytes_removed.as_ref()?;
    Some(StoreError::Removed {
        artifact: artifact.name_any(),
        namespace: artifact.namespace().unwrap_or_default(),
        pipeline: removed.pipeline.clone(),
        at: removed.at,
    })
}

impl ArtifactStore {
    /// Deletes a version that was never deployed, or a record without bytes: exactly the record that was seen.
    pub(crate) async fn give_up(&self, artifact: &Artifact) -> Result<(), StoreError> {
        let host = artifact.namespace().unwrap_or_default();
        self.remove(&Api::namespaced(self.client.clone(), &host), artifact).await
    }

    /// Deletes the bytes of exactly this artifact, wherever they are. The record must say before that they go.
    pub(crate) async fn remove_bytes(&self, artifact: &Artifact) -> Result<(), StoreError> {
        match &artifact.spec.stored_in {
            Some(stored_in) => registry_store::remove(self.registry_store.as_ref(), artifact, stored_in).await,
            None => chunks::remove(&self.client, artifact).await,
        }
    }
}
