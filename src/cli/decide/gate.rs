//! Which gate of a request a decision is for, and whether the caller may decide it, as far as the request tells. Pure: the API server
//! decides in the end.

use clap::ValueEnum;

use crate::api::DeploymentRequest;
use crate::api::approvers::ApproverKind;
use crate::api::reference::Identity;
use crate::api::request_status::{ApprovalDecision, DeploymentRequestStatus, Gate, StepDecision, StepOutcome};

/// A gate, by the name of its field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GateName {
    /// Gate 1, before the export.
    #[value(name = "preExport")]
    PreExport,
    /// Gate 2: the plan.
    #[value(name = "approval")]
    Approval,
    /// Gate 3, before the deployment.
    #[value(name = "preDeployment")]
    PreDeployment,
}

impl GateName {
    const ALL: [Self; 3] = [Self::PreExport, Self::Approval, Self::PreDeployment];

    /// The field of the status that holds the decision.
    pub(super) fn field(self) -> &'static str {
        match self {
            Self::PreExport => "preExportStep",
            Self::Approval => "approval",
            Self::PreDeployment => "preDeploymentStep",
        }
    }

    /// The word that says yes.
    pub(super) fn yes(self) -> String {
        if self == Self::Approval { format!("{:?}", ApprovalDecision::Approved) } else { format!("{:?}", StepOutcome::Completed) }
    }

    fn opened(self, status: &DeploymentRequestStatus) -> Option<&Gate> {
        let gates = &status.run.gates;
        match self {
            Self::PreExport => gates.pre_export_step.as_ref(),
            Self::Approval => gates.approval.as_ref(),
            Self::PreDeployment => gates.pre_deployment_step.as_ref(),
        }
    }

    /// What was decided, and by whom.
    fn decided(self, status: &DeploymentRequestStatus) -> Option<String> {
        let step = |step: &StepDecision| (format!("{:?}", step.decision), step.by.clone());
        let (word, by) = match self {
            Self::PreExport => step(status.pre_export_step.as_ref()?),
            Self::PreDeployment => step(status.pre_deployment_step.as_ref()?),
            Self::Approval => status.approval.as_ref().map(|approval| (format!("{:?}", approval.decision), approval.by.clone()))?,
        };
        Some(format!("{word} by {}", by.unwrap_or_else(|| "somebody".to_owned())))
    }
}

/// An open gate.
#[derive(Debug)]
pub(super) struct Open<'a> {
    pub(super) name: GateName,
    pub(super) gate: &'a Gate,
}

/// The gate that is to be decided: the one that is open, which has to be `wanted` if that is given.
///
/// # Errors
/// Why there is nothing to decide.
pub(super) fn open(request: &DeploymentRequest, wanted: Option<GateName>) -> Result<Open<'_>, String> {
    let nothing = "the operator has not looked at it yet".to_owned();
    let Some(status) = &request.status else { return Err(nothing) };
    let past = || {
        let decided = GateName::ALL.into_iter().filter(|name| wanted.is_none_or(|wanted| wanted == *name));
        let decided: Vec<String> = decided.filter_map(|name| Some(format!("{} was {}", name.field(), name.decided(status)?))).collect();
        if decided.is_empty() { String::new() } else { format!("; {}", decided.join(", ")) }
    };
    if status.run.end_time.is_some() {
        return Err(format!("it has ended, {}{}", status.run.phase, past()));
    }
    let is_open = |name: &GateName| name.opened(status).is_some() && name.decided(status).is_none();
    let Some(name) = GateName::ALL.into_iter().find(is_open) else {
        let waits = if status.run.waiting_for.is_empty() { String::new() } else { format!(", and waits for {}", status.run.waiting_for) };
        return Err(format!("no gate is open: it is {}{waits}{}", status.run.phase, past()));
    };
    if let Some(wanted) = wanted.filter(|wanted| *wanted != name) {
        let before = wanted.decided(status).map(|_| past()).unwrap_or_default();
        return Err(format!("gate {} is open, not {}{before}", name.field(), wanted.field()));
    }
    match name.opened(status) {
        Some(gate) => Ok(Open { name, gate }),
        None => Err(nothing),
    }
}

