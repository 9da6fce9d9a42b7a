//! Objects that a target already has: the first deployment to it names each of them and says how its owner can mark it. Marked objects are
//! adopted.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, ResourceExt};
use pilotage::api::plan::PlannedAction;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// The application as somebody created it by hand, in a namespace.
fn application(namespace: &str, greeting: &str) -> Vec<Value> {
    let labels = json!({"app": "orders"});
    let metadata = |name: &str| json!({"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "orders"}});
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("orders"), "data": {(greeting): greeting}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("orders"), "spec": {"selector": labels, "ports": [{"port": 80}]}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("orders"), "spec": {
            "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels},
            "spec": {"containers": [{"name": "orders", "image": "registry.example.test/orders:1"}]}}}}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_named_with_how_to_mark_it_and_then_adopted() {
    let world = World::new("by-hand").await;
    world.apply(&application(&world.qa, "byhand")).await;
    world.apply(&application(&world.dev, "shipped")).await;
    world.apply(&[world.solution("orders", "1.0.0")]).await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    let message = world.fails("first", "DryRunRefused").await;
    let results = world.end("first").await.status.unwrap().run.plan.unwrap().results;
    let mut reasons: Vec<(&str, &str)> = results.iter().map(|r| (r.kind.as_str(), r.reason.as_str())).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, [("ConfigMap", "ExistsAlready"), ("Deployment", "ExistsAlready"), ("Service", "ExistsAlready")], "{message}");

    // Exactly what is printed is done.
    for result in &results {
        let (_, command) = result.message.split_once("with: kubectl ").unwrap();
        world.plane.kubectl().ok(&command.split(' ').collect::<Vec<_>>()).unwrap();
    }
    world.ask(&world.request("again", "qa", "orders", "1.0.0")).await;
    let waiting = world.until_request("again", |r| phase(r) == "AwaitingApproval").await;
    let plan = waiting.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.create, plan.update, plan.adopt, plan.unchanged), (0, 0, 3, 0), "{:?}", plan.objects);
    assert!(plan.objects.iter().all(|o| o.action == PlannedAction::Adopts));
    let again = world.approved("again", "qa").await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
    let map = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("orders").await.unwrap();
    assert_eq!(serde_json::to_value(&map.data).unwrap(), json!({"byhand": "byhand", "shipped": "shipped"}), "what its owner set stays");
    assert_eq!(map.labels().get("pilotage.dev/adopted").map(String::as_str), Some("orders"));

    // From then on it is written only if it changes.
    let before = world.operator_writes(&world.qa, false).len();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    let next = world.deploy("next", "qa", "orders", "1.1.0").await;
    assert_eq!(phase(&next), "Succeeded", "{:?}", outcome(&next));
    let plan = next.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.adopt, plan.update, plan.unchanged), (0, 0, 3), "{:?}", plan.objects);
    assert_eq!(world.operator_writes(&world.qa, false).len(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offered_account_that_a_version_brings_is_adopted_and_stays_when_it_is_not_brought_any_more() {
    let world = World::new("account").await;
    let account = |namespace: &str, labels: Value| {
        json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "runner", "namespace": namespace, "labels": labels}})
    };
    world.apply(&[account(&world.qa, json!({"pilotage.dev/connection": "true"}))]).await;
    let brought = account(&world.dev, json!({"app.kubernetes.io/part-of": "orders"}));
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({})), brought]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    assert_eq!(first.status.unwrap().run.plan.unwrap().adopt, 1);
    let kubectl = world.plane.kubectl();
    let of = |path: &str| {
        kubectl.json(&["get", "serviceaccount", "runner", "-n", &world.qa]).unwrap().pointer(path).cloned().unwrap_or_default()
    };
    let uid = of("/metadata/uid");

    kubectl.ok(&["delete", "serviceaccount", "runner", "-n", &world.dev]).unwrap();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    let second = world.deploy("second", "qa", "orders", "1.1.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let plan = second.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.delete, plan.release), (0, 1), "{:?}", plan.objects);
    assert_eq!((of("/metadata/uid"), of("/metadata/labels")), (uid, json!({"pilotage.dev/connection": "true"})));
    // Nor is it looked for any more.
    world.apply(&[world.solution("orders", "1.2.0")]).await;
    let third = world.deploy("third", "qa", "orders", "1.2.0").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
    let parent = kubectl.json(&["get", "configmap", "pilotage-orders", "-n", &world.qa]).unwrap();
    assert_eq!(parent["metadata"]["annotations"]["applyset.kubernetes.io/contains-group-kinds"], "ConfigMap");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_from_its_owner_by_force_stays_as_it_is_where_it_would_not_be_valid_without() {
    let world = World::new("held").await;
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"] = json!({"timeout": "2m", "force": true});
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<pilotage::api::Stage>("qa").await;
    // Its image becomes that of the solution. Nothing of the other container does.
    let mut theirs = application(&world.qa, "theirs");
    for object in &mut theirs {
        object["metadata"]["labels"] = json!({"pilotage.dev/adopt": "orders"});
    }
    let mut ours = application(&world.dev, "ours");
    ours[2]["spec"]["template"]["spec"]["containers"][0]["image"] = json!("registry.example.test/orders:2");
    world.apply(&[theirs.remove(2), theirs.remove(0)]).await;
    world.apply(&[ours.remove(2), ours.remove(0), world.config("orders", "more", json!({})), world.solution("orders", "1.0.0")]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));

    let kubectl = world.plane.kubectl();
    kubectl.ok(&["delete", "configmap/orders", "deployment/orders", "-n", &world.dev]).unwrap();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    let second = world.deploy("second", "qa", "orders", "1.1.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let plan = second.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.delete, plan.release), (0, 1), "{:?}", plan.objects);
    let stays = plan.results.iter().find(|r| r.reason == "StaysAdopted").unwrap_or_else(|| panic!("{:?}", plan.results));
    assert!(stays.message.contains("Deployment orders. It stays as it is. Its owner takes it back with: kubectl label"), "{stays:?}");
    let image = kubectl.json(&["get", "deployment", "orders", "-n", &world.qa]).unwrap();
    assert_eq!(image["spec"]["template"]["spec"]["containers"][0]["image"], "registry.example.test/orders:2");
}
