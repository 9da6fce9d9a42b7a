//! The maker's view: what runs comes first, and if it can't be written, nothing is delayed.

use kube::api::{Api, DeleteParams, Patch, PatchParams};
use pilotage::api::{Artifact, Solution, SolutionStatus};
use serde_json::json;

use crate::world::{World, client, outcome, phase};

async fn makers_view(world: &World) -> SolutionStatus {
    Api::<Solution>::namespaced(world.admin.clone(), &world.dev).get("orders").await.unwrap().status.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_request_the_makers_view_says_what_runs_and_one_made_again_finds_it() {
    let world = World::new("view-runs").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let bot = format!("approval: system:serviceaccount:{}:bot-qa", world.host);
    assert_eq!(first.status.unwrap().run.approved_by.as_deref(), Some(bot.as_str()));
    world.ask(&world.request("typo", "qa", "orders", "1.1.0")).await;
    world.fails("typo", "VersionDiffers").await;
    let told = makers_view(&world).await;
    assert_eq!(told.deployments[0].runs.as_ref().unwrap().version, "1.0.0");
    assert_eq!(told.summary, "qa: 1.0.0", "what was never accepted is told beside it");
    assert_eq!(told.deployments[0].others[0].version, "1.1.0");
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    world.ask(&world.request("second", "qa", "orders", "1.1.0")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "second", "Rejected").await.unwrap();
    world.end("second").await;
    assert_eq!(makers_view(&world).await.summary, "qa: 1.0.0 (1.1.0 Rejected)");

    // The record names who decided. From it, the view of a Solution that was created again is filled.
    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.0.0").await.unwrap();
    let record = &artifact.status.unwrap().deployments[0];
    assert_eq!((record.approved_by.as_deref(), record.decisions.len()), (Some(bot.as_str()), 1));
    let solutions = Api::<Solution>::namespaced(world.admin.clone(), &world.dev);
    solutions.delete("orders", &DeleteParams::default()).await.unwrap();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    world.until("the view is filled from the record", async || (makers_view(&world).await.summary == "qa: 1.0.0").then_some(())).await;
    assert_eq!(makers_view(&world).await.deployments[0].approved_by.as_deref(), Some(bot.as_str()));

    // A deleted stage is not shown.
    let stages = Api::<pilotage::api::Stage>::namespaced(world.admin.clone(), &world.host);
    stages.delete("qa", &DeleteParams::default()).await.unwrap();
    world.until("the stage that is gone is not told of", async || makers_view(&world).await.deployments.is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_makers_view_that_can_not_be_written_holds_up_no_request_and_keeps_no_claim() {
    let world = World::new("view-shut").await.provokes_refusals().await;
    let name = format!("{}-view", world.dev);
    let metadata = json!({"name": name});
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": metadata,
        "spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.dev}},
                "resourceRules": [{"apiGroups": ["pilotage.dev"], "apiVersions": ["*"], "resources": ["solutions/status"], "operations": ["UPDATE"]}],
            },
            "validations": [{"expression": "false", "message": "this view is shut"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata,
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    world.apply(&[policy, binding, world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    // To the operator: others are refused by Pilotage's own policy, and which of the two speaks is chance.
    let operator = client(world.plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap()).await;
    let solutions = Api::<Solution>::namespaced(operator, &world.dev);
    world
        .until("the view is shut", async || {
            let summary = Patch::Merge(json!({"status": {"summary": "probe"}}));
            let params = PatchParams { dry_run: true, ..PatchParams::default() };
            let refused = solutions.patch_status("orders", &params, &summary).await.err()?;
            refused.to_string().contains("this view is shut").then_some(())
        })
        .await;
    let request = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    assert!(makers_view(&world).await.deployments.is_empty(), "nothing was written there");
    let target = Api::<pilotage::api::Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    assert!(target.status.unwrap().solutions.iter().all(|solution| solution.claim.is_none()));
    world.plane.kubectl().ok(&["delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", &name]).unwrap();
}
