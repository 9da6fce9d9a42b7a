//! Objects that are being deleted, and their namespaces.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use pilotage::api::{Environment, Stage};
use serde_json::json;

use crate::world::{World, outcome, phase};

const HOLD: &str = "example.test/hold";

async fn hold<K>(api: &Api<K>, name: &str, finalizers: &[&str])
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let patch = Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    api.patch(name, &PatchParams::default(), &patch).await.unwrap();
}

fn maps(client: &Client, namespace: &str) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), namespace)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_being_deleted_in_development_is_named_and_not_exported() {
    let world = World::new("leaving-dev").await;
    world
        .apply(&[
            world.solution("orders", "1.0.0"),
            world.config("orders", "orders", json!({})),
            world.config("orders", "going", json!({})),
        ])
        .await;
    let dev = maps(&world.admin, &world.dev);
    hold(&dev, "going", &[HOLD]).await;
    dev.delete("going", &DeleteParams::default()).await.unwrap();
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    let message = world.fails("first", "BeingDeleted").await;
    for part in [format!("in namespace {} these objects", world.dev), "ConfigMap going. ".to_owned(), "Wait until they are gone".to_owned()]
    {
        assert!(message.contains(&part), "{part:?} is not said: {message}");
    }
    hold(&dev, "going", &[]).await;
    world.until("it is gone", async || dev.get_opt("going").await.unwrap().is_none().then_some(())).await;
    let again = world.deploy("again", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_finalizers_hold_up_is_said_with_who_holds_it_and_waited_for_only_where_the_name_is_needed() {
    let world = World::new("leaving-qa").await;
    world
        .apply(&[
            world.solution("orders", "1.0.0"),
            world.config("orders", "orders", json!({})),
            world.config("orders", "held", json!({"a": "1"})),
        ])
        .await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let (dev, qa) = (maps(&world.admin, &world.dev), maps(&world.admin, &world.qa));
    hold(&qa, "held", &[HOLD]).await;
    dev.delete("held", &DeleteParams::default()).await.unwrap();
    world.apply(&[world.solution("orders", "2.0.0")]).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    let (_, message) = outcome(&second);
    assert_eq!(phase(&second), "Succeeded", "{message}");
    assert!(message.contains(&format!("ConfigMap held (held by {HOLD})")) && message.contains("whoever set these finalizers"), "{message}");
    assert!(qa.get("held").await.unwrap().metadata.deletion_timestamp.is_some());

    // The next version has the name again. It can't have it before the finalizers are removed.
    world.apply(&[world.config("orders", "held", json!({"a": "3"})), world.solution("orders", "3.0.0")]).await;
    world.ask(&world.request("third", "qa", "orders", "3.0.0")).await;
    world.until_request("third", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "third", "Approved").await.unwrap();
    let message = world.waits_for("third", "TargetUnavailable").await;
    for part in ["ConfigMap held is being deleted in the target and waits for its finalizers", HOLD, "tried again until"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    // What the first try wrote exists by now, and is deleted with the namespace. The next tries must not take it for done.
    let tries = || world.operator_writes(&world.qa, true).iter().filter(|c| c.name == "held").count();
    let before = tries();
    world.until("it was tried twice more", async || (tries() >= before + 2).then_some(())).await;
    hold(&qa, "held", &[]).await;
    let third = world.end("third").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
    assert_eq!(serde_json::to_value(qa.get("held").await.unwrap().data).unwrap(), json!({"a": "3"}));
}

/// Begins to delete a namespace that a finalizer in it holds.
async fn ends(world: &World, namespace: &str) {
    let mut held = world.config("held", "held", json!({}));
    held["metadata"]["namespace"] = namespace.into();
    held["metadata"]["finalizers"] = json!([HOLD]);
    world.apply(&[held]).await;
    let namespaces = Api::<Namespace>::all(world.admin.clone());
    let confirm = Patch::Merge(json!({"metadata": {"annotations": {"pilotage.dev/confirm-delete": namespace}}}));
    namespaces.patch(namespace, &PatchParams::default(), &confirm).await.unwrap();
    namespaces.delete(namespace, &DeleteParams::default()).await.unwrap();
}

async fn let_go(world: &World, namespace: &str) {
    hold(&maps(&world.admin, namespace), "held", &[]).await;
    let namespaces = Api::<Namespace>::all(world.admin.clone());
    world.until("the namespace is gone", async || namespaces.get_opt(namespace).await.unwrap().is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_development_namespace_or_target_that_is_being_deleted_is_said_to_be() {
    let world = World::new("leaving-namespaces").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    ends(&world, &world.qa).await;
    let message = world.until_condition::<Environment>("qa", "Ready", "NamespaceTerminating").await;
    assert!(message.contains(&format!("namespace {} is being deleted: wait until it is gone and create it again", world.qa)), "{message}");
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("first", "StageNotReady").await;
    assert!(message.contains("Environment qa is not validated (NamespaceTerminating)") && message.contains(". Waits until "), "{message}");

    ends(&world, &world.dev).await;
    world.until_condition::<Environment>("dev", "Ready", "NamespaceTerminating").await;
    for namespace in [&world.qa, &world.dev] {
        let_go(&world, namespace).await;
    }
    let message = world.until_condition::<Environment>("qa", "Ready", "NamespaceNotFound").await;
    assert!(message.contains("create it, or delete this Environment"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_while_it_is_deployed_to_ends_the_deployment_with_the_reason() {
    let world = World::new("leaving-midway").await;
    let template = json!({"metadata": {"labels": {"app": "orders"}},
        "spec": {"nodeSelector": {"there": "is-none"}, "containers": [{"name": "orders", "image": "orders"}]}});
    let stuck = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": template},
    });
    world.apply(&[world.solution("orders", "1.0.0"), stuck]).await;
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"] = json!({"timeout": "8s"});
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "first", "Approved").await.unwrap();
    world.until_request("first", |r| outcome(r).0 == "WaitingForHealth").await;
    ends(&world, &world.qa).await;
    let first = world.end("first").await;
    let (reason, message) = outcome(&first);
    assert_eq!((phase(&first).as_str(), reason.as_str()), ("Failed", "NamespaceTerminating"), "{message}");
    for part in
        [format!("namespace {} is being deleted", world.qa), "create it again".to_owned(), "kubectl pilotage retry first".to_owned()]
    {
        assert!(message.contains(&part), "{part:?} is not said: {message}");
    }
    let_go(&world, &world.qa).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_being_deleted_goes_whatever_it_holds() {
    let world = World::new("leaving-host").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    // A request that has not claimed anything yet.
    world.ask(&world.request("on", "prod", "orders", "1.0.0")).await;
    world.until_request("on", |r| phase(r) == "AwaitingApproval").await;
    ends(&world, &world.host).await;
    let_go(&world, &world.host).await;
    assert!(maps(&world.admin, &world.qa).get_opt("orders").await.unwrap().is_some(), "what runs in a target goes on running");
}
