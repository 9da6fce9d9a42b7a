//! Limits calls to registries: few at a time, for a limited time, and with a pause after a failure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::error::OciError;
use crate::api::repository::Repository;

/// How many artifacts are fetched or stored at the same time. Each may need a hundred MiB of memory for a moment.
const AT_ONCE: usize = 2;
/// How many reconciliations may be here at the same time, as a share of all concurrent ones. A registry that hangs must not delay requests
/// that need no registry.
const SHARE: usize = 4;
/// How long one caller waits for its turn before it gives up its place.
const TURN: Duration = Duration::from_secs(5);
/// How long all calls for one artifact may take together.
const WHOLE: Duration = Duration::from_mins(1);
/// How long a registry that could not be reached is not called.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a failure to reach a registry is remembered if nobody calls it.
const REMEMBERED: Duration = Duration::from_mins(10);

/// On whose behalf a registry is called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asker {
    /// The host. Its registries share the host's part of the turns.
    pub(crate) host: String,
    /// How the registry is reached. Failures are remembered by this, so a wrong entry of one host delays nobody else.
    pub(crate) entry: String,
}

/// Limits all calls to registries.
pub(crate) struct Limiter {
    all: Seats,
    /// The limit for one host.
    share: (usize, usize),
    /// The remaining turns of hosts that call now.
    hosts: Mutex<HashMap<String, Arc<Seats>>>,
    /// Recent failures.
    failing: Mutex<HashMap<Key, Failing>>,
}

struct Seats {
    admitted: Semaphore,
    turns: Semaphore,
}

/// The key by which failures are remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A registry that could not be reached, by how it is reached.
    Entry(String),
    /// A repository that gave a bad answer. One slow layer says nothing about the others.
    Repository(String, Repository),
}

struct Failing {
    since: Timestamp,
    last: Instant,
    error: OciError,
}

impl Seats {
    fn new((admitted, turns): (usize, usize)) -> Self {
        Self { admitted: Semaphore::new(admitted), turns: Semaphore::new(turns) }
    }
}

impl Limiter {
    /// For the registry that the operator's flags name, in an operator with so many concurrent reconciliations.
    pub(crate) fn to_own(concurrency: u16) -> Self {
        let all = seats(concurrency);
        Self::new(all, all)
    }

    /// For registries that hosts name. One that hangs, or that sends a byte now and then, delays only its host.
    pub(crate) fn to_any(concurrency: u16) -> Self {
        let all = seats(concurrency);
        Self::new(all, ((all.0 / 2).max(1), 1))
    }

    fn new(all: (usize, usize), share: (usize, usize)) -> Self {
        Self { all: Seats::new(all), share, hosts: Mutex::default(), failing: Mutex::default() }
    }

    /// Does the work when it is its turn.
    ///
    /// # Errors
    /// The errors of the work; and if others come first, the registry could not be reached a moment ago, or the work takes too long.
    pub(crate) async fn ask<T>(
        &self,
        asker: &Asker,
        repository: &Repository,
        work: impl Future<Output = Result<T, OciError>>,
    ) -> Result<T, OciError> {
        let keys = &[Key::Entry(asker.entry.clone()), Key::Repository(asker.entry.clone(), repository.clone())];
        self.known(keys)?;
        let host = self.host(&asker.host);
        let (Ok(_own), Ok(_admitted)) = (host.admitted.try_acquire(), self.all.admitted.try_acquire()) else {
            return Err(self.busy(keys));
        };
        let turn = async { (host.turns.acquire().await, self.all.turns.acquire().await) };
        let Ok((Ok(_turn), Ok(_of_all))) = tokio::time::timeout(TURN, turn).await else { return Err(self.busy(keys)) };
        // The previous caller may have found out.
        self.known(keys)?;
        let outcome = tokio::time::timeout(WHOLE, work).await.unwrap_or_else(|_| {
            let why = format!("was not done with the artifact within {} seconds", WHOLE.as_secs());
            Err(OciError::Unwell { registry: repository.registry.clone(), why })
        });
        let mut failing = self.failing();
        failing.retain(|_, f| f.last.elapsed() < REMEMBERED);
        let [entry, repository] = keys;
        let (key, error) = match outcome {
            Err(error @ OciError::Unreachable { .. }) => (entry, error),
            Err(error @ OciError::Unwell { .. }) => {
                failing.remove(entry);
                (repository, error)
            }
            other => {
                failing.remove(entry);
                failing.remove(repository);
                return other;
            }
        };
        let since = failing.get(key).map_or_else(|| crate::api::condition::whole_seconds(Timestamp::now()), |f| f.since);
        let again = format!("it is asked again every {} seconds", AGAIN.as_secs());
        let error = match error {
            OciError::Unreachable { registry, why } => OciError::Unreachable {
                registry,
                why: format!("{why} (since {since}); start it, or let the operator's pods reach it: {again}"),
            },
            OciError::Unwell { registry, why } => {
                let why = format!("{why} (since {since}); see what its log says, and that the line to it is fast enough: {again}");
                OciError::Unwell { registry, why }
            }
            other => other,
        };
        failing.insert(key.clone(), Failing { since, last: Instant::now(), error: error.clone() });
        Err(error)
    }

    /// The part of one host, as long as it calls.
    fn host(&self, name: &str) -> Arc<Seats> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, seats| Arc::strong_count(seats) > 1);
        hosts.entry(name.to_owned()).or_insert_with(|| Arc::new(Seats::new(self.share))).clone()
    }

    /// The recent failure, if there is one.
    fn known(&self, keys: &[Key]) -> Result<(), OciError> {
        let failing = self.failing();
        match keys.iter().filter_map(|key| failing.get(key)).find(|f| f.last.elapsed() < AGAIN) {
            Some(known) => Err(known.error.clone()),
            None => Ok(()),
        }
    }

    /// The message while others are calling. If there was a failure before, it stays. Otherwise callers that wait would alternate between
    /// two messages.
    fn busy(&self, keys: &[Key]) -> OciError {
        let failing = self.failing();
        keys.iter().find_map(|key| failing.get(key)).map_or(OciError::Busy, |known| known.error.clone())
    }

    fn failing(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many callers may be here at the same time, and how many of them have their turn.
fn seats(concurrency: u16) -> (usize, usize) {
    let admitted = (usize::from(concurrency) / SHARE).max(1);
    (admitted, AT_ONCE.min(admitted))
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
