//! What retention removes, in the registry first: one OCI artifact for each request, and for each version with its bytes. It counts as
//! archived when the registry gives it back. The same content has the same digest, so what is archived again after a crash is there once.

use std::sync::Arc;

use hyper::body::Bytes;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::error::StoreError;
use super::package::Package;
use super::registry_store::RegistryStore;
use super::{ArtifactStore, removal};
use crate::api::repository::Repository;
use crate::api::{Artifact, DeploymentRequest};
use crate::artifact::bundle::{canonical, digest};
use crate::artifact::memory;
use crate::artifact::oci::manifest::{MANIFEST, TITLE};
use crate::artifact::oci::{OciError, Session};

/// What the OCI artifacts are.
const ARTIFACT_TYPE: &str = "application/vnd.pilotage.archive.v1";
/// The record: one JSON object in one line.
const LINES: &str = "application/x-ndjson";
/// The file that a client writes the record to.
const RECORD: &str = "record.jsonl";
/// The configuration of OCI artifacts that need none, and its type.
const EMPTY: (&[u8], &str) = (b"{}", "application/vnd.oci.empty.v1+json");
/// The most characters of the object's name in a tag. Tags have at most 128, of which a uid and the end need 44.
const NAME_IN_TAG: usize = 80;

/// A part of the archive.
struct Blob {
    what: &'static str,
    digest: String,
    bytes: Bytes,
}

impl Blob {
    fn of(what: &'static str, bytes: Bytes) -> Self {
        Self { what, digest: digest(&bytes), bytes }
    }
}

/// One OCI artifact of the archive.
struct Entry {
    /// What it is of, in messages.
    what: String,
    host: String,
    /// `requests` or `artifacts`.
    folder: &'static str,
    tag: String,
    record: Blob,
    others: Vec<Blob>,
    manifest: Bytes,
}

