//! Tells the sinks of one pipeline what happens to its requests. It is one task, so that its state needs no locks. Sending, reading and
//! recording take time and run beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::happened::{self, Happened};
use super::health::Failure;
use super::keys::KeyRing;
use super::progress::{Told, View};
use super::sender::{Delivery, Sender};
use super::sink_worker::{Next, SinkWorker, Tracked};
use super::{event, report};
use crate::api::condition;
use crate::api::pipeline::Trigger;
use crate::api::{DeploymentRequest, Pipeline, Solution};
use crate::runtime::Cluster;
use crate::runtime::status_writer::RecordError;

/// Changes that come within this time are processed together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long progress waits for more progress before it is recorded. After a crash, what was sent in this time is sent again.
const BATCH: Duration = Duration::from_secs(1);
/// How often the status of a failing sink is updated.
const REPORT: Duration = Duration::from_secs(10);
/// The shortest time after which the dispatcher wakes up by the clock.
const SOONEST: Duration = Duration::from_millis(5);
/// After what time a failed read is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// After what time something without a time of its own is checked again.
const LATER: Duration = Duration::from_mins(10);

/// A call that ran beside the dispatcher has ended.
enum Landed {
    Sent { url: String, uid: String, trigger: Trigger, outcome: Result<(), Failure> },
    Read { uid: String, found: kube::Result<Option<Arc<DeploymentRequest>>> },
    Recorded { urls: Vec<String>, outcome: Result<(), RecordError> },
}

/// Tells the sinks of one pipeline.
pub(crate) struct Dispatcher {
    cluster: Arc<Cluster>,
    sender: Sender,
    keys: Arc<KeyRing>,
    key: ObjectRef<Pipeline>,
    host: String,
    pipeline: Option<Arc<Pipeline>>,
    sink_workers: Vec<SinkWorker>,
    requests: BTreeMap<String, Tracked>,
    on_their_way: FuturesUnordered<BoxFuture<'static, Landed>>,
    looked: Option<Instant>,
    /// When to try again what has no pause of its own.
    again: Option<Instant>,
    /// Since when there is progress that is not recorded.
    unrecorded: Option<Instant>,
    recording: bool,
    reported: Instant,
}

impl Dispatcher {
    /// A dispatcher for that pipeline.
    pub(crate) fn new(cluster: Arc<Cluster>, sender: Sender, key: ObjectRef<Pipeline>) -> Self {
        let host = key.namespace.clone().unwrap_or_default();
        Self {
            keys: Arc::new(KeyRing::new(cluster.clone(), host.clone())),
            cluster,
            sender,
            key,
            host,
            pipeline: None,
            sink_workers: Vec::new(),
            requests: BTreeMap::new(),
            on_their_way: FuturesUnordered::new(),
            looked: None,
            again: None,
            unrecorded: None,
            recording: false,
            reported: Instant::now(),
        }
    }

    /// Works until the pipeline has no sinks any more, or `stop`. Then it waits for running calls and records the progress.
    pub(crate) async fn run(mut self, changes: Arc<Notify>, stop: CancellationToken) {
        let mut look = true;
        loop {
            if look && self.looked.is_none_or(|at| at.elapsed() >= TOGETHER) {
                look = false;
                if !self.look() {
                    return self.close();
                }
            }
            self.work();
            self.record(false);
            let wake = tokio::time::Instant::from_std(self.wake(look));
            tokio::select! {
                () = stop.cancelled() => break,
                () = changes.notified() => look = true,
                Some(landed) = self.on_their_way.next() => self.landed(landed),
                () = tokio::time::sleep_until(wake) => look = true,
            }
        }
        loop {
            while let Some(landed) = self.on_their_way.next().await {
                self.landed(landed);
            }
            if self.unrecorded.is_none() || !self.look() {
                return;
            }
            self.record(true);
            if self.on_their_way.is_empty() {
                return;
            }
            // The progress is recorded once more. If that fails, the next leader sends some events again.
            if let Some(landed) = self.on_their_way.next().await {
                self.landed(landed);
                return;
            }
        }
    }

