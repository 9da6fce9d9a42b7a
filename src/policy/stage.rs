//! Whether a stage can deploy: its pipeline and target, and what its delegate, its owner and the operator may do.

use super::check::{Check, Failure, Remedy, edit, polled, watched};
use crate::api::GROUP;
use crate::api::environment::EnvironmentType;
use crate::api::names::service_account_username;
use crate::api::reference::Identity;
use crate::api::stage::PinnedTarget;
use crate::identity::access::{self, Right};
use crate::identity::grants;

/// What a delegate needs on `ConfigMaps` of its target at least: the parent object of an `ApplySet` is one.
const DELEGATE_VERBS: [&str; 5] = ["get", "list", "patch", "create", "delete"];
/// What the operator sends as the delegate; apply and dry run need `patch` alone, also to create.
const OPERATOR_VERBS: [&str; 4] = ["get", "list", "patch", "delete"];
/// The API group that the rights to impersonate lie in.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// A stage and what it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Whether Pilotage's admission policies are in force.
    pub policies_in_force: bool,
    /// The host namespace.
    pub host: String,
    /// `metadata.generation`.
    pub generation: i64,
    /// `spec.pipeline`.
    pub pipeline: String,
    /// Whether that pipeline exists.
    pub pipeline_exists: bool,
    /// `spec.targetEnvironment`.
    pub target_environment: String,
    /// That Environment.
    pub target: Option<Target>,
    /// `status.pinned`.
    pub pinned: Option<PinnedTarget>,
    /// `spec.owner`.
    pub owner: Option<Identity>,
    /// Who deploys.
    pub delegate: DelegateView,
}

/// The Environment that a stage deploys to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its uid.
    pub uid: String,
    /// Its role.
    pub type_: EnvironmentType,
    /// Its namespace.
    pub namespace: String,
    /// The uid of the namespace that was validated.
    pub environment_id: Option<String>,
    /// Whether it is validated; otherwise why not, in one word.
    pub validated: Result<(), String>,
}

/// Who deploys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelegateView {
    /// The requester: what they may do is asked for each request.
    Requester,
    /// A `ServiceAccount` of the host.
    ServicePrincipal {
        /// Its name.
        name: String,
        /// What is known of it.
        account: Account,
    },
    /// The owner of the stage.
    StageOwner,
}

/// What is known of a `ServiceAccount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Account {
    /// Nothing yet: it was not looked for.
    Unknown,
    /// The operator may not read `ServiceAccounts` of the host.
    Unreadable,
    /// It does not exist.
    Absent,
    /// It exists.
    Present,
}

/// What a right is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The owner could act as the `ServiceAccount` themselves; one such right is enough.
    OwnerActsAsDelegate,
    /// The operator acts as the delegate.
    OperatorActsAsDelegate,
    /// The delegate decides its gate.
    DelegateApproves,
    /// The delegate deploys.
    DelegateDeploys,
}

/// A right to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// What it is needed for.
    pub need: Need,
    /// Whose right; `None` for the operator's own.
    pub who: Option<Identity>,
    /// The right.
    pub right: Right,
}

/// A right and whether it is held.
pub type Answer = (Review, bool);

/// The checks that the caches answer. No right is asked for before they pass.
///
/// # Errors
/// The first check that failed.
pub fn structure(view: &View) -> Check {
    policies_in_force(view)?;
    pipeline_exists(view)?;
    let target = target_exists(view)?;
    target_is_a_target(view, target)?;
    target_is_validated(view, target)?;
    target_is_the_confirmed_one(view, target)
}

/// What the owner confirmed: the target as it is now where this generation of the stage has confirmed none yet, else what is recorded.
pub fn pin(view: &View) -> Option<PinnedTarget> {
    let confirmed = view.pinned.as_ref().is_some_and(|p| p.generation == view.generation);
    match &view.target {
        Some(Target { validated: Ok(()), environment_id: Some(id), uid, type_: EnvironmentType::Target, .. }) if !confirmed => {
            Some(PinnedTarget { generation: view.generation, environment_uid: uid.clone(), environment_id: id.clone() })
        }
        _ => view.pinned.clone(),
    }
}

