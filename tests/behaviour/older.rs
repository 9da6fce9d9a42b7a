//! What holds on an API server without the features of Kubernetes 1.36. Without constrained impersonation, the operator can't act as
//! anybody, and says so. Without mutating policies, only the validating ones are in force, and nothing is deployed.

use kube::Api;
use kube::api::PostParams;
use pilotage::api::reference::Identity;
use pilotage::api::{DeploymentRequest, Pipeline, Stage};
use pilotage_harness::{ControlPlane, Options, dev};

use crate::world::{World, outcome, unrecorded};

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
