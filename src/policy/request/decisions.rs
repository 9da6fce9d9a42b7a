//! Everybody who decided about a request, gate by gate, for records and for people.

use crate::api::artifact::{DecidedGate, MAX_APPROVED_BY, RecordedDecision};
use crate::api::bounds;
use crate::api::condition::{Condition, find};
use crate::api::request_status::{DeploymentRequestStatus, Gate, StepDecision, condition_types};

/// The decisions, in the order of the gates; `conditions` say when they were seen.
pub(crate) fn of(status: Option<&DeploymentRequestStatus>, conditions: &[Condition]) -> Vec<RecordedDecision> {
    let Some(status) = status else { return Vec::new() };
    let seen = |type_: &str| find(conditions, type_).map(|condition: &Condition| condition.last_transition_time);
    let (gates, types) = (&status.run.gates, [condition_types::PRE_EXPORT_STEP_COMPLETED, condition_types::PRE_DEPLOYMENT_STEP_COMPLETED]);
    let step = |gate, opened: &Option<Gate>, type_: &str, decision: &Option<StepDecision>| {
        decision.as_ref().map(|decision| RecordedDecision {
            gate,
            by: decision.by.clone().unwrap_or_default(),
            on_behalf_of: decision.on_behalf_of.clone(),
            opened_at: opened.as_ref().map(|gate| gate.opened_at),
            at: seen(type_),
            comments: decision.comments.clone(),
            properties: decision.properties.clone(),
        })
    };
    let approval = status.approval.as_ref().map(|decision| RecordedDecision {
        gate: DecidedGate::Approval,
        by: decision.by.clone().unwrap_or_default(),
        on_behalf_of: decision.on_behalf_of.clone(),
        opened_at: gates.approval.as_ref().map(|gate| gate.opened_at),
        at: seen(condition_types::APPROVED),
        comments: decision.comments.clone(),
        properties: decision.properties.clone(),
    });
    let first = step(DecidedGate::PreExportStep, &gates.pre_export_step, types[0], &status.pre_export_step);
    let last = step(DecidedGate::PreDeploymentStep, &gates.pre_deployment_step, types[1], &status.pre_deployment_step);
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
            "approval": {"decision": "Approved", "by": "system:serviceaccount:h:bot", "onBehalfOf": "olga", "comments": "fine", "properties": {"ticket": "7"}},
            "gates": {"approval": {"openedAt": "2026-11-29T00:00:00Z"}},
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
        assert!(decisions[1].opened_at < decisions[1].at && decisions[0].opened_at.is_none());
        let said = (decisions[1].comments.as_deref(), decisions[1].properties.get("ticket").map(String::as_str));
        assert_eq!(said, (Some("fine"), Some("7")));
        assert_eq!(in_words(&[]), None);
    }
}
