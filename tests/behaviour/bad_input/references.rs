//! Requests, stages and environments that name something that does not exist or is not theirs.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use pilotage::api::{DeploymentRequest, Environment, Pipeline, Stage};
use serde_json::{Value, json};

use super::{grant, nothing_was_written, world};
use crate::world::World;

/// A request whose spec differs in one field.
fn request(world: &World, name: &str, field: &str, value: Value) -> DeploymentRequest {
    let mut request = serde_json::to_value(world.request(name, "qa", "orders", "1.0.0")).unwrap();
    request["spec"][field] = value;
    serde_json::from_value(request).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_pipeline_is_refused_to_a_maker_and_awaited_for_an_administrator() {
    let world = world("no-pipeline").await;
    let unknown = request(&world, "unknown", "pipeline", "nowhere".into());
    let as_dana = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let refused = as_dana.create(&PostParams::default(), &unknown).await.unwrap_err().to_string();
    let message = format!(
        "dana may not deploy through pipeline {}/nowhere, which is not shared with them (verb deploy): ask its administrator to add them, or a group of theirs, to its spec.sharedWith",
        world.host
    );
    assert!(refused.contains(&message), "{refused}");

    let as_admin = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host);
    as_admin.create(&PostParams::default(), &unknown).await.unwrap();
    let message = world.waits_for("unknown", "PipelineNotFound").await;
    assert!(message.starts_with(&format!("pipeline nowhere does not exist in host {}. Waits until ", world.host)), "{message}");
    nothing_was_written(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_stage_is_awaited() {
    let world = world("no-stage").await;
    world.ask(&world.request("unknown", "nowhere", "orders", "1.0.0")).await;
    let message = world.waits_for("unknown", "StageNotFound").await;
    assert!(message.starts_with(&format!("stage nowhere does not exist in host {}. Waits until ", world.host)), "{message}");
    nothing_was_written(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_environment_is_named_by_the_stage_and_by_its_requests() {
    let world = world("no-environment").await;
    let mut stage = world.pipeline().into_iter().find(|o| o["metadata"]["name"] == "prod" && o["kind"] == "Stage").unwrap();
    stage["metadata"]["name"] = "lost".into();
    stage["spec"]["targetEnvironment"] = "nowhere".into();
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    let message = world.until_condition::<Stage>("lost", "Ready", "UnknownEnvironment").await;
    assert_eq!(
        message,
        format!("Environment nowhere does not exist in namespace {}: create it, or correct spec.targetEnvironment", world.host)
    );
    world.ask(&world.request("lost", "lost", "orders", "1.0.0")).await;
    let said = world.waits_for("lost", "StageNotReady").await;
    assert!(said.starts_with("stage lost is not ready: ") && said.contains(&message), "{said}");
    nothing_was_written(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_of_another_pipeline_is_refused_with_the_name_of_its_own() {
    let world = world("other-pipeline").await;
    let olga = world.olga().await;
    let mut objects = world.pipeline();
    objects.retain(|o| o["kind"] == "Pipeline" || (o["kind"] == "Stage" && o["metadata"]["name"] == "qa"));
    for mut object in objects {
        let name = if object["kind"] == "Pipeline" { "other" } else { "other-qa" };
        object["metadata"]["name"] = name.into();
        if object["kind"] == "Stage" {
            object["spec"]["pipeline"] = "other".into();
        }
        world.apply_as(&olga, &object).await.unwrap();
    }
    world.ready::<Pipeline>("other").await;
    let confused = request(&world, "confused", "pipeline", "other".into());
    let as_dana = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    world.until("the other pipeline is shared", async || as_dana.create(&PostParams::default(), &confused).await.ok()).await;
    assert_eq!(
        world.fails("confused", "StageOfOtherPipeline").await,
        "stage qa is part of pipeline standard, not of other; make a new request that names the right one"
    );
    nothing_was_written(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_linked_is_refused_with_those_that_are() {
    let world = world("no-source").await;
    world.ask(&request(&world, "unlinked", "sourceEnvironment", "prod".into())).await;
    assert_eq!(
        world.fails("unlinked", "SourceNotLinked").await,
        "environment prod is not a development environment of pipeline standard (it has: dev); make a new request that names one of these"
    );
    nothing_was_written(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_did_not_opt_in_is_not_managed_until_its_administrator_does_as_it_says() {
    let world = World::bare("stranger").await;
    let namespace = format!("{}-else", world.qa);
    world.apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})]).await;
    let environment = world.host_object("Environment", "stranger", json!({"type": "Target", "namespace": namespace}));
    world.apply_as(&world.olga().await, &environment).await.unwrap();
    let message = world.until_condition::<Environment>("stranger", "Ready", "NotManaged").await;
    let host = &world.host;
    assert!(
        message
            .starts_with(&format!("namespace {namespace} has not given itself to host {host} as a Target environment, or does not exist.")),
        "{message}"
    );
    assert!(message.contains(&format!("(kubectl label namespace {namespace} pilotage.dev/managed-by={host})")), "{message}");
    assert!(grant(&message).contains("kind: Role\n") && message.contains(&format!("system:serviceaccounts:{host}")), "{message}");
    world.plane.kubectl().apply(grant(&message)).unwrap();
    world.ready::<Environment>("stranger").await;
    Api::<Namespace>::all(world.admin.clone()).delete(&namespace, &DeleteParams::default()).await.unwrap();
}
