//! The bytes of large artifacts in a registry of the operator's own.

use hyper::body::Bytes;
use jiff::Timestamp;
use kube::ResourceExt;

use super::error::StoreError;
use super::package::{self, Package};
use super::place::Place;
use super::refusals::Refusals;
use crate::api::artifact::Artifact;
use crate::api::names;
use crate::api::reference::SolutionVersion;
use crate::api::repository::{self, Repository};
use crate::artifact::bundle::digest;
use crate::artifact::oci::{Access, Asker, Limiter, OciError, Session, manifest};

/// A place in a registry, and the client for it.
pub(crate) struct RegistryStore {
    place: Place,
    limiter: Limiter,
    refusals: Refusals,
}

impl RegistryStore {
    /// The store at that place, in an operator with so many concurrent reconciliations.
    pub(crate) fn new(place: Place, concurrency: u16) -> Self {
        Self { place, limiter: Limiter::to_own(concurrency), refusals: Refusals::default() }
    }

    /// The compressed size from which an artifact is stored there.
    pub(crate) fn from(&self) -> usize {
        self.place.from()
    }

    /// A package for the repository of a solution of a host.
    pub(crate) fn upload(&self, host: &str, solution: &str, package: Package) -> Upload<'_> {
        Upload { registry_store: self, repository: self.place.repository(host, solution), package }
    }

    /// Why the registry refused a version a while ago. The version is not exported again only to be refused again.
    pub(crate) fn refused(&self, host: &str, what: &SolutionVersion) -> Option<StoreError> {
        let source = self.refusals.known(&key(host, what))?;
        let (artifact, repository) = (names::artifact_name(&what.name, &what.version), self.place.repository(host, &what.name).to_string());
        Some(StoreError::Registry { artifact, namespace: host.to_owned(), repository, source })
    }

    /// The repository of what retention removes from a host.
    pub(super) fn archive(&self, host: &str, folder: &str) -> Repository {
        self.place.archive(host, folder)
    }

    /// How the registry is reached.
    pub(super) fn access(&self) -> Result<Access, OciError> {
        self.place.access()
    }

    pub(super) async fn ask<T>(&self, repository: &Repository, work: impl Future<Output = Result<T, OciError>>) -> Result<T, OciError> {
        // All of it is one registry, reached in one way.
        self.limiter.ask(&Asker::default(), repository, work).await
    }
}

/// A package, and its repository.
pub(crate) struct Upload<'a> {
    registry_store: &'a RegistryStore,
    repository: Repository,
    package: Package,
}

/// The manifest of a package that was exported at some time, and the record's `storedIn`.
pub(crate) struct UploadManifest {
    /// The repository and the digest of the manifest.
    pub(crate) stored_in: String,
    digest: String,
    manifest: Bytes,
}

impl Upload<'_> {
    /// How many bytes its archive has.
    pub(crate) fn size(&self) -> usize {
        self.package.layer_size()
    }

    /// With its manifest, for an artifact that was exported at that time.
    pub(crate) fn sealed(&self, exported_at: Timestamp) -> UploadManifest {
        let manifest = Bytes::from(self.package.manifest(exported_at));
        let digest = digest(&manifest);
        UploadManifest { stored_in: format!("{}@{digest}", self.repository), digest, manifest }
    }

    /// Stores it, except for parts that are there already. It has no tag yet.
    pub(crate) async fn push(&self, artifact: &Artifact, sealed: &UploadManifest) -> Result<(), StoreError> {
        let work = async {
            let access = self.registry_store.place.access()?;
            let mut session = Session::writing(&self.repository, &access)?;
            session.put_blob("layer", &self.package.layer_digest, self.package.layer.clone()).await?;
            session.put_blob("config", &self.package.config_digest, self.package.config.clone()).await?;
            session.put_manifest(&sealed.digest, sealed.manifest.clone()).await
        };
        let done = self.registry_store.ask(&self.repository, work).await;
        self.registry_store.refusals.heard(&key(&artifact.namespace().unwrap_or_default(), &artifact.spec.solution), done.as_ref().err());
        done.map_err(|source| failed(artifact, &self.repository, source))
    }

    /// Sets its tag.
    pub(crate) async fn tag(&self, artifact: &Artifact, sealed: &UploadManifest) -> Result<(), StoreError> {
        let work = async {
            let access = self.registry_store.place.access()?;
            Session::writing(&self.repository, &access)?.put_tag(self.package.tag(), sealed.manifest.clone()).await
        };
        let done = self.registry_store.ask(&self.repository, work).await;
        done.map_err(|source| failed(artifact, &self.repository, source))
    }
}

