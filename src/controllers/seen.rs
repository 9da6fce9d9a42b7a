//! What was checked last, and how long that is valid. Events wake a controller far more often than its input changes: every deployment
//! writes to its Environment, which wakes the stages that deploy there. Rights are checked again when the input of the last check has
//! changed, or when its time is over.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The last check of each object, by uid: its input, and when it is due again.
pub(crate) struct Seen<V> {
    last: Mutex<HashMap<String, (V, Instant)>>,
}

impl<V> Default for Seen<V> {
    fn default() -> Self {
        Self { last: Mutex::default() }
    }
}

impl<V: PartialEq> Seen<V> {
    /// How long the last check is still valid. `None` if there is none, if it is due, or if its input was different.
    pub(crate) fn holds(&self, uid: &str, view: &V) -> Option<Duration> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, due) = last.get(uid)?;
        due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero() && before == view)
    }

    /// Remembers a check after it is written.
    pub(crate) fn note(&self, uid: &str, view: V, due: Duration) {
        let now = Instant::now();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // Entries that are overdue for a long time belong to deleted objects.
        last.retain(|_, (_, due)| now.saturating_duration_since(*due) < Duration::from_mins(1));
        last.insert(uid.to_owned(), (view, now + due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_judgement_holds_until_it_is_due_or_its_grounds_change() {
        let seen = Seen::default();
        assert_eq!(seen.holds("a", &1), None);
        seen.note("a", 1, Duration::from_mins(10));
        assert!(seen.holds("a", &1).is_some_and(|left| left > Duration::from_mins(9)));
        assert_eq!((seen.holds("a", &2), seen.holds("b", &1)), (None, None));
        seen.note("a", 1, Duration::ZERO);
        assert_eq!(seen.holds("a", &1), None);
    }
}
