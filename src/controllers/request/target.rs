//! Steps `Claim`, `Apply`, `Check` and `Prune`: the only ones that lead to writes in a target, all as the delegate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Api, Resource, ResourceExt};

use super::Way;
use super::observe;
use super::reconciliation::Reconciliation;
use crate::api::condition::whole_seconds;
use crate::api::environment::{Claim, DeployedSolution, EnvironmentStatus};
use crate::api::pipeline::Trigger;
use crate::api::{DeploymentRequest, Environment, Stage};
use crate::cluster::errors::{self, Cause};
use crate::deploy::apply::{self, ApplyError};
use crate::deploy::health::{self, Healthy};
use crate::deploy::plan::planned::Planned;
use crate::identity::answers::JUST_NOW;
use crate::identity::claimed::Claimed;
use crate::identity::delegate::DelegateClient;
use crate::identity::fence::Fence;
use crate::policy::request::gates;
use crate::policy::request::observed::{ApplyOutcome, ClaimOutcome, HealthOutcome, Observed, Obstacle};
use crate::policy::request::report;
use crate::policy::request::step::{Progress, Waiting};
use crate::policy::{clock, record};
use crate::runtime::Cluster;
use crate::runtime::controller::ReconcileError;

/// How long before the end of its time an object that is not healthy is asked why: a look takes a while.
const JUST_BEFORE: Duration = Duration::from_secs(1);
/// What is said of objects that were refused.
pub(super) const NOT_APPLIED: &str = "not all objects could be applied";
/// The same of what is taken away.
const NOT_PRUNED: &str = "deployed and healthy, but not all that earlier versions put there could be taken away";
/// The most characters that a message says of one of them; the status has the whole.
const MAX_REASON: usize = 512;

/// The stage as it is, and not as a cache has it. Request and Environment need no reading: both are written before the target is, on the
/// very state that was decided on, and the API server refuses a write on any other.
pub(super) struct Live {
    stage: Option<Stage>,
    at: Instant,
}

impl Live {
    /// Reads it. Borrows nothing, so that it can be done beside something else.
    pub(super) async fn read(cluster: Arc<Cluster>, request: Arc<DeploymentRequest>) -> Result<Self, ReconcileError> {
        let at = Instant::now();
        let stages: Api<Stage> = Api::namespaced(cluster.clients.operator(), &request.namespace().unwrap_or_default());
        let stage = stages.get_opt(&request.spec.stage).await?;
        Ok(Self { stage, at })
    }
}

