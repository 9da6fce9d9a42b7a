//! Decisions: pure functions of what was observed and the time, without a client.

pub mod request;
pub mod windows;
