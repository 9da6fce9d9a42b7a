//! Everything may be applied at once, in any order and repeatedly, as `GitOps` tools and people with a folder of files do.

use std::collections::BTreeMap;

use pilotage_harness::Kubectl;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// A world in which olga may apply everything: the pipeline, and also solutions and requests.
async fn world(name: &str) -> World {
    let world = World::bare(name).await;
    let olga = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "olga"}]);
    let role = |namespace: &str, role: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": format!("olga-{role}"), "namespace": namespace},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": olga,
        })
    };
    let deploy = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "deploy", "namespace": world.host},
        "rules": [{"apiGroups": ["pilotage.dev"], "resources": ["pipelines"], "verbs": ["deploy"]}],
    });
    let deploys = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "deploy", "namespace": world.host},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "deploy"}, "subjects": olga,
    });
    world.apply(&[role(&world.dev, "edit"), role(&world.host, "pilotage-user-shared"), deploy, deploys]).await;
    world
}

/// Everything: the pipeline, a solution, and requests for both stages.
fn everything(world: &World) -> Vec<Value> {
    let mut all = world.pipeline();
    all.push(world.solution("orders", "1.0.0"));
    all.push(world.config("orders", "orders", json!({"greeting": "hello"})));
    for stage in ["qa", "prod"] {
        let mut request = serde_json::to_value(world.request(stage, stage, "orders", "1.0.0")).unwrap();
        request["spec"]["notes"] = "as in Git".into();
        all.push(request);
    }
    all
}

/// The stored objects, without what is written all the time.
fn stored(kubectl: &Kubectl, list: &str) -> BTreeMap<String, Value> {
    let output = kubectl.run_with(&["get", "-f", "-", "-o", "json"], list).unwrap();
    assert!(output.ok, "{}", output.stderr);
    let found: Value = serde_json::from_str(&output.stdout).unwrap();
    let name = |o: &Value| format!("{} {}", o["kind"], o["metadata"]["name"]);
    found["items"].as_array().unwrap().iter().map(|o| (name(o), o["metadata"]["resourceVersion"].clone())).collect()
}

async fn applied_at_once_it_works_and_applied_again_it_changes_nothing(name: &str, order: impl Fn(&mut Vec<Value>)) {
    let world = world(name).await;
    let mut all = everything(&world);
    order(&mut all);
    for object in &mut all {
        world.write_as("olga", &[], object);
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string();
    let olga = world.olgas_kubectl();
    let run = |args: &[&str]| {
        let output = olga.run_with(args, &list).unwrap();
        assert!(output.ok, "kubectl {args:?}: {}{}", output.stdout, output.stderr);
        output.stdout
    };
    run(&["apply", "-f", "-"]);
    for stage in ["qa", "prod"] {
        let request = world.approved(stage, stage).await;
        assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
        olga.ok(&["wait", "--for=condition=Succeeded", "--timeout=1s", "-n", &world.host, "dr", stage]).unwrap();
    }

    let before = stored(&olga, &list);
    assert_eq!(before.len(), all.len());
    let said = run(&["apply", "-f", "-"]);
    assert!(said.lines().all(|line| line.ends_with(" unchanged")), "{said}");
    assert_eq!(stored(&olga, &list), before, "client-side");
    assert_eq!(run(&["diff", "-f", "-"]), "");

    // The first one records its field manager. The content is the same.
    run(&["apply", "--server-side", "-f", "-"]);
    let before = stored(&olga, &list);
    run(&["apply", "--server-side", "-f", "-"]);
    assert_eq!(stored(&olga, &list), before, "server-side");
    assert_eq!(run(&["diff", "--server-side", "-f", "-"]), "");
    let generations = olga.ok(&["get", "dr", "-n", &world.host, "-o", "jsonpath={.items[*].metadata.generation}"]).unwrap();
    assert_eq!(generations, "1 1", "the requests are what they were");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_in_the_order_of_dependence() {
    applied_at_once_it_works_and_applied_again_it_changes_nothing("forwards", |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_in_the_opposite_order() {
    applied_at_once_it_works_and_applied_again_it_changes_nothing("backwards", |all| all.reverse()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_mixed() {
    // The order is the same in every run. Dependent objects come before and after those that they depend on.
    let mixed = |all: &mut Vec<Value>| {
        let (even, odd): (Vec<_>, Vec<_>) = std::mem::take(all).into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
        all.extend(odd.into_iter().rev().chain(even).map(|(_, object)| object));
    };
    applied_at_once_it_works_and_applied_again_it_changes_nothing("mixed", mixed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_every_field() {
    let kubectl = World::bare("explain").await.danas_kubectl();
    let said = kubectl.ok(&["explain", "deploymentrequest.spec.scheduledTime"]).unwrap();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let means = "The earliest time to deploy (RFC 3339, without fractions of a second). Left out: at once. Can be changed until the approval is decided";
    assert!(said.contains(means), "{said}");
    for kind in ["environment", "pipeline", "stage", "deploymentrequest", "artifact", "solution"] {
        let said = kubectl.ok(&["explain", "--recursive", &format!("{kind}.spec")]).unwrap();
        assert!(said.contains("FIELDS:") && !said.contains("<empty>"), "{kind}: {said}");
    }
}