impl Reconciliation {
    /// Reads the stage live; claims the environment where both are what the plan was made on; and writes the start, on the request that it was
    /// made for.
    pub(super) async fn claim(&mut self, observed: &Observed, now: Timestamp) -> Result<(), ReconcileError> {
        if !self.unchanged().await? || !self.still_claimed(observed).await? {
            // Decided again on what is now true, with a plan of its own.
            self.outcomes.plan = None;
            self.outcomes.claim = None;
            return Ok(());
        }
        let (Some(target), Some(stage), Some(prepared)) = (self.related.target.clone(), observed.stage.present(), &self.prepared) else {
            self.outcomes.plan = None;
            return Ok(());
        };
        let claim = Claim {
            request: self.request.name_any(),
            request_uid: self.uid(),
            digest: prepared.plan.artifact_digest.clone(),
            since: whole_seconds(now),
        };
        let solution = self.request.spec.solution.name.clone();
        let of_cluster = prepared.planned.kinds_of_cluster();
        let generation = target.metadata.generation;
        let planned_on = observed
            .target
            .present()
            .map(|t| (t.uid.clone(), generation, t.environment_id.clone(), t.current.as_ref().map(|c| c.digest.clone())));
        let name = target.name_any();
        let (claiming, environment) = self
            .cluster
            .records
            .environments
            .update(&self.host(), &target.name_any(), move |environment, status| {
                let before = status.clone();
                let index = status.solutions.iter().position(|s| s.name == solution).unwrap_or_else(|| {
                    status.solutions.push(DeployedSolution { name: solution.clone(), ..DeployedSolution::default() });
                    status.solutions.len() - 1
                });
                let entry = &mut status.solutions[index];
                let now_on = (
                    environment.uid().unwrap_or_default(),
                    environment.metadata.generation,
                    status.environment_id.clone().unwrap_or_default(),
                    entry.digest.clone(),
                );
                match &entry.claim {
                    Some(held) if held.request_uid != claim.request_uid => return Claiming::Lost(held.request.clone()),
                    Some(_) => return Claiming::Won,
                    None => {}
                }
                if planned_on.as_ref() != Some(&now_on) {
                    // Somebody else's deployment ended in between: the plan is made again.
                    status.solutions.retain(DeployedSolution::is_anything);
                    return Claiming::Again;
                }
                entry.claim = Some(claim.clone());
                entry.may_have(&of_cluster);
                if let Some(why) = record::no_room(&name, &solution, status).filter(|_| is_more(&before, &solution, status)) {
                    *status = before;
                    return Claiming::NoRoom(why);
                }
                Claiming::Won
            })
            .await?;
        self.related.target = Some(environment);
        match claiming {
            Claiming::Won => {}
            Claiming::Again => {
                self.outcomes.plan = None;
                return Ok(());
            }
            Claiming::Lost(to) => {
                self.outcomes.claim = Some(ClaimOutcome::Lost { to });
                return Ok(());
            }
            Claiming::NoRoom(message) => {
                self.outcomes.claim = Some(ClaimOutcome::NoRoom { message });
                return Ok(());
            }
        }
        let mut new = self.status();
        self.pin_plan(&mut new);
        new.start_time = Some(whole_seconds(now));
        new.deployed_by = Some(gates::deployer(observed, stage));
        let wait = Waiting {
            at: Progress::Deployment,
            reason: "Deploying".into(),
            message: format!("deploys to environment {} as {}", target.name_any(), gates::deployer(observed, stage)),
            until: None,
            poll: None,
        };
        self.tell(&mut new, &report::waiting(observed, &wait), now);
        // The developer's window shows it when it takes longer than this pass.
        self.write(&new).await?;
        self.outcomes.claim = Some(ClaimOutcome::Won);
        self.event(Trigger::OnDeploymentStarted, EventType::Normal, &wait.message);
        Ok(())
    }

    /// Whether the stage is live what this pass decided on; takes over what differs.
    async fn unchanged(&mut self) -> Result<bool, ReconcileError> {
        let Live { stage, at: _ } = match self.live.take().filter(|live| live.at.elapsed() < JUST_NOW) {
            Some(live) => live,
            None => Live::read(self.cluster.clone(), self.request.clone()).await?,
        };
        let same = stage.as_ref().map(identity) == self.related.stage.as_deref().map(identity);
        self.related.stage = stage.map(Arc::new);
        Ok(same)
    }

    /// A claim that this request holds already, as its start could not be written, is not written again: then the Environment is read.
    /// Takes over what differs from what this pass decided on.
    async fn still_claimed(&mut self, observed: &Observed) -> Result<bool, ReconcileError> {
        let (Some(seen), Some(target)) = (observed.target.present(), self.related.target.clone()) else { return Ok(true) };
        if seen.claim.as_ref().is_none_or(|claim| claim.request_uid != self.uid()) {
            return Ok(true);
        }
        let live = observe::get::<Environment>(&self.cluster, &self.host(), Some(&target.name_any())).await?;
        let id = |environment: &Environment| environment.status.as_ref().and_then(|s| s.environment_id.clone());
        let same = live.as_deref().is_some_and(|live| identity(live) == identity(target.as_ref()) && id(live) == id(&target));
        self.related.target = live;
        Ok(same)
    }

