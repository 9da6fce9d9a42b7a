//! Delegates whose tokens somebody may ask for: the clients that act with them, each kept until its token is due.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{PostParams, Request};
use kube::{Client, Resource as _};
use tokio::sync::Mutex;

use super::delegate::{Delegate, DelegateClient};
use crate::cluster::errors::{self, Cause};

/// The lifetime for which a token is requested.
const TOKEN_SECONDS: i64 = 1800;
/// How long a token must still be valid when work with it begins.
const LEAST_LEFT: Duration = Duration::from_mins(10);

/// Makes a client that authenticates with a token, and notes there whether the cluster has rejected it.
type Connect = Box<dyn Fn(&str, &Arc<AtomicBool>) -> kube::Result<Client> + Send + Sync>;

/// Asks for tokens, and keeps them in memory only.
pub(super) struct Lender {
    asks: Client,
    connect: Connect,
    /// The Node that tokens are bound to, if to any.
    node: Option<String>,
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
pub enum LendError {
    /// There is no such `ServiceAccount`.
    #[error("the ServiceAccount does not exist")]
    Absent,
    /// There is no such Node that the token could be bound to.
    #[error("the Node {0}, which the token would be bound to, does not exist")]
    NoNode(String),
    /// Whoever asks may not ask for its token.
    #[error("the token may not be asked for")]
    Forbidden,
    /// A policy of the cluster refuses the token.
    #[error("{0}")]
    Denied(String),
    /// The cluster no longer accepts the credential of whoever asks.
    #[error("the credential that tokens are asked for with is rejected")]
    Rejected,
    /// The cluster did not answer, or the answer is no token.
    #[error("{0}")]
    Api(#[from] kube::Error),
}

impl Lender {
    /// Asks with that client. A token is bound to the Node, if one is named.
    pub(super) fn new(
        asks: Client,
        node: Option<String>,
        connect: impl Fn(&str, &Arc<AtomicBool>) -> kube::Result<Client> + Send + Sync + 'static,
    ) -> Self {
        Self { asks, connect: Box::new(connect), node, lent: Mutex::default() }
    }

    /// A client that acts as the `ServiceAccount` of that name, and as nobody else. It uses a token that was requested for it. The token is
    /// valid for [`LEAST_LEFT`], unless it is revoked.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn lend(&self, namespace: &str, name: &str) -> Result<DelegateClient, LendError> {
        let delegate = Delegate::ServicePrincipal { namespace: namespace.to_owned(), name: name.to_owned() };
        let mut lent = self.lent.lock().await;
        let now = Instant::now();
        lent.retain(|_, lent| lent.term.holds(now));
        if let Some(known) = lent.get(&delegate) {
            return Ok(known.client.clone());
        }
        let (token, seconds) = self.token(namespace, name).await?;
        let rejected = Arc::new(AtomicBool::new(false));
        let client = DelegateClient::new((self.connect)(&token, &rejected)?, delegate.clone());
        lent.insert(delegate, Lent { client: client.clone(), term: Term::new(now, seconds, rejected) });
        Ok(client)
    }

    async fn token(&self, namespace: &str, name: &str) -> Result<(String, i64), LendError> {
        let bound = self.node.as_ref().map(|node| BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Node".into()),
            name: Some(node.clone()),
            uid: None,
        });
        let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), bound_object_ref: bound, ..TokenRequestSpec::default() };
        let wanted = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let body = serde_json::to_vec(&wanted).map_err(kube::Error::SerdeError)?;
        let request = Request::new(ServiceAccount::url_path(&(), Some(namespace)))
            .create_subresource("token", name, &PostParams::default(), body)
            .map_err(kube::Error::BuildRequest)?;
        // Not `Client::request`: if the reply can't be parsed, that would log the whole reply, which contains the token.
        let text = match self.asks.request_text(request).await {
            Ok(text) => text,
            Err(error) => return Err(self.refusal(error)),
        };
        let no_token = || kube::Error::Service("the answer to a request for a token is none".into());
        // The parser's error may quote the token.
        let answer: TokenRequest = serde_json::from_str(&text).map_err(|_| no_token())?;
        let granted = answer.spec.and_then(|spec| spec.expiration_seconds).unwrap_or(TOKEN_SECONDS);
        let token = answer.status.and_then(|status| status.token).filter(|token| !token.is_empty());
        Ok((token.ok_or_else(no_token)?, granted))
    }

    fn refusal(&self, error: kube::Error) -> LendError {
        let kube::Error::Api(status) = &error else { return error.into() };
        let about_node = status.details.as_ref().is_some_and(|details| details.kind == "nodes");
        match (status.code, &self.node) {
            (404, Some(node)) if about_node => LendError::NoNode(node.clone()),
            (404, _) => LendError::Absent,
            (403 | 422, _) if errors::classify(&error) == Cause::Denied => LendError::Denied(errors::message(&error)),
            (403, _) => LendError::Forbidden,
            (401, _) => LendError::Rejected,
            _ => error.into(),
        }
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
}
