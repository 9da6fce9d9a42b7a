//! Artifacts in their host: the record, and its bytes in immutable `ConfigMaps` beside it or in a registry.
//!
//! The record is created first, so that its name decides who is the one. Chunks carry its uid in their names and are collected with
//! it; in a registry the record names its bytes by the digest of their manifest. An artifact is complete when all of it can be read
//! and has the record's digests, which is looked at whenever it is read.

mod chunks;
mod error;
mod package;
mod place;
mod refusals;
mod remembered;
mod warehouse;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

pub use self::chunks::{CHUNK_BYTES, PAYLOAD_KEY};
pub use self::error::StoreError;
use self::package::Package;
pub use self::place::{Place, Wanted};
use self::remembered::Remembered;
use self::warehouse::Warehouse;
use super::bundle::{Bundle, digest};
use super::{memory, object};
use crate::api::artifact::{Artifact, ArtifactObject, ArtifactOrigin, ArtifactSpec};
use crate::api::names;
use crate::api::reference::{GroupKind, Identity, SolutionVersion};
use crate::api::settings::{ConnectionDefinition, Dependency, VariableDefinition};

/// The most canonical bytes of an artifact that are ever decompressed.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most objects that the record lists.
const LISTED_OBJECTS: usize = 1000;
/// The most kinds without a look that the record lists (its schema says so): a cluster may have hundreds.
const LISTED_KINDS: usize = 20;
/// Speed against size; 3 is zstd's own default.
const COMPRESSION_LEVEL: i32 = 3;
/// An incomplete artifact younger than this may still be in the making: a call takes at most 30 s.
const IN_THE_MAKING_SECONDS: i64 = 35;
/// The same where its bytes go to a registry: that takes at most a minute.
const ON_THE_WAY_SECONDS: i64 = 65;
/// How often `save` starts over when others create and delete under its hands.
const ATTEMPTS: usize = 4;

/// What is stored.
pub struct NewArtifact {
    /// The solution and its version.
    pub solution: SolutionVersion,
    /// Where it came from.
    pub source: ArtifactOrigin,
    /// The requester whose request exports it.
    pub exported_by: Identity,
    /// The objects.
    pub bundle: Arc<Bundle>,
    /// The kinds among them that belonged to the whole cluster where they were exported from.
    pub cluster_scoped: Vec<GroupKind>,
    /// The kinds that nobody looked for objects of.
    pub not_listed: BTreeSet<GroupKind>,
    /// The solution's environment variables.
    pub environment_variables: Vec<VariableDefinition>,
    /// The solution's connection references.
    pub connection_references: Vec<ConnectionDefinition>,
    /// The solution's dependencies.
    pub dependencies: Vec<Dependency>,
}

/// Its bytes as they are stored, and what the record says of them.
struct Packed {
    digest: String,
    size: usize,
    payload: Payload,
}

enum Payload {
    /// In chunks: compressed.
    Chunks(Vec<u8>),
    /// In a registry.
    Package(Package),
}

impl Packed {
    fn stored_size(&self) -> usize {
        match &self.payload {
            Payload::Chunks(bytes) => bytes.len(),
            Payload::Package(package) => package.layer_size(),
        }
    }
}

/// Stores artifacts, and reads them back.
pub struct ArtifactStore {
    client: Client,
    warehouse: Option<Warehouse>,
    remembered: Mutex<Remembered>,
}

impl ArtifactStore {
    /// A store that works with this client, the operator's own, and keeps everything in chunks.
    pub fn new(client: Client) -> Self {
        Self { client, warehouse: None, remembered: Mutex::new(Remembered::default()) }
    }

    /// The same, with a place for what is large, if one is named, in an operator that makes so many passes at once.
    #[must_use]
    pub fn with(mut self, place: Option<Place>, concurrency: u16) -> Self {
        self.warehouse = place.map(|place| Warehouse::new(place, concurrency));
        self
    }

