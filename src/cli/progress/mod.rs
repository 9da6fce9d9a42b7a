//! A stage and a solution at a glance: what runs there, and a request for it. It comes from the host's objects, or from the status of the
//! maker's Solution where the caller may not read the host.

mod asked;
mod next;

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

pub use self::asked::Asked;
use self::next::Running;
use super::exit::Exit;
use super::output::{Column, Row, Tone};
use super::times::Times;
use crate::api::environment::EnvironmentType;
use crate::api::phase::Phase;
use crate::api::{DeploymentRequest, Environment, Pipeline, Solution, Stage, condition};

/// What runs in a stage, and one request for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The host.
    pub host: String,
    /// The pipeline.
    pub pipeline: String,
    /// The stage.
    pub stage: String,
    /// The solution.
    pub solution: String,
    /// The version that runs there. Left out if nothing does, or if the caller may not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs: Option<String>,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runs_since: Option<Timestamp>,
    /// The version that may be asked for next, as far as the reader may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// What stands in the way of that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub obstacles: Vec<String>,
    /// The request. Left out if nothing is on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Asked>,
}

/// Flags that choose among stages, solutions and requests.
#[derive(Args, Clone, Debug, Default)]
pub struct Choice {
    /// Only this solution.
    #[arg(long)]
    pub solution: Option<String>,
    /// Only this stage.
    #[arg(long)]
    pub stage: Option<String>,
    /// Only this pipeline.
    #[arg(long)]
    pub pipeline: Option<String>,
    /// Only requests in this phase, for example `AwaitingApproval`.
    #[arg(long)]
    pub phase: Option<String>,
}

impl Choice {
    /// Checks the words of the flags.
    ///
    /// # Errors
    /// If there is no such phase.
    pub fn check(&self) -> anyhow::Result<()> {
        match &self.phase {
            Some(phase) if Phase::of(phase).is_none() => {
                let all: Vec<&str> = Phase::ALL.iter().map(|phase| phase.as_str()).collect();
                Err(Exit::Usage.because(format!("--phase {phase}: there is none of that name, but {}", all.join(", "))))
            }
            _ => Ok(()),
        }
    }

    /// Whether it is chosen.
    pub fn takes(&self, progress: &Progress) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|wanted| wanted == found);
        is(&self.solution, &progress.solution)
            && is(&self.stage, &progress.stage)
            && is(&self.pipeline, &progress.pipeline)
            && (self.phase.is_none() || progress.request.as_ref().is_some_and(|r| is(&self.phase, &r.phase)))
    }
}

/// What a request tells by itself.
pub fn of_request(request: &DeploymentRequest) -> Progress {
    Progress {
        host: request.namespace().unwrap_or_default(),
        pipeline: request.spec.pipeline.clone(),
        stage: request.spec.stage.clone(),
        solution: request.spec.solution.name.clone(),
        request: Some(Asked::from(request)),
        ..Progress::default()
    }
}

/// What the maker's Solution tells: what was asked for, and what may be.
pub fn of_solution(solution: &Solution, all: bool) -> Vec<Progress> {
    let Some(status) = &solution.status else { return Vec::new() };
    let mut places: BTreeMap<(String, i32, String), (Progress, Vec<Asked>)> = BTreeMap::new();
    let order = |host: &str, stage: &str| status.stages.iter().find(|s| s.host == host && s.stage == stage).map_or(0, |s| s.order);
    for stage in &status.stages {
        let place = Progress {
            host: stage.host.clone(),
            pipeline: stage.pipeline.clone(),
            stage: stage.stage.clone(),
            solution: solution.name_any(),
            next: stage.next.clone(),
            obstacles: stage.obstacles.iter().map(|obstacle| obstacle.message.clone()).collect(),
            ..Progress::default()
        };
        places.insert((stage.host.clone(), stage.order, stage.stage.clone()), (place, Vec::new()));
    }
    for entry in &status.deployments {
        let key = (entry.host.clone(), order(&entry.host, &entry.stage), entry.stage.clone());
        let place = || Progress {
            host: entry.host.clone(),
            pipeline: entry.pipeline.clone(),
            stage: entry.stage.clone(),
            solution: solution.name_any(),
            ..Progress::default()
        };
        let (place, asked) = places.entry(key).or_insert_with(|| (place(), Vec::new()));
        place.runs = entry.runs.as_ref().map(|runs| runs.version.clone());
        place.runs_since = entry.runs.as_ref().and_then(|runs| runs.since);
        asked.push(Asked::from(entry));
        asked.extend(entry.others.iter().map(Asked::from));
    }
    places.into_values().flat_map(|(place, asked)| with_requests(&place, asked, all)).collect()
}

