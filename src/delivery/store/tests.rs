use serde_json::json;

use super::*;

fn bundle(name: &str) -> Arc<Bundle> {
    Arc::new(Bundle::new(vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})]))
}

fn new(bundle: &Arc<Bundle>) -> NewArtifact {
    NewArtifact {
        solution: SolutionVersion { name: "orders".into(), version: "1.4.0".into() },
        source: ArtifactOrigin { environment: Some("dev".into()), environment_id: Some("u".into()), oci: None },
        exported_by: Identity { username: "dana".into(), ..Identity::default() },
        bundle: bundle.clone(),
        cluster_scoped: Vec::new(),
        not_listed: BTreeSet::new(),
        environment_variables: Vec::new(),
        connection_references: Vec::new(),
        dependencies: Vec::new(),
    }
}

/// A record of orders 1.4.0 in host `host`.
pub fn artifact() -> Artifact {
    let bundle = bundle("config");
    let packed = Packed { digest: bundle.digest(), size: 1, payload: Payload::Chunks(vec![0]) };
    draft(None, "host", new(&bundle), &packed, Timestamp::UNIX_EPOCH)
}

#[test]
fn the_record_describes_what_is_stored() {
    let bundle = bundle("config");
    let packed = Packed { digest: bundle.digest(), size: 9, payload: Payload::Chunks(vec![0; CHUNK_BYTES + 1]) };
    let artifact = draft(None, "host", new(&bundle), &packed, Timestamp::UNIX_EPOCH);
    assert_eq!(artifact.name_any(), "orders-1.4.0");
    assert_eq!(artifact.spec.digest, digest(&bundle.to_bytes()));
    assert_eq!((artifact.spec.chunks, artifact.spec.object_count, artifact.spec.stored_in.clone()), (2, 1, None));
    assert_eq!(artifact.spec.objects[0].name, "config");
    assert_eq!(artifact.labels()[names::SOLUTION_LABEL], "orders");
    assert!(fits(None, &artifact, &packed));
}

#[test]
fn what_goes_to_a_registry_has_no_chunks_and_is_pinned_before_it_is_sent() {
    let place = |store: &str| Place::of(Wanted { store: Some(store.to_owned()), ..Wanted::default() }).unwrap().unwrap();
    let warehouse = Warehouse::new(place("oci://r.test/kept"), 16);
    let bundle = bundle("config");
    let package = Package::of(&bundle, &new(&bundle).solution, &bundle.digest()).unwrap();
    let packed = Packed { digest: bundle.digest(), size: 9, payload: Payload::Package(package) };
    let artifact = draft(Some(&warehouse), "host", new(&bundle), &packed, Timestamp::UNIX_EPOCH);
    let Payload::Package(package) = &packed.payload else { unreachable!() };
    let expected = format!("oci://r.test/kept/host/orders@{}", digest(&package.manifest(artifact.spec.exported_at)));
    assert_eq!((artifact.spec.chunks, artifact.spec.stored_in.as_ref()), (0, Some(&expected)));
    // Whoever completes it later makes the same of it, whatever the time; elsewhere it is another.
    assert!(fits(Some(&warehouse), &artifact, &packed));
    assert!(!fits(Some(&Warehouse::new(place("oci://r.test/moved"), 16)), &artifact, &packed));
    assert!(!fits(None, &artifact, &packed));
}

#[tokio::test]
async fn no_more_is_packed_at_once_than_memory_is_meant_for() {
    let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let (store, bundle) = (ArtifactStore::new(client), bundle("config"));
    let new = new(&bundle);
    let all = memory::tests::taken().await;
    let mut packed = Box::pin(store.pack(&new));
    assert!(futures::poll!(&mut packed).is_pending());
    tokio::task::yield_now().await;
    assert!(futures::poll!(&mut packed).is_pending(), "it has not begun");
    drop(all);
    assert_eq!(packed.await.unwrap().digest, bundle.digest());
}