impl Entry {
    /// The entry of an object. `end` is the end of its tag, `bytes` those of a version.
    fn of<K>(object: &K, folder: &'static str, end: &str, mut notes: Map<String, Value>, bytes: Option<Package>) -> Self
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let (name, host, uid) = (object.name_any(), object.namespace().unwrap_or_default(), object.uid().unwrap_or_default());
        let mut line = line(object);
        line.push(b'\n');
        let (record, config) = (Blob::of("record", line.into()), Blob::of("config", Bytes::from_static(EMPTY.0)));
        for (key, value) in [("kind", K::kind(&()).into_owned()), ("host", host.clone()), ("name", name.clone()), ("uid", uid.clone())] {
            notes.insert(format!("dev.pilotage.{key}"), value.into());
        }
        let mut layers =
            vec![json!({"mediaType": LINES, "digest": record.digest, "size": record.bytes.len(), "annotations": {(TITLE): RECORD}})];
        layers.extend(bytes.as_ref().map(Package::layer_descriptor));
        let manifest = canonical(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": EMPTY.1, "digest": config.digest, "size": EMPTY.0.len()},
            "layers": layers,
            "annotations": notes,
        }));
        let mut others = vec![config];
        others.extend(bytes.map(|package| Blob { what: "layer", digest: package.layer_digest, bytes: package.layer }));
        let short: String = name.chars().take(NAME_IN_TAG).collect();
        let what = format!("{} {name}", K::kind(&()).to_lowercase());
        Self { what, host, folder, tag: format!("{short}_{uid}{end}"), record, others, manifest: manifest.into() }
    }

    /// Whether the registry has it under its tag, with all that it names, and gives the record back as it is.
    async fn is_whole(&self, session: &mut Session<'_>, reference: &str) -> Result<bool, OciError> {
        match session.manifest(&self.tag, MANIFEST).await {
            Ok(found) if self.manifest == found => {}
            Ok(_) | Err(OciError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
        for blob in &self.others {
            if !session.has_blob(&blob.digest).await? {
                return Ok(false);
            }
        }
        let size = u64::try_from(self.record.bytes.len()).unwrap_or(u64::MAX);
        match session.blob(self.record.what, &self.record.digest, size, reference).await {
            Ok(_) => Ok(true),
            Err(OciError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn put(&self, session: &mut Session<'_>) -> Result<(), OciError> {
        for blob in self.others.iter().chain([&self.record]) {
            session.put_blob(blob.what, &blob.digest, blob.bytes.clone()).await?;
        }
        session.put_tag(&self.tag, self.manifest.clone()).await
    }
}

/// The object as one line of JSON. Who owns which field is not part of the record.
fn line(object: &impl Serialize) -> Vec<u8> {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    canonical(&value)
}

fn notes<const N: usize>(notes: [(&str, String); N]) -> Map<String, Value> {
    notes.into_iter().map(|(key, value)| (key.to_owned(), Value::from(value))).collect()
}

fn of_request(request: &DeploymentRequest) -> Entry {
    let (spec, ended) = (&request.spec, request.status.as_ref().and_then(|s| s.run.end_time).unwrap_or_default());
    let notes = notes([
        ("org.opencontainers.image.created", ended.to_string()),
        ("dev.pilotage.pipeline", spec.pipeline.clone()),
        ("dev.pilotage.stage", spec.stage.clone()),
        ("dev.pilotage.solution", spec.solution.name.clone()),
        ("dev.pilotage.version", spec.solution.version.clone()),
    ]);
    Entry::of(request, "requests", "", notes, None)
}

fn of_artifact(artifact: &Artifact, bytes: Option<Package>) -> Entry {
    let spec = &artifact.spec;
    let notes = notes([
        ("org.opencontainers.image.created", spec.exported_at.to_string()),
        ("dev.pilotage.solution", spec.solution.name.clone()),
        ("dev.pilotage.version", spec.solution.version.clone()),
        ("dev.pilotage.digest", spec.digest.clone()),
    ]);
    // A record goes later than its bytes, and then knows that they went.
    let end = if bytes.is_some() { "" } else { "_record" };
    Entry::of(artifact, "artifacts", end, notes, bytes)
}

impl ArtifactStore {
    /// Archives a request. It must be the one that was read just now.
    pub(crate) async fn archive_request(&self, request: &DeploymentRequest) -> Result<(), StoreError> {
        self.archive(of_request(request)).await.map(|_| ())
    }

    /// Archives an artifact as it was read just now, with its bytes if these were not removed, and returns where it is.
    pub(crate) async fn archive_artifact(&self, artifact: &Artifact) -> Result<String, StoreError> {
        let bytes = if removal::removed(artifact).is_some() { None } else { Some(self.packed_again(artifact).await?) };
        self.archive(of_artifact(artifact, bytes)).await
    }

    /// The bytes of an artifact, checked, in the form that registries have them in.
    async fn packed_again(&self, artifact: &Artifact) -> Result<Package, StoreError> {
        let bundle = self.load(artifact).await?;
        let (what, of_all) = (artifact.spec.solution.clone(), artifact.spec.digest.clone());
        let packed = memory::apart(move || Package::of(&Arc::clone(&bundle), &what, &of_all)).await;
        let packed = packed.unwrap_or_else(|| Err(std::io::Error::other("it was broken off")));
        let crate::api::reference::SolutionVersion { name: solution, version } = artifact.spec.solution.clone();
        packed.map_err(|source| StoreError::Compression { solution, version, source })
    }

    async fn archive(&self, entry: Entry) -> Result<String, StoreError> {
        let Some(registry_store) = &self.registry_store else {
            return Err(StoreError::NoArchive { what: entry.what, namespace: entry.host });
        };
        let repository = registry_store.archive(&entry.host, entry.folder);
        match registry_store.keep(&repository, &entry).await {
            Ok(()) => Ok(format!("{repository}@{}", digest(&entry.manifest))),
            Err(source) => Err(StoreError::Archive { what: entry.what, namespace: entry.host, repository: repository.to_string(), source }),
        }
    }
}

impl RegistryStore {
    async fn keep(&self, repository: &Repository, entry: &Entry) -> Result<(), OciError> {
        let reference = format!("{repository}:{}", entry.tag);
        let work = async {
            let access = self.access()?;
            let mut session = Session::writing(repository, &access)?;
            if entry.is_whole(&mut session, &reference).await? {
                return Ok(());
            }
            entry.put(&mut session).await?;
            if entry.is_whole(&mut session, &reference).await? {
                return Ok(());
            }
            // Without the tag, which names a request: makers read what retention waits for.
            Err(session.unwell("took what is archived, and does not give it back under its tag".to_owned()))
        };
        self.ask(repository, work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uid: &str, notes: &str) -> DeploymentRequest {
        serde_json::from_value(json!({
            "metadata": {"name": "x".repeat(253), "namespace": "host", "uid": uid, "managedFields": [{"manager": "kubectl"}]},
            "spec": {"pipeline": "standard", "stage": "qa", "solution": {"name": "orders", "version": "1.4.0"}, "notes": notes},
            "status": {"endTime": "2026-11-01T00:00:00Z"},
        }))
        .unwrap()
    }

    #[test]
    fn the_same_record_is_the_same_artifact_and_any_other_is_another() {
        let (one, two) = (of_request(&request("1", "a")), of_request(&request("1", "a")));
        assert_eq!((&one.manifest, &one.tag, &one.record.bytes), (&two.manifest, &two.tag, &two.record.bytes));
        assert_ne!(one.manifest, of_request(&request("1", "b")).manifest);
        assert_ne!(one.tag, of_request(&request("2", "a")).tag);
    }

    #[test]
    fn a_tag_fits_and_a_record_is_one_line_without_owners_of_fields() {
        let uid = "01234567-0123-0123-0123-0123456789ab";
        let entry = of_request(&request(uid, "first\nsecond"));
        assert_eq!(entry.tag, format!("{}_{uid}", "x".repeat(NAME_IN_TAG)));
        let text = String::from_utf8(entry.record.bytes.to_vec()).unwrap();
        assert!(text.ends_with("}\n") && text.lines().count() == 1 && !text.contains("managedFields"), "{text}");
        let artifact = super::super::tests::artifact();
        let record = of_artifact(&artifact, None);
        assert!(record.tag.ends_with("_record") && record.tag.len() <= 128, "{}", record.tag);
    }
}
