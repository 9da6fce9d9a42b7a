//! Posts an event to a sink: one attempt, bounded in time and in what is read of the answer.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a sink has for its whole answer.
pub const ANSWER: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);
/// How much of an answer is read, to be able to use the connection again. None of it is shown anywhere.
const MOST_READ: usize = 4096;

/// An event, ready to be sent.
pub struct Delivery {
    /// Where to.
    pub url: String,
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`.
    pub timestamp: i64,
    /// `webhook-signature`.
    pub signature: Option<String>,
    /// The event.
    pub body: Vec<u8>,
}

/// Sends deliveries. It follows no redirects, uses no proxies, sends no credentials and no cookies.
#[derive(Clone)]
pub struct Sender {
    client: Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>,
}

impl Sender {
    /// A sender that trusts the machine's certificate authorities.
    pub fn new() -> Self {
        let mut http = HttpConnector::new_with_resolver(Guarded(GaiResolver::new()));
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

    /// One attempt. `Err` is why it did not arrive, for people.
    pub async fn send(&self, delivery: Delivery) -> Result<(), String> {
        match tokio::time::timeout(ANSWER, self.attempt(delivery)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("did not answer within {} seconds", ANSWER.as_secs())),
        }
    }

    async fn attempt(&self, delivery: Delivery) -> Result<(), String> {
        let uri: Uri = delivery.url.parse().map_err(|_| "the url can't be used".to_owned())?;
        if let Some(address) = uri.host().and_then(literal).filter(|a| is_link_local(*a)) {
            return Err(refused(address));
        }
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
        // What the sink says is for nobody's eyes here: an address inside the cluster could be made to answer.
        let _ = Limited::new(response.into_body(), MOST_READ).collect().await;
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

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn refused(address: IpAddr) -> String {
    format!("has the link-local address {address}, where machines answer questions about themselves: nothing is sent there")
}

/// Clouds tell a machine its credentials at such an address, and no receiver has one.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.is_link_local(),
            // The last is where one cloud has its metadata.
            None => v6.is_unicast_link_local() || v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254],
        },
    }
}

/// Resolves names as the system does, and refuses those that lead to link-local addresses.
#[derive(Clone)]
struct Guarded(GaiResolver);

impl Service<Name> for Guarded {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let found = self.0.call(name);
        Box::pin(async move {
            let found: Vec<SocketAddr> = found.await?.collect();
            match found.iter().find(|a| is_link_local(a.ip())) {
                Some(address) => Err(std::io::Error::other(refused(address.ip()))),
                None => Ok(found.into_iter()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_metadata_are_refused_in_every_form() {
        for refused in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"] {
            assert!(literal(refused).is_some_and(is_link_local), "{refused}");
        }
        for fine in ["127.0.0.1", "10.0.0.1", "[::1]", "[fd00::1]"] {
            assert!(literal(fine).is_some_and(|a| !is_link_local(a)), "{fine}");
        }
        assert_eq!(literal("sink.example.test"), None);
    }

    #[test]
    fn only_2xx_is_an_arrival() {
        assert_eq!(judge(StatusCode::ACCEPTED), Ok(()));
        assert!(judge(StatusCode::TEMPORARY_REDIRECT).is_err_and(|e| e.contains("307") && e.contains("not followed")));
        assert!(judge(StatusCode::INTERNAL_SERVER_ERROR).is_err_and(|e| e == "answered 500 Internal Server Error"));
    }
}
