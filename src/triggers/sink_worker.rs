//! One sink: what to send to it next about a request.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;

use super::happened::{self, Happened};
use super::health::{Failure, Health};
use super::progress::{Progress, Told, View};
use crate::api::DeploymentRequest;
use crate::api::pipeline::{Sink, SinkStatus, Trigger};

/// A request about which some sink has not been told everything.
pub(crate) struct Tracked {
    pub(crate) view: View,
    /// The request in full. Caches drop most of an ended request.
    pub(crate) full: Option<Arc<DeploymentRequest>>,
    /// Whether `full` is the request after it ended.
    pub(crate) read: bool,
    /// Whether it is being read.
    pub(crate) reading: bool,
    /// When the operator noticed that the request was deleted.
    pub(crate) gone: Option<Timestamp>,
}

impl Tracked {
    /// Whether nothing more will happen to it.
    pub(crate) fn is_over(&self) -> bool {
        self.view.ended.is_some() || self.gone.is_some()
    }

    fn happened(&self) -> Vec<Happened> {
        let mut all = self.full.as_deref().map(happened::of).unwrap_or_default();
        if let Some(at) = self.gone
            && all.last().is_none_or(|h| h.trigger != Trigger::OnDeploymentCompleted)
        {
            all.push(Happened { trigger: Trigger::OnDeploymentCompleted, at: self.view.ended.unwrap_or(at) });
        }
        all
    }
}

/// What to do for one sink about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing, until something happens.
    Nothing,
    /// Nothing any more.
    Finish,
    /// The request has to be read in full first.
    Read,
    /// Send this to the sink.
    Send(Happened),
}

/// A sink of the pipeline.
pub(crate) struct SinkWorker {
    /// The sink as the pipeline defines it.
    pub(crate) sink: Sink,
    /// How far it has been told.
    pub(crate) progress: Progress,
    /// Whether the pipeline's status has its progress, so that it is not a new sink again after a restart.
    pub(crate) recorded: bool,
    /// Its health.
    pub(crate) health: Health,
    /// Requests about which a delivery is running.
    pub(crate) in_flight: HashSet<String>,
    /// Requests about which there may be something to do.
    pub(crate) ready: VecDeque<String>,
}

impl SinkWorker {
    /// A sink that the pipeline's status has.
    pub(crate) fn resume(sink: Sink, status: &SinkStatus) -> Self {
        let mut sink_worker = Self::with(sink, Progress::resume(&status.cursor), true);
        sink_worker.health.failing_since = status.failing_since;
        sink_worker.health.last = status.last_error.clone().map(Failure::Delivery);
        sink_worker
    }

    /// A new sink.
    pub(crate) fn begin(sink: Sink, requests: &[View], now: Timestamp) -> Self {
        Self::with(sink, Progress::begin(requests, now), false)
    }

    fn with(sink: Sink, progress: Progress, recorded: bool) -> Self {
        Self { sink, progress, recorded, health: Health::default(), in_flight: HashSet::new(), ready: VecDeque::new() }
    }

    fn wants(&self, trigger: Trigger) -> bool {
        self.sink.triggers.is_empty() || self.sink.triggers.contains(&trigger)
    }

