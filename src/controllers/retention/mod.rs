//! Retention: removes from hosts, in small steps, what their pipelines keep no longer.
//!
//! A run belongs to one pipeline. Its status says that it began, and when, before anything is removed. What goes is decided anew in each
//! step, as of that time. So after a crash the next leader removes what is left of it, and nothing else.

mod act;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};

use self::act::Done;
use crate::api::bounds;
use crate::api::condition::{self, ConditionStatus, Observation, whole_seconds};
use crate::api::names::RETAIN_NOW_ANNOTATION;
use crate::api::pipeline::PipelineStatus;
use crate::api::reason::Reason;
use crate::api::retention::{MAX_MESSAGE, Retention, RetentionCount, RetentionProgress, RetentionRun};
use crate::api::{Artifact, DeploymentRequest, Environment, Pipeline, Stage};
use crate::policy::retention::schedule::{self, Due};
use crate::policy::retention::view::Objects;
use crate::policy::retention::{self as policy, Fate, Verdict};
use crate::runtime::Cluster;
use crate::runtime::controller::{Next, ReconcileError, Reconciler};

/// The condition that says whether the last run removed all that it was to remove, or what the present one waits for.
pub(crate) const RETENTION_COMPLETE: &str = "RetentionComplete";

/// How many objects are removed in one step. Then other pipelines have their turn.
const STEP: usize = 25;
/// How long to wait before each removal: five a second at most.
const PAUSE: Duration = Duration::from_millis(200);
/// How long to wait before the next step of a run.
const BETWEEN: Duration = Duration::from_millis(100);
/// After so many refusals a run ends: the rest would be refused too.
const MOST_REFUSED: usize = 20;

/// What was refused in a run, by the uid of the object.
type Refused = HashMap<String, Reason>;

/// Runs the retention of pipelines.
pub(crate) struct RetentionController {
    cluster: Arc<Cluster>,
    /// By the uid of a pipeline: what was refused in the run that is under way.
    refused: Mutex<HashMap<String, Refused>>,
}

/// The objects of a host, as the caches have them.
struct Host {
    name: String,
    pipelines: Vec<Arc<Pipeline>>,
    stages: Vec<Arc<Stage>>,
    environments: Vec<Arc<Environment>>,
    requests: Vec<Arc<DeploymentRequest>>,
    artifacts: Vec<Arc<Artifact>>,
}

/// One object that goes.
struct Removal {
    what: What,
    /// Whether it is archived first.
    archived: bool,
}

enum What {
    Request(Arc<DeploymentRequest>),
    Bytes(Arc<Artifact>),
    Artifact(Arc<Artifact>),
}

impl Removal {
    fn uid(&self) -> String {
        match &self.what {
            What::Request(request) => request.uid().unwrap_or_default(),
            What::Bytes(artifact) | What::Artifact(artifact) => artifact.uid().unwrap_or_default(),
        }
    }
}

impl Host {
    fn of(cluster: &Cluster, name: &str) -> Self {
        fn is_in<K: Resource>(name: &str) -> impl Fn(&K) -> bool + '_ {
            move |object| object.meta().namespace.as_deref() == Some(name)
        }
        let stores = &cluster.stores;
        let is_there = |r: &DeploymentRequest| is_in(name)(r) && r.metadata.deletion_timestamp.is_none();
        let is_here = |a: &Artifact| is_in(name)(a) && a.metadata.deletion_timestamp.is_none();
        Self {
            name: name.to_owned(),
            pipelines: stores.pipelines.state_filter(is_in(name)),
            stages: stores.stages.state_filter(is_in(name)),
            environments: stores.environments.state_filter(is_in(name)),
            requests: stores.requests.state_filter(is_there),
            artifacts: stores.artifacts.state_filter(is_here),
        }
    }

    fn decide(&self, pipeline: &str, now: Timestamp) -> Verdict<'_> {
        let Self { pipelines, stages, environments, requests, artifacts, .. } = self;
        policy::decide(&Objects { pipelines, stages, environments, requests, artifacts }.view(), Some(pipeline), now)
    }

    /// What goes, requests first: an artifact may be needed by them.
    fn removals(&self, verdict: &Verdict<'_>) -> Vec<Removal> {
        let requests = verdict.requests.iter().filter(|(_, fate)| *fate == Fate::Goes);
        let requests = requests.filter_map(|(index, _)| {
            let what = What::Request(self.requests.get(*index)?.clone());
            Some(Removal { what, archived: verdict.archived_requests.contains(index) })
        });
        let artifacts = verdict.artifacts.iter().filter_map(|(index, fate)| {
            let artifact = self.artifacts.get(*index)?.clone();
            let what = match fate {
                Fate::Goes => What::Artifact(artifact),
                Fate::LosesBytes => What::Bytes(artifact),
                Fate::Stays(_) => return None,
            };
            Some(Removal { what, archived: verdict.archived_artifacts.contains(index) })
        });
        requests.chain(artifacts).collect()
    }
}