/// The operator's own registry that a record names, the repository there, and the manifest's digest.
fn place_of<'a>(
    registry_store: Option<&'a RegistryStore>,
    artifact: &Artifact,
    stored_in: &'a str,
) -> Result<(&'a RegistryStore, Repository, &'a str), Box<StoreError>> {
    let namespace = artifact.namespace().unwrap_or_default();
    let Some((repository, digest)) = repository::pinned(stored_in) else {
        return Err(Box::new(unreadable(artifact, "its storedIn is no repository with a digest".to_owned())));
    };
    match registry_store.filter(|w| w.place.repository(&namespace, &artifact.spec.solution.name) == repository) {
        Some(own) => Ok((own, repository, digest)),
        None => Err(Box::new(kept_elsewhere(registry_store, artifact, &repository))),
    }
}

/// Sets the tag of an artifact that has none.
pub(crate) async fn tagged(registry_store: Option<&RegistryStore>, artifact: &Artifact, stored_in: &str) -> Result<(), StoreError> {
    let (registry_store, repository, digest) = place_of(registry_store, artifact, stored_in).map_err(|error| *error)?;
    let tag = &artifact.spec.solution.version;
    let work = async {
        let access = registry_store.place.access()?;
        let mut session = Session::writing(&repository, &access)?;
        if session.has_manifest(tag).await? {
            return Ok(());
        }
        let manifest = session.manifest(digest, manifest::MANIFEST).await?;
        session.put_tag(tag, manifest.into()).await
    };
    registry_store.ask(&repository, work).await.map_err(|source| failed(artifact, &repository, source))
}

/// Checks that a manifest and its archive are there.
pub(crate) async fn is_there(registry_store: Option<&RegistryStore>, artifact: &Artifact, stored_in: &str) -> Result<(), StoreError> {
    let (registry_store, repository, digest) = place_of(registry_store, artifact, stored_in).map_err(|error| *error)?;
    let work = async {
        let access = registry_store.place.access()?;
        let mut session = Session::new(&repository, &access)?;
        let manifest = session.manifest(digest, manifest::MANIFEST).await?;
        match package::layer_of(&manifest) {
            Ok(layer) if session.has_blob(&layer.digest).await? => Ok(Ok(())),
            Ok(_) => Err(OciError::NotFound { reference: stored_in.to_owned() }),
            Err(why) => Ok(Err(why)),
        }
    };
    match registry_store.ask(&repository, work).await {
        Ok(found) => found.map_err(|why| unreadable(artifact, why)),
        Err(source) => Err(failed(artifact, &repository, source)),
    }
}

/// Deletes the manifest of an artifact, and with it its tag. The registry collects the blobs that no manifest names any more.
pub(crate) async fn remove(registry_store: Option<&RegistryStore>, artifact: &Artifact, stored_in: &str) -> Result<(), StoreError> {
    let (registry_store, repository, digest) = place_of(registry_store, artifact, stored_in).map_err(|error| *error)?;
    let work = async {
        let access = registry_store.place.access()?;
        Session::deleting(&repository, &access)?.delete_manifest(digest).await
    };
    registry_store.ask(&repository, work).await.map_err(|source| failed(artifact, &repository, source))
}

