//! Attacks on the maker's view: only those who may read a Solution can add to its status, and it shows what was accepted.

use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use pilotage::api::solution::SolutionDeployment;
use pilotage::api::solution_stages::SolutionStage;
use pilotage::api::{DeploymentRequest, Environment, Pipeline, Solution};
use serde_json::json;

use crate::attempt::ignored;
use crate::scene::{orders, person, requests};
use crate::world::{World, ended, outcome, phase};

async fn makers_view(world: &World) -> Vec<SolutionDeployment> {
    let solutions = Api::<Solution>::namespaced(world.admin.clone(), &world.dev);
    solutions.get("orders").await.unwrap().status.unwrap_or_default().deployments
}

async fn offered(world: &World) -> Vec<SolutionStage> {
    let solutions = Api::<Solution>::namespaced(world.admin.clone(), &world.dev);
    solutions.get("orders").await.unwrap().status.unwrap_or_default().stages
}

/// A world whose pipeline is also shared with sam, who has no right in development.
async fn with_sam(name: &str) -> (World, Client) {
    let world = World::bare(name).await;
    let mut pipeline = world.pipeline();
    for object in &mut pipeline {
        if object["kind"] == "Pipeline" {
            object["spec"]["sharedWith"] = json!([{"kind": "Group", "name": "makers"}, {"kind": "User", "name": "sam"}]);
        }
    }
    world.configure_with(pipeline).await;
    let sam = person(&world, "sam", &[]).await;
    (world, sam)
}

