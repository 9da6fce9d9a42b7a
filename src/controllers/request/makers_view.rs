//! The maker's view: what the Solution's status says about a request, in the namespace of people who may not read the host. It is a
//! convenience and delays nothing: if it can't be written, that is logged, and tried again a few times.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;

use super::observe;
use super::own_status::approved_by;
use super::scope::Scope;
use crate::api::condition::{self, whole_seconds};
use crate::api::environment::EnvironmentType;
use crate::api::phase::Phase;
use crate::api::reference::Identity;
use crate::api::request_status::{RunStatus, condition_types};
use crate::api::solution::{MAX_MESSAGE, RunningVersion, SolutionDeployment};
use crate::api::{GROUP, bounds};
use crate::controllers::environment::validated;
use crate::identity::access::{self, Access, Right};
use crate::policy::makers_view::{self, Runs};
use crate::policy::request::not_looked_for;
use crate::runtime::Cluster;
use crate::runtime::status;
use crate::runtime::status_writer::RecordError;
use crate::text;

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
    let told = place(scope).map(|place| (place, entry(scope, run, message, now), runs(scope, run)));
    let (cluster, requester) = (scope.cluster.clone(), scope.request.spec.requested_by.clone());
    async move {
        let (Some((place, entry, runs)), Some(requester)) = (told, requester) else { return };
        // A requester who may not read the Solution must not write anything to it either.
        match readers.may_read(&cluster.access, &requester, &place.namespace, &place.solution).await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                tracing::warn!(%error, solution = place.solution, namespace = place.namespace, "who may read a Solution is not known: nothing is told there");
                return;
            }
        }
        if let Err(error) = write(&cluster, &place, &entry, &runs).await
            && !is_final(&error)
        {
            tokio::spawn(try_again(cluster, place, entry, runs));
        }
    }
}

/// Where the request is shown: only if its stage is in the pipeline that the request names, and only in the namespace of a development
/// environment that the host may use. The requester could name anything else at will.
fn place(scope: Scope<'_>) -> Option<Place> {
    let (stage, source, solution) = (scope.related.stage.as_ref()?, scope.related.source.as_ref()?, scope.related.solution.as_ref()?);
    let is_development = source.spec.type_ == EnvironmentType::Development && validated(source).is_ok();
    let is_there = stage.spec.pipeline == scope.request.spec.pipeline && is_development;
    is_there.then(|| Place { namespace: source.spec.namespace.clone(), solution: solution.name_any() })
}

/// What is shown of this request.
fn entry(scope: Scope<'_>, run: &RunStatus, message: &str, now: Timestamp) -> SolutionDeployment {
    let spec = &scope.request.spec;
    let status = scope.request.status.as_ref();
    // If nothing was deployed, nothing can be missing from it.
    let artifact = scope
        .related
        .artifact
        .as_deref()
        .filter(|_| !matches!(Phase::of(&run.phase), Some(Phase::Failed | Phase::Rejected | Phase::Canceled)));
    let told = not_looked_for::before(artifact.map(observe::artifact_view).as_ref(), message);
    SolutionDeployment {
        host: scope.host(),
        stage: spec.stage.clone(),
        pipeline: spec.pipeline.clone(),
        runs: None,
        version: spec.solution.version.clone(),
        phase: run.phase.clone(),
        request: scope.request.name_any(),
        request_uid: scope.uid(),
        requester: spec.requested_by.as_ref().map(|r| r.username.clone()).unwrap_or_default(),
        never_accepted: !condition::is_true(&run.conditions, condition_types::ACCEPTED),
        message: Some(bounds::text(&text::plain(&told), MAX_MESSAGE)),
        approved_by: approved_by(scope.request, run),
        approval_comments: status.and_then(|s| s.approval.as_ref()?.comments.as_deref()).map(|said| text::plain(said).into_owned()),
        asked_at: scope.request.metadata.creation_timestamp.as_ref().map(|t| t.0),
        at: whole_seconds(now),
        others: Vec::new(),
        others_omitted: 0,
    }
}

/// What runs in the stage: what this request has just deployed, or what the Environment's record says.
fn runs(scope: Scope<'_>, run: &RunStatus) -> Runs {
    if run.start_time.is_some() && run.phase == Phase::Succeeded {
        return Runs::Known(Some(RunningVersion { version: scope.request.spec.solution.version.clone(), since: run.end_time }));
    }
    let Some(target) = &scope.related.target else { return Runs::Unknown };
    let recorded = target.status.iter().flat_map(|s| &s.solutions).find(|s| s.name == scope.request.spec.solution.name);
    let version = recorded.and_then(|s| Some(RunningVersion { version: s.version.clone()?, since: s.deployed_at }));
    Runs::Known(version)
}

async fn write(cluster: &Cluster, place: &Place, entry: &SolutionDeployment, runs: &Runs) -> Result<(), RecordError> {
    let (entry, runs) = (entry.clone(), runs.clone());
    let written = cluster.records.solutions.update(&place.namespace, &place.solution, move |solution, status| {
        status.observed_generation = solution.metadata.generation.unwrap_or(-1);
        makers_view::note(status, &entry, runs.clone());
    });
    let written = written.await.map(|_| ());
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

async fn try_again(cluster: Arc<Cluster>, place: Place, entry: SolutionDeployment, runs: Runs) {
    for pause in TRIES {
        tokio::time::sleep(pause).await;
        if !cluster.leadership.holds() {
            // The new leader writes the rest.
            return;
        }
        if write(&cluster, &place, &entry, &runs).await.is_ok() {
            return;
        }
    }
}
