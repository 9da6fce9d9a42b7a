//! A registry for large artifacts that fails: it is down, hangs, lost something, or belongs to somebody else now.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::Api;
use pilotage::api::Artifact;
use serde_json::{Value, json};

use crate::registry_store::{Kept, noise, succeeded};
use crate::world::{World, ended, phase};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_waited_for_by_what_needs_it_and_by_nothing_else() {
    let mut kept = Kept::new("kept-down").await;
    kept.develop("1.4.0", 100_000).await;
    kept.develop_as("web", "1.0.0", 100).await;
    kept.registry.stop();
    kept.world.ask(&kept.world.request("to-qa", "qa", "orders", "1.4.0")).await;
    let message = kept.world.waits_for("to-qa", "RegistryUnreachable").await;
    for part in [
        &format!("artifact orders-1.4.0 in host {} belongs in {} (the operator's --artifact-store)", kept.world.host, kept.url("orders")),
        &format!("registry {} can't be reached", kept.registry.host()),
        "(since 20",
        "start it, or let the operator's pods reach it",
        "Waits until",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    succeeded(&kept.world.deploy("small", "qa", "web", "1.0.0").await);
    kept.registry.resume().unwrap();
    succeeded(&kept.world.approved("to-qa", "qa").await);

    // The same when it is read.
    kept.registry.stop();
    kept.world.ask(&kept.world.request("to-prod", "prod", "orders", "1.4.0")).await;
    kept.world.waits_for("to-prod", "RegistryUnreachable").await;
    kept.registry.resume().unwrap();
    succeeded(&kept.world.approved("to-prod", "prod").await);
    assert_eq!(kept.greeting(&kept.world.prod, "orders").await.as_deref(), Some("1.4.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_holds_up_nothing_that_does_not_need_it() {
    let mut kept = Kept::new("kept-hangs").await;
    let hangs = TcpListener::bind("127.0.0.1:0").unwrap();
    kept.flags[0].1 = format!("oci://{}/kept", hangs.local_addr().unwrap());
    kept.flags.push(("PILOTAGE_CONCURRENCY", "8".to_owned()));
    kept.start();
    let world = &kept.world;
    let large: Vec<String> = (0..12).map(|n| format!("large-{n}")).collect();
    for name in &large {
        kept.develop_as(name, "1.0.0", 60_000).await;
    }
    for name in ["before", "beside"] {
        kept.develop_as(name, "1.0.0", 100).await;
    }
    let deployed = async |name: &str| {
        let asked = Instant::now();
        succeeded(&world.deploy(name, "qa", name, "1.0.0").await);
        asked.elapsed()
    };
    let before = deployed("before").await;
    for name in &large {
        world.ask(&world.request(name, "qa", name, "1.0.0")).await;
    }
    let asked = tokio::task::spawn_blocking(move || {
        let asked = hangs.accept().unwrap();
        (hangs, asked)
    });
    let held = asked.await.unwrap();
    // A request that had to wait for them would take ten seconds longer, which is the time that a registry has to answer.
    let beside = deployed("beside").await;
    assert!(beside < before + Duration::from_secs(7), "{beside:?}, and {before:?} without the others");
    let message = world.waits_for("large-0", "RegistryUnreachable").await;
    assert!(message.contains("did not answer within 10 seconds"), "{message}");
    drop(held);
}

/// A registry that has nothing and accepts nothing. Returns when something was offered to it.
fn full() -> (String, Arc<Mutex<Vec<Instant>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let offers: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let offered = offers.clone();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                head.push(byte[0]);
            }
            let code = if head.starts_with(b"POST ") {
                offered.lock().unwrap().push(Instant::now());
                507
            } else {
                404
            };
            let _ = write!(stream, "HTTP/1.1 {code} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (host, offers)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_is_exported_again_ever_more_rarely() {
    let mut kept = Kept::new("kept-full").await;
    let (host, offers) = full();
    kept.flags[0].1 = format!("oci://{host}/kept");
    kept.start();
    let world = &kept.world;
    kept.develop("1.4.0", 100_000).await;
    kept.develop_as("web", "1.0.0", 100).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.4.0")).await;
    let message = world.waits_for("to-qa", "RegistryFull").await;
    let url = format!("oci://{host}/kept/{}/orders", world.host);
    for part in [&format!("artifact orders-1.4.0 in host {} belongs in {url}", world.host), "its quota is used up: raise it", "Waits until"]
    {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    // Small artifacts need no registry.
    succeeded(&world.deploy("small", "qa", "web", "1.0.0").await);
    world.until("it was offered three times", async || (offers.lock().unwrap().len() >= 3).then_some(())).await;
    let offers = offers.lock().unwrap().clone();
    let pauses: Vec<u64> = offers.windows(2).map(|two| (two[1] - two[0]).as_secs()).collect();
    assert!(pauses[0] >= 4 && pauses[1] >= 8, "a request looks every 2 seconds: {pauses:?}");
    assert_eq!(world.waits_for("to-qa", "RegistryFull").await, message, "it says the same all the time");
}

/// The record of orders 1.4.0, if it exists.
async fn record(kept: &Kept) -> Option<Artifact> {
    Api::namespaced(kept.world.admin.clone(), &kept.world.host).get_opt("orders-1.4.0").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_sent_has_no_record_and_is_sent_by_the_next_operator() {
    let mut kept = Kept::new("kept-crash").await;
    kept.develop("1.4.0", 100_000).await;
    kept.registry.stop();
    kept.world.ask(&kept.world.request("to-qa", "qa", "orders", "1.4.0")).await;
    kept.world.waits_for("to-qa", "RegistryUnreachable").await;
    assert!(record(&kept).await.is_none(), "nobody is shown what is not stored");
    drop(kept.operator.take());
    kept.registry.resume().unwrap();
    assert!(kept.registry.pull_flux(&reference(&kept.world), &kept.world.plane.dir().join("none")).is_err(), "nothing is there yet");
    kept.start();
    succeeded(&kept.world.approved("to-qa", "qa").await);
    assert_eq!(kept.greeting(&kept.world.qa, "orders").await.as_deref(), Some("1.4.0"));
    // The tag is written last. If an operator was killed before that, it is written later.
    let tag = repository(&kept).join("_manifests/tags/1.4.0");
    std::fs::remove_dir_all(&tag).unwrap();
    kept.allow_redeployments().await;
    succeeded(&kept.world.deploy("again", "qa", "orders", "1.4.0").await);
    let revision = kept.registry.pull_flux(&reference(&kept.world), &kept.world.plane.dir().join("tagged")).unwrap();
    assert_eq!(revision, format!("1.4.0@{}", kept.artifact("orders-1.4.0").await.spec.digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_waits_for_the_registry_is_not_stored_with_what_the_next_one_has() {
    let mut kept = Kept::new("kept-raised").await;
    kept.develop("1.4.0", 100_000).await;
    kept.registry.stop();
    kept.world.ask(&kept.world.request("to-qa", "qa", "orders", "1.4.0")).await;
    kept.world.waits_for("to-qa", "RegistryUnreachable").await;
    kept.develop("1.5.0", 100_000).await;
    kept.registry.resume().unwrap();
    let message = kept.world.fails("to-qa", "VersionDiffers").await;
    assert!(message.contains("is at version 1.5.0, the request is for 1.4.0, which was never exported"), "{message}");
    assert!(record(&kept).await.is_none());
    succeeded(&kept.world.deploy("next", "qa", "orders", "1.5.0").await);
}

/// The folder of a registry's repository.
fn repository(kept: &Kept) -> PathBuf {
    kept.registry.storage().join("docker/registry/v2/repositories/kept").join(&kept.world.host).join("orders")
}

fn reference(world: &World) -> String {
    format!("kept/{}/orders:1.4.0", world.host)
}

/// The digest of an artifact's layer.
fn layer_of(kept: &Kept, artifact: &Artifact) -> String {
    let (_, manifest) = artifact.spec.stored_in.as_ref().unwrap().split_once('@').unwrap();
    let read: Value = serde_json::from_slice(&std::fs::read(kept.registry.blob(manifest)).unwrap()).unwrap();
    read["layers"][0]["digest"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_registry_lost_is_waited_for_and_sent_again_where_it_is_the_same() {
    let kept = Kept::new("kept-lost").await;
    let world = &kept.world;
    kept.develop("1.4.0", 100_000).await;
    succeeded(&world.deploy("to-qa", "qa", "orders", "1.4.0").await);
    kept.allow_redeployments().await;
    let artifact = kept.artifact("orders-1.4.0").await;
    let layer = layer_of(&kept, &artifact);
    let lose = || {
        // As if somebody cleaned up: the repository and everything in it is deleted.
        std::fs::remove_dir_all(repository(&kept)).unwrap();
        std::fs::remove_dir_all(kept.registry.blob(&layer).parent().unwrap()).unwrap();
    };
    lose();
    world.ask(&world.request("to-prod", "prod", "orders", "1.4.0")).await;
    let lacks = format!(
        "artifact orders-1.4.0 in host {} is kept in {} (the operator's --artifact-store), and the registry does not have all of {}",
        world.host,
        kept.url("orders"),
        artifact.spec.stored_in.as_ref().unwrap()
    );
    let message = world.waits_for("to-prod", "RegistryLacksArtifact").await;
    for part in [&lacks, "Put it back there", "a request to the first stage sends it again", "raise the solution's version", "Waits until"]
    {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    succeeded(&world.deploy("again", "qa", "orders", "1.4.0").await);
    // It continues by itself.
    succeeded(&world.approved("to-prod", "prod").await);

    // Nor does it end anything if another registry answers for a moment.
    let away = repository(&kept).with_extension("away");
    std::fs::rename(repository(&kept), &away).unwrap();
    world.ask(&world.request("for-a-moment", "prod", "orders", "1.4.0")).await;
    world.waits_for("for-a-moment", "RegistryLacksArtifact").await;
    std::fs::rename(&away, repository(&kept)).unwrap();
    succeeded(&world.approved("for-a-moment", "prod").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_approve_is_not_replaced_when_the_registry_lost_it() {
    let kept = Kept::new("kept-same").await;
    let world = &kept.world;
    kept.develop("1.4.0", 100_000).await;
    world.ask(&world.request("first", "qa", "orders", "1.4.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let approved = kept.artifact("orders-1.4.0").await;
    std::fs::remove_dir_all(repository(&kept)).unwrap();

    // It is replaced neither by what development now has under the same version, nor by the next version.
    world.apply(&[world.config("orders", "orders", json!({"greeting": "other", "bytes": noise("other", 100_000)}))]).await;
    world.ask(&world.request("other", "qa", "orders", "1.4.0")).await;
    let message = world.waits_for("other", "RegistryLacksArtifact").await;
    assert!(message.contains("where what it came from is still at that version and the same"), "{message}");
    kept.develop("1.5.0", 100_000).await;
    world.ask(&world.request("raised", "qa", "orders", "1.4.0")).await;
    world.waits_for("raised", "RegistryLacksArtifact").await;
    let still = kept.artifact("orders-1.4.0").await;
    assert_eq!((still.metadata.uid, still.spec), (approved.metadata.uid, approved.spec));

    kept.develop("1.4.0", 100_000).await;
    world.until_request("other", |r| phase(r) == "AwaitingApproval").await;
    succeeded(&world.approved("first", "qa").await);
    assert_eq!(kept.greeting(&world.qa, "orders").await.as_deref(), Some("1.4.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_without_the_flag_says_what_it_lacks_and_reads_all_else() {
    let mut kept = Kept::new("kept-unflagged").await;
    kept.develop("1.4.0", 100_000).await;
    kept.develop_as("web", "1.0.0", 100).await;
    succeeded(&kept.world.deploy("large", "qa", "orders", "1.4.0").await);
    succeeded(&kept.world.deploy("small", "qa", "web", "1.0.0").await);
    let flags = std::mem::take(&mut kept.flags);
    kept.start();
    succeeded(&kept.world.deploy("small-prod", "prod", "web", "1.0.0").await);
    kept.world.ask(&kept.world.request("large-prod", "prod", "orders", "1.4.0")).await;
    let message = kept.world.waits_for("large-prod", "ArtifactStoreNotConfigured").await;
    for part in [
        &format!("artifact orders-1.4.0 in host {} is kept in {}", kept.world.host, kept.url("orders")),
        "this operator keeps everything in the cluster",
        &format!("whoever runs it starts it with --artifact-store {} again", kept.registry.url("kept")),
        "Waits until",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    kept.flags = flags;
    kept.start();
    let done = kept.world.approved("large-prod", "prod").await;
    assert!(ended(&done));
    succeeded(&done);
}

#[test]
fn flags_that_do_not_go_together_are_refused_at_the_start() {
    for (flags, words) in [
        (&["--artifact-store", "oci://r.test"][..], "--artifact-store is oci://HOST[:PORT]/PATH"),
        (&["--artifact-store", "oci://user:canary@r.test/x"], "no tag, user, password or query"),
        (&["--artifact-store-from", "1"], "name it with --artifact-store"),
        (
            &["--artifact-store", "oci://r.test/x", "--artifact-store-plain-http", "--artifact-store-credentials", "/x"],
            "credentials are never sent over http",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pilotage")).args(flags).env_clear().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(words) && !said.contains("canary"), "{flags:?}: {said}");
    }
}
