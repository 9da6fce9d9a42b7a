//! Attacks by a change between the approval and the deployment: of stages, requests, delegates, gates, versions.

use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Pipeline, Stage};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused, told};
use crate::scene::{at_the_gate, bind, orders, patch, patch_status, requests, until_may, user, with_a_step};
use crate::world::{World, ended, outcome, phase};

/// Changes the spec of a stage as olga, who owns it.
async fn restage(world: &World, name: &str, spec: Value) -> Stage {
    let stages: Api<Stage> = Api::namespaced(world.olga().await, &world.host);
    stages.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap()
}

/// A request of dana's to QA that is approved and waits for its pre-deployment step.
async fn approved(world: &World, name: &str) {
    world.ask(&world.request(name, "qa", "orders", "1.0.0")).await;
    world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", name, "Approved").await.unwrap();
    world.until_request(name, |r| phase(r) == "AwaitingPreDeploymentStep").await;
}

/// Eve approves the pre-deployment step of a request.
async fn complete(world: &World, name: &str) -> kube::Result<DeploymentRequest> {
    patch_status(world, world.eve().await, name, json!({"status": {"preDeploymentStep": {"decision": "Completed"}}})).await
}

fn untouched(world: &World, namespace: &str) -> bool {
    world.operator_writes(namespace, false).is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_covers_what_was_shown_and_nothing_else() {
    let world = World::new("after").await;
    with_a_step(&world).await;
    orders(&world).await;
    approved(&world, "longer").await;
    restage(&world, "qa", json!({"deployment": {"timeout": "3m"}})).await;
    world.ready::<Stage>("qa").await;
    complete(&world, "longer").await.unwrap();
    let message = world.fails("longer", "PlanChanged").await;
    told(
        32,
        "the stage's deployment settings changed after the approval",
        &message,
        &["no longer what was planned", "within 120 s", "within 180 s", "nothing was written", "Make a new request"],
    );

    approved(&world, "other").await;
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "another", "namespace": world.qa},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "bot-qa"},
        "subjects": [{"kind": "ServiceAccount", "namespace": world.host, "name": "bot-prod"}]});
    world.apply(&[binding]).await;
    restage(&world, "qa", json!({"delegatedDeployment": {"serviceAccountName": "bot-prod"}})).await;
    world.ready::<Stage>("qa").await;
    complete(&world, "other").await.unwrap();
    let message = world.fails("other", "PlanChanged").await;
    told(
        32,
        "another delegate after the approval",
        &message,
        &["no longer what was planned", "who deploys, which was", "nothing was written"],
    );
    assert!(untouched(&world, &world.qa));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_opened_is_not_gone_around() {
    let world = World::new("around").await;
    with_a_step(&world).await;
    orders(&world).await;
    bind(&world, "dana-approves", "ClusterRole", "pilotage-approver", &user("dana")).await;
    until_may(&world, "dana", &["makers"], "approve", "stages.pilotage.dev").await;
    approved(&world, "orders").await;
    // Whoever configures the stage does not decide.
    restage(&world, "qa", json!({"gates": {"allowSelfApproval": true}})).await;
    world.ready::<Stage>("qa").await;
    let words = ["the requester does not decide their own request", "somebody else has to"];
    let step = json!({"status": {"preDeploymentStep": {"decision": "Completed"}}});
    let attempt = patch_status(&world, world.dana().await, "orders", step);
    refused(112, "self-approval is allowed once the gate is open", attempt, 403, &words).await;
    let changed = restage(&world, "qa", json!({"preDeploymentStepRequired": false, "gates": null})).await;
    world.ready::<Stage>("qa").await;
    // Once a later request has been decided on, the change has been seen.
    world.apply(&[world.solution("later", "1.0.0"), world.config("later", "later", json!({}))]).await;
    let later = world.deploy("later", "qa", "later", "1.0.0").await;
    assert_eq!(phase(&later), "Succeeded", "the stage asks for no step any more: {:?} {:?}", outcome(&later), changed.spec);
    let waiting = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    let arrived = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get_opt("orders").await.unwrap();
    let harmless = phase(&waiting) == "AwaitingPreDeploymentStep" && arrived.is_none();
    ignored(113, "an open gate is switched off at the stage", harmless, &outcome(&waiting));
    complete(&world, "orders").await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_inherits_nothing() {
    let world = World::new("namesakes").await;
    let olga = world.olga().await;
    with_a_step(&world).await;
    orders(&world).await;
    // The request.
    approved(&world, "orders").await;
    let first = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    requests(&world, world.dana().await).delete("orders", &DeleteParams::default()).await.unwrap();
    world
        .until("the request is made again", async || {
            let api = requests(&world, world.dana().await);
            api.create(&kube::api::PostParams::default(), &world.request("orders", "qa", "orders", "1.0.0")).await.ok()
        })
        .await;
    let second =
        world.until_request("orders", |r| r.metadata.uid != first.metadata.uid && (phase(r) == "AwaitingApproval" || ended(r))).await;
    let carried = second.status.as_ref().unwrap().approval.is_some();
    ignored(33, "a request deleted and made again under its name", !carried && phase(&second) == "AwaitingApproval", &outcome(&second));
    let hash = first.status.unwrap().run.plan.unwrap().hash;
    let words = ["planHash is not that of the plan at the gate"];
    let attempt =
        patch_status(&world, world.bot("qa").await, "orders", json!({"status": {"approval": {"decision": "Approved", "planHash": hash}}}));
    refused(33, "the approval of the first for the second", attempt, 422, &words).await;

    // The stage.
    world.decide("qa", "orders", "Approved").await.unwrap();
    world.until_request("orders", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let stages: Api<Stage> = Api::namespaced(olga.clone(), &world.host);
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["preDeploymentStepRequired"] = true.into();
    let old = stages.get("qa").await.unwrap().metadata.uid;
    stages.delete("qa", &DeleteParams::default()).await.unwrap();
    world
        .until("the stage is made again", async || {
            world.apply_as(&olga, &stage).await.ok().filter(|made| made.metadata.uid != old && made.metadata.deletion_timestamp.is_none())
        })
        .await;
    world.ready::<Stage>("qa").await;
    // It ends when it is reconciled in between. Otherwise it ends at its gate.
    let _ = complete(&world, "orders").await;
    let end = world.end("orders").await;
    let (reason, message) = outcome(&end);
    assert!(["PlanChanged", "StageNotFound"].contains(&reason.as_str()), "{reason}: {message}");
    told(31, "a stage deleted and made again under its name", &message, &["nothing was written"]);
    assert!(untouched(&world, &world.qa));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_stage_is_skipped() {
    let world = World::new("order").await;
    orders(&world).await;
    world.ask(&world.request("skips", "prod", "orders", "1.0.0")).await;
    let message = world.fails("skips", "PreviousStageNotSucceeded").await;
    told(42, "a request for production before QA", &message, &["has not succeeded in stage qa", "ask for a deployment to qa first"]);

    restage(&world, "prod", json!({"previousStage": null})).await;
    let message = world.until_condition::<Pipeline>("standard", "Ready", "MultipleFirstStages").await;
    world.ask(&world.request("first", "prod", "orders", "1.0.0")).await;
    let waits = world.waits_for("first", "PipelineNotReady").await;
    told(42, "a later stage made a first one", &format!("{message} {waits}"), &["pipeline standard is not ready", "prod", "qa"]);
    patch(&world, world.olga().await, "first", json!({"spec": {"cancel": true}})).await.unwrap();
    world.end("first").await;
    restage(&world, "prod", json!({"previousStage": "qa"})).await;
    world.ready::<Pipeline>("standard").await;

    // The same version with other content, after QA has seen it.
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");
    world.apply(&[world.config("orders", "orders", json!({"greeting": "never seen in QA"}))]).await;
    assert_eq!(phase(&world.deploy("to-prod", "prod", "orders", "1.0.0").await), "Succeeded");
    let arrived = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.prod).get("orders").await.unwrap();
    ignored(42, "other content under a version that QA has seen", arrived.data.as_ref().unwrap()["greeting"] == "hello", &arrived.data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_frozen_is_not_moved() {
    let world = World::new("frozen").await;
    with_a_step(&world).await;
    orders(&world).await;
    approved(&world, "orders").await;
    let words = ["scheduledTime is frozen once the approval is decided"];
    let sooner = json!({"spec": {"scheduledTime": "2020-01-01T00:00:00Z"}});
    refused(114, "another time after the approval", patch(&world, world.olga().await, "orders", sooner), 422, &words).await;

    // When an approver writes the status, only the status changes.
    let hold = json!({"metadata": {"finalizers": ["example.test/hold"], "labels": {"pilotage.dev/mark": "x"}}, "spec": {"cancel": true},
        "status": {"preDeploymentStep": {"decision": "Completed"}}});
    let done = patch_status(&world, world.eve().await, "orders", hold).await.unwrap();
    let harmless = done.metadata.finalizers.is_none() && done.metadata.labels.is_none() && !done.spec.cancel;
    ignored(115, "a decision that brings metadata and spec along", harmless, &done.metadata);
    assert_eq!(phase(&world.end("orders").await), "Succeeded");

    let words = ["cannot deletecollection", "dana"];
    let api = requests(&world, world.dana().await);
    let (none, all) = (DeleteParams::default(), kube::api::ListParams::default());
    refused(116, "a maker deletes all requests", api.delete_collection(&none, &all), 403, &words).await;
    let mut whole = serde_json::to_value(world.request("orders", "qa", "orders", "1.0.0")).unwrap();
    let live = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    whole["metadata"]["resourceVersion"] = live.metadata.resource_version.clone().unwrap().into();
    whole["spec"]["requestedBy"] = json!({"username": "olga"});
    let forged: DeploymentRequest = serde_json::from_value(whole).unwrap();
    let words = ["spec is immutable but for cancel and scheduledTime"];
    let admin = requests(&world, world.olga().await);
    refused(
        117,
        "another requester by replacing the whole request",
        admin.replace("orders", &kube::api::PostParams::default(), &forged),
        422,
        &words,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_delegate_that_is_gone_is_worth_nothing() {
    let world = World::new("token").await;
    at_the_gate(&world, "orders").await;
    let old = world.bot("qa").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(world.admin.clone(), &world.host);
    accounts.delete("bot-qa", &DeleteParams::default()).await.unwrap();
    world.apply(&[json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "bot-qa", "namespace": world.host}})]).await;
    // The API server accepts a token that it has seen for some more seconds.
    let api = requests(&world, old.clone());
    world.until("the old token is not believed any more", async || api.get("orders").await.err()).await;
    refused(
        30,
        "a token of a ServiceAccount that was deleted and made again",
        world.approve_as(old, "orders", "Approved"),
        401,
        &["Unauthorized"],
    )
    .await;
    // The successor is the delegate of that name, with its own token.
    world.decide("qa", "orders", "Approved").await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Succeeded");
}
