//! Artifacts that another system pushed to an OCI registry, as a source of a version.
//!
//! A small client of our own: the crates for it bring a second HTTP stack, which follows redirects and reads proxies from the environment.

mod archive;
mod challenge;
pub mod credentials;
mod documents;
mod error;
mod limits;
mod manifest;
mod session;
mod strict;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::archive::Spent;
use self::documents::Files;
pub use self::documents::Written;
pub use self::error::OciError;
use self::manifest::{ACCEPTED, Contents, Form};
pub use self::session::Access;
use self::session::Session;
use crate::api::reference::SolutionVersion;
use crate::api::repository::Repository;
use crate::delivery::bundle::digest;

/// How many artifacts are fetched at once: each may take a hundred MiB of memory for a moment.
const AT_ONCE: usize = 2;
/// How long one waits for its turn before it lets others go on.
const TURN: Duration = Duration::from_secs(5);
/// How long all that is asked of a registry for one artifact may take.
const WHOLE: Duration = Duration::from_mins(1);
/// How long a registry that could not be reached is left alone.
pub const AGAIN: Duration = Duration::from_secs(5);
/// How long it is remembered that a registry could not be reached, where nobody asks it any more.
const REMEMBERED: Duration = Duration::from_mins(10);

/// Fetches artifacts from registries.
pub struct Registries {
    turns: Semaphore,
    /// Those that could not be reached, by the pipeline's entry.
    failing: Mutex<HashMap<String, Failing>>,
}

struct Failing {
    since: Timestamp,
    last: Instant,
    error: OciError,
}

impl Default for Registries {
    fn default() -> Self {
        Self { turns: Semaphore::new(AT_ONCE), failing: Mutex::default() }
    }
}

impl Registries {
    /// The digest that a tag means now. `entry` names what the registry is reached by: one who writes a wrong one holds up nobody else.
    ///
    /// # Errors
    /// Where it can't be found out, or it is something else than an artifact with manifests.
    pub async fn resolve(&self, entry: &str, repository: &Repository, tag: &str, access: &Access) -> Result<String, OciError> {
        let work = async {
            let mut session = Session::new(repository, access)?;
            let bytes = session.manifest(tag, ACCEPTED).await?;
            manifest::read(&bytes, &format!("{repository}:{tag}"))?;
            Ok(digest(&bytes))
        };
        self.ask(entry, repository, work).await
    }

    /// The objects of the artifact with that digest.
    ///
    /// # Errors
    /// Where it can't be fetched, was altered, or may not be deployed.
    pub async fn fetch(
        &self,
        entry: &str,
        repository: &Repository,
        digest: &str,
        wanted: &SolutionVersion,
        access: &Access,
    ) -> Result<Written, OciError> {
        let reference = format!("{repository}@{digest}");
        let work = async {
            let mut session = Session::new(repository, access)?;
            let bytes = session.manifest(digest, ACCEPTED).await?;
            let contents = manifest::read(&bytes, &reference)?;
            let config = &contents.config;
            session.blob("config", &config.digest, config.size, &reference).await?;
            let mut layers = Vec::with_capacity(contents.layers.len());
            for layer in &contents.layers {
                layers.push(session.blob("layer", &layer.blob.digest, layer.blob.size, &reference).await?);
            }
            let (wanted, reference) = (wanted.clone(), reference.clone());
            let read = tokio::task::spawn_blocking(move || read(&contents, &layers, &wanted, &reference));
            read.await.unwrap_or_else(|_| {
                let registry = repository.registry.clone();
                Err(OciError::Unreachable { registry, why: "was asked in vain: reading what it sent was broken off".to_owned() })
            })
        };
        self.ask(entry, repository, work).await
    }

    /// One of few at once, for a limited time, and not sooner after a failure than it makes sense.
    async fn ask<T>(&self, entry: &str, repository: &Repository, work: impl Future<Output = Result<T, OciError>>) -> Result<T, OciError> {
        if let Some(known) = self.failing().get(entry).filter(|f| f.last.elapsed() < AGAIN) {
            return Err(known.error.clone());
        }
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN, self.turns.acquire()).await else { return Err(OciError::Busy) };
        let outcome = tokio::time::timeout(WHOLE, work).await.unwrap_or_else(|_| {
            let why = format!("did not send the artifact within {} seconds", WHOLE.as_secs());
            Err(OciError::Unreachable { registry: repository.registry.clone(), why })
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

    fn failing(&self) -> std::sync::MutexGuard<'_, HashMap<String, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// From the layers to the objects.
fn read(contents: &Contents, layers: &[Vec<u8>], wanted: &SolutionVersion, reference: &str) -> Result<Written, OciError> {
    let mut files = Files::of(reference);
    let mut spent = Spent::default();
    for (layer, bytes) in contents.layers.iter().zip(layers) {
        match &layer.form {
            Form::Archive => archive::read(bytes, reference, &mut spent, |path, content| files.take(path, &content))?,
            Form::File(title) => {
                let refused = |why| OciError::Unsafe {
                    reference: reference.to_owned(),
                    what: format!("the path {:?} in it {why}", error::shown(title)),
                };
                archive::plain(title).map_err(refused)?;
                spent.file(bytes.len(), reference)?;
                files.take(title, bytes)?;
            }
        }
    }
    files.finish(wanted)
}
