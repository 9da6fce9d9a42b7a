//! Decisions, one behaviour each.

use std::time::Duration;

use proptest::prelude::*;
use semver::Version;

use super::decide;
use super::observed::{
    ApplyFact, ClaimFact, ClaimView, CurrentVersion, ExportFact, HealthFact, Lookup, Observed, Obstacle, PlanFact, RightsFact, Rival,
};
use super::scenario::{DIGEST, HASH, after, head, second};
use super::step::{End, GateKind, Progress, Step};
use crate::api::artifact::Outcome;
use crate::api::request_status::ApprovalDecision;

pub(super) fn ends(step: Step) -> (End, String, String) {
    match step {
        Step::Finish(ending) => (ending.end, ending.reason, ending.message),
        other => panic!("expected an end, got {other:?}"),
    }
}

pub(super) fn waits(step: Step) -> (Progress, String, String) {
    match step {
        Step::Wait(wait) => (wait.at, wait.reason, wait.message),
        other => panic!("expected a wait, got {other:?}"),
    }
}

#[test]
fn a_first_stage_exports_plans_asks_and_waits_for_the_delegate() {
    let now = after(5);
    assert_eq!(decide(&head(), now), Step::Export);
    assert_eq!(decide(&head().exported(), now), Step::Plan);
    let mut planned = head().exported().planned(HASH);
    planned.facts.requester_could_approve = None;
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
    assert_eq!(ends(decide(&o, after(9))).1, "ApprovalNotBound");
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
    assert_eq!(ends(decide(&o, after(72 * 3600 + 1))).1, "GateTimedOut");
}

#[test]
fn a_requester_who_could_become_the_approver_is_not_asked_for() {
    let mut o = head().exported().planned(HASH);
    o.facts.requester_could_approve = Some(true);
    assert_eq!(ends(decide(&o, after(5))).1, "RequesterCouldApprove");
    let allowed = o.with_stage(|s| s.allow_self_approval = true);
    assert_eq!(decide(&allowed, after(5)), Step::OpenGate(GateKind::Approval));
}

#[test]
fn what_may_still_arrive_with_the_same_apply_is_not_refused_at_once() {
    let mut o = second();
    o.artifact = Lookup::Absent;
    assert!(matches!(decide(&o, after(1)), Step::Wait(_)));
    assert_eq!(decide(&o, after(5)), Step::Confirm, "nothing terminal is decided from a cache");
    o.confirmed = true;
    let (end, reason, message) = ends(decide(&o, after(5)));
    assert_eq!((end, reason.as_str()), (End::Failed, "PreviousStageNotSucceeded"));
    assert!(message.contains("orders 1.4.0") && message.contains("stage qa"), "{message}");
}

#[test]
fn a_success_of_another_digest_stage_or_environment_proves_nothing() {
    let proofs: [fn(&mut super::observed::DeploymentView); 7] = [
        |d| d.outcome = Outcome::Failed,
        |d| (d.stage_uid, d.environment_id) = ("a stage made again".into(), "for another namespace".into()),
        |d| (d.environment_uid, d.environment_id) = ("another environment".into(), "another namespace".into()),
        |d| (d.stage_uid, d.environment_id) = ("a stage made again".into(), String::new()),
        |d| (d.stage_uid, d.stage) = ("another stage".into(), "uat".into()),
        |d| (d.stage_uid, d.pipeline) = ("a stage made again".into(), "in another pipeline".into()),
        |d| (d.stage_uid, d.cluster) = ("a stage made again".into(), Some("that says it has that namespace".into())),
    ];
    for spoil in proofs {
        let mut o = second();
        o.confirmed = true;
        if let Lookup::Present(artifact) = &mut o.artifact {
            spoil(&mut artifact.deployments[0]);
        }
        assert_eq!(ends(decide(&o, after(5))).1, "PreviousStageNotSucceeded");
    }
}

