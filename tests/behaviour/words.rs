//! What people are told: something is said outside of a host too, something impossible is reported early, and a line is one line.

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pilotage::api::{DeploymentRequest, Environment, Pipeline, Stage};
use serde_json::{Value, json};

use crate::grant::plugin;
use crate::receiver::{Answer, Receiver};
use crate::world::{World, outcome, phase};

async fn orders(world: &World) {
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
}

async fn patch_stage(world: &World, spec: Value) -> kube::Result<Stage> {
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    stages.patch("qa", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await
}

async fn label(world: &World, namespace: &str, labels: Value) {
    let patch = Patch::Merge(json!({"metadata": {"labels": labels}}));
    Api::<Namespace>::all(world.admin.clone()).patch(namespace, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_outside_of_a_host_is_warned_of_and_not_current() {
    let world = World::bare("silent").await;
    let aside = format!("{}-aside", world.host);
    world.apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": aside}})]).await;
    let request = serde_json::to_value(world.request("orders", "qa", "orders", "1.0.0")).unwrap();
    let mut objects: Vec<Value> =
        world.pipeline().into_iter().filter(|o| o["metadata"]["name"] != "dev" && o["metadata"]["name"] != "prod").collect();
    objects.push(request);
    for object in &mut objects {
        object["metadata"]["namespace"] = aside.as_str().into();
        world.write_as("admin", &["system:masters"], object);
    }
    let kubectl = world.plane.kubectl();
    for object in &objects {
        let kind = object["kind"].as_str().unwrap();
        let answer = kubectl.run_with(&["apply", "-f", "-"], &object.to_string()).unwrap();
        let warning = format!("namespace {aside} is not a host, so that Pilotage does not look at this {kind}");
        assert!(answer.ok && answer.stderr.contains(&warning), "{answer:?}");
        assert!(answer.stderr.contains(&format!("kubectl label namespace {aside} pilotage.dev/host=true")), "{answer:?}");
        let name = object["metadata"]["name"].as_str().unwrap();
        let stored = kubectl.json(&["get", kind, name, "-n", &aside]).unwrap();
        // kstatus: what was observed is not the current state.
        assert_eq!(stored["status"]["observedGeneration"], -1, "{stored}");
        assert_eq!(stored["status"]["conditions"][0]["reason"], "NotLookedAt", "{stored}");
        assert_eq!(stored["status"]["conditions"][0]["status"], "Unknown", "{stored}");
    }
    let mut status = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    let output = status.args(["-n", &aside, "status"]).env("KUBECONFIG", world.plane.admin_kubeconfig()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("it looks only into hosts, which carry the label pilotage.dev/host=true"), "{said}");

    // The label may come later, and then nothing more is said. Nobody has let the operator share a pipeline there.
    label(&world, &aside, json!({"pilotage.dev/host": "true", (pilotage_harness::watch_recorder::PROVOKES): "true"})).await;
    world
        .until("the operator looks", async || {
            let stored = kubectl.json(&["get", "environment", "qa", "-n", &aside]).unwrap();
            (stored["status"]["conditions"].to_string().contains("NotManaged") && stored["status"]["observedGeneration"] == 1).then_some(())
        })
        .await;
    let again = async || {
        let answer = kubectl.run_with(&["apply", "-f", "-"], &objects[0].to_string()).unwrap();
        (answer.ok && !answer.stderr.contains("is not a host")).then_some(())
    };
    world.until("nothing is warned of any more", again).await;
    kubectl.ok(&["annotate", "namespace", &aside, &format!("pilotage.dev/confirm-delete={aside}")]).unwrap();
    kubectl.ok(&["delete", "namespace", &aside, "--wait=false"]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_window_is_found_before_anybody_approves() {
    let world = World::new("windows").await;
    orders(&world).await;
    let window = |schedule: &str, duration: &str, zone: &str| json!({"windows": [{"type": "Deny", "schedule": schedule, "duration": duration, "timeZone": zone}]});
    for (schedule, duration, zone, says) in [
        ("0 25 * * *", "1h", "UTC", "hour (0-23)"),
        ("0 0 9 * * 1", "1h", "UTC", "schedule is five fields of cron"),
        ("60 9 * * 1", "1h", "UTC", "minute (0-59)"),
        ("0 9 * * 1", "0h0m", "UTC", "duration is more than zero"),
        ("0 9 * * 1", "1h", "Europe Prague", "timeZone is a name of the IANA database"),
    ] {
        let said = patch_stage(&world, window(schedule, duration, zone)).await.unwrap_err().to_string();
        assert!(said.contains(says), "{schedule}: {said}");
    }
    for (schedule, zone, says) in
        [("0 9 * * 1", "Europe/Pragu", "Europe/Pragu is not a time zone"), ("0 9 31 2 *", "UTC", "it never comes")]
    {
        patch_stage(&world, window(schedule, "1h", zone)).await.unwrap();
        let said = world
            .until("the stage says so", async || {
                world
                    .condition::<Stage>("qa", "Ready")
                    .await
                    .filter(|(reason, message)| reason == "WindowInvalid" && message.contains(says))
            })
            .await;
        assert!(!said.1.contains('\n'), "{said:?}");
    }
    world.ask(&world.request("orders", "qa", "orders", "1.0.0")).await;
    let said = world.waits_for("orders", "StageNotReady").await;
    assert!(said.contains("WindowInvalid"), "{said}");
    let requests = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host);
    assert!(requests.get("orders").await.unwrap().status.unwrap().run.gates.is_empty(), "nobody is asked");
    patch_stage(&world, window("*/5 0-6,22 1,15 JAN-jun mon", "1m", "Europe/Prague")).await.unwrap();
    world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;

    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    let retention = |schedule: &str, zone: &str| Patch::Merge(json!({"spec": {"retention": {"schedule": schedule, "timeZone": zone}}}));
    let said = pipelines.patch("standard", &PatchParams::default(), &retention("0 25 * * *", "UTC")).await.unwrap_err().to_string();
    assert!(said.contains("schedule is five fields of cron"), "{said}");
    pipelines.patch("standard", &PatchParams::default(), &retention("0 3 * * *", "Europe/Pragu")).await.unwrap();
    let said = world.until_condition::<Pipeline>("standard", "Ready", "RetentionInvalid").await;
    assert!(said.contains("Europe/Pragu is not a time zone"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_that_is_gone_is_noticed_at_once() {
    let world = World::new("gone").await;
    // What was found valid is checked again after ten minutes. Nothing else has changed.
    let accounts = Api::<ServiceAccount>::namespaced(world.admin.clone(), &world.host);
    accounts.delete("bot-qa", &DeleteParams::default()).await.unwrap();
    world.until_condition::<Stage>("qa", "Ready", "ServicePrincipalNotFound").await;
    let account = serde_json::from_value(json!({"metadata": {"name": "bot-qa"}})).unwrap();
    accounts.create(&PostParams::default(), &account).await.unwrap();
    world.until_condition::<Stage>("qa", "Ready", "Ready").await;
    assert_eq!(world.condition::<Stage>("prod", "Ready").await.unwrap().0, "Ready", "the other one was not touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_request_waits_for_fits_a_line_and_names_whom() {
    let world = World::new("line").await;
    orders(&world).await;
    world.ask(&world.request("orders", "qa", "orders", "1.0.0")).await;
    let waiting = world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    let line = &waiting.status.as_ref().unwrap().run.waiting_for;
    assert!(line.chars().count() <= 96 && line.contains("for the approval by") && line.contains(":bot-qa"), "{line}");
    let kubectl = world.plane.kubectl();
    let short = kubectl.ok(&["get", "dr", "orders", "-n", &world.host]).unwrap();
    assert!(short.contains(line) && !short.contains(&outcome(&waiting).1), "{short}");
    let wide = kubectl.ok(&["get", "dr", "orders", "-n", &world.host, "-o", "wide"]).unwrap();
    assert!(wide.contains(&outcome(&waiting).1), "{wide}");
    let table = plugin(&world, &world.plane.admin_kubeconfig(), &["status"]).unwrap();
    assert!(table.contains(line), "{table}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_shows_that_it_is_suspended_and_that_a_sink_fails_and_no_names_of_requests() {
    let world = World::new("columns").await;
    orders(&world).await;
    let sink = Receiver::start().await;
    // The pipeline's status stores what was partly told.
    sink.answer(|delivery| Answer::Code(if delivery.trigger() == "OnDeploymentRequested" { 200 } else { 500 }));
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    let spec = json!({"spec": {"sinks": [{"url": sink.url()}]}});
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(spec)).await.unwrap();
    world.ask(&world.request("telling-name", "qa", "orders", "1.0.0")).await;
    world.until_request("telling-name", |r| phase(r) == "AwaitingApproval").await;
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": {"suspend": true}}))).await.unwrap();
    let kubectl = world.plane.kubectl();
    let row = async || {
        let shown = kubectl.ok(&["get", "pl", "standard", "-n", &world.host]).unwrap();
        let (reason, _) = world.condition::<Pipeline>("standard", "SinksDelivering").await?;
        (shown.contains("SUSPENDED") && shown.contains("true") && shown.contains(&reason) && reason != "Delivering").then_some(shown)
    };
    world.until("both are shown", row).await;

    // Makers read their pipeline, but not other people's requests.
    let read = world.danas_kubectl().json(&["get", "pl", "standard", "-n", &world.host]).unwrap();
    let open = world
        .until("the cursor tells of the request", async || {
            let read = world.danas_kubectl().json(&["get", "pl", "standard", "-n", &world.host]).unwrap();
            read["status"]["sinks"][0]["cursor"]["open"].as_array().filter(|open| !open.is_empty()).map(|_| read["status"].to_string())
        })
        .await;
    assert!(!open.contains("telling-name") && !read["status"].to_string().contains("telling-name"), "{open}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_is_the_same_only_where_both_say_so_or_neither() {
    let world = World::new("region").await;
    let region = "topology.kubernetes.io/region";
    label(&world, &world.host, json!({region: "eu"})).await;
    let said = world.until_condition::<Environment>("qa", "Ready", "RegionMismatch").await;
    assert!(said.contains(&format!("kubectl label namespace {} {region}=eu", world.qa)), "{said}");
    label(&world, &world.qa, json!({region: "eu"})).await;
    world.until_condition::<Environment>("qa", "Ready", "Validated").await;
    label(&world, &world.host, json!({region: null})).await;
    let said = world.until_condition::<Environment>("qa", "Ready", "RegionMismatch").await;
    assert!(said.contains(&format!("kubectl label namespace {} {region}=eu", world.host)), "{said}");
    world.until_condition::<Environment>("prod", "Ready", "Validated").await;
    label(&world, &world.host, json!({"pilotage.dev/cross-region": "allowed"})).await;
    world.until_condition::<Environment>("qa", "Ready", "Validated").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_flag_makes_no_request_and_a_wrong_namespace_is_told() {
    let world = World::new("flags").await;
    orders(&world).await;
    let dana = world.plane.user_kubeconfig("dana", &["makers"]).unwrap();
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "first", "Rejected").await.unwrap();
    world.end("first").await;
    let requests = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host);
    for verb in [&["retry", "first"][..], &["redeploy", "orders", "1.0.0", "--stage", "qa", "--defaults"]] {
        for flags in [&["--wait", "--timeout", "soon"][..], &["--set", "A"], &["--connect", "=x"], &["--no-such-flag"]] {
            let said = plugin(&world, &world.plane.admin_kubeconfig(), &[verb, flags].concat()).unwrap_err();
            assert!(!said.contains("<nil>"), "{said}");
            assert_eq!(requests.list(&kube::api::ListParams::default()).await.unwrap().items.len(), 1, "{verb:?} {flags:?}: {said}");
        }
    }
    // The namespace of the Solution instead of the host: the later -n counts.
    let wrong = |verb: &[&str]| plugin(&world, &dana, &[verb, &["--from", &world.dev]].concat()).unwrap_err();
    let there = format!("it is in host {}: name that with -n {}", world.host, world.host);
    for verb in [
        &["-n", &world.dev, "retry", "first"][..],
        &["-n", &world.dev, "redeploy", "orders", "1.0.0", "--stage", "qa"],
        &["-n", &world.dev, "cancel", "first"],
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
        let output = command.args(verb).args(["--from", &world.dev]).env("KUBECONFIG", &dana).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && said.contains(&there), "{verb:?}: {said}");
    }
    // Somebody who sees nothing of it there is told nothing about it.
    let said = wrong(&["retry", "another"]);
    assert!(!said.contains("it is in host"), "{said}");
}
