//! What Pilotage does when its parts fail: the operator is killed around each of its writes, replies are lost, the API server hangs or
//! dies, several operators run. Every run ends like an undisturbed one. Run them with `make test`; `make crash-sweep` runs more.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it finds something wrong")]

#[path = "../world/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod world;

#[path = "../receiver/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod receiver;

#[path = "../scoped/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod scoped;
#[path = "../shipped/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod shipped;
#[path = "../tls/mod.rs"]
mod tls;

mod archive;
mod calls;
mod connection;
mod fixture;
mod idle;
mod leaders;
mod life;
mod midway;
mod owner_race;
mod proxy;
mod raced;
mod registry_store;
mod registry_store_faults;
mod remote;
mod remote_churn;
mod remote_docs;
mod remote_features;
mod remote_fixture;
mod retention;
mod room;
mod server;
mod shared;
mod sinks;
mod stale_cache;
mod state;
mod sweep;
mod tcp_proxy;
mod zombie;
