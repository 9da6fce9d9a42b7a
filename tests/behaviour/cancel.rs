//! A request can be withdrawn at any point before its claim, and nothing of it is in the target.

use std::path::PathBuf;

use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use pilotage::api::{DeploymentRequest, Environment, Pipeline, Stage};
use serde_json::{Value, json};

use crate::grant::plugin;
use crate::world::{World, client, outcome, phase};

/// A world in which the stages have all gates. Carl, who may read nothing in development, also makes requests.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    let olga = world.olga().await;
    for mut object in world.pipeline() {
        match object["kind"].as_str().unwrap() {
            "Stage" => {
                object["spec"]["preDeploymentStepRequired"] = true.into();
                object["spec"]["preExportStepRequired"] = (object["metadata"]["name"] == "qa").into();
            }
            "Pipeline" => object["spec"]["sharedWith"].as_array_mut().unwrap().push(json!({"kind": "User", "name": "carl"})),
            _ => continue,
        }
        world.apply_as(&olga, &object).await.unwrap();
    }
    for stage in ["qa", "prod"] {
        world.ready::<Stage>(stage).await;
    }
    world.ready::<Pipeline>("standard").await;
    world
}

/// A solution of one `ConfigMap`, and a request for it.
async fn ask(world: &World, name: &str) {
    world.apply(&[world.solution(name, "1.0.0"), world.config(name, name, json!({}))]).await;
    world.ask(&world.request(name, "qa", name, "1.0.0")).await;
}

/// Eve's decision.
async fn step(world: &World, name: &str, step: &str) {
    let completed = Patch::Merge(json!({"status": {(step): {"decision": "Completed"}}}));
    let eve = Api::<DeploymentRequest>::namespaced(world.eve().await, &world.host);
    eve.patch_status(name, &PatchParams::default(), &completed).await.unwrap();
}

async fn is_in(world: &World, name: &str, wanted: &str) {
    world.until_request(name, |r| phase(r) == wanted).await;
}

/// Decides gates until the request is in that phase.
async fn up_to(world: &World, name: &str, wanted: &str) {
    for phase in ["AwaitingPreExportStep", "AwaitingApproval", "AwaitingPreDeploymentStep"] {
        is_in(world, name, phase).await;
        if phase == wanted {
            return;
        }
        match phase {
            "AwaitingPreExportStep" => step(world, name, "preExportStep").await,
            "AwaitingApproval" => drop(world.decide("qa", name, "Approved").await.unwrap()),
            _ => step(world, name, "preDeploymentStep").await,
        }
    }
    is_in(world, name, wanted).await;
}

async fn patch_stage(world: &World, stage: &str, spec: Value) {
    let patch = Patch::Merge(json!({"spec": spec}));
    Api::<Stage>::namespaced(world.olga().await, &world.host).patch(stage, &PatchParams::default(), &patch).await.unwrap();
    world.ready::<Stage>(stage).await;
}

fn olga(world: &World) -> PathBuf {
    world.plane.user_kubeconfig("olga", &[]).unwrap()
}

/// Cancels it as an administrator does. It ends in this way, and has written nothing.
async fn cancels(world: &World, name: &str, reason: &str) {
    let (waits, message) = outcome(&world.until_request(name, |r| outcome(r).0 == reason).await);
    assert_eq!(waits, reason, "{message}");
    let said = plugin(world, &olga(world), &["cancel", name]).unwrap();
    assert_eq!(said, format!("request {name} of host {} is withdrawn\n", world.host));
    let canceled = world.end(name).await;
    let expected = ("Canceled".to_owned(), "canceled before anything was written to the target".to_owned());
    assert_eq!((phase(&canceled).as_str(), outcome(&canceled)), ("Canceled", expected));
    assert_eq!(canceled.status.unwrap().run.start_time, None, "it never claimed its target");
}

