//! Rights that a deployment lacks: who lacks them, and what grants them.

use crate::api::names;
use crate::api::reason::Reason;
use crate::api::reference::Identity;
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::identity::access::Right;
use crate::identity::delegate::Delegate;
use crate::identity::delegation::Delegation;
use crate::identity::grants;
use crate::identity::lender::LendError;
use crate::policy::check::{Failure, Remedy};
use crate::policy::stage;

/// What is missing of the rights that a deployment needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lacking {
    /// What the delegate lacks itself.
    pub(crate) delegate: Vec<Right>,
    /// What the operator may not do as the delegate in the target.
    pub(crate) operator: Vec<Right>,
    /// What the operator lacks to impersonate the delegate.
    pub(crate) to_become: Vec<Right>,
}

/// Names everything that is missing, with the grants. The delegate's come first and decide the reason.
pub(crate) fn obstacle(delegate: &Delegate, delegation: Delegation, namespace: &str, wanted: &[Right], lacking: &Lacking) -> Blocked {
    let username = delegate.username();
    let place = place(namespace, wanted);
    let mut grants = Vec::new();
    if !lacking.delegate.is_empty() {
        grants.push(grants::delegate_in_target_too(&delegate.subject(), &lacking.delegate));
    }
    if !lacking.to_become.is_empty() {
        grants.push(grants::operator_becomes(delegate, delegation));
    }
    if !lacking.operator.is_empty() {
        grants.push(grants::operator_in_target_too(delegate, &lacking.operator));
    }
    let operator_lacks = !lacking.to_become.is_empty() || !lacking.operator.is_empty();
    let (reason, what) = match (lacking.delegate.is_empty(), operator_lacks) {
        (true, true) => (Reason::OperatorMayNotActAsDelegate, format!("the operator may not act as {username} in {place}")),
        (false, false) => (Reason::DelegateLacksTargetAccess, format!("{username}, who deploys, lacks rights in {place}")),
        (false, true) => (
            Reason::DelegateLacksTargetAccess,
            format!("{username}, who deploys, lacks rights in {place}, and the operator may not act as {username} there"),
        ),
        (true, false) => {
            return Blocked {
                until: Until::Wait(Wait::Right),
                reason: Reason::DelegateLacksTargetAccess,
                message: format!(
                    "the API server refused {username} in {place}, though reviews say that it holds these rights; a grant may just have been made, an authorizer other than RBAC may decide, or the API server may not know constrained impersonation (Kubernetes 1.36 or newer), by which alone the operator acts as others. Wanted:\n{}",
                    grants::rules(wanted)
                ),
            };
        }
    };
    Blocked::waits(Wait::Right, reason, format!("{what}. Grant:\n{}", grants.join("---\n")))
}

/// The same for a delegate in another cluster. There it acts with its own token, and nobody impersonates it.
pub(crate) fn obstacle_there(delegate: &Delegate, cluster: &str, namespace: &str, wanted: &[Right], lacking: &[Right]) -> Blocked {
    let username = delegate.username();
    let place = place(namespace, wanted);
    let message = if lacking.is_empty() {
        format!(
            "the API server of cluster {cluster} refused {username} in {place}, though it says that it holds these rights; a grant may just have been made, or an authorizer other than RBAC may decide. Wanted:\n{}",
            grants::rules(wanted)
        )
    } else {
        format!(
            "{username}, who deploys, lacks rights in {place} of cluster {cluster}. Grant in that cluster:\n{}",
            grants::delegate_in_target_too(&delegate.subject(), lacking)
        )
    };
    Blocked::waits(Wait::Right, Reason::DelegateLacksTargetAccess, message)
}

/// Where rights apply: in the namespace, in the whole cluster, or both.
fn place(namespace: &str, rights: &[Right]) -> String {
    let everywhere = rights.iter().any(|right| right.namespace.is_none());
    match (everywhere, rights.iter().any(|right| right.namespace.is_some())) {
        (true, true) => format!("namespace {namespace} and in the whole cluster, as not all objects belong to a namespace,"),
        (true, false) => format!("the whole cluster, as not all objects belong to namespace {namespace},"),
        (false, _) => format!("namespace {namespace}"),
    }
}