    /// Applies what was planned, as the delegate.
    pub(super) async fn apply(&mut self, observed: &Observed) -> Result<ApplyOutcome, ReconcileError> {
        if self.running.get(&self.uid(), Way::Forth).is_some() {
            return Ok(ApplyOutcome::Applied);
        }
        let (Some(target), Some(artifact)) = (self.related.target.clone(), self.related.artifact.clone()) else {
            return Ok(ApplyOutcome::Failed(Obstacle {
                reason: "ArtifactGone".into(),
                message: "the environment or the artifact is gone".into(),
            }));
        };
        let client = match self.acting(observed).await? {
            Ok(client) => client,
            Err(obstacle) => return Ok(ApplyOutcome::Missing(obstacle)),
        };
        let planned = match self.prepared.take() {
            Some(prepared) => prepared.planned,
            // Started by a process that is gone: what it did not write is planned anew, what it wrote is unchanged.
            None => match self.dry_run(&client, &target, &artifact).await {
                Ok(Ok(dry)) => match self.beyond_plan(&dry.planned).await? {
                    None => dry.planned,
                    Some(obstacle) => return Ok(ApplyOutcome::Failed(obstacle)),
                },
                Ok(Err(hindrance)) => return Ok(self.hindered_midway(hindrance)),
                Err(error) => return Ok(ApplyOutcome::Unavailable(self.of_cluster(&error.to_string()))),
            },
        };
        let Some(claim) = Claimed::from_environment(&target, &self.request.spec.solution.name, &self.uid()) else {
            return Ok(ApplyOutcome::Failed(Obstacle {
                reason: "ClaimLost".into(),
                message: "the claim on the environment is gone".into(),
            }));
        };
        self.carry_out(&claim, &client, planned, Way::Forth).await
    }

    /// Why what is planned anew midway is not carried out: nobody was asked for all that it would take away.
    async fn beyond_plan(&self, planned: &Planned) -> Result<Option<Obstacle>, ReconcileError> {
        if !planned.must_be_asked_for() {
            return Ok(None);
        }
        // Read live: the cache does not keep what a plan lists.
        let requests = Api::<DeploymentRequest>::namespaced(self.cluster.clients.operator(), &self.host());
        let request = requests.get_opt(&self.request.name_any()).await?.filter(|request| request.uid() == self.request.uid());
        let Some(pinned) = request.and_then(|request| request.status?.run.plan) else { return Ok(None) };
        let beyond = planned.beyond(&pinned);
        let named = errors::first_few(beyond.iter().map(ToString::to_string));
        Ok((!beyond.is_empty()).then(|| Obstacle {
            reason: "PlanChanged".into(),
            message: format!(
                "{named} would be deleted, created anew, adopted or let go by now, which the plan of this request does not say: nothing more was written. Find out who labelled or changed this in the target, then ask again"
            ),
        }))
    }

    /// Carries a plan out, and keeps what was applied until it is healthy.
    pub(super) async fn carry_out(
        &mut self,
        claim: &Claimed,
        client: &DelegateClient,
        planned: Planned,
        way: Way,
    ) -> Result<ApplyOutcome, ReconcileError> {
        let fence = self.fence(claim.clone());
        match apply::apply(&fence, client, planned, self.cluster.options.apply_concurrency).await {
            Ok(applied) => {
                self.running.keep(&self.uid(), way, Arc::new(applied));
                Ok(ApplyOutcome::Applied)
            }
            Err(error) => self.not_carried_out(client, claim.namespace(), error, NOT_APPLIED).await,
        }
    }

    /// What is held while something is written to the target.
    pub(super) fn fence(&self, claim: Claimed) -> Fence {
        let environment = self.related.target.as_ref().map(|t| t.name_any()).unwrap_or_default();
        let leadership = self.cluster.leadership.clone();
        Fence::new(claim, self.cluster.clients.operator(), &self.host(), &environment, move || leadership.holds())
    }

    async fn not_carried_out(
        &mut self,
        client: &DelegateClient,
        namespace: &str,
        error: ApplyError,
        what: &str,
    ) -> Result<ApplyOutcome, ReconcileError> {
        match error {
            ApplyError { missing, .. } if !missing.is_empty() => self.missing(client, namespace, &missing).await.map(ApplyOutcome::Missing),
            ApplyError { errors, transient: true, .. } => {
                Ok(ApplyOutcome::Unavailable(self.of_cluster(&errors::first_few(errors.iter().map(errors::named)))))
            }
            ApplyError { errors, .. } => Ok(self.not_applied(errors, what)),
        }
    }

