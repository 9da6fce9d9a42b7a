//! How requests end without a deployment, and who is told.

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::solution::SolutionDeployment;
use pilotage::api::{DeploymentRequest, Environment, Pipeline, Solution, Stage};
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// A world with a solution that can be requested.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world
}

/// An object of the world's pipeline, to be changed.
fn object(world: &World, kind: &str, name: &str) -> Value {
    world.pipeline().into_iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).unwrap()
}

/// What dana reads about a request in her own namespace.
async fn danas_view(world: &World, phase: &str) -> SolutionDeployment {
    let solutions = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    world
        .until(&format!("the Solution says {phase}"), async || {
            let status = solutions.get("orders").await.unwrap().status?;
            status.deployments.into_iter().find(|d| d.phase == phase)
        })
        .await
}

/// What the environment of QA says about the solution.
async fn in_qa(world: &World) -> Option<pilotage::api::environment::DeployedSolution> {
    let qa = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    qa.status.unwrap().solutions.into_iter().find(|s| s.name == "orders")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_is_told_to_the_maker_with_the_approvers_comment() {
    let world = world("rejected").await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "to-qa", "Rejected").await.unwrap();
    let ended = world.end("to-qa").await;
    let message = format!("approval rejected by system:serviceaccount:{}:bot-qa with the comment: as tested", world.host);
    assert_eq!((phase(&ended).as_str(), outcome(&ended)), ("Rejected", ("Rejected".to_owned(), message.clone())));
    let told = danas_view(&world, "Rejected").await;
    assert_eq!((told.message, told.approval_comments.as_deref()), (Some(message), Some("as tested")));
    assert!(world.operator_writes(&world.qa, false).is_empty());
    assert!(!world.operator_writes(&world.qa, true).is_empty(), "it was planned before it was rejected");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_their_requests_cancels_them() {
    let world = world("canceled").await;
    let mut shared = object(&world, "Pipeline", "standard");
    shared["spec"]["visibility"] = "Shared".into();
    world.apply_as(&world.olga().await, &shared).await.unwrap();
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    let dana = world.danas_kubectl();
    let cancel = ["patch", "dr", "to-qa", "-n", &world.host, "--type=merge", "-p", r#"{"spec":{"cancel":true}}"#];
    // The operator creates the binding that lets her patch, a moment after the pipeline was changed.
    world.until("dana may patch", async || dana.run(&cancel).unwrap().ok.then_some(())).await;
    let ended = world.end("to-qa").await;
    let message = "canceled before anything was written to the target".to_owned();
    assert_eq!((phase(&ended).as_str(), outcome(&ended)), ("Canceled", ("Canceled".to_owned(), message.clone())));
    assert_eq!(danas_view(&world, "Canceled").await.message, Some(message));
    let refused = world.decide("qa", "to-qa", "Approved").await.unwrap_err().to_string();
    assert!(refused.contains("ended"), "a decision after the end: {refused}");
    assert!(world.operator_writes(&world.qa, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_their_requests_cancels_them_by_deleting_them() {
    let world = world("deleted").await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    danas_view(&world, "AwaitingApproval").await;
    let requests = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    requests.delete("to-qa", &DeleteParams::default()).await.unwrap();
    let told = danas_view(&world, "Canceled").await;
    assert_eq!(told.message.as_deref(), Some("the request was deleted before anything was written to the target"));
    assert_eq!(in_qa(&world).await, None, "no claim is left");
    // Nothing blocks the next one.
    assert_eq!(phase(&world.deploy("again", "qa", "orders", "1.0.0").await), "Succeeded");
    assert_eq!(danas_view(&world, "Succeeded").await.request, "again");
    assert!(in_qa(&world).await.unwrap().claim.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_nobody_decides_closes() {
    let world = world("timeout").await;
    let mut impatient = object(&world, "Stage", "qa");
    impatient["spec"]["gates"] = json!({"timeout": "2s"});
    world.apply_as(&world.olga().await, &impatient).await.unwrap();
    world.ready::<Stage>("qa").await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.fails("to-qa", "GateTimedOut").await;
    let who = format!("by system:serviceaccount:{}:bot-qa; make a new request", world.host);
    assert!(message.starts_with("the approval was not decided between ") && message.ends_with(&who), "{message}");
    let late = world.decide("qa", "to-qa", "Approved").await.unwrap_err().to_string();
    assert!(late.contains("ended"), "{late}");
    assert!(world.operator_writes(&world.qa, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_pipeline_holds_what_is_approved_until_it_is_resumed() {
    let world = world("suspended").await;
    let olga = world.olga().await;
    let pipelines = Api::<Pipeline>::namespaced(olga.clone(), &world.host);
    let suspend = async |suspend: bool| {
        let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
        pipelines.patch("standard", &PatchParams::default(), &patch).await.unwrap();
    };
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    suspend(true).await;
    world.waits_for("to-qa", "PipelineSuspended").await;
    world.decide("qa", "to-qa", "Approved").await.unwrap();
    let held = world.until_request("to-qa", |r| phase(r) == "Queued").await;
    let (reason, message) = outcome(&held);
    assert_eq!(reason, "PipelineSuspended");
    assert!(message.starts_with("pipeline standard is suspended (spec.suspend): an administrator stopped new deployments"), "{message}");
    assert!(world.operator_writes(&world.qa, false).is_empty());
    suspend(false).await;
    assert_eq!(phase(&world.end("to-qa").await), "Succeeded");
    assert!(!world.operator_writes(&world.qa, false).is_empty());
}
