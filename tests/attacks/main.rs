//! Attacks on the record, the gates and the delegates. Each is tried against the real API server by somebody who can authenticate: with a
//! client certificate, or with a `ServiceAccount`'s token. `make attacks` runs and counts them.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails, also in what tests share")]

#[path = "../world/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod world;

#[path = "../receiver/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod receiver;

#[path = "../shipped/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod shipped;

#[path = "../scoped/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod scoped;
#[path = "../faults/tcp_proxy.rs"]
#[expect(dead_code, reason = "the proxy is shared with tests that stop it")]
mod tcp_proxy;

mod adopted;
mod altered;
mod approvers;
mod attempt;
mod carried;
mod changes;
mod cluster;
mod configuration;
mod decisions;
mod endless;
mod entry;
mod hosts;
mod impersonation;
mod kubeconfigs;
mod legitimate;
mod lent_tokens;
mod makers_view;
mod meant;
mod operator;
mod operator_token;
mod plans;
mod plugin;
mod policies;
mod proof;
mod records;
mod registries;
mod registry_store;
mod removals;
mod requests;
mod retention;
mod running;
mod scene;
mod seats;
mod seen;
mod sinks;
mod split_brain;
mod stored;
mod taken;
mod tokens;
mod words;
