//! Reads what can be asked for from a Solution's namespace: the stages of the pipelines that it feeds, in all hosts of this operator.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::artifact::Artifact;
use crate::api::condition::{self, READY};
use crate::api::environment::{DeployedSolution, EnvironmentType};
use crate::api::solution_stages::{MAX_DEFAULT, NeededVariable, StageWindow, StoredVersion};
use crate::api::{Environment, Pipeline, Solution, Stage, bounds, duration, names};
use crate::controllers::environment::validated;
use crate::controllers::holds;
use crate::controllers::request::{artifact_view, place};
use crate::policy::makers_view::Offered;
use crate::policy::offered::{After, Current, Offer, shared_with};
use crate::runtime::Cluster;
use crate::runtime::trimmed;
use crate::text;

/// What a request knows that the records of its host don't say yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Latest {
    /// The artifact that it is about.
    pub(crate) artifact: Option<Arc<Artifact>>,
    /// What it has just deployed.
    pub(crate) deployed: Option<Deployed>,
}

/// A deployment that succeeded.
#[derive(Clone, Debug)]
pub(crate) struct Deployed {
    pub(crate) host: String,
    /// The name of the stage's Environment.
    pub(crate) environment: String,
    pub(crate) version: String,
}

struct Reader<'a> {
    cluster: &'a Cluster,
    solution: &'a str,
    latest: &'a Latest,
}

/// What can be asked for. Only pipelines of valid development Environments of this namespace count, and only those that are shared.
pub(crate) async fn offered(cluster: &Cluster, namespace: &str, solution: &str, latest: &Latest) -> Offered {
    let (stores, reader) = (&cluster.stores, Reader { cluster, solution, latest });
    let sources = stores.environments.state_filter(|e| {
        e.spec.type_ == EnvironmentType::Development
            && e.spec.namespace == namespace
            && validated(e).is_ok()
            && cluster.serves(&e.namespace().unwrap_or_default())
    });
    let mut offered = Offered { hosts: cluster.options.hosts.clone(), ..Offered::default() };
    let mut wanted = BTreeSet::new();
    for source in sources {
        let origin = source.status.as_ref().and_then(|status| status.environment_id.clone());
        let (host, source) = (source.namespace().unwrap_or_default(), source.name_any());
        let pipelines = stores.pipelines.state_filter(|p| {
            p.namespace().as_deref() == Some(&host) && p.spec.development_environments.contains(&source) && !p.spec.shared_with.is_empty()
        });
        let current = stores.solutions.get(&ObjectRef::new(solution).within(namespace)).map(|own| own.spec.version.clone());
        let want = |version: String| (host.clone(), source.clone(), origin.clone(), version);
        wanted.extend(current.map(want));
        for pipeline in pipelines {
            for offer in reader.of_pipeline(&host, &source, &pipeline).await {
                if let After::Stage { has: Some((version, _)), .. } = &offer.after {
                    wanted.insert(want(version.clone()));
                }
                offered.offers.push(offer);
            }
        }
    }
    for (host, source, origin, version) in wanted {
        let own = stores.solutions.get(&ObjectRef::new(solution).within(namespace));
        let followed = || own.is_some_and(|own| follows(&own, &host, &version));
        let artifact = reader.artifact(&host, &version).await;
        let artifact = artifact.filter(|a| is_from(a, &source, origin.as_ref()) || a.spec.source.oci.is_some() && followed());
        if let Some(artifact) = artifact.filter(|_| offered.versions.iter().all(|told| (&told.host, &told.version) != (&host, &version))) {
            offered.versions.push(stored(host, version, &artifact));
        }
    }
    offered
}

/// Whether a version is from that development environment. What others define under the same name elsewhere is not told here.
fn is_from(artifact: &Artifact, source: &str, origin: Option<&String>) -> bool {
    let from = &artifact.spec.source;
    from.environment.as_deref() == Some(source) || origin.is_some() && from.environment_id.as_ref() == origin
}

/// Whether the Solution tells of a request for a version: then somebody who may read it has asked for that.
fn follows(solution: &Solution, host: &str, version: &str) -> bool {
    let deployments = solution.status.iter().flat_map(|status| &status.deployments).filter(|entry| entry.host == host);
    deployments.into_iter().any(|entry| entry.version == version || entry.others.iter().any(|other| other.version == version))
}