#[test]
fn a_success_counts_though_stage_and_environment_were_applied_again_and_so_does_its_soak_time() {
    let made_again = |environment_id: &str| {
        let mut o = second().with_stage(|stage| {
            stage.soak = Duration::from_secs(100);
            let place = stage.previous.as_mut().and_then(|previous| previous.place.as_mut()).unwrap();
            (place.stage_uid, place.environment_uid) = ("made again".into(), "made again".into());
            place.environment_id = environment_id.into();
        });
        o.confirmed = true;
        o
    };
    assert_eq!(decide(&made_again("ns-qa"), after(5)), Step::Plan);
    let approved = made_again("ns-qa").asked().decided(ApprovalDecision::Approved).planned(HASH);
    assert_eq!(waits(decide(&approved, after(9))).1, "Soaking");
    assert_eq!(decide(&approved, after(40)), Step::Claim);
    // Of one that leads elsewhere it is said that it did succeed, and where.
    let (_, reason, message) = ends(decide(&made_again("ns-uat"), after(5)));
    assert_eq!(reason, "PreviousStageNotSucceeded");
    assert!(
        message.starts_with("orders 1.4.0 succeeded in stage qa when that led to environment qa, a namespace with the uid ns-qa"),
        "{message}"
    );
    assert!(message.contains("with the uid ns-uat now") || message.contains("a namespace with the uid ns-uat"), "{message}");
    assert!(!message.contains("has not succeeded"), "{message}");
    // One whose namespace is not known yet proves nothing.
    assert_eq!(ends(decide(&made_again(""), after(5))).1, "PreviousStageNotSucceeded");
}

#[test]
fn who_waits_for_the_stage_before_waits_as_long_as_that_takes_and_then_has_its_own_time() {
    let mut o = second();
    o.previous_in_flight = Some("orders-qa-7".into());
    let deployments = match &mut o.artifact {
        Lookup::Present(artifact) => std::mem::take(&mut artifact.deployments),
        _ => Vec::new(),
    };
    let days = 3 * 24 * 3600;
    assert_eq!(waits(decide(&o, after(days))).1, "PreviousStageInProgress");
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.deployments = deployments;
        artifact.deployments[0].ended_at = after(days);
    }
    o.previous_in_flight = None;
    o.facts.plan = Some(PlanFact::Missing(Obstacle { reason: "DelegateLacksTargetAccess".into(), message: "grant this".into() }));
    assert_eq!(waits(decide(&o, after(days + 3500))).1, "DelegateLacksTargetAccess");
    assert_eq!(ends(decide(&o, after(days + 3600))).1, "DelegateLacksTargetAccess");
}

#[test]
fn a_dependency_that_is_on_its_way_is_waited_for_unless_this_request_may_be_waited_for_itself() {
    let lacking = |o: Observed| o.with_target(|t| t.missing_dependencies = vec!["base >=1 (does not run there)".into()]);
    let mut o = lacking(head());
    o.confirmed = true;
    assert_eq!(ends(decide(&o, after(3600))).1, "DependencyMissing");
    o.dependency_in_flight = Some("base-qa".into());
    let (_, reason, message) = waits(decide(&o, after(1_000_000)));
    assert!(reason == "DependencyMissing" && message.contains("Request base-qa brings one of them"), "{message}");
    let mut accepted = lacking(head().asked());
    accepted.confirmed = true;
    accepted.dependency_in_flight = Some("base-qa".into());
    assert_eq!(ends(decide(&accepted, after(1_000_000))).1, "DependencyMissing", "two that wait for each other both end");
}

#[test]
fn what_is_stored_from_a_registry_is_not_meant_where_the_solution_is_developed() {
    let stored = || {
        let mut o = head();
        o.artifact = second().artifact;
        if let Lookup::Present(artifact) = &mut o.artifact {
            artifact.deployments.clear();
            artifact.source_environment = None;
            artifact.registry_source = Some(format!("oci://elsewhere.test/x@sha256:{}", "a".repeat(64)));
        }
        o.confirmed = true;
        o
    };
    assert_eq!(ends(decide(&stored(), after(5))).1, "RepositoryNotAllowed");
    let mut developed = stored();
    developed.developed_in = vec!["dev".into()];
    assert_eq!(decide(&developed, after(5)), Step::Export, "which says that the sources differ, or exports");
    // With several environments one has to be named.
    let several = developed.with_pipeline(|p| p.development_environments.push("dev-2".into()));
    assert_eq!(ends(decide(&several, after(5))).1, "SourceAmbiguous");
}