    /// Stores a version of a solution in `host`, and returns its record. One version has one digest for ever: where a complete
    /// artifact of that version exists, it is returned and `new` is not stored. What a crash left incomplete is completed where
    /// its digest is that of `new`, and made anew otherwise.
    pub async fn save(&self, host: &str, new: NewArtifact, now: Timestamp) -> Result<Artifact, StoreError> {
        let packed = self.pack(&new).await?;
        let draft = draft(self.warehouse.as_ref(), host, new, &packed, now);
        let name = draft.name_any();
        let artifacts: Api<Artifact> = Api::namespaced(self.client.clone(), host);
        let failed = |action: &str| api_error(format!("{action} artifact {name}"), host);

        for _ in 0..ATTEMPTS {
            let (artifact, mine) = match artifacts.create(&written(), &draft).await {
                Ok(created) => (created, true),
                Err(error) if has_code(&error, 409) => match artifacts.get_opt(&name).await.map_err(failed("reading"))? {
                    Some(existing) => (existing, false),
                    None => continue,
                },
                Err(error) => return Err(failed("creating")(error)),
            };
            if artifact.metadata.deletion_timestamp.is_some() {
                return Err(StoreError::Busy { artifact: name, namespace: host.to_owned() });
            }
            if mine {
                self.write(&artifact, &packed).await?;
            } else {
                let missing = match self.load(&artifact).await {
                    Ok(_) => return Ok(artifact),
                    Err(missing @ StoreError::Incomplete { .. }) => missing,
                    Err(other) => return Err(other),
                };
                if !fits(self.warehouse.as_ref(), &artifact, &packed) || artifact.spec.cluster_scoped != draft.spec.cluster_scoped {
                    // What was deployed has been whole, and is the proof of it: its bytes were lost since.
                    if artifact.status.as_ref().is_some_and(|s| !s.deployments.is_empty()) {
                        return Err(missing);
                    }
                    self.remove_incomplete(&artifacts, &artifact, now).await?;
                    continue;
                }
                self.write(&artifact, &packed).await?;
                self.load(&artifact).await?;
            }
            // Whoever was away for long between two writes may have lost the record to somebody who found it incomplete.
            let still = artifacts.get_metadata_opt(&name).await.map_err(failed("reading"))?;
            if still.is_some_and(|m| m.metadata.uid == artifact.metadata.uid && m.metadata.deletion_timestamp.is_none()) {
                return Ok(artifact);
            }
        }
        Err(StoreError::Busy { artifact: name, namespace: host.to_owned() })
    }

    /// Reads an artifact's bytes, checks them against the record's digests, and returns the objects.
    pub async fn load(&self, artifact: &Artifact) -> Result<Arc<Bundle>, StoreError> {
        let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
        let unreadable = |why: String| StoreError::Unreadable { artifact: name.clone(), namespace: namespace.clone(), why };
        let size = usize::try_from(artifact.spec.size).ok().filter(|size| *size <= MAX_BYTES);
        let size = size.ok_or_else(|| unreadable(format!("its size {} is not between 0 and {MAX_BYTES} bytes", artifact.spec.size)))?;
        let altered = |what: String| StoreError::Altered { artifact: name.clone(), namespace: namespace.clone(), what };
        let expected = artifact.spec.digest.clone();
        let mismatch = |place: &str, actual: &str| altered(format!("its record has digest {expected}, its bytes in {place} have {actual}"));

        let Some(stored_in) = &artifact.spec.stored_in else {
            let payload = chunks::read(&self.client, artifact).await?;
            let place = format!("ConfigMaps {}", chunks::named(artifact));
            // What was read just now decides; only the decoding of these very bytes is remembered.
            let payload_digest = digest(&payload);
            if let Some(bundle) = self.remembered().find(&payload_digest, &expected) {
                return Ok(bundle);
            }
            let bytes = zstd::bulk::decompress(&payload, size)
                .map_err(|_| mismatch(&place, &format!("none: they don't decompress to {size} bytes")))?;
            drop(payload);
            let actual = digest(&bytes);
            if actual != expected {
                return Err(mismatch(&place, &actual));
            }
            let bundle = Arc::new(Bundle::from_bytes(&bytes).map_err(|error| unreadable(error.to_string()))?);
            self.remembered().keep(payload_digest, expected, bundle.clone(), size);
            return Ok(bundle);
        };
        // Unpacked before the next is fetched.
        let read = async |layer_digest: String, layer: Vec<u8>| {
            if let Some(bundle) = self.remembered().find(&layer_digest, &expected) {
                return Ok(bundle);
            }
            let unpacked = memory::apart(move || package::unpack(&layer).map(|bundle| (bundle.digest(), bundle))).await;
            let unpacked = unpacked.ok_or_else(|| unreadable("reading its layer was broken off".to_owned()))?;
            let (unpacked, bundle) = unpacked.map_err(unreadable)?;
            if unpacked != expected {
                return Err(mismatch(stored_in, &unpacked));
            }
            let bundle = Arc::new(bundle);
            self.remembered().keep(layer_digest, expected.clone(), bundle.clone(), size);
            Ok(bundle)
        };
        warehouse::fetch(self.warehouse.as_ref(), artifact, stored_in, read).await
    }

