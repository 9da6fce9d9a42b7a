//! Versions that a registry refused to take. The pause before the next attempt grows each time, because each attempt costs a whole export.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::artifact::oci::OciError;

/// The pause after the first refusal.
const FIRST: Duration = Duration::from_secs(4);
/// The longest pause. Each one is twice as long as the one before.
const MOST: Duration = Duration::from_mins(1);
/// How long a refusal is remembered after the last attempt.
const REMEMBERED: Duration = Duration::from_mins(10);

/// All refusals, by what was refused.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<String, Refused>>);

struct Refused {
    error: OciError,
    at: Instant,
    pause: Duration,
}

impl Refusals {
    /// The last refusal, if it is too soon for another attempt.
    pub(crate) fn known(&self, what: &str) -> Option<OciError> {
        self.all().get(what).filter(|r| r.at.elapsed() < r.pause).map(|r| r.error.clone())
    }

    /// The result of an attempt. A refusal for another reason than last time counts as a first one: somebody is working on it.
    pub(crate) fn heard(&self, what: &str, error: Option<&OciError>) {
        let mut all = self.all();
        all.retain(|_, r| r.at.elapsed() < REMEMBERED);
        match error {
            Some(OciError::Busy) => {}
            Some(error) => {
                // A registry that can't be reached is tried again soon, by whoever needs it.
                let grows = !matches!(error, OciError::Unreachable { .. } | OciError::Unwell { .. });
                let before = all.get(what).filter(|r| grows && r.error == *error);
                let pause = before.map_or(FIRST, |r| (r.pause * 2).min(MOST));
                all.insert(what.to_owned(), Refused { error: error.clone(), at: Instant::now(), pause });
            }
            None => {
                all.remove(what);
            }
        }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u16) -> OciError {
        OciError::NotTaken {
            registry: "r".into(),
            repository: "oci://r/x".into(),
            what: "its layer".into(),
            code,
            reason: crate::api::Reason::RegistryFull,
            advice: "",
        }
    }

    #[test]
    fn what_is_refused_again_and_again_is_offered_ever_more_rarely_and_once_a_minute_at_least() {
        let refusals = Refusals::default();
        assert_eq!(refusals.known("host/a"), None);
        let pause = |error: &OciError| {
            refusals.heard("host/a", Some(error));
            assert_eq!(refusals.known("host/a").as_ref(), Some(error));
            refusals.all()["host/a"].pause.as_secs()
        };
        assert_eq!((0..6).map(|_| pause(&refusal(507))).collect::<Vec<_>>(), [4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(&refusal(413)), 4, "for another reason");
        let down = OciError::Unreachable { registry: "r".into(), why: "is down".into() };
        assert_eq!([pause(&down), pause(&down)], [4, 4]);
        assert_eq!(pause(&refusal(413)), 4);
        assert_eq!(refusals.known("host/b"), None);
        refusals.all().get_mut("host/a").unwrap().at -= FIRST;
        assert_eq!(refusals.known("host/a"), None, "its pause is over");
        assert_eq!(pause(&refusal(413)), 8);
        refusals.heard("host/a", Some(&OciError::Busy));
        assert!(refusals.known("host/a").is_some(), "that says nothing of it");
        refusals.heard("host/a", None);
        assert!(refusals.all().is_empty());
    }
}
