//! What is deleted or taken over between two objects of one deployment, while a write of an object to the target is held.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};
use crate::proxy::Action;
use crate::world::{World, ended, outcome, phase};

/// A world with a request to deploy the small application to QA, where somebody else has an object.
async fn asked(name: &str) -> (World, Fixture) {
    let world = fixture::world(fixture::shared(), name).await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture
        .tending(async {
            world.configure().await;
            world.apply(&Application::small().objects(&world)).await;
            let mut foreign = world.config("other", "foreign", json!({"of": "somebody else"}));
            foreign["metadata"]["namespace"] = json!(world.qa);
            world.apply(&[foreign]).await;
            world.ask(&world.request("orders-qa", "qa", "orders", "1.4.0")).await;
            world.until_request("orders-qa", |r| phase(r) == "AwaitingApproval").await;
        })
        .await;
    (world, fixture)
}

/// The same while it deploys, up to the first write to an object whose path contains `part`.
async fn held_at(name: &str, part: &str) -> (World, Fixture) {
    let (world, mut fixture) = asked(name).await;
    let proxy = fixture.proxy.clone();
    fixture
        .tending(async {
            let part = format!("/namespaces/{}/{part}", world.qa);
            let watched = part.clone();
            proxy.follow(move |call| if call.write.is_some() && call.line.contains(&watched) { Action::Hold } else { Action::Forward });
            world.decide("qa", "orders-qa", "Approved").await.unwrap();
            let under_way = async || proxy.writes().iter().any(|w| w.line.contains(&part) && w.code.is_none()).then_some(());
            world.until("the object is on its way", under_way).await;
        })
        .await;
    (world, fixture)
}