impl Reader<'_> {
    async fn of_pipeline(&self, host: &str, source: &str, pipeline: &Pipeline) -> Vec<Offer> {
        let (name, status) = (pipeline.name_any(), pipeline.status.as_ref());
        let of_pipeline = |stage: &Stage| stage.namespace().as_deref() == Some(host) && stage.spec.pipeline == name;
        let mut offers = Vec::new();
        for stage in self.cluster.stores.stages.state_filter(of_pipeline) {
            let place = status.and_then(|s| s.stages.iter().position(|told| told.name == stage.name_any()));
            let after = match &stage.spec.previous_stage {
                None => After::Development { environment: source.to_owned() },
                Some(previous) => After::Stage { name: previous.clone(), has: self.has(host, previous).await },
            };
            offers.push(Offer {
                host: host.to_owned(),
                pipeline: name.clone(),
                stage: stage.name_any(),
                order: place.and_then(|place| i32::try_from(place + 1).ok()).unwrap_or_default(),
                after,
                shared_with: shared_with(&pipeline.spec.shared_with),
                pipeline_not_ready: holds(status.and_then(|s| condition::find(&s.conditions, READY))).err(),
                suspended: pipeline.spec.suspend,
                stage_not_ready: holds(stage.status.as_ref().and_then(|s| condition::find(&s.conditions, READY))).err(),
                allow_redeployments: pipeline.spec.allow_redeployments,
                windows: stage.spec.windows.iter().cloned().map(StageWindow::from).collect(),
                soak: stage.spec.soak.as_deref().and_then(duration::parse).unwrap_or_default(),
                current: self.runs(host, &stage.spec.target_environment).await.map(|(current, _)| current),
            });
        }
        offers
    }

    /// What runs of the solution in an Environment.
    async fn runs(&self, host: &str, environment: &str) -> Option<(Current, Arc<Environment>)> {
        if let Some(deployed) = self.just_deployed(host, environment) {
            // Its record may just be written. What runs is known without it.
            let found = self.cluster.stores.environments.get(&ObjectRef::new(environment).within(host))?;
            return Some((Current { version: deployed.version.clone(), failed: false }, found));
        }
        let found = self.cluster.records.environments.newest(host, environment).await?;
        let recorded = found.status.iter().flat_map(|s| &s.solutions).find(|s: &&DeployedSolution| s.name == self.solution)?;
        let current = Current { version: recorded.version.clone()?, failed: recorded.failed.is_some() };
        Some((current, found))
    }

    fn just_deployed(&self, host: &str, environment: &str) -> Option<&Deployed> {
        self.latest.deployed.as_ref().filter(|deployed| deployed.host == host && deployed.environment == environment)
    }

    /// The version that runs in a stage, and when it first succeeded there, as the artifact's record proves it.
    async fn has(&self, host: &str, stage: &str) -> Option<(String, Timestamp)> {
        let stage = self.cluster.stores.stages.get(&ObjectRef::new(stage).within(host))?;
        let (current, environment) = self.runs(host, &stage.spec.target_environment).await?;
        let artifact = self.artifact(host, &current.version).await?;
        // The record in the artifact is written before anything else tells of a deployment.
        let since = place(&stage, &environment).first_success(&artifact_view(&artifact))?;
        Some((current.version, since))
    }

    async fn artifact(&self, host: &str, version: &str) -> Option<Arc<Artifact>> {
        let name = names::artifact_name(self.solution, version);
        let known = self.cluster.records.artifacts.newest(host, &name).await;
        // A watch may not have told of it yet.
        let latest = || self.latest.artifact.clone().filter(|a| a.name_any() == name && a.namespace().as_deref() == Some(host));
        known.or_else(latest)
    }
}

/// Which settings a stored version needs. What caches don't keep is not told, whoever reads it.
fn stored(host: String, version: String, artifact: &Artifact) -> StoredVersion {
    let spec = &artifact.spec;
    if trimmed::is_shortened(artifact) || trimmed::has_large_definitions(artifact) {
        return StoredVersion {
            host,
            version,
            environment_variables: Vec::new(),
            connection_references: Vec::new(),
            settings_omitted: true,
        };
    }
    let variables = spec.environment_variables.iter().map(|variable| NeededVariable {
        name: variable.name.clone(),
        type_: variable.type_,
        required: variable.required,
        default: variable.default.as_deref().map(|default| bounds::text(&text::plain(default), MAX_DEFAULT)),
    });
    StoredVersion {
        host,
        version,
        environment_variables: variables.collect(),
        connection_references: spec.connection_references.iter().map(|reference| reference.name.clone()).collect(),
        settings_omitted: false,
    }
}
