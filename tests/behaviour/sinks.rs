//! The sinks of a pipeline are told what happens to its requests: signed, in order, at least once, and without delaying anything.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Pipeline, Stage};
use serde_json::{Value, json};

use crate::receiver::{Answer, KEY, Receiver};
use crate::world::{World, outcome, phase};

const ALL: [&str; 7] = [
    "OnDeploymentRequested",
    "OnApprovalStarted",
    "OnApprovalCompleted",
    "OnPreDeploymentStarted",
    "OnPreDeploymentCompleted",
    "OnDeploymentStarted",
    "OnDeploymentCompleted",
];
const DELEGATED: [&str; 5] =
    ["OnDeploymentRequested", "OnApprovalStarted", "OnApprovalCompleted", "OnDeploymentStarted", "OnDeploymentCompleted"];

/// A world with solution `orders` 1.0.0, ready to be requested.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
    world
}

fn signed(url: &str) -> Value {
    json!({"url": url, "signingSecretRef": {"name": "sink", "key": "key"}})
}

/// The signing key, and the operator's right to read it.
pub async fn key(world: &World) {
    let metadata = json!({"name": "sink", "namespace": world.host});
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["sink"], "verbs": ["get"]}]);
    let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sink"});
    world
        .apply(&[
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"key": KEY}}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": operator}),
        ])
        .await;
}

/// Gives the pipeline its sinks, and waits until the dispatcher has noticed them.
pub async fn with_sinks(world: &World, sinks: Value) {
    let count = sinks.as_array().unwrap().len();
    let pipelines: Api<Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": {"sinks": sinks}}))).await.unwrap();
    world
        .until("the sinks are known", async || {
            pipelines.get("standard").await.unwrap().status.filter(|s| s.sinks.len() == count).map(|_| ())
        })
        .await;
}

