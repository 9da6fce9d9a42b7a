//! The room for artifacts is limited. A request that needs more waits, and says what could be deleted.

use std::fmt::Write as _;
use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use pilotage::api::DeploymentRequest;
use pilotage_harness::{ControlPlane, Options, dev};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::world::{World, ended, phase};

/// Text with this many bytes. Compression halves it.
fn noise(seed: u32, bytes: usize) -> String {
    let blocks = (0u32..).flat_map(|block| Sha256::digest([seed.to_le_bytes(), block.to_le_bytes()].concat()).to_vec());
    blocks.take(bytes / 2).fold(String::with_capacity(bytes), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_there_is_no_room_for_waits_until_what_was_never_deployed_is_deleted() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let told = [("PILOTAGE_STORED_BYTES_PER_ENVIRONMENT", "64Ki")];
    let operator = dev::operate_with(&plane, Path::new(env!("CARGO_BIN_EXE_pilotage")), &told).unwrap();
    let world = World::on(plane, "room").await.with_pipeline().await;
    let bytes: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.host);
    let stored = async || bytes.list(&ListParams::default().labels("pilotage.dev/artifact")).await.unwrap().items.len();
    for (number, name) in ["one", "two"].into_iter().enumerate() {
        let data = json!({"data": noise(u32::try_from(number).unwrap(), 40 * 1024)});
        world.apply(&[world.solution(name, "1.0.0"), world.config(name, name, data)]).await;
    }
    for name in ["one", "two"] {
        world.ask(&world.request(name, "qa", name, "1.0.0")).await;
        world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
    }
    assert_eq!(stored().await, 2);
    world.apply(&[world.solution("three", "1.0.0"), world.config("three", "three", json!({"data": noise(3, 60 * 1024)}))]).await;
    world.ask(&world.request("three", "qa", "three", "1.0.0")).await;
    let message = world.waits_for("three", "StorageFull").await;
    for part in ["development environment dev in host", "may take 64 KiB", "--stored-bytes-per-environment", "in use by a request"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(stored().await, 2, "nothing more is stored");

    // Its requester gives one up. Then it can be deleted, as the message says.
    let requests: Api<DeploymentRequest> = Api::namespaced(world.dana().await, &world.host);
    requests.delete("one", &DeleteParams::default()).await.unwrap();
    let said = world.until_request("three", |r| {
        r.status.iter().flat_map(|s| &s.run.conditions).any(|c| c.message.contains("kubectl delete artifacts"))
    });
    let said = said.await.status.unwrap().run.conditions.into_iter().find(|c| c.type_ == "Succeeded").unwrap().message;
    let command = said.split_once("kubectl ").unwrap().1.split(". ").next().unwrap();
    assert_eq!(command, format!("delete artifacts -n {} one-1.0.0", world.host));
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["create", "rolebinding", "ada", "--clusterrole=pilotage-administrator", "--user=ada", "-n", &world.host]).unwrap();
    let ada = world.plane.kubectl_as(&world.plane.user_kubeconfig("ada", &[]).unwrap());
    let words: Vec<&str> = command.split(' ').collect();
    world.until("the administrator may", async || ada.ok(&words).ok()).await;
    let three = world.until_request("three", |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    assert_eq!(phase(&three), "AwaitingApproval");
    operator.stop().unwrap();
}