async fn ask(world: &World, who: &Client, request: &DeploymentRequest) {
    let api = requests(world, who.clone());
    world.until("the pipeline is shared", async || api.create(&kube::api::PostParams::default(), request).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_a_solution_writes_nothing_into_its_status() {
    let (world, sam) = with_sam("view-unread").await;
    orders(&world).await;
    ask(&world, &sam, &world.request("sams", "qa", "orders", "9.9.9")).await;
    world.fails("sams", "VersionDiffers").await;
    // Many stages that do not exist.
    for number in 0..8 {
        ask(&world, &sam, &world.request(&format!("nowhere-{number}"), &format!("no-such-stage-{number}"), "orders", "1.0.0")).await;
    }
    world.waits_for("nowhere-7", "StageNotFound").await;
    let request = world.deploy("danas", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    let seen = makers_view(&world).await;
    let is_danas = seen.len() == 1 && seen[0].requester == "dana" && seen[0].others.is_empty();
    ignored(195, "who may deploy and may not read development asks for its solution", is_danas, &seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_host_tells_nothing_through_an_environment_that_is_not_valid() {
    let world = World::new("view-foreign").await;
    orders(&world).await;
    let evil = format!("{}-evil", world.host);
    let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
    let object = |kind: &str, name: &str, spec: serde_json::Value| {
        let mut object = world.host_object(kind, name, spec);
        object["metadata"]["namespace"] = evil.clone().into();
        object
    };
    world
        .apply(&[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": evil, "labels": {"pilotage.dev/host": "true"}}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "pilotage-host", "namespace": evil},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "pilotage-host"}, "subjects": operator}),
            object("Environment", "stolen", json!({"type": "Development", "namespace": world.dev})),
            object("Environment", "nothing", json!({"type": "Target", "namespace": world.prod})),
            object("Pipeline", "p", json!({"developmentEnvironments": ["stolen"], "sharedWith": [{"kind": "Group", "name": "makers"}]})),
            object("Stage", "s", json!({"pipeline": "p", "targetEnvironment": "nothing"})),
        ])
        .await;
    let environments: Api<Environment> = Api::namespaced(world.admin.clone(), &evil);
    let judged = async || {
        let status = environments.get("stolen").await.unwrap().status?;
        (status.validation_status == pilotage::api::environment::ValidationStatus::Failed).then_some(())
    };
    world.until("the stolen Environment is judged", judged).await;
    let spec = json!({"pipeline": "p", "stage": "s", "solution": {"name": "orders", "version": "9.9.9"}, "sourceEnvironment": "stolen"});
    world.apply(&[object("DeploymentRequest", "flood", spec)]).await;
    let asked: Api<DeploymentRequest> = Api::namespaced(world.admin.clone(), &evil);
    world.until("the request waits", async || (phase(&asked.get("flood").await.unwrap()) == "Pending").then_some(())).await;
    // If it was written beside the other request, it would be there before that request is shown.
    let request = world.deploy("danas", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    let seen = makers_view(&world).await;
    let only_here = !seen.is_empty() && seen.iter().all(|entry| entry.host == world.host);
    ignored(196, "a host asks for a solution of a namespace that is not its own", only_here, &seen);
    let offered = offered(&world).await;
    let only_here = !offered.is_empty() && offered.iter().all(|stage| stage.host == world.host);
    ignored(247, "a host offers its stages in a namespace that is not its own", only_here, &offered);
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(world.admin.clone());
    let confirm = Patch::Merge(json!({"metadata": {"annotations": {"pilotage.dev/confirm-delete": evil}}}));
    namespaces.patch(&evil, &PatchParams::default(), &confirm).await.unwrap();
    namespaces.delete(&evil, &kube::api::DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requests_of_others_are_not_named_to_makers_of_a_private_pipeline() {
    let world = World::new("view-named").await;
    let sink = json!({"spec": {"sinks": [{"url": "http://127.0.0.1:9/nobody-listens"}]}});
    let pipelines = Api::<Pipeline>::namespaced(world.admin.clone(), &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(sink)).await.unwrap();
    let mut dependent = world.solution("orders", "1.0.0");
    dependent["spec"]["dependencies"] = json!([{"name": "base", "version": ">=1.0"}]);
    world
        .apply(&[
            dependent,
            world.config("orders", "orders", json!({})),
            world.solution("base", "1.0.0"),
            world.config("base", "base", json!({})),
        ])
        .await;
    let dan = person(&world, "dan", &["makers"]).await;
    ask(&world, &dan, &world.request("nightfall", "qa", "base", "1.0.0")).await;
    world.until_request("nightfall", |r| phase(r) == "AwaitingApproval").await;
    world.ask(&world.request("danas", "qa", "orders", "1.0.0")).await;
    // Whoever may read the host reads the name.
    world.until_request("danas", |r| outcome(r).1.contains("Request nightfall brings one of them")).await;
    let dana = world.dana().await;
    let solutions = Api::<Solution>::namespaced(dana.clone(), &world.dev);
    let told = async || {
        let status = solutions.get("orders").await.unwrap().status?;
        status
            .deployments
            .iter()
            .any(|entry| entry.message.as_ref().is_some_and(|said| said.contains("brings one of them")))
            .then_some(status)
    };
    let status = world.until("the Solution says what is waited for", told).await;
    let said = serde_json::to_string(&status).unwrap();
    ignored(241, "a maker reads on their Solution what others ask for", !said.contains("nightfall"), &status);
    let failing = async || {
        let status = Api::<Pipeline>::namespaced(dana.clone(), &world.host).get("standard").await.unwrap().status?;
        status.sinks.iter().any(|sink| sink.waiting > 0).then_some(status)
    };
    let status = world.until("the sink fails", failing).await;
    let said = serde_json::to_string(&status).unwrap();
    let names_nobody = ["nightfall", "danas", "\"dan\"", "base"].iter().all(|name| !said.contains(name));
    ignored(242, "a maker reads in their pipeline's status what others ask for", names_nobody, &status);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_persons_request_does_not_hide_anothers() {
    let world = World::new("view-hidden").await;
    orders(&world).await;
    world.ask(&world.request("danas", "qa", "orders", "1.0.0")).await;
    world.until_request("danas", |r| phase(r) == "AwaitingApproval").await;
    let dan = person(&world, "dan", &["makers"]).await;
    ask(&world, &dan, &world.request("dans", "qa", "orders", "9.9.8")).await;
    world.fails("dans", "VersionDiffers").await;
    world.decide("qa", "danas", "Rejected").await.unwrap();
    let rejected = world.until_request("danas", ended).await;
    assert_eq!(phase(&rejected), "Rejected");
    let seen = makers_view(&world).await;
    let first = seen.first();
    let shown = first.is_some_and(|entry| entry.request == rejected.name_any() && entry.approval_comments.as_deref() == Some("as tested"));
    ignored(197, "a request that is never accepted takes the place of one that is", shown, &seen);
    assert!(first.unwrap().others.iter().any(|other| other.requester == "dan"), "and is told beside it: {seen:?}");
    assert_eq!(first.unwrap().runs, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_stages_names_nothing_that_concerns_the_host_alone() {
    let world = World::new("view-stages").await;
    orders(&world).await;
    let told = async |what: &str, wanted: &dyn Fn(&[SolutionStage]) -> bool| {
        world.until(what, async || Some(offered(&world).await).filter(|stages| wanted(stages))).await
    };
    told("the stages are told", &|stages| stages.len() == 2).await;
    // The message of the stage's condition names the delegate, and whoever has to act.
    let accounts = Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(world.admin.clone(), &world.host);
    accounts.delete("bot-prod", &kube::api::DeleteParams::default()).await.unwrap();
    let hindered =
        |stages: &[SolutionStage]| stages.iter().any(|s| s.stage == "prod" && s.obstacles.iter().any(|o| o.reason == "StageNotReady"));
    let stages = told("stage prod is not ready", &hindered).await;
    let said = serde_json::to_string(&stages).unwrap();
    let quiet = said.contains("ServicePrincipalNotFound") && !said.contains("bot-prod") && !said.contains(&world.prod);
    ignored(248, "readers of development learn what the condition of a stage says", quiet, &said);
    // A pipeline that is shared with nobody is nobody's business in development.
    let pipelines = Api::<pilotage::api::Pipeline>::namespaced(world.olga().await, &world.host);
    let unshared = Patch::Merge(json!({"spec": {"sharedWith": []}}));
    pipelines.patch("standard", &PatchParams::default(), &unshared).await.unwrap();
    let generation = pipelines.get("standard").await.unwrap().metadata.generation.unwrap();
    let noticed = async || (pipelines.get("standard").await.unwrap().status?.observed_generation == generation).then_some(());
    world.until("the pipeline is not shared any more", noticed).await;
    let stages = told("no stage is told any more", &|stages| stages.is_empty()).await;
    ignored(249, "readers of development learn of a pipeline that is shared with nobody", stages.is_empty(), &stages);
}
