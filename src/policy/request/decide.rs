//! The decision: a chain of checks in the order of a request's life. The first check with a result decides.

use std::ops::ControlFlow::{self, Break, Continue};

use jiff::Timestamp;

use super::acceptance;
use super::cancel;
use super::deployment;
use super::gates;
use super::observed::{ExportOutcome, Observed, Place, PlanOutcome, RightsOutcome, StageView, TargetView};
use super::rollback;
use super::sharing;
use super::step::{End, Ending, GateKind, Progress, Step};
use super::timing;
use super::waiting::{blocked, reached};
use crate::api::reason::Reason;

/// Decides the next step of the request.
pub(crate) fn decide(o: &Observed, now: Timestamp) -> Step {
    let step = match chain(o, now) {
        Break(step) => step,
        Continue(()) => Step::Claim,
    };
    match step {
        // Nobody should apply grants, or wait, for a request that would be refused anyway.
        Step::Wait(wait) if wait.at <= Progress::Validation && !o.request.plan_only => {
            gates::could_be_decided_by_requester(o).break_value().unwrap_or(Step::Wait(wait))
        }
        step => step,
    }
}

/// The chain of checks. A check that decides leaves it with `?`. A request that passes all of them may claim its target.
fn chain(o: &Observed, now: Timestamp) -> ControlFlow<Step> {
    if o.request.end_time.is_some() {
        return Break(Step::Done);
    }
    recorded(o, now)?;
    // From here on a cancel comes too late.
    if o.request.start_time.is_some() {
        return Break(deployment::run(o, now));
    }
    cancel::withdrawn(o)?;
    gates::rejected(o)?;
    let subject = acceptance::accept(o, now)?;
    resolved(o, now)?;
    if o.request.plan_only {
        return planned(o, &subject, now);
    }
    gates::pass(o, &subject, GateKind::PreExportStep, now)?;
    let digest = export(o, &subject, now)?;
    if o.request.artifact_digest.is_none() {
        entitled(o, now)?;
    }
    // Without a gate to ask at, the dry run is made when the request's turn has come.
    if o.request.plan_hash.is_none()
        && let Some(gate) = gates::first_after_plan(subject.stage)
    {
        plan(o, now)?;
        gates::pass(o, &subject, gate, now)?;
    }
    gates::pass(o, &subject, GateKind::Approval, now)?;
    if subject.stage.pre_deployment_step && o.request.gates.pre_deployment_step.is_none() {
        // What was approved must still be true before the next person is asked.
        plan(o, now)?;
    }
    gates::pass(o, &subject, GateKind::PreDeploymentStep, now)?;
    timing::due(o, &subject, now)?;
    timing::superseded(o, &subject, &digest)?;
    timing::turn(o, &subject, now)?;
    plan(o, now)?;
    entitled(o, now)
}

/// A request that only plans ends with its plan. It opens no gate, waits for no turn, and can't get to a claim.
fn planned(o: &Observed, subject: &acceptance::Subject<'_>, now: Timestamp) -> ControlFlow<Step> {
    export(o, subject, now)?;
    entitled(o, now)?;
    plan(o, now)?;
    let Some(PlanOutcome::Ready { summary, .. }) = &o.outcomes.plan else { return Break(Step::Plan) };
    let message = format!("planned, and nothing was written or stored: {summary}. To deploy it, ask again without planOnly");
    Break(Ending::step(End::Planned, Progress::Validation, Reason::Planned, message))
}

/// The requester may deploy through the pipeline, and the stage's owner may act as the delegate. This is checked before anybody is asked,
/// and again before anything is written to the target, because rights may have been taken away in between.
fn entitled(o: &Observed, now: Timestamp) -> ControlFlow<Step> {
    match &o.outcomes.rights {
        None => Break(Step::AskRights),
        Some(RightsOutcome::Held) => Continue(()),
        Some(RightsOutcome::Blocked(why)) => {
            let at = if why.may_pass() { reached(o) } else { Progress::Validation };
            Break(blocked(o, at, why, now))
        }
    }
}

