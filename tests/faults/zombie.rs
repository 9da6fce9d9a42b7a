//! A write of a dead process arrives after others have continued: it finds another version than it was made for, and changes nothing.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use pilotage_harness::install::Operator;
use pilotage_harness::process::Signal;
use serde_json::{Value, json};

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};
use crate::proxy::{Action, Proxy};
use crate::world::{World, ended, outcome, phase};

/// Kills the operator at its next write with `method` to the `ConfigMap` in QA, and holds the write.
fn outlived_by(proxy: &Proxy, world: &World, method: &str, name: &str) {
    let line = line(world, method, name);
    let mut is_held = false;
    proxy.follow(move |call| {
        if call.write.is_some() && call.line == line && !is_held {
            is_held = true;
            return Action::Outlive;
        }
        Action::Forward
    });
}

fn line(world: &World, method: &str, name: &str) -> String {
    format!("{method} /api/v1/namespaces/{}/configmaps/{name}", world.qa)
}

/// Lets the write arrive. Returns what the API server answered to it.
async fn arrives(proxy: &Proxy, world: &World, method: &str, name: &str) -> u16 {
    let line = line(world, method, name);
    let held = proxy.writes().iter().position(|w| w.line == line && w.code.is_none()).expect("a write that is under way");
    proxy.release();
    world.until("the late write has arrived", async || proxy.writes()[held].code).await
}

/// A version in development. The `ConfigMap` orders contains it.
async fn develop(world: &World, version: &str) {
    world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"version": version}))]).await;
}

/// Deploys a version to QA. Returns the request after it has ended.
async fn deploy(world: &World, name: &str, version: &str) -> pilotage::api::DeploymentRequest {
    world.ask(&world.request(name, "qa", "orders", version)).await;
    let waiting = world.until_request(name, |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    if !ended(&waiting) {
        let bot = world.bot("qa").await;
        world.until("the approval is taken", async || world.approve_as(bot.clone(), name, "Approved").await.ok()).await;
    }
    world.end(name).await
}

async fn succeeds(world: &World, name: &str, version: &str) {
    let request = deploy(world, name, version).await;
    assert_eq!(phase(&request), "Succeeded", "{name}: {:?}", outcome(&request));
}

/// The `ConfigMaps` of the solution in QA, with what they hold.
async fn in_qa(world: &World) -> Vec<(String, Value)> {
    let params = ListParams::default().labels("app.kubernetes.io/part-of=orders");
    let maps = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).list(&params).await.unwrap();
    maps.iter().map(|map| (map.name_any(), serde_json::to_value(&map.data).unwrap())).collect()
}

fn only(version: &str) -> Vec<(String, Value)> {
    vec![("orders".to_owned(), json!({"version": version}))]
}

