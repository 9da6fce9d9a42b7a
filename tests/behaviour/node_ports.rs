//! A node port that somebody chose in development is used in the whole cluster. A target in the same cluster gets another one, or the one
//! that its request sets.

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use pilotage::api::DeploymentRequest;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

fn service(world: &World, name: &str, port: u16) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [{"name": "http", "port": 80, "nodePort": port}]}})
}

async fn port(world: &World, namespace: &str, name: &str) -> i32 {
    let services: Api<Service> = Api::namespaced(world.admin.clone(), namespace);
    services.get(name).await.unwrap().spec.unwrap().ports.unwrap()[0].node_port.unwrap()
}

fn told(request: &DeploymentRequest) -> Vec<String> {
    let results = request.status.as_ref().unwrap().run.plan.as_ref().unwrap().results.iter();
    results.filter(|r| r.reason == "NodePortsLeft").map(|r| r.message.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_beside_development_gets_node_ports_of_its_own_or_those_of_its_settings() {
    let world = World::new("node-ports").await;
    world.apply(&[service(&world, "shop", 30_011)]).await;
    let kubectl = world.plane.kubectl();
    let applied = kubectl.run_with(&["apply", "-f", "-"], &service(&world, "admin", 30_012).to_string()).unwrap();
    assert!(applied.ok, "{}", applied.stderr);
    let mut solution = world.solution("orders", "1.0.0");
    let target = json!({"kind": "Service", "name": "shop", "path": "/spec/ports/http/nodePort"});
    solution["spec"]["environmentVariables"] = json!([{"name": "PORT", "type": "Number", "target": target}]);
    world.apply(&[solution]).await;
    let asked = |name: &str, stage: &str, value: &str| -> DeploymentRequest {
        let mut request = serde_json::to_value(world.request(name, stage, "orders", "1.0.0")).unwrap();
        request["spec"]["deploymentSettings"] = json!({"environmentVariables": [{"name": "PORT", "value": value}]});
        serde_json::from_value(request).unwrap()
    };

    world.ask(&asked("first", "qa", "30013")).await;
    let first = world.approved("first", "qa").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    assert_eq!(port(&world, &world.qa, "shop").await, 30_013, "as its settings say");
    let chosen = port(&world, &world.qa, "admin").await;
    assert_ne!(chosen, 30_012);
    let message = told(&first).pop().unwrap();
    assert!(
        message.contains("30012 of Service admin") && !message.contains("shop") && message.contains("environment variable"),
        "{message}"
    );

    // The artifact has it as it was written. The refusal names the port that can't be used twice.
    world.ask(&asked("second", "prod", "30013")).await;
    let second = world.end("second").await;
    assert!(outcome(&second).1.contains("provided port is already allocated"), "{:?}", outcome(&second));
    world.ask(&asked("third", "prod", "30014")).await;
    let third = world.approved("third", "prod").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
    assert_eq!((port(&world, &world.prod, "shop").await, port(&world, &world.qa, "admin").await), (30_014, chosen));
}
