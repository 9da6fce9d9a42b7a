//! What the validation of an Environment reads.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, ResourceExt};
use tokio::sync::Mutex;

use super::prerequisites;
use crate::api::environment::{Claim, EnvironmentType};
use crate::api::names::{CROSS_REGION_LABEL, REGION_LABEL};
use crate::api::{DeploymentRequest, Environment, GROUP};
use crate::identity::access::{self, Access, Right};
use crate::policy::environment::{ClaimHolder, Holder, Inside, NamespaceView, There, View, is_orphaned, opt_in_label, opt_in_verb};
use crate::runtime::Cluster;
use crate::runtime::stores::Stores;

/// How long the version of the cluster is used before it is read again.
const VERSION_AGE: Duration = Duration::from_hours(1);

/// The version of the cluster. It is read from time to time.
#[derive(Default)]
pub(crate) struct ClusterVersion {
    known: Mutex<Option<(Instant, String)>>,
}

impl ClusterVersion {
    /// The version, for example `v1.36.3`.
    pub(crate) async fn get(&self, client: &Client) -> kube::Result<String> {
        let mut known = self.known.lock().await;
        if let Some((_, version)) = known.as_ref().filter(|(since, _)| since.elapsed() < VERSION_AGE) {
            return Ok(version.clone());
        }
        let version: String = client.apiserver_version().await?.git_version.chars().take(64).collect();
        *known = Some((Instant::now(), version.clone()));
        Ok(version)
    }
}

/// What is known without looking inside the namespace, from the caches alone. Whether a binding opts in to a host is not known yet.
pub(crate) fn from_caches(stores: &Stores, environment: &Environment) -> View {
    let host = environment.namespace().unwrap_or_default();
    let namespace = &environment.spec.namespace;
    // The caches know nothing about namespaces in other clusters.
    let remote = environment.spec.cluster.is_some();
    let found = (!remote).then(|| stores.namespaces.get(&ObjectRef::new(namespace))).flatten();
    let rivals = rivals(stores, environment, found.as_ref().and_then(|ns| ns.uid()).as_deref(), |other| {
        found.as_ref().is_some_and(|ns| has_label(ns.labels(), other))
    });
    let host_namespace = stores.namespaces.get(&ObjectRef::new(&host));
    let host_label = |label: &str| host_namespace.as_ref().and_then(|ns| ns.labels().get(label).cloned());
    View {
        me: holder(environment, found.as_ref().is_some_and(|ns| has_label(ns.labels(), environment))),
        namespace: namespace.clone(),
        environment_id: environment.spec.environment_id.clone(),
        cluster: environment.spec.cluster.as_ref().map(|c| There { name: c.kubeconfig_secret_ref.name.clone(), user: String::new() }),
        recorded_id: environment.status.as_ref().and_then(|s| s.environment_id.clone()),
        found: found.map(|ns| NamespaceView {
            uid: ns.uid().unwrap_or_default(),
            terminating: ns.metadata.deletion_timestamp.is_some(),
            is_host: stores.is_host(namespace),
            region: ns.labels().get(REGION_LABEL).cloned(),
        }),
        host_region: host_label(REGION_LABEL),
        cross_region: host_label(CROSS_REGION_LABEL).is_some_and(|v| v == "allowed"),
        rivals,
    }
}

/// The other Environments of the same namespace. If both are in the host's own cluster, their namespaces have the same name. Otherwise both
/// were validated with the same namespace uid, whichever kubeconfig leads there.
pub(crate) fn rivals(stores: &Stores, environment: &Environment, id: Option<&str>, opted_in: impl Fn(&Environment) -> bool) -> Vec<Holder> {
    let local = environment.spec.cluster.is_none();
    let others = stores.environments.state_filter(|other| {
        let same_name = local && other.spec.cluster.is_none() && other.spec.namespace == environment.spec.namespace;
        let either_remote = !local || other.spec.cluster.is_some();
        let same_id = either_remote && id.is_some() && other.status.as_ref().and_then(|s| s.environment_id.as_deref()) == id;
        (same_name || same_id) && other.uid() != environment.uid() && other.metadata.deletion_timestamp.is_none()
    });
    let mut rivals: Vec<Holder> = others
        .iter()
        .map(|other| {
            // For an Environment in another cluster, only its validation says whether the namespace opted in to its host.
            let validated = (!local || other.spec.cluster.is_some()) && super::validated(other).is_ok();
            holder(other, validated || opted_in(other))
        })
        .collect();
    rivals.sort_by(|a, b| a.uid.cmp(&b.uid));
    rivals
}

