//! Whether a stage can deploy: its pipeline and target, and what its delegate, its owner and the operator may do.

use super::check::{Check, Failure, Remedy, edit, polled, watched};
use crate::api::GROUP;
use crate::api::environment::EnvironmentType;
use crate::api::reason::Reason;
use crate::api::reference::Identity;
use crate::api::stage::PinnedTarget;
use crate::identity::access::{self, Right};
use crate::identity::delegate::Delegate;
use crate::identity::delegation::Delegation;
use crate::identity::grants;
use crate::policy::windows::WindowError;

/// A stage and what it refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// Whether Pilotage's admission policies are in force.
    pub(crate) policies_in_force: bool,
    /// Why nothing can be deployed in this cluster as the operator is installed; `None` if it can.
    pub(crate) unfit: Option<String>,
    /// How the operator acts as delegates.
    pub(crate) delegation: Delegation,
    /// The host namespace.
    pub(crate) host: String,
    /// `metadata.generation`.
    pub(crate) generation: i64,
    /// `spec.pipeline`.
    pub(crate) pipeline: String,
    /// Whether that pipeline exists.
    pub(crate) pipeline_exists: bool,
    /// `spec.targetEnvironment`.
    pub(crate) target_environment: String,
    /// That Environment.
    pub(crate) target: Option<Target>,
    /// `status.pinned`.
    pub(crate) pinned: Option<PinnedTarget>,
    /// `spec.owner`.
    pub(crate) owner: Option<Identity>,
    /// Why one of `spec.windows` can't be used; `None` if all can.
    pub(crate) window: Option<WindowError>,
    /// Who deploys.
    pub(crate) delegate: DelegateView,
    /// Whether the delegate may decide the approval.
    pub(crate) delegate_approves: bool,
    /// Why the target's cluster gives no token of the delegate; `None` if it does, or if it is the host's own.
    pub(crate) not_lent: Option<Failure>,
}

/// The Environment that a stage deploys to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) uid: String,
    /// Its role.
    pub(crate) type_: EnvironmentType,
    pub(crate) namespace: String,
    /// The cluster that it is in; `None` for the host's own.
    pub(crate) cluster: Option<TargetCluster>,
    /// The uid of the namespace that was validated.
    pub(crate) environment_id: Option<String>,
    /// Whether it is validated; otherwise why not, in one word.
    pub(crate) validated: Result<(), String>,
}

/// A cluster other than the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetCluster {
    /// What it is called in the host.
    pub(crate) name: String,
    /// The namespace in that cluster with the delegates' `ServiceAccounts`.
    pub(crate) delegate_namespace: String,
}

impl Target {
    /// The namespace, and its cluster if that is not the host's.
    fn place(&self) -> String {
        self.cluster.as_ref().map_or_else(|| self.namespace.clone(), |c| format!("{} of cluster {}", self.namespace, c.name))
    }
}

/// Who deploys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DelegateView {
    /// The requester. Their rights are checked for each request.
    Requester,
    /// A `ServiceAccount` of the host.
    ServicePrincipal {
        /// Its name.
        name: String,
        /// What is known of it.
        account: Account,
    },
    StageOwner,
}

/// What is known of a `ServiceAccount`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
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
pub(crate) enum Need {
    /// The owner could act as the `ServiceAccount` themselves. One such right is enough.
    OwnerActsAsDelegate,
    OperatorActsAsDelegate,
    /// The delegate decides its gate.
    DelegateApproves,
    DelegateDeploys,
    /// The delegate deploys to another cluster, with its own token.
    DelegateDeploysThere,
}

/// A right to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Review {
    pub(crate) need: Need,
    /// Whose right; `None` for the operator's own.
    pub(crate) who: Option<Identity>,
    pub(crate) right: Right,
}

/// A right and whether it is held.
pub(crate) type Answer = (Review, bool);

/// The checks that need only the caches. Rights are checked only after they pass.
///
/// # Errors
/// The first check that failed.
pub(crate) fn structure(view: &View) -> Check {
    policies_in_force(view)?;
    windows_are_possible(view)?;
    pipeline_exists(view)?;
    let target = target_exists(view)?;
    target_is_a_target(view, target)?;
    target_is_validated(view, target)?;
    target_is_the_confirmed_one(view, target)
}

