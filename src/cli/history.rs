//! `kubectl pilotage history`: what was asked for and deployed before, by whom and how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::{Timestamp, civil};
use kube::{Api, ResourceExt};
use serde::Serialize;

use super::connection::Connection;
use super::exit::Exit;
use super::output::{Column, Listing, Output, Row, Tone};
use super::progress::{self, Progress};
use super::reading::{self, Where};
use super::times::{self, Times};
use crate::api::artifact::{DeploymentRecord, Outcome, RecordedDecision};
use crate::api::phase::Phase;
use crate::api::request_status::condition_types::SUCCEEDED;
use crate::api::{Artifact, DeploymentRequest, Solution, Stage, condition, duration};
use crate::policy::request::decisions;

/// Show what was asked for and deployed, by whom, and how it ended; the newest first.
///
/// It is what ended requests and the records of Artifacts tell, in the host that -n names, or with -A in all hosts that you may read. In a
/// namespace with Solutions it is what their status tells.
#[derive(Args, Debug)]
pub struct HistoryArgs {
    /// Only this solution.
    #[arg(long)]
    solution: Option<String>,
    /// Only this stage.
    #[arg(long)]
    stage: Option<String>,
    /// Only this pipeline.
    #[arg(long)]
    pipeline: Option<String>,
    /// Only this Environment.
    #[arg(long)]
    environment: Option<String>,
    /// Only what this person or account asked for, decided or deployed.
    #[arg(long)]
    person: Option<String>,
    /// Only what ended so.
    #[arg(long, value_enum, ignore_case = true)]
    outcome: Option<Ending>,
    /// Only what ended since then: a time (2026-11-30T08:00:00Z), a day (2026-11-30) or how long ago (36h).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only what ended until then.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// At most so many; 0: all.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ending {
    /// It was deployed.
    Succeeded,
    /// It could not be carried out.
    Failed,
    /// Somebody said no.
    Rejected,
    /// It was withdrawn.
    Canceled,
    /// It only planned.
    Planned,
}

impl Ending {
    fn phase(self) -> Phase {
        match self {
            Self::Succeeded => Phase::Succeeded,
            Self::Failed => Phase::Failed,
            Self::Rejected => Phase::Rejected,
            Self::Canceled => Phase::Canceled,
            Self::Planned => Phase::Planned,
        }
    }
}

/// A request that has ended.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Past {
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    host: String,
    request: String,
    #[serde(rename = "requestUID")]
    request_uid: String,
    pipeline: String,
    stage: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    solution: String,
    version: String,
    outcome: String,
    requested_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_behalf_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approved_by: Option<String>,
    /// Everybody who decided.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deciders: Vec<String>,
    /// What was decided at each gate, when it was opened, and what was said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    decisions: Vec<RecordedDecision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deployed_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    message: String,
    /// Whether the request itself is gone, so that this is what the artifact's record tells.
    request_is_gone: bool,
}

impl Row for Past {
    const COLUMNS: &'static [Column] = &[
        Column::new("ENDED"),
        Column::everywhere("HOST"),
        Column::new("REQUEST"),
        Column::wide("PIPELINE"),
        Column::new("STAGE"),
        Column::wide("ENVIRONMENT"),
        Column::new("SOLUTION"),
        Column::new("VERSION"),
        Column::new("OUTCOME"),
        Column::new("TOOK"),
        Column::new("REQUESTED BY"),
        Column::wide("ON BEHALF OF"),
        Column::new("APPROVED BY"),
        Column::new("DEPLOYED BY"),
        Column::wide("WAITED AT GATES"),
        Column::wide("COMMENTS"),
        Column::wide("MESSAGE"),
    ];

    fn cells(&self, times: &Times) -> Vec<String> {
        let or_empty = |text: &Option<String>| text.clone().unwrap_or_default();
        let took = self.started_at.zip(self.ended_at).map(|(start, end)| times::age(end.as_second() - start.as_second()));
        vec![
            times.show(self.ended_at),
            self.host.clone(),
            self.request.clone(),
            self.pipeline.clone(),
            self.stage.clone(),
            or_empty(&self.environment),
            self.solution.clone(),
            self.version.clone(),
            self.outcome.clone(),
            took.unwrap_or_default(),
            self.requested_by.clone(),
            or_empty(&self.on_behalf_of),
            or_empty(&self.approved_by),
            or_empty(&self.deployed_by),
            self.waited().map(times::age).unwrap_or_default(),
            self.decisions.iter().filter_map(|decision| decision.comments.clone()).collect::<Vec<_>>().join("; "),
            self.message.clone(),
        ]
    }

    fn name(&self) -> String {
        super::ask::full_name(&self.request)
    }

    fn tone(&self) -> Tone {
        match Phase::of(&self.outcome) {
            Some(Phase::Succeeded | Phase::Planned) => Tone::Good,
            Some(Phase::Failed | Phase::Rejected) => Tone::Bad,
            _ => Tone::Plain,
        }
    }
}

