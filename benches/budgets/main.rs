//! Measures Pilotage against its budgets (see the README), on a real control plane of its own. It runs the release build of the operator
//! with the rights in `deploy/`. Run it with `make bench`, best on a machine that does nothing else. Ratios are relative to a bare client
//! that is measured in the same run.
//!
//! Writes `target/bench.json`, and `target/bench-calls.txt` with every call of single requests and of a burst, to find out where the time
//! goes.

mod bare;
mod burst;
mod calls;
mod deploy;
mod figures;
mod fleet;
mod gates;
mod idle;
mod largest;
mod latency;
mod observer;
mod policies;
mod process;
mod retention;
mod stand;
mod stock;
#[expect(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "the tests' world: they need more of it, and fail by a panic"
)]
#[path = "../../tests/world/mod.rs"]
mod world;
mod writes;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use figures::{Budget, Figures};
use stand::{Scene, Stand};

const RSS_IDLE: (&str, Budget) = ("rss_idle_mib", Budget::AtMost(30.0));
const BINARY: (&str, Budget) = ("binary_mb", Budget::AtMost(25.0));

fn main() -> ExitCode {
    // `cargo test --all-targets` runs benches too, but without this argument.
    if !std::env::args().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> anyhow::Result<()> {
    let start = Instant::now();
    let mut figures = Figures::default();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    step(start, "starting a control plane and the operator");
    let mut stand = Stand::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let trace = runtime.block_on(everything(start, &mut stand, &mut figures))?;
    figures.print();
    figures.write(&target.join("bench.json"))?;
    std::fs::write(target.join("bench-calls.txt"), trace)?;
    step(start, "done; the figures are in target/bench.json, the calls in target/bench-calls.txt");
    Ok(())
}

async fn everything(start: Instant, stand: &mut Stand, figures: &mut Figures) -> anyhow::Result<String> {
    let only = std::env::var("PILOTAGE_BENCH_ONLY").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || only.split(',').any(|o| o == part);
    let mut trace = String::new();

    step(start, "a fresh operator");
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    figures.add(RSS_IDLE.0, stand.rss_mib()?, RSS_IDLE.1);
    let size: u32 = std::fs::metadata(&stand.program)?.len().try_into()?;
    figures.add(BINARY.0, f64::from(size) / 1e6, BINARY.1);
    let mut scene = Scene::set(&stand.plane).await?;

    step(start, "the calls of one request");
    match writes::measure(&stand.plane, &mut scene, figures).await {
        Ok(calls) => trace += &calls,
        Err(error) => figures.missed(&writes::FIGURES, &error),
    }
    if wanted("gates") {
        step(start, "the calls of one request at every kind of stage");
        if let Err(error) = gates::measure(&stand.plane, &scene, figures).await {
            figures.missed(&gates::FIGURES, &error);
        }
    }
    if wanted("latency") {
        step(start, "one request after the other");
        if let Err(error) = latency::measure(&mut scene, figures).await {
            figures.missed(&latency::FIGURES, &error);
        }
    }
    if wanted("deploy") {
        step(start, "large applications");
        deploy::measure(&stand.plane, &mut scene, figures).await;
    }
    if wanted("burst") {
        step(start, "200 requests at once");
        trace += &burst::measure(stand, &mut scene, figures).await;
    }
    // It runs after the burst was measured: an allocator returns little memory after a peak.
    if wanted("largest") {
        step(start, "the largest artifact");
        if let Err(error) = largest::measure(stand, &mut scene, figures).await {
            figures.missed(&largest::FIGURES, &error);
        }
    }
    if wanted("retention") {
        step(start, "retention among two thousand artifacts and twenty thousand records");
        if let Err(error) = retention::measure(stand, &scene, figures).await {
            figures.missed(&retention::FIGURES, &error);
        }
    }
    if wanted("policies") {
        step(start, "requests among a thousand stages, with the policies and without");
        if let Err(error) = policies::measure(stand, &scene, figures).await {
            figures.missed(&policies::FIGURES, &error);
        }
    }
    Ok(trace)
}

fn step(start: Instant, what: &str) {
    println!("[{:5.1} s] {what}", start.elapsed().as_secs_f64());
}
