//! `kubectl pilotage tree`: a pipeline as it stands.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write;

use clap::Args;
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::json;

use super::ask::is_forbidden;
use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::Output;
use super::progress::{self, HostObjects, Progress};
use super::reading::{self, Where};
use super::times;
use crate::api::approvers::ApprovalBy;
use crate::api::condition::{self, Condition, ConditionStatus, READY};
use crate::api::stage::{DelegateType, StageSpec};
use crate::api::{DeploymentRequest, Environment, Pipeline, Stage};
use crate::text;

/// Show a pipeline as it stands: development environments, stages in order, targets, delegates and gates, what runs, what is on its way,
/// and what is not ready and why. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct TreeArgs {
    /// The pipeline.
    #[arg(value_parser = object_name)]
    pipeline: String,
}

/// A line, and what is below it.
#[derive(Debug, Default)]
struct Node {
    text: String,
    below: Vec<Node>,
}

impl Node {
    fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), below: Vec::new() }
    }

    /// The line and those below it, with branches.
    fn drawn(&self) -> String {
        let mut drawing = format!("{}\n", text::line(&self.text));
        self.draw("", &mut drawing);
        drawing
    }

    fn draw(&self, indent: &str, drawing: &mut String) {
        for (at, node) in self.below.iter().enumerate() {
            let (branch, below) = if at + 1 == self.below.len() { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            // Writing to a String can't fail.
            let _ = writeln!(drawing, "{indent}{branch}{}", text::line(&node.text));
            node.draw(&format!("{indent}{below}"), drawing);
        }
    }
}

/// Whether something can be used.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Readiness {
    ready: ConditionStatus,
    reason: String,
    message: String,
}

impl Readiness {
    fn of(conditions: Option<&[Condition]>) -> Self {
        match condition::find(conditions.unwrap_or_default(), READY) {
            Some(found) => Self { ready: found.status, reason: found.reason.clone(), message: found.message.clone() },
            None => Self { ready: ConditionStatus::Unknown, reason: String::new(), message: "no operator has looked at it".into() },
        }
    }

    /// A few words, with the reason and what to do where it is not ready.
    fn words(&self) -> String {
        match self.ready {
            ConditionStatus::True => "ready".to_owned(),
            _ => format!("not ready, {}: {}", self.reason, self.message),
        }
    }
}

/// Everything that the tree shows.
struct Seen {
    pipeline: Pipeline,
    stages: Vec<Stage>,
    environments: Vec<Environment>,
    lines: Vec<Progress>,
    not_shown: Vec<String>,
}

/// Prints the tree.
///
/// # Errors
/// If the caller may not read the pipeline, or it does not exist.
pub async fn run(connection: &Connection, args: TreeArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    let seen = see(connection, &args.pipeline).await?;
    let name = format!("pipeline.pilotage.dev/{}", args.pipeline);
    out.one(&document(&seen), &name, &tree(&seen).drawn())?;
    if out.is_for_people() {
        for note in &seen.not_shown {
            out.note(&format!("not shown: {note}"))?;
        }
    }
    Ok(())
}

async fn see(connection: &Connection, name: &str) -> anyhow::Result<Seen> {
    let (client, host) = (connection.client(), connection.namespace());
    let pipeline = match Api::<Pipeline>::namespaced(client.clone(), host).get_opt(name).await {
        Ok(Some(pipeline)) => pipeline,
        Ok(None) => {
            return Err(Exit::NotFound.because(format!("pipeline {name} does not exist in namespace {host}: -n names the host")));
        }
        Err(error) if is_forbidden(&error) => {
            return Err(Exit::NotAllowed.because(format!("you may not read pipeline {name} in namespace {host}: -n names the host")));
        }
        Err(error) => return Err(error.into()),
    };
    let there = Where::One(host.to_owned());
    let stages = reading::list::<Stage>(&client, &there).await?;
    let environments = reading::list::<Environment>(&client, &there).await?;
    let requests = reading::list::<DeploymentRequest>(&client, &there).await?;
    let own: Vec<Stage> = stages.items.into_iter().filter(|stage| stage.spec.pipeline == name).collect();
    let asked: Vec<DeploymentRequest> = requests.items.into_iter().filter(|request| request.spec.pipeline == name).collect();
    let not_shown = [stages.not_shown, environments.not_shown, requests.not_shown].concat();
    let objects = HostObjects { stages: own, environments: environments.items, requests: asked, ..HostObjects::default() };
    let lines = progress::of_hosts(&objects, false);
    Ok(Seen { pipeline, stages: objects.stages, environments: objects.environments, lines, not_shown })
}