impl RetentionController {
    /// A controller for the Pipelines of that cluster.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, refused: Mutex::default() }
    }

    fn refused_of(&self, pipeline: &Pipeline) -> Refused {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(&pipeline.uid().unwrap_or_default()).cloned().unwrap_or_default()
    }

    /// Changes the status of the pipeline.
    async fn write(&self, pipeline: &Pipeline, change: impl Fn(&mut PipelineStatus) + Send + 'static) -> Result<(), ReconcileError> {
        let (host, uid) = (pipeline.namespace().unwrap_or_default(), pipeline.uid());
        let write = move |found: &Pipeline, status: &mut PipelineStatus| {
            if found.uid() == uid {
                change(status);
            }
        };
        self.cluster.records.pipelines.update(&host, &pipeline.name_any(), write).await?;
        Ok(())
    }

    /// Nothing is due: the status says when it is.
    async fn wait(&self, pipeline: &Pipeline, until: Option<Timestamp>, now: Timestamp) -> Result<Next, ReconcileError> {
        let generation = pipeline.metadata.generation.unwrap_or_default();
        let known = pipeline.status.as_ref().and_then(|s| s.retention.as_ref());
        if known.is_none_or(|known| known.next_run != until || known.observed_generation != generation) {
            let change = move |status: &mut PipelineStatus| {
                let status = status.retention.get_or_insert_default();
                status.next_run = until;
                status.observed_generation = generation;
            };
            self.write(pipeline, change).await?;
        }
        Ok(until.map_or(Next::Done, |at| Next::After(Duration::try_from(at.duration_since(now)).unwrap_or_default())))
    }

    /// One step of a run.
    async fn step(&self, pipeline: &Pipeline, retention: &Retention, since: Timestamp, begins: bool) -> Result<Next, ReconcileError> {
        let (name, host) = (pipeline.name_any(), Host::of(&self.cluster, &pipeline.namespace().unwrap_or_default()));
        let verdict = host.decide(&name, since);
        if begins {
            let removes = verdict.removes();
            let generation = pipeline.metadata.generation;
            let requested = schedule::requested_value(pipeline.annotations().get(RETAIN_NOW_ANNOTATION).map(String::as_str));
            let begin = move |status: &mut PipelineStatus| {
                condition::set(&mut status.conditions, &running(), generation, since);
                let status = status.retention.get_or_insert_default();
                status.running = Some(RetentionProgress { since, removes });
                status.requested.clone_from(&requested);
            };
            self.write(pipeline, begin).await?;
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&pipeline.uid().unwrap_or_default());
        }
        let mut refused = self.refused_of(pipeline);
        let mut left: Vec<Removal> = host.removals(&verdict);
        left.retain(|removal| !refused.contains_key(&removal.uid()));
        if left.is_empty() || refused.len() >= MOST_REFUSED {
            return self.finish(pipeline, retention, since, &verdict, &refused).await;
        }
        let mut has_waited = pipeline
            .status
            .as_ref()
            .and_then(|s| condition::find(&s.conditions, RETENTION_COMPLETE))
            .is_some_and(|c| c.status == ConditionStatus::False);
        for removal in left.into_iter().take(STEP) {
            tokio::time::sleep(PAUSE).await;
            if !self.cluster.leadership.holds() {
                return Err(ReconcileError::LeaseRanOut);
            }
            match act::remove(&self.cluster, &host.name, &name, &removal, since).await? {
                Done::Over if has_waited => {
                    has_waited = false;
                    self.tell(pipeline, running()).await?;
                }
                Done::Over => {}
                Done::Refused(reason) => {
                    refused.insert(removal.uid(), reason);
                    let mut all = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
                    all.insert(pipeline.uid().unwrap_or_default(), refused.clone());
                }
                Done::Waits(reason, why) => {
                    let message = format!("the run waits, and nothing more is removed: {why}. It goes on by itself, from where it is");
                    self.tell(pipeline, Observation::new(RETENTION_COMPLETE, false, reason, message)).await?;
                    return Err(ReconcileError::Transient(why));
                }
            }
        }
        Ok(Next::After(BETWEEN))
    }

    /// Sets the condition. It is written only if that changes it.
    async fn tell(&self, pipeline: &Pipeline, observed: Observation) -> Result<(), ReconcileError> {
        let generation = pipeline.metadata.generation;
        self.write(pipeline, move |status| condition::set(&mut status.conditions, &observed, generation, Timestamp::now())).await
    }

    /// The run has ended: the status says what it did.
    async fn finish(
        &self,
        pipeline: &Pipeline,
        retention: &Retention,
        since: Timestamp,
        verdict: &Verdict<'_>,
        refused: &Refused,
    ) -> Result<Next, ReconcileError> {
        let begun = pipeline.status.as_ref().and_then(|s| s.retention.as_ref()).and_then(|r| r.running.as_ref());
        let (planned, left) = (begun.map(|b| b.removes).unwrap_or_default(), verdict.removes());
        let removed = RetentionCount {
            requests: planned.requests.saturating_sub(left.requests).max(0),
            bytes: planned.bytes.saturating_sub(left.bytes).max(0),
            artifacts: planned.artifacts.saturating_sub(left.artifacts).max(0),
        };
        let now = whole_seconds(Timestamp::now());
        let run = RetentionRun {
            started_at: since,
            ended_at: now,
            removed,
            refused: i32::try_from(refused.len()).unwrap_or(i32::MAX),
            message: refused.values().min().map(|reason| bounds::text(&told(refused.len(), *reason), MAX_MESSAGE)),
        };
        let (kept, next_run) = (verdict.kept(), schedule::next_run(retention, now));
        let generation = pipeline.metadata.generation.unwrap_or_default();
        let note = in_words(&run, &kept);
        let observed = complete(&run, refused);
        let end = move |status: &mut PipelineStatus| {
            condition::set(&mut status.conditions, &observed, Some(generation), now);
            let status = status.retention.get_or_insert_default();
            status.running = None;
            status.last_run = Some(run.clone());
            status.kept.clone_from(&kept);
            status.next_run = next_run;
            status.observed_generation = generation;
        };
        self.write(pipeline, end).await?;
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).remove(&pipeline.uid().unwrap_or_default());
        let (type_, reason) =
            if refused.is_empty() { (EventType::Normal, Reason::RetentionRan) } else { (EventType::Warning, Reason::RetentionIncomplete) };
        self.cluster.events.tell(pipeline.object_ref(&()), type_, reason.as_str(), &note);
        let until = next_run.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        Ok(until.map_or(Next::Done, Next::After))
    }
}

