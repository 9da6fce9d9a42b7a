//! What can be next in the stages of hosts, as the hosts' objects tell, by the same rules by which a Solution's status tells its makers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::HostObjects;
use crate::api::condition::{self, Condition, READY};
use crate::api::environment::DeployedSolution;
use crate::api::reason::Reason;
use crate::api::{Pipeline, Stage};
use crate::policy::offered::{self, After, Current, Offer};

/// What can be next in a stage, and what stands in the way.
#[derive(Debug, Default)]
pub(super) struct Next {
    pub(super) version: Option<String>,
    pub(super) obstacles: Vec<String>,
}

/// What runs in each Environment, by host and name.
pub(super) type Running<'a> = BTreeMap<(String, String), &'a [DeployedSolution]>;

/// What can be next of a solution in a stage.
pub(super) fn of(objects: &HostObjects, running: &Running<'_>, stage: &Stage, solution: &str) -> Next {
    let host = stage.namespace().unwrap_or_default();
    let is_its = |pipeline: &&Pipeline| pipeline.namespace().as_deref() == Some(&host) && pipeline.name_any() == stage.spec.pipeline;
    let Some(pipeline) = objects.pipelines.iter().find(is_its) else { return Next::default() };
    let runs = |stage: &Stage| {
        let there = running.get(&(host.clone(), stage.spec.target_environment.clone()))?;
        there.iter().find(|deployed| deployed.name == solution && deployed.version.is_some())
    };
    let is_previous = |other: &&Stage| other.namespace().as_deref() == Some(&host) && Some(other.name_any()) == stage.spec.previous_stage;
    let (developed, after) = match &stage.spec.previous_stage {
        None => (developed(objects, pipeline, solution), After::Development { environment: String::new() }),
        Some(name) => {
            let previous = objects.stages.iter().find(is_previous).and_then(runs);
            let has =
                previous.and_then(|deployed| Some((deployed.version.clone()?, deployed.deployed_at.unwrap_or(Timestamp::UNIX_EPOCH))));
            (None, After::Stage { name: name.clone(), has })
        }
    };
    if stage.spec.previous_stage.is_none() && developed.is_none() {
        return Next::default();
    }
    let current = runs(stage).and_then(|deployed| Some(Current { version: deployed.version.clone()?, failed: deployed.failed.is_some() }));
    let offer = Offer {
        host: host.clone(),
        pipeline: pipeline.name_any(),
        stage: stage.name_any(),
        order: 0,
        after,
        shared_with: String::new(),
        pipeline_not_ready: not_ready(pipeline.status.as_ref().map(|s| s.conditions.as_slice())),
        suspended: pipeline.spec.suspend,
        stage_not_ready: not_ready(stage.status.as_ref().map(|s| s.conditions.as_slice())),
        allow_redeployments: pipeline.spec.allow_redeployments,
        windows: Vec::new(),
        soak: Duration::ZERO,
        current,
    };
    // Which version is the next one is news here, and that there is none is not.
    let told = offered::stages(&[offer], &developed.unwrap_or_default(), &[]);
    let Some(told) = told.into_iter().next().filter(|told| told.next.is_some()) else { return Next::default() };
    let obstacles = told.obstacles.into_iter().filter(|o| o.reason != Reason::VersionNotHigher);
    Next { version: told.next, obstacles: obstacles.map(|obstacle| obstacle.message).collect() }
}

/// The version in development, if there is one that the reader knows of.
fn developed(objects: &HostObjects, pipeline: &Pipeline, solution: &str) -> Option<String> {
    let sources = &pipeline.spec.development_environments;
    let namespaces: BTreeSet<&str> = objects
        .environments
        .iter()
        .filter(|e| e.namespace() == pipeline.namespace() && sources.contains(&e.name_any()) && e.cluster_name().is_none())
        .map(|environment| environment.spec.namespace.as_str())
        .collect();
    let is_there = |found: &&crate::api::Solution| {
        found.name_any() == solution && found.namespace().is_some_and(|namespace| namespaces.contains(namespace.as_str()))
    };
    let versions: BTreeSet<&str> = objects.solutions.iter().filter(is_there).map(|found| found.spec.version.as_str()).collect();
    // With several, the request names which one it means.
    if let [only] = versions.into_iter().collect::<Vec<_>>()[..] { Some(only.to_owned()) } else { None }
}

/// Why it is not ready, in one word.
fn not_ready(conditions: Option<&[Condition]>) -> Option<String> {
    match conditions.and_then(|conditions| condition::find(conditions, READY)) {
        Some(_) if conditions.is_some_and(|conditions| condition::is_true(conditions, READY)) => None,
        Some(ready) => Some(ready.reason.clone()),
        None => Some(Reason::NotLookedAt.to_string()),
    }
}
