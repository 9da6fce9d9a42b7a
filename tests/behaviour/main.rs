//! What Pilotage does, on a real control plane, with an operator that has its own rights. There is one module for each behaviour. Run it
//! with `make test`.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on fails, also in what tests share")]

#[path = "../world/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod world;

#[path = "../receiver/mod.rs"]
#[expect(dead_code, reason = "the fixture is shared with tests that need other parts of it")]
mod receiver;

#[path = "../shipped/mod.rs"]
mod shipped;

#[path = "../scoped/mod.rs"]
mod scoped;
#[path = "../tls/mod.rs"]
mod tls;

mod adopt;
mod again;
mod apply_again;
mod approval_controller;
mod arrival;
mod as_meant;
mod asking;
mod bad_input;
mod cancel;
mod chart;
mod cluster_scoped;
mod crds;
mod deciding;
mod deploy_verb;
mod documents;
mod ends;
mod every_kind;
mod first_hour;
mod foretold;
mod grant;
mod held_back;
mod helping;
mod identities;
mod image;
mod install;
mod left_behind;
mod limits;
mod made_again;
mod main_job;
mod midway;
mod node_ports;
mod not_listed;
mod oci;
mod older;
mod order;
mod plugin;
mod powers;
mod prune;
mod records;
mod recreate;
mod reports;
mod retention;
mod revoked;
mod roles;
mod rollback;
mod seats;
mod settings;
mod shared_with;
mod side_by_side;
mod sinks;
mod solutions;
mod terminal;
mod unhealthy;
mod webhooks;
mod words;
mod wrong_words;
