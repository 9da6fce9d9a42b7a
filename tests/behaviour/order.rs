//! The order of stages: nothing skips a stage, and nobody has to wait for an unrelated stage.

use kube::Api;
use kube::api::DeleteParams;
use pilotage::api::{Pipeline, Stage};
use serde_json::{Value, json};

use crate::world::{World, ended, outcome, phase};

/// A Stage of the world's pipeline, to be changed.
fn stage(world: &World, name: &str) -> Value {
    world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn production_before_qa_is_refused_with_what_to_do_first() {
    let world = World::new("order").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ask(&world.request("too-early", "prod", "orders", "1.0.0")).await;
    assert_eq!(
        world.fails("too-early", "PreviousStageNotSucceeded").await,
        "orders 1.0.0 has not succeeded in stage qa, which comes before prod; ask for a deployment to qa first, then make a new request"
    );
    assert!(world.operator_writes(&world.prod, true).is_empty(), "not even a dry run");
}

#[tokio::test(flavor = "multi_thread")]
async fn production_waits_for_qas_request_and_goes_on_by_itself() {
    let world = World::new("follow").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    world.ask(&world.request("to-prod", "prod", "orders", "1.0.0")).await;
    let message = world.waits_for("to-prod", "PreviousStageInProgress").await;
    assert!(message.starts_with("orders 1.0.0 is on its way to stage qa with request to-qa; it must succeed there first"), "{message}");
    assert!(!message.contains("Waits until"), "as long as QA takes: {message}");
    assert_eq!(phase(&world.approved("to-qa", "qa").await), "Succeeded");
    world.until_request("to-prod", |r| phase(r) == "AwaitingApproval").await;
    assert_eq!(phase(&world.approved("to-prod", "prod").await), "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_both_stages_may_be_made_at_once_in_any_order() {
    let world = World::new("both").await;
    for (solution, order) in [("first", ["qa", "prod"]), ("second", ["prod", "qa"])] {
        world.apply(&[world.solution(solution, "1.0.0"), world.config(solution, solution, json!({}))]).await;
        let requests: Vec<Value> = order
            .iter()
            .map(|stage| {
                world.danas(serde_json::to_value(world.request(&format!("{solution}-{stage}"), stage, solution, "1.0.0")).unwrap())
            })
            .collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": requests}).to_string();
        let made = world.danas_kubectl().run_with(&["create", "-f", "-"], &list).unwrap();
        assert!(made.ok, "{}", made.stderr);
    }
    for stage in ["qa", "prod"] {
        for solution in ["first", "second"] {
            let request = world.approved(&format!("{solution}-{stage}"), stage).await;
            assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_in_qa_does_not_get_to_production() {
    let world = World::new("failed").await;
    let mut impatient = stage(&world, "qa");
    impatient["spec"]["deployment"]["timeout"] = "1s".into();
    world.apply_as(&world.olga().await, &impatient).await.unwrap();
    world.ready::<Stage>("qa").await;
    let labels = json!({"app.kubernetes.io/part-of": "stuck"});
    world
        .apply(&[
            world.solution("stuck", "1.0.0"),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "stuck", "namespace": world.dev, "labels": labels},
                "spec": {
                    "selector": {"matchLabels": {"app": "stuck"}},
                    "template": {
                        "metadata": {"labels": {"app": "stuck"}},
                        "spec": {"nodeSelector": {"there": "is-none"}, "containers": [{"name": "stuck", "image": "stuck"}]},
                    },
                },
            }),
        ])
        .await;
    world.deploy("to-qa", "qa", "stuck", "1.0.0").await;
    let message = world.fails("to-qa", "DeploymentTimedOut").await;
    assert!(message.starts_with("applied, but not healthy by ") && message.contains("Deployment stuck"), "{message}");
    world.ask(&world.request("to-prod", "prod", "stuck", "1.0.0")).await;
    let message = world.fails("to-prod", "PreviousStageNotSucceeded").await;
    assert!(message.starts_with("stuck 1.0.0 has not succeeded in stage qa"), "{message}");
    assert!(world.operator_writes(&world.prod, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_success_of_a_stage_that_is_gone_is_not_that_of_its_namesake_for_another_target() {
    let world = World::new("namesake").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");

    let olga = world.olga().await;
    let mut elsewhere = stage(&world, "qa");
    elsewhere["spec"]["targetEnvironment"] = "prod".into();
    elsewhere["spec"]["delegatedDeployment"]["serviceAccountName"] = "bot-prod".into();
    let stages = Api::<Stage>::namespaced(olga.clone(), &world.host);
    let old = stages.get("qa").await.unwrap().metadata.uid;
    stages.delete("qa", &DeleteParams::default()).await.unwrap();
    world
        .until("the stage is made again", async || {
            let made = world.apply_as(&olga, &elsewhere).await.ok()?;
            (made.metadata.uid != old).then_some(())
        })
        .await;
    world.ready::<Stage>("qa").await;
    world.ready::<Pipeline>("standard").await;

    world.ask(&world.request("to-prod", "prod", "orders", "1.0.0")).await;
    let refused = world.until_request("to-prod", ended).await;
    let (reason, message) = outcome(&refused);
    assert_eq!(reason, "PreviousStageNotSucceeded", "{message}");
    // It did succeed in a stage of that name. The message makes this clear.
    assert!(
        message.starts_with("orders 1.0.0 succeeded in stage qa when that led to environment qa, a namespace with the uid "),
        "{message}"
    );
    assert!(message.contains("it leads to environment prod now") && message.contains("(request to-qa)"), "{message}");
    assert!(world.operator_writes(&world.prod, false).is_empty());
}
