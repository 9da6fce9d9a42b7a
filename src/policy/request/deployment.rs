//! From the claim to the end of the request: apply, health, pruning, outcome.

use std::ops::ControlFlow::{Break, Continue};

use jiff::Timestamp;

use super::not_looked_for;
use super::observed::{ApplyOutcome, HealthOutcome, Observed};
use super::rollback;
use super::sharing;
use super::step::{End, Ending, Failure, Progress, Step, Waiting};
use super::waiting::{HEALTH_POLL, NOT_PRUNED, timeout, unavailable, unpruned, waited, without};
use crate::api::names;
use crate::api::reason::Reason;
use crate::cluster::blocked::Blocked;
use crate::cluster::errors::first_few;
use crate::policy::clock;

/// Decides about a request that has started to deploy.
pub(crate) fn run(o: &Observed, now: Timestamp) -> Step {
    let started = o.request.start_time.unwrap_or(now);
    let deadline = clock::after(started, timeout(o));
    if o.target.present().is_some_and(|target| target.environment_id.is_empty() && target.claim.is_none()) && now < deadline {
        // The Environment was deleted and applied again. Once it is validated, it has its old status, including this request's claim.
        return Waiting::watched(
            Progress::Deployment,
            Reason::EnvironmentNotReady,
            format!("waits until {deadline} for the Environment, which was made again while the request deployed, to be validated"),
            Some(deadline),
        );
    }
    if let Some(target) = o.target.present()
        && target.claim.as_ref().is_none_or(|c| c.request_uid != o.request.uid)
    {
        if !o.confirmed {
            return Step::Confirm;
        }
        return lost(
            Reason::ClaimLost,
            "the claim on the environment is gone: the Environment was deleted and made again for another namespace while the request deployed. Make a new request",
        );
    }
    if matches!(o.target, super::observed::Lookup::Absent) {
        if !o.confirmed {
            return Step::Confirm;
        }
        return lost(Reason::EnvironmentGone, "the Environment was deleted while the request deployed; what was applied stays");
    }
    if let Some(begun) = &o.request.rollback {
        return rollback::run(o, begun, now);
    }
    if let (Some(pinned), Some(stored)) = (&o.request.artifact_digest, o.artifact.present())
        && *pinned != stored.digest
    {
        if !o.confirmed {
            return Step::Confirm;
        }
        // The artifact of that name does not prove what was deployed, so nothing is recorded in it.
        let name = names::artifact_name(&o.request.solution, &o.request.version.to_string());
        return failed(
            o,
            Reason::ArtifactChanged,
            &format!(
                "Artifact {name} in host {} was deleted and made again while the request deployed: what was approved has digest {pinned}, the stored \
                 one is {}. Find out who changed it, raise the solution's version",
                o.request.host, stored.digest
            ),
        );
    }
    match &o.outcomes.apply {
        None => return Step::Apply,
        Some(ApplyOutcome::Blocked(why)) => return blocked(o, why, deadline, now),
        Some(ApplyOutcome::Unavailable(what)) if now >= deadline => {
            return failed(o, Reason::TargetUnavailable, &format!("not all objects could be written by {deadline}: {what}"));
        }
        Some(ApplyOutcome::Unavailable(what)) => return unavailable(Progress::Deployment, what, deadline),
        Some(ApplyOutcome::Applied) => {}
    }
    match &o.outcomes.health {
        None => Step::Check,
        Some(HealthOutcome::Healthy) => healthy(o, deadline, now),
        Some(HealthOutcome::Blocked(why)) => blocked(o, why, deadline, now),
        Some(HealthOutcome::Failed(why)) => failed(o, Reason::Unhealthy, &format!("applied, but not healthy: {why}")),
        Some(HealthOutcome::Pending(what)) => {
            if now >= deadline {
                return failed(o, Reason::DeploymentTimedOut, &format!("applied, but not healthy by {deadline}: {what}"));
            }
            Waiting::polled(
                Progress::Deployment,
                Reason::WaitingForHealth,
                format!("applied; waits until {deadline} for {what}"),
                Some(deadline),
                HEALTH_POLL,
            )
        }
    }
}

/// The new version is healthy: objects that it lacks are deleted, and what was asked for is shared.
fn healthy(o: &Observed, deadline: Timestamp, now: Timestamp) -> Step {
    match &o.outcomes.prune {
        None => Step::Prune,
        Some(ApplyOutcome::Blocked(why)) => blocked(o, why, deadline, now),
        Some(ApplyOutcome::Unavailable(what)) if now >= deadline => {
            failed(o, Reason::TargetUnavailable, &format!("deployed and healthy, but {NOT_PRUNED} by {deadline}: {what}"))
        }
        Some(ApplyOutcome::Unavailable(what)) => unpruned(Progress::Deployment, what, deadline),
        Some(ApplyOutcome::Applied) => match sharing::share(o, deadline, now) {
            Break(step) => step,
            Continue(()) => Ending::step(End::Succeeded, Progress::Deployment, Reason::Succeeded, success(o)),
        },
    }
}

/// It can't go on while it deploys: what can be put right, as a right that was taken away, is waited for until the time-out.
fn blocked(o: &Observed, why: &Blocked, deadline: Timestamp, now: Timestamp) -> Step {
    if !why.may_pass() {
        return failed(o, why.reason, &why.message);
    }
    if now >= deadline {
        return failed(o, why.reason, &waited(&why.message, deadline));
    }
    without(o, Progress::Deployment, why, deadline, now)
}

/// The target, or the right to write to it, is gone: nothing more is written, and nothing is restored.
fn lost(reason: Reason, message: &str) -> Step {
    Ending::step(End::Failed, Progress::Deployment, reason, message)
}

fn failed(o: &Observed, reason: Reason, message: &str) -> Step {
    rollback::after(o, Failure { reason, message: message.into() })
}

/// The message of a success.
pub(crate) fn success(o: &Observed) -> String {
    let mut runs = format!("{} {} runs in stage {}", o.request.solution, o.request.version, o.request.stage);
    if !o.outcomes.leaving.is_empty() {
        runs = format!(
            "{runs}; these objects of earlier versions are being deleted and still exist: {}: whoever set these finalizers has to remove them, and nothing waits for that",
            o.outcomes.leaving.join(", ")
        );
    }
    if !o.outcomes.told.is_empty() {
        runs = format!("{runs}; {}", first_few(o.outcomes.told.iter().cloned()));
    }
    let runs = match sharing::told(o) {
        Some((false, _, what)) => format!("{runs}; {what}"),
        _ => runs,
    };
    not_looked_for::before(o.artifact.present(), &runs)
}
