use super::*;
use crate::api::environment::{Claim, DeployedSolution};
use crate::api::reference::GroupKind;
use crate::policy::check::{Check, polled};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or_default()
}

fn found(outcome: Check, id: Option<&str>) -> Validation {
    Validation {
        outcome: outcome.map(|()| Good { reason: Reason::Validated, message: String::new() }),
        facts: id.map(|id| Facts { environment_id: id.into(), region: None, kubernetes_version: "v1.36.0".into() }),
    }
}

fn solution(name: &str, version: Option<&str>, claim: Option<&str>) -> DeployedSolution {
    DeployedSolution {
        name: name.into(),
        version: version.map(Into::into),
        claim: claim.map(|uid| Claim { request: format!("{name}-request"), request_uid: uid.into(), digest: String::new(), since: at(0) }),
        ..DeployedSolution::default()
    }
}

#[test]
fn validated_at_moves_only_with_the_outcome() {
    let mut status = EnvironmentStatus::default();
    record(&mut status, &found(Ok(()), Some("n1")), Some(1), at(10));
    record(&mut status, &found(Ok(()), Some("n1")), Some(1), at(20));
    assert_eq!((status.validated_at, status.validation_status), (Some(at(10)), ValidationStatus::Success));
    record(&mut status, &found(polled(Reason::NotManaged, "why"), None), Some(1), at(30));
    record(&mut status, &found(polled(Reason::RegionMismatch, "why"), None), Some(1), at(40));
    assert_eq!((status.validated_at, status.validation_status), (Some(at(30)), ValidationStatus::Failed));
    assert_eq!(status.environment_id.as_deref(), Some("n1"), "what was validated once is not forgotten");
}

#[test]
fn a_pass_that_finds_the_same_changes_nothing() {
    let mut status = EnvironmentStatus::default();
    record(&mut status, &found(polled(Reason::NotManaged, "why"), None), Some(1), at(10));
    let before = status.clone();
    record(&mut status, &found(polled(Reason::NotManaged, "why"), None), Some(1), at(99));
    assert_eq!(status, before);
    let types: Vec<&str> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(types, ["Validated", "Ready", "Reconciling", "Stalled"]);
}

#[test]
fn an_orphaned_claim_is_released_and_others_stay() {
    // Nobody else knows about the cluster-scoped objects.
    let mut begun = solution("begun", None, Some("gone"));
    begun.may_have(&[GroupKind { group: "scheduling.k8s.io".into(), kind: "PriorityClass".into() }]);
    let mut status = EnvironmentStatus {
        solutions: vec![
            solution("orders", Some("1.0.0"), Some("gone")),
            solution("fresh", None, Some("gone")),
            begun,
            solution("taken", Some("1.0.0"), Some("newer")),
            solution("idle", None, None),
        ],
        ..EnvironmentStatus::default()
    };
    let orphans = ["orders", "fresh", "begun", "taken"].map(|name| (name.to_owned(), "gone".to_owned()));
    release(&mut status, &orphans);
    let left: Vec<(&str, bool)> = status.solutions.iter().map(|s| (s.name.as_str(), s.claim.is_some())).collect();
    assert_eq!(left, [("orders", false), ("begun", false), ("taken", true), ("idle", false)]);
}
