//! Decisions, one behaviour each.

mod acceptance;
mod deployment;
mod gates;
mod planning;
mod rights;

use super::step::{End, Progress, Step};
use crate::api::reason::Reason;

pub(super) fn ends(step: Step) -> (End, Reason, String) {
    match step {
        Step::Finish(ending) => (ending.end, ending.reason, ending.message),
        other => panic!("expected an end, got {other:?}"),
    }
}

pub(super) fn waits(step: Step) -> (Progress, Reason, String) {
    match step {
        Step::Wait(wait) => (wait.at, wait.reason, wait.message),
        other => panic!("expected a wait, got {other:?}"),
    }
}
