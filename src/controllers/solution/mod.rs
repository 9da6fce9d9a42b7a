//! Solutions: what their status tells of requests that were deleted before they ended, which nobody else can tell any more.

use std::collections::HashMap;
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

/// The phases after which a request is no longer written of.
const ENDED: [&str; 4] = ["Succeeded", "Failed", "Rejected", "Canceled"];

/// Closes what is told of deleted requests.
pub struct SolutionController {
    cluster: Arc<Cluster>,
}

impl SolutionController {
    /// A controller for the Solutions of that cluster.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Whether the request of an entry is gone. A cache that lacks it proves nothing.
    async fn is_gone(&self, entry: &SolutionDeployment) -> kube::Result<bool> {
        let is_it = |found: Option<&DeploymentRequest>| found.is_some_and(|r| r.metadata.uid.as_ref() == Some(&entry.request_uid));
        let cached = self.cluster.stores.requests.get(&ObjectRef::new(&entry.request).within(&entry.host));
        if is_it(cached.as_deref()) {
            return Ok(false);
        }
        let requests = Api::<DeploymentRequest>::namespaced(self.cluster.clients.operator(), &entry.host);
        Ok(!is_it(requests.get_opt(&entry.request).await?.as_ref()))
    }
}

impl Reconciler for SolutionController {
    type Kind = Solution;

    async fn reconcile(&self, object: Arc<Solution>) -> Result<Next, ReconcileError> {
        let mut gone = HashMap::new();
        let entries = object.status.as_ref().map(|s| s.deployments.as_slice()).unwrap_or_default();
        for entry in entries.iter().filter(|e| is_open(e) && self.cluster.serves(&e.host)) {
            if self.is_gone(entry).await? {
                gone.insert(entry.request_uid.clone(), ending(entry));
            }
        }
        if gone.is_empty() {
            return Ok(Next::Done);
        }
        let (namespace, at) = (object.namespace().unwrap_or_default(), whole_seconds(Timestamp::now()));
        let written = self
            .cluster
            .records
            .solutions
            .update(&namespace, &object.name_any(), move |_, status| {
                for entry in status.deployments.iter_mut().filter(|e| is_open(e)) {
                    if let Some((phase, message)) = gone.get(&entry.request_uid) {
                        (*phase).clone_into(&mut entry.phase);
                        entry.message = Some((*message).to_owned());
                        entry.at = at;
                    }
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

fn is_open(entry: &SolutionDeployment) -> bool {
    !ENDED.contains(&entry.phase.as_str())
}

/// How a request ended that was deleted. Admission lets one go that deploys only where its whole host goes.
fn ending(entry: &SolutionDeployment) -> (&'static str, &'static str) {
    if ["Deploying", "RollingBack"].contains(&entry.phase.as_str()) {
        ("Failed", "the request was deleted while it deployed: what it had written stays")
    } else {
        ("Canceled", "the request was deleted before anything was written to the target")
    }
}