/// The rights that a stage's delegation depends on; all are asked for at once. Empty where there is no delegate.
pub fn reviews(view: &View) -> Vec<Review> {
    let (Some(target), host) = (&view.target, view.host.as_str()) else { return Vec::new() };
    let mut reviews = Vec::new();
    let delegate = match &view.delegate {
        DelegateView::Requester => return reviews,
        DelegateView::ServicePrincipal { name, .. } => {
            let accounts = |verb: &str, group: &str| Right::on(verb, group, "serviceaccounts", host).named(name);
            if let Some(owner) = &view.owner {
                let owner = access::as_authenticated(owner);
                for right in [accounts("impersonate", ""), accounts("create", "").of_subresource("token"), accounts("delegate", "")] {
                    reviews.push(Review { need: Need::OwnerActsAsDelegate, who: Some(owner.clone()), right });
                }
            }
            reviews.push(operator(accounts("impersonate:serviceaccount", AUTHENTICATION)));
            reviews.extend(OPERATOR_VERBS.map(|verb| operator(configmaps(&format!("impersonate-on:serviceaccount:{verb}"), target))));
            access::service_account(host, name)
        }
        DelegateView::StageOwner => {
            let Some(owner) = &view.owner else { return reviews };
            let everywhere = |resource: &str, name: &str| Right {
                verb: "impersonate:user-info".into(),
                group: AUTHENTICATION.into(),
                resource: resource.into(),
                name: Some(name.into()),
                ..Right::default()
            };
            reviews.push(operator(everywhere("users", &owner.username)));
            reviews.extend(owner.groups.iter().map(|group| operator(everywhere("groups", group))));
            reviews.extend(OPERATOR_VERBS.map(|verb| operator(configmaps(&format!("impersonate-on:user-info:{verb}"), target))));
            access::as_authenticated(owner)
        }
    };
    let approve = Right::on("patch", GROUP, "deploymentrequests", host).of_subresource("status");
    reviews.push(Review { need: Need::DelegateApproves, who: Some(delegate.clone()), right: approve });
    reviews.extend(DELEGATE_VERBS.map(|verb| Review {
        need: Need::DelegateDeploys,
        who: Some(delegate.clone()),
        right: configmaps(verb, target),
    }));
    reviews
}

/// The checks of the delegate and of rights. All rights that are missing are said at once, with the grants; the reason is that of the
/// first.
///
/// # Errors
/// What is missing.
pub fn delegation(view: &View, answers: &[Answer]) -> Check {
    delegate_exists(view)?;
    let Some(target) = &view.target else { return Ok(()) };
    let checks = [
        owner_may_act_as_delegate(view, answers),
        operator_may_act_as_delegate(view, target, answers),
        delegate_may_approve(view, answers),
        delegate_may_deploy(view, target, answers),
    ];
    let mut failures = checks.into_iter().filter_map(Check::err);
    match failures.next() {
        None => Ok(()),
        Some(first) => Err(failures.fold(first, |mut all, next| {
            all.message.push_str("\n\n");
            all.message.push_str(&next.message);
            all
        })),
    }
}

fn operator(right: Right) -> Review {
    Review { need: Need::OperatorActsAsDelegate, who: None, right }
}

fn configmaps(verb: &str, target: &Target) -> Right {
    Right::on(verb, "", "configmaps", &target.namespace)
}

fn policies_in_force(view: &View) -> Check {
    if view.policies_in_force {
        return Ok(());
    }
    watched(
        "PoliciesMissing",
        "the admission policies that keep approvals honest are not in force, so that nothing is deployed: a cluster administrator applies \
         the policies and bindings that come with Pilotage (deploy/admission)",
    )
}

fn pipeline_exists(view: &View) -> Check {
    if view.pipeline_exists {
        return Ok(());
    }
    watched(
        "UnknownPipeline",
        format!("Pipeline {} does not exist in namespace {}: create it, or correct spec.pipeline", view.pipeline, view.host),
    )
}

fn target_exists(view: &View) -> Result<&Target, Failure> {
    view.target.as_ref().ok_or_else(|| Failure {
        reason: "UnknownEnvironment",
        message: format!(
            "Environment {} does not exist in namespace {}: create it, or correct spec.targetEnvironment",
            view.target_environment, view.host
        ),
        remedy: Remedy::Watched,
    })
}

fn target_is_a_target(view: &View, target: &Target) -> Check {
    if target.type_ == EnvironmentType::Target {
        return Ok(());
    }
    edit(
        "WrongEnvironmentType",
        format!(
            "Environment {} is of type Development: a stage deploys to one of type Target; correct spec.targetEnvironment",
            view.target_environment
        ),
    )
}

fn target_is_validated(view: &View, target: &Target) -> Check {
    match &target.validated {
        Ok(()) => Ok(()),
        Err(why) => watched(
            "EnvironmentNotValidated",
            format!("Environment {} is not validated ({why}): its condition Validated says what to do", view.target_environment),
        ),
    }
}

fn target_is_the_confirmed_one(view: &View, target: &Target) -> Check {
    let Some(pinned) = view.pinned.as_ref().filter(|p| p.generation == view.generation) else { return Ok(()) };
    if pinned.environment_uid == target.uid && target.environment_id.as_ref() == Some(&pinned.environment_id) {
        return Ok(());
    }
    edit(
        "TargetChanged",
        format!(
            "Environment {} or its namespace {} was deleted and created again since the owner wrote this stage: if it is still meant, the \
             owner confirms it by changing the stage's spec, for example its description (an annotation is not enough)",
            view.target_environment, target.namespace
        ),
    )
}

