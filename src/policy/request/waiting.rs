//! What the checks of a request wait with: how far it has come, until when it waits, for what, and how often it looks again.

use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use jiff::Timestamp;

use super::observed::{Lookup, Observed};
use super::step::{End, Ending, Progress, Step, Waiting};
use crate::api::condition::whole_seconds;
use crate::api::reason::Reason;
use crate::cluster::blocked::{Blocked, Until, Wait};
use crate::policy::clock;

/// For this long after a request's creation, refusals wait for other objects of the same `kubectl apply`.
pub(crate) const SETTLING: Duration = Duration::from_secs(2);
/// How often, first and later, the operator checks again for missing things that it can't watch: rights, registries, other clusters.
const ASKED_AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));
/// How long a deployment may take if its stage is gone.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);
/// How often the health of the target is looked at.
pub(crate) const HEALTH_POLL: Duration = Duration::from_millis(500);
/// The message while pruning makes no progress.
pub(crate) const NOT_PRUNED: &str = "not all that it replaces could be taken away";
/// How long a request that only plans waits for what it needs. Who asks sits there, and wants to know what is missing.
const PLANNING: Duration = Duration::from_secs(30);
/// How often a lost right is checked again.
const RIGHT_POLL: Duration = Duration::from_secs(2);

/// Waits if the target of a look-up was not looked up at all.
pub(crate) fn known<'a, T>(lookup: &'a Lookup<T>, at: Progress, what: &str) -> ControlFlow<Step, Option<&'a T>> {
    match lookup {
        Lookup::Unknown => Break(Waiting::watched(at, Reason::Unknown, format!("{what} was not looked up yet"), None)),
        Lookup::Absent => Continue(None),
        Lookup::Present(value) => Continue(Some(value)),
    }
}

