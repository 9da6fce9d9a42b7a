//! A remote cluster as its kubeconfig's user sees it, and the delegates whose tokens that user may ask for. Only delegates write in that
//! cluster. The user asks for tokens, reads the target's namespace and what it granted, and does nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{PostParams, Request};
use kube::{Api, Client, Resource as _};
use tokio::sync::{Mutex, OnceCell};

use super::circuit_breaker::{self, CircuitBreaker};
use super::delegate::{Delegate, DelegateClient};
use super::kubeconfig::Kubeconfig;
use crate::api::names;

/// The lifetime for which a token is requested.
const TOKEN_SECONDS: i64 = 1800;
/// How long a token must still be valid when work with it begins.
const LEAST_LEFT: Duration = Duration::from_mins(10);
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
    // Held while a token is requested. Callers that come meanwhile use the same token.
    lent: Mutex<HashMap<Delegate, Lent>>,
}

struct Lent {
    client: DelegateClient,
    term: Term,
}

/// How long work may be begun with a token.
struct Term {
    until: Instant,
    rejected: Arc<AtomicBool>,
}

impl Term {
    /// The term of a token that was requested at that time and is valid for so many seconds, unless the cluster rejects it.
    fn new(asked: Instant, seconds: i64, rejected: Arc<AtomicBool>) -> Self {
        Self { until: asked + lasting(seconds), rejected }
    }

    fn holds(&self, now: Instant) -> bool {
        now < self.until && !self.rejected.load(Ordering::Acquire)
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LendError {
    /// There is no such `ServiceAccount`.
    #[error("the ServiceAccount does not exist")]
    Absent,
    /// The kubeconfig's user may not ask for its token.
    #[error("the token may not be asked for")]
    Forbidden,
    /// The cluster no longer accepts the kubeconfig's own credential.
    #[error("the kubeconfig's credential is rejected")]
    Rejected,
    /// The cluster did not answer, or the answer is no token.
    #[error("{0}")]
    Api(#[from] kube::Error),
}

impl RemoteCluster {
    /// A cluster called `name`. No call is made yet.
    ///
    /// # Errors
    /// If no client can be made from the kubeconfig.
    pub(crate) fn new(name: &str, kubeconfig: Kubeconfig) -> kube::Result<Self> {
        let (breaker, rejected) = (Arc::new(CircuitBreaker::default()), Arc::new(AtomicBool::new(false)));
        Ok(Self {
            name: name.to_owned(),
            client: circuit_breaker::client(kubeconfig.config(), &breaker, &rejected)?,
            kubeconfig,
            breaker,
            rejected,
            user: OnceCell::new(),
            lent: Mutex::default(),
        })
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
    /// for it and is kept in memory only. The token is valid for [`LEAST_LEFT`], unless it is revoked.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn lend(&self, delegate_namespace: &str, name: &str) -> Result<DelegateClient, LendError> {
        let delegate = Delegate::ServicePrincipal { namespace: delegate_namespace.to_owned(), name: name.to_owned() };
        let mut lent = self.lent.lock().await;
        let now = Instant::now();
        lent.retain(|_, lent| lent.term.holds(now));
        if let Some(known) = lent.get(&delegate) {
            return Ok(known.client.clone());
        }
        let (token, seconds) = self.token(delegate_namespace, name).await?;
        let mut config = self.kubeconfig.anonymous();
        config.auth_info.token = Some(token.into());
        let rejected = Arc::new(AtomicBool::new(false));
        let client = DelegateClient::new(circuit_breaker::client(config, &self.breaker, &rejected)?, delegate.clone());
        lent.insert(delegate, Lent { client: client.clone(), term: Term::new(now, seconds, rejected) });
        Ok(client)
    }

    async fn token(&self, namespace: &str, name: &str) -> Result<(String, i64), LendError> {
        let wanted = TokenRequest {
            spec: Some(TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() }),
            ..TokenRequest::default()
        };
        let body = serde_json::to_vec(&wanted).map_err(kube::Error::SerdeError)?;
        let request = Request::new(ServiceAccount::url_path(&(), Some(namespace)))
            .create_subresource("token", name, &PostParams::default(), body)
            .map_err(kube::Error::BuildRequest)?;
        // Not `Client::request`: if the reply can't be parsed, that would log the whole reply, which contains the token.
        let text = match self.client.request_text(request).await {
            Ok(text) => text,
            Err(kube::Error::Api(status)) if status.code == 404 => return Err(LendError::Absent),
            Err(kube::Error::Api(status)) if status.code == 403 => return Err(LendError::Forbidden),
            Err(kube::Error::Api(status)) if status.code == 401 => return Err(LendError::Rejected),
            Err(error) => return Err(error.into()),
        };
        let no_token = || kube::Error::Service("the answer to a request for a token is none".into());
        // The parser's error may quote the token.
        let answer: TokenRequest = serde_json::from_str(&text).map_err(|_| no_token())?;
        let granted = answer.spec.and_then(|spec| spec.expiration_seconds).unwrap_or(TOKEN_SECONDS);
        let token = answer.status.and_then(|status| status.token).filter(|token| !token.is_empty());
        Ok((token.ok_or_else(no_token)?, granted))
    }
}

/// How long work may be begun with a token that is valid for so many seconds. A cluster may issue shorter-lived tokens than requested.
fn lasting(seconds: i64) -> Duration {
    let life = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    life.checked_sub(LEAST_LEFT).filter(|left| !left.is_zero()).unwrap_or(life / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_exchanged_well_before_it_ends() {
        assert_eq!(lasting(TOKEN_SECONDS), Duration::from_mins(20));
        assert_eq!(lasting(600), Duration::from_mins(5), "the shortest that a cluster gives");
        assert_eq!((lasting(0), lasting(-1)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_token_is_lent_until_it_is_due_or_rejected() {
        let now = Instant::now();
        for (seconds, minutes) in [(TOKEN_SECONDS, 20), (600, 5)] {
            let (due, rejected) = (now + Duration::from_mins(minutes), Arc::new(AtomicBool::new(false)));
            let term = Term::new(now, seconds, rejected.clone());
            assert!(term.holds(now) && term.holds(due.checked_sub(Duration::from_millis(1)).unwrap()));
            assert!(!term.holds(due), "one that is begun with it then might outlive it");
            rejected.store(true, Ordering::Release);
            assert!(!term.holds(now), "whatever is left of it");
        }
        assert!(!Term::new(now, 0, Arc::default()).holds(now));
    }

    #[test]
    fn a_record_names_identity_and_cluster_and_is_read_back() {
        let bot = delegate_username("delegates", "bot");
        assert_eq!(said(&bot, "eu-prod"), "system:serviceaccount:delegates:bot in cluster eu-prod");
        assert_eq!(username(&said(&bot, "eu-prod")), bot);
        assert_eq!(username("dana"), "dana");
    }
}
