//! Environments: validates them, and releases claims that nobody holds any more.

mod observe;
mod prerequisites;
mod rebuilt;
mod remotely;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::Environment;
use crate::api::condition::{self, Observation, VALIDATED};
use crate::api::environment::{EnvironmentStatus, ValidationStatus};
use crate::api::reason::Reason;
use crate::controllers::GIVEN_UP;
use crate::controllers::seen::Seen;
use crate::policy::check::{self, Failure, Good, READY};
use crate::policy::environment::{self as policy, View};
use crate::runtime::Cluster;
use crate::runtime::controller::{Next, ReconcileError, Reconciler};
use crate::runtime::status_writer::RecordError;

use observe::ClusterVersion;

/// When to try a remote cluster again if too many reconciliations work on it.
pub(crate) const CROWDED: Duration = Duration::from_millis(250);

/// What a validation is based on. Annotations are part of it, so that an administrator can ask for a new validation at once.
type Grounds = (Option<i64>, Option<BTreeMap<String, String>>, View);

/// Validates Environments.
pub(crate) struct EnvironmentController {
    cluster: Arc<Cluster>,
    version: ClusterVersion,
    seen: Seen<Grounds>,
}

/// What is known about a valid environment.
struct Facts {
    environment_id: String,
    region: Option<String>,
    kubernetes_version: String,
}

/// What a validation found and records.
struct Validation {
    outcome: Result<Good, Failure>,
    facts: Option<Facts>,
}

impl EnvironmentController {
    /// A controller for the Environments of that cluster.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, version: ClusterVersion::default(), seen: Seen::default() }
    }

    async fn validate(&self, environment: &Environment, cached: View) -> kube::Result<Validation> {
        if let Some(cluster) = &environment.spec.cluster {
            return remotely::validate(&self.cluster, environment, cluster, cached).await;
        }
        let view = observe::with_bindings(&self.cluster.access, cached).await?;
        let mut checked = policy::from_outside(&view).map(|_| ());
        if checked.is_ok() {
            let inside = observe::inside(&self.cluster, environment).await?;
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
        Ok(Validation { outcome: checked.map(|()| good(&view)), facts })
    }
}

fn good(view: &View) -> Good {
    Good { reason: Reason::Validated, message: format!("namespace {} can be used", view.place()) }
}

impl Reconciler for EnvironmentController {
    type Kind = Environment;

    async fn reconcile(&self, object: Arc<Environment>) -> Result<Next, ReconcileError> {
        let (host, name) = (object.namespace().unwrap_or_default(), object.name_any());
        if !self.cluster.serves(&host) || object.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        self.cluster.remotes.sweep();
        let environments = &self.cluster.records.environments;
        let environment = environments.newest(&host, &name).await.filter(|n| n.uid() == object.uid()).unwrap_or(object);
        let (uid, generation) = (environment.uid(), environment.metadata.generation);
        let key = uid.clone().unwrap_or_default();

        let cached = observe::from_caches(&self.cluster.stores, &environment);
        let mut grounds = (generation, environment.metadata.annotations.clone(), cached);
        let holds = self.seen.holds(&key, &grounds);
        let _admitted = match (&environment.spec.cluster, holds) {
            (Some(remote), None) => match self.cluster.remotes.admit(&host, remote) {
                Some(admitted) => Some(admitted),
                None => return Ok(Next::After(CROWDED)),
            },
            _ => None,
        };
        let validation = async {
            match holds {
                Some(_) => Ok(None),
                None => self.validate(&environment, grounds.2.clone()).await.map(Some),
            }
        };
        let (validation, orphans) = futures::try_join!(validation, observe::orphans(&self.cluster, &environment))?;
        if let (Some(left), true) = (holds, orphans.is_empty()) {
            return Ok(Next::After(left));
        }

        let past = match &validation {
            Some(Validation { facts: Some(facts), .. }) => rebuilt::past(&self.cluster, &environment, &facts.environment_id).await,
            _ => Vec::new(),
        };
        let now = Timestamp::now();
        let validation = Arc::new(validation);
        let found = validation.clone();
        let written = environments.update(&host, &name, move |current, status| {
            // If the Environment was replaced or its spec was changed, another reconciliation handles it.
            if current.uid() == uid && current.metadata.generation == generation {
                if status.environment_id.is_none() && status.solutions.is_empty() {
                    status.solutions.clone_from(&past);
                }
                found.iter().for_each(|found| record(status, found, generation, now));
                release(status, &orphans);
                status.sum_up();
            }
        });
        let written = match written.await {
            Ok(((), written)) => written,
            Err(RecordError::NotFound(_)) => return Ok(Next::Done),
            Err(error) => return Err(error.into()),
        };
        let Some(validation) = validation.as_ref() else { return Ok(holds.map_or(Next::Done, Next::After)) };
        let conditions = written.status.as_ref().map_or(&[][..], |s| &s.conditions);
        let due = check::again(&validation.outcome, conditions, READY, &key, now);
        if let Some(facts) = &validation.facts {
            // With what the Environment now says.
            grounds.2.recorded_id = Some(facts.environment_id.clone());
            grounds.2.me.held = true;
        }
        self.seen.note(&key, grounds, due);
        Ok(Next::After(due))
    }

