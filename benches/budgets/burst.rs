//! Two hundred requests at once, and a bare client that makes the same calls.

use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use pilotage_harness::audit::Call;

use crate::calls::{self, Mark};
use crate::figures::{Budget, Figures};
use crate::fleet::{self, PIPELINES, Place, SOLUTIONS};
use crate::stand::{Scene, Stand, approve};
use crate::stock::CONCURRENCY;
use crate::{bare, idle};

/// What is measured here.
pub const FIGURES: [(&str, Budget); 7] = [
    ("burst_200_head_per_second", Budget::None),
    ("rss_200_requests_mib", Budget::AtMost(60.0)),
    ("burst_200_per_second", Budget::AtLeast(44.0)),
    ("bare_200_per_second", Budget::None),
    ("burst_ratio", Budget::AtLeast(0.7)),
    ("cpu_ms_per_request", Budget::AtMost(10.0)),
    ("cpu_ms_per_request_head", Budget::None),
];

/// One burst.
struct Burst {
    per_second: f64,
    cpu_ms: f64,
    calls: Vec<Call>,
}

/// Bursts to the heads and to the later stages, twice. A bare client's burst follows each.
pub async fn measure(stand: &mut Stand, scene: &mut Scene, figures: &mut Figures) -> Result<String> {
    println!("  setting up {PIPELINES} pipelines with {} targets", 2 * PIPELINES);
    fleet::build(scene).await?;
    let mut rounds = Vec::new();
    let mut trace = String::new();
    for (round, version) in ["1.0.0", "1.0.1"].into_iter().enumerate() {
        stand.resume()?;
        fleet::ready(scene).await?;
        fleet::release(scene, version).await?;
        scene.settle().await;
        let head = run(stand, scene, Place::Head, version).await?;
        scene.settle().await;
        if round == 0 {
            figures.add(FIGURES[1].0, stand.rss_mib()?, FIGURES[1].1);
            idle::measure(&stand.plane, figures).await?;
        }
        let later = run(stand, scene, Place::Later, version).await?;
        scene.settle().await;
        println!("  calls at the later stages: {}", calls::summary(&later.calls));
        trace += &calls::trace("a burst at later stages", &later.calls);
        stand.pause()?;
        let bare = bare::run(stand, scene, &later.calls, version).await?;
        println!(
            "  heads {:.1}/s ({:.1} ms CPU each), later stages {:.1}/s ({:.1} ms CPU each), bare client {bare:.1}/s",
            head.per_second, head.cpu_ms, later.per_second, later.cpu_ms
        );
        rounds.push((head, later, bare));
    }
    stand.resume()?;
    let mean = |of: &dyn Fn(&(Burst, Burst, f64)) -> f64| rounds.iter().map(of).sum::<f64>() / 2.0;
    figures.add(FIGURES[0].0, mean(&|r| r.0.per_second), FIGURES[0].1);
    figures.add(FIGURES[2].0, mean(&|r| r.1.per_second), FIGURES[2].1);
    figures.add(FIGURES[3].0, mean(&|r| r.2), FIGURES[3].1);
    figures.add(FIGURES[4].0, mean(&|r| r.1.per_second / r.2), FIGURES[4].1);
    figures.add(FIGURES[5].0, mean(&|r| r.1.cpu_ms), FIGURES[5].1);
    figures.add(FIGURES[6].0, mean(&|r| r.0.cpu_ms), FIGURES[6].1);
    Ok(trace)
}

/// The name of a request of the fleet.
pub fn request_name(place: Place, number: usize, version: &str) -> String {
    format!("{}-{}-{}", fleet::solution(number), place.stage(number % PIPELINES), version.replace('.', "-"))
}

/// Deploys all solutions at once to their heads or their later stages. The delegate approves at once.
async fn run(stand: &Stand, scene: &mut Scene, place: Place, version: &str) -> Result<Burst> {
    scene.observer.skip_opened();
    let (mark, cpu, start) = (Mark::now(&stand.plane), stand.cpu_ms()?, Instant::now());
    let creations = {
        let (dana, host, version) = (scene.dana.clone(), scene.world.host.clone(), version.to_owned());
        tokio::spawn(async move {
            stream::iter(0..SOLUTIONS)
                .map(|number| {
                    let pipeline = number % PIPELINES;
                    let (name, stage) = (request_name(place, number, &version), place.stage(pipeline));
                    let request =
                        crate::stand::request(&host, &name, &fleet::pipeline(pipeline), &stage, &fleet::solution(number), &version);
                    let api: kube::Api<pilotage::api::DeploymentRequest> = kube::Api::namespaced(dana.clone(), &host);
                    async move { anyhow::Ok(api.create(&kube::api::PostParams::default(), &request?).await.map(|_| ())?) }
                })
                .buffer_unordered(CONCURRENCY)
                .try_collect::<()>()
                .await
        })
    };
    let mut approvals = tokio::task::JoinSet::new();
    for _ in 0..SOLUTIONS {
        let name = scene.observer.next_opened().await?;
        while approvals.len() >= CONCURRENCY {
            approvals.join_next().await.context("no approval is under way")???;
        }
        let (bot, host) = (scene.bot_qa.clone(), scene.world.host.clone());
        approvals.spawn(async move { approve(&bot, &host, &name).await });
    }
    creations.await??;
    while let Some(approved) = approvals.join_next().await {
        approved??;
    }
    let mut end = start;
    for number in 0..SOLUTIONS {
        end = end.max(scene.observer.success(&request_name(place, number, version)).await?);
    }
    let all = f64::from(u32::try_from(SOLUTIONS)?);
    let cpu_ms = (stand.cpu_ms()? - cpu) / all;
    Ok(Burst { per_second: all / (end - start).as_secs_f64(), cpu_ms, calls: mark.since()? })
}
