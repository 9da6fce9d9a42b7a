//! The decisions: pure functions over small own views, with the time injected and no client anywhere.

pub mod check;
pub mod environment;
pub mod pipeline;
pub mod readiness;
pub mod stage;
