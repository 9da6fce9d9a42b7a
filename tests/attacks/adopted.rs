//! Attacks on what a target's owner has there: a maker uses the name of somebody else's object, so that it is merged or deleted.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::Stage;
use pilotage::api::plan::{Plan, PlannedAction};
use pilotage::deploy::plan::applyset;
use serde_json::{Value, json};

use crate::attempt::{ignored, told};
use crate::scene::{patch_status, with_a_step};
use crate::world::{World, outcome, phase};

/// An object in QA, by its owner.
async fn owned(world: &World, mut object: Value) {
    object["metadata"]["namespace"] = json!(world.qa);
    world.apply(&[object]).await;
}

/// A version of a solution in development, with these objects, given by kind and name.
async fn ships(world: &World, solution: &str, version: &str, objects: Vec<Value>) {
    world.apply(&[world.solution(solution, version)]).await;
    for mut object in objects {
        object["metadata"]["namespace"] = json!(world.dev);
        object["metadata"]["labels"]["app.kubernetes.io/part-of"] = json!(solution);
        world.apply(&[object]).await;
    }
}

fn config(name: &str, data: Value) -> Value {
    let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    map["data"] = data;
    map
}

fn deployment(name: &str, pod: &Value) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    })
}

fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
    })
}

/// The objects of QA that the owner made, by kind/name, without their versions, so that they can be compared.
fn seen(world: &World, objects: &[&str]) -> Vec<Value> {
    let kubectl = world.plane.kubectl();
    let get = |object: &&str| {
        let mut found = kubectl.json(&["get", object, "-n", &world.qa]).unwrap_or_default();
        found.as_object_mut().and_then(|found| found.remove("status"));
        found["metadata"]["resourceVersion"].take();
        found["metadata"]["managedFields"].take();
        found["metadata"]["annotations"].take();
        found["metadata"]["generation"].take();
        found
    };
    objects.iter().map(get).collect()
}

fn label(world: &World, object: &str, label: &str) {
    world.plane.kubectl().ok(&["label", "--overwrite", object, "-n", &world.qa, label]).unwrap();
}

/// Asks for a version in QA. Returns the message of the refusal.
async fn refused(world: &World, name: &str, solution: &str, version: &str) -> String {
    world.ask(&world.request(name, "qa", solution, version)).await;
    world.fails(name, "DryRunRefused").await
}

