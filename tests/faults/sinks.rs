//! Sinks when both sides fail: the receiver is down, slow and wrong, and the operator is killed while it sends and while it records. Every
//! trigger arrives, in order, with the same id each time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use pilotage::api::pipeline::Trigger;
use pilotage::api::{DeploymentRequest, Pipeline};
use serde_json::json;

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};
use crate::proxy::{Action, Call};
use crate::receiver::{Answer, KEY, Receiver};
use crate::world::{World, phase};

const DELEGATED: [&str; 5] =
    ["OnDeploymentRequested", "OnApprovalStarted", "OnApprovalCompleted", "OnDeploymentStarted", "OnDeploymentCompleted"];

/// Gives the pipeline a sink with a key that the operator may read.
async fn with_sink(world: &World, sink: &Receiver) {
    let metadata = json!({"name": "sink", "namespace": world.host});
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["sink"], "verbs": ["get"]}]);
    let operator = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sink"});
    world
        .apply(&[
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": role, "subjects": operator}),
        ])
        .await;
    let secret: Secret = serde_json::from_value(json!({"metadata": metadata, "stringData": {"key": KEY}})).unwrap();
    Api::namespaced(world.admin.clone(), &world.host).create(&PostParams::default(), &secret).await.unwrap();
    let sinks = json!([{"url": sink.url(), "signingSecretRef": {"name": "sink", "key": "key"}}]);
    let pipelines: Api<Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": {"sinks": sinks}}))).await.unwrap();
}

