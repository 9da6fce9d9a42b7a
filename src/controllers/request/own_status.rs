//! The one place that writes the status of a request, and sends Events about each write.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};

use super::reduced;
use crate::api::DeploymentRequest;
use crate::api::condition::{self, ConditionStatus};
use crate::api::pipeline::Trigger;
use crate::api::reason::Reason;
use crate::api::request_status::{RunStatus, Wait, condition_types};
use crate::policy::request::decisions;
use crate::policy::request::report::Report;
use crate::runtime::controller::ReconcileError;
use crate::runtime::{Cluster, status};

/// A request as it was last read or written.
pub(super) struct OwnStatus {
    cluster: Arc<Cluster>,
    request: Arc<DeploymentRequest>,
}

impl OwnStatus {
    pub(super) fn new(cluster: Arc<Cluster>, request: Arc<DeploymentRequest>) -> Self {
        Self { cluster, request }
    }

    /// The request.
    pub(super) fn request(&self) -> &Arc<DeploymentRequest> {
        &self.request
    }

    /// The operator's part of the current status.
    pub(super) fn run(&self) -> RunStatus {
        run_of(&self.request)
    }

    /// Writes the operator's part of the status if it changed. If the API server will never accept it, it is written without its lists.
    pub(super) async fn write(&mut self, new: &RunStatus) -> Result<bool, ReconcileError> {
        let refused = |error: &ReconcileError| matches!(error, ReconcileError::Api(error) if status::is_refused(error));
        match self.write_as_it_is(new).await {
            Err(error) if refused(&error) => {
                let host = self.request.namespace().unwrap_or_default();
                tracing::warn!(request = %self.request.name_any(), host, %error, "a status was refused, and is written without its lists");
            }
            outcome => return outcome,
        }
        match self.write_as_it_is(&reduced::without_lists(new)).await {
            Err(error) if refused(&error) => Err(ReconcileError::Refused(error.to_string())),
            outcome => outcome,
        }
    }

    /// The same without leaving anything out.
    pub(super) async fn write_as_it_is(&mut self, new: &RunStatus) -> Result<bool, ReconcileError> {
        let old = self.request.status.as_ref().map(|s| &s.run);
        let told = events_of(old, new);
        let Some(written) = status::write(&self.cluster.clients.operator(), self.request.as_ref(), old, new).await? else {
            return Ok(false);
        };
        self.cluster.written.note(&written);
        self.request = Arc::new(written);
        for (trigger, type_, message) in told {
            self.event(trigger, type_, &message);
        }
        Ok(true)
    }

    /// Puts what `report` says into a status.
    pub(super) fn tell(&self, status: &mut RunStatus, report: &Report, now: Timestamp) {
        let generation = self.request.metadata.generation;
        status.observed_generation = generation.unwrap_or(-1);
        status.phase = report.phase.into();
        for observation in &report.conditions {
            condition::set(&mut status.conditions, observation, generation, now);
        }
        let summary = condition::find(&status.conditions, condition_types::SUCCEEDED);
        status.waiting_for = summary.map(|c| condition::in_a_line(&c.message)).unwrap_or_default();
        status.approved_by = approved_by(&self.request, status);
        let before = status.waiting.take();
        status.waiting = report.waiting.map(|(reason, until)| Wait {
            since: before.filter(|wait| wait.reason == reason).map_or_else(|| condition::whole_seconds(now), |wait| wait.since),
            reason: reason.into(),
            until,
        });
    }

    /// Sends an Event about the request that starts triggers.
    pub(super) fn event(&self, trigger: Trigger, type_: EventType, message: &str) {
        let spec = &self.request.spec;
        if spec.plan_only {
            if trigger == Trigger::OnDeploymentCompleted {
                let conditions = self.request.status.as_ref().map(|s| s.run.conditions.as_slice()).unwrap_or_default();
                let reason = condition::find(conditions, condition_types::SUCCEEDED).map(|c| c.reason.clone()).unwrap_or_default();
                self.cluster.events.tell(self.request.object_ref(&()), type_, &reason, message);
            }
            return;
        }
        let requester = spec.requested_by.as_ref().map(|r| r.username.as_str()).unwrap_or_default();
        let note = format!("{} {} to stage {} for {requester}: {message}", spec.solution.name, spec.solution.version, spec.stage);
        self.cluster.events.tell(self.request.object_ref(&()), type_, &format!("{trigger:?}"), &note);
    }

    /// Sends an Event about the request that starts no trigger.
    pub(super) fn warn(&self, reason: Reason, message: &str) {
        self.cluster.events.tell(self.request.object_ref(&()), EventType::Warning, reason.as_str(), message);
    }
}

/// The operator's part of a request's current status.
pub(super) fn run_of(request: &DeploymentRequest) -> RunStatus {
    request.status.as_ref().map(|s| s.run.clone()).unwrap_or_default()
}

/// Everybody who decided, including what the operator is about to write.
pub(super) fn approved_by(request: &DeploymentRequest, run: &RunStatus) -> Option<String> {
    decisions::in_words(&decisions::of(request.status.as_ref(), &run.conditions))
}

/// The Events that belong to a write of the status and to no step: the request was noticed, and gates were decided. Each is sent once and
/// in this order, whichever step writes the status. The request is noticed when it gets its first phase. What is written before that, for
/// example the digest of a tag, gives nobody anything to decide on.
fn events_of(old: Option<&RunStatus>, new: &RunStatus) -> Vec<(Trigger, EventType, String)> {
    let mut told = Vec::new();
    if old.is_none_or(|s| s.phase.is_empty()) && !new.phase.is_empty() {
        let summary = condition::find(&new.conditions, condition_types::SUCCEEDED);
        told.push((Trigger::OnDeploymentRequested, EventType::Normal, summary.map(|c| c.message.clone()).unwrap_or_default()));
    }
    let gates = [
        (condition_types::APPROVED, Trigger::OnApprovalCompleted),
        (condition_types::PRE_DEPLOYMENT_STEP_COMPLETED, Trigger::OnPreDeploymentCompleted),
    ];
    for (type_, trigger) in gates {
        let decided = |status: &RunStatus| {
            let found = condition::find(&status.conditions, type_);
            found.filter(|c| c.status == ConditionStatus::True || c.reason == Reason::Rejected).cloned()
        };
        if let (Some(decision), None) = (decided(new), old.and_then(decided)) {
            let type_ = if decision.status == ConditionStatus::True { EventType::Normal } else { EventType::Warning };
            told.push((trigger, type_, decision.message));
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_noticed_once_and_with_its_first_phase() {
        let triggers = |old: Option<&RunStatus>, new: &RunStatus| events_of(old, new).into_iter().map(|(t, _, _)| t).collect::<Vec<_>>();
        let pinned = RunStatus { source: Some("registry.test/orders@sha256:0".into()), ..RunStatus::default() };
        let exporting = RunStatus { phase: "Exporting".into(), ..pinned.clone() };
        assert_eq!(triggers(None, &pinned), []);
        assert_eq!(triggers(Some(&pinned), &exporting), [Trigger::OnDeploymentRequested]);
        assert_eq!(triggers(Some(&exporting), &exporting), []);
        assert_eq!(triggers(None, &exporting), [Trigger::OnDeploymentRequested]);
    }
}
