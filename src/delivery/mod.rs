//! What moves: export, artifact store, settings, plan, apply, prune, health.

mod admit;
pub mod apply;
pub mod applyset;
pub mod assess;
pub mod claimed;
pub mod diff;
pub mod discovery;
pub mod errors;
mod findings;
pub mod health;
pub mod object;
pub mod offered;
pub mod order;
pub mod plan;
pub mod planned;
pub mod pods;
pub mod redaction;
pub mod resources;
pub mod retry;
pub mod store;
mod survey;
mod target;
