//! The decision: a chain of checks in the order of a request's life. The first check with a result decides.

use jiff::Timestamp;

use super::acceptance;
use super::deployment;
use super::gates;
use super::observed::{ExportOutcome, Lookup, Observed, Place, PlanOutcome, ResolveOutcome, RightsOutcome, StageView, TargetView};
use super::rollback;
use super::sharing;
use super::step::{End, Ending, GateKind, Progress, Step, Waiting};
use super::timing;

/// The reason of a request if the record shows a success of a request of the same name.
pub const ALREADY_DEPLOYED: &str = "AlreadyDeployed";

/// Decides the next step of the request.
pub fn decide(o: &Observed, now: Timestamp) -> Step {
    match chain(o, now).unwrap_or_else(|step| step) {
        // Nobody should apply grants, or wait, for a request that would be refused anyway.
        Step::Wait(wait) if wait.at <= Progress::Validation => gates::could_be_decided_by_requester(o).err().unwrap_or(Step::Wait(wait)),
        step => step,
    }
}

/// `Err` is a decision: a check that decides leaves the chain with `?`.
fn chain(o: &Observed, now: Timestamp) -> Result<Step, Step> {
    if o.request.end_time.is_some() {
        return Err(Step::Done);
    }
    recorded(o, now)?;
    if o.request.start_time.is_some() {
        return Ok(deployment::run(o, now));
    }
    withdrawn(o)?;
    gates::rejected(o)?;
    let subject = acceptance::accept(o, now)?;
    resolved(o, now)?;
    gates::reconciliation(o, &subject, GateKind::PreExportStep, now)?;
    let digest = export(o, &subject, now)?;
    if o.request.artifact_digest.is_none() {
        entitled(o, now)?;
    }
    // Without a gate to ask at, the dry run is made when the request's turn has come.
    if o.request.plan_hash.is_none()
        && let Some(gate) = gates::first_after_plan(subject.stage)
    {
        plan(o, now)?;
        gates::reconciliation(o, &subject, gate, now)?;
    }
    gates::reconciliation(o, &subject, GateKind::Approval, now)?;
    if subject.stage.pre_deployment_step && o.request.gates.pre_deployment_step.is_none() {
        // What was approved must still be true before the next person is asked.
        plan(o, now)?;
    }
    gates::reconciliation(o, &subject, GateKind::PreDeploymentStep, now)?;
    timing::due(o, &subject, now)?;
    timing::superseded(o, &subject, &digest)?;
    timing::turn(o, &subject)?;
    plan(o, now)?;
    entitled(o, now)?;
    Ok(Step::Claim)
}

/// The requester may deploy through the pipeline, and the stage's owner may act as the delegate. This is checked before anybody is asked,
/// and again before anything is written to the target, because rights may have been taken away in between.
fn entitled(o: &Observed, now: Timestamp) -> Result<(), Step> {
    match &o.outcomes.rights {
        None => Err(Step::AskRights),
        Some(RightsOutcome::Held) => Ok(()),
        Some(RightsOutcome::Missing(obstacle)) => Err(acceptance::wait_for_right(o, reached(o), obstacle, now)),
        Some(RightsOutcome::Refused(obstacle)) => Err(Ending::step(End::Failed, Progress::Validation, &obstacle.reason, &obstacle.message)),
    }
}

/// Does not repeat what the artifact's record already shows for this request, or for one of its name.
fn recorded(o: &Observed, now: Timestamp) -> Result<(), Step> {
    let Some(artifact) = o.artifact.present() else { return Ok(()) };
    if let Some(done) = artifact.deployments.iter().find(|d| d.request_uid == o.request.uid) {
        return Err(match done.outcome {
            crate::api::artifact::Outcome::Succeeded => {
                let holds_claim = o.target.present().and_then(|t| t.claim.as_ref()).is_some_and(|c| c.request_uid == o.request.uid);
                if holds_claim {
                    sharing::share(o, done.ended_at, now)?;
                }
                Ending::step(End::Succeeded, Progress::Deployment, "Succeeded", deployment::success(o))
            }
            crate::api::artifact::Outcome::Failed => rollback::as_recorded(o, done),
        });
    }
    let Some(stage) = o.stage.present() else { return Ok(()) };
    let place = o.target.present().map(|target| place(o, stage, target));
    let same_name = |d: &&super::observed::DeploymentView| {
        let is_here = d.stage_uid == stage.uid || place.as_ref().is_some_and(|place| place.saw(d));
        d.request == o.request.name && is_here && d.outcome == crate::api::artifact::Outcome::Succeeded
    };
    if o.request.start_time.is_none()
        && let Some(done) = artifact.deployments.iter().find(same_name)
    {
        let runs = match o.target.present().and_then(|target| target.current.as_ref()) {
            // Two versions may have the same content.
            Some(current) if current.version != o.request.version || current.digest != artifact.digest => format!(
                ". Stage {} runs {} {} by now (request {}): to have {} there again, make a request of another name",
                o.request.stage, o.request.solution, current.version, current.request, o.request.version
            ),
            _ => String::new(),
        };
        return Err(Ending::step(
            End::Succeeded,
            Progress::Deployment,
            ALREADY_DEPLOYED,
            format!(
                "{} {} was deployed to stage {} by a request of this name at {}; nothing was written{runs}",
                o.request.solution, o.request.version, o.request.stage, done.ended_at
            ),
        ));
    }
    Ok(())
}

