//! One pass over one request: decide, carry out, decide again, until there is nothing to do but wait.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};

use super::Running;
use super::acting;
use super::entitled::entitled;
use super::observe::{self, RelatedObjects};
use super::origin::Origin;
use super::planning::Prepared;
use super::reduced;
use super::target::Live;
use crate::api::DeploymentRequest;
use crate::api::condition::{self, ConditionStatus};
use crate::api::pipeline::Trigger;
use crate::api::plan::PlanResult;
use crate::api::request_status::{ArtifactReference, ObjectError, RunStatus, condition_types};
use crate::artifact::bundle::Bundle;
use crate::deploy::health::Healthy;
use crate::identity::answers::{JUST_NOW, RECENT};
use crate::policy::request::observed::{Observed, StepOutcomes};
use crate::policy::request::report::{self, Report};
use crate::policy::request::step::{GateKind, Step, Waiting};
use crate::policy::request::{decide, gates};
use crate::runtime::controller::{Next, ReconcileError};
use crate::runtime::remotes::Remote;
use crate::runtime::{Cluster, status};

/// More steps than any request can need in one pass; beyond it something turns in circles.
const MOST_STEPS: usize = 48;
/// The soonest that a pass is repeated by the clock.
const SOONEST: Duration = Duration::from_millis(50);

/// A pass and what it has found so far.
pub(super) struct Reconciliation {
    pub(super) cluster: Arc<Cluster>,
    pub(super) running: Running,
    pub(super) request: Arc<DeploymentRequest>,
    pub(super) related: RelatedObjects,
    pub(super) outcomes: StepOutcomes,
    pub(super) bundle: Option<(String, Arc<Bundle>)>,
    /// The cluster of the target, where that is another and was asked in this pass.
    pub(super) remote: Option<Arc<Remote>>,
    pub(super) live: Option<Live>,
    pub(super) prepared: Option<Prepared>,
    /// What was found to be healthy in this pass.
    pub(super) healthy: Option<Healthy>,
    pub(super) errors: Vec<ObjectError>,
    pub(super) results: Vec<PlanResult>,
}

impl Reconciliation {
    pub(super) async fn new(cluster: Arc<Cluster>, running: Running, request: Arc<DeploymentRequest>) -> Result<Self, ReconcileError> {
        let related = observe::cached(&cluster, &request).await?;
        let outcomes = StepOutcomes::default();
        Ok(Self {
            cluster,
            running,
            request,
            related,
            outcomes,
            bundle: None,
            remote: None,
            live: None,
            prepared: None,
            healthy: None,
            errors: Vec::new(),
            results: Vec::new(),
        })
    }

    pub(super) async fn run(mut self) -> Result<Next, ReconcileError> {
        // It holds the states of all steps, of which most passes take few.
        match Box::pin(self.steps()).await {
            // Nothing would ever be written of it any more, and its claim never released.
            Err(error @ ReconcileError::Refused(_)) => self.give_up("StatusRefused", &error.to_string()).await,
            outcome => outcome,
        }
    }

