//! A proxy that makes faults between an operator and the API server. It takes plain HTTP with the operator's token and sends TLS. In front
//! of another cluster it uses TLS on both sides, in front of a registry on neither. A script decides what happens to each call. Without one, all calls are forwarded.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pilotage_harness::ControlPlane;
use pilotage_harness::process::{self, Pid, Signal};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// How long it may take until a killed process is gone.
const DEATH: Duration = Duration::from_secs(10);

/// A call of the operator, before it is forwarded.
pub struct Call {
    /// `PATCH /apis/…`, without the query.
    pub line: String,
    /// Its number among the writes that count, starting at 1. Dry runs, reviews, Leases and Events do not count.
    pub write: Option<usize>,
    /// Whether it is a watch.
    pub watch: bool,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is forwarded.
    Forward,
    /// The operator is killed. The call never reaches the API server.
    CrashBefore,
    /// The API server carries out the call. The operator is killed before it gets the answer.
    CrashAfter,
    /// The API server carries out the call. The answer is this code instead of its own.
    LoseReply(u16),
    /// The API server carries out the call. The connection breaks.
    Reset,
    /// It is held until [`Proxy::release`] and then forwarded, even if nobody waits for it any more.
    Hold,
    /// The operator is killed. The call is held until [`Proxy::release`] and then forwarded.
    Outlive,
    /// The API server never sees the call. The answer is this code, with `Retry-After: 1`.
    Refuse(u16),
}

/// Decides what happens to each call.
pub type Script = Box<dyn FnMut(&Call) -> Action + Send>;

/// A write as it went.
#[derive(Clone, Debug)]
pub struct Write {
    /// `PATCH /apis/…`, without the query.
    pub line: String,
    /// What the API server answered. `None` if it never saw the call.
    pub code: Option<u16>,
    /// Whether its operator was killed while it was running. The next operator may not have seen it yet.
    pub orphan: bool,
}

struct Shared {
    upstream: Client,
    /// Whether the server is told by which address it was called.
    keeps_host: bool,
    script: Mutex<Script>,
    operator: Mutex<Option<Pid>>,
    writes: Mutex<Vec<Write>>,
    started: AtomicUsize,
    crashes: AtomicUsize,
    calls: Mutex<Vec<String>>,
    under_way: AtomicUsize,
    last: Mutex<Instant>,
    cut: watch::Sender<u64>,
    held: watch::Sender<bool>,
    released: watch::Sender<bool>,
}

/// The proxy. It ends with this value.
pub struct Proxy {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    server: tokio::task::AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
        self.cut_watches();
    }
}

impl Proxy {
    /// Listens on a port of its own, in front of the API server of `plane`.
    pub async fn start(plane: &ControlPlane) -> Self {
        Self::listen(plane, None).await
    }

    /// The same for callers that need TLS, with a certificate from the authority of `plane`.
    pub async fn with_tls(plane: &ControlPlane) -> Self {
        Self::listen(plane, Some(crate::tls::acceptor(plane))).await
    }

    /// In front of a registry, which answers with the address that it is called by.
    pub async fn before_registry(host: &str) -> Self {
        let mut config = Config::new(format!("http://{host}").parse().unwrap());
        config.default_retry = false;
        Self::to(config, None).await
    }

    async fn listen(plane: &ControlPlane, tls: Option<TlsAcceptor>) -> Self {
        let kubeconfig = Kubeconfig::read_from(plane.admin_kubeconfig()).unwrap();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        // It adds nothing of its own: the caller's token and impersonation headers are forwarded.
        config.auth_info = AuthInfo::default();
        config.default_retry = false;
        Self::to(config, tls).await
    }

