//! Attacks on data: what is deleted together with something else is part of what was approved, or it is not deleted.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::Api;
use serde_json::{Value, json};

use crate::attempt::{ignored, told};
use crate::world::{World, outcome, phase};

#[tokio::test(flavor = "multi_thread")]
async fn claims_go_only_where_the_approved_plan_says_so() {
    let world = World::new("taken").await;
    let store = |replicas: u32| {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {"name": "db", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
            "spec": {
                "serviceName": "db", "replicas": replicas, "selector": {"matchLabels": {"app": "db"}},
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": "db", "image": "registry.example.test/db:1"}]}},
                "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {
                    "accessModes": ["ReadWriteOnce"], "storageClassName": "", "resources": {"requests": {"storage": "1Gi"}}}}],
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
    world.apply(&[world.solution("orders", "1.0.0"), store(2)]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));

    world.apply(&[world.solution("orders", "1.1.0"), store(1)]).await;
    world.ask(&world.request("shrinks", "qa", "orders", "1.1.0")).await;
    let waiting = world.until_request("shrinks", |r| phase(r) == "AwaitingApproval").await;
    let results = waiting.status.unwrap().run.plan.unwrap().results;
    assert!(results.iter().all(|result| result.reason != "DeletesData"), "{results:?}");
    let policy = r#"{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Delete"}}}"#;
    world.plane.kubectl().ok(&["patch", "statefulset", "db", "-n", &world.qa, "--type=merge", "-p", policy]).unwrap();
    world.decide("qa", "shrinks", "Approved").await.unwrap();
    let message = world.fails("shrinks", "PlanChanged").await;
    told(
        190,
        "claims are to go with the pods that an approved plan takes away",
        &message,
        &["no longer what was planned", "nothing was written"],
    );
    let claims = Api::<PersistentVolumeClaim>::namespaced(world.admin.clone(), &world.qa);
    let kept = claims.get("data-db-1").await.unwrap();
    let set = Api::<StatefulSet>::namespaced(world.admin.clone(), &world.qa).get("db").await.unwrap();
    let is_whole = kept.metadata.deletion_timestamp.is_none() && set.spec.unwrap().replicas == Some(2);
    ignored(190, "the claims are there, and the pods that use them", is_whole, &kept.status);
    for volume in &volumes {
        world.plane.kubectl().ok(&["delete", "pv", volume["metadata"]["name"].as_str().unwrap(), "--wait=false"]).unwrap();
    }
}
