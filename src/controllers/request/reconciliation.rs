//! One reconciliation of one request: decide, take the step, fold in what it found, and decide again, until the request must wait.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::events::EventType;

use super::acting;
use super::claim::{self, ClaimFound, Live};
use super::entitled::entitled;
use super::export::{self, ExportFound};
use super::makers_view::record_in_solution;
use super::observe::{self, RelatedObjects};
use super::origin::{self, Origin};
use super::outcome::{self, Findings};
use super::own_status::OwnStatus;
use super::planning::{self, PlanFound, Prepared};
use super::registry::{self, Resolved};
use super::rollback;
use super::scope::{Bundles, Scope};
use super::sharing::{self, ShareFound};
use super::target::{self, CheckFound, WriteFound};
use super::{Running, reduced};
use crate::api::DeploymentRequest;
use crate::api::condition::whole_seconds;
use crate::api::environment::RemoteCluster;
use crate::api::pipeline::Trigger;
use crate::api::reason::Reason;
use crate::api::request_status::{ArtifactReference, RunStatus};
use crate::deploy::health::Healthy;
use crate::identity::answers::{JUST_NOW, RECENT};
use crate::policy::request::observed::{ClaimOutcome, Observed, RightsOutcome, StepOutcomes};
use crate::policy::request::report::{self, Report};
use crate::policy::request::step::{End, Ending, Failure, GateKind, Progress, Step, Waiting};
use crate::policy::request::{decide, gates};
use crate::runtime::Cluster;
use crate::runtime::controller::{Next, ReconcileError};

/// More steps than any request needs in one reconciliation. With more, something is repeated endlessly.
const MOST_STEPS: usize = 48;
/// The shortest time after which the clock starts another reconciliation.
const SOONEST: Duration = Duration::from_millis(50);

/// What a step found.
enum Found {
    /// The related objects as they are.
    Related(RelatedObjects),
    Export(ExportFound),
    Plan(PlanFound),
    /// The stage, read at the same time as the plan was made.
    Live(Live),
    Rights(RightsOutcome),
    RequesterCouldApprove(bool),
    Claim(ClaimFound),
    Apply(WriteFound),
    Restore(WriteFound),
    Check(CheckFound),
    /// The result, and the objects that were deleted and still exist.
    Prune(WriteFound, Vec<String>),
    Share(ShareFound),
}

/// A reconciliation and what its steps have found so far. Other files do not see its fields: a step gets what it needs, and returns what it
/// found.
pub(super) struct Reconciliation {
    cluster: Arc<Cluster>,
    running: Running,
    own: OwnStatus,
    related: RelatedObjects,
    bundles: Bundles,
    outcomes: StepOutcomes,
    live: Option<Live>,
    prepared: Option<Box<Prepared>>,
    healthy: Option<Healthy>,
    findings: Findings,
}

impl Reconciliation {
    pub(super) async fn new(cluster: Arc<Cluster>, running: Running, request: Arc<DeploymentRequest>) -> Result<Self, ReconcileError> {
        let related = observe::cached(&cluster, &request).await?;
        Ok(Self {
            own: OwnStatus::new(cluster.clone(), request),
            cluster,
            running,
            related,
            bundles: Bundles::default(),
            outcomes: StepOutcomes::default(),
            live: None,
            prepared: None,
            healthy: None,
            findings: Findings::default(),
        })
    }

    /// The cluster of the target, if it is a remote cluster.
    pub(super) fn remote(&self) -> Option<&RemoteCluster> {
        self.related.target.as_ref().and_then(|target| target.spec.cluster.as_ref())
    }

    pub(super) async fn run(mut self) -> Result<Next, ReconcileError> {
        // The future holds the states of all steps, but most reconciliations take few of them. So it is boxed.
        match Box::pin(self.steps()).await {
            // Otherwise nothing could ever be written to the request, and its claim would never be released.
            Err(error @ ReconcileError::Refused(_)) => self.give_up(Reason::StatusRefused, &error.to_string()).await,
            outcome => outcome,
        }
    }

    /// Ends a request that can't be decided on, whatever the cause is, after its time to recover by itself is over.
    pub(super) async fn give_up(&mut self, reason: Reason, why: &str) -> Result<Next, ReconcileError> {
        let (now, run) = (Timestamp::now(), self.own.run());
        if let Some(left) = reduced::time_left(&run, self.related.stage.as_deref(), reason, now) {
            return Ok(Next::After(left));
        }
        let ending = reduced::given_up(&run, reason, why);
        self.end(&reduced::report(&ending), &ending, now).await?;
        Ok(Next::Done)
    }

