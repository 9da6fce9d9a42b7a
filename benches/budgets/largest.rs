//! The largest artifact: the memory and the time that it needs.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{Context as _, Result};
use kube::Api;
use pilotage::api::Artifact;
use pilotage::artifact::export;
use serde_json::{Value, json};

use crate::figures::{Budget, Figures};
use crate::stand::{Scene, Stand};
use crate::stock;

/// What is measured here.
pub const FIGURES: [(&str, Budget); 5] = [
    ("largest_exported_bytes", Budget::None),
    ("largest_artifact_bytes", Budget::None),
    ("largest_deployment_ms", Budget::None),
    ("rss_peak_mib_largest_artifact", Budget::None),
    ("rss_after_mib_largest_artifact", Budget::None),
];

const SOLUTION: &str = "largest";
/// How many bytes of text one object has. A `ConfigMap` can hold one mebibyte.
const TEXT: usize = 1000 * 1024;

/// Deploys as much as can be exported at most, with content that can't be compressed. Returns the operator's peak memory, and the memory
/// that it kept.
pub async fn measure(stand: &mut Stand, scene: &mut Scene, figures: &mut Figures) -> Result<()> {
    // Part of a burst is measured without the operator.
    stand.resume()?;
    let mut objects: Vec<Value> = (0..export::MAX_BYTES / (TEXT + 1024)).map(|index| object(&scene.world.dev, index)).collect();
    objects.push(scene.world.solution(SOLUTION, "1.0.0"));
    for object in objects {
        stock::apply_one(&scene.world.admin, &object).await?;
    }
    scene.settle().await;
    stand.forget_peak()?;
    let run = scene.deploy("largest-qa", "qa", SOLUTION, "1.0.0").await?;
    let peak = stand.peak_mib()?;
    scene.settle().await;
    let after = stand.rss_mib()?;
    let artifact: Artifact = Api::namespaced(scene.world.admin.clone(), &scene.world.host)
        .get(&pilotage::api::names::artifact_name(SOLUTION, "1.0.0"))
        .await
        .context("the largest artifact")?;
    let bytes = |size: i64| u32::try_from(size).map(f64::from);
    let values = [bytes(artifact.spec.size)?, bytes(artifact.spec.stored_size)?, run.took.as_secs_f64() * 1000.0, peak, after];
    for ((name, budget), value) in FIGURES.into_iter().zip(values) {
        figures.add(name, value, budget);
    }
    Ok(())
}

fn object(namespace: &str, index: usize) -> Value {
    let mut text = String::with_capacity(TEXT + 16);
    let mut number = 0u64;
    while text.len() < TEXT {
        let mut hasher = DefaultHasher::new();
        (index, number).hash(&mut hasher);
        // Writing to a String can't fail.
        let _ = write!(text, "{:016x}", hasher.finish());
        number += 1;
    }
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": format!("{SOLUTION}-{index}"), "namespace": namespace, "labels": {"app.kubernetes.io/part-of": SOLUTION}},
        "data": {"text": text},
    })
}
