//! Several solutions in one target, and one solution in several targets: each has its own record, its own claim and its own objects.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use pilotage::api::Environment;
use pilotage::api::environment::DeployedSolution;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// A Deployment of a solution. No node accepts its pods.
fn stuck(world: &World, solution: &str) -> Value {
    let labels = json!({"app.kubernetes.io/part-of": solution});
    let template = json!({
        "metadata": {"labels": {"app": solution}},
        "spec": {"nodeSelector": {"there": "is-none"}, "containers": [{"name": "stuck", "image": "stuck"}]},
    });
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": solution, "namespace": world.dev, "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": solution}}, "template": template},
    })
}

async fn record(world: &World, environment: &str, solution: &str) -> DeployedSolution {
    let environment = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get(environment).await.unwrap();
    environment.status.unwrap().solutions.into_iter().find(|s| s.name == solution).expect("a record")
}

async fn maps(world: &World, namespace: &str) -> Vec<String> {
    let all = Api::<ConfigMap>::namespaced(world.admin.clone(), namespace).list(&ListParams::default()).await.unwrap();
    all.iter().map(ResourceExt::name_any).filter(|name| name.starts_with("of-")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_solutions_in_one_target_neither_wait_for_nor_touch_each_other() {
    let world = World::new("two-solutions").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "of-orders", json!({})), stuck(&world, "orders")]).await;
    let both = [world.config("billing", "of-billing", json!({})), world.config("billing", "of-billing-too", json!({}))];
    world.apply(&[world.solution("billing", "1.0.0")]).await;
    world.apply(&both).await;
    world.ask(&world.request("orders", "qa", "orders", "1.0.0")).await;
    world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "orders", "Approved").await.unwrap();
    world.until_request("orders", |r| outcome(r).0 == "WaitingForHealth").await;
    // While orders holds its claim, billing is deployed, and loses an object with its next version.
    let billing = world.deploy("billing", "qa", "billing", "1.0.0").await;
    assert_eq!(phase(&billing), "Succeeded", "{:?}", outcome(&billing));
    Api::<ConfigMap>::namespaced(world.admin.clone(), &world.dev).delete("of-billing-too", &DeleteParams::default()).await.unwrap();
    world.apply(&[world.solution("billing", "2.0.0")]).await;
    let billing = world.deploy("billing-2", "qa", "billing", "2.0.0").await;
    assert_eq!(phase(&billing), "Succeeded", "{:?}", outcome(&billing));
    assert_eq!(maps(&world, &world.qa).await, ["of-billing", "of-orders"]);
    assert_eq!(record(&world, "qa", "orders").await.claim.map(|c| c.request), Some("orders".to_owned()));
    let billing = record(&world, "qa", "billing").await;
    assert_eq!((billing.version.as_deref(), billing.claim), (Some("2.0.0"), None));

    // An object of one solution is not taken by the other.
    let kubectl = world.plane.kubectl();
    let relabel = ["label", "configmap", "of-orders", "--overwrite", "app.kubernetes.io/part-of=billing", "-n", &world.dev];
    kubectl.ok(&relabel).unwrap();
    world.apply(&[world.solution("billing", "3.0.0")]).await;
    world.ask(&world.request("billing-3", "qa", "billing", "3.0.0")).await;
    let message = world.fails("billing-3", "DryRunRefused").await;
    assert!(message.contains("ConfigMap of-orders: OwnedByAnotherSet: ") && message.contains("remove it from one of the two"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_solution_in_two_targets_at_once_has_its_own_version_and_settings_in_each() {
    let world = World::new("two-targets").await;
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["environmentVariables"] =
        json!([{"name": "WHERE", "required": true, "target": {"kind": "ConfigMap", "name": "orders", "path": "/data/where"}}]);
    world.apply(&[solution.clone(), world.config("orders", "orders", json!({"where": "dev", "version": "1.0.0"}))]).await;
    let ask = async |name: &str, stage: &str, version: &str| {
        let mut request = serde_json::to_value(world.request(name, stage, "orders", version)).unwrap();
        request["spec"]["deploymentSettings"] = json!({"environmentVariables": [{"name": "WHERE", "value": stage}]});
        world.ask(&serde_json::from_value(request).unwrap()).await;
    };
    ask("first", "qa", "1.0.0").await;
    let first = world.approved("first", "qa").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    solution["spec"]["version"] = "2.0.0".into();
    world.apply(&[solution, world.config("orders", "orders", json!({"where": "dev", "version": "2.0.0"}))]).await;
    ask("second", "qa", "2.0.0").await;
    ask("on", "prod", "1.0.0").await;
    let (second, on) = tokio::join!(world.approved("second", "qa"), world.approved("on", "prod"));
    assert_eq!((phase(&second).as_str(), phase(&on).as_str()), ("Succeeded", "Succeeded"), "{:?} {:?}", outcome(&second), outcome(&on));
    for (stage, namespace, version, request) in [("qa", &world.qa, "2.0.0", "second"), ("prod", &world.prod, "1.0.0", "on")] {
        let arrived = Api::<ConfigMap>::namespaced(world.admin.clone(), namespace).get("orders").await.unwrap();
        assert_eq!(serde_json::to_value(arrived.data).unwrap(), json!({"where": stage, "version": version}));
        let record = record(&world, stage, "orders").await;
        assert_eq!((record.version.as_deref(), record.request.as_deref(), record.claim), (Some(version), Some(request), None));
    }
}
