//! Decisions: pure functions over small views of their own. The time is an argument, and there is no client.

pub mod check;
pub mod clock;
pub mod environment;
pub mod made_again;
pub mod pipeline;
pub mod readiness;
pub mod record;
pub mod request;
pub mod stage;
pub mod storage;
pub mod window;
pub mod windows;
