//! Without work the operator does nothing.

use std::time::{Duration, Instant};

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};

/// How long it is watched. That nothing happens has no condition to wait for; this is longer than a round of Lease renewals and than
/// any back-off that the run before may have left.
const WINDOW: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn with_all_requests_ended_it_calls_for_nothing_but_leases_and_watches() {
    let world = fixture::world(fixture::shared(), "idle").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture.tending(life::live(&world, &Application::small())).await;
    fixture.settle(&world).await;
    let before = fixture.proxy.calls();
    assert!(before.len() > 40, "its calls are seen: {before:?}");
    let start = Instant::now();
    // Others work on the same control plane meanwhile, which is no reason for it to do anything either.
    world
        .until("the window is over", async || {
            let calls = fixture.proxy.calls();
            assert_eq!(calls[before.len()..], [] as [String; 0], "it was idle, and called");
            (start.elapsed() > WINDOW).then_some(())
        })
        .await;
}
