use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A record of a deployment to a stage that ended at a time of November 2026: `"03 10:00"`.
fn record(stage: &str, ended: &str, outcome: &str, more: &Value) -> Value {
    let (day, time) = ended.split_once(' ').unwrap();
    let ended = format!("2026-11-{day}T{time}:00Z");
    let mut record = json!({
        "requestUID": ended, "request": "r", "pipeline": "standard", "stage": stage, "stageUID": "s", "environment": stage, "environmentUID": "e",
        "environmentId": stage, "settingsDigest": "sha256:s", "requestedBy": "dana", "deployedBy": "bot",
        "startedAt": ended, "endedAt": ended, "outcome": outcome,
    });
    record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    record
}

/// A version that appeared in development on the first of November.
fn artifact(version: &str, records: &[Value]) -> Artifact {
    serde_json::from_value(json!({
        "metadata": {"name": format!("orders-{version}"), "namespace": "host"},
        "spec": {
            "solution": {"name": "orders", "version": version}, "digest": "sha256:a", "source": {"environment": "dev"}, "exportedBy": {"username": "dana"},
            "exportedAt": "2026-11-02T00:00:00Z", "developedAt": "2026-11-01T00:00:00Z", "objectCount": 1, "size": 1, "storedSize": 1, "chunks": 1,
        },
        "status": {"deployments": records},
    }))
    .unwrap()
}

fn of(artifacts: &[Artifact], choice: &Choice, by: &[By]) -> Vec<Figures> {
    report(artifacts, &[], choice, by, at("2026-11-15T00:00:00Z"))
}

const HOUR: i64 = 3600;

#[test]
fn a_version_counts_once_for_each_stage_and_keeps_its_first_time() {
    let none = json!({});
    let again = json!({"firstSucceededAt": "2026-11-01T10:00:00Z"});
    let first = artifact(
        "1.0.0",
        &[
            record("qa", "05 00:00", "Succeeded", &again),
            record("prod", "02 00:00", "Succeeded", &none),
            record("prod", "09 00:00", "Succeeded", &none),
        ],
    );
    let figures = of(&[first], &Choice::default(), &[By::Stage]);
    let told: Vec<_> = figures.iter().map(|f| (f.group.stage.as_deref().unwrap(), f.deployments, f.lead_time.median)).collect();
    assert_eq!(told, [("prod", 1, Some(24 * HOUR)), ("qa", 1, Some(10 * HOUR))]);
    assert_eq!(figures[0].group.pipeline.as_deref(), Some("standard"));
}

#[test]
fn a_version_without_a_time_in_development_counts_from_when_it_was_fetched() {
    let mut fetched = artifact("1.0.0", &[record("qa", "02 05:00", "Succeeded", &json!({}))]);
    fetched.spec.developed_at = None;
    assert_eq!(of(&[fetched], &Choice::default(), &[])[0].lead_time.median, Some(5 * HOUR));
}

#[test]
fn a_change_fails_once_however_often_it_is_tried_and_is_restored_by_the_next_success() {
    let none = json!({});
    let back = json!({"restored": "1.0.0", "failedAt": "2026-11-04T11:00:00Z"});
    let artifacts = [
        artifact("1.0.0", &[record("qa", "02 10:00", "Succeeded", &none)]),
        artifact(
            "1.1.0",
            &[
                record("qa", "03 10:00", "Failed", &none),
                record("qa", "03 11:00", "Failed", &none),
                record("qa", "03 14:00", "Succeeded", &none),
            ],
        ),
        artifact("1.2.0", &[record("qa", "04 12:00", "Failed", &back)]),
        artifact("1.3.0", &[record("qa", "05 10:00", "Failed", &none)]),
    ];
    let [figures] = &of(&artifacts, &Choice::default(), &[By::Pipeline])[..] else { panic!("one pipeline") };
    assert_eq!((figures.changes, figures.failed_changes, figures.change_failure_rate), (4, 3, Some(0.75)));
    assert_eq!(figures.time_to_restore, Spread { count: 2, median: Some(HOUR), p90: Some(4 * HOUR) });
    assert_eq!((figures.not_restored, figures.deployments), (1, 2));
}

#[test]
fn the_wait_at_each_gate_is_told_apart() {
    let decisions = json!({"decisions": [
        {"gate": "Approval", "by": "bot", "openedAt": "2026-11-02T08:00:00Z", "at": "2026-11-02T09:00:00Z"},
        {"gate": "PreDeploymentStep", "by": "eve", "openedAt": "2026-11-02T09:00:00Z", "at": "2026-11-02T12:00:00Z"},
        {"gate": "PreExportStep", "by": "eve", "at": "2026-11-02T12:00:00Z"},
    ]});
    let [figures] = &of(&[artifact("1.0.0", &[record("qa", "02 13:00", "Succeeded", &decisions)])], &Choice::default(), &[])[..] else {
        panic!("one group")
    };
    let of_gates = [figures.pre_export_step, figures.approval, figures.pre_deployment_step].map(|gate| (gate.count, gate.median));
    assert_eq!(of_gates, [(0, None), (1, Some(HOUR)), (1, Some(3 * HOUR))], "what has no opening on record is not guessed");
}

