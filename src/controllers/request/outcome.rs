//! The end of a request and the records that it leaves: artifact, environment, solution, and last the request's own status.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::events::EventType;

use super::makers_view::record_in_solution;
use super::own_status::OwnStatus;
use super::scope::Scope;
use super::{Running, Way, reduced};
use crate::api::artifact::{self, DeploymentRecord, Outcome};
use crate::api::bounds;
use crate::api::condition::whole_seconds;
use crate::api::environment::{DeployedSolution, FailedDeployment};
use crate::api::pipeline::Trigger;
use crate::api::plan::{Plan, PlanResult};
use crate::api::reason::Reason;
use crate::api::request_status::{MAX_ERRORS, ObjectError, RunStatus};
use crate::cluster::errors;
use crate::policy::record;
use crate::policy::request::report::Report;
use crate::policy::request::step::{End, Ending, Progress};
use crate::policy::run_record;
use crate::runtime::controller::ReconcileError;
use crate::runtime::status;
use crate::runtime::status_writer::RecordError;

/// What failed for single objects in this reconciliation, and what prevents its plan. The status lists it.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<ObjectError>,
    pub(super) results: Vec<PlanResult>,
    /// The plan of a request that only plans.
    pub(super) plan: Option<Plan>,
}

impl Findings {
    /// Adds to a status the failures that it does not have yet, as far as there is room.
    pub(super) fn keep_errors(&self, status: &mut RunStatus) {
        let mut left_out = 0;
        for error in self.errors.iter().filter(|error| !status.errors.contains(error)).collect::<Vec<_>>() {
            if status.errors.len() < MAX_ERRORS {
                status.errors.push(error.clone());
            } else {
                left_out += 1;
            }
        }
        // The next reconciliation finds the same failures again.
        status.errors_omitted = status.errors_omitted.max(left_out);
    }
}

/// Ends the request as `report` says.
pub(super) async fn end(
    scope: Scope<'_>,
    own: &mut OwnStatus,
    running: &Running,
    findings: &Findings,
    report: &Report,
    ending: &Ending,
    now: Timestamp,
) -> Result<(), ReconcileError> {
    let mut new = own.run();
    let ended_at = whole_seconds(now);
    let started = new.start_time;
    let good = matches!(ending.end, End::Succeeded | End::Planned);
    if started.is_some() && !findings.errors.is_empty() {
        // Only this process knows what failed. It is written before the records say that the deployment is over.
        findings.keep_errors(&mut new);
        match own.write(&new).await {
            Err(ReconcileError::Refused(_)) => {}
            outcome => drop(outcome?),
        }
        new = own.run();
    }
    own.tell(&mut new, report, now);
    new.end_time = Some(ended_at);
    findings.keep_errors(&mut new);
    if let Some(plan) = &findings.plan {
        new.plan = Some(plan.clone());
    }
    if !findings.results.is_empty() {
        let plan = new.plan.get_or_insert_default();
        plan.results.clone_from(&findings.results);
        plan.results_omitted = 0;
    }
    let holds_claim = scope.holds_claim();
    if let Some(started) = started {
        if let Some(why) = refused(record_in_artifact(scope, &new, started, ended_at, ending).await)? {
            tracing::error!(request = %scope.request.name_any(), host = %scope.host(), why, "the record of a deployment was refused");
            if good {
                // Nothing succeeds without a record of it, and no claim is kept because a record is missing.
                let message = format!(
                    "deployed and healthy, but the Artifact's record of it was refused, without which no later stage takes it: {why}. Raise the solution's version"
                );
                let ending = Ending { end: End::Failed, at: Progress::Deployment, reason: Reason::RecordRefused, message, restored: false };
                return Box::pin(end(scope, own, running, findings, &reduced::report(&ending), &ending, now)).await;
            }
        }
        // The claim is released only after the artifact's record exists, which proves everything.
        let released = async { if holds_claim { record_or_release(scope, running, &new, ended_at, ending).await } else { Ok(()) } };
        // Makers are told before the end is written: a crash before it repeats both.
        let (released, ()) = futures::join!(released, record_in_solution(scope, running.readers(), &new, &ending.message, now));
        released?;
    } else {
        record_in_solution(scope, running.readers(), &new, &ending.message, now).await;
    }
    match own.write(&new).await {
        Err(ReconcileError::Refused(_)) => drop(own.write_as_it_is(&reduced::end_alone(&own.run(), &new)).await?),
        outcome => drop(outcome?),
    }
    running.forget(&scope.uid());
    let type_ = if good { EventType::Normal } else { EventType::Warning };
    own.event(Trigger::OnDeploymentCompleted, type_, &format!("{}: {}", new.phase, ending.message));
    if started.is_none() && holds_claim {
        // A start that this process has not seen may hold the claim. Start and end can't both be written on the same state. So here the
        // claim is released after the end. If this code is not reached, the environment's controller releases it.
        record_or_release(scope, running, &new, ended_at, ending).await?;
    }
    Ok(())
}

/// Records what happened to the target and releases the claim on it. If the record is refused, only the claim is released.
async fn record_or_release(
    scope: Scope<'_>,
    running: &Running,
    run: &RunStatus,
    end: Timestamp,
    ending: &Ending,
) -> Result<(), ReconcileError> {
    let Some(why) = refused(record_in_environment(scope, running, run, end, ending).await)? else { return Ok(()) };
    tracing::error!(request = %scope.request.name_any(), host = %scope.host(), why, "the record of what runs in an environment was refused");
    let Some(target) = &scope.related.target else { return Ok(()) };
    let (uid, host, name) = (scope.uid(), scope.host(), target.name_any());
    let released = scope.cluster.records.environments.update(&host, &name, move |_, status| {
        status.solutions.iter_mut().filter(|s| s.claim.as_ref().is_some_and(|c| c.request_uid == uid)).for_each(|s| s.claim = None);
    });
    // If this is refused too, the environment's controller releases the claim after the request has ended.
    refused(gone_is_fine(released.await.map(|_| ()))).map(|_| ())
}