/// What is in QA, by kind and name: the application's objects and the foreign one.
fn in_qa(world: &World) -> Vec<String> {
    let kubectl = world.plane.kubectl();
    let found =
        kubectl.json(&["get", "configmap,service,deployment", "-n", &world.qa, "-l", "app.kubernetes.io/part-of"]).unwrap()["items"].take();
    let name = |o: &Value| format!("{} {}", o["kind"].as_str().unwrap(), o["metadata"]["name"].as_str().unwrap());
    found.as_array().unwrap().iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_taken_away_between_two_objects_is_printed_and_the_rest_follows_when_it_is_back() {
    let (world, mut fixture) = held_at("right-gone", "services/orders").await;
    let bindings = Api::<RoleBinding>::namespaced(world.admin.clone(), &world.qa);
    let mut binding = bindings.get("bot-qa").await.unwrap();
    bindings.delete("bot-qa", &DeleteParams::default()).await.unwrap();
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    let may = ["auth", "can-i", "patch", "services", "-n", &world.qa, "--as", &bot];
    let kubectl = world.plane.kubectl();
    world.until("the right is gone", async || (kubectl.run(&may).unwrap().stdout.trim() == "no").then_some(())).await;
    let proxy = fixture.proxy.clone();
    fixture
        .tending(async {
            proxy.release();
            let message = world.waits_for("orders-qa", "DelegateLacksTargetAccess").await;
            for part in [bot.as_str(), "services", "verbs: [", &format!("namespace: {}", world.qa)] {
                assert!(message.contains(part), "{part:?} is not said: {message}");
            }
            assert_eq!(in_qa(&world), ["ConfigMap foreign", "ConfigMap orders"], "what came before it, and nothing after");
            binding.metadata = ObjectMeta {
                name: Some("bot-qa".into()),
                namespace: binding.namespace(),
                labels: binding.metadata.labels.take(),
                ..ObjectMeta::default()
            };
            bindings.create(&kube::api::PostParams::default(), &binding).await.unwrap();
            life::end(&world, "orders-qa", "qa").await;
        })
        .await;
    assert_eq!(in_qa(&world), ["ConfigMap foreign", "ConfigMap orders", "Service orders", "Deployment orders"]);
    life::written_once_in_qa(&world, &fixture.proxy.writes());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_somebody_else_creates_in_between_is_left_to_them_and_named() {
    let (world, mut fixture) = held_at("taken", "configmaps/orders").await;
    // Without a field that the solution sets, because that would be reported as a conflict.
    let theirs =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "orders", "namespace": world.qa}, "data": {"of": "theirs"}});
    world.apply(&[theirs]).await;
    let proxy = fixture.proxy.clone();
    let request = fixture
        .tending(async {
            proxy.release();
            world.until_request("orders-qa", ended).await
        })
        .await;
    let (reason, message) = outcome(&request);
    assert_eq!((phase(&request).as_str(), reason.as_str()), ("Failed", "ApplyFailed"), "{message}");
    for part in [
        "ConfigMap orders was created by somebody else in the target while it was deployed",
        "find out by whom",
        "kubectl pilotage retry orders-qa",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let map = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("orders").await.unwrap();
    assert_eq!(serde_json::to_value(map.data).unwrap(), json!({"of": "theirs"}), "it is as they made it");
    let errors = request.status.unwrap().run.errors;
    assert_eq!(errors.iter().map(|e| (e.kind.as_str(), e.reason.as_str())).collect::<Vec<_>>(), [("ConfigMap", "ChangedMeanwhile")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_that_somebody_else_takes_over_in_between_is_named_with_its_new_owner() {
    let world = fixture::world(fixture::shared(), "field-taken").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    let proxy = fixture.proxy.clone();
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    let request = fixture
        .tending(async {
            world.configure().await;
            let application = Application::small();
            world.apply(&application.objects(&world)).await;
            life::deploy_to(&world, &application, "qa").await;
            let next = world.config("orders", "orders", json!({"greeting": "good morning"}));
            world.apply(&[next, world.solution("orders", "1.5.0")]).await;
            world.ask(&world.request("next", "qa", "orders", "1.5.0")).await;
            world.until_request("next", |r| phase(r) == "AwaitingApproval").await;
            let line = format!("PATCH /api/v1/namespaces/{}/configmaps/orders", world.qa);
            let held = line.clone();
            proxy.follow(move |call| if call.write.is_some() && call.line == held { Action::Hold } else { Action::Forward });
            world.decide("qa", "next", "Approved").await.unwrap();
            let under_way = async || proxy.writes().iter().any(|w| w.line == line && w.code.is_none()).then_some(());
            world.until("the object is on its way", under_way).await;
            let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"greeting": "hotfix"}});
            maps.patch("orders", &PatchParams::apply("hotfix").force(), &Patch::Apply(&theirs)).await.unwrap();
            proxy.release();
            world.until_request("next", ended).await
        })
        .await;
    let (reason, message) = outcome(&request);
    assert_eq!((phase(&request).as_str(), reason.as_str()), ("Failed", "ApplyFailed"), "{message}");
    assert!(message.contains(r#"ConfigMap orders: .data.greeting is managed by "hotfix" "#), "{message}");
    assert_eq!(serde_json::to_value(maps.get("orders").await.unwrap().data).unwrap(), json!({"greeting": "hotfix"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_labelled_as_the_solutions_midway_is_not_deleted_as_nobody_was_asked() {
    let (world, mut fixture) = asked("labelled").await;
    let proxy = fixture.proxy.clone();
    let deployment = format!("/namespaces/{}/deployments/orders", world.qa);
    let mut has_crashed = false;
    proxy.follow(move |call| {
        if call.write.is_some() && call.line.ends_with(&deployment) && !has_crashed {
            has_crashed = true;
            return Action::CrashBefore;
        }
        Action::Forward
    });
    world.decide("qa", "orders-qa", "Approved").await.unwrap();
    // It is not started again before.
    world.until("the operator has died midway", async || proxy.has_crashed().then_some(())).await;
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    let set = maps.get("orders").await.unwrap().labels()["applyset.kubernetes.io/part-of"].clone();
    let label = Patch::Merge(json!({"metadata": {"labels": {"applyset.kubernetes.io/part-of": set}}}));
    maps.patch("foreign", &PatchParams::default(), &label).await.unwrap();

    let request = fixture.tending(world.end("orders-qa")).await;
    let (reason, message) = outcome(&request);
    assert_eq!((phase(&request).as_str(), reason.as_str()), ("Failed", "PlanChanged"), "{message}");
    for part in ["ConfigMap foreign would be deleted", "nothing more was written", "Find out who labelled"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(maps.get("foreign").await.unwrap().data.unwrap()["of"], "somebody else");

    // If it is requested again, it needs approval: the plan says that it is deleted.
    let again = fixture
        .tending(async {
            world.ask(&world.request("again", "qa", "orders", "1.4.0")).await;
            world.approved("again", "qa").await
        })
        .await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
    assert_eq!(again.status.unwrap().run.plan.unwrap().objects[0].name, "foreign");
    assert!(maps.get_opt("foreign").await.unwrap().is_none());
}