/// The plan of a request that waits for its approval.
async fn planned(world: &World, name: &str, solution: &str, version: &str) -> Plan {
    world.ask(&world.request(name, "qa", solution, version)).await;
    let waiting = world.until_request(name, |r| phase(r) == "AwaitingApproval" || crate::world::ended(r)).await;
    assert_eq!(phase(&waiting), "AwaitingApproval", "{:?}", outcome(&waiting));
    waiting.status.unwrap().run.plan.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_solution_did_not_put_there_stays_as_it_is() {
    let world = World::new("foreign").await;
    let vault = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault"}, "stringData": {"key": "canary"}});
    owned(&world, vault).await;
    owned(&world, json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "root"}})).await;
    let pod = json!({
        "serviceAccountName": "root", "containers": [{"name": "main", "image": "registry.example.test/backup:1"}],
        "volumes": [{"name": "vault", "secret": {"secretName": "vault"}}],
    });
    owned(&world, deployment("backup", &pod)).await;
    owned(&world, config("settings", json!({"of": "the owner"}))).await;
    owned(&world, policy("default-deny")).await;
    let all = ["deployment/backup", "configmap/settings", "networkpolicy/default-deny"];
    let before = seen(&world, &all);

    let sidecar = json!({"containers": [{"name": "sidecar", "image": "evil.example.test/thief:1",
        "volumeMounts": [{"name": "vault", "mountPath": "/stolen"}]}]});
    let mut thief = deployment("backup", &sidecar);
    // In development there is a volume of that name. The target's owner has another one.
    thief["spec"]["template"]["spec"]["volumes"] = json!([{"name": "vault", "emptyDir": {}}]);
    for (name, object, kind, plural) in [
        ("settings", config("settings", json!({"mine": "too"})), "ConfigMap settings", "configmaps settings"),
        ("backup", thief, "Deployment backup", "deployments.apps backup"),
        ("denies", policy("default-deny"), "NetworkPolicy default-deny", "networkpolicies.networking.k8s.io default-deny"),
    ] {
        ships(&world, name, "1.0.0", vec![object]).await;
        let message = refused(&world, name, name, "1.0.0").await;
        let how = format!("kubectl label {plural} -n {} pilotage.dev/adopt={name}", world.qa);
        let words = [kind, "ExistsAlready", "not put there by this solution", "stays as it is", &how, "nothing was written"];
        told(160, &format!("a version has a {kind}, as the target's owner does"), &message, &words);
    }

    // Marks for other solutions or of another kind, and the maker's own mark, in development.
    for (number, mark) in ["pilotage.dev/adopt=backup", "pilotage.dev/connection=true", "pilotage.dev/adopted=settings"].iter().enumerate()
    {
        label(&world, "configmap/settings", mark);
        let version = format!("1.0.{}", number + 1);
        let mut map = config("settings", json!({"mine": version}));
        map["metadata"]["labels"] = json!({"pilotage.dev/adopt": "settings"});
        ships(&world, "settings", &version, vec![map]).await;
        let message = refused(&world, &format!("marked-{number}"), "settings", &version).await;
        let key = mark.split('=').next().unwrap();
        told(
            161,
            &format!("the object has the label {mark}, and the maker's has the mark"),
            &message,
            &["ExistsAlready", "pilotage.dev/adopt=settings"],
        );
        label(&world, "configmap/settings", &format!("{key}-"));
    }

    // Even its owner can't hand over what a controller makes.
    let uid = before[0]["metadata"]["uid"].as_str().unwrap();
    let mut made = config("made", json!({"of": "a controller"}));
    made["metadata"]["labels"] = json!({"pilotage.dev/adopt": "made", "applyset.kubernetes.io/part-of": applyset::id("made", &world.qa)});
    made["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "backup", "uid": uid, "controller": true}]);
    owned(&world, made).await;
    ships(&world, "made", "1.0.0", vec![config("made", json!({"mine": "too"}))]).await;
    let message = refused(&world, "made", "made", "1.0.0").await;
    told(162, "a version has what a controller makes", &message, &["ConfigMap made", "MadeByController", "made by Deployment backup"]);

    let writes = world.operator_writes(&world.qa, false);
    ignored(160, "all of it", writes.is_empty() && seen(&world, &all) == before, &writes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_appears_after_the_plan_is_adopted_by_no_approval() {
    let world = World::new("appears").await;
    with_a_step(&world).await;
    let completed = json!({"status": {"preDeploymentStep": {"decision": "Completed"}}});
    for (name, mark, reason) in [("unmarked", None, "DryRunRefused"), ("marked", Some("pilotage.dev/adopt=marked"), "PlanChanged")] {
        ships(&world, name, "1.0.0", vec![config(name, json!({"mine": "1"}))]).await;
        let plan = planned(&world, name, name, "1.0.0").await;
        assert_eq!((plan.create, plan.adopt), (1, 0), "it is not there yet: {:?}", plan.objects);
        world.decide("qa", name, "Approved").await.unwrap();
        world.until_request(name, |r| phase(r) == "AwaitingPreDeploymentStep").await;
        owned(&world, config(name, json!({"of": "the owner"}))).await;
        if let Some(mark) = mark {
            label(&world, &format!("configmap/{name}"), mark);
        }
        patch_status(&world, world.eve().await, name, completed.clone()).await.unwrap();
        let message = world.fails(name, reason).await;
        told(163, &format!("an object appears when all is approved ({name})"), &message, &["nothing was written"]);
        let data = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get(name).await.unwrap().data;
        ignored(163, "the object", serde_json::to_value(&data).unwrap() == json!({"of": "the owner"}), &data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_adopted_is_never_deleted() {
    let world = World::new("never").await;
    owned(&world, config("shared", json!({"theirs": "1"}))).await;
    let mut fixed = config("fixed", json!({"theirs": "1"}));
    fixed["immutable"] = json!(true);
    owned(&world, fixed).await;
    let all = ["configmap/shared", "configmap/fixed"];
    label(&world, "configmap/shared", "pilotage.dev/adopt=orders");
    label(&world, "configmap/fixed", "pilotage.dev/adopt=orders");
    let before = seen(&world, &all);
    ships(&world, "orders", "1.0.0", vec![config("orders", json!({})), config("shared", json!({"mine": "1"}))]).await;
    let plan = planned(&world, "first", "orders", "1.0.0").await;
    let adopts: Vec<_> = plan.objects.iter().filter(|o| o.action == PlannedAction::Adopts).map(|o| o.name.as_str()).collect();
    assert_eq!((plan.adopt, adopts), (1, vec!["shared"]), "{:?}", plan.objects);
    assert!(plan.results.iter().any(|r| r.reason == "Adopts" && r.message.contains("ConfigMap shared")), "{:?}", plan.results);
    let first = world.approved("first", "qa").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let maps: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.qa);
    let data = async |name: &str| serde_json::to_value(maps.get(name).await.unwrap().data).unwrap();
    assert_eq!(data("shared").await, json!({"theirs": "1", "mine": "1"}));

    // The mark has had its effect. The owner decides whether it stays.
    label(&world, "configmap/shared", "pilotage.dev/adopt-");
    world.plane.kubectl().ok(&["delete", "configmap/shared", "-n", &world.dev]).unwrap();
    ships(&world, "orders", "1.1.0", vec![]).await;
    let plan = planned(&world, "second", "orders", "1.1.0").await;
    let second = world.approved("second", "qa").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let left = maps.get_opt("shared").await.unwrap();
    let is_there = left.as_ref().is_some_and(|left| left.uid().as_deref() == before[0]["metadata"]["uid"].as_str());
    ignored(164, "the next version does not have what the one before adopted", plan.delete == 0 && is_there, &(&plan.objects, &left));
    assert_eq!((plan.release, data("shared").await), (1, json!({"theirs": "1"})), "{:?}", plan.objects);
    let labels = left.unwrap().metadata.labels.unwrap_or_default();
    assert!(!labels.keys().any(|key| key.contains("applyset") || key.contains("pilotage.dev/adopted")), "{labels:?}");

    let mut anew = config("fixed", json!({"mine": "1"}));
    anew["metadata"]["annotations"] = json!({"pilotage.dev/recreate": "true"});
    ships(&world, "orders", "1.2.0", vec![anew]).await;
    let message = refused(&world, "third", "orders", "1.2.0").await;
    told(
        164,
        "what can't be changed is to be created anew",
        &message,
        &["ConfigMap fixed", "ImmutableField", "neither deleted nor created anew"],
    );
    ignored(164, "the object", seen(&world, &all[1..]) == before[1..], &seen(&world, &all[1..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_deletes_what_the_run_created_and_nothing_else() {
    let world = World::new("back").await;
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    let back = json!({"spec": {"deployment": {"timeout": "6s", "onFailure": "Rollback"}}});
    stages.patch("qa", &PatchParams::default(), &Patch::Merge(back)).await.unwrap();
    world.ready::<Stage>("qa").await;
    ships(&world, "orders", "1.0.0", vec![config("orders", json!({"v": "1.0.0"}))]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));

    owned(&world, config("owners", json!({"precious": "yes"}))).await;
    owned(&world, policy("default-deny")).await;
    for object in ["configmap/owners", "networkpolicy/default-deny"] {
        label(&world, object, "pilotage.dev/adopt=orders");
    }
    // And an object that existed before and has all labels of the solution.
    owned(&world, config("handed", json!({"precious": "yes"}))).await;
    label(&world, "configmap/handed", &format!("applyset.kubernetes.io/part-of={}", applyset::id("orders", &world.qa)));
    let all = ["configmap/owners", "networkpolicy/default-deny", "configmap/handed"];
    let before = seen(&world, &all);

    let stuck = json!({"nodeSelector": {"no": "where"}, "containers": [{"name": "c", "image": "registry.example.test/broken:1"}]});
    let objects = vec![
        config("orders", json!({"v": "1.1.0"})),
        config("owners", json!({"mine": "1"})),
        config("handed", json!({"mine": "1"})),
        policy("default-deny"),
        config("fresh", json!({"mine": "1"})),
        deployment("broken", &stuck),
    ];
    ships(&world, "orders", "1.1.0", objects).await;
    let plan = planned(&world, "second", "orders", "1.1.0").await;
    assert_eq!((plan.create, plan.update, plan.adopt, plan.delete), (2, 2, 2, 0), "{:?}", plan.objects);
    world.decide("qa", "second", "Approved").await.unwrap();
    let message = world.fails("second", "RolledBack").await;
    assert!(message.contains("orders 1.0.0 was put back"), "{message}");

    let after = seen(&world, &all);
    let uids = |all: &[Value]| all.iter().map(|o| o["metadata"]["uid"].clone()).collect::<Vec<_>>();
    ignored(165, "a version that fails brings what the target's owner has", uids(&after[..2]) == uids(&before[..2]), &after);
    assert_eq!(after[..2], before[..2], "it is as its owner made it");
    ignored(166, "a version that fails brings what was the solution's before", uids(&after[2..]) == uids(&before[2..]), &after);
    let maps: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.qa);
    assert_eq!(maps.get_opt("fresh").await.unwrap().map(|m| m.name_any()), None, "what the run created is gone");
    assert!(seen(&world, &["deployment/broken"])[0]["kind"].is_null(), "all of it");
    assert_eq!(maps.get("orders").await.unwrap().data.unwrap()["v"], "1.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_hosts_solution_of_that_name_put_there_is_not_taken_over() {
    let world = World::new("namesake").await;
    ships(&world, "orders", "1.0.0", vec![config("orders", json!({"v": "1.0.0"}))]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    // This is the state if the namespace belonged to another host before, and its solution of that name still has objects there.
    let kubectl = world.plane.kubectl();
    let from = format!("pilotage.dev/deployed-from={}", world.host);
    let parent = kubectl.json(&["get", "configmap", "pilotage-orders", "-n", &world.qa]).unwrap();
    assert_eq!(parent["metadata"]["annotations"]["pilotage.dev/deployed-from"], world.host.as_str());
    kubectl.ok(&["annotate", "--overwrite", "configmap/pilotage-orders", "-n", &world.qa, "pilotage.dev/deployed-from=others"]).unwrap();
    let before = seen(&world, &["configmap/orders"]);
    ships(&world, "orders", "1.1.0", vec![config("more", json!({}))]).await;
    kubectl.ok(&["delete", "configmap/orders", "-n", &world.dev]).unwrap();
    let message = refused(&world, "second", "orders", "1.1.0").await;
    let words = ["ConfigMap pilotage-orders", "ParentTaken", "a solution of that name of host others", "nothing was written"];
    told(167, "a solution of another host has the name", &message, &words);
    ignored(167, "its objects", seen(&world, &["configmap/orders"]) == before, &before);
    // The owner of the namespace may say that it is the same solution.
    kubectl.ok(&["annotate", "--overwrite", "configmap/pilotage-orders", "-n", &world.qa, &from]).unwrap();
    assert_eq!(planned(&world, "third", "orders", "1.1.0").await.delete, 1);
}
