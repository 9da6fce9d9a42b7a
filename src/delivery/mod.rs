//! What moves: export, artifact store, settings, plan, apply, prune, health.
pub mod discovery;
pub mod store;