#[test]
fn a_requester_who_could_approve_is_found_out_before_anybody_goes_through_grants() {
    let unready = |o: Observed| o.with_stage(|s| s.not_ready = Some("OperatorMayNotActAsDelegate: grant this".into()));
    let mut o = unready(head());
    o.facts.requester_could_approve = None;
    assert_eq!(decide(&o, after(5)), Step::AskApprover);
    o.facts.requester_could_approve = Some(false);
    assert_eq!(waits(decide(&o, after(5))).1, "StageNotReady");
    o.facts.requester_could_approve = Some(true);
    assert_eq!(ends(decide(&o, after(5))).1, "RequesterCouldApprove");
    let obstacle = || Obstacle { reason: "DelegateLacksTargetAccess".into(), message: "grant this".into() };
    let mut planned = head().exported();
    planned.facts.plan = Some(PlanFact::Missing(obstacle()));
    planned.facts.requester_could_approve = Some(true);
    assert_eq!(ends(decide(&planned, after(5))).1, "RequesterCouldApprove");
    // Where it doesn't matter nobody asks.
    for free in [
        unready(head()).with_stage(|s| s.allow_self_approval = true),
        unready(head().asked()),
        unready(head()).with_stage(|s| s.pipeline = "other".into()),
    ] {
        let mut free = free;
        free.facts.requester_could_approve = None;
        assert!(matches!(decide(&free, after(5)), Step::Wait(_) | Step::Confirm), "{:?}", decide(&free, after(5)));
    }
}

#[test]
fn the_artifact_on_its_way_to_the_previous_stage_is_waited_for_and_named() {
    let mut o = second();
    o.artifact = Lookup::Absent;
    o.previous_in_flight = Some("orders-qa-7".into());
    let (_, reason, message) = waits(decide(&o, after(100)));
    assert_eq!(reason, "PreviousStageInProgress");
    assert!(message.contains("orders-qa-7"));
}

#[test]
fn what_is_not_there_is_waited_for_until_the_accept_time_out() {
    type Remove = fn(&mut Observed);
    let absent: [(Remove, &str); 4] = [
        (|o| o.pipeline = Lookup::Absent, "PipelineNotFound"),
        (|o| o.stage = Lookup::Absent, "StageNotFound"),
        (|o| o.target = Lookup::Absent, "EnvironmentNotFound"),
        (|o| o.solution = Lookup::Absent, "SolutionNotFound"),
    ];
    for (remove, expected) in absent {
        let mut o = head();
        remove(&mut o);
        assert_eq!(waits(decide(&o, after(100))).1, expected);
        assert_eq!(decide(&o, after(3600)), Step::Confirm);
        o.confirmed = true;
        let (end, reason, _) = ends(decide(&o, after(3600)));
        assert_eq!((end, reason.as_str()), (End::Failed, expected));
    }
}

#[test]
fn a_suspended_pipeline_holds_even_what_is_approved() {
    let o = head().asked().decided(ApprovalDecision::Approved).planned(HASH).with_pipeline(|p| p.suspended = true);
    assert_eq!(waits(decide(&o, after(9))).1, "PipelineSuspended");
}

#[test]
fn a_stage_that_is_deleted_ends_what_has_not_claimed_its_target() {
    let mut o = head().asked();
    o.stage = Lookup::Absent;
    assert_eq!(decide(&o, after(9)), Step::Confirm);
    o.confirmed = true;
    assert_eq!(ends(decide(&o, after(9))).1, "StageNotFound");
}

