//! The requests that only plan, in the status of a Solution: the newest few, those that have not ended first. Nobody's plans push out all
//! those of others.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::api::phase::Phase;
use crate::api::solution_plans::{MOST_PLANS, SolutionPlan};

/// Writes a plan into the list.
pub(crate) fn note(plans: &mut Vec<SolutionPlan>, new: SolutionPlan) {
    if let Some(told) = plans.iter().find(|plan| plan.request_uid == new.request_uid)
        && (told.at > new.at || Phase::has_ended(&told.phase) && !Phase::has_ended(&new.phase))
    {
        // A write that failed is tried again, and may come after later writes.
        return;
    }
    plans.retain(|plan| plan.request_uid != new.request_uid);
    plans.push(new);
    plans.sort_by_key(|plan| (Phase::has_ended(&plan.phase), Reverse(plan.asked_at.unwrap_or(plan.at))));
    while plans.len() > MOST_PLANS {
        let mut of_each: BTreeMap<&str, usize> = BTreeMap::new();
        for plan in plans.iter() {
            *of_each.entry(&plan.requester).or_default() += 1;
        }
        let most = of_each.values().copied().max();
        let index = plans.iter().rposition(|plan| of_each.get(plan.requester.as_str()).copied() == most).unwrap_or(MOST_PLANS);
        plans.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn plan(number: i64, requester: &str, phase: &str) -> SolutionPlan {
        let at = Timestamp::from_second(number).unwrap();
        SolutionPlan {
            host: "host".into(),
            stage: "qa".into(),
            pipeline: "standard".into(),
            version: "1.0.0".into(),
            phase: phase.into(),
            request: format!("r{number}"),
            request_uid: format!("u{number}"),
            requester: requester.into(),
            message: String::new(),
            objects: Vec::new(),
            objects_omitted: 0,
            results: Vec::new(),
            results_omitted: 0,
            asked_at: Some(at),
            at,
        }
    }

    #[test]
    fn who_plans_most_is_who_is_left_out() {
        let mut plans = Vec::new();
        note(&mut plans, plan(0, "dana", "Planned"));
        for number in 1..50 {
            note(&mut plans, plan(number, "sam", "Planned"));
        }
        assert_eq!(plans.len(), MOST_PLANS);
        assert!(plans.iter().any(|plan| plan.requester == "dana"), "{plans:?}");
        assert_eq!(plans[0].request, "r49", "the newest is first");
    }

    #[test]
    fn what_has_ended_is_not_told_as_under_way_again() {
        let mut plans = vec![plan(1, "dana", "Planned")];
        note(&mut plans, plan(1, "dana", "Pending"));
        assert_eq!(plans, [plan(1, "dana", "Planned")]);
    }
}
