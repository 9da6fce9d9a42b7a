//! The end of a request and the records it leaves: artifact, environment, solution, and its own end last.

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::events::EventType;

use super::Way;
use super::pass::Pass;
use crate::api::artifact::{DeploymentRecord, Outcome};
use crate::api::condition::whole_seconds;
use crate::api::environment::{DeployedSolution, FailedDeployment};
use crate::api::pipeline::Trigger;
use crate::api::request_status::RunStatus;
use crate::api::solution::{self, SolutionDeployment};
use crate::delivery::errors;
use crate::driver::controller::ReconcileError;
use crate::driver::records::RecordError;
use crate::policy::request::observed::Observed;
use crate::policy::request::report;
use crate::policy::request::step::{End, Ending};
use crate::text;

/// The latest records that an artifact keeps beside the latest success of each stage and environment.
const LATEST_RECORDS: usize = 50;
/// The most characters of an artifact's summary.
const MAX_SUMMARY: usize = 2048;
/// The most findings and errors that a status lists.
const MOST_ENTRIES: usize = 64;
/// The most characters of a message in an artifact's record.
const MAX_RECORDED: usize = 1024;
/// The most characters of a message in a Solution's status.
const MAX_MESSAGE: usize = 4096;

impl Pass {
    pub(super) async fn finish(&mut self, observed: &Observed, ending: &Ending, now: Timestamp) -> Result<(), ReconcileError> {
        let mut new = self.status();
        let end = whole_seconds(now);
        let started = new.start_time;
        let good = ending.end == End::Succeeded;
        if started.is_some() && !self.errors.is_empty() {
            // What failed is known to this process alone: it is written before the records say that it is over.
            self.keep_errors(&mut new);
            self.write(&new).await?;
            new = self.status();
        }
        self.tell(&mut new, &report::ended(observed, ending), now);
        new.end_time = Some(end);
        self.keep_errors(&mut new);
        if !self.results.is_empty() {
            new.plan.get_or_insert_default().results = self.results.iter().take(MOST_ENTRIES).cloned().collect();
        }
        let holds_claim = observed.target.present().and_then(|t| t.claim.as_ref()).is_some_and(|c| c.request_uid == self.uid());
        let in_solution = self.record_in_solution(&new.phase, &ending.message, now);
        if let Some(started) = started {
            let (in_artifact, in_solution) = futures::join!(self.record_in_artifact(&new, started, end, ending), in_solution);
            in_artifact?;
            in_solution?;
            // The claim goes only when the artifact's record, the proof of it all, is there.
            if holds_claim {
                self.record_in_environment(&new, end, ending).await?;
            }
        } else {
            in_solution.await?;
        }
        self.write(&new).await?;
        self.running.forget(&self.uid());
        let type_ = if good { EventType::Normal } else { EventType::Warning };
        self.event(Trigger::OnDeploymentCompleted, type_, &format!("{}: {}", new.phase, ending.message));
        if started.is_none() && holds_claim {
            // A start that was not seen yet may hold it, and of start and end only one can be written on the same state: so that the claim
            // goes after the end here. Where this is not reached, the environment's controller releases it.
            self.record_in_environment(&new, end, ending).await?;
        }
        Ok(())
    }

    /// Adds to a status what failed in this pass and is not there yet, as far as the status takes it.
    pub(super) fn keep_errors(&self, status: &mut RunStatus) {
        for error in &self.errors {
            if status.errors.len() < MOST_ENTRIES && !status.errors.contains(error) {
                status.errors.push(error.clone());
            }
        }
    }

