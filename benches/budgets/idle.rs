//! The calls and the memory of an operator that has nothing to do.

use std::time::Duration;

use anyhow::{Context as _, Result};
use pilotage_harness::ControlPlane;
use pilotage_harness::audit::Call;

use crate::calls::{self, Mark, OPERATOR};
use crate::figures::{Budget, Figures};

/// What is measured here. A Lease of 15 s is renewed about every 5 s, and each of eleven watches about every 5 min.
pub const FIGURES: [(&str, Budget); 2] = [("idle_calls_per_minute", Budget::None), ("idle_calls_aside_per_minute", Budget::AtMost(0.0))];

/// Counts the calls in a minute: all of them, and those that renew neither the Lease nor a watch.
pub async fn measure(plane: &ControlPlane, figures: &mut Figures) -> Result<()> {
    // The last deployment may still have something to report.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mark = Mark::now(plane);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let calls = mark.since()?;
    let own: Vec<&Call> = calls.iter().filter(|c| c.user == OPERATOR).collect();
    println!("  in a minute: {}", calls::summary(own.iter().copied()));
    let aside = own.iter().filter(|c| c.verb != "watch" && c.resource != "leases").count();
    figures.add(FIGURES[0].0, f64::from(u32::try_from(own.len()).context("too many")?), FIGURES[0].1);
    figures.add(FIGURES[1].0, f64::from(u32::try_from(aside).context("too many")?), FIGURES[1].1);
    Ok(())
}
