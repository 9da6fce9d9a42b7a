//! An export says of which kinds it did not look for objects, so that people notice what is missing in a version.

use kube::Api;
use pilotage::api::{Artifact, DeploymentRequest, Solution, condition};
use serde_json::{Value, json};

use crate::world::{World, outcome, phase, role};

/// What the request's `Exported` condition says.
fn exported(request: &DeploymentRequest) -> String {
    let conditions = &request.status.as_ref().unwrap().run.conditions;
    condition::find(conditions, "Exported").unwrap().message.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn kinds_that_were_not_looked_for_are_named_and_with_the_right_they_come_along() {
    let world = World::new("not-listed").await;
    // `view`, which the operator has in development, has no rights on pod templates.
    let template = json!({
        "apiVersion": "v1", "kind": "PodTemplate",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "template": {"spec": {"containers": [{"name": "a", "image": "a"}]}},
    });
    world.apply(&[template, world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let request = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    let message = exported(&request);
    let (_, said) =
        message.split_once("; objects of these kinds were not looked for, as the operator may not list them in development: ").unwrap();
    assert!(said.contains("PodTemplate") && said.contains("; Role.rbac.authorization.k8s.io"), "{message}");
    assert!(said.ends_with(". Where the solution has such objects, let its administrator bind the operator a role that lists them there, and raise the version"), "{message}");
    // The approver reads it first, and so do the maker and whoever reads the result.
    let run = request.status.as_ref().unwrap().run.clone();
    let first = &run.plan.unwrap().results[0];
    assert!(first.reason == "NotLookedFor" && first.message.contains("PodTemplate") && first.message.contains("Role.rbac"), "{first:?}");
    let (start, end) =
        ("not looked for in development: RoleBinding.rbac.authorization.k8s.io, Role.rbac", "; orders 1.0.0 runs in stage qa");
    assert!(outcome(&request).1.starts_with(start) && outcome(&request).1.ends_with(end), "{:?}", outcome(&request));
    let solution = Api::<Solution>::namespaced(world.dana().await, &world.dev).get("orders").await.unwrap();
    let told = solution.status.unwrap().deployments.remove(0).message.unwrap();
    assert!(told.starts_with(start) && told.ends_with(end), "{told}");
    assert!(!said.contains("Deployment") && !said.contains("Secret"), "neither what was looked for nor what is never exported: {message}");
    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.0.0").await.unwrap();
    let kinds: Vec<String> = artifact.spec.kinds_not_listed.iter().map(ToString::to_string).collect();
    assert!(kinds.iter().any(|kind| kind == "PodTemplate") && artifact.spec.object_count == 1, "{kinds:?}");

    // With the right in both namespaces, the next version has it.
    let rules = |verbs: Value| json!([{"apiGroups": [""], "resources": ["podtemplates"], "verbs": verbs}]);
    let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
    let bot = json!([{"kind": "ServiceAccount", "name": "bot-qa", "namespace": world.host}]);
    let makers = json!([{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "makers"}]);
    let on = ["get", "list", "patch", "delete"].map(|verb| format!("impersonate-on:serviceaccount:{verb}"));
    world.apply(&role(&world.dev, "templates", &rules(json!(["get", "list"])), &operator)).await;
    world.apply(&role(&world.dev, "makers-templates", &rules(json!(["get", "list"])), &makers)).await;
    world.apply(&role(&world.qa, "templates-as", &rules(json!(on)), &operator)).await;
    world.apply(&role(&world.qa, "templates", &rules(json!(["get", "list", "patch", "create", "delete"])), &bot)).await;
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    let request = world.deploy("second", "qa", "orders", "1.1.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    let message = exported(&request);
    assert!(!message.contains("PodTemplate") && message.contains("Role.rbac.authorization.k8s.io"), "{message}");
    assert!(world.plane.kubectl().run(&["get", "podtemplate", "orders", "-n", &world.qa]).unwrap().ok);

    // Somebody who names the kinds has said which ones are meant.
    let mut solution = world.solution("orders", "1.2.0");
    solution["spec"]["components"] = json!([{"kind": "ConfigMap"}, {"kind": "PodTemplate"}]);
    world.apply(&[solution]).await;
    let request = world.deploy("third", "qa", "orders", "1.2.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    assert!(!exported(&request).contains("not looked for"), "{}", exported(&request));
    assert_eq!(outcome(&request).1, "orders 1.2.0 runs in stage qa");
}

/// A Deployment that runs as the account.
fn running_as(world: &World, account: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": {"metadata": {"labels": {"app": "orders"}}, "spec": {
            "serviceAccountName": account, "containers": [{"name": "app", "image": "registry.example.test/app:1"}]}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_that_works_by_roles_that_were_not_looked_for_waits_until_they_may_be() {
    let world = World::new("needs-roles").await;
    let labels = json!({"app.kubernetes.io/part-of": "orders"});
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": world.dev, "labels": labels}});
    // An account without rights needs nothing.
    world.apply(&[account("idle"), running_as(&world, "idle"), world.solution("orders", "1.0.0")]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));

    let reading = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]);
    let subjects = json!([{"kind": "ServiceAccount", "name": "reader", "namespace": world.dev}]);
    let gives = role(&world.dev, "reader", &reading, &subjects).map(|mut object| {
        object["metadata"]["labels"] = labels.clone();
        object
    });
    world.apply(&gives).await;
    world.apply(&[account("reader"), running_as(&world, "reader"), world.solution("orders", "1.1.0")]).await;
    world.ask(&world.request("second", "qa", "orders", "1.1.0")).await;
    let message = world.waits_for("second", "RolesNotLookedFor").await;
    for part in ["run as ServiceAccount reader, which", "spec.components", "rolebindings", "roles", "list"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert!(!message.contains("idle"), "{message}");

    let rbac = "rbac.authorization.k8s.io";
    let rules = |verbs: Value| json!([{"apiGroups": [rbac], "resources": ["roles", "rolebindings"], "verbs": verbs}]);
    let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
    let makers = json!([{"kind": "Group", "apiGroup": rbac, "name": "makers"}]);
    let bot = json!([{"kind": "ServiceAccount", "name": "bot-qa", "namespace": world.host}]);
    let on = ["get", "list", "patch", "delete"].map(|verb| format!("impersonate-on:serviceaccount:{verb}"));
    world.apply(&role(&world.dev, "makers-roles", &rules(json!(["get", "list"])), &makers)).await;
    world.apply(&role(&world.qa, "roles-as", &rules(json!(on)), &operator)).await;
    world.apply(&role(&world.qa, "roles", &rules(json!(["get", "list", "patch", "create", "delete"])), &bot)).await;
    world.apply(&role(&world.dev, "roles", &rules(json!(["list"])), &operator)).await;
    let second = world.approved("second", "qa").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let may = ["auth", "can-i", "get", "configmaps", "-n", &world.qa, &format!("--as=system:serviceaccount:{}:reader", world.qa)];
    assert!(world.plane.kubectl().run(&may).unwrap().ok, "it arrived with what it works by");

    // Or its maker names the kinds.
    world.plane.kubectl().ok(&["delete", "rolebinding", "roles", "-n", &world.dev]).unwrap();
    world.apply(&[world.solution("orders", "1.2.0")]).await;
    world.ask(&world.request("third", "qa", "orders", "1.2.0")).await;
    world.waits_for("third", "RolesNotLookedFor").await;
    let mut solution = world.solution("orders", "1.2.0");
    solution["spec"]["components"] = json!([{"group": "apps", "kind": "Deployment"}, {"kind": "ServiceAccount"}]);
    world.apply(&[solution]).await;
    let third = world.approved("third", "qa").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
}
