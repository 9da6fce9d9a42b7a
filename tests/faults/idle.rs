//! Without work the operator does nothing.

use std::time::{Duration, Instant};

use crate::fixture::{self, Fixture};
use crate::life::{self, Application};

/// How long it is watched. There is no condition to wait for when nothing happens. This is longer than a round of Lease renewals and than
/// any back-off that may be left from before.
const MEASURED: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn with_all_requests_ended_it_calls_for_nothing_but_leases_and_watches() {
    let world = fixture::world(fixture::shared(), "idle").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture.tending(life::live(&world, &Application::small())).await;
    fixture.settle(&world).await;
    let before = fixture.proxy.calls();
    assert!(before.len() > 40, "its calls are seen: {before:?}");
    let start = Instant::now();
    // Others work on the same control plane at the same time. That is no reason for it to do anything.
    world
        .until("the time is over", async || {
            let calls = fixture.proxy.calls();
            assert_eq!(calls[before.len()..], [] as [String; 0], "it was idle, and called");
            (start.elapsed() > MEASURED).then_some(())
        })
        .await;
}
