//! The validation of an Environment in another cluster. The checks are the same. The kubeconfig's user reads that cluster. Whatever goes
//! wrong there is written to the Environment's status, and no reconciliation fails.

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Resource as _, ResourceExt};

use super::{Facts, Validation, good, observe, prerequisites};
use crate::api::environment::RemoteCluster;
use crate::api::names::{HOST_LABEL, REGION_LABEL};
use crate::api::{Environment, GROUP};
use crate::identity::access::{Access, Right};
use crate::policy::check::Failure;
use crate::policy::environment::{self as policy, Inside, NamespaceView, There, View, opt_in_verb};
use crate::runtime::Cluster;
use crate::runtime::remotes::Remote;

/// Validates it.
pub(super) async fn validate(cluster: &Cluster, environment: &Environment, spec: &RemoteCluster, view: View) -> kube::Result<Validation> {
    let found = look(cluster, environment, spec, view).await;
    Ok(match found {
        Ok((view, facts)) => Validation { outcome: Ok(good(&view)), facts: Some(facts) },
        Err(failure) => Validation { outcome: Err(failure), facts: None },
    })
}

async fn look(cluster: &Cluster, environment: &Environment, spec: &RemoteCluster, mut view: View) -> Result<(View, Facts), Failure> {
    policy::can_be_remote(environment.spec.type_)?;
    let remote = cluster.remotes.get(&view.me.host, spec, true).await?;
    let namespace = remote.namespace(&view.namespace).await?;
    view.cluster = Some(There { name: remote.cluster.name().to_owned(), user: remote.cluster.user().await });
    if let Some(namespace) = &namespace {
        view.found = Some(seen(namespace));
        let labelled = |other: &Environment| observe::has_label(namespace.labels(), other);
        view.rivals = observe::rivals(&cluster.stores, environment, namespace.meta().uid.as_deref(), labelled);
        view.me.opted_in = labelled(environment) || is_bound(&remote, environment).await.map_err(|e| remote.failure(&e))?;
    }
    let found = policy::from_outside(&view)?.clone();
    let (discovery, client) = (&remote.discovery, remote.cluster.client());
    let read = environment.spec.prerequisites.iter().map(|p| prerequisites::read(discovery, &client, &view.namespace, p));
    let (read, version) = futures::try_join!(try_join_all(read), client.apiserver_version()).map_err(|e| remote.failure(&e))?;
    policy::from_inside(&view, &Inside { prerequisites: read, lacks: None })?;
    let facts =
        Facts { environment_id: found.uid, region: found.region, kubernetes_version: version.git_version.chars().take(64).collect() };
    Ok((view, facts))
}

fn seen(namespace: &Namespace) -> NamespaceView {
    NamespaceView {
        // This text comes from another cluster. It is cut so that it fits into a status.
        uid: namespace.uid().unwrap_or_default().chars().take(128).collect(),
        terminating: namespace.metadata.deletion_timestamp.is_some(),
        is_host: namespace.labels().get(HOST_LABEL).is_some_and(|v| v == "true"),
        region: namespace.labels().get(REGION_LABEL).map(|region| region.chars().take(63).collect()),
    }
}

/// Whether the namespace opted in to the kubeconfig's user. If the user has that right in all namespaces, no namespace in particular opted
/// in. Then the label has to say it.
async fn is_bound(remote: &Remote, environment: &Environment) -> kube::Result<bool> {
    let access = Access::new(remote.cluster.client());
    let here = Right::on(opt_in_verb(environment.spec.type_), GROUP, "environments", &environment.spec.namespace);
    let everywhere = Right { namespace: None, ..here.clone() };
    Ok(access.i_may(&here).await? && !access.i_may(&everywhere).await?)
}
