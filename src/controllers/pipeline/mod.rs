//! Pipelines: whether they can be used, their stages in order, and with whom they are shared.

mod act;
mod observe;
mod sharing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::Pipeline;
use crate::api::condition::{self, Observation};
use crate::api::pipeline::PipelineStatus;
use crate::api::reason::Reason;
use crate::controllers::BEHIND;
use crate::policy::check::{self, Check, Failure};
use crate::policy::pipeline as policy;
use crate::runtime::controller::{Next, ReconcileError, Reconciler};
use crate::runtime::{Cluster, status};

/// The condition that says whether the pipeline is shared as `sharedWith` says.
pub(crate) const SHARED: &str = "Shared";

/// How long the generated Roles are not read again, while the pipeline is unchanged.
const BELIEVED: Duration = Duration::from_mins(10);

/// Checks Pipelines and shares them.
pub(crate) struct PipelineController {
    cluster: Arc<Cluster>,
    /// The generation of each pipeline, by uid, that was found shared correctly, and when.
    shared: Mutex<HashMap<String, (Option<i64>, Instant)>>,
}

impl PipelineController {
    /// A controller for the Pipelines of that cluster.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, shared: Mutex::default() }
    }

    /// Makes the Roles match the pipeline. They are not watched. So they are read again when the pipeline has changed, or when it is
    /// reconciled after a while.
    async fn share(&self, pipeline: &Pipeline) -> kube::Result<Check> {
        let (uid, generation) = (pipeline.uid().unwrap_or_default(), pipeline.metadata.generation);
        {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.retain(|_, (_, since)| since.elapsed() < BELIEVED);
            if shared.get(&uid).is_some_and(|(seen, _)| *seen == generation) {
                return Ok(Ok(()));
            }
        }
        let outcome = act::share(&self.cluster.clients.operator(), pipeline).await?;
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => shared.insert(uid, (generation, Instant::now())),
            Err(_) => shared.remove(&uid),
        };
        Ok(outcome)
    }
}

impl Reconciler for PipelineController {
    type Kind = Pipeline;

    async fn reconcile(&self, object: Arc<Pipeline>) -> Result<Next, ReconcileError> {
        let host = object.namespace().unwrap_or_default();
        if !self.cluster.serves(&host) || object.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        if self.cluster.written.is_stale(object.as_ref()) {
            return Ok(Next::After(BEHIND));
        }
        let verdict = policy::judge(&observe::view(&self.cluster.stores, &object, &host));
        let mut new = object.status.clone().unwrap_or_default();
        new.observed_generation = object.metadata.generation.unwrap_or(new.observed_generation);
        new.summary = policy::in_one_line(&verdict.stages);
        new.stages = verdict.stages;
        // This is counted when the status is written.
        new.stages_omitted = 0;
        let never_shared = object.spec.shared_with.is_empty() && condition::find(&new.conditions, SHARED).is_none();
        // If there is nothing to share and nothing to delete, it does not matter that the operator may not read the Roles.
        let sharing = self.share(&object).await?.or_else(|failure| if never_shared { Ok(()) } else { Err(failure) });
        let now = Timestamp::now();
        let shared = (!never_shared).then(|| shared(&object, &sharing));
        for observation in check::summary(&verdict.outcome).iter().chain(&shared) {
            condition::set(&mut new.conditions, observation, object.metadata.generation, now);
        }
        let client = self.cluster.clients.operator();
        if let Some(written) = status::write::<Pipeline, PipelineStatus>(&client, &object, object.status.as_ref(), &new).await? {
            self.cluster.written.note(&written);
        }
        Ok(match sharing {
            // Everything else that a pipeline depends on is watched.
            Ok(()) => Next::Done,
            Err(_) => Next::After(check::again(&sharing, &new.conditions, SHARED, &object.uid().unwrap_or_default(), now)),
        })
    }

    async fn give_up(&self, object: Arc<Pipeline>, why: String) -> Result<Next, ReconcileError> {
        super::give_up(&self.cluster, object.as_ref(), &why, |status| (&mut status.observed_generation, &mut status.conditions)).await
    }
}

/// The condition `Shared`.
fn shared(pipeline: &Pipeline, outcome: &Check) -> Observation {
    match (outcome, pipeline.spec.shared_with.len()) {
        (Ok(()), 0) => Observation::new(SHARED, false, Reason::NotShared, "shared with nobody: spec.sharedWith is empty"),
        (Ok(()), count) => Observation::new(SHARED, true, Reason::Shared, format!("shared with {count} subjects, as spec.sharedWith says")),
        (Err(Failure { reason, message, .. }), _) => Observation::new(SHARED, false, *reason, message),
    }
}
