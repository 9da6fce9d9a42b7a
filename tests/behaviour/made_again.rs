//! What a `GitOps` tool deletes and applies again is what it was before: the same target by its namespace, with the record of what
//! succeeded there.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use pilotage::api::environment::DeployedSolution;
use pilotage::api::{DeploymentRequest, Environment, Pipeline, Solution, Stage};
use serde_json::{Value, json};

use crate::world::{World, ended, outcome, phase};

async fn in_qa(world: &World) -> Vec<DeployedSolution> {
    let qa = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    qa.status.map(|status| status.solutions).unwrap_or_default()
}

/// Deletes the world's pipeline objects of these kinds, and applies them again.
async fn again(world: &World, kinds: &[&str]) {
    let olga = world.olga().await;
    let objects: Vec<Value> = world.pipeline().into_iter().filter(|object| kinds.contains(&object["kind"].as_str().unwrap())).collect();
    for object in &objects {
        let (kind, name) = (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
        let confirmed = format!("pilotage.dev/confirm-delete={name}");
        world.plane.kubectl().ok(&["annotate", kind, name, "-n", &world.host, &confirmed]).unwrap();
        world.plane.kubectl().ok(&["delete", kind, name, "-n", &world.host, "--wait=true"]).unwrap();
    }
    for object in &objects {
        world.apply_as(&olga, object).await.unwrap();
    }
    for environment in ["dev", "qa", "prod"] {
        world.ready::<Environment>(environment).await;
    }
    for stage in ["qa", "prod"] {
        world.ready::<Stage>(stage).await;
    }
    world.ready::<Pipeline>("standard").await;
}

/// Has an ended request purged, and creates it again with the same name, as dana.
async fn ask_again(world: &World, name: &str, version: &str) -> DeploymentRequest {
    let requests = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let olgas = Api::<DeploymentRequest>::namespaced(world.olga().await, &world.host);
    olgas.delete(name, &DeleteParams::default()).await.unwrap();
    // A pipeline that was applied again is shared a moment later.
    let wanted = world.request(name, "qa", "orders", version);
    let made = world.until("the request is made again", async || requests.create(&PostParams::default(), &wanted).await.ok()).await;
    world.until_request(name, |request| request.uid() == made.uid() && ended(request)).await
}

async fn pipeline_spec(world: &World, spec: Value) {
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    world.ready::<Pipeline>("standard").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_again_takes_up_what_it_was_without_an_edit_or_a_way_back_to_qa() {
    let world = World::new("made-again").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let first = world.deploy("to-qa", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let before = in_qa(&world).await;
    let uid = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap().uid();

    again(&world, &["Environment", "Pipeline", "Stage"]).await;
    let qa = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    assert_ne!(qa.meta().uid, uid);
    assert_eq!(in_qa(&world).await, before, "what runs is on record again");
    // It can't be deployed twice or back to QA, but it can go on to production.
    let done = ask_again(&world, "to-qa", "1.0.0").await;
    assert_eq!((phase(&done).as_str(), outcome(&done).0.as_str()), ("Succeeded", "AlreadyDeployed"), "{:?}", outcome(&done));
    world.ask(&world.request("twice", "qa", "orders", "1.0.0")).await;
    let message = world.fails("twice", "VersionNotHigher").await;
    assert!(message.contains("stage qa runs orders 1.0.0 (request to-qa)"), "{message}");
    let next = world.deploy("to-prod", "prod", "orders", "1.0.0").await;
    assert_eq!(phase(&next), "Succeeded", "{:?}", outcome(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn environments_that_are_applied_again_leave_their_stages_ready() {
    let world = World::new("made-again-env").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    let stages = Api::<Stage>::namespaced(world.admin.clone(), &world.host);
    let generation = stages.get("qa").await.unwrap().metadata.generation;
    again(&world, &["Environment"]).await;
    assert_eq!(stages.get("qa").await.unwrap().metadata.generation, generation, "nobody wrote the stage");
    // The earlier request has another plan now, or was not reconciled in between. It says so and is made again.
    let earlier = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    if !ended(&earlier) {
        world.decide("qa", "to-qa", "Approved").await.unwrap();
        let message = world.fails("to-qa", "PlanChanged").await;
        assert!(message.contains("what differs is the Environment, which was deleted and made again"), "{message}");
    }
    let next = world.deploy("to-qa-2", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&next), "Succeeded", "{:?}", outcome(&next));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_name_is_done_says_what_runs_after_a_downgrade() {
    let world = World::new("made-again-down").await;
    pipeline_spec(&world, json!({"allowRedeployments": true})).await;
    world.apply(&[world.config("orders", "orders", json!({}))]).await;
    for (name, version) in [("first", "1.0.0"), ("second", "1.1.0"), ("back", "1.0.0")] {
        world.apply(&[world.solution("orders", version)]).await;
        let end = world.deploy(name, "qa", "orders", version).await;
        assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    }
    let done = ask_again(&world, "second", "1.1.0").await;
    let (reason, message) = outcome(&done);
    assert_eq!((phase(&done).as_str(), reason.as_str()), ("Succeeded", "AlreadyDeployed"), "{message}");
    assert!(message.contains("Stage qa runs orders 1.0.0 by now (request back)"), "{message}");
    let view = Api::<Solution>::namespaced(world.dana().await, &world.dev).get("orders").await.unwrap().status.unwrap().deployments;
    let [qa] = view.as_slice() else { panic!("{view:?}") };
    assert_eq!(qa.runs.as_ref().map(|runs| runs.version.as_str()), Some("1.0.0"), "{qa:?}");
    assert!(qa.message.as_ref().is_some_and(|said| said.contains("Stage qa runs orders 1.0.0 by now")), "{qa:?}");
}
