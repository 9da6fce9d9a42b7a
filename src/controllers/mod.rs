//! One folder per kind, all alike: observe (reads) → policy (pure) → act (writes) → status.

pub mod environment;
pub mod pipeline;
pub mod request;
mod seen;
pub mod solution;
pub mod stage;
pub mod watch_mapping;

use std::time::Duration;

use crate::api::Condition;
use crate::api::condition::ConditionStatus;

/// When to look again at an object whose cache is behind the operator's own last write; usually the watch is sooner.
const BEHIND: Duration = Duration::from_secs(1);

/// When to look again at an object whose passes fail again and again.
const GIVEN_UP: Duration = Duration::from_mins(1);

/// `Ok` where the condition is `True`; otherwise why it is not, in one word.
fn holds(condition: Option<&Condition>) -> Result<(), String> {
    match condition {
        Some(condition) if condition.status == ConditionStatus::True => Ok(()),
        Some(condition) => Err(condition.reason.clone()),
        None => Err("NotLookedAtYet".to_owned()),
    }
}
