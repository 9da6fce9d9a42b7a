//! Decisions about deployments that failed, one behaviour each.

use proptest::prelude::*;
use semver::Version;

use super::decide;
use super::observed::{ApplyOutcome, ClaimView, CurrentVersion, HealthOutcome, Lookup, Observed, Replaced};
use super::scenario::{DIGEST, HASH, after, head, second};
use super::step::{End, Progress, Step};
use super::tests::{ends, waits};
use crate::api::artifact::Outcome;
use crate::api::reason::Reason;
use crate::api::request_status::{ApprovalDecision, Rollback};
use crate::api::stage::OnFailure;
use crate::cluster::blocked::{Blocked, Wait};

/// A request that deploys 1.4.0 in place of 1.3.0, and what is to be done when that fails.
fn deploying(on_failure: OnFailure) -> Observed {
    let mut o = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
    o = o.with_target(|t| t.claim = Some(ClaimView { request: "orders-qa".into(), request_uid: "r1".into() }));
    o.request.start_time = Some(after(10));
    o.request.on_failure = on_failure;
    o.request.replaces = Some(Replaced { version: "1.3.0".into(), digest: "sha256:old".into() });
    o
}

/// The same on its way back since 20.
fn returning() -> Observed {
    let mut o = deploying(OnFailure::Rollback);
    o.request.rollback = Some(Rollback {
        version: "1.3.0".into(),
        digest: "sha256:old".into(),
        since: after(20),
        reason: "Unhealthy".into(),
        message: "applied, but not healthy: web\nmore".into(),
    });
    o
}

fn refused() -> Blocked {
    Blocked::ends(Reason::ApplyFailed, "refused")
}

fn missing() -> Blocked {
    Blocked::waits(Wait::Right, Reason::ApplyFailed, "grant this\n")
}

/// Every way to fail after the claim, with the time at which it is one.
fn failures() -> Vec<(&'static str, i64, Observed)> {
    let with = |apply: ApplyOutcome, health: Option<HealthOutcome>| {
        let mut o = deploying(OnFailure::Rollback);
        (o.outcomes.apply, o.outcomes.health) = (Some(apply), health);
        o
    };
    vec![
        ("ApplyFailed", 11, with(ApplyOutcome::Blocked(refused()), None)),
        ("ApplyFailed", 610, with(ApplyOutcome::Blocked(missing()), None)),
        ("TargetUnavailable", 610, with(ApplyOutcome::Unavailable("down".into()), None)),
        ("Unhealthy", 11, with(ApplyOutcome::Applied, Some(HealthOutcome::Failed("web".into())))),
        ("DeploymentTimedOut", 610, with(ApplyOutcome::Applied, Some(HealthOutcome::Pending("web".into())))),
        ("ApplyFailed", 610, with(ApplyOutcome::Applied, Some(HealthOutcome::Blocked(missing())))),
    ]
}

#[test]
fn a_failure_is_taken_back_where_the_plan_says_so_and_something_was_replaced() {
    for (expected, at, o) in failures() {
        match decide(&o, after(at)) {
            Step::BeginRollback(failure) => assert_eq!(failure.reason.as_str(), expected),
            other => panic!("{expected}: {other:?}"),
        }
        // The stage may be gone or say otherwise by now: the plan counts.
        let mut gone = o.clone();
        gone.stage = Lookup::Absent;
        assert!(matches!(decide(&gone, after(at)), Step::BeginRollback(_)), "{expected}");
        let mut first = o.clone();
        first.request.replaces = None;
        let (end, reason, message) = ends(decide(&first, after(at)));
        assert_eq!((end, reason.as_str()), (End::Failed, expected));
        assert!(message.contains("no version of orders ran there before") && message.contains("retry orders-qa -n host"), "{message}");
        let mut kept = o;
        kept.request.on_failure = OnFailure::Keep;
        let (end, reason, message) = ends(decide(&kept, after(at)));
        assert_eq!((end, reason.as_str()), (End::Failed, expected));
        assert!(message.contains("what was applied stays") && message.contains("redeploy orders 1.3.0 --stage qa -n host"), "{message}");
        assert!(!message.contains("grant this") || message.ends_with("grant this\n"), "a grant ends the message: {message}");
    }
}