#[test]
fn months_and_periods_cut_by_when_it_happened() {
    let none = json!({});
    let mut old = artifact("1.0.0", &[record("qa", "02 00:00", "Succeeded", &none)]);
    old.status.as_mut().unwrap().deployments[0].ended_at = at("2026-10-31T23:59:59Z");
    let artifacts = [
        old,
        artifact("1.1.0", &[record("qa", "08 00:00", "Succeeded", &none)]),
        artifact("1.2.0", &[record("qa", "12 00:00", "Succeeded", &none)]),
    ];
    let months = of(&artifacts, &Choice::default(), &[By::Month]);
    let told: Vec<_> = months.iter().map(|f| (f.group.month.as_deref().unwrap(), f.deployments, f.deployments_per_week)).collect();
    // Of October there is less than a day, and of November there are two weeks.
    assert_eq!(told, [("2026-10", 1, 7.0), ("2026-11", 2, 1.0)]);
    let week = Choice { since: Some(at("2026-11-08T00:00:00Z")), until: Some(at("2026-11-12T00:00:00Z")), ..Choice::default() };
    assert_eq!(of(&artifacts, &week, &[])[0].deployments, 1, "from the beginning on, and before the end");
    let other = Choice { stage: Some("prod".into()), ..Choice::default() };
    assert_eq!(of(&artifacts, &other, &[]), []);
    assert_eq!(of(&artifacts, &Choice { pipeline: Some("other".into()), ..Choice::default() }, &[]), []);
}

#[test]
fn a_percentile_is_one_of_what_was_measured() {
    let spread = Spread::of((1..=10).rev().collect());
    assert_eq!((spread.count, spread.median, spread.p90), (10, Some(5), Some(9)));
    assert_eq!(Spread::of(vec![7]), Spread { count: 1, median: Some(7), p90: Some(7) });
}

proptest! {
    /// However a report tells apart, it counts the same.
    #[test]
    fn what_is_told_apart_adds_up(entries in proptest::collection::vec((0..4u8, 0..3u8, 1..29u8, any::<bool>(), any::<bool>()), 0..40)) {
        let mut by_version: BTreeMap<u8, Vec<Value>> = BTreeMap::new();
        for (version, stage, day, good, restored) in entries {
            let more = if !good && restored { json!({"restored": "0.9.0"}) } else { json!({}) };
            let ended = format!("{day:02} 00:00");
            let outcome = if good { "Succeeded" } else { "Failed" };
            by_version.entry(version).or_default().push(record(&format!("s{stage}"), &ended, outcome, &more));
        }
        let artifacts: Vec<Artifact> = by_version.iter().map(|(version, records)| artifact(&format!("1.{version}.0"), records)).collect();
        let sum = |by: &[By]| {
            let all = of(&artifacts, &Choice::default(), by);
            all.iter().fold((0, 0, 0, 0), |(a, b, c, d), f| (a + f.deployments, b + f.changes, c + f.failed_changes, d + f.time_to_restore.count + f.not_restored))
        };
        let whole = sum(&[]);
        for by in [&[By::Stage][..], &[By::Month], &[By::Pipeline, By::Month], &[By::Stage, By::Month]] {
            prop_assert_eq!(sum(by), whole);
        }
        prop_assert!(whole.0 <= whole.1 && whole.2 <= whole.1);
    }
}

/// A request that ended on the third of November.
fn ended(name: &str, status: &Value) -> DeploymentRequest {
    let mut request = json!({
        "metadata": {"name": name, "namespace": "host", "uid": name},
        "spec": {"pipeline": "standard", "stage": "qa", "solution": {"name": "orders", "version": "2.0.0"}},
        "status": {"endTime": "2026-11-03T05:00:00Z"},
    });
    request["status"].as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    serde_json::from_value(request).unwrap()
}

#[test]
fn waits_of_what_was_rejected_or_withdrawn_count_and_nothing_else_of_it() {
    let seen =
        |type_: &str, at: &str| json!({"type": type_, "status": "False", "reason": "Rejected", "message": "", "lastTransitionTime": at});
    let opened = |at: &str| json!({"openedAt": at});
    let rejected = json!({"phase": "Rejected", "gates": {"approval": opened("2026-11-03T01:00:00Z")},
        "approval": {"decision": "Rejected", "by": "bot"}, "conditions": [seen("Approved", "2026-11-03T03:00:00Z")]});
    // Nobody decided: it waited until it was withdrawn.
    let canceled = json!({"phase": "Canceled", "gates": {"preExportStep": opened("2026-11-03T01:00:00Z")}});
    // What has claimed its target is told by its record, and what is under way has not waited to the end.
    let begun = json!({"phase": "Failed", "startTime": "2026-11-03T04:00:00Z", "gates": {"approval": opened("2026-11-03T01:00:00Z")}});
    let open = json!({"phase": "AwaitingApproval", "endTime": null, "gates": {"approval": opened("2026-11-03T01:00:00Z")}});
    let requests = [ended("a", &rejected), ended("b", &canceled), ended("c", &begun), ended("d", &open)];
    let now = at("2026-11-15T00:00:00Z");
    let [figures] = &report(&[], &requests, &Choice::default(), &[By::Stage], now)[..] else { panic!("one stage") };
    assert_eq!((figures.approval.count, figures.approval.median), (1, Some(2 * HOUR)));
    assert_eq!((figures.pre_export_step.count, figures.pre_export_step.median), (1, Some(4 * HOUR)));
    assert_eq!((figures.deployments, figures.changes, figures.change_failure_rate, figures.not_restored), (0, 0, None, 0));
    let of = |choice: Choice| report(&[], &requests, &choice, &[By::Stage], now).len();
    assert_eq!(of(Choice { stage: Some("prod".into()), ..Choice::default() }), 0);
    assert_eq!(of(Choice { until: Some(at("2026-11-03T02:00:00Z")), ..Choice::default() }), 0, "it counts when it was decided");
}
