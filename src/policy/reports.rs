//! Reports on deployments, from the records of artifacts, and on what ended before it deployed, from the requests. `docs/reports.md` defines
//! each figure; this is the only place that counts them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use kube::ResourceExt;
use serde::Serialize;

use super::request::decisions;
use crate::api::artifact::{DecidedGate, DeploymentRecord, Outcome};
use crate::api::request_status::Gate;
use crate::api::{Artifact, DeploymentRequest};

/// Seconds of a week.
const WEEK: f64 = 7.0 * 86_400.0;

/// What a report tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    /// Pipelines.
    Pipeline,
    /// Stages, with their pipelines.
    Stage,
    /// Months of UTC.
    Month,
}

/// Which deployments a report is about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Only this pipeline.
    pub(crate) pipeline: Option<String>,
    /// Only this stage.
    pub(crate) stage: Option<String>,
    /// From this time on.
    pub(crate) since: Option<Timestamp>,
    /// Before this time.
    pub(crate) until: Option<Timestamp>,
}

impl Choice {
    fn takes(&self, pipeline: &str, stage: &str) -> bool {
        let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        is(&self.pipeline, pipeline) && is(&self.stage, stage)
    }

    fn covers(&self, at: Timestamp) -> bool {
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
    }
}

/// What a line of a report is about. What the report does not tell apart is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Group {
    /// The host.
    pub(crate) host: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pipeline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stage: Option<String>,
    /// The month, as `2026-11`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) month: Option<String>,
}

/// How long something took: the median and the 90th percentile of all, in seconds. Both are the nearest rank, and were really measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spread {
    /// How many there were.
    pub(crate) count: usize,
    /// The median, in seconds. Left out if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) median: Option<i64>,
    /// The 90th percentile, in seconds. Left out if there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p90: Option<i64>,
}

impl Spread {
    fn of(mut seconds: Vec<i64>) -> Self {
        seconds.sort_unstable();
        let rank = |percent: usize| seconds.get((seconds.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Self { count: seconds.len(), median: rank(50), p90: rank(90) }
    }
}

/// One line of a report.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Figures {
    #[serde(flatten)]
    pub(crate) group: Group,
    /// The versions that succeeded in a stage for the first time, each once for each stage.
    pub(crate) deployments: usize,
    /// The same for a week.
    pub(crate) deployments_per_week: f64,
    /// From a version's appearance in development to its first success in the stage.
    pub(crate) lead_time: Spread,
    /// From the opening of gate 1 to its decision, or to the end of a request that was withdrawn or gave up there.
    pub(crate) pre_export_step: Spread,
    /// The same at gate 2.
    pub(crate) approval: Spread,
    /// The same at gate 3.
    pub(crate) pre_deployment_step: Spread,
    /// The versions that began to be deployed to a stage, each once for each stage.
    pub(crate) changes: usize,
    /// Those of them of which a deployment there failed.
    pub(crate) failed_changes: usize,
    /// Their share, from 0 to 1. Left out if there was no change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) change_failure_rate: Option<f64>,
    /// From a failure to the next success of the solution in the stage, or to the end of the rollback.
    pub(crate) time_to_restore: Spread,
    /// The failures after which there was neither yet.
    pub(crate) not_restored: usize,
}

/// What is counted for one group before it is summed up.
#[derive(Default)]
struct Counted {
    lead_times: Vec<i64>,
    deployments: usize,
    gates: [Vec<i64>; 3],
    changes: usize,
    failed_changes: usize,
    restored: Vec<i64>,
    not_restored: usize,
}

/// The records of one version in one stage.
struct Change<'a> {
    artifact: &'a Artifact,
    records: Vec<&'a DeploymentRecord>,
}

impl Change<'_> {
    /// When the version first succeeded there. A later deployment of it doesn't count again.
    fn first_success(&self) -> Option<Timestamp> {
        let successes = self.records.iter().filter(|record| record.outcome == Outcome::Succeeded);
        successes.map(|record| record.first_succeeded_at.unwrap_or(record.ended_at)).min()
    }

    /// When the first deployment of it there ended, as far as is known.
    fn first_end(&self) -> Option<Timestamp> {
        self.records.iter().map(|record| record.ended_at).chain(self.first_success()).min()
    }

    fn failed(&self) -> bool {
        self.records.iter().any(|record| record.outcome == Outcome::Failed)
    }

    /// When the version appeared in development. Versions from a registry have no such time: it is when they were fetched.
    fn appeared(&self) -> Timestamp {
        self.artifact.spec.developed_at.unwrap_or(self.artifact.spec.exported_at)
    }
}

