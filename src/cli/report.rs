//! `kubectl pilotage report`: how often, how fast and how safely versions reach the stages, from the records of artifacts.

use std::collections::BTreeSet;
use std::io::Write;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use kube::Api;

use super::connection::Connection;
use super::exit::Exit;
use super::output::{Column, Listing, Output, Row};
use super::reading::{self, Where};
use super::times::{self, Times};
use crate::api::{Artifact, DeploymentRequest, Solution};
use crate::policy::reports::{self, By, Choice, Figures, Spread};

/// Show how often, how fast and how safely versions reach the stages of a host.
///
/// The figures are counted from the records of Artifacts: deployments, lead times, waits at gates, change failure rate and time to restore.
/// What was rejected or withdrawn is in no record: how long it waited is counted from the requests that are still there. Times are the median; -o wide adds the 90th percentile, and json and yaml have both in seconds.
#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Only this pipeline.
    #[arg(long)]
    pipeline: Option<String>,
    /// Only this stage.
    #[arg(long)]
    stage: Option<String>,
    /// From this day or time on, for example 2026-11-01 or 2026-11-01T06:00:00Z. Days begin at midnight UTC.
    #[arg(long, value_parser = time)]
    since: Option<Timestamp>,
    /// Before this day or time.
    #[arg(long, value_parser = time)]
    until: Option<Timestamp>,
    /// What the lines tell apart. Several are joined by commas.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "stage")]
    by: Vec<Apart>,
}

/// What the lines of a report tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Apart {
    /// Months of UTC.
    Month,
    /// Stages, with their pipelines.
    Stage,
    /// Pipelines.
    Pipeline,
}

impl From<Apart> for By {
    fn from(apart: Apart) -> Self {
        match apart {
            Apart::Month => Self::Month,
            Apart::Stage => Self::Stage,
            Apart::Pipeline => Self::Pipeline,
        }
    }
}

impl Row for Figures {
    const COLUMNS: &'static [Column] = &[
        Column::everywhere("HOST"),
        Column::new("PIPELINE"),
        Column::new("STAGE"),
        Column::new("MONTH"),
        Column::new("DEPLOYMENTS"),
        Column::new("A WEEK"),
        Column::new("LEAD TIME"),
        Column::wide("LEAD TIME P90"),
        Column::wide("PRE-EXPORT WAIT"),
        Column::new("APPROVAL WAIT"),
        Column::wide("APPROVAL WAIT P90"),
        Column::wide("PRE-DEPLOYMENT WAIT"),
        Column::new("CHANGES"),
        Column::new("FAILED"),
        Column::new("FAILURE RATE"),
        Column::new("TIME TO RESTORE"),
        Column::wide("TIME TO RESTORE P90"),
        Column::new("NOT RESTORED"),
    ];

    fn cells(&self, times: &Times) -> Vec<String> {
        let took = |seconds: Option<i64>| match (seconds, times) {
            (None, _) => String::new(),
            (Some(seconds), Times::Ages(_)) => times::age(seconds),
            (Some(seconds), Times::Absolute) => seconds.to_string(),
        };
        let median = |spread: &Spread| took(spread.median);
        let group = &self.group;
        vec![
            group.host.clone(),
            group.pipeline.clone().unwrap_or_default(),
            group.stage.clone().unwrap_or_default(),
            group.month.clone().unwrap_or_default(),
            self.deployments.to_string(),
            self.deployments_per_week.to_string(),
            median(&self.lead_time),
            took(self.lead_time.p90),
            median(&self.pre_export_step),
            median(&self.approval),
            took(self.approval.p90),
            median(&self.pre_deployment_step),
            self.changes.to_string(),
            self.failed_changes.to_string(),
            self.change_failure_rate.map(|rate| rate.to_string()).unwrap_or_default(),
            median(&self.time_to_restore),
            took(self.time_to_restore.p90),
            self.not_restored.to_string(),
        ]
    }

    fn name(&self) -> String {
        let group = &self.group;
        let parts = [Some(&group.host), group.pipeline.as_ref(), group.stage.as_ref(), group.month.as_ref()];
        format!("report/{}", parts.into_iter().flatten().cloned().collect::<Vec<_>>().join("/"))
    }
}

