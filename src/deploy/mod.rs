//! What is done in a target: plan, apply, health, settings.

pub(crate) mod apply;
pub(crate) mod health;
pub mod plan;
pub(crate) mod settings;
