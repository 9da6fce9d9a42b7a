//! What a maker can ask for from development: told by the Solution's status, with nothing but the maker's own rights.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use pilotage::api::solution_plans::SolutionPlan;
use pilotage::api::solution_stages::SolutionStage;
use pilotage::api::{Artifact, DeploymentRequest, Environment, Pipeline, Solution, condition};
use pilotage_harness::Registry;
use serde_json::{Value, json};

use crate::grant::plugin;
use crate::shipped::{config, folder, request, takes_from};
use crate::world::{World, ended, outcome, phase};

/// The Solution, as dana reads it.
async fn solution(world: &World, name: &str) -> Solution {
    Api::<Solution>::namespaced(world.dana().await, &world.dev).get(name).await.unwrap()
}

/// Waits until the Solution tells what is wanted of a stage.
async fn told(world: &World, name: &str, stage: &str, what: &str, wanted: impl Fn(&SolutionStage) -> bool) -> SolutionStage {
    let dana = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    world
        .until(&format!("Solution {name} says of stage {stage}: {what}"), async || {
            let stages = dana.get(name).await.ok()?.status?.stages;
            stages.into_iter().find(|told| told.stage == stage && wanted(told))
        })
        .await
}

fn reasons(stage: &SolutionStage) -> Vec<&str> {
    stage.obstacles.iter().map(|o| o.reason.as_str()).collect()
}

async fn develop(world: &World, name: &str, version: &str) {
    let mut solution = world.solution(name, version);
    solution["spec"]["environmentVariables"] =
        json!([{"name": "GREETING", "required": true, "target": {"kind": "ConfigMap", "name": name, "path": "/data/greeting"}}]);
    world.apply(&[solution, world.config(name, name, json!({"greeting": "hello"}))]).await;
}

fn greeting(world: &World, name: &str, stage: &str, solution: &str, version: &str) -> DeploymentRequest {
    let mut request = serde_json::to_value(world.request(name, stage, solution, version)).unwrap();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": [{"name": "GREETING", "value": "welcome"}]});
    serde_json::from_value(request).unwrap()
}

