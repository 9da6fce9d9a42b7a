//! The status of a Solution: what it tells the maker about requests, and how it stays within its bounds. What runs in a stage comes first.
//! A request that was never accepted hides no accepted one, and nobody's requests hide those of others. And what it tells of what can be
//! asked for.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::offered::{self, Offer};
use super::versions;
use crate::api::phase::Phase;
use crate::api::solution::{
    self, MAX_OTHER_MESSAGE, MOST_DEPLOYMENTS, MOST_OTHERS, OtherRequest, RunningVersion, SolutionDeployment, SolutionStatus,
};
use crate::api::solution_stages::{MOST_VERSIONS, StoredVersion};
use crate::api::{Solution, bounds, condition};

/// What is known about the version that runs in a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// This version, or none.
    Known(Option<RunningVersion>),
    /// It was not looked up: the existing entry stays.
    Unknown,
}

/// What can be asked for from the Solution's namespace, as the hosts of this operator have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offered {
    pub(crate) offers: Vec<Offer>,
    /// The stored versions that may be asked for.
    pub(crate) versions: Vec<StoredVersion>,
    /// The hosts that this operator serves; empty for all. What others say of theirs stays.
    pub(crate) hosts: Vec<String>,
}

/// Puts into the status what can be asked for, and whether there is anything; to be done last, as it depends on the rest of the status.
pub(crate) fn settle(solution: &Solution, status: &mut SolutionStatus, offered: &Offered, now: Timestamp) {
    let of_others = |host: &String| !offered.hosts.is_empty() && !offered.hosts.contains(host);
    status.stages.retain(|stage| of_others(&stage.host));
    status.stages.extend(offered::stages(&offered.offers, &solution.spec.version, &status.deployments));
    status.stages_omitted = offered::bound(&mut status.stages);
    status.versions.retain(|version| of_others(&version.host));
    status.versions.extend(offered.versions.iter().cloned());
    status.versions.sort_by(|a, b| (&a.host, &a.version).cmp(&(&b.host, &b.version)));
    status.versions_omitted = i32::try_from(status.versions.len().saturating_sub(MOST_VERSIONS)).unwrap_or(i32::MAX);
    status.versions.truncate(MOST_VERSIONS);
    versions::note(&mut status.developed, &solution.spec.version, versions::appeared(solution, now));
    let (generation, namespace) = (solution.metadata.generation, solution.metadata.namespace.as_deref().unwrap_or_default());
    status.observed_generation = generation.unwrap_or(status.observed_generation);
    for observation in offered::ready(&status.stages, namespace) {
        condition::set(&mut status.conditions, &observation, generation, now);
    }
    bound(status);
}

/// Writes a request into the status.
pub(crate) fn note(status: &mut SolutionStatus, new: &SolutionDeployment, runs: Runs) {
    let of_stage = |d: &&mut SolutionDeployment| d.host == new.host && d.stage == new.stage;
    if let Some(existing) = status.deployments.iter_mut().find(of_stage) {
        add(existing, new.clone(), runs);
    } else {
        let runs = if let Runs::Known(runs) = runs { runs } else { None };
        status.deployments.push(SolutionDeployment { runs, ..new.clone() });
    }
    bound(status);
}

/// A message without the names of requests that makers may not know of: those of other solutions, and of other development environments.
/// Messages name a request by this word and its name.
pub(crate) fn without_strangers(message: &str, is_stranger: impl Fn(&str) -> bool) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let mut told = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = rest.to_ascii_lowercase().find("request ") {
        let (before, named) = rest.split_at(at + "request ".len());
        // A sentence may end after the name.
        let name = &named[..named.find(|c| !is_of_name(c)).unwrap_or(named.len())];
        let name = name.trim_end_matches('.');
        told.push_str(&before[..at]);
        if is_stranger(name) {
            told.push_str(if before[at..].starts_with('R') { "Another request" } else { "another request" });
            rest = &named[name.len()..];
        } else {
            told.push_str(&before[at..]);
            rest = named;
        }
    }
    told.push_str(rest);
    told
}

