//! What happens to a request whose delegate or requester lacks a right, or whose objects the target refuses.

use std::time::Duration;

use super::{ends, waits};
use crate::api::reason::Reason;
use crate::api::request_status::ApprovalDecision;
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::policy::request::decide;
use crate::policy::request::observed::{ApplyOutcome, ClaimView, ExportOutcome, HealthOutcome, PlanOutcome, RightsOutcome};
use crate::policy::request::scenario::{HASH, after, head};
use crate::policy::request::step::{End, Progress, Step};

#[test]
fn a_missing_right_is_waited_for_and_asked_for_again_and_less_often_later() {
    let obstacle = Blocked::waits(Wait::Right, Reason::DelegateLacksTargetAccess, "grant this");
    let mut o = head().exported();
    o.outcomes.plan = Some(PlanOutcome::Blocked(obstacle));
    for (waited, again) in [(5, 2), (40, 2), (200, 10), (300, 15), (3000, 15)] {
        match decide(&o, after(waited)) {
            Step::Wait(wait) => {
                assert!(wait.message.contains("grant this"), "{wait:?}");
                assert_eq!(wait.poll, Some(Duration::from_secs(again)), "after {waited} s");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ends(decide(&o, after(3601))).1, Reason::DelegateLacksTargetAccess);
}

#[test]
fn what_the_target_refuses_ends_the_request() {
    let mut o = head();
    o.outcomes.export =
        Some(ExportOutcome::Blocked(Blocked { until: Until::End, reason: Reason::ExportFailed, message: "nothing matches".into() }));
    assert_eq!(ends(decide(&o, after(5))).1, Reason::ExportFailed);
    let mut o = head().exported();
    o.outcomes.plan =
        Some(PlanOutcome::Blocked(Blocked { until: Until::End, reason: Reason::DryRunRefused, message: "Deployment web: Invalid".into() }));
    assert_eq!(ends(decide(&o, after(5))).1, Reason::DryRunRefused);
}

#[test]
fn rights_that_were_taken_away_hold_up_a_request_before_anybody_is_asked_and_before_it_is_claimed() {
    let lacking = RightsOutcome::Blocked(Blocked {
        until: Until::Wait(Wait::Somebody),
        reason: Reason::RequesterMayNotDeploy,
        message: "share it".into(),
    });
    for o in [head().exported().planned(HASH), head().asked().decided(ApprovalDecision::Approved).planned(HASH)] {
        let mut unknown = o.clone();
        unknown.outcomes.rights = None;
        assert_eq!(decide(&unknown, after(9)), Step::AskRights);
        let mut missing = o;
        missing.outcomes.rights = Some(lacking.clone());
        match decide(&missing, after(9)) {
            Step::Wait(wait) => assert!(wait.poll.is_some() && wait.message.contains("share it"), "{wait:?}"),
            other => panic!("expected a wait, got {other:?}"),
        }
        let (end, reason, _) = ends(decide(&missing, after(1_000_000)));
        assert!(end == End::Failed && ["RequesterMayNotDeploy", "GateTimedOut"].contains(&reason.as_str()), "{reason}");
    }
    // Who waits at a gate is not asked for again and again.
    let mut waiting = head().asked();
    waiting.outcomes.rights = None;
    assert_eq!(waits(decide(&waiting, after(9))).1, Reason::AwaitingApproval);
}

#[test]
fn a_right_that_is_taken_away_while_it_deploys_is_waited_for_until_the_time_out() {
    let mut o = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    o = o.with_target(|t| t.claim = Some(ClaimView { request: "orders-qa".into(), request_uid: "r1".into() }));
    o.request.start_time = Some(after(10));
    o.outcomes.apply = Some(ApplyOutcome::Applied);
    o.outcomes.health = Some(HealthOutcome::Blocked(Blocked {
        until: Until::Wait(Wait::Somebody),
        reason: Reason::DelegateLacksTargetAccess,
        message: "grant this\n".into(),
    }));
    let (at, reason, message) = waits(decide(&o, after(11)));
    assert_eq!((at, reason.as_str()), (Progress::Deployment, "DelegateLacksTargetAccess"));
    assert!(message.starts_with("waits until ") && message.ends_with("grant this\n"), "{message}");
    let (end, reason, message) = ends(decide(&o, after(10 + 600)));
    assert_eq!((end, reason.as_str()), (End::Failed, "DelegateLacksTargetAccess"));
    assert!(message.contains(". Why it failed: waited until ") && message.ends_with("grant this\n"), "{message}");
}
