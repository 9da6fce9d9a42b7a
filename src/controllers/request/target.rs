//! Steps `Apply`, `Check` and `Prune`. Only these steps, `Rollback` and `Share` write to a target, and all of them act as the delegate.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::acting::{Acting, acting, going};
use super::planning::{self, Prepared};
use super::scope::Scope;
use super::stop::Stop;
use super::{Running, Way};
use crate::api::DeploymentRequest;
use crate::api::reason::Reason;
use crate::api::request_status::ObjectError;
use crate::cluster::blocked::{Blocked, Until};
use crate::cluster::errors::{self, Cause};
use crate::deploy::apply::{self, ApplyError};
use crate::deploy::health::{self, Healthy};
use crate::deploy::plan::planned::Planned;
use crate::identity::claimed::Claimed;
use crate::policy::clock;
use crate::policy::request::observed::{ApplyOutcome, HealthOutcome, Observed};
use crate::runtime::controller::ReconcileError;

/// How long before the deadline the cause is looked up for objects that are not healthy. The calls take a while.
const JUST_BEFORE: Duration = Duration::from_secs(1);
/// The message for objects that were refused.
pub(super) const NOT_APPLIED: &str = "not all objects could be applied";
/// The same for objects that are deleted.
const NOT_PRUNED: &str = "deployed and healthy, but not all that earlier versions put there could be taken away";
/// The most characters of a message about one object. The status has the whole text.
const MAX_REASON: usize = 512;

/// The result of writes to a target, and what was refused.
pub(super) struct WriteFound {
    pub(super) outcome: ApplyOutcome,
    pub(super) errors: Vec<ObjectError>,
}

impl From<ApplyOutcome> for WriteFound {
    fn from(outcome: ApplyOutcome) -> Self {
        Self { outcome, errors: Vec::new() }
    }
}

/// The health of what was applied.
pub(super) struct CheckFound {
    pub(super) outcome: HealthOutcome,
    /// What counts as healthy but does nothing yet, or not everything.
    pub(super) told: Vec<String>,
    /// What was applied, if all of it is healthy.
    pub(super) healthy: Option<Healthy>,
    pub(super) errors: Vec<ObjectError>,
}

impl From<HealthOutcome> for CheckFound {
    fn from(outcome: HealthOutcome) -> Self {
        Self { outcome, told: Vec::new(), healthy: None, errors: Vec::new() }
    }
}

/// Applies the plan, as the delegate.
pub(super) async fn apply(
    scope: Scope<'_>,
    running: &Running,
    observed: &Observed,
    prepared: Option<Box<Prepared>>,
) -> Result<WriteFound, ReconcileError> {
    if running.get(&scope.uid(), Way::Forth).is_some() {
        return Ok(ApplyOutcome::Applied.into());
    }
    let (Some(target), Some(artifact)) = (&scope.related.target, &scope.related.artifact) else {
        return Ok(failed(Reason::ArtifactGone, "the environment or the artifact is gone"));
    };
    let acting = match acting(scope, observed).await {
        Ok(acting) => acting,
        Err(stop) => return stop.told(|blocked| ApplyOutcome::Blocked(blocked).into()),
    };
    let planned = match prepared {
        Some(prepared) => prepared.planned,
        // Another process started it and has ended. What it did not write is planned again. What it wrote is unchanged.
        None => match planning::dry_run(scope, &acting, target, artifact).await {
            Ok(dry) => match beyond_plan(scope, &dry.planned).await? {
                None => dry.planned,
                Some(obstacle) => return Ok(ApplyOutcome::Blocked(obstacle).into()),
            },
            Err(Stop::Because(hindrance)) => return Ok(planning::hindered_midway(scope, hindrance)),
            Err(Stop::Failed(error)) => return Ok(ApplyOutcome::Unavailable(acting.said(&error.to_string())).into()),
        },
    };
    let Some(claim) = Claimed::from_environment(target, &scope.request.spec.solution.name, &scope.uid()) else {
        return Ok(failed(Reason::ClaimLost, "the claim on the environment is gone"));
    };
    carry_out(scope, running, claim, &acting, planned, Way::Forth).await
}

/// The result if nothing is written and no further try is made.
pub(super) fn failed(reason: Reason, message: &str) -> WriteFound {
    ApplyOutcome::Blocked(Blocked { until: Until::End, reason, message: message.into() }).into()
}

/// Why a plan that was made again midway is not carried out: it would delete more than what was approved.
async fn beyond_plan(scope: Scope<'_>, planned: &Planned) -> Result<Option<Blocked>, ReconcileError> {
    if !planned.must_be_asked_for() {
        return Ok(None);
    }
    // It is read live: the cache does not keep the lists of a plan.
    let requests = Api::<DeploymentRequest>::namespaced(scope.cluster.clients.operator(), &scope.host());
    let request = requests.get_opt(&scope.request.name_any()).await?.filter(|request| request.uid() == scope.request.uid());
    let Some(pinned) = request.and_then(|request| request.status?.run.plan) else { return Ok(None) };
    let beyond = planned.beyond(&pinned);
    let named = errors::first_few(beyond.iter().map(ToString::to_string));
    Ok((!beyond.is_empty()).then(|| Blocked {
        until: Until::End,
        reason: Reason::PlanChanged,
        message: format!(
            "{named} would be deleted, created anew, adopted or let go by now, which the plan of this request does not say: nothing more was written. Find out who labelled or changed this in the target, then ask again"
        ),
    }))
}

