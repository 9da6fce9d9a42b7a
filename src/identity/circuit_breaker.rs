//! Limits the calls to a remote cluster. After a failure none is made for a while, so that only the first caller waits for a cluster that
//! doesn't answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::Limited;
use hyper::http::{Request, Response, StatusCode};
use kube::client::Body;
use kube::{Client, Config};

/// How long it may take to get a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take to begin: webhooks of that cluster may take 10 s each way.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How large an answer may be. The cluster is not ours, and could fill the operator's memory.
const LARGEST_ANSWER: usize = 16 * 1024 * 1024;
/// How long no call is made after the first failure; the time doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The state of the connection to one cluster.
#[derive(Default)]
pub(crate) struct CircuitBreaker {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
    why: String,
}

impl CircuitBreaker {
    /// Why it is open, and no call is made now; `None` if it is closed, and calls are made.
    pub(crate) fn open_because(&self) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.until.filter(|until| Instant::now() < *until).map(|_| state.why.clone())
    }

    fn answered(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.failures > 0 {
            *state = State::default();
        }
    }

    /// Several calls that fail together count as one.
    fn failed(&self, why: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(state.failures.min(10))).min(LONGEST_PAUSE);
        *state = State { failures: state.failures + 1, until: Some(Instant::now() + pause), why: why.to_owned() };
    }
}

/// No call is made for a while.
#[derive(Debug, thiserror::Error)]
#[error("not asked again yet: {0}")]
struct Open(String);

/// A client with a circuit breaker. It also notes whether the cluster has rejected the client's credential.
pub(super) fn client(mut config: Config, breaker: &Arc<CircuitBreaker>, rejected: &Arc<AtomicBool>) -> kube::Result<Client> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(ANSWER_TIMEOUT);
    config.reset_reader_on_write = true;
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    Ok(Client::new(Wire { client: Client::try_from(config)?, breaker: breaker.clone(), rejected: rejected.clone() }, namespace))
}

/// The root cause of an error. The errors above it only say that a call failed.
pub(crate) fn cause(error: &kube::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string().chars().take(256).collect()
}

#[derive(Clone)]
struct Wire {
    client: Client,
    breaker: Arc<CircuitBreaker>,
    rejected: Arc<AtomicBool>,
}

impl tower_service::Service<Request<Body>> for Wire {
    type Response = Response<Limited<Body>>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move {
            if let Some(why) = wire.breaker.open_because() {
                return Err(kube::Error::Service(Box::new(Open(why))));
            }
            let answer = match tokio::time::timeout(CONNECT_TIMEOUT + ANSWER_TIMEOUT, wire.client.send(request)).await {
                Ok(answer) => answer,
                Err(elapsed) => Err(kube::Error::Service(Box::new(elapsed))),
            };
            match answer {
                Ok(answer) => {
                    wire.breaker.answered();
                    if answer.status() == StatusCode::UNAUTHORIZED {
                        wire.rejected.store(true, Ordering::Release);
                    }
                    Ok(answer.map(|body| Limited::new(body, LARGEST_ANSWER)))
                }
                Err(error) => {
                    wire.breaker.failed(&cause(&error));
                    Err(error)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_failed_is_not_called_and_one_that_answers_is() {
        let breaker = CircuitBreaker::default();
        assert_eq!(breaker.open_because(), None);
        breaker.failed("connection refused");
        breaker.failed("another call that was under way");
        assert_eq!(breaker.open_because().as_deref(), Some("connection refused"));
        breaker.answered();
        assert_eq!(breaker.open_because(), None);
    }
}
