//! What Pilotage does, on a real control plane with the operator under its own rights: one module a behaviour. Run by `make test`.

#[path = "../world/mod.rs"]
mod world;

mod apply_again;
mod bad_input;
mod crds;
mod ends;
mod main_job;
mod order;
mod records;
mod solutions;