/// The same request, which only plans.
fn planning(mut request: DeploymentRequest) -> DeploymentRequest {
    request.spec.plan_only = true;
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_tells_what_may_come_next_in_each_stage_and_what_stands_in_the_way() {
    let world = World::new("asking").await;
    develop(&world, "orders", "1.0.0").await;
    let first = told(&world, "orders", "qa", "1.0.0 may come", |s| s.next.as_deref() == Some("1.0.0")).await;
    assert_eq!((first.host.as_str(), first.pipeline.as_str(), first.order), (world.host.as_str(), "standard", 1));
    assert_eq!((first.source_environment.as_deref(), first.shared_with.as_str()), (Some("dev"), "Group makers"));
    assert!(first.obstacles.is_empty(), "{first:?}");
    let later = told(&world, "orders", "prod", "it waits for qa", |s| s.order == 2).await;
    assert_eq!((later.next.as_deref(), later.previous_stage.as_deref()), (None, Some("qa")));
    assert_eq!(reasons(&later), ["PreviousStageNotSucceeded"]);
    // kubectl waits for it as for anything else.
    let kubectl = world.danas_kubectl();
    let waited = kubectl.run(&["wait", "--for=condition=Ready", "solution/orders", "-n", &world.dev, "--timeout=60s"]).unwrap();
    assert!(waited.ok, "{}", waited.stderr);

    world.ask(&greeting(&world, "first", "qa", "orders", "1.0.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let asked = told(&world, "orders", "qa", "it was asked for", |s| !s.obstacles.is_empty()).await;
    assert_eq!((asked.next.as_deref(), reasons(&asked)), (Some("1.0.0"), vec!["RequestedAlready"]));
    assert!(asked.obstacles[0].message.contains("request first of dana"), "{asked:?}");
    let end = world.approved("first", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let next = told(&world, "orders", "prod", "1.0.0 may come", |s| s.next.as_deref() == Some("1.0.0")).await;
    assert!(next.obstacles.is_empty(), "{next:?}");
    let same = told(&world, "orders", "qa", "nothing may come", |s| s.next.is_none()).await;
    assert_eq!(reasons(&same), ["VersionNotHigher"]);
    // What the stored version needs is told, as makers may not read artifacts.
    let versions = solution(&world, "orders").await.status.unwrap().versions;
    let needed: Vec<_> = versions.iter().flat_map(|v| &v.environment_variables).map(|v| (v.name.as_str(), v.required)).collect();
    assert_eq!((versions[0].version.as_str(), needed), ("1.0.0", vec![("GREETING", true)]));

    develop(&world, "orders", "1.1.0").await;
    told(&world, "orders", "qa", "1.1.0 may come", |s| s.next.as_deref() == Some("1.1.0") && s.obstacles.is_empty()).await;

    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    let change = async |spec: Value| {
        pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    };
    change(json!({"suspend": true})).await;
    told(&world, "orders", "qa", "it is suspended", |s| reasons(s) == ["PipelineSuspended"]).await;
    change(json!({"suspend": false, "sharedWith": []})).await;
    let dana = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    world
        .until("it says that nothing can be asked for", async || {
            let status = dana.get("orders").await.ok()?.status?;
            let ready = condition::find(&status.conditions, "Ready")?;
            (status.stages.is_empty() && ready.reason == "NoPipeline").then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_operator_looks_at_says_so() {
    // Its development namespace has no Environment, and no other of its namespaces is a host.
    let world = World::bare("unseen").await;
    develop(&world, "orders", "1.0.0").await;
    let mut environment = world.pipeline().remove(0);
    environment["metadata"]["namespace"] = world.dev.clone().into();
    world.apply(&[environment]).await;
    let status = solution(&world, "orders").await.status.unwrap();
    let ready = condition::find(&status.conditions, "Ready").unwrap();
    assert_eq!((ready.reason.as_str(), status.observed_generation), ("NotLookedAt", -1));
    let environment = Api::<Environment>::namespaced(world.admin.clone(), &world.dev).get("dev").await.unwrap();
    assert_eq!(serde_json::to_value(environment.status).unwrap()["validationStatus"], "Pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_only_plans_leaves_nothing_behind_and_keeps_the_version_open() {
    let world = World::new("plan-only").await;
    develop(&world, "orders", "1.0.0").await;
    world.ask(&planning(greeting(&world, "dry", "qa", "orders", "1.0.0"))).await;
    let dry = world.until_request("dry", ended).await;
    assert_eq!((phase(&dry).as_str(), outcome(&dry).0.as_str()), ("Planned", "Planned"), "{:?}", outcome(&dry));
    let run = dry.status.unwrap().run;
    let plan = run.plan.unwrap();
    assert_eq!((plan.create, plan.objects.len(), plan.delegate), (1, 1, format!("system:serviceaccount:{}:bot-qa", world.host)));
    assert!(run.gates.is_empty() && run.start_time.is_none() && run.artifact.is_none() && run.deployed_by.is_none());
    assert!(condition::is_true(&run.conditions, "Succeeded") && condition::is_true(&run.conditions, "Validated"));
    // Its maker, who may not read it, sees it in development; and what may be asked for is as it was.
    let seen = |status: &pilotage::api::SolutionStatus, request: &str| -> Option<SolutionPlan> {
        status.plans.iter().find(|plan| plan.request == request).cloned()
    };
    let status = solution(&world, "orders").await.status.unwrap();
    let plan = seen(&status, "dry").unwrap();
    assert_eq!((plan.phase.as_str(), plan.requester.as_str(), plan.objects[0].name.as_str()), ("Planned", "dana", "orders"));
    assert!(status.deployments.is_empty(), "nothing is deployed: {:?}", status.deployments);
    told(&world, "orders", "qa", "1.0.0 may come", |s| s.next.as_deref() == Some("1.0.0") && s.obstacles.is_empty()).await;
    // Nothing is stored, claimed or written.
    let artifacts = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
    assert!(artifacts.items.is_empty(), "{:?}", artifacts.items);
    let qa = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    assert!(qa.status.unwrap().solutions.is_empty());
    assert!(world.operator_writes(&world.qa, false).is_empty() && !world.operator_writes(&world.qa, true).is_empty());
    // Development changes, and the same version ships the change.
    world.apply(&[world.config("orders", "orders", json!({"greeting": "hello", "more": "of it"}))]).await;
    world.ask(&greeting(&world, "wet", "qa", "orders", "1.0.0")).await;
    let end = world.approved("wet", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let data = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("orders").await.unwrap().data.unwrap();
    assert_eq!(data.get("more").map(String::as_str), Some("of it"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_only_plans_waits_for_nobody_and_nobody_for_it() {
    let world = World::new("plan-way").await;
    develop(&world, "orders", "1.0.0").await;
    // A setting is missing: it says so, and ends.
    world.ask(&planning(world.request("unset", "qa", "orders", "1.0.0"))).await;
    let message = world.fails("unset", "SettingsRefused").await;
    assert!(message.contains("GREETING"), "{message}");
    let unset = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).get("unset").await.unwrap();
    let results = unset.status.unwrap().run.plan.unwrap().results;
    assert_eq!(results[0].reason, "VariableMissing");
    // A later stage is planned as soon as there is something to plan; the order is told.
    world.ask(&greeting(&world, "first", "qa", "orders", "1.0.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    world.ask(&planning(greeting(&world, "ahead", "prod", "orders", "1.0.0"))).await;
    let ahead = world.until_request("ahead", ended).await;
    assert_eq!(phase(&ahead), "Planned", "{:?}", outcome(&ahead));
    let results = ahead.status.unwrap().run.plan.unwrap().results;
    assert!(results.iter().any(|r| r.reason == "PreviousStageNotSucceeded" && r.message.contains("stage qa")), "{results:?}");
    let end = world.approved("first", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    // A stage that does not exist is not waited for as long as for a deployment.
    world.ask(&planning(greeting(&world, "nowhere", "nowhere", "orders", "1.0.0"))).await;
    world.fails("nowhere", "StageNotFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_and_properties_of_all_gates_reach_the_requester() {
    let world = World::bare("gates-told").await;
    let mut pipeline = world.pipeline();
    for object in pipeline.iter_mut().filter(|o| o["metadata"]["name"] == "qa" && o["kind"] == "Stage") {
        object["spec"]["preExportStepRequired"] = true.into();
        object["spec"]["preDeploymentStepRequired"] = true.into();
    }
    world.configure_with(pipeline).await;
    develop(&world, "orders", "1.0.0").await;
    world.ask(&greeting(&world, "first", "qa", "orders", "1.0.0")).await;
    let eve = Api::<DeploymentRequest>::namespaced(world.eve().await, &world.host);
    let step = async |step: &str, comments: &str| {
        let decision = json!({"decision": "Completed", "comments": comments, "properties": {"ticket": format!("{step}-1")}});
        eve.patch_status("first", &PatchParams::default(), &Patch::Merge(json!({"status": {(step): decision}}))).await.unwrap();
    };
    world.until_request("first", |r| phase(r) == "AwaitingPreExportStep").await;
    step("preExportStep", "looks fine").await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "first", "Approved").await.unwrap();
    world.until_request("first", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    step("preDeploymentStep", "backup is made").await;
    let end = world.end("first").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let status = solution(&world, "orders").await.status.unwrap();
    let said: Vec<_> = status.deployments[0]
        .decisions
        .iter()
        .map(|d| {
            (d.decision.as_str(), d.by.as_str(), d.comments.as_deref().unwrap_or_default(), d.properties.get("ticket").map(String::as_str))
        })
        .collect();
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    assert_eq!(
        said,
        [
            ("Completed", "eve", "looks fine", Some("preExportStep-1")),
            ("Approved", bot.as_str(), "as tested", None),
            ("Completed", "eve", "backup is made", Some("preDeploymentStep-1")),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_from_a_registry_is_as_visible_to_its_maker_as_anything_else() {
    let world = World::new("asking-oci").await;
    let registry = Registry::start(&world.plane).unwrap();
    takes_from(&world, json!([{"url": registry.url("team"), "plainHttp": true}])).await;
    registry.push_flux("team/orders:2.0.0", &folder(&world, &[("app.yaml", &config("orders", "hello"))])).unwrap();
    // Dana develops it too, and follows there what CI has pushed.
    develop(&world, "orders", "1.0.0").await;
    told(&world, "orders", "qa", "1.0.0 may come", |s| s.next.as_deref() == Some("1.0.0")).await;
    let url = registry.url("team/orders");
    world.ask(&request(&world, "pushed", "2.0.0", &url, &json!({"tag": "2.0.0"}))).await;
    let waiting = world.until_request("pushed", |r| phase(r) == "AwaitingApproval").await;
    let source = waiting.status.unwrap().run.source.unwrap();
    let dana = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    let shown = async |phase: &str| {
        world
            .until(&format!("dana sees that it is {phase}"), async || {
                let deployments = dana.get("orders").await.ok()?.status?.deployments;
                deployments.into_iter().find(|d| d.request == "pushed" && d.phase == phase)
            })
            .await
    };
    assert_eq!(shown("AwaitingApproval").await.artifact.as_deref(), Some(source.as_str()));
    let kubeconfig = world.plane.user_kubeconfig("dana", &["makers"]).unwrap();
    let said = plugin(&world, &kubeconfig, &["cancel", "pushed", "--from", &world.dev]).unwrap();
    assert!(said.contains("withdraws it"), "{said}");
    shown("Canceled").await;
    // It is made again from where it came, and not from development.
    let said = plugin(&world, &kubeconfig, &["retry", "pushed", "--from", &world.dev, "--defaults"]).unwrap();
    let name = said.split("request ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let end = world.approved(&name, "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let oci = &end.spec.artifact.as_ref().unwrap().oci;
    assert_eq!(format!("{}@{}", oci.url, oci.digest.as_deref().unwrap()), source);
    // The next stage is told of in development too.
    world.deploy("onward", "prod", "orders", "2.0.0").await;
    world
        .until("dana sees it in production", async || {
            let deployments = dana.get("orders").await.ok()?.status?.deployments;
            deployments.into_iter().find(|d| d.stage == "prod" && d.phase == "Succeeded")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_on_the_solution_tell_its_story_where_the_operator_may_write_them() {
    let world = World::new("story").await;
    develop(&world, "orders", "1.0.0").await;
    world.ask(&planning(greeting(&world, "dry", "qa", "orders", "1.0.0"))).await;
    world.until_request("dry", ended).await;
    world.ask(&greeting(&world, "first", "qa", "orders", "1.0.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "first", "Rejected").await.unwrap();
    world.end("first").await;
    world.ask(&greeting(&world, "second", "qa", "orders", "1.0.0")).await;
    world.approved("second", "qa").await;
    let kubectl = world.danas_kubectl();
    let story = world
        .until("the whole story is told", async || {
            let events = kubectl.run(&["events", "--for", "solution/orders", "-n", &world.dev]).unwrap();
            (events.stdout.matches("OnDeploymentCompleted").count() == 2).then_some(events.stdout)
        })
        .await;
    for part in [
        "Planned",
        "OnDeploymentRequested",
        "OnApprovalStarted",
        "1.0.0 to stage qa for dana (request first): Rejected by system:serviceaccount:",
        "1.0.0 to stage qa for dana (request second): Approved by system:serviceaccount:",
        "as tested",
        "(request second): Succeeded: ",
    ] {
        assert!(story.contains(part), "{part:?} is not told: {story}");
    }
    let told = |request: &str, reason: &str| {
        story.lines().filter(|line| line.contains(&format!("(request {request})")) && line.contains(reason)).count()
    };
    assert_eq!((told("first", "OnDeploymentRequested"), told("second", "OnDeploymentRequested")), (1, 1), "{story}");
}
