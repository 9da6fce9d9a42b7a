//! What a writer to a target must hold during the whole write: the Lease, by its own clock, and the claim.

use kube::{Api, Client};

use crate::api::Environment;
use crate::identity::claimed::Claimed;

/// A claim, and the means to find out whether it still counts. A process that slept in the middle of a deployment finds out here that
/// others have gone on, before it writes.
pub(crate) struct Fence {
    claim: Claimed,
    environments: Api<Environment>,
    environment: String,
    leads: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Fence {
    /// Guards the claim on an environment of a host. `leads` says whether this process may act at all, by its own clock.
    pub(crate) fn new(
        claim: Claimed,
        operator: Client,
        host: &str,
        environment: &str,
        leads: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { claim, environments: Api::namespaced(operator, host), environment: environment.to_owned(), leads: Box::new(leads) }
    }

    /// The claim, as it was when it was read.
    pub(crate) fn claim(&self) -> &Claimed {
        &self.claim
    }

    /// Whether this process may still act. It costs nothing, so it is checked before each write.
    pub(crate) fn stands(&self) -> bool {
        (self.leads)()
    }

    /// Whether the claim is still held, asked of the API server. A caller that read an object before this check may write on the version
    /// that it read: later writers change the version.
    ///
    /// # Errors
    /// If the Environment can't be read.
    pub(crate) async fn holds(&self) -> Result<bool, kube::Error> {
        let found = self.environments.get_opt(&self.environment).await?;
        let claim = found.and_then(|e| Claimed::from_environment(&e, self.claim.solution(), self.claim.request_uid()));
        Ok(claim.as_ref() == Some(&self.claim) && self.stands())
    }
}
