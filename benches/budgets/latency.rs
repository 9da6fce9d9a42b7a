//! How long one request takes when nothing else happens.

use anyhow::Result;
use serde_json::json;

use crate::figures::{Budget, Figures, median};
use crate::stand::Scene;

/// What is measured here.
pub const FIGURES: [(&str, Budget); 3] = [
    ("latency_one_object_head_p50_ms", Budget::None),
    ("latency_one_object_p50_ms", Budget::AtMost(46.0)),
    ("latency_one_object_p90_ms", Budget::None),
];

/// How many requests are measured at each stage.
const RUNS: usize = 25;

/// One-object solutions, one after the other, to the head and to the later stage: creation to Succeeded, less the decision.
pub async fn measure(scene: &mut Scene, figures: &mut Figures) -> Result<()> {
    let (mut head, mut later) = (Vec::new(), Vec::new());
    for run in 0..RUNS {
        let solution = format!("lat{run}");
        let world = &scene.world;
        world.apply(&[world.solution(&solution, "1.0.0"), world.config(&solution, &solution, json!({"greeting": "hello"}))]).await;
        for (stage, times) in [("qa", &mut head), ("prod", &mut later)] {
            scene.settle().await;
            let took = scene.deploy(&format!("{solution}-{stage}"), stage, &solution, "1.0.0").await?.took;
            times.push(took.as_secs_f64() * 1000.0);
        }
    }
    let mut sorted = later.clone();
    sorted.sort_by(f64::total_cmp);
    figures.add(FIGURES[0].0, median(head)?, FIGURES[0].1);
    figures.add(FIGURES[1].0, median(later)?, FIGURES[1].1);
    figures.add(FIGURES[2].0, sorted[RUNS * 9 / 10], FIGURES[2].1);
    Ok(())
}
