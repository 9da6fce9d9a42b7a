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

/// What two rounds of bursts gave.
#[derive(Default)]
struct Rounds {
    heads: Vec<Burst>,
    /// Each with the bare client's requests per second, if those were measured.
    later: Vec<(Burst, Option<f64>)>,
    trace: String,
}

/// Bursts to the heads and to the later stages, twice. A bare client's burst follows each. What fails takes no other figure with it.
pub async fn measure(stand: &mut Stand, scene: &mut Scene, figures: &mut Figures) -> String {
    let mut rounds = Rounds::default();
    let mut failed = None;
    match build(stand, scene).await {
        Ok(()) => {
            for (round, version) in ["1.0.0", "1.0.1"].into_iter().enumerate() {
                if let Err(error) = one_round(stand, scene, figures, &mut rounds, round == 0, version).await {
                    println!("  a round could not be measured to its end: {error:#}");
                    failed = failed.or(Some(error));
                }
            }
        }
        Err(error) => failed = Some(error),
    }
    let mut add = |figure: usize, values: Vec<f64>| {
        if let Some(mean) = mean(&values) {
            figures.add(FIGURES[figure].0, mean, FIGURES[figure].1);
        }
    };
    add(0, rounds.heads.iter().map(|burst| burst.per_second).collect());
    add(2, rounds.later.iter().map(|(burst, _)| burst.per_second).collect());
    add(3, rounds.later.iter().filter_map(|(_, bare)| *bare).collect());
    add(4, rounds.later.iter().filter_map(|(burst, bare)| Some(burst.per_second / (*bare)?)).collect());
    add(5, rounds.later.iter().map(|(burst, _)| burst.cpu_ms).collect());
    add(6, rounds.heads.iter().map(|burst| burst.cpu_ms).collect());
    if let Some(error) = failed {
        figures.missed(&FIGURES, &error);
        figures.missed(&idle::FIGURES, &error);
    }
    rounds.trace
}

async fn build(stand: &mut Stand, scene: &Scene) -> Result<()> {
    println!("  setting up {PIPELINES} pipelines with {} targets", 2 * PIPELINES);
    stand.resume()?;
    fleet::build(scene).await
}

/// One round. In the first, the memory and the idle calls are measured between its bursts.
async fn one_round(
    stand: &mut Stand,
    scene: &mut Scene,
    figures: &mut Figures,
    rounds: &mut Rounds,
    first: bool,
    version: &str,
) -> Result<()> {
    stand.resume()?;
    fleet::ready(scene).await?;
    fleet::release(scene, version).await?;
    scene.settle().await;
    let head = run(stand, scene, Place::Head, version).await?;
    println!("  heads {:.1}/s, {:.1} ms CPU each", head.per_second, head.cpu_ms);
    rounds.heads.push(head);
    scene.settle().await;
    if first {
        figures.add(FIGURES[1].0, stand.rss_mib()?, FIGURES[1].1);
        idle::measure(&stand.plane, figures).await?;
    }
    let later = run(stand, scene, Place::Later, version).await?;
    scene.settle().await;
    println!("  later stages {:.1}/s, {:.1} ms CPU each", later.per_second, later.cpu_ms);
    println!("  calls at the later stages: {}", calls::summary(&later.calls));
    rounds.trace += &calls::trace("a burst at later stages", &later.calls);
    stand.pause()?;
    let bare = bare::run(stand, scene, &later.calls, version).await;
    rounds.later.push((later, bare.as_ref().ok().copied()));
    println!("  bare client {:.1}/s", bare.context("the bare client")?);
    Ok(())
}

fn mean(values: &[f64]) -> Option<f64> {
    let count = u32::try_from(values.len()).ok().filter(|count| *count > 0)?;
    Some(values.iter().sum::<f64>() / f64::from(count))
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
