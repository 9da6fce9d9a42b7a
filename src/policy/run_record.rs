//! The record of a run, from its request: what is kept when the request is gone.

use jiff::Timestamp;
use kube::ResourceExt;

use super::request::decisions;
use super::request::step::{End, Ending};
use crate::api::artifact::{DeploymentRecord, MAX_MESSAGE, Outcome};
use crate::api::bounds;
use crate::api::plan::PlanResult;
use crate::api::record::{MAX_FINDING_MESSAGE, MAX_FINDINGS, RecordedFinding, RecordedSettings};
use crate::api::request_status::{ObjectError, RunStatus};
use crate::api::{DeploymentRequest, Environment};

/// The record of a run that claimed its target at `started` and ended at `ended`. `None` if there was no plan, without which nothing
/// claims a target.
pub(crate) fn of(
    request: &DeploymentRequest,
    run: &RunStatus,
    target: Option<&Environment>,
    (started, ended): (Timestamp, Timestamp),
    ending: &Ending,
) -> Option<DeploymentRecord> {
    let plan = run.plan.as_ref()?;
    let (spec, good) = (&request.spec, ending.end == End::Succeeded);
    let decisions = decisions::of(request.status.as_ref(), &run.conditions);
    let (findings, findings_omitted) =
        first(&plan.results, plan.results_omitted, |r: &PlanResult| finding(&r.kind, &r.name, &r.reason, &r.message));
    let (errors, errors_omitted) =
        first(&run.errors, run.errors_omitted, |e: &ObjectError| finding(&e.kind, &e.name, &e.reason, &e.message));
    Some(DeploymentRecord {
        request_uid: request.uid().unwrap_or_default(),
        request: request.name_any(),
        pipeline: spec.pipeline.clone(),
        stage: spec.stage.clone(),
        stage_uid: plan.stage_uid.clone(),
        environment: target.map(ResourceExt::name_any).unwrap_or_default(),
        environment_uid: target.and_then(ResourceExt::uid).unwrap_or_default(),
        environment_id: plan.environment_id.clone(),
        cluster: target.and_then(Environment::cluster_name),
        settings_digest: plan.settings_digest.clone(),
        settings: RecordedSettings::of(spec.deployment_settings.as_ref()),
        requested_by: spec.requested_by.as_ref().map(|r| r.username.clone()).unwrap_or_default(),
        on_behalf_of: spec.on_behalf_of.clone(),
        asked_at: request.metadata.creation_timestamp.as_ref().map(|at| at.0),
        approved_by: decisions::in_words(&decisions),
        decisions,
        deployed_by: run.deployed_by.clone().unwrap_or_default(),
        started_at: started,
        ended_at: ended,
        outcome: if good { Outcome::Succeeded } else { Outcome::Failed },
        reason: (!good).then(|| ending.reason.into()),
        message: (!good).then(|| bounds::text(&ending.message, MAX_MESSAGE)),
        restored: run.rollback.as_ref().filter(|_| ending.restored).map(|rollback| rollback.version.clone()),
        failed_at: run.rollback.as_ref().map(|rollback| rollback.since),
        first_succeeded_at: None,
        plan: Some(plan.into()),
        findings,
        findings_omitted,
        errors,
        errors_omitted,
        details_omitted: false,
    })
}

fn finding(kind: &str, name: &str, reason: &str, message: &str) -> RecordedFinding {
    RecordedFinding {
        kind: kind.to_owned(),
        name: name.to_owned(),
        reason: reason.to_owned(),
        message: bounds::text(message, MAX_FINDING_MESSAGE),
    }
}