fn tree(seen: &Seen) -> Node {
    let spec = &seen.pipeline.spec;
    let ready = Readiness::of(seen.pipeline.status.as_ref().map(|s| s.conditions.as_slice()));
    let suspended = if spec.suspend { ", suspended: nothing new starts deploying" } else { "" };
    let mut root = Node::new(format!(
        "pipeline {} of host {}: {}{suspended}",
        seen.pipeline.name_any(),
        seen.pipeline.namespace().unwrap_or_default(),
        ready.words()
    ));
    for name in &spec.development_environments {
        root.below.push(Node::new(format!("from environment {}", environment(seen, name))));
    }
    let mut drawn = BTreeSet::new();
    let heads: Vec<&Stage> = seen.stages.iter().filter(|stage| stage.spec.previous_stage.is_none()).collect();
    for stage in heads {
        let node = of_stage(seen, stage, &mut drawn);
        root.below.push(node);
    }
    // Stages whose previous one does not exist, or that are in a circle.
    for stage in &seen.stages {
        if !drawn.contains(&stage.name_any()) {
            let node = of_stage(seen, stage, &mut drawn);
            root.below.push(node);
        }
    }
    root
}

fn of_stage(seen: &Seen, stage: &Stage, drawn: &mut BTreeSet<String>) -> Node {
    let name = stage.name_any();
    drawn.insert(name.clone());
    let ready = Readiness::of(stage.status.as_ref().map(|s| s.conditions.as_slice()));
    let mut node = Node::new(format!("stage {name}: {}", ready.words()));
    node.below.push(Node::new(format!("to environment {}", environment(seen, &stage.spec.target_environment))));
    node.below.push(Node::new(format!("deployed by {}; {}", delegate(&stage.spec), gates(&stage.spec))));
    let lines: Vec<&Progress> = seen.lines.iter().filter(|line| line.stage == name).collect();
    let mut solutions = BTreeSet::new();
    for line in &lines {
        if let Some(version) = line.runs.as_ref().filter(|_| solutions.insert(&line.solution)) {
            let since = line.runs_since.map(|at| format!(" since {}", shown(at))).unwrap_or_default();
            node.below.push(Node::new(format!("runs {} {version}{since}", line.solution)));
        }
    }
    for line in &lines {
        let Some(asked) = &line.request else { continue };
        let since = asked.since.map(|at| format!(" since {}", shown(at))).unwrap_or_default();
        let text = format!("request {}: {} {} {}{since}: {}", asked.name, line.solution, asked.version, asked.phase, asked.waiting_for);
        node.below.push(Node::new(text));
    }
    let next = seen.stages.iter().filter(|next| next.spec.previous_stage.as_deref() == Some(&name));
    for next in next {
        if !drawn.contains(&next.name_any()) {
            let below = of_stage(seen, next, drawn);
            node.below.push(below);
        }
    }
    node
}

/// A time with how long ago it was.
fn shown(at: jiff::Timestamp) -> String {
    format!("{at} ({})", times::age(jiff::Timestamp::now().as_second() - at.as_second()))
}

fn environment(seen: &Seen, name: &str) -> String {
    let Some(found) = seen.environments.iter().find(|environment| environment.name_any() == name) else {
        // If none can be read, it is told that they are not shown.
        return if seen.environments.is_empty() { name.to_owned() } else { format!("{name}: it does not exist") };
    };
    let ready = Readiness::of(found.status.as_ref().map(|s| s.conditions.as_slice()));
    let cluster = found.cluster_name().map(|cluster| format!(" in cluster {cluster}")).unwrap_or_default();
    format!("{name} (namespace {}{cluster}): {}", found.spec.namespace, ready.words())
}

