//! Attacks by leftovers: a right of an earlier version that a new one does not name, and values that plans show.

use serde_json::{Value, json};

use crate::attempt::ignored;
use crate::world::{World, outcome, phase};

/// A version of `app` in development: a Deployment with or without an account, and a `ConfigMap`.
async fn develop(world: &World, version: &str, account: Option<&str>, data: Value) {
    let labels = json!({"app.kubernetes.io/part-of": "app"});
    let mut pod = json!({"containers": [{"name": "app", "image": format!("registry.example.test/app:{version}")}]});
    if let Some(account) = account {
        pod["serviceAccountName"] = account.into();
    }
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app", "namespace": world.dev, "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": "app"}}, "template": {"metadata": {"labels": {"app": "app"}}, "spec": pod}}});
    world.plane.kubectl().ok(&["delete", "deployment", "app", "-n", &world.dev, "--ignore-not-found", "--wait=true"]).unwrap();
    world.apply(&[deployment, world.config("app", "app", data), world.solution("app", version)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_does_not_name_any_more_it_does_not_keep_and_values_give_nothing_away() {
    let world = World::new("left-over").await;
    for namespace in [&world.dev, &world.qa] {
        let offered = json!({"pilotage.dev/connection": "true"});
        world
            .apply(&[json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "powerful", "namespace": namespace, "labels": offered}})])
            .await;
    }
    develop(&world, "1.0.0", Some("powerful"), json!({"password": "before", "motd": "hello"})).await;
    let first = world.deploy("first", "qa", "app", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));

    // It is no longer offered. The next version does not name it, so nothing checks whether it is offered.
    world.plane.kubectl().ok(&["label", "serviceaccount", "powerful", "-n", &world.qa, "pilotage.dev/connection-"]).unwrap();
    develop(&world, "2.0.0", None, json!({"password": "canary", "motd": "hello\u{1b}[2Jcanary"})).await;
    let second = world.deploy("second", "qa", "app", "2.0.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let runs = world.plane.kubectl().json(&["get", "deployment", "app", "-n", &world.qa]).unwrap();
    let pod = &runs["spec"]["template"]["spec"];
    let has_none = pod.get("serviceAccountName").is_none() && pod.get("serviceAccount").is_none();
    ignored(185, "a version keeps the account of a former one by not naming it", has_none, pod);

    let plan = second.status.unwrap().run.plan.unwrap();
    let changes: Vec<_> = plan.objects.iter().flat_map(|o| &o.changes).collect();
    let of = |field: &str| changes.iter().find(|c| c.field == field).unwrap_or_else(|| panic!("{changes:?}"));
    let password = of("/data/password");
    let is_hidden = [&password.old, &password.new].iter().all(|value| value.as_deref() == Some("(hidden)"));
    ignored(186, "a plan is read for a password that a version changes", is_hidden, password);
    let is_plain = of("/data/motd").new.as_ref().is_some_and(|text| text.contains("canary") && !text.contains('\u{1b}'));
    ignored(187, "a value in a plan clears the approver's terminal", is_plain, of("/data/motd"));
}
