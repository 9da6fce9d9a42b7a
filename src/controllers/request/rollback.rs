//! Steps `BeginRollback` and `Rollback`: the version that was replaced is restored with the settings that it was deployed with.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::acting::acting;
use super::former;
use super::planning;
use super::scope::Scope;
use super::stop::Stop;
use super::target::{self, WriteFound, failed};
use super::{Running, Way};
use crate::api::condition::whole_seconds;
use crate::api::plan::{PlannedAction, PlannedObject};
use crate::api::reason::Reason;
use crate::api::request_status::{MAX_ROLLBACK_MESSAGE, Rollback};
use crate::api::{Artifact, DeploymentRequest, Environment};
use crate::cluster::errors;
use crate::cluster::object::{Key, group_of};
use crate::deploy::plan::input::Created;
use crate::identity::claimed::Claimed;
use crate::policy::request::observed::{ApplyOutcome, Observed, Replaced};
use crate::policy::request::step::{Failure, Progress, Waiting};
use crate::runtime::controller::ReconcileError;

/// What is written to the status when a rollback begins: that it begins, and why. After a crash, the next leader continues from here.
pub(super) fn begun(replaced: &Replaced, failure: &Failure, now: Timestamp) -> (Rollback, Waiting) {
    let wait = Waiting {
        at: Progress::Rollback,
        reason: Reason::RollingBack,
        message: format!("{}: {}; puts {} back", failure.reason, failure.message.trim_end(), replaced.version),
        until: None,
        poll: None,
    };
    let rollback = Rollback {
        version: replaced.version.clone(),
        digest: replaced.digest.clone(),
        since: whole_seconds(now),
        reason: failure.reason.into(),
        message: errors::bounded(&failure.message, MAX_ROLLBACK_MESSAGE),
    };
    (rollback, wait)
}

/// Restores the replaced version, as the delegate that deployed the failed one.
pub(super) async fn restore(scope: Scope<'_>, running: &Running, observed: &Observed) -> Result<WriteFound, ReconcileError> {
    if running.get(&scope.uid(), Way::Back).is_some() {
        return Ok(ApplyOutcome::Applied.into());
    }
    let (Some(begun), Some(target)) = (scope.status().rollback, &scope.related.target) else {
        return Ok(failed(Reason::EnvironmentGone, "the Environment is gone"));
    };
    // It is read live, because another write to the target depends on it.
    let environments: Api<Environment> = Api::namespaced(scope.cluster.clients.operator(), &scope.host());
    let solution = scope.request.spec.solution.name.clone();
    let target = environments.get_opt(&target.name_any()).await?;
    let claimed = target.and_then(|target| Some((Claimed::from_environment(&target, &solution, &scope.uid())?, target)));
    let Some((claim, target)) = claimed else {
        return Ok(failed(Reason::ClaimLost, "the claim on the environment is gone, so that nothing was put back"));
    };
    let record = target.status.iter().flat_map(|s| &s.solutions).find(|s| s.name == solution).cloned().unwrap_or_default();
    let (artifact, resolved) = match former::read(scope, &begun.version, &begun.digest, &record).await {
        Ok(former) => former,
        Err(Stop::Because(blocked)) => return Ok(ApplyOutcome::Blocked(blocked).into()),
        Err(Stop::Failed(error @ ReconcileError::Transient(_))) => return Ok(ApplyOutcome::Unavailable(error.to_string()).into()),
        Err(Stop::Failed(error)) => return Err(error),
    };
    let acting = match acting(scope, observed).await {
        Ok(acting) => acting,
        Err(stop) => return stop.told(|blocked| ApplyOutcome::Blocked(blocked).into()),
    };
    let created = created(scope).await?;
    let planned = match planning::dry_run_resolved(scope, &acting, &target, &artifact, resolved, Some(&created), Vec::new()).await {
        Ok(dry) => dry.planned,
        Err(Stop::Because(hindrance)) => return Ok(planning::hindered_midway(scope, hindrance)),
        Err(Stop::Failed(error)) => return Ok(ApplyOutcome::Unavailable(acting.said(&error.to_string())).into()),
    };
    target::carry_out(scope, running, claim, &acting, planned, Way::Back).await
}

/// What this run created, by the approved plan. A rollback deletes nothing else: no plan has announced the deletion of objects that existed
/// before, or that somebody else has added to the solution meanwhile.
async fn created(scope: Scope<'_>) -> Result<Created, ReconcileError> {
    let status = scope.status();
    let mut created =
        Created { planned: BTreeSet::new(), unlisted: BTreeSet::new(), since: status.start_time.unwrap_or_else(Timestamp::now) };
    // It is read live: the caches do not keep the lists of a plan and an artifact.
    let requests = Api::<DeploymentRequest>::namespaced(scope.cluster.clients.operator(), &scope.host());
    let request = requests.get_opt(&scope.request.name_any()).await?.filter(|request| request.uid() == scope.request.uid());
    let Some(plan) = request.and_then(|request| request.status?.run.plan) else { return Ok(created) };
    let key = |o: &PlannedObject| Key { group: group_of(&o.api_version).to_owned(), kind: o.kind.clone(), name: o.name.clone() };
    created.planned = plan.objects.iter().filter(|o| o.action == PlannedAction::Create).map(key).collect();
    if plan.objects_omitted > 0
        && let Some(failed) = status.artifact
    {
        let listed: BTreeSet<Key> = plan.objects.iter().map(key).collect();
        let artifacts: Api<Artifact> = Api::namespaced(scope.cluster.clients.operator(), &scope.host());
        let artifact = artifacts.get_opt(&failed.name).await?.filter(|artifact| artifact.spec.digest == failed.digest);
        let objects = artifact.into_iter().flat_map(|artifact| artifact.spec.objects).map(Key::from);
        created.unlisted = objects.filter(|key| !listed.contains(key)).collect();
    }
    Ok(created)
}
