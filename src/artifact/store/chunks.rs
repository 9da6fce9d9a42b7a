//! The bytes of an artifact in immutable `ConfigMaps` beside its record.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};

use super::error::StoreError;
use super::{MAX_BYTES, api_error, has_code, written};
use crate::api::artifact::Artifact;
use crate::api::names;

/// The key of the bytes in a chunk.
pub(crate) const PAYLOAD_KEY: &str = "payload";
/// The most bytes of one chunk. A `ConfigMap` holds 1 MiB, and base64 adds a third on the wire (etcd accepts 1.5 MiB).
pub(crate) const CHUNK_BYTES: usize = 700 * 1024;
/// The most chunks that are read: as many as [`MAX_BYTES`] of incompressible data would need.
const MAX_CHUNKS: usize = MAX_BYTES / CHUNK_BYTES + 2;
/// How many chunks are read or written at the same time.
const CONCURRENT_CHUNKS: usize = 4;

/// Creates the chunks that don't exist yet.
pub(crate) async fn write(client: &Client, artifact: &Artifact, payload: &[u8]) -> Result<(), StoreError> {
    let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
    let chunks: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
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
                    // The name contains the artifact's uid, so this chunk is from an earlier attempt. It is verified with the others.
                    Err(error) if has_code(&error, 409) => Ok(()),
                    Err(error) => Err(api_error(action, namespace)(error)),
                }
            }
        })
        .collect();
    stream::iter(writes).buffer_unordered(CONCURRENT_CHUNKS).try_collect().await
}

/// Reads the chunks from the API server, and joins them.
pub(crate) async fn read(client: &Client, artifact: &Artifact) -> Result<Vec<u8>, StoreError> {
    let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
    let unreadable = |why: String| StoreError::Unreadable { artifact: name.clone(), namespace: namespace.clone(), why };
    let count = usize::try_from(artifact.spec.chunks).ok().filter(|count| (1..=MAX_CHUNKS).contains(count));
    let count = count.ok_or_else(|| unreadable(format!("it has {} chunks, not between 1 and {MAX_CHUNKS}", artifact.spec.chunks)))?;
    let uid = artifact.uid().ok_or_else(|| unreadable("it has no uid".to_owned()))?;
    let chunks: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    let parts: Vec<Vec<u8>> = stream::iter(0..count)
        .map(|index| {
            let (chunks, chunk) = (&chunks, chunk_name(&name, &uid, index));
            let (artifact, namespace) = (name.clone(), namespace.clone());
            async move {
                let found =
                    chunks.get_opt(&chunk).await.map_err(api_error(format!("reading chunk {chunk} of artifact {artifact}"), &namespace))?;
                let payload = found.and_then(|mut map| map.binary_data.as_mut()?.remove(PAYLOAD_KEY));
                let missing = format!("ConfigMap {chunk} is missing or has no payload");
                payload.map(|bytes| bytes.0).ok_or(StoreError::Incomplete { artifact, namespace, missing })
            }
        })
        .buffered(CONCURRENT_CHUNKS)
        .try_collect()
        .await?;
    Ok(parts.concat())
}

/// Checks that no chunk is missing, without reading the bytes.
pub(crate) async fn are_there(client: &Client, artifact: &Artifact) -> Result<(), StoreError> {
    let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
    let chunks: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    for chunk in names_of(artifact) {
        let found = chunks.get_metadata_opt(&chunk).await;
        if found.map_err(api_error(format!("looking for chunk {chunk} of artifact {name}"), &namespace))?.is_none() {
            return Err(StoreError::Incomplete { artifact: name, namespace, missing: format!("ConfigMap {chunk} is missing") });
        }
    }
    Ok(())
}

/// The names of its chunks, as far as any are read.
fn names_of(artifact: &Artifact) -> impl Iterator<Item = String> + use<> {
    let (name, uid) = (artifact.name_any(), artifact.uid().unwrap_or_default());
    let count = usize::try_from(artifact.spec.chunks).unwrap_or_default().min(MAX_CHUNKS);
    (0..count).map(move |index| chunk_name(&name, &uid, index))
}

/// Deletes the chunks that are there, each as it was seen and only if it is one of this artifact.
pub(crate) async fn remove(client: &Client, artifact: &Artifact) -> Result<(), StoreError> {
    let (name, namespace) = (artifact.name_any(), artifact.namespace().unwrap_or_default());
    let uid = artifact.uid().unwrap_or_default();
    let chunks: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
    for chunk in names_of(artifact) {
        let failed = |what: &str| api_error(format!("{what} chunk {chunk} of artifact {name}"), &namespace);
        let Some(found) = chunks.get_metadata_opt(&chunk).await.map_err(failed("reading"))? else { continue };
        if found.labels().get(names::ARTIFACT_LABEL) != Some(&uid) {
            continue;
        }
        let preconditions = Preconditions { uid: found.uid(), resource_version: found.resource_version() };
        match chunks.delete(&chunk, &DeleteParams::background().preconditions(preconditions)).await {
            Ok(_) => {}
            Err(error) if has_code(&error, 404) => {}
            Err(error) => return Err(failed("deleting")(error)),
        }
    }
    Ok(())
}

/// The first and the last chunk, as messages name them.
pub(crate) fn named(artifact: &Artifact) -> String {
    let (name, uid) = (artifact.name_any(), artifact.uid().unwrap_or_default());
    let last = usize::try_from(artifact.spec.chunks - 1).unwrap_or_default();
    format!("{} to {}", chunk_name(&name, &uid, 0), chunk_name(&name, &uid, last))
}

fn chunk(artifact: &Artifact, index: usize, part: &[u8]) -> ConfigMap {
    let uid = artifact.uid().unwrap_or_default();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(chunk_name(&artifact.name_any(), &uid, index)),
            namespace: artifact.namespace(),
            labels: Some(BTreeMap::from([
                // The uid, because a name may be longer than a label's value allows.
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

/// The name of a chunk: the artifact's name, cut if needed, the beginning of its uid, and the index.
fn chunk_name(artifact: &str, uid: &str, index: usize) -> String {
    const LONGEST: usize = 253;
    let uid: String = uid.chars().take(8).collect();
    let tail = format!("-{uid}-{index}");
    let head: String = artifact.chars().take(LONGEST - tail.len()).collect();
    format!("{}{tail}", head.trim_end_matches(['.', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_name_fits_and_carries_the_uid_and_the_index() {
        assert_eq!(chunk_name("orders-1.4.0", "0123456789-abc", 2), "orders-1.4.0-01234567-2");
        let long = chunk_name(&format!("{}.{}", "a".repeat(241), "b".repeat(100)), "0123456789", 10);
        assert_eq!(long, format!("{}-01234567-10", "a".repeat(241)));
        assert!(long.len() <= 253);
    }

    #[test]
    fn a_chunk_goes_with_its_artifact() {
        let mut artifact = super::super::tests::artifact();
        artifact.metadata.uid = Some("0123456789".into());
        let chunk = chunk(&artifact, 0, b"bytes");
        assert_eq!(chunk.immutable, Some(true));
        assert_eq!(chunk.owner_references()[0].uid, "0123456789");
        assert_eq!(chunk.owner_references()[0].kind, "Artifact");
        assert_eq!(chunk.labels()[names::ARTIFACT_LABEL], "0123456789");
        assert_eq!(chunk.binary_data.unwrap()[PAYLOAD_KEY].0, b"bytes");
    }
}
