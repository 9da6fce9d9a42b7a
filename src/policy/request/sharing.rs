//! Checks what a request asks to share against what its stage allows.

use std::collections::BTreeMap;
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use jiff::Timestamp;

use super::observed::{Observed, ShareOutcome, StageView};
use super::step::{Progress, Step, Waiting};
use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::api::request::ShareGrant;
use crate::api::stage::SharingPolicy;
use crate::cluster::errors;
use crate::cluster::object::Key;
use crate::deploy::plan::rbac_changes::Shared;
use crate::identity::grants::described;

/// How often a target that can't be reached is tried again.
const POLL: Duration = Duration::from_secs(2);

/// What is refused, and what would be allowed; nothing where all is allowed.
pub(crate) fn forbidden(stage: &str, view: &StageView, wanted: &[ShareGrant]) -> Option<String> {
    let allowed = view.sharing.clone().unwrap_or_default();
    let refused: Vec<String> = wanted
        .iter()
        .filter(|grant| !allowed.cluster_roles.contains(&grant.cluster_role) || !allowed.subject_kinds.contains(&grant.kind))
        .map(|grant| format!("ClusterRole {} with {}", grant.cluster_role, described(grant.kind, &grant.name, grant.namespace.as_deref())))
        .collect();
    if refused.is_empty() {
        return None;
    }
    Some(format!(
        "stage {stage} does not let requesters share {}: {}. Make a new request with what it allows",
        refused.join(", nor "),
        said(&allowed)
    ))
}

fn said(allowed: &SharingPolicy) -> String {
    if allowed.cluster_roles.is_empty() || allowed.subject_kinds.is_empty() {
        return "it allows none (spec.sharing of the stage)".to_owned();
    }
    let kinds: Vec<String> = allowed.subject_kinds.iter().map(|kind| format!("{kind:?}")).collect();
    format!("it allows ClusterRoles {} with subjects of kind {}", allowed.cluster_roles.join(", "), kinds.join(", "))
}

/// What a solution's own bindings share that its stage does not let anybody share: what can't be asked for can't be brought either. Nobody
/// allows a Role by its name, as the solution says what is in it.
pub(crate) fn forbidden_by_binding(stage: &str, allowed: Option<&SharingPolicy>, shared: &[Shared]) -> Vec<PlanResult> {
    let allowed = allowed.cloned().unwrap_or_default();
    let is_allowed = |one: &Shared| {
        one.role_kind == "ClusterRole"
            && allowed.cluster_roles.contains(&one.role)
            && allowed.subject_kinds.iter().any(|kind| format!("{kind:?}") == one.kind)
    };
    let mut refused: BTreeMap<Key, Vec<String>> = BTreeMap::new();
    for one in shared.iter().filter(|one| !is_allowed(one)) {
        let place = one.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        let whom = format!("{} {} with {} {place}{}", one.role_kind, one.role, one.kind, one.name);
        refused.entry(one.binding.clone()).or_default().push(whom);
    }
    let told = |(binding, whom): (Key, Vec<String>)| {
        let message = format!(
            "{binding} shares {}, which stage {stage} does not let solutions do: {}. Leave these subjects out of it and raise the version, have the stage's owner allow it, or have the target's owner make the binding",
            errors::first_few(whom.into_iter()),
            said(&allowed)
        );
        errors::result(&binding, Reason::SharingNotAllowed, &message)
    };
    refused.into_iter().map(told).collect()
}

/// Shares what was asked for before the request ends well; what can't be shared by the deployment's time-out is given up and listed.
pub(crate) fn share(o: &Observed, deadline: Timestamp, now: Timestamp) -> ControlFlow<Step> {
    if o.request.share_with.is_empty() {
        return Continue(());
    }
    match &o.outcomes.share {
        None => Break(Step::Share),
        Some(ShareOutcome::Unreachable(why)) if now < deadline => Break(Waiting::polled(
            Progress::Deployment,
            Reason::Sharing,
            format!("deployed and healthy; waits until {deadline} to share it: {why}"),
            Some(deadline),
            POLL,
        )),
        Some(ShareOutcome::Unreachable(_) | ShareOutcome::Done { .. }) => Continue(()),
    }
}

