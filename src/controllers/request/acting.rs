//! Who acts in the target, and what that identity lacks.

use super::pass::Pass;
use crate::api::reference::{Identity, Subject, SubjectKind};
use crate::driver::controller::ReconcileError;
use crate::identity::access::{self, Access, Right};
use crate::identity::delegate::{Delegate, DelegateClient};
use crate::identity::{OPERATOR_NAME, OPERATOR_NAMESPACE, grants};
use crate::policy::request::observed::{DelegateView, Observed, Obstacle, StageView};

impl Pass {
    /// The client that acts as the stage's delegate; once the request has started, as the identity that its status names,
    /// whatever became of the stage.
    pub(super) fn acting(&self, observed: &Observed) -> Result<DelegateClient, ReconcileError> {
        let delegate = match (self.status().deployed_by, observed.stage.present()) {
            (_, Some(stage)) if observed.request.start_time.is_none() => Self::delegate_of(observed, stage),
            (Some(username), stage) => match stage.map(|stage| Self::delegate_of(observed, stage)) {
                // The stage knows the groups of a person.
                Some(delegate) if delegate.username() == username => delegate,
                _ => named(&Identity { username, ..Identity::default() }),
            },
            (None, Some(stage)) => Self::delegate_of(observed, stage),
            (None, None) => return Err(ReconcileError::Other(format!("stage {} is gone", observed.request.stage))),
        };
        self.cluster.clients.delegate(&delegate).map_err(|e| ReconcileError::Other(e.to_string()))
    }

    fn delegate_of(observed: &Observed, stage: &StageView) -> Delegate {
        match &stage.delegate {
            DelegateView::ServicePrincipal { name } => {
                Delegate::ServicePrincipal { namespace: observed.request.host.clone(), name: name.clone() }
            }
            DelegateView::StageOwner { owner } => named(owner),
            DelegateView::Requester => named(&observed.request.requester.clone().unwrap_or_default()),
        }
    }

    /// Says whose right is missing, the delegate's or the operator's to act as it, and prints the rule to grant.
    pub(super) async fn missing(&self, client: &DelegateClient, namespace: &str, rights: &[Right]) -> Result<Obstacle, ReconcileError> {
        let delegate = client.delegate();
        let (identity, subject) = match delegate {
            Delegate::ServicePrincipal { namespace: host, name } => (
                access::service_account(host, name),
                Subject { kind: SubjectKind::ServiceAccount, name: name.clone(), namespace: Some(host.clone()) },
            ),
            Delegate::User { username, groups } => (
                Identity {
                    username: username.clone(),
                    uid: None,
                    groups: groups.iter().cloned().chain(["system:authenticated".to_owned()]).collect(),
                },
                Subject { kind: SubjectKind::User, name: username.clone(), namespace: None },
            ),
        };
        let mut lacking = Vec::new();
        let mut operator_lacking = Vec::new();
        let operator = access::service_account(OPERATOR_NAMESPACE, OPERATOR_NAME);
        for right in rights {
            if !self.cluster.access.may(&identity, right).await? {
                lacking.push(right.clone());
            }
            // Creating by apply is a patch to whoever impersonates.
            let verb = if right.verb == "create" { "patch" } else { &right.verb };
            let mode = if matches!(delegate, Delegate::ServicePrincipal { .. }) { "serviceaccount" } else { "user-info" };
            let on = Right { verb: format!("impersonate-on:{mode}:{verb}"), ..right.clone() };
            if !operator_lacking.contains(&on) && !self.cluster.access.may(&operator, &on).await? {
                operator_lacking.push(on);
            }
        }
        let username = delegate.username();
        if lacking.is_empty() && operator_lacking.is_empty() {
            return Ok(Obstacle {
                reason: "DelegateLacksTargetAccess".into(),
                message: format!(
                    "the API server refused {username} in namespace {namespace}, though reviews say that it holds these rights; a grant may just have been made, or an authorizer other than RBAC decides. Wanted:\n{}",
                    grants::rules(rights)
                ),
            });
        }
        if lacking.is_empty() {
            return Ok(Obstacle {
                reason: "OperatorMayNotActAsDelegate".into(),
                message: format!(
                    "the operator may not act as {username} in namespace {namespace}. Grant:\n{}",
                    grants::operator_in_target_too(namespace, &subject, &operator_lacking)
                ),
            });
        }
        Ok(Obstacle {
            reason: "DelegateLacksTargetAccess".into(),
            message: format!(
                "{username}, who deploys, lacks rights in namespace {namespace}. Grant:\n{}",
                grants::delegate_in_target_too(namespace, &subject, &lacking)
            ),
        })
    }
}

/// Whether the requester could decide in the delegate's place: as it, or with a token of it.
pub(super) async fn requester_could_approve(access: Access, observed: &Observed) -> Result<bool, ReconcileError> {
    let (Some(stage), Some(requester)) = (observed.stage.present(), &observed.request.requester) else { return Ok(false) };
    let DelegateView::ServicePrincipal { name } = &stage.delegate else {
        // The owner's own request is refused at the gate by name; nobody else mints a person's credentials.
        return Ok(false);
    };
    let host = &observed.request.host;
    let impersonate = Right::on("impersonate", "", "serviceaccounts", host).named(name);
    let token = Right::on("create", "", "serviceaccounts", host).named(name).of_subresource("token");
    let (impersonate, token) = tokio::try_join!(access.may(requester, &impersonate), access.may(requester, &token))?;
    Ok(impersonate || token)
}

/// A `ServiceAccount` is impersonated as one, as in user mode the API server refuses it; a person with their groups, but for
/// those of `system:*`, which the API server adds itself.
fn named(who: &Identity) -> Delegate {
    match who.username.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => Delegate::ServicePrincipal { namespace: namespace.to_owned(), name: name.to_owned() },
        None => Delegate::User {
            username: who.username.clone(),
            groups: who.groups.iter().filter(|g| !g.starts_with("system:")).cloned().collect(),
        },
    }
}