/// The target that the owner confirmed: the recorded one, or the current one if this generation of the stage has confirmed none yet.
pub(crate) fn pin(view: &View) -> Option<PinnedTarget> {
    let confirmed = view.pinned.as_ref().is_some_and(|p| p.generation == view.generation);
    match &view.target {
        Some(Target { validated: Ok(()), environment_id: Some(id), uid, type_: EnvironmentType::Target, cluster, .. }) if !confirmed => {
            Some(PinnedTarget {
                generation: view.generation,
                environment_uid: uid.clone(),
                environment_id: id.clone(),
                cluster: cluster.as_ref().map(|cluster| cluster.name.clone()),
            })
        }
        _ => view.pinned.clone(),
    }
}

/// The rights that a stage's delegation depends on. All are asked for at once. Empty if there is no delegate.
pub(crate) fn reviews(view: &View) -> Vec<Review> {
    let (Some(target), Some(delegate), host) = (&view.target, delegate(view), view.host.as_str()) else { return Vec::new() };
    let mut reviews = Vec::new();
    if let (DelegateView::ServicePrincipal { name, .. }, Some(owner)) = (&view.delegate, &view.owner) {
        let owner = access::as_authenticated(owner);
        reviews.extend(to_answer_for(host, name).map(|right| Review { need: Need::OwnerActsAsDelegate, who: Some(owner.clone()), right }));
    }
    let in_target = grants::rights_in_every_target(&target.namespace);
    let identity = delegate.identity();
    let approve = Right::on("patch", GROUP, "deploymentrequests", host).of_subresource("status");
    if view.delegate_approves {
        reviews.push(Review { need: Need::DelegateApproves, who: Some(identity.clone()), right: approve });
    }
    if target.cluster.is_some() {
        // In another cluster nobody is impersonated: the delegate asks for itself, with its own token.
        reviews.extend(in_target.into_iter().map(|right| Review { need: Need::DelegateDeploysThere, who: None, right }));
        return reviews;
    }
    let mut operators: Vec<Right> = delegate.to_become(view.delegation);
    for right in in_target.iter().map(|right| delegate.to_use(right)) {
        if !operators.contains(&right) {
            operators.push(right);
        }
    }
    reviews.extend(operators.into_iter().map(|right| Review { need: Need::OperatorActsAsDelegate, who: None, right }));
    reviews.extend(in_target.into_iter().map(|right| Review { need: Need::DelegateDeploys, who: Some(identity.clone()), right }));
    reviews
}

/// The rights each of which lets somebody act as a `ServiceAccount`, or own stages that delegate to it.
pub(crate) fn to_answer_for(host: &str, account: &str) -> [Right; 3] {
    let on = |verb: &str| Right::on(verb, "", "serviceaccounts", host).named(account);
    [on("impersonate"), on("create").of_subresource("token"), on("delegate")]
}

/// The checks of the delegate and of rights. All missing rights are reported at once, with the grants. The reason is that of the first one.
///
/// # Errors
/// What is missing.
pub(crate) fn delegation(view: &View, answers: &[Answer]) -> Check {
    delegate_exists(view)?;
    let Some(target) = &view.target else { return Ok(()) };
    can_be_lent(view, target)?;
    can_be_acted_as(view, target)?;
    let checks = [
        owner_may_act_as_delegate(view, answers),
        operator_may_act_as_delegate(view, target, answers),
        delegate_may_approve(view, answers),
        view.not_lent.clone().map_or(Ok(()), Err),
        delegate_may_deploy(view, target, answers),
        delegate_may_deploy_there(target, &view.delegate, answers),
    ];
    let failures: Vec<Failure> = checks.into_iter().filter_map(Check::err).collect();
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(Failure { message: grants::together(failures.iter().map(|failure| failure.message.clone())), ..first.clone() }),
    }
}

/// In another cluster only a `ServiceAccount` can be the delegate, with its token.
fn can_be_lent(view: &View, target: &Target) -> Check {
    let Some(cluster) = &target.cluster else { return Ok(()) };
    let whose = match &view.delegate {
        DelegateView::ServicePrincipal { .. } => return Ok(()),
        DelegateView::Requester => "each requester",
        DelegateView::StageOwner => "its owner",
    };
    edit(
        Reason::RemoteNeedsServicePrincipal,
        format!(
            "the stage deploys as {whose}, and its target is in cluster {}, where the operator can act as a ServiceAccount alone: set \
             spec.delegatedDeployment to type ServicePrincipal, with a serviceAccountName that exists in this host and in namespace {} of \
             that cluster",
            cluster.name, cluster.delegate_namespace
        ),
    )
}