#[test]
fn versions_must_rise_unless_the_pipeline_allows_otherwise() {
    for running in [Version::new(1, 4, 0), Version::new(2, 0, 0)] {
        let o = head().with_target(|t| {
            t.current = Some(CurrentVersion { version: running.clone(), digest: "sha256:cc".into(), request: "old".into() });
        });
        let (_, reason, message) = ends(decide(&o, after(5)));
        assert_eq!(reason, "VersionNotHigher");
        assert!(message.contains(&running.to_string()) && message.contains("old"));
        assert_eq!(decide(&o.with_pipeline(|p| p.allow_redeployments = true), after(5)), Step::Export);
    }
}

#[test]
fn a_request_that_was_overtaken_is_superseded_and_says_by_which() {
    let o = head().asked().decided(ApprovalDecision::Approved).planned(HASH).with_target(|t| {
        t.current = Some(CurrentVersion { version: Version::new(1, 5, 0), digest: "sha256:cc".into(), request: "newer".into() });
    });
    let (end, reason, message) = ends(decide(&o, after(9)));
    assert_eq!((end, reason.as_str()), (End::Failed, "Superseded"));
    assert!(message.contains("newer"));
}

#[test]
fn a_solution_at_another_version_is_not_exported() {
    let mut o = head();
    o.solution = Lookup::Present(super::observed::SolutionView { version: Version::new(1, 5, 0) });
    o.confirmed = true;
    let (_, reason, message) = ends(decide(&o, after(5)));
    assert_eq!(reason, "VersionDiffers");
    assert!(message.contains("1.5.0") && message.contains("1.4.0"));
}

#[test]
fn a_stored_version_needs_development_no_longer() {
    let mut o = head();
    o.artifact = second().artifact;
    o.solution = Lookup::Present(super::observed::SolutionView { version: Version::new(1, 5, 0) });
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.deployments.clear();
    }
    assert_eq!(decide(&o, after(5)), Step::Export);
}