/// Whether a label of the namespace opts in to that Environment's host in its role.
pub(crate) fn has_label(labels: &BTreeMap<String, String>, environment: &Environment) -> bool {
    labels.get(opt_in_label(environment.spec.type_)) == environment.namespace().as_ref()
}

fn holder(environment: &Environment, opted_in: bool) -> Holder {
    let host = environment.namespace().unwrap_or_default();
    let type_ = environment.spec.type_;
    Holder {
        name: environment.name_any(),
        uid: environment.uid().unwrap_or_default(),
        created: environment.metadata.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default(),
        held: environment.status.as_ref().is_some_and(|s| s.environment_id.is_some()),
        type_,
        opted_in,
        host,
    }
}

/// The view, completed with access reviews for those that no label opts in to.
pub(crate) async fn with_bindings(access: &Access, mut view: View) -> kube::Result<View> {
    if view.cluster.is_some() || view.found.is_none() {
        return Ok(view);
    }
    let namespace = view.namespace.as_str();
    let asked = std::iter::once(&mut view.me).chain(&mut view.rivals).filter(|h| !h.opted_in).map(|holder| async move {
        let right = Right::on(opt_in_verb(holder.type_), GROUP, "environments", namespace);
        holder.opted_in = access.may(&access::host_group(&holder.host), &right).await?;
        Ok::<_, kube::Error>(())
    });
    try_join_all(asked).await?;
    Ok(view)
}

/// What has to be read inside the namespace.
pub(crate) async fn inside(cluster: &Cluster, environment: &Environment) -> kube::Result<Inside> {
    let (namespace, operator) = (&environment.spec.namespace, cluster.clients.operator());
    let prerequisites =
        try_join_all(environment.spec.prerequisites.iter().map(|p| prerequisites::read(&cluster.discovery, &operator, namespace, p)));
    let source = async {
        if environment.spec.type_ != EnvironmentType::Development {
            return Ok(None);
        }
        let right = Right::on("list", "", "configmaps", namespace);
        Ok((!cluster.access.i_may(&right).await?).then_some(right))
    };
    let (prerequisites, lacks) = futures::try_join!(prerequisites, source)?;
    Ok(Inside { prerequisites, lacks })
}

/// The claims that nobody holds any more: the solution and the uid of the request.
pub(crate) async fn orphans(cluster: &Cluster, environment: &Environment) -> kube::Result<Vec<(String, String)>> {
    let host = environment.namespace().unwrap_or_default();
    let solutions = environment.status.iter().flat_map(|s| &s.solutions);
    let claims = solutions.filter_map(|s| s.claim.as_ref().map(|c| (s.name.clone(), c)));
    let checked = claims.map(|(solution, claim)| {
        let host = &host;
        async move {
            let orphaned = is_orphaned(claim_holder(cluster, host, claim).await?);
            Ok::<_, kube::Error>(orphaned.then(|| (solution, claim.request_uid.clone())))
        }
    });
    Ok(try_join_all(checked).await?.into_iter().flatten().collect())
}

/// Asks the API server if the cache does not have the request.
async fn claim_holder(cluster: &Cluster, host: &str, claim: &Claim) -> kube::Result<ClaimHolder> {
    let cached = cluster.stores.requests.get(&ObjectRef::new(&claim.request).within(host));
    let known = held_by(claim, cached.as_deref(), ClaimHolder::NotCached);
    if known != ClaimHolder::NotCached {
        return Ok(known);
    }
    let requests: Api<DeploymentRequest> = Api::namespaced(cluster.clients.operator(), host);
    Ok(held_by(claim, requests.get_opt(&claim.request).await?.as_ref(), ClaimHolder::Gone))
}

fn held_by(claim: &Claim, request: Option<&DeploymentRequest>, otherwise: ClaimHolder) -> ClaimHolder {
    match request.filter(|r| r.metadata.uid.as_ref() == Some(&claim.request_uid)) {
        Some(request) if request.status.as_ref().is_some_and(|s| s.run.end_time.is_some()) => ClaimHolder::Ended,
        Some(_) => ClaimHolder::Running,
        None => otherwise,
    }
}
