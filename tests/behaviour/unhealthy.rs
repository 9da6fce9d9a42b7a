//! If something does not become healthy in time, the message gives the cause, from the objects themselves.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::Stage;
use serde_json::{Value, json};

use crate::world::{World, ended, outcome, phase};

/// A Deployment of the solution in development that requests this much CPU, on nodes with this label.
fn deployment(world: &World, name: &str, cpu: &str, nodes: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}}, "spec": {
            "nodeSelector": nodes,
            "containers": [{"name": "app", "image": "registry.example.test/app:1", "resources": {"requests": {"cpu": cpu}}}]}}},
    })
}

/// Writes the status of a pod of QA as a kubelet would.
async fn reported(world: &World, app: &str, container: Value) {
    let pods = Api::<Pod>::namespaced(world.admin.clone(), &world.qa);
    let pod = world
        .until("there is a pod to report on", async || {
            pods.list(&ListParams::default().labels(&format!("app={app}"))).await.unwrap().items.into_iter().next()
        })
        .await;
    let mut status = json!({"name": "app", "image": "registry.example.test/app:1", "imageID": "", "ready": false, "restartCount": 3});
    status.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
    let patch = Patch::Merge(json!({"status": {"containerStatuses": [status]}}));
    pods.patch_status(&pod.name_any(), &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_names_images_crashes_nodes_and_quotas() {
    let world = World::new("unhealthy").await;
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"]["timeout"] = "6s".into();
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
    let nowhere = json!({"example.test/disk": "golden"});
    world
        .apply(&[
            world.solution("orders", "1.0.0"),
            deployment(&world, "lost", "10m", &nowhere),
            deployment(&world, "pulls", "10m", &nowhere),
            deployment(&world, "crashes", "10m", &nowhere),
            deployment(&world, "greedy", "2", &json!({})),
            deployment(&world, "fine", "10m", &json!({})),
            // Which pods are in a scope is only known when they are created. A plan does not show it.
            json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small", "namespace": world.qa}, "spec": {"hard": {"requests.cpu": "1"}, "scopes": ["NotTerminating"]}}),
        ])
        .await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "to-qa", "Approved").await.unwrap();
    let waiting = |reason: &str, message: &str| json!({"state": {"waiting": {"reason": reason, "message": message}}});
    reported(&world, "pulls", waiting("ImagePullBackOff", "Back-off pulling image \"registry.example.test/app:1\"")).await;
    let mut crash = waiting("CrashLoopBackOff", "back-off 40s restarting failed container");
    crash["lastState"] = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "canary"}});
    reported(&world, "crashes", crash).await;

    let message = world.fails("to-qa", "DeploymentTimedOut").await;
    let run = world.end("to-qa").await.status.unwrap().run;
    let said = |name: &str| run.errors.iter().find(|e| e.name == name).map(|e| (e.reason.as_str(), e.message.as_str()));
    for (name, parts) in [
        ("lost", vec!["Unschedulable: 0/", "nodes are available"]),
        ("pulls", vec!["container app waits: ImagePullBackOff: Back-off pulling image \"registry.example.test/app:1\""]),
        ("crashes", vec!["container app waits: CrashLoopBackOff: ", "OOMKilled (exit code 137)"]),
        ("greedy", vec!["exceeded quota: small", "requests.cpu=2"]),
    ] {
        let (reason, text) = said(name).unwrap_or_else(|| panic!("nothing is said of {name}: {message}"));
        assert_eq!(reason, "NotCurrentInTime");
        assert!(text.starts_with(&format!("Deployment {name} was not current in time: ")), "{text}");
        assert!(parts.iter().all(|part| text.contains(part)), "{parts:?} is not said: {text}");
        assert!(!text.contains("canary"), "what containers print may be anything: {text}");
    }
    assert_eq!(said("fine"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_the_cluster_removes_when_it_has_finished_is_not_missed_while_the_rest_comes_up() {
    let world = World::new("removes-itself").await;
    let of_orders = |name: &str| json!({"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}});
    let claim = json!({"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let pod = json!({"restartPolicy": "Never", "containers": [{"name": "app", "image": "registry.example.test/app:1"}]});
    // In development it stays, so that it can be exported.
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["environmentVariables"] = json!([{"name": "TTL", "type": "Number", "default": "0",
        "target": {"apiVersion": "batch/v1", "kind": "Job", "name": "migrate", "path": "/spec/ttlSecondsAfterFinished"}}]);
    world
        .apply(&[
            solution,
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": of_orders("migrate"), "spec": {"template": {"spec": pod}}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": of_orders("data"), "spec": claim}),
        ])
        .await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "to-qa", "Approved").await.unwrap();
    // The Job is gone, and only the claim is waited for.
    world.until_request("to-qa", |r| ended(r) || outcome(r).1.contains("for 1 of its objects: PersistentVolumeClaim data")).await;
    let jobs = Api::<k8s_openapi::api::batch::v1::Job>::namespaced(world.admin.clone(), &world.qa);
    world.until("the Job has removed itself", async || jobs.get_opt("migrate").await.unwrap().is_none().then_some(())).await;
    let volume = format!("{}-data", world.qa);
    world
        .apply(&[json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": volume}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/tmp"},
            "claimRef": {"namespace": world.qa, "name": "data"}}})])
        .await;
    let end = world.end("to-qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    world.plane.kubectl().ok(&["delete", "pv", &volume, "--wait=false"]).unwrap();
}
