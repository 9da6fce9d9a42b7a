//! What must stay possible in spite of all refusals.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use pilotage::api::Artifact;
use serde_json::json;

use crate::scene::{at_the_gate, operator, orders, patch, requests, running, shared};
use crate::world::{World, client, phase};

#[tokio::test(flavor = "multi_thread")]
async fn the_same_file_is_applied_again_and_labelled_and_canceled() {
    let world = shared("gitops").await;
    orders(&world).await;
    let file = world.danas(serde_json::to_value(world.request("orders", "qa", "orders", "1.0.0")).unwrap()).to_string();
    let dana = world.plane.kubectl_as(&world.plane.user_kubeconfig("dana", &["makers"]).unwrap());
    let apply = |args: &[&str]| {
        let output = dana.run_with(&[&["apply", "-f", "-"], args].concat(), &file).unwrap();
        assert!(output.ok, "{}", output.stderr);
        output.stdout
    };
    assert!(apply(&[]).contains("created"));
    world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    assert!(apply(&[]).contains("unchanged"), "a client-side apply of the same file changes nothing");
    let version = requests(&world, world.admin.clone()).get("orders").await.unwrap().metadata.generation;
    apply(&["--server-side", "--force-conflicts"]);
    let diff = dana.run_with(&["diff", "--server-side", "--force-conflicts", "-f", "-"], &file).unwrap();
    assert!(diff.ok, "the second apply would still change something: {}{}", diff.stdout, diff.stderr);
    apply(&["--server-side", "--force-conflicts"]);
    // Argo CD and Flux put their own names on what they manage.
    let marks = json!({"metadata": {
        "labels": {"app.kubernetes.io/instance": "makers", "kustomize.toolkit.fluxcd.io/name": "makers"},
        "annotations": {"argocd.argoproj.io/tracking-id": "makers:pilotage.dev/DeploymentRequest:host/orders"},
    }});
    patch(&world, world.dana().await, "orders", marks).await.unwrap();
    let after = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    assert_eq!(after.metadata.generation, version, "the spec stayed as it was");
    patch(&world, world.dana().await, "orders", json!({"spec": {"scheduledTime": "2040-01-01T00:00:00Z"}})).await.unwrap();
    patch(&world, world.dana().await, "orders", json!({"spec": {"cancel": true}})).await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Canceled");
    // What has ended may be deleted, in any way, by who may purge records.
    let foreground = DeleteParams::foreground();
    requests(&world, world.olga().await).delete("orders", &foreground).await.unwrap();
    world
        .until("the request is gone", async || {
            requests(&world, world.admin.clone()).get_opt("orders").await.unwrap().is_none().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_cancels_what_somebody_else_asked_for() {
    let world = World::new("cancel").await;
    at_the_gate(&world, "orders").await;
    patch(&world, world.olga().await, "orders", json!({"spec": {"cancel": true}})).await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Canceled");
    // With visibility Private, makers withdraw a request by deleting it.
    at_the_gate(&world, "second").await;
    requests(&world, world.dana().await).delete("second", &DeleteParams::default()).await.unwrap();
    world
        .until("the request is gone", async || {
            requests(&world, world.admin.clone()).get_opt("second").await.unwrap().is_none().then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_removed_artifact_are_collected() {
    let world = World::new("garbage").await;
    at_the_gate(&world, "orders").await;
    let bytes: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.host);
    let chunks = ListParams::default().labels("pilotage.dev/artifact");
    assert!(!bytes.list(&chunks).await.unwrap().items.is_empty());
    let own: Api<Artifact> = Api::namespaced(client(operator(&world)).await, &world.host);
    for artifact in own.list(&ListParams::default()).await.unwrap() {
        own.delete(&artifact.metadata.name.unwrap(), &DeleteParams::default()).await.unwrap();
    }
    world.until("the bytes are collected", async || bytes.list(&chunks).await.unwrap().items.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_deleted_with_all_that_runs_in_it_once_that_is_confirmed() {
    let world = World::new("end").await;
    running(&world, "stuck").await;
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    let refused = namespaces.delete(&world.host, &DeleteParams::default()).await.unwrap_err().to_string();
    // Its pipeline, its requests and its artifacts are each a reason.
    assert!(refused.contains(" holds ") && refused.contains("confirm-delete"), "{refused}");
    let confirm = json!({"metadata": {"annotations": {"pilotage.dev/confirm-delete": world.host}}});
    namespaces.patch(&world.host, &PatchParams::default(), &Patch::Merge(confirm)).await.unwrap();
    namespaces.delete(&world.host, &DeleteParams::default()).await.unwrap();
    world.until("the host is gone", async || namespaces.get_opt(&world.host).await.unwrap().is_none().then_some(())).await;
}
