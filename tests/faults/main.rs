//! What Pilotage does when its parts fail: the operator is killed around each of its writes, replies are lost, the API server
//! hangs or dies, several operators are awake. Every run ends as an undisturbed one. Run by `make test`; `make crash-sweep` runs more.

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

mod abroad;
mod behind;
mod calls;
mod comings;
mod connection;
mod gate;
mod handed_on;
mod idle;
mod kept;
mod kept_away;
mod leaders;
mod life;
mod midway;
mod overseas;
mod page;
mod proxy;
mod raced;
mod remote;
mod room;
mod server;
mod shared;
mod sinks;
mod site;
mod state;
mod sweep;
mod zombie;