impl Open<'_> {
    /// Why the caller can't decide, if the request tells. Whether they hold `approve` on the stage is asked elsewhere.
    pub(super) fn refusal(&self, request: &DeploymentRequest, caller: &Identity) -> Option<String> {
        let requester = request.spec.requested_by.as_ref().map(|requester| requester.username.as_str());
        if requester == Some(caller.username.as_str()) && !self.gate.allow_self_approval {
            return Some(format!(
                "you ({}) asked for it, and nobody decides their own request: somebody else has to, or the stage has to set spec.gates.allowSelfApproval",
                caller.username
            ));
        }
        if self.is_for(caller) {
            return None;
        }
        let who = self.deciders();
        (!who.is_empty()).then(|| format!("only {} may decide {}, and you are {}", who.join(" or "), self.name.field(), caller.username))
    }

    /// Whether every holder of `approve` on the stage decides.
    pub(super) fn is_by_right(&self) -> bool {
        self.name != GateName::Approval
    }

    /// The delegate that may decide.
    pub(super) fn delegate(&self) -> Option<&str> {
        self.gate.approver.as_deref()
    }

    fn is_for(&self, caller: &Identity) -> bool {
        let pinned = self.delegate() == Some(caller.username.as_str())
            && self.gate.approver_uid.as_deref().is_none_or(|uid| caller.uid.as_deref() == Some(uid));
        pinned
            || self.gate.approvers.iter().any(|approver| match approver.kind {
                ApproverKind::User => approver.name == caller.username,
                ApproverKind::Group => caller.groups.contains(&approver.name),
            })
    }

    fn deciders(&self) -> Vec<String> {
        self.delegate().map(str::to_owned).into_iter().chain(self.gate.approvers.iter().map(ToString::to_string)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(status: Value) -> DeploymentRequest {
        let mut request = json!({"metadata": {"name": "r"}, "spec": {"pipeline": "p", "stage": "qa", "solution": {"name": "o", "version": "1.0.0"},
            "requestedBy": {"username": "dana"}}});
        request["status"] = status;
        serde_json::from_value(request).unwrap()
    }

    fn gate(more: &Value) -> Value {
        let mut gate = json!({"openedAt": "2026-01-01T00:00:00Z", "planHash": "sha256:x"});
        gate.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        gate
    }

    fn who(name: &str, groups: &[&str]) -> Identity {
        Identity { username: name.into(), uid: Some("u1".into()), groups: groups.iter().map(|g| (*g).to_owned()).collect() }
    }

    #[test]
    fn the_open_gate_is_decided_and_one_that_is_not_open_is_said() {
        let waiting = request(json!({"phase": "AwaitingApproval", "gates": {"approval": gate(&json!({"approver": "bot"}))}}));
        assert_eq!(open(&waiting, None).unwrap().name, GateName::Approval);
        assert_eq!(open(&waiting, Some(GateName::PreDeployment)).unwrap_err(), "gate approval is open, not preDeploymentStep");
        let queued = request(json!({"phase": "Queued", "waitingFor": "its window", "gates": {"approval": gate(&json!({}))},
            "approval": {"decision": "Approved", "by": "bot"}}));
        assert_eq!(
            open(&queued, None).unwrap_err(),
            "no gate is open: it is Queued, and waits for its window; approval was Approved by bot"
        );
        let ended =
            request(json!({"phase": "Rejected", "endTime": "2026-01-01T00:00:00Z", "approval": {"decision": "Rejected", "by": "eve"}}));
        assert_eq!(open(&ended, None).unwrap_err(), "it has ended, Rejected; approval was Rejected by eve");
        assert!(open(&request(Value::Null), None).is_err());
    }

    #[test]
    fn who_may_not_decide_is_told_why_before_anything_is_sent() {
        let named = json!({"approver": "bot", "approverUID": "u1", "approvers": [{"kind": "Group", "name": "release"}]});
        let request = request(json!({"phase": "AwaitingApproval", "gates": {"approval": gate(&named)}}));
        let open = open(&request, None).unwrap();
        assert_eq!(open.refusal(&request, &who("bot", &[])), None);
        assert_eq!(open.refusal(&request, &who("eve", &["release"])), None);
        assert_eq!(open.refusal(&request, &who("eve", &[])).unwrap(), "only bot or group release may decide approval, and you are eve");
        assert!(open.refusal(&request, &who("dana", &["release"])).unwrap().starts_with("you (dana) asked for it"));
        let another = Identity { uid: Some("u2".into()), ..who("bot", &[]) };
        assert!(open.refusal(&request, &another).is_some(), "a ServiceAccount that was created again is another one");
    }
}
