//! Artifacts in their host: the record, and its bytes in immutable `ConfigMaps` beside it or in a registry.
//!
//! The record's name decides which artifact counts. Chunks carry the record's uid in their names, are written after it, and are
//! garbage-collected with it. Bytes for a registry are sent before the record is written. The record names them by the digest of their
//! manifest. So if the registry doesn't have them, it has lost them; the record was shown to people and is not replaced. An artifact is
//! complete when all of it can be read and matches the record's digests. This is checked at every read.

mod archive;
mod chunks;
mod error;
mod just_read;
mod package;
mod place;
mod refusals;
mod registry_store;
mod removal;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt};

pub(crate) use self::chunks::CHUNK_BYTES;
pub(crate) use self::error::StoreError;
use self::just_read::JustRead;
use self::package::Package;
pub(crate) use self::place::{Place, Wanted};
use self::registry_store::{RegistryStore, Upload, UploadManifest};
use super::memory;
use crate::api::artifact::{
    Artifact, ArtifactObject, ArtifactOrigin, ArtifactSpec, MAX_KINDS_NOT_LISTED, MAX_KINDS_REPORTED_ON, MAX_OBJECTS,
};
use crate::api::bounds;
use crate::api::names;
use crate::api::reference::{GroupKind, Identity, SolutionVersion};
use crate::api::settings::{ConnectionDefinition, Dependency, VariableDefinition};
use crate::artifact::bundle::{Bundle, digest};
use crate::cluster::object;

/// The most canonical bytes of an artifact that are ever decompressed.
pub(crate) const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most bytes of the record when it is created. The rest of an object's size is for its status.
pub(crate) const MAX_RECORD: usize = bounds::MOST_WRITTEN / 2;
/// Speed against size; 3 is zstd's own default.
const COMPRESSION_LEVEL: i32 = 3;
/// An incomplete artifact younger than this may still be written: a call takes at most 30 s.
const IN_THE_MAKING_SECONDS: i64 = 35;
/// How often `save` starts again if others create and delete meanwhile.
const ATTEMPTS: usize = 4;

/// What to store.
pub struct NewArtifact {
    /// The solution and its version.
    pub solution: SolutionVersion,
    /// Where it came from.
    pub source: ArtifactOrigin,
    /// The requester whose request exports it.
    pub exported_by: Identity,
    /// When the version first appeared in development.
    pub developed_at: Option<Timestamp>,
    /// The objects.
    pub bundle: Arc<Bundle>,
    /// The kinds among them that were cluster-scoped where they were exported from.
    pub cluster_scoped: Vec<GroupKind>,
    /// The kinds that the export did not look for.
    pub not_listed: BTreeSet<GroupKind>,
    /// The custom kinds that a controller reported on where they were exported from.
    pub reported_on: BTreeSet<GroupKind>,
    /// The solution's environment variables.
    pub environment_variables: Vec<VariableDefinition>,
    /// The solution's connection references.
    pub connection_references: Vec<ConnectionDefinition>,
    /// The solution's dependencies.
    pub dependencies: Vec<Dependency>,
}

/// The result of `save`.
pub struct Stored {
    /// The record.
    pub artifact: Artifact,
    /// Whether it holds the objects that were to be stored. Somebody else may have stored that version first.
    pub(crate) is_same: bool,
}

/// The bytes as they are stored, and what the record says about them.
struct Packed<'a> {
    digest: String,
    size: usize,
    payload: Payload<'a>,
}

enum Payload<'a> {
    /// For chunks: compressed.
    Chunks(Vec<u8>),
    /// For a registry.
    Upload(Box<Upload<'a>>),
}