/// What is said of the shares of a request that ended well: whether all was shared, the reason in one word, and what was not.
pub(crate) fn told(o: &Observed) -> Option<(bool, Reason, String)> {
    if o.request.share_with.is_empty() {
        return None;
    }
    Some(match &o.outcomes.share {
        Some(ShareOutcome::Done { made, refused }) if refused.is_empty() => (true, Reason::Shared, format!("shared: {}", made.join(", "))),
        Some(ShareOutcome::Done { made, refused }) => {
            let made = if made.is_empty() { String::new() } else { format!("shared: {}; ", made.join(", ")) };
            (false, Reason::SharingRefused, format!("{made}not shared: {refused}"))
        }
        Some(ShareOutcome::Unreachable(why)) => {
            (false, Reason::SharingRefused, format!("not shared, as the target could not be asked in time: {why}"))
        }
        None => {
            (false, Reason::NotKnown, "the operator was interrupted after it had shared; look at the RoleBindings of the target".to_owned())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{HASH, after, head};
    use super::super::{decide, report, step::End};
    use super::*;
    use crate::api::reference::SubjectKind;
    use crate::api::request_status::ApprovalDecision;
    use crate::policy::request::observed::{ApplyOutcome, ClaimView, HealthOutcome};

    fn grant(kind: SubjectKind, role: &str) -> ShareGrant {
        ShareGrant { kind, name: "qa-team".into(), namespace: None, cluster_role: role.into() }
    }

    fn view_with_groups() -> SharingPolicy {
        SharingPolicy { cluster_roles: vec!["view".into()], subject_kinds: vec![SubjectKind::Group] }
    }

    /// A request that is deployed and healthy.
    fn healthy() -> Observed {
        let mut o = head().asked().decided(ApprovalDecision::Approved).planned(HASH).with_stage(|s| s.sharing = Some(view_with_groups()));
        o = o.with_target(|t| t.claim = Some(ClaimView { request: "orders-qa".into(), request_uid: "r1".into() }));
        o.request.start_time = Some(after(10));
        o.request.share_with = vec![grant(SubjectKind::Group, "view")];
        o.outcomes.apply = Some(ApplyOutcome::Applied);
        o.outcomes.health = Some(HealthOutcome::Healthy);
        o.outcomes.prune = Some(ApplyOutcome::Applied);
        o
    }

    #[test]
    fn what_the_stage_does_not_allow_is_refused_with_what_it_allows() {
        let refused = |sharing: Option<SharingPolicy>, wanted: ShareGrant| {
            let mut o = head().with_stage(|s| s.sharing = sharing);
            o.request.share_with = vec![wanted];
            o.confirmed = true;
            match decide(&o, after(5)) {
                Step::Finish(ending) => {
                    assert_eq!((ending.end, ending.reason.as_str()), (End::Failed, "SharingNotAllowed"));
                    ending.message
                }
                other => format!("{other:?}"),
            }
        };
        let message = refused(Some(view_with_groups()), grant(SubjectKind::Group, "edit"));
        assert!(
            message.contains("ClusterRole edit with Group qa-team")
                && message.contains("allows ClusterRoles view with subjects of kind Group"),
            "{message}"
        );
        let message = refused(Some(view_with_groups()), grant(SubjectKind::User, "view"));
        assert!(message.contains("ClusterRole view with User qa-team"), "{message}");
        assert!(refused(None, grant(SubjectKind::Group, "view")).contains("it allows none"));
        assert_eq!(refused(Some(view_with_groups()), grant(SubjectKind::Group, "view")), "Export");
    }

    #[test]
    fn a_binding_that_comes_with_a_solution_shares_what_the_stage_lets_share_and_no_more() {
        let shared = |role_kind: &str, role: &str, kind: &str| Shared {
            binding: Key { group: "rbac.authorization.k8s.io".into(), kind: "RoleBinding".into(), name: "b".into() },
            role_kind: role_kind.into(),
            role: role.into(),
            kind: kind.into(),
            name: "x".into(),
            namespace: (kind == "ServiceAccount").then(|| "elsewhere".to_owned()),
        };
        let policy = view_with_groups();
        let refused = |policy: Option<&SharingPolicy>, one: Shared| forbidden_by_binding("qa", policy, &[one]).pop().map(|r| r.message);
        assert_eq!(refused(Some(&policy), shared("ClusterRole", "view", "Group")), None);
        for one in [shared("ClusterRole", "view", "User"), shared("ClusterRole", "edit", "Group"), shared("Role", "view", "Group")] {
            assert!(refused(Some(&policy), one.clone()).is_some(), "{one:?}");
        }
        let message = refused(None, shared("ClusterRole", "view", "ServiceAccount")).unwrap();
        assert!(message.starts_with("RoleBinding b shares ClusterRole view with ServiceAccount elsewhere/x, which stage qa"), "{message}");
        assert!(message.contains("it allows none"), "{message}");
    }

    #[test]
    fn sharing_comes_after_health_and_never_fails_the_deployment() {
        let o = healthy();
        assert_eq!(decide(&o, after(20)), Step::Share);
        let ends = |fact: ShareOutcome, at: i64| {
            let mut o = o.clone();
            o.outcomes.share = Some(fact);
            (decide(&o, after(at)), o)
        };
        let done = |refused: &str| ShareOutcome::Done { made: vec!["ClusterRole view with Group a".into()], refused: refused.into() };
        for (fact, shared) in
            [(done(""), true), (done("ClusterRole view with Group qa-team: no"), false), (ShareOutcome::Unreachable("busy".into()), false)]
        {
            let (step, o) = ends(fact, 10 + 600);
            let Step::Finish(ending) = step else { panic!("{step:?}") };
            assert_eq!((ending.end, ending.reason.as_str()), (End::Succeeded, "Succeeded"));
            let report = report::ended(&o, &ending);
            let condition = report.conditions.iter().find(|c| c.type_ == "Shared").unwrap();
            assert_eq!(condition.status, shared.into(), "{}", condition.message);
            assert_eq!(ending.message.contains("not shared"), !shared, "{}", ending.message);
        }
        let (step, _) = ends(ShareOutcome::Unreachable("busy".into()), 20);
        assert!(matches!(&step, Step::Wait(wait) if wait.poll.is_some() && wait.message.contains("busy")), "{step:?}");
    }

    #[test]
    fn a_crash_between_the_record_and_the_end_shares_again_while_the_claim_is_held() {
        let mut o = healthy();
        if let super::super::observed::Lookup::Present(artifact) = &mut o.artifact {
            artifact.deployments.push(super::super::scenario::deployed("r1", after(15)));
        }
        assert_eq!(decide(&o, after(20)), Step::Share);
        let unclaimed = o.with_target(|t| t.claim = None);
        assert!(matches!(decide(&unclaimed, after(20)), Step::Finish(ending) if ending.end == End::Succeeded));
    }
}
