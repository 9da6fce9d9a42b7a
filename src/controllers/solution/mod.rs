//! Solutions: their status says what can be asked for, and what happened to requests. This controller says the first whenever that changes.
//! Of the second it updates what no request writes any more: requests that were deleted before they ended, stages that are gone, and what
//! runs if a Solution was deleted and created again.

pub(crate) mod offers;
mod recorded;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use crate::api::condition::{self, whole_seconds};
use crate::api::phase::Phase;
use crate::api::pipeline::Visibility;
use crate::api::request_status::condition_types;
use crate::api::solution::{SolutionDeployment, SolutionStatus};
use crate::api::{DeploymentRequest, Solution, Stage};
use crate::controllers::GIVEN_UP;
use crate::policy::check;
use crate::policy::makers_view::{self, Offered};
use crate::runtime::Cluster;
use crate::runtime::controller::{Next, ReconcileError, Reconciler};
use crate::runtime::status_writer::RecordError;

use offers::Latest;

/// Keeps the maker's view true when no request does.
pub(crate) struct SolutionController {
    cluster: Arc<Cluster>,
    /// Solutions, by uid, whose stages were compared with the records since the operator started.
    compared: Mutex<HashSet<String>>,
}

/// How a request ended.
struct Told {
    phase: String,
    message: String,
}

/// What is to be changed in a status.
#[derive(Default)]
struct Changes {
    /// By the uid of a request: how it ended.
    ended: HashMap<String, Told>,
    /// Host and name of stages that are gone.
    gone: HashSet<(String, String)>,
    /// What the records say about stages.
    recorded: Vec<SolutionDeployment>,
    /// The uids of requests that only planned and were deleted.
    dropped: HashSet<String>,
    /// What can be asked for.
    offered: Offered,
}

impl Changes {
    fn make(&self, solution: &Solution, status: &mut SolutionStatus, now: Timestamp) {
        let at = whole_seconds(now);
        status.deployments.retain(|d| !self.gone.contains(&(d.host.clone(), d.stage.clone())));
        for entry in &mut status.deployments {
            if let Some(told) = self.ended.get(&entry.request_uid).filter(|_| !Phase::has_ended(&entry.phase)) {
                entry.phase.clone_from(&told.phase);
                entry.message = Some(told.message.clone());
                entry.waiting_since = None;
                entry.at = at;
            }
            for other in &mut entry.others {
                if let Some(told) = self.ended.get(&other.request_uid).filter(|_| !Phase::has_ended(&other.phase)) {
                    other.phase.clone_from(&told.phase);
                    other.message = Some(told.message.clone());
                    other.at = at;
                }
            }
        }
        for recorded in &self.recorded {
            match status.deployments.iter_mut().find(|d| d.host == recorded.host && d.stage == recorded.stage) {
                // A request has written its own entry meanwhile.
                Some(told) => told.runs = told.runs.take().or_else(|| recorded.runs.clone()),
                None => status.deployments.push(recorded.clone()),
            }
        }
        status.plans.retain(|plan| !self.dropped.contains(&plan.request_uid));
        makers_view::settle(solution, status, &self.offered, now);
    }
}