#[test]
fn what_was_lost_is_not_taken_back() {
    for (_, at, o) in failures() {
        let mut lost = o.with_target(|t| t.claim = None);
        assert_eq!(decide(&lost, after(at)), Step::Confirm);
        lost.confirmed = true;
        assert_eq!(ends(decide(&lost, after(at))).1, Reason::ClaimLost);
        lost.target = Lookup::Absent;
        assert_eq!(ends(decide(&lost, after(at))).1, Reason::EnvironmentGone);
    }
}

#[test]
fn the_way_back_puts_back_checks_and_ends_with_what_failed_and_what_runs() {
    let mut o = returning();
    // What the failed version came to is not asked any more.
    o.outcomes.apply = Some(ApplyOutcome::Applied);
    assert_eq!(decide(&o, after(21)), Step::Rollback);
    o.outcomes.restore = Some(ApplyOutcome::Applied);
    assert_eq!(decide(&o, after(21)), Step::Check);
    o.outcomes.health = Some(HealthOutcome::Pending("web".into()));
    let (at, reason, message) = waits(decide(&o, after(21)));
    assert_eq!((at, reason.as_str()), (Progress::Rollback, "WaitingForHealth"));
    assert!(message.contains("1.3.0"), "{message}");
    o.outcomes.health = Some(HealthOutcome::Healthy);
    assert_eq!(decide(&o, after(21)), Step::Prune, "what the failed version created goes when the other is healthy");
    o.outcomes.prune = Some(ApplyOutcome::Applied);
    let Step::Finish(ending) = decide(&o, after(21)) else { panic!() };
    assert_eq!((ending.end, ending.reason.as_str(), ending.restored), (End::Failed, "RolledBack", true));
    assert!(ending.message.starts_with("Unhealthy: applied, but not healthy: web. orders 1.3.0 was put back"), "{}", ending.message);
}

#[test]
fn the_way_back_ends_within_the_time_out_whatever_stands_in_it() {
    let told = |o: &Observed, at: i64| match decide(o, after(at)) {
        Step::Finish(ending) => {
            assert_eq!((ending.end, ending.reason.as_str()), (End::Failed, "RollbackFailed"));
            assert!(ending.message.starts_with("Unhealthy: ") && ending.message.contains("retry orders-qa -n host"), "{}", ending.message);
            (ending.restored, ending.message)
        }
        other => panic!("{other:?}"),
    };
    let mut o = returning();
    for (fact, waits_first) in [
        (ApplyOutcome::Blocked(refused()), false),
        (ApplyOutcome::Blocked(missing()), true),
        (ApplyOutcome::Unavailable("down".into()), true),
    ] {
        o.outcomes.restore = Some(fact);
        if waits_first {
            let (at, _, message) = waits(decide(&o, after(619)));
            assert!(at == Progress::Rollback && message.contains("until"), "{message}");
        }
        let (restored, message) = told(&o, 620);
        assert!(!restored && message.contains("objects of both versions may be in the target"), "{message}");
    }
    o.outcomes.restore = Some(ApplyOutcome::Applied);
    o.outcomes.health = Some(HealthOutcome::Healthy);
    for fact in [ApplyOutcome::Blocked(refused()), ApplyOutcome::Blocked(missing()), ApplyOutcome::Unavailable("down".into())] {
        o.outcomes.prune = Some(fact);
        let (restored, message) = told(&o, 620);
        assert!(restored && message.contains("What the version that failed created is still there"), "{message}");
    }
    o.outcomes.prune = None;
    for fact in [HealthOutcome::Pending("web".into()), HealthOutcome::Failed("web".into()), HealthOutcome::Blocked(missing())] {
        o.outcomes.health = Some(fact);
        let (restored, message) = told(&o, 620);
        assert!(restored && message.contains("All objects of orders 1.3.0 were put back"), "{message}");
    }
}

