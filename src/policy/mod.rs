//! Decisions: pure functions over small own views, with the time given and no client anywhere.

pub mod check;
pub mod environment;
pub mod pipeline;
pub mod readiness;
pub mod request;
pub mod stage;
pub mod storage;
pub mod windows;
