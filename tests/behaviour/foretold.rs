//! The plan shows before the approval what would go wrong after it: warnings of the server, quotas that are too small, data that is deleted
//! with something else.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, ResourceQuota, Service};
use kube::Api;
use kube::api::ListParams;
use pilotage::api::DeploymentRequest;
use pilotage::api::plan::PlanResult;
use serde_json::{Value, json};

use crate::world::{World, ended, outcome, phase};

/// What an approver is told, without what could not be looked for in development.
fn results(request: &DeploymentRequest) -> Vec<PlanResult> {
    let results = request.status.as_ref().unwrap().run.plan.clone().unwrap().results;
    results.into_iter().filter(|result| result.reason != "NotLookedFor").collect()
}

async fn planned(world: &World, name: &str, version: &str) -> DeploymentRequest {
    world.ask(&world.request(name, "qa", "orders", version)).await;
    let waiting = world.until_request(name, |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    assert_eq!(phase(&waiting), "AwaitingApproval", "{:?}", outcome(&waiting));
    waiting
}

fn metadata(world: &World, name: &str) -> Value {
    json!({"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}})
}

fn deployment(world: &World, name: &str, replicas: u32, resources: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(world, name),
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "containers": [{"name": "app", "image": "registry.example.test/app:1", "resources": resources}]}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_warns_of_is_told_before_the_approval() {
    let world = World::new("warned").await;
    world.plane.kubectl().ok(&["label", "namespace", &world.qa, "pod-security.kubernetes.io/enforce=restricted"]).unwrap();
    let mut ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": metadata(&world, "web"),
        "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
    });
    ingress["metadata"]["annotations"] = json!({"kubernetes.io/ingress.class": "old"});
    world.apply(&[world.solution("orders", "1.0.0"), deployment(&world, "web", 1, &json!({})), ingress]).await;
    let told: Vec<PlanResult> =
        results(&planned(&world, "to-qa", "1.0.0").await).into_iter().filter(|r| r.reason == "ServerWarning").collect();
    let of = |kind: &str| told.iter().find(|r| r.kind == kind && r.name == "web").map(|r| r.message.as_str()).unwrap_or_default();
    let (pods, class) = (of("Deployment"), of("Ingress"));
    assert!(pods.contains("would violate PodSecurity \"restricted:latest\"") && pods.contains("its pods are refused"), "{told:?}");
    assert!(class.contains("kubernetes.io/ingress.class") && class.contains("deprecated"), "{told:?}");
    assert_eq!(told.len(), 2, "one an object: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_created_is_held_against_the_quotas_before_anybody_is_asked() {
    let world = World::new("quotas").await;
    let quota = |hard: Value| json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": world.qa}, "spec": {"hard": hard}});
    let quotas = Api::<ResourceQuota>::namespaced(world.admin.clone(), &world.qa);
    world.apply(&[quota(json!({"services": "2", "requests.cpu": "2"}))]).await;
    world
        .until("the quota is counted", async || quotas.get("small").await.ok()?.status?.used.filter(|used| used.contains_key("services")))
        .await;
    let service = |name: &str| json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata(&world, name), "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    let cpu = json!({"requests": {"cpu": "750m"}});
    world.apply(&[world.solution("orders", "1.0.0"), service("a"), service("b"), service("c"), deployment(&world, "web", 3, &cpu)]).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "QuotaExceeded").await;
    for part in [
        "ResourceQuota small",
        "services: hard 2, used 0, asked for 3 more",
        "requests.cpu: hard 2, used 0, asked for 2250m more",
        "nothing was written",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let services = Api::<Service>::namespaced(world.admin.clone(), &world.qa);
    assert!(services.list(&ListParams::default()).await.unwrap().items.is_empty());

    // When there is room for everything, it continues by itself.
    world.apply(&[quota(json!({"services": "3", "requests.cpu": "3"}))]).await;
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    // What exists does not need room again. Only growth does.
    world.apply(&[world.solution("orders", "1.1.0"), deployment(&world, "web", 4, &cpu)]).await;
    let second = world.deploy("again", "qa", "orders", "1.1.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    world.apply(&[world.solution("orders", "1.2.0"), deployment(&world, "web", 5, &cpu)]).await;
    world.ask(&world.request("more", "qa", "orders", "1.2.0")).await;
    let message = world.waits_for("more", "QuotaExceeded").await;
    assert!(message.contains("requests.cpu: hard 3, used 3, asked for 750m more") && !message.contains("services"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_go_with_their_stateful_set_are_named_before_all_else() {
    let world = World::new("data-lost").await;
    let store = |size: &str, replicas: u32| {
        let mut metadata = metadata(&world, "db");
        metadata["annotations"] = json!({"pilotage.dev/recreate": "true"});
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata,
            "spec": {
                "serviceName": "db", "replicas": replicas, "selector": {"matchLabels": {"app": "db"}},
                "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Delete"},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "db", "image": "registry.example.test/db:1"}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": size}}}}],
            },
        })
    };
    let volumes: Vec<Value> = (0..2)
        .map(|pod| {
            json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("{}-db-{pod}", world.qa)}, "spec": {
                "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"},
                "claimRef": {"namespace": world.qa, "name": format!("data-db-{pod}")}}})
        })
        .collect();
    world.apply(&volumes).await;
    world.apply(&[world.solution("orders", "1.0.0"), store("1Gi", 2)]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    assert_eq!(results(&first), []);
    let claims = Api::<PersistentVolumeClaim>::namespaced(world.admin.clone(), &world.qa);
    assert!(claims.get_opt("data-db-1").await.unwrap().is_some());

    let told = |request: &DeploymentRequest| {
        let first = results(request).remove(0);
        assert_eq!((first.kind.as_str(), first.name.as_str(), first.reason.as_str()), ("StatefulSet", "db", "DeletesData"), "{first:?}");
        first.message
    };
    let develop = async |version: &str, store: Option<Value>| {
        world.plane.kubectl().ok(&["delete", "statefulset", "db", "-n", &world.dev, "--ignore-not-found", "--wait=true"]).unwrap();
        world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({}))]).await;
        world.apply(store.as_slice()).await;
    };
    develop("1.1.0", Some(store("1Gi", 1))).await;
    let message = told(&planned(&world, "shrinks", "1.1.0").await);
    assert!(message.starts_with("scales StatefulSet db down, ") && message.ends_with(": PersistentVolumeClaim data-db-1"), "{message}");
    develop("1.2.0", Some(store("2Gi", 2))).await;
    let message = told(&planned(&world, "anew", "1.2.0").await);
    assert!(
        message.starts_with("deletes and creates anew StatefulSet db, ")
            && message.ends_with(": PersistentVolumeClaim data-db-0; PersistentVolumeClaim data-db-1"),
        "{message}"
    );
    develop("1.3.0", None).await;
    let message = told(&planned(&world, "gone", "1.3.0").await);
    assert!(message.starts_with("deletes StatefulSet db, ") && message.contains("PersistentVolumeClaim data-db-0"), "{message}");
    for volume in &volumes {
        world.plane.kubectl().ok(&["delete", "pv", volume["metadata"]["name"].as_str().unwrap(), "--wait=false"]).unwrap();
    }
}