/// Whether the status shows a request of that name.
pub(crate) fn shows(status: &SolutionStatus, request: &str) -> bool {
    status.deployments.iter().any(|entry| entry.request == request || entry.others.iter().any(|other| other.request == request))
}

/// Drops what there is no room for, and updates the summary.
pub(crate) fn bound(status: &mut SolutionStatus) {
    while status.deployments.len() > MOST_DEPLOYMENTS {
        let worth = |d: &SolutionDeployment| (d.runs.is_some(), !d.never_accepted, !Phase::has_ended(&d.phase), d.at);
        let Some((index, _)) = status.deployments.iter().enumerate().min_by_key(|(_, d)| worth(d)) else { return };
        status.deployments.remove(index);
        status.deployments_omitted = status.deployments_omitted.saturating_add(1);
    }
    status.summary = solution::summary(&status.deployments);
}

fn add(existing: &mut SolutionDeployment, new: SolutionDeployment, runs: Runs) {
    // A write that failed is tried again, and may come after later writes.
    let is_later = |phase: &str, at: Timestamp| at > new.at || Phase::has_ended(phase) && !Phase::has_ended(&new.phase);
    let told = existing.others.iter().find(|o| o.request_uid == new.request_uid).map(|o| (o.phase.as_str(), o.at));
    let told = if existing.request_uid == new.request_uid { Some((existing.phase.as_str(), existing.at)) } else { told };
    if told.is_some_and(|(phase, at)| is_later(phase, at)) {
        return;
    }
    let runs = match runs {
        Runs::Known(runs) => runs,
        Runs::Unknown => existing.runs.take(),
    };
    let (mut others, omitted) = (std::mem::take(&mut existing.others), existing.others_omitted);
    others.retain(|other| other.request_uid != new.request_uid);
    let first = if existing.request_uid == new.request_uid {
        later(existing, new)
    } else if goes_before(&new, existing) {
        others.push(beside(existing.clone()));
        new
    } else {
        others.push(beside(new));
        existing.clone()
    };
    let dropped = shorten(&mut others);
    *existing = SolutionDeployment { runs, others, others_omitted: omitted.saturating_add(dropped), ..first };
}

/// The entry that replaces `existing` of the same request. Comments are kept: a process with an older state of the request does not remove
/// them.
fn later(existing: &SolutionDeployment, new: SolutionDeployment) -> SolutionDeployment {
    let said = existing.approval_comments.clone();
    let by = existing.approved_by.clone();
    let decisions = if new.decisions.len() < existing.decisions.len() { existing.decisions.clone() } else { new.decisions.clone() };
    SolutionDeployment { approval_comments: new.approval_comments.or(said), approved_by: new.approved_by.or(by), decisions, ..new }
}

/// Whether a request is shown in the place of another. Accepted requests win over those that were never accepted; then the newer one wins.
/// Of two of the same second, one that has not ended wins, and of two that have ended the one that did so later. Of two that are both open
/// the uid decides: they must not take turns.
fn goes_before(new: &SolutionDeployment, existing: &SolutionDeployment) -> bool {
    let rank = |d: &SolutionDeployment| {
        let ended_at = Phase::has_ended(&d.phase).then_some(d.at);
        let open = ended_at.is_none().then(|| d.request_uid.clone());
        (!d.never_accepted, d.asked_at.unwrap_or(d.at), open, ended_at)
    };
    rank(new) >= rank(existing)
}

fn beside(entry: SolutionDeployment) -> OtherRequest {
    OtherRequest {
        version: entry.version,
        phase: entry.phase,
        request: entry.request,
        request_uid: entry.request_uid,
        requester: entry.requester,
        never_accepted: entry.never_accepted,
        message: entry.message.map(|message| bounds::text(&message, MAX_OTHER_MESSAGE)),
        asked_at: entry.asked_at,
        at: entry.at,
    }
}

