//! Step `Claim`: this request alone gets the target, in exactly the state that the decision was made on.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt};

use super::observe::{self, RelatedObjects};
use super::planning::Prepared;
use super::scope::Scope;
use crate::api::condition::whole_seconds;
use crate::api::environment::{Claim, DeployedSolution, EnvironmentStatus};
use crate::api::{DeploymentRequest, Environment, Stage};
use crate::identity::answers::JUST_NOW;
use crate::policy::record;
use crate::policy::request::observed::{ClaimOutcome, Observed};
use crate::runtime::Cluster;
use crate::runtime::controller::ReconcileError;

/// The stage as the API server has it, not a cache. Request and Environment need not be read: both are written before the target is, and
/// the API server refuses these writes if the state has changed since the decision.
pub(super) struct Live {
    stage: Option<Arc<Stage>>,
    at: Instant,
}

impl Live {
    /// Reads it. It borrows nothing, so that it can run beside something else.
    pub(super) async fn read(cluster: Arc<Cluster>, request: Arc<DeploymentRequest>) -> Result<Self, ReconcileError> {
        let at = Instant::now();
        let stages: Api<Stage> = Api::namespaced(cluster.clients.operator(), &request.namespace().unwrap_or_default());
        let stage = stages.get_opt(&request.spec.stage).await?.map(Arc::new);
        Ok(Self { stage, at })
    }
}

/// The result of a claim, with stage and environment as they are now. `None` if they differ from what the plan was made on: then the next
/// decision is made on the new state, with a new plan.
pub(super) struct ClaimFound {
    pub(super) outcome: Option<ClaimOutcome>,
    pub(super) related: RelatedObjects,
}

/// Reads the stage live unless that was just done. Claims the environment if both are what the plan was made on.
pub(super) async fn claim(
    scope: Scope<'_>,
    observed: &Observed,
    live: Option<Live>,
    prepared: Option<&Prepared>,
    now: Timestamp,
) -> Result<ClaimFound, ReconcileError> {
    let mut related = scope.related.clone();
    let again = |related| Ok(ClaimFound { outcome: None, related });
    if !unchanged(scope, live, &mut related).await? || !still_claimed(scope, observed, &mut related).await? {
        return again(related);
    }
    let (Some(target), Some(prepared)) = (related.target.clone(), prepared.filter(|_| observed.stage.present().is_some())) else {
        return again(related);
    };
    let claim = Claim {
        request: scope.request.name_any(),
        request_uid: scope.uid(),
        digest: prepared.plan.artifact_digest.clone(),
        since: whole_seconds(now),
    };
    let solution = scope.request.spec.solution.name.clone();
    let of_cluster = prepared.planned.kinds_of_cluster();
    let generation = target.metadata.generation;
    let planned_on = observed
        .target
        .present()
        .map(|t| (t.uid.clone(), generation, t.environment_id.clone(), t.current.as_ref().map(|c| c.digest.clone())));
    let name = target.name_any();
    let (claiming, environment) = scope
        .cluster
        .records
        .environments
        .update(&scope.host(), &target.name_any(), move |environment, status| {
            let before = status.clone();
            let index = status.solutions.iter().position(|s| s.name == solution).unwrap_or_else(|| {
                status.solutions.push(DeployedSolution { name: solution.clone(), ..DeployedSolution::default() });
                status.solutions.len() - 1
            });
            let entry = &mut status.solutions[index];
            let now_on = (
                environment.uid().unwrap_or_default(),
                environment.metadata.generation,
                status.environment_id.clone().unwrap_or_default(),
                entry.digest.clone(),
            );
            match &entry.claim {
                Some(held) if held.request_uid != claim.request_uid => return Claiming::Lost(held.request.clone()),
                Some(_) => return Claiming::Won,
                None => {}
            }
            if planned_on.as_ref() != Some(&now_on) {
                // Another deployment ended in between: the plan is made again.
                status.solutions.retain(DeployedSolution::is_anything);
                return Claiming::Again;
            }
            entry.claim = Some(claim.clone());
            entry.may_have(&of_cluster);
            if let Some(why) = record::no_room(&name, &solution, status).filter(|_| is_more(&before, &solution, status)) {
                *status = before;
                return Claiming::NoRoom(why);
            }
            Claiming::Won
        })
        .await?;
    related.target = Some(environment);
    let outcome = match claiming {
        Claiming::Won => Some(ClaimOutcome::Won),
        Claiming::Again => None,
        Claiming::Lost(to) => Some(ClaimOutcome::Lost { to }),
        Claiming::NoRoom(message) => Some(ClaimOutcome::NoRoom { message }),
    };
    Ok(ClaimFound { outcome, related })
}

/// Whether the live stage is the one that this reconciliation decided on. If it is not, the new one replaces it in `related`.
async fn unchanged(scope: Scope<'_>, live: Option<Live>, related: &mut RelatedObjects) -> Result<bool, ReconcileError> {
    let Live { stage, at: _ } = match live.filter(|live| live.at.elapsed() < JUST_NOW) {
        Some(live) => live,
        None => Live::read(scope.cluster.clone(), scope.request.clone()).await?,
    };
    let same = stage.as_deref().map(identity) == related.stage.as_deref().map(identity);
    related.stage = stage;
    Ok(same)
}

/// If this request holds a claim already because its start could not be written, the claim is not written again. Then the Environment is
/// read. If it differs from what this reconciliation decided on, the new one replaces it.
async fn still_claimed(scope: Scope<'_>, observed: &Observed, related: &mut RelatedObjects) -> Result<bool, ReconcileError> {
    let (Some(seen), Some(target)) = (observed.target.present(), related.target.clone()) else { return Ok(true) };
    if seen.claim.as_ref().is_none_or(|claim| claim.request_uid != scope.uid()) {
        return Ok(true);
    }
    let live = observe::get::<Environment>(scope.cluster, &scope.host(), Some(&target.name_any())).await?;
    let id = |environment: &Environment| environment.status.as_ref().and_then(|s| s.environment_id.clone());
    let same = live.as_deref().is_some_and(|live| identity(live) == identity(target.as_ref()) && id(live) == id(&target));
    related.target = live;
    Ok(same)
}

/// The result of a try to claim a solution in an environment.
enum Claiming {
    Won,
    /// Another deployment ended in between.
    Again,
    /// The request of that name holds the claim.
    Lost(String),
    /// The record has no room, for that reason.
    NoRoom(String),
}

/// Whether a record needs more room for a solution than before. What is stored already is never refused.
fn is_more(before: &EnvironmentStatus, solution: &str, now: &EnvironmentStatus) -> bool {
    let kinds = |status: &EnvironmentStatus| status.solutions.iter().find(|s| s.name == solution).map(|s| s.cluster_scoped.len());
    before.solutions.len() < now.solutions.len() || kinds(before) < kinds(now)
}

fn identity<K: Resource>(object: &K) -> (Option<String>, Option<i64>) {
    (object.meta().uid.clone(), object.meta().generation)
}
