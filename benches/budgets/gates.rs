//! How many writes a request costs at each kind of stage: with and without a delegate, and therefore an approval, and with and without each
//! step that people decide. Two of the kinds are in [`crate::writes`].

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::DeploymentRequest;
use pilotage_harness::ControlPlane;
use serde_json::{Value, json};

use crate::calls::{self, Mark};
use crate::figures::{Budget, Figures};
use crate::stand::Scene;
use crate::world::{PATIENCE, ended, outcome, phase};
use crate::{stand, stock, writes};

/// What is measured here. A budget is that of the place, 8 for a head and 6 for a later stage, plus 2 for each gate.
pub const FIGURES: [(&str, Budget); 10] = [
    ("host_writes_head_no_gate", Budget::AtMost(8.0)),
    ("host_writes_head_pre_export", Budget::AtMost(10.0)),
    ("host_writes_head_pre_deployment", Budget::AtMost(10.0)),
    ("host_writes_head_pre_export_pre_deployment", Budget::AtMost(12.0)),
    ("host_writes_head_pre_export_approval", Budget::AtMost(12.0)),
    ("host_writes_head_approval_pre_deployment", Budget::AtMost(12.0)),
    ("host_writes_head_three_gates", Budget::AtMost(14.0)),
    ("host_writes_later_no_gate", Budget::AtMost(6.0)),
    ("host_writes_later_pre_deployment", Budget::AtMost(8.0)),
    ("host_writes_later_approval_pre_deployment", Budget::AtMost(10.0)),
];

/// A pipeline whose stages have these gates. Only its head can have the first gate.
struct Gates {
    pipeline: &'static str,
    pre_export: bool,
    approval: bool,
    pre_deployment: bool,
    head: usize,
    /// A pipeline without a step before the export also has a later stage.
    later: Option<usize>,
}

const fn gates(pipeline: &'static str, [pre_export, approval, pre_deployment]: [bool; 3], head: usize, later: Option<usize>) -> Gates {
    Gates { pipeline, pre_export, approval, pre_deployment, head, later }
}

/// The pipelines, and their figures by place in [`FIGURES`].
const KINDS: [Gates; 7] = [
    gates("gates-none", [false, false, false], 0, Some(7)),
    gates("gates-e", [true, false, false], 1, None),
    gates("gates-d", [false, false, true], 2, Some(8)),
    gates("gates-ed", [true, false, true], 3, None),
    gates("gates-ea", [true, true, false], 4, None),
    gates("gates-ad", [false, true, true], 5, Some(9)),
    gates("gates-ead", [true, true, true], 6, None),
];

/// Deploys one object through each of the pipelines.
pub async fn measure(plane: &ControlPlane, scene: &Scene, figures: &mut Figures) -> Result<()> {
    let world = &scene.world;
    for kind in &KINDS {
        stock::apply(&scene.olga, vec![pipeline(scene, kind)]).await?;
        stock::apply(&scene.olga, stages(scene, kind)).await?;
    }
    for kind in &KINDS {
        for solution in ["warm", "one"].map(|name| format!("{name}-{}", kind.pipeline)) {
            world.apply(&[world.solution(&solution, "1.0.0"), world.config(&solution, &solution, json!({"greeting": "hello"}))]).await;
        }
        for (place, figure) in [("qa", Some(kind.head)), ("prod", kind.later)] {
            let Some(figure) = figure else { continue };
            let stage = format!("{}-{place}", kind.pipeline);
            scene.askable(kind.pipeline, &stage).await?;
            // The first request to a target causes writes that happen only once, and asks for missing rights.
            carry(plane, scene, kind, &stage, &format!("warm-{}", kind.pipeline)).await?;
            scene.settle().await;
            let mark = Mark::now(plane);
            carry(plane, scene, kind, &stage, &format!("one-{}", kind.pipeline)).await?;
            scene.settle().await;
            let calls = mark.since()?;
            let host: Vec<_> = calls.iter().filter(|c| calls::is_host_write(c)).collect();
            println!("  {}", calls::summary(host.iter().copied()));
            let (name, budget) = FIGURES[figure];
            figures.add(name, writes::count(host.len())?, budget);
        }
    }
    Ok(())
}

/// Asks for a deployment, opens its gates as they come, grants what it says is missing, and waits for its success.
async fn carry(plane: &ControlPlane, scene: &Scene, kind: &Gates, stage: &str, solution: &str) -> Result<()> {
    let (world, name) = (&scene.world, format!("{stage}-{solution}"));
    scene.ask(&name, kind.pipeline, stage, solution, "1.0.0").await?;
    let requests: Api<DeploymentRequest> = Api::namespaced(world.admin.clone(), &world.host);
    let eve: Api<DeploymentRequest> = Api::namespaced(world.eve().await, &world.host);
    let bot = if stage.ends_with("-qa") { &scene.bot_qa } else { &scene.bot_prod };
    let (start, mut granted) = (Instant::now(), false);
    loop {
        let request = requests.get(&name).await?;
        if ended(&request) {
            ensure!(phase(&request) == "Succeeded", "request {name} ended {:?}", outcome(&request));
            return Ok(());
        }
        ensure!(start.elapsed() < PATIENCE, "request {name} got no further: {:?}", outcome(&request));
        let (reason, message) = outcome(&request);
        if reason == "DelegateLacksTargetAccess"
            && !granted
            && let Some(text) = message.find("apiVersion:")
        {
            plane.kubectl().apply(&message[text..])?;
            granted = true;
        }
        if let Some(status) = request.status {
            let gates = status.run.gates;
            if gates.pre_export_step.is_some() && status.pre_export_step.is_none() {
                complete(&eve, &name, "preExportStep").await?;
            } else if gates.approval.is_some() && status.approval.is_none() {
                stand::approve(bot, &world.host, &name).await?;
            } else if gates.pre_deployment_step.is_some() && status.pre_deployment_step.is_none() {
                complete(&eve, &name, "preDeploymentStep").await?;
            }
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn complete(approver: &Api<DeploymentRequest>, request: &str, step: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"status": {step: {"decision": "Completed", "comments": "measured"}}}));
    approver.patch_status(request, &PatchParams::default(), &patch).await?;
    Ok(())
}

fn pipeline(scene: &Scene, kind: &Gates) -> Value {
    let spec = json!({"developmentEnvironments": ["dev"], "sharedWith": [{"kind": "Group", "name": "makers"}]});
    scene.world.host_object("Pipeline", kind.pipeline, spec)
}

fn stages(scene: &Scene, kind: &Gates) -> Vec<Value> {
    let stage = |place: &str| {
        let mut spec = json!({
            "pipeline": kind.pipeline, "targetEnvironment": place, "preDeploymentStepRequired": kind.pre_deployment,
        });
        if kind.approval {
            spec["delegatedDeployment"] = json!({"type": "ServicePrincipal", "serviceAccountName": format!("bot-{place}")});
        }
        if place == "qa" {
            spec["preExportStepRequired"] = kind.pre_export.into();
        } else {
            spec["previousStage"] = format!("{}-qa", kind.pipeline).into();
        }
        scene.world.host_object("Stage", &format!("{}-{place}", kind.pipeline), spec)
    };
    let mut all = vec![stage("qa")];
    all.extend(kind.later.map(|_| stage("prod")));
    all
}
