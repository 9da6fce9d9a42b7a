//! What ran in an Environment that was deleted and applied again. It is read from the artifacts' records, which outlive the Environment.

use std::sync::Arc;

use kube::ResourceExt;

use crate::api::environment::{DeployedSolution, EnvironmentType};
use crate::api::{Artifact, DeploymentRequest, Environment};
use crate::policy::made_again::{self, Target};
use crate::runtime::Cluster;

/// What runs in the namespace of that uid, as the host's records say. It is used for an Environment that was never validated before.
pub(super) async fn past(cluster: &Cluster, environment: &Environment, environment_id: &str) -> Vec<DeployedSolution> {
    let is_new = environment.status.as_ref().is_none_or(|status| status.environment_id.is_none() && status.solutions.is_empty());
    if !is_new || environment.spec.type_ != EnvironmentType::Target {
        return Vec::new();
    }
    let host = environment.namespace();
    let mut artifacts: Vec<Arc<Artifact>> = Vec::new();
    for artifact in cluster.stores.artifacts.state_filter(|artifact| artifact.namespace() == host) {
        // The operator's own last write may be newer than the cache.
        let newest = cluster.records.artifacts.newest(host.as_deref().unwrap_or_default(), &artifact.name_any()).await;
        artifacts.push(newest.unwrap_or(artifact));
    }
    let open: Vec<Arc<DeploymentRequest>> = cluster.stores.open_requests().filter(|request| request.namespace() == host).collect();
    made_again::solutions(&artifacts, &open, &Target { environment_id, cluster: environment.cluster_name() })
}