/// Host, solution, how many stages come before, and stage.
type Place = (String, String, usize, String);

/// The objects of hosts, and the Solutions that are developed for them, as far as the caller may read them.
#[derive(Debug, Default)]
pub struct HostObjects {
    /// The pipelines.
    pub pipelines: Vec<Pipeline>,
    /// The stages.
    pub stages: Vec<Stage>,
    /// The environments.
    pub environments: Vec<Environment>,
    /// The requests.
    pub requests: Vec<DeploymentRequest>,
    /// The Solutions in development.
    pub solutions: Vec<Solution>,
}

/// What the objects of hosts tell.
pub fn of_hosts(objects: &HostObjects, all: bool) -> Vec<Progress> {
    let mut running: Running<'_> = BTreeMap::new();
    for environment in &objects.environments {
        let solutions = environment.status.as_ref().map(|s| s.solutions.as_slice()).unwrap_or_default();
        running.insert((environment.namespace().unwrap_or_default(), environment.name_any()), solutions);
    }
    // By host, solution and stage, so that a solution's way is read from top to bottom.
    let mut places: BTreeMap<Place, (Progress, Vec<Asked>)> = BTreeMap::new();
    let depths = depths(&objects.stages);
    let depth = |host: &str, stage: &str| depths.get(&(host.to_owned(), stage.to_owned())).copied().unwrap_or_default();
    for request in &objects.requests {
        let line = of_request(request);
        let key = (line.host.clone(), line.solution.clone(), depth(&line.host, &line.stage), line.stage.clone());
        let place = Progress { request: None, ..line };
        places.entry(key).or_insert_with(|| (place, Vec::new())).1.push(Asked::from(request));
    }
    let known = solutions_of_hosts(objects, &running);
    for stage in &objects.stages {
        let (host, name) = (stage.namespace().unwrap_or_default(), stage.name_any());
        let there = running.get(&(host.clone(), stage.spec.target_environment.clone())).copied().unwrap_or_default();
        for solution in known.get(&host).into_iter().flatten() {
            let deployed = there.iter().find(|deployed| deployed.name == *solution);
            let next = next::of(objects, &running, stage, solution);
            let key = (host.clone(), solution.clone(), depth(&host, &name), name.clone());
            if deployed.is_none() && next.version.is_none() && !places.contains_key(&key) {
                continue;
            }
            let place = || Progress {
                host: host.clone(),
                pipeline: stage.spec.pipeline.clone(),
                stage: name.clone(),
                solution: solution.clone(),
                ..Progress::default()
            };
            let (place, _) = places.entry(key).or_insert_with(|| (place(), Vec::new()));
            place.runs = deployed.and_then(|deployed| deployed.version.clone());
            place.runs_since = deployed.filter(|deployed| deployed.version.is_some()).and_then(|deployed| deployed.deployed_at);
            (place.next, place.obstacles) = (next.version, next.obstacles);
        }
    }
    places.into_values().flat_map(|(place, asked)| with_requests(&place, asked, all)).collect()
}

/// The solutions that each host knows of: that run somewhere, were asked for, or are developed for it.
fn solutions_of_hosts(objects: &HostObjects, running: &Running<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for ((host, _), solutions) in running {
        known.entry(host.clone()).or_default().extend(solutions.iter().map(|deployed| deployed.name.clone()));
    }
    for request in &objects.requests {
        known.entry(request.namespace().unwrap_or_default()).or_default().insert(request.spec.solution.name.clone());
    }
    for environment in objects.environments.iter().filter(|environment| environment.spec.type_ == EnvironmentType::Development) {
        let developed = objects.solutions.iter().filter(|solution| solution.namespace().as_deref() == Some(&environment.spec.namespace));
        known.entry(environment.namespace().unwrap_or_default()).or_default().extend(developed.map(ResourceExt::name_any));
    }
    known
}

/// How many stages come before each.
fn depths(stages: &[Stage]) -> BTreeMap<(String, String), usize> {
    let previous: BTreeMap<(String, String), Option<&String>> = stages
        .iter()
        .map(|stage| ((stage.namespace().unwrap_or_default(), stage.name_any()), stage.spec.previous_stage.as_ref()))
        .collect();
    let depth = |key: &(String, String)| {
        let (mut at, mut seen) = (key.clone(), BTreeSet::new());
        while let Some(Some(before)) = previous.get(&at) {
            if !seen.insert(at.clone()) {
                break;
            }
            at = (at.0, (*before).clone());
        }
        seen.len()
    };
    previous.keys().map(|key| (key.clone(), depth(key))).collect()
}