    async fn steps(&mut self) -> Result<Next, ReconcileError> {
        for _ in 0..MOST_STEPS {
            if !self.cluster.leadership.holds() {
                return Err(ReconcileError::LeaseRanOut);
            }
            let observed = self.observed()?;
            let now = Timestamp::now();
            let step = decide(&observed, now);
            tracing::debug!(request = %self.request.name_any(), ?step, "decided");
            match step {
                Step::Confirm => self.related = observe::live(&self.cluster, &self.request).await?,
                Step::Resolve => self.outcomes.resolve = self.resolve().await?,
                Step::Export if self.lacks_solution() => self.read_solution().await?,
                Step::Export if self.outcomes.rights.is_some() => self.outcomes.export = Some(self.export(&observed).await?),
                Step::Export => {
                    // What may be read of it the export asks itself.
                    let asking = entitled(self.cluster.access.clone(), &observed, Origin::default(), RECENT);
                    let (export, rights) = tokio::try_join!(self.export(&observed), asking)?;
                    self.outcomes.export = Some(export);
                    self.outcomes.rights = Some(rights);
                }
                Step::Plan if gates::will_ask_approver(&observed) => {
                    // What the next step would ask for does not depend on the plan.
                    let asking = acting::requester_could_approve(self.cluster.access.clone(), &observed);
                    let (plan, could_approve) = tokio::try_join!(self.plan(&observed), asking)?;
                    self.outcomes.plan = Some(plan);
                    self.outcomes.requester_could_approve = Some(could_approve);
                }
                Step::Plan if gates::are_passed(&observed) => {
                    // The claim is next: what it reads live is read meanwhile.
                    let reading = Live::read(self.cluster.clone(), self.request.clone());
                    let deployed = self.origin(&observed).await?;
                    let asking = entitled(self.cluster.access.clone(), &observed, deployed, JUST_NOW);
                    let (plan, live, rights) = tokio::try_join!(self.plan(&observed), reading, asking)?;
                    self.outcomes.plan = Some(plan);
                    self.live = Some(live);
                    self.outcomes.rights = Some(rights);
                }
                Step::Plan => self.outcomes.plan = Some(self.plan(&observed).await?),
                Step::AskRights => {
                    let origin = self.origin(&observed).await?;
                    // Those who are asked to decide are asked beforehand; what leads to a write is asked for now.
                    let age = if observed.request.artifact_digest.is_none() { RECENT } else { JUST_NOW };
                    self.outcomes.rights = Some(entitled(self.cluster.access.clone(), &observed, origin, age).await?);
                }
                Step::AskApprover => {
                    let asking = acting::requester_could_approve(self.cluster.access.clone(), &observed);
                    self.outcomes.requester_could_approve = Some(asking.await?);
                }
                Step::OpenGate(kind) => self.open_gate(&observed, kind, now).await?,
                Step::Claim => self.claim(&observed, now).await?,
                Step::Apply => self.outcomes.apply = Some(self.apply(&observed).await?),
                Step::BeginRollback(failure) => self.begin_rollback(&observed, failure, now).await?,
                Step::Rollback => self.outcomes.restore = Some(self.restore(&observed).await?),
                Step::Check => self.outcomes.health = Some(self.check(&observed).await?),
                Step::Prune => self.outcomes.prune = Some(self.prune(&observed).await?),
                Step::Share => self.outcomes.share = Some(self.share(&observed).await?),
                Step::Finish(ending) => {
                    self.finish(&observed, &ending, now).await?;
                    return Ok(Next::Done);
                }
                Step::Wait(wait) => return self.wait(&observed, &wait, now).await,
                Step::Done => return Ok(Next::Done),
            }
        }
        Err(ReconcileError::Other(format!("the request {} did not settle in {MOST_STEPS} steps", self.request.name_any())))
    }

    pub(super) fn observed(&self) -> Result<Observed, ReconcileError> {
        observe::views(&self.request, &self.related, &self.outcomes, self.cluster.options.accept_timeout)
    }

    pub(super) fn host(&self) -> String {
        self.request.namespace().unwrap_or_default()
    }

    pub(super) fn uid(&self) -> String {
        self.request.uid().unwrap_or_default()
    }

    /// The operator's part of the status, as it is.
    pub(super) fn status(&self) -> RunStatus {
        self.request.status.as_ref().map(|s| s.run.clone()).unwrap_or_default()
    }

    /// Writes the operator's part of the status, where it changed. What the API server never takes is written without what it only lists.
    pub(super) async fn write(&mut self, new: &RunStatus) -> Result<bool, ReconcileError> {
        let refused = |error: &ReconcileError| matches!(error, ReconcileError::Api(error) if status::is_refused(error));
        match self.write_as_it_is(new).await {
            Err(error) if refused(&error) => {
                tracing::warn!(request = %self.request.name_any(), host = %self.host(), %error, "a status was refused, and is written without its lists");
            }
            outcome => return outcome,
        }
        match self.write_as_it_is(&reduced::without_lists(new)).await {
            Err(error) if refused(&error) => Err(ReconcileError::Refused(error.to_string())),
            outcome => outcome,
        }
    }

