use serde_json::json;

use super::*;
use crate::api::Reason;

fn bundle(name: &str) -> Arc<Bundle> {
    Arc::new(Bundle::new(vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})]))
}

fn new(bundle: &Arc<Bundle>) -> NewArtifact {
    NewArtifact {
        solution: SolutionVersion { name: "orders".into(), version: "1.4.0".into() },
        source: ArtifactOrigin { environment: Some("dev".into()), environment_id: Some("u".into()), oci: None },
        exported_by: Identity { username: "dana".into(), ..Identity::default() },
        developed_at: None,
        bundle: bundle.clone(),
        cluster_scoped: Vec::new(),
        not_listed: BTreeSet::new(),
        reported_on: BTreeSet::new(),
        environment_variables: Vec::new(),
        connection_references: Vec::new(),
        dependencies: Vec::new(),
    }
}

/// A record of orders 1.4.0 in host `host`.
pub(crate) fn artifact() -> Artifact {
    let bundle = bundle("config");
    let packed = Packed { digest: bundle.digest(), size: 1, payload: Payload::Chunks(vec![0]) };
    draft("host", new(&bundle), &packed, None, Timestamp::UNIX_EPOCH)
}

#[test]
fn the_record_describes_what_is_stored() {
    let bundle = bundle("config");
    let packed = Packed { digest: bundle.digest(), size: 9, payload: Payload::Chunks(vec![0; CHUNK_BYTES + 1]) };
    let artifact = draft("host", new(&bundle), &packed, None, Timestamp::UNIX_EPOCH);
    assert_eq!(artifact.name_any(), "orders-1.4.0");
    assert_eq!(artifact.spec.digest, digest(&bundle.to_bytes()));
    assert_eq!((artifact.spec.chunks, artifact.spec.object_count, artifact.spec.stored_in.clone()), (2, 1, None));
    assert_eq!(artifact.spec.objects[0].name, "config");
    assert_eq!(artifact.labels()[names::SOLUTION_LABEL], "orders");
    assert!(packed.fits(&artifact, None));
}

#[test]
fn what_a_crash_left_is_completed_where_it_is_the_same_of_the_same_scope() {
    let bundle = bundle("config");
    let packed = Packed { digest: bundle.digest(), size: 9, payload: Payload::Chunks(vec![0]) };
    let left = draft("host", new(&bundle), &packed, None, Timestamp::UNIX_EPOCH);
    assert!(packed.completes(&left, &left));
    let class = GroupKind { group: "scheduling.k8s.io".into(), kind: "PriorityClass".into() };
    let of_cluster = draft("host", NewArtifact { cluster_scoped: vec![class], ..new(&bundle) }, &packed, None, Timestamp::UNIX_EPOCH);
    assert!(!packed.completes(&left, &of_cluster) && packed.completes(&of_cluster, &of_cluster));
    let other = Packed { digest: digest(b"other"), ..packed };
    assert!(!other.completes(&left, &left));
}

#[test]
fn what_goes_to_a_registry_has_no_chunks_and_is_pinned_before_it_is_sent() {
    let place = |store: &str| Place::of(Wanted { store: Some(store.to_owned()), ..Wanted::default() }).unwrap().unwrap();
    let (kept, moved) = (RegistryStore::new(place("oci://r.test/kept"), 16), RegistryStore::new(place("oci://r.test/moved"), 16));
    let bundle = bundle("config");
    let packed = |registry_store| {
        let package = Package::of(&bundle, &new(&bundle).solution, &bundle.digest()).unwrap();
        let upload = Box::new(RegistryStore::upload(registry_store, "host", "orders", package));
        Packed { digest: bundle.digest(), size: 9, payload: Payload::Upload(upload) }
    };
    let here = packed(&kept);
    let sealed = here.sealed(Timestamp::UNIX_EPOCH).unwrap();
    let artifact = draft("host", new(&bundle), &here, Some(&sealed), Timestamp::UNIX_EPOCH);
    let package = Package::of(&bundle, &new(&bundle).solution, &bundle.digest()).unwrap();
    let expected = format!("oci://r.test/kept/host/orders@{}", digest(&package.manifest(artifact.spec.exported_at)));
    assert_eq!((artifact.spec.chunks, artifact.spec.stored_in.as_ref()), (0, Some(&expected)));
    // Whoever sends it again makes the same of it, whatever the time; elsewhere it is another.
    let again = |packed: &Packed<'_>| packed.fits(&artifact, packed.sealed(artifact.spec.exported_at).as_ref());
    assert!(again(&packed(&kept)) && !again(&packed(&moved)));
    let chunks = Packed { digest: bundle.digest(), size: 9, payload: Payload::Chunks(vec![0; here.stored_size()]) };
    assert!(!again(&chunks));
}

#[test]
fn what_a_registry_of_the_operators_own_lacks_or_leads_away_from_is_waited_for() {
    use crate::artifact::oci::OciError;
    use crate::cluster::blocked::{Until, Wait};

    let (artifact, namespace, repository) = ("orders-1.4.0".to_owned(), "host".to_owned(), "oci://r.test/kept/host/orders".to_owned());
    let lost = StoreError::Lost {
        artifact: artifact.clone(),
        namespace: namespace.clone(),
        repository: repository.clone(),
        reference: format!("{repository}@sha256:aa"),
    };
    let redirect = OciError::Redirect { registry: "r.test".into(), why: "it does not lead to https".into() };
    assert_eq!(redirect.until(), Until::End, "of a registry that a pipeline names");
    let leads = StoreError::Registry { artifact, namespace, repository, source: redirect };
    for (error, reason) in [(lost, Reason::RegistryLacksArtifact), (leads, Reason::RegistryRedirectRefused)] {
        assert_eq!((error.until(), error.of_place()), (Until::Wait(Wait::Somebody), Some(reason)));
    }
}

#[tokio::test]
async fn no_more_is_packed_at_once_than_memory_is_meant_for() {
    let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let (store, bundle) = (ArtifactStore::new(client), bundle("config"));
    let new = new(&bundle);
    let all = memory::tests::taken().await;
    let mut packed = Box::pin(store.pack("host", &new));
    assert!(futures::poll!(&mut packed).is_pending());
    tokio::task::yield_now().await;
    assert!(futures::poll!(&mut packed).is_pending(), "it has not begun");
    drop(all);
    assert_eq!(packed.await.unwrap().digest, bundle.digest());
}