impl Past {
    /// How many seconds it waited at its gates, as far as is known.
    fn waited(&self) -> Option<i64> {
        let waits =
            self.decisions.iter().filter_map(|d| d.opened_at.zip(d.at)).map(|(opened, at)| (at.as_second() - opened.as_second()).max(0));
        waits.reduce(|sum, wait| sum + wait)
    }
}

/// Prints what has ended.
///
/// # Errors
/// If a flag is wrong, if the caller may read nothing of it, or if the API server does not answer.
pub async fn run(connection: &Connection, args: HistoryArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let now = Timestamp::now();
    let since = args.since.as_deref().map(|text| time("--since", text, now)).transpose()?;
    let until = args.until.as_deref().map(|text| time("--until", text, now)).transpose()?;
    let mut list = read(connection).await?;
    list.rows.retain(|past| args.takes(past, since, until));
    list.rows.sort_by(|a, b| b.ended_at.cmp(&a.ended_at).then_with(|| a.request.cmp(&b.request)));
    if args.limit > 0 && list.rows.len() > args.limit {
        list.not_shown.push(format!("{} older entries: show more with --limit", list.rows.len() - args.limit));
        list.rows.truncate(args.limit);
    }
    out.list(&list, "nothing has ended that you may see and that fits")
}

async fn read(connection: &Connection) -> anyhow::Result<Listing<Past>> {
    let client = connection.client();
    let own = connection.namespace();
    let (there, mut not_shown) = if connection.is_everywhere() {
        reading::hosts::<DeploymentRequest>(connection).await?
    } else {
        (Where::One(own.to_owned()), Vec::new())
    };
    let requests = reading::list::<DeploymentRequest>(&client, &there).await?;
    let artifacts = reading::list::<Artifact>(&client, &there).await?;
    let stages = reading::list::<Stage>(&client, &there).await?;
    let mut told = Vec::new();
    if !requests.not_shown.is_empty() || requests.items.is_empty() {
        let solutions = reading::all(&Api::<Solution>::namespaced(client, own), &format!("solutions of namespace {own}")).await?;
        if solutions.is_none() && !connection.is_everywhere() && !requests.not_shown.is_empty() && !artifacts.not_shown.is_empty() {
            return Err(Exit::NotAllowed.because(format!("you may read neither requests, artifacts nor solutions of namespace {own}")));
        }
        told = solutions.unwrap_or_default();
    }
    // In the namespace of a maker it is no news that they may not read a host there.
    if told.is_empty() || connection.is_everywhere() {
        not_shown.extend([requests.not_shown, artifacts.not_shown, stages.not_shown].concat());
    }
    let rows = together(&requests.items, &artifacts.items, &stages.items, &told);
    Ok(Listing { rows, not_shown })
}

