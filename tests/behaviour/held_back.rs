//! An object that does what its spec asks for and currently does nothing counts as current, and this is told. If an object is held back and
//! must come, the message says what holds it back.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use pilotage::api::Stage;
use serde_json::{Value, json};

use crate::scoped::{berth, berths, define};
use crate::world::{World, ended, outcome, phase, role};

fn metadata(world: &World, name: &str) -> Value {
    json!({"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}})
}

fn once() -> Value {
    json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "registry.example.test/app:1"}]}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_waits_for_its_first_consumer_is_current_and_says_so() {
    let world = World::new("first-consumer").await;
    let class = format!("{}-lazy", world.qa);
    let mut job = once();
    job["template"]["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "reports"}}]);
    world
        .apply(&[
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": class},
                "provisioner": "example.com/lazy", "volumeBindingMode": "WaitForFirstConsumer"}),
            world.solution("orders", "1.0.0"),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata(&world, "reports"), "spec": {
                "storageClassName": class, "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata(&world, "report"), "spec": {
                "schedule": "0 3 1 1 *", "jobTemplate": {"spec": job}}}),
        ])
        .await;
    let end = world.deploy("to-qa", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let said =
        format!("PersistentVolumeClaim reports waits for its first consumer: its class {class} makes a volume for it when a pod uses it");
    assert!(outcome(&end).1.contains(&said), "{:?}", outcome(&end));
    let claims = Api::<PersistentVolumeClaim>::namespaced(world.admin.clone(), &world.qa);
    assert_eq!(claims.get("reports").await.unwrap().status.unwrap().phase.as_deref(), Some("Pending"));
    world.plane.kubectl().ok(&["delete", "storageclass", &class]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_says_so_before_and_after() {
    let world = World::new("paused").await;
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"]["timeout"] = "4s".into();
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
    let mut suspended = once();
    suspended["suspend"] = true.into();
    world
        .apply(&[
            world.solution("orders", "1.0.0"),
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata(&world, "migrate"), "spec": suspended}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": metadata(&world, "report"), "spec": {
                "schedule": "0 3 1 1 *", "suspend": true, "jobTemplate": {"spec": once()}}}),
        ])
        .await;
    let end = world.deploy("suspended", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let told = |request: &pilotage::api::DeploymentRequest| {
        let results = request.status.clone().unwrap().run.plan.unwrap().results;
        results.into_iter().filter(|r| r.reason == "Paused").map(|r| format!("{} {}", r.kind, r.name)).collect::<Vec<_>>()
    };
    assert_eq!(told(&end), ["CronJob report", "Job migrate"]);
    let said = outcome(&end).1;
    assert!(said.contains("Job migrate is suspended (spec.suspend: true)") && said.contains("CronJob report is suspended"), "{said}");

    world
        .apply(&[
            world.solution("orders", "1.1.0"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(&world, "web"), "spec": {
                "paused": true, "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                    "containers": [{"name": "app", "image": "registry.example.test/app:1"}]}}}}),
        ])
        .await;
    let end = world.deploy("paused", "qa", "orders", "1.1.0").await;
    assert!(told(&end).contains(&"Deployment web".to_owned()), "{:?}", told(&end));
    let (reason, message) = outcome(&end);
    assert_eq!(reason, "DeploymentTimedOut", "{message}");
    assert!(message.contains("Deployment web was not current in time: it is paused (spec.paused: true)"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_custom_resource_that_was_reported_on_in_development_is_current_when_it_is_in_the_target() {
    let world = World::new("reported-on").await;
    let (group, definition) = berths(&world, "Namespaced");
    define(&world, &definition).await;
    let rules = |verbs: Value| json!([{"apiGroups": [group], "resources": ["berths"], "verbs": verbs}]);
    let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
    let bot = json!([{"kind": "ServiceAccount", "name": "bot-qa", "namespace": world.host}]);
    let makers = json!([{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "makers"}]);
    let on = ["get", "list", "patch", "delete"].map(|verb| format!("impersonate-on:serviceaccount:{verb}"));
    world.apply(&role(&world.dev, "berths", &rules(json!(["list"])), &operator)).await;
    world.apply(&role(&world.dev, "makers-berths", &rules(json!(["get", "list"])), &makers)).await;
    world.apply(&role(&world.qa, "berths-as", &rules(json!(on)), &operator)).await;
    world.apply(&role(&world.qa, "berths", &rules(json!(["get", "list", "patch", "create", "delete"])), &bot)).await;
    world.apply(&[world.solution("orders", "1.0.0"), berth(&group, "north", "orders", Some(&world.dev))]).await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk(&group, "v1", "Berth"));
    let reports = async |namespace: &str| {
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True", "reason": "Moored"}]}});
        let api = Api::<DynamicObject>::namespaced_with(world.admin.clone(), namespace, &kind);
        api.patch("north", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    };
    reports(&world.dev).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    world.decide("qa", "to-qa", "Approved").await.unwrap();
    let waiting = world.until_request("to-qa", |r| ended(r) || outcome(r).1.contains("has not looked at it yet")).await;
    assert!(!ended(&waiting), "{:?}", outcome(&waiting));
    reports(&world.qa).await;
    let end = world.end("to-qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    world.plane.kubectl().ok(&["delete", "crd", &format!("berths.{group}"), "--wait=false"]).unwrap();
}