/// A line for each request that is under way, and for the newest if it failed or was rejected: that was not made good yet. With `all`, for
/// each request. Without requests, a line for what runs and what may come.
fn with_requests(place: &Progress, mut asked: Vec<Asked>, all: bool) -> Vec<Progress> {
    // Times are in seconds. Of two that were made in the same one, that which failed counts as the newer.
    asked.sort_by(|a, b| (a.asked_at, a.has_failed(), &a.name).cmp(&(b.asked_at, b.has_failed(), &b.name)));
    let newest = asked.iter().rfind(|asked| !asked.plan_only).map(|asked| asked.uid.clone());
    let is_shown = |asked: &Asked| all || !asked.has_ended() || Some(&asked.uid) == newest.as_ref() && asked.has_failed();
    let shown: Vec<Progress> = asked.into_iter().filter(is_shown).map(|asked| Progress { request: Some(asked), ..place.clone() }).collect();
    let is_known = place.runs.is_some() || place.next.is_some() || !place.obstacles.is_empty();
    if shown.is_empty() && is_known { vec![place.clone()] } else { shown }
}

impl Progress {
    /// What may be asked for, or what stands in the way.
    fn may_come(&self) -> String {
        match (self.obstacles.first(), &self.next) {
            (Some(obstacle), _) => condition::in_a_line(obstacle),
            (None, Some(version)) => format!("{version} may be asked for"),
            (None, None) => String::new(),
        }
    }
}