impl Packed<'_> {
    fn stored_size(&self) -> usize {
        match &self.payload {
            Payload::Chunks(bytes) => bytes.len(),
            Payload::Upload(upload) => upload.size(),
        }
    }

    fn sealed(&self, exported_at: Timestamp) -> Option<UploadManifest> {
        match &self.payload {
            Payload::Chunks(_) => None,
            Payload::Upload(upload) => Some(upload.sealed(exported_at)),
        }
    }

    /// Whether the bytes are those that the record names. Another version of a compressor may produce other bytes from the same objects.
    fn fits(&self, artifact: &Artifact, sealed: Option<&UploadManifest>) -> bool {
        let spec = &artifact.spec;
        spec.digest == self.digest
            && spec.stored_size == whole(self.stored_size())
            && spec.stored_in.as_deref() == sealed.map(|sealed| sealed.stored_in.as_str())
    }

    /// Whether a record without chunks was made for these chunks; `draft` is what the record would be now. The bytes don't say which kinds
    /// are cluster-scoped.
    fn completes(&self, left: &Artifact, draft: &Artifact) -> bool {
        self.fits(left, None) && left.spec.cluster_scoped == draft.spec.cluster_scoped
    }
}

/// Stores artifacts, and reads them back.
pub struct ArtifactStore {
    client: Client,
    registry_store: Option<RegistryStore>,
    just_read: Mutex<JustRead>,
}

impl ArtifactStore {
    /// A store that uses this client, the operator's own, and keeps everything in chunks.
    pub fn new(client: Client) -> Self {
        Self { client, registry_store: None, just_read: Mutex::default() }
    }

    /// The same, with a place for large artifacts if one is configured. `concurrency` is how many reconciliations run at once.
    #[must_use]
    pub(crate) fn with(mut self, place: Option<Place>, concurrency: u16) -> Self {
        self.registry_store = place.map(|place| RegistryStore::new(place, concurrency));
        self
    }

    /// Stores a version of a solution in `host`. One version has one digest for ever: if a complete artifact of that version exists, it is
    /// returned and `new` is not stored. If a crash left a record without its chunks, it is completed if its digest is that of `new`, and
    /// replaced otherwise. If a registry lost the bytes, the same bytes are sent again, and never replaced by others.
    pub async fn save(&self, host: &str, new: NewArtifact, now: Timestamp) -> Result<Stored, StoreError> {
        self.save_within(&|_| None, host, new, now).await
    }

    /// The same, within the quotas: `full` says why there is no room for so many bytes, and reserves it if there is.
    pub(crate) async fn save_within(
        &self,
        full: &(dyn Fn(u64) -> Option<String> + Send + Sync),
        host: &str,
        new: NewArtifact,
        now: Timestamp,
    ) -> Result<Stored, StoreError> {
        let packed = self.pack(host, &new).await?;
        let exported_at = crate::api::condition::whole_seconds(now);
        let sealed = packed.sealed(exported_at);
        let draft = fitting(draft(host, new, &packed, sealed.as_ref(), exported_at)).map_err(|error| *error)?;
        let name = draft.name_any();
        let artifacts: Api<Artifact> = Api::namespaced(self.client.clone(), host);
        let failed = |action: &str| api_error(format!("{action} artifact {name}"), host);

        for _ in 0..ATTEMPTS {
            let artifact = if let Some(created) = self.create(full, &artifacts, &draft, &packed, sealed.as_ref()).await? {
                created
            } else {
                let Some(existing) = artifacts.get_opt(&name).await.map_err(failed("reading"))? else { continue };
                if existing.metadata.deletion_timestamp.is_some() {
                    return Err(StoreError::Busy { artifact: name, namespace: host.to_owned() });
                }
                match self.load(&existing).await {
                    Ok(_) => return Ok(Stored { is_same: existing.spec.digest == packed.digest, artifact: existing }),
                    Err(lost @ StoreError::Lost { .. }) => {
                        self.send_again(&existing, &packed, lost).await?;
                        return Ok(Stored { artifact: existing, is_same: true });
                    }
                    Err(missing @ StoreError::Incomplete { .. }) => {
                        let Payload::Chunks(bytes) = &packed.payload else { return Err(missing) };
                        if !packed.completes(&existing, &draft) {
                            // A deployed artifact was complete, and is the proof of the deployment. Its bytes were lost later.
                            if existing.status.as_ref().is_some_and(|s| !s.deployments.is_empty()) {
                                return Err(missing);
                            }
                            self.remove_incomplete(&artifacts, &existing, now).await?;
                            continue;
                        }
                        chunks::write(&self.client, &existing, bytes).await?;
                        self.load(&existing).await?;
                        existing
                    }
                    Err(other) => return Err(other),
                }
            };
            // Another process may have found the record incomplete and deleted it, if this process paused between the two writes.
            let still = artifacts.get_metadata_opt(&name).await.map_err(failed("reading"))?;
            if still.is_some_and(|m| m.metadata.uid == artifact.metadata.uid && m.metadata.deletion_timestamp.is_none()) {
                return Ok(Stored { artifact, is_same: true });
            }
        }
        Err(StoreError::Busy { artifact: name, namespace: host.to_owned() })
    }