/// Without constrained impersonation only a `ServiceAccount` can be acted as, with its token.
fn can_be_acted_as(view: &View, target: &Target) -> Check {
    if view.delegation == Delegation::Impersonation || target.cluster.is_some() {
        return Ok(());
    }
    let whose = match (&view.delegate, delegate(view)) {
        (_, Some(Delegate::ServicePrincipal { .. })) => return Ok(()),
        (DelegateView::Requester, _) => "each requester",
        _ => "its owner",
    };
    edit(
        Reason::NeedsServicePrincipal,
        format!(
            "the stage deploys as {whose}, and this cluster has no constrained impersonation, by which alone the operator acts as people: set \
             spec.delegatedDeployment to type ServicePrincipal, with a serviceAccountName of this host"
        ),
    )
}

/// What the delegate lacks in another cluster.
fn delegate_may_deploy_there(target: &Target, delegate: &DelegateView, answers: &[Answer]) -> Check {
    let (Some(cluster), DelegateView::ServicePrincipal { name, .. }) = (&target.cluster, delegate) else { return Ok(()) };
    if !lacks(answers, Need::DelegateDeploysThere) {
        return Ok(());
    }
    let delegate = grants::service_account(&cluster.delegate_namespace, name);
    polled(
        Reason::DelegateLacksTargetAccess,
        format!(
            "ServiceAccount {name} of namespace {} lacks rights in namespace {}; an administrator of that namespace applies in cluster {} (and \
             likewise for every kind that the solutions hold, or binds the ClusterRole edit):\n{}",
            cluster.delegate_namespace,
            target.place(),
            cluster.name,
            grants::delegate_in_target(&target.namespace, &delegate),
        ),
    )
}

fn policies_in_force(view: &View) -> Check {
    if let Some(why) = &view.unfit {
        return watched(Reason::PoliciesMissing, why.clone());
    }
    if view.policies_in_force {
        return Ok(());
    }
    watched(
        Reason::PoliciesMissing,
        format!(
            "the admission policies that keep approvals honest are not in force, so that nothing is deployed: a cluster administrator runs {}",
            view.delegation.restores()
        ),
    )
}

fn windows_are_possible(view: &View) -> Check {
    match &view.window {
        None => Ok(()),
        Some(error) => edit(Reason::WindowInvalid, format!("{error}; correct spec.windows, as nothing could be deployed by it")),
    }
}

fn pipeline_exists(view: &View) -> Check {
    if view.pipeline_exists {
        return Ok(());
    }
    watched(
        Reason::UnknownPipeline,
        format!("Pipeline {} does not exist in namespace {}: create it, or correct spec.pipeline", view.pipeline, view.host),
    )
}

fn target_exists(view: &View) -> Result<&Target, Failure> {
    view.target.as_ref().ok_or_else(|| Failure {
        reason: Reason::UnknownEnvironment,
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
        Reason::WrongEnvironmentType,
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
            Reason::EnvironmentNotValidated,
            format!("Environment {} is not validated ({why}): its condition Validated says what to do", view.target_environment),
        ),
    }
}

fn target_is_the_confirmed_one(view: &View, target: &Target) -> Check {
    let Some(pinned) = view.pinned.as_ref().filter(|p| p.generation == view.generation) else { return Ok(()) };
    // An Environment that was deleted and applied again is the same target if it names the same namespace of the same cluster. A uid is
    // unique only in its cluster: another cluster could report the same one.
    let same_cluster = pinned.environment_uid == target.uid || pinned.cluster.as_ref() == target.cluster.as_ref().map(|c| &c.name);
    if same_cluster && target.environment_id.as_ref() == Some(&pinned.environment_id) {
        return Ok(());
    }
    edit(
        Reason::TargetChanged,
        format!(
            "Environment {} leads to another namespace than when the owner wrote this stage: it, or namespace {}, was deleted and created \
             again. If it is still meant, the owner confirms it by changing the stage's spec, for example its description (an annotation is \
             not enough)",
            view.target_environment,
            target.place()
        ),
    )
}