    /// The pipeline is deleted. What its sinks have not been told is lost.
    fn close(&self) {
        let waiting: BTreeSet<&str> = self.sink_workers.iter().flat_map(|o| self.waiting(o)).collect();
        if !waiting.is_empty() {
            tracing::warn!(pipeline = %self.key, requests = waiting.len(), "the sinks are gone before they were told all");
        }
    }

    /// When there is something to do, if nothing happens before.
    fn wake(&self, look: bool) -> Instant {
        let now = Instant::now();
        let mut wakes = vec![now + LATER];
        if look {
            wakes.extend(self.looked.map(|at| at + TOGETHER));
        }
        if !self.recording {
            wakes.extend(self.unrecorded.map(|since| since + BATCH));
        }
        wakes.extend(self.again);
        let idle = self.sink_workers.iter().filter(|o| o.recorded && !o.health.is_full(o.in_flight.len()));
        wakes.extend(idle.filter_map(|o| o.health.next_try()));
        if self.sink_workers.iter().any(|o| o.health.failing_since.is_some()) {
            wakes.push(self.reported + REPORT);
        }
        wakes.into_iter().min().unwrap_or(now).max(now + SOONEST)
    }

    /// Reads the current state. Returns whether this dispatcher is still needed.
    fn look(&mut self) -> bool {
        self.looked = Some(Instant::now());
        self.again = None;
        let Some(pipeline) = self.cluster.stores.pipelines.get(&self.key) else { return false };
        if self.pipeline.as_ref().is_some_and(|p| p.uid() != pipeline.uid()) || !super::wake_ups::needs_dispatcher(&pipeline) {
            return false;
        }
        self.take_sinks(&pipeline);
        self.pipeline = Some(pipeline);
        self.take_requests();
        true
    }

    /// Keeps the workers of sinks that stay, starts those of new sinks, and drops the others.
    fn take_sinks(&mut self, pipeline: &Pipeline) {
        let mut before = std::mem::take(&mut self.sink_workers);
        for sink in &pipeline.spec.sinks {
            let sink_worker = match before.iter().position(|o| o.sink.url == sink.url) {
                Some(index) => {
                    let mut sink_worker = before.swap_remove(index);
                    if sink_worker.sink != *sink {
                        sink_worker.sink = sink.clone();
                        sink_worker.health.retry_all(Instant::now());
                    }
                    sink_worker
                }
                None => match pipeline.status.iter().flat_map(|s| &s.sinks).find(|s| s.url == sink.url) {
                    Some(status) => SinkWorker::resume(sink.clone(), status),
                    None => SinkWorker::begin(sink.clone(), &self.views(Timestamp::UNIX_EPOCH), Timestamp::now()),
                },
            };
            self.sink_workers.push(sink_worker);
        }
        let recorded = pipeline.status.iter().flat_map(|s| &s.sinks).map(|s| &s.url);
        if !before.is_empty() || !self.sink_workers.iter().map(|o| &o.sink.url).eq(recorded) {
            self.changed();
        }
    }

    /// The pipeline's requests that were created at `since` or later, or are open.
    fn existing(&self, since: Timestamp) -> Vec<Arc<DeploymentRequest>> {
        let name = &self.key.name;
        self.cluster.stores.requests.state_filter(|r| {
            r.metadata.namespace.as_ref() == Some(&self.host)
                && r.spec.pipeline == *name
                && (happened::created(r) >= since
                    || r.metadata
                        .uid
                        .as_ref()
                        .is_some_and(|u| self.requests.contains_key(u) || self.sink_workers.iter().any(|o| o.progress.is_open(u))))
        })
    }

    fn views(&self, since: Timestamp) -> Vec<View> {
        self.existing(since).iter().map(|r| view(r)).collect()
    }

    /// The oldest point in time from which a sink may have to be told.
    fn since(&self) -> Timestamp {
        self.sink_workers.iter().map(|o| o.progress.since()).min().unwrap_or(Timestamp::MAX)
    }

