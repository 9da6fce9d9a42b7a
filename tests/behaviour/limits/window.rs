//! The maker's window: what runs comes first, and that it can't be written holds nothing up.

use kube::api::{Api, DeleteParams, Patch, PatchParams};
use pilotage::api::{Artifact, Solution, SolutionStatus};
use serde_json::json;

use crate::world::{World, outcome, phase};

async fn window(world: &World) -> SolutionStatus {
    Api::<Solution>::namespaced(world.admin.clone(), &world.dev).get("orders").await.unwrap().status.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_request_the_window_says_what_runs_and_one_made_again_finds_it() {
    let world = World::new("window-runs").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let bot = format!("approval: system:serviceaccount:{}:bot-qa", world.host);
    assert_eq!(first.status.unwrap().run.approved_by.as_deref(), Some(bot.as_str()));
    world.ask(&world.request("typo", "qa", "orders", "1.1.0")).await;
    world.fails("typo", "VersionDiffers").await;
    let told = window(&world).await;
    assert_eq!(told.deployments[0].runs.as_ref().unwrap().version, "1.0.0");
    assert_eq!(told.summary, "qa: 1.0.0", "what was never accepted is told beside it");
    assert_eq!(told.deployments[0].others[0].version, "1.1.0");
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    world.ask(&world.request("second", "qa", "orders", "1.1.0")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "second", "Rejected").await.unwrap();
    world.end("second").await;
    assert_eq!(window(&world).await.summary, "qa: 1.0.0 (1.1.0 Rejected)");

    // The record names who decided, and fills the window of a Solution that was made again.
    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.0.0").await.unwrap();
    let record = &artifact.status.unwrap().deployments[0];
    assert_eq!((record.approved_by.as_deref(), record.decisions.len()), (Some(bot.as_str()), 1));
    let solutions = Api::<Solution>::namespaced(world.admin.clone(), &world.dev);
    solutions.delete("orders", &DeleteParams::default()).await.unwrap();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    world.until("the window is filled from the record", async || (window(&world).await.summary == "qa: 1.0.0").then_some(())).await;
    assert_eq!(window(&world).await.deployments[0].approved_by.as_deref(), Some(bot.as_str()));

    // A stage that is gone is not told of.
    let stages = Api::<pilotage::api::Stage>::namespaced(world.admin.clone(), &world.host);
    stages.delete("qa", &DeleteParams::default()).await.unwrap();
    world.until("the stage that is gone is not told of", async || window(&world).await.deployments.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_can_not_be_written_holds_up_no_request_and_keeps_no_claim() {
    let world = World::new("window-full").await;
    let description = "𝒫".repeat(1000);
    let target = |number: usize| json!({"kind": "ConfigMap", "name": "orders", "path": format!("/data/k{number}")});
    let variables: Vec<_> = (0..100).map(|n| json!({"name": format!("V{n}"), "description": description, "target": target(n)})).collect();
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["environmentVariables"] = json!(variables);
    let components: Vec<_> = (0..63).map(|_| json!({"group": "", "kind": "ConfigMap"})).collect();
    solution["spec"]["components"] = json!(components);
    world.apply(&[solution, world.config("orders", "orders", json!({}))]).await;
    // Managed fields of many writers fill what the status would need.
    let solutions = Api::<Solution>::namespaced(world.admin.clone(), &world.dev);
    let mut filled = 0;
    for writer in 0..400 {
        let params = PatchParams { field_manager: Some(format!("writer-{writer}")), ..PatchParams::apply("x").force() };
        let mut own = world.solution("orders", "1.0.0");
        own["spec"]["environmentVariables"] = json!(variables);
        match solutions.patch("orders", &params, &Patch::Apply(&own)).await {
            Ok(_) => filled += 1,
            Err(_) => break,
        }
    }
    assert!(filled < 400, "there is an end to what an object holds");
    let pad = async |bytes: usize| {
        let annotations = Patch::Merge(json!({"metadata": {"annotations": {"example.test/pad": "x".repeat(bytes)}}}));
        solutions.patch("orders", &PatchParams::default(), &annotations).await.is_ok()
    };
    let (mut fits, mut too_much) = (0, 200_000);
    while too_much - fits > 64 {
        let middle = usize::midpoint(fits, too_much);
        if pad(middle).await { fits = middle } else { too_much = middle }
    }
    let request = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    assert!(window(&world).await.deployments.is_empty(), "there was no room for it");
    let target = Api::<pilotage::api::Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    assert!(target.status.unwrap().solutions.iter().all(|solution| solution.claim.is_none()));
}
