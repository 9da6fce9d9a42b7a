//! A remote cluster as its kubeconfig's user sees it, and the delegates whose tokens that user may ask for. Only delegates write in that
//! cluster. The user asks for tokens, reads the target's namespace and what it granted, and does nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::OnceCell;

use super::circuit_breaker::{self, CircuitBreaker};
use super::delegate::DelegateClient;
use super::kubeconfig::Kubeconfig;
use super::lender::{LendError, Lender};
use crate::api::names;

/// Separates the name of an identity from that of its cluster, in records.
const IN_CLUSTER: &str = " in cluster ";

/// How records name an identity of a remote cluster.
pub(crate) fn said(username: &str, cluster: &str) -> String {
    format!("{username}{IN_CLUSTER}{cluster}")
}

/// The user name in what [`said`] made; the whole text if it names no cluster.
pub(crate) fn username(said: &str) -> &str {
    said.split_once(IN_CLUSTER).map_or(said, |(username, _)| username)
}

/// The user name of the delegate of that name, in the other cluster.
pub(crate) fn delegate_username(delegate_namespace: &str, name: &str) -> String {
    names::service_account_username(delegate_namespace, name)
}

/// A cluster, by one kubeconfig.
pub(crate) struct RemoteCluster {
    name: String,
    kubeconfig: Kubeconfig,
    client: Client,
    breaker: Arc<CircuitBreaker>,
    rejected: Arc<AtomicBool>,
    user: OnceCell<String>,
    lender: Lender,
}

impl RemoteCluster {
    /// A cluster called `name`. No call is made yet.
    ///
    /// # Errors
    /// If no client can be made from the kubeconfig.
    pub(crate) fn new(name: &str, kubeconfig: Kubeconfig) -> kube::Result<Self> {
        let (breaker, rejected) = (Arc::new(CircuitBreaker::default()), Arc::new(AtomicBool::new(false)));
        let client = circuit_breaker::client(kubeconfig.config(), &breaker, &rejected)?;
        let (anonymous, same_breaker) = (kubeconfig.anonymous(), breaker.clone());
        // The other cluster may know no policies about such tokens, so they are bound to nothing there.
        let lender = Lender::new(client.clone(), None, move |token, rejected| {
            let mut config = anonymous.clone();
            config.auth_info.token = Some(token.to_owned().into());
            circuit_breaker::client(config, &same_breaker, rejected)
        });
        Ok(Self { name: name.to_owned(), client, kubeconfig, breaker, rejected, user: OnceCell::new(), lender })
    }

    /// The cluster's name in the host: the name of the kubeconfig's Secret.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was made from this kubeconfig.
    pub(crate) fn is_of(&self, kubeconfig: &Kubeconfig) -> bool {
        self.kubeconfig == *kubeconfig
    }

    /// The kubeconfig's own identity: for reading, never for writing.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Why the cluster is not called now, if it did not answer before.
    pub(crate) fn away(&self) -> Option<String> {
        self.breaker.open_because()
    }

    /// Whether it has rejected the kubeconfig's credential.
    pub(crate) fn is_rejected(&self) -> bool {
        self.rejected.load(Ordering::Acquire)
    }

    /// Trusts the credential again, to try it once more.
    pub(crate) fn forgive(&self) {
        self.rejected.store(false, Ordering::Release);
    }

    /// The name by which the cluster knows the kubeconfig's user; used in grants.
    pub(crate) async fn user(&self) -> String {
        let asked = self.user.get_or_try_init(|| async {
            let reviews: Api<SelfSubjectReview> = Api::all(self.client());
            let answer = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await?;
            answer
                .status
                .and_then(|s| s.user_info)
                .and_then(|u| u.username)
                .ok_or_else(|| kube::Error::Service("a review that names nobody".into()))
        });
        asked.await.cloned().unwrap_or_else(|_| format!("the user of kubeconfig {}", self.name))
    }

    /// A client that acts as the `ServiceAccount` of that name in the other cluster, and as nobody else. It uses a token that was requested
    /// for it and is kept in memory only.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn lend(&self, delegate_namespace: &str, name: &str) -> Result<DelegateClient, LendError> {
        self.lender.lend(delegate_namespace, name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_identity_and_cluster_and_is_read_back() {
        let bot = delegate_username("delegates", "bot");
        assert_eq!(said(&bot, "eu-prod"), "system:serviceaccount:delegates:bot in cluster eu-prod");
        assert_eq!(username(&said(&bot, "eu-prod")), bot);
        assert_eq!(username("dana"), "dana");
    }
}
