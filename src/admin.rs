//! Health, readiness and metrics over HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

/// What is known about the process.
#[derive(Clone)]
pub(crate) struct State {
    /// What it is not ready for yet. `None`: it is ready.
    unready: Arc<Mutex<Option<String>>>,
    leading: Gauge,
    registry: Arc<Registry>,
}

impl Default for State {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("pilotage");
        let leading = Gauge::default();
        registry.register("leader", "1 while this process leads, 0 while it stands by", leading.clone());
        Self { unready: Arc::new(Mutex::new(Some("caches are being filled".into()))), leading, registry: Arc::new(registry) }
    }
}

impl State {
    /// The caches are filled, and the policies are in force.
    pub(crate) fn set_ready(&self) {
        *self.unready.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It waits for this before it is ready. Returns whether that is news.
    pub(crate) fn set_unready(&self, why: String) -> bool {
        let before = self.unready.lock().unwrap_or_else(PoisonError::into_inner).replace(why.clone());
        before != Some(why)
    }

    /// This process leads.
    pub(crate) fn set_leading(&self) {
        self.leading.set(1);
    }
}

/// Serves until `stop`. A process that can't serve works all the same, and logs why.
pub(crate) async fn serve(address: SocketAddr, state: State, stop: CancellationToken) {
    let readiness = state.clone();
    let app = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/readyz",
            get(move || async move {
                let unready = readiness.unready.lock().unwrap_or_else(PoisonError::into_inner).clone();
                unready.map_or_else(|| (StatusCode::OK, "ok".to_owned()), |why| (StatusCode::SERVICE_UNAVAILABLE, why))
            }),
        )
        .route(
            "/metrics",
            get(move || async move {
                let mut text = String::new();
                match encode(&mut text, &state.registry) {
                    Ok(()) => (StatusCode::OK, text),
                    Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
                }
            }),
        );
    let listener = match tokio::net::TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "health and metrics are not served");
            return;
        }
    };
    if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stop.cancelled_owned()).await {
        tracing::error!(%error, "health and metrics are no longer served");
    }
}