    /// Why the registry did not take a version a while ago, where it is too soon to export it again.
    pub fn refused(&self, host: &str, what: &SolutionVersion) -> Option<StoreError> {
        self.warehouse.as_ref().and_then(|warehouse| warehouse.refused(host, what))
    }

    /// Compresses what is stored, for where its size says that it goes.
    async fn pack(&self, new: &NewArtifact) -> Result<Packed, StoreError> {
        let from = self.warehouse.as_ref().map_or(usize::MAX, Warehouse::from);
        let (bundle, what) = (new.bundle.clone(), new.solution.clone());
        let packed = memory::apart(move || {
            let bytes = bundle.to_bytes();
            let (digest, size) = (digest(&bytes), bytes.len());
            if size > MAX_BYTES {
                return Ok((digest, size, None));
            }
            let compressed = zstd::bulk::compress(&bytes, COMPRESSION_LEVEL)?;
            drop(bytes);
            let package = if compressed.len() < from { None } else { Some(Package::of(&bundle, &what, &digest)?) };
            let payload = match package.filter(Package::is_readable) {
                Some(package) => Payload::Package(package),
                None => Payload::Chunks(compressed),
            };
            Ok((digest, size, Some(payload)))
        });
        let SolutionVersion { name: solution, version } = new.solution.clone();
        match packed.await.unwrap_or_else(|| Err(std::io::Error::other("it was broken off"))) {
            Ok((digest, size, Some(payload))) => Ok(Packed { digest, size, payload }),
            Ok((_, size, None)) => Err(StoreError::TooLarge { solution, version, size }),
            Err(source) => Err(StoreError::Compression { solution, version, source }),
        }
    }

    /// Writes the bytes that are not there yet.
    async fn write(&self, artifact: &Artifact, packed: &Packed) -> Result<(), StoreError> {
        match (&packed.payload, &self.warehouse) {
            (Payload::Chunks(bytes), _) => chunks::write(&self.client, artifact, bytes).await,
            (Payload::Package(package), Some(warehouse)) => warehouse.push(artifact, package).await,
            (Payload::Package(_), None) => Ok(()),
        }
    }

