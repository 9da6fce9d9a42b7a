//! The maker's view: what the Solution's status says about a request, in the namespace of people who may not read the host. It is a
//! convenience and delays nothing: if it can't be written, that is logged, and tried again a few times.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};

use super::makers_entry::{self, Told};
use super::scope::Scope;
use crate::api::environment::EnvironmentType;
use crate::api::phase::Phase;
use crate::api::reference::Identity;
use crate::api::request_status::RunStatus;
use crate::api::{Environment, GROUP};
use crate::controllers::environment::validated;
use crate::controllers::solution::offers::{self, Deployed, Latest};
use crate::identity::access::{self, Access, Right};
use crate::policy::{makers_plans, makers_story, makers_view};
use crate::runtime::Cluster;
use crate::runtime::status;
use crate::runtime::status_writer::RecordError;

/// The pauses before further tries.
const TRIES: [Duration; 4] = [Duration::from_secs(1), Duration::from_secs(10), Duration::from_mins(1), Duration::from_mins(5)];
/// How long the answer is used that somebody may read a Solution, and that they may not.
const BELIEVED: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(2));

/// Who may read which Solution, by the last answer.
#[derive(Clone, Default)]
pub(super) struct Readers(Arc<Mutex<Answers>>);

/// By requester, namespace and name: the answer, and when it was given.
type Answers = HashMap<(Identity, String, String), (bool, Instant)>;

impl Readers {
    /// Whether somebody may read that Solution.
    async fn may_read(&self, access: &Access, who: &Identity, namespace: &str, solution: &str) -> kube::Result<bool> {
        let key = (who.clone(), namespace.to_owned(), solution.to_owned());
        {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, (may, since)| since.elapsed() < if *may { BELIEVED.0 } else { BELIEVED.1 });
            if let Some((may, _)) = known.get(&key) {
                return Ok(*may);
            }
        }
        let right = Right::on("get", GROUP, "solutions", namespace).named(solution);
        let may = access.may(&access::as_authenticated(who), &right).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (may, Instant::now()));
        Ok(may)
    }
}

/// A Solution whose status shows the request.
#[derive(Clone)]
struct Place {
    namespace: String,
    solution: String,
}

/// Writes this request, whose status is now `run`, to the Solution. It borrows nothing, so that it can be written at the same time as the
/// request's own status. It must be awaited to its end, because others may have put their changes into the same write.
pub(super) fn record_in_solution(
    scope: Scope<'_>,
    readers: Readers,
    run: &RunStatus,
    message: &str,
    now: Timestamp,
) -> impl Future<Output = ()> + Send + use<> {
    let (places, latest) = (places(scope), latest(scope, run));
    let told = (!places.is_empty()).then(|| makers_entry::of(scope, run, message, now));
    let (cluster, requester) = (scope.cluster.clone(), scope.request.spec.requested_by.clone());
    async move {
        let (Some(told), Some(requester)) = (told, requester) else { return };
        for place in places {
            // A requester who may not read the Solution must not write anything to it either.
            match readers.may_read(&cluster.access, &requester, &place.namespace, &place.solution).await {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    tracing::warn!(%error, solution = place.solution, namespace = place.namespace, "who may read a Solution is not known: nothing is told there");
                    continue;
                }
            }
            if let Err(error) = write(&cluster, &place, &told, &latest).await
                && !is_final(&error)
            {
                tokio::spawn(try_again(cluster.clone(), place, told.clone()));
            }
        }
    }
}

/// Where the request is shown: only if its stage is in the pipeline that the request names, and only in namespaces of development
/// environments that the host may use. The requester could name anything else at will. A request that comes from no development environment,
/// or does not say from which, is shown wherever the pipeline's own have a Solution of that name.
fn places(scope: Scope<'_>) -> Vec<Place> {
    let (Some(stage), Some(pipeline)) = (&scope.related.stage, &scope.related.pipeline) else { return Vec::new() };
    if stage.spec.pipeline != scope.request.spec.pipeline {
        return Vec::new();
    }
    let (stores, host, solution) = (&scope.cluster.stores, scope.host(), &scope.request.spec.solution.name);
    let place = |source: &Environment| {
        let is_development = source.spec.type_ == EnvironmentType::Development && validated(source).is_ok();
        is_development.then(|| Place { namespace: source.spec.namespace.clone(), solution: solution.clone() })
    };
    if let Some(source) = &scope.related.source {
        return if scope.related.solution.is_some() { place(source).into_iter().collect() } else { Vec::new() };
    }
    let linked = pipeline.spec.development_environments.iter();
    let linked = linked.filter_map(|name| stores.environments.get(&ObjectRef::new(name).within(&host))).filter_map(|source| place(&source));
    linked.filter(|place| stores.solutions.get(&ObjectRef::new(&place.solution).within(&place.namespace)).is_some()).collect()
}

/// What the request knows before the records of its host say it.
fn latest(scope: Scope<'_>, run: &RunStatus) -> Latest {
    if scope.request.spec.plan_only {
        return Latest::default();
    }
    let done = run.start_time.is_some() && run.phase == Phase::Succeeded && scope.holds_claim();
    let deployed = scope.related.target.as_ref().filter(|_| done).map(|target| Deployed {
        host: scope.host(),
        environment: target.name_any(),
        version: scope.request.spec.solution.version.clone(),
    });
    Latest { artifact: scope.related.artifact.clone(), deployed }
}

async fn write(cluster: &Cluster, place: &Place, told: &Told, latest: &Latest) -> Result<(), RecordError> {
    let offered = offers::offered(cluster, &place.namespace, &place.solution, latest).await;
    let (told, now) = (told.clone(), Timestamp::now());
    let written = cluster.records.solutions.update(&place.namespace, &place.solution, move |solution, status| {
        let happened = match &told {
            Told::Deployment(entry, runs) => {
                let happened = makers_story::of_deployment(status, entry);
                makers_view::note(status, entry, runs.clone());
                happened
            }
            Told::Plan(plan) => {
                let happened = makers_story::of_plan(status, plan);
                makers_plans::note(&mut status.plans, (**plan).clone());
                happened
            }
        };
        makers_view::settle(solution, status, &offered, now);
        happened
    });
    let written = written.await.map(|(happened, solution)| {
        for told in happened {
            let type_ = if told.is_warning { EventType::Warning } else { EventType::Normal };
            cluster.events.tell_in_development(solution.object_ref(&()), type_, &told.reason, &told.note);
        }
    });
    if let Err(error) = &written
        && !matches!(error, RecordError::NotFound(_))
    {
        tracing::warn!(%error, solution = place.solution, namespace = place.namespace, "what became of a request could not be told in development");
    }
    written
}

/// Whether another try would end the same way.
fn is_final(error: &RecordError) -> bool {
    match error {
        RecordError::NotFound(_) => true,
        RecordError::Write { source, .. } => status::is_refused(source),
        RecordError::Stopped => false,
    }
}

async fn try_again(cluster: Arc<Cluster>, place: Place, told: Told) {
    for pause in TRIES {
        tokio::time::sleep(pause).await;
        if !cluster.leadership.holds() {
            // The new leader writes the rest.
            return;
        }
        if write(&cluster, &place, &told, &Latest::default()).await.is_ok() {
            return;
        }
    }
}
