//! The end of a request and the records it leaves: artifact, environment, solution, and its own end last.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::events::EventType;

use super::reconciliation::Reconciliation;
use super::{Way, reduced};
use crate::api::artifact::{self, DeploymentRecord, Outcome};
use crate::api::bounds;
use crate::api::condition::whole_seconds;
use crate::api::environment::{DeployedSolution, FailedDeployment};
use crate::api::pipeline::Trigger;
use crate::api::request_status::{MAX_ERRORS, RunStatus};
use crate::cluster::errors;
use crate::policy::record;
use crate::policy::request::decisions;
use crate::policy::request::observed::Observed;
use crate::policy::request::report::{self, Report};
use crate::policy::request::step::{End, Ending, Progress};
use crate::runtime::controller::ReconcileError;
use crate::runtime::status;
use crate::runtime::status_writer::RecordError;

impl Reconciliation {
    pub(super) async fn finish(&mut self, observed: &Observed, ending: &Ending, now: Timestamp) -> Result<(), ReconcileError> {
        self.end(&report::ended(observed, ending), ending, now).await
    }

    /// Ends the request as `report` tells.
    pub(super) async fn end(&mut self, report: &Report, ending: &Ending, now: Timestamp) -> Result<(), ReconcileError> {
        let mut new = self.status();
        let end = whole_seconds(now);
        let started = new.start_time;
        let good = ending.end == End::Succeeded;
        if started.is_some() && !self.errors.is_empty() {
            // What failed is known to this process alone: it is written before the records say that it is over.
            self.keep_errors(&mut new);
            match self.write(&new).await {
                Err(ReconcileError::Refused(_)) => {}
                outcome => drop(outcome?),
            }
            new = self.status();
        }
        self.tell(&mut new, report, now);
        new.end_time = Some(end);
        self.keep_errors(&mut new);
        if !self.results.is_empty() {
            let plan = new.plan.get_or_insert_default();
            plan.results.clone_from(&self.results);
            plan.results_omitted = 0;
        }
        let holds_claim = self.holds_claim();
        let in_solution = self.record_in_solution(&new, &ending.message, now);
        if let Some(started) = started {
            let (in_artifact, ()) = futures::join!(self.record_in_artifact(&new, started, end, ending), in_solution);
            if let Some(why) = refused(in_artifact)? {
                tracing::error!(request = %self.request.name_any(), host = %self.host(), why, "the record of a deployment was refused");
                if good {
                    // Nothing succeeds without a record of it, and no claim stays for the lack of one.
                    let message = format!(
                        "deployed and healthy, but the Artifact's record of it was refused, without which no later stage takes it: {why}. Raise the solution's version"
                    );
                    let ending =
                        Ending { end: End::Failed, at: Progress::Deployment, reason: "RecordRefused".into(), message, restored: false };
                    return Box::pin(self.end(&reduced::report(&ending), &ending, now)).await;
                }
            }
            // The claim goes only when the artifact's record, the proof of it all, is there.
            if holds_claim {
                self.record_or_release(&new, end, ending).await?;
            }
        } else {
            in_solution.await;
        }
        match self.write(&new).await {
            Err(ReconcileError::Refused(_)) => drop(self.write_as_it_is(&reduced::end_alone(&self.status(), &new)).await?),
            outcome => drop(outcome?),
        }
        self.running.forget(&self.uid());
        let type_ = if good { EventType::Normal } else { EventType::Warning };
        self.event(Trigger::OnDeploymentCompleted, type_, &format!("{}: {}", new.phase, ending.message));
        if started.is_none() && holds_claim {
            // A start that was not seen yet may hold it, and of start and end only one can be written on the same state: so that the claim
            // goes after the end here. Where this is not reached, the environment's controller releases it.
            self.record_or_release(&new, end, ending).await?;
        }
        Ok(())
    }

    /// Whether the claim on the target is this request's.
    fn holds_claim(&self) -> bool {
        let solutions = self.related.target.iter().flat_map(|target| &target.status).flat_map(|status| &status.solutions);
        let claim = solutions.into_iter().find(|s| s.name == self.request.spec.solution.name).and_then(|s| s.claim.as_ref());
        claim.is_some_and(|claim| claim.request_uid == self.uid())
    }

    /// Records what became of the target and releases the claim on it; the claim alone where the record is refused.
    async fn record_or_release(&self, run: &RunStatus, end: Timestamp, ending: &Ending) -> Result<(), ReconcileError> {
        let Some(why) = refused(self.record_in_environment(run, end, ending).await)? else { return Ok(()) };
        tracing::error!(request = %self.request.name_any(), host = %self.host(), why, "the record of what runs in an environment was refused");
        let Some(target) = &self.related.target else { return Ok(()) };
        let (uid, host, name) = (self.uid(), self.host(), target.name_any());
        let released = self.cluster.records.environments.update(&host, &name, move |_, status| {
            status.solutions.iter_mut().filter(|s| s.claim.as_ref().is_some_and(|c| c.request_uid == uid)).for_each(|s| s.claim = None);
        });
        // Where this is refused too, the environment's controller releases it once the request has ended.
        refused(gone_is_fine(released.await.map(|_| ()))).map(|_| ())
    }

    /// Adds to a status what failed in this pass and is not there yet, as far as the status takes it.
    pub(super) fn keep_errors(&self, status: &mut RunStatus) {
        let mut left_out = 0;
        for error in self.errors.iter().filter(|error| !status.errors.contains(error)).collect::<Vec<_>>() {
            if status.errors.len() < MAX_ERRORS {
                status.errors.push(error.clone());
            } else {
                left_out += 1;
            }
        }
        // The same are found again by the next pass.
        status.errors_omitted = status.errors_omitted.max(left_out);
    }

