//! Missing rights: the message says whose rights are missing, where, and what grants them. After somebody has applied that unchanged, the
//! request continues.

use kube::Api;
use kube::api::PostParams;
use pilotage::api::{DeploymentRequest, Stage};
use serde_json::{Value, json};

use super::{grant, nothing_was_written, world};
use crate::world::{World, client, outcome, phase};

/// A Service of the solution.
async fn service(world: &World) {
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"selector": {"app": "orders"}, "ports": [{"port": 80}]},
    });
    world.apply(&[service]).await;
}

/// Removes Services from the rules of a Role in QA.
fn no_services(world: &World, role: &str) {
    let kubectl = world.plane.kubectl();
    let mut found = kubectl.json(&["get", "role", "-n", &world.qa, role]).unwrap();
    for rule in found["rules"].as_array_mut().unwrap() {
        rule["resources"].as_array_mut().unwrap().retain(|resource| resource != "services");
    }
    let replaced = kubectl.run_with(&["replace", "-f", "-"], &found.to_string()).unwrap();
    assert!(replaced.ok, "{}", replaced.stderr);
}

/// The request waits with this reason, writes nothing, and continues when the printed grant is applied.
async fn waits_and_goes_on_when_granted(world: &World, reason: &str, who: &str, rule: &str) {
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", reason).await;
    assert!(message.starts_with("waits until ") && message.contains(who), "{message}");
    assert!(message.contains(rule) && message.contains(&format!("namespace: {}", world.qa)), "{message}");
    nothing_was_written(world).await;
    world.plane.kubectl().apply(grant(&message)).unwrap();
    let request = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    assert!(!world.operator_writes(&world.qa, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_delegate_lacks_in_the_target_is_printed_and_awaited() {
    let world = world("delegate-lacks").await.provokes_refusals().await;
    service(&world).await;
    no_services(&world, "bot-qa");
    let who = format!("system:serviceaccount:{}:bot-qa, who deploys, lacks rights in namespace {}. Grant:\n", world.host, world.qa);
    let rule = "- {apiGroups: [\"\"], resources: [services], verbs: [";
    waits_and_goes_on_when_granted(&world, "DelegateLacksTargetAccess", &who, rule).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_else_speaks_against_it_is_said_before_the_grant() {
    let world = world("lacks-and-more").await.provokes_refusals().await;
    service(&world).await;
    no_services(&world, "bot-qa");
    let pod = json!({"priorityClassName": "no-priority", "containers": [{"name": "a", "image": "a"}]});
    let labels = json!({"app": "a"});
    world
        .apply(&[json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "a", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
            "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
        })])
        .await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "DelegateLacksTargetAccess").await;
    assert!(
        message.contains("PriorityClass no-priority: NotFound: ") && message.contains(". Besides, system:serviceaccount:"),
        "{message}"
    );
    let kubectl = world.plane.kubectl();
    kubectl.apply(grant(&message)).unwrap();
    let message = world.waits_for("to-qa", "MissingInTarget").await;
    assert!(message.contains("PriorityClass no-priority: NotFound: "), "{message}");
    nothing_was_written(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_lacks_to_act_as_the_delegate_is_printed_and_awaited() {
    let world = world("operator-lacks").await.provokes_refusals().await;
    service(&world).await;
    no_services(&world, "pilotage-operator");
    let who = format!("the operator may not act as system:serviceaccount:{}:bot-qa in namespace {}. Grant:\n", world.host, world.qa);
    let rule = "- {apiGroups: [\"\"], resources: [services], verbs: [\"impersonate-on:serviceaccount:";
    waits_and_goes_on_when_granted(&world, "OperatorMayNotActAsDelegate", &who, rule).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_exported_what_they_may_not_read() {
    let world = world("may-not-read").await;
    service(&world).await;
    let carl = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "carl"}]);
    world
        .apply(&[
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "carl", "namespace": world.dev},
                "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}],
            }),
            json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "carl", "namespace": world.dev},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "carl"}, "subjects": carl,
            }),
        ])
        .await;
    let mut pipeline = world.pipeline().into_iter().find(|o| o["kind"] == "Pipeline").unwrap();
    pipeline["spec"]["sharedWith"].as_array_mut().unwrap().push(json!({"kind": "User", "name": "carl"}));
    world.apply_as(&world.olga().await, &pipeline).await.unwrap();
    let as_carl = client(world.plane.user_kubeconfig("carl", &[]).unwrap()).await;
    let requests = Api::<DeploymentRequest>::namespaced(as_carl, &world.host);
    let request = world.request("to-qa", "qa", "orders", "1.0.0");
    world.until("the pipeline is shared with carl", async || requests.create(&PostParams::default(), &request).await.ok()).await;
    let message = world.waits_for("to-qa", "RequesterMayNotRead").await;
    let who = format!("carl, who asks, may not read all that is exported from namespace {}. An administrator there applies", world.dev);
    assert!(message.contains(&who), "{message}");
    assert!(message.contains("- {apiGroups: [\"\"], resources: [services], verbs: ["), "{message}");
    assert!(!message.contains("configmaps"), "what he may read is not missing: {message}");
    nothing_was_written(&world).await;
    assert!(world.operator_writes(&world.qa, true).is_empty(), "not even a dry run");
    let artifacts = world.plane.kubectl().json(&["get", "artifacts", "-n", &world.host]).unwrap();
    assert_eq!(artifacts["items"], json!([]), "nothing was stored");
    // Dana may read everything.
    let dana = world.deploy("as-dana", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&dana), "Succeeded", "{:?}", outcome(&dana));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_whose_delegate_does_not_exist_says_so() {
    let world = World::bare("no-delegate").await;
    for object in world.pipeline() {
        let mut object: Value = object;
        if object["kind"] == "Stage" {
            object["spec"]["delegatedDeployment"]["serviceAccountName"] = "ghost".into();
        }
        world.apply(&[object]).await;
    }
    let message = world.until_condition::<Stage>("qa", "Ready", "ServicePrincipalNotFound").await;
    assert_eq!(
        message,
        format!(
            "ServiceAccount ghost does not exist in namespace {}: create it, or correct spec.delegatedDeployment.serviceAccountName",
            world.host
        )
    );
}
