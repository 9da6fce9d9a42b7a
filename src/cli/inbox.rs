//! `kubectl pilotage inbox`: the requests that wait for the caller's decision.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::Context;
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::connection::Connection;
use super::output::{Column, Listing, Output, Row, Tone};
use super::reading::{self, Where};
use super::times::Times;
use crate::api::approvers::ApproverKind;
use crate::api::reference::Identity;
use crate::api::request_status::{DeploymentRequestStatus, Gate};
use crate::api::{DeploymentRequest, names};
use crate::identity::access::{Access, Right};

/// Show the requests that wait for your decision, in all hosts that you may read.
///
/// These are the approvals for which you are named, and those of delegates whose token you may ask for; and the pre-export and
/// pre-deployment steps of stages on which you hold the verb `approve`. The API server is asked whether you do. With -n only one host is
/// looked at.
#[derive(Args, Debug)]
pub struct InboxArgs {
    /// Only this solution.
    #[arg(long)]
    solution: Option<String>,
    /// Only this stage.
    #[arg(long)]
    stage: Option<String>,
}

/// A request that waits for the caller.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    host: String,
    request: String,
    pipeline: String,
    stage: String,
    solution: String,
    version: String,
    gate: &'static str,
    #[serde(rename = "as")]
    as_whom: String,
    since: Timestamp,
    requested_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    notes: Option<String>,
}

impl Row for Waiting {
    const COLUMNS: &'static [Column] = &[
        Column::new("HOST"),
        Column::new("REQUEST"),
        Column::new("SOLUTION"),
        Column::new("VERSION"),
        Column::wide("REPLACES"),
        Column::wide("PIPELINE"),
        Column::new("STAGE"),
        Column::new("GATE"),
        Column::new("AS"),
        Column::new("SINCE"),
        Column::new("REQUESTED BY"),
        Column::wide("ON BEHALF OF"),
        Column::new("PLAN"),
        Column::wide("NOTES"),
    ];

    fn cells(&self, times: &Times) -> Vec<String> {
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            self.host.clone(),
            self.request.clone(),
            self.solution.clone(),
            self.version.clone(),
            or_empty(&self.replaces),
            self.pipeline.clone(),
            self.stage.clone(),
            self.gate.to_owned(),
            self.as_whom.clone(),
            times.show(Some(self.since)),
            self.requested_by.clone(),
            or_empty(&self.on_behalf_of),
            or_empty(&self.plan),
            or_empty(&self.notes),
        ]
    }

    fn name(&self) -> String {
        super::ask::full_name(&self.request)
    }

    fn tone(&self) -> Tone {
        Tone::Waiting
    }
}

/// Prints what waits for the caller.
///
/// # Errors
/// If the API server does not answer.
pub async fn run(connection: &Connection, args: InboxArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let (there, mut not_shown) = if connection.is_named() {
        (Where::One(connection.namespace().to_owned()), Vec::new())
    } else {
        reading::hosts::<DeploymentRequest>(connection).await?
    };
    let requests = reading::list::<DeploymentRequest>(&connection.client(), &there).await?;
    not_shown.extend(requests.not_shown);
    let mut caller = Caller { who: connection.caller().await?, access: Access::new(connection.client()), answers: BTreeMap::new() };
    let mut rows = Vec::new();
    for request in &requests.items {
        let chosen = args.solution.as_ref().is_none_or(|wanted| *wanted == request.spec.solution.name)
            && args.stage.as_ref().is_none_or(|wanted| *wanted == request.spec.stage);
        let Some((gate, open)) = request.status.as_ref().filter(|_| chosen).and_then(open_gate) else { continue };
        let Some(as_whom) = caller.decides(request, gate, open).await? else { continue };
        let own = request.spec.requested_by.as_ref().is_some_and(|asked| asked.username == caller.who.username);
        if own && !open.allow_self_approval {
            let (name, host) = (request.name_any(), request.namespace().unwrap_or_default());
            not_shown.push(format!("request {name} of host {host}: it is your own, and its stage lets nobody decide their own"));
            continue;
        }
        rows.push(waiting(request, gate, open, as_whom));
    }
    rows.sort_by_key(|row| row.since);
    out.list(&Listing { rows, not_shown }, "nothing waits for you")
}

