//! How many calls one request costs, and which.

use anyhow::{Context as _, Result, ensure};
use pilotage_harness::ControlPlane;
use pilotage_harness::audit::Call;
use serde_json::json;

use crate::calls::{self, Mark};
use crate::figures::{Budget, Figures};
use crate::stand::Scene;

/// What is measured here.
pub const FIGURES: [(&str, Budget); 4] = [
    ("host_writes_head", Budget::AtMost(10.0)),
    ("host_writes_later", Budget::AtMost(8.0)),
    ("target_writes", Budget::AtMost(2.0)),
    ("target_writes_unchanged", Budget::AtMost(0.0)),
];

/// Deploys one object to a head, to a later stage, and to the head again unchanged. Returns all calls, for people.
pub async fn measure(plane: &ControlPlane, scene: &mut Scene, figures: &mut Figures) -> Result<String> {
    let world = &scene.world;
    world.apply(&[world.solution("warm", "1.0.0"), world.config("warm", "warm", json!({"greeting": "hello"}))]).await;
    world.apply(&[world.solution("one", "1.0.0"), world.config("one", "one", json!({"greeting": "hello"}))]).await;
    scene.deploy("warm-qa", "qa", "warm", "1.0.0").await?;
    scene.deploy("warm-prod", "prod", "warm", "1.0.0").await?;

    let head = calls_of(plane, scene, "one-qa", "qa").await?;
    let later = calls_of(plane, scene, "one-prod", "prod").await?;
    scene.change_pipeline("standard", json!({"allowRedeployments": true})).await?;
    scene.settle().await;
    let again = calls_of(plane, scene, "one-qa-again", "qa").await?;

    for ((name, budget), run) in FIGURES.into_iter().zip([&head, &later]) {
        let writes: Vec<&Call> = run.iter().filter(|c| calls::is_host_write(c)).collect();
        println!("  {}", calls::summary(writes.iter().copied()));
        figures.add(name, count(writes.len())?, budget);
    }
    for ((name, budget), run) in FIGURES.into_iter().skip(2).zip([&head, &again]) {
        let writes: Vec<&Call> = run.iter().filter(|c| calls::is_target_write(c)).collect();
        println!("  {}", calls::summary(writes.iter().copied()));
        figures.add(name, count(writes.len())?, budget);
    }
    let titled = [("a head", &head), ("a later stage", &later), ("the head again, unchanged", &again)];
    Ok(titled.into_iter().map(|(title, run)| calls::trace(title, run)).collect())
}

async fn calls_of(plane: &ControlPlane, scene: &mut Scene, name: &str, stage: &str) -> Result<Vec<Call>> {
    scene.settle().await;
    let mark = Mark::now(plane);
    scene.deploy(name, stage, "one", "1.0.0").await?;
    scene.settle().await;
    let calls = mark.since()?;
    ensure!(calls.iter().any(calls::is_host_write), "the audit log tells nothing of request {name}");
    Ok(calls)
}

/// As a figure.
pub fn count(number: usize) -> Result<f64> {
    u32::try_from(number).map(f64::from).context("too many")
}
