//! What happens when a deployment fails after its first write: the replaced version is restored, or what was applied stays.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use pilotage::api::artifact::{DeploymentRecord, Outcome};
use pilotage::api::environment::DeployedSolution;
use pilotage::api::plan::PlannedAction;
use pilotage::api::{Artifact, DeploymentRequest, Environment, Solution, Stage};
use serde_json::{Value, json};

use crate::world::{World, ended, outcome, phase};

/// Stage `qa` with this time-out and this reaction to a failed deployment.
async fn stage(world: &World, timeout: &str, on_failure: &str) {
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"] = json!({"timeout": timeout, "onFailure": on_failure});
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
}

/// A version in development with a Deployment and a `ConfigMap` that takes a greeting.
async fn develop(world: &World, version: &str, pods: Value) {
    let mut solution = world.solution("orders", version);
    solution["spec"]["environmentVariables"] = json!([
        {"name": "GREETING", "default": "none", "target": {"kind": "ConfigMap", "name": "orders", "path": "/data/greeting"}},
    ]);
    let mut spec = json!({"containers": [{"name": "orders", "image": format!("registry.example.test/orders:{version}")}]});
    spec.as_object_mut().unwrap().extend(pods.as_object().unwrap().clone());
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": {"metadata": {"labels": {"app": "orders"}}, "spec": spec}},
    });
    world.apply(&[solution, world.config("orders", "orders", json!({"greeting": "dev", "version": version})), deployment]).await;
}

/// Pods that no node accepts.
fn stuck() -> Value {
    json!({"nodeSelector": {"there": "is-none"}})
}

/// A request with a greeting of its own.
fn greeting(world: &World, name: &str, version: &str, text: &str) -> DeploymentRequest {
    let mut request = serde_json::to_value(world.request(name, "qa", "orders", version)).unwrap();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": [{"name": "GREETING", "value": text}]});
    serde_json::from_value(request).unwrap()
}

/// A world in which orders 1.0.0 runs in QA, with a greeting and with a `ConfigMap` that the next version does not have.
async fn deployed(name: &str) -> World {
    let world = World::new(name).await;
    develop(&world, "1.0.0", json!({})).await;
    world.apply(&[world.config("orders", "only-first", json!({}))]).await;
    world.ask(&greeting(&world, "first", "1.0.0", "hello")).await;
    let first = world.approved("first", "qa").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    Api::<ConfigMap>::namespaced(world.admin.clone(), &world.dev).delete("only-first", &DeleteParams::default()).await.unwrap();
    world.apply(&[world.config("orders", "only-second", json!({}))]).await;
    world
}

async fn in_qa(world: &World) -> DeployedSolution {
    let qa = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    qa.status.unwrap().solutions.into_iter().find(|s| s.name == "orders").expect("a record of orders")
}

async fn records(world: &World, version: &str) -> Vec<DeploymentRecord> {
    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get(&format!("orders-{version}")).await.unwrap();
    artifact.status.unwrap().deployments
}

/// The objects in QA: the names of its `ConfigMaps`, what is in the one of orders, and its image.
async fn objects(world: &World) -> (Vec<String>, Value, String) {
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    let all = maps.list(&kube::api::ListParams::default()).await.unwrap();
    let names = all.iter().map(ResourceExt::name_any).filter(|name| name.starts_with("only-")).collect();
    let orders = maps.get("orders").await.unwrap();
    let deployment = Api::<Deployment>::namespaced(world.admin.clone(), &world.qa).get("orders").await.unwrap();
    let image = deployment.spec.unwrap().template.spec.unwrap().containers[0].image.clone().unwrap();
    (names, serde_json::to_value(orders.data).unwrap(), image)
}

