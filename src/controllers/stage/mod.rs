//! Stages: whether they can deploy, and which target their owner confirmed.

mod observe;

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::Stage;
use crate::api::condition;
use crate::api::stage::StageStatus;
use crate::driver::controller::{Next, ReconcileError, Reconciler};
use crate::driver::stores::Stores;
use crate::driver::{Cluster, status};
use crate::policy::check::{self, Good, READY};
use crate::policy::stage as policy;

/// Says whether Pilotage's admission policies are in force, by what the caches hold.
pub type PoliciesInForce = Box<dyn Fn(&Stores) -> bool + Send + Sync>;

/// Judges Stages.
pub struct StageController {
    cluster: Arc<Cluster>,
    policies_in_force: PoliciesInForce,
}

impl StageController {
    /// A controller for the Stages of that cluster.
    pub fn new(cluster: Arc<Cluster>, policies_in_force: PoliciesInForce) -> Self {
        Self { cluster, policies_in_force }
    }
}

impl Reconciler for StageController {
    type Kind = Stage;

    async fn reconcile(&self, object: Arc<Stage>) -> Result<Next, ReconcileError> {
        let host = object.namespace().unwrap_or_default();
        if !self.cluster.serves(&host) || object.metadata.deletion_timestamp.is_some() || self.cluster.written.is_stale(object.as_ref()) {
            return Ok(Next::Done);
        }
        let view = observe::view(&self.cluster, &object, (self.policies_in_force)(&self.cluster.stores)).await?;
        let mut checked = policy::structure(&view);
        if checked.is_ok() {
            checked = policy::rights(&view, &observe::answers(&self.cluster, policy::reviews(&view)).await?);
        }
        let outcome = checked.map(|()| Good { reason: "Ready", message: format!("deploys to {}", view.target_environment) });

        let now = Timestamp::now();
        let mut new = object.status.clone().unwrap_or_default();
        new.observed_generation = view.generation;
        new.pinned = policy::pin(&view);
        for observation in check::summary(&outcome) {
            condition::set(&mut new.conditions, &observation, Some(view.generation), now);
        }
        let client = self.cluster.clients.operator();
        if let Some(written) = status::write::<Stage, StageStatus>(&client, &object, object.status.as_ref(), &new).await? {
            self.cluster.written.note(&written);
        }
        Ok(Next::After(check::again(&outcome, &new.conditions, READY, &object.uid().unwrap_or_default(), now)))
    }
}
