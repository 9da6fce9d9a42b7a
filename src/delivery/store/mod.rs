//! Artifacts in their host: the record, and its bytes in immutable `ConfigMaps` beside it.
//!
//! The record is created first, so that its name decides who is the one; the chunks carry its uid in their names and
//! are collected with it. An artifact is complete when all chunks can be read and their bytes have the record's digest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};

use super::bundle::{Bundle, digest};
use super::failure::Failure;
use super::object;
use crate::api::artifact::{Artifact, ArtifactObject, ArtifactOrigin, ArtifactSpec};
use crate::api::names;
use crate::api::reference::{GroupKind, Identity, SolutionVersion};
use crate::api::settings::{ConnectionDefinition, Dependency, VariableDefinition};

/// The key of the bytes in a chunk.
pub const PAYLOAD_KEY: &str = "payload";
/// The most bytes of one chunk: a `ConfigMap` holds 1 MiB, and base64 adds a third on the wire (etcd takes 1.5 MiB).
pub const CHUNK_BYTES: usize = 700 * 1024;
/// The most canonical bytes of an artifact that are ever decompressed.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;
/// The most chunks that are read: what [`MAX_BYTES`] could need, were nothing of it compressible.
const MAX_CHUNKS: usize = MAX_BYTES / CHUNK_BYTES + 2;
/// The most objects that the record lists.
const LISTED_OBJECTS: usize = 1000;
/// The most kinds without a look that the record lists (its schema says so): a cluster may have hundreds.
const LISTED_KINDS: usize = 20;
/// Speed against size; 3 is zstd's own default.
const COMPRESSION_LEVEL: i32 = 3;
/// How many chunks are read or written at once.
const CONCURRENT_CHUNKS: usize = 4;
/// An incomplete artifact younger than this may still be in the making: a call takes at most 30 s.
const IN_THE_MAKING_SECONDS: i64 = 35;
/// How often `save` starts over when others create and delete under its hands.
const ATTEMPTS: usize = 4;
/// The most memory, as estimated, that decoded bundles are kept in.
const REMEMBERED_BYTES: usize = 8 * 1024 * 1024;
/// What a parsed object takes in memory, compared with its JSON.
const BYTES_IN_MEMORY: usize = 4;

/// An artifact could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A call failed.
    #[error("{action} in namespace {namespace} failed: {source}")]
    Api {
        /// What was done, and with which object.
        action: String,
        /// The host.
        namespace: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A chunk is not there.
    #[error(
        "artifact {artifact} in host {namespace} is incomplete: ConfigMap {chunk} is missing or has no payload. Nothing is deployed from it. It is \
         completed where its export is repeated; otherwise raise the solution's version"
    )]
    Incomplete {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// The first chunk that is missing.
        chunk: String,
    },
    /// The bytes are not those that were stored.
    #[error(
        "artifact {artifact} in host {namespace} was altered: its record has digest {expected}, its bytes in ConfigMaps {chunks} have {actual}. Nothing \
         is deployed from it. Find out who changed it, and raise the solution's version"
    )]
    DigestMismatch {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// The first and the last chunk.
        chunks: String,
        /// The record's digest.
        expected: String,
        /// The digest of what was read, or why there is none.
        actual: String,
    },
    /// The record says of itself what can't be.
    #[error("artifact {artifact} in host {namespace} can't be read: {why}. Nothing is deployed from it; raise the solution's version")]
    Unreadable {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// What is wrong.
        why: String,
    },
    /// The bytes are too many.
    #[error(
        "version {version} of solution {solution} has {size} bytes, and an artifact has at most {MAX_BYTES}: narrow the solution's selector or components"
    )]
    TooLarge {
        /// The solution.
        solution: String,
        /// The version.
        version: String,
        /// The canonical bytes.
        size: usize,
    },
    /// Somebody else creates or deletes the same artifact right now.
    #[error("artifact {artifact} in host {namespace} is being made by another run: it is looked at again")]
    Busy {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
    },
    /// Compression failed.
    #[error("version {version} of solution {solution} could not be compressed: {source}")]
    Compression {
        /// The solution.
        solution: String,
        /// The version.
        version: String,
        /// Why.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether waiting can help.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Api { source, .. } => Failure::of(source),
            Self::Busy { .. } | Self::Compression { .. } => Failure::Transient,
            Self::Incomplete { .. } | Self::DigestMismatch { .. } | Self::Unreadable { .. } | Self::TooLarge { .. } => Failure::Refused,
        }
    }
}

/// What is stored.
pub struct NewArtifact<'a> {
    /// The solution and its version.
    pub solution: SolutionVersion,
    /// Where it came from.
    pub source: ArtifactOrigin,
    /// The requester whose request exports it.
    pub exported_by: Identity,
    /// The objects.
    pub bundle: &'a Bundle,
    /// The kinds that nobody looked for objects of.
    pub not_listed: BTreeSet<GroupKind>,
    /// The solution's environment variables.
    pub environment_variables: Vec<VariableDefinition>,
    /// The solution's connection references.
    pub connection_references: Vec<ConnectionDefinition>,
    /// The solution's dependencies.
    pub dependencies: Vec<Dependency>,
}