/// Exactly what was deployed with `first` is in QA and on record.
async fn first_is_back(world: &World, failed: &str) {
    let (names, data, image) = objects(world).await;
    assert_eq!(names, ["only-first"], "what the failed version brought is gone, what it took is back");
    assert_eq!(data, json!({"greeting": "hello", "version": "1.0.0"}), "with the settings of the first");
    assert!(image.ends_with(":1.0.0"), "{image}");
    let record = in_qa(world).await;
    assert_eq!((record.version.as_deref(), record.request.as_deref()), (Some("1.0.0"), Some("first")));
    assert_eq!((record.claim, record.failed), (None, None));
    assert_eq!(records(world, "1.0.0").await.len(), 1, "the first was not deployed a second time");
    let [record] = &records(world, "2.0.0").await[..] else { panic!("one deployment of 2.0.0") };
    assert_eq!((record.request.as_str(), record.outcome, record.restored.as_deref()), (failed, Outcome::Failed, Some("1.0.0")));
    assert_eq!(record.reason.as_deref(), Some("RolledBack"));
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    let writes = world.operator_writes(&world.qa, false);
    assert!(writes.iter().all(|c| c.acting_user() == bot), "{:?}", writes.iter().map(|c| (&c.uri, c.acting_user())).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_does_not_become_healthy_is_taken_back_with_the_settings_of_before() {
    let world = deployed("unhealthy").await;
    stage(&world, "5s", "Rollback").await;
    develop(&world, "2.0.0", stuck()).await;
    world.ask(&greeting(&world, "second", "2.0.0", "good morning")).await;
    let second = world.approved("second", "qa").await;
    let (reason, message) = outcome(&second);
    assert_eq!((phase(&second).as_str(), reason.as_str()), ("Failed", "RolledBack"), "{message}");
    let on = format!("Correct the cause, then try again: kubectl pilotage retry second -n {}", world.host);
    for part in [
        "DeploymentTimedOut: applied, but not healthy by ",
        "Deployment orders",
        "orders 1.0.0 was put back with the settings that it was deployed with, and is healthy. ",
        &on,
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let rollback = second.status.unwrap().run.rollback.unwrap();
    assert_eq!((rollback.version.as_str(), rollback.reason.as_str()), ("1.0.0", "DeploymentTimedOut"));
    first_is_back(&world, "second").await;
    let solution = Api::<Solution>::namespaced(world.dana().await, &world.dev).get("orders").await.unwrap();
    let [view] = &solution.status.unwrap().deployments[..] else { panic!("one stage") };
    assert_eq!((view.phase.as_str(), view.message.as_deref()), ("Failed", Some(message.as_str())));
    // A corrected version continues from there.
    develop(&world, "2.0.1", json!({})).await;
    let third = world.deploy("third", "qa", "orders", "2.0.1").await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_labels_as_the_solutions_meanwhile_is_not_deleted_on_the_way_back() {
    let world = deployed("labelled").await;
    stage(&world, "8s", "Rollback").await;
    develop(&world, "2.0.0", stuck()).await;
    world.ask(&greeting(&world, "second", "2.0.0", "good morning")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "second", "Approved").await.unwrap();
    world.until_request("second", |r| outcome(r).0 == "WaitingForHealth").await;
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa);
    let ours = maps.get("orders").await.unwrap();
    let mut theirs = ConfigMap::default();
    theirs.metadata.name = Some("theirs".into());
    theirs.metadata.labels = ours.metadata.labels;
    let theirs = maps.create(&PostParams::default(), &theirs).await.unwrap();
    let begun = world.until_request("second", |_| true).await.status.unwrap().run.rollback;
    assert_eq!(begun, None, "it is there before the way back begins");

    let second = world.until_request("second", ended).await;
    assert_eq!(outcome(&second).0, "RolledBack", "{:?}", outcome(&second));
    first_is_back(&world, "second").await;
    assert_eq!(maps.get("theirs").await.unwrap().metadata.uid, theirs.metadata.uid);
    // Whoever decides on the next version sees it.
    develop(&world, "2.0.1", json!({})).await;
    world.ask(&world.request("third", "qa", "orders", "2.0.1")).await;
    let third = world.until_request("third", |r| phase(r) == "AwaitingApproval").await;
    let planned = third.status.unwrap().run.plan.unwrap().objects;
    assert!(planned.iter().any(|o| o.name == "theirs" && o.action == PlannedAction::Delete), "{planned:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_of_which_an_object_is_refused_midway_is_taken_back() {
    let world = deployed("midway").await;
    stage(&world, "20s", "Rollback").await;
    world.refuses_image(":2.0.0").await;
    develop(&world, "2.0.0", json!({})).await;
    world.ask(&greeting(&world, "second", "2.0.0", "good morning")).await;
    let second = world.approved("second", "qa").await;
    let (reason, message) = outcome(&second);
    assert_eq!(reason, "RolledBack", "{message}");
    for part in ["ApplyFailed: not all objects could be applied: Deployment orders: ", "not this image", "orders 1.0.0 was put back"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let errors = second.status.unwrap().run.errors;
    assert_eq!(errors.iter().map(|e| (e.name.as_str(), e.reason.as_str())).collect::<Vec<_>>(), [("orders", "DeniedByPolicy")]);
    // It was midway: another object had been written before.
    let writes = world.operator_writes(&world.qa, false);
    assert!(writes.iter().filter(|c| c.name == "only-second").count() >= 2, "created and deleted again");
    first_is_back(&world, "second").await;
    world.refuses_no_more().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_replaces_nothing_is_left_where_it_fails_and_said_so() {
    let world = World::new("nothing-before").await;
    stage(&world, "1s", "Rollback").await;
    develop(&world, "1.0.0", stuck()).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    let (reason, message) = outcome(&first);
    assert_eq!(reason, "DeploymentTimedOut", "{message}");
    let said = "what was applied stays, as no version of orders ran there before that could be put back. Correct the cause, then try again: kubectl pilotage retry first -n ";
    assert!(message.contains(said), "{message}");
    assert!(objects(&world).await.2.ends_with(":1.0.0"));
    let record = in_qa(&world).await;
    assert_eq!((record.version, record.claim), (None, None), "it does not count as what runs");
    let failed = record.failed.expect("that it failed there is on record");
    assert_eq!((failed.version.as_str(), failed.request.as_str()), ("1.0.0", "first"));
    stage(&world, "1m", "Rollback").await;
    develop(&world, "1.0.1", json!({})).await;
    let next = world.deploy("next", "qa", "orders", "1.0.1").await;
    assert_eq!(phase(&next), "Succeeded", "{:?}", outcome(&next));
    assert_eq!(in_qa(&world).await.failed, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_is_kept_the_message_says_how_to_go_on_and_the_version_before_may_be_deployed_again() {
    let world = deployed("kept").await;
    stage(&world, "1s", "Keep").await;
    develop(&world, "2.0.0", stuck()).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    let (reason, message) = outcome(&second);
    assert_eq!(reason, "DeploymentTimedOut", "{message}");
    let host = &world.host;
    let said = format!(
        "; what was applied stays. Correct the cause, then try again: kubectl pilotage retry second -n {host}; or put 1.0.0 back: kubectl pilotage redeploy orders 1.0.0 --stage qa -n {host}"
    );
    assert!(message.ends_with(&said), "{message}");
    assert_eq!(objects(&world).await.0, ["only-first", "only-second"], "what it would have replaced is not taken away");
    let record = in_qa(&world).await;
    assert_eq!((record.version.as_deref(), record.failed.map(|f| f.version)), (Some("1.0.0"), Some("2.0.0".to_owned())));
    // The pipeline allows no redeployments. This one is allowed, because what is on record does not run any more.
    stage(&world, "1m", "Keep").await;
    world.ask(&greeting(&world, "back", "1.0.0", "hello")).await;
    let back = world.approved("back", "qa").await;
    assert_eq!(phase(&back), "Succeeded", "{:?}", outcome(&back));
    assert_eq!(objects(&world).await.0, ["only-first"]);
    let record = in_qa(&world).await;
    assert_eq!((record.version.as_deref(), record.failed), (Some("1.0.0"), None));
    let again = world.deploy("again", "qa", "orders", "1.0.0").await;
    assert_eq!(outcome(&again).0, "VersionNotHigher");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_delegate_has_lost_its_rights_nothing_is_put_back_and_the_grant_is_printed() {
    let world = deployed("rightless").await.provokes_refusals().await;
    stage(&world, "3s", "Rollback").await;
    develop(&world, "2.0.0", stuck()).await;
    world.ask(&greeting(&world, "second", "2.0.0", "good morning")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "second", "Approved").await.unwrap();
    world.until_request("second", |r| outcome(r).0 == "WaitingForHealth").await;
    world.plane.kubectl().ok(&["delete", "rolebinding", "bot-qa", "-n", &world.qa]).unwrap();
    let message = world.fails("second", "RollbackFailed").await;
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    for part in [
        "orders 1.0.0 could not be put back, and objects of both versions may be in the target now",
        &format!("or put 1.0.0 back once more: kubectl pilotage redeploy orders 1.0.0 --stage qa -n {}", world.host),
        &bot,
        "kind: Role\n",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert!(message.ends_with('\n'), "it ends with the grant: {message}");
    let record = in_qa(&world).await;
    assert_eq!((record.version.as_deref(), record.claim), (Some("1.0.0"), None));
    assert_eq!(record.failed.map(|f| f.request), Some("second".to_owned()));
    assert_eq!(records(&world, "2.0.0").await[0].restored, None);
    // The message says how to get out of this state.
    world.apply(&world.grants()).await;
    stage(&world, "1m", "Rollback").await;
    world.ask(&greeting(&world, "back", "1.0.0", "hello")).await;
    let back = world.approved("back", "qa").await;
    assert_eq!(phase(&back), "Succeeded", "{:?}", outcome(&back));
    assert_eq!(objects(&world).await.0, ["only-first"]);
}

/// Deletes a request, as somebody who may delete everything.
async fn deleted(world: &World, request: &str) {
    Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).delete(request, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_are_on_record_whoever_deletes_the_request_that_gave_them() {
    let world = deployed("recorded").await;
    stage(&world, "5s", "Rollback").await;
    deleted(&world, "first").await;
    develop(&world, "2.0.0", stuck()).await;
    world.ask(&greeting(&world, "second", "2.0.0", "good morning")).await;
    let second = world.approved("second", "qa").await;
    assert_eq!(outcome(&second).0, "RolledBack", "{:?}", outcome(&second));
    first_is_back(&world, "second").await;
    let began = second.status.unwrap().run.rollback.unwrap().since;
    assert_eq!(records(&world, "2.0.0").await[0].failed_at, Some(began));
    // The plugin finds them there too.
    let plugin = env!("CARGO_BIN_EXE_kubectl-pilotage");
    let kubeconfig = world.plane.user_kubeconfig("olga", &[]).unwrap();
    let asked = std::process::Command::new(plugin)
        .env("KUBECONFIG", kubeconfig)
        .args(["redeploy", "orders", "1.0.0", "--stage", "qa", "-n", &world.host])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stdout).into_owned() + &String::from_utf8_lossy(&asked.stderr);
    assert!(said.contains("settings: those of request first"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_promises_no_way_back_to_settings_that_are_known_no_more() {
    let world = deployed("forgotten").await;
    stage(&world, "5s", "Rollback").await;
    // An older version of the operator kept the settings in the request alone.
    let operator = crate::world::client(world.plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap()).await;
    let artifacts = Api::<Artifact>::namespaced(operator, &world.host);
    let mut status = artifacts.get("orders-1.0.0").await.unwrap().status.unwrap();
    status.deployments[0].settings = None;
    artifacts.patch_status("orders-1.0.0", &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await.unwrap();
    develop(&world, "2.0.0", stuck()).await;
    // The request has them still.
    world.ask(&greeting(&world, "second", "2.0.0", "good morning")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    deleted(&world, "second").await;
    deleted(&world, "first").await;
    world.ask(&greeting(&world, "third", "2.0.0", "good morning")).await;
    let message = world.waits_for("third", "SettingsGone").await;
    for part in [
        "1.0.0, which stage qa puts back where the deployment fails (onFailure: Rollback), can't be put back: the settings that it was deployed with are not known any more: neither the record of its artifact nor request first has them",
        "Or set onFailure: Keep on the stage, or give this request the settings that run there",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(objects(&world).await.1["greeting"], "hello", "nothing was written");
    // A request with the same settings has them too.
    world.ask(&greeting(&world, "same", "2.0.0", "hello")).await;
    let same = world.approved("same", "qa").await;
    assert_eq!(outcome(&same).0, "RolledBack", "{:?}", outcome(&same));
    assert_eq!(objects(&world).await.1, json!({"greeting": "hello", "version": "1.0.0"}));
    // And without the promise the other goes on.
    stage(&world, "1s", "Keep").await;
    let third = world.approved("third", "qa").await;
    assert_eq!(outcome(&third).0, "DeploymentTimedOut", "{:?}", outcome(&third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_promises_no_way_back_to_bytes_that_are_gone() {
    let world = deployed("bytes-gone").await;
    stage(&world, "5s", "Rollback").await;
    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.0.0").await.unwrap();
    // Nobody else may delete them.
    let collector = world.plane.service_account_kubeconfig("kube-system", "generic-garbage-collector").unwrap();
    let chunks = Api::<ConfigMap>::namespaced(crate::world::client(collector).await, &world.host);
    let of_artifact = ListParams::default().labels(&format!("pilotage.dev/artifact={}", artifact.metadata.uid.unwrap()));
    let chunk = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.host).list(&of_artifact).await.unwrap().items.remove(0);
    let chunk = chunk.metadata.name.unwrap();
    chunks.delete(&chunk, &DeleteParams::default()).await.unwrap();
    develop(&world, "2.0.0", stuck()).await;
    world.ask(&greeting(&world, "second", "2.0.0", "good morning")).await;
    let message = world.waits_for("second", "ArtifactAltered").await;
    for part in
        ["1.0.0, which stage qa puts back where the deployment fails (onFailure: Rollback), can't be read", &chunk, "set onFailure: Keep"]
    {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_offers_no_more_is_not_used_again_and_is_named() {
    let world = World::new("offer-taken").await;
    let mut account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "runner", "namespace": world.qa, "labels": {"pilotage.dev/connection": "true"}},
    });
    world.apply(&[account.clone()]).await;
    develop(&world, "1.0.0", json!({"serviceAccountName": "runner"})).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    account["metadata"]["labels"] = json!({});
    world.apply(&[account]).await;
    stage(&world, "1s", "Rollback").await;
    develop(&world, "2.0.0", stuck()).await;
    world.deploy("second", "qa", "orders", "2.0.0").await;
    let message = world.fails("second", "RollbackFailed").await;
    let how = format!("kubectl label serviceaccounts runner -n {} pilotage.dev/connection=true", world.qa);
    assert!(message.contains("Why it could not be put back: ") && message.contains(&how), "{message}");
    assert!(objects(&world).await.2.ends_with(":2.0.0"), "nothing of it was put back");
}
