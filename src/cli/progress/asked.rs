//! A request as its reader sees it: by itself, or by what the maker's Solution tells of it.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use crate::api::phase::Phase;
use crate::api::reason::Reason;
use crate::api::request_status::condition_types::SUCCEEDED;
use crate::api::request_status::{Gate, RunStatus};
use crate::api::solution::{OtherRequest, SolutionDeployment};
use crate::api::{DeploymentRequest, condition};
use crate::cli::output::Tone;

/// A request as its reader sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// The version that was asked for.
    pub version: String,
    /// Where it is, in one word.
    pub phase: String,
    /// Who asked.
    pub requested_by: String,
    /// Who deploys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deployed_by: Option<String>,
    /// Everybody who decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<String>,
    /// When it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// Since when it waits for what it waits for; or when it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when it waits: a time that comes, or a time-out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why it waits, in one word for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who can decide at the gate that is open.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deciders: Vec<String>,
    /// What it waits for or how it ended, in a line.
    pub waiting_for: String,
    /// The same in full, with what to do.
    pub message: String,
    /// Whether it only plans.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plan_only: bool,
    /// Whether no operator has looked at it.
    #[serde(skip)]
    pub is_unseen: bool,
}

impl Asked {
    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        Phase::has_ended(&self.phase)
    }

    /// Whether it has ended as was asked for.
    pub fn has_succeeded(&self) -> bool {
        matches!(Phase::of(&self.phase), Some(Phase::Succeeded | Phase::Planned))
    }

    /// Whether it has ended in a way that somebody has to make good.
    pub(super) fn has_failed(&self) -> bool {
        matches!(Phase::of(&self.phase), Some(Phase::Failed | Phase::Rejected))
    }

    /// What its phase tells at a glance.
    pub fn tone(&self) -> Tone {
        match Phase::of(&self.phase) {
            Some(Phase::Succeeded | Phase::Planned) => Tone::Good,
            Some(Phase::Failed | Phase::Rejected) => Tone::Bad,
            Some(Phase::AwaitingPreExportStep | Phase::AwaitingApproval | Phase::AwaitingPreDeploymentStep) => Tone::Waiting,
            _ => Tone::Plain,
        }
    }
}

impl From<&DeploymentRequest> for Asked {
    fn from(request: &DeploymentRequest) -> Self {
        let run = request.status.as_ref().map(|s| &s.run);
        let summary = run.and_then(|r| condition::find(&r.conditions, SUCCEEDED));
        let message = summary.map(|c| c.message.clone()).unwrap_or_default();
        let short = run.map(|r| r.waiting_for.clone()).filter(|line| !line.is_empty());
        Self {
            name: request.name_any(),
            uid: request.uid().unwrap_or_default(),
            version: request.spec.solution.version.clone(),
            phase: run.map(|r| r.phase.clone()).unwrap_or_default(),
            requested_by: request.spec.requested_by.as_ref().map(|who| who.username.clone()).unwrap_or_default(),
            deployed_by: run.and_then(|r| r.deployed_by.clone()),
            approved_by: run.and_then(|r| r.approved_by.clone()),
            asked_at: created(request),
            since: run.and_then(|r| r.waiting.as_ref()).map(|wait| wait.since).or_else(|| since(request)),
            until: run.and_then(|r| r.waiting.as_ref()?.until),
            reason: run.and_then(|r| r.waiting.as_ref()).map(|wait| wait.reason.clone()),
            deciders: run.map(|run| deciders(run, &request.spec.stage)).unwrap_or_default(),
            waiting_for: short.unwrap_or_else(|| condition::in_a_line(&message)),
            message,
            plan_only: request.spec.plan_only,
            is_unseen: summary.is_none_or(|c| c.reason == Reason::NotLookedAt),
        }
    }
}

impl From<&SolutionDeployment> for Asked {
    fn from(entry: &SolutionDeployment) -> Self {
        let message = entry.message.clone().unwrap_or_default();
        Self {
            name: entry.request.clone(),
            uid: entry.request_uid.clone(),
            version: entry.version.clone(),
            phase: entry.phase.clone(),
            requested_by: entry.requester.clone(),
            approved_by: entry.approved_by.clone(),
            asked_at: entry.asked_at,
            since: entry.waiting_since.or(Some(entry.at)),
            until: entry.waiting_until,
            waiting_for: in_a_line(&message),
            message,
            ..Self::default()
        }
    }
}

impl From<&OtherRequest> for Asked {
    fn from(entry: &OtherRequest) -> Self {
        let message = entry.message.clone().unwrap_or_default();
        Self {
            name: entry.request.clone(),
            uid: entry.request_uid.clone(),
            version: entry.version.clone(),
            phase: entry.phase.clone(),
            requested_by: entry.requester.clone(),
            asked_at: entry.asked_at,
            since: Some(entry.at),
            waiting_for: in_a_line(&message),
            message,
            ..Self::default()
        }
    }
}

