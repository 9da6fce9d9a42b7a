//! An approver sees who gets which rights from a version.

use pilotage::api::DeploymentRequest;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase, role};

/// What the plan says about rights.
fn gifts(request: &DeploymentRequest) -> Vec<String> {
    let results = request.status.as_ref().unwrap().run.plan.as_ref().unwrap().results.iter();
    results.filter(|r| r.reason == "GivesRights").map(|r| r.message.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_tells_who_gets_what_by_roles_and_bindings_that_change_and_is_silent_about_others() {
    let world = World::new("powers").await;
    let rbac = "rbac.authorization.k8s.io";
    let rules = |verbs: Value| json!([{"apiGroups": [rbac], "resources": ["roles", "rolebindings"], "verbs": verbs}]);
    let readers = json!([
        {"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}, {"kind": "Group", "apiGroup": rbac, "name": "makers"},
    ]);
    let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
    let bot = json!([{"kind": "ServiceAccount", "name": "bot-qa", "namespace": world.host}]);
    let on = ["get", "list", "patch", "delete"].map(|verb| format!("impersonate-on:serviceaccount:{verb}"));
    world.apply(&role(&world.dev, "read-roles", &rules(json!(["get", "list"])), &readers)).await;
    world.apply(&role(&world.qa, "roles-as", &rules(json!(on)), &operator)).await;
    world.apply(&role(&world.qa, "roles", &rules(json!(["get", "list", "patch", "create", "delete"])), &bot)).await;
    let view = json!([{"apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]}]);
    world.apply(&role(&world.qa, "binds", &view, &bot)).await;
    // The stage must allow what a solution shares with people.
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["sharing"] = json!({"clusterRoles": ["view"], "subjectKinds": ["User"]});
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<pilotage::api::Stage>("qa").await;

    let labelled = |mut object: Value| {
        object["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "orders"});
        object
    };
    let reading = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    let subjects = |users: &[&str]| -> Value {
        let mut all: Vec<Value> = users.iter().map(|user| json!({"kind": "User", "apiGroup": rbac, "name": user})).collect();
        all.push(json!({"kind": "ServiceAccount", "name": "app", "namespace": world.dev}));
        all.into()
    };
    let own = role(&world.dev, "orders", &reading, &subjects(&[])).map(labelled);
    let with = |users: &[&str]| {
        let [_, mut binding] = role(&world.dev, "readers", &reading, &subjects(users)).map(labelled);
        binding["roleRef"] = json!({"apiGroup": rbac, "kind": "ClusterRole", "name": "view"});
        binding
    };
    world.apply(&own).await;
    world.apply(&[with(&["mallory"])]).await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let account = format!("ServiceAccount {}/app", world.qa);
    assert_eq!(
        gifts(&first),
        [
            format!("RoleBinding readers gives ClusterRole view to User mallory; {account}"),
            format!("RoleBinding orders gives Role orders to {account}"),
            "Role orders allows get on configmaps".to_owned(),
        ],
        "people first"
    );

    // The next plan says who was added. It leaves the Role unchanged.
    world.apply(&[with(&["mallory", "trent"]), world.solution("orders", "1.1.0")]).await;
    let second = world.deploy("second", "qa", "orders", "1.1.0").await;
    assert_eq!(gifts(&second), [format!("RoleBinding readers gives ClusterRole view to User mallory; User trent; {account}")]);

    // And nothing about what stays.
    world.apply(&[world.solution("orders", "1.2.0"), world.config("orders", "orders", json!({"a": "b"}))]).await;
    let third = world.deploy("third", "qa", "orders", "1.2.0").await;
    assert_eq!((phase(&third), gifts(&third)), ("Succeeded".into(), Vec::new()));
}