async fn nothing_in_qa_of(world: &World, names: &[&str]) {
    let qa = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    let solutions = qa.status.unwrap().solutions;
    assert!(solutions.iter().all(|s| !names.contains(&s.name.as_str())), "{solutions:?}");
    let writes = world.operator_writes(&world.qa, false);
    assert!(
        writes.iter().all(|c| !names.iter().any(|name| c.name.ends_with(name))),
        "{:?}",
        writes.iter().map(|c| &c.uri).collect::<Vec<_>>()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn before_and_at_each_gate() {
    let world = world("cancel-gates").await;
    world.ask(&world.request("ghost", "qa", "ghost", "1.0.0")).await;
    cancels(&world, "ghost", "SolutionNotFound").await;

    ask(&world, "gate-1").await;
    cancels(&world, "gate-1", "AwaitingPreExportStep").await;

    world.apply(&[world.solution("export", "1.0.0"), world.config("export", "export", json!({}))]).await;
    let carl = Api::<DeploymentRequest>::namespaced(client(world.plane.user_kubeconfig("carl", &[]).unwrap()).await, &world.host);
    let request = world.request("export", "qa", "export", "1.0.0");
    world.until("the pipeline is shared with carl", async || carl.create(&PostParams::default(), &request).await.ok()).await;
    is_in(&world, "export", "AwaitingPreExportStep").await;
    step(&world, "export", "preExportStep").await;
    cancels(&world, "export", "RequesterMayNotRead").await;

    ask(&world, "gate-2").await;
    up_to(&world, "gate-2", "AwaitingApproval").await;
    cancels(&world, "gate-2", "AwaitingApproval").await;

    ask(&world, "gate-3").await;
    up_to(&world, "gate-3", "AwaitingPreDeploymentStep").await;
    cancels(&world, "gate-3", "AwaitingPreDeploymentStep").await;
    nothing_in_qa_of(&world, &["ghost", "gate-1", "export", "gate-2", "gate-3"]).await;
    // A request that has ended stays as it is.
    let said = plugin(&world, &olga(&world), &["cancel", "gate-1"]).unwrap();
    assert!(said.contains("is withdrawn"), "to withdraw it twice changes nothing: {said}");
    let canceled = world.end("gate-1").await;
    assert_eq!(phase(&canceled), "Canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_for_its_time_and_its_turn() {
    let world = world("cancel-queue").await;
    world.apply(&[world.solution("later", "1.0.0"), world.config("later", "later", json!({}))]).await;
    let mut later = world.request("later", "qa", "later", "1.0.0");
    later.spec.scheduled_time = Some("2999-01-01T00:00:00Z".into());
    world.ask(&later).await;
    up_to(&world, "later", "Queued").await;
    cancels(&world, "later", "Scheduled").await;

    let pipeline = |suspend: bool| Patch::Merge(json!({"spec": {"suspend": suspend}}));
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    ask(&world, "held").await;
    up_to(&world, "held", "AwaitingPreDeploymentStep").await;
    pipelines.patch("standard", &PatchParams::default(), &pipeline(true)).await.unwrap();
    world.until_request("held", |r| outcome(r).0 == "PipelineSuspended").await;
    step(&world, "held", "preDeploymentStep").await;
    is_in(&world, "held", "Queued").await;
    cancels(&world, "held", "PipelineSuspended").await;
    pipelines.patch("standard", &PatchParams::default(), &pipeline(false)).await.unwrap();
    world.ready::<Pipeline>("standard").await;

    patch_stage(&world, "qa", json!({"windows": [{"type": "Deny", "schedule": "* * * * *", "duration": "1h"}]})).await;
    ask(&world, "outside").await;
    up_to(&world, "outside", "Queued").await;
    cancels(&world, "outside", "OutsideWindow").await;
    patch_stage(&world, "qa", json!({"windows": []})).await;
    nothing_in_qa_of(&world, &["later", "held", "outside"]).await;

    // It waits behind one that deploys and does not become healthy.
    let labels = json!({"app.kubernetes.io/part-of": "stuck"});
    let template = json!({
        "metadata": {"labels": {"app": "stuck"}},
        "spec": {"nodeSelector": {"there": "is-none"}, "containers": [{"name": "stuck", "image": "stuck"}]},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "stuck", "namespace": world.dev, "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": "stuck"}}, "template": template},
    });
    world.apply(&[world.solution("stuck", "1.0.0"), deployment]).await;
    for name in ["first", "behind"] {
        world.ask(&world.request(name, "qa", "stuck", "1.0.0")).await;
    }
    up_to(&world, "behind", "AwaitingPreDeploymentStep").await;
    up_to(&world, "first", "Deploying").await;
    step(&world, "behind", "preDeploymentStep").await;
    let message = outcome(&world.until_request("behind", |r| outcome(r).0 == "Queued").await).1;
    assert!(
        message.starts_with("waits since ") && message.ends_with(" for request first, which deploys stuck in environment qa"),
        "{message}"
    );
    cancels(&world, "behind", "Queued").await;
    // The one that deploys can't be canceled any more.
    let said = plugin(&world, &olga(&world), &["cancel", "first"]).unwrap_err();
    assert!(said.contains("the deployment has started: it can't be canceled any more"), "{said}");
    assert_eq!(phase(&world.until_request("first", |_| true).await), "Deploying");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_soaks_and_what_soaks_goes_on_when_its_time_has_come() {
    let world = World::new("soak").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let qa = world.deploy("to-qa", "qa", "orders", "1.0.0").await;
    let succeeded = qa.status.unwrap().run.end_time.unwrap();
    patch_stage(&world, "prod", json!({"soak": "1h"})).await;
    world.ask(&world.request("to-prod", "prod", "orders", "1.0.0")).await;
    is_in(&world, "to-prod", "AwaitingApproval").await;
    world.decide("prod", "to-prod", "Approved").await.unwrap();
    let message = outcome(&world.until_request("to-prod", |r| outcome(r).0 == "Soaking").await).1;
    let ripe = succeeded + std::time::Duration::from_hours(1);
    assert!(message.starts_with("waits since "), "{message}");
    assert!(message.ends_with(&format!(" until {ripe}: stage prod asks for a soak time since the success in stage qa")), "{message}");
    cancels(&world, "to-prod", "Soaking").await;
    assert!(world.operator_writes(&world.prod, false).is_empty());

    // A time that will come soon. A success in QA is never a minute ago in a test.
    patch_stage(&world, "prod", json!({"soak": "4s"})).await;
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    let qa = world.deploy("again", "qa", "orders", "1.1.0").await;
    let ripe = qa.status.unwrap().run.end_time.unwrap() + std::time::Duration::from_secs(4);
    let prod = world.deploy("after", "prod", "orders", "1.1.0").await;
    assert_eq!(phase(&prod), "Succeeded", "{:?}", outcome(&prod));
    assert!(prod.status.unwrap().run.start_time.unwrap() >= ripe, "it did not start before {ripe}");
}
