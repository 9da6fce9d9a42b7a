//! An admission webhook that answers as a test tells it, over TLS with a certificate that the API server trusts.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use pilotage_harness::ControlPlane;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::tls;

/// The answer to one question.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// Yes, with these changes: a JSON patch.
    Change(Value),
    /// No, for this reason.
    Deny(String),
    /// Yes, after a while.
    Late(Duration),
}

type Judge = Box<dyn FnMut(&Value) -> Verdict + Send>;

struct Bench {
    judge: Mutex<Judge>,
    asked: Mutex<Vec<Value>>,
}

/// The server. It ends with this value.
pub struct Webhook {
    address: SocketAddr,
    authority: String,
    bench: Arc<Bench>,
    server: tokio::task::AbortHandle,
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Webhook {
    /// Starts it. `judge` answers the `request` of each review.
    pub async fn start(plane: &ControlPlane, judge: impl FnMut(&Value) -> Verdict + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let bench = Arc::new(Bench { judge: Mutex::new(Box::new(judge)), asked: Mutex::default() });
        let server = tokio::spawn(serve(listener, tls::acceptor(plane), bench.clone())).abort_handle();
        Self { address, authority: STANDARD.encode(plane.ca_pem().unwrap()), bench, server }
    }

    /// Its address, for the configuration of a webhook.
    pub fn client_config(&self) -> Value {
        json!({"url": format!("https://{}/judge", self.address), "caBundle": self.authority})
    }

    /// The questions so far: the `request` of each review.
    pub fn asked(&self) -> Vec<Value> {
        self.bench.asked.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, bench: Arc<Bench>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, tls.clone(), bench.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, bench: Arc<Bench>) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = service_fn(move |request| answer(request, bench.clone()));
    // An API server that does not wait any longer closes the connection.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, bench: Arc<Bench>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let question = &review["request"];
    bench.asked.lock().unwrap().push(question.clone());
    let verdict = (bench.judge.lock().unwrap())(question);
    let mut said = json!({"uid": question["uid"], "allowed": true});
    match verdict {
        Verdict::Allow => {}
        Verdict::Late(while_) => tokio::time::sleep(while_).await,
        Verdict::Deny(why) => {
            said["allowed"] = false.into();
            said["status"] = json!({"code": 403, "message": why});
        }
        Verdict::Change(patch) => {
            said["patchType"] = "JSONPatch".into();
            said["patch"] = STANDARD.encode(patch.to_string()).into();
        }
    }
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": said});
    let mut response = Response::new(Full::new(Bytes::from(review.to_string())));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    Ok(response)
}
