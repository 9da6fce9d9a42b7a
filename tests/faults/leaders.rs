//! Two operators run: one leads. The other takes over when the first is suspended. What the first still does when it resumes makes no
//! difference.

use pilotage_harness::install::Operator;
use pilotage_harness::process::Signal;

use crate::fixture;
use crate::life::{self, Application};
use crate::proxy::{Action, Proxy};
use crate::state;
use crate::world::{World, phase};

/// Short, because the test waits until it has expired.
const LEASE_SECONDS: &str = "3";

async fn operator(world: &World, name: &str, lease: &str) -> (Proxy, Operator) {
    let proxy = Proxy::start(&world.plane).await;
    let kubeconfig = world.plane.token_kubeconfig(&fixture::token(&world.plane), Some(&proxy.url())).unwrap();
    let log = world.plane.dir().join(format!("{lease}-{name}.log"));
    let operator = fixture::start(&kubeconfig, &log, &world.host, lease, LEASE_SECONDS);
    (proxy, operator)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_slept_past_its_lease_wakes_up_to_no_effect() {
    let application = Application::small();
    let world = fixture::world(fixture::shared(), "leaders").await;
    let lease = world.host.clone();
    let (first_proxy, mut first) = operator(&world, "first", &lease).await;
    world.configure().await;
    let (second_proxy, mut second) = operator(&world, "second", &lease).await;
    // Its first write to QA takes very long.
    let target = format!("/namespaces/{}/", world.qa);
    first_proxy.follow(move |call| if call.write.is_some() && call.line.contains(&target) { Action::Hold } else { Action::Forward });

    world.apply(&application.objects(&world)).await;
    world.ask(&world.request("orders-qa", "qa", "orders", "1.4.0")).await;
    world.until_request("orders-qa", |r| phase(r) == "AwaitingApproval").await;
    assert!(second_proxy.writes().is_empty(), "a standby writes nothing: {:?}", second_proxy.writes());
    world.decide("qa", "orders-qa", "Approved").await.unwrap();
    world
        .until("the leader writes to QA", async || first_proxy.writes().iter().any(|w| life::is_to_target(&world, &w.line)).then_some(()))
        .await;
    first.signal(Signal::STOP).unwrap();

    // The standby continues from there, and does everything.
    life::end(&world, "orders-qa", "qa").await;
    life::deploy_to(&world, &application, "prod").await;
    life::created_once(&world, &application, &second_proxy.writes()).unwrap();

    // The first one's write arrives now, and the first one resumes. It still believes that it leads.
    let before = first_proxy.writes().len();
    first_proxy.release();
    first.signal(Signal::CONT).unwrap();
    world.until("the first has understood and ended", async || (!first.runs()).then_some(())).await;
    assert!(second.runs(), "the second leads on");
    world.until("all is quiet", async || second_proxy.is_quiet(fixture::LULL).then_some(())).await;
    let differences = state::differences(life::reference().await, &state::of(&world).await);
    assert!(differences.is_empty(), "it ended otherwise than with one operator:\n  {}", differences.join("\n  "));
    let late: Vec<_> = first_proxy.writes().into_iter().skip(before).filter(|w| w.code == Some(201)).collect();
    assert!(late.is_empty(), "it created nothing: {late:?}");
    second.stop().unwrap();
}
