//! When to try a sink again. Each request with a failed delivery has a pause of its own. The whole sink pauses while no delivery arrives.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The first pause after a failure. It doubles with each further failure.
const FIRST: Duration = Duration::from_millis(250);
/// The longest pause of a sink if no delivery arrives.
pub(crate) const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause of one request if deliveries about others arrive.
const LONGEST_OF_ONE: Duration = Duration::from_mins(5);
/// The longest pause if the key can't be used: whoever corrects it wants to see the result.
const LONGEST_OF_KEY: Duration = Duration::from_secs(4);
/// How many deliveries to one sink run at once.
const CONCURRENCY: usize = 8;
/// After this many failures in a row the sink is at fault, not a request.
const DOWN: u32 = 3;

/// Why a delivery did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is no key to sign it with.
    Key(String),
    /// The sink did not accept it.
    Delivery(String),
}

impl Failure {
    /// Why, for people.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Key(message) | Self::Delivery(message) => message,
        }
    }
}

struct Trouble {
    count: u32,
    next: Instant,
}

/// The health of one sink.
#[derive(Default)]
pub(crate) struct Health {
    /// The number of failures in a row.
    streak: u32,
    next: Option<Instant>,
    troubles: HashMap<String, Trouble>,
    /// Since when something can't be delivered.
    pub(crate) failing_since: Option<Timestamp>,
    /// Why not.
    pub(crate) last: Option<Failure>,
}

impl Health {
    /// Whether a delivery about that request may be tried now, while `in_flight` deliveries run.
    pub(crate) fn may_try(&self, uid: &str, in_flight: usize, now: Instant) -> bool {
        let trouble = self.troubles.get(uid);
        if trouble.is_some_and(|t| t.next > now) {
            return false;
        }
        match self.streak {
            0 => in_flight < CONCURRENCY,
            // While no delivery arrives, only one is tried at a time. A delivery that was not tried yet is tried at once: it may not be the
            // sink's fault.
            _ => in_flight == 0 && (trouble.is_none() || self.next.is_none_or(|next| next <= now)),
        }
    }

    /// Whether no further delivery may start while `in_flight` deliveries run.
    pub(crate) fn is_full(&self, in_flight: usize) -> bool {
        in_flight >= if self.streak == 0 { CONCURRENCY } else { 1 }
    }

    /// How often deliveries about that request have failed since the last one that arrived.
    pub(crate) fn failures(&self, uid: &str) -> u32 {
        self.troubles.get(uid).map_or(0, |t| t.count)
    }

    /// A delivery did not arrive. Returns whether this changes what is known.
    pub(crate) fn failed(&mut self, uid: &str, failure: Failure, now: Instant, clock: Timestamp) -> bool {
        let (longest, longest_of_one) = match failure {
            Failure::Key(_) => (LONGEST_OF_KEY, LONGEST_OF_KEY),
            Failure::Delivery(_) => (LONGEST, LONGEST_OF_ONE),
        };
        self.streak = self.streak.saturating_add(1);
        self.next = Some(now + pause(self.streak, longest));
        let trouble = self.troubles.entry(uid.to_owned()).or_insert(Trouble { count: 0, next: now });
        trouble.count = trouble.count.saturating_add(1);
        trouble.next = now + pause(trouble.count, longest_of_one);
        // A different problem with a key is reported at once. A failing sink may give any answer.
        let changed = self.failing_since.is_none() || (matches!(failure, Failure::Key(_)) && self.last.as_ref() != Some(&failure));
        self.failing_since.get_or_insert(crate::api::condition::whole_seconds(clock));
        self.last = Some(failure);
        changed
    }

    /// A delivery arrived. Returns whether the sink has just become healthy.
    pub(crate) fn arrived(&mut self, uid: &str, now: Instant) -> bool {
        if self.streak >= DOWN {
            self.retry_all(now);
        }
        self.streak = 0;
        self.next = None;
        self.troubles.remove(uid);
        self.troubles.is_empty() && self.well()
    }

    /// Nothing more has to be delivered about a request.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.troubles.remove(uid);
    }

    /// Nothing waits. Returns whether the sink has just become healthy.
    pub(crate) fn well(&mut self) -> bool {
        self.last = None;
        self.failing_since.take().is_some()
    }

    /// Something about the sink has changed: everything is tried again at once.
    pub(crate) fn retry_all(&mut self, now: Instant) {
        self.next = None;
        self.troubles.values_mut().for_each(|t| t.next = now);
    }

    /// When the next paused delivery may be tried again.
    pub(crate) fn next_try(&self) -> Option<Instant> {
        let first = self.troubles.values().map(|t| t.next).min()?;
        Some(if self.streak == 0 { first } else { self.next.map_or(first, |next| first.max(next)) })
    }
}

fn pause(count: u32, longest: Duration) -> Duration {
    FIRST.saturating_mul(2u32.saturating_pow(count.saturating_sub(1).min(16))).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure::Delivery("answered 500".into())
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u128> = [1, 2, 3, 7, 8, 99].map(|n| pause(n, LONGEST).as_millis()).to_vec();
        assert_eq!(pauses, [250, 500, 1000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn a_sink_that_is_down_is_tried_by_one_at_a_time_and_then_by_all() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(health.may_try("a", 7, now) && !health.may_try("a", 8, now));
        for uid in ["a", "b", "c", "d"] {
            health.failed(uid, failure(), now, Timestamp::UNIX_EPOCH);
        }
        assert!(!health.may_try("a", 0, now), "it pauses");
        assert!(health.may_try("new", 0, now) && !health.may_try("new", 1, now), "what was not tried is, alone");
        let later = now + Duration::from_secs(2);
        assert!(health.may_try("a", 0, later) && !health.may_try("a", 1, later));
        assert_eq!(health.next_try(), Some(now + Duration::from_secs(2)));
        assert!(!health.arrived("a", later), "others have trouble still");
        assert!(health.may_try("b", 7, later), "and are tried at once");
        for uid in ["b", "c"] {
            assert!(!health.arrived(uid, later));
        }
        assert!(health.arrived("d", later), "all is well");
        assert_eq!((health.failing_since, health.next_try()), (None, None));
    }

    #[test]
    fn one_that_is_never_taken_does_not_hold_up_others() {
        let (mut health, now) = (Health::default(), Instant::now());
        for _ in 0..20 {
            health.failed("poison", failure(), now, Timestamp::UNIX_EPOCH);
            assert!(health.may_try("other", 0, now));
            health.arrived("other", now);
        }
        assert!(health.failing_since.is_some(), "and is not forgotten");
        assert!(!health.may_try("poison", 0, now + Duration::from_mins(4)));
    }
}