/// What a message of a Solution says in a line. What the request waits for comes after what was found out.
fn in_a_line(message: &str) -> String {
    condition::in_a_line(message.split("; ").find(|part| part.starts_with("waits ")).unwrap_or(message))
}

/// When an object was created.
pub fn created(object: &impl ResourceExt) -> Option<Timestamp> {
    object.creation_timestamp().map(|time| time.0)
}

/// Who can decide at the gate that is open.
fn deciders(run: &RunStatus, stage: &str) -> Vec<String> {
    let by_right = |_: &Gate| vec![format!("holders of approve on stage {stage}")];
    let named = |gate: &Gate| gate.approver.iter().cloned().chain(gate.approvers.iter().map(ToString::to_string)).collect();
    let gates = &run.gates;
    let found = match Phase::of(&run.phase) {
        Some(Phase::AwaitingPreExportStep) => gates.pre_export_step.as_ref().map(by_right),
        Some(Phase::AwaitingApproval) => gates.approval.as_ref().map(named),
        Some(Phase::AwaitingPreDeploymentStep) => gates.pre_deployment_step.as_ref().map(by_right),
        _ => None,
    };
    found.unwrap_or_default()
}

/// Since when a request is in its phase, where its status does not say since when it waits: it was written by an older operator, or the
/// request has ended.
fn since(request: &DeploymentRequest) -> Option<Timestamp> {
    let run = &request.status.as_ref()?.run;
    let gates = &run.gates;
    let at = match Phase::of(&run.phase) {
        Some(Phase::AwaitingPreExportStep) => gates.pre_export_step.as_ref().map(|gate| gate.opened_at),
        Some(Phase::AwaitingApproval) => gates.approval.as_ref().map(|gate| gate.opened_at),
        Some(Phase::AwaitingPreDeploymentStep) => gates.pre_deployment_step.as_ref().map(|gate| gate.opened_at),
        Some(Phase::Deploying) => run.start_time,
        Some(Phase::RollingBack) => run.rollback.as_ref().map(|rollback| rollback.since),
        _ => run.end_time,
    };
    at.or_else(|| created(request))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(status: &Value) -> DeploymentRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "r", "namespace": "h", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"pipeline": "p", "stage": "qa", "solution": {"name": "orders", "version": "2.0.0"}},
            "status": status,
        }))
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_wait_is_told_with_its_reason_its_times_and_who_can_end_it() {
        let gate = json!({"openedAt": "2026-01-02T00:00:00Z", "approver": "bot", "approvers": [{"kind": "Group", "name": "release"}]});
        let waiting = json!({"reason": "AwaitingApproval", "since": "2026-01-03T00:00:00Z", "until": "2026-01-09T00:00:00Z"});
        let asked = Asked::from(&request(&json!({"phase": "AwaitingApproval", "waiting": waiting, "gates": {"approval": gate}})));
        assert_eq!((asked.since, asked.until), (Some(at("2026-01-03T00:00:00Z")), Some(at("2026-01-09T00:00:00Z"))));
        assert_eq!(
            (asked.reason.as_deref(), asked.deciders),
            (Some("AwaitingApproval"), vec!["bot".to_owned(), "group release".to_owned()])
        );
        let step = json!({"phase": "AwaitingPreExportStep", "gates": {"preExportStep": {"openedAt": "2026-01-02T00:00:00Z"}}});
        let asked = Asked::from(&request(&step));
        assert_eq!((asked.since, asked.deciders), (Some(at("2026-01-02T00:00:00Z")), vec!["holders of approve on stage qa".to_owned()]));
        let queued =
            json!({"phase": "Queued", "waiting": {"reason": "Scheduled", "since": "2026-01-04T00:00:00Z"}, "gates": {"approval": gate}});
        let asked = Asked::from(&request(&queued));
        assert!(asked.since == Some(at("2026-01-04T00:00:00Z")) && asked.deciders.is_empty(), "{asked:?}");
    }

    #[test]
    fn a_solution_tells_since_when_and_until_when() {
        let entry: SolutionDeployment = serde_json::from_value(json!({"host": "h", "stage": "qa", "pipeline": "p", "version": "1.0.0",
            "phase": "Queued", "request": "r", "requestUID": "u", "requester": "dana", "at": "2026-01-01T00:00:00Z",
            "waitingSince": "2026-01-02T00:00:00Z", "waitingUntil": "2026-01-03T00:00:00Z"}))
        .unwrap();
        let asked = Asked::from(&entry);
        assert_eq!((asked.since, asked.until), (Some(at("2026-01-02T00:00:00Z")), Some(at("2026-01-03T00:00:00Z"))));
    }

    #[test]
    fn a_line_says_what_is_waited_for_and_not_what_was_found_out() {
        assert_eq!(in_a_line("not looked for in development: PodTemplate; waits for the approval by bot"), "waits for the approval by bot");
        assert_eq!(in_a_line("it failed; nothing was written"), "it failed; nothing was written");
    }
}
