//! Which change wakes which controller: the only such table.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::retention::RETENTION_COMPLETE;
use crate::api::condition::{self, ConditionStatus};
use crate::api::reason::Reason;
use crate::api::request_status::condition_types::SUCCEEDED;
use crate::api::solution::{SolutionDeployment, SolutionStatus};
use crate::api::{Artifact, DeploymentRequest, Environment, Pipeline, Solution, Stage};
use crate::runtime::controller::{Enqueuer, Queue};
use crate::runtime::remotes::Remotes;
use crate::runtime::stores::{Stores, WatchHandler};
use crate::triggers::{self, Orders, WakeUps};

/// Wakes controllers.
pub(crate) struct WatchMapping {
    stores: Stores,
    remotes: Arc<Remotes>,
    environments: Enqueuer<Environment>,
    pipelines: Enqueuer<Pipeline>,
    retentions: Enqueuer<Pipeline>,
    stages: Enqueuer<Stage>,
    requests: Enqueuer<DeploymentRequest>,
    solutions: Enqueuer<Solution>,
    sinks: Arc<WakeUps>,
    /// What mattered about each pipeline when it last changed.
    pipelines_seen: Mutex<HashMap<ObjectRef<Pipeline>, u64>>,
    /// The same of each Environment, for what Solutions say of it.
    environments_seen: Mutex<HashMap<ObjectRef<Environment>, EnvironmentSeen>>,
}

/// What Solutions say of an Environment.
#[derive(Default)]
struct EnvironmentSeen {
    /// Of all but the record of what runs there.
    itself: u64,
    /// Of what runs there, by solution.
    solutions: HashMap<String, u64>,
}

impl EnvironmentSeen {
    fn of(environment: &Environment) -> Self {
        let status = environment.status.as_ref();
        let conditions = status.map(|s| s.conditions.as_slice()).unwrap_or_default();
        let said: Vec<_> = conditions.iter().map(|c| (&c.type_, c.status == ConditionStatus::True, &c.reason)).collect();
        let id = status.and_then(|s| s.environment_id.as_ref());
        let itself = hash(&(environment.uid(), serde_json::to_string(&environment.spec).unwrap_or_default(), said, id));
        let recorded = status.map(|s| s.solutions.as_slice()).unwrap_or_default();
        // A claim alone changes nothing of what Solutions say.
        let runs = recorded.iter().filter(|s| s.version.is_some() || s.failed.is_some());
        let solutions = runs.map(|s| (s.name.clone(), hash(&(&s.version, s.failed.is_some())))).collect();
        Self { itself, solutions }
    }

    /// The solutions that something else runs of than before.
    fn differs(&self, before: &Self) -> Vec<String> {
        let names = self.solutions.keys().chain(before.solutions.keys());
        let mut changed: Vec<String> = names.filter(|name| self.solutions.get(*name) != before.solutions.get(*name)).cloned().collect();
        changed.sort_unstable();
        changed.dedup();
        changed
    }
}

