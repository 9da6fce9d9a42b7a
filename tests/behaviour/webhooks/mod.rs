//! Webhooks of the target that exist and answer: they change what is written, refuse it midway, or answer too late.

mod server;

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use pilotage::api::plan::PlannedAction;
use serde_json::{Value, json};

use self::server::{Verdict, Webhook};
use crate::world::{World, outcome, phase};

/// The name of the webhooks.
const NAME: &str = "judge.example.test";

/// A version in development: a Deployment, and `ConfigMaps` that contain the version.
async fn develop(world: &World, version: &str, image: &str, maps: &[&str]) {
    let template = json!({"metadata": {"labels": {"app": "orders"}}, "spec": {"containers": [{"name": "orders", "image": image}]}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": template},
    });
    world.apply(&[world.solution("orders", version), deployment]).await;
    for name in maps {
        world.apply(&[world.config("orders", name, json!({"version": version}))]).await;
    }
}

/// The longest time that an API server waits for an answer, in seconds.
const PATIENT: u8 = 30;

/// Makes the API server call the webhook for what is written to QA, with a time-out in seconds. Waits until it does.
async fn ask(world: &World, webhook: &Webhook, kind: &str, (group, resource): (&str, &str), patience: u8) {
    let rules =
        json!([{"apiGroups": [group, ""], "apiVersions": ["v1"], "resources": [resource, "services"], "operations": ["CREATE", "UPDATE"]}]);
    world
        .apply(&[json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": world.qa},
            "webhooks": [{
                "name": NAME, "failurePolicy": "Fail", "sideEffects": "None", "timeoutSeconds": patience, "admissionReviewVersions": ["v1"],
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.qa}},
                "rules": rules, "clientConfig": webhook.client_config(),
            }],
        })])
        .await;
    let probe = ["create", "service", "externalname", "probe", "--external-name=example.test", "-n", &world.qa, "--dry-run=server"];
    let kubectl = world.plane.kubectl();
    let asked = async || {
        kubectl.run(&probe).unwrap();
        (!webhook.asked().is_empty()).then_some(())
    };
    world.until("the webhook is asked", asked).await;
}

