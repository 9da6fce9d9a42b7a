//! `kubectl pilotage redeploy`, `retry` and `cancel`: one command each, run by different people with their own rights.

use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Pipeline};
use serde_json::{Value, json};

use crate::grant::plugin;
use crate::world::{World, outcome, phase};

/// Orders with a greeting that each request may set.
async fn develop(world: &World, version: &str, definitions: &[&str]) {
    let mut solution = world.solution("orders", version);
    let variable = |name: &&str| json!({"name": name, "default": "none", "target": {"kind": "ConfigMap", "name": "orders", "path": format!("/data/{name}")}});
    solution["spec"]["environmentVariables"] = definitions.iter().map(variable).collect();
    let data: Value = definitions.iter().map(|name| ((*name).to_owned(), json!("dev"))).collect::<serde_json::Map<_, _>>().into();
    world.apply(&[solution, world.config("orders", "orders", data)]).await;
}

async fn set(world: &World, name: &str, version: &str, values: &[(&str, &str)]) -> DeploymentRequest {
    let mut request = serde_json::to_value(world.request(name, "qa", "orders", version)).unwrap();
    let values: Vec<Value> = values.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": values});
    world.ask(&serde_json::from_value(request).unwrap()).await;
    world.approved(name, "qa").await
}

async fn pipeline(world: &World, spec: Value) {
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    world.ready::<Pipeline>("standard").await;
}

async fn in_qa(world: &World) -> Value {
    let orders = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("orders").await.unwrap();
    serde_json::to_value(orders.data).unwrap()
}

/// The name of the request in a verb's output.
fn made(said: &str) -> String {
    let name = said.split("request ").filter_map(|rest| rest.split_once(" made in host ")).map(|(name, _)| name).next();
    name.unwrap_or_else(|| panic!("no request was made: {said}")).to_owned()
}

fn dana(world: &World) -> PathBuf {
    world.plane.user_kubeconfig("dana", &["makers"]).unwrap()
}

