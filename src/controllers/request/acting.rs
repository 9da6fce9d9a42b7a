//! Who acts in the target, and which rights that identity lacks.

use std::sync::Arc;

use futures::future::try_join_all;
use kube::Client;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::scope::Scope;
use super::stop::Stop;
use crate::api::Environment;
use crate::api::environment::RemoteCluster;
use crate::api::reason::Reason;
use crate::api::reference::Identity;
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::cluster::discovery::Discovery;
use crate::identity::access::{self, Access, Right};
use crate::identity::answers::JUST_NOW;
use crate::identity::clients::ClientError;
use crate::identity::delegate::{Delegate, DelegateClient};
use crate::identity::{OPERATOR_NAME, OPERATOR_NAMESPACE, grants, remote};
use crate::policy::check::Failure;
use crate::policy::request::approvers;
use crate::policy::request::observed::{DelegateView, Observed, StageView};
use crate::policy::request::rights::{self, Lacking};
use crate::runtime::Cluster;
use crate::runtime::controller::ReconcileError;
use crate::runtime::remotes::Remote;

/// Who acts in a target, and the target's cluster if it is another than the host's.
pub(super) struct Acting {
    pub(super) client: DelegateClient,
    pub(super) remote: Option<Arc<Remote>>,
}

/// The stage's delegate. Once the request has started, it is the identity that its status names, even if the stage has changed. In another
/// cluster, `Err` says why nobody can act there now.
pub(super) async fn acting(scope: Scope<'_>, observed: &Observed) -> Result<Acting, Stop> {
    if let Some(target) = &scope.related.target
        && let Some(cluster) = &target.spec.cluster
    {
        return acting_there(scope, observed, target, cluster)
            .await
            .map_err(|failure| Stop::Because(Blocked::waits(Wait::Somebody, failure.reason, failure.message)));
    }
    let delegate = match (scope.status().deployed_by, observed.stage.present()) {
        (_, Some(stage)) if observed.request.start_time.is_none() => delegate_of(observed, stage),
        (Some(username), stage) => match stage.map(|stage| delegate_of(observed, stage)) {
            // The stage knows the groups of a person.
            Some(delegate) if delegate.username() == username => delegate,
            _ => Delegate::of(
                &observed
                    .request
                    .requester
                    .clone()
                    .filter(|r| r.username == username)
                    .unwrap_or(Identity { username, ..Identity::default() }),
            ),
        },
        (None, Some(stage)) => delegate_of(observed, stage),
        (None, None) => return Err(ReconcileError::Other(format!("stage {} is gone", observed.request.stage)).into()),
    };
    match scope.cluster.clients.delegate(&delegate).await {
        Ok(client) => Ok(Acting { client, remote: None }),
        Err(ClientError::NoServiceAccount(username)) => Err(Stop::Because(rights::no_token_of(&username))),
        Err(ClientError::NotLent(why)) => Err(Stop::Because(rights::not_lent(&delegate.username(), &why))),
        Err(error @ (ClientError::EmptyIdentity | ClientError::Unsendable(_))) => Err(Stop::Because(Blocked::ends(
            Reason::DelegateNameUnusable,
            format!("nobody can deploy in this name: {error}. Use a stage with a service principal, or another identity"),
        ))),
        Err(error) => Err(ReconcileError::Other(error.to_string()).into()),
    }
}

/// The same in another cluster. The namespace there must be the one that was validated, wherever the kubeconfig's Secret leads now. The
/// delegate acts with a token of its own.
async fn acting_there(scope: Scope<'_>, observed: &Observed, target: &Environment, cluster: &RemoteCluster) -> Result<Acting, Failure> {
    let remote = scope.cluster.remotes.get(&scope.host(), cluster, false).await?;
    let namespace = &target.spec.namespace;
    let found = remote.namespace(namespace).await?;
    let validated = target.status.as_ref().and_then(|s| s.environment_id.as_ref());
    if found.as_ref().and_then(|ns| ns.metadata.uid.as_ref()) != validated || validated.is_none() {
        return Err(rights::another_namespace(&target.name_any(), namespace, remote.cluster.name()));
    }
    let begun = scope.status().deployed_by.filter(|_| observed.request.start_time.is_some());
    let delegate = match (begun, observed.stage.present().map(|stage| &stage.delegate)) {
        (Some(said), _) => Delegate::of(&Identity { username: remote::username(&said).to_owned(), ..Identity::default() }),
        (None, Some(DelegateView::ServicePrincipal { name })) => {
            Delegate::ServicePrincipal { namespace: cluster.delegate_namespace.clone(), name: name.clone() }
        }
        (None, _) => return Err(rights::no_service_principal(&observed.request.stage, remote.cluster.name())),
    };
    let Delegate::ServicePrincipal { namespace, name } = &delegate else {
        return Err(rights::no_service_principal(&observed.request.stage, remote.cluster.name()));
    };
    let client = remote.lend(namespace, name).await?;
    Ok(Acting { client, remote: Some(remote) })
}

impl Acting {
    /// What the target's API server said, with the name of its cluster if it is another one.
    pub(super) fn said(&self, said: &str) -> String {
        match &self.remote {
            Some(remote) => format!("cluster {}: {said}", remote.cluster.name()),
            None => said.to_owned(),
        }
    }