    async fn record_in_artifact(&self, run: &RunStatus, started: Timestamp, end: Timestamp, ending: &Ending) -> Result<(), ReconcileError> {
        let good = ending.end == End::Succeeded;
        let (Some(artifact), Some(plan)) = (&run.artifact, &run.plan) else { return Ok(()) };
        let decisions = decisions::of(self.request.status.as_ref(), &run.conditions);
        let target = self.related.target.as_ref();
        let digest = artifact.digest.clone();
        let own = DeploymentRecord {
            request_uid: self.uid(),
            request: self.request.name_any(),
            pipeline: self.request.spec.pipeline.clone(),
            stage: self.request.spec.stage.clone(),
            stage_uid: plan.stage_uid.clone(),
            environment: target.map(|e| e.name_any()).unwrap_or_default(),
            environment_uid: target.and_then(|e| e.uid()).unwrap_or_default(),
            environment_id: plan.environment_id.clone(),
            cluster: target.and_then(|environment| environment.cluster_name()),
            settings_digest: plan.settings_digest.clone(),
            requested_by: self.request.spec.requested_by.as_ref().map(|r| r.username.clone()).unwrap_or_default(),
            approved_by: decisions::in_words(&decisions),
            decisions,
            deployed_by: run.deployed_by.clone().unwrap_or_default(),
            started_at: started,
            ended_at: end,
            outcome: if good { Outcome::Succeeded } else { Outcome::Failed },
            reason: (!good).then(|| ending.reason.clone()),
            message: (!good).then(|| errors::bounded(&ending.message, artifact::MAX_MESSAGE)),
            restored: run.rollback.as_ref().filter(|_| ending.restored).map(|rollback| rollback.version.clone()),
        };
        let recorded = self
            .cluster
            .records
            .artifacts
            .update(&self.host(), &artifact.name, move |artifact, status| {
                // The proof of a deployment belongs to what was deployed, and to nothing else of that name.
                if artifact.spec.digest != digest {
                    return None;
                }
                status.observed_generation = artifact.metadata.generation.unwrap_or(-1);
                if let Some(recorded) = status.deployments.iter().find(|d| d.request_uid == own.request_uid) {
                    return Some(recorded.outcome);
                }
                status.deployments.push(own.clone());
                record::bound(&mut status.deployments);
                status.summary = succeeded_in(&status.deployments);
                Some(own.outcome)
            })
            .await;
        match recorded {
            // Whoever records first decides: the end is decided again, on that record.
            Ok((Some(outcome), _)) if (outcome == Outcome::Succeeded) != good => Err(ReconcileError::Overtaken),
            // Nothing succeeds without a record of it.
            Ok((None, _)) if good => Err(ReconcileError::Overtaken),
            recorded => gone_is_fine(recorded.map(|_| ())),
        }
    }

    async fn record_in_environment(&self, run: &RunStatus, end: Timestamp, ending: &Ending) -> Result<(), ReconcileError> {
        let Some(target) = &self.related.target else { return Ok(()) };
        let uid = self.uid();
        let deployed = ending.end == End::Succeeded && run.start_time.is_some();
        let failed = run.start_time.map(|_| FailedDeployment {
            version: self.request.spec.solution.version.clone(),
            digest: run.artifact.as_ref().map(|a| a.digest.clone()).unwrap_or_default(),
            request: self.request.name_any(),
            at: end,
        });
        let restored = ending.restored;
        let entry = DeployedSolution {
            name: self.request.spec.solution.name.clone(),
            version: Some(self.request.spec.solution.version.clone()),
            digest: run.artifact.as_ref().map(|a| a.digest.clone()),
            settings_digest: run.plan.as_ref().map(|p| p.settings_digest.clone()),
            request: Some(self.request.name_any()),
            requested_by: self.request.spec.requested_by.as_ref().map(|r| r.username.clone()),
            deployed_by: run.deployed_by.clone(),
            deployed_at: Some(end),
            cluster_scoped: Vec::new(),
            failed: None,
            claim: None,
        };
        let way = if restored { Way::Back } else { Way::Forth };
        let left = self.running.get(&uid, way).filter(|_| deployed || restored).and_then(|applied| applied.left_in_cluster());
        let written = self
            .cluster
            .records
            .environments
            .update(&self.host(), &target.name_any(), move |_, status| {
                let Some(existing) = status.solutions.iter_mut().find(|s| s.name == entry.name) else { return };
                if existing.claim.as_ref().is_none_or(|c| c.request_uid != uid) {
                    return;
                }
                // What this process does not know (any more) stays said: the next success finds that there is nothing.
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
                // A claim that led to nothing leaves nothing.
                status.solutions.retain(DeployedSolution::is_anything);
            })
            .await;
        gone_is_fine(written.map(|_| ()))
    }
}

/// What the API server said where it will never take a record.
fn refused(written: Result<(), ReconcileError>) -> Result<Option<String>, ReconcileError> {
    match written {
        Err(ReconcileError::Record(RecordError::Write { source, .. })) if status::is_refused(&source) => Ok(Some(errors::message(&source))),
        outcome => outcome.map(|()| None),
    }
}

/// A record whose object was deleted needs no entry.
fn gone_is_fine(written: Result<(), RecordError>) -> Result<(), ReconcileError> {
    match written {
        Err(RecordError::NotFound(_)) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The stages that an artifact succeeded in, each once, in the order of their first success.
fn succeeded_in(records: &[DeploymentRecord]) -> String {
    let mut stages: Vec<&str> = Vec::new();
    for record in records.iter().filter(|r| r.outcome == Outcome::Succeeded) {
        if !stages.contains(&record.stage.as_str()) {
            stages.push(&record.stage);
        }
    }
    bounds::text(&stages.join(", "), artifact::MAX_SUMMARY)
}
