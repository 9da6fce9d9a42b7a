//! Who acts in the target, and what that identity lacks.

use futures::future::try_join_all;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::reconciliation::Reconciliation;
use crate::api::Environment;
use crate::api::environment::RemoteCluster;
use crate::api::reference::Identity;
use crate::identity::access::{self, Access, Right};
use crate::identity::answers::JUST_NOW;
use crate::identity::clients::ClientError;
use crate::identity::delegate::{Delegate, DelegateClient};
use crate::identity::{OPERATOR_NAME, OPERATOR_NAMESPACE, grants, remote};
use crate::policy::check::Failure;
use crate::policy::request::approvers;
use crate::policy::request::observed::{DelegateView, Observed, Obstacle, StageView};
use crate::policy::request::rights::{self, Lacking};
use crate::runtime::controller::ReconcileError;
use crate::runtime::remotes::Remote;

/// Why an identity can't be acted as, by its name alone: waiting changes nothing.
pub(super) const DELEGATE_UNUSABLE: &str = "DelegateNameUnusable";

impl Reconciliation {
    /// The client that acts as the stage's delegate; once the request has started, as the identity that its status names,
    /// whatever became of the stage.
    /// In another cluster, `Err` is why there is no such client now.
    pub(super) async fn acting(&mut self, observed: &Observed) -> Result<Result<DelegateClient, Obstacle>, ReconcileError> {
        if let Some(target) = self.related.target.clone()
            && let Some(cluster) = &target.spec.cluster
        {
            return Ok(self
                .acting_there(observed, &target, cluster)
                .await
                .map_err(|failure| Obstacle { reason: failure.reason.into(), message: failure.message }));
        }
        let delegate = match (self.status().deployed_by, observed.stage.present()) {
            (_, Some(stage)) if observed.request.start_time.is_none() => Self::delegate_of(observed, stage),
            (Some(username), stage) => match stage.map(|stage| Self::delegate_of(observed, stage)) {
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
            (None, Some(stage)) => Self::delegate_of(observed, stage),
            (None, None) => return Err(ReconcileError::Other(format!("stage {} is gone", observed.request.stage))),
        };
        Ok(match self.cluster.clients.delegate(&delegate) {
            Ok(client) => Ok(client),
            Err(error @ (ClientError::EmptyIdentity | ClientError::Unsendable(_))) => Err(Obstacle {
                reason: DELEGATE_UNUSABLE.into(),
                message: format!("nobody can deploy in this name: {error}. Use a stage with a service principal, or another identity"),
            }),
            Err(error) => return Err(ReconcileError::Other(error.to_string())),
        })
    }

    /// The same in another cluster: the namespace there is the one that was validated, whatever the kubeconfig's Secret leads to by now,
    /// and the delegate acts with a token of its own.
    async fn acting_there(
        &mut self,
        observed: &Observed,
        target: &Environment,
        cluster: &RemoteCluster,
    ) -> Result<DelegateClient, Failure> {
        let remote = self.cluster.remotes.get(&self.host(), cluster, false).await?;
        let namespace = &target.spec.namespace;
        let found = remote.namespace(namespace).await?;
        let validated = target.status.as_ref().and_then(|s| s.environment_id.as_ref());
        if found.as_ref().and_then(|ns| ns.metadata.uid.as_ref()) != validated || validated.is_none() {
            return Err(rights::another_namespace(&target.name_any(), namespace, remote.cluster.name()));
        }
        let begun = self.status().deployed_by.filter(|_| observed.request.start_time.is_some());
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
        self.remote = Some(remote);
        Ok(client)
    }

    /// What was said by the target's API server, with its cluster where that is another.
    pub(super) fn of_cluster(&self, said: &str) -> String {
        match &self.remote {
            Some(remote) => format!("cluster {}: {said}", remote.cluster.name()),
            None => said.to_owned(),
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

    /// Says that the target namespace is about to go, where it is: then its rights are no matter of granting, nor its objects of waiting.
    pub(super) fn going(&self, namespace: &str) -> Option<Obstacle> {
        let is_here = self.related.target.as_ref().is_some_and(|target| target.spec.cluster.is_none());
        let found = self.cluster.stores.namespaces.get(&ObjectRef::new(namespace))?;
        (is_here && found.metadata.deletion_timestamp.is_some()).then(|| Obstacle {
            reason: "NamespaceTerminating".into(),
            message: format!(
                "namespace {namespace} is being deleted, and the rights and objects in it with it: wait until it is gone, create it again, and accept the new one in its Environment"
            ),
        })
    }

    /// Says whose right is missing, the delegate's or the operator's to act as it, and prints the rule to grant.
    pub(super) async fn missing(&self, client: &DelegateClient, namespace: &str, rights: &[Right]) -> Result<Obstacle, ReconcileError> {
        if let Some(going) = self.going(namespace) {
            return Ok(going);
        }
        let delegate = client.delegate();
        if let Some(remote) = &self.remote {
            // With its own token: what it may do over there nobody else need be allowed to ask.
            let access = client.access();
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
            if !self.cluster.access.may(&identity, right).await? {
                lacking.push(right.clone());
            }
            if grants::is_a_call(right) && !self.cluster.access.may(&operator, &delegate.to_use(right)).await? {
                unusable.push(right.clone());
            }
        }
        let mut out_of_reach = Vec::new();
        for right in delegate.to_become() {
            if !self.cluster.access.may(&operator, &right).await? {
                out_of_reach.push(right);
            }
        }
        Ok(rights::obstacle(delegate, namespace, rights, &Lacking { delegate: lacking, operator: unusable, to_become: out_of_reach }))
    }
}

/// What another cluster did not answer to the delegate, or answered.
pub(super) fn unanswered(remote: &Remote, error: &kube::Error) -> Obstacle {
    let failure = match error {
        kube::Error::Api(status) if status.code == 401 => rights::token_rejected(remote.cluster.name()),
        error => remote.failure(error),
    };
    Obstacle { reason: failure.reason.into(), message: failure.message }
}

/// Whether the requester could decide in an approver's place: as them, or with a token of theirs.
pub(super) async fn requester_could_approve(access: Access, observed: &Observed) -> Result<bool, ReconcileError> {
    let (Some(stage), Some(requester)) = (observed.stage.present(), &observed.request.requester) else { return Ok(false) };
    // An owner's or an approver's own request is refused at the gate by name. That the requester could not is what opens the gate, and is what
    // requests that come together need not ask each.
    let rights = approvers::rights_to_become(observed, stage);
    let answers = try_join_all(rights.iter().map(|right| access.lately(requester, right, false, JUST_NOW))).await?;
    Ok(answers.into_iter().any(|held| held))
}
