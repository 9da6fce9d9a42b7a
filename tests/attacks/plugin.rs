//! Attacks by the plugin: it decides with the rights of whoever runs it, and nobody gets by it what they may not have.

use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::attempt::{ignored, told};
use crate::scene::{at_the_gate, grant, until_may, user};
use crate::world::World;

/// What the plugin says to somebody, without being asked anything.
fn says(world: &World, kubeconfig: &PathBuf, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    let output = command.args(["-n", &world.host]).args(args).env("KUBECONFIG", kubeconfig).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

async fn is_undecided(world: &World, request: &str) -> bool {
    let status = world.until_request(request, |_| true).await.status.unwrap();
    status.approval.is_none() && status.pre_export_step.is_none() && status.pre_deployment_step.is_none()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_decides_as_the_delegate_whom_rbac_does_not_let_have_its_token() {
    let world = World::new("borrowed").await;
    at_the_gate(&world, "asked").await;

    // She configures the host, owns the stage and may let it delegate. None of this is a right to the token.
    let olga = world.plane.user_kubeconfig("olga", &[]).unwrap();
    let (code, said) = says(&world, &olga, &["approve", "asked", "--yes", "--as-delegate"]);
    assert_eq!(code, 6, "{said}");
    told(255, "the owner of a stage decides as its delegate by the plugin", &said, &["create on serviceaccounts/token bot-qa"]);
    assert!(!said.contains("eyJ"), "no token is printed: {said}");

    // The right to the token of another delegate is not one to this delegate's.
    let rules = json!([{"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["bot-prod"], "verbs": ["create"]}]);
    grant(&world, "rita", rules, &user("rita")).await;
    let rules = json!([{"apiGroups": ["pilotage.dev"], "resources": ["deploymentrequests"], "verbs": ["get"]}]);
    grant(&world, "rita-reads", rules, &user("rita")).await;
    until_may(&world, "rita", &[], "get", "deploymentrequests.pilotage.dev").await;
    let admin = world.plane.kubectl();
    let may = ["auth", "can-i", "create", "serviceaccounts/bot-prod", "--subresource=token", "-n", &world.host, "--as", "rita"];
    world.until("rita may ask for the other token", async || admin.run(&may).unwrap().ok.then_some(())).await;
    let rita = world.plane.user_kubeconfig("rita", &[]).unwrap();
    let (code, said) = says(&world, &rita, &["approve", "asked", "--yes", "--as-delegate"]);
    assert_eq!(code, 6, "{said}");
    told(256, "the holder of another delegate's token decides by the plugin", &said, &["create on serviceaccounts/token bot-qa"]);
    ignored(257, "what was tried by the plugin decided nothing", is_undecided(&world, "asked").await, &"asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn impersonating_an_approver_by_the_plugin_decides_nothing() {
    let world = World::new("put-on").await;
    at_the_gate(&world, "asked").await;
    let delegate = format!("system:serviceaccount:{}:bot-qa", world.host);
    // Impersonation alone has no token of the delegate.
    let admin = world.plane.kubectl();
    let rules = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["bot-qa"], "verbs": ["impersonate"]}]);
    grant(&world, "sam", rules, &user("sam")).await;
    let may = ["auth", "can-i", "impersonate", "serviceaccounts/bot-qa", "-n", &world.host, "--as", "sam"];
    world.until("sam may impersonate", async || admin.run(&may).unwrap().ok.then_some(())).await;
    let sam = world.plane.user_kubeconfig("sam", &[]).unwrap();
    let (code, said) = says(&world, &sam, &["--as", &delegate, "approve", "asked", "--yes"]);
    assert_ne!(code, 0, "{said}");
    told(258, "the delegate is impersonated by the plugin", &said, &["a ServiceAccount decides with a token of its own"]);
    ignored(259, "what an impersonated delegate tried by the plugin", is_undecided(&world, "asked").await, &"asked");
}
