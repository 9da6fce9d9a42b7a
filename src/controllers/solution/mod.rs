//! Solutions: a request that was deleted before it deployed is told of in the developer's window as canceled. All else
//! there is written with the requests themselves.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use crate::api::condition::whole_seconds;
use crate::api::solution::{self, SolutionDeployment};
use crate::api::{DeploymentRequest, Solution};
use crate::driver::Cluster;
use crate::driver::controller::{Next, ReconcileError, Reconciler};
use crate::driver::records::RecordError;

/// Works on Solutions.
pub struct SolutionController {
    cluster: Arc<Cluster>,
}

impl SolutionController {
    /// Works on the Solutions of `cluster`.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Whether the request of an entry is gone: by the cache, and by a live read.
    async fn is_gone(&self, entry: &SolutionDeployment) -> kube::Result<bool> {
        let cached = self.cluster.stores.requests.get(&ObjectRef::new(&entry.request).within(&entry.host));
        if cached.is_some_and(|request| request.uid().as_deref() == Some(&entry.request_uid)) {
            return Ok(false);
        }
        let live =
            Api::<DeploymentRequest>::namespaced(self.cluster.clients.operator(), &entry.host).get_metadata_opt(&entry.request).await?;
        Ok(live.is_none_or(|request| request.uid().as_deref() != Some(&entry.request_uid)))
    }
}

impl Reconciler for SolutionController {
    type Kind = Solution;

    async fn reconcile(&self, object: Arc<Solution>) -> Result<Next, ReconcileError> {
        let open = object.status.iter().flat_map(|s| &s.deployments).filter(|d| !is_final(&d.phase) && self.cluster.serves(&d.host));
        let mut gone = Vec::new();
        for entry in open {
            if self.is_gone(entry).await? {
                gone.push(entry.request_uid.clone());
            }
        }
        if gone.is_empty() {
            return Ok(Next::Done);
        }
        let namespace = object.namespace().unwrap_or_default();
        let written = self
            .cluster
            .records
            .solutions
            .update(&namespace, &object.name_any(), move |_, status| {
                for entry in status.deployments.iter_mut().filter(|d| gone.contains(&d.request_uid) && !is_final(&d.phase)) {
                    "Canceled".clone_into(&mut entry.phase);
                    entry.message = Some("the request was deleted before it deployed".to_owned());
                    entry.at = whole_seconds(Timestamp::now());
                }
                status.summary = solution::summary(&status.deployments);
            })
            .await;
        match written {
            Ok(_) | Err(RecordError::NotFound(_)) => Ok(Next::Done),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_final(phase: &str) -> bool {
    matches!(phase, "Succeeded" | "Failed" | "Rejected" | "Canceled")
}