    /// The name of a request that was deleted while nobody looked, from the status of its Solution. Empty if no Solution has it.
    fn name_in_solution(&self, uid: &str) -> String {
        let of = |solution: &Solution| {
            let told = solution.status.iter().flat_map(|s| &s.deployments);
            told.into_iter().find(|d| d.request_uid == uid && d.host == self.host).map(|d| d.request.clone())
        };
        let found = self.cluster.stores.solutions.find(|solution| of(solution).is_some());
        found.and_then(|solution| of(&solution)).unwrap_or_default()
    }

    fn take_requests(&mut self) {
        let existing = self.existing(self.since());
        let open = self.sink_workers.iter().flat_map(|o| o.progress.open()).map(|(uid, name)| (uid.to_owned(), name.to_owned()));
        let mut gone: BTreeMap<String, String> = open.collect();
        gone.extend(self.requests.values().map(|r| (r.view.uid.clone(), r.view.name.clone())));
        for request in &existing {
            let view = view(request);
            gone.remove(&view.uid);
            let whole = self.sink_workers.iter().all(|o| o.progress.told(&view.uid, view.created) == Told::Whole);
            if whole && !self.requests.contains_key(&view.uid) {
                continue;
            }
            let ended = view.ended.is_some();
            let tracked = self.requests.entry(view.uid.clone()).or_insert_with(|| Tracked {
                view: view.clone(),
                full: None,
                read: false,
                reading: false,
                gone: None,
            });
            tracked.view = view;
            tracked.gone = None;
            if !ended {
                tracked.full = Some(request.clone());
            }
        }
        let now = Timestamp::now();
        for (uid, name) in gone {
            let name = if name.is_empty() { self.name_in_solution(&uid) } else { name };
            let tracked = self.requests.entry(uid.clone()).or_insert_with(|| Tracked {
                view: View { uid, name, created: Timestamp::UNIX_EPOCH, ended: None },
                full: None,
                read: false,
                reading: false,
                gone: None,
            });
            tracked.gone.get_or_insert(now);
        }
        for sink_worker in &mut self.sink_workers {
            let mut ready: Vec<&Tracked> = self.requests.values().filter(|r| sink_worker.next(r) != Next::Nothing).collect();
            ready.sort_by_key(|r| (sink_worker.health.failures(&r.view.uid), r.view.created));
            sink_worker.ready = ready.into_iter().map(|r| r.view.uid.clone()).collect();
            if sink_worker.ready.is_empty() && sink_worker.health.failing_since.is_some() && sink_worker.in_flight.is_empty() {
                sink_worker.health.well();
                self.unrecorded.get_or_insert_with(Instant::now);
            }
        }
        let sink_workers = &self.sink_workers;
        self.requests.retain(|uid, r| {
            r.reading || sink_workers.iter().any(|o| o.in_flight.contains(uid) || o.progress.told(uid, r.view.created) != Told::Whole)
        });
    }

    /// Starts all calls that can be started.
    fn work(&mut self) {
        // A leader that has lost its Lease sends nothing more.
        if !self.cluster.leadership.holds() {
            return;
        }
        for index in 0..self.sink_workers.len() {
            if !self.sink_workers[index].recorded {
                continue;
            }
            loop {
                let sink_worker = &mut self.sink_workers[index];
                if sink_worker.health.is_full(sink_worker.in_flight.len()) {
                    break;
                }
                let Some(uid) = sink_worker.ready.pop_front() else { break };
                self.begin(index, uid);
            }
        }
    }