/// That a run is under way, as the condition says it.
fn running() -> Observation {
    Observation::new(RETENTION_COMPLETE, ConditionStatus::Unknown, Reason::RetentionRunning, "a run is under way")
}

/// Whether the run removed all that it was to remove, as the condition says it.
fn complete(run: &RetentionRun, refused: &Refused) -> Observation {
    match (&run.message, refused.values().min()) {
        (Some(message), Some(reason)) => Observation::new(RETENTION_COMPLETE, false, *reason, message),
        _ => Observation::new(RETENTION_COMPLETE, true, Reason::RetentionRan, "the last run removed all that is kept no longer"),
    }
}

/// What could not be removed. Makers read pipelines, and not what others ask for. So no object is named here.
fn told(count: usize, reason: Reason) -> String {
    let what = match reason {
        Reason::MissingRights => "the operator lacks a right: whoever runs it applies deploy/roles/host.yaml of this version",
        Reason::DeniedByPolicy => "an admission policy refused",
        Reason::ArtifactStoreNotConfigured => {
            "it is kept in, or is to be archived in a registry that the operator does not have: whoever runs it starts it with --artifact-store"
        }
        Reason::RegistryRefused => {
            "the registry of the operator's --artifact-store refuses: let it delete manifests, and take what is archived below HOST/archive"
        }
        Reason::RegistryUnauthorized => {
            "the registry of the operator's --artifact-store does not let its user: let that user push, pull and delete there"
        }
        Reason::RegistryFull => "the quota of the registry of the operator's --artifact-store is used up: raise it",
        Reason::NotArchived | Reason::RegistryLacksArtifact => {
            "spec.retention.archive wants versions whole, and they can't be read any more: put their bytes back, or purge them"
        }
        _ => "the API server or a registry refused",
    };
    format!("{count} could not be removed ({reason}): {what}. The operator's log names them; the next run tries again")
}