/// Whether everything is recorded: nothing is open, and nothing waits.
async fn until_recorded(world: &World) {
    let pipelines: Api<Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
    let all: Api<DeploymentRequest> = Api::namespaced(world.admin.clone(), &world.host);
    world
        .until("all that was told is recorded", async || {
            let sink = pipelines.get("standard").await.ok()?.status?.sinks.pop()?;
            let requests = all.list(&kube::api::ListParams::default()).await.ok()?.items;
            let listed = |r: &DeploymentRequest| sink.cursor.done.contains(r.metadata.uid.as_ref().unwrap());
            let passed = |r: &DeploymentRequest| r.metadata.creation_timestamp.as_ref().unwrap().0 < sink.cursor.since;
            (sink.cursor.open.is_empty() && requests.iter().all(|r| listed(r) || passed(r))).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_on_either_side_every_trigger_arrives_in_order_under_one_id() {
    let world = fixture::world(fixture::shared(), "sinks").await;
    let mut sink = Receiver::start().await;
    // The operator is killed before and after writes of its progress, alternately.
    let mut writes = 0;
    let mut fixture = Fixture::start(&world, |proxy| {
        proxy.follow(Box::new(move |call: &Call| {
            if call.write.is_none() || !call.line.ends_with("/pipelines/standard/status") {
                return Action::Forward;
            }
            writes += 1;
            match writes {
                4 | 10 => Action::CrashBefore,
                7 | 13 => Action::CrashAfter,
                _ => Action::Forward,
            }
        }));
    })
    .await;
    let mut requests: Vec<String> = Vec::new();
    let solutions = ["first", "second", "third", "fourth"];
    fixture
        .tending(async {
            world.configure().await;
            with_sink(&world, &sink).await;
            for (round, name) in solutions.iter().enumerate() {
                match round {
                    // The receiver is down.
                    0 => sink.stop(),
                    // It gives a wrong answer two times out of three, and is slow.
                    1 => {
                        sink.resume().await;
                        let mut count = 0;
                        sink.answer(move |_| {
                            count += 1;
                            if count % 3 == 0 { Answer::Late(200, Duration::from_millis(200)) } else { Answer::Code(500) }
                        });
                    }
                    // It does not answer the first delivery of each trigger of this request. What it may have accepted comes again.
                    2 => {
                        let mut seen = BTreeSet::new();
                        sink.answer(move |d| {
                            let new = seen.insert(d.event["id"].as_str().unwrap().to_owned());
                            if new && d.trigger() == "OnDeploymentStarted" { Answer::Never } else { Answer::Code(202) }
                        });
                    }
                    _ => sink.accept(),
                }
                world.apply(&[world.solution(name, "1.4.0"), world.config(name, name, json!({"greeting": "hello"}))]).await;
                for stage in ["qa", "prod"] {
                    let request = format!("{name}-{stage}");
                    world.ask(&world.request(&request, stage, name, "1.4.0")).await;
                    life::end(&world, &request, stage).await;
                    requests.push(request);
                }
            }
            for request in &requests {
                let what = format!("the sink is told all of {request}");
                world.until(&what, async || (sink.triggers(request).len() >= DELEGATED.len()).then_some(())).await;
            }
            until_recorded(&world).await;
        })
        .await;
    assert!(fixture.restarts() >= 2, "{} restarts\n{}", fixture.restarts(), life::writes_and_log(&fixture));

    for request in &requests {
        assert_eq!(sink.triggers(request), DELEGATED, "the order of {request}");
    }
    sink.check_ids();
    let mut came: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in sink.came() {
        delivery.verify();
        *came.entry(delivery.header("webhook-id").to_owned()).or_default() += 1;
    }
    assert_eq!(came.len(), requests.len() * DELEGATED.len());
    assert!(came.values().any(|count| *count > 1), "something came twice, under one id");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leads_next_repeats_no_history_and_does_not_pass_over_what_was_deleted_meanwhile() {
    let world = fixture::world(fixture::shared(), "sinks-next").await;
    let kubeconfig = world.plane.token_kubeconfig(&fixture::token(&world.plane), None).unwrap();
    let operator = |number: u32| {
        let lease = format!("{}-{number}", world.host);
        fixture::start(&kubeconfig, &world.plane.dir().join(format!("{lease}.log")), &world.host, &lease, "60")
    };
    let sink = Receiver::start().await;
    let first = operator(1);
    world.configure().await;
    with_sink(&world, &sink).await;
    let application = Application::small();
    life::deploy(&world, &application).await;
    world.until("all is told", async || (sink.triggers("orders-prod").len() == DELEGATED.len()).then_some(())).await;
    until_recorded(&world).await;
    world.apply(&[world.solution("orders", "1.5.0")]).await;
    let waiting = world.ask(&world.request("waits", "qa", "orders", "1.5.0")).await;
    world.until_request("waits", |r| phase(r) == "AwaitingApproval").await;
    let pipelines: Api<Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
    world
        .until("that the approval has started is recorded", async || {
            let sink = pipelines.get("standard").await.ok()?.status?.sinks.pop()?;
            let open = sink.cursor.open.into_iter().find(|o| Some(&o.uid) == waiting.metadata.uid.as_ref())?;
            (open.last == Some(Trigger::OnApprovalStarted)).then_some(())
        })
        .await;
    let told = sink.came().len();
    assert_eq!(told, 2 * DELEGATED.len() + 2);

    first.kill();
    Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host).delete("waits", &DeleteParams::default()).await.unwrap();
    let second = operator(2);
    world.until("its end is told", async || (sink.triggers("waits").len() == 3).then_some(())).await;
    until_recorded(&world).await;
    let came = sink.came();
    assert_eq!(came.len(), told + 1, "and nothing else: {:?}", came[told..].iter().map(|d| &d.event["id"]).collect::<Vec<_>>());
    let last = came.last().unwrap();
    assert_eq!((last.request(), last.trigger()), ("waits", "OnDeploymentCompleted"));
    let outcome = &last.event["data"]["outcome"];
    assert_eq!((&outcome["phase"], &outcome["reason"]), (&json!("Unknown"), &json!("Deleted")));
    assert!(outcome["message"].as_str().unwrap().contains("deleted before all of its triggers were delivered"), "{outcome}");
    second.stop().unwrap();
}
