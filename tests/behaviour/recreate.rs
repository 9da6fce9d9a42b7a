//! Changes to immutable fields are reported before anybody is asked. If the maker wants it, the object is deleted and created anew, and
//! this is part of what is approved.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// The objects of a version. Each version has its own values in immutable fields.
fn objects(world: &World, version: &str, headless: bool, annotations: &Value) -> Vec<Value> {
    let metadata = |name: &str| json!({"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}, "annotations": annotations});
    let pod = json!({"containers": [{"name": "app", "image": format!("registry.example.test/app:{version}")}]});
    let labels = json!({"app": "orders", "generation": version});
    let mut once = pod.clone();
    once["restartPolicy"] = "Never".into();
    let mut service = json!({"selector": {"app": "orders"}, "ports": [{"port": 80}]});
    if headless {
        service["clusterIP"] = "None".into();
    }
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata("frozen"), "immutable": true, "data": {"version": version}}),
        json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata("migrate"), "spec": {"template": {"spec": once}}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata("orders"), "spec": {
            "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}}),
        json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata("store"), "spec": {
            "serviceName": format!("store-{version}"), "selector": {"matchLabels": {"app": "store"}},
            "template": {"metadata": {"labels": {"app": "store"}}, "spec": pod}}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("orders"), "spec": service}),
    ]
}

/// Replaces the version in development.
async fn develop(world: &World, version: &str, objects: &[Value]) {
    let of_orders = "app.kubernetes.io/part-of=orders";
    world
        .plane
        .kubectl()
        .ok(&["delete", "configmaps,jobs,deployments,statefulsets,services", "-n", &world.dev, "-l", of_orders, "--wait=true"])
        .unwrap();
    world.apply(objects).await;
    world.apply(&[world.solution("orders", version)]).await;
}

fn uids(world: &World) -> BTreeMap<String, String> {
    let found = world
        .plane
        .kubectl()
        .json(&["get", "configmaps,jobs,deployments,statefulsets,services", "-n", &world.qa, "-l", "app.kubernetes.io/part-of=orders"])
        .unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = |o: &Value| format!("{} {}", text(&o["kind"]), text(&o["metadata"]["name"]));
    found["items"].as_array().unwrap().iter().map(|o| (name(o), text(&o["metadata"]["uid"]))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_changed_is_refused_or_created_anew_as_its_maker_says() {
    let world = World::new("recreate").await;
    develop(&world, "1.0.0", &objects(&world, "1", false, &json!({}))).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let before = uids(&world);
    assert_eq!(before.len(), 5, "{before:?}");

    develop(&world, "1.1.0", &objects(&world, "2", true, &json!({}))).await;
    world.ask(&world.request("refused", "qa", "orders", "1.1.0")).await;
    let message = world.fails("refused", "DryRunRefused").await;
    let run = world.end("refused").await.status.unwrap().run;
    assert!(run.gates.approval.is_none(), "nobody is asked to approve what can't be done");
    let mut results: Vec<(String, String)> =
        run.plan.unwrap().results.into_iter().map(|r| (format!("{} {}", r.kind, r.name), r.reason)).collect();
    results.sort_unstable();
    let immutable: Vec<(String, String)> = before.keys().map(|name| (name.clone(), "ImmutableField".to_owned())).collect();
    assert_eq!(results, immutable, "{message}");
    assert!(message.contains("annotate it with pilotage.dev/recreate=true in development and raise the version"), "{message}");
    assert_eq!(uids(&world), before);

    develop(&world, "1.2.0", &objects(&world, "2", true, &json!({"pilotage.dev/recreate": "true"}))).await;
    let anew = world.deploy("anew", "qa", "orders", "1.2.0").await;
    assert_eq!(phase(&anew), "Succeeded", "{:?}", outcome(&anew));
    let plan = anew.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.create, plan.update, plan.delete, plan.recreate), (0, 0, 0, 5), "{:?}", plan.objects);
    let planned: Vec<String> = plan.objects.iter().map(|o| format!("{:?}", o.action)).collect();
    assert_eq!(planned, ["Recreate"; 5]);
    let after = uids(&world);
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert!(after.iter().all(|(name, uid)| before[name] != *uid), "{before:?} {after:?}");

    // What can be changed is changed, whatever the annotation says.
    let mut next = objects(&world, "2", true, &json!({"pilotage.dev/recreate": "true"}));
    next[2]["spec"]["replicas"] = 2.into();
    develop(&world, "1.3.0", &next).await;
    let changed = world.deploy("changed", "qa", "orders", "1.3.0").await;
    assert_eq!(phase(&changed), "Succeeded", "{:?}", outcome(&changed));
    let plan = changed.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.update, plan.recreate, plan.unchanged), (1, 0, 4), "{:?}", plan.objects);
    assert_eq!(uids(&world), after);
}