fn delegate_exists(view: &View) -> Check {
    match &view.delegate {
        DelegateView::Requester => Ok(()),
        DelegateView::StageOwner if view.owner.is_some() => Ok(()),
        DelegateView::StageOwner => edit(
            Reason::OwnerMissing,
            "the stage deploys as its owner and has none: write the stage again with the admission policies in force, which fill spec.owner \
             with whoever writes it",
        ),
        DelegateView::ServicePrincipal { name, account } => match account {
            Account::Present => Ok(()),
            Account::Unknown | Account::Absent => polled(
                Reason::ServicePrincipalNotFound,
                format!(
                    "ServiceAccount {name} does not exist in namespace {}: create it, or correct spec.delegatedDeployment.serviceAccountName",
                    view.host
                ),
            ),
            Account::Unreadable => polled(
                Reason::OperatorLacksHostRole,
                format!(
                    "the operator may not read ServiceAccount {name} in namespace {}; an administrator applies:\n{}",
                    view.host,
                    grants::operator_in_host(&view.host)
                ),
            ),
        },
    }
}

/// Whether one of the rights that are needed for something is missing.
fn lacks(answers: &[Answer], need: Need) -> bool {
    answers.iter().any(|(review, held)| review.need == need && !held)
}

fn owner_may_act_as_delegate(view: &View, answers: &[Answer]) -> Check {
    let DelegateView::ServicePrincipal { name, .. } = &view.delegate else { return Ok(()) };
    let host = &view.host;
    let Some(owner) = &view.owner else {
        return edit(
            Reason::NotOwnerOfServicePrincipal,
            format!(
                "the stage has no owner who could answer for ServiceAccount {name}: write the stage again with the admission policies in \
                 force, which fill spec.owner with whoever writes it"
            ),
        );
    };
    if answers.iter().any(|(review, held)| review.need == Need::OwnerActsAsDelegate && *held) {
        return Ok(());
    }
    not_owner(host, name, owner)
}

/// The result for an owner who may not act as the stage's `ServiceAccount`.
///
/// # Errors
/// Always.
pub(crate) fn not_owner(host: &str, account: &str, owner: &Identity) -> Check {
    polled(
        Reason::NotOwnerOfServicePrincipal,
        format!(
            "the owner of the stage, {}, may not act as ServiceAccount {account} of namespace {host}: let somebody own the stage who may, or \
             an administrator of {host} applies:\n{}",
            owner.username,
            grants::owner_of(host, account, &grants::subject_of(&owner.username)),
        ),
    )
}

fn operator_may_act_as_delegate(view: &View, target: &Target, answers: &[Answer]) -> Check {
    let Some(delegate) = delegate(view).filter(|_| lacks(answers, Need::OperatorActsAsDelegate)) else { return Ok(()) };
    polled(
        Reason::OperatorMayNotActAsDelegate,
        format!(
            "the operator may not act as {}. Administrators of the namespaces apply (the rule in {} likewise for every kind that the \
             solutions hold: kubectl pilotage grant operator prints them all):\n{}",
            delegate.username(),
            target.namespace,
            grants::operator_as_delegate_where(&target.namespace, &delegate, view.delegation, |right| {
                answers.iter().any(|(review, held)| review.need == Need::OperatorActsAsDelegate && review.right == *right && !held)
            }),
        ),
    )
}

fn delegate_may_approve(view: &View, answers: &[Answer]) -> Check {
    let Some(delegate) = delegate(view).filter(|_| lacks(answers, Need::DelegateApproves)) else { return Ok(()) };
    polled(
        Reason::DelegateLacksHostRole,
        format!(
            "{} may not decide requests of namespace {}; an administrator of that namespace applies:\n{}",
            delegate.username(),
            view.host,
            grants::delegate_in_host(&view.host, &delegate.subject()),
        ),
    )
}

fn delegate_may_deploy(view: &View, target: &Target, answers: &[Answer]) -> Check {
    let Some(delegate) = delegate(view).filter(|_| lacks(answers, Need::DelegateDeploys)) else { return Ok(()) };
    polled(
        Reason::DelegateLacksTargetAccess,
        format!(
            "{} lacks rights in namespace {}; an administrator of that namespace applies (and likewise for every kind that the \
             solutions hold, kubectl pilotage grant delegate prints them all; or binds the ClusterRole edit):\n{}",
            delegate.username(),
            target.namespace,
            grants::delegate_in_target(&target.namespace, &delegate.subject()),
        ),
    )
}

/// Who deploys; `None` for the requester, and if the owner is missing.
pub(crate) fn delegate(view: &View) -> Option<Delegate> {
    match &view.delegate {
        DelegateView::Requester => None,
        DelegateView::ServicePrincipal { name, .. } => {
            Some(Delegate::ServicePrincipal { namespace: view.host.clone(), name: name.clone() })
        }
        DelegateView::StageOwner => view.owner.as_ref().map(Delegate::of),
    }
}

#[cfg(test)]
mod tests;