    fn begin(&mut self, index: usize, uid: String) {
        let sink_worker = &mut self.sink_workers[index];
        let Some(request) = self.requests.get_mut(&uid) else { return };
        if sink_worker.in_flight.contains(&uid) {
            return;
        }
        match sink_worker.next(request) {
            Next::Nothing => {}
            Next::Finish => {
                sink_worker.progress.finish(&uid);
                sink_worker.health.forget(&uid);
                self.changed();
            }
            Next::Read => {
                if !request.reading {
                    request.reading = true;
                    let (api, name) = (Api::namespaced(self.cluster.clients.operator(), &self.host), request.view.name.clone());
                    self.on_their_way.push(
                        async move { Landed::Read { uid, found: api.get_opt(&name).await.map(|found| found.map(Arc::new)) } }.boxed(),
                    );
                }
            }
            Next::Send(happened) => {
                // It is processed again when its pause is over.
                if sink_worker.health.may_try(&uid, sink_worker.in_flight.len(), Instant::now()) {
                    sink_worker.in_flight.insert(uid.clone());
                    self.send(index, &uid, happened);
                }
            }
        }
    }

    fn send(&mut self, index: usize, uid: &str, happened: Happened) {
        let (Some(sink_worker), Some(request)) = (self.sink_workers.get(index), self.requests.get(uid)) else { return };
        let event = match &request.full {
            Some(full) => {
                let stage = self.cluster.stores.stages.get(&ObjectRef::new(&full.spec.stage).within(&self.host));
                event::of_request(happened, full, stage.as_deref(), request.gone.is_some())
            }
            None => event::of_unknown(happened.at, &self.host, &self.key.name, &request.view.name, uid),
        };
        let (sink, sender, keys) = (sink_worker.sink.clone(), self.sender.clone(), self.keys.clone());
        let (uid, trigger) = (uid.to_owned(), happened.trigger);
        let send = async move {
            let outcome = deliver(&sender, &keys, &sink, event::id(&uid, trigger), event.to_string().into_bytes()).await;
            Landed::Sent { url: sink.url, uid, trigger, outcome }
        };
        self.on_their_way.push(send.boxed());
    }

    fn landed(&mut self, landed: Landed) {
        match landed {
            Landed::Sent { url, uid, trigger, outcome } => self.sent(&url, uid, trigger, outcome),
            Landed::Read { uid, found } => {
                let Some(request) = self.requests.get_mut(&uid) else { return };
                request.reading = false;
                match found {
                    Ok(Some(found)) if found.metadata.uid.as_ref() == Some(&uid) => {
                        request.full = Some(found);
                        request.read = true;
                    }
                    // Another request has its name.
                    Ok(_) => {
                        request.gone.get_or_insert(Timestamp::now());
                    }
                    Err(error) => {
                        tracing::debug!(request = request.view.name, %error, "a request could not be read; read again");
                        self.again = Some(Instant::now() + AGAIN);
                        return;
                    }
                }
                self.sink_workers.iter_mut().for_each(|o| o.ready.push_front(uid.clone()));
            }
            Landed::Recorded { urls, outcome } => {
                self.recording = false;
                match outcome {
                    Ok(()) => self.sink_workers.iter_mut().filter(|o| urls.contains(&o.sink.url)).for_each(|o| o.recorded = true),
                    Err(RecordError::NotFound(_)) => {}
                    Err(error) => {
                        tracing::warn!(pipeline = %self.key, %error, "the progress of sinks could not be recorded; tried again");
                        self.changed();
                    }
                }
            }
        }
    }

    fn sent(&mut self, url: &str, uid: String, trigger: Trigger, outcome: Result<(), Failure>) {
        // The sink may have been removed by now.
        let Some(sink_worker) = self.sink_workers.iter_mut().find(|o| o.sink.url == url) else { return };
        sink_worker.in_flight.remove(&uid);
        match outcome {
            Ok(()) => {
                if let Some(request) = self.requests.get(&uid) {
                    sink_worker.progress.sent(&uid, &request.view.name, trigger);
                }
                if sink_worker.health.arrived(&uid, Instant::now()) {
                    tracing::info!(pipeline = %self.key, sink = report::origin(url), "the sink takes what is sent to it again");
                }
                sink_worker.ready.push_front(uid);
                self.changed();
            }
            Err(failure) => {
                if sink_worker.health.failed(&uid, failure, Instant::now(), Timestamp::now()) {
                    let why = sink_worker.health.last.as_ref().map(|f| f.message().lines().next().unwrap_or_default().to_owned());
                    tracing::warn!(pipeline = %self.key, sink = report::origin(url), why, "a sink does not take what is sent to it; sent again");
                    self.changed();
                }
            }
        }
    }

