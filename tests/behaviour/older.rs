//! What holds on an API server without the features of Kubernetes 1.36. Without constrained impersonation, the operator can't act as
//! anybody, and says so. Without mutating policies, only the validating ones are in force, and nothing is deployed. With the component for
//! older versions, it deploys with tokens that it is lent, and says what is weaker.

use std::path::Path;
use std::process::Command;

use kube::Api;
use kube::api::PostParams;
use pilotage::api::reference::Identity;
use pilotage::api::{DeploymentRequest, Pipeline, Stage};
use pilotage_harness::{ControlPlane, Installed, Options, dev};
use serde_json::{Value, json};

use crate::world::{World, outcome, phase, unrecorded};

const OPERATOR: &str = env!("CARGO_BIN_EXE_pilotage");

#[tokio::test(flavor = "multi_thread")]
async fn without_constrained_impersonation_or_mutating_policies_nothing_deploys_and_nobody_is_believed() {
    let (plane, operator) = tokio::task::spawn_blocking(|| {
        let options = Options { apiserver_args: vec!["--feature-gates=ConstrainedImpersonation=false".into()], ..Options::default() };
        let plane = ControlPlane::start(&options).unwrap();
        let operator = dev::operate(&plane, std::path::Path::new(env!("CARGO_BIN_EXE_pilotage"))).unwrap();
        (plane, operator)
    })
    .await
    .unwrap();
    let world = World::on(plane, "older").await.with_pipeline().await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", serde_json::json!({}))]).await;

    // The grants exist, but mean nothing to this API server. The operator may impersonate nobody in the old way.
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "DelegateLacksTargetAccess").await;
    let who = format!("refused system:serviceaccount:{}:bot-qa in namespace {}, though reviews say", world.host, world.qa);
    assert!(message.contains(&who), "{message}");
    assert!(message.contains("constrained impersonation") && message.contains("Kubernetes 1.36"), "{message}");
    let calls = [world.operator_writes(&world.qa, false), world.operator_writes(&world.qa, true)].concat();
    assert!(!calls.is_empty() && calls.iter().all(|call| call.code == 403), "it tried, and not as itself: {calls:?}");

    // Without the policies that fill in the requester, the others refuse a missing or forged requester.
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["delete", "mutatingadmissionpolicybindings,mutatingadmissionpolicies", "--all"]).unwrap();
    world.until_condition::<Stage>("qa", "Ready", "PoliciesMissing").await;
    // A client that fills in nothing itself.
    let dana = unrecorded(world.plane.user_kubeconfig("dana", &["makers"]).unwrap()).await;
    let requests = Api::<DeploymentRequest>::namespaced(dana, &world.host);
    let ask = |name: &str, username: Option<&str>, groups: &[&str]| {
        let mut request = world.request(name, "qa", "orders", "1.0.0");
        let groups = groups.iter().map(|&group| group.into()).collect();
        request.spec.requested_by = username.map(|username| Identity { username: username.into(), uid: None, groups });
        request
    };
    let empty = ask("empty", None, &[]);
    let error = world
        .until("nobody fills in who asks", async || {
            requests.create(&PostParams { dry_run: true, ..Default::default() }, &empty).await.err()
        })
        .await;
    assert!(error.to_string().contains("spec.requestedBy is not you (dana)"), "{error}");
    for forged in [ask("forged", Some("olga"), &[]), ask("grouped", Some("dana"), &["system:masters"]), ask("alone", Some("dana"), &[])] {
        let error = requests.create(&PostParams::default(), &forged).await.unwrap_err();
        assert!(error.to_string().contains("spec.requestedBy is not you (dana)"), "{error}");
    }
    // Somebody who fills in who they are may ask. The operator makes sure that nothing is deployed.
    requests.create(&PostParams::default(), &ask("honest", Some("dana"), &["makers", "system:authenticated"])).await.unwrap();
    let held = world.until_request("honest", |r| outcome(r).1.contains("PoliciesMissing")).await;
    assert!(held.status.unwrap().run.start_time.is_none());
    assert!(world.operator_writes(&world.qa, false).iter().all(|call| call.code == 403));
    world.ready::<Pipeline>("standard").await;
    tokio::task::spawn_blocking(|| operator.stop()).await.unwrap().unwrap();
}