/// The report on these artifacts and requests, one line for each group in which anything is to be told, in order.
pub(crate) fn report(artifacts: &[Artifact], requests: &[DeploymentRequest], choice: &Choice, by: &[By], now: Timestamp) -> Vec<Figures> {
    let mut groups: BTreeMap<Group, Counted> = BTreeMap::new();
    let mut first = None;
    let mut changes: BTreeMap<(String, &str, &str, &str, &str), Change<'_>> = BTreeMap::new();
    for artifact in artifacts {
        let solution = &artifact.spec.solution;
        for record in
            artifact.status.iter().flat_map(|status| &status.deployments).filter(|record| choice.takes(&record.pipeline, &record.stage))
        {
            let key = (
                artifact.namespace().unwrap_or_default(),
                record.pipeline.as_str(),
                record.stage.as_str(),
                solution.name.as_str(),
                solution.version.as_str(),
            );
            changes.entry(key).or_insert_with(|| Change { artifact, records: Vec::new() }).records.push(record);
        }
    }
    let mut of_solutions: BTreeMap<(&str, &str, &str, &str), Vec<&DeploymentRecord>> = BTreeMap::new();
    for ((host, pipeline, stage, solution, _), change) in &changes {
        of_solutions.entry((host, pipeline, stage, solution)).or_default().extend(&change.records);
        let mut count = |at: Timestamp, note: &mut dyn FnMut(&mut Counted)| {
            if choice.covers(at) {
                first = Some(first.map_or(at, |first: Timestamp| first.min(at)));
                note(groups.entry(group(host, pipeline, stage, at, by)).or_default());
            }
        };
        if let Some(at) = change.first_success() {
            let lead_time = seconds(change.appeared(), at);
            count(at, &mut |counted| {
                counted.deployments += 1;
                counted.lead_times.push(lead_time);
            });
        }
        if let Some(at) = change.first_end() {
            count(at, &mut |counted| {
                counted.changes += 1;
                counted.failed_changes += usize::from(change.failed());
            });
        }
        for decision in change.records.iter().flat_map(|record| &record.decisions) {
            let (Some(opened), Some(at)) = (decision.opened_at, decision.at) else { continue };
            count(at, &mut |counted| counted.gates[place(decision.gate)].push(seconds(opened, at)));
        }
    }
    for request in requests.iter().filter(|request| choice.takes(&request.spec.pipeline, &request.spec.stage)) {
        let host = request.namespace().unwrap_or_default();
        for (gate, opened, at) in waits(request).into_iter().filter(|(_, _, at)| choice.covers(*at)) {
            first = Some(first.map_or(at, |first: Timestamp| first.min(at)));
            let counted = groups.entry(group(&host, &request.spec.pipeline, &request.spec.stage, at, by)).or_default();
            counted.gates[place(gate)].push(seconds(opened, at));
        }
    }
    for ((host, pipeline, stage, _), records) in of_solutions {
        for (began, restored) in outages(records) {
            if !choice.covers(began) {
                continue;
            }
            let counted = groups.entry(group(host, pipeline, stage, began, by)).or_default();
            match restored {
                Some(at) => counted.restored.push(seconds(began, at)),
                None => counted.not_restored += 1,
            }
        }
    }
    let period = (choice.since.or(first).unwrap_or(now), choice.until.map_or(now, |until| until.min(now)));
    groups.into_iter().map(|(group, counted)| summed_up(group, counted, period)).collect()
}

