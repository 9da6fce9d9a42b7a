//! What retention removes and keeps, that it says so, and that records go in no other way but by who may purge them.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::retention::{KeptBecause, RetentionRun, RetentionStatus};
use pilotage::api::{Artifact, DeploymentRequest, Environment, Pipeline, Solution};
use serde_json::{Value, json};

use crate::grant::plugin;
use crate::world::{World, ended, outcome, phase};

/// Changes the pipeline as its administrator.
async fn change(world: &World, patch: Value) {
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    world.ready::<Pipeline>("standard").await;
}

/// Everything that ended is too old. The schedule itself comes once a year.
async fn keep_nothing(world: &World) {
    let retention = json!({"schedule": "0 0 1 1 *", "requests": {"maxAge": "0s"}, "artifacts": {"maxAge": "0s"}});
    change(world, json!({"spec": {"retention": retention}})).await;
}

async fn status(world: &World) -> Option<RetentionStatus> {
    let pipeline = Api::<Pipeline>::namespaced(world.admin.clone(), &world.host).get("standard").await.unwrap();
    pipeline.status?.retention
}

/// Has a run begin, and waits for its end.
async fn run(world: &World, value: &str) -> RetentionStatus {
    change(world, json!({"metadata": {"annotations": {"pilotage.dev/retain-now": value}}})).await;
    world
        .until("the run of retention has ended", async || {
            status(world).await.filter(|s| s.requested.as_deref() == Some(value) && s.running.is_none() && s.last_run.is_some())
        })
        .await
}

/// Develops a version.
async fn develop(world: &World, version: &str) {
    world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"version": version}))]).await;
}

async fn deploy(world: &World, name: &str, stage: &str, version: &str) {
    let end = world.deploy(name, stage, "orders", version).await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
}

async fn artifact(world: &World, version: &str) -> Option<Artifact> {
    Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get_opt(&format!("orders-{version}")).await.unwrap()
}

/// The names of the requests that there are.
async fn requests(world: &World) -> Vec<String> {
    let all = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
    all.iter().map(ResourceExt::name_any).collect()
}

/// How many `ConfigMaps` hold the bytes of an artifact.
async fn chunks(world: &World, uid: &str) -> usize {
    let of_it = ListParams::default().labels(&format!("pilotage.dev/artifact={uid}"));
    Api::<ConfigMap>::namespaced(world.admin.clone(), &world.host).list(&of_it).await.unwrap().items.len()
}

/// What the plugin prints for olga in the host.
fn olgas_plugin(world: &World, args: &[&str]) -> Result<String, String> {
    plugin(world, &world.plane.user_kubeconfig("olga", &[]).unwrap(), args)
}

