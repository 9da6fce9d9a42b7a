//! Requests that would never end, or never report anything: each is refused, or ends and says what is wrong.

use kube::api::{Api, ListParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use pilotage::api::{DeploymentRequest, Environment, Stage};
use serde_json::{Value, json};

use crate::attempt::{ignored, told};
use crate::scene::{create, orders, patch, person, requests};
use crate::world::{World, outcome, phase, role};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_the_end_of_time_says_what_it_waits_for_and_can_be_withdrawn() {
    let world = World::new("endless-time").await;
    let mut request = serde_json::to_value(world.request("far", "qa", "none", "1.0.0")).unwrap();
    request["spec"]["scheduledTime"] = "9999-12-30T22:00:00Z".into();
    world.ask(&serde_json::from_value(request).unwrap()).await;
    let message = world.waits_for("far", "SolutionNotFound").await;
    told(199, "a request is scheduled for the end of time", &message, &["solution none does not exist", "Waits until 9999-12-30"]);
    patch(&world, world.admin.clone(), "far", json!({"spec": {"cancel": true}})).await.unwrap();
    assert_eq!(phase(&world.end("far").await), "Canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_names_that_mean_nothing_are_refused_at_once() {
    let world = World::new("endless-names").await;
    for version in ["18446744073709551616.0.0", "1.99999999999999999999.0", "1.0.18446744073709551616-rc.1"] {
        let request = serde_json::to_value(world.request("huge", "qa", "orders", version)).unwrap();
        let error = create(&world, world.dana().await, &request).await.unwrap_err().to_string();
        told(200, "a version that no number holds is asked for", &error, &["spec.solution.version"]);
        let error = world.apply_as(&world.admin, &world.solution("orders", version)).await.unwrap_err().to_string();
        told(200, "a version that no number holds is developed", &error, &["spec.version"]);
    }
    let environment = |name: &str| {
        let prerequisites = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": name}]);
        world.host_object("Environment", "qa", json!({"type": "Target", "namespace": world.qa, "prerequisites": prerequisites}))
    };
    for name in [" ", "a\nb", "a b", "../../secrets/x", "x\"}, {"] {
        let error = world.apply_as(&world.admin, &environment(name)).await.unwrap_err().to_string();
        told(203, "a prerequisite has a name that no object has", &error, &["spec.prerequisites[0].name"]);
    }
    world.ready::<Environment>("qa").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_offered_secrets_than_a_plan_lists_are_counted_and_hold_nothing_up() {
    let world = World::new("endless-secrets").await;
    let names: Vec<String> = (0..70).map(|number| format!("o{number}")).collect();
    for name in &names {
        let labels = json!({"pilotage.dev/connection": "true"});
        world
            .apply(&[json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": world.qa, "labels": labels}})])
            .await;
    }
    world.may_look_at(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let sources: Vec<Value> = names.iter().map(|name| json!({"secretRef": {"name": name}})).collect();
    let template =
        json!({"metadata": {"labels": {"app": "orders"}}, "spec": {"containers": [{"name": "c", "image": "orders", "envFrom": sources}]}});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": template},
    });
    world.apply(&[world.solution("orders", "1.0.0"), deployment]).await;
    world.ask(&world.request("many", "qa", "orders", "1.0.0")).await;
    let many = world.until_request("many", |r| phase(r) == "AwaitingApproval").await;
    let plan = many.status.unwrap().run.plan.unwrap();
    let seen = (plan.access.len(), plan.access_omitted);
    ignored(201, "a solution uses more Secrets than a plan lists", seen == (64, 6), &seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_would_arrive_as_anothers_is_not_acted_as() {
    let world = World::new("endless-user").await;
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"].as_object_mut().unwrap().remove("delegatedDeployment");
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
    orders(&world).await;
    let blank = requests(&world, person(&world, " dana", &["makers"]).await);
    let request: DeploymentRequest = world.request("blank", "qa", "orders", "1.0.0");
    blank.create(&PostParams::default(), &request).await.unwrap();
    let message = world.fails("blank", "DelegateNameUnusable").await;
    told(202, "somebody called like another, with a blank before it, deploys", &message, &["\" dana\"", "nobody can deploy in this name"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nests_too_deep_to_be_read_ends_its_request() {
    let world = World::new("endless-depth").await;
    let group = format!("{}.example.test", world.host);
    world
        .apply(&[json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("depths.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced", "names": {"kind": "Depth", "plural": "depths", "singular": "depth", "listKind": "DepthList"},
                "versions": [{
                    "name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                }],
            },
        })])
        .await;
    let rules = json!([{"apiGroups": [group], "resources": ["depths"], "verbs": ["get", "list"]}]);
    let subjects = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"},
        {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "makers"}]);
    world.apply(&role(&world.dev, "depths", &rules, &subjects)).await;
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(&group, "v1", "Depth"), "depths");
    let depths: Api<DynamicObject> = Api::namespaced_with(world.admin.clone(), &world.dev, &resource);
    world.until("the kind is served", async || depths.list_metadata(&ListParams::default()).await.ok()).await;
    let spec = (0..400).fold(json!(1), |inner, _| json!({"a": inner}));
    let metadata = json!({"name": "deep", "labels": {"app.kubernetes.io/part-of": "orders"}});
    let deep = json!({"apiVersion": format!("{group}/v1"), "kind": "Depth", "metadata": metadata, "spec": spec});
    let body = serde_json::to_vec(&deep).unwrap();
    let call = kube::core::Request::new(depths.resource_url()).create(&PostParams::default(), body).unwrap();
    world.admin.request_text(call).await.unwrap();
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["components"] = json!([{"group": group, "kind": "Depth"}]);
    world.apply(&[solution]).await;
    world.ask(&world.request("deep", "qa", "orders", "1.0.0")).await;
    let ended = world.end("deep").await;
    let (reason, message) = outcome(&ended);
    ignored(204, "an object nests so deep that nothing can read it", reason == "TooDeeplyNested", &(reason, &message));
    told(204, "an object nests so deep that nothing can read it", &message, &["depths", "nests deeper than", "Make it flatter"]);
    let definitions =
        Api::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>::all(world.admin.clone());
    definitions.delete(&format!("depths.{group}"), &kube::api::DeleteParams::default()).await.unwrap();
}