    /// The same where nothing is left out.
    pub(super) async fn write_as_it_is(&mut self, new: &RunStatus) -> Result<bool, ReconcileError> {
        let old = self.request.status.as_ref().map(|s| &s.run);
        let told = story(old, new);
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

    /// Sets what `report` tells in a status.
    pub(super) fn tell(&self, status: &mut RunStatus, report: &Report, now: Timestamp) {
        let generation = self.request.metadata.generation;
        status.observed_generation = generation.unwrap_or(-1);
        report.phase.clone_into(&mut status.phase);
        for observation in &report.conditions {
            condition::set(&mut status.conditions, observation, generation, now);
        }
        let summary = condition::find(&status.conditions, condition_types::SUCCEEDED);
        status.waiting_for = summary.map(|c| condition::in_a_line(&c.message)).unwrap_or_default();
        status.approved_by = self.approved_by(status);
    }

    async fn open_gate(&mut self, observed: &Observed, kind: GateKind, now: Timestamp) -> Result<(), ReconcileError> {
        let Some(stage) = observed.stage.present() else { return Ok(()) };
        let mut new = self.status();
        self.pin_plan(&mut new);
        let gate = gates::open(observed, stage, kind, new.plan.as_ref().map(|p| p.hash.clone()), now);
        let at = gates::progress(kind);
        let slot = match kind {
            GateKind::PreExportStep => &mut new.gates.pre_export_step,
            GateKind::Approval => &mut new.gates.approval,
            GateKind::PreDeploymentStep => &mut new.gates.pre_deployment_step,
        };
        *slot = Some(gate);
        // What it now waits for is what the decision says of a request whose gate is open.
        let mut opened = observed.clone();
        opened.request.gates = new.gates.clone();
        opened.request.plan_hash = new.plan.as_ref().map(|p| p.hash.clone());
        opened.request.artifact_digest = new.artifact.as_ref().map(|a| a.digest.clone());
        let wait = match decide(&opened, now) {
            Step::Wait(wait) if wait.at == at => wait,
            _ => Waiting { at, reason: "GateOpened".into(), message: "the gate is open".into(), until: None, poll: None },
        };
        self.tell(&mut new, &report::waiting(observed, &wait), now);
        let window = self.record_in_solution(&new, &wait.message, now);
        let (opened, ()) = futures::join!(self.write(&new), window);
        opened?;
        match kind {
            GateKind::Approval => self.event(Trigger::OnApprovalStarted, EventType::Normal, &wait.message),
            GateKind::PreDeploymentStep => self.event(Trigger::OnPreDeploymentStarted, EventType::Normal, &wait.message),
            // It has no trigger of its own: OnDeploymentRequested starts what decides it.
            GateKind::PreExportStep => {}
        }
        Ok(())
    }

    /// Puts artifact and plan of this pass into a status that has none yet.
    pub(super) fn pin_plan(&self, status: &mut RunStatus) {
        let Some(prepared) = &self.prepared else { return };
        if status.artifact.is_none() {
            status.artifact =
                self.related.artifact.as_ref().map(|a| ArtifactReference { name: a.name_any(), digest: a.spec.digest.clone() });
        }
        if status.plan.is_none() {
            status.plan = Some(prepared.plan.clone());
        }
    }

    async fn wait(&mut self, observed: &Observed, wait: &Waiting, now: Timestamp) -> Result<Next, ReconcileError> {
        let mut new = self.status();
        let before = new.phase.clone();
        self.tell(&mut new, &report::waiting(observed, wait), now);
        let said = self.write(&new).await? && (before != new.phase || wait.reason != "WaitingForHealth");
        if said || self.window_lags(&new.phase) {
            self.record_in_solution(&new, &wait.message, now).await;
        }
        let until = wait.until.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        Ok(match until.into_iter().chain(wait.poll).min() {
            Some(delay) => Next::After(delay.max(SOONEST)),
            None => Next::Done,
        })
    }

    /// Whether the developer's window does not say that the request deploys: the start is not written there.
    fn window_lags(&self, phase: &str) -> bool {
        let window = self.related.solution.as_ref().and_then(|solution| solution.status.as_ref());
        let entry = window.and_then(|window| window.deployments.iter().find(|d| d.request_uid == self.uid()));
        self.status().start_time.is_some() && entry.is_some_and(|entry| entry.phase != phase)
    }

    pub(super) fn event(&self, trigger: Trigger, type_: EventType, message: &str) {
        let spec = &self.request.spec;
        let requester = spec.requested_by.as_ref().map(|r| r.username.as_str()).unwrap_or_default();
        let note = format!("{} {} to stage {} for {requester}: {message}", spec.solution.name, spec.solution.version, spec.stage);
        self.cluster.story.tell(self.request.object_ref(&()), type_, &format!("{trigger:?}"), &note);
    }
}

/// What a write of the status tells that no step tells by itself: the request was noticed, and gates were decided. Once each, and in
/// this order, whichever step the write belongs to. It is noticed with its first phase: what is written down before that, as the digest
/// of a tag, is nothing that anybody could decide on.
fn story(old: Option<&RunStatus>, new: &RunStatus) -> Vec<(Trigger, EventType, String)> {
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
            found.filter(|c| c.status == ConditionStatus::True || c.reason == "Rejected").cloned()
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
        let triggers = |old: Option<&RunStatus>, new: &RunStatus| story(old, new).into_iter().map(|(t, _, _)| t).collect::<Vec<_>>();
        let pinned = RunStatus { source: Some("registry.test/orders@sha256:0".into()), ..RunStatus::default() };
        let exporting = RunStatus { phase: "Exporting".into(), ..pinned.clone() };
        assert_eq!(triggers(None, &pinned), []);
        assert_eq!(triggers(Some(&pinned), &exporting), [Trigger::OnDeploymentRequested]);
        assert_eq!(triggers(Some(&exporting), &exporting), []);
        assert_eq!(triggers(None, &exporting), [Trigger::OnDeploymentRequested]);
    }
}
