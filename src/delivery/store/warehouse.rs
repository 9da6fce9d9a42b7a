//! The bytes of large artifacts in a registry of the operator's own.

use hyper::body::Bytes;
use kube::ResourceExt;

use super::error::StoreError;
use super::package::{self, Package};
use super::place::Place;
use super::refusals::Refusals;
use crate::api::artifact::Artifact;
use crate::api::names;
use crate::api::reference::SolutionVersion;
use crate::api::repository::{self, Repository};
use crate::delivery::bundle::digest;
use crate::delivery::oci::{Asker, Gate, OciError, Session, manifest};

/// A place in a registry, and what is asked of it.
pub struct Warehouse {
    place: Place,
    gate: Gate,
    refusals: Refusals,
}

impl Warehouse {
    /// The one at that place, in an operator that makes so many passes at once.
    pub fn new(place: Place, concurrency: u16) -> Self {
        Self { place, gate: Gate::to_own(concurrency), refusals: Refusals::default() }
    }

    /// The compressed size from which an artifact goes there.
    pub fn from(&self) -> usize {
        self.place.from()
    }

    /// The repository of a solution of a host.
    pub fn repository(&self, host: &str, solution: &str) -> Repository {
        self.place.repository(host, solution)
    }

    /// Stores what the record names, as far as it is not there yet.
    pub async fn push(&self, artifact: &Artifact, package: &Package) -> Result<(), StoreError> {
        let repository = self.repository(&artifact.namespace().unwrap_or_default(), &artifact.spec.solution.name);
        let work = async {
            let access = self.place.access()?;
            let mut session = Session::writing(&repository, &access)?;
            session.put_blob("layer", &package.layer_digest, package.layer.clone()).await?;
            session.put_blob("config", &package.config_digest, package.config.clone()).await?;
            let manifest = package.manifest(artifact.spec.exported_at);
            session.put_manifest(package.tag(), &digest(&manifest), Bytes::from(manifest)).await
        };
        let done = self.ask(&repository, work).await;
        self.refusals.heard(&key(&artifact.namespace().unwrap_or_default(), &artifact.spec.solution), done.as_ref().err());
        done.map_err(|source| failed(artifact, &repository, source))
    }

    /// What the registry said a while ago when it should have taken a version: that is not exported again to hear the same.
    pub fn refused(&self, host: &str, what: &SolutionVersion) -> Option<StoreError> {
        let source = self.refusals.known(&key(host, what))?;
        let (artifact, repository) = (names::artifact_name(&what.name, &what.version), self.repository(host, &what.name).to_string());
        Some(StoreError::Registry { artifact, namespace: host.to_owned(), repository, source })
    }

    async fn ask<T>(&self, repository: &Repository, work: impl Future<Output = Result<T, OciError>>) -> Result<T, OciError> {
        // All of it is one registry, reached in one way.
        self.gate.ask(&Asker::default(), repository, work).await
    }
}

/// Fetches the archive that the record names, and reads it: `read` is given its digest and its bytes, which are what the digest says.
pub async fn fetch<T>(
    warehouse: Option<&Warehouse>,
    artifact: &Artifact,
    stored_in: &str,
    read: impl AsyncFnOnce(String, Vec<u8>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
    let unreadable = |why: String| StoreError::Unreadable { artifact: name.clone(), namespace: namespace.clone(), why };
    let Some((repository, digest)) = repository::pinned(stored_in) else {
        return Err(unreadable("its storedIn is no repository with a digest".to_owned()));
    };
    let own = warehouse.filter(|w| w.repository(&namespace, &artifact.spec.solution.name) == repository);
    let Some(warehouse) = own else { return Err(kept_elsewhere(warehouse, artifact, &repository)) };
    let work = async {
        let access = warehouse.place.access()?;
        let mut session = Session::new(&repository, &access)?;
        let manifest = session.manifest(digest, manifest::MANIFEST).await?;
        let size = u64::try_from(artifact.spec.stored_size).unwrap_or_default();
        let layer = package::layer_of(&manifest).and_then(|layer| {
            if layer.size == size { Ok(layer) } else { Err(format!("its archive has {} bytes, not {size}", layer.size)) }
        });
        match layer {
            Ok(layer) => {
                let bytes = session.blob("layer", &layer.digest, size, stored_in).await?;
                Ok(read(layer.digest, bytes).await)
            }
            Err(why) => Ok(Err(unreadable(why))),
        }
    };
    match warehouse.ask(&repository, work).await {
        Ok(read) => read,
        Err(source) => Err(failed(artifact, &repository, source)),
    }
}

/// A refusal is of one version: a small one of the same solution needs no registry.
fn key(host: &str, what: &SolutionVersion) -> String {
    format!("{host}/{}", names::artifact_name(&what.name, &what.version))
}

fn failed(artifact: &Artifact, repository: &Repository, source: OciError) -> StoreError {
    let (artifact, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
    match source {
        OciError::NotFound { reference } => {
            StoreError::Incomplete { artifact, namespace, missing: format!("the registry does not have all of {reference}") }
        }
        OciError::DigestMismatch { what, reference, expected, actual } => StoreError::Altered {
            artifact,
            namespace,
            what: format!("the {what} of {reference} should have digest {expected}, and what the registry sent has {actual}"),
        },
        source => StoreError::Registry { artifact, namespace, repository: repository.to_string(), source },
    }
}

fn kept_elsewhere(warehouse: Option<&Warehouse>, artifact: &Artifact, repository: &Repository) -> StoreError {
    let namespace = artifact.namespace().unwrap_or_default();
    let keeps = match warehouse {
        Some(warehouse) => format!("keeps what is large in {} (--artifact-store)", warehouse.place.prefix()),
        None => "keeps everything in the cluster (it has no --artifact-store)".to_owned(),
    };
    // What was configured once, as far as the repository still tells.
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
        let warehouse = place.map(|place| Warehouse::new(place, 16));
        let error = fetch(warehouse.as_ref(), &super::super::tests::artifact(), stored_in, async |_, _| Ok(())).await.unwrap_err();
        assert_eq!(error.of_registry(), Some("ArtifactStoreNotConfigured"));
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
        // The repository of another host or solution is none of its own, be it below the same path.
        for others in ["oci://r.test/kept/other/orders", "oci://r.test/kept/host/web", "oci://r.test/kept/host/orders/more"] {
            let said = refused(Some("oci://r.test/kept"), &format!("{others}@sha256:{hex}")).await;
            assert!(said.contains(&format!("is kept in {others}, and this operator keeps")), "{said}");
        }
    }
}
