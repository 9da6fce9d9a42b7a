//! What is told as Events of a Solution: what happened to a request since the Solution's status last told of it.

use crate::api::artifact::DecidedGate;
use crate::api::condition::in_a_line;
use crate::api::phase::Phase;
use crate::api::pipeline::Trigger;
use crate::api::reason::Reason;
use crate::api::solution::{SolutionDecision, SolutionDeployment, SolutionStatus};
use crate::api::solution_plans::SolutionPlan;
use crate::text;

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) is_warning: bool,
    /// What happened, in one word. The words are those of the request's own Events.
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// What the status told of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Before {
    phase: String,
    /// How many decisions. A request that is only named in `others` has told all of its own.
    decisions: usize,
}

/// What is new of a request in `now`, compared with what the status tells.
pub(crate) fn of_deployment(status: &SolutionStatus, now: &SolutionDeployment) -> Vec<Told> {
    let first = |d: &SolutionDeployment| {
        (d.request_uid == now.request_uid).then(|| Before { phase: d.phase.clone(), decisions: d.decisions.len() })
    };
    let other = |d: &SolutionDeployment| {
        let found = d.others.iter().find(|o| o.request_uid == now.request_uid)?;
        Some(Before { phase: found.phase.clone(), decisions: usize::MAX })
    };
    let before = status.deployments.iter().find_map(|d| first(d).or_else(|| other(d)));
    new(before.as_ref(), now)
}

fn new(before: Option<&Before>, now: &SolutionDeployment) -> Vec<Told> {
    let about = |message: &str| {
        let SolutionDeployment { version, stage, requester, request, .. } = now;
        text::line(&format!("{version} to stage {stage} for {requester} (request {request}): {message}")).into_owned()
    };
    let message = now.message.as_deref().unwrap_or_default();
    let tell = |reason: String, message: &str, is_warning: bool| Told { is_warning, reason, note: about(message) };
    let mut told = Vec::new();
    if before.is_none() {
        told.push(tell(trigger(Trigger::OnDeploymentRequested), message, false));
    }
    for decision in now.decisions.iter().skip(before.map_or(0, |before| before.decisions)) {
        let is_rejection = decision.decision == Reason::Rejected;
        told.push(tell(decided(decision), &in_words(decision), is_rejection));
    }
    if before.is_some_and(|before| before.phase == now.phase) {
        return told;
    }
    let phase = Phase::of(&now.phase);
    let reason = match phase {
        Some(Phase::AwaitingPreExportStep) => Reason::AwaitingPreExportStep.into(),
        Some(Phase::AwaitingApproval) => trigger(Trigger::OnApprovalStarted),
        Some(Phase::AwaitingPreDeploymentStep) => trigger(Trigger::OnPreDeploymentStarted),
        Some(Phase::Queued) => Reason::Queued.into(),
        Some(Phase::Deploying) => trigger(Trigger::OnDeploymentStarted),
        Some(Phase::RollingBack) => Reason::RollbackStarted.into(),
        Some(phase) if phase.is_terminal() => trigger(Trigger::OnDeploymentCompleted),
        _ => return told,
    };
    let is_warning = matches!(phase, Some(Phase::RollingBack | Phase::Failed | Phase::Rejected | Phase::Canceled));
    told.push(tell(reason, &format!("{}: {message}", now.phase), is_warning));
    told
}

/// The end of a request that only plans.
pub(crate) fn of_plan(status: &SolutionStatus, now: &SolutionPlan) -> Vec<Told> {
    let told = status.plans.iter().any(|plan| plan.request_uid == now.request_uid && Phase::has_ended(&plan.phase));
    if told || !Phase::has_ended(&now.phase) {
        return Vec::new();
    }
    let SolutionPlan { version, stage, requester, request, phase, message, .. } = now;
    let note = format!("plan of {version} for stage {stage}, for {requester} (request {request}): {phase}: {}", in_a_line(message));
    vec![Told { is_warning: *phase != Phase::Planned, reason: Reason::Planned.into(), note: text::line(&note).into_owned() }]
}

fn trigger(trigger: Trigger) -> String {
    format!("{trigger:?}")
}

fn decided(decision: &SolutionDecision) -> String {
    match decision.gate {
        DecidedGate::PreExportStep if decision.decision == Reason::Rejected => Reason::Rejected.into(),
        DecidedGate::PreExportStep => Reason::Completed.into(),
        DecidedGate::Approval => trigger(Trigger::OnApprovalCompleted),
        DecidedGate::PreDeploymentStep => trigger(Trigger::OnPreDeploymentCompleted),
    }
}

fn in_words(decision: &SolutionDecision) -> String {
    let person = decision.on_behalf_of.as_ref().map(|person| format!(" (for {person}, as reported)")).unwrap_or_default();
    let comments = decision.comments.as_ref().map(|comments| format!(": {comments}")).unwrap_or_default();
    format!("{} by {}{person}{comments}", decision.decision, decision.by)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn entry(phase: &str, decisions: &Value) -> SolutionDeployment {
        serde_json::from_value(
            json!({"host": "h", "stage": "qa", "pipeline": "p", "version": "1.0.0", "phase": phase, "request": "r", "requestUID": "u",
            "requester": "dana", "message": "a\nsecond line", "decisions": decisions, "at": "2026-11-30T00:00:00Z"}),
        )
        .unwrap()
    }

    fn approved() -> Value {
        json!([{"gate": "Approval", "decision": "Approved", "by": "bot", "onBehalfOf": "olga", "comments": "go"}])
    }

    fn reasons(told: &[Told]) -> Vec<&str> {
        told.iter().map(|t| t.reason.as_str()).collect()
    }

    #[test]
    fn a_story_is_told_once_and_in_its_order() {
        let mut status = SolutionStatus::default();
        let asked = entry("AwaitingApproval", &json!([]));
        assert_eq!(reasons(&of_deployment(&status, &asked)), ["OnDeploymentRequested", "OnApprovalStarted"]);
        status.deployments = vec![asked.clone()];
        assert_eq!(of_deployment(&status, &asked), []);
        let done = entry("Succeeded", &approved());
        let told = of_deployment(&status, &done);
        assert_eq!(reasons(&told), ["OnApprovalCompleted", "OnDeploymentCompleted"]);
        assert_eq!(told[0].note, "1.0.0 to stage qa for dana (request r): Approved by bot (for olga, as reported): go");
        assert!(told.iter().all(|t| !t.is_warning && !t.note.contains('\n')), "{told:?}");
        status.deployments = vec![done.clone()];
        assert_eq!(of_deployment(&status, &done), []);
    }

    #[test]
    fn what_goes_wrong_is_a_warning() {
        let status = SolutionStatus { deployments: vec![entry("AwaitingApproval", &json!([]))], ..SolutionStatus::default() };
        let rejected = entry("Rejected", &json!([{"gate": "Approval", "decision": "Rejected", "by": "bot"}]));
        assert!(of_deployment(&status, &rejected).iter().all(|told| told.is_warning));
    }
}