    /// What to do about a request.
    pub(crate) fn next(&self, request: &Tracked) -> Next {
        let Told::UpTo(last) = self.progress.told(&request.view.uid, request.view.created) else { return Next::Nothing };
        let none_left = !self.sink.triggers.is_empty() && self.sink.triggers.iter().all(|t| Some(*t) <= last);
        if none_left || last == Some(Trigger::OnDeploymentCompleted) {
            return Next::Finish;
        }
        if request.view.ended.is_some() && !request.read && request.gone.is_none() {
            return Next::Read;
        }
        match request.happened().into_iter().find(|h| Some(h.trigger) > last && self.wants(h.trigger)) {
            Some(happened) => Next::Send(happened),
            None if request.is_over() => Next::Finish,
            None => Next::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sink_worker(triggers: &[Trigger]) -> SinkWorker {
        let sink = Sink { url: "http://sink.test".into(), signing_secret_ref: None, triggers: triggers.to_vec() };
        SinkWorker::begin(sink, &[], Timestamp::UNIX_EPOCH)
    }

    fn tracked(status: &serde_json::Value) -> Tracked {
        let request: DeploymentRequest = serde_json::from_value(json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": "DeploymentRequest",
            "metadata": {"name": "r", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"pipeline": "p", "stage": "s", "solution": {"name": "orders", "version": "1.0.0"}},
            "status": status,
        }))
        .unwrap_or_else(|error| unreachable!("{error}"));
        let ended = request.status.as_ref().and_then(|s| s.run.end_time);
        let view = View { uid: "u".into(), name: "r".into(), created: happened::created(&request), ended };
        Tracked { view, full: Some(Arc::new(request)), read: false, reading: false, gone: None }
    }

    fn sends(sink_worker: &SinkWorker, request: &Tracked) -> Option<Trigger> {
        match sink_worker.next(request) {
            Next::Send(happened) => Some(happened.trigger),
            _ => None,
        }
    }

    #[test]
    fn triggers_follow_one_another_and_then_nothing_is_left() {
        let mut all = sink_worker(&[]);
        let running = tracked(&json!({"phase": "Deploying", "startTime": "2026-01-01T00:00:01Z"}));
        assert_eq!(sends(&all, &running), Some(Trigger::OnDeploymentRequested));
        all.progress.sent("u", "r", Trigger::OnDeploymentRequested);
        assert_eq!(sends(&all, &running), Some(Trigger::OnDeploymentStarted));
        all.progress.sent("u", "r", Trigger::OnDeploymentStarted);
        assert_eq!(all.next(&running), Next::Nothing);
        let mut ended = tracked(&json!({"phase": "Succeeded", "startTime": "2026-01-01T00:00:01Z", "endTime": "2026-01-01T00:00:02Z"}));
        assert_eq!(all.next(&ended), Next::Read, "the cache has not all of it");
        ended.read = true;
        assert_eq!(sends(&all, &ended), Some(Trigger::OnDeploymentCompleted));
        all.progress.sent("u", "r", Trigger::OnDeploymentCompleted);
        assert_eq!(all.next(&ended), Next::Finish);
        all.progress.finish("u");
        assert_eq!(all.next(&ended), Next::Nothing);
    }

    #[test]
    fn a_sink_is_told_of_what_it_asked_for() {
        let mut some = sink_worker(&[Trigger::OnDeploymentStarted]);
        let mut ended = tracked(&json!({"phase": "Failed", "endTime": "2026-01-01T00:00:02Z"}));
        ended.read = true;
        assert_eq!(some.next(&ended), Next::Finish, "that never happened");
        let running = tracked(&json!({"phase": "Deploying", "startTime": "2026-01-01T00:00:01Z"}));
        assert_eq!(sends(&some, &running), Some(Trigger::OnDeploymentStarted));
        some.progress.sent("u", "r", Trigger::OnDeploymentStarted);
        assert_eq!(some.next(&running), Next::Finish, "nothing else is wanted");
    }

    #[test]
    fn a_deleted_request_is_told_to_its_end() {
        let mut all = sink_worker(&[]);
        let mut gone = tracked(&json!({"phase": "AwaitingApproval"}));
        gone.gone = Some(Timestamp::UNIX_EPOCH);
        assert_eq!(sends(&all, &gone), Some(Trigger::OnDeploymentRequested));
        all.progress.sent("u", "r", Trigger::OnDeploymentRequested);
        assert_eq!(sends(&all, &gone), Some(Trigger::OnDeploymentCompleted));
        gone.full = None;
        assert_eq!(sends(&all, &gone), Some(Trigger::OnDeploymentCompleted), "also when nothing else is known of it");
    }
}
