//! Clients of the API server, each with time-outs, none with automatic retries: a retried write may already have been applied, so the
//! caller decides.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::http::{Request, Response, StatusCode};
use kube::client::Body;
use kube::config::AuthInfo;
use kube::{Client, Config};

use super::delegate::{Delegate, DelegateClient};
use super::delegation::Delegation;
use super::lender::{LendError, Lender};

/// How long a call may take. Without a limit, a call to a stopped API server would hang for ever.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a watch may be silent: longer than the server's own limit of a watch (the watcher asks for 290 s).
const WATCH_TIMEOUT: Duration = Duration::from_secs(330);

/// Creates and keeps the clients of one cluster.
pub struct Clients {
    config: Config,
    operator: Client,
    watch: Client,
    delegates: Mutex<HashMap<Delegate, DelegateClient>>,
    /// Lends tokens where the operator does not impersonate.
    lender: Option<Lender>,
}

/// A client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The configuration can't be used.
    #[error("the client configuration can't be used: {0}")]
    Config(#[from] kube::Error),
    /// An empty user name would make the API server act as the operator itself.
    #[error("refused to impersonate an empty user name")]
    EmptyIdentity,
    /// Names that can't be sent as they are would be cut, or refused, or mean somebody else.
    #[error(
        "{0:?} is not a user or group that can be acted as: names are sent as headers, which take visible ASCII characters, and blanks in between alone"
    )]
    Unsendable(String),
    /// Only `ServiceAccounts` have tokens that can be asked for.
    #[error("{0} is no ServiceAccount, and without constrained impersonation the operator can act as nobody else")]
    NoServiceAccount(String),
    /// There is no token of the `ServiceAccount`.
    #[error("no token: {0}")]
    NotLent(#[from] LendError),
}

/// Whether a header can carry the name as it is.
fn is_sendable(name: &str) -> bool {
    name.bytes().all(|b| matches!(b, b' '..=b'~')) && name.trim() == name
}

impl Clients {
    /// Clients for the cluster that `config` names.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub fn new(mut config: Config) -> Result<Self, ClientError> {
        config.default_retry = false;
        config.read_timeout = Some(CALL_TIMEOUT);
        config.reset_reader_on_write = true;
        let mut watching = config.clone();
        watching.read_timeout = Some(WATCH_TIMEOUT);
        Ok(Self {
            operator: Client::try_from(config.clone())?,
            watch: Client::try_from(watching)?,
            config,
            delegates: Mutex::new(HashMap::new()),
            lender: None,
        })
    }

    /// The same clients, but delegates are acted as with tokens that are bound to this Node.
    #[must_use]
    pub fn with_lent_tokens(mut self, node: &str) -> Self {
        let config = self.config.clone();
        self.lender = Some(Lender::new(self.operator.clone(), Some(node.to_owned()), move |token, rejected| {
            let mut config = config.clone();
            // Nothing of the operator's own credential.
            config.auth_info = AuthInfo { token: Some(token.to_owned().into()), ..AuthInfo::default() };
            let namespace = config.default_namespace.clone();
            Ok(Client::new(Noting { client: Client::try_from(config)?, rejected: rejected.clone() }, namespace))
        }));
        self
    }

    /// How delegates are acted as.
    pub(crate) fn delegation(&self) -> Delegation {
        if self.lender.is_some() { Delegation::LentToken } else { Delegation::Impersonation }
    }

    /// The operator's own identity, for calls.
    pub(crate) fn operator(&self) -> Client {
        self.operator.clone()
    }

    /// The operator's own identity, for watches.
    pub(crate) fn watch(&self) -> Client {
        self.watch.clone()
    }

    /// A client that acts as the delegate and as nobody else: by constrained impersonation, or with a token of it.
    ///
    /// # Errors
    /// If the delegate has no name or no token, or the configuration can't be used.
    pub async fn delegate(&self, delegate: &Delegate) -> Result<DelegateClient, ClientError> {
        match (&self.lender, delegate) {
            (None, _) => self.impersonating(delegate),
            (Some(lender), Delegate::ServicePrincipal { namespace, name }) => Ok(lender.lend(namespace, name).await?),
            (Some(_), Delegate::User { username, .. }) => Err(ClientError::NoServiceAccount(username.clone())),
        }
    }

    /// By the user name alone.
    fn impersonating(&self, delegate: &Delegate) -> Result<DelegateClient, ClientError> {
        let mut delegates = self.delegates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = delegates.get(delegate) {
            return Ok(client.clone());
        }
        let username = delegate.username();
        if username.trim().is_empty() {
            return Err(ClientError::EmptyIdentity);
        }
        let groups = if let Delegate::User { groups, .. } = delegate { groups.as_slice() } else { &[] };
        if let Some(name) = std::iter::once(&username).chain(groups).find(|name| !is_sendable(name)) {
            return Err(ClientError::Unsendable(name.clone()));
        }
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(username);
        config.auth_info.impersonate_groups = match delegate {
            Delegate::ServicePrincipal { .. } => None,
            Delegate::User { groups, .. } => (!groups.is_empty()).then(|| groups.clone()),
        };
        let client = DelegateClient::new(Client::try_from(config)?, delegate.clone());
        delegates.insert(delegate.clone(), client.clone());
        Ok(client)
    }
}

/// Notes whether the API server has rejected the client's token.
#[derive(Clone)]
struct Noting {
    client: Client,
    rejected: Arc<AtomicBool>,
}

impl tower_service::Service<Request<Body>> for Noting {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { client, rejected } = self.clone();
        Box::pin(async move {
            let answer = client.send(request).await?;
            if answer.status() == StatusCode::UNAUTHORIZED {
                rejected.store(true, Ordering::Release);
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_not_arrive_as_it_is_is_not_sent() {
        for name in ["dana\r\nImpersonate-Group: system:masters", "dana\n", " dana", "dana ", "\tdana", "da\u{7f}na", "jana.nováková", " "]
        {
            assert!(!is_sendable(name), "{name:?}");
        }
        assert!(is_sendable("system:serviceaccount:host:bot") && is_sendable("Dana Scully") && is_sendable("dana@example.test"));
    }
}