fn delegate(spec: &StageSpec) -> String {
    match &spec.delegated_deployment {
        None => "each requester".to_owned(),
        Some(delegated) => match delegated.type_ {
            DelegateType::ServicePrincipal => format!("service account {}", delegated.service_account_name.as_deref().unwrap_or_default()),
            DelegateType::StageOwner => {
                format!("the stage's owner {}", spec.owner.as_ref().map(|owner| owner.username.as_str()).unwrap_or_default())
            }
        },
    }
}

/// The gates in their order, and what else a deployment waits for.
fn gates(spec: &StageSpec) -> String {
    let mut gates = Vec::new();
    if spec.pre_export_step_required {
        gates.push("pre-export step".to_owned());
    }
    if spec.delegated_deployment.is_some() {
        let approval = spec.approval.as_ref();
        let named: Vec<String> = approval.iter().flat_map(|a| &a.approvers).map(|who| who.name.clone()).collect();
        match approval.map(|a| a.by).unwrap_or_default() {
            ApprovalBy::Delegate => gates.push("approval by the delegate".to_owned()),
            ApprovalBy::Approvers => gates.push(format!("approval by {}", named.join(", "))),
            ApprovalBy::DelegateOrApprovers => gates.push(format!("approval by the delegate or {}", named.join(", "))),
            ApprovalBy::Automatic => {}
        }
    }
    if spec.pre_deployment_step_required {
        gates.push("pre-deployment step".to_owned());
    }
    let mut words = if gates.is_empty() { "no gates".to_owned() } else { format!("gates: {}", gates.join(", ")) };
    if let Some(soak) = &spec.soak {
        let _ = write!(words, "; {soak} after the previous stage");
    }
    if !spec.windows.is_empty() {
        let _ = write!(words, "; {} deployment windows", spec.windows.len());
    }
    words
}

fn document(seen: &Seen) -> serde_json::Value {
    let environment = |name: &String| {
        let found = seen.environments.iter().find(|environment| environment.name_any() == *name);
        json!({
            "name": name,
            "namespace": found.map(|found| &found.spec.namespace),
            "status": found.map(|found| Readiness::of(found.status.as_ref().map(|s| s.conditions.as_slice()))),
        })
    };
    let stage = |stage: &Stage| {
        let lines: Vec<&Progress> = seen.lines.iter().filter(|line| line.stage == stage.name_any()).collect();
        json!({
            "name": stage.name_any(),
            "previousStage": stage.spec.previous_stage,
            "target": environment(&stage.spec.target_environment),
            "deployedBy": delegate(&stage.spec),
            "gates": gates(&stage.spec),
            "status": Readiness::of(stage.status.as_ref().map(|s| s.conditions.as_slice())),
            "solutions": lines,
        })
    };
    json!({
        "name": seen.pipeline.name_any(),
        "host": seen.pipeline.namespace(),
        "suspended": seen.pipeline.spec.suspend,
        "status": Readiness::of(seen.pipeline.status.as_ref().map(|s| s.conditions.as_slice())),
        "developmentEnvironments": seen.pipeline.spec.development_environments.iter().map(environment).collect::<Vec<_>>(),
        "stages": seen.stages.iter().map(stage).collect::<Vec<_>>(),
        "notShown": seen.not_shown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_its_branches_and_nothing_in_it_forges_another() {
        let mut root = Node::new("pipeline p");
        root.below.push(Node { text: "stage qa".into(), below: vec![Node::new("runs a\n└─ forged\u{1b}[2K"), Node::new("b")] });
        root.below.push(Node { text: "stage prod".into(), below: vec![Node::new("c")] });
        let drawn = "pipeline p\n├─ stage qa\n│  ├─ runs a\\n└─ forged\\u{1b}[2K\n│  └─ b\n└─ stage prod\n   └─ c\n";
        assert_eq!(root.drawn(), drawn);
    }
}