/// The kubeconfig leads to another namespace of that name than the validated one.
pub(crate) fn another_namespace(environment: &str, namespace: &str, cluster: &str) -> Failure {
    Failure {
        reason: Reason::IdentityChanged,
        message: format!(
            "namespace {namespace} of cluster {cluster} is not there, or is another than the one that Environment {environment} was validated with: the Environment says how to accept it"
        ),
        remedy: Remedy::Polled,
    }
}

/// In another cluster only a `ServiceAccount` can be the delegate.
pub(crate) fn no_service_principal(stage: &str, cluster: &str) -> Failure {
    Failure {
        reason: Reason::RemoteNeedsServicePrincipal,
        message: format!(
            "the target of stage {stage} is in cluster {cluster}, where a ServiceAccount alone can deploy: give the stage a service principal"
        ),
        remedy: Remedy::Polled,
    }
}

/// The host's API server gives no token of the delegate.
pub(crate) fn not_lent(username: &str, why: &LendError) -> Blocked {
    let (namespace, account) = names::service_account(username).unwrap_or_default();
    let (wait, reason, message) = match why {
        LendError::Absent => (
            Wait::Somebody,
            Reason::ServicePrincipalNotFound,
            format!("ServiceAccount {account} does not exist in namespace {namespace}, so that nobody can deploy as it: create it"),
        ),
        LendError::Forbidden => {
            let delegate = Delegate::of(&Identity { username: username.to_owned(), ..Identity::default() });
            let grant = grants::operator_becomes(&delegate, Delegation::LentToken);
            (
                Wait::Right,
                Reason::OperatorMayNotActAsDelegate,
                format!("the operator may not ask for tokens of {username}, by which it acts as it in this cluster. Grant:\n{grant}"),
            )
        }
        LendError::NoNode(node) => (
            Wait::Server,
            Reason::TokenNotLent,
            format!(
                "no token of {username} can be had, as there is no Node {node}, which it would be bound to: PILOTAGE_NODE of the operator has to name the Node that it runs on"
            ),
        ),
        LendError::Denied(why) => {
            (Wait::Somebody, Reason::TokenNotLent, format!("a policy of this cluster refuses the operator a token of {username}: {why}"))
        }
        LendError::Rejected | LendError::Api(_) => {
            (Wait::Server, Reason::ServerUnavailable, format!("no token of {username} could be had: {why}; it is asked for again"))
        }
    };
    Blocked::waits(wait, reason, message)
}

/// A person whom nobody can act as in this cluster.
pub(crate) fn no_token_of(username: &str) -> Blocked {
    Blocked::waits(
        Wait::Somebody,
        Reason::NeedsServicePrincipal,
        format!(
            "{username}, who would deploy, is no ServiceAccount, and this cluster has no constrained impersonation, by which alone the operator acts as people: give the stage a service principal"
        ),
    )
}

/// The delegate's token was rejected: its `ServiceAccount` was deleted, or made anew, or the cluster's keys were exchanged.
pub(crate) fn token_rejected(cluster: &str) -> Failure {
    Failure {
        reason: Reason::TokenRejected,
        message: format!(
            "cluster {cluster} rejects the token of the delegate, which may have been deleted and made anew; another one is asked for"
        ),
        remedy: Remedy::Polled,
    }
}

/// A requester with whom the pipeline is not shared (any more).
pub(crate) fn unshared(host: &str, pipeline: &str, requester: &Identity) -> Blocked {
    let who = &requester.username;
    Blocked {
        until: Until::Wait(Wait::Right),
        reason: Reason::RequesterMayNotDeploy,
        message: format!(
            "{who}, who asked, may not deploy through pipeline {pipeline} of host {host} any more: an administrator adds them (or a group \
             of theirs) to spec.sharedWith of the pipeline again, or applies:\n{}",
            grants::maker(host, pipeline, &grants::subject_of(who))
        ),
    }
}

