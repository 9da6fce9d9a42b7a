//! One folder for each kind, all with the same structure: observe (reads) → policy (pure) → act (writes) → status.

pub(crate) mod environment;
pub(crate) mod pipeline;
pub(crate) mod request;
pub(crate) mod retention;
mod seen;
pub(crate) mod solution;
pub(crate) mod stage;
pub(crate) mod watch_mapping;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::Condition;
use crate::api::condition::{self, ConditionStatus};
use crate::api::reason::Reason;
use crate::policy::check;
use crate::runtime::controller::{Next, ReconcileError};
use crate::runtime::status_writer::Recorded;
use crate::runtime::{Cluster, status};

/// When to reconcile an object again if the cache is older than the operator's own last write. Usually the watch is faster.
const BEHIND: Duration = Duration::from_secs(1);

/// When to look again at an object whose reconciliations fail again and again.
const GIVEN_UP: Duration = Duration::from_mins(1);

/// `Ok` if the condition is `True`. Otherwise why it is not, in one word.
fn holds(condition: Option<&Condition>) -> Result<(), String> {
    match condition {
        Some(condition) if condition.status == ConditionStatus::True => Ok(()),
        Some(condition) => Err(condition.reason.clone()),
        None => Err(Reason::NotLookedAtYet.into()),
    }
}

/// Writes to an object of one controller that it can't be processed. `parts` returns the observed generation and the conditions of its
/// status.
async fn give_up<K: Recorded>(
    cluster: &Cluster,
    object: &K,
    why: &str,
    parts: fn(&mut K::Status) -> (&mut i64, &mut Vec<Condition>),
) -> Result<Next, ReconcileError> {
    let mut new = object.status().cloned().unwrap_or_default();
    let (observed_generation, conditions) = parts(&mut new);
    let (generation, now) = (object.meta().generation, Timestamp::now());
    *observed_generation = generation.unwrap_or(*observed_generation);
    for observation in check::summary(&check::given_up(why)) {
        condition::set(conditions, &observation, generation, now);
    }
    if let Some(written) = status::write(&cluster.clients.operator(), object, object.status(), &new).await? {
        cluster.written.note(&written);
    }
    Ok(Next::After(GIVEN_UP))
}
