//! What the records of hosts say about a Solution's stages. The Solution may have been deleted and created again, and its status with it,
//! while what was deployed still runs.

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::artifact::{DeploymentRecord, Outcome};
use crate::api::environment::{DeployedSolution, EnvironmentType};
use crate::api::names;
use crate::api::phase::Phase;
use crate::api::solution::{RunningVersion, SolutionDeployment};
use crate::api::{Environment, Solution, Stage};
use crate::controllers::environment::validated;
use crate::runtime::Cluster;

/// The stages in which the solution runs, by what the Environments and the Artifact say. Only the pipelines of valid development
/// environments in this Solution's namespace count, and only artifacts that came from there.
pub(crate) fn stages(cluster: &Cluster, solution: &Solution) -> Vec<SolutionDeployment> {
    let (namespace, name) = (solution.namespace().unwrap_or_default(), solution.name_any());
    let stores = &cluster.stores;
    let sources = stores.environments.state_filter(|e| {
        e.spec.type_ == EnvironmentType::Development
            && e.spec.namespace == namespace
            && validated(e).is_ok()
            && cluster.serves(&e.namespace().unwrap_or_default())
    });
    let mut found = Vec::new();
    for source in sources {
        let (host, source) = (source.namespace().unwrap_or_default(), source.name_any());
        let pipelines =
            stores.pipelines.state_filter(|p| p.namespace().as_deref() == Some(&host) && p.spec.development_environments.contains(&source));
        let is_linked =
            |stage: &Stage| stage.namespace().as_deref() == Some(&host) && pipelines.iter().any(|p| p.name_any() == stage.spec.pipeline);
        for stage in stores.stages.state_filter(is_linked) {
            let Some(target) = stores.environments.get(&ObjectRef::new(&stage.spec.target_environment).within(&host)) else { continue };
            let runs = target.status.iter().flat_map(|s| &s.solutions).find(|s| s.name == name);
            if let Some(entry) = runs.and_then(|runs| entry(cluster, &source, &stage, &target, runs)) {
                found.push(entry);
            }
        }
    }
    found
}

/// What to show about a stage in which the solution runs, if it came from that development environment.
fn entry(cluster: &Cluster, source: &str, stage: &Stage, target: &Environment, runs: &DeployedSolution) -> Option<SolutionDeployment> {
    let (host, version) = (stage.namespace().unwrap_or_default(), runs.version.clone()?);
    let artifact = cluster.stores.artifacts.get(&ObjectRef::new(&names::artifact_name(&runs.name, &version)).within(&host))?;
    if artifact.spec.source.environment.as_deref() != Some(source) {
        return None;
    }
    let (stage_uid, environment_uid) = (stage.uid(), target.uid());
    let is_of_stage = |record: &&DeploymentRecord| {
        record.outcome == Outcome::Succeeded
            && Some(&record.stage_uid) == stage_uid.as_ref()
            && Some(&record.environment_uid) == environment_uid.as_ref()
    };
    let record = artifact.status.iter().flat_map(|s| &s.deployments).rfind(is_of_stage)?;
    let since = runs.deployed_at.unwrap_or(record.ended_at);
    Some(SolutionDeployment {
        host,
        stage: stage.name_any(),
        pipeline: stage.spec.pipeline.clone(),
        runs: Some(RunningVersion { version: version.clone(), since: Some(since) }),
        version,
        phase: Phase::Succeeded.into(),
        request: record.request.clone(),
        request_uid: record.request_uid.clone(),
        requester: record.requested_by.clone(),
        never_accepted: false,
        message: Some(format!("{} {} runs in stage {}, as the record says", runs.name, artifact.spec.solution.version, stage.name_any())),
        waiting_since: None,
        waiting_until: None,
        approved_by: record.approved_by.clone(),
        approval_comments: None,
        source_environment: None,
        artifact: None,
        decisions: Vec::new(),
        asked_at: Some(record.started_at),
        at: since,
        others: Vec::new(),
        others_omitted: 0,
    })
}
