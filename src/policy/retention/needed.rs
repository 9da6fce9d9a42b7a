//! What is needed, however old it is: what runs or is being deployed, the way back from there, and what a stage may still be asked for.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use semver::Version;

use super::{ArtifactView, HostView, PipelineView, RequestView, Uids, Why, under_way};
use crate::api::artifact::Outcome;
use crate::api::repository;
use crate::api::retention::KeptBecause;

/// How many versions of a stage are kept by its record: the one that runs, and the one before it.
const WAY_BACK: usize = 2;

/// A deployment that succeeded. In their order the later one is the greater: times have whole seconds, and what is deployed within one is
/// most often the next version.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Success<'a, 'v> {
    ended: Timestamp,
    started: Timestamp,
    version: Option<&'v Version>,
    /// The uid.
    artifact: &'a str,
    /// The uid.
    request: &'a str,
}

/// What of a host is needed.
pub(super) struct Needed<'a> {
    /// By solution and digest: the environment where it runs, is being deployed, or failed and was left.
    deployed: HashMap<(&'a str, &'a str), &'a str>,
    /// By solution and name: the request that the environment's record names, and the environment.
    named: HashMap<(&'a str, &'a str), &'a str>,
    /// By uid: the stage whose way back it is.
    way_back: HashMap<&'a str, &'a str>,
    /// By uid: the stage that may still be asked for it.
    wanted: HashMap<&'a str, &'a str>,
    /// By solution and version: the request that has not ended.
    open: HashMap<(&'a str, &'a str), &'a str>,
    /// The requests that hold a claim.
    claiming: Uids<'a>,
}

impl<'a> Needed<'a> {
    pub(super) fn of(host: &HostView<'a>) -> Self {
        let mut needed = Self {
            deployed: HashMap::new(),
            named: HashMap::new(),
            way_back: HashMap::new(),
            wanted: HashMap::new(),
            open: under_way(&host.requests),
            claiming: HashSet::new(),
        };
        let mut running: HashMap<(&'a str, &'a str), Version> = HashMap::new();
        for environment in &host.environments {
            for solution in environment.solutions {
                let name = solution.name.as_str();
                let failed = solution.failed.as_ref();
                let digests = solution.digest.iter().chain(failed.map(|f| &f.digest)).chain(solution.claim.as_ref().map(|c| &c.digest));
                needed.deployed.extend(digests.map(|digest| ((name, digest.as_str()), environment.name)));
                let requests = solution.request.iter().chain(failed.map(|f| &f.request));
                needed.named.extend(requests.map(|request| ((name, request.as_str()), environment.name)));
                needed.claiming.extend(solution.claim.as_ref().map(|c| c.request_uid.as_str()));
                if let Some(version) = solution.version.as_deref().and_then(|v| Version::parse(v).ok()) {
                    running.insert((environment.name, name), version);
                }
            }
        }
        needed.find_ways_back(host);
        needed.find_wanted(host, &running);
        needed
    }

    /// The latest two versions that succeeded in each stage, with the requests that deployed them: these hold the settings.
    fn find_ways_back(&mut self, host: &HostView<'a>) {
        let mut successes: HashMap<(&str, &'a str, &str), Vec<Success<'a, '_>>> = HashMap::new();
        let stages: HashSet<(&str, &str)> = host.stages.iter().map(|s| (s.pipeline, s.name)).collect();
        for artifact in &host.artifacts {
            for record in artifact.deployments.iter().filter(|d| d.outcome == Outcome::Succeeded) {
                let (pipeline, stage) = (record.pipeline.as_str(), record.stage.as_str());
                if stages.contains(&(pipeline, stage)) {
                    let of_stage = successes.entry((pipeline, stage, artifact.solution)).or_default();
                    of_stage.push(Success {
                        ended: record.ended_at,
                        started: record.started_at,
                        version: artifact.version.as_ref(),
                        artifact: artifact.uid,
                        request: &record.request_uid,
                    });
                }
            }
        }
        for ((_, stage, _), mut of_stage) in successes {
            of_stage.sort_by(|a, b| b.cmp(a));
            let mut seen = HashSet::new();
            for Success { artifact, request, .. } in of_stage {
                if seen.contains(artifact) || seen.len() == WAY_BACK {
                    continue;
                }
                seen.insert(artifact);
                self.way_back.insert(artifact, stage);
                self.way_back.insert(request, stage);
            }
        }
    }

    /// The versions that are higher than what runs in a stage, if they could come there: a first stage takes what was stored, a later one
    /// what succeeded in the one before.
    fn find_wanted(&mut self, host: &HostView<'a>, running: &HashMap<(&'a str, &'a str), Version>) {
        for stage in &host.stages {
            let Some(pipeline) = host.pipelines.iter().find(|p| p.name == stage.pipeline) else { continue };
            for artifact in &host.artifacts {
                let could_come = match stage.previous {
                    None => belongs_to(artifact, pipeline),
                    Some(previous) => artifact
                        .deployments
                        .iter()
                        .any(|d| d.outcome == Outcome::Succeeded && d.pipeline == pipeline.name && d.stage == previous),
                };
                let is_higher = match (&artifact.version, running.get(&(stage.environment, artifact.solution))) {
                    (Some(version), Some(runs)) => version > runs,
                    // What can't be compared may be higher.
                    _ => true,
                };
                if could_come && is_higher {
                    self.wanted.entry(artifact.uid).or_insert(stage.name);
                }
            }
        }
    }

    /// Why a request that has ended is needed.
    pub(super) fn request(&self, request: &RequestView<'a>) -> Option<Why<'a>> {
        if self.claiming.contains(request.uid) {
            return Some(Why::of(KeptBecause::Deployed));
        }
        if let Some(environment) = self.named.get(&(request.solution, request.name)) {
            return Some(Why::by(KeptBecause::Deployed, environment));
        }
        self.way_back.get(request.uid).map(|stage| Why::by(KeptBecause::WayBack, stage))
    }

    /// Why an artifact is needed as it is: what is in use now.
    pub(super) fn in_use(&self, artifact: &ArtifactView<'a>) -> Option<Why<'a>> {
        if let Some(request) = self.open.get(&(artifact.solution, artifact.version_text)) {
            return Some(Why::by(KeptBecause::NotEnded, request));
        }
        let environment = self.deployed.get(&(artifact.solution, artifact.digest))?;
        Some(Why::by(KeptBecause::Deployed, environment))
    }

    /// Why the bytes of an artifact are needed: what is in use, and what may be used again.
    pub(super) fn bytes(&self, artifact: &ArtifactView<'a>) -> Option<Why<'a>> {
        let way_back = || self.way_back.get(artifact.uid).map(|stage| Why::by(KeptBecause::WayBack, stage));
        let wanted = || self.wanted.get(artifact.uid).map(|stage| Why::by(KeptBecause::MayBeAskedFor, stage));
        self.in_use(artifact).or_else(way_back).or_else(wanted)
    }
}

/// Whether an artifact belongs to a pipeline: it was deployed through it, or could come into its first stage.
pub(super) fn belongs_to(artifact: &ArtifactView<'_>, pipeline: &PipelineView<'_>) -> bool {
    let was_deployed = || artifact.deployments.iter().any(|d| d.pipeline == pipeline.name);
    let is_developed = || artifact.source.is_some_and(|source| pipeline.sources.contains(&source));
    let is_pushed = || {
        let origin = artifact.registry_source.and_then(repository::pinned);
        origin.is_some_and(|(origin, _)| repository::covering(pipeline.repositories.iter().copied(), &origin).is_some())
    };
    is_developed() || is_pushed() || was_deployed()
}
