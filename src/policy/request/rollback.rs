//! What happens after a failed deployment: the replaced version is restored, or the failed one is left, as the approved plan says.

use jiff::Timestamp;

use super::observed::{ApplyOutcome, DeploymentView, HealthOutcome, Observed};
use super::step::{End, Ending, Failure, Progress, Step, Waiting};
use super::waiting::{self, HEALTH_POLL};
use crate::api::reason::Reason;
use crate::api::request_status::Rollback;
use crate::api::stage::OnFailure;
use crate::policy::clock;

/// What follows a failure after the claim.
pub(crate) fn after(o: &Observed, failure: Failure) -> Step {
    let go_on = match (o.request.on_failure, &o.request.replaces) {
        (OnFailure::Rollback, Some(_)) => return Step::BeginRollback(failure),
        (OnFailure::Rollback, None) => {
            format!("what was applied stays, as no version of {} ran there before that could be put back. {}", o.request.solution, retry(o))
        }
        (OnFailure::Keep, None) => format!("what was applied stays. {}", retry(o)),
        (OnFailure::Keep, Some(replaced)) => {
            format!("what was applied stays. {}; or put {} back: {}", retry(o), replaced.version, redeploy(o, &replaced.version))
        }
    };
    let Failure { reason, message } = failure;
    // A message that ends with a grant is left to end with it: what is printed is applied as it stands.
    let message = if message.ends_with('\n') { format!("{go_on}. Why it failed: {message}") } else { format!("{message}; {go_on}") };
    kept(reason, message)
}

/// What is done about a request whose way back was begun.
pub(crate) fn run(o: &Observed, begun: &Rollback, now: Timestamp) -> Step {
    let deadline = clock::after(begun.since, waiting::timeout(o));
    match &o.outcomes.restore {
        None => return Step::Rollback,
        Some(ApplyOutcome::Blocked(why)) if why.may_pass() && now < deadline => {
            return waiting::without(o, Progress::Rollback, why, deadline, now);
        }
        Some(ApplyOutcome::Unavailable(what)) if now < deadline => return waiting::unavailable(Progress::Rollback, what, deadline),
        Some(ApplyOutcome::Blocked(why)) => return mixed(o, begun, &why.message),
        Some(ApplyOutcome::Unavailable(what)) => {
            return mixed(o, begun, &format!("not all objects could be written by {deadline}: {what}"));
        }
        Some(ApplyOutcome::Applied) => {}
    }
    match &o.outcomes.health {
        None => Step::Check,
        Some(HealthOutcome::Healthy) => healthy(o, begun, deadline, now),
        Some(HealthOutcome::Blocked(why)) if now < deadline => waiting::without(o, Progress::Rollback, why, deadline, now),
        // What its controller says of the version that failed is not held against this one: it ran before.
        Some(HealthOutcome::Pending(what) | HealthOutcome::Failed(what)) if now < deadline => Waiting::polled(
            Progress::Rollback,
            Reason::WaitingForHealth,
            format!("{}: {} {} is put back; waits until {deadline} for {what}", begun.reason, o.request.solution, begun.version),
            Some(deadline),
            HEALTH_POLL,
        ),
        Some(HealthOutcome::Pending(what) | HealthOutcome::Failed(what)) => unhealthy(o, begun, what),
        Some(HealthOutcome::Blocked(why)) => unhealthy(o, begun, &format!("its health can't be read: {}", why.message)),
    }
}

/// What was put back is healthy: what the version that failed created goes.
fn healthy(o: &Observed, begun: &Rollback, deadline: Timestamp, now: Timestamp) -> Step {
    let done = format!("{} {} was put back with the settings that it was deployed with, and is healthy", o.request.solution, begun.version);
    let why = match &o.outcomes.prune {
        None => return Step::Prune,
        Some(ApplyOutcome::Applied) => {
            return Ending::rolled_back(true, Reason::RolledBack, format!("{}. {done}. {}", failure(begun), retry(o)));
        }
        Some(ApplyOutcome::Blocked(why)) if why.may_pass() && now < deadline => {
            return waiting::without(o, Progress::Rollback, why, deadline, now);
        }
        Some(ApplyOutcome::Unavailable(what)) if now < deadline => return waiting::unpruned(Progress::Rollback, what, deadline),
        Some(ApplyOutcome::Blocked(why)) => &why.message,
        Some(ApplyOutcome::Unavailable(what)) => what,
    };
    let message = format!(
        "{}. {done}. {}. What the version that failed created is still there, at least in part, and the next deployment deletes it: {why}",
        failure(begun),
        retry(o)
    );
    Ending::rolled_back(true, Reason::RollbackFailed, message)
}

/// The end that the artifact's record tells of, where the operator was interrupted before it could write it to the request.
pub(crate) fn as_recorded(o: &Observed, done: &DeploymentView) -> Step {
    let (reason, message) = done.failure.clone().unwrap_or_else(|| {
        let message =
            "the deployment failed, as the artifact's record says: the operator was interrupted before it could write the end here";
        (Reason::DeploymentFailed, message.to_owned())
    });
    if o.request.rollback.is_some() {
        return Ending::rolled_back(done.restored.is_some(), reason, message);
    }
    kept(reason, message)
}

fn kept(reason: Reason, message: String) -> Step {
    Ending::step(End::Failed, Progress::Deployment, reason, message)
}

/// What failed, in one line: all of it is in `status.rollback`.
fn failure(begun: &Rollback) -> String {
    format!("{}: {}", begun.reason, begun.message.lines().next().unwrap_or_default())
}

fn mixed(o: &Observed, begun: &Rollback, why: &str) -> Step {
    let version = &begun.version;
    let what = format!("{} {version} could not be put back, and objects of both versions may be in the target now", o.request.solution);
    let go_on = format!("{}; or put {version} back once more: {}", retry(o), redeploy(o, version));
    let message = format!("{}. {what}. {go_on}. Why it could not be put back: {why}", failure(begun));
    Ending::rolled_back(false, Reason::RollbackFailed, message)
}

fn unhealthy(o: &Observed, begun: &Rollback, what: &str) -> Step {
    let done = format!("All objects of {} {} were put back with the settings that it was deployed with", o.request.solution, begun.version);
    let message = format!(
        "{}. {done}; nothing that the version that failed created was deleted. {}. They are not healthy: {what}",
        failure(begun),
        retry(o)
    );
    Ending::rolled_back(true, Reason::RollbackFailed, message)
}

/// How the same is tried again.
fn retry(o: &Observed) -> String {
    format!("Correct the cause, then try again: kubectl pilotage retry {} -n {}", o.request.name, o.request.host)
}

/// How a version is deployed once more.
fn redeploy(o: &Observed, version: &str) -> String {
    format!("kubectl pilotage redeploy {} {version} --stage {} -n {}", o.request.solution, o.request.stage, o.request.host)
}
