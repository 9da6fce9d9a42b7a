//! `kubectl pilotage deploy`: a maker asks from development, with no host, pipeline or stage to type, and no right to read a host.

use std::process::{Command, Stdio};

use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Solution, Stage};
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// What the plugin printed, and how it ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// The plugin as dana, in her development namespace. Nobody sits at its terminal.
async fn deploy(world: &World, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    let kubeconfig = world.plane.user_kubeconfig("dana", &["makers"]).unwrap();
    command.args(["-n", &world.dev, "deploy"]).args(args).env("KUBECONFIG", kubeconfig).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

async fn develop(world: &World, version: &str) {
    let mut solution = world.solution("orders", version);
    let variable = |name: &str, type_: &str, more: Value| {
        let mut variable =
            json!({"name": name, "type": type_, "target": {"kind": "ConfigMap", "name": "orders", "path": format!("/data/{name}")}});
        variable.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        variable
    };
    solution["spec"]["environmentVariables"] =
        json!([variable("greeting", "String", json!({"required": true})), variable("workers", "Number", json!({"default": "2"})),]);
    world.apply(&[solution, world.config("orders", "orders", json!({"greeting": "hello", "workers": "1"}))]).await;
}

/// Waits until the Solution offers that version to that stage.
async fn offered(world: &World, stage: &str, version: &str) {
    let dana = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    world
        .until(&format!("{version} may come to {stage}"), async || {
            let stages = dana.get("orders").await.ok()?.status?.stages;
            stages.iter().any(|told| told.stage == stage && told.next.as_deref() == Some(version)).then_some(())
        })
        .await;
}

async fn requests(world: &World) -> Vec<DeploymentRequest> {
    Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_asks_for_the_stage_that_can_be_next_and_is_told_which_flags_are_missing() {
    let world = World::new("deploy").await;
    develop(&world, "1.0.0").await;
    offered(&world, "qa", "1.0.0").await;
    let missing = deploy(&world, &["orders"]).await;
    assert_eq!(missing.code, 2, "{missing:?}");
    assert!(missing.err.contains("  greeting (String): missing\n  workers (Number): 2 (default)\n"), "{missing:?}");
    assert!(missing.err.contains("no request was made. Add: --set greeting=VALUE\n"), "{missing:?}");
    assert!(requests(&world).await.is_empty());

    let asked = deploy(&world, &["orders", "--set", "greeting=welcome", "--notes", "as agreed", "-o", "name"]).await;
    assert_eq!(asked.code, 0, "{asked:?}");
    let name = asked.out.trim().rsplit('/').next().unwrap().to_owned();
    let waiting = world.until_request(&name, |r| phase(r) == "AwaitingApproval").await;
    assert_eq!((waiting.spec.stage.as_str(), waiting.spec.source_environment.as_deref()), ("qa", Some("dev")));
    assert_eq!(waiting.spec.notes.as_deref(), Some("as agreed"));
    // The same again is on its way already.
    let again = deploy(&world, &["orders", "--set", "greeting=welcome"]).await;
    assert!(again.code == 1 && again.err.contains(&format!("request {name} of dana asks for 1.0.0 already")), "{again:?}");
    let end = world.approved(&name, "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));

    // Now it can go to one stage alone, and what it needs there is known though its maker may read no artifact.
    offered(&world, "prod", "1.0.0").await;
    let missing = deploy(&world, &["orders"]).await;
    assert!(missing.code == 2 && missing.err.contains("stage prod needs settings for 1.0.0"), "{missing:?}");
    develop(&world, "1.1.0").await;
    offered(&world, "qa", "1.1.0").await;
    let several = deploy(&world, &["orders"]).await;
    assert_eq!(several.code, 2, "{several:?}");
    for choice in ["--to qa  (1.1.0, pipeline standard", "--to prod  (1.0.0, pipeline standard"] {
        assert!(several.err.contains(choice), "{several:?}");
    }
    let asked = deploy(&world, &["orders", "--to", "prod", "--set", "greeting=hello", "-o", "name"]).await;
    let name = asked.out.trim().rsplit('/').next().unwrap().to_owned();
    let end = world.approved(&name, "prod").await;
    assert_eq!((phase(&end).as_str(), end.spec.solution.version.as_str()), ("Succeeded", "1.0.0"), "{:?}", outcome(&end));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_prints_the_plan_to_a_maker_who_may_read_nothing_of_the_host() {
    let world = World::new("deploy-dry").await;
    develop(&world, "1.0.0").await;
    offered(&world, "qa", "1.0.0").await;
    let dry = deploy(&world, &["orders", "--dry-run", "--set", "greeting=welcome"]).await;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert!(dry.out.starts_with("Planned: planned, and nothing was written or stored: dry run as"), "{dry:?}");
    assert!(dry.out.contains("\n+ ConfigMap orders: create\n"), "{dry:?}");
    let read: Value =
        serde_json::from_str(&deploy(&world, &["orders", "--dry-run", "--set", "greeting=welcome", "-o", "json"]).await.out).unwrap();
    assert_eq!((&read["phase"], &read["objects"][0]["name"]), (&json!("Planned"), &json!("orders")));
    assert!(requests(&world).await.iter().all(|request| request.spec.plan_only));
    assert!(world.operator_writes(&world.qa, false).is_empty());
    // A plan that can't be carried out says why, and ends so that scripts see it.
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    let sharing = Patch::Merge(json!({"spec": {"sharing": {"clusterRoles": ["view"], "subjectKinds": ["Group"]}}}));
    stages.patch("qa", &PatchParams::default(), &sharing).await.unwrap();
    world.ready::<Stage>("qa").await;
    let args = ["orders", "--dry-run", "--set", "greeting=welcome", "--share-with", "User:sam:view"];
    let refused = deploy(&world, &args).await;
    assert!(refused.code == 3 && refused.out.starts_with("Failed: stage qa does not let requesters share"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_told_before_anything_is_asked_for() {
    let world = World::new("deploy-wrong").await;
    develop(&world, "1.0.0").await;
    offered(&world, "qa", "1.0.0").await;
    let wrong: [(&[&str], i32, &str); 15] = [
        (&[], 2, "required arguments"),
        (&["nothing"], 5, "Solution nothing does not exist in namespace"),
        (&["orders", "--to", "nowhere"], 5, "there is no stage nowhere that orders can go to: qa, prod"),
        (&["orders", "--to", "elsewhere/qa"], 5, "there is no stage elsewhere/qa"),
        (&["orders", "--to", "prod", "--set", "greeting=x"], 1, "no version has succeeded in stage qa"),
        (&["orders", "--version", "9.9.9"], 1, "nothing can be next for orders 9.9.9"),
        (&["orders", "--set", "greeting"], 2, "--set greeting: write NAME=VALUE"),
        (&["orders", "--set", "salute=x"], 2, "1.0.0 has no such environment variable; it has greeting, workers"),
        (&["orders", "--set", "greeting=x", "--set", "workers=two"], 2, "workers is of type Number"),
        (&["orders", "--set", "greeting=x", "--connect", "db=s"], 2, "1.0.0 has no such connection reference; it has none"),
        (&["orders", "--at", "tomorrow"], 2, "--at tomorrow is not a time of RFC 3339"),
        (&["orders", "--share-with", "qa-team"], 2, "write KIND:NAME:CLUSTERROLE"),
        (&["orders", "--timeout", "soon"], 2, "--timeout soon is not a duration"),
        (&["orders", "--dry-run", "--wait"], 2, "cannot be used with"),
        (&["orders", "-o", "csv"], 2, "-o csv is for lists"),
    ];
    for (args, code, part) in wrong {
        let ran = deploy(&world, args).await;
        assert!(ran.code == code && ran.err.contains(part), "{args:?} should end {code} with {part:?}: {ran:?}");
        assert!(ran.out.is_empty(), "{ran:?}");
    }
    assert!(requests(&world).await.is_empty(), "nothing was made");
    // A maker of another team may not ask, and is told whom the pipeline is shared with.
    let grant = ["create", "rolebinding", "mallory", "--clusterrole=view", "--user=mallory", "-n", &world.dev];
    world.plane.kubectl().ok(&grant).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    command.args(["-n", &world.dev, "deploy", "orders"]).env("KUBECONFIG", world.plane.user_kubeconfig("mallory", &[]).unwrap());
    let said = world
        .until("mallory reads development", async || {
            let output = command.output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            (!said.contains("cannot get resource")).then_some((output.status.code().unwrap(), said))
        })
        .await;
    assert!(said.0 == 6 && said.1.contains("is not shared with you, but with Group makers"), "{said:?}");
}
