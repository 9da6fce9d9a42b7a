//! What retention costs in a host with two thousand artifacts, twenty thousand records of deployments, and two thousand requests.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{Timestamp, ToSpan as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use pilotage::api::environment::DeployedSolution;
use pilotage::api::retention::RetentionStatus;
use pilotage::api::{Artifact, DeploymentRequest, Environment, Pipeline};
use pilotage_harness::ControlPlane;
use pilotage_harness::audit::Call;
use serde_json::{Value, json};

use crate::calls::{self, Mark, OPERATOR};
use crate::figures::{Budget, Figures};
use crate::stand::{Scene, Stand, request};
use crate::stock::CONCURRENCY;
use crate::world::client;
use crate::writes::count;

/// What is measured here.
pub const FIGURES: [(&str, Budget); 5] = [
    ("retention_rss_2000_artifacts_added_mib", Budget::AtMost(60.0)),
    ("retention_calls_nothing_to_do", Budget::AtMost(2.0)),
    ("retention_decision_cpu_ms", Budget::None),
    ("retention_calls_per_request", Budget::AtMost(1.0)),
    ("retention_calls_per_version", Budget::AtMost(4.0)),
];

/// How many solutions there are, and versions of each.
const SOLUTIONS: usize = 40;
const VERSIONS: usize = 50;
/// How many records of deployments each version has.
const RECORDS: usize = 10;
/// How many requests and how many versions a run removes.
const REMOVED: usize = 40;
/// How long a run may take.
const PATIENCE: Duration = Duration::from_mins(10);

/// Stores all of it, and runs retention over it: with nothing to do, and with something.
pub async fn measure(stand: &mut Stand, scene: &Scene, figures: &mut Figures) -> Result<()> {
    let before = stand.rss_mib()?;
    stand.pause()?;
    let start = Instant::now();
    fill(&stand.plane, scene).await?;
    println!("  stored in {:.0} s", start.elapsed().as_secs_f64());
    stand.resume()?;
    scene.askable("standard", "qa").await?;
    scene.settle().await;
    figures.add(FIGURES[0].0, stand.rss_mib()? - before, FIGURES[0].1);

    // Everything is younger than that.
    let (nothing, cpu_ms) = run(stand, scene, "nothing", json!({"requests": {"maxAge": "87600h"}})).await?;
    figures.add(FIGURES[1].0, count(nothing.len())?, FIGURES[1].1);
    figures.add(FIGURES[2].0, cpu_ms, FIGURES[2].1);

    let kept = SOLUTIONS * VERSIONS - REMOVED;
    let (requests, _) = run(stand, scene, "requests", json!({"requests": {"maxCount": kept}})).await?;
    let gone = requests.iter().filter(|c| c.verb == "delete" && c.resource == "deploymentrequests").count();
    ensure!(gone >= REMOVED, "only {gone} requests went");
    figures.add(FIGURES[3].0, share(requests.len() - 2, gone)?, FIGURES[3].1);

    let (versions, _) = run(stand, scene, "versions", json!({"requests": null, "artifacts": {"keepVersions": VERSIONS - 1}})).await?;
    let gone = versions.iter().filter(|c| c.verb == "delete" && c.resource == "configmaps").count();
    ensure!(gone == SOLUTIONS, "the bytes of {gone} versions went");
    figures.add(FIGURES[4].0, share(versions.len() - 2, gone)?, FIGURES[4].1);
    Ok(())
}

fn share(calls: usize, things: usize) -> Result<f64> {
    Ok(count(calls)? / count(things)?)
}

/// A run of retention with these limits: the operator's calls, and the processor time that it used.
async fn run(stand: &Stand, scene: &Scene, mark: &str, mut limits: Value) -> Result<(Vec<Call>, f64)> {
    limits["schedule"] = "0 0 1 1 *".into();
    scene.change_pipeline("standard", json!({"retention": limits})).await?;
    scene.settle().await;
    let pipelines: Api<Pipeline> = Api::namespaced(scene.olga.clone(), &scene.world.host);
    let (since, cpu, start) = (Mark::now(&stand.plane), stand.cpu_ms()?, Instant::now());
    let begin = json!({"metadata": {"annotations": {"pilotage.dev/retain-now": mark}}});
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(begin)).await?;
    loop {
        let status: RetentionStatus = pipelines.get("standard").await?.status.and_then(|s| s.retention).unwrap_or_default();
        if status.requested.as_deref() == Some(mark) && status.running.is_none() {
            println!("  {mark}: {:?} in {:.1} s", status.last_run.map(|run| (run.removed, run.message)), start.elapsed().as_secs_f64());
            break;
        }
        ensure!(start.elapsed() < PATIENCE, "the run {mark} does not end");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let cpu = stand.cpu_ms()? - cpu;
    scene.settle().await;
    let mut calls = since.since()?;
    calls.retain(|c| c.user == OPERATOR && !calls::is_aside(c));
    println!("  {mark}: {}", calls::summary(&calls));
    Ok((calls, cpu))
}

