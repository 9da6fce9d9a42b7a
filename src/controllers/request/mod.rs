//! The controller of requests. It observes, lets `policy::request` decide, takes the step, folds in what it found, and repeats this until
//! the request must wait.

mod acting;
mod claim;
mod entitled;
mod export;
mod foreign;
mod former;
mod judging;
mod makers_entry;
mod makers_view;
mod observe;
mod origin;
mod outcome;
mod own_status;
mod planning;
mod reconciliation;
mod reduced;
mod registry;
mod rollback;
mod scope;
mod sharing;
mod stop;
mod strangers;
mod target;
mod told;

pub(crate) use observe::artifact_view;
pub(crate) use origin::place;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;

use crate::api::DeploymentRequest;
use crate::api::reason::Reason;
use crate::controllers::environment::CROWDED;
use crate::deploy::apply::Applied;
use crate::runtime::Cluster;
use crate::runtime::controller::{Next, ReconcileError, Reconciler};
use crate::runtime::{open_requests, trimmed};

use makers_view::Readers;
use reconciliation::Reconciliation;

/// Reconciles requests.
pub(crate) struct RequestController {
    cluster: Arc<Cluster>,
    running: Running,
}

/// What a reconciliation remembers for the next ones: what was applied by requests that wait for health, by their uid and by whether it is
/// the version that was restored. It is lost with the process. Then a plan without changes finds it again.
#[derive(Clone, Default)]
pub(crate) struct Running {
    applied: Arc<Mutex<HashMap<String, Kept>>>,
    readers: Readers,
}

type Kept = (Way, Arc<Applied>);

/// Which version is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The version that the request is for.
    Forth,
    /// The version that it replaced.
    Back,
}

impl Running {
    fn get(&self, uid: &str, way: Way) -> Option<Arc<Applied>> {
        let running = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(uid).filter(|(of, _)| *of == way).map(|(_, applied)| applied.clone())
    }

    fn keep(&self, uid: &str, way: Way, applied: Arc<Applied>) {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).insert(uid.to_owned(), (way, applied));
    }

    fn forget(&self, uid: &str) {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }

    /// Who may read which Solution.
    fn readers(&self) -> Readers {
        self.readers.clone()
    }
}

impl RequestController {
    /// Reconciles the requests of `cluster`.
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, running: Running::default() }
    }
}

impl Reconciler for RequestController {
    type Kind = DeploymentRequest;

    async fn reconcile(&self, request: Arc<DeploymentRequest>) -> Result<Next, ReconcileError> {
        let ended = request.status.as_ref().is_some_and(|s| s.run.end_time.is_some());
        if ended || request.metadata.deletion_timestamp.is_some() {
            self.running.forget(&request.uid().unwrap_or_default());
            self.cluster.written.forget(request.as_ref());
            return Ok(Next::Done);
        }
        let host = request.namespace().unwrap_or_default();
        if !self.cluster.serves(&host) || self.cluster.written.is_stale(request.as_ref()) {
            return Ok(Next::Done);
        }
        let request = if trimmed::is_shortened(request.as_ref()) {
            let live = observe::get::<DeploymentRequest>(&self.cluster, &host, Some(&request.name_any())).await?;
            live.filter(|live| live.uid() == request.uid())
        } else {
            Some(request)
        };
        // It was deleted, or has ended meanwhile. The watch reports that.
        let Some(request) = request.filter(|request| open_requests::is_open(request)) else { return Ok(Next::Done) };
        let reconciliation = Reconciliation::new(self.cluster.clone(), self.running.clone(), request).await?;
        let admitted = reconciliation.remote().map(|remote| self.cluster.remotes.admit(&host, remote));
        if matches!(admitted, Some(None)) {
            return Ok(Next::After(CROWDED));
        }
        // The future holds the states of all steps, but most reconciliations take few of them. So it is boxed.
        Box::pin(reconciliation.run()).await
    }

    async fn give_up(&self, request: Arc<DeploymentRequest>, why: String) -> Result<Next, ReconcileError> {
        let mut reconciliation = Reconciliation::new(self.cluster.clone(), self.running.clone(), request).await?;
        Box::pin(reconciliation.give_up(Reason::InternalError, &why)).await
    }
}