/// Fetches the archive that the record names, and reads it. `read` gets its bytes, which match the digest in the manifest.
pub(crate) async fn fetch<T>(
    registry_store: Option<&RegistryStore>,
    artifact: &Artifact,
    stored_in: &str,
    read: impl AsyncFnOnce(Vec<u8>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let (registry_store, repository, digest) = place_of(registry_store, artifact, stored_in).map_err(|error| *error)?;
    let work = async {
        let access = registry_store.place.access()?;
        let mut session = Session::new(&repository, &access)?;
        let manifest = session.manifest(digest, manifest::MANIFEST).await?;
        let size = u64::try_from(artifact.spec.stored_size).unwrap_or_default();
        let layer = package::layer_of(&manifest).and_then(|layer| {
            if layer.size == size { Ok(layer) } else { Err(format!("its archive has {} bytes, not {size}", layer.size)) }
        });
        match layer {
            Ok(layer) => {
                let bytes = session.blob("layer", &layer.digest, size, stored_in).await?;
                Ok(read(bytes).await)
            }
            Err(why) => Ok(Err(unreadable(artifact, why))),
        }
    };
    match registry_store.ask(&repository, work).await {
        Ok(read) => read,
        Err(source) => Err(failed(artifact, &repository, source)),
    }
}

/// A refusal is for one version: a small version of the same solution needs no registry.
fn key(host: &str, what: &SolutionVersion) -> String {
    format!("{host}/{}", names::artifact_name(&what.name, &what.version))
}

fn unreadable(artifact: &Artifact, why: String) -> StoreError {
    StoreError::Unreadable { artifact: artifact.name_any(), namespace: artifact.namespace().unwrap_or_default(), why }
}

fn failed(artifact: &Artifact, repository: &Repository, source: OciError) -> StoreError {
    let (artifact, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
    match source {
        OciError::NotFound { reference } => StoreError::Lost { artifact, namespace, repository: repository.to_string(), reference },
        // An error page, or a login page.
        OciError::TooLarge { reference, what } => StoreError::Altered { artifact, namespace, what: format!("{what}, for {reference}") },
        OciError::DigestMismatch { what, reference, expected, actual } => StoreError::Altered {
            artifact,
            namespace,
            what: format!("the {what} of {reference} should have digest {expected}, and what the registry sent has {actual}"),
        },
        source => StoreError::Registry { artifact, namespace, repository: repository.to_string(), source },
    }
}

fn kept_elsewhere(registry_store: Option<&RegistryStore>, artifact: &Artifact, repository: &Repository) -> StoreError {
    let namespace = artifact.namespace().unwrap_or_default();
    let keeps = match registry_store {
        Some(registry_store) => format!("keeps what is large in {} (--artifact-store)", registry_store.place.prefix()),
        None => "keeps everything in the cluster (it has no --artifact-store)".to_owned(),
    };
    // The value that was configured when the artifact was stored, as far as the repository shows it.
    let url = repository.to_string();
    let wanted = url.strip_suffix(&format!("/{namespace}/{}", artifact.spec.solution.name)).unwrap_or(&url).to_owned();
    StoreError::KeptElsewhere { artifact: artifact.name_any(), namespace, repository: url, keeps, wanted }
}

#[cfg(test)]
mod tests {
    use super::super::place::Wanted;
    use super::*;

    async fn refused(store: Option<&str>, stored_in: &str) -> String {
        let place = Place::of(Wanted { store: store.map(str::to_owned), ..Wanted::default() }).unwrap();
        let registry_store = place.map(|place| RegistryStore::new(place, 16));
        let error = fetch(registry_store.as_ref(), &super::super::tests::artifact(), stored_in, async |_| Ok(())).await.unwrap_err();
        assert_eq!(error.of_place(), Some(crate::api::Reason::ArtifactStoreNotConfigured));
        error.to_string()
    }

    #[tokio::test]
    async fn what_is_kept_elsewhere_is_asked_for_nowhere_and_the_flag_is_named() {
        let hex = "a".repeat(64);
        let mine = format!("oci://r.test/kept/host/orders@sha256:{hex}");
        for (store, keeps) in
            [(None, "keeps everything in the cluster"), (Some("oci://r.test/other"), "keeps what is large in oci://r.test/other")]
        {
            let said = refused(store, &mine).await;
            assert!(
                said.contains("artifact orders-1.4.0 in host host is kept in oci://r.test/kept/host/orders") && said.contains(keeps),
                "{said}"
            );
            assert!(said.contains("--artifact-store oci://r.test/kept again"), "{said}");
        }
        // The repository of another host or solution is not its own, even below the same path.
        for others in ["oci://r.test/kept/other/orders", "oci://r.test/kept/host/web", "oci://r.test/kept/host/orders/more"] {
            let said = refused(Some("oci://r.test/kept"), &format!("{others}@sha256:{hex}")).await;
            assert!(said.contains(&format!("is kept in {others}, and this operator keeps")), "{said}");
        }
    }
}
