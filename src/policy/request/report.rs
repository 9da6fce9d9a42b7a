//! How a request's state is reported: conditions, phase and the message that people read.

use jiff::Timestamp;

use super::approvers;
use super::observed::{ArtifactView, Observed, PlanOutcome};
use super::sharing;
use super::step::{End, Ending, Progress, Waiting};
use crate::api::condition::{ConditionStatus, Observation};
use crate::api::phase::Phase;
use crate::api::reason::Reason;
use crate::api::request_status::condition_types as types;
use crate::cluster::errors::first_few;
use crate::text;

/// What is told.
pub(crate) struct Report {
    /// The phase: one word for people.
    pub(crate) phase: Phase,
    pub(crate) conditions: Vec<Observation>,
    /// What it waits for, and until when. `None` at the end.
    pub(crate) waiting: Option<(Reason, Option<Timestamp>)>,
}

/// Tells of a wait.
pub(crate) fn waiting(o: &Observed, wait: &Waiting) -> Report {
    let mut conditions = passed(o, wait.at);
    if let Some(type_) = condition_of(wait.at) {
        conditions.push(Observation::new(type_, ConditionStatus::Unknown, wait.reason, &wait.message));
    }
    conditions.push(Observation::new(types::SUCCEEDED, ConditionStatus::Unknown, wait.reason, &wait.message));
    conditions.push(Observation::new(types::RECONCILING, true, wait.reason, &wait.message));
    Report { phase: phase(wait.at), conditions, waiting: Some((wait.reason, wait.until)) }
}

/// Tells of the end.
pub(crate) fn ended(o: &Observed, ending: &Ending) -> Report {
    let mut conditions = passed(o, ending.at);
    let good = matches!(ending.end, End::Succeeded | End::Planned);
    if let Some(type_) = condition_of(ending.at) {
        conditions.push(Observation::new(type_, good, ending.reason, &ending.message));
    }
    if good && let Some((shared, reason, message)) = sharing::told(o) {
        conditions.push(Observation::new(types::SHARED, shared, reason, message));
    }
    conditions.push(Observation::new(types::SUCCEEDED, good, ending.reason, &ending.message));
    conditions.push(Observation::new(types::RECONCILING, false, Reason::Ended, "the request has ended"));
    conditions.push(Observation::new(
        types::STALLED,
        ending.end == End::Failed,
        if good { Reason::Ended } else { ending.reason },
        if good { "the request has ended" } else { &ending.message },
    ));
    Report {
        phase: match ending.end {
            End::Succeeded => Phase::Succeeded,
            End::Planned => Phase::Planned,
            End::Failed => Phase::Failed,
            End::Rejected => Phase::Rejected,
            End::Canceled => Phase::Canceled,
        },
        conditions,
        waiting: None,
    }
}

/// What is true of a request that has come that far.
fn passed(o: &Observed, at: Progress) -> Vec<Observation> {
    let mut conditions = Vec::new();
    let request = &o.request;
    if at > Progress::Acceptance {
        conditions.push(Observation::new(
            types::ACCEPTED,
            true,
            Reason::Accepted,
            format!("pipeline {}, stage {}, solution {} {}", request.pipeline, request.stage, request.solution, request.version),
        ));
    }
    if at > Progress::PreExportStep
        && let Some(decided) = &request.pre_export
    {
        conditions.push(Observation::new(
            types::PRE_EXPORT_STEP_COMPLETED,
            true,
            Reason::Completed,
            said("completed", &decided.by, decided.comments.as_deref()),
        ));
    }
    // What only plans stores nothing.
    if at > Progress::Export
        && !o.request.plan_only
        && let Some(artifact) = o.artifact.present()
    {
        // Told from the records' own times, so that every reconciliation, and every operator, tells the same.
        let asks_for_export = o.stage.present().is_some_and(|stage| stage.previous.is_none());
        let note = if asks_for_export && artifact.stored_at < request.created_at {
            "; it was stored before: where development has changed since, raise the version to ship that"
        } else {
            ""
        };
        let message =
            format!("artifact {}-{} with digest {}{note}{}", request.solution, request.version, artifact.digest, not_listed(artifact));
        conditions.push(Observation::new(types::EXPORTED, true, Reason::Stored, message));
    }
    if at > Progress::Validation
        && let Some(PlanOutcome::Ready { summary, .. }) = &o.outcomes.plan
    {
        conditions.push(Observation::new(types::VALIDATED, true, Reason::DryRunSucceeded, summary));
    }
    if at > Progress::Approval
        && let Some(decided) = &request.approval
    {
        conditions.push(Observation::new(
            types::APPROVED,
            true,
            Reason::Approved,
            said("approved", &decided.by, decided.comments.as_deref()),
        ));
    }
    if at > Progress::Approval
        && request.approval.is_none()
        && let Some(message) = approvers::answered_for(o)
    {
        conditions.push(Observation::new(types::APPROVED, true, Reason::ApprovedByStage, message));
    }
    if at > Progress::PreDeploymentStep
        && let Some(decided) = &request.pre_deployment
    {
        conditions.push(Observation::new(
            types::PRE_DEPLOYMENT_STEP_COMPLETED,
            true,
            Reason::Completed,
            said("completed", &decided.by, decided.comments.as_deref()),
        ));
    }
    conditions
}

/// The kinds that nobody looked for objects of: what is missing in a version is to be noticed before it is missed.
fn not_listed(artifact: &ArtifactView) -> String {
    let (first, count) = &artifact.not_listed;
    if *count == 0 {
        return String::new();
    }
    let named = first_few((0..*count).map(|index| first.get(index).cloned().unwrap_or_default()));
    format!(
        "; objects of these kinds were not looked for, as the operator may not list them in development: {named}. Where the solution has such objects, \
         let its administrator bind the operator a role that lists them there, and raise the version"
    )
}

fn said(what: &str, by: &str, comments: Option<&str>) -> String {
    comments.map_or_else(|| format!("{what} by {by}"), |c| format!("{what} by {by}: {}", text::line(c)))
}

fn condition_of(at: Progress) -> Option<&'static str> {
    match at {
        Progress::Acceptance => Some(types::ACCEPTED),
        Progress::PreExportStep => Some(types::PRE_EXPORT_STEP_COMPLETED),
        Progress::Export => Some(types::EXPORTED),
        Progress::Validation => Some(types::VALIDATED),
        Progress::Approval => Some(types::APPROVED),
        Progress::PreDeploymentStep => Some(types::PRE_DEPLOYMENT_STEP_COMPLETED),
        Progress::Queue => None,
        Progress::Deployment | Progress::Rollback => Some(types::DEPLOYED),
    }
}

fn phase(at: Progress) -> Phase {
    match at {
        Progress::Acceptance | Progress::Export | Progress::Validation => Phase::Pending,
        Progress::PreExportStep => Phase::AwaitingPreExportStep,
        Progress::Approval => Phase::AwaitingApproval,
        Progress::PreDeploymentStep => Phase::AwaitingPreDeploymentStep,
        Progress::Queue => Phase::Queued,
        Progress::Deployment => Phase::Deploying,
        Progress::Rollback => Phase::RollingBack,
    }
}
