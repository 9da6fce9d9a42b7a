//! Records the last call of a test, so that it can be made again. `PILOTAGE_PROOF` removes one guard after the other until the API server
//! accepts what it refused.

use std::future::Future;
use std::pin::Pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::http::request::Parts;
use hyper::http::{Method, Request, Response, Uri};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use serde_json::json;

/// What the environment says about proofs: `check` or `write`.
pub static MODE: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("PILOTAGE_PROOF").ok());

static LAST: Mutex<Option<Call>> = Mutex::new(None);

/// A call as it was made, and who made it.
#[derive(Clone)]
pub struct Call {
    client: Client,
    parts: Parts,
    body: Vec<u8>,
}

/// The same client. If proofs are requested, its last call is recorded.
pub fn wrap(client: Client) -> Client {
    if MODE.is_some() { Client::new(Recorder(client), "default") } else { client }
}

/// The last call of all recording clients.
pub fn last() -> Option<Call> {
    LAST.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Call {
    /// Makes the call again, as a dry run if it would write. Its answer does not matter.
    ///
    /// # Errors
    /// If it is refused.
    pub async fn repeat(&self) -> kube::Result<()> {
        let mut parts = self.parts.clone();
        let uri = parts.uri.to_string();
        if parts.method != Method::GET && !uri.contains("dryRun=") {
            let joint = if uri.contains('?') { '&' } else { '?' };
            parts.uri = format!("{uri}{joint}dryRun=All").parse::<Uri>().unwrap();
        }
        let mut body = self.body.clone();
        // If a deletion has a body, the API server reads its options only from there.
        if parts.method == Method::DELETE && !body.is_empty() {
            let mut options: serde_json::Value = serde_json::from_slice(&body).map_err(kube::Error::SerdeError)?;
            options["dryRun"] = json!(["All"]);
            body = options.to_string().into_bytes();
        }
        let response = self.client.send(Request::from_parts(parts, Body::from(body))).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let body = response.into_body().collect_bytes().await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let refusal = serde_json::from_slice::<Status>(&body).unwrap_or_else(|_| Status::failure(&text, "")).with_code(status.as_u16());
        Err(kube::Error::Api(refusal.boxed()))
    }
}

#[derive(Clone)]
struct Recorder(Client);

impl tower_service::Service<Request<Body>> for Recorder {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await?.to_vec();
            let call = Call { client: client.clone(), parts: parts.clone(), body: body.clone() };
            *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some(call);
            client.send(Request::from_parts(parts, Body::from(body))).await
        })
    }
}
