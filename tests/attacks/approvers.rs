//! Attacks on stages with people as approvers, where the delegate's identity deploys.

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{Stage, condition};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused};
use crate::scene::{account, acting_as, administrator, bind, delegate, operator, orders, person, user};
use crate::world::{World, client, ended, outcome, phase};

/// Changes stage `qa` as olga. Waits until it is ready with the change.
async fn approved_by(world: &World, approval: Value) {
    let stages: Api<Stage> = Api::namespaced(world.olga().await, &world.host);
    let patch = Patch::Merge(json!({"spec": {"approval": approval}}));
    let changed = stages.patch("qa", &PatchParams::default(), &patch).await.unwrap();
    world
        .until("the stage is ready as it was written", async || {
            let status = stages.get("qa").await.unwrap().status?;
            let is_seen = Some(status.observed_generation) == changed.metadata.generation;
            (is_seen && condition::is_true(&status.conditions, "Ready")).then_some(())
        })
        .await;
}

/// Lets somebody read requests and patch their status.
async fn may_patch(world: &World, name: &str, subject: &Value) {
    bind(world, &format!("decides-{name}"), "ClusterRole", "pilotage-delegate", subject).await;
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": name})
}

#[tokio::test(flavor = "multi_thread")]
async fn people_approve_and_the_delegate_deploys() {
    let world = World::new("people").await;
    orders(&world).await;
    world.apply(&[json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "board", "namespace": world.host}})]).await;
    for (name, subject) in
        [("managers", group("managers")), ("makers", group("makers")), ("pia", user("pia")), ("mallory", user("mallory"))]
    {
        may_patch(&world, name, &subject).await;
    }
    may_patch(&world, "board", &account(&world, "board")).await;
    let approvers = json!([
        {"kind": "User", "name": "pia"}, {"kind": "Group", "name": "managers"}, {"kind": "Group", "name": "makers"},
        {"kind": "ServiceAccount", "name": "board", "namespace": world.host},
    ]);
    approved_by(&world, json!({"by": "Approvers", "approvers": approvers})).await;
    world.ask(&world.request("orders", "qa", "orders", "1.0.0")).await;
    let waiting = world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    let gate = waiting.status.as_ref().unwrap().run.gates.approval.clone().unwrap();
    assert_eq!((gate.approver, gate.approvers.len()), (None, 4));
    let (_, message) = outcome(&waiting);
    assert!(message.contains("the approval by pia, group managers"), "{message}");

    let only = "only pia or group managers or group makers or system:serviceaccount:";
    let bot = delegate(&world, "qa");
    let decides = async |who| world.approve_as(who, "orders", "Approved").await;
    refused(235, "the delegate, where people approve", decides(world.bot("qa").await), 403, &["the gate is not open yet or is not yours"])
        .await;
    refused(235, "a holder of approve, where people approve", decides(world.eve().await), 403, &[only, "you are eve"]).await;
    refused(235, "the cluster's administrator, where people approve", decides(world.admin.clone()), 403, &[only]).await;
    let mallory = person(&world, "mallory", &[]).await;
    refused(235, "somebody whom the gate does not name", decides(mallory), 403, &["the gate is not open yet or is not yours"]).await;
    let namesake = person(&world, "managers", &[]).await;
    refused(235, "a person who is called as a group", decides(namesake), 403, &["cannot patch"]).await;
    refused(235, "the operator, where people approve", decides(client(operator(&world)).await), 403, &["the operator decides no gate"])
        .await;
    let as_pia = acting_as(operator(&world), "pia", &[]).await;
    refused(235, "the operator as a person who approves", decides(as_pia), 403, &["pilotage-system:pilotage", "cannot impersonate"]).await;
    let board = format!("system:serviceaccount:{}:board", world.host);
    let as_board = acting_as(world.plane.admin_kubeconfig(), &board, &[]).await;
    refused(235, "an approving ServiceAccount without its token", decides(as_board), 403, &["decides with a token of its own"]).await;
    refused(
        236,
        "the requester, who is of a group that approves",
        decides(world.dana().await),
        403,
        &["does not decide their own request"],
    )
    .await;

    // An approver that is named later was not asked about this plan.
    approved_by(&world, json!({"by": "Approvers", "approvers": [{"kind": "User", "name": "mallory"}]})).await;
    let mallory = person(&world, "mallory", &[]).await;
    refused(237, "an approver who was named after the gate opened", decides(mallory), 403, &["the gate is not open yet or is not yours"])
        .await;

    let max = person(&world, "max", &["managers"]).await;
    world.approve_as(max, "orders", "Approved").await.unwrap();
    let end = world.end("orders").await;
    assert_eq!(phase(&end), "Failed", "who approves has changed since, and with it the plan: {:?}", outcome(&end));
    assert_eq!(outcome(&end).0, "PlanChanged");

    approved_by(&world, json!({"by": "DelegateOrApprovers", "approvers": [{"kind": "Group", "name": "managers"}]})).await;
    world.ask(&world.request("again", "qa", "orders", "1.0.0")).await;
    world.until_request("again", |r| phase(r) == "AwaitingApproval").await;
    let max = person(&world, "max", &["managers"]).await;
    world.approve_as(max, "again", "Approved").await.unwrap();
    let end = world.end("again").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let status = end.status.unwrap();
    assert_eq!((status.run.deployed_by.as_deref(), status.approval.unwrap().by.as_deref()), (Some(bot.as_str()), Some("max")));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_approves_is_said_by_who_answers_for_the_delegate() {
    let world = World::new("named").await;
    let stages = async |who| Api::<Stage>::namespaced(who, &world.host);
    let set = |approval: Value| Patch::Merge(json!({"spec": {"approval": approval}}));
    let params = PatchParams::default();
    let mallory = administrator(&world, "mallory").await;
    let own = set(json!({"by": "Approvers", "approvers": [{"kind": "User", "name": "mallory"}]}));
    let named = stages(mallory.clone()).await;
    refused(
        238,
        "an administrator makes themself the approver",
        named.patch("qa", &PatchParams::default(), &own),
        403,
        &["the verb delegate"],
    )
    .await;
    let none = set(json!({"by": "Automatic"}));
    refused(
        238,
        "an administrator takes the approval away",
        named.patch("qa", &PatchParams::default(), &none),
        403,
        &["the verb delegate"],
    )
    .await;
    let olga = stages(world.olga().await).await;
    for (what, approver) in [
        ("everybody", json!({"kind": "Group", "name": "system:authenticated"})),
        ("all ServiceAccounts of the host", json!({"kind": "Group", "name": format!("system:serviceaccounts:{}", world.host)})),
        ("the operator by its user name", json!({"kind": "User", "name": "system:serviceaccount:pilotage-system:pilotage"})),
    ] {
        let wide = set(json!({"by": "Approvers", "approvers": [approver]}));
        let attempt = olga.patch("qa", &params, &wide);
        refused(239, &format!("{what} approves"), attempt, 422, &["users and groups of system:* are no approvers"]).await;
    }
    let nobody = set(json!({"by": "Approvers"}));
    refused(239, "nobody approves", olga.patch("qa", &PatchParams::default(), &nobody), 422, &["and required there"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_approves_by_itself_does_so_for_others_than_its_owner() {
    let world = World::new("itself").await;
    orders(&world).await;
    approved_by(&world, json!({"by": "Automatic"})).await;
    // The owner of a stage may ask for deployments, like everybody else that the pipeline is shared with.
    let binding = json!({"spec": {"sharedWith": [{"kind": "Group", "name": "makers"}, {"kind": "User", "name": "olga"}]}});
    let pipelines: Api<pilotage::api::Pipeline> = Api::namespaced(world.olga().await, &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(binding)).await.unwrap();
    bind_reader(&world).await;
    let own = world.request("own", "qa", "orders", "1.0.0");
    world
        .until("the pipeline is shared with olga", async || {
            let requests: Api<pilotage::api::DeploymentRequest> = Api::namespaced(world.olga().await, &world.host);
            requests.create(&kube::api::PostParams::default(), &own).await.ok()
        })
        .await;
    let end = world.end("own").await;
    ignored(240, "the owner of a stage that approves by itself asks", outcome(&end).0 == "RequesterIsApprover", &outcome(&end));
    assert!(world.operator_writes(&world.qa, false).is_empty());

    world.ask(&world.request("others", "qa", "orders", "1.0.0")).await;
    let end = world.until_request("others", ended).await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let status = end.status.unwrap();
    assert!(status.approval.is_none() && status.run.gates.approval.is_none());
    assert_eq!(status.run.deployed_by.as_deref(), Some(delegate(&world, "qa").as_str()));
    let approved = condition::find(&status.run.conditions, "Approved").unwrap();
    assert_eq!(approved.reason, "ApprovedByStage");
    assert!(approved.message.contains("for which olga answers"), "{}", approved.message);
}

/// Lets olga read development. Everybody who asks for something that is exported from there needs this.
async fn bind_reader(world: &World) {
    let reads = crate::world::binding(&world.dev, "olga-reads", "ClusterRole", "edit", &json!([user("olga")]));
    world.apply(&[reads]).await;
}
