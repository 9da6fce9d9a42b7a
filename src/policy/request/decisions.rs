//! Everybody who decided about a request, gate by gate, for records and for people.

use crate::api::artifact::{DecidedGate, MAX_APPROVED_BY, RecordedDecision};
use crate::api::bounds;
use crate::api::condition::{Condition, find};
use crate::api::request_status::{DeploymentRequestStatus, condition_types};

/// The decisions, in the order of the gates; `conditions` say when they were seen.
pub(crate) fn of(status: Option<&DeploymentRequestStatus>, conditions: &[Condition]) -> Vec<RecordedDecision> {
    let Some(status) = status else { return Vec::new() };
    let seen = |type_: &str| find(conditions, type_).map(|condition: &Condition| condition.last_transition_time);
    let steps = [
        (DecidedGate::PreExportStep, condition_types::PRE_EXPORT_STEP_COMPLETED, status.pre_export_step.as_ref()),
        (DecidedGate::PreDeploymentStep, condition_types::PRE_DEPLOYMENT_STEP_COMPLETED, status.pre_deployment_step.as_ref()),
    ];
    let decided = |gate, type_, by: &Option<String>, for_: &Option<String>| RecordedDecision {
        gate,
        by: by.clone().unwrap_or_default(),
        on_behalf_of: for_.clone(),
        at: seen(type_),
    };
    let [first, last] = steps.map(|(gate, type_, step)| step.map(|d| decided(gate, type_, &d.by, &d.on_behalf_of)));
    let approval = status.approval.as_ref().map(|d| decided(DecidedGate::Approval, condition_types::APPROVED, &d.by, &d.on_behalf_of));
    [first, approval, last].into_iter().flatten().collect()
}

/// The same in one line; nothing where nobody decided.
pub(crate) fn in_words(decisions: &[RecordedDecision]) -> Option<String> {
    let each: Vec<String> = decisions
        .iter()
        .map(|d| {
            let gate = match d.gate {
                DecidedGate::PreExportStep => "pre-export",
                DecidedGate::Approval => "approval",
                DecidedGate::PreDeploymentStep => "pre-deployment",
            };
            let person = d.on_behalf_of.as_ref().map(|person| format!(" (for {person}, as reported)")).unwrap_or_default();
            format!("{gate}: {}{person}", d.by)
        })
        .collect();
    (!each.is_empty()).then(|| bounds::text(&each.join(", "), MAX_APPROVED_BY))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everybody_who_decided_is_named_gate_by_gate() {
        let status: DeploymentRequestStatus = serde_json::from_value(json!({
            "preExportStep": {"decision": "Completed", "by": "eve"},
            "approval": {"decision": "Approved", "by": "system:serviceaccount:h:bot", "onBehalfOf": "olga"},
            "preDeploymentStep": {"decision": "Completed", "by": "mary"},
            "conditions": [{"type": "Approved", "status": "True", "lastTransitionTime": "2026-11-30T00:00:00Z", "reason": "Approved", "message": ""}],
        }))
        .unwrap();
        let decisions = of(Some(&status), &status.run.conditions);
        assert_eq!(
            in_words(&decisions).unwrap(),
            "pre-export: eve, approval: system:serviceaccount:h:bot (for olga, as reported), pre-deployment: mary"
        );
        assert!(decisions[1].at.is_some() && decisions[0].at.is_none());
        assert_eq!(in_words(&[]), None);
    }
}