    /// Deletes exactly the record that was seen, once nobody can be at work on it any more.
    async fn remove_incomplete(&self, artifacts: &Api<Artifact>, artifact: &Artifact, now: Timestamp) -> Result<(), StoreError> {
        let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
        let age = artifact.metadata.creation_timestamp.as_ref().map_or(0, |created| now.as_second() - created.0.as_second());
        let young = if artifact.spec.stored_in.is_some() { ON_THE_WAY_SECONDS } else { IN_THE_MAKING_SECONDS };
        if age < young {
            return Err(StoreError::Busy { artifact: name, namespace });
        }
        let preconditions = Preconditions { uid: artifact.uid(), resource_version: artifact.resource_version() };
        match artifacts.delete(&name, &DeleteParams::background().preconditions(preconditions)).await {
            Ok(_) => Ok(()),
            Err(error) if has_code(&error, 404) => Ok(()),
            Err(error) if has_code(&error, 409) => Err(StoreError::Busy { artifact: name, namespace }),
            Err(error) => Err(api_error(format!("deleting the incomplete artifact {name}"), &namespace)(error)),
        }
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn written() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(names::FIELD_MANAGER.to_owned()) }
}

fn has_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn api_error(action: String, namespace: &str) -> impl FnOnce(kube::Error) -> StoreError + use<> {
    let namespace = namespace.to_owned();
    move |source| StoreError::Api { action, namespace, source: Box::new(source) }
}

/// Whether the bytes are those that the record names. Another version of a compressor may make others of the same objects.
fn fits(warehouse: Option<&Warehouse>, artifact: &Artifact, packed: &Packed) -> bool {
    let spec = &artifact.spec;
    let stored_in = stored_in(warehouse, &artifact.namespace().unwrap_or_default(), &spec.solution, packed, spec.exported_at);
    spec.digest == packed.digest && spec.stored_size == whole(packed.stored_size()) && spec.stored_in == stored_in
}

/// What the record says of where the bytes are, where that is a registry.
fn stored_in(warehouse: Option<&Warehouse>, host: &str, solution: &SolutionVersion, packed: &Packed, at: Timestamp) -> Option<String> {
    match (&packed.payload, warehouse) {
        (Payload::Package(package), Some(warehouse)) => {
            Some(format!("{}@{}", warehouse.repository(host, &solution.name), digest(&package.manifest(at))))
        }
        _ => None,
    }
}

fn draft(warehouse: Option<&Warehouse>, host: &str, new: NewArtifact, packed: &Packed, now: Timestamp) -> Artifact {
    let objects = new.bundle.objects();
    let exported_at = crate::api::condition::whole_seconds(now);
    let chunks = match &packed.payload {
        Payload::Chunks(bytes) => bytes.len().div_ceil(CHUNK_BYTES),
        Payload::Package(_) => 0,
    };
    let mut artifact = Artifact::new(
        &names::artifact_name(&new.solution.name, &new.solution.version),
        ArtifactSpec {
            digest: packed.digest.clone(),
            source: new.source,
            exported_by: new.exported_by,
            exported_at,
            object_count: saturated(objects.len()),
            objects: objects
                .iter()
                .take(LISTED_OBJECTS)
                .map(|o| ArtifactObject {
                    api_version: object::api_version(o).into(),
                    kind: object::kind(o).into(),
                    name: object::name(o).into(),
                })
                .collect(),
            cluster_scoped: new.cluster_scoped,
            size: whole(packed.size),
            stored_size: whole(packed.stored_size()),
            chunks: saturated(chunks),
            stored_in: stored_in(warehouse, host, &new.solution, packed, exported_at),
            kinds_not_listed: new.not_listed.iter().take(LISTED_KINDS).cloned().collect(),
            kinds_not_listed_omitted: saturated(new.not_listed.len().saturating_sub(LISTED_KINDS)),
            environment_variables: new.environment_variables,
            connection_references: new.connection_references,
            dependencies: new.dependencies,
            solution: new.solution,
        },
    );
    artifact.metadata.namespace = Some(host.to_owned());
    artifact.metadata.labels = Some(BTreeMap::from([
        (names::SOLUTION_LABEL.to_owned(), artifact.spec.solution.name.clone()),
        (names::MANAGED_BY.to_owned(), names::FIELD_MANAGER.to_owned()),
    ]));
    artifact
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn saturated(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
