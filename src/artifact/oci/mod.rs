//! OCI registries: artifacts that another system pushed, as the source of a version; and the operator's own store.
//!
//! The client is our own and small. The existing crates add a second HTTP stack, which follows redirects and reads proxies from the
//! environment.

mod archive;
mod challenge;
pub(crate) mod credentials;
mod documents;
mod error;
mod limiter;
pub(crate) mod limits;
mod location;
pub(crate) mod manifest;
#[cfg(test)]
mod scripted;
mod session;
mod strict;
mod upload;

pub(crate) use self::archive::{Spent, read as read_archive};
use self::documents::Files;
pub(crate) use self::documents::Written;
pub(crate) use self::error::OciError;
pub(crate) use self::limiter::Asker;
pub(crate) use self::limiter::Limiter;
use self::manifest::{ACCEPTED, Contents, Form};
pub(crate) use self::session::Session;
pub(crate) use self::session::{Access, Origin};
use crate::api::reference::SolutionVersion;
use crate::api::repository::Repository;
use crate::artifact::bundle::digest;
use crate::artifact::memory;

/// Fetches artifacts from registries.
pub(crate) struct Registries {
    limiter: Limiter,
}

impl Registries {
    /// For an operator with so many concurrent reconciliations.
    pub(crate) fn new(concurrency: u16) -> Self {
        Self { limiter: Limiter::to_any(concurrency) }
    }

    /// The digest that a tag means now.
    ///
    /// # Errors
    /// If it can't be found out, or the artifact contains no manifests.
    pub(crate) async fn resolve(&self, asker: &Asker, repository: &Repository, tag: &str, access: &Access) -> Result<String, OciError> {
        let work = async {
            let mut session = Session::new(repository, access)?;
            let bytes = session.manifest(tag, ACCEPTED).await?;
            manifest::read(&bytes, &format!("{repository}:{tag}"))?;
            Ok(digest(&bytes))
        };
        self.limiter.ask(asker, repository, work).await
    }

    /// The objects of the artifact with that digest.
    ///
    /// # Errors
    /// If it can't be fetched, was altered, or may not be deployed.
    pub(crate) async fn fetch(
        &self,
        asker: &Asker,
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
            let read = memory::apart(move || read(&contents, &layers, &wanted, &reference)).await;
            read.unwrap_or_else(|| {
                let registry = repository.registry.clone();
                Err(OciError::Unwell { registry, why: "was asked in vain: reading what it sent was broken off".to_owned() })
            })
        };
        self.limiter.ask(asker, repository, work).await
    }
}

/// Reads the objects from the layers.
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
