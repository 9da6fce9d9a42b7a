//! What the policies of environments, pipelines and stages share: a sequence of checks, each with its own reason and sentence; the
//! conditions for a result; and when to check again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;

use crate::api::condition::{Condition, ConditionStatus, Observation, find};
use crate::api::reason::Reason;

pub(crate) use crate::api::condition::READY;
/// kstatus: it is in progress, or waits for something that may still come.
pub(crate) const RECONCILING: &str = "Reconciling";
/// kstatus: it makes no progress until its spec is changed.
pub(crate) const STALLED: &str = "Stalled";

/// The longest time until an object that is fine is checked again. No watch reports revoked rights.
const STEADY: Duration = Duration::from_mins(9);
/// How much this time varies.
const SPREAD_MILLIS: u64 = 120_000;
/// The first delay while the object waits for something that no watch reports.
const SOONEST: Duration = Duration::from_secs(5);
/// The longest such delay.
const LATEST: Duration = Duration::from_mins(1);

/// What makes a failed check pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Somebody has to change the object itself: it is stalled.
    Edit,
    /// Something that the operator watches has to change.
    Watched,
    /// Something that no watch reports has to change, for example a right: the object has to be checked again.
    Polled,
}

/// A check that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Why, in one word for programs.
    pub(crate) reason: Reason,
    /// Why, for people, and what to do about it.
    pub(crate) message: String,
    /// What has to change so that it passes.
    pub(crate) remedy: Remedy,
}

/// The result of a check, or of several in a row.
pub(crate) type Check = Result<(), Failure>;

/// A check that failed until the object itself is changed.
///
/// # Errors
/// Always.
pub(crate) fn edit(reason: Reason, message: impl Into<String>) -> Check {
    Err(Failure { reason, message: message.into(), remedy: Remedy::Edit })
}

/// A check that failed until something that is watched changes.
///
/// # Errors
/// Always.
pub(crate) fn watched(reason: Reason, message: impl Into<String>) -> Check {
    Err(Failure { reason, message: message.into(), remedy: Remedy::Watched })
}

/// A check that failed until something that is not watched changes.
///
/// # Errors
/// Always.
pub(crate) fn polled(reason: Reason, message: impl Into<String>) -> Check {
    Err(Failure { reason, message: message.into(), remedy: Remedy::Polled })
}

/// The observation that an object can't be processed.
pub(crate) fn given_up(why: &str) -> Result<Good, Failure> {
    Err(Failure { reason: Reason::InternalError, message: why.to_owned(), remedy: Remedy::Polled })
}

/// The result for an object whose checks all passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Good {
    /// The reason of `Ready`.
    pub(crate) reason: Reason,
    /// The message of `Ready`.
    pub(crate) message: String,
}

/// The conditions `Ready`, `Reconciling` and `Stalled`, as kstatus reads them. `Stalled`: the object itself must be changed. `Reconciling`:
/// what it waits for may come by itself.
pub(crate) fn summary(outcome: &Result<Good, Failure>) -> Vec<Observation> {
    match outcome {
        Ok(good) => vec![
            Observation::new(READY, true, good.reason, &good.message),
            Observation::new(RECONCILING, false, good.reason, ""),
            Observation::new(STALLED, false, good.reason, ""),
        ],
        Err(failure) => {
            let stalled = failure.remedy == Remedy::Edit;
            // The grants in the following lines are only in `Ready`.
            let line = failure.message.lines().next().unwrap_or_default();
            let (reconciling, stalling) = if stalled { ("", line) } else { (line, "") };
            vec![
                Observation::new(READY, false, failure.reason, &failure.message),
                Observation::new(RECONCILING, !stalled, failure.reason, reconciling),
                Observation::new(STALLED, stalled, failure.reason, stalling),
            ]
        }
    }
}

/// When to check an object with this `outcome` again, if nothing happens before: after ten minutes, plus or minus one. If it waits for
/// something that no watch reports, it is checked sooner: after five seconds up to a minute, depending on how long the condition `type_`
/// has been `False`.
pub(crate) fn again<T>(outcome: &Result<T, Failure>, conditions: &[Condition], type_: &str, uid: &str, now: Timestamp) -> Duration {
    match outcome {
        Err(Failure { remedy: Remedy::Polled, .. }) => {
            let waited = find(conditions, type_)
                .filter(|c| c.status == ConditionStatus::False)
                .and_then(|c| u64::try_from(now.as_second() - c.last_transition_time.as_second()).ok())
                .unwrap_or_default();
            Duration::from_secs(waited / 2).clamp(SOONEST, LATEST)
        }
        _ => steady(uid, now),
    }
}

/// Ten minutes, plus or minus one, so that objects that were created together are not always checked together.
fn steady(uid: &str, now: Timestamp) -> Duration {
    let mut hasher = DefaultHasher::new();
    (uid, now.as_second()).hash(&mut hasher);
    STEADY + Duration::from_millis(hasher.finish() % SPREAD_MILLIS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::condition::set;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or_default()
    }

    fn failing_since(second: i64) -> Vec<Condition> {
        let mut conditions = Vec::new();
        set(&mut conditions, &Observation::new(READY, false, Reason::NotManaged, ""), None, at(second));
        conditions
    }

    #[test]
    fn what_no_watch_tells_of_is_looked_at_ever_less_often() {
        let failed: Check = polled(Reason::NotManaged, "");
        let delays: Vec<u64> =
            [100, 105, 130, 190, 9999].map(|now| again(&failed, &failing_since(100), READY, "u", at(now)).as_secs()).to_vec();
        assert_eq!(delays, [5, 5, 15, 45, 60]);
        assert_eq!(again(&failed, &[], READY, "u", at(100)).as_secs(), 5, "the first time");
        assert_eq!(again(&failed, &failing_since(100), READY, "u", at(50)).as_secs(), 5, "a clock that went back");
    }

    #[test]
    fn what_is_good_or_watched_is_looked_at_every_ten_minutes_or_so() {
        let mut seen = std::collections::BTreeSet::new();
        for (uid, outcome) in [("a", Ok(())), ("b", watched(Reason::NamespaceNotFound, "")), ("c", edit(Reason::IdentityMismatch, ""))] {
            let delay = again(&outcome, &failing_since(0), READY, uid, at(1000));
            assert!((540..=660).contains(&delay.as_secs()), "{delay:?}");
            seen.insert(delay);
        }
        assert_eq!(seen.len(), 3, "spread");
    }

    #[test]
    fn only_what_its_own_writer_must_change_is_stalled() {
        let status = |outcome: Check| {
            let outcome = outcome.map(|()| Good { reason: Reason::Ready, message: String::new() });
            summary(&outcome).into_iter().map(|o| (o.type_, o.status == ConditionStatus::True)).collect::<Vec<_>>()
        };
        assert_eq!(status(Ok(())), [(READY, true), (RECONCILING, false), (STALLED, false)]);
        assert_eq!(status(edit(Reason::IdentityMismatch, "")), [(READY, false), (RECONCILING, false), (STALLED, true)]);
        assert_eq!(status(polled(Reason::NotManaged, "")), [(READY, false), (RECONCILING, true), (STALLED, false)]);
    }
}
