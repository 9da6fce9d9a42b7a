//! Rights that a deployment lacks: whose they are, and what grants them.

use super::observed::Obstacle;
use crate::identity::access::Right;
use crate::identity::delegate::Delegate;
use crate::identity::grants;

/// What is missing of the rights that a deployment needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lacking {
    /// What the delegate lacks itself.
    pub delegate: Vec<Right>,
    /// What the operator may not use of it in the target.
    pub operator: Vec<Right>,
    /// What the operator lacks to become the delegate.
    pub to_become: Vec<Right>,
}

/// Says all that is missing, with the grants: those of the delegate first, by which the reason goes.
pub fn obstacle(delegate: &Delegate, namespace: &str, wanted: &[Right], lacking: &Lacking) -> Obstacle {
    let username = delegate.username();
    let mut grants = Vec::new();
    if !lacking.delegate.is_empty() {
        grants.push(grants::delegate_in_target_too(namespace, &delegate.subject(), &lacking.delegate));
    }
    if !lacking.to_become.is_empty() {
        grants.push(grants::operator_becomes(delegate));
    }
    if !lacking.operator.is_empty() {
        grants.push(grants::operator_in_target_too(namespace, delegate, &lacking.operator));
    }
    let operator_lacks = !lacking.to_become.is_empty() || !lacking.operator.is_empty();
    let (reason, what) = match (lacking.delegate.is_empty(), operator_lacks) {
        (true, true) => ("OperatorMayNotActAsDelegate", format!("the operator may not act as {username} in namespace {namespace}")),
        (false, false) => ("DelegateLacksTargetAccess", format!("{username}, who deploys, lacks rights in namespace {namespace}")),
        (false, true) => (
            "DelegateLacksTargetAccess",
            format!("{username}, who deploys, lacks rights in namespace {namespace}, and the operator may not act as {username} there"),
        ),
        (true, false) => {
            return Obstacle {
                reason: "DelegateLacksTargetAccess".into(),
                message: format!(
                    "the API server refused {username} in namespace {namespace}, though reviews say that it holds these rights; a grant may just have been made, or an authorizer other than RBAC decides. Wanted:\n{}",
                    grants::rules(wanted)
                ),
            };
        }
    };
    Obstacle { reason: reason.into(), message: format!("{what}. Grant:\n{}", grants.join("---\n")) }
}