fn delegate_exists(view: &View) -> Check {
    match &view.delegate {
        DelegateView::Requester => Ok(()),
        DelegateView::StageOwner if view.owner.is_some() => Ok(()),
        DelegateView::StageOwner => edit(
            "OwnerMissing",
            "the stage deploys as its owner and has none: write the stage again with the admission policies in force, which fill spec.owner \
             with whoever writes it",
        ),
        DelegateView::ServicePrincipal { name, account } => match account {
            Account::Present => Ok(()),
            Account::Unknown | Account::Absent => polled(
                "ServicePrincipalNotFound",
                format!(
                    "ServiceAccount {name} does not exist in namespace {}: create it, or correct spec.delegatedDeployment.serviceAccountName",
                    view.host
                ),
            ),
            Account::Unreadable => polled(
                "OperatorLacksHostRole",
                format!(
                    "the operator may not read ServiceAccount {name} in namespace {}; an administrator applies:\n{}",
                    view.host,
                    grants::operator_in_host(&view.host)
                ),
            ),
        },
    }
}

/// All rights that are needed for something where one of them is missing: a grant of the missing ones alone would replace the grant
/// that was printed and applied before.
fn lacking(answers: &[Answer], need: Need) -> Option<Vec<Right>> {
    let of_need = || answers.iter().filter(|(review, _)| review.need == need);
    of_need().any(|(_, held)| !held).then(|| of_need().map(|(review, _)| review.right.clone()).collect())
}

fn owner_may_act_as_delegate(view: &View, answers: &[Answer]) -> Check {
    let DelegateView::ServicePrincipal { name, .. } = &view.delegate else { return Ok(()) };
    let host = &view.host;
    let Some(owner) = &view.owner else {
        return edit(
            "NotOwnerOfServicePrincipal",
            format!(
                "the stage has no owner who could answer for ServiceAccount {name}: write the stage again with the admission policies in \
                 force, which fill spec.owner with whoever writes it"
            ),
        );
    };
    if answers.iter().any(|(review, held)| review.need == Need::OwnerActsAsDelegate && *held) {
        return Ok(());
    }
    polled(
        "NotOwnerOfServicePrincipal",
        format!(
            "the owner of the stage, {}, may not act as ServiceAccount {name} of namespace {host}: let somebody own the stage who may, or an \
             administrator of {host} applies:\n{}",
            owner.username,
            grants::owner_of(host, name, &grants::subject_of(&owner.username)),
        ),
    )
}

fn operator_may_act_as_delegate(view: &View, target: &Target, answers: &[Answer]) -> Check {
    let Some((rights, username)) = lacking(answers, Need::OperatorActsAsDelegate).zip(delegate(view)) else { return Ok(()) };
    polled(
        "OperatorMayNotActAsDelegate",
        format!(
            "the operator may not act as {username}. Administrators of the namespaces apply (the rule in {} likewise for every kind that the \
             solutions hold):\n{}",
            target.namespace,
            grants::operator_as_delegate(&grants::subject_of(&username), &rights),
        ),
    )
}

fn delegate_may_approve(view: &View, answers: &[Answer]) -> Check {
    let Some((_, username)) = lacking(answers, Need::DelegateApproves).zip(delegate(view)) else { return Ok(()) };
    polled(
        "DelegateLacksHostRole",
        format!(
            "{username} may not decide requests of namespace {}; an administrator of that namespace applies:\n{}",
            view.host,
            grants::delegate_in_host(&view.host, &grants::subject_of(&username)),
        ),
    )
}

fn delegate_may_deploy(view: &View, target: &Target, answers: &[Answer]) -> Check {
    let Some((rights, username)) = lacking(answers, Need::DelegateDeploys).zip(delegate(view)) else { return Ok(()) };
    polled(
        "DelegateLacksTargetAccess",
        format!(
            "{username} lacks rights in namespace {}; an administrator of that namespace applies (and likewise for every kind that the \
             solutions hold, or binds the ClusterRole edit):\n{}",
            target.namespace,
            grants::delegate_in_target(&target.namespace, &grants::subject_of(&username), &rights),
        ),
    )
}

/// The delegate's user name.
fn delegate(view: &View) -> Option<String> {
    match &view.delegate {
        DelegateView::Requester => None,
        DelegateView::ServicePrincipal { name, .. } => Some(service_account_username(&view.host, name)),
        DelegateView::StageOwner => view.owner.as_ref().map(|owner| owner.username.clone()),
    }
}

#[cfg(test)]
mod tests;