fn in_words(run: &RetentionRun, kept: &[crate::api::retention::KeptCount]) -> String {
    let RetentionCount { requests, bytes, artifacts } = run.removed;
    let (kept_requests, kept_artifacts) = kept.iter().fold((0, 0), |(r, a), k| (r + k.requests, a + k.artifacts));
    let trouble = run.message.as_ref().map_or(String::new(), |message| format!("; {message}"));
    format!(
        "removed {requests} requests, the bytes of {bytes} artifacts and {artifacts} artifacts whole; kept {kept_requests} requests and \
         {kept_artifacts} artifacts{trouble}"
    )
}

impl Reconciler for RetentionController {
    type Kind = Pipeline;

    async fn reconcile(&self, object: Arc<Pipeline>) -> Result<Next, ReconcileError> {
        let host = object.namespace().unwrap_or_default();
        if !self.cluster.serves(&host) || object.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        // The cache may be older than the last step of a run.
        let pipeline = self.cluster.records.pipelines.newest(&host, &object.name_any()).await.unwrap_or(object);
        let status = pipeline.status.as_ref().and_then(|s| s.retention.as_ref());
        let Some(retention) = pipeline.spec.retention.clone() else {
            if status.is_some() {
                let forget = |status: &mut PipelineStatus| {
                    status.retention = None;
                    status.conditions.retain(|c| c.type_ != RETENTION_COMPLETE);
                };
                self.write(&pipeline, forget).await?;
            }
            return Ok(Next::Done);
        };
        let requested = pipeline.annotations().get(RETAIN_NOW_ANNOTATION).map(String::as_str);
        let now = whole_seconds(Timestamp::now());
        match schedule::due(&retention, pipeline.metadata.generation.unwrap_or_default(), requested, status, now) {
            Due::Wait { until } => self.wait(&pipeline, until, now).await,
            Due::Run { since, begins } => self.step(&pipeline, &retention, since, begins).await,
        }
    }

    async fn give_up(&self, object: Arc<Pipeline>, why: String) -> Result<Next, ReconcileError> {
        tracing::error!(pipeline = %object.name_any(), host = %object.namespace().unwrap_or_default(), why, "retention can't go on");
        let told = "the run could not go on: the operator's log says why; the next one tries again";
        let generation = object.metadata.generation;
        let end = move |status: &mut PipelineStatus| {
            let Some(retention) = status.retention.as_mut() else { return };
            let now = whole_seconds(Timestamp::now());
            let Some(running) = retention.running.take() else { return };
            retention.next_run = None;
            retention.observed_generation = -1;
            retention.last_run = Some(RetentionRun {
                started_at: running.since,
                ended_at: now,
                removed: RetentionCount::default(),
                refused: 0,
                message: Some(told.to_owned()),
            });
            let observed = Observation::new(RETENTION_COMPLETE, false, Reason::RetentionIncomplete, told);
            condition::set(&mut status.conditions, &observed, generation, now);
        };
        self.write(&object, end).await?;
        Ok(Next::After(super::GIVEN_UP))
    }
}
