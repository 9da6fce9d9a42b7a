use serde_json::json;

use super::*;

fn bundle(name: &str) -> Arc<Bundle> {
    Arc::new(Bundle::new(vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})]))
}

fn new(bundle: &Bundle) -> NewArtifact<'_> {
    NewArtifact {
        solution: SolutionVersion { name: "orders".into(), version: "1.4.0".into() },
        source: ArtifactOrigin { environment: Some("dev".into()), environment_id: Some("u".into()), oci: None },
        exported_by: Identity { username: "dana".into(), ..Identity::default() },
        bundle,
        not_listed: BTreeSet::new(),
        environment_variables: Vec::new(),
        connection_references: Vec::new(),
        dependencies: Vec::new(),
    }
}

#[test]
fn a_chunk_name_fits_and_carries_the_uid_and_the_index() {
    assert_eq!(chunk_name("orders-1.4.0", "0123456789-abc", 2), "orders-1.4.0-01234567-2");
    let long = chunk_name(&format!("{}.{}", "a".repeat(241), "b".repeat(100)), "0123456789", 10);
    assert_eq!(long, format!("{}-01234567-10", "a".repeat(241)));
    assert!(long.len() <= 253);
}

#[test]
fn the_record_describes_what_is_stored() {
    let bundle = bundle("config");
    let bytes = bundle.to_bytes();
    let artifact = draft("host", new(&bundle), &bytes, CHUNK_BYTES + 1, Timestamp::UNIX_EPOCH);
    assert_eq!(artifact.name_any(), "orders-1.4.0");
    assert_eq!(artifact.spec.digest, digest(&bytes));
    assert_eq!((artifact.spec.chunks, artifact.spec.object_count), (2, 1));
    assert_eq!(artifact.spec.objects[0].name, "config");
    assert_eq!(artifact.labels()[names::SOLUTION_LABEL], "orders");
}

#[test]
fn a_chunk_goes_with_its_artifact() {
    let bundle = bundle("config");
    let mut artifact = draft("host", new(&bundle), b"", 1, Timestamp::UNIX_EPOCH);
    artifact.metadata.uid = Some("0123456789".into());
    let chunk = chunk(&artifact, 0, b"bytes");
    assert_eq!(chunk.immutable, Some(true));
    assert_eq!(chunk.owner_references()[0].uid, "0123456789");
    assert_eq!(chunk.owner_references()[0].kind, "Artifact");
    assert_eq!(chunk.labels()[names::ARTIFACT_LABEL], "0123456789");
    assert_eq!(chunk.binary_data.unwrap()[PAYLOAD_KEY].0, b"bytes");
}

#[test]
fn only_decoding_is_remembered_and_the_oldest_goes_first() {
    let mut remembered = Remembered::default();
    remembered.keep("p1".into(), "d1".into(), bundle("1"), REMEMBERED_BYTES / 2);
    remembered.keep("p2".into(), "d2".into(), bundle("2"), REMEMBERED_BYTES / 2);
    assert!(remembered.find("p1", "another digest").is_none());
    assert!(remembered.find("p1", "d1").is_some());
    remembered.keep("p3".into(), "d3".into(), bundle("3"), REMEMBERED_BYTES / 2);
    assert!(remembered.find("p2", "d2").is_none());
    assert!(remembered.find("p1", "d1").is_some() && remembered.find("p3", "d3").is_some());
    remembered.keep("p4".into(), "d4".into(), bundle("4"), REMEMBERED_BYTES + 1);
    assert!(remembered.find("p4", "d4").is_none());
    assert_eq!(remembered.cost, REMEMBERED_BYTES);
}
