//! The API server itself hangs, or dies, in the middle of a deployment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pilotage_harness::process::Signal;
use pilotage_harness::{ControlPlane, process};

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};
use crate::proxy::Action;
use crate::world::{World, phase};

/// How long the API server hangs: long enough to see that calls wait for it.
const HANG: Duration = Duration::from_secs(4);

/// Lives a life in which the API server gets a signal while the first write to QA is running. `then` brings it back.
async fn live_through(plane: &ControlPlane, name: &str, signal: Signal, then: impl AsyncFnOnce(&World, &Fixture)) {
    // The undisturbed life is lived before, on another control plane.
    life::reference().await;
    let world = fixture::world(plane, name).await;
    let server = plane.pid("kube-apiserver").unwrap();
    let hit = Arc::new(AtomicBool::new(false));
    let mut fixture = Fixture::start(&world, |proxy| {
        let (hit, target) = (hit.clone(), format!("/namespaces/{}/", world.qa));
        proxy.follow(move |call| {
            if call.write.is_some() && call.line.contains(&target) && !hit.swap(true, Ordering::AcqRel) {
                process::signal(server, signal).unwrap();
            }
            Action::Forward
        });
    })
    .await;
    let application = Application::small();
    fixture
        .tending(async {
            world.configure().await;
            world.apply(&application.objects(&world)).await;
            world.ask(&world.request("orders-qa", "qa", "orders", "1.4.0")).await;
            world.until_request("orders-qa", |r| phase(r) == "AwaitingApproval").await;
            world.decide("qa", "orders-qa", "Approved").await.unwrap();
            world.until("the API server is hit", async || hit.load(Ordering::Acquire).then_some(())).await;
        })
        .await;
    then(&world, &fixture).await;
    fixture
        .tending(async {
            life::end(&world, "orders-qa", "qa").await;
            life::deploy_to(&world, &application, "prod").await;
        })
        .await;
    assert_eq!(fixture.restarts(), 0, "the operator outlives it");
    life::check(&world, &mut fixture).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_or_dies_in_the_midst_of_a_deployment_is_waited_for() {
    let plane = fixture::plane();
    live_through(&plane, "hang", Signal::STOP, async |world, fixture| {
        let start = Instant::now();
        // The fault lasts for a time, and nothing else can end it.
        world.until("the API server has hung for long enough", async || (start.elapsed() > HANG).then_some(())).await;
        assert!(fixture.proxy.under_way() > 0, "the operator waits for an answer");
        plane.signal("kube-apiserver", Signal::CONT).unwrap();
    })
    .await;
    live_through(&plane, "death", Signal::KILL, async |world, _| {
        world
            .until("the API server is back", async || tokio::task::block_in_place(|| plane.wait_api_ready(Duration::from_secs(1))).ok())
            .await;
    })
    .await;
}
