//! Whoever scales decides how many replicas there are.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::{deployed, deployments, in_qa, object, planned, web};
use crate::world::World;

const REPLICAS: &str = "/spec/replicas";

fn scaler(world: &World, namespace: &str, name: &str) -> Value {
    let mut scaler = object(
        world,
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        name,
        Some(json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "minReplicas": 5, "maxReplicas": 10,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}}]})),
    );
    scaler["metadata"]["namespace"] = namespace.into();
    scaler
}

fn replicas(world: &World) -> Value {
    in_qa(world, "deployment", "web")["spec"]["replicas"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_given_up_to_an_autoscaler_stay_as_they_are() {
    let world = World::new("autoscaled").await;
    deployed(&world, "1.0.0", &[web(&world, "1", json!({"replicas": 5}), json!({}))]).await;
    let second = deployed(&world, "2.0.0", &[web(&world, "2", json!({}), json!({})), scaler(&world, &world.dev, "web")]).await;
    assert!(!planned(&second, "Deployment").fields.iter().any(|field| field == REPLICAS), "{:?}", second.objects);
    assert_eq!(replicas(&world), 5);
    let third = deployed(&world, "3.0.0", &[web(&world, "3", json!({}), json!({})), scaler(&world, &world.dev, "web")]).await;
    assert_eq!((third.update, replicas(&world)), (1, json!(5)), "{:?}", third.objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_are_given_up_stay_where_the_target_has_an_autoscaler_and_nowhere_else() {
    let world = World::new("autoscaled-there").await;
    let mut theirs = scaler(&world, &world.qa, "theirs");
    theirs["metadata"].as_object_mut().unwrap().remove("labels");
    world.apply(&[theirs.clone()]).await;
    deployed(&world, "1.0.0", &[web(&world, "1", json!({"replicas": 5}), json!({}))]).await;
    deployed(&world, "2.0.0", &[web(&world, "2", json!({}), json!({}))]).await;
    assert_eq!(replicas(&world), 5);
    world.plane.kubectl().ok(&["delete", "horizontalpodautoscaler", "theirs", "-n", &world.qa]).unwrap();
    let third = deployed(&world, "3.0.0", &[web(&world, "3", json!({}), json!({}))]).await;
    assert!(planned(&third, "Deployment").fields.iter().any(|field| field == REPLICAS), "{:?}", third.objects);
    assert_eq!(replicas(&world), 1, "as anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_something_else_scales_are_left_to_it() {
    let world = World::new("scaled").await;
    deployed(&world, "1.0.0", &[web(&world, "1", json!({"replicas": 1}), json!({}))]).await;
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let by = PatchParams { field_manager: Some("keda-operator".into()), ..PatchParams::default() };
    deployments(&world).patch_scale("web", &by, &scale).await.unwrap();
    for version in ["2.0.0", "3.0.0"] {
        let plan = deployed(&world, version, &[web(&world, version, json!({"replicas": 1}), json!({}))]).await;
        assert_eq!((plan.update, replicas(&world)), (1, json!(3)));
        let told = plan.results.iter().find(|r| r.reason == "ForeignField").unwrap_or_else(|| panic!("{:?}", plan.results));
        assert!(told.message.contains("/spec/replicas by keda-operator"), "{}", told.message);
    }
}
