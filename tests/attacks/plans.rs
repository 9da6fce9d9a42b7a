//! Attacks on requests that only plan: nobody turns one into a deployment, and what it finds out reaches only who may know.

use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use pilotage::api::{Artifact, DeploymentRequest, Environment};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused};
use crate::scene::{operator, orders, patch, requests, shared};
use crate::world::{World, client, ended, outcome, phase};

fn planning(world: &World, name: &str, stage: &str, version: &str) -> DeploymentRequest {
    let mut request = world.request(name, stage, "orders", version);
    request.spec.plan_only = true;
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_plans_is_never_turned_into_a_deployment() {
    let world = shared("plans").await;
    orders(&world).await;
    world.ask(&planning(&world, "dry", "qa", "1.0.0")).await;
    let dry = world.until_request("dry", ended).await;
    let says = "spec is immutable but for cancel and scheduledTime";
    for (what, change) in [("planOnly is set to false", json!({"planOnly": false})), ("planOnly is removed", json!({"planOnly": null}))] {
        refused(245, what, patch(&world, world.dana().await, "dry", json!({"spec": change})), 422, &[says]).await;
        let by_admin = format!("{what}, by an administrator");
        refused(245, &by_admin, patch(&world, world.olga().await, "dry", json!({"spec": change})), 422, &[says]).await;
    }
    // A deployment does not become a plan either, as its approval would then cover something else.
    world.ask(&world.request("wet", "qa", "orders", "1.0.0")).await;
    let change = json!({"spec": {"planOnly": true}});
    refused(245, "planOnly is set on a deployment", patch(&world, world.dana().await, "wet", change), 422, &[says]).await;

    let nothing = |run: &pilotage::api::request_status::RunStatus| {
        run.gates.is_empty() && run.start_time.is_none() && run.artifact.is_none() && run.deployed_by.is_none()
    };
    let run = dry.status.clone().unwrap().run;
    let untouched = phase(&dry) == "Planned" && nothing(&run) && world.operator_writes(&world.qa, false).is_empty();
    ignored(246, "a request that only plans, with all that a deployment needs", untouched, &(outcome(&dry), &run.gates));
    let qa = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    assert!(qa.status.unwrap().solutions.is_empty(), "it claims nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_opens_a_gate_of_it_or_starts_it() {
    let world = World::new("plans-status").await;
    // Where no operator looks it does not end.
    let elsewhere: Api<DeploymentRequest> = Api::namespaced(world.admin.clone(), &world.dev);
    let mut request = planning(&world, "dry", "qa", "1.0.0");
    request.metadata.namespace = Some(world.dev.clone());
    elsewhere.create(&PostParams::default(), &request).await.unwrap();
    let operator: Api<DeploymentRequest> = Api::namespaced(client(operator(&world)).await, &world.dev);
    let gate = json!({"openedAt": "2026-11-30T00:00:00Z", "allowSelfApproval": true, "approver": "dana"});
    let attempts: [(&str, Value); 4] = [
        ("a gate of what only plans is opened", json!({"gates": {"approval": gate}})),
        ("what only plans is started", json!({"startTime": "2026-11-30T00:00:00Z"})),
        ("what only plans has an artifact", json!({"artifact": {"name": "orders-1.0.0", "digest": "sha256:aa"}})),
        ("what only plans is deployed by somebody", json!({"deployedBy": "somebody"})),
    ];
    for (what, status) in attempts {
        let status = Patch::Merge(json!({"status": status}));
        let attempt = async { operator.patch_status("dry", &PatchParams::default(), &status).await };
        refused(245, what, attempt, 422, &["a request that only plans opens no gate and never starts to deploy"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_plans_takes_no_version_from_anybody() {
    let world = World::new("plans-taken").await;
    orders(&world).await;
    world.ask(&planning(&world, "dry", "qa", "1.0.0")).await;
    let dry = world.until_request("dry", ended).await;
    let stored = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap().items;
    ignored(246, "a plan stores a version before those who develop it have finished it", stored.is_empty(), &outcome(&dry));
    assert_eq!(phase(&dry), "Planned", "{:?}", outcome(&dry));
    assert!(requests(&world, world.admin.clone()).get("dry").await.unwrap().status.unwrap().run.plan.unwrap().create > 0);
}
