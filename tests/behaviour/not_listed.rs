//! An export says of which kinds it looked for no objects, so that what is missing in a version is noticed.

use kube::Api;
use pilotage::api::{Artifact, DeploymentRequest, condition};
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
    // `view`, which the operator has in development, does not hold pod templates.
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
    assert!(!said.contains("Deployment") && !said.contains("Secret"), "neither what was looked for nor what is never exported: {message}");
    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.0.0").await.unwrap();
    let kinds: Vec<String> = artifact.spec.kinds_not_listed.iter().map(ToString::to_string).collect();
    assert!(kinds.iter().any(|kind| kind == "PodTemplate") && artifact.spec.object_count == 1, "{kinds:?}");

    // With the right, on both sides, the next version has it.
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

    // Whoever names the kinds has said which are meant.
    let mut solution = world.solution("orders", "1.2.0");
    solution["spec"]["components"] = json!([{"kind": "ConfigMap"}, {"kind": "PodTemplate"}]);
    world.apply(&[solution]).await;
    let request = world.deploy("third", "qa", "orders", "1.2.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    assert!(!exported(&request).contains("not looked for"), "{}", exported(&request));
}
