//! Two operators lead at once, and one of them has an old view of what the other has done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pilotage::api::Environment;
use pilotage_harness::install::Operator;
use serde_json::json;

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};
use crate::proxy::{Action, Call, Proxy};
use crate::world::{World, outcome, phase};

/// An operator that leads with a Lease of its own.
async fn operator(world: &World, name: &str, prepare: impl FnOnce(&Proxy)) -> (Proxy, Operator) {
    let proxy = Proxy::start(&world.plane).await;
    prepare(&proxy);
    let kubeconfig = world.plane.token_kubeconfig(&fixture::token(&world.plane), Some(&proxy.url())).unwrap();
    let log = world.plane.dir().join(format!("{}-{name}.log", world.host));
    let operator = fixture::start(&kubeconfig, &log, &world.host, &format!("{}-{name}", world.host), fixture::LEASE_SECONDS);
    (proxy, operator)
}

/// What runs there according to the Environment, and the request that holds the claim.
async fn in_qa(world: &World) -> Vec<(Option<String>, Option<String>)> {
    let environments: kube::Api<Environment> = kube::Api::namespaced(world.admin.clone(), &world.host);
    let status = environments.get("qa").await.unwrap().status.unwrap_or_default();
    status.solutions.into_iter().map(|s| (s.version, s.claim.map(|claim| claim.request))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_decided_before_the_start_was_seen_takes_no_claim_away() {
    let world = fixture::world(fixture::shared(), "behind").await;
    let (ahead, first) = operator(&world, "ahead", |_| {}).await;
    world.configure().await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"version": "1.0.0"}))]).await;
    world.ask(&world.request("orders-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("orders-qa", |r| phase(r) == "AwaitingApproval").await;

    // The first claims, and the write of its start is held.
    let host = world.host.clone();
    let status = move |plural: &str, name: &str| format!("PATCH /apis/pilotage.dev/v1alpha1/namespaces/{host}/{plural}/{name}/status");
    let (of_request, of_environment) = (status("deploymentrequests", "orders-qa"), status("environments", "qa"));
    let (start, claim) = (of_request.clone(), of_environment.clone());
    let mut has_claimed = false;
    ahead.follow(move |call| {
        has_claimed |= call.line == claim;
        if has_claimed && call.line == start { Action::Hold } else { Action::Forward }
    });
    world.decide("qa", "orders-qa", "Approved").await.unwrap();
    let unanswered = |proxy: &Proxy, line: &str| proxy.writes().iter().any(|w| w.line == line && w.code.is_none());
    world.until("the start is under way", async || unanswered(&ahead, &of_request).then_some(())).await;

    // The second sees the claim, and will see what happens to the artifact. Of requests it sees only what exists now. It can't plan, so it
    // does not start by itself.
    let target = format!("/namespaces/{}/", world.qa);
    let (behind, second) = operator(&world, "behind", |proxy| {
        proxy.follow(move |call| match call {
            call if call.watch && call.line.ends_with("/deploymentrequests") => Action::Hold,
            call if call.line.starts_with("PATCH ") && call.line.contains(&target) => Action::Refuse(503),
            _ => Action::Forward,
        });
    })
    .await;
    let target = format!("/namespaces/{}/", world.qa);
    let plans = async || behind.calls().iter().any(|line| line.starts_with("PATCH ") && line.contains(&target)).then_some(());
    world.until("the second is about to plan", plans).await;

    // The first deploys and records it in the artifact, but can't write to the Environment.
    let is_away = Arc::new(AtomicBool::new(true));
    let (away, record) = (is_away.clone(), of_environment.clone());
    ahead.follow(move |call| if call.line == record && away.load(Ordering::Acquire) { Action::Refuse(503) } else { Action::Forward });
    ahead.release();
    world.until("the first has recorded the deployment", async || unanswered(&ahead, &of_environment).then_some(())).await;

    // The second finds it recorded, by a request that has not started as far as it knows.
    let refused = async || behind.writes().iter().any(|w| w.line == of_request && w.code == Some(409)).then_some(());
    world.until("the second ends the request as it knows it", refused).await;
    assert_eq!(in_qa(&world).await, [(None, Some("orders-qa".to_owned()))], "the claim stays");

    is_away.store(false, Ordering::Release);
    let request = world.end("orders-qa").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    assert_eq!(in_qa(&world).await, [(Some("1.0.0".to_owned()), None)]);
    second.stop().unwrap();
    first.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_artifact_no_watch_has_told_of_ends_as_any_other() {
    let world = fixture::world(fixture::shared(), "untold").await;
    let mut fixture = Fixture::start(&world, |proxy| {
        let is_watch = |call: &Call| call.watch && call.line.ends_with("/artifacts");
        proxy.follow(move |call| if is_watch(call) { Action::Hold } else { Action::Forward });
    })
    .await;
    fixture.tending(life::live(&world, &Application::small())).await;
    life::check(&world, &mut fixture).await;
}
