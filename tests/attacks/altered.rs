//! Altered bytes of an artifact are not deployed. The test has a control plane of its own, because admission has to be disabled.

use std::path::Path;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use pilotage::api::Stage;
use pilotage::artifact::bundle::digest as digest_of;
use pilotage_harness::install::install;
use pilotage_harness::{ControlPlane, Options, dev};
use serde_json::json;

use crate::attempt::told;
use crate::scene::restores;
use crate::world::{World, phase};

/// The policy that keeps the bytes.
const POLICY: &str = "pilotage-artifact-bytes";

#[tokio::test(flavor = "multi_thread")]
async fn altered_bytes_are_found_out_before_anything_is_written() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_pilotage"));
    let operator = dev::operate(&plane, program).unwrap();
    let world = World::on(plane, "altered").await.with_pipeline().await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");

    // While everything is in force, not even a cluster administrator can alter them.
    let chunks = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.host);
    let mut chunk = chunks.list(&ListParams::default().labels("pilotage.dev/artifact")).await.unwrap().items.pop().unwrap();
    let name = chunk.metadata.name.clone().unwrap();
    let refused = chunks.delete(&name, &DeleteParams::default()).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("ValidatingAdmissionPolicy '{POLICY}'")), "{refused}");

    // Without the policy nothing deploys, and stages say so.
    let bindings = Api::<ValidatingAdmissionPolicyBinding>::all(world.admin.clone());
    bindings.delete(POLICY, &DeleteParams::default()).await.unwrap();
    let message = world.until_condition::<Stage>("prod", "Ready", "PoliciesMissing").await;
    assert!(message.contains("not in force, so that nothing is deployed") && message.contains(restores(&world)), "{message}");
    world.ask(&world.request("to-prod", "prod", "orders", "1.0.0")).await;
    let message = world.waits_for("to-prod", "StageNotReady").await;
    assert!(message.contains("PoliciesMissing"), "{message}");

    // Somebody alters the bytes in a way that they can still be read.
    world.until("the policy is out of force", async || chunks.delete(&name, &DeleteParams::default()).await.ok().map(|_| ())).await;
    chunk.metadata.resource_version = None;
    chunk.metadata.uid = None;
    let payload = &mut chunk.binary_data.as_mut().unwrap().get_mut("payload").unwrap().0;
    let text = String::from_utf8(zstd::stream::decode_all(payload.as_slice()).unwrap()).unwrap();
    let altered = text.replace("hello", "jello");
    assert_ne!(altered, text);
    *payload = zstd::stream::encode_all(altered.as_bytes(), 3).unwrap();
    chunks.create(&PostParams::default(), &chunk).await.unwrap();

    // Everything is in force again, and the request continues.
    install(&world.plane, Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    world.ready::<Stage>("prod").await;
    let message = world.fails("to-prod", "ArtifactAltered").await;
    let digest =
        world.plane.kubectl().ok(&["get", "artifact", "-n", &world.host, "orders-1.0.0", "-o", "jsonpath={.spec.digest}"]).unwrap();
    let (host, actual) = (&world.host, digest_of(altered.as_bytes()));
    let start = format!(
        "artifact orders-1.0.0 in host {host} was altered: its record has digest {digest}, its bytes in ConfigMaps {name} to {name} have {actual}."
    );
    let words = [start.as_str(), "Nothing is deployed from it. Find out who changed it, and raise the solution's version"];
    told(43, "the bytes of an artifact, altered while the policies were away", &message, &words);
    assert!(world.operator_writes(&world.prod, false).is_empty());
    assert!(world.operator_writes(&world.prod, true).is_empty(), "not even a dry run");
    operator.stop().unwrap();
}
