//! `kubectl pilotage approve` and `reject`: from the seat of an approver, a delegate, who may act as the delegate, a requester, and of
//! people who may do nothing here.

use std::path::{Path, PathBuf};
use std::process::Command;

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Stage};
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// How the plugin ended, and what it said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn plugin(world: &World, kubeconfig: &Path, args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    let output = command.args(["-n", &world.host]).args(args).env("KUBECONFIG", kubeconfig).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

pub fn user(world: &World, name: &str) -> PathBuf {
    world.plane.user_kubeconfig(name, if name == "dana" { &["makers"] } else { &[] }).unwrap()
}

/// A request that waits for the approval of its delegate.
async fn asked(world: &World, name: &str, version: &str) {
    let mut config = world.config("orders", "orders", json!({"greeting": version}));
    config["data"]["API_PASSWORD"] = format!("canary-{version}").into();
    world.apply(&[world.solution("orders", version), config]).await;
    let mut request = serde_json::to_value(world.request(name, "qa", "orders", version)).unwrap();
    request["spec"]["notes"] = "as agreed\u{1b}[2J".into();
    world.ask(&serde_json::from_value(request).unwrap()).await;
    world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
}

async fn stage(world: &World, spec: Value) {
    let stages = Api::<Stage>::namespaced(world.olga().await, &world.host);
    stages.patch("qa", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    world.ready::<Stage>("qa").await;
}

/// Somebody may ask for the token of QA's delegate, and read requests.
async fn may_become_the_delegate(world: &World, name: &str) {
    let kubectl = world.plane.kubectl();
    let host = world.host.as_str();
    let rights = ["create", "role", name, "--verb=create", "--resource=serviceaccounts/token", "--resource-name=bot-qa", "-n", host];
    kubectl.ok(&rights).unwrap();
    let to = format!("--user={name}");
    kubectl.ok(&["create", "rolebinding", name, &format!("--role={name}"), &to, "-n", host]).unwrap();
    kubectl.ok(&["create", "rolebinding", &format!("{name}-reads"), "--clusterrole=pilotage-viewer", &to, "-n", host]).unwrap();
    world
        .until("the binding is in force", async || {
            let asked = kubectl.run(&["auth", "can-i", "get", "dr", "-n", host, "--as", name]).unwrap();
            asked.ok.then_some(())
        })
        .await;
}

fn decisions(request: &DeploymentRequest) -> Value {
    let status = serde_json::to_value(&request.status).unwrap();
    json!([status["preExportStep"], status["approval"], status["preDeploymentStep"]])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_sees_the_plan_and_approves_it() {
    let world = World::new("approve").await;
    asked(&world, "first", "1.0.0").await;
    let bot = world.plane.service_account_kubeconfig(&world.host, "bot-qa").unwrap();

    // Where nobody can be asked, nothing is decided without --yes. The plan is shown nevertheless.
    let said = plugin(&world, &bot, &["approve", "first"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("--yes") && said.out.contains("+ ConfigMap orders: create"), "{}{}", said.out, said.err);
    assert!(said.out.contains("asked for by:   dana") && said.out.contains("create 1, update 0"), "{}", said.out);
    assert!(!said.out.contains('\u{1b}') && said.out.contains("as agreed\\u{1b}[2J"), "{:?}", said.out);
    let waiting = world.until_request("first", |_| true).await;
    assert!(decisions(&waiting).as_array().unwrap().iter().all(Value::is_null), "{:?}", waiting.status);

    let args = ["approve", "first", "--yes", "--comments", "QA may have it", "--property", "TICKET=CHG-17", "-o", "json"];
    let said = plugin(&world, &bot, &args);
    assert_eq!(said.code, 0, "{}", said.err);
    let done: Value = serde_json::from_str(&said.out).unwrap();
    let plan = waiting.status.unwrap().run.plan.unwrap();
    assert_eq!((done["decision"].as_str(), done["planHash"].as_str()), (Some("Approved"), Some(plan.hash.as_str())));
    let end = world.end("first").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let approval = end.status.unwrap().approval.unwrap();
    assert_eq!(approval.plan_hash.as_deref(), Some(plan.hash.as_str()), "what was shown is what was approved");
    assert_eq!((approval.comments.as_deref(), approval.properties["TICKET"].as_str()), (Some("QA may have it"), "CHG-17"));

    let said = plugin(&world, &bot, &["approve", "first", "--yes"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("it has ended, Succeeded; approval was Approved by system:serviceaccount:"), "{}", said.err);
    let said = plugin(&world, &bot, &["reject", "nothing", "--yes"]);
    assert_eq!(said.code, 5, "{}", said.err);

    // The next plan tells what changes. What looks like a secret is hidden.
    asked(&world, "second", "2.0.0").await;
    let said = plugin(&world, &bot, &["reject", "second", "--yes", "--comments", "not today"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("/data/greeting: 1.0.0 → 2.0.0") && !said.out.contains("canary"), "{}", said.out);
    let end = world.end("second").await;
    assert_eq!(phase(&end), "Rejected");
    assert!(outcome(&end).1.contains("not today"), "{:?}", outcome(&end));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_ask_for_the_delegates_token_decides_as_the_delegate_without_a_kubeconfig_of_it() {
    let world = World::new("as-delegate").await;
    may_become_the_delegate(&world, "rita").await;
    asked(&world, "first", "1.0.0").await;
    let rita = user(&world, "rita");
    let said = plugin(&world, &rita, &["approve", "first", "--yes"]);
    assert_eq!(said.code, 6, "{}", said.err);
    assert!(said.err.contains("you are rita") && said.err.contains("--as-delegate"), "{}", said.err);

    let said = plugin(&world, &rita, &["approve", "first", "--yes", "--as-delegate"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let end = world.end("first").await;
    let approval = end.status.unwrap().approval.unwrap();
    assert_eq!(approval.by, Some(format!("system:serviceaccount:{}:bot-qa", world.host)));
    assert_eq!(approval.on_behalf_of.as_deref(), Some("rita"));
    // A token is nowhere in what was printed.
    assert!(!said.out.contains("eyJ") && !said.err.contains("eyJ"), "{}{}", said.out, said.err);

    // Who may read everything, and may not ask for the token, is told which right is missing.
    asked(&world, "second", "2.0.0").await;
    let said = plugin(&world, &user(&world, "olga"), &["approve", "second", "--yes", "--as-delegate"]);
    assert_eq!(said.code, 6, "{}", said.err);
    let right = format!("you need the verb create on serviceaccounts/token bot-qa in namespace {}", world.host);
    assert!(said.err.contains(&right), "{}", said.err);
    let waiting = world.until_request("second", |_| true).await;
    assert_eq!(decisions(&waiting), json!([null, null, null]));
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_are_decided_by_whoever_may_approve_on_the_stage_at_the_gate_that_is_open() {
    let world = World::new("steps").await;
    stage(&world, json!({"preExportStepRequired": true, "preDeploymentStepRequired": true})).await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    let (eve, bot) = (user(&world, "eve"), world.plane.service_account_kubeconfig(&world.host, "bot-qa").unwrap());
    let said = plugin(&world, &eve, &["approve", "first", "--yes", "--wait", "--timeout", "60s"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("gate preExportStep") && said.out.contains("there is none yet"), "{}", said.out);

    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let said = plugin(&world, &eve, &["approve", "first", "--yes", "--gate", "preDeployment"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("gate approval is open, not preDeploymentStep"), "{}", said.err);
    let said = plugin(&world, &eve, &["approve", "first", "--yes"]);
    assert!(said.code == 6 && said.err.contains("bot-qa may decide approval, and you are eve"), "{}", said.err);
    let said = plugin(&world, &bot, &["approve", "first", "--yes"]);
    assert_eq!(said.code, 0, "{}", said.err);

    world.until_request("first", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let said = plugin(&world, &bot, &["reject", "first", "--yes"]);
    assert!(said.code == 6 && said.err.contains("holders of the verb approve on stage qa"), "{}", said.err);
    let said = plugin(&world, &eve, &["reject", "first", "--yes", "--gate", "preDeployment", "--on-behalf-of", "the board"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let end = world.end("first").await;
    let step = end.status.clone().unwrap().pre_deployment_step.unwrap();
    assert_eq!((phase(&end).as_str(), step.by.as_deref(), step.on_behalf_of.as_deref()), ("Rejected", Some("eve"), Some("the board")));
}

#[tokio::test(flavor = "multi_thread")]
async fn requesters_and_strangers_decide_nothing_and_are_told_why() {
    let world = World::new("not-yours").await;
    asked(&world, "first", "1.0.0").await;
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["create", "rolebinding", "dana-decides", "--clusterrole=pilotage-approver", "--user=dana", "-n", &world.host]).unwrap();
    let dana = user(&world, "dana");
    world
        .until("dana reads requests", async || {
            kubectl.run(&["auth", "can-i", "get", "dr", "-n", &world.host, "--as", "dana"]).unwrap().ok.then_some(())
        })
        .await;
    for args in [&["approve", "first", "--yes"][..], &["approve", "first", "--yes", "--as-delegate"]] {
        let said = plugin(&world, &dana, args);
        assert!(said.code == 6 && said.err.contains("asked for it"), "{}", said.err);
    }
    let said = plugin(&world, &user(&world, "mallory"), &["approve", "first", "--yes"]);
    assert!(said.code == 6 && said.err.contains("pilotage-delegate"), "{}", said.err);
    for wrong in [&["--property", "x"][..], &["--gate", "none"], &["--timeout", "1m"], &["--wait", "--timeout", "soon"]] {
        let said = plugin(&world, &dana, &[&["approve", "first"], wrong].concat());
        assert_eq!(said.code, 2, "{wrong:?}: {}", said.err);
    }
    assert_eq!(decisions(&world.until_request("first", |_| true).await), json!([null, null, null]));
}