/// The gate that is open and undecided, if there is one.
fn open_gate(status: &DeploymentRequestStatus) -> Option<(&'static str, &Gate)> {
    if status.run.end_time.is_some() {
        return None;
    }
    let gates = &status.run.gates;
    let all = [
        ("preExportStep", gates.pre_export_step.as_ref(), status.pre_export_step.is_some()),
        ("approval", gates.approval.as_ref(), status.approval.is_some()),
        ("preDeploymentStep", gates.pre_deployment_step.as_ref(), status.pre_deployment_step.is_some()),
    ];
    all.into_iter().find_map(|(name, gate, is_decided)| Some((name, gate.filter(|_| !is_decided)?)))
}

struct Caller {
    who: Identity,
    access: Access,
    answers: BTreeMap<Right, bool>,
}

impl Caller {
    /// As whom the caller may decide an open gate.
    async fn decides(&mut self, request: &DeploymentRequest, gate: &str, open: &Gate) -> anyhow::Result<Option<String>> {
        let me = || Some("you".to_owned());
        if gate != "approval" {
            let host = request.namespace().unwrap_or_default();
            let right = Right::on("approve", "pilotage.dev", "stages", &host).named(&request.spec.stage);
            return Ok(if self.may(right).await? { me() } else { None });
        }
        let who = &self.who;
        let is_named = open.approvers.iter().any(|approver| match approver.kind {
            ApproverKind::User => approver.name == who.username,
            ApproverKind::Group => who.groups.contains(&approver.name),
        });
        if is_named || open.approver.as_deref() == Some(who.username.as_str()) {
            return Ok(me());
        }
        let Some((namespace, account)) = open.approver.as_deref().and_then(names::service_account) else { return Ok(None) };
        let right = Right::on("create", "", "serviceaccounts", namespace).named(account).of_subresource("token");
        Ok(self.may(right).await?.then(|| format!("delegate {account}")))
    }

    async fn may(&mut self, right: Right) -> anyhow::Result<bool> {
        if let Some(known) = self.answers.get(&right) {
            return Ok(*known);
        }
        let held = self.access.i_may(&right).await.context("asking what you may decide")?;
        self.answers.insert(right, held);
        Ok(held)
    }
}

fn waiting(request: &DeploymentRequest, gate: &'static str, open: &Gate, as_whom: String) -> Waiting {
    let spec = &request.spec;
    let plan = request.status.as_ref().and_then(|s| s.run.plan.as_ref());
    let counts = plan.map(|plan| {
        let counted = [
            (plan.create, "created"),
            (plan.update, "changed"),
            (plan.recreate, "created anew"),
            (plan.delete, "deleted"),
            (plan.adopt, "adopted"),
            (plan.release, "released"),
        ];
        let words: Vec<String> = counted.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
        if words.is_empty() { "no change".to_owned() } else { words.join(", ") }
    });
    Waiting {
        host: request.namespace().unwrap_or_default(),
        request: request.name_any(),
        pipeline: spec.pipeline.clone(),
        stage: spec.stage.clone(),
        solution: spec.solution.name.clone(),
        version: spec.solution.version.clone(),
        gate,
        as_whom,
        since: open.opened_at,
        requested_by: spec.requested_by.as_ref().map(|who| who.username.clone()).unwrap_or_default(),
        on_behalf_of: spec.on_behalf_of.clone(),
        replaces: plan.and_then(|plan| plan.replaces_version.clone()),
        plan: counts,
        plan_hash: open.plan_hash.clone(),
        notes: spec.notes.clone(),
    }
}