/// What all of them tell, each request once: by itself, by the record of its artifact, or by the maker's Solution.
fn together(requests: &[DeploymentRequest], artifacts: &[Artifact], stages: &[Stage], solutions: &[Solution]) -> Vec<Past> {
    let targets: BTreeMap<(String, String), &String> =
        stages.iter().map(|s| ((s.namespace().unwrap_or_default(), s.name_any()), &s.spec.target_environment)).collect();
    let recorded = |artifact: &Artifact| {
        let records = artifact.status.iter().flat_map(|s| &s.deployments);
        records.map(|record| of_record(artifact, record)).collect::<Vec<_>>()
    };
    let mut by_uid: BTreeMap<String, Past> = artifacts.iter().flat_map(recorded).map(|past| (past.request_uid.clone(), past)).collect();
    for request in requests {
        let Some(mut past) = of_request(request) else { continue };
        let record = by_uid.remove(&past.request_uid);
        let target = targets.get(&(past.host.clone(), past.stage.clone())).map(|name| (*name).clone());
        past.environment = record.as_ref().and_then(|record| record.environment.clone()).or(target);
        by_uid.insert(past.request_uid.clone(), past);
    }
    for line in solutions.iter().flat_map(|solution| progress::of_solution(solution, true)) {
        let Some(past) = of_progress(line) else { continue };
        by_uid.entry(past.request_uid.clone()).or_insert(past);
    }
    by_uid.into_values().collect()
}

