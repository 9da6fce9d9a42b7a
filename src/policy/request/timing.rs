//! When an approved request may start: its scheduled time, the stage's windows, the soak time, and its place in the queue.

use std::ops::ControlFlow::{self, Break, Continue};

use jiff::Timestamp;

use super::acceptance::Subject;
use super::observed::Observed;
use super::step::{End, Ending, Progress, Step, Waiting};
use super::waiting::since;
use crate::api::reason::Reason;
use crate::policy::clock;
use crate::policy::windows::{self, Opening};

/// The scheduled time has come, the soak time is over, and no window forbids the start.
pub(crate) fn due(o: &Observed, subject: &Subject<'_>, now: Timestamp) -> ControlFlow<Step> {
    if let Ok(Some(scheduled)) = o.request.scheduled_time
        && now < scheduled
    {
        return Break(Waiting::watched(
            Progress::Queue,
            Reason::Scheduled,
            format!("waits since {} for its scheduled time, {scheduled}", since(o, Reason::Scheduled, now)),
            Some(scheduled),
        ));
    }
    if let Some(previous) = &subject.stage.previous
        && let Some(place) = &previous.place
        && let Some(artifact) = o.artifact.present()
        && let Some(ripe) = place.first_success(artifact).map(|at| clock::after(at, subject.stage.soak))
        && now < ripe
    {
        return Break(Waiting::watched(
            Progress::Queue,
            Reason::Soaking,
            format!(
                "waits since {} until {ripe}: stage {} asks for a soak time since the success in stage {}",
                since(o, Reason::Soaking, now),
                o.request.stage,
                previous.name
            ),
            Some(ripe),
        ));
    }
    match windows::opening(&subject.stage.windows, now) {
        Ok(Opening::Open) => Continue(()),
        Ok(Opening::Closed { until, schedule }) => {
            let when = until.map_or_else(|| "a window opens".to_owned(), |at| at.to_string());
            Break(Waiting::watched(
                Progress::Queue,
                Reason::OutsideWindow,
                format!(
                    "waits since {} until {when}: the windows of stage {} (schedule \"{schedule}\") let nothing start now",
                    since(o, Reason::OutsideWindow, now),
                    o.request.stage
                ),
                until,
            ))
        }
        Err(error) => Break(Waiting::watched(
            Progress::Queue,
            Reason::WindowInvalid,
            format!("the windows of stage {} can't be read: {error}; its owner must correct them", o.request.stage),
            None,
        )),
    }
}

/// A higher version got there first: said, never skipped silently.
pub(crate) fn superseded(o: &Observed, subject: &Subject<'_>, digest: &str) -> ControlFlow<Step> {
    if subject.pipeline.allow_redeployments {
        return Continue(());
    }
    match &subject.target.current {
        Some(current) if current.version == o.request.version && subject.target.failed.is_some() => Continue(()),
        Some(current) if current.version > o.request.version || (current.version == o.request.version && current.digest == digest) => {
            // A claim of its own shows that it is this request's own work, half recorded.
            if subject.target.claim.as_ref().is_some_and(|c| c.request_uid == o.request.uid) {
                return Continue(());
            }
            Break(Ending::step(
                End::Failed,
                Progress::Queue,
                Reason::Superseded,
                format!(
                    "stage {} now runs {} {} (request {}), which overtook this request; nothing was written",
                    o.request.stage, o.request.solution, current.version, current.request
                ),
            ))
        }
        _ => Continue(()),
    }
}

/// One at a time for each solution and environment, in the order in which gates opened the way.
pub(crate) fn turn(o: &Observed, subject: &Subject<'_>, now: Timestamp) -> ControlFlow<Step> {
    let since = since(o, Reason::Queued, now);
    let what = format!("{} in environment {}", o.request.solution, subject.stage.target_environment);
    if let Some(super::observed::ClaimOutcome::NoRoom { message }) = &o.outcomes.claim {
        return Break(Ending::step(End::Failed, Progress::Queue, Reason::EnvironmentFull, message));
    }
    if let Some(super::observed::ClaimOutcome::Lost { to }) = &o.outcomes.claim {
        return Break(Waiting::watched(
            Progress::Queue,
            Reason::Queued,
            format!("waits since {since} for request {to}, which deploys {what}"),
            None,
        ));
    }
    match &subject.target.claim {
        Some(claim) if claim.request_uid == o.request.uid => return Continue(()),
        Some(claim) => {
            return Break(Waiting::watched(
                Progress::Queue,
                Reason::Queued,
                format!("waits since {since} for request {}, which deploys {what}", claim.request),
                None,
            ));
        }
        None => {}
    }
    let own = o.rivals.iter().find(|r| r.uid == o.request.uid).and_then(|r| r.queued_since);
    let first =
        o.rivals.iter().filter(|r| r.uid != o.request.uid).filter_map(|r| r.queued_since.map(|queued| (queued, &r.uid, &r.name))).min();
    match (first, own) {
        (Some((queued, uid, name)), own) if own.is_none_or(|own| (queued, uid) < (own, &o.request.uid)) => Break(Waiting::watched(
            Progress::Queue,
            Reason::Queued,
            format!("waits since {since} for request {name}, whose turn it is to deploy {what}"),
            None,
        )),
        _ => Continue(()),
    }
}