async fn record_in_artifact(
    scope: Scope<'_>,
    run: &RunStatus,
    started: Timestamp,
    end: Timestamp,
    ending: &Ending,
) -> Result<(), ReconcileError> {
    let good = ending.end == End::Succeeded;
    let own = run_record::of(scope.request, run, scope.related.target.as_deref(), (started, end), ending);
    let (Some(artifact), Some(own)) = (&run.artifact, own) else { return Ok(()) };
    let digest = artifact.digest.clone();
    let recorded = scope
        .cluster
        .records
        .artifacts
        .update(&scope.host(), &artifact.name, move |artifact, status| {
            // The proof of a deployment belongs to exactly what was deployed, and to nothing else of that name.
            if artifact.spec.digest != digest {
                return None;
            }
            status.observed_generation = artifact.metadata.generation.unwrap_or(-1);
            if let Some(recorded) = status.deployments.iter().find(|d| d.request_uid == own.request_uid) {
                return Some(recorded.outcome);
            }
            record::add(&mut status.deployments, own.clone());
            status.summary = succeeded_in(&status.deployments);
            Some(own.outcome)
        })
        .await;
    match recorded {
        // The first record decides: the end is decided again on the basis of that record.
        Ok((Some(outcome), _)) if (outcome == Outcome::Succeeded) != good => Err(ReconcileError::Overtaken),
        // Nothing succeeds without a record of it.
        Ok((None, _)) if good => Err(ReconcileError::Overtaken),
        recorded => gone_is_fine(recorded.map(|_| ())),
    }
}

async fn record_in_environment(
    scope: Scope<'_>,
    running: &Running,
    run: &RunStatus,
    end: Timestamp,
    ending: &Ending,
) -> Result<(), ReconcileError> {
    let Some(target) = &scope.related.target else { return Ok(()) };
    let uid = scope.uid();
    let deployed = ending.end == End::Succeeded && run.start_time.is_some();
    let failed = run.start_time.map(|_| FailedDeployment {
        version: scope.request.spec.solution.version.clone(),
        digest: run.artifact.as_ref().map(|a| a.digest.clone()).unwrap_or_default(),
        request: scope.request.name_any(),
        at: end,
    });
    let restored = ending.restored;
    let entry = DeployedSolution {
        name: scope.request.spec.solution.name.clone(),
        version: Some(scope.request.spec.solution.version.clone()),
        digest: run.artifact.as_ref().map(|a| a.digest.clone()),
        settings_digest: run.plan.as_ref().map(|p| p.settings_digest.clone()),
        request: Some(scope.request.name_any()),
        requested_by: scope.request.spec.requested_by.as_ref().map(|r| r.username.clone()),
        on_behalf_of: scope.request.spec.on_behalf_of.clone(),
        deployed_by: run.deployed_by.clone(),
        deployed_at: Some(end),
        cluster_scoped: Vec::new(),
        failed: None,
        claim: None,
    };
    let way = if restored { Way::Back } else { Way::Forth };
    let left = running.get(&uid, way).filter(|_| deployed || restored).and_then(|applied| applied.left_in_cluster());
    let written = scope
        .cluster
        .records
        .environments
        .update(&scope.host(), &target.name_any(), move |_, status| {
            let Some(existing) = status.solutions.iter_mut().find(|s| s.name == entry.name) else { return };
            if existing.claim.as_ref().is_none_or(|c| c.request_uid != uid) {
                return;
            }
            // What this process does not know any more stays recorded. The next success finds that nothing is left.
            let cluster_scoped = left.clone().unwrap_or_else(|| std::mem::take(&mut existing.cluster_scoped));
            if deployed {
                *existing = entry.clone();
            } else {
                existing.claim = None;
                if restored {
                    existing.failed = None;
                } else if failed.is_some() {
                    existing.failed.clone_from(&failed);
                }
            }
            existing.cluster_scoped = cluster_scoped;
            // A claim that led to nothing leaves no entry.
            status.solutions.retain(DeployedSolution::is_anything);
            status.sum_up();
        })
        .await;
    gone_is_fine(written.map(|_| ()))
}

/// What the API server said if it will never accept a record.
fn refused(written: Result<(), ReconcileError>) -> Result<Option<String>, ReconcileError> {
    match written {
        Err(ReconcileError::Record(RecordError::Write { source, .. })) if status::is_refused(&source) => Ok(Some(errors::message(&source))),
        outcome => outcome.map(|()| None),
    }
}

/// If the object of a record was deleted, no entry is needed.
fn gone_is_fine(written: Result<(), RecordError>) -> Result<(), ReconcileError> {
    match written {
        Err(RecordError::NotFound(_)) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The stages that an artifact succeeded in: each once, in the order of the first success.
fn succeeded_in(records: &[DeploymentRecord]) -> String {
    let mut stages: Vec<&str> = Vec::new();
    for record in records.iter().filter(|r| r.outcome == Outcome::Succeeded) {
        if !stages.contains(&record.stage.as_str()) {
            stages.push(&record.stage);
        }
    }
    bounds::text(&stages.join(", "), artifact::MAX_SUMMARY)
}
