//! Decisions: pure functions over small views of their own. The time is an argument, and there is no client.

pub(crate) mod check;
pub(crate) mod clock;
pub(crate) mod environment;
pub(crate) mod made_again;
pub(crate) mod makers_plans;
pub(crate) mod makers_story;
pub(crate) mod makers_view;
pub(crate) mod offered;
pub(crate) mod pipeline;
pub(crate) mod readiness;
pub(crate) mod record;
pub(crate) mod reports;
pub(crate) mod request;
pub(crate) mod retention;
pub(crate) mod run_record;
pub(crate) mod stage;
pub(crate) mod storage;
pub(crate) mod versions;
pub(crate) mod windows;