/// The plugin, as whoever the kubeconfig is of.
fn plugin(kubeconfig: &Path, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage")).args(args).env("KUBECONFIG", kubeconfig).output().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn with_lent_tokens_the_plugin_deploys_and_everybody_is_told_what_is_weaker() {
    let (world, operator) = World::lending("lent", OPERATOR).await;
    let user = |name: &str, groups: &[&str]| world.plane.user_kubeconfig(name, groups).unwrap();
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    // The plugin says who asks and who decides.
    let asked = |world: &World| {
        let said = plugin(&user("dana", &["makers"]), &["deploy", "orders", "--to", "qa", "-n", &world.dev, "-o", "name"]);
        said.trim().rsplit_once('/').map(|(_, name)| name.to_owned())
    };
    let name = world.until("the plugin asks", async || asked(&world)).await;
    let asked = world.until_request(&name, |r| phase(r) == "AwaitingApproval").await;
    let dana = Identity { username: "dana".into(), uid: None, groups: vec!["makers".into(), "system:authenticated".into()] };
    assert_eq!(asked.spec.requested_by, Some(dana));
    let bot = world.plane.service_account_kubeconfig(&world.host, "bot-qa").unwrap();
    let said = plugin(&bot, &["approve", &name, "--yes", "-n", &world.host]);
    let end = world.end(&name).await;
    assert_eq!(phase(&end), "Succeeded", "{said}{:?}", outcome(&end));
    assert!(!world.operator_writes(&world.qa, false).is_empty(), "with the delegate's token, and nobody else's");

    // What is weaker is said by the log, by each stage, and by the plugin, one line each.
    let admin = world.plane.admin_kubeconfig();
    let log = std::fs::read_to_string(world.plane.dir().join("operator.log")).unwrap();
    let checked = plugin(&admin, &["check"]);
    for words in ["reads as a delegate", "stays valid until it ends", "nobody is acted as but ServiceAccounts", "nothing is filled in"] {
        assert!(log.lines().any(|line| line.contains("weaker than on Kubernetes 1.36: ") && line.contains(words)), "{words}: {log}");
        assert!(checked.lines().any(|line| line.contains("weaker") && line.contains(words)), "{words}: {checked}");
    }
    let (reason, message) = world.condition::<Stage>("qa", "Ready").await.unwrap();
    assert!(reason == "Ready" && message.contains("docs/security.md#kubernetes-versions"), "{message}");
    let granted = plugin(&admin, &["grant", "operator", "--stage", "qa", "-n", &world.host]);
    assert!(granted.contains("serviceaccounts/token") && granted.contains("impersonate-on:serviceaccount:patch"), "{granted}");
    assert!(!granted.contains("impersonate:serviceaccount\""), "{granted}");

    // Nobody is acted as but ServiceAccounts.
    let stage = |name: &str, delegation: Option<Value>| {
        let mut spec = json!({"pipeline": "standard", "previousStage": "qa", "targetEnvironment": "prod"});
        if let Some(delegation) = delegation {
            spec["delegatedDeployment"] = delegation;
        }
        world.host_object("Stage", name, spec)
    };
    let olga = world.olga().await;
    for (name, delegation, whose) in [("owned", Some(json!({"type": "StageOwner"})), "its owner"), ("asked", None, "each requester")] {
        world.apply_as(&olga, &stage(name, delegation)).await.unwrap();
        let message = world.until_condition::<Stage>(name, "Ready", "NeedsServicePrincipal").await;
        assert!(message.contains(&format!("deploys as {whose}")) && message.contains("ServicePrincipal"), "{message}");
    }
    if let Some(operator) = operator {
        tokio::task::spawn_blocking(|| operator.stop()).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_can_not_be_had_is_asked_for_again_when_its_node_is_there() {
    let (plane, operator) = tokio::task::spawn_blocking(|| {
        let plane = ControlPlane::start(&Options { installed: Installed::LendingTokens, ..Options::default() }).unwrap();
        let operator = dev::operate_with(&plane, OPERATOR.as_ref(), &[("PILOTAGE_NODE", "late")]).unwrap();
        (plane, operator)
    })
    .await
    .unwrap();
    let world = World::on(plane, "node").await;
    let olga = world.olga().await;
    for object in world.pipeline() {
        world.apply_as(&olga, &object).await.unwrap();
    }
    let message = world.until_condition::<Stage>("qa", "Ready", "TokenNotLent").await;
    assert!(message.contains("there is no Node late") && message.contains("PILOTAGE_NODE"), "{message}");
    world.apply(&[json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}})]).await;
    let kubectl = world.plane.kubectl();
    for stage in ["qa", "prod"] {
        kubectl.ok(&["annotate", "stage", stage, "-n", &world.host, "look=again"]).unwrap();
        world.ready::<Stage>(stage).await;
    }
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ready::<Pipeline>("standard").await;
    assert_eq!(phase(&world.deploy("first", "qa", "orders", "1.0.0").await), "Succeeded");

    // Its tokens go with the node. Another one of that name is another node.
    kubectl.ok(&["delete", "node", "late"]).unwrap();
    world.apply(&[json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}})]).await;
    let end = world.deploy("second", "prod", "orders", "1.0.0").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    tokio::task::spawn_blocking(|| operator.stop()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_component_an_older_cluster_is_told_of_it_and_nothing_deploys() {
    let (plane, operator) = tokio::task::spawn_blocking(|| {
        let plane = ControlPlane::start(&Options::default()).unwrap();
        let operator = dev::operate_with(&plane, OPERATOR.as_ref(), &[("PILOTAGE_DELEGATION", "impersonation")]).unwrap();
        (plane, operator)
    })
    .await
    .unwrap();
    let world = World::on(plane, "unchosen").await;
    let olga = world.olga().await;
    for object in world.pipeline() {
        world.apply_as(&olga, &object).await.unwrap();
    }
    let message = world.until_condition::<Stage>("qa", "Ready", "PoliciesMissing").await;
    let version = world.plane.kubernetes().version().to_owned();
    for words in [version.as_str(), "deploy/components/older-kubernetes", "nothing is deployed"] {
        assert!(message.contains(words), "{message}");
    }
    let log = std::fs::read_to_string(world.plane.dir().join("operator.log")).unwrap();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("deploy/components/older-kubernetes")), "{log}");
    let calls = [world.operator_writes(&world.qa, false), world.operator_writes(&world.qa, true)].concat();
    assert!(calls.is_empty(), "{calls:?}");
    tokio::task::spawn_blocking(|| operator.stop()).await.unwrap().unwrap();
}