#[test]
fn an_end_on_record_is_told_as_it_was() {
    for (begun, restored, reason) in
        [(true, true, Reason::RolledBack), (true, false, Reason::RollbackFailed), (false, false, Reason::ApplyFailed)]
    {
        let mut o = if begun { returning() } else { deploying(OnFailure::Keep) };
        let mut own = second().artifact.present().unwrap().deployments[0].clone();
        own.request_uid = "r1".into();
        own.outcome = Outcome::Failed;
        own.failure = Some((reason, "why".into()));
        own.restored = restored.then(|| "1.3.0".into());
        if let Lookup::Present(artifact) = &mut o.artifact {
            artifact.deployments.push(own);
        }
        let Step::Finish(ending) = decide(&o, after(700)) else { panic!() };
        let told = (ending.end, ending.reason, ending.message.as_str(), ending.restored);
        assert_eq!(told, (End::Failed, reason, "why", restored));
    }
}

#[test]
fn what_is_on_record_may_be_asked_for_again_where_a_later_version_failed_and_was_left() {
    let current = |version| Some(CurrentVersion { version, digest: DIGEST.into(), request: "old".into() });
    for (version, allowed) in [(Version::new(1, 4, 0), true), (Version::new(1, 5, 0), false)] {
        let o = head().with_target(|t| (t.current, t.failed) = (current(version.clone()), Some("newer".into())));
        assert_eq!(decide(&o, after(5)) == Step::Export, allowed, "{version}");
        let o = head().asked().decided(ApprovalDecision::Approved).planned(HASH);
        let o = o.with_target(|t| (t.current, t.failed) = (current(version.clone()), Some("newer".into())));
        assert_eq!(decide(&o, after(9)) == Step::Claim, allowed, "{version}");
    }
}

proptest! {
    /// Once the way back has begun, the version that failed is not applied any more, nothing succeeds, nothing is written without the
    /// claim, and by twice the time-out it has ended, whatever is found.
    #[test]
    fn there_is_no_way_from_the_way_back(
        apply in 0..5u8, restore in 0..5u8, health in 0..5u8, claim in 0..3u8, stage in any::<bool>(), confirmed in any::<bool>(),
        pruned in any::<bool>(), cancel in any::<bool>(), age in 20..5_000i64,
    ) {
        let fact = |number: u8| match number {
            1 => Some(ApplyOutcome::Applied),
            2 => Some(ApplyOutcome::Blocked(missing())),
            3 => Some(ApplyOutcome::Blocked(refused())),
            4 => Some(ApplyOutcome::Unavailable("down".into())),
            _ => None,
        };
        let mut o = returning();
        o.outcomes.apply = fact(apply);
        o.outcomes.restore = fact(restore);
        o.outcomes.prune = pruned.then_some(ApplyOutcome::Applied);
        o.outcomes.health = match health {
            1 => Some(HealthOutcome::Healthy),
            2 => Some(HealthOutcome::Blocked(missing())),
            3 => Some(HealthOutcome::Failed("web".into())),
            4 => Some(HealthOutcome::Pending("web".into())),
            _ => None,
        };
        if !stage { o.stage = Lookup::Absent; }
        o = o.with_target(|t| match claim {
            1 => t.claim = None,
            2 => t.claim = Some(ClaimView { request: "other".into(), request_uid: "r9".into() }),
            _ => {}
        });
        o.confirmed = confirmed;
        o.request.cancel = cancel;
        match decide(&o, after(age)) {
            Step::Rollback => prop_assert!(claim == 0 && restore == 0),
            Step::Check => prop_assert!(claim == 0 && restore == 1 && health == 0),
            Step::Prune => prop_assert!(claim == 0 && restore == 1 && health == 1 && !pruned),
            Step::Confirm => prop_assert!(claim != 0 && !confirmed),
            Step::Wait(wait) => {
                prop_assert!(age < 20 + 600 && claim == 0);
                prop_assert_eq!(wait.at, Progress::Rollback);
            }
            Step::Finish(ending) => {
                prop_assert_eq!(ending.end, End::Failed);
                prop_assert!(!ending.restored || restore == 1 && claim == 0);
                prop_assert!(ending.reason.as_str() != "RolledBack" || restore == 1 && health == 1 && pruned);
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
