//! What the check of a Stage reads.

use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Error, ResourceExt};

use crate::api::environment::RemoteCluster;
use crate::api::stage::{DelegateType, DelegatedDeployment};
use crate::api::{Environment, Stage};
use crate::cluster::blocked::Blocked;
use crate::cluster::lookup;
use crate::controllers::environment::validated;
use crate::identity::clients::ClientError;
use crate::identity::delegate::Delegate;
use crate::policy::check::{Failure, Remedy};
use crate::policy::request::rights;
use crate::policy::stage::{self as policy, Account, Answer, DelegateView, Need, Review, Target, TargetCluster, View};
use crate::policy::windows;
use crate::runtime::Cluster;

/// The stage and what it refers to, from the caches alone.
pub(crate) fn view(cluster: &Cluster, stage: &Stage, policies_in_force: bool) -> View {
    let stores = &cluster.stores;
    let host = stage.namespace().unwrap_or_default();
    let spec = &stage.spec;
    let environment = stores.environments.get(&ObjectRef::new(&spec.target_environment).within(&host));
    View {
        policies_in_force,
        unfit: cluster.unfit(),
        delegation: cluster.clients.delegation(),
        generation: stage.metadata.generation.unwrap_or_default(),
        pipeline: spec.pipeline.clone(),
        pipeline_exists: stores.pipelines.get(&ObjectRef::new(&spec.pipeline).within(&host)).is_some(),
        target_environment: spec.target_environment.clone(),
        target: environment.as_deref().map(target),
        pinned: stage.status.as_ref().and_then(|s| s.pinned.clone()),
        owner: spec.owner.clone(),
        window: spec.windows.iter().find_map(|window| windows::check(window).err()),
        delegate: spec.delegated_deployment.as_ref().map_or(DelegateView::Requester, delegate),
        delegate_approves: spec.approval.as_ref().is_none_or(|approval| approval.by.is_by_delegate()),
        not_lent: None,
        host,
    }
}

fn target(environment: &Environment) -> Target {
    Target {
        uid: environment.uid().unwrap_or_default(),
        type_: environment.spec.type_,
        namespace: environment.spec.namespace.clone(),
        cluster: environment.spec.cluster.as_ref().map(|cluster| TargetCluster {
            name: cluster.kubeconfig_secret_ref.name.clone(),
            delegate_namespace: cluster.delegate_namespace.clone(),
        }),
        environment_id: environment.status.as_ref().and_then(|s| s.environment_id.clone()),
        validated: validated(environment),
    }
}

fn delegate(delegation: &DelegatedDeployment) -> DelegateView {
    match delegation.type_ {
        DelegateType::StageOwner => DelegateView::StageOwner,
        // The schema requires a name for this type. An empty name exists nowhere.
        DelegateType::ServicePrincipal => {
            DelegateView::ServicePrincipal { name: delegation.service_account_name.clone().unwrap_or_default(), account: Account::Unknown }
        }
    }
}

/// The view, completed with what the API server says about the `ServiceAccount`.
pub(crate) async fn with_account(cluster: &Cluster, mut view: View) -> kube::Result<View> {
    if let DelegateView::ServicePrincipal { name, account } = &mut view.delegate {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.clients.operator(), &view.host);
        *account = match lookup::metadata(&accounts, name).await {
            Ok(Some(_)) => Account::Present,
            Ok(None) => Account::Absent,
            Err(Error::Api(status)) if status.code == 403 => Account::Unreadable,
            Err(error) => return Err(error),
        };
    }
    Ok(view)
}

/// Checks all rights at once. In another cluster the delegate itself asks, or the answer says why there is no such delegate.
pub(crate) async fn answers(
    cluster: &Cluster,
    view: &View,
    remote: Option<&RemoteCluster>,
) -> kube::Result<(Vec<Answer>, Option<Failure>)> {
    let (there, here): (Vec<Review>, Vec<Review>) =
        policy::reviews(view).into_iter().partition(|review| review.need == Need::DelegateDeploysThere);
    let here = try_join_all(here.into_iter().map(|review| async move {
        let held = match &review.who {
            Some(who) => cluster.access.may(who, &review.right).await?,
            None => cluster.access.i_may(&review.right).await?,
        };
        Ok::<_, Error>((review, held))
    }));
    let there = async {
        Ok(match remote {
            Some(remote) => answers_there(cluster, view, remote, there).await,
            None => Ok(Vec::new()),
        })
    };
    let (mut answers, there) = futures::try_join!(here, there)?;
    if remote.is_none() && answers.iter().all(|(review, held)| *held || review.need != Need::OperatorActsAsDelegate) {
        let not_lent = not_lent(cluster, view).await;
        return Ok((answers, not_lent));
    }
    Ok(match there {
        Ok(there) => {
            answers.extend(there);
            (answers, None)
        }
        Err(failure) => (answers, Some(failure)),
    })
}

/// Why the operator is lent no token of the delegate, by which it would act in this cluster.
async fn not_lent(cluster: &Cluster, view: &View) -> Option<Failure> {
    let Some(delegate @ Delegate::ServicePrincipal { .. }) = policy::delegate(view) else { return None };
    match cluster.clients.delegate(&delegate).await {
        Err(ClientError::NotLent(why)) => {
            let Blocked { reason, message, .. } = rights::not_lent(&delegate.username(), &why);
            Some(Failure { reason, message, remedy: Remedy::Polled })
        }
        _ => None,
    }
}

async fn answers_there(cluster: &Cluster, view: &View, spec: &RemoteCluster, reviews: Vec<Review>) -> Result<Vec<Answer>, Failure> {
    let DelegateView::ServicePrincipal { name, .. } = &view.delegate else { return Ok(Vec::new()) };
    let remote = cluster.remotes.get(&view.host, spec, false).await?;
    let access = remote.lend(&spec.delegate_namespace, name).await?.access();
    let access = &access;
    let asked = reviews.into_iter().map(|review| async move {
        let held = access.i_may(&review.right).await?;
        Ok((review, held))
    });
    try_join_all(asked).await.map_err(|error: Error| remote.failure(&error))
}
