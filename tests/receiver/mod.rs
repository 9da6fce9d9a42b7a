//! A receiver of `CloudEvents` that answers as a test tells it, and remembers what it received.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

/// A key in the form of Standard Webhooks. Its bytes must not appear anywhere else.
pub const KEY: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LTEyMzQ=";

/// How a receiver answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With this code.
    Code(u16),
    /// With this code, after a while.
    Late(u16, Duration),
    /// It does not answer. The connection stays open.
    Never,
    /// With a redirection to this URL.
    Redirect(String),
    /// With this code and this body.
    Body(u16, String),
}

/// What it received.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as it was.
    pub body: Vec<u8>,
    /// The event in it.
    pub event: Value,
    /// Whether the receiver accepted it.
    pub taken: bool,
}

impl Delivery {
    /// A header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().unwrap()).unwrap_or_default()
    }

    /// The trigger's name.
    pub fn trigger(&self) -> &str {
        self.event["data"]["trigger"].as_str().unwrap()
    }

    /// The request's name.
    pub fn request(&self) -> &str {
        self.event["data"]["request"]["name"].as_str().unwrap()
    }

    /// Checks the signature with another implementation of Standard Webhooks.
    pub fn verify(&self) {
        let verifier = standardwebhooks::Webhook::new(KEY).unwrap();
        verifier.verify(&self.body, &self.headers).unwrap_or_else(|error| panic!("{error}: {:?}", self.headers));
    }
}

type Script = Box<dyn FnMut(&Delivery) -> Answer + Send>;

#[derive(Default)]
struct Shared {
    script: Mutex<Option<Script>>,
    came: Mutex<Vec<Delivery>>,
}

/// The receiver. It ends with this value.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: tokio::task::AbortHandle,
    connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Receiver {
    /// Listens, and accepts everything.
    pub async fn start() -> Self {
        Self::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), Arc::default()).await
    }

    async fn on(address: SocketAddr, shared: Arc<Shared>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections: Arc<Mutex<Vec<tokio::task::AbortHandle>>> = Arc::default();
        let (serving, all) = (shared.clone(), connections.clone());
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                all.lock().unwrap().push(tokio::spawn(serve(stream, serving.clone())).abort_handle());
            }
        });
        Self { address, shared, server: server.abort_handle(), connections }
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// Decides how it answers from now on.
    pub fn answer(&self, script: impl FnMut(&Delivery) -> Answer + Send + 'static) {
        *self.shared.script.lock().unwrap() = Some(Box::new(script));
    }

    /// Answers with 200 from now on.
    pub fn accept(&self) {
        self.answer(|_| Answer::Code(200));
    }

    /// Stops listening: connections are refused.
    pub fn stop(&self) {
        self.server.abort();
        self.connections.lock().unwrap().drain(..).for_each(|c| c.abort());
    }

    /// Listens again at the same address.
    pub async fn resume(&mut self) {
        self.stop();
        let mut again = None;
        // The old listener is closed when its task is gone.
        for _ in 0..200 {
            if let Ok(listener) = TcpListener::bind(self.address).await {
                drop(listener);
                again = Some(Self::on(self.address, self.shared.clone()).await);
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        *self = again.unwrap();
    }

    /// Everything that it received, in order.
    pub fn came(&self) -> Vec<Delivery> {
        self.shared.came.lock().unwrap().clone()
    }

    /// What it accepted.
    pub fn taken(&self) -> Vec<Delivery> {
        self.came().into_iter().filter(|d| d.taken).collect()
    }

    /// The triggers of a request that it accepted: each once, in the order in which they first arrived.
    pub fn triggers(&self, request: &str) -> Vec<String> {
        let mut triggers: Vec<String> = Vec::new();
        for delivery in self.taken().iter().filter(|d| d.request() == request) {
            if !triggers.iter().any(|t| t == delivery.trigger()) {
                triggers.push(delivery.trigger().to_owned());
            }
        }
        triggers
    }

    /// Checks that deliveries with the same id are of the same trigger of the same request, and that others are not.
    pub fn check_ids(&self) {
        let mut ids: BTreeMap<(String, String), String> = BTreeMap::new();
        for delivery in self.came() {
            let (id, data) = (delivery.header("webhook-id").to_owned(), &delivery.event["data"]);
            assert_eq!(delivery.event["id"], id);
            let what = (data["request"]["uid"].as_str().unwrap().to_owned(), delivery.trigger().to_owned());
            assert_eq!(id, format!("{}-{}", what.0, what.1));
            assert_eq!(*ids.entry(what).or_insert(id.clone()), id);
        }
        let different: std::collections::BTreeSet<&String> = ids.values().collect();
        assert_eq!(different.len(), ids.len(), "{ids:?}");
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(take(request, &shared).await) }
    });
    // If a client goes away, the test does not care.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn take(request: Request<Incoming>, shared: &Shared) -> Response<Full<Bytes>> {
    let headers = request.headers().clone();
    let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
    let event = serde_json::from_slice(&body).unwrap();
    let mut delivery = Delivery { headers, body, event, taken: false };
    let answer = shared.script.lock().unwrap().as_mut().map_or(Answer::Code(200), |script| script(&delivery));
    delivery.taken = matches!(answer, Answer::Code(200..300) | Answer::Late(200..300, _) | Answer::Body(200..300, _));
    shared.came.lock().unwrap().push(delivery);
    let (code, body, location) = match answer {
        Answer::Code(code) => (code, String::new(), None),
        Answer::Late(code, pause) => {
            tokio::time::sleep(pause).await;
            (code, String::new(), None)
        }
        Answer::Never => std::future::pending().await,
        Answer::Redirect(to) => (307, String::new(), Some(to)),
        Answer::Body(code, body) => (code, body, None),
    };
    let mut response = Response::builder().status(code);
    if let Some(to) = location {
        response = response.header("location", to);
    }
    response.body(Full::from(body)).unwrap()
}
