//! Step `Share`: what the request asks to be shared, made in the target by the delegate.

use super::reconciliation::Reconciliation;
use crate::api::Environment;
use crate::api::plan::PlanResult;
use crate::deploy::apply::share::{self, Shares};
use crate::identity::claimed::Claimed;
use crate::identity::delegate::DelegateClient;
use crate::policy::request::observed::{Observed, ShareOutcome};
use crate::runtime::controller::ReconcileError;

impl Reconciliation {
    /// What would not be shared, for those who are asked before; asked only where something is to be shared.
    pub(super) async fn preflight_shares(&self, client: &DelegateClient, target: &Environment) -> Result<Vec<PlanResult>, ReconcileError> {
        let spec = &self.request.spec;
        Ok(share::preflight(client, &target.spec.namespace, &spec.solution.name, &spec.share_with).await?)
    }

    /// Shares, and tells what was refused with what would grant it. Nothing of it fails the deployment.
    pub(super) async fn share(&mut self, observed: &Observed) -> Result<ShareOutcome, ReconcileError> {
        let request = self.request.clone();
        let spec = &request.spec;
        let claim = self.related.target.as_ref().and_then(|t| Claimed::from_environment(t, &spec.solution.name, &self.uid()));
        let Some(claim) = claim else { return Ok(ShareOutcome::Unreachable("the claim on the environment is gone".into())) };
        let client = match self.acting(observed).await? {
            Ok(client) => client,
            Err(obstacle) => return Ok(ShareOutcome::Unreachable(obstacle.message)),
        };
        let fence = self.fence(claim);
        let claim = fence.claim();
        let Shares { made, refused, missing, transient } = share::share(&fence, &client, &spec.share_with).await;
        if let Some(why) = transient {
            return Ok(ShareOutcome::Unreachable(why));
        }
        let made = spec.share_with.iter().filter(|grant| made.contains(&share::name(claim.solution(), grant))).map(share::said).collect();
        let mut said: Vec<String> = refused.iter().map(|error| error.message.clone()).collect();
        if !missing.is_empty() {
            said.push(self.missing(&client, claim.namespace(), &missing).await?.message);
        }
        self.errors = refused;
        Ok(ShareOutcome::Done { made, refused: said.join("; ") })
    }
}