/// Keeps the first few. If one has to be dropped, it is one of the person who has most of them.
fn shorten(others: &mut Vec<OtherRequest>) -> i32 {
    let rank = |o: &OtherRequest| (Phase::has_ended(&o.phase), o.never_accepted, std::cmp::Reverse(made(o)));
    others.sort_by_key(rank);
    let mut dropped = 0;
    while others.len() > MOST_OTHERS {
        let mut of_each: BTreeMap<&str, usize> = BTreeMap::new();
        for other in others.iter() {
            *of_each.entry(&other.requester).or_default() += 1;
        }
        let most = of_each.values().copied().max().unwrap_or_default();
        let last = others.iter().rposition(|o| of_each.get(o.requester.as_str()) == Some(&most));
        let index = if most > 1 { last } else { None }.unwrap_or(others.len() - 1);
        others.remove(index);
        dropped += 1;
    }
    dropped
}

fn made(other: &OtherRequest) -> Timestamp {
    other.asked_at.unwrap_or(other.at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn asked(number: i64, requester: &str, stage: &str, phase: &str) -> SolutionDeployment {
        SolutionDeployment {
            host: "host".into(),
            stage: stage.into(),
            pipeline: "standard".into(),
            runs: None,
            version: format!("1.{number}.0"),
            phase: phase.into(),
            request: format!("r{number}"),
            request_uid: format!("u{number}"),
            requester: requester.into(),
            never_accepted: false,
            message: Some("waits".into()),
            waiting_since: None,
            waiting_until: None,
            approved_by: None,
            approval_comments: None,
            source_environment: None,
            artifact: None,
            decisions: Vec::new(),
            asked_at: Some(at(number)),
            at: at(number + 1000),
            others: Vec::new(),
            others_omitted: 0,
        }
    }

    fn refused(number: i64, requester: &str) -> SolutionDeployment {
        SolutionDeployment { never_accepted: true, ..asked(number, requester, "qa", "Failed") }
    }

    fn running(version: &str) -> Runs {
        Runs::Known(Some(RunningVersion { version: version.into(), since: Some(at(1)) }))
    }

    #[test]
    fn what_runs_is_said_first_and_a_failed_request_does_not_change_it() {
        let mut status = SolutionStatus::default();
        note(&mut status, &asked(0, "dana", "qa", "AwaitingApproval"), Runs::Known(None));
        assert_eq!(status.summary, "qa: nothing (1.0.0 AwaitingApproval)");
        note(&mut status, &asked(0, "dana", "qa", "Succeeded"), running("1.0.0"));
        assert_eq!(status.summary, "qa: 1.0.0");
        note(&mut status, &asked(1, "dana", "qa", "Failed"), running("1.0.0"));
        assert_eq!(status.summary, "qa: 1.0.0 (1.1.0 Failed)");
        note(&mut status, &asked(1, "dana", "qa", "Failed"), Runs::Unknown);
        assert_eq!(status.summary, "qa: 1.0.0 (1.1.0 Failed)", "what was not looked up stays said");
    }

    #[test]
    fn requests_that_makers_may_not_know_of_are_not_named() {
        let strangers = ["secret-of-billing", "b.c"];
        for (message, told) in [
            ("waits for request secret-of-billing, which deploys", "waits for another request, which deploys"),
            ("does not run. Request secret-of-billing brings one", "does not run. Another request brings one"),
            ("runs 1.0.0 (request b.c), after request own-1", "runs 1.0.0 (another request), after request own-1"),
            ("waits for request secret-of-billing-2", "waits for request secret-of-billing-2"),
            ("it was request b.c. A new request", "it was another request. A new request"),
            ("a new request ", "a new request "),
            ("ä request b.c", "ä another request"),
        ] {
            assert_eq!(without_strangers(message, |name| strangers.contains(&name)), told);
        }
    }

    #[test]
    fn what_was_never_accepted_hides_nothing_that_was() {
        let mut status = SolutionStatus::default();
        note(&mut status, &asked(0, "dana", "qa", "AwaitingApproval"), Runs::Unknown);
        note(&mut status, &refused(5, "sam"), Runs::Unknown);
        let [entry] = &status.deployments[..] else { panic!("one stage") };
        assert_eq!((entry.requester.as_str(), entry.others[0].requester.as_str()), ("dana", "sam"));
        let rejected = SolutionDeployment { approval_comments: Some("no".into()), ..asked(0, "dana", "qa", "Rejected") };
        note(&mut status, &rejected, Runs::Unknown);
        assert_eq!((status.deployments[0].phase.as_str(), status.deployments[0].approval_comments.as_deref()), ("Rejected", Some("no")));
        // In the other order it gives up its place.
        let mut status = SolutionStatus::default();
        note(&mut status, &refused(5, "sam"), Runs::Unknown);
        note(&mut status, &asked(0, "dana", "qa", "Pending"), Runs::Unknown);
        assert_eq!(status.deployments[0].requester, "dana");
    }

    #[test]
    fn an_older_request_that_ends_late_is_told_beside_the_newer_one() {
        let mut status = SolutionStatus::default();
        note(&mut status, &asked(0, "dana", "qa", "Deploying"), Runs::Unknown);
        note(&mut status, &asked(1, "dan", "qa", "AwaitingApproval"), Runs::Unknown);
        note(&mut status, &asked(0, "dana", "qa", "Succeeded"), running("1.0.0"));
        let entry = &status.deployments[0];
        assert_eq!((entry.request.as_str(), entry.others.len(), entry.others[0].phase.as_str()), ("r1", 1, "Succeeded"));
        assert_eq!(status.summary, "qa: 1.0.0 (1.1.0 AwaitingApproval)");
    }

    #[test]
    fn two_requests_of_one_second_do_not_take_turns() {
        let of_one_second = |request: &str, phase: &str, at_: i64| SolutionDeployment {
            request: request.into(),
            request_uid: request.into(),
            at: at(at_),
            ..asked(0, "dana", "qa", phase)
        };
        let mut status = SolutionStatus::default();
        let mut first = |entry| {
            note(&mut status, &entry, Runs::Unknown);
            status.deployments[0].request.clone()
        };
        assert_eq!(first(of_one_second("a", "Pending", 1)), "a");
        assert_eq!(first(of_one_second("b", "Pending", 1)), "b");
        assert_eq!(first(of_one_second("a", "AwaitingApproval", 2)), "b", "both are open");
        assert_eq!(first(of_one_second("b", "Canceled", 3)), "b");
        assert_eq!(first(of_one_second("a", "Deploying", 4)), "a", "the other one has ended");
        assert_eq!(first(of_one_second("a", "Succeeded", 5)), "a");
        assert_eq!(first(of_one_second("0", "Rejected", 5)), "0", "told last");
    }

    #[test]
    fn who_asks_most_is_who_is_left_out() {
        let mut status = SolutionStatus::default();
        note(&mut status, &asked(0, "dana", "qa", "AwaitingApproval"), Runs::Unknown);
        for number in 1..50 {
            note(&mut status, &asked(number, "sam", "qa", "AwaitingApproval"), Runs::Unknown);
        }
        let entry = &status.deployments[0];
        assert_eq!(entry.others.len(), MOST_OTHERS);
        assert!(entry.others.iter().any(|o| o.requester == "dana"), "{:?}", entry.others);
        assert_eq!(usize::try_from(entry.others_omitted).unwrap() + entry.others.len() + 1, 50);
    }

    #[test]
    fn one_stage_more_than_there_is_room_for_leaves_out_the_one_that_says_least() {
        let mut status = SolutionStatus::default();
        for number in 0..=i64::try_from(MOST_DEPLOYMENTS).unwrap() {
            let entry = asked(number, "dana", &format!("s{number}"), "Succeeded");
            let runs = if number == 3 { Runs::Known(None) } else { running("1.0.0") };
            note(&mut status, &entry, runs);
        }
        assert_eq!((status.deployments.len(), status.deployments_omitted), (MOST_DEPLOYMENTS, 1));
        assert!(status.deployments.iter().all(|d| d.stage != "s3"), "nothing runs there");
    }
}
