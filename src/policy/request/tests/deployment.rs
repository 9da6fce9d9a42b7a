//! Which request may deploy to a target, when, and what is applied there.

use std::time::Duration;

use proptest::prelude::*;

use super::{ends, waits};
use crate::api::reason::Reason;
use crate::api::request_status::ApprovalDecision;
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::policy::request::decide;
use crate::policy::request::observed::{ApplyOutcome, ClaimOutcome, ClaimView, HealthOutcome, Lookup, RightsOutcome, Rival};
use crate::policy::request::scenario::{DIGEST, HASH, after, head, second};
use crate::policy::request::step::{End, Progress, Step};

#[test]
fn a_target_that_another_request_deploys_to_is_waited_for_by_name() {
    let approved = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    let claimed = approved.clone().with_target(|t| t.claim = Some(ClaimView { request: "other".into(), request_uid: "r9".into() }));
    let (at, reason, message) = waits(decide(&claimed, after(9)));
    assert_eq!((at, reason.as_str()), (Progress::Queue, "Queued"));
    assert!(message.contains("other"));
    let mut lost = approved;
    lost.outcomes.claim = Some(ClaimOutcome::Lost { to: "faster".into() });
    assert!(waits(decide(&lost, after(9))).2.contains("faster"));
}

#[test]
fn the_turn_is_by_when_the_last_gate_opened_the_way() {
    let mut o = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    o.rivals = vec![
        Rival { name: "first".into(), uid: "r5".into(), queued_since: Some(after(3)) },
        Rival { name: "orders-qa".into(), uid: "r1".into(), queued_since: Some(after(4)) },
    ];
    assert!(waits(decide(&o, after(9))).2.contains("first"));
    o.rivals[0].queued_since = None;
    assert_eq!(decide(&o, after(9)), Step::Claim, "who still waits for an approval holds up nobody");
}

#[test]
fn a_scheduled_time_a_soak_time_and_a_window_hold_what_is_approved() {
    let approved = || second().asked().decided(ApprovalDecision::Approved).planned(HASH);
    let mut scheduled = approved();
    scheduled.request.scheduled_time = Ok(Some(after(500)));
    assert_eq!(waits(decide(&scheduled, after(9))).1, Reason::Scheduled);
    assert_eq!(decide(&scheduled, after(500)), Step::Claim);
    let soaking = approved().with_stage(|s| s.soak = Duration::from_secs(100));
    assert_eq!(waits(decide(&soaking, after(9))).1, Reason::Soaking);
    assert_eq!(decide(&soaking, after(40)), Step::Claim);
    let frozen = approved().with_stage(|s| {
        s.windows = vec![crate::api::stage::Window {
            type_: crate::api::stage::WindowType::Deny,
            schedule: "* * * * *".into(),
            duration: "1h".into(),
            time_zone: None,
        }];
    });
    assert_eq!(waits(decide(&frozen, after(9))).1, Reason::OutsideWindow);
}

#[test]
fn a_started_request_applies_checks_and_succeeds_and_cancel_no_longer_matters() {
    let mut o = head()
        .asked()
        .decided(ApprovalDecision::Approved)
        .with_target(|t| t.claim = Some(ClaimView { request: "orders-qa".into(), request_uid: "r1".into() }));
    o.request.start_time = Some(after(10));
    o.request.cancel = true;
    assert_eq!(decide(&o, after(11)), Step::Apply);
    o.outcomes.apply = Some(ApplyOutcome::Applied);
    assert_eq!(decide(&o, after(11)), Step::Check);
    o.outcomes.health = Some(HealthOutcome::Pending("Deployment web".into()));
    assert!(matches!(decide(&o, after(11)), Step::Wait(_)));
    assert_eq!(ends(decide(&o, after(10 + 600))).1, Reason::DeploymentTimedOut);
    o.outcomes.health = Some(HealthOutcome::Healthy);
    assert_eq!(decide(&o, after(11)), Step::Prune, "only what is healthy takes the place of what was there");
    o.outcomes.prune = Some(ApplyOutcome::Unavailable("down".into()));
    assert!(matches!(decide(&o, after(11)), Step::Wait(wait) if wait.message.contains("healthy; not all that it replaces")));
    assert_eq!(ends(decide(&o, after(10 + 600))).1, Reason::TargetUnavailable);
    o.outcomes.prune = Some(ApplyOutcome::Blocked(Blocked { until: Until::End, reason: Reason::ApplyFailed, message: "refused".into() }));
    assert_eq!(ends(decide(&o, after(11))).1, Reason::ApplyFailed);
    o.outcomes.prune = Some(ApplyOutcome::Applied);
    assert_eq!(ends(decide(&o, after(11))).0, End::Succeeded);
}