    /// Takes away what the version that is healthy now replaces.
    pub(super) async fn prune(&mut self, observed: &Observed) -> Result<ApplyOutcome, ReconcileError> {
        let (Some(healthy), Some(target)) = (self.healthy.take(), self.related.target.clone()) else {
            return Ok(ApplyOutcome::Unavailable("what was applied is to be looked at again".into()));
        };
        let client = match self.acting(observed).await? {
            Ok(client) => client,
            Err(obstacle) => return Ok(ApplyOutcome::Missing(obstacle)),
        };
        let Some(claim) = Claimed::from_environment(&target, &self.request.spec.solution.name, &self.uid()) else {
            return Ok(ApplyOutcome::Failed(Obstacle {
                reason: "ClaimLost".into(),
                message: "the claim on the environment is gone".into(),
            }));
        };
        let fence = self.fence(claim);
        match apply::prune(&fence, &client, &healthy, self.cluster.options.apply_concurrency).await {
            Ok(()) => {
                self.outcomes.leaving = health::leaving(&client, &healthy).await;
                Ok(ApplyOutcome::Applied)
            }
            Err(error) => self.not_carried_out(&client, fence.claim().namespace(), error, NOT_PRUNED).await,
        }
    }

    /// Looks at the health of what was applied.
    pub(super) async fn check(&mut self, observed: &Observed) -> Result<HealthOutcome, ReconcileError> {
        let way = if self.status().rollback.is_some() { Way::Back } else { Way::Forth };
        let Some(applied) = self.running.get(&self.uid(), way) else {
            return Ok(HealthOutcome::Pending("what was applied to be looked at".into()));
        };
        let client = match self.acting(observed).await? {
            Ok(client) => client,
            Err(obstacle) => return Ok(HealthOutcome::Missing(obstacle)),
        };
        let operator = self.remote.as_ref().map_or_else(|| self.cluster.clients.operator(), |remote| remote.cluster.client());
        let report = match health::check(&client, &operator, &applied).await {
            Ok(report) => report,
            Err(error) if errors::classify(&error) == Cause::Unauthorized => {
                let namespace = self.related.target.as_ref().map(|t| t.spec.namespace.clone()).unwrap_or_default();
                return self.missing(&client, &namespace, &health::rights(&client, &applied)).await.map(HealthOutcome::Missing);
            }
            Err(error) => {
                return Ok(HealthOutcome::Pending(format!("the target to be reached: {}", self.of_cluster(&errors::message(&error)))));
            }
        };
        if !report.is_current()
            && let Some(going) = self.related.target.as_ref().and_then(|target| self.going(&target.spec.namespace))
        {
            return Ok(HealthOutcome::Missing(going));
        }
        if !report.failed.is_empty() {
            let said = errors::first_few(report.failed.iter().map(errors::named));
            self.errors.extend(report.failed);
            return Ok(HealthOutcome::Failed(said));
        }
        if let Some(healthy) = Healthy::of(applied.clone(), &report) {
            self.outcomes.told = report.told;
            self.healthy = Some(healthy);
            return Ok(HealthOutcome::Healthy);
        }
        let mut said = errors::first_few(report.pending.iter().map(|(kind, name, why)| format!("{kind} {name} ({why})")));
        if is_late(observed) {
            self.errors = health::reasons(&client, &applied, &report).await;
            said = errors::first_few(self.errors.iter().map(|e| errors::bounded(&e.message, MAX_REASON)));
        }
        Ok(HealthOutcome::Pending(format!("{} of its objects: {}", report.pending.len(), said)))
    }
}

/// Whether the time for getting healthy is as good as over: then it is time to find out why it was not used.
fn is_late(observed: &Observed) -> bool {
    let way_back = observed.request.rollback.as_ref().map(|begun| begun.since);
    let Some((start, stage)) = way_back.or(observed.request.start_time).zip(observed.stage.present()) else { return false };
    clock::after(Timestamp::now(), JUST_BEFORE) >= clock::after(start, stage.deployment_timeout)
}

/// What became of a try to claim a solution in an environment.
enum Claiming {
    Won,
    /// Somebody else's deployment ended in between.
    Again,
    /// Another request, of that name, has it.
    Lost(String),
    /// The record takes no more, for that reason.
    NoRoom(String),
}

/// Whether a record takes more room for a solution than it did: what is there already is never refused.
fn is_more(before: &EnvironmentStatus, solution: &str, now: &EnvironmentStatus) -> bool {
    let kinds = |status: &EnvironmentStatus| status.solutions.iter().find(|s| s.name == solution).map(|s| s.cluster_scoped.len());
    before.solutions.len() < now.solutions.len() || kinds(before) < kinds(now)
}

fn identity<K: Resource>(object: &K) -> (Option<String>, Option<i64>) {
    (object.meta().uid.clone(), object.meta().generation)
}