    /// The record of a version as it would be stored. Nothing is written.
    pub(crate) async fn unsaved(&self, host: &str, new: NewArtifact, now: Timestamp) -> Result<Artifact, StoreError> {
        let packed = self.pack(host, &new).await?;
        let exported_at = crate::api::condition::whole_seconds(now);
        let sealed = packed.sealed(exported_at);
        fitting(draft(host, new, &packed, sealed.as_ref(), exported_at)).map_err(|error| *error)
    }

    /// Creates the record and its bytes. Bytes for a registry come before it, chunks after it. `None` if it exists.
    async fn create(
        &self,
        full: &(dyn Fn(u64) -> Option<String> + Send + Sync),
        artifacts: &Api<Artifact>,
        draft: &Artifact,
        packed: &Packed<'_>,
        sealed: Option<&UploadManifest>,
    ) -> Result<Option<Artifact>, StoreError> {
        let (name, host) = (draft.name_any(), draft.namespace().unwrap_or_default());
        if let (Payload::Upload(upload), Some(sealed)) = (&packed.payload, sealed) {
            // Nothing is sent if somebody else stored the version meanwhile.
            let found = artifacts.get_metadata_opt(&name).await.map_err(api_error(format!("reading artifact {name}"), &host))?;
            if found.is_some() {
                return Ok(None);
            }
            upload.push(draft, sealed).await?;
        }
        if let Payload::Chunks(bytes) = &packed.payload
            && let Some(why) = full(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
        {
            // A stored version needs no additional room.
            let found = artifacts.get_metadata_opt(&name).await.map_err(api_error(format!("reading artifact {name}"), &host))?;
            return if found.is_some() { Ok(None) } else { Err(StoreError::Full(why)) };
        }
        let created = match artifacts.create(&written(), draft).await {
            Ok(created) => created,
            Err(error) if has_code(&error, 409) => return Ok(None),
            Err(error) => return Err(api_error(format!("creating artifact {name}"), &host)(error)),
        };
        match (&packed.payload, sealed) {
            (Payload::Chunks(bytes), _) => chunks::write(&self.client, &created, bytes).await?,
            // The tag is set only on a manifest that has a record. If two were sent, one stays untagged.
            (Payload::Upload(upload), Some(sealed)) => upload.tag(&created, sealed).await?,
            (Payload::Upload(_), None) => {}
        }
        Ok(Some(created))
    }

    /// Sends bytes that a registry lost, if they are the very same. People may have approved the version, and it may be deploying.
    async fn send_again(&self, artifact: &Artifact, packed: &Packed<'_>, lost: StoreError) -> Result<(), StoreError> {
        let sealed = packed.sealed(artifact.spec.exported_at);
        match (&packed.payload, sealed) {
            (Payload::Upload(upload), Some(sealed)) if packed.fits(artifact, Some(&sealed)) => {
                upload.push(artifact, &sealed).await?;
                upload.tag(artifact, &sealed).await
            }
            _ => Err(lost),
        }
    }

    /// Sets the tag of an artifact in a registry, if it has none: the process that stored it may have been interrupted.
    pub(crate) async fn tagged(&self, artifact: &Artifact) -> Result<(), StoreError> {
        if let Some(removed) = removal::removed(artifact) {
            return Err(removed);
        }
        match &artifact.spec.stored_in {
            Some(stored_in) => registry_store::tagged(self.registry_store.as_ref(), artifact, stored_in).await,
            None => Ok(()),
        }
    }

    /// Checks that the bytes are there, without reading them. What they are is checked when they are read.
    pub(crate) async fn is_there(&self, artifact: &Artifact) -> Result<(), StoreError> {
        if let Some(removed) = removal::removed(artifact) {
            return Err(removed);
        }
        match &artifact.spec.stored_in {
            Some(stored_in) => registry_store::is_there(self.registry_store.as_ref(), artifact, stored_in).await,
            None => chunks::are_there(&self.client, artifact).await,
        }
    }

    /// Reads an artifact's bytes, checks them against the record's digests, and returns the objects.
    pub async fn load(&self, artifact: &Artifact) -> Result<Arc<Bundle>, StoreError> {
        if let Some(removed) = removal::removed(artifact) {
            return Err(removed);
        }
        let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
        let unreadable = |why: String| StoreError::Unreadable { artifact: name.clone(), namespace: namespace.clone(), why };
        let size = usize::try_from(artifact.spec.size).ok().filter(|size| *size <= MAX_BYTES);
        let size = size.ok_or_else(|| unreadable(format!("its size {} is not between 0 and {MAX_BYTES} bytes", artifact.spec.size)))?;
        let altered = |what: String| StoreError::Altered { artifact: name.clone(), namespace: namespace.clone(), what };
        let expected = artifact.spec.digest.clone();
        let mismatch = |place: &str, actual: &str| altered(format!("its record has digest {expected}, its bytes in {place} have {actual}"));

        let Some(stored_in) = &artifact.spec.stored_in else {
            let uid = artifact.uid().unwrap_or_default();
            if let Some(bundle) = self.just_read().find(&uid, &expected) {
                return Ok(bundle);
            }
            let payload = chunks::read(&self.client, artifact).await?;
            let place = format!("ConfigMaps {}", chunks::named(artifact));
            let bytes = zstd::bulk::decompress(&payload, size)
                .map_err(|_| mismatch(&place, &format!("none: they don't decompress to {size} bytes")))?;
            drop(payload);
            let actual = digest(&bytes);
            if actual != expected {
                return Err(mismatch(&place, &actual));
            }
            let bundle = Arc::new(Bundle::from_bytes(&bytes).map_err(|error| unreadable(error.to_string()))?);
            self.just_read().note(&uid, &expected, &bundle, bytes.len());
            return Ok(bundle);
        };
        // Each layer is unpacked before the next one is fetched.
        let read = async |layer: Vec<u8>| {
            let unpacked = memory::apart(move || package::unpack(&layer).map(|bundle| (bundle.digest(), bundle))).await;
            let unpacked = unpacked.ok_or_else(|| unreadable("reading its layer was broken off".to_owned()))?;
            let (unpacked, bundle) = unpacked.map_err(unreadable)?;
            if unpacked != expected {
                return Err(mismatch(stored_in, &unpacked));
            }
            Ok(Arc::new(bundle))
        };
        registry_store::fetch(self.registry_store.as_ref(), artifact, stored_in, read).await
    }

    /// Why the registry refused the version a while ago, if it is too soon to export it again.
    pub(crate) fn refused(&self, host: &str, what: &SolutionVersion) -> Option<StoreError> {
        self.registry_store.as_ref().and_then(|registry_store| registry_store.refused(host, what))
    }

    /// Compresses what is stored, in the form for the place that its size decides.
    async fn pack(&self, host: &str, new: &NewArtifact) -> Result<Packed<'_>, StoreError> {
        let from = self.registry_store.as_ref().map_or(usize::MAX, RegistryStore::from);
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
            let compressed = match package.filter(Package::is_readable) {
                Some(package) => Err(package),
                None => Ok(compressed),
            };
            Ok((digest, size, Some(compressed)))
        });
        let SolutionVersion { name: solution, version } = new.solution.clone();
        let (digest, size, packed) = match packed.await.unwrap_or_else(|| Err(std::io::Error::other("it was broken off"))) {
            Ok((digest, size, Some(packed))) => (digest, size, packed),
            Ok((_, size, None)) => return Err(StoreError::TooLarge { solution, version, size }),
            Err(source) => return Err(StoreError::Compression { solution, version, source }),
        };
        let payload = match (packed, &self.registry_store) {
            (Ok(compressed), _) => Payload::Chunks(compressed),
            (Err(package), Some(registry_store)) => Payload::Upload(Box::new(registry_store.upload(host, &solution, package))),
            (Err(_), None) => {
                let source = std::io::Error::other("there is no registry to send it to");
                return Err(StoreError::Compression { solution, version, source });
            }
        };
        Ok(Packed { digest, size, payload })
    }

    /// Deletes exactly the record that was seen, once nobody can be writing it any more.
    async fn remove_incomplete(&self, artifacts: &Api<Artifact>, artifact: &Artifact, now: Timestamp) -> Result<(), StoreError> {
        let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
        let age = artifact.metadata.creation_timestamp.as_ref().map_or(0, |created| now.as_second() - created.0.as_second());
        if age < IN_THE_MAKING_SECONDS {
            return Err(StoreError::Busy { artifact: name, namespace });
        }
        self.remove(artifacts, artifact).await
    }

    async fn remove(&self, artifacts: &Api<Artifact>, artifact: &Artifact) -> Result<(), StoreError> {
        let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
        let preconditions = Preconditions { uid: artifact.uid(), resource_version: artifact.resource_version() };
        match artifacts.delete(&name, &DeleteParams::background().preconditions(preconditions)).await {
            Ok(_) => Ok(()),
            Err(error) if has_code(&error, 404) => Ok(()),
            Err(error) if has_code(&error, 409) => Err(StoreError::Busy { artifact: name, namespace }),
            Err(error) => Err(api_error(format!("deleting artifact {name}"), &namespace)(error)),
        }
    }

    fn just_read(&self) -> std::sync::MutexGuard<'_, JustRead> {
        self.just_read.lock().unwrap_or_else(PoisonError::into_inner)
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