/// Prints the report on one host, or on all that the caller may read.
///
/// # Errors
/// If a flag is wrong, or the caller may not read the artifacts of the host.
pub async fn run(connection: &Connection, args: ReportArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    if args.since.zip(args.until).is_some_and(|(since, until)| since >= until) {
        return Err(Exit::Usage.because("--since is not before --until"));
    }
    let (there, mut not_shown) = if connection.is_everywhere() {
        reading::hosts::<Artifact>(connection).await?
    } else {
        (Where::One(connection.namespace().to_owned()), Vec::new())
    };
    let artifacts = reading::list::<Artifact>(&connection.client(), &there).await?;
    if let (Where::One(host), false) = (&there, artifacts.not_shown.is_empty()) {
        return Err(Exit::NotAllowed.because(unseen(connection, host).await?));
    }
    not_shown.extend(artifacts.not_shown);
    let requests = reading::list::<DeploymentRequest>(&connection.client(), &there).await?;
    not_shown.extend(requests.not_shown.into_iter().map(|note| format!("waits at gates of what was rejected or withdrawn: {note}")));
    let choice = Choice { pipeline: args.pipeline, stage: args.stage, since: args.since, until: args.until };
    let by: Vec<By> = args.by.into_iter().map(By::from).collect();
    let rows = reports::report(&artifacts.items, &requests.items, &choice, &by, Timestamp::now());
    let place = if connection.is_everywhere() { "any host".to_owned() } else { format!("host {}", connection.namespace()) };
    out.list(&Listing { rows, not_shown }, &format!("nothing was deployed through {place} that fits"))
}

/// Why there is no report on the namespace for the caller, and whom to ask: what makers can see by themselves has no records.
async fn unseen(connection: &Connection, namespace: &str) -> anyhow::Result<String> {
    let client = connection.client();
    let solutions = reading::all(&Api::<Solution>::namespaced(client, namespace), &format!("solutions of namespace {namespace}")).await?;
    let stages = solutions.iter().flatten().filter_map(|solution| solution.status.as_ref()).flat_map(|status| &status.stages);
    let hosts: BTreeSet<&str> = stages.map(|stage| stage.host.as_str()).collect();
    let why = format!("you may not list artifacts in namespace {namespace}, whose records a report is made from");
    Ok(if hosts.is_empty() {
        format!("{why}: name a host with -n, or ask its administrator for the ClusterRole pilotage-viewer there")
    } else {
        let hosts: Vec<&str> = hosts.into_iter().collect();
        format!(
            "{why}. Solutions of {namespace} go through host {0}: report on it with -n {1}; if you may not read it, ask its administrator for a \
             report, or for the ClusterRole pilotage-viewer there. What runs and what waits: kubectl pilotage status -n {namespace}",
            hosts.join(", "),
            hosts[0]
        )
    })
}

/// A day, which begins at midnight UTC, or a time.
fn time(text: &str) -> Result<Timestamp, String> {
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp());
    // A date parses the beginning of a time too.
    text.parse::<Timestamp>()
        .ok()
        .or_else(|| if text.contains('T') { None } else { day() })
        .ok_or_else(|| "not a day, as 2026-11-01, and not a time of RFC 3339, as 2026-11-01T06:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_and_a_time_has_a_zone() {
        assert_eq!(time("2026-11-01").unwrap().to_string(), "2026-11-01T00:00:00Z");
        assert_eq!(time("2026-11-01T06:00:00+02:00").unwrap().to_string(), "2026-11-01T04:00:00Z");
        for wrong in ["", "yesterday", "2026-13-01", "2026-11-01T06:00:00", "30d"] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_column_has_a_cell() {
        assert_eq!(Figures::default().cells(&Times::Absolute).len(), Figures::COLUMNS.len());
    }
}
