//! What the maker's view says about one request.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use super::observe;
use super::own_status::approved_by;
use super::scope::Scope;
use super::strangers;
use crate::api::artifact::DecidedGate;
use crate::api::bounds;
use crate::api::condition::{self, whole_seconds};
use crate::api::phase::Phase;
use crate::api::plan::PlannedAction;
use crate::api::request_status::{DeploymentRequestStatus, RunStatus, StepDecision, condition_types};
use crate::api::solution::{
    MAX_COMMENTS, MAX_MESSAGE, MAX_PROPERTY, MOST_PROPERTIES, RunningVersion, SolutionDecision, SolutionDeployment,
};
use crate::api::solution_plans::{self, PlannedChange, SolutionPlan};
use crate::policy::makers_view::Runs;
use crate::policy::request::not_looked_for;
use crate::text;

/// What is said.
#[derive(Clone)]
pub(super) enum Told {
    /// Of a request that deploys, and what runs in its stage.
    Deployment(Box<SolutionDeployment>, Runs),
    /// Of a request that only plans.
    Plan(Box<SolutionPlan>),
}

/// What is said of the request, whose status is now `run`.
pub(super) fn of(scope: Scope<'_>, run: &RunStatus, message: &str, now: Timestamp) -> Told {
    if scope.request.spec.plan_only {
        return Told::Plan(Box::new(plan(scope, run, message, now)));
    }
    Told::Deployment(Box::new(entry(scope, run, message, now)), runs(scope, run))
}

/// Whether it ended without a deployment. If nothing was deployed, nothing can be missing from it.
fn ended_in_vain(run: &RunStatus) -> bool {
    matches!(Phase::of(&run.phase), Some(Phase::Failed | Phase::Rejected | Phase::Canceled))
}

fn entry(scope: Scope<'_>, run: &RunStatus, message: &str, now: Timestamp) -> SolutionDeployment {
    let spec = &scope.request.spec;
    let status = scope.request.status.as_ref();
    let artifact = scope.related.artifact.as_deref().filter(|_| !ended_in_vain(run));
    let told = not_looked_for::before(artifact.map(observe::artifact_view).as_ref(), message);
    let told = strangers::unnamed(scope, &told);
    SolutionDeployment {
        host: scope.host(),
        stage: spec.stage.clone(),
        pipeline: spec.pipeline.clone(),
        runs: None,
        version: spec.solution.version.clone(),
        phase: run.phase.clone(),
        request: scope.request.name_any(),
        request_uid: scope.uid(),
        requester: spec.requested_by.as_ref().map(|r| r.username.clone()).unwrap_or_default(),
        never_accepted: !condition::is_true(&run.conditions, condition_types::ACCEPTED),
        message: Some(bounds::text(&text::plain(&told), MAX_MESSAGE)),
        waiting_since: run.waiting.as_ref().map(|wait| wait.since),
        waiting_until: run.waiting.as_ref().and_then(|wait| wait.until),
        approved_by: approved_by(scope.request, run),
        approval_comments: status.and_then(|s| s.approval.as_ref()?.comments.as_deref()).map(|said| text::plain(said).into_owned()),
        source_environment: spec.source_environment.clone(),
        artifact: spec.artifact.as_ref().map(|artifact| run.source.clone().unwrap_or_else(|| artifact.oci.to_string())),
        decisions: status.map(decisions).unwrap_or_default(),
        asked_at: scope.request.metadata.creation_timestamp.as_ref().map(|t| t.0),
        at: whole_seconds(now),
        others: Vec::new(),
        others_omitted: 0,
    }
}

/// What was decided at each gate, in their order.
fn decisions(status: &DeploymentRequestStatus) -> Vec<SolutionDecision> {
    let step = |gate, step: &StepDecision| SolutionDecision {
        gate,
        decision: format!("{:?}", step.decision),
        by: step.by.clone().unwrap_or_default(),
        on_behalf_of: step.on_behalf_of.clone(),
        comments: step.comments.as_deref().map(comments),
        properties: properties(&step.properties),
    };
    let approval = status.approval.as_ref().map(|approval| SolutionDecision {
        gate: DecidedGate::Approval,
        decision: format!("{:?}", approval.decision),
        by: approval.by.clone().unwrap_or_default(),
        on_behalf_of: approval.on_behalf_of.clone(),
        comments: approval.comments.as_deref().map(comments),
        properties: properties(&approval.properties),
    });
    let first = status.pre_export_step.as_ref().map(|decision| step(DecidedGate::PreExportStep, decision));
    let last = status.pre_deployment_step.as_ref().map(|decision| step(DecidedGate::PreDeploymentStep, decision));
    [first, approval, last].into_iter().flatten().collect()
}

fn comments(said: &str) -> String {
    bounds::text(&text::plain(said), MAX_COMMENTS)
}

fn properties(said: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = |text: &str| bounds::text(&text::line(text), MAX_PROPERTY);
    said.iter().take(MOST_PROPERTIES).map(|(name, value)| (shown(name), shown(value))).collect()
}

/// What runs in the stage: what this request has just deployed, or what the Environment's record says. If the claim is released already,
/// another request may have deployed since.
fn runs(scope: Scope<'_>, run: &RunStatus) -> Runs {
    if run.start_time.is_some() && run.phase == Phase::Succeeded && scope.holds_claim() {
        return Runs::Known(Some(RunningVersion { version: scope.request.spec.solution.version.clone(), since: run.end_time }));
    }
    let Some(target) = &scope.related.target else { return Runs::Unknown };
    let recorded = target.status.iter().flat_map(|s| &s.solutions).find(|s| s.name == scope.request.spec.solution.name);
    let version = recorded.and_then(|s| Some(RunningVersion { version: s.version.clone()?, since: s.deployed_at }));
    Runs::Known(version)
}

/// A plan without values: not everybody who may read the Solution may know what is set in the target.
fn plan(scope: Scope<'_>, run: &RunStatus, message: &str, now: Timestamp) -> SolutionPlan {
    let spec = &scope.request.spec;
    let found = run.plan.clone().unwrap_or_default();
    let changes = found.objects.iter().filter(|object| object.action != PlannedAction::Unchanged);
    let objects: Vec<PlannedChange> =
        changes.map(|o| PlannedChange { action: o.action, kind: o.kind.clone(), name: o.name.clone() }).collect();
    SolutionPlan {
        host: scope.host(),
        stage: spec.stage.clone(),
        pipeline: spec.pipeline.clone(),
        version: spec.solution.version.clone(),
        phase: run.phase.clone(),
        request: scope.request.name_any(),
        request_uid: scope.uid(),
        requester: spec.requested_by.as_ref().map(|r| r.username.clone()).unwrap_or_default(),
        message: bounds::text(&text::plain(&strangers::unnamed(scope, message)), solution_plans::MAX_MESSAGE),
        objects,
        // What is too much is counted when the status is written.
        objects_omitted: found.objects_omitted,
        results: found.results,
        results_omitted: found.results_omitted,
        asked_at: scope.request.metadata.creation_timestamp.as_ref().map(|t| t.0),
        at: whole_seconds(now),
    }
}