#[test]
fn a_missing_right_is_waited_for_and_asked_for_again_and_less_often_later() {
    let obstacle = Obstacle { reason: "DelegateLacksTargetAccess".into(), message: "grant this".into() };
    let mut o = head().exported();
    o.facts.plan = Some(PlanFact::Missing(obstacle));
    for (waited, again) in [(5, 2), (40, 2), (200, 10), (300, 15), (3000, 15)] {
        match decide(&o, after(waited)) {
            Step::Wait(wait) => {
                assert!(wait.message.contains("grant this"), "{wait:?}");
                assert_eq!(wait.poll, Some(Duration::from_secs(again)), "after {waited} s");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ends(decide(&o, after(3601))).1, "DelegateLacksTargetAccess");
}

#[test]
fn what_the_target_refuses_ends_the_request() {
    let mut o = head();
    o.facts.export = Some(ExportFact::Refused(Obstacle { reason: "ExportRefused".into(), message: "nothing matches".into() }));
    assert_eq!(ends(decide(&o, after(5))).1, "ExportRefused");
    let mut o = head().exported();
    o.facts.plan = Some(PlanFact::Refused(Obstacle { reason: "DryRunRefused".into(), message: "Deployment web: Invalid".into() }));
    assert_eq!(ends(decide(&o, after(5))).1, "DryRunRefused");
}

#[test]
fn a_target_that_another_request_deploys_to_is_waited_for_by_name() {
    let approved = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    let claimed = approved.clone().with_target(|t| t.claim = Some(ClaimView { request: "other".into(), request_uid: "r9".into() }));
    let (at, reason, message) = waits(decide(&claimed, after(9)));
    assert_eq!((at, reason.as_str()), (Progress::Queue, "Queued"));
    assert!(message.contains("other"));
    let mut lost = approved;
    lost.facts.claim = Some(ClaimFact::Lost { to: "faster".into() });
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
    assert_eq!(waits(decide(&scheduled, after(9))).1, "Scheduled");
    assert_eq!(decide(&scheduled, after(500)), Step::Claim);
    let soaking = approved().with_stage(|s| s.soak = Duration::from_secs(100));
    assert_eq!(waits(decide(&soaking, after(9))).1, "Soaking");
    assert_eq!(decide(&soaking, after(40)), Step::Claim);
    let frozen = approved().with_stage(|s| {
        s.windows = vec![crate::api::stage::Window {
            type_: crate::api::stage::WindowType::Deny,
            schedule: "* * * * *".into(),
            duration: "1h".into(),
            time_zone: None,
        }];
    });
    assert_eq!(waits(decide(&frozen, after(9))).1, "OutsideWindow");
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
    o.facts.apply = Some(ApplyFact::Applied);
    assert_eq!(decide(&o, after(11)), Step::Check);
    o.facts.health = Some(HealthFact::Pending("Deployment web".into()));
    assert!(matches!(decide(&o, after(11)), Step::Wait(_)));
    assert_eq!(ends(decide(&o, after(10 + 600))).1, "DeploymentTimedOut");
    o.facts.health = Some(HealthFact::Healthy);
    assert_eq!(decide(&o, after(11)), Step::Prune, "only what is healthy takes the place of what was there");
    o.facts.prune = Some(ApplyFact::Unavailable("down".into()));
    assert!(matches!(decide(&o, after(11)), Step::Wait(wait) if wait.message.contains("healthy; not all that it replaces")));
    assert_eq!(ends(decide(&o, after(10 + 600))).1, "TargetUnavailable");
    o.facts.prune = Some(ApplyFact::Failed(Obstacle { reason: "ApplyFailed".into(), message: "refused".into() }));
    assert_eq!(ends(decide(&o, after(11))).1, "ApplyFailed");
    o.facts.prune = Some(ApplyFact::Applied);
    assert_eq!(ends(decide(&o, after(11))).0, End::Succeeded);
}

#[test]
fn a_withdrawn_request_ends_before_anything_is_written() {
    let mut o = head().asked();
    o.request.cancel = true;
    assert_eq!(ends(decide(&o, after(9))).0, End::Canceled);
}

#[test]
fn what_the_artifacts_record_says_is_not_done_again() {
    let mut o = second();
    if let Lookup::Present(artifact) = &mut o.artifact {
        let mut own = artifact.deployments[0].clone();
        own.request_uid = "r1".into();
        own.stage_uid = "s-prod".into();
        artifact.deployments.push(own);
    }
    o.request.start_time = Some(after(3));
    assert_eq!(ends(decide(&o, after(9))).0, End::Succeeded);
}

#[test]
fn a_request_of_a_name_that_is_done_ends_already_deployed() {
    let mut o = second();
    if let Lookup::Present(artifact) = &mut o.artifact {
        let mut earlier = artifact.deployments[0].clone();
        earlier.request = "orders-prod".into();
        earlier.request_uid = "deleted by retention".into();
        earlier.stage_uid = "s-prod".into();
        artifact.deployments.push(earlier);
    }
    let (end, reason, _) = ends(decide(&o, after(9)));
    assert_eq!((end, reason.as_str()), (End::Succeeded, "AlreadyDeployed"));
    // After a downgrade it says what really runs.
    let downgraded = o.with_target(|t| {
        t.current = Some(CurrentVersion { version: Version::new(1, 3, 0), digest: "sha256:cc".into(), request: "back".into() });
    });
    let (end, _, message) = ends(decide(&downgraded, after(9)));
    assert!(end == End::Succeeded && message.contains("Stage prod runs orders 1.3.0 by now (request back)"), "{message}");
}

#[test]
fn an_artifact_that_is_not_the_planned_one_is_not_deployed() {
    let mut o = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.digest = "sha256:else".into();
    }
    assert_eq!(ends(decide(&o, after(9))).1, "ArtifactChanged");
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
    o.facts.apply = Some(ApplyFact::Applied);
    o.facts.health = Some(HealthFact::Healthy);
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
        o.facts.rights = match rights {
            1 => Some(RightsFact::Held),
            2 => Some(RightsFact::Missing(Obstacle { reason: "RequesterMayNotDeploy".into(), message: "share it".into() })),
            _ => None,
        };
        if decide(&o, after(age)) == Step::Claim {
            prop_assert!(rights == 1 && asked && decision == 1 && bound && same_plan && !suspended && claim != 2 && !cancel && !pre_deployment);
            prop_assert!(!later || (proven && made_again < 2));
            prop_assert_eq!(o.artifact.present().map(|a| a.digest.as_str()), Some(DIGEST));
        }
    }
}

