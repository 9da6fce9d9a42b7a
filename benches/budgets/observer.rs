//! Observes requests as their users do: by a watch, with the time at which each change was seen.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use kube::runtime::watcher;
use kube::{Api, Client, ResourceExt as _};
use pilotage::api::{DeploymentRequest, condition};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// How long anything may take before the figure is skipped.
const PATIENCE: Duration = Duration::from_mins(2);

/// What was seen of a request, and when.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The approval's gate was open.
    pub opened: Option<Instant>,
    /// The request had ended.
    pub ended: Option<Instant>,
    /// Its last phase.
    pub phase: String,
    /// Its last message.
    pub message: String,
}

/// Watches the requests of a host.
pub struct Observer {
    seen: Arc<Mutex<HashMap<String, Seen>>>,
    changed: watch::Receiver<u64>,
    opened: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Observer {
    /// Starts to watch. Returns when the watch has begun.
    pub async fn start(client: Client, host: &str) -> Result<Self> {
        let seen: Arc<Mutex<HashMap<String, Seen>>> = Arc::default();
        let (notify, mut changed) = watch::channel(0);
        let (gates, opened) = mpsc::unbounded_channel();
        let api: Api<DeploymentRequest> = Api::namespaced(client, host);
        let noted = seen.clone();
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let now = Instant::now();
                match event {
                    Ok(watcher::Event::Apply(request) | watcher::Event::InitApply(request)) => note(&noted, &gates, &request, now),
                    Ok(watcher::Event::InitDone) => {}
                    _ => continue,
                }
                notify.send_modify(|n| *n += 1);
            }
        });
        changed.changed().await.context("the watch of the requests ended")?;
        Ok(Self { seen, changed, opened, task })
    }

    /// What was seen of a request.
    pub fn seen(&self, name: &str) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default()
    }

    /// Waits until something was seen of a request.
    pub async fn until(&mut self, name: &str, when: impl Fn(&Seen) -> Option<Instant>) -> Result<Instant> {
        let start = Instant::now();
        loop {
            if let Some(at) = when(&self.seen(name)) {
                return Ok(at);
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            tokio::time::timeout(left, self.changed.changed())
                .await
                .with_context(|| format!("request {name} got no further in {PATIENCE:?}: {:?}", self.seen(name)))??;
        }
    }

    /// Waits until the gate of a request opens.
    pub async fn opened(&mut self, name: &str) -> Result<Instant> {
        self.until(name, |seen| seen.opened.or(seen.ended)).await?;
        let seen = self.seen(name);
        seen.opened.with_context(|| format!("request {name} ended {} before its gate opened: {}", seen.phase, seen.message))
    }

    /// Waits until a request has succeeded.
    pub async fn success(&mut self, name: &str) -> Result<Instant> {
        let at = self.until(name, |seen| seen.ended).await?;
        let seen = self.seen(name);
        ensure!(seen.phase == "Succeeded", "request {name} ended {}: {}", seen.phase, seen.message);
        Ok(at)
    }

    /// The next request whose gate opens, in order.
    pub async fn next_opened(&mut self) -> Result<String> {
        tokio::time::timeout(PATIENCE, self.opened.recv()).await.context("no gate opened in time")?.context("the watch has ended")
    }

    /// Forgets the gates that have opened until now.
    pub fn skip_opened(&mut self) {
        while self.opened.try_recv().is_ok() {}
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn note(seen: &Mutex<HashMap<String, Seen>>, gates: &mpsc::UnboundedSender<String>, request: &DeploymentRequest, now: Instant) {
    let Some(status) = &request.status else { return };
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = seen.entry(request.name_any()).or_default();
    if status.run.gates.approval.is_some() && seen.opened.is_none() {
        seen.opened = Some(now);
        if status.approval.is_none() {
            // Perhaps nobody waits any more.
            let _ = gates.send(request.name_any());
        }
    }
    if status.run.end_time.is_some() && seen.ended.is_none() {
        seen.ended = Some(now);
        seen.phase.clone_from(&status.run.phase);
        seen.message = condition::find(&status.run.conditions, "Succeeded").map(|c| c.message.clone()).unwrap_or_default();
    }
}
