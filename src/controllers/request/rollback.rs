//! Steps `BeginRollback` and `Rollback`: the version that was replaced is restored with the settings that it was deployed with.

use std::collections::BTreeSet;

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use super::acting::acting;
use super::export::unreadable;
use super::planning;
use super::scope::Scope;
use super::stop::Stop;
use super::target::{self, WriteFound, failed};
use super::{Running, Way};
use crate::api::condition::whole_seconds;
use crate::api::environment::DeployedSolution;
use crate::api::plan::{PlannedAction, PlannedObject};
use crate::api::reason::Reason;
use crate::api::request_status::{MAX_ROLLBACK_MESSAGE, Rollback};
use crate::api::settings::DeploymentSettings;
use crate::api::{Artifact, DeploymentRequest, Environment, names};
use crate::cluster::errors;
use crate::cluster::object::{Key, group_of};
use crate::deploy::plan::input::Created;
use crate::deploy::settings::{self, Resolved};
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
    let (artifact, resolved) = match former(scope, &begun, &record).await {
        Ok(former) => former,
        Err(stop) => return stop.told(|refusal| refusal),
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

/// The replaced version, and its objects with the settings of its record. `Err` says why they are not available.
async fn former(scope: Scope<'_>, begun: &Rollback, record: &DeployedSolution) -> Result<(Artifact, Resolved), Stop<WriteFound>> {
    let name = names::artifact_name(&scope.request.spec.solution.name, &begun.version);
    if record.digest.as_deref() != Some(begun.digest.as_str()) {
        let message = "the Environment's record names another artifact than the one that was replaced";
        return Err(Stop::Because(failed(Reason::RecordChanged, message)));
    }
    let client = scope.cluster.clients.operator();
    let artifact = Api::<Artifact>::namespaced(client.clone(), &scope.host()).get_opt(&name).await?;
    let Some(artifact) = artifact.filter(|a| a.spec.digest == begun.digest) else {
        let message = format!("Artifact {name} with digest {} does not exist any more", begun.digest);
        return Err(Stop::Because(failed(Reason::ArtifactGone, &message)));
    };
    let bundle = match scope.bundle(&artifact).await {
        Ok(bundle) => bundle,
        Err(error) => {
            let outcome = unreadable(&error).map_or_else(|error| ApplyOutcome::Unavailable(error.to_string()), ApplyOutcome::Blocked);
            return Err(Stop::Because(outcome.into()));
        }
    };
    let deployed_by = record.request.clone().unwrap_or_default();
    let former = match deployed_by.as_str() {
        "" => None,
        name => Api::<DeploymentRequest>::namespaced(client, &scope.host()).get_opt(name).await?,
    };
    // The record has the digest of the settings. They are recognized by it wherever they are found: in the request that deployed them, in
    // this request if nothing was changed, or in the defaults.
    let candidates = [former.and_then(|r| r.spec.deployment_settings), scope.request.spec.deployment_settings.clone(), None];
    let (variables, connections) = (&artifact.spec.environment_variables, &artifact.spec.connection_references);
    let resolve =
        |wanted: Option<DeploymentSettings>| settings::resolve(bundle.objects(), variables, connections, &wanted.unwrap_or_default()).ok();
    let found = candidates.into_iter().filter_map(resolve).find(|r| record.settings_digest.as_deref() == Some(r.digest.as_str()));
    let Some(resolved) = found else {
        let message = format!(
            "the settings that it was deployed with are not known any more: request {deployed_by}, which held them, was deleted, or made anew with others"
        );
        return Err(Stop::Because(failed(Reason::SettingsGone, &message)));
    };
    Ok((artifact, resolved))
}