/// Adds a label and a container to Deployments that lack them, as an injector does.
fn inject(question: &Value) -> Verdict {
    let object = &question["object"];
    let containers = object["spec"]["template"]["spec"]["containers"].as_array();
    let Some(containers) = containers.filter(|all| all.iter().all(|c| c["name"] != "mesh")) else { return Verdict::Allow };
    assert!(!containers.is_empty());
    Verdict::Change(json!([
        {"op": "add", "path": "/metadata/labels/injected", "value": "true"},
        {"op": "add", "path": "/spec/template/spec/containers/-", "value": {"name": "mesh", "image": "registry.example/mesh:1"}},
    ]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_injects_is_in_the_plan_and_not_written_a_second_time() {
    let world = World::new("injected").await;
    develop(&world, "1.0.0", "registry.example/orders:1", &["orders"]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));

    // From now on there is an injector: the next plan shows what it makes of a Deployment that was not changed.
    let webhook = Webhook::start(&world.plane, inject).await;
    ask(&world, &webhook, "MutatingWebhookConfiguration", ("apps", "deployments"), PATIENT).await;
    develop(&world, "1.1.0", "registry.example/orders:1", &["orders"]).await;
    let second = world.deploy("second", "qa", "orders", "1.1.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let plan = second.status.unwrap().run.plan.unwrap();
    let planned = plan.objects.iter().find(|o| o.kind == "Deployment").expect("the Deployment changes");
    assert_eq!(planned.action, PlannedAction::Update);
    for field in ["/metadata/labels/injected", "/spec/template/spec/containers"] {
        assert!(planned.fields.iter().any(|f| f.starts_with(field)), "{field}: {:?}", planned.fields);
    }
    let deployments = Api::<Deployment>::namespaced(world.admin.clone(), &world.qa);
    let containers = async || {
        let deployment = deployments.get("orders").await.unwrap();
        let names: Vec<String> = deployment.spec.unwrap().template.spec.unwrap().containers.into_iter().map(|c| c.name).collect();
        (names, deployment.metadata.generation)
    };
    let (names, generation) = containers().await;
    assert_eq!(names, ["orders", "mesh"]);

    // Another version that does not change the Deployment does not write it. Nor does a version that only changes its number.
    let writes = || world.operator_writes(&world.qa, false).into_iter().filter(|c| c.resource == "deployments").count();
    let before = writes();
    develop(&world, "1.2.0", "registry.example/orders:1", &["orders"]).await;
    let third = world.deploy("third", "qa", "orders", "1.2.0").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
    let plan = third.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.update, plan.unchanged), (1, 1), "{:?}", plan.objects);
    assert_eq!((containers().await.1, writes()), (generation, before), "nothing of it was written");
    let all = world.operator_writes(&world.qa, false).len();
    world.apply(&[world.solution("orders", "1.2.1")]).await;
    let same = world.deploy("same", "qa", "orders", "1.2.1").await;
    assert_eq!(phase(&same), "Succeeded", "{:?}", outcome(&same));
    assert_eq!(world.operator_writes(&world.qa, false).len(), all, "nothing at all was written");

    // A version that changes the image reports only that, and keeps the injected container.
    develop(&world, "1.3.0", "registry.example/orders:2", &[]).await;
    let fourth = world.deploy("fourth", "qa", "orders", "1.3.0").await;
    let plan = fourth.status.as_ref().unwrap().run.plan.clone().unwrap();
    assert_eq!((phase(&fourth).as_str(), plan.update), ("Succeeded", 1), "{:?}", plan.objects);
    assert_eq!(plan.objects[0].fields, ["/spec/template/spec/containers/0/image"]);
    assert_eq!(containers().await.0, ["orders", "mesh"]);
    Api::<MutatingWebhookConfiguration>::all(world.admin.clone()).delete(&world.qa, &DeleteParams::default()).await.unwrap();
}

async fn no_judge(world: &World) {
    Api::<ValidatingWebhookConfiguration>::all(world.admin.clone()).delete(&world.qa, &DeleteParams::default()).await.unwrap();
}

/// The versions of the `ConfigMaps` in QA, by name.
async fn versions(world: &World) -> Vec<(String, String)> {
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    let params = kube::api::ListParams::default().labels("app.kubernetes.io/part-of=orders");
    let all = maps.list(&params).await.unwrap().items;
    all.into_iter().map(|map| (map.name_any(), map.data.unwrap_or_default().remove("version").unwrap_or_default())).collect()
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
}

/// Whether this is the write of that `ConfigMap`, not its dry run.
fn writes(question: &Value, name: &str) -> bool {
    question["name"] == name && question["dryRun"] != true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_allows_the_dry_run_and_denies_the_write_is_named_with_its_reason() {
    let world = World::new("denied-midway").await.provokes_refusals().await;
    develop(&world, "1.0.0", "registry.example/orders:1", &["orders", "orders-a"]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let judge = |question: &Value| if writes(question, "orders-a") { Verdict::Deny("not on Fridays".into()) } else { Verdict::Allow };
    let webhook = Webhook::start(&world.plane, judge).await;
    ask(&world, &webhook, "ValidatingWebhookConfiguration", ("", "configmaps"), PATIENT).await;
    develop(&world, "2.0.0", "registry.example/orders:1", &["orders", "orders-a"]).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    let (reason, message) = outcome(&second);
    assert_eq!((phase(&second).as_str(), reason.as_str()), ("Failed", "ApplyFailed"), "{message}");
    for part in [
        "ConfigMap orders-a: ",
        &format!("admission webhook \"{NAME}\" denied the request: not on Fridays"),
        "(change the solution so that the policy of the target cluster allows it)",
        "what was applied stays",
        "kubectl pilotage retry second",
        "kubectl pilotage redeploy orders 1.0.0 --stage qa",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let errors = second.status.unwrap().run.errors;
    assert_eq!(errors.iter().map(|e| (e.name.as_str(), e.reason.as_str())).collect::<Vec<_>>(), [("orders-a", "DeniedByPolicy")]);
    assert_eq!(versions(&world).await, pairs(&[("orders", "2.0.0"), ("orders-a", "1.0.0")]));
    let tried = webhook.asked().into_iter().filter(|question| writes(question, "orders-a")).count();
    assert_eq!(tried, 1, "what is denied is not tried again");
    no_judge(&world).await;
    let again = world.deploy("again", "qa", "orders", "2.0.0").await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
    assert_eq!(versions(&world).await, pairs(&[("orders", "2.0.0"), ("orders-a", "2.0.0")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_denies_the_dry_run_is_named_before_anybody_is_asked() {
    let world = World::new("denied-dry").await.provokes_refusals().await;
    develop(&world, "1.0.0", "registry.example/orders:1", &["orders"]).await;
    let judge = |question: &Value| if question["name"] == "orders" { Verdict::Deny("no such team".into()) } else { Verdict::Allow };
    let webhook = Webhook::start(&world.plane, judge).await;
    ask(&world, &webhook, "ValidatingWebhookConfiguration", ("", "configmaps"), PATIENT).await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    let message = world.fails("first", "DryRunRefused").await;
    assert!(message.contains("nothing was written; ConfigMap orders: DeniedByPolicy: "), "{message}");
    assert!(message.contains(&format!("admission webhook \"{NAME}\" denied the request: no such team")), "{message}");
    assert!(world.operator_writes(&world.qa, false).is_empty(), "nothing was written");
    no_judge(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_answers_too_late_midway_is_named_and_what_it_held_up_follows() {
    let world = World::new("late-midway").await;
    develop(&world, "1.0.0", "registry.example/orders:1", &["orders", "orders-a"]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    // This is longer than the API server waits.
    let (late, hurry) = (Duration::from_secs(3), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let hurries = hurry.clone();
    let judge = move |question: &Value| {
        let is_late = writes(question, "orders-a") && !hurries.load(std::sync::atomic::Ordering::Acquire);
        if is_late { Verdict::Late(late) } else { Verdict::Allow }
    };
    let webhook = Webhook::start(&world.plane, judge).await;
    ask(&world, &webhook, "ValidatingWebhookConfiguration", ("", "configmaps"), 1).await;
    develop(&world, "2.0.0", "registry.example/orders:1", &["orders", "orders-a"]).await;
    world.ask(&world.request("second", "qa", "orders", "2.0.0")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "second", "Approved").await.unwrap();
    let message = world.waits_for("second", "TargetUnavailable").await;
    for part in ["ConfigMap orders-a: ", &format!("failed calling webhook \"{NAME}\""), "deadline exceeded", "tried again until"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(versions(&world).await, pairs(&[("orders", "2.0.0"), ("orders-a", "1.0.0")]), "the others are not held up");
    hurry.store(true, std::sync::atomic::Ordering::Release);
    let second = world.end("second").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    assert_eq!(versions(&world).await, pairs(&[("orders", "2.0.0"), ("orders-a", "2.0.0")]));
    let written = world.operator_writes(&world.qa, false);
    let carried_out = written.iter().filter(|c| c.name == "orders-a" && c.verb == "patch" && c.code < 300).count();
    assert_eq!(carried_out, 2, "once for each version");
    no_judge(&world).await;
}