#[test]
fn an_artifact_that_is_not_the_planned_one_is_not_deployed() {
    let mut o = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.digest = "sha256:else".into();
    }
    assert_eq!(ends(decide(&o, after(9))).1, Reason::ArtifactChanged);
}

#[test]
fn a_deployment_whose_artifact_was_made_anew_proves_nothing() {
    let mut o = head()
        .asked()
        .decided(ApprovalDecision::Approved)
        .with_target(|t| t.claim = Some(ClaimView { request: "orders-qa".into(), request_uid: "r1".into() }));
    o.request.start_time = Some(after(3));
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.digest = "sha256:else".into();
    }
    o.outcomes.apply = Some(ApplyOutcome::Applied);
    o.outcomes.health = Some(HealthOutcome::Healthy);
    assert_eq!(decide(&o, after(9)), Step::Confirm);
    o.confirmed = true;
    let (end, reason, message) = ends(decide(&o, after(9)));
    assert_eq!((end, reason.as_str()), (End::Failed, "ArtifactChanged"));
    assert!(
        message.contains("Artifact orders-1.4.0 in host host was deleted and made again") && message.contains("sha256:else"),
        "{message}"
    );
}

proptest! {
    /// Whatever is observed, a target is claimed only with every required gate decided for exactly that plan, the artifact proven
    /// in the previous stage, and nobody else's claim in the way.
    #[test]
    fn nothing_is_claimed_that_may_not_be(
        later in any::<bool>(), proven in any::<bool>(), asked in any::<bool>(), decision in 0..3u8, bound in any::<bool>(),
        same_plan in any::<bool>(), suspended in any::<bool>(), claim in 0..3u8, cancel in any::<bool>(), pre_deployment in any::<bool>(),
        rights in 0..3u8, made_again in 0..3u8, age in 0..100_000i64,
    ) {
        let mut o = if later { second() } else { head() };
        if asked { o = o.asked(); }
        match decision {
            1 => o = o.decided(ApprovalDecision::Approved),
            2 => o = o.decided(ApprovalDecision::Rejected),
            _ => {}
        }
        if let Some(approval) = o.request.approval.as_mut() && !bound {
            approval.plan_hash = Some("sha256:another".into());
        }
        if !proven && let Lookup::Present(artifact) = &mut o.artifact {
            artifact.deployments.clear();
        }
        // The stage before and its Environment were deleted and applied again, for the same namespace or for another.
        o = o.with_stage(|s| if let Some(place) = s.previous.as_mut().and_then(|p| p.place.as_mut()).filter(|_| made_again > 0) {
            (place.stage_uid, place.environment_uid) = ("made again".into(), "made again".into());
            if made_again == 2 { place.environment_id = "another namespace".into(); }
        });
        o = o.exported().planned(if same_plan { HASH } else { "sha256:changed" });
        o = o.with_pipeline(|p| p.suspended = suspended).with_stage(|s| s.pre_deployment_step = pre_deployment);
        o = o.with_target(|t| t.claim = match claim {
            1 => Some(ClaimView { request: "orders-qa".into(), request_uid: "r1".into() }),
            2 => Some(ClaimView { request: "other".into(), request_uid: "r9".into() }),
            _ => None,
        });
        o.request.cancel = cancel;
        o.confirmed = true;
        o.outcomes.rights = match rights {
            1 => Some(RightsOutcome::Held),
            2 => Some(RightsOutcome::Blocked(Blocked { until: Until::Wait(Wait::Somebody), reason: Reason::RequesterMayNotDeploy, message: "share it".into() })),
            _ => None,
        };
        if decide(&o, after(age)) == Step::Claim {
            prop_assert!(rights == 1 && asked && decision == 1 && bound && same_plan && !suspended && claim != 2 && !cancel && !pre_deployment);
            prop_assert!(!later || (proven && made_again < 2));
            prop_assert_eq!(o.artifact.present().map(|a| a.digest.as_str()), Some(DIGEST));
        }
    }
}
