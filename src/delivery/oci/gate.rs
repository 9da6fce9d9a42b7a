//! Asking registries: few at once, for a limited time, and not sooner after a failure than it makes sense.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::error::OciError;

/// How many artifacts are on their way at once: each may take a hundred MiB of memory for a moment.
const AT_ONCE: usize = 2;
/// How many passes may be here at once, as a share of all that run at once: a registry that hangs shall not hold up what needs none.
const SHARE: usize = 4;
/// How long one waits for its turn before it lets others go on.
const TURN: Duration = Duration::from_secs(5);
/// How long all that is asked of a registry for one artifact may take.
const WHOLE: Duration = Duration::from_mins(1);
/// How long a registry that could not be reached is left alone.
const AGAIN: Duration = Duration::from_secs(5);
/// How long it is remembered that a registry could not be reached, where nobody asks it any more.
const REMEMBERED: Duration = Duration::from_mins(10);

/// What all questions to registries go through.
pub struct Gate {
    admitted: Semaphore,
    turns: Semaphore,
    /// Those that could not be reached, by what they are reached by.
    failing: Mutex<HashMap<String, Failing>>,
}

struct Failing {
    since: Timestamp,
    last: Instant,
    error: OciError,
}

impl Gate {
    /// For an operator that makes so many passes at once.
    pub fn new(concurrency: u16) -> Self {
        let admitted = (usize::from(concurrency) / SHARE).max(1);
        Self { admitted: Semaphore::new(admitted), turns: Semaphore::new(AT_ONCE.min(admitted)), failing: Mutex::default() }
    }

    /// Does the work when it is its turn. `entry` names what the registry is reached by: one who writes a wrong one holds up nobody else.
    ///
    /// # Errors
    /// What the work says; and where others are before it, the registry could not be reached a moment ago, or it takes too long.
    pub async fn ask<T>(&self, entry: &str, registry: &str, work: impl Future<Output = Result<T, OciError>>) -> Result<T, OciError> {
        self.known(entry)?;
        let Ok(_admitted) = self.admitted.try_acquire() else { return Err(OciError::Busy) };
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN, self.turns.acquire()).await else { return Err(OciError::Busy) };
        // Whoever was before may have found out.
        self.known(entry)?;
        let outcome = tokio::time::timeout(WHOLE, work).await.unwrap_or_else(|_| {
            let why = format!("was not done with the artifact within {} seconds", WHOLE.as_secs());
            Err(OciError::Unreachable { registry: registry.to_owned(), why })
        });
        let mut failing = self.failing();
        failing.retain(|_, f| f.last.elapsed() < REMEMBERED);
        match outcome {
            Err(OciError::Unreachable { registry, why }) => {
                let since = failing.get(entry).map_or_else(|| crate::api::condition::whole_seconds(Timestamp::now()), |f| f.since);
                let why = format!(
                    "{why} (since {since}); start it, or let the operator's pods reach it: it is asked again every {} seconds",
                    AGAIN.as_secs()
                );
                let error = OciError::Unreachable { registry, why };
                failing.insert(entry.to_owned(), Failing { since, last: Instant::now(), error: error.clone() });
                Err(error)
            }
            other => {
                failing.remove(entry);
                other
            }
        }
    }

    /// That it could not be reached a moment ago.
    fn known(&self, entry: &str) -> Result<(), OciError> {
        match self.failing().get(entry).filter(|f| f.last.elapsed() < AGAIN) {
            Some(known) => Err(known.error.clone()),
            None => Ok(()),
        }
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, HashMap<String, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable() -> Result<(), OciError> {
        Err(OciError::Unreachable { registry: "r".into(), why: "is down".into() })
    }

    #[tokio::test]
    async fn a_registry_that_is_down_is_asked_once_and_answers_all_who_wait() {
        let gate = Gate::new(16);
        let asked = std::cell::Cell::new(0);
        let ask = |entry: &'static str| {
            let (gate, asked) = (&gate, &asked);
            gate.ask(entry, "r", async move {
                asked.set(asked.get() + 1);
                tokio::task::yield_now().await;
                unreachable()
            })
        };
        let all = futures::join!(ask("a"), ask("a"), ask("a"), ask("b"));
        assert!([all.0, all.1, all.2, all.3].iter().all(|said| said.as_ref().is_err_and(|e| e.to_string().contains("is down (since "))));
        // Two had their turn at once, the third was told, and the other entry is another matter.
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test]
    async fn one_that_hangs_holds_no_more_than_a_share_of_the_passes() {
        let gate = Gate::new(16);
        let hang = || gate.ask("a", "r", futures::future::pending::<Result<(), OciError>>());
        let held: Vec<_> = (0..4).map(|_| Box::pin(hang())).collect();
        let mut held = futures::future::join_all(held);
        assert!(futures::poll!(&mut held).is_pending());
        assert_eq!(hang().await, Err(OciError::Busy), "at once");
        drop(held);
        assert_eq!(gate.ask("a", "r", async { Ok(1) }).await, Ok(1));
    }
}
