//! From the claim to the end: apply, health, outcome.

use std::time::Duration;

use jiff::Timestamp;

use super::acceptance;
use super::observed::{ApplyFact, HealthFact, Observed, Obstacle};
use super::step::{End, Ending, Progress, Step, Waiting};

/// How long a deployment may take where its stage is gone.
const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);
/// How often the health of the target is looked at.
const HEALTH_POLL: Duration = Duration::from_millis(500);
/// How often a right that was taken away is asked for again.
const RIGHT_POLL: Duration = Duration::from_secs(2);

/// What is done about a request that has started.
pub fn run(o: &Observed, now: Timestamp) -> Step {
    let started = o.request.start_time.unwrap_or(now);
    let timeout = o.stage.present().map_or(DEFAULT_TIMEOUT, |s| s.deployment_timeout);
    let deadline = started + timeout;
    if let Some(target) = o.target.present()
        && target.claim.as_ref().is_none_or(|c| c.request_uid != o.request.uid)
    {
        if !o.confirmed {
            return Step::Confirm;
        }
        return failed(
            "ClaimLost",
            "the claim on the environment is gone: the Environment was deleted and made again while the request deployed. Make a new request",
        );
    }
    if matches!(o.target, super::observed::Lookup::Absent) {
        if !o.confirmed {
            return Step::Confirm;
        }
        return failed("EnvironmentGone", "the Environment was deleted while the request deployed; what was applied stays");
    }
    match &o.facts.apply {
        None => return Step::Apply,
        Some(ApplyFact::Missing(obstacle)) => return lacking(obstacle, deadline, now),
        Some(ApplyFact::Failed(obstacle)) => return failed(&obstacle.reason, &obstacle.message),
        Some(ApplyFact::Applied) => {}
    }
    match &o.facts.health {
        None => Step::Check,
        Some(HealthFact::Healthy) => Ending::step(End::Succeeded, Progress::Deployment, "Succeeded", success(o)),
        Some(HealthFact::Missing(obstacle)) => lacking(obstacle, deadline, now),
        Some(HealthFact::Failed(why)) => failed("Unhealthy", &format!("applied, but not healthy: {why}")),
        Some(HealthFact::Pending(what)) => {
            if now >= deadline {
                return failed("DeploymentTimedOut", &format!("applied, but not healthy by {deadline}: {what}"));
            }
            Waiting::polled(
                Progress::Deployment,
                "WaitingForHealth",
                format!("applied; waits until {deadline} for {what}"),
                Some(deadline),
                HEALTH_POLL,
            )
        }
    }
}

/// A right was taken away while it deployed; it may be given back until the time-out.
fn lacking(obstacle: &Obstacle, deadline: Timestamp, now: Timestamp) -> Step {
    if now >= deadline {
        return failed(&obstacle.reason, &acceptance::waited(&obstacle.message, deadline));
    }
    let message = acceptance::waits(&obstacle.message, deadline);
    Waiting::polled(Progress::Deployment, &obstacle.reason, message, Some(deadline), RIGHT_POLL)
}

fn failed(reason: &str, message: &str) -> Step {
    Ending::step(End::Failed, Progress::Deployment, reason, message)
}

/// The good end in words.
pub fn success(o: &Observed) -> String {
    format!("{} {} runs in stage {}", o.request.solution, o.request.version, o.request.stage)
}
