//! A request that can't be continued: its end is written in a few words that certainly fit, and what it holds is released.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::condition::{Condition, ConditionStatus, Observation};
use crate::api::duration;
use crate::api::phase::Phase;
use crate::api::reason::Reason;
use crate::api::request_status::{RunStatus, condition_types as types};
use crate::api::{Stage, bounds};
use crate::policy::clock;
use crate::policy::request::report::Report;
use crate::policy::request::step::{End, Ending, Progress};
use crate::policy::request::waiting::DEFAULT_TIMEOUT;

/// The most characters of a message that certainly fits.
const FEW: usize = 1024;

/// How long a request that can't be decided on may still recover by itself. It may if it has started, unless its status can't be written.
pub(super) fn time_left(run: &RunStatus, stage: Option<&Stage>, reason: Reason, now: Timestamp) -> Option<Duration> {
    let asked = stage.and_then(|stage| duration::parse(&stage.spec.deployment.timeout));
    let deadline = clock::after(run.start_time?, asked.unwrap_or(DEFAULT_TIMEOUT));
    (reason == Reason::InternalError && now < deadline).then(|| deadline.duration_since(now).try_into().unwrap_or_default())
}

/// The end of a request that can't be decided on, whatever the cause is.
pub(super) fn given_up(run: &RunStatus, reason: Reason, why: &str) -> Ending {
    let mut message = bounds::text(why, FEW);
    message.push_str(match run.start_time {
        Some(_) => ". What was written to the target by then stays",
        None => ". Nothing was written to the target",
    });
    Ending { end: End::Failed, at: Progress::Acceptance, reason, message, restored: false }
}

/// The report of such an end. How far the request had come is not known.
pub(super) fn report(ending: &Ending) -> Report {
    let Ending { reason, message, .. } = ending;
    Report {
        phase: Phase::Failed,
        conditions: vec![
            Observation::new(types::SUCCEEDED, false, *reason, message),
            Observation::new(types::RECONCILING, false, Reason::Ended, "the request has ended"),
            Observation::new(types::STALLED, true, *reason, message),
        ],
        waiting: None,
    }
}

/// A status without its lists. The omitted entries are counted.
pub(super) fn without_lists(status: &RunStatus) -> RunStatus {
    let mut new = status.clone();
    if let Some(plan) = new.plan.as_mut() {
        plan.objects_omitted = plan.objects_omitted.saturating_add(emptied(&mut plan.objects));
        plan.access_omitted = plan.access_omitted.saturating_add(emptied(&mut plan.access));
        plan.results_omitted = plan.results_omitted.saturating_add(emptied(&mut plan.results));
    }
    new.errors_omitted = new.errors_omitted.saturating_add(emptied(&mut new.errors));
    new.conditions.iter_mut().for_each(shorten);
    new
}

/// Only the end, on top of a status that was accepted before.
pub(super) fn end_alone(before: &RunStatus, ended: &RunStatus) -> RunStatus {
    let mut new = without_lists(before);
    new.phase.clone_from(&ended.phase);
    new.end_time = ended.end_time;
    new.waiting = None;
    new.observed_generation = ended.observed_generation;
    let summary = [types::SUCCEEDED, types::RECONCILING, types::STALLED];
    new.conditions = ended.conditions.iter().filter(|c| summary.contains(&c.type_.as_str())).cloned().collect();
    new.conditions.iter_mut().for_each(shorten);
    new
}

fn emptied<T>(list: &mut Vec<T>) -> i32 {
    i32::try_from(std::mem::take(list).len()).unwrap_or(i32::MAX)
}

fn shorten(condition: &mut Condition) {
    condition.message = bounds::text(&condition.message, if condition.status == ConditionStatus::False { FEW } else { FEW / 2 });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn large() -> RunStatus {
        let condition = |type_: &str| json!({"type": type_, "status": "False", "lastTransitionTime": "2026-11-30T00:00:00Z", "reason": "R", "message": "m".repeat(32_768)});
        let error = json!({"kind": "K", "name": "n", "reason": "R", "message": "m".repeat(2048)});
        serde_json::from_value(json!({
            "phase": "Failed", "endTime": "2026-11-30T00:00:00Z", "source": "oci://registry.test/orders@sha256:0",
            "conditions": [condition("Accepted"), condition("Succeeded"), condition("Stalled")],
            "errors": vec![error.clone(); 64],
            "plan": {"hash": "h", "artifactDigest": "a", "settingsDigest": "s", "environmentId": "e", "stageUID": "u", "delegate": "bot", "results": vec![error; 64]},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_listed_is_left_out_and_counted() {
        let small = without_lists(&large());
        let plan = small.plan.clone().unwrap();
        assert_eq!((small.errors.len(), small.errors_omitted, plan.results_omitted, plan.hash.as_str()), (0, 64, 64, "h"));
        assert!(serde_json::to_vec(&small).unwrap().len() < 8192);
    }

    #[test]
    fn the_end_alone_keeps_what_may_not_change() {
        let before = RunStatus { phase: "Deploying".into(), start_time: Some(Timestamp::UNIX_EPOCH), ..RunStatus::default() };
        let small = end_alone(&before, &large());
        assert_eq!((small.phase.as_str(), small.start_time, small.conditions.len()), ("Failed", before.start_time, 2));
        assert!(small.end_time.is_some() && small.plan.is_none());
        assert!(serde_json::to_vec(&small).unwrap().len() < 8192);
    }
}
