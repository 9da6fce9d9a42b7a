//! The policies themselves are removed, on a control plane of the test's own.

use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Pipeline, Stage};
use pilotage_harness::install::built_for_older;
use pilotage_harness::{ControlPlane, Options, dev};
use serde_json::json;

use crate::attempt::ignored;
use crate::scene::{at_the_gate, delegate, patch_status, restores, until_may};
use crate::world::{World, outcome, phase};

/// Waits until stage `qa` says that the policies are missing.
async fn until_missing(world: &World) {
    let message = world
        .until("the stage misses the policies", async || {
            world.condition::<Stage>("qa", "Ready").await.filter(|(reason, _)| reason == "PoliciesMissing").map(|(_, message)| message)
        })
        .await;
    assert!(message.contains("nothing is deployed") && message.contains(restores(world)), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_policies_nothing_deploys() {
    let (plane, operator) = tokio::task::spawn_blocking(|| {
        let plane = ControlPlane::start(&Options::default()).unwrap();
        let operator = dev::operate(&plane, std::path::Path::new(env!("CARGO_BIN_EXE_pilotage"))).unwrap();
        (plane, operator)
    })
    .await
    .unwrap();
    let world = World::on(plane, "policies").await;
    let olga = world.olga().await;
    for object in world.pipeline() {
        world.apply_as(&olga, &object).await.unwrap();
    }
    for stage in ["qa", "prod"] {
        world.ready::<Stage>(stage).await;
    }
    world.ready::<Pipeline>("standard").await;
    until_may(&world, "dana", &["makers"], "deploy", "pipelines.pilotage.dev/standard").await;
    at_the_gate(&world, "orders").await;

    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(world.admin.clone());
    bindings.delete("pilotage-request-status", &DeleteParams::default()).await.unwrap();
    until_missing(&world).await;
    // An approval has no effect as long as anybody could have given it.
    let hash = world.until_request("orders", |_| true).await.status.unwrap().run.plan.unwrap().hash;
    let decision = json!({"status": {"approval": {"decision": "Approved", "by": delegate(&world, "qa"), "planHash": hash}}});
    patch_status(&world, world.bot("qa").await, "orders", decision).await.unwrap();
    let held = world.until_request("orders", |r: &DeploymentRequest| outcome(r).1.contains("PoliciesMissing")).await;
    let arrived = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get_opt("orders").await.unwrap();
    let harmless = arrived.is_none() && held.status.as_ref().unwrap().run.start_time.is_none();
    ignored(51, "a deployment with a policy removed", harmless, &outcome(&held));

    reinstall(&world);
    world.ready::<Stage>("qa").await;
    let end = world.end("orders").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));

    // A policy that exists but checks nothing counts as missing.
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(world.admin.clone());
    let never = Patch::Merge(json!({"spec": {"matchConditions": [{"name": "never", "expression": "false"}]}}));
    policies.patch("pilotage-request-status", &PatchParams::default(), &never).await.unwrap();
    until_missing(&world).await;
    reinstall(&world);
    world.ready::<Stage>("qa").await;

    tokio::task::spawn_blocking(|| operator.stop()).await.unwrap().unwrap();
}

/// An administrator does this after reading what the stage says. What somebody added is removed.
fn reinstall(world: &World) {
    let (kubectl, root) = (world.plane.kubectl(), std::path::Path::new(env!("CARGO_MANIFEST_DIR")));
    if world.plane.lends_tokens() {
        let mut policies = built_for_older(&kubectl, root).unwrap();
        policies.retain(|object| object["kind"].as_str().unwrap().starts_with("ValidatingAdmissionPolicy"));
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": policies}).to_string();
        let replaced = kubectl.run_with(&["replace", "--force", "-f", "-"], &list).unwrap();
        assert!(replaced.ok, "{}", replaced.stderr);
        return;
    }
    kubectl.ok(&["replace", "--force", "-f", root.join("deploy/admission").to_str().unwrap()]).unwrap();
}
