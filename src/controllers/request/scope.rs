//! What the steps of a reconciliation read.

use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;

use super::observe::RelatedObjects;
use super::own_status;
use crate::api::request_status::RunStatus;
use crate::api::{Artifact, DeploymentRequest};
use crate::artifact::bundle::Bundle;
use crate::artifact::store::StoreError;
use crate::identity::claimed::Claimed;
use crate::identity::fence::Fence;
use crate::runtime::Cluster;

/// The request, its related objects, and their cluster. No step changes any of it: each returns what it found.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) request: &'a Arc<DeploymentRequest>,
    pub(super) related: &'a RelatedObjects,
    pub(super) bundles: &'a Bundles,
}

impl<'a> Scope<'a> {
    /// The same with related objects that were read since.
    pub(super) fn with<'b>(self, related: &'b RelatedObjects) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope { related, ..self }
    }

    pub(super) fn host(&self) -> String {
        self.request.namespace().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> String {
        self.request.uid().unwrap_or_default()
    }

    /// The operator's part of the current status.
    pub(super) fn status(&self) -> RunStatus {
        own_status::run_of(self.request)
    }

    /// The target's namespace. Empty if there is no target.
    pub(super) fn target_namespace(&self) -> &'a str {
        self.related.target.as_ref().map(|target| target.spec.namespace.as_str()).unwrap_or_default()
    }

    /// Whether the request holds the claim on the target.
    pub(super) fn holds_claim(&self) -> bool {
        let solutions = self.related.target.iter().flat_map(|target| &target.status).flat_map(|status| &status.solutions);
        let claim = solutions.into_iter().find(|s| s.name == self.request.spec.solution.name).and_then(|s| s.claim.as_ref());
        claim.is_some_and(|claim| claim.request_uid == self.uid())
    }

    /// The artifact's objects. They are read from the store once in a reconciliation, and verified there.
    pub(super) async fn bundle(&self, artifact: &Artifact) -> Result<Arc<Bundle>, StoreError> {
        if let Some(bundle) = self.bundles.get(&artifact.spec.digest) {
            return Ok(bundle);
        }
        let bundle = self.cluster.artifacts.load(artifact).await?;
        self.bundles.keep(&artifact.spec.digest, bundle.clone());
        Ok(bundle)
    }

    /// The fence for writes to the target.
    pub(super) fn fence(&self, claim: Claimed) -> Fence {
        let environment = self.related.target.as_ref().map(|t| t.name_any()).unwrap_or_default();
        let leadership = self.cluster.leadership.clone();
        Fence::new(claim, self.cluster.clients.operator(), &self.host(), &environment, move || leadership.holds())
    }
}

/// The bundle that was last read from the store, with its digest.
#[derive(Default)]
pub(super) struct Bundles(Mutex<Option<(String, Arc<Bundle>)>>);

impl Bundles {
    fn get(&self, digest: &str) -> Option<Arc<Bundle>> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(of, _)| of == digest).map(|(_, bundle)| bundle.clone())
    }

    /// Keeps a bundle that was just stored, so that it need not be read.
    pub(super) fn keep(&self, digest: &str, bundle: Arc<Bundle>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((digest.to_owned(), bundle));
    }
}