fn hash(of: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// The queues that the controllers read from.
pub(crate) struct Queues {
    /// For the Environment controller.
    pub(crate) environments: Queue<Environment>,
    /// For the Pipeline controller.
    pub(crate) pipelines: Queue<Pipeline>,
    /// For the controller of their retention.
    pub(crate) retentions: Queue<Pipeline>,
    /// For the Stage controller.
    pub(crate) stages: Queue<Stage>,
    /// For the request controller.
    pub(crate) requests: Queue<DeploymentRequest>,
    /// For the Solution controller.
    pub(crate) solutions: Queue<Solution>,
    /// For the dispatchers of sinks.
    pub(crate) sinks: Orders,
}

impl WatchMapping {
    /// The table over these caches. When the last Environment of a remote cluster is deleted, nothing of that cluster is kept.
    pub(crate) fn new(stores: Stores, remotes: Arc<Remotes>) -> (Arc<Self>, Queues) {
        let (environments, environment_queue) = Enqueuer::new();
        let (pipelines, pipeline_queue) = Enqueuer::new();
        let (retentions, retention_queue) = Enqueuer::new();
        let (stages, stage_queue) = Enqueuer::new();
        let (requests, request_queue) = Enqueuer::new();
        let (solutions, solution_queue) = Enqueuer::new();
        let (sinks, orders) = WakeUps::new();
        (
            Arc::new(Self {
                stores,
                remotes,
                environments,
                pipelines,
                retentions,
                stages,
                requests,
                solutions,
                sinks,
                pipelines_seen: Mutex::default(),
                environments_seen: Mutex::default(),
            }),
            Queues {
                environments: environment_queue,
                pipelines: pipeline_queue,
                retentions: retention_queue,
                stages: stage_queue,
                requests: request_queue,
                solutions: solution_queue,
                sinks: orders,
            },
        )
    }

    /// Whether a pipeline changed in more than how far its sinks have been told, and what its retention does. That is written often.
    fn pipeline_matters(&self, object: &Pipeline) -> bool {
        let key = ObjectRef::from_obj(object);
        let gone = self.stores.pipelines.get(&key).is_none();
        let mut seen = self.pipelines_seen.lock().unwrap_or_else(PoisonError::into_inner);
        if gone {
            seen.remove(&key);
            return true;
        }
        let mut object = object.clone();
        object.metadata.resource_version = None;
        if let Some(status) = object.status.as_mut() {
            status.sinks.clear();
            status.retention = None;
            status.conditions.retain(|c| ![triggers::SINKS_DELIVERING, RETENTION_COMPLETE].contains(&c.type_.as_str()));
        }
        let now = hash(&serde_json::to_vec(&object).unwrap_or_default());
        seen.insert(key, now) != Some(now)
    }

    /// Wakes the Solutions that may be asked for through these pipelines of a host, or that say so.
    fn wake_offered(&self, host: Option<&str>, which: impl Fn(&str) -> bool) {
        let pipelines = self.stores.pipelines.state_filter(|p| namespace(p) == host && which(&p.name_any()));
        let sources: HashSet<&String> = pipelines.iter().flat_map(|p| &p.spec.development_environments).collect();
        let is_source = |e: &Environment| namespace(e) == host && sources.contains(&e.name_any());
        let developed: HashSet<String> =
            self.stores.environments.state_filter(is_source).iter().map(|e| e.spec.namespace.clone()).collect();
        self.wake_solutions(|s| {
            let says = || s.status.iter().flat_map(|s| &s.stages).any(|told| Some(told.host.as_str()) == host && which(&told.pipeline));
            namespace(s).is_some_and(|namespace| developed.contains(namespace)) || says()
        });
    }

    /// Wakes the Solutions that say something of an Environment that is not so any more.
    fn wake_solutions_of(&self, object: &Environment) {
        let key = ObjectRef::from_obj(object);
        let gone = self.stores.environments.get(&key).is_none();
        let now = EnvironmentSeen::of(object);
        let (itself, runs) = {
            let mut seen = self.environments_seen.lock().unwrap_or_else(PoisonError::into_inner);
            let before = seen.remove(&key).unwrap_or_default();
            let differs = (gone || now.itself != before.itself, now.differs(&before));
            if !gone {
                seen.insert(key, now);
            }
            differs
        };
        let (host, name) = (namespace(object), object.name_any());
        if itself {
            let stages = self.stores.stages.state_filter(|s| namespace(s) == host && s.spec.target_environment == name);
            let led: HashSet<String> = stages.iter().map(|s| s.spec.pipeline.clone()).collect();
            self.wake_offered(host, |pipeline| led.contains(pipeline));
            self.wake_solutions(|s| namespace(s) == Some(&object.spec.namespace));
        } else if !runs.is_empty() {
            self.wake_solutions(|s| {
                runs.contains(&s.name_any()) && s.status.iter().flat_map(|s| &s.stages).any(|told| Some(told.host.as_str()) == host)
            });
        }
    }

    fn wake_environments(&self, which: impl Fn(&Environment) -> bool) {
        self.stores.environments.state_filter(which).iter().for_each(|o| self.environments.wake(ObjectRef::from_obj(o.as_ref())));
    }

    fn wake_pipelines(&self, which: impl Fn(&Pipeline) -> bool) {
        self.stores.pipelines.state_filter(which).iter().for_each(|o| self.pipelines.wake(ObjectRef::from_obj(o.as_ref())));
    }

    fn wake_solutions(&self, which: impl Fn(&Solution) -> bool) {
        self.stores.solutions.state_filter(which).iter().for_each(|o| self.solutions.wake(ObjectRef::from_obj(o.as_ref())));
    }

    fn wake_stages(&self, which: impl Fn(&Stage) -> bool) {
        self.stores.stages.state_filter(which).iter().for_each(|o| self.stages.wake(ObjectRef::from_obj(o.as_ref())));
    }

    /// Forgets the cluster of a deleted Environment, unless another Environment is in it. Nobody would use it any more.
    fn forget_cluster_of(&self, object: &Environment) {
        let Some(cluster) = &object.spec.cluster else { return };
        let secret = &cluster.kubeconfig_secret_ref;
        let is_in_it = |other: &Environment| {
            namespace(other) == namespace(object) && other.spec.cluster.as_ref().is_some_and(|c| c.kubeconfig_secret_ref == *secret)
        };
        if self.stores.environments.find(is_in_it).is_none() {
            self.remotes.forget(namespace(object).unwrap_or_default(), cluster);
        }
    }

    /// Wakes requests that have not ended.
    fn wake_requests(&self, which: impl Fn(&DeploymentRequest) -> bool) {
        self.stores.open_requests().filter(|o| which(o)).for_each(|o| self.requests.wake(ObjectRef::from_obj(o.as_ref())));
    }

    /// Wakes the requests for one solution of one host.
    fn wake_requests_for(&self, host: Option<&str>, solution: &str, which: impl Fn(&DeploymentRequest) -> bool) {
        let open = self.stores.open_requests_for(host.unwrap_or_default(), solution);
        open.filter(|o| which(o)).for_each(|o| self.requests.wake(ObjectRef::from_obj(o.as_ref())));
    }
}

/// Whether a request waits for a solution that its own solution depends on.
fn waits_for_another_solution(request: &DeploymentRequest) -> bool {
    let conditions = request.status.as_ref().map_or(&[][..], |status| &status.run.conditions);
    condition::find(conditions, SUCCEEDED).is_some_and(|summary| summary.reason == Reason::DependencyMissing)
}

fn namespace<K: Resource>(object: &K) -> Option<&str> {
    object.meta().namespace.as_deref()
}

/// The `ServiceAccount` that a stage delegates to.
fn service_account(stage: &Stage) -> Option<&str> {
    stage.spec.delegated_deployment.as_ref()?.service_account_name.as_deref()
}

impl WatchHandler for WatchMapping {
    fn environment(&self, object: &Environment) {
        let (host, name) = (namespace(object), object.name_any());
        self.forget_cluster_of(object);
        self.environments.wake(ObjectRef::from_obj(object));
        self.wake_solutions_of(object);
        // Another Environment may have waited for this one's namespace.
        self.wake_environments(|e| e.spec.namespace == object.spec.namespace && e.uid() != object.uid());
        self.wake_pipelines(|p| namespace(p) == host && p.spec.development_environments.contains(&name));
        self.wake_stages(|s| namespace(s) == host && s.spec.target_environment == name);
        let stages = self.stores.stages.state_filter(|s| namespace(s) == host && s.spec.target_environment == name);
        let pipelines = self.stores.pipelines.state_filter(|p| namespace(p) == host && p.spec.development_environments.contains(&name));
        self.wake_requests(|r| {
            namespace(r) == host
                && (stages.iter().any(|s| s.name_any() == r.spec.stage) || pipelines.iter().any(|p| p.name_any() == r.spec.pipeline))
        });
    }

    fn pipeline(&self, object: &Pipeline) {
        self.sinks.pipeline(object);
        if !self.pipeline_matters(object) {
            return;
        }
        let (host, name) = (namespace(object), object.name_any());
        self.pipelines.wake(ObjectRef::from_obj(object));
        self.retentions.wake(ObjectRef::from_obj(object));
        self.wake_stages(|s| namespace(s) == host && s.spec.pipeline == name);
        self.wake_requests(|r| namespace(r) == host && r.spec.pipeline == name);
        self.wake_offered(host, |pipeline| pipeline == name);
    }

    fn stage(&self, object: &Stage) {
        let (host, name) = (namespace(object), object.name_any());
        self.stages.wake(ObjectRef::from_obj(object));
        // Its pipeline, and one that it has left.
        self.wake_pipelines(|p| {
            namespace(p) == host
                && (p.name_any() == object.spec.pipeline || p.status.as_ref().is_some_and(|s| s.stages.iter().any(|s| s.name == name)))
        });
        self.wake_requests(|r| namespace(r) == host && r.spec.stage == name);
        self.wake_offered(host, |pipeline| pipeline == object.spec.pipeline);
        if self.stores.stages.get(&ObjectRef::from_obj(object)).is_none() {
            // The Solutions that show it.
            self.wake_solutions(|s| s.status.iter().flat_map(|s| &s.deployments).any(|d| Some(d.host.as_str()) == host && d.stage == name));
        }
    }

    fn request(&self, object: &DeploymentRequest) {
        self.sinks.request(object);
        self.requests.wake(ObjectRef::from_obj(object));
        let ended = object.status.as_ref().is_some_and(|s| s.run.end_time.is_some());
        let gone = self.stores.requests.get(&ObjectRef::from_obj(object)).is_none();
        if ended || gone {
            // The requests that wait for it, in the next stage or for the same target, and the Environment in which it left a claim.
            let (host, solution) = (namespace(object), &object.spec.solution.name);
            self.wake_requests_for(host, solution, |_| true);
            self.wake_requests(|r| namespace(r) == host && waits_for_another_solution(r));
            let uid = object.uid().unwrap_or_default();
            self.wake_environments(|e| {
                e.status.as_ref().is_some_and(|s| s.solutions.iter().filter_map(|d| d.claim.as_ref()).any(|c| c.request_uid == uid))
            });
            if gone {
                // The Solutions that show it.
                let tells = |d: &SolutionDeployment| d.request_uid == uid || d.others.iter().any(|o| o.request_uid == uid);
                let shows = |s: &SolutionStatus| s.deployments.iter().any(tells) || s.plans.iter().any(|plan| plan.request_uid == uid);
                self.wake_solutions(|s| s.status.as_ref().is_some_and(shows));
            }
        }
    }

    fn artifact(&self, object: &Artifact) {
        let solution = &object.spec.solution;
        self.wake_requests_for(namespace(object), &solution.name, |r| r.spec.solution.version == solution.version);
        let is_gone = self.stores.artifacts.get(&ObjectRef::from_obj(object)).is_none();
        let lost_its_bytes = object.status.as_ref().is_some_and(|s| s.bytes_removed.as_ref().is_some_and(|removed| removed.complete));
        if is_gone || lost_its_bytes {
            self.wake_solutions(|s| {
                s.name_any() == solution.name
                    && s.status.iter().flat_map(|s| &s.versions).any(|told| Some(told.host.as_str()) == namespace(object))
            });
            // Its room is free.
            self.wake_requests(|r| {
                let conditions = r.status.as_ref().map(|s| s.run.conditions.as_slice()).unwrap_or_default();
                namespace(r) == namespace(object) && condition::find(conditions, SUCCEEDED).is_some_and(|c| c.reason == Reason::StorageFull)
            });
        }
    }

    fn solution(&self, object: &Solution) {
        self.solutions.wake(ObjectRef::from_obj(object));
        let name = object.name_any();
        self.wake_requests(|r| r.spec.solution.name == name && r.status.as_ref().is_none_or(|s| s.run.artifact.is_none()));
    }

    fn namespace(&self, object: &PartialObjectMeta<Namespace>) {
        let name = object.name_any();
        self.wake_environments(|e| e.spec.namespace == name || namespace(e) == Some(&name));
        // If a namespace has just become a host, everything in it is reconciled.
        self.wake_pipelines(|p| namespace(p) == Some(&name));
        self.stores
            .pipelines
            .state_filter(|p| namespace(p) == Some(&name))
            .iter()
            .for_each(|p| self.retentions.wake(ObjectRef::from_obj(p.as_ref())));
        if !self.stores.is_host(&name) {
            // The Solutions that show its stages.
            let shows = |s: &SolutionStatus| s.deployments.iter().any(|d| d.host == name) || s.stages.iter().any(|told| told.host == name);
            self.wake_solutions(|s| s.status.as_ref().is_some_and(shows));
        }
        self.stores.pipelines.state_filter(|p| namespace(p) == Some(&name)).iter().for_each(|p| self.sinks.pipeline(p));
        self.wake_stages(|s| namespace(s) == Some(&name));
        self.wake_requests(|r| namespace(r) == Some(&name));
    }

    fn policy(&self) {
        self.wake_stages(|_| true);
    }

    fn account(&self, host: &str, name: &str) {
        self.wake_stages(|s| namespace(s) == Some(host) && service_account(s) == Some(name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_alone_is_nothing_that_solutions_tell_of() {
        let with = |solutions: serde_json::Value| -> EnvironmentSeen {
            let environment = json!({"metadata": {"name": "qa", "namespace": "host", "uid": "e"},
                "spec": {"type": "Target", "namespace": "qa"}, "status": {"solutions": solutions}});
            EnvironmentSeen::of(&serde_json::from_value(environment).unwrap())
        };
        let claim = json!({"request": "orders-qa", "requestUID": "r", "digest": "sha256:d", "since": "2026-01-01T00:00:00Z"});
        let empty = with(json!([]));
        let claimed = with(json!([{"name": "orders", "claim": claim}]));
        assert_eq!(claimed.differs(&empty), [""; 0]);
        let runs = with(json!([{"name": "orders", "version": "1.0.0"}]));
        assert_eq!(runs.differs(&claimed), ["orders"]);
        assert_eq!(with(json!([{"name": "orders", "version": "1.0.0", "claim": claim}])).differs(&runs), [""; 0]);
        assert_eq!(empty.differs(&runs), ["orders"]);
    }
}
