//! Faults between the operator and a healthy API server: replies are lost, calls are refused, watches break or lag, somebody else writes to
//! the same records.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::Environment;
use serde_json::json;

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};
use crate::proxy::{Action, Call};
use crate::world::World;

/// Interferes again and again, as long as it is polled.
async fn every(pause: Duration, mut meddle: impl AsyncFnMut()) {
    loop {
        meddle().await;
        tokio::time::sleep(pause).await;
    }
}

/// Lives a life with a script, and compares its end.
async fn live_by(name: &str, script: impl FnOnce(&World) -> Box<dyn FnMut(&Call) -> Action + Send>) -> (World, Fixture) {
    let world = fixture::world(fixture::shared(), name).await;
    let mut fixture = Fixture::start(&world, |proxy| proxy.follow(script(&world))).await;
    fixture.tending(life::live(&world, &Application::small())).await;
    life::check(&world, &mut fixture).await;
    (world, fixture)
}

/// The reply to the first write of each record and object is lost. All of these writes are carried out.
fn first_replies_lost(action: Action) -> Box<dyn FnMut(&Call) -> Action + Send> {
    let mut seen = HashSet::new();
    Box::new(move |call| if call.write.is_some() && seen.insert(call.line.clone()) { action } else { Action::Forward })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_reply_is_a_gateway_timeout_is_found_done() {
    let (_, fixture) = live_by("timeout", |_| first_replies_lost(Action::LoseReply(504))).await;
    assert_eq!(fixture.restarts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_connection_breaks_is_found_done() {
    let (_, fixture) = live_by("reset", |_| first_replies_lost(Action::Reset)).await;
    assert_eq!(fixture.restarts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_too_busy_for_a_while_delays_and_changes_nothing() {
    const REFUSALS: usize = 12;
    let refused = Arc::new(AtomicUsize::new(0));
    let count = refused.clone();
    let (world, fixture) = live_by("busy", move |world| {
        let target = format!("/namespaces/{}/", world.qa);
        let mut busy = false;
        Box::new(move |call| {
            busy |= call.write.is_some() && call.line.contains(&target);
            if !busy || call.watch || count.load(Ordering::Acquire) >= REFUSALS {
                return Action::Forward;
            }
            let number = count.fetch_add(1, Ordering::AcqRel);
            Action::Refuse(if number.is_multiple_of(2) { 429 } else { 503 })
        })
    })
    .await;
    assert_eq!(refused.load(Ordering::Acquire), REFUSALS);
    // What was refused was not carried out, so it is created once.
    life::written_once(&world, &Application::small(), &fixture.proxy.writes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_that_break_all_the_time_lose_nothing() {
    let world = fixture::world(fixture::shared(), "cut").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    let proxy = fixture.proxy.clone();
    let application = Application::small();
    tokio::select! {
        () = fixture.tending(life::live(&world, &application)) => {}
        () = every(Duration::from_millis(300), async || proxy.cut_watches()) => {}
    }
    life::check(&world, &mut fixture).await;
    life::written_once(&world, &Application::small(), &fixture.proxy.writes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_that_lag_behind_repeat_nothing() {
    let world = fixture::world(fixture::shared(), "lag").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    let proxy = fixture.proxy.clone();
    let application = Application::small();
    tokio::select! {
        () = fixture.tending(life::live(&world, &application)) => {}
        () = every(Duration::from_millis(20), async || {
            // The watches continue only for a moment, so that what the operator sees is mostly old.
            proxy.hold_watches(true);
            tokio::time::sleep(Duration::from_millis(400)).await;
            proxy.hold_watches(false);
        }) => {}
    }
    proxy.hold_watches(false);
    life::check(&world, &mut fixture).await;
    life::written_once(&world, &Application::small(), &fixture.proxy.writes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_writer_of_the_environments_is_outlasted() {
    let world = fixture::world(fixture::shared(), "storm").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture.tending(world.configure()).await;
    let environments: Api<Environment> = Api::namespaced(world.admin.clone(), &world.host);
    let note =
        |number: Option<u32>| Patch::Merge(json!({"metadata": {"annotations": {"example.com/storm": number.map(|n| n.to_string())}}}));
    // The first write of the operator is certainly overtaken: it is held until the other has written once more. The other writes may be.
    let on_its_way = Arc::new(AtomicBool::new(false));
    let overtaken = on_its_way.clone();
    fixture.proxy.follow(move |call| {
        let first = call.write.is_some() && call.line.contains("/environments/") && !overtaken.swap(true, Ordering::AcqRel);
        if first { Action::Hold } else { Action::Forward }
    });
    let (proxy, mut number) = (fixture.proxy.clone(), 0);
    let application = Application::small();
    tokio::select! {
        () = fixture.tending(life::deploy(&world, &application)) => {}
        () = every(Duration::from_millis(2), async || {
            let is_overtaken = on_its_way.load(Ordering::Acquire);
            number += 1;
            for name in ["qa", "prod"] {
                environments.patch(name, &PatchParams::default(), &note(Some(number))).await.unwrap();
            }
            if is_overtaken {
                proxy.release();
            }
        }) => {}
    }
    for name in ["qa", "prod"] {
        environments.patch(name, &PatchParams::default(), &Patch::Merge(json!({"metadata": {"annotations": null}}))).await.unwrap();
    }
    let conflicts = fixture.proxy.writes().iter().filter(|w| w.line.contains("/environments/") && w.code == Some(409)).count();
    assert!(conflicts > 0, "the storm of {number} writes met none of the operator's");
    life::check(&world, &mut fixture).await;
}