/// Stores artifacts, and reads them back.
pub struct ArtifactStore {
    client: Client,
    remembered: Mutex<Remembered>,
}

impl ArtifactStore {
    /// A store that works with this client, the operator's own.
    pub fn new(client: Client) -> Self {
        Self { client, remembered: Mutex::new(Remembered::default()) }
    }

    /// Stores a version of a solution in `host`, and returns its record. One version has one digest for ever: where a complete
    /// artifact of that version exists, it is returned and `new` is not stored. What a crash left incomplete is completed where
    /// its digest is that of `new`, and made anew otherwise.
    pub async fn save(&self, host: &str, new: NewArtifact<'_>, now: Timestamp) -> Result<Artifact, StoreError> {
        let bytes = new.bundle.to_bytes();
        if bytes.len() > MAX_BYTES {
            return Err(StoreError::TooLarge { solution: new.solution.name, version: new.solution.version, size: bytes.len() });
        }
        let payload = match zstd::bulk::compress(&bytes, COMPRESSION_LEVEL) {
            Ok(payload) => payload,
            Err(source) => return Err(StoreError::Compression { solution: new.solution.name, version: new.solution.version, source }),
        };
        let draft = draft(host, new, &bytes, payload.len(), now);
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
                self.write_chunks(&artifact, &payload).await?;
            } else {
                match self.load(&artifact).await {
                    Ok(_) => return Ok(artifact),
                    Err(StoreError::Incomplete { .. }) => {}
                    Err(other) => return Err(other),
                }
                // Another version of zstd may compress the same bytes otherwise: its chunks don't go together with ours.
                let same = artifact.spec.digest == draft.spec.digest && artifact.spec.stored_size == draft.spec.stored_size;
                if !same {
                    self.remove_incomplete(&artifacts, &artifact, now).await?;
                    continue;
                }
                self.write_chunks(&artifact, &payload).await?;
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

    /// Reads an artifact's bytes from the API server, checks them against the record's digest, and returns the objects.
    pub async fn load(&self, artifact: &Artifact) -> Result<Arc<Bundle>, StoreError> {
        let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
        let unreadable = |why: String| StoreError::Unreadable { artifact: name.clone(), namespace: namespace.clone(), why };
        let size = usize::try_from(artifact.spec.size).ok().filter(|size| *size <= MAX_BYTES);
        let size = size.ok_or_else(|| unreadable(format!("its size {} is not between 0 and {MAX_BYTES} bytes", artifact.spec.size)))?;
        let count = usize::try_from(artifact.spec.chunks).ok().filter(|count| (1..=MAX_CHUNKS).contains(count));
        let count = count.ok_or_else(|| unreadable(format!("it has {} chunks, not between 1 and {MAX_CHUNKS}", artifact.spec.chunks)))?;
        let uid = artifact.uid().ok_or_else(|| unreadable("it has no uid".to_owned()))?;

        let chunks: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
        let parts: Vec<Vec<u8>> = stream::iter(0..count)
            .map(|index| {
                let (chunks, chunk) = (&chunks, chunk_name(&name, &uid, index));
                let (artifact, namespace) = (name.clone(), namespace.clone());
                async move {
                    let found = chunks
                        .get_opt(&chunk)
                        .await
                        .map_err(api_error(format!("reading chunk {chunk} of artifact {artifact}"), &namespace))?;
                    let payload = found.and_then(|mut map| map.binary_data.as_mut()?.remove(PAYLOAD_KEY));
                    payload.map(|bytes| bytes.0).ok_or(StoreError::Incomplete { artifact, namespace, chunk })
                }
            })
            .buffered(CONCURRENT_CHUNKS)
            .try_collect()
            .await?;
        let payload = parts.concat();

        // What was read just now decides; only the decoding of these very bytes is remembered.
        let payload_digest = digest(&payload);
        if let Some(bundle) = self.remembered().find(&payload_digest, &artifact.spec.digest) {
            return Ok(bundle);
        }
        let mismatch = |actual: String| StoreError::DigestMismatch {
            artifact: name.clone(),
            namespace: namespace.clone(),
            chunks: format!("{} to {}", chunk_name(&name, &uid, 0), chunk_name(&name, &uid, count - 1)),
            expected: artifact.spec.digest.clone(),
            actual,
        };
        let bytes = zstd::bulk::decompress(&payload, size).map_err(|_| mismatch(format!("none: they don't decompress to {size} bytes")))?;
        let actual = digest(&bytes);
        if actual != artifact.spec.digest {
            return Err(mismatch(actual));
        }
        let bundle = Arc::new(Bundle::from_bytes(&bytes).map_err(|error| unreadable(error.to_string()))?);
        self.remembered().keep(payload_digest, actual, bundle.clone(), bytes.len() * BYTES_IN_MEMORY);
        Ok(bundle)
    }

    /// Creates the chunks that are not there yet.
    async fn write_chunks(&self, artifact: &Artifact, payload: &[u8]) -> Result<(), StoreError> {
        let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
        let chunks: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
        let writes: Vec<_> = payload
            .chunks(CHUNK_BYTES)
            .enumerate()
            .map(|(index, part)| {
                let chunk = chunk(artifact, index, part);
                let (chunks, action) = (&chunks, format!("creating chunk {} of artifact {name}", chunk.name_any()));
                let namespace = &namespace;
                async move {
                    match chunks.create(&written(), &chunk).await {
                        Ok(_) => Ok(()),
                        // The name carries the artifact's uid: it is from an earlier attempt, and verified with the others.
                        Err(error) if has_code(&error, 409) => Ok(()),
                        Err(error) => Err(api_error(action, namespace)(error)),
                    }
                }
            })
            .collect();
        stream::iter(writes).buffer_unordered(CONCURRENT_CHUNKS).try_collect().await
    }

    /// Deletes exactly the record that was seen, once nobody can be at work on it any more.
    async fn remove_incomplete(&self, artifacts: &Api<Artifact>, artifact: &Artifact, now: Timestamp) -> Result<(), StoreError> {
        let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
        let age = artifact.metadata.creation_timestamp.as_ref().map_or(0, |created| now.as_second() - created.0.as_second());
        if age < IN_THE_MAKING_SECONDS {
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

fn draft(host: &str, new: NewArtifact<'_>, bytes: &[u8], stored: usize, now: Timestamp) -> Artifact {
    let objects = new.bundle.objects();
    let mut artifact = Artifact::new(
        &names::artifact_name(&new.solution.name, &new.solution.version),
        ArtifactSpec {
            digest: digest(bytes),
            source: new.source,
            exported_by: new.exported_by,
            exported_at: crate::api::condition::whole_seconds(now),
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
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            stored_size: i64::try_from(stored).unwrap_or(i64::MAX),
            chunks: saturated(stored.div_ceil(CHUNK_BYTES)),
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

fn saturated(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn chunk(artifact: &Artifact, index: usize, part: &[u8]) -> ConfigMap {
    let uid = artifact.uid().unwrap_or_default();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(chunk_name(&artifact.name_any(), &uid, index)),
            namespace: artifact.namespace(),
            labels: Some(BTreeMap::from([
                // The uid, as a name may be longer than a label's value.
                (names::ARTIFACT_LABEL.to_owned(), uid.clone()),
                (names::SOLUTION_LABEL.to_owned(), artifact.spec.solution.name.clone()),
                (names::MANAGED_BY.to_owned(), names::FIELD_MANAGER.to_owned()),
            ])),
            owner_references: Some(vec![OwnerReference {
                api_version: Artifact::api_version(&()).into_owned(),
                kind: Artifact::kind(&()).into_owned(),
                name: artifact.name_any(),
                uid,
                controller: Some(true),
                block_owner_deletion: None,
            }]),
            ..ObjectMeta::default()
        },
        immutable: Some(true),
        binary_data: Some(BTreeMap::from([(PAYLOAD_KEY.to_owned(), ByteString(part.to_vec()))])),
        ..ConfigMap::default()
    }
}

/// The name of a chunk: the artifact's, cut where it has to be, the beginning of its uid, and the index.
fn chunk_name(artifact: &str, uid: &str, index: usize) -> String {
    const LONGEST: usize = 253;
    let uid: String = uid.chars().take(8).collect();
    let tail = format!("-{uid}-{index}");
    let head: String = artifact.chars().take(LONGEST - tail.len()).collect();
    format!("{}{tail}", head.trim_end_matches(['.', '-']))
}

/// The bundles that were decoded last, by the digest of their compressed bytes.
#[derive(Default)]
struct Remembered {
    entries: VecDeque<RememberedBundle>,
    cost: usize,
}

struct RememberedBundle {
    payload_digest: String,
    digest: String,
    bundle: Arc<Bundle>,
    cost: usize,
}

impl Remembered {
    fn find(&mut self, payload_digest: &str, digest: &str) -> Option<Arc<Bundle>> {
        let place = self.entries.iter().position(|e| e.payload_digest == payload_digest && e.digest == digest)?;
        let entry = self.entries.remove(place)?;
        let bundle = entry.bundle.clone();
        self.entries.push_back(entry);
        Some(bundle)
    }

    fn keep(&mut self, payload_digest: String, digest: String, bundle: Arc<Bundle>, cost: usize) {
        if cost > REMEMBERED_BYTES || self.find(&payload_digest, &digest).is_some() {
            return;
        }
        self.cost += cost;
        self.entries.push_back(RememberedBundle { payload_digest, digest, bundle, cost });
        while self.cost > REMEMBERED_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.cost -= oldest.cost;
        }
    }
}

#[cfg(test)]
mod tests;