/// Does not repeat what the artifact's record already shows for this request, or for one of its name.
fn recorded(o: &Observed, now: Timestamp) -> ControlFlow<Step> {
    let Some(artifact) = o.artifact.present().filter(|_| !o.request.plan_only) else { return Continue(()) };
    if let Some(done) = artifact.deployments.iter().find(|d| d.request_uid == o.request.uid) {
        return Break(match done.outcome {
            crate::api::artifact::Outcome::Succeeded => {
                let holds_claim = o.target.present().and_then(|t| t.claim.as_ref()).is_some_and(|c| c.request_uid == o.request.uid);
                if holds_claim {
                    sharing::share(o, done.ended_at, now)?;
                }
                Ending::step(End::Succeeded, Progress::Deployment, Reason::Succeeded, deployment::success(o))
            }
            crate::api::artifact::Outcome::Failed => rollback::as_recorded(o, done),
        });
    }
    let Some(stage) = o.stage.present() else { return Continue(()) };
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
        return Break(Ending::step(
            End::Succeeded,
            Progress::Deployment,
            Reason::AlreadyDeployed,
            format!(
                "{} {} was deployed to stage {} by a request of this name at {}; nothing was written{runs}",
                o.request.solution, o.request.version, o.request.stage, done.ended_at
            ),
        ));
    }
    Continue(())
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

/// A tag is resolved once, before anybody is asked. It may move afterwards.
fn resolved(o: &Observed, now: Timestamp) -> ControlFlow<Step> {
    if o.request.repository.is_none() || o.request.artifact_digest.is_some() {
        return Continue(());
    }
    // Nothing is fetched or stored for somebody who may not deploy.
    entitled(o, now)?;
    if o.request.registry_source.is_some() {
        return Continue(());
    }
    match &o.outcomes.resolve {
        None => Break(Step::Resolve),
        Some(why) => Break(blocked(o, Progress::Acceptance, why, now)),
    }
}

/// The artifact is stored and this requester may use it. Later stages take what the first one exported.
fn export(o: &Observed, subject: &acceptance::Subject<'_>, now: Timestamp) -> ControlFlow<Step, String> {
    let stored = o.artifact.present().map(|a| a.digest.clone());
    if let Some(pinned) = &o.request.artifact_digest {
        return match stored {
            Some(digest) if digest == *pinned => Continue(digest),
            Some(digest) => Break(Ending::step(
                End::Failed,
                Progress::Export,
                Reason::ArtifactChanged,
                format!("the request was planned with artifact digest {pinned}, the stored one is {digest}; make a new request"),
            )),
            None if !o.confirmed => Break(Step::Confirm),
            None => Break(Ending::step(
                End::Failed,
                Progress::Export,
                Reason::ArtifactGone,
                format!("the artifact with digest {pinned} is gone; raise the solution's version and make a new request"),
            )),
        };
    }
    if subject.stage.previous.is_some() {
        return stored.map_or(Break(Step::Confirm), Continue);
    }
    match &o.outcomes.export {
        None => Break(Step::Export),
        Some(ExportOutcome::Stored { digest }) => Continue(digest.clone()),
        Some(ExportOutcome::Blocked(why)) => Break(blocked(o, Progress::Export, why, now)),
    }
}

/// The dry run as the delegate succeeds, and its result is what was approved.
fn plan(o: &Observed, now: Timestamp) -> ControlFlow<Step> {
    match &o.outcomes.plan {
        None => Break(Step::Plan),
        Some(PlanOutcome::Blocked(why)) => Break(blocked(o, Progress::Validation, why, now)),
        Some(PlanOutcome::Ready { hash, summary }) => match &o.request.plan_hash {
            Some(pinned) if pinned != hash => Break(Ending::step(
                End::Failed,
                reached(o),
                Reason::PlanChanged,
                format!(
                    "what would be deployed is no longer what was planned and asked to be approved: {summary}; nothing was written. Make a new request: it starts from the stored artifact"
                ),
            )),
            _ => Continue(()),
        },
    }
}
