//! When retention runs.

use jiff::Timestamp;

use crate::api::retention::{MAX_REQUESTED, Retention, RetentionStatus};
use crate::policy::windows;

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A run is under way, or begins.
    Run {
        /// When it began.
        since: Timestamp,
        /// Whether it begins now.
        begins: bool,
    },
    /// Nothing until then. `None`: nothing until somebody corrects the schedule.
    Wait {
        /// The time.
        until: Option<Timestamp>,
    },
}

/// Whether a run is due. `requested` is the value of the annotation that begins one.
pub(crate) fn due(
    retention: &Retention,
    generation: i64,
    requested: Option<&str>,
    status: Option<&RetentionStatus>,
    now: Timestamp,
) -> Due {
    if let Some(running) = status.and_then(|s| s.running.as_ref()) {
        return Due::Run { since: running.since, begins: false };
    }
    let is_requested = requested_value(requested).is_some_and(|value| status.and_then(|s| s.requested.as_deref()) != Some(value.as_str()));
    // A schedule that was changed, or is new, counts from now.
    let next = match status.filter(|s| s.observed_generation == generation) {
        Some(status) => status.next_run,
        None => next_run(retention, now),
    };
    match next {
        _ if is_requested => Due::Run { since: now, begins: true },
        Some(at) if at <= now => Due::Run { since: now, begins: true },
        until => Due::Wait { until },
    }
}

/// The value of the annotation as the status keeps it.
pub(crate) fn requested_value(requested: Option<&str>) -> Option<String> {
    requested.map(|value| value.chars().take(MAX_REQUESTED).collect())
}

/// When the schedule comes next.
pub(crate) fn next_run(retention: &Retention, after: Timestamp) -> Option<Timestamp> {
    windows::next(&retention.schedule, retention.time_zone.as_deref(), after).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::retention::{RetentionCount, RetentionProgress};

    fn retention(schedule: &str) -> Retention {
        serde_json::from_value(serde_json::json!({"schedule": schedule})).unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_run_comes_with_the_schedule_and_one_that_was_missed_comes_at_once() {
        let nightly = retention("0 3 * * *");
        let now = at("2026-11-30T23:00:00Z");
        let next = at("2026-12-01T03:00:00Z");
        assert_eq!(due(&nightly, 1, None, None, now), Due::Wait { until: Some(next) });
        let waiting = RetentionStatus { observed_generation: 1, next_run: Some(next), ..RetentionStatus::default() };
        assert_eq!(due(&nightly, 1, None, Some(&waiting), now), Due::Wait { until: Some(next) });
        for late in ["2026-12-01T03:00:00Z", "2026-12-05T12:00:00Z"] {
            assert_eq!(due(&nightly, 1, None, Some(&waiting), at(late)), Due::Run { since: at(late), begins: true });
        }
        let changed = due(&retention("0 4 * * *"), 2, None, Some(&waiting), at("2026-12-01T03:30:00Z"));
        assert_eq!(changed, Due::Wait { until: Some(at("2026-12-01T04:00:00Z")) }, "a changed schedule counts from now");
    }

    #[test]
    fn a_run_goes_on_as_of_the_time_at_which_it_began() {
        let began = at("2026-12-01T03:00:00Z");
        let running = RetentionProgress { since: began, removes: RetentionCount::default() };
        let status = RetentionStatus { observed_generation: 1, running: Some(running), ..RetentionStatus::default() };
        let now = at("2026-12-01T05:00:00Z");
        assert_eq!(due(&retention("0 3 * * *"), 1, None, Some(&status), now), Due::Run { since: began, begins: false });
        assert_eq!(due(&retention("0 3 * * *"), 7, None, Some(&status), now), Due::Run { since: began, begins: false });
    }

    #[test]
    fn each_value_of_the_annotation_begins_one_run() {
        let (yearly, now) = (retention("0 0 1 1 *"), at("2026-11-30T23:00:00Z"));
        let begins = Due::Run { since: now, begins: true };
        assert_eq!(due(&yearly, 1, Some("a"), None, now), begins);
        let next = next_run(&yearly, now);
        let done = RetentionStatus { observed_generation: 1, next_run: next, requested: Some("a".into()), ..RetentionStatus::default() };
        assert_eq!(due(&yearly, 1, Some("a"), Some(&done), now), Due::Wait { until: next });
        assert_eq!(due(&yearly, 1, None, Some(&done), now), Due::Wait { until: next });
        assert_eq!(due(&yearly, 1, Some("b"), Some(&done), now), begins);
        let long = "x".repeat(5000);
        let done = RetentionStatus { requested: requested_value(Some(&long)), ..done };
        assert_eq!(due(&yearly, 1, Some(&long), Some(&done), now), Due::Wait { until: next }, "however long it is");
    }

    #[test]
    fn a_schedule_that_never_comes_waits_for_a_correction() {
        assert_eq!(due(&retention("0 0 31 2 *"), 1, None, None, at("2026-11-30T23:00:00Z")), Due::Wait { until: None });
    }
}