impl SolutionController {
    /// A controller for the Solutions of that cluster.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, compared: Mutex::default() }
    }

    /// How a request has ended that an entry shows as open: it was deleted, or its end was not written to the Solution. A cache without the
    /// request proves nothing.
    async fn end_of(&self, host: &str, phase: &str, request: &str, uid: &str) -> kube::Result<Option<Told>> {
        let is_it = |found: &DeploymentRequest| found.metadata.uid.as_deref() == Some(uid);
        let has_ended = |request: &DeploymentRequest| request.status.as_ref().is_some_and(|s| s.run.end_time.is_some());
        let cached = self.cluster.stores.requests.get(&ObjectRef::new(request).within(host));
        if cached.as_deref().is_some_and(|found| is_it(found) && !has_ended(found)) {
            return Ok(None);
        }
        let requests = Api::<DeploymentRequest>::namespaced(self.cluster.clients.operator(), host);
        let Some(found) = requests.get_opt(request).await?.filter(is_it) else {
            let (phase, message) = ending(phase);
            return Ok(Some(Told { phase: phase.into(), message: message.to_owned() }));
        };
        let run = found.status.filter(|s| s.run.end_time.is_some()).map(|s| s.run);
        Ok(run.map(|run| Told {
            message: condition::find(&run.conditions, condition_types::SUCCEEDED).map(|c| c.message.clone()).unwrap_or_default(),
            phase: run.phase,
        }))
    }

    /// A message without the names of requests that those whom the pipeline is shared with may not know of.
    fn for_makers(&self, status: &SolutionStatus, entry: &SolutionDeployment, message: &str) -> String {
        let stores = &self.cluster.stores;
        let pipeline = stores.pipelines.get(&ObjectRef::new(&entry.pipeline).within(&entry.host));
        if pipeline.is_some_and(|pipeline| pipeline.spec.visibility == Visibility::Shared) {
            return message.to_owned();
        }
        let is_request = |name: &str| stores.requests.get(&ObjectRef::new(name).within(&entry.host)).is_some();
        makers_view::without_strangers(message, |name| is_request(name) && !makers_view::shows(status, name))
    }

    /// Whether the stage does not exist any more: it was deleted, or its host is no host any more.
    async fn has_no_stage(&self, entry: &SolutionDeployment) -> kube::Result<bool> {
        let stores = &self.cluster.stores;
        if !self.cluster.serves(&entry.host) {
            // If another operator serves the host, that operator reports it.
            return Ok(self.cluster.options.hosts.is_empty() && !stores.is_host(&entry.host));
        }
        let of_pipeline = |stage: &Stage| stage.spec.pipeline == entry.pipeline;
        if stores.stages.get(&ObjectRef::new(&entry.stage).within(&entry.host)).is_some_and(|stage| of_pipeline(&stage)) {
            return Ok(false);
        }
        let stages = Api::<Stage>::namespaced(self.cluster.clients.operator(), &entry.host);
        Ok(!stages.get_opt(&entry.stage).await?.is_some_and(|stage| of_pipeline(&stage)))
    }

    async fn changes(&self, object: &Solution) -> kube::Result<Changes> {
        let mut changes = Changes::default();
        let status = object.status.clone().unwrap_or_default();
        for entry in &status.deployments {
            if self.has_no_stage(entry).await? {
                changes.gone.insert((entry.host.clone(), entry.stage.clone()));
                continue;
            }
            let first = (entry.phase.as_str(), &entry.request, &entry.request_uid);
            let others = entry.others.iter().map(|o| (o.phase.as_str(), &o.request, &o.request_uid));
            for (phase, request, uid) in std::iter::once(first).chain(others) {
                if Phase::has_ended(phase) || !self.cluster.serves(&entry.host) {
                    continue;
                }
                if let Some(mut told) = self.end_of(&entry.host, phase, request, uid).await? {
                    told.message = self.for_makers(&status, entry, &told.message);
                    changes.ended.insert(uid.clone(), told);
                }
            }
        }
        for plan in status.plans.iter().filter(|plan| !Phase::has_ended(&plan.phase) && self.cluster.serves(&plan.host)) {
            if self.end_of(&plan.host, &plan.phase, &plan.request, &plan.request_uid).await?.is_some() {
                changes.dropped.insert(plan.request_uid.clone());
            }
        }
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        changes.offered = offers::offered(&self.cluster, &namespace, &name, &Latest::default()).await;
        let uid = object.uid().unwrap_or_default();
        if !self.compared.lock().unwrap_or_else(PoisonError::into_inner).contains(&uid) {
            changes.recorded = recorded::stages(&self.cluster, object);
            changes.recorded.retain(|recorded| {
                let told = status.deployments.iter().find(|d| d.host == recorded.host && d.stage == recorded.stage);
                told.is_none_or(|told| told.runs.is_none())
            });
        }
        Ok(changes)
    }

    /// Remembers that a Solution shows what the records say. Deleted Solutions are dropped.
    fn note_compared(&self, object: &Solution) {
        let mut compared = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        if compared.insert(object.uid().unwrap_or_default()) && compared.len() > 2 * self.cluster.stores.solutions.len() + 16 {
            let there: HashSet<String> = self.cluster.stores.solutions.state().iter().filter_map(|s| s.uid()).collect();
            compared.retain(|uid| there.contains(uid));
        }
    }
}

impl Reconciler for SolutionController {
    type Kind = Solution;

    async fn reconcile(&self, object: Arc<Solution>) -> Result<Next, ReconcileError> {
        let newest = self.cluster.records.solutions.newest(&object.namespace().unwrap_or_default(), &object.name_any()).await;
        let object = newest.filter(|newest| newest.uid() == object.uid()).unwrap_or(object);
        let changes = self.changes(&object).await?;
        let (namespace, name, now) = (object.namespace().unwrap_or_default(), object.name_any(), Timestamp::now());
        let mut new = object.status.clone().unwrap_or_default();
        changes.make(&object, &mut new, now);
        if object.status.as_ref() == Some(&new) {
            self.note_compared(&object);
            return Ok(Next::Done);
        }
        let written =
            self.cluster.records.solutions.update(&namespace, &name, move |solution, status| changes.make(solution, status, now)).await;
        match written {
            Ok(_) => {
                self.note_compared(&object);
                Ok(Next::Done)
            }
            Err(RecordError::NotFound(_)) => Ok(Next::Done),
            Err(error) => Err(error.into()),
        }
    }

    async fn give_up(&self, object: Arc<Solution>, why: String) -> Result<Next, ReconcileError> {
        let (now, namespace, name) = (Timestamp::now(), object.namespace().unwrap_or_default(), object.name_any());
        let written = self.cluster.records.solutions.update(&namespace, &name, move |solution, status| {
            let generation = solution.metadata.generation;
            status.observed_generation = generation.unwrap_or(status.observed_generation);
            for observation in check::summary(&check::given_up(&why)) {
                condition::set(&mut status.conditions, &observation, generation, now);
            }
        });
        match written.await {
            Ok(_) | Err(RecordError::NotFound(_)) => Ok(Next::After(GIVEN_UP)),
            Err(error) => Err(error.into()),
        }
    }
}

/// How a request ended that was deleted. Admission allows the deletion of a request that deploys only if its whole host is deleted.
fn ending(phase: &str) -> (Phase, &'static str) {
    if matches!(Phase::of(phase), Some(Phase::Deploying | Phase::RollingBack)) {
        (Phase::Failed, "the request was deleted while it deployed: what it had written stays")
    } else {
        (Phase::Canceled, "the request was deleted before anything was written to the target")
    }
}