    /// Who reads objects that belong to nobody, such as classes: the operator. In another cluster it uses its kubeconfig.
    pub(super) fn reader(&self, cluster: &Cluster) -> Client {
        self.remote.as_ref().map_or_else(|| cluster.clients.operator(), |remote| remote.cluster.client())
    }

    /// The kinds that the target's cluster serves.
    pub(super) fn discovery<'a>(&'a self, cluster: &'a Cluster) -> &'a Arc<Discovery> {
        self.remote.as_ref().map_or(&cluster.discovery, |remote| &remote.discovery)
    }

    /// Whether a call would be allowed. It is checked before the call, because a call that is only useful should not be refused.
    pub(super) async fn may_ask(&self, access: &Access, right: &Right) -> kube::Result<bool> {
        if self.remote.is_some() {
            return self.client.access().i_may(right).await;
        }
        let delegate = self.client.delegate();
        let operator = access::service_account(OPERATOR_NAMESPACE, OPERATOR_NAME);
        let (identity, to_use) = (delegate.identity(), delegate.to_use(right));
        let (delegate_may, operator_may) = tokio::try_join!(access.may(&identity, right), access.may(&operator, &to_use))?;
        Ok(delegate_may && operator_may)
    }

    /// Says whose right is missing, and prints the rule to grant. It is either the delegate's right, or the operator's right to act as the
    /// delegate.
    pub(super) async fn missing(&self, scope: Scope<'_>, namespace: &str, rights: &[Right]) -> Result<Blocked, ReconcileError> {
        if let Some(going) = going(scope, namespace) {
            return Ok(going);
        }
        let delegate = self.client.delegate();
        if let Some(remote) = &self.remote {
            // The delegate asks with its own token, so that nobody else needs a right to ask about it in the remote cluster.
            let access = self.client.access();
            let mut lacking = Vec::new();
            for right in rights {
                match access.i_may(right).await {
                    Ok(true) => {}
                    Ok(false) => lacking.push(right.clone()),
                    Err(error) => return Ok(unanswered(remote, &error)),
                }
            }
            return Ok(rights::obstacle_there(delegate, remote.cluster.name(), namespace, rights, &lacking));
        }
        let (identity, operator) = (delegate.identity(), access::service_account(OPERATOR_NAMESPACE, OPERATOR_NAME));
        let mut lacking = Vec::new();
        let mut unusable = Vec::new();
        for right in rights {
            if !scope.cluster.access.may(&identity, right).await? {
                lacking.push(right.clone());
            }
            if grants::is_a_call(right) && !scope.cluster.access.may(&operator, &delegate.to_use(right)).await? {
                unusable.push(right.clone());
            }
        }
        let mut out_of_reach = Vec::new();
        let delegation = scope.cluster.clients.delegation();
        for right in delegate.to_become(delegation) {
            if !scope.cluster.access.may(&operator, &right).await? {
                out_of_reach.push(right);
            }
        }
        let lacking = Lacking { delegate: lacking, operator: unusable, to_become: out_of_reach };
        Ok(rights::obstacle(delegate, delegation, namespace, rights, &lacking))
    }
}

fn delegate_of(observed: &Observed, stage: &StageView) -> Delegate {
    match &stage.delegate {
        DelegateView::ServicePrincipal { name } => {
            Delegate::ServicePrincipal { namespace: observed.request.host.clone(), name: name.clone() }
        }
        DelegateView::StageOwner { owner } => Delegate::of(owner),
        DelegateView::Requester => Delegate::of(&observed.request.requester.clone().unwrap_or_default()),
    }
}

/// Says that the target namespace is being deleted, if it is. Then granting rights or waiting for objects does not help.
pub(super) fn going(scope: Scope<'_>, namespace: &str) -> Option<Blocked> {
    let is_here = scope.related.target.as_ref().is_some_and(|target| target.spec.cluster.is_none());
    let found = scope.cluster.stores.namespaces.get(&ObjectRef::new(namespace))?;
    (is_here && found.metadata.deletion_timestamp.is_some()).then(|| Blocked {
        until: Until::Wait(Wait::Somebody),
        reason: Reason::NamespaceTerminating,
        message: format!(
            "namespace {namespace} is being deleted, and the rights and objects in it with it: wait until it is gone, create it again, and accept the new one in its Environment"
        ),
    })
}

/// What it means that a call of the delegate to another cluster failed.
pub(super) fn unanswered(remote: &Remote, error: &kube::Error) -> Blocked {
    let failure = match error {
        kube::Error::Api(status) if status.code == 401 => rights::token_rejected(remote.cluster.name()),
        error => remote.failure(error),
    };
    Blocked::waits(Wait::Server, failure.reason, failure.message)
}

/// Whether the requester could decide in an approver's place: by impersonation, or with one of the approver's tokens.
pub(super) async fn requester_could_approve(access: Access, observed: &Observed) -> Result<bool, ReconcileError> {
    let (Some(stage), Some(requester)) = (observed.stage.present(), &observed.request.requester) else { return Ok(false) };
    // The gate refuses an owner's or an approver's own request by name. The gate opens only if the requester could not act as an approver.
    // Requests that come together share the answers.
    let rights = approvers::rights_to_become(observed, stage);
    let answers = try_join_all(rights.iter().map(|right| access.lately(requester, right, false, JUST_NOW))).await?;
    Ok(answers.into_iter().any(|held| held))
}
