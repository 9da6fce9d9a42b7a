//! Which triggers have happened to a request, as its own status says.

use jiff::Timestamp;

use crate::api::DeploymentRequest;
use crate::api::condition::{self, ConditionStatus, whole_seconds};
use crate::api::pipeline::Trigger;
use crate::api::reason::Reason;
use crate::api::request_status::{RunStatus, condition_types};

/// A trigger and when it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Happened {
    /// What happened.
    pub(crate) trigger: Trigger,
    /// When.
    pub(crate) at: Timestamp,
}

/// When a request was created, by the API server's clock.
pub(crate) fn created(request: &DeploymentRequest) -> Timestamp {
    request.metadata.creation_timestamp.as_ref().map(|t| t.0).unwrap_or_default()
}

/// What has happened to a request so far, in order. This never changes later: the fields that it is read from are written once.
pub(crate) fn of(request: &DeploymentRequest) -> Vec<Happened> {
    let Some(status) = &request.status else { return Vec::new() };
    let run = &status.run;
    // Nothing is sent about a request before the operator has noticed it. Its Events begin then too. And nothing about one that only plans:
    // there is no deployment that somebody could decide on.
    if run.phase.is_empty() || request.spec.plan_only {
        return Vec::new();
    }
    let approval = decided(run, condition_types::APPROVED, status.approval.is_some());
    let step = decided(run, condition_types::PRE_DEPLOYMENT_STEP_COMPLETED, status.pre_deployment_step.is_some());
    [
        (Trigger::OnDeploymentRequested, Some(created(request))),
        (Trigger::OnApprovalStarted, run.gates.approval.as_ref().map(|g| g.opened_at)),
        (Trigger::OnApprovalCompleted, approval),
        (Trigger::OnPreDeploymentStarted, run.gates.pre_deployment_step.as_ref().map(|g| g.opened_at)),
        (Trigger::OnPreDeploymentCompleted, step),
        (Trigger::OnDeploymentStarted, run.start_time),
        (Trigger::OnDeploymentCompleted, run.end_time),
    ]
    .into_iter()
    .filter_map(|(trigger, at)| Some(Happened { trigger, at: whole_seconds(at?) }))
    .collect()
}

/// When a gate was decided: after the operator has acted on the decision, or the request has ended with it.
fn decided(run: &RunStatus, type_: &str, made: bool) -> Option<Timestamp> {
    let condition = condition::find(&run.conditions, type_).filter(|c| c.status == ConditionStatus::True || c.reason == Reason::Rejected);
    condition.map(|c| c.last_transition_time).or_else(|| run.end_time.filter(|_| made))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(status: &Value) -> DeploymentRequest {
        let object = json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": "DeploymentRequest",
            "metadata": {"name": "r", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"pipeline": "p", "stage": "s", "solution": {"name": "orders", "version": "1.0.0"}},
            "status": status,
        });
        serde_json::from_value(object).unwrap_or_else(|error| unreachable!("{error}"))
    }

    fn triggers(status: &Value) -> Vec<Trigger> {
        of(&request(status)).iter().map(|h| h.trigger).collect()
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:01:00Z"})
    }

    #[test]
    fn nothing_is_told_of_a_request_that_was_not_noticed() {
        assert_eq!(triggers(&json!({})), []);
        assert_eq!(triggers(&json!({"phase": "Pending"})), [Trigger::OnDeploymentRequested]);
    }

    #[test]
    fn a_whole_life_is_told_in_its_order() {
        use Trigger::*;
        let gate = json!({"openedAt": "2026-01-01T00:00:10Z", "allowSelfApproval": false});
        let mut status = json!({
            "phase": "Succeeded",
            "gates": {"approval": gate, "preDeploymentStep": gate},
            "approval": {"decision": "Approved"},
            "preDeploymentStep": {"decision": "Completed"},
            "startTime": "2026-01-01T00:02:00Z",
            "endTime": "2026-01-01T00:03:00Z",
            "conditions": [condition("Approved", "True", "Approved"), condition("PreDeploymentStepCompleted", "True", "Completed")],
        });
        let all = [
            OnDeploymentRequested,
            OnApprovalStarted,
            OnApprovalCompleted,
            OnPreDeploymentStarted,
            OnPreDeploymentCompleted,
            OnDeploymentStarted,
            OnDeploymentCompleted,
        ];
        assert_eq!(triggers(&status), all);
        assert!(all.is_sorted(), "the order of the enum is the order of a life");
        let times: Vec<String> = of(&request(&status)).iter().map(|h| h.at.to_string()).collect();
        assert_eq!(times[2], "2026-01-01T00:01:00Z");
        assert_eq!(times[6], "2026-01-01T00:03:00Z");
        status["conditions"] = json!([]);
        assert_eq!(triggers(&status), all, "a decision that was made before another end is told with it");
    }

    #[test]
    fn a_rejection_completes_its_gate_and_the_request() {
        use Trigger::*;
        let status = json!({
            "phase": "Rejected",
            "gates": {"approval": {"openedAt": "2026-01-01T00:00:10Z", "allowSelfApproval": false}},
            "approval": {"decision": "Rejected"},
            "endTime": "2026-01-01T00:03:00Z",
            "conditions": [condition("Approved", "False", "Rejected")],
        });
        assert_eq!(triggers(&status), [OnDeploymentRequested, OnApprovalStarted, OnApprovalCompleted, OnDeploymentCompleted]);
        let timed_out = json!({
            "phase": "Failed",
            "gates": {"approval": {"openedAt": "2026-01-01T00:00:10Z", "allowSelfApproval": false}},
            "endTime": "2026-01-01T00:03:00Z",
            "conditions": [condition("Approved", "False", "GateTimedOut")],
        });
        assert_eq!(triggers(&timed_out), [OnDeploymentRequested, OnApprovalStarted, OnDeploymentCompleted]);
    }
}
