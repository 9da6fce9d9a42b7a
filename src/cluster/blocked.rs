//! Why something can't go on, whether waiting can help, and what for: the one shape of it, from the lowest room to the condition.

use crate::api::reason::Reason;
use crate::cluster::errors;

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
    /// What an error of the API server means.
    ///
    /// 401 passes: tokens are renewed. 404 and 409 are the caller's to understand; where they come through to here, a
    /// later attempt reads the world anew.
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                403 => Self::Wait(Wait::Right),
                400 | 405 | 406 | 413 | 415 | 422 => Self::End,
                _ => Self::Wait(Wait::Server),
            },
            kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => Self::End,
            error if errors::is_too_deep(error) => Self::End,
            _ => Self::Wait(Wait::Server),
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
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).map_err(kube::Error::SerdeError);
        assert_eq!(read(&deep(400)).map_err(|error| Until::of(&error)), Err(Until::End), "it nests as deep the next time");
        assert!(read(&deep(errors::DEEPEST)).is_ok());
        assert_eq!(read("[[[").map_err(|error| Until::of(&error)), Err(Until::Wait(Wait::Server)), "a reply that was cut off");
    }
}
