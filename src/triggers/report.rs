//! What a pipeline's status says about its sinks: how far each has been told, and a condition for people.

use hyper::Uri;

use super::health::{Failure, LONGEST};
use super::sink_worker::SinkWorker;
use crate::api::condition::Observation;
use crate::api::pipeline::{MAX_ERROR, SinkStatus};
use crate::api::reason::Reason;
use crate::text;

/// The condition that says whether the sinks accept what is sent to them.
pub(crate) const SINKS_DELIVERING: &str = "SinksDelivering";

/// What a pipeline's status says about one sink.
pub(crate) fn status(sink_worker: &SinkWorker, waiting: usize) -> SinkStatus {
    let failing = sink_worker.health.failing_since.is_some();
    SinkStatus {
        url: sink_worker.sink.url.clone(),
        // If the sink is healthy, the number of running deliveries does not matter.
        waiting: if failing { i32::try_from(waiting).unwrap_or(i32::MAX) } else { 0 },
        failing_since: sink_worker.health.failing_since,
        last_error: sink_worker.health.last.as_ref().map(|f| text::bounded(f.message(), MAX_ERROR)),
        cursor: sink_worker.progress.cursor(),
    }
}

/// The condition; `None` for a pipeline without sinks.
pub(crate) fn condition<'a>(sink_workers: impl ExactSizeIterator<Item = (&'a SinkWorker, usize)>) -> Option<Observation> {
    let count = sink_workers.len();
    let mut reason = Reason::SinkFailing;
    let mut failing = Vec::new();
    for (index, (sink_worker, waiting)) in sink_workers.enumerate() {
        let (Some(since), Some(last)) = (sink_worker.health.failing_since, &sink_worker.health.last) else { continue };
        let why = match last {
            Failure::Key(why) => {
                reason = Reason::SigningKeyNotUsable;
                why.clone()
            }
            Failure::Delivery(why) => format!("it {why}"),
        };
        failing.push(format!(
            "spec.sinks[{index}] ({}): triggers of {waiting} requests wait, since {since}. They are sent again, with pauses of up to {} seconds, until it answers 2xx or is removed; no deployment waits for it. The last attempt: {why}",
            origin(&sink_worker.sink.url),
            LONGEST.as_secs(),
        ));
    }
    match (count, failing.is_empty()) {
        (0, _) => None,
        (_, true) => Some(Observation::new(SINKS_DELIVERING, true, Reason::Delivering, format!("what happens is sent to {count} sinks"))),
        (_, false) => Some(Observation::new(SINKS_DELIVERING, false, reason, failing.join("\n"))),
    }
}

/// The part of a URL that identifies the receiver, without what may be secret.
pub(crate) fn origin(url: &str) -> String {
    match url.parse::<Uri>() {
        Ok(uri) => format!("{}://{}", uri.scheme_str().unwrap_or_default(), uri.authority().map_or("", |a| a.as_str())),
        Err(_) => "a url that can't be used".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;

    use super::*;
    use crate::api::condition::ConditionStatus;
    use crate::api::pipeline::Sink;

    fn sink_worker() -> SinkWorker {
        let sink = Sink { url: "https://sink.test/hooks/canary?sig=canary".into(), signing_secret_ref: None, triggers: vec![] };
        SinkWorker::begin(sink, &[], Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn a_failing_sink_is_named_with_what_waits_and_why() {
        let (well, mut ill) = (sink_worker(), sink_worker());
        let fine = condition([(&well, 0)].into_iter());
        assert_eq!(fine.map(|c| (c.status, c.reason)), Some((ConditionStatus::True, Reason::Delivering)));
        ill.health.failed("u", Failure::Delivery("answered 500 Internal Server Error".into()), Instant::now(), Timestamp::UNIX_EPOCH);
        let said = condition([(&well, 0), (&ill, 3)].into_iter());
        let said = said.map(|c| c.message).unwrap_or_default();
        for words in ["spec.sinks[1] (https://sink.test)", "of 3 requests", "since 1970-01-01T00:00:00Z", "answered 500", "or is removed"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert!(!said.contains("canary"), "a url may hold a token: {said}");
        assert_eq!(condition([].into_iter()), None);
    }
}
