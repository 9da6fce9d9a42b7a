//! What can happen in the target during a deployment: quotas run out, webhooks are missing or slow, policies rewrite objects, others own
//! fields. Each deployment ends with the old version, the new one, or a list of what is missing and how to continue.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::Stage;
use pilotage::api::plan::PlannedAction;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// Stage `qa` with these deployment settings.
async fn stage(world: &World, deployment: Value) {
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"] = deployment;
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
}

/// A version in development with these `ConfigMaps`. Each contains the version.
async fn develop(world: &World, version: &str, maps: &[&str]) {
    world.apply(&[world.solution("orders", version)]).await;
    for name in maps {
        world.apply(&[world.config("orders", name, json!({"version": version}))]).await;
    }
}

async fn deployed(name: &str) -> World {
    let world = World::new(name).await.provokes_refusals().await;
    develop(&world, "1.0.0", &["orders"]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    world
}

/// The versions in the `ConfigMaps` of QA, by name: only those of the solution.
async fn versions(world: &World) -> BTreeMap<String, String> {
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    let all = maps.list(&ListParams::default().labels("app.kubernetes.io/part-of=orders")).await.unwrap();
    all.into_iter().map(|map| (map.name_any(), map.data.unwrap_or_default().remove("version").unwrap_or_default())).collect()
}

fn same_version(version: &str, names: &[&str]) -> BTreeMap<String, String> {
    names.iter().map(|name| ((*name).to_owned(), version.to_owned())).collect()
}

/// The quota runs out between a plan and its writes. A test can't rely on another writer being that fast. So a policy refuses in place of
/// the quota, except in a dry run. There is room for everything but these.
async fn no_room_for(world: &World, names: &[&str]) {
    let name = format!("{}-few", world.qa);
    let metadata = json!({"name": name});
    let listed = names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.qa}},
                "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}],
            },
            "validations": [{
                "expression": format!("has(request.dryRun) && request.dryRun || !(object.metadata.name in [{listed}])"),
                "reason": "Forbidden", "message": "exceeded quota: few, requested: configmaps=1, used: configmaps=4, limited: configmaps=4",
            }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata,
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    world.apply(&[policy, binding]).await;
    let first = names[0];
    let probe = async || {
        let mut map = world.config("probe", first, json!({}));
        map["metadata"]["namespace"] = world.qa.clone().into();
        if let Err(kube::Error::Api(status)) = world.apply_as(&world.admin, &map).await {
            return status.message.contains("exceeded quota: few").then_some(());
        }
        let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
        maps.delete(first, &DeleteParams::default()).await.unwrap();
        None
    };
    world.until("there is no room", probe).await;
}

/// There is room again, also for `first`, which does not exist.
async fn room(world: &World, first: &str) {
    let name = format!("{}-few", world.qa);
    world.plane.kubectl().ok(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", &name]).unwrap();
    let mut map = world.config("probe", first, json!({}));
    map["metadata"]["namespace"] = world.qa.clone().into();
    world.until("the API server has forgotten the policy", async || world.apply_as(&world.admin, &map).await.ok()).await;
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    maps.delete(first, &DeleteParams::default()).await.unwrap();
}

/// Somebody else's object in QA, which nobody may touch.
async fn foreign(world: &World) -> Option<String> {
    Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("foreign").await.unwrap().resource_version()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_runs_out_midway_leaves_a_list_and_the_rest_follows_when_there_is_room() {
    let world = deployed("quota-midway").await;
    let mut other = world.config("other", "foreign", json!({}));
    other["metadata"]["namespace"] = json!(world.qa);
    world.apply(&[other]).await;
    let before = foreign(&world).await;
    let all = ["orders", "orders-a", "orders-b", "orders-c"];
    develop(&world, "2.0.0", &all).await;
    no_room_for(&world, &["orders-b", "orders-c"]).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    let (reason, message) = outcome(&second);
    assert_eq!((phase(&second).as_str(), reason.as_str()), ("Failed", "ApplyFailed"), "{message}");
    for part in [
        "exceeded quota: few",
        "(raise the quota of the target namespace, or free some of it)",
        "what was applied stays",
        &format!("kubectl pilotage retry second -n {}", world.host),
        "kubectl pilotage redeploy orders 1.0.0 --stage qa",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let arrived = versions(&world).await;
    let errors = second.status.unwrap().run.errors;
    assert_eq!(errors.len(), 2, "one of the three had room: {errors:?}");
    for error in &errors {
        assert_eq!((error.kind.as_str(), error.reason.as_str()), ("ConfigMap", "QuotaExceeded"));
        assert!(!arrived.contains_key(&error.name), "what is listed is what is missing: {arrived:?}");
    }
    assert_eq!((arrived.len(), arrived["orders"].as_str()), (2, "2.0.0"), "all that had room was written: {arrived:?}");

    room(&world, "orders-b").await;
    let again = world.deploy("again", "qa", "orders", "2.0.0").await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
    assert_eq!(versions(&world).await, same_version("2.0.0", &all));
    assert_eq!(foreign(&world).await, before, "what is somebody else's is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_runs_out_midway_ends_with_the_version_before_where_the_stage_says_so() {
    let world = deployed("quota-back").await;
    stage(&world, json!({"timeout": "2m", "onFailure": "Rollback"})).await;
    develop(&world, "2.0.0", &["orders", "orders-a", "orders-b", "orders-c"]).await;
    no_room_for(&world, &["orders-b", "orders-c"]).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    let (reason, message) = outcome(&second);
    assert_eq!((phase(&second).as_str(), reason.as_str()), ("Failed", "RolledBack"), "{message}");
    assert!(message.contains("exceeded quota: few") && message.contains("orders 1.0.0 was put back"), "{message}");
    assert_eq!(versions(&world).await, same_version("1.0.0", &["orders"]), "the old version, whole, and nothing of the new one");
    room(&world, "orders-b").await;
}

/// A webhook for `ConfigMaps` in QA on this port of this machine.
async fn webhook(world: &World, port: u16, condition: &str, side_effects: &str) {
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]);
    world
        .apply(&[json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": {"name": world.qa},
            "webhooks": [{
                "name": "checks.example.test", "failurePolicy": "Fail", "sideEffects": side_effects, "timeoutSeconds": 1,
                "admissionReviewVersions": ["v1"], "rules": rules,
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.qa}},
                "matchConditions": [{"name": "when", "expression": format!("object.metadata.name == 'probe' || ({condition})")}],
                "clientConfig": {"url": format!("https://127.0.0.1:{port}/check")},
            }],
        })])
        .await;
    let probe = ["create", "configmap", "probe", "-n", &world.qa, "--dry-run=server"];
    let kubectl = world.plane.kubectl();
    let asked = async || kubectl.run(&probe).unwrap().stderr.contains("webhook").then_some(());
    world.until("the webhook is asked", asked).await;
}