/// How far a request that has not started has come, by what its status holds.
pub(crate) fn reached(o: &Observed) -> Progress {
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

/// Since when the request has waited for that: as its status says, or from now on.
pub(crate) fn since(o: &Observed, reason: Reason, now: Timestamp) -> Timestamp {
    let waiting = o.request.waiting.as_ref().filter(|wait| wait.reason == reason);
    waiting.map_or_else(|| whole_seconds(now), |wait| wait.since)
}

/// Refuses the request, but only when no object of the same `kubectl apply` can still arrive, and live reads have confirmed the cache.
pub(crate) fn refuse(o: &Observed, reason: Reason, message: &str, now: Timestamp) -> Step {
    let settled = clock::after(o.request.created_at, SETTLING);
    if now < settled {
        return Waiting::watched(Progress::Acceptance, reason, message, Some(settled));
    }
    if !o.confirmed {
        return Step::Confirm;
    }
    Ending::step(End::Failed, Progress::Acceptance, reason, message)
}

/// Waits until the accept time-out.
pub(crate) fn wait(o: &Observed, reason: Reason, message: &str, now: Timestamp) -> Step {
    let deadline = deadline(o);
    if now < deadline {
        return Waiting::watched(reached(o), reason, waits(message, since(o, reason, now), deadline), Some(deadline));
    }
    if !o.confirmed {
        return Step::Confirm;
    }
    Ending::step(End::Failed, reached(o), reason, waited(message, deadline))
}

/// Before acceptance, a missing object is waited for, because everything may have been applied at once. After acceptance it ends the
/// request.
pub(crate) fn gone_or_awaited(o: &Observed, reason: Reason, message: &str, now: Timestamp) -> Step {
    if o.request.plan_hash.is_none() {
        return wait(o, reason, message, now);
    }
    if !o.confirmed {
        return Step::Confirm;
    }
    Ending::step(End::Failed, reached(o), reason, format!("{message} any more; nothing was written"))
}

/// What can be put right, as a right that may be granted, is asked for until the deadline, the less often the longer it has been missing;
/// anything else ends the request.
pub(crate) fn blocked(o: &Observed, at: Progress, why: &Blocked, now: Timestamp) -> Step {
    // What only plans does not wait for people: what they have to do is what it was to find out.
    if !why.may_pass() || o.request.plan_only && why.until != Until::Wait(Wait::Server) {
        return Ending::step(End::Failed, at, why.reason, &why.message);
    }
    let deadline = deadline(o);
    if now < deadline {
        let waited = Duration::try_from(now.duration_since(clock::before(deadline, o.accept_timeout))).unwrap_or_default();
        let poll = (waited / 20).clamp(ASKED_AGAIN_AFTER.0, ASKED_AGAIN_AFTER.1);
        let message = waits(&why.message, since(o, why.reason, now), deadline);
        return Waiting::polled(at, why.reason, message, Some(deadline), poll);
    }
    Ending::step(End::Failed, at, why.reason, waited(&why.message, deadline))
}

/// A message that ends with a grant must keep the grant at its end, because people apply it as printed.
fn waits(message: &str, since: Timestamp, deadline: Timestamp) -> String {
    if message.ends_with('\n') {
        format!("waits until {deadline}, since {since}: {message}")
    } else {
        format!("{message}. Waits until {deadline}, since {since}")
    }
}

/// The same after waiting in vain.
pub(crate) fn waited(message: &str, deadline: Timestamp) -> String {
    if message.ends_with('\n') { format!("waited until {deadline}: {message}") } else { format!("{message}. It waited until {deadline}") }
}

/// Until when a request waits for something missing: the accept time-out. It starts again at the last gate, at the scheduled time, or at
/// the success in the previous stage, which may be long after the request's creation.
fn deadline(o: &Observed) -> Timestamp {
    if o.request.plan_only {
        return clock::after(o.request.created_at, PLANNING.min(o.accept_timeout));
    }
    let gates = &o.request.gates;
    let stage_timeout = o.stage.present().map_or(Duration::ZERO, |s| s.gate_timeout);
    let opened = [&gates.pre_export_step, &gates.approval, &gates.pre_deployment_step]
        .into_iter()
        .flatten()
        .map(|g| clock::after(g.opened_at, stage_timeout))
        .max();
    let scheduled = o.request.scheduled_time.clone().ok().flatten();
    // The request may have waited that long for the one to the previous stage.
    let previous = o.stage.present().and_then(|stage| stage.previous.as_ref()?.place.as_ref());
    let proven = previous.zip(o.artifact.present()).and_then(|(place, artifact)| place.first_success(artifact));
    let last = [Some(o.request.created_at), opened, scheduled, proven].into_iter().flatten().max().unwrap_or(o.request.created_at);
    clock::after(last, o.accept_timeout)
}

/// How long a deployment may take. A rollback may take that long again.
pub(crate) fn timeout(o: &Observed) -> Duration {
    o.stage.present().map_or(DEFAULT_TIMEOUT, |s| s.deployment_timeout)
}

/// Waits for what can be put right, as a right that was taken away.
pub(crate) fn without(o: &Observed, at: Progress, why: &Blocked, deadline: Timestamp, now: Timestamp) -> Step {
    let message = waits(&why.message, since(o, why.reason, now), deadline);
    Waiting::polled(at, why.reason, message, Some(deadline), RIGHT_POLL)
}

/// Waits for a target that can't be written.
pub(crate) fn unavailable(at: Progress, what: &str, deadline: Timestamp) -> Step {
    let message = format!("not all objects could be written yet, which is tried again until {deadline}: {what}");
    Waiting::polled(at, Reason::TargetUnavailable, message, Some(deadline), HEALTH_POLL)
}

/// Waits for a target from which nothing can be deleted.
pub(crate) fn unpruned(at: Progress, what: &str, deadline: Timestamp) -> Step {
    let message = format!("healthy; {NOT_PRUNED} yet, which is tried again until {deadline}: {what}");
    Waiting::polled(at, Reason::TargetUnavailable, message, Some(deadline), HEALTH_POLL)
}