/// The stage of a request, and its target.
fn place(o: &Observed, stage: &StageView, target: &TargetView) -> Place {
    Place {
        stage_uid: stage.uid.clone(),
        environment_uid: target.uid.clone(),
        pipeline: stage.pipeline.clone(),
        stage: o.request.stage.clone(),
        environment: stage.target_environment.clone(),
        environment_id: target.environment_id.clone(),
        cluster: target.cluster.as_ref().map(|cluster| cluster.name.clone()),
    }
}

/// Withdrawn by its requester, or by an administrator.
fn withdrawn(o: &Observed) -> Result<(), Step> {
    if !o.request.cancel {
        return Ok(());
    }
    Err(Ending::step(End::Canceled, reached(o), "Canceled", "canceled before anything was written to the target"))
}

/// How far a request that has not started has come, by what its status holds.
pub(super) fn reached(o: &Observed) -> Progress {
    let request = &o.request;
    if request.gates.pre_deployment_step.is_some() {
        return if request.pre_deployment.is_some() { Progress::Queue } else { Progress::PreDeploymentStep };
    }
    if request.gates.approval.is_some() {
        return if request.approval.is_some() { Progress::Queue } else { Progress::Approval };
    }
    if request.plan_hash.is_some() {
        return Progress::Queue;
    }
    if request.artifact_digest.is_some() {
        return Progress::Validation;
    }
    if request.gates.pre_export_step.is_some() {
        return if request.pre_export.is_some() { Progress::Export } else { Progress::PreExportStep };
    }
    Progress::Acceptance
}

/// A tag is resolved once, before anybody is asked. It may move afterwards.
fn resolved(o: &Observed, now: Timestamp) -> Result<(), Step> {
    if o.request.repository.is_none() || o.request.artifact_digest.is_some() {
        return Ok(());
    }
    // Nothing is fetched or stored for somebody who may not deploy.
    entitled(o, now)?;
    if o.request.registry_source.is_some() {
        return Ok(());
    }
    match &o.outcomes.resolve {
        None => Err(Step::Resolve),
        Some(ResolveOutcome::Missing(obstacle)) => Err(acceptance::wait_for_right(o, Progress::Acceptance, obstacle, now)),
        Some(ResolveOutcome::Refused(obstacle)) => {
            Err(Ending::step(End::Failed, Progress::Acceptance, &obstacle.reason, &obstacle.message))
        }
    }
}

/// The artifact is stored and this requester may use it. Later stages take what the first one exported.
fn export(o: &Observed, subject: &acceptance::Subject<'_>, now: Timestamp) -> Result<String, Step> {
    let stored = o.artifact.present().map(|a| a.digest.clone());
    if let Some(pinned) = &o.request.artifact_digest {
        return match stored {
            Some(digest) if digest == *pinned => Ok(digest),
            Some(digest) => Err(Ending::step(
                End::Failed,
                Progress::Export,
                "ArtifactChanged",
                format!("the request was planned with artifact digest {pinned}, the stored one is {digest}; make a new request"),
            )),
            None if !o.confirmed => Err(Step::Confirm),
            None => Err(Ending::step(
                End::Failed,
                Progress::Export,
                "ArtifactGone",
                format!("the artifact with digest {pinned} is gone; raise the solution's version and make a new request"),
            )),
        };
    }
    if subject.stage.previous.is_some() {
        return stored.ok_or(Step::Confirm);
    }
    match &o.outcomes.export {
        None => Err(Step::Export),
        Some(ExportOutcome::Stored { digest }) => Ok(digest.clone()),
        Some(ExportOutcome::Missing(obstacle)) => Err(acceptance::wait_for_right(o, Progress::Export, obstacle, now)),
        Some(ExportOutcome::Refused(obstacle)) => Err(Ending::step(End::Failed, Progress::Export, &obstacle.reason, &obstacle.message)),
    }
}

/// The dry run as the delegate succeeds, and its result is what was approved.
fn plan(o: &Observed, now: Timestamp) -> Result<(), Step> {
    match &o.outcomes.plan {
        None => Err(Step::Plan),
        Some(PlanOutcome::Missing(obstacle)) => Err(acceptance::wait_for_right(o, Progress::Validation, obstacle, now)),
        Some(PlanOutcome::Refused(obstacle)) => Err(Ending::step(End::Failed, Progress::Validation, &obstacle.reason, &obstacle.message)),
        Some(PlanOutcome::Ready { hash, summary }) => match &o.request.plan_hash {
            Some(pinned) if pinned != hash => Err(Ending::step(
                End::Failed,
                reached(o),
                "PlanChanged",
                format!(
                    "what would be deployed is no longer what was planned and asked to be approved: {summary}; nothing was written. Make a new request: it starts from the stored artifact"
                ),
            )),
            _ => Ok(()),
        },
    }
}

/// Waits if the target of a look-up was not looked up at all.
pub(super) fn known<'a, T>(lookup: &'a Lookup<T>, at: Progress, what: &str) -> Result<Option<&'a T>, Step> {
    match lookup {
        Lookup::Unknown => Err(Waiting::watched(at, "Unknown", format!("{what} was not looked up yet"), None)),
        Lookup::Absent => Ok(None),
        Lookup::Present(value) => Ok(Some(value)),
    }
}
