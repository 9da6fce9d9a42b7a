//! What a request needs before anything is exported for it: stage order, versions, and objects that may still appear.

use std::time::Duration;

use semver::Version;

use super::{ends, waits};
use crate::api::artifact::Outcome;
use crate::api::reason::Reason;
use crate::api::request_status::ApprovalDecision;
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::policy::request::decide;
use crate::policy::request::observed::{CurrentVersion, Lookup, Observed, PlanOutcome};
use crate::policy::request::scenario::{HASH, after, head, second};
use crate::policy::request::step::{End, Step};

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
    let proofs: [fn(&mut crate::policy::request::observed::DeploymentView); 7] = [
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
        assert_eq!(ends(decide(&o, after(5))).1, Reason::PreviousStageNotSucceeded);
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
    assert_eq!(waits(decide(&approved, after(9))).1, Reason::Soaking);
    assert_eq!(decide(&approved, after(40)), Step::Claim);
    // Of one that leads elsewhere it is said that it did succeed, and where.
    let (_, reason, message) = ends(decide(&made_again("ns-uat"), after(5)));
    assert_eq!(reason.as_str(), "PreviousStageNotSucceeded");
    assert!(
        message.starts_with("orders 1.4.0 succeeded in stage qa when that led to environment qa, a namespace with the uid ns-qa"),
        "{message}"
    );
    assert!(message.contains("with the uid ns-uat now") || message.contains("a namespace with the uid ns-uat"), "{message}");
    assert!(!message.contains("has not succeeded"), "{message}");
    // One whose namespace is not known yet proves nothing.
    assert_eq!(ends(decide(&made_again(""), after(5))).1, Reason::PreviousStageNotSucceeded);
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
    assert_eq!(waits(decide(&o, after(days))).1, Reason::PreviousStageInProgress);
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.deployments = deployments;
        artifact.deployments[0].ended_at = after(days);
    }
    o.previous_in_flight = None;
    o.outcomes.plan = Some(PlanOutcome::Blocked(Blocked {
        until: Until::Wait(Wait::Somebody),
        reason: Reason::DelegateLacksTargetAccess,
        message: "grant this".into(),
    }));
    assert_eq!(waits(decide(&o, after(days + 3500))).1, Reason::DelegateLacksTargetAccess);
    assert_eq!(ends(decide(&o, after(days + 3600))).1, Reason::DelegateLacksTargetAccess);
}

#[test]
fn a_dependency_that_is_on_its_way_is_waited_for_unless_this_request_may_be_waited_for_itself() {
    let lacking = |o: Observed| o.with_target(|t| t.missing_dependencies = vec!["base >=1 (does not run there)".into()]);
    let mut o = lacking(head());
    o.confirmed = true;
    assert_eq!(ends(decide(&o, after(3600))).1, Reason::DependencyMissing);
    o.dependency_in_flight = Some("base-qa".into());
    let (_, reason, message) = waits(decide(&o, after(1_000_000)));
    assert!(reason.as_str() == "DependencyMissing" && message.contains("Request base-qa brings one of them"), "{message}");
    let mut accepted = lacking(head().asked());
    accepted.confirmed = true;
    accepted.dependency_in_flight = Some("base-qa".into());
    assert_eq!(ends(decide(&accepted, after(1_000_000))).1, Reason::DependencyMissing, "two that wait for each other both end");
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
    assert_eq!(ends(decide(&stored(), after(5))).1, Reason::RepositoryNotAllowed);
    let mut developed = stored();
    developed.developed_in = vec!["dev".into()];
    assert_eq!(decide(&developed, after(5)), Step::Export, "which says that the sources differ, or exports");
    // With several environments one has to be named.
    let several = developed.with_pipeline(|p| p.development_environments.push("dev-2".into()));
    assert_eq!(ends(decide(&several, after(5))).1, Reason::SourceAmbiguous);
}

#[test]
fn the_artifact_on_its_way_to_the_previous_stage_is_waited_for_and_named() {
    let mut o = second();
    o.artifact = Lookup::Absent;
    o.previous_in_flight = Some("orders-qa-7".into());
    let (_, reason, message) = waits(decide(&o, after(100)));
    assert_eq!(reason.as_str(), "PreviousStageInProgress");
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
        assert_eq!(waits(decide(&o, after(100))).1.as_str(), expected);
        assert_eq!(decide(&o, after(3600)), Step::Confirm);
        o.confirmed = true;
        let (end, reason, _) = ends(decide(&o, after(3600)));
        assert_eq!((end, reason.as_str()), (End::Failed, expected));
    }
}

#[test]
fn a_suspended_pipeline_holds_even_what_is_approved() {
    let o = head().asked().decided(ApprovalDecision::Approved).planned(HASH).with_pipeline(|p| p.suspended = true);
    assert_eq!(waits(decide(&o, after(9))).1, Reason::PipelineSuspended);
}

#[test]
fn a_stage_that_is_deleted_ends_what_has_not_claimed_its_target() {
    let mut o = head().asked();
    o.stage = Lookup::Absent;
    assert_eq!(decide(&o, after(9)), Step::Confirm);
    o.confirmed = true;
    assert_eq!(ends(decide(&o, after(9))).1, Reason::StageNotFound);
}

#[test]
fn versions_must_rise_unless_the_pipeline_allows_otherwise() {
    for running in [Version::new(1, 4, 0), Version::new(2, 0, 0)] {
        let o = head().with_target(|t| {
            t.current = Some(CurrentVersion { version: running.clone(), digest: "sha256:cc".into(), request: "old".into() });
        });
        let (_, reason, message) = ends(decide(&o, after(5)));
        assert_eq!(reason.as_str(), "VersionNotHigher");
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
    o.solution = Lookup::Present(crate::policy::request::observed::SolutionView { version: Version::new(1, 5, 0) });
    o.confirmed = true;
    let (_, reason, message) = ends(decide(&o, after(5)));
    assert_eq!(reason.as_str(), "VersionDiffers");
    assert!(message.contains("1.5.0") && message.contains("1.4.0"));
}

#[test]
fn a_stored_version_needs_development_no_longer() {
    let mut o = head();
    o.artifact = second().artifact;
    o.solution = Lookup::Present(crate::policy::request::observed::SolutionView { version: Version::new(1, 5, 0) });
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.deployments.clear();
    }
    assert_eq!(decide(&o, after(5)), Step::Export);
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
fn that_a_version_was_stored_before_is_told_alike_by_every_pass() {
    let told = |o: &Observed| match decide(o, after(5)) {
        Step::Wait(wait) => {
            let conditions = crate::policy::request::report::waiting(o, &wait).conditions;
            conditions.into_iter().find(|c| c.type_ == "Exported").expect("it is exported").message
        }
        other => panic!("expected a wait, got {other:?}"),
    };
    for (seconds, before) in [(-1, true), (0, false), (1, false)] {
        let next = head().stored(seconds).asked();
        assert_eq!(told(&next).contains("stored before"), before, "stored {seconds} s after the request");
        assert_eq!(told(&next), told(&next.exported()), "the reconciliation that exports tells what the next ones tell");
    }
}