    async fn steps(&mut self) -> Result<Next, ReconcileError> {
        for _ in 0..MOST_STEPS {
            if !self.cluster.leadership.holds() {
                return Err(ReconcileError::LeaseRanOut);
            }
            let accept_timeout = self.cluster.options.accept_timeout;
            let observed = observe::views(self.own.request(), &self.related, &self.outcomes, accept_timeout)?;
            let now = Timestamp::now();
            let step = decide(&observed, now);
            tracing::debug!(request = %self.own.request().name_any(), ?step, "decided");
            match step {
                Step::Done => return Ok(Next::Done),
                Step::Wait(wait) => return self.wait(&observed, &wait, now).await,
                Step::Finish(ending) => {
                    self.end(&report::ended(&observed, &ending), &ending, now).await?;
                    return Ok(Next::Done);
                }
                // What these steps find is written to the status before it counts.
                Step::Resolve => self.resolve().await?,
                Step::OpenGate(kind) => self.open_gate(&observed, kind, now).await?,
                Step::Claim => self.claim(&observed, now).await?,
                Step::BeginRollback(failure) => self.begin_rollback(&observed, failure, now).await?,
                step => Box::pin(self.take(&step, &observed)).await?.into_iter().for_each(|found| self.fold(found)),
            }
        }
        Err(ReconcileError::Other(format!("the request {} did not settle in {MOST_STEPS} steps", self.own.request().name_any())))
    }

    /// Takes a step that writes nothing to the request, and returns what it found.
    async fn take(&mut self, step: &Step, observed: &Observed) -> Result<Vec<Found>, ReconcileError> {
        // What can be carried out only once is taken out.
        let prepared = if *step == Step::Apply { self.prepared.take() } else { None };
        let healthy = if *step == Step::Prune { self.healthy.take() } else { None };
        let (scope, running, access) = (self.scope(), &self.running, self.cluster.access.clone());
        Ok(match step {
            Step::Confirm => {
                let mut related = observe::live(scope.cluster, scope.request).await?;
                if scope.request.spec.plan_only && related.artifact.is_none() {
                    // What was exported to be planned is stored nowhere.
                    related.artifact.clone_from(&scope.related.artifact);
                }
                vec![Found::Related(related)]
            }
            Step::Export if export::lacks_solution(scope.related) => {
                vec![Found::Related(export::read_solution(scope.cluster, scope.related.clone()).await?)]
            }
            Step::Export if self.outcomes.rights.is_some() => vec![Found::Export(export::export(scope, observed).await?)],
            Step::Export => {
                // The export itself checks the right to read what it exports.
                let asking = entitled(access, observed, Origin::default(), RECENT);
                let (export, rights) = tokio::try_join!(export::export(scope, observed), asking)?;
                vec![Found::Export(export), Found::Rights(rights)]
            }
            Step::Plan if gates::will_ask_approver(observed) => {
                // What the next step would ask does not depend on the plan.
                let asking = acting::requester_could_approve(access, observed);
                let (plan, could_approve) = tokio::try_join!(planning::plan(scope, observed), asking)?;
                vec![Found::Plan(plan), Found::RequesterCouldApprove(could_approve)]
            }
            Step::Plan if gates::are_passed(observed) => {
                // The claim is next. What it reads live is read at the same time.
                let reading = Live::read(scope.cluster.clone(), scope.request.clone());
                let deployed = origin::origin(scope, observed).await?;
                let asking = entitled(access, observed, deployed, JUST_NOW);
                let (plan, live, rights) = tokio::try_join!(planning::plan(scope, observed), reading, asking)?;
                vec![Found::Plan(plan), Found::Live(live), Found::Rights(rights)]
            }
            Step::Plan => vec![Found::Plan(planning::plan(scope, observed).await?)],
            Step::AskRights => {
                let origin = origin::origin(scope, observed).await?;
                // Before somebody is asked to decide, an older answer is enough. Before a write, the answer must be new.
                let age = if observed.request.artifact_digest.is_none() { RECENT } else { JUST_NOW };
                vec![Found::Rights(entitled(access, observed, origin, age).await?)]
            }
            Step::AskApprover => vec![Found::RequesterCouldApprove(acting::requester_could_approve(access, observed).await?)],
            Step::Apply => vec![Found::Apply(target::apply(scope, running, observed, prepared).await?)],
            Step::Rollback => vec![Found::Restore(rollback::restore(scope, running, observed).await?)],
            Step::Check => vec![Found::Check(target::check(scope, running, observed).await?)],
            Step::Prune => {
                let (found, leaving) = target::prune(scope, observed, healthy).await?;
                vec![Found::Prune(found, leaving)]
            }
            Step::Share => vec![Found::Share(sharing::share(scope, observed).await?)],
            // The remaining steps write the status.
            _ => Vec::new(),
        })
    }

