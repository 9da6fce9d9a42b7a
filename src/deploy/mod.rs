//! What is done in a target: plan, apply, health, settings.

pub mod apply;
pub mod health;
pub mod plan;
pub mod settings;
