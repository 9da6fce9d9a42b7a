//! Attacks on gates: who decides, when, about what, and that it is decided once.

use kube::api::{Patch, PatchParams};
use kube::{Api, Error};
use pilotage::api::request_status::RunStatus;
use pilotage::api::{DeploymentRequest, Pipeline};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused};
use crate::scene::{
    account, acting_as, at_the_gate, bind, delegate, grant, operator, orders, patch_status, person, requests, until_may, user, with_a_step,
};
use crate::world::{World, client, ended, phase};

fn approval(fields: &Value) -> Value {
    let mut approval = json!({"decision": "Approved"});
    approval.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"status": {"approval": approval}})
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_delegate_decides_its_gate_and_only_by_its_own_token() {
    let world = World::new("decider").await;
    let request = at_the_gate(&world, "orders").await;
    let bot = delegate(&world, "qa");
    assert_eq!(request.status.unwrap().run.gates.approval.unwrap().approver.as_deref(), Some(bot.as_str()));
    let only = format!("only {bot} decides status.approval");

    world.apply(&[json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "other", "namespace": world.host}})]).await;
    for role in ["pilotage-approver", "pilotage-delegate"] {
        bind(&world, &format!("other-{role}"), "ClusterRole", role, &account(&world, "other")).await;
    }
    let other = format!("system:serviceaccount:{}:other", world.host);
    until_may(&world, &other, &[], "approve", "stages.pilotage.dev").await;
    let token = client(world.plane.service_account_kubeconfig(&world.host, "other").unwrap()).await;
    refused(6, "another ServiceAccount that holds approve", world.approve_as(token, "orders", "Approved"), 403, &[&only, &other]).await;
    refused(6, "a person who holds approve", world.approve_as(world.eve().await, "orders", "Approved"), 403, &[&only, "you are eve"]).await;
    let words = ["the gate is not open yet or is not yours", "status.gates.approval.approver"];
    refused(6, "the delegate of another stage", world.approve_as(world.bot("prod").await, "orders", "Approved"), 403, &words).await;
    refused(6, "the cluster's administrator", world.approve_as(world.admin.clone(), "orders", "Approved"), 403, &[&only]).await;
    refused(5, "the requester", world.approve_as(world.dana().await, "orders", "Approved"), 403, &["dana", "cannot patch"]).await;

    let as_bot = acting_as(operator(&world), &bot, &[]).await;
    refused(
        14,
        "the operator under its own name",
        world.approve_as(client(operator(&world)).await, "orders", "Approved"),
        403,
        &["the operator decides no gate"],
    )
    .await;
    refused(
        15,
        "the operator as the delegate",
        world.approve_as(as_bot, "orders", "Approved"),
        403,
        &["pilotage-system:pilotage", if world.plane.lends_tokens() { "cannot impersonate" } else { "deploymentrequests" }],
    )
    .await;
    let owner = acting_as(world.plane.user_kubeconfig("olga", &[]).unwrap(), &bot, &[]).await;
    refused(16, "the owner as the delegate", world.approve_as(owner.clone(), "orders", "Approved"), 403, &["olga", "cannot impersonate"])
        .await;
    let rules = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]);
    grant(&world, "impersonator", rules, &user("olga")).await;
    until_may(&world, "olga", &[], "impersonate", "serviceaccounts").await;
    let words = ["decides with a token of its own", "kubectl create token"];
    refused(16, "the owner as the delegate, with the right to impersonate it", world.approve_as(owner, "orders", "Approved"), 403, &words)
        .await;
    let admin = acting_as(world.plane.admin_kubeconfig(), &bot, &[]).await;
    refused(16, "the cluster's administrator as the delegate", world.approve_as(admin, "orders", "Approved"), 403, &words).await;

    let seen = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    assert!(seen.status.as_ref().unwrap().approval.is_none() && phase(&seen) == "AwaitingApproval", "{:?}", seen.status);
    // After all that, the delegate's own token still decides.
    world.decide("qa", "orders", "Approved").await.unwrap();
    let end = world.end("orders").await;
    assert_eq!(phase(&end), "Succeeded");
    assert_eq!(end.status.unwrap().approval.unwrap().by.as_deref(), Some(bot.as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_one_decision_on_the_plan_that_was_shown() {
    let world = World::new("decision").await;
    let request = at_the_gate(&world, "orders").await;
    let bot = world.bot("qa").await;
    let decide = |patch: Value| patch_status(&world, bot.clone(), "orders", patch);
    refused(7, "a decision in somebody else's name", decide(approval(&json!({"by": "olga"}))), 403, &["`by` of a decision is not you"])
        .await;

    let alone = "one decision and nothing else";
    let mut both = approval(&json!({}));
    both["status"]["phase"] = "Succeeded".into();
    refused(9, "a decision with another field of the status", decide(both), 403, &[alone]).await;
    let mut both = approval(&json!({}));
    both["status"]["startTime"] = "2026-01-01T00:00:00Z".into();
    refused(9, "a decision with a claim", decide(both), 403, &[alone]).await;
    let mut both = approval(&json!({}));
    both["status"]["preDeploymentStep"] = json!({"decision": "Completed"});
    refused(9, "two decisions at once", decide(both), 403, &["exactly one of"]).await;
    refused(
        9,
        "another field and no decision",
        decide(json!({"status": {"phase": "Succeeded"}})),
        403,
        &["the status of a request is the operator's"],
    )
    .await;

    let other = format!("sha256:{}", "0".repeat(64));
    let words = ["planHash is not that of the plan at the gate", "look at status.plan again"];
    refused(10, "a decision on another plan", decide(approval(&json!({"planHash": other}))), 422, &words).await;

    let rewritten = json!({"status": {"gates": {"approval": {"planHash": other}}}});
    refused(12, "the approver rewrites the gate", decide(rewritten.clone()), 422, &["status.gates.approval is written once"]).await;
    refused(
        12,
        "the approver removes the gate",
        decide(json!({"status": {"gates": null}})),
        422,
        &["status.gates.approval is written once"],
    )
    .await;
    let opened = json!({"status": {"gates": {"preDeploymentStep": {"openedAt": "2026-01-01T00:00:00Z", "allowSelfApproval": true}}}});
    refused(12, "an approver opens a gate", decide(opened.clone()), 403, &["the status of a request is the operator's"]).await;
    refused(
        12,
        "the cluster's administrator opens a gate",
        patch_status(&world, world.admin.clone(), "orders", opened),
        403,
        &["the status of a request is the operator's"],
    )
    .await;

    let own = client(operator(&world)).await;
    let words = ["status.gates.approval is written once"];
    refused(13, "the operator rewrites an open gate", patch_status(&world, own.clone(), "orders", rewritten), 422, &words).await;
    let lax = json!({"status": {"gates": {"approval": {"allowSelfApproval": true, "approver": "system:serviceaccount:pilotage-system:pilotage"}}}});
    refused(13, "the operator makes itself the approver", patch_status(&world, own.clone(), "orders", lax), 422, &words).await;
    refused(
        13,
        "the operator removes an open gate",
        patch_status(&world, own, "orders", json!({"status": {"gates": {"approval": null}}})),
        422,
        &words,
    )
    .await;

    let after = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    // While a proof takes a policy away, the operator waits for that, and since then for the gate again.
    let run = |request: &DeploymentRequest| {
        request.status.as_ref().map(|s| RunStatus { waiting: None, waiting_for: String::new(), ..s.run.clone() })
    };
    ignored(9, "the gate after all that", run(&after) == run(&request), &after.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_managers_name_gives_nothing() {
    let world = World::new("manager").await;
    at_the_gate(&world, "orders").await;
    let forced = PatchParams::apply("pilotage").force();
    let body = |status: Value| {
        Patch::Apply(json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": "DeploymentRequest", "metadata": {"name": "orders"}, "status": status,
        }))
    };
    let forged = body(json!({"phase": "Succeeded", "deployedBy": "eve"}));
    for (who, client) in
        [("the delegate", world.bot("qa").await), ("an approver", world.eve().await), ("the cluster's administrator", world.admin.clone())]
    {
        let api = requests(&world, client);
        let words = ["the status of a request is the operator's"];
        refused(
            8,
            &format!("{who} applies a status under the operator's manager name"),
            api.patch_status("orders", &forced, &forged),
            403,
            &words,
        )
        .await;
    }
    let step = body(json!({"approval": {"decision": "Approved"}, "phase": "Succeeded"}));
    let api = requests(&world, world.bot("qa").await);
    refused(
        8,
        "the delegate applies a decision and more",
        api.patch_status("orders", &forced, &step),
        403,
        &["one decision and nothing else"],
    )
    .await;
    // It is a decision, whatever kind of request carries it.
    api.patch_status("orders", &forced, &body(json!({"approval": {"decision": "Approved"}}))).await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_decided_before_its_gate_opens() {
    let world = World::new("early").await;
    at_the_gate(&world, "orders-qa").await;
    // It waits for the one above.
    world.ask(&world.request("orders-prod", "prod", "orders", "1.0.0")).await;
    let waits = world.until_request("orders-prod", |r| phase(r) == "Pending").await;
    assert!(waits.status.unwrap().run.gates.is_empty());
    let words = ["the gate is not open yet"];
    refused(11, "the delegate before its gate opens", world.decide("prod", "orders-prod", "Approved"), 403, &words).await;
    for key in ["preExportStep", "preDeploymentStep"] {
        let step = json!({"status": {key: {"decision": "Completed"}}});
        let words = [format!("the gate is not open yet: a decision is taken once status.gates.{key} is there (the request is Pending)")];
        let attempt = patch_status(&world, world.eve().await, "orders-prod", step);
        refused(11, &format!("an approver at {key} before it opens"), attempt, 422, &[&words[0]]).await;
    }
    refused(
        11,
        "the cluster's administrator before the gate opens",
        world.approve_as(world.admin.clone(), "orders-prod", "Approved"),
        422,
        &words,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_requester_does_not_decide_their_own_request() {
    let world = World::new("self").await;
    with_a_step(&world).await;
    orders(&world).await;
    // They must be able to read what they ask for.
    let read = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "eve", "namespace": world.dev},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}, "subjects": [user("eve")]});
    world.apply(&[read]).await;
    let shared_with = json!([{"kind": "User", "name": "eve"}]);
    let pipelines: Api<Pipeline> = Api::namespaced(world.olga().await, &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": {"sharedWith": shared_with}}))).await.unwrap();
    until_may(&world, "eve", &[], "create", "deploymentrequests.pilotage.dev").await;
    until_may(&world, "eve", &[], "deploy", "pipelines.pilotage.dev/standard").await;
    let api = requests(&world, world.eve().await);
    api.create(&kube::api::PostParams::default(), &world.request("orders", "qa", "orders", "1.0.0")).await.unwrap();
    world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "orders", "Approved").await.unwrap();
    world.until_request("orders", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let step = json!({"status": {"preDeploymentStep": {"decision": "Completed"}}});
    let words = ["the requester does not decide their own request", "spec.gates.allowSelfApproval"];
    refused(5, "the requester, who is an approver too", patch_status(&world, world.eve().await, "orders", step.clone()), 403, &words).await;
    // Somebody else may decide.
    bind(&world, "approver-ann", "ClusterRole", "pilotage-approver", &user("ann")).await;
    until_may(&world, "ann", &[], "approve", "stages.pilotage.dev").await;
    patch_status(&world, person(&world, "ann", &[]).await, "orders", step).await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_final() {
    let world = World::new("final").await;
    with_a_step(&world).await;
    at_the_gate(&world, "orders").await;
    world.decide("qa", "orders", "Approved").await.unwrap();
    let decided = world.until_request("orders", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    for (what, change) in [
        ("revert the decision", json!({"status": {"approval": {"decision": "Rejected"}}})),
        ("edit the comment", json!({"status": {"approval": {"comments": "rewritten"}}})),
        ("remove the decision", json!({"status": {"approval": null}})),
        ("remove the whole status", json!({"status": null})),
        ("change who decided", json!({"status": {"approval": {"by": "somebody"}}})),
    ] {
        for (who, client) in [
            ("the delegate", world.bot("qa").await),
            ("the cluster's administrator", world.admin.clone()),
            ("the operator", client(operator(&world)).await),
        ] {
            let attempt = patch_status(&world, client, "orders", change.clone());
            refused(17, &format!("{what}, by {who}"), attempt, 422, &["status.approval is written once"]).await;
        }
    }
    let after = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    assert_eq!(after.status.unwrap().approval, decided.status.unwrap().approval);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_decisions_at_once_one_wins() {
    const ROUNDS: usize = 60;
    let world = World::new("race").await;
    with_a_step(&world).await;
    orders(&world).await;
    let names: Vec<String> = (0..ROUNDS).map(|n| format!("orders-{n}")).collect();
    for name in &names {
        world.ask(&world.request(name, "qa", "orders", "1.0.0")).await;
    }
    let (one, other) = (world.bot("qa").await, world.bot("qa").await);
    let (mut approved, mut rejected) = (0, 0);
    for name in &names {
        world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
        let (yes, no) = tokio::join!(world.approve_as(one.clone(), name, "Approved"), world.approve_as(other.clone(), name, "Rejected"));
        let winner = match (yes, no) {
            (Ok(_), Err(lost)) => ("Approved", lost),
            (Err(lost), Ok(_)) => ("Rejected", lost),
            both => panic!("{name}: {both:?}"),
        };
        match winner.1 {
            // The loser saw the other's write, or the end that followed it.
            Error::Api(status) => assert!(status.code == 422 || status.code == 409, "{name}: {status:?}"),
            error => panic!("{name}: {error:?}"),
        }
        if winner.0 == "Approved" {
            approved += 1;
        } else {
            rejected += 1;
        }
        let settled = world.until_request(name, |r| ended(r) || phase(r) == "AwaitingPreDeploymentStep").await;
        assert_eq!(decision(&settled).as_deref(), Some(winner.0), "{name}");
        assert_eq!(phase(&settled) == "Rejected", winner.0 == "Rejected", "{name}: {:?}", settled.status);
    }
    ignored(
        18,
        &format!("{ROUNDS} times an approval and a rejection at once: {approved} approved, {rejected} rejected"),
        approved + rejected == ROUNDS,
        &(),
    );
}

fn decision(request: &DeploymentRequest) -> Option<String> {
    request.status.as_ref()?.approval.as_ref().map(|a| format!("{:?}", a.decision))
}
