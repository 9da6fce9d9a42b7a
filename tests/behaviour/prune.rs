//! What a version replaces is deleted when the version is healthy, not before. If it never becomes healthy, nothing is deleted.

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use pilotage::api::Stage;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// A version in development whose pods read a `ConfigMap` that no other version has.
async fn develop(world: &World, version: &str, map: &str, pods: &Value) {
    let of_orders = ListParams::default().labels("app.kubernetes.io/part-of=orders");
    let maps: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.dev);
    maps.delete_collection(&DeleteParams::default(), &of_orders).await.unwrap();
    let mut spec =
        json!({"containers": [{"name": "web", "image": "registry.example.test/web:1", "envFrom": [{"configMapRef": {"name": map}}]}]});
    spec.as_object_mut().unwrap().extend(pods.as_object().unwrap().clone());
    let labels = json!({"app": "web"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    });
    world.apply(&[world.solution("orders", version), world.config("orders", map, json!({"a": "1"})), deployment]).await;
}

/// Stage `qa` with this time-out, and what happens after it.
async fn stage(world: &World, deployment: Value) {
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    stages.patch("qa", &PatchParams::default(), &Patch::Merge(json!({"spec": {"deployment": deployment}}))).await.unwrap();
    world.ready::<Stage>("qa").await;
}

/// The `ConfigMaps` of the solution in QA.
async fn maps(world: &World) -> Vec<String> {
    let of_orders = ListParams::default().labels("app.kubernetes.io/part-of=orders");
    let all = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).list(&of_orders).await.unwrap();
    all.into_iter().filter_map(|map| map.metadata.name).collect()
}

/// A world in which 1.0.0 runs in QA, and reads `conf-a`.
async fn deployed(name: &str) -> World {
    let world = World::new(name).await;
    develop(&world, "1.0.0", "conf-a", &json!({})).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    world
}

/// Asks for a version, approves it, and waits until it is applied.
async fn applied(world: &World, name: &str, version: &str) {
    world.ask(&world.request(name, "qa", "orders", version)).await;
    let waiting = world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
    assert_eq!(waiting.status.unwrap().run.plan.unwrap().delete, 1, "it is approved that it goes");
    world.decide("qa", name, "Approved").await.unwrap();
    world.until_request(name, |r| outcome(r).0 == "WaitingForHealth").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pods_still_use_stays_until_the_new_version_is_healthy() {
    let world = deployed("prune-late").await;
    stage(&world, json!({"timeout": "2m"})).await;
    develop(&world, "2.0.0", "conf-b", &json!({"nodeSelector": {(world.qa.clone()): "ready"}})).await;
    applied(&world, "second", "2.0.0").await;
    assert_eq!(maps(&world).await, ["conf-a", "conf-b"], "both versions have pods");
    assert!(world.operator_writes(&world.qa, false).iter().all(|call| call.verb != "delete"));

    let nodes: Api<Node> = Api::all(world.admin.clone());
    let node = nodes.list(&ListParams::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    let mut labels = serde_json::Map::new();
    labels.insert(world.qa.clone(), json!("ready"));
    nodes.patch(&node, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": labels}}))).await.unwrap();
    let second = world.end("second").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    assert_eq!(maps(&world).await, ["conf-b"]);
    labels.insert(world.qa.clone(), Value::Null);
    nodes.patch(&node, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"labels": labels}}))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_new_version_fails_nothing_goes_and_the_next_one_that_does_not_takes_all_away() {
    let world = deployed("prune-never").await;
    stage(&world, json!({"timeout": "3s", "onFailure": "Keep"})).await;
    develop(&world, "2.0.0", "conf-b", &json!({"nodeSelector": {"there": "is-none"}})).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    assert_eq!(outcome(&second).0, "DeploymentTimedOut", "{:?}", outcome(&second));
    assert_eq!(maps(&world).await, ["conf-a", "conf-b"]);

    stage(&world, json!({"timeout": "2m", "onFailure": "Keep"})).await;
    develop(&world, "3.0.0", "conf-c", &json!({})).await;
    let third = world.deploy("third", "qa", "orders", "3.0.0").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
    assert_eq!(third.status.unwrap().run.plan.unwrap().delete, 2);
    assert_eq!(maps(&world).await, ["conf-c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_finds_all_that_it_had_and_what_failed_goes_when_it_is_healthy() {
    let world = deployed("prune-back").await;
    stage(&world, json!({"timeout": "5s", "onFailure": "Rollback"})).await;
    develop(&world, "2.0.0", "conf-b", &json!({"nodeSelector": {"there": "is-none"}})).await;
    let before = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("conf-a").await.unwrap();
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    assert_eq!(outcome(&second).0, "RolledBack", "{:?}", outcome(&second));
    assert_eq!(maps(&world).await, ["conf-a"]);
    let after = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("conf-a").await.unwrap();
    assert_eq!(after.metadata.uid, before.metadata.uid, "it never went");
    let deleted: Vec<String> =
        world.operator_writes(&world.qa, false).into_iter().filter(|call| call.verb == "delete").map(|call| call.name).collect();
    assert_eq!(deleted, ["conf-b"]);
}