#[test]
fn that_a_version_was_stored_before_is_told_alike_by_every_pass() {
    let told = |o: &Observed| match decide(o, after(5)) {
        Step::Wait(wait) => {
            let conditions = super::report::waiting(o, &wait).conditions;
            conditions.into_iter().find(|c| c.type_ == "Exported").expect("it is exported").message
        }
        other => panic!("expected a wait, got {other:?}"),
    };
    for (seconds, before) in [(-1, true), (0, false), (1, false)] {
        let next_pass = head().stored(seconds).asked();
        assert_eq!(told(&next_pass).contains("stored before"), before, "stored {seconds} s after the request");
        assert_eq!(told(&next_pass), told(&next_pass.exported()), "the pass that exports tells what the next ones tell");
    }
}

#[test]
fn rights_that_were_taken_away_hold_up_a_request_before_anybody_is_asked_and_before_it_is_claimed() {
    let lacking = RightsFact::Missing(Obstacle { reason: "RequesterMayNotDeploy".into(), message: "share it".into() });
    for o in [head().exported().planned(HASH), head().asked().decided(ApprovalDecision::Approved).planned(HASH)] {
        let mut unknown = o.clone();
        unknown.facts.rights = None;
        assert_eq!(decide(&unknown, after(9)), Step::AskRights);
        let mut missing = o;
        missing.facts.rights = Some(lacking.clone());
        match decide(&missing, after(9)) {
            Step::Wait(wait) => assert!(wait.poll.is_some() && wait.message.contains("share it"), "{wait:?}"),
            other => panic!("expected a wait, got {other:?}"),
        }
        let (end, reason, _) = ends(decide(&missing, after(1_000_000)));
        assert!(end == End::Failed && ["RequesterMayNotDeploy", "GateTimedOut"].contains(&reason.as_str()), "{reason}");
    }
    // Who waits at a gate is not asked for again and again.
    let mut waiting = head().asked();
    waiting.facts.rights = None;
    assert_eq!(waits(decide(&waiting, after(9))).1, "AwaitingApproval");
}

#[test]
fn a_right_that_is_taken_away_while_it_deploys_is_waited_for_until_the_time_out() {
    let mut o = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    o = o.with_target(|t| t.claim = Some(ClaimView { request: "orders-qa".into(), request_uid: "r1".into() }));
    o.request.start_time = Some(after(10));
    o.facts.apply = Some(ApplyFact::Applied);
    o.facts.health = Some(HealthFact::Missing(Obstacle { reason: "DelegateLacksTargetAccess".into(), message: "grant this\n".into() }));
    let (at, reason, message) = waits(decide(&o, after(11)));
    assert_eq!((at, reason.as_str()), (Progress::Deployment, "DelegateLacksTargetAccess"));
    assert!(message.starts_with("waits until ") && message.ends_with("grant this\n"), "{message}");
    let (end, reason, message) = ends(decide(&o, after(10 + 600)));
    assert_eq!((end, reason.as_str()), (End::Failed, "DelegateLacksTargetAccess"));
    assert!(message.contains(". Why it failed: waited until ") && message.ends_with("grant this\n"), "{message}");
}

#[test]
fn a_gate_that_has_opened_is_decided_though_the_stage_asks_for_it_no_more() {
    let mut o = head().asked().decided(ApprovalDecision::Approved).exported().planned(HASH);
    assert_eq!(decide(&o, after(9)), Step::Claim);
    o.request.gates.pre_deployment_step.clone_from(&o.request.gates.approval);
    assert_eq!(waits(decide(&o, after(9))).1, "AwaitingPreDeploymentStep");
}