/// An owner who may not act as the stage's `ServiceAccount` (any more). The stage will say the same at its next check.
pub(crate) fn disowned(stage: &str, host: &str, account: &str, owner: &Identity) -> Blocked {
    let said = stage::not_owner(host, account, owner).err().map(|failure| failure.message).unwrap_or_default();
    Blocked::waits(Wait::Right, Reason::NotOwnerOfServicePrincipal, format!("stage {stage}: {said}"))
}

/// A requester who wants to store a version of a Solution that others develop. The version would count as theirs, and could not be stored
/// again.
pub(crate) fn developed_elsewhere(solution: &str, version: &str, environment: &str, requester: &Identity, right: &Right) -> Blocked {
    let (who, namespace) = (&requester.username, right.namespace.as_deref().unwrap_or_default());
    Blocked {
        until: Until::Wait(Wait::Right),
        reason: Reason::SolutionIsDevelopedElsewhere,
        message: format!(
            "solution {solution} is developed in environment {environment}, and {who}, who asks for {solution} {version} from a registry, may \
             not update it there: a version is one development's. Ask under another name of a solution; or an administrator of namespace \
             {namespace} applies:\n{}",
            grants::may(right, &grants::subject_of(who))
        ),
    }
}

/// Everything that is missing, as one result. The reason is that of the first entry, and all grants can be applied at once.
pub(crate) fn together(missing: Vec<Blocked>) -> Option<Blocked> {
    let reason = missing.first()?.reason;
    Some(Blocked::waits(Wait::Right, reason, grants::together(missing.into_iter().map(|blocked| blocked.message))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_right_is_missing_is_said_with_every_grant_that_it_takes() {
        let bot = Delegate::ServicePrincipal { namespace: "host".into(), name: "bot".into() };
        let wanted = [Right::on("patch", "apps", "deployments", "qa")];
        let said = |lacking: Lacking| {
            let Blocked { reason, message, .. } = obstacle(&bot, Delegation::Impersonation, "qa", &wanted, &lacking);
            (reason, message.matches("kind: Role\n").count(), message)
        };
        let (reason, roles, message) = said(Lacking { delegate: wanted.to_vec(), ..Lacking::default() });
        assert_eq!((reason.as_str(), roles), ("DelegateLacksTargetAccess", 1), "{message}");
        let (reason, roles, message) =
            said(Lacking { operator: wanted.to_vec(), to_become: bot.to_become(Delegation::Impersonation), ..Lacking::default() });
        assert_eq!((reason.as_str(), roles), ("OperatorMayNotActAsDelegate", 2), "{message}");
        let all = Lacking { delegate: wanted.to_vec(), operator: wanted.to_vec(), to_become: bot.to_become(Delegation::Impersonation) };
        let (reason, roles, message) = said(all);
        assert_eq!((reason.as_str(), roles), ("DelegateLacksTargetAccess", 3), "{message}");
        let (_, roles, message) = said(Lacking::default());
        assert!(roles == 0 && message.contains("though reviews say that it holds these rights"), "{message}");
    }

    #[test]
    fn why_no_token_is_lent_is_said_with_what_to_do() {
        let said = |why: &LendError| {
            let Blocked { reason, message, until } = not_lent("system:serviceaccount:host:bot", why);
            (reason, until, message)
        };
        let (reason, until, message) = said(&LendError::Forbidden);
        assert_eq!((reason, until), (Reason::OperatorMayNotActAsDelegate, Until::Wait(Wait::Right)));
        assert!(message.contains("resources: [serviceaccounts/token], resourceNames: [\"bot\"], verbs: [\"create\"]"), "{message}");
        assert!(message.contains("namespace: host}"), "{message}");
        let (reason, _, message) = said(&LendError::NoNode("node-1".into()));
        assert!(reason == Reason::TokenNotLent && message.contains("PILOTAGE_NODE"), "{message}");
        let (reason, until, _) = said(&LendError::Absent);
        assert_eq!((reason, until), (Reason::ServicePrincipalNotFound, Until::Wait(Wait::Somebody)));
        assert!(said(&LendError::Denied("no such audience".into())).2.contains("no such audience"));
    }
}