    async fn record_in_artifact(&self, run: &RunStatus, started: Timestamp, end: Timestamp, ending: &Ending) -> Result<(), ReconcileError> {
        let good = ending.end == End::Succeeded;
        let (Some(artifact), Some(plan)) = (&run.artifact, &run.plan) else { return Ok(()) };
        let approved_by = self.request.status.as_ref().and_then(|s| s.approval.as_ref()).and_then(|a| a.by.clone());
        let target = self.around.target.as_ref();
        let digest = artifact.digest.clone();
        let record = DeploymentRecord {
            request_uid: self.uid(),
            request: self.request.name_any(),
            pipeline: self.request.spec.pipeline.clone(),
            stage: self.request.spec.stage.clone(),
            stage_uid: plan.stage_uid.clone(),
            environment: target.map(|e| e.name_any()).unwrap_or_default(),
            environment_uid: target.and_then(|e| e.uid()).unwrap_or_default(),
            environment_id: plan.environment_id.clone(),
            settings_digest: plan.settings_digest.clone(),
            requested_by: self.request.spec.requested_by.as_ref().map(|r| r.username.clone()).unwrap_or_default(),
            approved_by,
            deployed_by: run.deployed_by.clone().unwrap_or_default(),
            started_at: started,
            ended_at: end,
            outcome: if good { Outcome::Succeeded } else { Outcome::Failed },
            reason: (!good).then(|| ending.reason.clone()),
            message: (!good).then(|| errors::bounded(&ending.message, MAX_RECORDED)),
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
                if let Some(recorded) = status.deployments.iter().find(|d| d.request_uid == record.request_uid) {
                    return Some(recorded.outcome);
                }
                status.deployments.push(record.clone());
                bound(&mut status.deployments);
                status.summary = succeeded_in(&status.deployments);
                Some(record.outcome)
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
        let Some(target) = &self.around.target else { return Ok(()) };
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
        let left = self.running.get(&uid, way).filter(|_| deployed || restored).map(|applied| applied.left_in_cluster());
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

    /// The developer's window: the newest request of this stage. It borrows nothing, so that it can be written beside the request's
    /// own status; to be awaited to its end, as others may have put their changes into the same write.
    pub(super) fn record_in_solution(
        &self,
        phase: &str,
        message: &str,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), ReconcileError>> + Send + use<> {
        let window = self.around.source.as_ref().zip(self.around.solution.as_ref());
        let window = window.map(|(source, solution)| (source.spec.namespace.clone(), solution.name_any()));
        let (entry, created) = self.solution_entry(phase, message, now);
        let cluster = self.cluster.clone();
        async move {
            let Some((namespace, name)) = window else { return Ok(()) };
            let written = cluster.records.solutions.update(&namespace, &name, move |solution, status| {
                status.observed_generation = solution.metadata.generation.unwrap_or(-1);
                match status.deployments.iter_mut().find(|d| d.host == entry.host && d.stage == entry.stage) {
                    // An older request that ends late does not hide a newer one.
                    Some(existing) if existing.request_uid != entry.request_uid && existing.at > created => {}
                    Some(existing) => *existing = later(existing, entry.clone()),
                    None => status.deployments.push(entry.clone()),
                }
                status.summary = solution::summary(&status.deployments);
            });
            gone_is_fine(written.await.map(|_| ()))
        }
    }

    /// What the window shows of this request, and when the request was created.
    fn solution_entry(&self, phase: &str, message: &str, now: Timestamp) -> (SolutionDeployment, Timestamp) {
        let spec = &self.request.spec;
        let created = self.request.metadata.creation_timestamp.as_ref().map_or(now, |t| t.0);
        let entry = SolutionDeployment {
            host: self.host(),
            stage: spec.stage.clone(),
            pipeline: spec.pipeline.clone(),
            version: spec.solution.version.clone(),
            phase: phase.to_owned(),
            request: self.request.name_any(),
            request_uid: self.uid(),
            requester: spec.requested_by.as_ref().map(|r| r.username.clone()).unwrap_or_default(),
            message: Some(shortened(message, MAX_MESSAGE)),
            approval_comments: self
                .request
                .status
                .as_ref()
                .and_then(|s| s.approval.as_ref()?.comments.as_ref())
                .map(|said| shortened(said, MAX_MESSAGE)),
            at: whole_seconds(now),
        };
        (entry, created)
    }
}

/// The entry to be shown after `existing`. Comments are said once: a process that decided on an older state of the same request
/// does not take them back.
fn later(existing: &SolutionDeployment, new: SolutionDeployment) -> SolutionDeployment {
    let said = existing.approval_comments.clone().filter(|_| existing.request_uid == new.request_uid);
    SolutionDeployment { approval_comments: new.approval_comments.or(said), ..new }
}

/// A record whose object was deleted needs no entry.
fn gone_is_fine(written: Result<(), RecordError>) -> Result<(), ReconcileError> {
    match written {
        Err(RecordError::NotFound(_)) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn shortened(text: &str, most: usize) -> String {
    text::plain(text).chars().take(most).collect()
}

/// The stages that an artifact succeeded in, each once, in the order of their first success.
fn succeeded_in(records: &[DeploymentRecord]) -> String {
    let mut stages: Vec<&str> = Vec::new();
    for record in records.iter().filter(|r| r.outcome == Outcome::Succeeded) {
        if !stages.contains(&record.stage.as_str()) {
            stages.push(&record.stage);
        }
    }
    shortened(&stages.join(", "), MAX_SUMMARY)
}

/// Keeps the latest success of each stage and environment, and the last of all.
fn bound(records: &mut Vec<DeploymentRecord>) {
    let total = records.len();
    let keep: Vec<bool> = records
        .iter()
        .enumerate()
        .map(|(index, record)| {
            let latest_success = record.outcome == Outcome::Succeeded
                && !records[index + 1..].iter().any(|later| {
                    later.outcome == Outcome::Succeeded
                        && later.stage_uid == record.stage_uid
                        && later.environment_uid == record.environment_uid
                });
            latest_success || index + LATEST_RECORDS >= total
        })
        .collect();
    let mut kept = keep.into_iter();
    records.retain(|_| kept.next().unwrap_or(true));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: usize, stage: &str, outcome: Outcome) -> DeploymentRecord {
        DeploymentRecord {
            request_uid: format!("r{number}"),
            request: format!("r{number}"),
            pipeline: "p".into(),
            stage: stage.into(),
            stage_uid: stage.into(),
            environment: "e".into(),
            environment_uid: "e".into(),
            environment_id: "i".into(),
            settings_digest: String::new(),
            requested_by: "dana".into(),
            approved_by: None,
            deployed_by: "bot".into(),
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
            outcome,
            reason: None,
            message: None,
            restored: None,
        }
    }

    #[test]
    fn the_latest_success_of_each_stage_outlives_the_last_fifty() {
        let mut records =
            vec![record(0, "qa", Outcome::Succeeded), record(1, "prod", Outcome::Succeeded), record(2, "qa", Outcome::Succeeded)];
        for number in 3..103 {
            records.push(record(number, "staging", Outcome::Failed));
            bound(&mut records);
        }
        assert_eq!(records.len(), LATEST_RECORDS + 2);
        assert_eq!(records[0].request, "r1");
        assert_eq!(records[1].request, "r2");
    }
}
