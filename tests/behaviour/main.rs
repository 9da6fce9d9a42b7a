//! What Pilotage does, on a real control plane with the operator under its own rights: one module a behaviour. Run by `make test`.

#[path = "../world/mod.rs"]
mod world;

mod crds;
mod main_job;
mod solutions;