fn removed(run: &RetentionRun) -> (i32, i32, i32) {
    (run.removed.requests, run.removed.bytes, run.removed.artifacts)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_past_its_time_goes_what_is_needed_stays_and_the_record_outlives_the_bytes() {
    let world = World::new("retained").await;
    develop(&world, "1.0.0").await;
    deploy(&world, "first", "qa", "1.0.0").await;
    develop(&world, "1.0.1").await;
    world.ask(&world.request("unwanted", "qa", "orders", "1.0.1")).await;
    world.until_request("unwanted", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "unwanted", "Rejected").await.unwrap();
    world.end("unwanted").await;
    for version in ["1.1.0", "1.2.0"] {
        develop(&world, version).await;
        deploy(&world, &format!("to-{version}"), "qa", version).await;
    }
    deploy(&world, "to-prod", "prod", "1.2.0").await;
    develop(&world, "1.3.0").await;
    world.ask(&world.request("waits", "qa", "orders", "1.3.0")).await;
    world.until_request("waits", |r| phase(r) == "AwaitingApproval").await;
    let (old, unwanted) = (artifact(&world, "1.0.0").await.unwrap(), artifact(&world, "1.0.1").await.unwrap());

    keep_nothing(&world).await;
    let next = world.until("the next run is told", async || status(&world).await?.next_run).await;
    assert!(next.to_string().ends_with("-01-01T00:00:00Z"), "{next}");
    assert_eq!(requests(&world).await.len(), 6, "nothing goes before its time");
    let foretold = olgas_plugin(&world, &["retention", "preview", "--pipeline", "standard", "-o", "name"]).unwrap();
    let names = ["deploymentrequest.pilotage.dev/first", "deploymentrequest.pilotage.dev/unwanted"];
    let artifacts = ["artifact.pilotage.dev/orders-1.0.0", "artifact.pilotage.dev/orders-1.0.1"];
    assert_eq!(foretold.lines().collect::<Vec<_>>(), [names, artifacts].concat());
    let csv = olgas_plugin(&world, &["retention", "preview", "--all", "-o", "csv"]).unwrap();
    for line in [
        "deploymentrequest,waits,stays,NotEnded,,standard,",
        "deploymentrequest,to-1.1.0,stays,WayBack,qa,standard,",
        "artifact,orders-1.0.0,loses its bytes,,,",
        "artifact,orders-1.2.0,stays,Deployed,qa,",
    ] {
        assert!(csv.lines().any(|found| found.starts_with(line)), "{line} is not in {csv}");
    }
    assert_eq!(requests(&world).await.len(), 6, "a preview changes nothing");
    let after = run(&world, "once").await;

    assert_eq!(requests(&world).await, ["to-1.1.0", "to-1.2.0", "to-prod", "waits"]);
    let kept = artifact(&world, "1.0.0").await.unwrap().status.unwrap();
    let gone = kept.bytes_removed.unwrap();
    assert_eq!((gone.pipeline.as_str(), gone.complete, kept.deployments.len()), ("standard", true, 1));
    assert_eq!(kept.deployments[0].requested_by, "dana", "who deployed it stays on record");
    assert_eq!(chunks(&world, &old.uid().unwrap()).await, 0);
    assert!(artifact(&world, "1.0.1").await.is_none(), "what was never deployed goes whole");
    world.until("its bytes go with it", async || (chunks(&world, &unwanted.uid().unwrap()).await == 0).then_some(())).await;
    for version in ["1.1.0", "1.2.0", "1.3.0"] {
        let artifact = artifact(&world, version).await.unwrap();
        assert!(artifact.status.as_ref().is_none_or(|s| s.bytes_removed.is_none()), "{version}");
        assert_eq!(chunks(&world, &artifact.uid().unwrap()).await, 1, "{version}");
    }
    let told = after.last_run.unwrap();
    assert_eq!((removed(&told), told.refused, told.message), ((2, 1, 1), 0, None));
    let kept: Vec<(KeptBecause, i32, i32)> = after.kept.iter().map(|k| (k.because, k.requests, k.artifacts)).collect();
    let record = (KeptBecause::Record, 0, 1);
    assert_eq!(kept, [(KeptBecause::NotEnded, 1, 1), (KeptBecause::Deployed, 2, 1), (KeptBecause::WayBack, 1, 1), record]);
    let events = Api::<Event>::namespaced(world.admin.clone(), &world.host);
    let note = world
        .until("an Event tells of it", async || {
            let all = events.list(&ListParams::default()).await.unwrap();
            all.into_iter().find(|e| e.reason.as_deref() == Some("RetentionRan")).and_then(|e| e.note)
        })
        .await;
    assert_eq!(note, "removed 2 requests, the bytes of 1 artifacts and 1 artifacts whole; kept 4 requests and 4 artifacts");

    // What has no bytes is deployed no more, and says why. The rest works as before.
    change(&world, json!({"spec": {"allowRedeployments": true}})).await;
    world.ask(&world.request("again", "qa", "orders", "1.0.0")).await;
    let message = world.fails("again", "ArtifactBytesRemoved").await;
    assert!(message.contains("by the retention of pipeline standard") && message.contains("raise the solution's version"), "{message}");
    deploy(&world, "back", "qa", "1.1.0").await;
    // What was refused just now goes, and what holds the settings of 1.1.0 no longer.
    let again = run(&world, "twice").await;
    assert_eq!(removed(&again.last_run.unwrap()), (2, 0, 0));
    assert_eq!(requests(&world).await, ["back", "to-1.2.0", "to-prod", "waits"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_stays_until_it_is_let_go() {
    let world = World::new("keep").await;
    develop(&world, "1.0.0").await;
    for name in ["one", "two"] {
        world.ask(&world.request(name, "qa", "orders", "1.0.0")).await;
        world.until_request(name, |r| phase(r) == "AwaitingApproval" || ended(r)).await;
        world.decide("qa", name, "Rejected").await.unwrap();
        world.end(name).await;
    }
    let olgas = Api::<DeploymentRequest>::namespaced(world.olga().await, &world.host);
    let mark = |value: Value| Patch::Merge(json!({"metadata": {"annotations": {"pilotage.dev/keep": value}}}));
    olgas.patch("one", &PatchParams::default(), &mark("the audit of 2027".into())).await.unwrap();
    let artifacts = Api::<Artifact>::namespaced(world.olga().await, &world.host);
    artifacts.patch("orders-1.0.0", &PatchParams::default(), &mark("".into())).await.unwrap();
    keep_nothing(&world).await;
    let after = run(&world, "held").await;
    assert_eq!(requests(&world).await, ["one"]);
    let kept: Vec<(KeptBecause, i32, i32)> = after.kept.iter().map(|k| (k.because, k.requests, k.artifacts)).collect();
    assert_eq!(kept, [(KeptBecause::Held, 1, 1)]);
    olgas.patch("one", &PatchParams::default(), &mark(Value::Null)).await.unwrap();
    let after = run(&world, "let go").await;
    assert_eq!((removed(&after.last_run.unwrap()), requests(&world).await.len()), ((1, 0, 0), 0));
    assert!(artifact(&world, "1.0.0").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_purges_what_nobody_else_may_delete_and_nothing_that_runs() {
    let world = World::new("purge").await;
    for version in ["1.0.0", "1.1.0"] {
        develop(&world, version).await;
        deploy(&world, &format!("to-{version}"), "qa", version).await;
    }
    let (none, olga) = (DeleteParams::default(), world.olga().await);
    let of_dana = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let refused = of_dana.delete("to-1.0.0", &none).await.unwrap_err().to_string();
    assert!(refused.contains("is the record of what happened") && refused.contains("verb purge"), "{refused}");
    let asked = olgas_plugin(&world, &["purge", "request", "to-1.0.0"]).unwrap_err();
    assert!(asked.contains("request to-1.0.0 for orders 1.0.0 to stage qa, Succeeded at ") && asked.contains("--yes"), "{asked}");
    assert_eq!(requests(&world).await.len(), 2, "nothing was deleted");
    let done = olgas_plugin(&world, &["purge", "request", "to-1.0.0", "--yes"]).unwrap();
    assert!(done.starts_with("deleted request to-1.0.0 for orders 1.0.0 to stage qa"), "{done}");
    let missing = olgas_plugin(&world, &["purge", "request", "to-1.0.0", "--yes"]).unwrap_err();
    assert!(missing.contains("DeploymentRequest to-1.0.0 does not exist in host"), "{missing}");
    let artifacts = Api::<Artifact>::namespaced(olga, &world.host);
    let sees = DeleteParams { dry_run: true, ..DeleteParams::default() };
    world.until("the policy knows that it is deployed", async || artifacts.delete("orders-1.1.0", &sees).await.err()).await;
    let refused = artifacts.delete("orders-1.1.0", &none).await.unwrap_err().to_string();
    assert!(refused.contains("artifact orders-1.1.0 is deployed in environment qa"), "{refused}");
    let done = olgas_plugin(&world, &["purge", "artifact", "orders-1.0.0", "--yes"]).unwrap();
    assert_eq!(done.trim_end(), "deleted artifact orders-1.0.0 with its bytes and 1 records of deployments");
    assert!(artifact(&world, "1.0.0").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_holds_records_is_deleted_only_when_its_own_name_confirms_it() {
    let world = World::new("guarded").await;
    develop(&world, "1.0.0").await;
    deploy(&world, "first", "qa", "1.0.0").await;
    develop(&world, "1.1.0").await;
    world.ask(&world.request("second", "qa", "orders", "1.1.0")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    let none = DeleteParams::default();
    let confirm = |name: &str| Patch::Merge(json!({"metadata": {"annotations": {"pilotage.dev/confirm-delete": name}}}));

    let solutions = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    world
        .until("the solution tells of the request", async || {
            solutions.get("orders").await.ok()?.status?.deployments.iter().any(|d| d.request == "second").then_some(())
        })
        .await;
    let refused = solutions.delete("orders", &none).await.unwrap_err().to_string();
    assert!(refused.contains("has requests that have not ended: second (stage qa)") && refused.contains("annotate solution"), "{refused}");

    let environments = Api::<Environment>::namespaced(world.olga().await, &world.host);
    let refused = environments.delete("qa", &none).await.unwrap_err().to_string();
    assert!(refused.contains("is the record of what is deployed in namespace") && refused.contains("orders 1.0.0"), "{refused}");
    environments.patch("qa", &PatchParams::default(), &confirm("prod")).await.unwrap();
    environments.delete("qa", &none).await.unwrap_err();
    environments.delete("prod", &none).await.unwrap();

    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    let refused = pipelines.delete("standard", &none).await.unwrap_err().to_string();
    assert!(refused.contains("pipeline standard has re") && refused.contains("annotate pipeline standard"), "{refused}");

    solutions.patch("orders", &PatchParams::default(), &confirm("orders")).await.unwrap();
    solutions.delete("orders", &none).await.unwrap();
    environments.patch("qa", &PatchParams::default(), &confirm("qa")).await.unwrap();
    environments.delete("qa", &none).await.unwrap();
    pipelines.patch("standard", &PatchParams::default(), &confirm("standard")).await.unwrap();
    pipelines.delete("standard", &none).await.unwrap();

    // The host has no pipeline any more, and still holds records.
    let namespaces = Api::<k8s_openapi::api::core::v1::Namespace>::all(world.admin.clone());
    let refused = world
        .until("the pipeline is gone", async || {
            let error =
                namespaces.delete(&world.host, &DeleteParams { dry_run: true, ..DeleteParams::default() }).await.unwrap_err().to_string();
            (!error.contains("holds pipeline")).then_some(error)
        })
        .await;
    assert!(refused.contains("holds artifact orders-1.") || refused.contains("holds request "), "{refused}");
}