fn draft(host: &str, new: NewArtifact, packed: &Packed<'_>, sealed: Option<&UploadManifest>, exported_at: Timestamp) -> Artifact {
    let objects = new.bundle.objects();
    let chunks = match &packed.payload {
        Payload::Chunks(bytes) => bytes.len().div_ceil(CHUNK_BYTES),
        Payload::Upload(_) => 0,
    };
    let mut artifact = Artifact::new(
        &names::artifact_name(&new.solution.name, &new.solution.version),
        ArtifactSpec {
            digest: packed.digest.clone(),
            source: new.source,
            exported_by: new.exported_by,
            exported_at,
            developed_at: new.developed_at,
            object_count: saturated(objects.len()),
            objects: objects
                .iter()
                .take(MAX_OBJECTS)
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
            stored_in: sealed.map(|sealed| sealed.stored_in.clone()),
            kinds_not_listed: listed_first(&new.not_listed),
            kinds_reported_on: new.reported_on.iter().take(MAX_KINDS_REPORTED_ON).cloned().collect(),
            kinds_not_listed_omitted: saturated(new.not_listed.len().saturating_sub(MAX_KINDS_NOT_LISTED)),
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

/// The kinds that the record lists. Kinds that give rights come first: without them workloads may not work.
fn listed_first(kinds: &BTreeSet<GroupKind>) -> Vec<GroupKind> {
    let gives_rights = |kind: &&GroupKind| kind.group == "rbac.authorization.k8s.io";
    let (giving, others): (Vec<_>, Vec<_>) = kinds.iter().partition(gives_rights);
    giving.into_iter().rev().chain(others).take(MAX_KINDS_NOT_LISTED).cloned().collect()
}

/// The record, small enough that its status has room: fewer objects are listed. Fields that a deployment needs are never left out.
fn fitting(mut draft: Artifact) -> Result<Artifact, Box<StoreError>> {
    let size = |draft: &Artifact| serde_json::to_vec(&draft.spec).map_or(usize::MAX, |bytes| bytes.len());
    while size(&draft) > MAX_RECORD && !draft.spec.objects.is_empty() {
        draft.spec.objects.truncate(draft.spec.objects.len() / 2);
    }
    let size = size(&draft);
    if size > MAX_RECORD {
        let SolutionVersion { name: solution, version } = draft.spec.solution;
        return Err(Box::new(StoreError::RecordTooLarge { solution, version, size }));
    }
    Ok(draft)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn saturated(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
