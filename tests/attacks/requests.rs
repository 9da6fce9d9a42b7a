//! Attacks on requests before they run: who asks, what a request contains, and who reads and changes it.

use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused};
use crate::scene::{at_the_gate, create, grant, orders, patch, person, requests, shared, until_may, user};
use crate::world::{World, ended, outcome, phase};

fn wanted(world: &World, name: &str) -> Value {
    serde_json::to_value(world.request(name, "qa", "orders", "1.0.0")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_asks_in_somebody_elses_name() {
    let world = World::new("forged").await;
    let dana = world.dana().await;
    let forge = |requested_by: Value| {
        let mut request = wanted(&world, "forged");
        request["spec"]["requestedBy"] = requested_by;
        request
    };
    let words = ["spec.requestedBy is not you (dana)", "leave it out"];
    for (what, requester) in [
        ("another user as the requester", json!({"username": "olga"})),
        (
            "a group that the requester is not in",
            json!({"username": "dana", "groups": ["makers", "system:authenticated", "system:masters"]}),
        ),
        ("a uid that the requester does not have", json!({"username": "dana", "uid": "made-up"})),
    ] {
        refused(1, what, create(&world, dana.clone(), &forge(requester)), 403, &words).await;
    }
    let stranger = person(&world, "stranger", &[]).await;
    refused(1, "somebody without a role asks", create(&world, stranger, &wanted(&world, "strange")), 403, &["stranger", "cannot create"])
        .await;
    // Even with a role from elsewhere, the pipeline's own list decides.
    let rules = json!([{"apiGroups": ["pilotage.dev"], "resources": ["deploymentrequests"], "verbs": ["create"]}]);
    grant(&world, "outsider", rules, &user("outsider")).await;
    until_may(&world, "outsider", &[], "create", "deploymentrequests.pilotage.dev").await;
    let outsider = person(&world, "outsider", &[]).await;
    let words = ["outsider may not deploy through pipeline", "sharedWith"];
    refused(1, "somebody whom the pipeline is not shared with asks", create(&world, outsider, &wanted(&world, "outside")), 403, &words)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_shared_with_everybody() {
    let world = World::new("everybody").await;
    let dana = world.dana().await;
    let sharing = |kind: &str, name: &str| {
        let mut request = wanted(&world, "everybody");
        request["spec"]["shareWith"] = json!([{"kind": kind, "name": name, "clusterRole": "view"}]);
        request
    };
    let words = ["nothing is shared with users and groups of the system", "name your own"];
    for (what, kind, name) in [
        ("a share with whoever does not even log in", "Group", "system:unauthenticated"),
        ("a share with whoever logs in", "Group", "system:authenticated"),
        ("a share with a user of the system", "User", "system:anonymous"),
    ] {
        refused(142, what, create(&world, dana.clone(), &sharing(kind, name)), 422, &words).await;
    }
    create(&world, dana, &sharing("Group", "qa-team")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_starts_empty_and_stays_as_it_was_asked() {
    let world = shared("altered").await;
    orders(&world).await;
    let dana = world.dana().await;
    let mut born_approved = wanted(&world, "orders");
    born_approved["status"] =
        json!({"approval": {"decision": "Approved", "by": "olga"}, "phase": "Succeeded", "endTime": "2026-01-01T00:00:00Z"});
    let made = create(&world, dana.clone(), &born_approved).await.unwrap();
    // What the schema says about an object that nobody has reconciled.
    let untouched =
        made["status"]["observedGeneration"] == -1 && made["status"].get("approval").is_none() && made["status"].get("phase").is_none();
    ignored(2, "a status in the body of a creation", untouched && made["status"].get("endTime").is_none(), &made);

    world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    let immutable = ["spec is immutable but for cancel and scheduledTime", "make a new request"];
    for (what, change) in [
        ("another version after creation", json!({"solution": {"version": "9.9.9"}})),
        ("another stage after creation", json!({"stage": "prod"})),
        ("another requester after creation", json!({"requestedBy": {"username": "olga"}})),
        ("settings after creation", json!({"deploymentSettings": {"environmentVariables": [{"name": "A", "value": "b"}]}})),
    ] {
        refused(3, what, patch(&world, dana.clone(), "orders", json!({"spec": change})), 422, &immutable).await;
        refused(
            3,
            &format!("{what}, by an administrator"),
            patch(&world, world.olga().await, "orders", json!({"spec": change})),
            422,
            &immutable,
        )
        .await;
    }

    let before = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    let approval = json!({"status": {"approval": {"decision": "Approved", "by": "olga", "planHash": "0"}, "phase": "Succeeded"}});
    patch(&world, dana, "orders", approval.clone()).await.unwrap();
    patch(&world, world.admin.clone(), "orders", approval).await.unwrap();
    let after = requests(&world, world.admin.clone()).get("orders").await.unwrap();
    ignored(4, "a status through the main resource", before.status == after.status, &after.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_that_would_hold_or_hide_a_request_is_refused() {
    let world = shared("metadata").await;
    orders(&world).await;
    let dana = world.dana().await;
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "none", "uid": "00000000-0000-0000-0000-000000000000"}]);
    let with = |key: &str, value: &Value| {
        let mut request = wanted(&world, "held");
        request["metadata"][key] = value.clone();
        request
    };
    let words = ["without finalizers and ownerReferences", "leave metadata.finalizers"];
    let finalizers = json!(["example.test/hold"]);
    refused(24, "a finalizer at creation", create(&world, dana.clone(), &with("finalizers", &finalizers)), 403, &words).await;
    refused(24, "an owner at creation", create(&world, dana.clone(), &with("ownerReferences", &owner)), 403, &words).await;
    let mark = json!({"pilotage.dev/mark": "x"});
    for key in ["labels", "annotations"] {
        let what = format!("Pilotage's own {key} at creation");
        refused(25, &what, create(&world, dana.clone(), &with(key, &mark)), 403, &["begin with pilotage.dev/ are the operator's"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn makers_do_not_see_each_others_requests() {
    let world = World::new("private").await;
    let mut secret = wanted(&world, "orders");
    secret["spec"]["notes"] = "canary-in-notes".into();
    create(&world, world.dana().await, &secret).await.unwrap();
    let dan = person(&world, "dan", &["makers"]).await;
    let api = requests(&world, dan.clone());
    refused(44, "another maker's request is read", api.get("orders"), 403, &["dan", "cannot get"]).await;
    refused(44, "all requests are listed", api.list(&ListParams::default()), 403, &["dan", "cannot list"]).await;
    refused(44, "another maker's request is patched", patch(&world, dan.clone(), "orders", json!({})), 403, &["dan", "cannot patch"]).await;
    refused(44, "another maker's request is deleted", api.delete("orders", &DeleteParams::default()), 403, &["only by its requester"])
        .await;
}

/// A request of dana with a hidden text, and somebody who may patch but not get: a maker with a Role from a careless administrator.
async fn peeper(world: &World) -> kube::Client {
    let mut secret = wanted(world, "orders");
    secret["spec"]["notes"] = "canary-in-notes".into();
    create(world, world.dana().await, &secret).await.unwrap();
    let rules = json!([{"apiGroups": ["pilotage.dev"], "resources": ["deploymentrequests", "deploymentrequests/status"], "verbs": ["create", "patch"]}]);
    grant(world, "peeper", rules, &user("dan")).await;
    until_may(world, "dan", &["makers"], "patch", "deploymentrequests.pilotage.dev").await;
    person(world, "dan", &["makers"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn patching_does_not_read_somebody_elses_request() {
    let world = World::new("peek").await;
    let api = requests(&world, peeper(&world).await);
    let own = ["only by its requester", "administer"];
    let dry = PatchParams { dry_run: true, ..Default::default() };
    let merge = |value: Value| Patch::Merge(value);
    refused(45, "an empty patch", api.patch("orders", &PatchParams::default(), &merge(json!({}))), 403, &own).await;
    refused(45, "an empty dry-run patch", api.patch("orders", &dry, &merge(json!({}))), 403, &own).await;
    let same = json!({"spec": {"stage": "qa"}});
    refused(45, "a patch that changes nothing", api.patch("orders", &PatchParams::default(), &merge(same)), 403, &own).await;
    let gate = ["the gate is not open yet or is not yours"];
    refused(45, "an empty patch of the status", api.patch_status("orders", &dry, &merge(json!({}))), 403, &gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copying_within_somebody_elses_request_does_not_read_it() {
    let world = World::new("copied").await;
    let dan = peeper(&world).await;
    let (own, gate) = (["only by its requester", "administer"], ["the gate is not open yet or is not yours"]);
    for (subresource, path) in [("", "/spec/scheduledTime"), ("", "/spec/pipeline"), ("/status", "/status/phase")] {
        let copy = json!([{"op": "copy", "from": "/spec/notes", "path": path}]);
        let what = format!("a hidden field is copied to {path}");
        let attempt = async {
            let answer = json_patch(&world, &dan, &format!("orders{subresource}"), &copy).await;
            if let Err(error) = &answer {
                assert!(!error.to_string().contains("canary"), "the refusal leaks: {error}");
            }
            answer
        };
        refused(53, &what, attempt, 403, if subresource.is_empty() { &own[..] } else { &gate[..] }).await;
    }
}

async fn json_patch(world: &World, who: &kube::Client, name: &str, operations: &Value) -> kube::Result<Value> {
    let api = requests(world, who.clone());
    let mut call = kube::core::Request::new(api.resource_url())
        .patch(name, &PatchParams::default(), &Patch::Merge(operations))
        .map_err(kube::Error::BuildRequest)?;
    call.headers_mut().insert("content-type", "application/json-patch+json".parse().unwrap());
    who.request(call).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_is_neither_decided_nor_canceled() {
    let world = shared("over").await;
    at_the_gate(&world, "orders").await;
    let canceled = patch(&world, world.dana().await, "orders", json!({"spec": {"cancel": true}})).await.unwrap();
    assert!(canceled.spec.cancel);
    let end = world.end("orders").await;
    assert_eq!(phase(&end), "Canceled", "{:?}", outcome(&end));
    let frozen = ["has ended"];
    refused(56, "an approval after the end", world.decide("qa", "orders", "Approved"), 422, &frozen).await;
    let words = ["cancel can't be taken back"];
    refused(56, "a cancellation taken back", patch(&world, world.dana().await, "orders", json!({"spec": {"cancel": false}})), 422, &words)
        .await;

    world.deploy("again", "qa", "orders", "1.0.0").await;
    let words = ["the request has ended: there is nothing to cancel"];
    refused(56, "a cancellation after the end", patch(&world, world.dana().await, "again", json!({"spec": {"cancel": true}})), 422, &words)
        .await;
    let after = world.until_request("again", ended).await;
    ignored(56, "the outcome after all that", phase(&after) == "Succeeded", &outcome(&after));
}