async fn no_webhook(world: &World) {
    let webhooks = Api::<ValidatingWebhookConfiguration>::all(world.admin.clone());
    webhooks.delete(&world.qa, &DeleteParams::default()).await.unwrap();
}

/// A port that nobody listens on.
fn closed() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

const BRING_BACK: &str = "(have whoever runs this webhook in the target's cluster bring it back, or take its configuration away";

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_is_gone_midway_is_named_and_the_deployment_goes_on_when_it_is_back() {
    let world = deployed("webhook-midway").await;
    develop(&world, "2.0.0", &["orders", "orders-a"]).await;
    webhook(&world, closed(), "object.metadata.name == 'orders-a' && request.dryRun != true", "None").await;
    world.ask(&world.request("second", "qa", "orders", "2.0.0")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "second", "Approved").await.unwrap();
    let message = world.waits_for("second", "TargetUnavailable").await;
    for part in ["ConfigMap orders-a: ", "failed calling webhook \"checks.example.test\"", BRING_BACK, "tried again until"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(message.matches("ConfigMap orders-a").count(), 1, "its object is named once: {message}");
    no_webhook(&world).await;
    let second = world.end("second").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    assert_eq!(versions(&world).await, same_version("2.0.0", &["orders", "orders-a"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_stays_away_ends_the_deployment_when_its_time_is_over() {
    let world = deployed("webhook-away").await;
    stage(&world, json!({"timeout": "3s"})).await;
    develop(&world, "2.0.0", &["orders", "orders-a"]).await;
    webhook(&world, closed(), "object.metadata.name == 'orders-a' && request.dryRun != true", "None").await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    let (reason, message) = outcome(&second);
    assert_eq!((phase(&second).as_str(), reason.as_str()), ("Failed", "TargetUnavailable"), "{message}");
    for part in ["not all objects could be written by ", "checks.example.test", BRING_BACK, "kubectl pilotage retry second"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(versions(&world).await, same_version("2.0.0", &["orders"]), "what was applied stays");
    no_webhook(&world).await;
    let again = world.deploy("again", "qa", "orders", "2.0.0").await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
    assert_eq!(versions(&world).await, same_version("2.0.0", &["orders", "orders-a"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_does_not_answer_is_waited_for_before_anybody_is_asked_to_approve() {
    let world = deployed("webhook-mute").await;
    develop(&world, "2.0.0", &["orders"]).await;
    // Connections are accepted and never answered.
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    webhook(&world, mute.local_addr().unwrap().port(), "object.metadata.name == 'orders'", "None").await;
    world.ask(&world.request("second", "qa", "orders", "2.0.0")).await;
    let message = world.waits_for("second", "TargetUnavailable").await;
    for part in
        ["the target can't be asked: ConfigMap orders: ", "failed calling webhook \"checks.example.test\"", BRING_BACK, "Waits until "]
    {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(versions(&world).await, same_version("1.0.0", &["orders"]));
    no_webhook(&world).await;
    let second = world.approved("second", "qa").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_can_not_be_asked_for_a_dry_run_is_named() {
    let world = World::new("webhook-effects").await.provokes_refusals().await;
    develop(&world, "1.0.0", &["orders"]).await;
    // The API server accepts new configurations with such webhooks only in the old API version. A refusal of a dry run has the same
    // message.
    let name = world.qa.clone();
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]);
    let condition = "!(request.dryRun && object.metadata.name in ['orders', 'probe'])";
    world
        .apply(&[
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
                "spec": {
                    "matchConstraints": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.qa}}, "resourceRules": rules},
                    "validations": [{"expression": condition, "message": "admission webhook \"old.example.test\" does not support dry run"}],
                },
            }),
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
                "spec": {"policyName": name, "validationActions": ["Deny"]},
            }),
        ])
        .await;
    let probe = ["create", "configmap", "probe", "-n", &world.qa, "--dry-run=server"];
    let kubectl = world.plane.kubectl();
    world.until("it refuses", async || kubectl.run(&probe).unwrap().stderr.contains("old.example.test").then_some(())).await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    let message = world.fails("first", "DryRunRefused").await;
    assert!(message.contains("old.example.test") && message.contains("sideEffects: None or NoneOnDryRun"), "{message}");
    world.refuses_no_more().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_rewrites_is_planned_as_it_will_be_and_not_written_again() {
    let world = World::new("rewritten").await;
    let (name, replicas) = (world.qa.clone(), 3);
    let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE", "UPDATE"]}]);
    let mutation =
        format!("Object{{metadata: Object.metadata{{labels: {{'team': 'payments'}}}}, spec: Object.spec{{replicas: {replicas}}}}}");
    world
        .apply(&[
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy", "metadata": {"name": name},
                "spec": {
                    "reinvocationPolicy": "Never",
                    "matchConstraints": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.qa}}, "resourceRules": rules},
                    "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": mutation}}],
                },
            }),
            json!({
                "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name},
                "spec": {"policyName": name},
            }),
        ])
        .await;
    let deployment = |image: &str| {
        let template = json!({"metadata": {"labels": {"app": "orders"}}, "spec": {"containers": [{"name": "orders", "image": image}]}});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "orders"}}, "template": template},
        })
    };
    let deployments = Api::<Deployment>::namespaced(world.admin.clone(), &world.qa);
    let mut probe: Deployment = serde_json::from_value(deployment("probe")).unwrap();
    probe.metadata.namespace = Some(world.qa.clone());
    let dry_run = kube::api::PostParams { dry_run: true, ..Default::default() };
    let rewritten = async || {
        let made = deployments.create(&dry_run, &probe).await.ok()?;
        (made.spec?.replicas == Some(replicas)).then_some(())
    };
    world.until("the policy of QA is in force", rewritten).await;

    develop(&world, "1.0.0", &["orders"]).await;
    world.apply(&[deployment("registry.example/orders:1.0.0")]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let arrived = deployments.get("orders").await.unwrap();
    assert_eq!((arrived.labels()["team"].as_str(), arrived.spec.as_ref().unwrap().replicas), ("payments", Some(replicas)));

    // The next version does not change the Deployment: what the policy made of it stays, and it is not written.
    develop(&world, "2.0.0", &["orders"]).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let plan = second.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.update, plan.unchanged), (1, 1), "{:?}", plan.objects);
    assert_eq!((plan.objects[0].kind.as_str(), plan.objects[0].action), ("ConfigMap", PlannedAction::Update));
    assert_eq!(deployments.get("orders").await.unwrap().metadata.generation, arrived.metadata.generation);

    // The version after that changes fields that the policy leaves alone. The plan says exactly that.
    develop(&world, "3.0.0", &[]).await;
    world.apply(&[deployment("registry.example/orders:3.0.0")]).await;
    let third = world.deploy("third", "qa", "orders", "3.0.0").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
    let plan = third.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.update, plan.objects[0].fields.clone()), (1, vec!["/spec/template/spec/containers/0/image".to_owned()]));
    Api::<MutatingAdmissionPolicyBinding>::all(world.admin.clone()).delete(&name, &DeleteParams::default()).await.unwrap();
    Api::<MutatingAdmissionPolicy>::all(world.admin.clone()).delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_another_manager_is_named_with_its_owner_and_taken_only_where_the_stage_says_so() {
    let world = deployed("field-owner").await;
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"version": "hotfix"}});
    maps.patch("orders", &PatchParams::apply("hotfix").force(), &Patch::Apply(&theirs)).await.unwrap();
    develop(&world, "2.0.0", &["orders", "orders-a"]).await;
    world.ask(&world.request("second", "qa", "orders", "2.0.0")).await;
    let message = world.fails("second", "DryRunRefused").await;
    for part in [
        "nothing was written; ConfigMap orders: FieldConflict: ",
        r#".data.version is managed by "hotfix" "#,
        "let their manager give them up, or have the stage take them with spec.deployment.force",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(versions(&world).await, BTreeMap::from([("orders".to_owned(), "hotfix".to_owned())]));

    stage(&world, json!({"timeout": "2m", "force": true})).await;
    let third = world.deploy("third", "qa", "orders", "2.0.0").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
    assert_eq!(versions(&world).await, same_version("2.0.0", &["orders", "orders-a"]));
    let fields = third.status.unwrap().run.plan.unwrap().objects.into_iter().find(|o| o.name == "orders").unwrap().fields;
    assert_eq!(fields, ["/data/version"], "the approver sees what is taken");
}