/// Carries out a plan, and keeps what was applied until it is healthy.
pub(super) async fn carry_out(
    scope: Scope<'_>,
    running: &Running,
    claim: Claimed,
    acting: &Acting,
    planned: Planned,
    way: Way,
) -> Result<WriteFound, ReconcileError> {
    let fence = scope.fence(claim);
    match apply::apply(&fence, &acting.client, planned, scope.cluster.options.apply_concurrency).await {
        Ok(applied) => {
            running.keep(&scope.uid(), way, Arc::new(applied));
            Ok(ApplyOutcome::Applied.into())
        }
        Err(error) => not_carried_out(scope, acting, fence.claim().namespace(), error, NOT_APPLIED).await,
    }
}

async fn not_carried_out(
    scope: Scope<'_>,
    acting: &Acting,
    namespace: &str,
    error: ApplyError,
    what: &str,
) -> Result<WriteFound, ReconcileError> {
    match error {
        ApplyError { missing, .. } if !missing.is_empty() => {
            Ok(ApplyOutcome::Blocked(acting.missing(scope, namespace, &missing).await?).into())
        }
        ApplyError { errors, transient: true, .. } => {
            Ok(ApplyOutcome::Unavailable(acting.said(&errors::first_few(errors.iter().map(errors::named)))).into())
        }
        ApplyError { errors, .. } => Ok(planning::not_applied(errors, what)),
    }
}

/// Deletes what the healthy version replaces, and reports what was deleted and still exists.
pub(super) async fn prune(
    scope: Scope<'_>,
    observed: &Observed,
    healthy: Option<Healthy>,
) -> Result<(WriteFound, Vec<String>), ReconcileError> {
    let nothing_left = |found: WriteFound| Ok((found, Vec::new()));
    let (Some(healthy), Some(target)) = (healthy, &scope.related.target) else {
        return nothing_left(ApplyOutcome::Unavailable("what was applied is to be looked at again".into()).into());
    };
    let acting = match acting(scope, observed).await {
        Ok(acting) => acting,
        Err(stop) => return nothing_left(stop.told(|blocked| ApplyOutcome::Blocked(blocked).into())?),
    };
    let Some(claim) = Claimed::from_environment(target, &scope.request.spec.solution.name, &scope.uid()) else {
        return nothing_left(failed(Reason::ClaimLost, "the claim on the environment is gone"));
    };
    let fence = scope.fence(claim);
    match apply::prune::prune(&fence, &acting.client, &healthy, scope.cluster.options.apply_concurrency).await {
        Ok(()) => Ok((ApplyOutcome::Applied.into(), health::leaving(&acting.client, &healthy).await)),
        Err(error) => nothing_left(not_carried_out(scope, &acting, fence.claim().namespace(), error, NOT_PRUNED).await?),
    }
}

/// Checks the health of what was applied.
pub(super) async fn check(scope: Scope<'_>, running: &Running, observed: &Observed) -> Result<CheckFound, ReconcileError> {
    let way = if scope.status().rollback.is_some() { Way::Back } else { Way::Forth };
    let Some(applied) = running.get(&scope.uid(), way) else {
        return Ok(HealthOutcome::Pending("what was applied to be looked at".into()).into());
    };
    let acting = match acting(scope, observed).await {
        Ok(acting) => acting,
        Err(stop) => return stop.told(|blocked| HealthOutcome::Blocked(blocked).into()),
    };
    let client = &acting.client;
    let (report, healthy) = match health::check(client, &acting.reader(scope.cluster), &applied).await {
        Ok(found) => found,
        Err(error) if errors::classify(&error) == Cause::Unauthorized => {
            let missing = acting.missing(scope, scope.target_namespace(), &health::rights(client, &applied)).await?;
            return Ok(HealthOutcome::Blocked(missing).into());
        }
        Err(error) => {
            return Ok(HealthOutcome::Pending(format!("the target to be reached: {}", acting.said(&errors::message(&error)))).into());
        }
    };
    if let Some(healthy) = healthy {
        return Ok(CheckFound { outcome: HealthOutcome::Healthy, told: report.told, healthy: Some(healthy), errors: Vec::new() });
    }
    if let Some(going) = scope.related.target.as_ref().and_then(|target| going(scope, &target.spec.namespace)) {
        return Ok(HealthOutcome::Blocked(going).into());
    }
    if !report.failed.is_empty() {
        let said = errors::first_few(report.failed.iter().map(errors::named));
        return Ok(CheckFound { errors: report.failed, ..HealthOutcome::Failed(said).into() });
    }
    let mut said = errors::first_few(report.pending.iter().map(|(kind, name, why)| format!("{kind} {name} ({why})")));
    let mut reasons = Vec::new();
    if is_late(observed) {
        reasons = health::reasons(client, &applied, &report).await;
        said = errors::first_few(reasons.iter().map(|e| errors::bounded(&e.message, MAX_REASON)));
    }
    let pending = HealthOutcome::Pending(format!("{} of its objects: {}", report.pending.len(), said));
    Ok(CheckFound { errors: reasons, ..pending.into() })
}

/// Whether the deadline for health is near. Then it is time to find out the cause.
fn is_late(observed: &Observed) -> bool {
    let way_back = observed.request.rollback.as_ref().map(|begun| begun.since);
    let Some((start, stage)) = way_back.or(observed.request.start_time).zip(observed.stage.present()) else { return false };
    clock::after(Timestamp::now(), JUST_BEFORE) >= clock::after(start, stage.deployment_timeout)
}