/// Dana may also read the host, because an administrator lets her.
async fn dana_sees_the_host(world: &World) {
    let args = ["create", "rolebinding", "dana-views", "--clusterrole=pilotage-viewer", "--user=dana", "-n", &world.host];
    world.plane.kubectl().ok(&args).unwrap();
    let kubectl = world.danas_kubectl();
    world
        .until("dana sees the host", async || kubectl.run(&["get", "stages,dr,artifacts", "-n", &world.host]).unwrap().ok.then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_version_is_deployed_again_with_the_settings_of_the_last_deployment_and_flags_over_them() {
    let world = World::new("redeploy").await;
    develop(&world, "1.0.0", &["A", "B"]).await;
    let first = set(&world, "first", "1.0.0", &[("A", "one")]).await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    develop(&world, "2.0.0", &["A", "B", "C"]).await;
    world.apply(&[world.config("orders", "only-second", json!({}))]).await;
    let second = set(&world, "second", "2.0.0", &[("A", "two"), ("C", "new")]).await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    dana_sees_the_host(&world).await;

    // The pipeline does not allow it. The request says so.
    let said = plugin(&world, &dana(&world), &["redeploy", "orders", "1.0.0", "--stage", "qa", "--wait"]).unwrap_err();
    assert!(said.contains("ended Failed"), "{said}");
    pipeline(&world, json!({"allowRedeployments": true})).await;

    let said =
        plugin(&world, &dana(&world), &["redeploy", "orders", "1.0.0", "--stage", "qa", "--set", "B=mine", "--notes", "back"]).unwrap();
    for part in [
        "settings: those of request second, the last deployment there, and what you set\n",
        "left out, as 1.0.0 does not have them: C\n",
        "downgrade: stage qa runs orders 2.0.0\n",
        "orders 1.0.0 to stage qa of pipeline standard\n",
    ] {
        assert!(said.contains(part), "{part:?} is not said: {said}");
    }
    let name = made(&said);
    assert!(name.starts_with("orders-1.0.0-qa-"), "{name}");
    let waiting = world.until_request(&name, |r| phase(r) == "AwaitingApproval").await;
    assert_eq!(waiting.spec.requested_by.as_ref().unwrap().username, "dana");
    assert_eq!(waiting.spec.notes.as_deref(), Some("back"));
    // What the approver should know is in the plan.
    let plan = waiting.status.unwrap().run.plan.unwrap();
    let warnings = plan.results.iter().filter(|w| w.reason != "NotLookedFor");
    let warnings: Vec<(&str, &str)> = warnings.map(|w| (w.reason.as_str(), w.message.as_str())).collect();
    assert_eq!(
        warnings,
        [
            ("Downgrade", "1.0.0 is lower than 2.0.0, which it replaces"),
            ("Deletes", "deletes what an earlier version put there and this one does not have: ConfigMap only-second"),
        ]
    );
    let end = world.approved(&name, "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    assert_eq!(in_qa(&world).await, json!({"A": "two", "B": "mine"}));

    let said = plugin(&world, &dana(&world), &["redeploy", "orders", "2.0.0", "--stage", "qa", "--defaults"]).unwrap();
    let end = world.approved(&made(&said), "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    assert_eq!(in_qa(&world).await, json!({"A": "none", "B": "none", "C": "none"}));

    let said = plugin(&world, &dana(&world), &["redeploy", "orders", "3.0.0", "--stage", "qa"]).unwrap_err();
    assert!(said.contains("orders 3.0.0 is not stored in host"), "{said}");
    let said = plugin(&world, &dana(&world), &["redeploy", "orders", "1.0.0", "--stage", "nowhere"]).unwrap_err();
    assert!(said.contains(&format!("stage nowhere does not exist in host {}", world.host)), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_did_not_succeed_is_made_again_as_it_was() {
    let world = World::new("retry").await;
    dana_sees_the_host(&world).await;
    develop(&world, "1.0.0", &["A"]).await;
    let mut request = serde_json::to_value(world.request("first", "qa", "orders", "1.0.0")).unwrap();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": [{"name": "A", "value": "one"}]});
    request["spec"]["notes"] = "as agreed".into();
    world.ask(&serde_json::from_value(request).unwrap()).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let said = plugin(&world, &dana(&world), &["retry", "first"]).unwrap_err();
    assert!(said.contains("request first has not ended: it is AwaitingApproval. To withdraw it: kubectl pilotage cancel first"), "{said}");
    world.decide("qa", "first", "Rejected").await.unwrap();
    world.end("first").await;

    let said = plugin(&world, &dana(&world), &["retry", "first"]).unwrap();
    let name = made(&said);
    let end = world.approved(&name, "qa").await;
    assert_eq!((phase(&end).as_str(), end.spec.notes.as_deref()), ("Succeeded", Some("as agreed")), "{:?}", outcome(&end));
    assert_eq!(in_qa(&world).await, json!({"A": "one"}));
    let said = plugin(&world, &dana(&world), &["retry", &name]).unwrap_err();
    let how = format!("To deploy that version again: kubectl pilotage redeploy orders 1.0.0 --stage qa -n {}", world.host);
    assert!(said.contains(&how), "{said}");
    let said = plugin(&world, &dana(&world), &["retry", "nothing"]).unwrap_err();
    assert!(said.contains("request nothing does not exist"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn makers_who_see_nothing_of_the_host_have_the_solution_tell_what_to_do() {
    let world = World::new("blind").await;
    develop(&world, "1.0.0", &["A"]).await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let view = async |phase: &str| {
        world
            .until(&format!("the Solution says {phase}"), async || {
                let solution = world.danas_kubectl().json(&["get", "solution", "orders", "-n", &world.dev]).unwrap();
                (solution["status"]["deployments"][0]["phase"] == phase).then_some(())
            })
            .await;
    };
    view("AwaitingApproval").await;
    // Without the namespace of the Solution nothing is guessed.
    let said = plugin(&world, &dana(&world), &["cancel", "first"]).unwrap_err();
    assert!(said.contains("you may not read request first") && said.contains("with --from"), "{said}");
    let said = plugin(&world, &dana(&world), &["cancel", "first", "--from", &world.dev]).unwrap();
    assert_eq!(said, format!("request first of host {} is deleted, which withdraws it\n", world.host));
    view("Canceled").await;
    let said = plugin(&world, &dana(&world), &["cancel", "first", "--from", &world.dev]).unwrap_err();
    assert!(said.contains("has ended, Canceled: there is nothing to cancel"), "{said}");

    let said = plugin(&world, &dana(&world), &["retry", "first", "--from", &world.dev]).unwrap_err();
    assert!(said.contains("you may not read the settings of request first") && said.contains("--set NAME=VALUE"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    command.args(["-n", &world.host, "retry", "first", "--from", &world.dev, "--set", "A=mine", "--wait"]).env("KUBECONFIG", dana(&world));
    let retry = tokio::task::spawn_blocking(move || command.output().unwrap());
    let name = world
        .until("the request is made", async || {
            let list = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).list(&kube::api::ListParams::default()).await;
            list.unwrap().items.into_iter().filter_map(|r| r.metadata.name).find(|n| n.starts_with("orders-1.0.0-qa-"))
        })
        .await;
    let end = world.approved(&name, "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let output = retry.await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    // Her own Solution has shown her what happened to it.
    assert!(said.starts_with("request orders-1.0.0-qa-") && said.ends_with("; orders 1.0.0 runs in stage qa\n"), "{said}");
    assert_eq!(in_qa(&world).await, json!({"A": "mine"}));

    let said = plugin(&world, &dana(&world), &["redeploy", "orders", "1.0.0", "--stage", "qa"]).unwrap_err();
    assert!(said.contains("name the host with -n and the stage's pipeline with --pipeline, or with --from"), "{said}");
    let said = plugin(&world, &dana(&world), &["redeploy", "orders", "1.0.0", "--stage", "qa", "--from", &world.dev]).unwrap_err();
    assert!(said.contains("you may not read them") && said.contains("or take the solution's defaults with --defaults"), "{said}");
    pipeline(&world, json!({"allowRedeployments": true})).await;
    let args = ["redeploy", "orders", "1.0.0", "--stage", "qa", "--from", &world.dev, "--defaults"];
    let end = world.approved(&made(&plugin(&world, &dana(&world), &args).unwrap()), "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    assert_eq!(in_qa(&world).await, json!({"A": "none"}));
}
