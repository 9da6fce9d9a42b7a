//! What makers could fill up: the operator's memory, and the cluster's storage. And text that they write to other people's terminals.

use std::process::Command;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use pilotage::api::{Artifact, DeploymentRequest, Solution};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused};
use crate::scene::until_kept;
use crate::world::{World, ended, phase};

/// As much as a variable may hold, 128 times.
fn variables() -> Vec<Value> {
    let target = json!({"kind": "ConfigMap", "name": "n".repeat(253), "path": format!("/{}", "p".repeat(1023))});
    let variable =
        |i: usize| json!({"name": format!("v{i}"), "description": "d".repeat(1024), "default": "x".repeat(4096), "target": target});
    (0..128).map(variable).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_and_settings_have_a_size_in_all() {
    let world = World::new("sizes").await;
    let mut large = world.solution("large", "1.0.0");
    large["spec"]["environmentVariables"] = variables().into();
    let solutions: Api<Solution> = Api::namespaced(world.admin.clone(), &world.dev);
    let large: Solution = serde_json::from_value(large).unwrap();
    let words = ["have at most 65,536 characters together", "make two solutions of it"];
    refused(215, "a Solution of 800 KB of definitions", solutions.create(&PostParams::default(), &large), 422, &words).await;
    let mut request = serde_json::to_value(world.request("large", "qa", "large", "1.0.0")).unwrap();
    let values: Vec<Value> = (0..128).map(|i| json!({"name": format!("v{i}"), "value": "x".repeat(4096)})).collect();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": values});
    let requests: Api<DeploymentRequest> = Api::namespaced(world.dana().await, &world.host);
    let request: DeploymentRequest = serde_json::from_value(request).unwrap();
    let words = ["environmentVariables have at most 65,536 characters together"];
    refused(216, "a request of 500 KB of settings", requests.create(&PostParams::default(), &request), 422, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_never_deployed_and_nobody_is_about_to_deploy_is_deleted() {
    let world = World::new("stored").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"a": "b"}))]).await;
    world.ask(&world.request("asked", "qa", "orders", "1.0.0")).await;
    world.until_request("asked", |r| phase(r) == "AwaitingApproval").await;
    let artifacts: Api<Artifact> = Api::namespaced(world.admin.clone(), &world.host);
    let uid = artifacts.get("orders-1.0.0").await.unwrap().uid().unwrap();
    let words = ["artifact orders-1.0.0 is in use by request asked", "kubectl pilotage cancel asked"];
    let delete = DeleteParams::default();
    until_kept(&world, &artifacts, "orders-1.0.0").await;
    refused(217, "an artifact that people are asked about is deleted", artifacts.delete("orders-1.0.0", &delete), 403, &words).await;
    let requests: Api<DeploymentRequest> = Api::namespaced(world.dana().await, &world.host);
    requests.delete("asked", &delete).await.unwrap();
    let makers: Api<Artifact> = Api::namespaced(world.dana().await, &world.host);
    let words = ["dana", "cannot delete resource \"artifacts\""];
    refused(217, "a maker deletes an artifact", makers.delete("orders-1.0.0", &delete), 403, &words).await;
    world.until("the administrator deletes it", async || artifacts.delete("orders-1.0.0", &delete).await.ok().map(|_| ())).await;
    let bytes: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.host);
    let of_it = ListParams::default().labels(&format!("pilotage.dev/artifact={uid}"));
    world.until("its bytes go with it", async || bytes.list(&of_it).await.unwrap().items.is_empty().then_some(())).await;

    // It is exported again, and stays after it was deployed.
    assert_eq!(phase(&world.deploy("again", "qa", "orders", "1.0.0").await), "Succeeded");
    let words = ["artifact orders-1.0.0 is deployed in environment qa, and stays as long as it is"];
    until_kept(&world, &artifacts, "orders-1.0.0").await;
    refused(217, "an artifact that was deployed is deleted", artifacts.delete("orders-1.0.0", &delete), 403, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makers_write_controls_no_terminal_and_no_log() {
    let world = World::new("terminal").await;
    world.apply(&[world.solution("rq", "1.0.0"), world.config("rq", "rq", json!({"a": "b"}))]).await;
    let hostile = "\u{1b}[2K\u{1b}[1A\u{1b}[32mesc  rq  1.0.0  qa  Succeeded  all is well\u{1b}[0m\u{1b}]52;c;cm0gLXJmIH4=\u{7}\u{202e}";
    let mut request = serde_json::to_value(world.request("esc", "qa", "rq", "1.0.0")).unwrap();
    request["spec"]["notes"] = "\u{1b}]0;owned\u{7}notes".into();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": [{"name": hostile, "value": "x"}]});
    world.ask(&serde_json::from_value(request).unwrap()).await;
    let end = world.until_request("esc", ended).await;
    // This is defined here again: the attack is repeated without the operator's own escaping.
    let steers = |c: char| c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let harmless = |text: &str| text.lines().all(|line| !line.contains(steers));
    let run = end.status.unwrap().run;
    let conditions: Vec<String> = run.conditions.into_iter().map(|c| c.message).collect();
    ignored(218, "a variable's name in a condition", conditions.iter().all(|m| harmless(m)), &conditions);
    let results: Vec<String> = run.plan.into_iter().flat_map(|p| p.results).flat_map(|r| [r.name, r.message]).collect();
    ignored(218, "a variable's name in the plan's results", !results.is_empty() && results.iter().all(|m| harmless(m)), &results);
    for (namespace, cells) in [(&world.host, "esc"), (&world.dev, "rq")] {
        let output = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"))
            .args(["status", "-n", namespace])
            .env("KUBECONFIG", world.plane.admin_kubeconfig())
            .output()
            .unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        assert!(shown.contains(cells), "{shown}");
        ignored(218, "a variable's name on the terminal of who looks", harmless(&shown), &shown);
    }
    let notes = async || {
        let events = Api::<Event>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
        let notes: Vec<String> = events.items.into_iter().filter_map(|e| e.note).filter(|note| note.contains("rq 1.0.0")).collect();
        (!notes.is_empty()).then_some(notes)
    };
    let notes = world.until("Events tell of it", notes).await;
    ignored(218, "a variable's name in Events", notes.iter().all(|n| harmless(n)), &notes);
}