async fn started(name: &str) -> (World, Fixture) {
    let world = fixture::world(fixture::shared(), name).await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture.tending(world.configure()).await;
    (world, fixture)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_that_arrives_late_does_not_undo_the_next_version() {
    let (world, mut fixture) = started("late-create").await;
    outlived_by(&fixture.proxy, &world, "PATCH", "orders");
    fixture
        .tending(async {
            develop(&world, "1.0.0").await;
            succeeds(&world, "first", "1.0.0").await;
            develop(&world, "2.0.0").await;
            succeeds(&world, "second", "2.0.0").await;
        })
        .await;
    assert_eq!(fixture.restarts(), 1, "its maker is dead");
    assert_eq!(arrives(&fixture.proxy, &world, "PATCH", "orders").await, 409);
    assert_eq!(in_qa(&world).await, only("2.0.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_arrives_late_does_not_undo_the_next_version() {
    let (world, mut fixture) = started("late-change").await;
    let proxy = fixture.proxy.clone();
    fixture
        .tending(async {
            develop(&world, "1.0.0").await;
            succeeds(&world, "first", "1.0.0").await;
            outlived_by(&proxy, &world, "PATCH", "orders");
            develop(&world, "2.0.0").await;
            succeeds(&world, "second", "2.0.0").await;
            develop(&world, "3.0.0").await;
            succeeds(&world, "third", "3.0.0").await;
        })
        .await;
    assert_eq!(fixture.restarts(), 1, "its maker is dead");
    assert_eq!(arrives(&fixture.proxy, &world, "PATCH", "orders").await, 409);
    assert_eq!(in_qa(&world).await, only("3.0.0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_arrives_late_does_not_undo_a_rollback() {
    let (world, mut fixture) = started("late-rollback").await;
    let (proxy, application) = (fixture.proxy.clone(), Application::small());
    fixture
        .tending(async {
            life::will_fail(&world).await;
            world.apply(&application.objects(&world)).await;
            life::deploy_to(&world, &application, "qa").await;
            outlived_by(&proxy, &world, "PATCH", "orders");
            life::upgrade_in_vain(&world, &application).await;
        })
        .await;
    assert_eq!(fixture.restarts(), 1, "its maker is dead");
    let back = vec![("orders".to_owned(), json!({"greeting": "hello"}))];
    assert_eq!(in_qa(&world).await, back, "the version before is put back");
    assert_eq!(arrives(&fixture.proxy, &world, "PATCH", "orders").await, 409);
    assert_eq!(in_qa(&world).await, back);
    world.refuses_no_more().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_that_arrives_late_does_not_take_what_the_next_version_brought_back() {
    let (world, mut fixture) = started("late-delete").await;
    let proxy = fixture.proxy.clone();
    let extra = |world: &World| world.config("orders", "orders-extra", json!({"extra": "true"}));
    fixture
        .tending(async {
            develop(&world, "1.0.0").await;
            world.apply(&[extra(&world)]).await;
            succeeds(&world, "first", "1.0.0").await;
            outlived_by(&proxy, &world, "DELETE", "orders-extra");
            Api::<ConfigMap>::namespaced(world.admin.clone(), &world.dev).delete("orders-extra", &DeleteParams::default()).await.unwrap();
            develop(&world, "2.0.0").await;
            succeeds(&world, "second", "2.0.0").await;
            world.apply(&[extra(&world)]).await;
            develop(&world, "3.0.0").await;
            succeeds(&world, "third", "3.0.0").await;
        })
        .await;
    assert_eq!(fixture.restarts(), 1, "its maker is dead");
    assert_eq!(arrives(&fixture.proxy, &world, "DELETE", "orders-extra").await, 409);
    let names: Vec<String> = in_qa(&world).await.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["orders", "orders-extra"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_late_and_is_of_no_version_any_more_is_removed_by_the_next() {
    let (world, mut fixture) = started("late-leftover").await;
    outlived_by(&fixture.proxy, &world, "PATCH", "orders-extra");
    let proxy = fixture.proxy.clone();
    fixture
        .tending(async {
            develop(&world, "1.0.0").await;
            world.apply(&[world.config("orders", "orders-extra", json!({"extra": "true"}))]).await;
            succeeds(&world, "first", "1.0.0").await;
            Api::<ConfigMap>::namespaced(world.admin.clone(), &world.dev).delete("orders-extra", &DeleteParams::default()).await.unwrap();
            develop(&world, "2.0.0").await;
            succeeds(&world, "second", "2.0.0").await;
            assert_eq!(in_qa(&world).await, only("2.0.0"));
            // Nothing can refuse to create something that does not exist.
            assert_eq!(arrives(&proxy, &world, "PATCH", "orders-extra").await, 201);
            develop(&world, "3.0.0").await;
            let third = deploy(&world, "third", "3.0.0").await;
            assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
            let plan = third.status.unwrap().run.plan.unwrap();
            assert_eq!((plan.delete, plan.objects[0].name.as_str()), (1, "orders-extra"), "the approver sees that it goes");
        })
        .await;
    assert_eq!(in_qa(&world).await, only("3.0.0"));
}

/// Short, because the test waits until it has expired.
const LEASE_SECONDS: &str = "3";

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_wakes_up_in_the_midst_of_a_deployment_writes_nothing_over_the_next_version() {
    let world = fixture::world(fixture::shared(), "sleeper").await;
    let (lease, plane) = (world.host.clone(), &world.plane);
    let operator = async |name: &str| -> (Proxy, Operator) {
        let proxy = Proxy::start(plane).await;
        let kubeconfig = plane.token_kubeconfig(&fixture::token(plane), Some(&proxy.url())).unwrap();
        let log = plane.dir().join(format!("{lease}-{name}.log"));
        (proxy, fixture::start(&kubeconfig, &log, &world.host, &lease, LEASE_SECONDS))
    };
    let (proxy, mut sleeper) = operator("sleeper").await;
    world.configure().await;
    develop(&world, "1.0.0").await;
    succeeds(&world, "first", "1.0.0").await;
    let (_second_proxy, second) = operator("second").await;
    let held = line(&world, "PATCH", "orders");
    proxy.follow(move |call| if call.write.is_some() && call.line == held { Action::Hold } else { Action::Forward });
    develop(&world, "2.0.0").await;
    world.ask(&world.request("second", "qa", "orders", "2.0.0")).await;
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "second", "Approved").await.unwrap();
    let under_way = async || proxy.writes().iter().any(|w| w.line == line(&world, "PATCH", "orders") && w.code.is_none()).then_some(());
    world.until("it writes", under_way).await;
    sleeper.signal(Signal::STOP).unwrap();

    // The standby finishes that version, and deploys another.
    world.end("second").await;
    develop(&world, "3.0.0").await;
    succeeds(&world, "third", "3.0.0").await;

    let before = proxy.writes().len();
    assert_eq!(arrives(&proxy, &world, "PATCH", "orders").await, 409);
    sleeper.signal(Signal::CONT).unwrap();
    world.until("the sleeper has understood and ended", async || (!sleeper.runs()).then_some(())).await;
    let effective: Vec<_> =
        proxy.writes().into_iter().skip(before).filter(|w| w.line.contains(&world.qa) && w.code.is_some_and(|c| c < 300)).collect();
    assert!(effective.is_empty(), "it wrote: {effective:?}");
    assert_eq!(in_qa(&world).await, only("3.0.0"));
    second.stop().unwrap();
}