/// The first of a list, and how many there were beyond.
fn first<T>(all: &[T], omitted: i32, of: impl Fn(&T) -> RecordedFinding) -> (Vec<RecordedFinding>, i32) {
    let beyond = i32::try_from(all.len().saturating_sub(MAX_FINDINGS)).unwrap_or(i32::MAX);
    (all.iter().take(MAX_FINDINGS).map(of).collect(), omitted.saturating_add(beyond))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::reason::Reason;
    use crate::policy::request::step::Progress;

    fn request() -> DeploymentRequest {
        let finding = json!({"kind": "Secret", "name": "orders-db", "reason": "UsesMore", "message": "m".repeat(2000)});
        serde_json::from_value(json!({
            "metadata": {"name": "to-qa", "namespace": "host", "uid": "r1", "creationTimestamp": "2026-11-30T00:00:00Z"},
            "spec": {
                "pipeline": "standard", "stage": "qa", "solution": {"name": "orders", "version": "1.4.0"}, "onBehalfOf": "dana",
                "requestedBy": {"username": "flux"},
                "deploymentSettings": {"environmentVariables": [{"name": "GREETING", "value": "hello"}],
                    "connectionReferences": [{"name": "db", "secretName": "orders-db"}]},
            },
            "status": {
                "approval": {"decision": "Approved", "by": "bot", "comments": "fine", "properties": {"ticket": "7"}},
                "plan": {"hash": "sha256:h", "artifactDigest": "sha256:a", "settingsDigest": "sha256:s", "environmentId": "n", "stageUID": "s",
                    "delegate": "bot", "replacesVersion": "1.3.0", "replaces": "sha256:o", "create": 3, "unchanged": 29, "results": vec![finding; 20]},
                "errors": [{"kind": "Deployment", "name": "web", "reason": "DeniedByPolicy", "message": "no"}],
                "rollback": {"version": "1.3.0", "digest": "sha256:o", "since": "2026-11-30T01:00:00Z", "reason": "ApplyFailed", "message": "no"},
                "deployedBy": "bot",
            },
        }))
        .unwrap()
    }

    fn times() -> (Timestamp, Timestamp) {
        (Timestamp::UNIX_EPOCH, Timestamp::from_second(60).unwrap())
    }

    #[test]
    fn a_record_holds_who_what_with_which_settings_by_which_plan_and_how_it_went() {
        let request = request();
        let run = request.status.as_ref().unwrap().run.clone();
        let ending =
            Ending { end: End::Failed, at: Progress::Rollback, reason: Reason::RolledBack, message: "back".into(), restored: true };
        let record = of(&request, &run, None, times(), &ending).unwrap();
        assert_eq!((record.requested_by.as_str(), record.on_behalf_of.as_deref()), ("flux", Some("dana")));
        let settings = record.settings.unwrap();
        assert_eq!(settings.environment_variables[0].value, "hello");
        assert_eq!(settings.connection_references[0].secret_name, "orders-db", "the name of a Secret, never what is in it");
        let plan = record.plan.unwrap();
        assert_eq!((plan.hash.as_str(), plan.create, plan.unchanged, plan.replaces_version.as_deref()), ("sha256:h", 3, 29, Some("1.3.0")));
        assert_eq!((record.findings.len(), record.findings_omitted), (MAX_FINDINGS, 4));
        assert!(record.findings.iter().all(|f| f.message.chars().count() <= MAX_FINDING_MESSAGE));
        assert_eq!((record.errors[0].name.as_str(), record.errors_omitted), ("web", 0));
        assert_eq!(
            (record.restored.as_deref(), record.failed_at.map(|at| at.to_string())),
            (Some("1.3.0"), Some("2026-11-30T01:00:00Z".into()))
        );
        assert_eq!(record.decisions[0].comments.as_deref(), Some("fine"));
        assert!(record.asked_at.is_some());
    }

    #[test]
    fn without_a_plan_nothing_was_deployed() {
        let request = request();
        let run = RunStatus { plan: None, ..request.status.clone().unwrap().run };
        let ending =
            Ending { end: End::Failed, at: Progress::Deployment, reason: Reason::ApplyFailed, message: String::new(), restored: false };
        assert_eq!(of(&request, &run, None, times(), &ending), None);
    }
}
