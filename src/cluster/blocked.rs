//! Why something can't go on, whether waiting can help, and what for: the one shape of it, from the lowest room to the condition.

use crate::api::reason::Reason;
use crate::cluster::errors::{self, Cause};

/// Why something can't go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocked {
    /// Why, in one word.
    pub(crate) reason: Reason,
    /// Why, and what to do about it.
    pub(crate) message: String,
    /// What it takes to go on.
    pub(crate) until: Until,
}

impl Blocked {
    pub(crate) fn waits(wait: Wait, reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), until: Until::Wait(wait) }
    }

    /// It never goes on as it is.
    pub(crate) fn ends(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), until: Until::End }
    }

    /// Whether waiting can help.
    pub(crate) fn may_pass(&self) -> bool {
        self.until != Until::End
    }
}

/// What it takes to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Until {
    /// It may pass by itself, or not.
    Wait(Wait),
    /// Waiting changes nothing: something must be written differently.
    End,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wait {
    /// A right that somebody may grant.
    Right,
    /// Something else that somebody can put right: what is missing in a registry, or no room in it.
    Somebody,
    /// A server that can't be reached, or has no time; the same call may succeed a moment later.
    Server,
}

impl Until {
    /// What an error of an API server takes.
    pub(crate) fn of(error: &kube::Error) -> Self {
        match errors::classify(error) {
            // What is not found, or has changed, is the caller's to understand. Where it comes through to here, a later attempt reads anew.
            Cause::Transient | Cause::Stale | Cause::NotFound => Self::Wait(Wait::Server),
            Cause::Unauthorized | Cause::Escalation => Self::Wait(Wait::Right),
            Cause::Quota | Cause::Denied | Cause::NamespaceTerminating => Self::Wait(Wait::Somebody),
            Cause::FieldConflict | Cause::Immutable | Cause::Invalid | Cause::Other => Self::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status { code, ..Status::default() }))
    }

    #[test]
    fn a_forbidden_call_waits_for_a_right_and_an_invalid_one_for_nothing() {
        assert_eq!(Until::of(&api(403)), Until::Wait(Wait::Right));
        assert_eq!(Until::of(&api(422)), Until::End);
        assert_eq!(Until::of(&api(503)), Until::Wait(Wait::Server));
        assert_eq!(Until::of(&api(409)), Until::Wait(Wait::Server));
        let says = |code: u16, message: &str| kube::Error::Api(Box::new(Status { code, message: message.into(), ..Status::default() }));
        let full = says(403, "artifacts \"orders-1.0.0\" is forbidden: exceeded quota: records, used: 9, limited: 9");
        assert_eq!(Until::of(&full), Until::Wait(Wait::Somebody), "no right makes room");
        assert_eq!(Until::of(&says(500, "etcdserver: request is too large")), Until::End, "it is as large the next time");
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).map_err(kube::Error::SerdeError);
        assert_eq!(read(&deep(400)).map_err(|error| Until::of(&error)), Err(Until::End), "it nests as deep the next time");
        assert!(read(&deep(errors::DEEPEST)).is_ok());
        assert_eq!(read("[[[").map_err(|error| Until::of(&error)), Err(Until::Wait(Wait::Server)), "a reply that was cut off");
    }
}