    fn changed(&mut self) {
        self.unrecorded.get_or_insert_with(Instant::now);
    }

    /// The requests that a sink has not been told completely, if anything has happened to them.
    fn waiting<'a>(&'a self, sink_worker: &'a SinkWorker) -> impl Iterator<Item = &'a str> {
        let waits = |r: &&Tracked| matches!(sink_worker.next(r), Next::Send(_) | Next::Read);
        self.requests.values().filter(waits).map(|r| r.view.uid.as_str())
    }

    /// Records progress: after a short time, or at once if this is the last time or a sink is new.
    fn record(&mut self, at_once: bool) {
        let stale = self.reported.elapsed() >= REPORT && self.sink_workers.iter().any(|o| o.health.failing_since.is_some());
        let at_once = at_once || self.sink_workers.iter().any(|o| !o.recorded);
        let due = self.unrecorded.is_some_and(|since| at_once || since.elapsed() >= BATCH);
        if self.recording || !(due || stale) || !self.cluster.leadership.holds() {
            return;
        }
        // The state is read again, so that the point in time does not move past a request that was just created.
        if !self.look() {
            return;
        }
        let Some(pipeline) = self.pipeline.clone() else { return };
        let existing = self.views(self.since());
        self.sink_workers.iter_mut().for_each(|o| o.progress.advance(&existing));
        let waiting: Vec<usize> = self.sink_workers.iter().map(|o| self.waiting(o).count()).collect();
        let statuses: Vec<_> = self.sink_workers.iter().zip(&waiting).map(|(o, w)| report::status(o, *w)).collect();
        let urls: Vec<String> = statuses.iter().map(|s| s.url.clone()).collect();
        let said = report::condition(self.sink_workers.iter().zip(waiting));
        let (uid, cluster, leadership, now) = (pipeline.uid(), self.cluster.clone(), self.cluster.leadership.clone(), Timestamp::now());
        let (host, name) = (self.host.clone(), self.key.name.clone());
        self.unrecorded = None;
        self.reported = Instant::now();
        self.recording = true;
        let write = async move {
            let change = move |object: &Pipeline, status: &mut crate::api::pipeline::PipelineStatus| {
                // After a conflict this is called again, and another leader may know more by then.
                if object.uid() != uid || !leadership.holds() {
                    return;
                }
                status.sinks.clone_from(&statuses);
                match &said {
                    Some(said) => condition::set(&mut status.conditions, said, object.metadata.generation, now),
                    None => status.conditions.retain(|c| c.type_ != report::SINKS_DELIVERING),
                }
            };
            let outcome = cluster.records.pipelines.update(&host, &name, change).await.map(|_| ());
            Landed::Recorded { urls, outcome }
        };
        self.on_their_way.push(write.boxed());
    }
}

async fn deliver(sender: &Sender, keys: &KeyRing, sink: &crate::api::pipeline::Sink, id: String, body: Vec<u8>) -> Result<(), Failure> {
    let timestamp = Timestamp::now().as_second();
    let signature = match &sink.signing_secret_ref {
        Some(reference) => Some(keys.get(reference).await.map_err(Failure::Key)?.sign(&id, timestamp, &body)),
        None => None,
    };
    sender.send(Delivery { url: sink.url.clone(), id, timestamp, signature, body }).await.map_err(Failure::Delivery)
}

fn view(request: &DeploymentRequest) -> View {
    View {
        uid: request.uid().unwrap_or_default(),
        name: request.name_any(),
        created: happened::created(request),
        ended: request.status.as_ref().and_then(|s| s.run.end_time),
    }
}