async fn told(world: &World, sink: &Receiver, request: &str, triggers: &[&str]) {
    let what = format!("the sink is told {triggers:?} of {request}");
    world.until(&what, async || (sink.triggers(request).len() >= triggers.len()).then_some(())).await;
    assert_eq!(sink.triggers(request), triggers);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_trigger_arrives_once_in_its_order_and_signed() {
    let world = world("sinks").await;
    let sink = Receiver::start().await;
    key(&world).await;
    with_sinks(&world, json!([signed(&sink.url())])).await;
    let mut careful = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    careful["spec"]["preDeploymentStepRequired"] = true.into();
    world.apply_as(&world.olga().await, &careful).await.unwrap();
    world.ready::<Stage>("qa").await;

    let mut asked = world.request("to-qa", "qa", "orders", "1.0.0");
    asked.spec.notes = Some("for the summer sale".into());
    asked.spec.on_behalf_of = Some("dana's boss".into());
    asked.spec.scheduled_time = Some("2026-01-01T00:00:00Z".into());
    let asked = world.ask(&asked).await;
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    // A person takes a while. The operator doesn't need to.
    told(&world, &sink, "to-qa", &ALL[..2]).await;
    world.decide("qa", "to-qa", "Approved").await.unwrap();
    world.until_request("to-qa", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let completed = Patch::Merge(json!({"status": {"preDeploymentStep": {"decision": "Completed", "comments": "checked"}}}));
    let as_eve = Api::<DeploymentRequest>::namespaced(world.eve().await, &world.host);
    as_eve.patch_status("to-qa", &PatchParams::default(), &completed).await.unwrap();
    let ended = world.end("to-qa").await;
    told(&world, &sink, "to-qa", &ALL).await;

    let taken = sink.taken();
    assert_eq!(taken.len(), ALL.len(), "each once");
    sink.check_ids();
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    let digest = &ended.status.as_ref().unwrap().run.artifact.as_ref().unwrap().digest;
    for delivery in &taken {
        delivery.verify();
        let (event, data) = (&delivery.event, &delivery.event["data"]);
        assert_eq!(delivery.header("content-type"), "application/cloudevents+json; charset=utf-8");
        for header in ["authorization", "cookie", "impersonate-user"] {
            assert!(!delivery.headers.contains_key(header), "{header}");
        }
        assert_eq!((&event["specversion"], &event["subject"]), (&json!("1.0"), &json!("to-qa")));
        assert_eq!(event["type"], format!("dev.pilotage.{}", delivery.trigger()));
        assert_eq!(event["source"], format!("/apis/pilotage.dev/v1alpha1/namespaces/{}/pipelines/standard", world.host));
        assert!(event["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{event}");
        let wanted = json!({
            "request": {"name": "to-qa", "uid": asked.metadata.uid}, "host": world.host, "pipeline": "standard", "stage": "qa",
            "environment": "qa", "deployAs": bot, "requestedBy": "dana", "onBehalfOf": "dana's boss",
            "scheduledTime": "2026-01-01T00:00:00Z", "notes": "for the summer sale",
        });
        for (field, value) in wanted.as_object().unwrap() {
            assert_eq!(data[field], *value, "{field} of {}", delivery.trigger());
        }
        assert_eq!((&data["artifact"]["name"], &data["artifact"]["version"]), (&json!("orders-1.0.0"), &json!("1.0.0")));
        if delivery.trigger() != "OnDeploymentRequested" {
            assert_eq!(data["artifact"]["digest"], **digest);
        }
    }
    let hash = &waiting.status.unwrap().run.plan.unwrap().hash;
    assert_eq!((&taken[1].event["data"]["planHash"], &taken[1].event["data"]["approver"]), (&json!(hash), &json!(bot)));
    assert_eq!(taken[1].event["data"]["plan"]["create"], 1);
    assert_eq!(taken[2].event["data"]["decision"], json!({"decision": "Approved", "by": bot, "comments": "as tested", "onBehalfOf": null}));
    assert_eq!(taken[4].event["data"]["decision"]["by"], "eve");
    assert_eq!(taken[6].event["data"]["outcome"], json!({"phase": "Succeeded", "reason": "Succeeded", "message": outcome(&ended).1}));

    // Nothing that people can read contains the key.
    let pipeline = world.plane.kubectl().ok(&["get", "pipelines,deploymentrequests,events", "-n", &world.host, "-o", "yaml"]).unwrap();
    assert!(!pipeline.contains(KEY.trim_start_matches("whsec_")) && !pipeline.contains("canary-canary"));
    let (reason, message) = world.condition::<Pipeline>("standard", "SinksDelivering").await.unwrap();
    assert_eq!((reason.as_str(), message.as_str()), ("Delivering", "what happens is sent to 1 sinks"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_is_down_holds_up_neither_deployments_nor_other_sinks_and_is_told_all_later() {
    let world = world("sink-down").await;
    let (mut down, well) = (Receiver::start().await, Receiver::start().await);
    with_sinks(&world, json!([{"url": down.url()}, {"url": well.url()}])).await;
    down.stop();
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");
    assert_eq!(phase(&world.deploy("to-prod", "prod", "orders", "1.0.0").await), "Succeeded");
    for request in ["to-qa", "to-prod"] {
        told(&world, &well, request, &DELEGATED).await;
    }
    assert!(down.came().is_empty());
    let failing = world.until_condition::<Pipeline>("standard", "SinksDelivering", "SinkFailing").await;
    let origin = down.url().replace("/hooks", "");
    for words in [
        format!("spec.sinks[0] ({origin}): triggers of "),
        " requests wait, since 20".into(),
        "no deployment waits for it".into(),
        "it could not be reached: ".into(),
    ] {
        assert!(failing.contains(&words), "{words}: {failing}");
    }
    assert!(!failing.contains("spec.sinks[1]"), "{failing}");
    let ready = world.condition::<Pipeline>("standard", "Ready").await.unwrap().0;
    assert_eq!(ready, "Ready", "it can be used");

    down.resume().await;
    for request in ["to-qa", "to-prod"] {
        told(&world, &down, request, &DELEGATED).await;
    }
    down.check_ids();
    world.until_condition::<Pipeline>("standard", "SinksDelivering", "Delivering").await;
    let sinks = Api::<Pipeline>::namespaced(world.admin.clone(), &world.host).get("standard").await.unwrap().status.unwrap().sinks;
    assert!(sinks.iter().all(|s| s.waiting == 0 && s.failing_since.is_none() && s.last_error.is_none()), "{sinks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_with_500_or_never_is_sent_again_under_the_same_id() {
    let world = world("sink-ill").await;
    let sink = Receiver::start().await;
    let mut seen = BTreeSet::new();
    // The first attempt at every delivery fails. One of them gets no answer.
    sink.answer(move |d| match seen.insert(d.event["id"].as_str().unwrap().to_owned()) {
        true if d.trigger() == "OnApprovalStarted" => Answer::Never,
        true => Answer::Body(500, "canary".into()),
        false => Answer::Late(204, Duration::from_millis(100)),
    });
    with_sinks(&world, json!([{"url": sink.url()}])).await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");
    told(&world, &sink, "to-qa", &DELEGATED).await;
    sink.check_ids();
    let came: Vec<_> = sink.came().iter().map(|d| (d.trigger().to_owned(), d.taken)).collect();
    let twice: Vec<_> = DELEGATED.iter().flat_map(|t| [((*t).to_owned(), false), ((*t).to_owned(), true)]).collect();
    assert_eq!(came, twice, "nothing is sent before what comes before it was taken");
    let bodies: BTreeSet<Vec<u8>> = sink.came().into_iter().map(|d| d.body).collect();
    assert_eq!(bodies.len(), DELEGATED.len(), "what is sent again is the same");
    let unsigned = sink.came().iter().all(|d| !d.headers.contains_key("webhook-signature") && !d.header("webhook-id").is_empty());
    assert!(unsigned, "a sink without a key gets no signature");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_that_a_sink_never_takes_does_not_hold_up_the_others() {
    let world = world("sink-poison").await;
    let sink = Receiver::start().await;
    sink.answer(|d| if d.request() == "poison" { Answer::Code(400) } else { Answer::Code(200) });
    with_sinks(&world, json!([{"url": sink.url()}])).await;
    world.ask(&world.request("poison", "prod", "orders", "1.0.0")).await;
    assert_eq!(phase(&world.end("poison").await), "Failed");
    world.until("the poison was tried", async || sink.came().iter().any(|d| d.request() == "poison").then_some(())).await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");
    told(&world, &sink, "to-qa", &DELEGATED).await;
    let failing = world.until_condition::<Pipeline>("standard", "SinksDelivering", "SinkFailing").await;
    assert!(failing.contains("triggers of 1 requests wait") && failing.contains("it answered 400 Bad Request"), "{failing}");
    let came: BTreeSet<String> = sink.came().iter().filter(|d| d.request() == "poison").map(|d| d.trigger().to_owned()).collect();
    assert_eq!(came.into_iter().collect::<Vec<_>>(), ["OnDeploymentRequested"], "its order is kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signing_key_that_can_not_be_used_is_said_with_what_to_do() {
    let world = world("sink-key").await;
    let sink = Receiver::start().await;
    with_sinks(&world, json!([signed(&sink.url())])).await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");
    let said = world.until_condition::<Pipeline>("standard", "SinksDelivering", "SigningKeyNotUsable").await;
    assert!(said.contains(&format!("the operator may not read the signing Secret sink in namespace {}", world.host)), "{said}");
    let grant = &said[said.find("apiVersion").unwrap()..];
    assert!(grant.contains(r#"resources: [secrets], resourceNames: ["sink"], verbs: ["get"]"#), "{grant}");
    world.plane.kubectl().apply(grant).unwrap();

    let says = async |words: &str| {
        let what = format!("the condition says {words:?}");
        let look = async || world.condition::<Pipeline>("standard", "SinksDelivering").await.filter(|(_, m)| m.contains(words)).map(|_| ());
        world.until(&what, look).await;
    };
    says("the signing Secret sink does not exist in namespace").await;
    says("--from-literal=key=\"whsec_$(openssl rand -base64 32)\"").await;
    let secrets: Api<Secret> = Api::namespaced(world.admin.clone(), &world.host);
    let write = async |data: Value| {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sink"}, "stringData": data});
        secrets.patch("sink", &PatchParams::apply("test").force(), &Patch::Apply(&secret)).await.unwrap();
    };
    write(json!({"other": KEY})).await;
    says("has no key key").await;
    write(json!({"key": "canary-canary-canary"})).await;
    says("is not whsec_ followed by base64").await;
    let text = world.condition::<Pipeline>("standard", "SinksDelivering").await.unwrap().1;
    assert!(!text.contains("canary"), "{text}");
    assert!(sink.came().is_empty(), "nothing is sent unsigned");
    write(json!({"key": KEY})).await;
    told(&world, &sink, "to-qa", &DELEGATED).await;
    sink.taken().iter().for_each(super::receiver::Delivery::verify);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_sinks_nothing_is_written_and_with_them_one_write_records_many_triggers() {
    let world = world("sink-cost").await;
    let written = || world.operator_writes(&world.host, false).iter().filter(|c| c.resource == "pipelines").count();
    let ready = written();
    assert_eq!(phase(&world.deploy("without", "qa", "orders", "1.0.0").await), "Succeeded");
    assert_eq!(written(), ready, "a request writes nothing to its pipeline");

    let (first, second) = (Receiver::start().await, Receiver::start().await);
    with_sinks(&world, json!([{"url": first.url()}, {"url": second.url()}])).await;
    let (before, start) = (written(), std::time::Instant::now());
    let names: Vec<String> = (0..8).map(|n| format!("solution-{n}")).collect();
    for name in &names {
        world.apply(&[world.solution(name, "1.0.0"), world.config(name, name, json!({"greeting": "hello"}))]).await;
        world.ask(&world.request(name, "qa", name, "1.0.0")).await;
    }
    let ends = futures::future::join_all(names.iter().map(|name| world.approved(name, "qa"))).await;
    assert!(ends.iter().all(|r| phase(r) == "Succeeded"));
    for name in &names {
        told(&world, &first, name, &DELEGATED).await;
        told(&world, &second, name, &DELEGATED).await;
    }
    let most = usize::try_from(start.elapsed().as_secs()).unwrap() + 2;
    let records = written() - before;
    println!("{} triggers to two sinks were recorded in {records} writes", names.len() * DELEGATED.len());
    assert!((1..=most).contains(&records), "{records} writes, {most} at the most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_told_what_it_asks_for_and_of_the_end_of_deleted_requests() {
    let world = world("sink-some").await;
    let (all, some) = (Receiver::start().await, Receiver::start().await);
    // It was created before there was a sink, and has not ended: a new sink is told about it.
    world.ask(&world.request("early", "qa", "orders", "1.0.0")).await;
    world.until_request("early", |r| phase(r) == "AwaitingApproval").await;
    let chosen = ["OnApprovalStarted", "OnDeploymentCompleted"];
    with_sinks(&world, json!([{"url": all.url()}, {"url": some.url(), "triggers": chosen}])).await;
    told(&world, &all, "early", &DELEGATED[..2]).await;
    told(&world, &some, "early", &chosen[..1]).await;

    Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host).delete("early", &DeleteParams::default()).await.unwrap();
    told(&world, &all, "early", &["OnDeploymentRequested", "OnApprovalStarted", "OnDeploymentCompleted"]).await;
    told(&world, &some, "early", &chosen).await;
    let last = all.taken().pop().unwrap();
    let outcome = &last.event["data"]["outcome"];
    assert_eq!((&outcome["phase"], &outcome["reason"]), (&json!("Canceled"), &json!("Deleted")));
    assert_eq!(last.event["data"]["requestedBy"], "dana");

    world.ask(&world.request("rejected", "qa", "orders", "1.0.0")).await;
    world.until_request("rejected", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "rejected", "Rejected").await.unwrap();
    told(&world, &all, "rejected", &["OnDeploymentRequested", "OnApprovalStarted", "OnApprovalCompleted", "OnDeploymentCompleted"]).await;
    told(&world, &some, "rejected", &chosen).await;
    let rejected = all.taken().into_iter().find(|d| d.request() == "rejected" && d.trigger() == "OnApprovalCompleted").unwrap();
    assert_eq!(
        (&rejected.event["data"]["decision"]["decision"], &rejected.event["data"]["decision"]["comments"]),
        (&json!("Rejected"), &json!("as tested"))
    );

    // Without sinks, nothing of them is left.
    with_sinks(&world, json!([])).await;
    world
        .until("the condition is gone", async || world.condition::<Pipeline>("standard", "SinksDelivering").await.is_none().then_some(()))
        .await;
}