    /// Folds in what a step found. The next decision is based on it.
    fn fold(&mut self, found: Found) {
        let outcomes = &mut self.outcomes;
        match found {
            Found::Related(related) => self.related = related,
            Found::Export(found) => {
                outcomes.export = Some(found.outcome);
                if let Some(related) = found.related {
                    self.related = related;
                }
            }
            Found::Plan(found) => {
                outcomes.plan = Some(found.outcome);
                (self.prepared, self.findings.results) = (found.prepared, found.results);
            }
            Found::Live(live) => self.live = Some(live),
            Found::Rights(rights) => outcomes.rights = Some(rights),
            Found::RequesterCouldApprove(could) => outcomes.requester_could_approve = Some(could),
            Found::Claim(found) => {
                self.related = found.related;
                if found.outcome.is_none() {
                    outcomes.plan = None;
                }
                outcomes.claim = found.outcome;
            }
            Found::Apply(found) => {
                outcomes.apply = Some(found.outcome);
                self.findings.errors.extend(found.errors);
            }
            Found::Restore(found) => {
                outcomes.restore = Some(found.outcome);
                self.findings.errors.extend(found.errors);
            }
            Found::Check(found) => {
                (outcomes.health, outcomes.told) = (Some(found.outcome), found.told);
                self.healthy = found.healthy;
                self.findings.errors.extend(found.errors);
            }
            Found::Prune(found, leaving) => {
                (outcomes.prune, outcomes.leaving) = (Some(found.outcome), leaving);
                self.findings.errors.extend(found.errors);
            }
            Found::Share(found) => {
                outcomes.share = Some(found.outcome);
                self.findings.errors.extend(found.errors);
            }
        }
    }