    async fn to(config: Config, tls: Option<TlsAcceptor>) -> Self {
        let keeps_host = config.cluster_url.scheme_str() == Some("http");
        let shared = Arc::new(Shared {
            keeps_host,
            upstream: Client::try_from(config).unwrap(),
            script: Mutex::new(Box::new(|_| Action::Forward)),
            operator: Mutex::new(None),
            writes: Mutex::default(),
            started: AtomicUsize::new(0),
            crashes: AtomicUsize::new(0),
            calls: Mutex::default(),
            under_way: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
            cut: watch::Sender::new(0),
            held: watch::Sender::new(false),
            released: watch::Sender::new(false),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = tokio::spawn(serve(listener, tls, shared.clone())).abort_handle();
        Self { address, scheme, shared, server }
    }

    /// Host and port.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Which process a crash kills. The connections from now on are its own.
    pub fn crashes(&self, operator: Pid) {
        self.shared.started.fetch_add(1, Ordering::AcqRel);
        *self.shared.operator.lock().unwrap() = Some(operator);
    }

    /// From now on `script` decides.
    pub fn follow(&self, script: impl FnMut(&Call) -> Action + Send + 'static) {
        *self.shared.script.lock().unwrap() = Box::new(script);
    }

    /// Whether the script has killed an operator.
    pub fn has_crashed(&self) -> bool {
        self.shared.crashes.load(Ordering::Acquire) > 0
    }

    /// The writes that counted, in the order in which they arrived.
    pub fn writes(&self) -> Vec<Write> {
        self.shared.writes.lock().unwrap().clone()
    }

    /// All calls but watches, Leases and Events.
    pub fn calls(&self) -> Vec<String> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// How many calls have no answer yet. Watches, Leases and Events do not count.
    pub fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::Acquire)
    }

    /// Forwards the held calls.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Breaks all watches that are open.
    pub fn cut_watches(&self) {
        self.shared.cut.send_modify(|times| *times += 1);
    }

    /// Holds the events of watches back, or lets them continue.
    pub fn hold_watches(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    /// Whether no call except watches and Leases was made for that long.
    pub fn is_quiet(&self, lull: Duration) -> bool {
        self.under_way() == 0 && self.shared.last.lock().unwrap().elapsed() >= lull
    }
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, tls.clone(), shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Which operator's connection it is: a request may be read after its sender has died.
    let life = shared.started.load(Ordering::Acquire);
    match tls {
        None => speak(stream, life, shared).await,
        Some(acceptor) => {
            if let Ok(stream) = acceptor.accept(stream).await {
                speak(stream, life, shared).await;
            }
        }
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, life: usize, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        // In a task of its own: a call that has begun is carried out even if the caller is gone.
        async move { tokio::spawn(answer(request, life, shared)).await.map_err(io::Error::other)? }
    });
    // A broken connection is expected here.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, life: usize, shared: Arc<Shared>) -> io::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let request = Request::from_parts(parts, body.collect().await.map_err(io::Error::other)?.to_bytes());
    let path = request.uri().path().to_owned();
    let line = format!("{} {path}", request.method());
    let called = line.clone();
    let (watched, background) = (is_watch(request.uri()), path.contains("/leases") || path.contains("/events"));
    let (number, action) = {
        let mut writes = shared.writes.lock().unwrap();
        let number = counts(&request).then(|| {
            writes.push(Write { line: line.clone(), code: None, orphan: false });
            writes.len()
        });
        let call = Call { line, write: number, watch: watched };
        (number, (shared.script.lock().unwrap())(&call))
    };
    if background || watched {
        return carry_out(request, life, &shared, number, action).await;
    }
    shared.calls.lock().unwrap().push(called);
    shared.under_way.fetch_add(1, Ordering::AcqRel);
    let outcome = carry_out(request, life, &shared, number, action).await;
    *shared.last.lock().unwrap() = Instant::now();
    shared.under_way.fetch_sub(1, Ordering::AcqRel);
    outcome
}

