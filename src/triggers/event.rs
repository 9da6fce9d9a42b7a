//! A trigger as a `CloudEvent` 1.0, structured JSON.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::happened::Happened;
use crate::api::condition;
use crate::api::names;
use crate::api::phase::Phase;
use crate::api::pipeline::Trigger;
use crate::api::reason::Reason;
use crate::api::request_status::condition_types;
use crate::api::stage::DelegateType;
use crate::api::{DeploymentRequest, Stage};

/// The prefix of the type of each event.
const TYPE: &str = "dev.pilotage";

/// The id of a delivery. The same trigger of the same request always has the same id, however often it is sent. Standard Webhooks separates
/// fields by full stops, so the id has none.
pub(crate) fn id(uid: &str, trigger: Trigger) -> String {
    format!("{uid}-{trigger:?}")
}

/// The trigger as an event. What it says about the request was true when the trigger happened, and does not change afterwards. So the same
/// event has the same content when it is sent again later.
pub(crate) fn of_request(happened: Happened, request: &DeploymentRequest, stage: Option<&Stage>, gone: bool) -> Value {
    let host = request.namespace().unwrap_or_default();
    let spec = &request.spec;
    let uid = request.uid().unwrap_or_default();
    let mut data = Map::new();
    data.insert("trigger".into(), json!(format!("{:?}", happened.trigger)));
    data.insert("host".into(), json!(host));
    data.insert("request".into(), json!({"name": request.name_any(), "uid": uid}));
    data.insert("pipeline".into(), json!(spec.pipeline));
    data.insert("stage".into(), json!(spec.stage));
    data.insert("environment".into(), json!(stage.map(|s| &s.spec.target_environment)));
    data.insert("artifact".into(), artifact(happened.trigger, request));
    data.insert("deployAs".into(), json!(deploy_as(happened.trigger, request, stage)));
    data.insert("requestedBy".into(), json!(spec.requested_by.as_ref().map(|r| &r.username)));
    data.insert("onBehalfOf".into(), json!(spec.on_behalf_of));
    data.insert("scheduledTime".into(), json!(spec.scheduled_time));
    data.insert("notes".into(), json!(spec.notes));
    data.extend(details(happened.trigger, request, gone));
    envelope(happened, &host, &spec.pipeline, &request.name_any(), &uid, &data)
}

/// The event for a request that was deleted while nobody looked. Only its uid is known, and its name if its Solution still has it.
pub(crate) fn of_unknown(at: Timestamp, host: &str, pipeline: &str, name: &str, uid: &str) -> Value {
    let trigger = Trigger::OnDeploymentCompleted;
    let mut data = Map::new();
    data.insert("trigger".into(), json!(format!("{trigger:?}")));
    data.insert("host".into(), json!(host));
    data.insert("request".into(), if name.is_empty() { json!({"uid": uid}) } else { json!({"name": name, "uid": uid}) });
    let name = if name.is_empty() { uid } else { name };
    data.insert("pipeline".into(), json!(pipeline));
    data.insert(
        "outcome".into(),
        json!({
            "phase": Phase::Unknown,
            "reason": Reason::Deleted,
            "message": "the request was deleted before all of its triggers were delivered; what became of it is not known here any more: the status of the solution's Artifact records what was deployed",
        }),
    );
    envelope(Happened { trigger, at }, host, pipeline, name, uid, &data)
}

