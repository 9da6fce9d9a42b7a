//! Attacks on the records from which stage order is decided.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use pilotage::api::{Artifact, Environment, Stage};
use serde_json::json;

use crate::attempt::refused;
use crate::scene::{orders, until_kept};
use crate::world::{World, phase};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_forges_the_proof_of_an_earlier_stage() {
    let world = World::new("records").await;
    orders(&world).await;
    assert_eq!(phase(&world.deploy("orders", "qa", "orders", "1.0.0").await), "Succeeded");
    let artifacts: Api<Artifact> = Api::namespaced(world.admin.clone(), &world.host);
    let artifact = artifacts.list(&ListParams::default()).await.unwrap().items.remove(0);
    let name = artifact.metadata.name.clone().unwrap();
    let alone = ["artifacts are written by the operator alone"];
    let mut forged = artifact.clone();
    forged.metadata = kube::api::ObjectMeta { name: Some("orders-2.0.0".into()), ..Default::default() };
    refused(46, "an Artifact is made", artifacts.create(&PostParams::default(), &forged), 403, &alone).await;
    let relabelled = Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}));
    refused(46, "an Artifact is changed", artifacts.patch(&name, &PatchParams::default(), &relabelled), 403, &alone).await;
    let proof = ["is deployed in environment qa, and stays as long as it is"];
    until_kept(&world, &artifacts, &name).await;
    refused(46, "an Artifact is deleted", artifacts.delete(&name, &DeleteParams::default()), 403, &proof).await;
    let status = ["this status is written by the operator alone"];
    let nothing = Patch::Merge(json!({"status": {"deployments": []}}));
    refused(
        46,
        "an Artifact's record of deployments is changed",
        artifacts.patch_status(&name, &PatchParams::default(), &nothing),
        403,
        &status,
    )
    .await;
    let environments: Api<Environment> = Api::namespaced(world.admin.clone(), &world.host);
    let empty = Patch::Merge(json!({"status": {"solutions": []}}));
    refused(46, "an Environment's record is changed", environments.patch_status("qa", &PatchParams::default(), &empty), 403, &status).await;
    let stages: Api<Stage> = Api::namespaced(world.admin.clone(), &world.host);
    let pinned = Patch::Merge(json!({"status": {"pinned": {"generation": 1, "environmentUID": "x", "environmentId": "y"}}}));
    refused(46, "a Stage's confirmed target is changed", stages.patch_status("qa", &PatchParams::default(), &pinned), 403, &status).await;
    let olga: Api<Stage> = Api::namespaced(world.olga().await, &world.host);
    refused(
        46,
        "its owner changes a Stage's status",
        olga.patch_status("qa", &PatchParams::default(), &pinned),
        403,
        &["olga", "cannot patch"],
    )
    .await;

    let bytes: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.host);
    let chunk = bytes.list(&ListParams::default().labels("pilotage.dev/artifact")).await.unwrap().items.remove(0).metadata.name.unwrap();
    let alone = ["hold the bytes of artifacts and are written by the operator alone"];
    refused(46, "an artifact's bytes are deleted", bytes.delete(&chunk, &DeleteParams::default()), 403, &alone).await;
    let unlabel = Patch::Merge(json!({"metadata": {"labels": {"pilotage.dev/artifact": null}}}));
    refused(46, "an artifact's bytes lose their label", bytes.patch(&chunk, &PatchParams::default(), &unlabel), 403, &alone).await;
    let made: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "made", "labels": {"pilotage.dev/artifact": name}}})).unwrap();
    refused(46, "bytes of an artifact are made", bytes.create(&PostParams::default(), &made), 403, &alone).await;
    let plain: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "plain"}})).unwrap();
    bytes.create(&PostParams::default(), &plain).await.unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"pilotage.dev/artifact": name}}}));
    refused(46, "a ConfigMap is made bytes of an artifact", bytes.patch("plain", &PatchParams::default(), &label), 403, &alone).await;
}