    fn scope(&self) -> Scope<'_> {
        Scope { cluster: &self.cluster, request: self.own.request(), related: &self.related, bundles: &self.bundles }
    }

    /// Shows the request, whose status is now `run`, in the maker's view.
    fn update_makers_view(&self, run: &RunStatus, message: &str, now: Timestamp) -> impl Future<Output = ()> + Send + use<> {
        record_in_solution(self.scope(), self.running.readers(), run, message, now)
    }

    async fn end(&mut self, report: &Report, ending: &Ending, now: Timestamp) -> Result<(), ReconcileError> {
        if ending.end == End::Planned {
            self.findings.plan = self.prepared.as_ref().map(|prepared| prepared.plan.clone());
        }
        let request = self.own.request().clone();
        let scope = Scope { cluster: &self.cluster, request: &request, related: &self.related, bundles: &self.bundles };
        outcome::end(scope, &mut self.own, &self.running, &self.findings, report, ending, now).await
    }

    /// Writes the digest of the request's tag to the status.
    async fn resolve(&mut self) -> Result<(), ReconcileError> {
        match registry::resolve(self.scope()).await? {
            Some(Resolved::Source(source)) => {
                self.own.write(&RunStatus { source: Some(source), ..self.own.run() }).await?;
            }
            Some(Resolved::Not(outcome)) => self.outcomes.resolve = Some(outcome),
            None => {}
        }
        Ok(())
    }

    async fn open_gate(&mut self, observed: &Observed, kind: GateKind, now: Timestamp) -> Result<(), ReconcileError> {
        let Some(stage) = observed.stage.present() else { return Ok(()) };
        let mut new = self.own.run();
        self.pin_plan(&mut new);
        let gate = gates::open(observed, stage, kind, new.plan.as_ref().map(|p| p.hash.clone()), now);
        let at = gates::progress(kind);
        let slot = match kind {
            GateKind::PreExportStep => &mut new.gates.pre_export_step,
            GateKind::Approval => &mut new.gates.approval,
            GateKind::PreDeploymentStep => &mut new.gates.pre_deployment_step,
        };
        *slot = Some(gate);
        // What it waits for now: the decision about the same request with an open gate says it.
        let mut opened = observed.clone();
        opened.request.gates = new.gates.clone();
        opened.request.plan_hash = new.plan.as_ref().map(|p| p.hash.clone());
        opened.request.artifact_digest = new.artifact.as_ref().map(|a| a.digest.clone());
        let wait = match decide(&opened, now) {
            Step::Wait(wait) if wait.at == at => wait,
            _ => Waiting { at, reason: Reason::GateOpened, message: "the gate is open".into(), until: None, poll: None },
        };
        self.own.tell(&mut new, &report::waiting(observed, &wait), now);
        let makers_view = self.update_makers_view(&new, &wait.message, now);
        let (opened, ()) = futures::join!(self.own.write(&new), makers_view);
        opened?;
        match kind {
            GateKind::Approval => self.own.event(Trigger::OnApprovalStarted, EventType::Normal, &wait.message),
            GateKind::PreDeploymentStep => self.own.event(Trigger::OnPreDeploymentStarted, EventType::Normal, &wait.message),
            // It has no trigger of its own: whoever decides it is started by OnDeploymentRequested.
            GateKind::PreExportStep => {}
        }
        Ok(())
    }

    /// Claims the target, and writes the start.
    async fn claim(&mut self, observed: &Observed, now: Timestamp) -> Result<(), ReconcileError> {
        let live = self.live.take();
        let found = claim::claim(self.scope(), observed, live, self.prepared.as_deref(), now).await?;
        self.fold(Found::Claim(found));
        if self.outcomes.claim == Some(ClaimOutcome::Won) { self.start(observed, now).await } else { Ok(()) }
    }

    /// Writes that the request has started. The request holds its claim, and has not changed since the claim was made.
    async fn start(&mut self, observed: &Observed, now: Timestamp) -> Result<(), ReconcileError> {
        let Some(stage) = observed.stage.present() else { return Ok(()) };
        let deployer = gates::deployer(observed, stage);
        let mut new = self.own.run();
        self.pin_plan(&mut new);
        let wait = Waiting {
            at: Progress::Deployment,
            reason: Reason::Deploying,
            message: format!("deploys to environment {} as {deployer}", stage.target_environment),
            until: None,
            poll: None,
        };
        new.start_time = Some(whole_seconds(now));
        new.deployed_by = Some(deployer);
        self.own.tell(&mut new, &report::waiting(observed, &wait), now);
        // The maker's view shows the start only if the deployment takes longer than this reconciliation.
        self.own.write(&new).await?;
        self.own.event(Trigger::OnDeploymentStarted, EventType::Normal, &wait.message);
        Ok(())
    }

    /// Writes that the only way is back. What was found about the failed version no longer counts.
    async fn begin_rollback(&mut self, observed: &Observed, failure: Failure, now: Timestamp) -> Result<(), ReconcileError> {
        let Some(replaced) = &observed.request.replaces else { return Ok(()) };
        let (rollback, wait) = rollback::begun(replaced, &failure, now);
        let mut new = RunStatus { rollback: Some(rollback), ..self.own.run() };
        self.findings.keep_errors(&mut new);
        self.own.tell(&mut new, &report::waiting(observed, &wait), now);
        let makers_view = self.update_makers_view(&new, &wait.message, now);
        let (begun, ()) = futures::join!(self.own.write(&new), makers_view);
        begun?;
        self.running.forget(&self.scope().uid());
        (self.prepared, self.healthy) = (None, None);
        (self.outcomes.health, self.outcomes.prune) = (None, None);
        self.own.warn(Reason::RollbackStarted, &wait.message);
        Ok(())
    }

    /// Puts artifact and plan of this reconciliation into a status that has none yet.
    fn pin_plan(&self, status: &mut RunStatus) {
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
        let mut new = self.own.run();
        let before = new.phase.clone();
        self.own.tell(&mut new, &report::waiting(observed, wait), now);
        let said = self.own.write(&new).await? && (before != new.phase || wait.reason != Reason::WaitingForHealth);
        if said || self.makers_view_lags(&new.phase) {
            self.update_makers_view(&new, &wait.message, now).await;
        }
        let until = wait.until.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        Ok(match until.into_iter().chain(wait.poll).min() {
            Some(delay) => Next::After(delay.max(SOONEST)),
            None => Next::Done,
        })
    }

    /// Whether the maker's view does not show yet that the request deploys: the start is not written there.
    fn makers_view_lags(&self, phase: &str) -> bool {
        let uid = self.scope().uid();
        let makers_view = self.related.solution.as_ref().and_then(|solution| solution.status.as_ref());
        let entry = makers_view.and_then(|status| status.deployments.iter().find(|d| d.request_uid == uid));
        self.own.run().start_time.is_some() && entry.is_some_and(|entry| entry.phase != phase)
    }
}
