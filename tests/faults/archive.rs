//! What retention removes is in the registry before it goes, and what it removes from the registry is nobody else's.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::artifact::BytesRemoved;
use pilotage::api::retention::RetentionStatus;
use pilotage::api::{Artifact, DeploymentRequest, Pipeline};
use pilotage_harness::Registry;
use serde_json::{Value, json};

use crate::fixture::{self, Fixture};
use crate::proxy::{Action, Call, Proxy};
use crate::registry_store::{FROM, Kept, noise, succeeded};
use crate::retention::{change, names};
use crate::world::{PATIENCE, World, outcome, phase};

/// Everything that ended is too old, and what goes is archived.
fn keep_nothing(archive: &str) -> Value {
    let limits = json!({"maxAge": "0s"});
    json!({"spec": {"retention": {"schedule": "0 0 1 1 *", "requests": limits, "artifacts": limits, "archive": archive}}})
}

fn begin(value: &str) -> Value {
    json!({"metadata": {"annotations": {"pilotage.dev/retain-now": value}}})
}

async fn pipeline(world: &World) -> Pipeline {
    Api::namespaced(world.admin.clone(), &world.host).get("standard").await.unwrap()
}

/// The status of retention when the run with that mark has ended.
async fn ran(world: &World, value: &str) -> RetentionStatus {
    let begun = Instant::now();
    loop {
        let status = pipeline(world).await.status.and_then(|s| s.retention).unwrap_or_default();
        if status.requested.as_deref() == Some(value) && status.running.is_none() && status.last_run.is_some() {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE * 10, "the run does not end: {status:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// A repository of the archive of a host.
struct Folder {
    place: PathBuf,
}

impl Folder {
    fn of(registry: &Registry, host: &str, kind: &str) -> Self {
        Self { place: registry.storage().join(format!("docker/registry/v2/repositories/kept/{host}/archive/{kind}/_manifests")) }
    }

    fn list(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.place.join(below)).into_iter().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// What has been archived, by tag.
    fn tags(&self) -> Vec<String> {
        self.list("tags")
    }

    /// How many manifests there are.
    fn manifests(&self) -> usize {
        self.list("revisions/sha256").len()
    }
}

/// What an auditor pulls with oras: the record, and the folder beside it.
fn pulled(registry: &Registry, world: &World, kind: &str, tag: &str) -> (Value, PathBuf) {
    let folder = world.plane.dir().join(format!("archived-{}-{tag}", world.host));
    registry.pull_oras(&format!("kept/{}/archive/{kind}:{tag}", world.host), &folder).unwrap();
    (record(&folder), folder)
}

fn record(folder: &Path) -> Value {
    let lines = std::fs::read_to_string(folder.join("record.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 1);
    serde_json::from_str(&lines).unwrap()
}

async fn request(world: &World, name: &str) -> DeploymentRequest {
    Api::namespaced(world.admin.clone(), &world.host).get(name).await.unwrap()
}

/// What became of the bytes of each artifact, by name.
async fn removed(world: &World) -> BTreeMap<String, Option<BytesRemoved>> {
    let all = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
    all.into_iter().map(|a| (a.name_any(), a.status.and_then(|s| s.bytes_removed))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_is_archived_first_and_stays_as_long_as_the_registry_is_away() {
    let mut kept = Kept::new("archived").await;
    for (version, bytes) in [("1.0.0", 100_000), ("1.1.0", 100), ("1.2.0", 100), ("1.3.0", 100)] {
        kept.develop(version, bytes).await;
        succeeded(&kept.world.deploy(&format!("to-{version}"), "qa", "orders", version).await);
    }
    succeeded(&kept.world.deploy("to-prod", "prod", "orders", "1.3.0").await);
    let asked = request(&kept.world, "to-1.0.0").await;
    let (large, small) = (kept.artifact("orders-1.0.0").await, kept.artifact("orders-1.1.0").await);
    assert!(large.spec.stored_in.is_some() && small.spec.stored_in.is_none());

    kept.registry.stop();
    change(&kept.world, keep_nothing("Registry")).await;
    change(&kept.world, begin("once")).await;
    let message = kept.world.until_condition::<Pipeline>("standard", "RetentionComplete", "RegistryUnreachable").await;
    for part in ["the run waits, and nothing more is removed", "can't be reached", "(since 20", "It goes on by itself"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert!(!message.contains("to-1"), "makers are told no names: {message}");
    assert_eq!(names::<DeploymentRequest>(&kept.world).await.len(), 5, "nothing went");
    assert!(removed(&kept.world).await.values().all(Option::is_none));

    kept.registry.resume().unwrap();
    let told = ran(&kept.world, "once").await.last_run.unwrap();
    let world = &kept.world;
    assert_eq!((told.removed.requests, told.removed.bytes, told.removed.artifacts, told.refused), (2, 2, 0, 0), "{told:?}");
    let (reason, _) = world.condition::<Pipeline>("standard", "RetentionComplete").await.unwrap();
    assert_eq!(reason, "RetentionRan");
    assert_eq!(names::<DeploymentRequest>(world).await, ["to-1.2.0", "to-1.3.0", "to-prod"]);

    // By host, name and uid somebody with nothing but oras finds the record, which is all that there was.
    let requests = Folder::of(&kept.registry, &world.host, "requests");
    assert_eq!((requests.tags().len(), requests.manifests()), (2, 2));
    let (found, _) = pulled(&kept.registry, world, "requests", &format!("to-1.0.0_{}", asked.uid().unwrap()));
    let mut before = serde_json::to_value(&asked).unwrap();
    before["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(found, before);
    let artifacts = Folder::of(&kept.registry, &world.host, "artifacts");
    assert_eq!((artifacts.tags().len(), artifacts.manifests()), (2, 2));
    for artifact in [&large, &small] {
        let (found, folder) = pulled(&kept.registry, world, "artifacts", &format!("{}_{}", artifact.name_any(), artifact.uid().unwrap()));
        assert_eq!(found["status"]["deployments"], serde_json::to_value(&artifact.status.as_ref().unwrap().deployments).unwrap());
        let bytes = std::fs::read_to_string(folder.join(artifact.name_any()).join("objects-001.yaml")).unwrap();
        assert!(bytes.contains(&artifact.spec.solution.version), "its objects are there too");
        let place = removed(world).await.remove(&artifact.name_any()).flatten().and_then(|removed| removed.archived_in).unwrap();
        assert!(place.starts_with(&format!("{}@sha256:", kept.registry.url(&format!("kept/{}/archive/artifacts", world.host)))), "{place}");
    }
    assert_eq!((kept.chunks(&large).await, kept.chunks(&small).await), (0, 0));

    // The record goes later, and is archived as it was then: with where its bytes are.
    change(world, json!({"spec": {"retention": {"records": {"maxAge": "0s"}}}})).await;
    change(world, begin("twice")).await;
    assert_eq!(ran(world, "twice").await.last_run.unwrap().removed.artifacts, 2);
    assert_eq!(removed(world).await.len(), 2);
    let (found, _) = pulled(&kept.registry, world, "artifacts", &format!("orders-1.0.0_{}_record", large.uid().unwrap()));
    assert_eq!(found["status"]["bytesRemoved"]["complete"], true);
    assert_eq!(artifacts.tags().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_registry_what_should_be_archived_stays_and_the_pipeline_says_why() {
    let mut kept = Kept::new("unarchived").await;
    kept.flags.clear();
    kept.start();
    let world = &kept.world;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        kept.develop(version, 100).await;
        succeeded(&world.deploy(&format!("to-{version}"), "qa", "orders", version).await);
    }
    succeeded(&world.deploy("to-prod", "prod", "orders", "1.2.0").await);
    change(world, keep_nothing("Registry")).await;
    change(world, begin("once")).await;
    let told = ran(world, "once").await.last_run.unwrap();
    assert_eq!((told.removed.requests, told.removed.bytes, told.refused), (0, 0, 2), "{told:?}");
    let (reason, message) = world.condition::<Pipeline>("standard", "RetentionComplete").await.unwrap();
    assert_eq!(reason, "ArtifactStoreNotConfigured");
    assert!(message.contains("starts it with --artifact-store") && !message.contains("to-1"), "{message}");
    assert_eq!(names::<DeploymentRequest>(world).await.len(), 4);
    change(world, keep_nothing("None")).await;
    change(world, begin("twice")).await;
    assert_eq!(ran(world, "twice").await.last_run.unwrap().removed.requests, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_removes_goes_from_the_registry_and_what_others_have_there_stays() {
    let kept = Kept::new("kept-removed").await;
    let world = &kept.world;
    // Another host has the same version of the same solution: the same blobs, in a repository of its own.
    let other = fixture::world(fixture::shared(), "kept-beside").await;
    let beside = kept.operate(&other);
    other.configure().await;
    let data = json!({"greeting": "1.0.0", "bytes": noise("1.0.0", 100_000)});
    other.apply(&[other.solution("orders", "1.0.0"), other.config("orders", "orders", data)]).await;
    succeeded(&other.deploy("to-qa", "qa", "orders", "1.0.0").await);
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        kept.develop(version, 100_000).await;
        succeeded(&world.deploy(&format!("to-{version}"), "qa", "orders", version).await);
    }
    succeeded(&world.deploy("to-prod", "prod", "orders", "1.2.0").await);
    let stored_in = |artifact: Artifact| artifact.spec.stored_in.unwrap().split_once('@').map(|(_, digest)| digest.to_owned()).unwrap();
    let gone = stored_in(kept.artifact("orders-1.0.0").await);
    let theirs = stored_in(Api::<Artifact>::namespaced(other.admin.clone(), &other.host).get("orders-1.0.0").await.unwrap());
    let layers = |digest: &str| {
        let manifest: Value = serde_json::from_slice(&std::fs::read(kept.registry.blob(digest)).unwrap()).unwrap();
        manifest["layers"].clone()
    };
    assert_eq!(layers(&gone), layers(&theirs), "the two hosts have the same blobs");

    let pull = |host: &str, which: &str| {
        let folder = world.plane.dir().join(format!("left-{host}-{}", which.replace([':', '@'], "-")));
        kept.registry.pull_flux(&format!("kept/{host}/orders{which}"), &folder)
    };
    pull(&world.host, &format!("@{gone}")).unwrap();
    change(world, keep_nothing("None")).await;
    change(world, begin("once")).await;
    let told = ran(world, "once").await.last_run.unwrap();
    assert_eq!((told.removed.requests, told.removed.bytes, told.refused), (1, 1, 0), "{told:?}");
    for which in [format!("@{gone}"), ":1.0.0".to_owned()] {
        let error = pull(&world.host, &which).unwrap_err().to_string();
        assert!(error.contains("not found") || error.contains("MANIFEST_UNKNOWN") || error.contains("unknown"), "{which}: {error}");
    }
    for (host, which) in [(&other.host, ":1.0.0"), (&other.host, &format!("@{theirs}")), (&world.host, ":1.1.0"), (&world.host, ":1.2.0")] {
        pull(host, which).unwrap();
    }
    // What is left is deployed as before.
    succeeded(&other.deploy("to-prod", "prod", "orders", "1.0.0").await);
    assert!(Folder::of(&kept.registry, &world.host, "requests").tags().is_empty(), "nothing was to be archived");
    drop(beside);
}

/// A registry that takes everything and has nothing.
fn swallows() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let _ = stream.read_exact(&mut vec![0; length.unwrap_or_default()]);
            let code = match head.split(' ').next() {
                Some("post") => "202 X\r\nlocation: /v2/taken/1",
                Some("put") => "201 X",
                _ => "404 X",
            };
            let _ = write!(stream, "HTTP/1.1 {code}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_that_the_registry_took_and_does_not_give_back() {
    let mut kept = Kept::new("swallowed").await;
    kept.flags[0].1 = format!("oci://{}/kept", swallows());
    kept.start();
    let world = &kept.world;
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        kept.develop(version, 100).await;
        succeeded(&world.deploy(&format!("to-{version}"), "qa", "orders", version).await);
    }
    change(world, keep_nothing("Registry")).await;
    change(world, begin("once")).await;
    let message = world.until_condition::<Pipeline>("standard", "RetentionComplete", "RegistryUnreachable").await;
    assert!(message.contains("took what is archived, and does not give it back under its tag"), "{message}");
    assert_eq!(names::<DeploymentRequest>(world).await.len(), 3);
}

/// Kills the operator before each write, and after it when it is made again. What is made again however often it succeeds is let through
/// then: that an upload begins, and that a manifest is deleted.
fn dying() -> impl FnMut(&Call) -> Action + Send + 'static {
    let (mut writes, mut begun, mut deleted) = (0, 0, 0);
    move |call| {
        if call.write.is_none() {
            return Action::Forward;
        }
        if call.line.starts_with("POST ") && call.line.contains("/blobs/uploads") {
            begun += 1;
            return if begun == 1 { Action::CrashAfter } else { Action::Forward };
        }
        if call.line.starts_with("DELETE /v2/") {
            deleted += 1;
            return match deleted {
                1 => Action::CrashBefore,
                2 => Action::CrashAfter,
                _ => Action::Forward,
            };
        }
        writes += 1;
        if writes % 2 == 1 { Action::CrashBefore } else { Action::CrashAfter }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_dies_around_each_write_to_the_archive_and_each_deletion_archives_each_thing_once() {
    let world = fixture::world(fixture::shared(), "archiving").await;
    let registry = Registry::start(&world.plane).unwrap();
    let between = std::sync::Arc::new(Proxy::before_registry(&registry.host()).await);
    let flags = vec![
        ("PILOTAGE_ARTIFACT_STORE", format!("oci://{}/kept", between.host())),
        ("PILOTAGE_ARTIFACT_STORE_FROM", FROM.to_string()),
        ("PILOTAGE_ARTIFACT_STORE_PLAIN_HTTP", "true".to_owned()),
    ];
    let mut fixture = Fixture::start_with(&world, |_| {}, flags).await;
    fixture.also_behind(between.clone());
    fixture
        .tending(async {
            world.configure().await;
            for (version, bytes) in [("1.0.0", 100_000), ("1.1.0", 100), ("1.2.0", 100), ("1.3.0", 100)] {
                let data = json!({"version": version, "bytes": noise(version, bytes)});
                world.apply(&[world.solution("orders", version), world.config("orders", "orders", data)]).await;
                let end = world.deploy(&format!("to-{version}"), "qa", "orders", version).await;
                assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
            }
            let end = world.deploy("to-prod", "prod", "orders", "1.3.0").await;
            assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
            change(&world, keep_nothing("Registry")).await;
        })
        .await;
    fixture.settle(&world).await;
    let stored = between.writes().len();
    fixture.proxy.follow(dying());
    between.follow(dying());
    let run = fixture
        .tending(async {
            change(&world, begin("now")).await;
            ran(&world, "now").await.last_run.unwrap()
        })
        .await;
    fixture.settle(&world).await;
    assert_eq!((run.removed.requests, run.removed.bytes, run.removed.artifacts, run.refused), (2, 2, 0, 0));
    // Two requests with a record and a manifest, two versions with a layer more; the one configuration; the version that the registry kept.
    let died: Vec<String> = between.writes()[stored..].iter().map(|write| write.line.clone()).collect();
    assert!(died.iter().filter(|line| line.starts_with("PUT ")).count() >= 2 * (2 * 2 + 2 * 3 + 1), "{died:#?}");
    assert!(died.iter().filter(|line| line.starts_with("DELETE ")).count() >= 3, "{died:#?}");
    assert!(fixture.restarts() >= 2 * (2 + 3 + 2 + 2 * 2 + 2 * 3 + 2), "it died {} times only", fixture.restarts());

    for kind in ["requests", "artifacts"] {
        let folder = Folder::of(&registry, &world.host, kind);
        assert_eq!((folder.tags().len(), folder.manifests()), (2, 2), "{kind}: each is there once: {:?}", folder.tags());
        for tag in folder.tags() {
            let (found, _) = pulled(&registry, &world, kind, &tag);
            assert!(tag.ends_with(found["metadata"]["uid"].as_str().unwrap()), "{tag}");
        }
    }
    assert_eq!(names::<DeploymentRequest>(&world).await, ["to-1.2.0", "to-1.3.0", "to-prod"]);
    let bytes: Vec<Option<bool>> = removed(&world).await.into_values().map(|r| r.map(|r| r.complete && r.archived_in.is_some())).collect();
    assert_eq!(bytes, [Some(true), Some(true), None, None]);
    let chunks = ListParams::default().labels("pilotage.dev/artifact");
    assert_eq!(Api::<ConfigMap>::namespaced(world.admin.clone(), &world.host).list(&chunks).await.unwrap().items.len(), 2);
}

/// A rejected request, and a run that is just deleting it, as it was decided on.
async fn being_deleted(name: &str) -> (World, Fixture, Api<DeploymentRequest>) {
    let world = fixture::world(fixture::shared(), name).await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture
        .tending(async {
            world.configure().await;
            world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"a": "b"}))]).await;
            world.ask(&world.request("old", "qa", "orders", "1.0.0")).await;
            world.until_request("old", |r| phase(r) == "AwaitingApproval").await;
            world.decide("qa", "old", "Rejected").await.unwrap();
            world.end("old").await;
            change(&world, json!({"spec": {"retention": {"schedule": "0 0 1 1 *", "requests": {"maxAge": "0s"}}}})).await;
        })
        .await;
    fixture.settle(&world).await;
    fixture.proxy.follow(|call| {
        let is_deletion = call.line.starts_with("DELETE ") && call.line.contains("/deploymentrequests/");
        if is_deletion { Action::Hold } else { Action::Forward }
    });
    change(&world, begin("once")).await;
    world.until("the operator deletes it", async || deletions(&fixture).first().map(|_| ())).await;
    let requests = Api::namespaced(world.admin.clone(), &world.host);
    (world, fixture, requests)
}

/// What the API server answered to deletions.
fn deletions(fixture: &Fixture) -> Vec<Option<u16>> {
    fixture.proxy.writes().into_iter().filter(|w| w.line.starts_with("DELETE ")).map(|w| w.code).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_since_it_was_decided_on_is_decided_on_again() {
    let (world, fixture, requests) = being_deleted("overtaken").await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"audit": "2027"}}}));
    requests.patch("old", &PatchParams::default(), &label).await.unwrap();
    fixture.proxy.release();
    let run = ran(&world, "once").await.last_run.unwrap();
    assert_eq!((deletions(&fixture), run.removed.requests, run.refused), (vec![Some(409), Some(200)], 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_of_what_was_decided_on_stays() {
    let (world, fixture, requests) = being_deleted("namesake").await;
    requests.delete("old", &DeleteParams::default()).await.unwrap();
    world.until("it is gone", async || requests.get_opt("old").await.unwrap().is_none().then_some(())).await;
    world.ask(&world.request("old", "qa", "orders", "1.0.0")).await;
    let uid = requests.get("old").await.unwrap().uid();
    fixture.proxy.release();
    ran(&world, "once").await;
    assert_eq!((deletions(&fixture), requests.get("old").await.unwrap().uid()), (vec![Some(409)], uid));
}