    async fn give_up(&self, object: Arc<Environment>, why: String) -> Result<Next, ReconcileError> {
        let (uid, generation, now) = (object.uid(), object.metadata.generation, Timestamp::now());
        let found = Validation { outcome: check::given_up(&why), facts: None };
        let (host, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let written = self.cluster.records.environments.update(&host, &name, move |current, status| {
            if current.uid() == uid && current.metadata.generation == generation {
                record(status, &found, generation, now);
            }
        });
        match written.await {
            Ok(_) | Err(RecordError::NotFound(_)) => Ok(Next::After(GIVEN_UP)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether the Environment is validated. Otherwise why not, in one word.
///
/// # Errors
/// If it is not: the reason of its condition `Validated`.
pub(crate) fn validated(environment: &Environment) -> Result<(), String> {
    let conditions = environment.status.as_ref().map_or(&[][..], |s| &s.conditions);
    super::holds(condition::find(conditions, VALIDATED))
}

fn record(status: &mut EnvironmentStatus, found: &Validation, generation: Option<i64>, now: Timestamp) {
    let outcome = if found.outcome.is_ok() { ValidationStatus::Success } else { ValidationStatus::Failed };
    if status.validation_status != outcome || status.validated_at.is_none() {
        status.validated_at = Some(condition::whole_seconds(now));
    }
    status.validation_status = outcome;
    status.observed_generation = generation.unwrap_or(status.observed_generation);
    if let Some(facts) = &found.facts {
        status.environment_id = Some(facts.environment_id.clone());
        status.region.clone_from(&facts.region);
        status.kubernetes_version = Some(facts.kubernetes_version.clone());
    }
    let summary = check::summary(&found.outcome);
    let validated = summary.iter().find(|o| o.type_ == READY).map(|ready| Observation { type_: VALIDATED, ..ready.clone() });
    for observation in validated.iter().chain(&summary) {
        condition::set(&mut status.conditions, observation, generation, now);
    }
}

/// Removes claims that nobody holds, if they are still the same. A solution that never ran here is removed with its claim.
fn release(status: &mut EnvironmentStatus, orphans: &[(String, String)]) {
    status.solutions.retain_mut(|solution| {
        let orphaned =
            solution.claim.as_ref().is_some_and(|c| orphans.iter().any(|(name, uid)| *name == solution.name && *uid == c.request_uid));
        if orphaned {
            tracing::info!(solution = solution.name, "released a claim whose request is gone or has ended");
            solution.claim = None;
        }
        !orphaned || solution.is_anything() || solution.request.is_some()
    });
}

#[cfg(test)]
mod tests;
