//! What a request asks to be shared, against what its stage lets requesters share.

use std::time::Duration;

use jiff::Timestamp;

use super::observed::{Observed, ShareFact, StageView};
use super::step::{Progress, Step, Waiting};
use crate::api::request::ShareGrant;
use crate::identity::grants::described;

/// How often a target that can't be reached is tried again.
const POLL: Duration = Duration::from_secs(2);

/// What is refused, and what would be allowed; nothing where all is allowed.
pub fn forbidden(stage: &str, view: &StageView, wanted: &[ShareGrant]) -> Option<String> {
    let allowed = view.sharing.clone().unwrap_or_default();
    let refused: Vec<String> = wanted
        .iter()
        .filter(|grant| !allowed.cluster_roles.contains(&grant.cluster_role) || !allowed.subject_kinds.contains(&grant.kind))
        .map(|grant| format!("ClusterRole {} with {}", grant.cluster_role, described(grant.kind, &grant.name, grant.namespace.as_deref())))
        .collect();
    if refused.is_empty() {
        return None;
    }
    let allows = if allowed.cluster_roles.is_empty() || allowed.subject_kinds.is_empty() {
        "it allows none (spec.sharing of the stage)".to_owned()
    } else {
        let kinds: Vec<String> = allowed.subject_kinds.iter().map(|kind| format!("{kind:?}")).collect();
        format!("it allows ClusterRoles {} with subjects of kind {}", allowed.cluster_roles.join(", "), kinds.join(", "))
    };
    Some(format!(
        "stage {stage} does not let requesters share {}: {allows}. Make a new request with what it allows",
        refused.join(", nor ")
    ))
}

/// Shares what was asked for before the request ends well; what can't be shared by the deployment's time-out is given up and listed.
///
/// # Errors
/// What is to be done first.
pub fn share(o: &Observed, deadline: Timestamp, now: Timestamp) -> Result<(), Step> {
    if o.request.share_with.is_empty() {
        return Ok(());
    }
    match &o.facts.share {
        None => Err(Step::Share),
        Some(ShareFact::Unreachable(why)) if now < deadline => Err(Waiting::polled(
            Progress::Deployment,
            "Sharing",
            format!("deployed and healthy; waits until {deadline} to share it: {why}"),
            Some(deadline),
            POLL,
        )),
        Some(ShareFact::Unreachable(_) | ShareFact::Done { .. }) => Ok(()),
    }
}

/// What is said of the shares of a request that ended well: whether all was shared, the reason in one word, and what was not.
pub fn told(o: &Observed) -> Option<(bool, &'static str, String)> {
    if o.request.share_with.is_empty() {
        return None;
    }
    Some(match &o.facts.share {
        Some(ShareFact::Done { made, refused }) if refused.is_empty() => (true, "Shared", format!("shared: {}", made.join(", "))),
        Some(ShareFact::Done { made, refused }) => {
            let made = if made.is_empty() { String::new() } else { format!("shared: {}; ", made.join(", ")) };
            (false, "SharingRefused", format!("{made}not shared: {refused}"))
        }
        Some(ShareFact::Unreachable(why)) => {
            (false, "SharingRefused", format!("not shared, as the target could not be asked in time: {why}"))
        }
        None => (false, "NotKnown", "the operator was interrupted after it had shared; look at the RoleBindings of the target".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{HASH, after, head};
    use super::super::{decide, report, step::End};
    use super::*;
    use crate::api::reference::SubjectKind;
    use crate::api::request_status::ApprovalDecision;
    use crate::api::stage::SharingPolicy;
    use crate::policy::request::observed::{ApplyFact, ClaimView, HealthFact};

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
        o.facts.apply = Some(ApplyFact::Applied);
        o.facts.health = Some(HealthFact::Healthy);
        o.facts.prune = Some(ApplyFact::Applied);
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
    fn sharing_comes_after_health_and_never_fails_the_deployment() {
        let o = healthy();
        assert_eq!(decide(&o, after(20)), Step::Share);
        let ends = |fact: ShareFact, at: i64| {
            let mut o = o.clone();
            o.facts.share = Some(fact);
            (decide(&o, after(at)), o)
        };
        let done = |refused: &str| ShareFact::Done { made: vec!["ClusterRole view with Group a".into()], refused: refused.into() };
        for (fact, shared) in
            [(done(""), true), (done("ClusterRole view with Group qa-team: no"), false), (ShareFact::Unreachable("busy".into()), false)]
        {
            let (step, o) = ends(fact, 10 + 600);
            let Step::Finish(ending) = step else { panic!("{step:?}") };
            assert_eq!((ending.end, ending.reason.as_str()), (End::Succeeded, "Succeeded"));
            let report = report::ended(&o, &ending);
            let condition = report.conditions.iter().find(|c| c.type_ == "Shared").unwrap();
            assert_eq!(condition.status, shared.into(), "{}", condition.message);
            assert_eq!(ending.message.contains("not shared"), !shared, "{}", ending.message);
        }
        let (step, _) = ends(ShareFact::Unreachable("busy".into()), 20);
        assert!(matches!(&step, Step::Wait(wait) if wait.poll.is_some() && wait.message.contains("busy")), "{step:?}");
    }

    #[test]
    fn a_crash_between_the_record_and_the_end_shares_again_while_the_claim_is_held() {
        let mut o = healthy();
        if let super::super::observed::Lookup::Present(artifact) = &mut o.artifact {
            artifact.deployments.push(super::super::observed::DeploymentView {
                request: "orders-qa".into(),
                request_uid: "r1".into(),
                stage_uid: "s-qa".into(),
                environment_uid: "e-qa".into(),
                ended_at: after(15),
                outcome: crate::api::artifact::Outcome::Succeeded,
                failure: None,
                restored: None,
            });
        }
        assert_eq!(decide(&o, after(20)), Step::Share);
        let unclaimed = o.with_target(|t| t.claim = None);
        assert!(matches!(decide(&unclaimed, after(20)), Step::Finish(ending) if ending.end == End::Succeeded));
    }
}