async fn carry_out(
    request: Request<Bytes>,
    life: usize,
    shared: &Arc<Shared>,
    number: Option<usize>,
    action: Action,
) -> io::Result<Response<Body>> {
    let broken = || Err(io::Error::from(io::ErrorKind::ConnectionReset));
    match action {
        Action::CrashBefore => {
            kill(shared);
            return broken();
        }
        Action::Refuse(code) => return Ok(refusal(code)),
        Action::Hold | Action::Outlive => {
            if action == Action::Outlive {
                kill(shared);
            }
            // The sender lives as long as this.
            let _ = shared.released.subscribe().wait_for(|released| *released).await;
        }
        Action::Forward | Action::CrashAfter | Action::LoseReply(_) | Action::Reset => {}
    }
    let response = forward(request, shared).await?;
    if let Some(number) = number {
        let write = &mut shared.writes.lock().unwrap()[number - 1];
        write.code = Some(response.status().as_u16());
        write.orphan = shared.crashes.load(Ordering::Acquire) >= life.max(1);
    }
    match action {
        Action::CrashAfter => {
            kill(shared);
            broken()
        }
        Action::Reset => broken(),
        Action::LoseReply(code) => Ok(refusal(code)),
        _ => Ok(response),
    }
}

/// Forwards a call unchanged, and its answer back. A watch is forwarded event by event.
async fn forward(request: Request<Bytes>, shared: &Arc<Shared>) -> io::Result<Response<Body>> {
    let watched = is_watch(request.uri());
    let (parts, body) = request.into_parts();
    let mut onward = Request::builder().method(parts.method).uri(parts.uri.path_and_query().map_or("/", |p| p.as_str()));
    for (name, value) in &parts.headers {
        if *name == header::HOST && shared.keeps_host {
            onward = onward.header(name, value);
        }
        if ![header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
            onward = onward.header(name, value);
        }
    }
    let onward = onward.body(kube::client::Body::from(body.to_vec())).map_err(io::Error::other)?;
    let response = shared.upstream.send(onward).await.map_err(io::Error::other)?;
    let (mut parts, body) = response.into_parts();
    for name in [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    let body = if watched {
        stream(body, shared.cut.subscribe(), shared.held.subscribe())
    } else {
        whole(body.collect().await.map_err(io::Error::other)?.to_bytes())
    };
    Ok(Response::from_parts(parts, body))
}

/// The events of a watch until it is cut. While they are held, none.
fn stream(body: kube::client::Body, mut cut: watch::Receiver<u64>, held: watch::Receiver<bool>) -> Body {
    cut.mark_unchanged();
    let events = Box::pin(body.into_data_stream());
    let events = futures::stream::try_unfold((events, cut, held), |(mut events, mut cut, mut held)| async move {
        let next = async {
            let next = events.try_next().await.map_err(io::Error::other);
            // The sender lives as long as the proxy.
            let _ = held.wait_for(|held| !held).await;
            next
        };
        let next = tokio::select! {
            next = next => next?,
            _ = cut.changed() => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
        };
        Ok(next.map(|bytes| (Frame::data(bytes), (events, cut, held))))
    });
    StreamBody::new(events).boxed_unsync()
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn refusal(code: u16) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": "ServiceUnavailable", "message": "made by the test's proxy", "details": {"retryAfterSeconds": 1},
    });
    let mut response = Response::new(whole(Bytes::from(status.to_string())));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}

fn kill(shared: &Shared) {
    let Some(pid) = shared.operator.lock().unwrap().take() else { return };
    // This is counted before the kill: whoever finds the operator dead checks whether that was intended.
    shared.crashes.fetch_add(1, Ordering::AcqRel);
    process::signal(pid, Signal::KILL).unwrap();
    process::wait_until("the operator is dead", DEATH, || !process::exists(pid)).unwrap();
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true" || part == "watch=1"))
}

fn counts(request: &Request<Bytes>) -> bool {
    let (method, path) = (request.method(), request.uri().path());
    let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method);
    let dry = request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "dryRun=All"));
    // Deletions have it in their body.
    let options = || serde_json::from_slice::<Value>(request.body()).unwrap_or_default();
    let dry = dry || (method == Method::DELETE && options()["dryRun"] == json!(["All"]));
    let asks = path.starts_with("/apis/authorization.k8s.io/") || path.starts_with("/apis/authentication.k8s.io/");
    writes && !dry && !asks && !path.contains("/leases") && !path.contains("/events")
}