/// Stores everything in the operator's name, which nobody else may write in. It does not run meanwhile.
async fn fill(plane: &ControlPlane, scene: &Scene) -> Result<()> {
    let operator = client(plane.service_account_kubeconfig("pilotage-system", "pilotage")?).await;
    let now = Timestamp::now();
    stream::iter(0..SOLUTIONS * VERSIONS)
        .map(|number| {
            let (operator, scene) = (operator.clone(), scene);
            async move { one(&operator, scene, number, now).await.with_context(|| format!("version {number}")) }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    // The newest version of each runs everywhere.
    let environments: Api<Environment> = Api::namespaced(operator, &scene.world.host);
    for name in ["qa", "prod"] {
        let mut solutions = environments.get(name).await?.status.map(|s| s.solutions).unwrap_or_default();
        for solution in 0..SOLUTIONS {
            solutions.push(DeployedSolution {
                name: format!("kept{solution:02}"),
                version: Some(format!("1.{}.0", VERSIONS - 1)),
                digest: Some(digest(solution * VERSIONS + VERSIONS - 1)),
                ..DeployedSolution::default()
            });
        }
        let status = Patch::Merge(json!({"status": {"solutions": solutions}}));
        environments.patch_status(name, &PatchParams::default(), &status).await?;
    }
    Ok(())
}

fn digest(number: usize) -> String {
    format!("sha256:{number:064x}")
}

/// A version with its bytes and its records, and the request that was the last to deploy it.
async fn one(operator: &Client, scene: &Scene, number: usize, now: Timestamp) -> Result<()> {
    let host = &scene.world.host;
    let (solution, version) = (format!("kept{:02}", number / VERSIONS), format!("1.{}.0", number % VERSIONS));
    let at = |hours: usize| Ok::<_, anyhow::Error>((now - i64::try_from(hours)?.hours()).strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    let stored = at(3 * VERSIONS - number % VERSIONS)?;
    let digest = digest(number);
    let artifact: Artifact = serde_json::from_value(json!({
        "apiVersion": "pilotage.dev/v1alpha1", "kind": "Artifact",
        "metadata": {"name": format!("{solution}-{version}"), "namespace": host},
        "spec": {
            // No pipeline's: the other pipelines of the bench keep everything that could come into their first stage.
            "solution": {"name": solution, "version": version}, "digest": digest, "source": {"environment": "former"},
            "exportedBy": {"username": "dana"}, "exportedAt": stored, "objectCount": 1, "size": 100, "storedSize": 100, "chunks": 1,
            "objects": [{"apiVersion": "v1", "kind": "ConfigMap", "name": solution}],
        },
    }))?;
    let artifacts: Api<Artifact> = Api::namespaced(operator.clone(), host);
    let created = artifacts.create(&PostParams::default(), &artifact).await?;
    let uid = created.uid().unwrap_or_default();
    let records: Vec<Value> = (0..RECORDS)
        .map(|n| {
            let stage = if n % 2 == 0 { "qa" } else { "prod" };
            json!({
                "requestUID": format!("{number}-{n}"), "request": format!("{solution}-{version}-{n}"), "pipeline": "standard", "stage": stage,
                "stageUID": "s", "environment": stage, "environmentUID": "e", "environmentId": "e", "settingsDigest": digest,
                "requestedBy": "dana", "deployedBy": format!("system:serviceaccount:{host}:bot-{stage}"), "startedAt": stored,
                "endedAt": stored, "outcome": "Succeeded",
            })
        })
        .collect();
    let status = Patch::Merge(json!({"status": {"observedGeneration": 1, "deployments": records}}));
    artifacts.patch_status(&created.name_any(), &PatchParams::default(), &status).await?;
    let begin: String = uid.chars().take(8).collect();
    let chunk: ConfigMap = serde_json::from_value(json!({
        "metadata": {
            "name": format!("{solution}-{version}-{begin}-0"), "namespace": host,
            "labels": {"pilotage.dev/artifact": uid, "app.kubernetes.io/managed-by": "pilotage"},
            "ownerReferences": [{
                "apiVersion": "pilotage.dev/v1alpha1", "kind": "Artifact", "name": created.name_any(), "uid": uid, "controller": true,
            }],
        },
        "immutable": true, "binaryData": {"payload": "AAAA"},
    }))?;
    Api::<ConfigMap>::namespaced(operator.clone(), host).create(&PostParams::default(), &chunk).await?;

    let asked = request(host, &format!("{solution}-{version}-9").replace('.', "-"), "standard", "qa", &solution, &version)?;
    let dana: Api<DeploymentRequest> = Api::namespaced(scene.dana.clone(), host);
    let asked = dana.create(&PostParams::default(), &asked).await?;
    let end = json!({"status": {
        "observedGeneration": 1, "phase": "Rejected", "endTime": stored,
        "conditions": [{"type": "Succeeded", "status": "False", "reason": "Rejected", "message": "measured", "lastTransitionTime": stored}],
    }});
    let requests: Api<DeploymentRequest> = Api::namespaced(operator.clone(), host);
    requests.patch_status(&asked.name_any(), &PatchParams::default(), &Patch::Merge(end)).await?;
    Ok(())
}
