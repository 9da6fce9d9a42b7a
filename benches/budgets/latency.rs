//! How long one request takes if nothing else happens.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::figures::{Budget, Figures, median};
use crate::stand::Scene;

/// What is measured here.
pub const FIGURES: [(&str, Budget); 5] = [
    ("latency_one_object_head_p50_ms", Budget::None),
    ("latency_one_object_p50_ms", Budget::AtMost(46.0)),
    ("latency_one_object_p90_ms", Budget::None),
    ("bare_write_p50_ms", Budget::None),
    // When the budget of 46 ms was set, a bare write took 3.5 ms.
    ("latency_in_bare_writes", Budget::AtMost(46.0 / 3.5)),
];

/// How many requests are measured at each stage.
const RUNS: usize = 25;

/// Solutions of one object, one after the other, to the head and to the later stage. The time is from creation to Succeeded, without the
/// decision.
pub async fn measure(scene: &mut Scene, figures: &mut Figures) -> Result<()> {
    let (mut head, mut later, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let solution = format!("lat{run}");
        let world = &scene.world;
        world.apply(&[world.solution(&solution, "1.0.0"), world.config(&solution, &solution, json!({"greeting": "hello"}))]).await;
        for (stage, times) in [("qa", &mut head), ("prod", &mut later)] {
            scene.settle().await;
            let took = scene.deploy(&format!("{solution}-{stage}"), stage, &solution, "1.0.0").await?.took;
            times.push(took.as_secs_f64() * 1000.0);
        }
        scene.settle().await;
        bare.push(bare_write(scene, &solution, run).await?.as_secs_f64() * 1000.0);
    }
    let mut sorted = later.clone();
    sorted.sort_by(f64::total_cmp);
    figures.add(FIGURES[0].0, median(head)?, FIGURES[0].1);
    let (later, bare) = (median(later)?, median(bare)?);
    figures.add(FIGURES[1].0, later, FIGURES[1].1);
    figures.add(FIGURES[2].0, sorted[RUNS * 9 / 10], FIGURES[2].1);
    figures.add(FIGURES[3].0, bare, FIGURES[3].1);
    figures.add(FIGURES[4].0, later / bare, FIGURES[4].1);
    Ok(())
}

/// One write of one small object by a client that does nothing else.
async fn bare_write(scene: &Scene, name: &str, run: usize) -> Result<Duration> {
    let api: Api<ConfigMap> = Api::namespaced(scene.world.admin.clone(), &scene.world.dev);
    let start = Instant::now();
    api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"data": {"run": run.to_string()}}))).await?;
    Ok(start.elapsed())
}