impl Row for Progress {
    const COLUMNS: &'static [Column] = &[
        Column::everywhere("HOST"),
        Column::wide("PIPELINE"),
        Column::new("SOLUTION"),
        Column::new("STAGE"),
        Column::new("RUNS"),
        Column::new("SINCE"),
        Column::wide("NEXT"),
        Column::new("REQUEST"),
        Column::new("VERSION"),
        Column::new("PHASE"),
        Column::new("FOR"),
        Column::new("UNTIL"),
        Column::new("REQUESTED BY"),
        Column::wide("DEPLOYED BY"),
        Column::wide("APPROVED BY"),
        Column::wide("MAY DECIDE"),
        Column::new("WAITING FOR"),
        Column::wide("MESSAGE"),
    ];

    fn cells(&self, times: &Times) -> Vec<String> {
        let none = Asked::default();
        let asked = self.request.as_ref().unwrap_or(&none);
        vec![
            self.host.clone(),
            self.pipeline.clone(),
            self.solution.clone(),
            self.stage.clone(),
            self.runs.clone().unwrap_or_else(|| "-".to_owned()),
            times.show(self.runs_since),
            self.next.clone().unwrap_or_default(),
            asked.name.clone(),
            asked.version.clone(),
            asked.phase.clone(),
            times.show(asked.since),
            times.show(asked.until),
            asked.requested_by.clone(),
            asked.deployed_by.clone().unwrap_or_default(),
            asked.approved_by.clone().unwrap_or_default(),
            asked.deciders.join(", "),
            if self.request.is_some() { asked.waiting_for.clone() } else { self.may_come() },
            if self.request.is_some() { asked.message.clone() } else { self.obstacles.join("; ") },
        ]
    }

    fn name(&self) -> String {
        match &self.request {
            Some(asked) => super::ask::full_name(&asked.name),
            None => format!("stage.pilotage.dev/{}", self.stage),
        }
    }

    fn tone(&self) -> Tone {
        self.request.as_ref().map_or(Tone::Plain, Asked::tone)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::output::{Format, Listing, Output};
    use crate::text;

    const HOSTILE: &str =
        "\u{1b}[2K\u{1b}[1A\u{1b}[32mesc  rq  1.0.0  Succeeded\u{1b}[0m\u{1b}]52;c;cm0=\u{7}\u{202e}\u{9b}2K\nforged  row";

    fn request(name: &str, stage: &str, phase: &str, created: &str, message: &str) -> DeploymentRequest {
        let condition = json!({"type": "Succeeded", "status": "False", "reason": "X", "message": message, "lastTransitionTime": created});
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "h", "uid": name, "creationTimestamp": created},
            "spec": {"pipeline": "p", "stage": stage, "solution": {"name": "orders", "version": "2.0.0"}},
            "status": {"phase": phase, "deployedBy": message, "conditions": [condition]},
        }))
        .unwrap()
    }

    fn stage(name: &str, previous: Option<&str>) -> Stage {
        let mut spec = json!({"pipeline": "p", "targetEnvironment": name});
        if let Some(previous) = previous {
            spec["previousStage"] = previous.into();
        }
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "h"}, "spec": spec})).unwrap()
    }

    fn runs(name: &str) -> Environment {
        let solutions: Value = json!([{"name": "orders", "version": "1.0.0", "deployedAt": "2026-01-01T00:00:00Z"}]);
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "h"}, "spec": {"type": "Target", "namespace": name},
            "status": {"solutions": solutions}}))
        .unwrap()
    }

    #[test]
    fn a_stage_is_told_by_what_runs_and_by_what_is_open_or_was_not_made_good() {
        let stages = [stage("prod", Some("qa")), stage("qa", Some("dev")), stage("dev", None)];
        let environments = [runs("qa"), runs("prod"), runs("dev")];
        let (early, late) = ("2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z");
        let requests = [
            request("failed-before", "qa", "Failed", early, ""),
            request("done", "qa", "Succeeded", late, ""),
            request("waits", "prod", "AwaitingApproval", early, ""),
            request("failed", "prod", "Failed", late, ""),
        ];
        let objects =
            HostObjects { stages: stages.into(), environments: environments.into(), requests: requests.into(), ..HostObjects::default() };
        let told = |all| -> Vec<(String, Option<String>)> {
            of_hosts(&objects, all).into_iter().map(|line| (line.stage, line.request.map(|asked| asked.name))).collect()
        };
        let some = |stage: &str, name: &str| (stage.to_owned(), Some(name.to_owned()));
        assert_eq!(told(false), [("dev".into(), None), ("qa".into(), None), some("prod", "waits"), some("prod", "failed")]);
        assert_eq!(told(true).len(), 5);
    }

    #[test]
    fn stages_in_a_circle_are_told_too() {
        let stages = [stage("a", Some("b")), stage("b", Some("a"))];
        let objects = HostObjects { stages: stages.into(), environments: vec![runs("a"), runs("b")], ..HostObjects::default() };
        assert_eq!(of_hosts(&objects, false).len(), 2);
    }

    #[test]
    fn what_can_be_next_is_told_of_a_host_as_it_is_of_a_solution() {
        let ready =
            json!([{"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        let pipeline: Pipeline = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "h"},
            "spec": {"developmentEnvironments": ["dev"]}, "status": {"conditions": ready}}))
        .unwrap();
        let mut stages = [stage("qa", None), stage("prod", Some("qa"))];
        for stage in &mut stages {
            stage.status = serde_json::from_value(json!({"conditions": ready})).unwrap();
        }
        let dev: Environment = serde_json::from_value(
            json!({"metadata": {"name": "dev", "namespace": "h"}, "spec": {"type": "Development", "namespace": "d"}}),
        )
        .unwrap();
        let solution: Solution =
            serde_json::from_value(json!({"metadata": {"name": "orders", "namespace": "d"}, "spec": {"version": "1.1.0"}})).unwrap();
        let mut objects = HostObjects {
            pipelines: vec![pipeline],
            stages: stages.into(),
            environments: vec![dev, runs("qa")],
            solutions: vec![solution],
            ..HostObjects::default()
        };
        let told = |objects: &HostObjects| -> Vec<String> {
            let lines = of_hosts(objects, false);
            lines.iter().map(|l| format!("{} {:?} {}", l.stage, l.next.as_deref().unwrap_or_default(), l.may_come())).collect()
        };
        assert_eq!(told(&objects), ["qa \"1.1.0\" 1.1.0 may be asked for", "prod \"1.0.0\" 1.0.0 may be asked for"]);
        objects.pipelines[0].spec.suspend = true;
        assert!(told(&objects)[1].starts_with("prod \"1.0.0\" pipeline p of host h is suspended"), "{:?}", told(&objects));
        // Who may not read development is told of what can go on from the stages.
        objects.solutions.clear();
        assert_eq!(of_hosts(&objects, false).iter().map(|l| l.next.is_some()).collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn what_others_wrote_does_not_control_the_terminal_of_who_reads_it() {
        let entry = json!({"host": "h", "stage": "qa", "pipeline": "p", "version": "1.0.0", "phase": "Failed", "request": "esc", "requestUID": "u",
            "requester": HOSTILE, "message": HOSTILE, "at": "2026-01-01T00:00:00Z"});
        let solution: Solution =
            serde_json::from_value(json!({"metadata": {"name": "rq"}, "spec": {"version": "1.0.0"}, "status": {"deployments": [entry]}}))
                .unwrap();
        let of_host = of_hosts(
            &HostObjects { requests: vec![request("esc", "qa", "Failed", "2026-01-01T00:00:00Z", HOSTILE)], ..HostObjects::default() },
            false,
        );
        for rows in [of_host, of_solution(&solution, false)] {
            let mut bytes = Vec::new();
            let list = Listing { rows, not_shown: Vec::new() };
            Output::new(&mut bytes, Box::new(std::io::sink()), Format::Wide).list(&list, "").unwrap();
            let shown = String::from_utf8(bytes).unwrap();
            assert!(!text::has_unseen(&shown) && shown.lines().count() == 2, "one row: {shown}");
        }
    }
}
