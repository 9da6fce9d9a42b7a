//! What refusals say, and to whom: one clear sentence, nothing that is hidden, and for a decision that it was already made.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused, told};
use crate::proof;
use crate::scene::{at_the_gate, delegate, grant, patch_status, person, requests, until_may, user, with_a_step};
use crate::world::{World, phase};

/// No technical text comes before the message itself.
fn is_clean(message: &str) {
    for trick in ["expression", "no such key", "JSONPatch", "resulted in error"] {
        assert!(!message.contains(trick), "{trick:?} is said: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stranger_wrote_is_quoted_by_nobody() {
    let world = World::new("quoted").await;
    let mut secret = world.request("orders", "qa", "orders", "1.0.0");
    secret.spec.notes = Some("Canary, told to nobody".into());
    world.ask(&secret).await;
    let rules =
        json!([{"apiGroups": ["pilotage.dev"], "resources": ["deploymentrequests", "deploymentrequests/status"], "verbs": ["patch"]}]);
    grant(&world, "peeper", rules, &user("dan")).await;
    until_may(&world, "dan", &["makers"], "patch", "deploymentrequests.pilotage.dev").await;
    let dan = person(&world, "dan", &["makers"]).await;
    let change = ("pilotage-request-change", "a request is changed and deleted only by its requester");
    let status = ("pilotage-request-status", "the gate is not open yet or is not yours");
    for (subresource, path, (policy, sentence)) in
        [("", "/spec/pipeline", change), ("", "/metadata/labels/copied", change), ("/status", "/status/conditions/0/status", status)]
    {
        let labels = json!({"op": "add", "path": "/metadata/labels", "value": {}});
        let copy = json!([labels, {"op": "copy", "from": "/spec/notes", "path": path}]);
        let what = format!("a hidden sentence is copied to {path}, where the server would quote it");
        let attempt = async {
            let api = requests(&world, dan.clone());
            let mut call = kube::core::Request::new(api.resource_url())
                .patch(&format!("orders{subresource}"), &PatchParams::default(), &Patch::Merge(&copy))
                .map_err(kube::Error::BuildRequest)?;
            call.headers_mut().insert("content-type", "application/json-patch+json".parse().unwrap());
            let answer = dan.request::<Value>(call).await;
            if let Err(error) = &answer {
                assert!(!error.to_string().contains("Canary"), "the refusal leaks: {error}");
                is_clean(&error.to_string());
            }
            answer
        };
        refused(225, &what, attempt, 403, &[sentence]).await;
        proof::undone(225, &what, policy, "Canary").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_with_a_misspelt_field_decides_nothing() {
    let world = World::new("misspelt").await;
    with_a_step(&world).await;
    at_the_gate(&world, "orders").await;
    let bot = world.bot("qa").await;
    let decide = |decision: Value| patch_status(&world, bot.clone(), "orders", json!({"status": {"approval": decision}}));
    let words = ["status.approval has a field that no decision has, comment", "nothing was decided"];
    refused(
        226,
        "an approval with a misspelt comment",
        decide(json!({"decision": "Approved", "comment": "for the auditors"})),
        422,
        &words,
    )
    .await;
    for (what, patch, words) in [
        ("an approval with a misspelt decision", json!({"approval": {"decison": "Approved"}}), "status.approval.decision: Required value"),
        ("a word in place of an approval", json!({"approval": "Approved"}), "must be of type object"),
    ] {
        let refused = patch_status(&world, bot.clone(), "orders", json!({"status": patch})).await.unwrap_err().to_string();
        is_clean(&refused);
        told(226, what, &refused, &[words]);
    }
    let attempt = patch_status(&world, bot.clone(), "orders", json!({"status": {"aproval": {"decision": "Approved"}}}));
    refused(226, "a misspelt approval", attempt, 403, &["approvers write exactly one of status.preExportStep, status.approval"]).await;
    let seen = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    ignored(226, "the gate after all that", seen.status.as_ref().unwrap().approval.is_none(), &seen.status);

    decide(json!({"decision": "Approved", "comments": "for the auditors", "properties": {"anything": "goes"}})).await.unwrap();
    world.until_request("orders", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let step = json!({"status": {"preDeploymentStep": {"decision": "Completed", "planHash": "sha256:0"}}});
    let words = ["status.preDeploymentStep has a field that no decision has, planHash"];
    refused(226, "a step with a field of the approval", patch_status(&world, world.eve().await, "orders", step), 422, &words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_decision_is_told_who_made_the_first() {
    let world = World::new("second").await;
    with_a_step(&world).await;
    at_the_gate(&world, "orders").await;
    world.decide("qa", "orders", "Approved").await.unwrap();
    world.until_request("orders", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let bot = delegate(&world, "qa");
    let first = format!("Approved by {bot}");
    let words = ["status.approval is written once", "decided already", &first];
    refused(227, "another decision after the first", world.decide("qa", "orders", "Rejected"), 422, &words).await;
    let words = ["status.approval was decided already", &first];
    refused(227, "the same decision again", world.decide("qa", "orders", "Approved"), 403, &words).await;
    let both = json!({"status": {"approval": null, "preDeploymentStep": {"decision": "Completed"}}});
    refused(227, "a decision in place of the first", patch_status(&world, world.eve().await, "orders", both), 422, &[&first]).await;
    let message = world.decide("qa", "orders", "Rejected").await.unwrap_err().to_string();
    assert!(!message.contains("<nil>"), "{message}");
}