fn envelope(happened: Happened, host: &str, pipeline: &str, name: &str, uid: &str, data: &Map<String, Value>) -> Value {
    json!({
        "specversion": "1.0",
        "id": id(uid, happened.trigger),
        "source": format!("/apis/pilotage.dev/v1alpha1/namespaces/{host}/pipelines/{pipeline}"),
        "type": format!("{TYPE}.{:?}", happened.trigger),
        "subject": name,
        "time": happened.at.to_string(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

/// The artifact. When a request is created, it may not exist yet.
fn artifact(trigger: Trigger, request: &DeploymentRequest) -> Value {
    let solution = &request.spec.solution;
    let stored = request.status.as_ref().and_then(|s| s.run.artifact.as_ref()).filter(|_| trigger > Trigger::OnDeploymentRequested);
    json!({
        "name": stored.map_or_else(|| names::artifact_name(&solution.name, &solution.version), |a| a.name.clone()),
        "solution": solution.name,
        "version": solution.version,
        "digest": stored.map(|a| &a.digest),
    })
}

/// The user that deploys: from the plan, or from the stage before there is a plan.
fn deploy_as(trigger: Trigger, request: &DeploymentRequest, stage: Option<&Stage>) -> Option<String> {
    let run = request.status.as_ref().map(|s| &s.run);
    let planned = run.and_then(|r| r.deployed_by.clone().or_else(|| r.plan.as_ref().map(|p| p.delegate.clone())));
    if trigger > Trigger::OnDeploymentRequested && planned.as_ref().is_some_and(|p| !p.is_empty()) {
        return planned;
    }
    let spec = &stage?.spec;
    match &spec.delegated_deployment {
        None => request.spec.requested_by.as_ref().map(|r| r.username.clone()),
        Some(delegated) => match delegated.type_ {
            DelegateType::ServicePrincipal => {
                let host = request.namespace().unwrap_or_default();
                delegated.service_account_name.as_ref().map(|name| names::service_account_username(&host, name))
            }
            DelegateType::StageOwner => spec.owner.as_ref().map(|o| o.username.clone()),
        },
    }
}

/// The fields that only this trigger has.
fn details(trigger: Trigger, request: &DeploymentRequest, gone: bool) -> Map<String, Value> {
    let mut more = Map::new();
    let Some(status) = &request.status else { return more };
    let run = &status.run;
    match trigger {
        Trigger::OnDeploymentRequested => {}
        Trigger::OnApprovalStarted => {
            if let Some(gate) = &run.gates.approval {
                more.insert("planHash".into(), json!(gate.plan_hash));
                more.insert("approver".into(), json!(gate.approver));
                if !gate.approvers.is_empty() {
                    more.insert("approvers".into(), json!(gate.approvers));
                }
                more.insert("plan".into(), plan(request));
            }
        }
        Trigger::OnPreDeploymentStarted => {
            if let Some(gate) = &run.gates.pre_deployment_step {
                more.insert("planHash".into(), json!(gate.plan_hash));
                more.insert("plan".into(), plan(request));
            }
        }
        Trigger::OnApprovalCompleted => {
            if let Some(d) = &status.approval {
                more.insert("planHash".into(), json!(d.plan_hash));
                let decision = json!({"decision": d.decision, "by": d.by, "onBehalfOf": d.on_behalf_of, "comments": d.comments});
                more.insert("decision".into(), decision);
            }
        }
        Trigger::OnPreDeploymentCompleted => {
            if let Some(d) = &status.pre_deployment_step {
                let decision = json!({"decision": d.decision, "by": d.by, "onBehalfOf": d.on_behalf_of, "comments": d.comments});
                more.insert("decision".into(), decision);
            }
        }
        Trigger::OnDeploymentStarted => {
            more.insert("planHash".into(), json!(run.plan.as_ref().map(|p| &p.hash)));
            more.insert("startTime".into(), json!(run.start_time));
        }
        Trigger::OnDeploymentCompleted => {
            let summary = condition::find(&run.conditions, condition_types::SUCCEEDED);
            let deleted = gone && run.end_time.is_none();
            let outcome = if deleted {
                json!({"phase": Phase::Canceled, "reason": Reason::Deleted, "message": "the request was deleted before it ended"})
            } else {
                json!({"phase": run.phase, "reason": summary.map(|c| &c.reason), "message": summary.map(|c| &c.message)})
            };
            more.insert("outcome".into(), outcome);
            more.insert("startTime".into(), json!(run.start_time));
            more.insert("endTime".into(), json!(run.end_time));
        }
    }
    more
}

/// What an approver reads first. The whole plan is in the request.
fn plan(request: &DeploymentRequest) -> Value {
    let plan = request.status.as_ref().and_then(|s| s.run.plan.as_ref());
    plan.map_or(Value::Null, |p| {
        json!({"create": p.create, "update": p.update, "delete": p.delete, "unchanged": p.unchanged, "replacesVersion": p.replaces_version})
    })
}
