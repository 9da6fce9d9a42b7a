//! `kubectl pilotage where`: in which environments a solution runs, in which version, since when and by whom.

use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::connection::Connection;
use super::exit::Exit;
use super::output::{Column, Listing, Output, Row, Tone};
use super::reading::{self, Where};
use super::times::Times;
use crate::api::{Environment, Solution};

/// Show in which environments a solution runs, in which version, since when and by whom.
///
/// It is what the Environments of the hosts record, in all hosts that you may read; with -n in one. If you may read none, it is what your
/// Solution tells.
#[derive(Args, Debug)]
pub struct WhereArgs {
    /// The solution, and the version if only that one is meant.
    #[arg(value_name = "SOLUTION[@VERSION]")]
    what: String,
}

/// A solution in an environment.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<String>,
    solution: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

impl Row for Found {
    const COLUMNS: &'static [Column] = &[
        Column::new("HOST"),
        Column::new("ENVIRONMENT"),
        Column::wide("NAMESPACE"),
        Column::wide("CLUSTER"),
        Column::new("SOLUTION"),
        Column::new("VERSION"),
        Column::new("DIGEST"),
        Column::new("SINCE"),
        Column::new("REQUESTED BY"),
        Column::new("DEPLOYED BY"),
        Column::wide("REQUEST"),
        Column::new("NOTE"),
    ];

    fn cells(&self, times: &Times) -> Vec<String> {
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        let digest = or_empty(&self.digest);
        let short = digest.strip_prefix("sha256:").and_then(|hash| hash.get(..12)).unwrap_or(&digest).to_owned();
        vec![
            self.host.clone(),
            self.environment.clone().unwrap_or_else(|| format!("(stage {})", or_empty(&self.stage))),
            or_empty(&self.namespace),
            or_empty(&self.cluster),
            self.solution.clone(),
            self.version.clone().unwrap_or_else(|| "-".to_owned()),
            if matches!(times, Times::Absolute) { digest } else { short },
            times.show(self.since),
            or_empty(&self.requested_by),
            or_empty(&self.deployed_by),
            or_empty(&self.request),
            or_empty(&self.note),
        ]
    }

    fn name(&self) -> String {
        match (&self.environment, &self.stage) {
            (Some(environment), _) => format!("environment.pilotage.dev/{environment}"),
            (None, stage) => format!("stage.pilotage.dev/{}", stage.as_deref().unwrap_or_default()),
        }
    }

    fn tone(&self) -> Tone {
        if self.note.is_some() { Tone::Waiting } else { Tone::Plain }
    }
}

/// Prints where it runs.
///
/// # Errors
/// If the API server does not answer.
pub async fn run(connection: &Connection, args: WhereArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let (solution, version) = match args.what.split_once('@') {
        Some((solution, version)) => (solution, Some(version)),
        None => (args.what.as_str(), None),
    };
    if solution.is_empty() || version == Some("") {
        return Err(Exit::Usage.because(format!("{}: write SOLUTION or SOLUTION@VERSION", args.what)));
    }
    let client = connection.client();
    let (there, mut not_shown) = if connection.is_named() {
        (Where::One(connection.namespace().to_owned()), Vec::new())
    } else {
        reading::hosts::<Environment>(connection).await?
    };
    let environments = reading::list::<Environment>(&client, &there).await?;
    not_shown.extend(environments.not_shown);
    let mut rows: Vec<Found> = environments.items.iter().flat_map(|environment| of_environment(environment, solution)).collect();
    if !not_shown.is_empty() || environments.items.is_empty() {
        // What the caller's own Solutions tell of hosts that they may not read.
        let own = connection.namespace();
        let solutions = reading::all(&Api::<Solution>::namespaced(client, own), &format!("solutions of namespace {own}")).await?;
        let told = solutions.iter().flatten().filter(|found| found.name_any() == solution).flat_map(of_solution);
        let seen: Vec<String> = rows.iter().map(|row| row.host.clone()).collect();
        rows.extend(told.filter(|row| !seen.contains(&row.host)));
    }
    rows.retain(|row| version.is_none_or(|version| row.version.as_deref() == Some(version)));
    rows.sort_by(|a, b| (&a.host, &a.environment, &a.stage).cmp(&(&b.host, &b.environment, &b.stage)));
    out.list(&Listing { rows, not_shown }, &format!("{} runs nowhere that you may see", args.what))
}

fn of_environment(environment: &Environment, solution: &str) -> Vec<Found> {
    let deployed = environment.status.iter().flat_map(|s| &s.solutions).filter(|deployed| deployed.name == solution);
    let of = |deployed: &crate::api::environment::DeployedSolution| {
        let failed =
            deployed.failed.as_ref().map(|failed| format!("{} failed there and was left, by request {}", failed.version, failed.request));
        let claimed = deployed.claim.as_ref().map(|claim| format!("request {} is changing it", claim.request));
        Found {
            host: environment.namespace().unwrap_or_default(),
            environment: Some(environment.name_any()),
            namespace: Some(environment.spec.namespace.clone()),
            cluster: environment.cluster_name(),
            stage: None,
            solution: deployed.name.clone(),
            version: deployed.version.clone(),
            digest: deployed.digest.clone(),
            since: deployed.deployed_at,
            request: deployed.request.clone(),
            requested_by: deployed.requested_by.clone(),
            deployed_by: deployed.deployed_by.clone(),
            note: claimed.or(failed),
        }
    };
    deployed.map(of).collect()
}

fn of_solution(solution: &Solution) -> Vec<Found> {
    let entries = solution.status.iter().flat_map(|s| &s.deployments);
    let running = entries.filter_map(|entry| {
        let runs = entry.runs.as_ref()?;
        Some(Found {
            host: entry.host.clone(),
            stage: Some(entry.stage.clone()),
            solution: solution.name_any(),
            version: Some(runs.version.clone()),
            since: runs.since,
            ..Found::default()
        })
    });
    running.collect()
}
