//! Stages: whether they can deploy, and which target their owner confirmed.

mod observe;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use crate::api::Stage;
use crate::api::condition;
use crate::api::reason::Reason;
use crate::api::stage::StageStatus;
use crate::controllers::BEHIND;
use crate::controllers::environment::CROWDED;
use crate::controllers::seen::Seen;
use crate::policy::check::{self, Good, READY};
use crate::policy::stage::{self as policy, Account, DelegateView};
use crate::runtime::accounts::Accounts;
use crate::runtime::controller::{Next, ReconcileError, Reconciler};
use crate::runtime::stores::{Stores, WatchHandler};
use crate::runtime::{Cluster, status};

/// Whether Pilotage's admission policies are in force, as the caches show.
pub(crate) type PoliciesInForce = Box<dyn Fn(&Stores) -> bool + Send + Sync>;

/// What a check is based on. Annotations are part of it, so that an administrator can ask for a new check at once. So is how often the
/// delegate's `ServiceAccount` was created or deleted.
type Grounds = (Option<BTreeMap<String, String>>, policy::View, u64);

/// Checks Stages.
pub(crate) struct StageController {
    cluster: Arc<Cluster>,
    policies_in_force: PoliciesInForce,
    seen: Seen<Grounds>,
    accounts: Accounts,
}

impl StageController {
    /// A controller for the Stages of that cluster. `watch_handler` is told of `ServiceAccounts` that are created or deleted.
    pub(crate) fn new(cluster: Arc<Cluster>, policies_in_force: PoliciesInForce, watch_handler: Arc<dyn WatchHandler>) -> Self {
        let accounts = Accounts::new(cluster.clients.watch(), cluster.stores.clone(), watch_handler);
        Self { cluster, policies_in_force, seen: Seen::default(), accounts }
    }
}

impl Reconciler for StageController {
    type Kind = Stage;

    async fn reconcile(&self, object: Arc<Stage>) -> Result<Next, ReconcileError> {
        let host = object.namespace().unwrap_or_default();
        if !self.cluster.serves(&host) || object.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        if self.cluster.written.is_stale(object.as_ref()) {
            return Ok(Next::After(BEHIND));
        }
        let uid = object.uid().unwrap_or_default();
        let cached = observe::view(&self.cluster, &object, (self.policies_in_force)(&self.cluster.stores));
        let delegate = match &cached.delegate {
            DelegateView::ServicePrincipal { name, .. } => name.clone(),
            DelegateView::Requester | DelegateView::StageOwner => String::new(),
        };
        let mut grounds = (object.metadata.annotations.clone(), cached, self.accounts.changes(&host, &delegate));
        if let Some(left) = self.seen.holds(&uid, &grounds) {
            return Ok(Next::After(left));
        }
        let view = &grounds.1;
        let mut checked = policy::structure(view);
        if checked.is_ok() {
            let target = self.cluster.stores.environments.get(&ObjectRef::new(&view.target_environment).within(&host));
            let remote = target.as_ref().and_then(|target| target.spec.cluster.as_ref());
            let admitted = remote.map(|remote| self.cluster.remotes.admit(&host, remote));
            if matches!(admitted, Some(None)) {
                return Ok(Next::After(CROWDED));
            }
            let answers = observe::answers(&self.cluster, view, remote);
            let (mut view, (answers, not_lent)) = futures::try_join!(observe::with_account(&self.cluster, view.clone()), answers)?;
            view.not_lent = not_lent;
            if matches!(view.delegate, DelegateView::ServicePrincipal { account: Account::Present, .. }) {
                self.accounts.watch(&host);
            }
            checked = policy::delegation(&view, &answers);
        }
        // In another cluster the delegate's token is what the operator acts with in any case.
        let here = view.target.as_ref().is_some_and(|target| target.cluster.is_none());
        let noted = if here { view.delegation.noted() } else { "" };
        let outcome = checked.map(|()| Good { reason: Reason::Ready, message: format!("deploys to {}{noted}", view.target_environment) });

        let now = Timestamp::now();
        let mut new = object.status.clone().unwrap_or_default();
        new.observed_generation = view.generation;
        new.pinned = policy::pin(view);
        for observation in check::summary(&outcome) {
            condition::set(&mut new.conditions, &observation, Some(view.generation), now);
        }
        let client = self.cluster.clients.operator();
        if let Some(written) = status::write::<Stage, StageStatus>(&client, &object, object.status.as_ref(), &new).await? {
            self.cluster.written.note(&written);
        }
        let due = check::again(&outcome, &new.conditions, READY, &uid, now);
        // With what the stage now says, and the target that was just pinned.
        grounds.1.pinned = new.pinned;
        self.seen.note(&uid, grounds, due);
        Ok(Next::After(due))
    }

    async fn give_up(&self, object: Arc<Stage>, why: String) -> Result<Next, ReconcileError> {
        super::give_up(&self.cluster, object.as_ref(), &why, |status| (&mut status.observed_generation, &mut status.conditions)).await
    }
}