/// The waits at the gates of a request that ended before it claimed its target: from the opening to the decision, or to the end if nobody
/// decided. What claimed its target is told by its record.
fn waits(request: &DeploymentRequest) -> Vec<(DecidedGate, Timestamp, Timestamp)> {
    let Some(status) = &request.status else { return Vec::new() };
    let run = &status.run;
    let (Some(ended), None) = (run.end_time, run.start_time) else { return Vec::new() };
    let decided = decisions::of(Some(status), &run.conditions);
    let opened = [
        (DecidedGate::PreExportStep, &run.gates.pre_export_step),
        (DecidedGate::Approval, &run.gates.approval),
        (DecidedGate::PreDeploymentStep, &run.gates.pre_deployment_step),
    ];
    let wait = |(gate, opened): (DecidedGate, &Option<Gate>)| {
        let seen = decided.iter().find(|decision| decision.gate == gate).and_then(|decision| decision.at);
        Some((gate, opened.as_ref()?.opened_at, seen.unwrap_or(ended)))
    };
    opened.into_iter().filter_map(wait).collect()
}

/// The place of a gate among the three.
fn place(gate: DecidedGate) -> usize {
    match gate {
        DecidedGate::PreExportStep => 0,
        DecidedGate::Approval => 1,
        DecidedGate::PreDeploymentStep => 2,
    }
}

/// The times in which the last deployment of a solution to a stage had failed: from the first failure, to the next success, or to the end
/// of the rollback. Failures that follow each other are one.
fn outages(mut records: Vec<&DeploymentRecord>) -> Vec<(Timestamp, Option<Timestamp>)> {
    records.sort_by_key(|record| (record.ended_at, record.started_at));
    let (mut outages, mut began) = (Vec::new(), None);
    for record in records {
        if record.outcome == Outcome::Failed {
            began = began.or(Some(record.failed_at.unwrap_or(record.ended_at)));
        }
        let is_over = record.outcome == Outcome::Succeeded || record.restored.is_some();
        if let Some(since) = began.take_if(|_| is_over) {
            outages.push((since, Some(record.ended_at)));
        }
    }
    outages.extend(began.map(|since| (since, None)));
    outages
}

fn group(host: &str, pipeline: &str, stage: &str, at: Timestamp, by: &[By]) -> Group {
    let by: BTreeSet<By> = by.iter().copied().collect();
    Group {
        host: host.to_owned(),
        pipeline: (by.contains(&By::Pipeline) || by.contains(&By::Stage)).then(|| pipeline.to_owned()),
        stage: by.contains(&By::Stage).then(|| stage.to_owned()),
        month: by.contains(&By::Month).then(|| at.to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string()),
    }
}

fn summed_up(group: Group, counted: Counted, period: (Timestamp, Timestamp)) -> Figures {
    let [pre_export_step, approval, pre_deployment_step] = counted.gates.map(Spread::of);
    Figures {
        deployments: counted.deployments,
        deployments_per_week: per_week(counted.deployments, within(period, group.month.as_deref())),
        lead_time: Spread::of(counted.lead_times),
        pre_export_step,
        approval,
        pre_deployment_step,
        changes: counted.changes,
        failed_changes: counted.failed_changes,
        change_failure_rate: (counted.changes > 0).then(|| rounded(share(counted.failed_changes, counted.changes))),
        time_to_restore: Spread::of(counted.restored),
        not_restored: counted.not_restored,
        group,
    }
}

/// The part of the period that lies in the month, or all of it.
fn within((from, to): (Timestamp, Timestamp), month: Option<&str>) -> (Timestamp, Timestamp) {
    let first = month.and_then(|month| format!("{month}-01").parse::<Date>().ok());
    let Some(first) = first else { return (from, to) };
    let start = |date: Date| date.to_zoned(TimeZone::UTC).map(|at| at.timestamp()).ok();
    let next = first.checked_add(1.month()).ok().and_then(start);
    (start(first).map_or(from, |start| start.max(from)), next.map_or(to, |next| next.min(to)))
}

/// How many there are in a week. A period of less than a day counts as a day.
fn per_week(count: usize, (from, to): (Timestamp, Timestamp)) -> f64 {
    let seconds = seconds(from, to).max(86_400);
    rounded(share(count, 1) * WEEK / f64::from(u32::try_from(seconds).unwrap_or(u32::MAX)))
}

fn share(part: usize, of: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(part) / number(of)
}

/// With three digits after the point.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// The seconds between two times; none if clocks differ.
fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    (to.as_second() - from.as_second()).max(0)
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
