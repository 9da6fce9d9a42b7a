//! The identity that deploys in place of the requester.

use kube::Client;

use crate::api::names;

/// Who deploys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Delegate {
    /// A `ServiceAccount` of the host.
    ServicePrincipal {
        /// The host namespace.
        namespace: String,
        /// The `ServiceAccount`'s name.
        name: String,
    },
    /// A person: the stage's owner, or the requester where the stage has no delegate.
    User {
        /// The user name.
        username: String,
        /// The groups that may be sent: those of `system:*` are left out, the API server adds them itself.
        groups: Vec<String>,
    },
}

impl Delegate {
    /// The name that the API server knows the delegate by.
    pub fn username(&self) -> String {
        match self {
            Self::ServicePrincipal { namespace, name } => names::service_account_username(namespace, name),
            Self::User { username, .. } => username.clone(),
        }
    }
}

/// A client that acts as a delegate. Only this module's parent can make one, so that whoever holds
/// one acts as the delegate that a plan names.
#[derive(Clone)]
pub struct DelegateClient {
    client: Client,
    delegate: Delegate,
}

impl DelegateClient {
    pub(super) fn new(client: Client, delegate: Delegate) -> Self {
        Self { client, delegate }
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whom it acts as.
    pub fn delegate(&self) -> &Delegate {
        &self.delegate
    }
}
