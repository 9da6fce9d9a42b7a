//! Environments: their validation, and the release of claims that nobody holds any more.

mod observe;
mod prerequisites;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::Environment;
use crate::api::condition::{self, Observation};
use crate::api::environment::{EnvironmentStatus, ValidationStatus};
use crate::driver::Cluster;
use crate::driver::controller::{Next, ReconcileError, Reconciler};
use crate::policy::check::{self, Failure, Good, READY};
use crate::policy::environment as policy;

use observe::ClusterVersion;
use prerequisites::Kinds;

/// The condition that tells of the validation.
pub const VALIDATED: &str = "Validated";

/// Validates Environments.
pub struct EnvironmentController {
    cluster: Arc<Cluster>,
    version: ClusterVersion,
    kinds: Kinds,
}

/// What is learned of an environment that is valid.
struct Facts {
    environment_id: String,
    region: Option<String>,
    kubernetes_version: String,
}

/// What a pass found, to be recorded.
struct Found {
    generation: Option<i64>,
    outcome: Result<Good, Failure>,
    facts: Option<Facts>,
    /// Claims that nobody holds: the solution and the uid of the request.
    orphans: Vec<(String, String)>,
}

impl EnvironmentController {
    /// A controller for the Environments of that cluster.
    pub fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, version: ClusterVersion::default(), kinds: Kinds::default() }
    }

    async fn observe(&self, environment: &Environment) -> kube::Result<Found> {
        let view = observe::from_outside(&self.cluster, environment).await?;
        let validate = async {
            let mut checked = policy::from_outside(&view);
            if checked.is_ok() {
                let inside = observe::inside(&self.cluster, &self.kinds, environment).await?;
                checked = policy::from_inside(&view, &inside);
            }
            let facts = match (&checked, &view.found) {
                (Ok(()), Some(namespace)) => Some(Facts {
                    environment_id: namespace.uid.clone(),
                    region: namespace.region.clone(),
                    kubernetes_version: self.version.get(&self.cluster.clients.operator()).await?,
                }),
                _ => None,
            };
            Ok::<_, kube::Error>((checked, facts))
        };
        let ((checked, facts), orphans) = futures::try_join!(validate, observe::orphans(&self.cluster, environment))?;
        let good = || Good { reason: "Validated", message: format!("namespace {} can be used", view.namespace) };
        Ok(Found { generation: environment.metadata.generation, outcome: checked.map(|()| good()), facts, orphans })
    }
}

impl Reconciler for EnvironmentController {
    type Kind = Environment;

    async fn reconcile(&self, object: Arc<Environment>) -> Result<Next, ReconcileError> {
        let (host, name) = (object.namespace().unwrap_or_default(), object.name_any());
        if !self.cluster.serves(&host) || object.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        let environments = &self.cluster.records.environments;
        let newest = environments.newest(&host, &name).await.filter(|n| n.uid() == object.uid()).unwrap_or(object);
        let found = self.observe(&newest).await?;
        let now = Timestamp::now();
        let outcome = found.outcome.clone();
        let ((), written) = environments
            .update(&host, &name, move |current, status| {
                // A change of the specification meanwhile has its own pass.
                if current.metadata.generation == found.generation {
                    record(status, &found, now);
                }
                release(status, &found.orphans);
            })
            .await?;
        let conditions = written.status.as_ref().map_or(&[][..], |s| &s.conditions);
        Ok(Next::After(check::again(&outcome, conditions, READY, &written.uid().unwrap_or_default(), now)))
    }
}

/// Whether the Environment is validated; otherwise why not, in one word.
///
/// # Errors
/// The reason of its condition `Validated`.
pub fn validated(environment: &Environment) -> Result<(), String> {
    let conditions = environment.status.as_ref().map_or(&[][..], |s| &s.conditions);
    super::holds(condition::find(conditions, VALIDATED))
}

fn record(status: &mut EnvironmentStatus, found: &Found, now: Timestamp) {
    let outcome = if found.outcome.is_ok() { ValidationStatus::Success } else { ValidationStatus::Failed };
    if status.validation_status != outcome || status.validated_at.is_none() {
        status.validated_at = Some(condition::whole_seconds(now));
    }
    status.validation_status = outcome;
    status.observed_generation = found.generation.unwrap_or(status.observed_generation);
    if let Some(facts) = &found.facts {
        status.environment_id = Some(facts.environment_id.clone());
        status.region.clone_from(&facts.region);
        status.kubernetes_version = Some(facts.kubernetes_version.clone());
    }
    let summary = check::summary(&found.outcome);
    let validated = summary.iter().find(|o| o.type_ == READY).map(|ready| Observation { type_: VALIDATED, ..ready.clone() });
    for observation in validated.iter().chain(&summary) {
        condition::set(&mut status.conditions, observation, found.generation, now);
    }
}

/// Takes away claims that nobody holds, where they are still the same; a solution that never ran here goes with its claim.
fn release(status: &mut EnvironmentStatus, orphans: &[(String, String)]) {
    status.solutions.retain_mut(|solution| {
        let orphaned =
            solution.claim.as_ref().is_some_and(|c| orphans.iter().any(|(name, uid)| *name == solution.name && *uid == c.request_uid));
        if orphaned {
            tracing::info!(solution = solution.name, "released a claim whose request is gone or has ended");
            solution.claim = None;
        }
        !orphaned || solution.version.is_some() || solution.request.is_some()
    });
}

#[cfg(test)]
mod tests;