fn of_request(request: &DeploymentRequest) -> Option<Past> {
    let status = request.status.as_ref()?;
    let run = &status.run;
    let decisions = decisions::of(Some(status), &run.conditions);
    Some(Past {
        ended_at: Some(run.end_time?),
        host: request.namespace().unwrap_or_default(),
        request: request.name_any(),
        request_uid: request.uid().unwrap_or_default(),
        pipeline: request.spec.pipeline.clone(),
        stage: request.spec.stage.clone(),
        environment: None,
        solution: request.spec.solution.name.clone(),
        version: request.spec.solution.version.clone(),
        outcome: run.phase.clone(),
        requested_by: request.spec.requested_by.as_ref().map(|who| who.username.clone()).unwrap_or_default(),
        on_behalf_of: request.spec.on_behalf_of.clone(),
        approved_by: run.approved_by.clone(),
        deciders: decisions.iter().map(|decision| decision.by.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
        decisions,
        deployed_by: run.deployed_by.clone(),
        started_at: run.start_time,
        message: condition::find(&run.conditions, SUCCEEDED).map(|c| c.message.clone()).unwrap_or_default(),
        request_is_gone: false,
    })
}

fn of_record(artifact: &Artifact, record: &DeploymentRecord) -> Past {
    let outcome = match record.outcome {
        Outcome::Succeeded => Phase::Succeeded,
        Outcome::Failed => Phase::Failed,
    };
    Past {
        ended_at: Some(record.ended_at),
        host: artifact.namespace().unwrap_or_default(),
        request: record.request.clone(),
        request_uid: record.request_uid.clone(),
        pipeline: record.pipeline.clone(),
        stage: record.stage.clone(),
        environment: Some(record.environment.clone()),
        solution: artifact.spec.solution.name.clone(),
        version: artifact.spec.solution.version.clone(),
        outcome: outcome.into(),
        requested_by: record.requested_by.clone(),
        on_behalf_of: None,
        approved_by: record.approved_by.clone(),
        deciders: record.decisions.iter().map(|decision| decision.by.clone()).collect(),
        decisions: record.decisions.clone(),
        deployed_by: Some(record.deployed_by.clone()),
        started_at: Some(record.started_at),
        message: record.message.clone().unwrap_or_default(),
        request_is_gone: true,
    }
}

fn of_progress(line: Progress) -> Option<Past> {
    let asked = line.request.filter(progress::Asked::has_ended)?;
    Some(Past {
        ended_at: asked.since,
        host: line.host,
        request: asked.name,
        request_uid: asked.uid,
        pipeline: line.pipeline,
        stage: line.stage,
        solution: line.solution,
        version: asked.version,
        outcome: asked.phase,
        requested_by: asked.requested_by,
        approved_by: asked.approved_by,
        message: asked.message,
        ..Past::default()
    })
}

impl HistoryArgs {
    fn takes(&self, past: &Past, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        let person = |person: &String| {
            let others = [past.on_behalf_of.as_ref(), past.deployed_by.as_ref()].into_iter().flatten();
            [&past.requested_by].into_iter().chain(others).chain(&past.deciders).any(|name| name == person)
        };
        is(&self.solution, &past.solution)
            && is(&self.stage, &past.stage)
            && is(&self.pipeline, &past.pipeline)
            && is(&self.environment, past.environment.as_deref().unwrap_or_default())
            && self.person.as_ref().is_none_or(person)
            && self.outcome.is_none_or(|outcome| past.outcome == outcome.phase())
            && since.is_none_or(|since| past.ended_at.is_some_and(|at| at >= since))
            && until.is_none_or(|until| past.ended_at.is_some_and(|at| at <= until))
    }
}

/// A point in time as people write it.
fn time(flag: &str, text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let ago = |ago: Duration| now.checked_sub(ago).ok();
    let day = |text: &str| text.parse::<civil::Date>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|day| day.timestamp());
    let read = duration::parse(text).and_then(ago).or_else(|| text.parse().ok()).or_else(|| day(text));
    read.ok_or_else(|| {
        Exit::Usage.because(format!("{flag} {text}: write a time (2026-11-30T08:00:00Z), a day (2026-11-30) or how long ago (36h)"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_time_is_written_in_three_ways() {
        let now: Timestamp = "2026-11-30T10:00:00Z".parse().unwrap();
        for (text, at) in
            [("2026-11-30T08:00:00Z", "2026-11-30T08:00:00Z"), ("2026-11-30", "2026-11-30T00:00:00Z"), ("36h", "2026-11-28T22:00:00Z")]
        {
            assert_eq!(time("--since", text, now).unwrap().to_string(), at);
        }
        for wrong in ["", "yesterday", "2026-13-01", "-3h"] {
            assert_eq!(Exit::of(&time("--since", wrong, now).unwrap_err()), Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn a_request_is_told_once_and_by_its_record_when_it_is_gone() {
        let request = |uid: &str, phase: &str| -> DeploymentRequest {
            serde_json::from_value(json!({
                "metadata": {"name": uid, "namespace": "h", "uid": uid},
                "spec": {"pipeline": "p", "stage": "qa", "solution": {"name": "orders", "version": "1.0.0"}, "requestedBy": {"username": "dana"}},
                "status": {"phase": phase, "endTime": "2026-01-02T00:00:00Z"},
            }))
            .unwrap()
        };
        let record = |uid: &str| {
            json!({"requestUID": uid, "request": uid, "pipeline": "p", "stage": "qa", "stageUID": "s", "environment": "e", "environmentUID": "u",
                "environmentId": "i", "settingsDigest": "d", "requestedBy": "carl", "deployedBy": "bot", "startedAt": "2026-01-01T00:00:00Z",
                "endedAt": "2026-01-01T00:01:00Z", "outcome": "Failed"})
        };
        let artifact: Artifact = serde_json::from_value(json!({
            "metadata": {"name": "orders-1.0.0", "namespace": "h"},
            "spec": {"solution": {"name": "orders", "version": "1.0.0"}, "digest": "d", "source": {}, "exportedBy": {"username": "dana"},
                "exportedAt": "2026-01-01T00:00:00Z", "objectCount": 0, "size": 0, "storedSize": 0, "chunks": 1},
            "status": {"deployments": [record("both"), record("gone")]},
        }))
        .unwrap();
        let told = together(&[request("both", "Succeeded"), request("rejected", "Rejected")], &[artifact], &[], &[]);
        let told: Vec<_> =
            told.iter().map(|p| (p.request.as_str(), p.outcome.as_str(), p.environment.as_deref(), p.request_is_gone)).collect();
        assert_eq!(
            told,
            [("both", "Succeeded", Some("e"), false), ("gone", "Failed", Some("e"), true), ("rejected", "Rejected", None, false)]
        );
    }
}
