//! When gates open, which decisions count, and when waiting ends.

use super::{ends, waits};
use crate::api::reason::Reason;
use crate::api::request_status::ApprovalDecision;
use crate::cluster::blocked::{Blocked, Wait};
use crate::policy::request::decide;
use crate::policy::request::observed::{Observed, PlanOutcome};
use crate::policy::request::scenario::{HASH, after, head};
use crate::policy::request::step::{End, GateKind, Progress, Step};

#[test]
fn a_first_stage_exports_plans_asks_and_waits_for_the_delegate() {
    let now = after(5);
    assert_eq!(decide(&head(), now), Step::Export);
    assert_eq!(decide(&head().exported(), now), Step::Plan);
    let mut planned = head().exported().planned(HASH);
    planned.outcomes.requester_could_approve = None;
    assert_eq!(decide(&planned, now), Step::AskApprover);
    assert_eq!(decide(&head().exported().planned(HASH), now), Step::OpenGate(GateKind::Approval));
    let (at, reason, message) = waits(decide(&head().asked(), now));
    assert_eq!((at, reason.as_str()), (Progress::Approval, "AwaitingApproval"));
    assert!(message.contains("system:serviceaccount:host:bot") && message.contains("since") && message.contains("until"), "{message}");
}

#[test]
fn an_approved_request_is_planned_again_and_claims() {
    let o = head().asked().decided(ApprovalDecision::Approved);
    assert_eq!(decide(&o, after(9)), Step::Plan);
    assert_eq!(decide(&o.planned(HASH), after(9)), Step::Claim);
}

#[test]
fn a_plan_that_changed_after_the_approval_fails_with_nothing_written() {
    let o = head().asked().decided(ApprovalDecision::Approved).planned("sha256:other");
    let (end, reason, message) = ends(decide(&o, after(9)));
    assert_eq!((end, reason.as_str()), (End::Failed, "PlanChanged"));
    assert!(message.contains("nothing was written"));
}

#[test]
fn an_approval_without_the_plans_hash_is_worth_nothing() {
    let mut o = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    o.request.approval.as_mut().unwrap().plan_hash = None;
    assert_eq!(ends(decide(&o, after(9))).1, Reason::ApprovalNotBound);
}

#[test]
fn a_rejection_ends_the_request_with_the_comment_whatever_else_it_waits_for() {
    let o = head().asked().decided(ApprovalDecision::Rejected).with_pipeline(|p| p.suspended = true);
    let (end, _, message) = ends(decide(&o, after(9)));
    assert_eq!(end, End::Rejected);
    assert!(message.contains("no tests") && message.contains("bot"));
}

#[test]
fn a_gate_that_nobody_decides_times_out() {
    let o = head().asked();
    assert!(matches!(decide(&o, after(72 * 3600)), Step::Wait(_)));
    assert_eq!(ends(decide(&o, after(72 * 3600 + 1))).1, Reason::GateTimedOut);
}

#[test]
fn a_requester_who_could_become_the_approver_is_not_asked_for() {
    let mut o = head().exported().planned(HASH);
    o.outcomes.requester_could_approve = Some(true);
    assert_eq!(ends(decide(&o, after(5))).1, Reason::RequesterCouldApprove);
    let allowed = o.with_stage(|s| s.allow_self_approval = true);
    assert_eq!(decide(&allowed, after(5)), Step::OpenGate(GateKind::Approval));
}

#[test]
fn the_first_gate_opens_for_nobody_who_could_decide_the_second() {
    let mut o = head().with_stage(|s| s.pre_export_step = true);
    o.outcomes.requester_could_approve = None;
    assert_eq!(decide(&o, after(5)), Step::AskApprover);
    o.outcomes.requester_could_approve = Some(true);
    assert_eq!(ends(decide(&o, after(5))).1, Reason::RequesterCouldApprove);
    o.outcomes.requester_could_approve = Some(false);
    assert_eq!(decide(&o, after(5)), Step::OpenGate(GateKind::PreExportStep));
}

#[test]
fn a_requester_who_could_approve_is_found_out_before_anybody_goes_through_grants() {
    let unready = |o: Observed| o.with_stage(|s| s.not_ready = Some("OperatorMayNotActAsDelegate: grant this".into()));
    let mut o = unready(head());
    o.outcomes.requester_could_approve = None;
    assert_eq!(decide(&o, after(5)), Step::AskApprover);
    o.outcomes.requester_could_approve = Some(false);
    assert_eq!(waits(decide(&o, after(5))).1, Reason::StageNotReady);
    o.outcomes.requester_could_approve = Some(true);
    assert_eq!(ends(decide(&o, after(5))).1, Reason::RequesterCouldApprove);
    let obstacle = || Blocked::waits(Wait::Right, Reason::DelegateLacksTargetAccess, "grant this");
    let mut planned = head().exported();
    planned.outcomes.plan = Some(PlanOutcome::Blocked(obstacle()));
    planned.outcomes.requester_could_approve = Some(true);
    assert_eq!(ends(decide(&planned, after(5))).1, Reason::RequesterCouldApprove);
    // Where it doesn't matter nobody asks.
    for free in [
        unready(head()).with_stage(|s| s.allow_self_approval = true),
        unready(head().asked()),
        unready(head()).with_stage(|s| s.pipeline = "other".into()),
    ] {
        let mut free = free;
        free.outcomes.requester_could_approve = None;
        assert!(matches!(decide(&free, after(5)), Step::Wait(_) | Step::Confirm), "{:?}", decide(&free, after(5)));
    }
}

#[test]
fn a_withdrawn_request_ends_before_anything_is_written() {
    let mut o = head().asked();
    o.request.cancel = true;
    assert_eq!(ends(decide(&o, after(9))).0, End::Canceled);
}

#[test]
fn a_gate_that_has_opened_is_decided_though_the_stage_asks_for_it_no_more() {
    let mut o = head().asked().decided(ApprovalDecision::Approved).exported().planned(HASH);
    assert_eq!(decide(&o, after(9)), Step::Claim);
    o.request.gates.pre_deployment_step.clone_from(&o.request.gates.approval);
    assert_eq!(waits(decide(&o, after(9))).1, Reason::AwaitingPreDeploymentStep);
}
