//! Posts an event to a sink: one attempt. Its time is limited, and so is the part of the answer that is read.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::egress::{self, Guarded};

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a sink may take for its whole answer.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);
/// How long to wait for the rest of an answer after its status code.
const REST: Duration = Duration::from_secs(1);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How much of an answer is read, so that the connection can be used again. None of it is shown anywhere.
const MOST_READ: usize = 4096;

/// An event, ready to be sent.
pub(crate) struct Delivery {
    /// The URL of the sink.
    pub(crate) url: String,
    /// The header `webhook-id`.
    pub(crate) id: String,
    /// The header `webhook-timestamp`.
    pub(crate) timestamp: i64,
    /// The header `webhook-signature`.
    pub(crate) signature: Option<String>,
    /// The event.
    pub(crate) body: Vec<u8>,
}

/// Sends deliveries. It follows no redirects, uses no proxies, and sends no credentials and no cookies.
#[derive(Clone)]
pub(crate) struct Sender {
    client: Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>,
}

impl Sender {
    /// A sender that trusts the machine's certificate authorities.
    pub(crate) fn new() -> Self {
        let mut http = HttpConnector::new_with_resolver(Guarded::default());
        http.set_connect_timeout(Some(CONNECT));
        http.enforce_http(false);
        let https = match HttpsConnectorBuilder::new().with_native_roots() {
            Ok(builder) => builder,
            Err(error) => {
                tracing::warn!(%error, "no certificate authorities are found: sinks with https can't be reached");
                let trusts_nobody = rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty());
                HttpsConnectorBuilder::new().with_tls_config(trusts_nobody.with_no_client_auth())
            }
        };
        let connector = https.https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(2)
            .build(connector);
        Self { client }
    }

    /// One attempt. `Err` says for people why it did not arrive.
    pub(crate) async fn send(&self, delivery: Delivery) -> Result<(), String> {
        match tokio::time::timeout(ANSWER, self.attempt(delivery)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("did not answer within {} seconds", ANSWER.as_secs())),
        }
    }

    async fn attempt(&self, delivery: Delivery) -> Result<(), String> {
        let uri: Uri = delivery.url.parse().map_err(|_| "the url can't be used".to_owned())?;
        egress::check(&uri)?;
        let mut request = Request::post(uri)
            .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .header(USER_AGENT, concat!("pilotage/", env!("CARGO_PKG_VERSION")))
            .header("webhook-id", delivery.id)
            .header("webhook-timestamp", delivery.timestamp);
        if let Some(signature) = delivery.signature {
            request = request.header("webhook-signature", signature);
        }
        let request = request.body(Full::from(delivery.body)).map_err(|_| "the url can't be used".to_owned())?;
        let response = self.client.request(request).await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        // Nobody is shown what the sink answers: somebody could make an address inside the cluster answer.
        let _ = tokio::time::timeout(REST, Limited::new(response.into_body(), MOST_READ).collect()).await;
        judge(status)
    }
}

fn judge(status: StatusCode) -> Result<(), String> {
    if status.is_success() {
        Ok(())
    } else if status.is_redirection() {
        Err(format!("answered {}: redirects are not followed, let the url be where they lead to", status.as_u16()))
    } else {
        Err(format!("answered {status}"))
    }
}

fn unreachable(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() { format!("could not be reached: {cause}") } else { format!("broke off: {cause}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_is_an_arrival() {
        assert_eq!(judge(StatusCode::ACCEPTED), Ok(()));
        assert!(judge(StatusCode::TEMPORARY_REDIRECT).is_err_and(|e| e.contains("307") && e.contains("not followed")));
        assert!(judge(StatusCode::INTERNAL_SERVER_ERROR).is_err_and(|e| e == "answered 500 Internal Server Error"));
    }
}
