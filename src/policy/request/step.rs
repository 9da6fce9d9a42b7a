//! The steps that a decision can return.

use jiff::Timestamp;
use std::time::Duration;

use crate::api::reason::Reason;

/// How far a request has come. Conditions before this point are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// It is not accepted.
    Acceptance,
    /// Gate 1.
    PreExportStep,
    /// The artifact is not stored.
    Export,
    /// The dry run has not succeeded.
    Validation,
    /// Gate 2.
    Approval,
    /// Gate 3.
    PreDeploymentStep,
    /// It waits for a time or its turn.
    Queue,
    /// It changes the target.
    Deployment,
    /// It failed, and the version that it replaced is put back.
    Rollback,
}

/// The gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GateKind {
    /// Gate 1.
    PreExportStep,
    /// Gate 2.
    Approval,
    /// Gate 3.
    PreDeploymentStep,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Read live what the caches do not have, before something terminal is decided from it.
    Confirm,
    /// Ask the registry what the request's tag means, and write it down.
    Resolve,
    /// Export the solution, or find that the requester may use the stored artifact.
    Export,
    /// Dry run as the delegate.
    Plan,
    /// Ask whether those in whose name it is deployed may still have it so.
    AskRights,
    /// Ask whether the requester could become the approver.
    AskApprover,
    OpenGate(GateKind),
    /// Claim the target and write the start.
    Claim,
    /// Apply as the delegate.
    Apply,
    /// Look at the health of what was applied, or put back.
    Check,
    /// Take away what the version that is healthy now does not have.
    Prune,
    /// Write down that the deployment failed and that the version that it replaced is put back. From then on there is no other way.
    BeginRollback(Failure),
    /// Put the replaced version back, as the delegate.
    Rollback,
    /// Share what was deployed, as the delegate.
    Share,
    /// End the request.
    Finish(Ending),
    Wait(Waiting),
    /// Nothing: the request has ended.
    Done,
}

/// Why a deployment failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Why, in one word.
    pub(crate) reason: Reason,
    /// Why.
    pub(crate) message: String,
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Deployed and healthy.
    Succeeded,
    /// It only planned, and could be carried out.
    Planned,
    /// It could not be carried out.
    Failed,
    /// An approver rejected it.
    Rejected,
    /// It was withdrawn.
    Canceled,
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// How.
    pub(crate) end: End,
    /// How far it had come.
    pub(crate) at: Progress,
    /// Why, in one word.
    pub(crate) reason: Reason,
    /// Why, and what to do about it.
    pub(crate) message: String,
    /// Whether all objects of the replaced version are as they were deployed again.
    pub(crate) restored: bool,
}

/// A wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// How far it has come.
    pub(crate) at: Progress,
    /// What for, in one word.
    pub(crate) reason: Reason,
    /// What for, on whom, and what to do about it.
    pub(crate) message: String,
    /// When to look again though nothing happened: a deadline, or a time that was waited for.
    pub(crate) until: Option<Timestamp>,
    /// How often to look, where nothing announces the change (a right that is granted, the health of the target).
    pub(crate) poll: Option<Duration>,
}

impl Waiting {
    /// Waits for something that is announced by a watch.
    pub(crate) fn watched(at: Progress, reason: Reason, message: impl Into<String>, until: Option<Timestamp>) -> Step {
        Step::Wait(Self { at, reason, message: message.into(), until, poll: None })
    }

    /// Waits for something that has to be looked for.
    pub(crate) fn polled(at: Progress, reason: Reason, message: impl Into<String>, until: Option<Timestamp>, poll: Duration) -> Step {
        Step::Wait(Self { at, reason, message: message.into(), until, poll: Some(poll) })
    }
}

impl Ending {
    /// The end for a reason.
    pub(crate) fn step(end: End, at: Progress, reason: Reason, message: impl Into<String>) -> Step {
        Step::Finish(Self { end, at, reason, message: message.into(), restored: false })
    }

    /// The failed end of a request that was to put the replaced version back.
    pub(crate) fn rolled_back(restored: bool, reason: Reason, message: impl Into<String>) -> Step {
        Step::Finish(Self { end: End::Failed, at: Progress::Rollback, reason, message: message.into(), restored })
    }
}
