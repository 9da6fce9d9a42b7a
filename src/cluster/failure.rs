//! Kinds of failure: whether waiting can help, and what for.

use crate::cluster::errors;

/// What can be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Failure {
    /// The API server or the way to it failed; the same call may succeed a moment later.
    Transient,
    /// A right is missing that somebody may grant.
    MissingRight,
    /// Waiting changes nothing: somebody must write something else.
    Refused,
}

impl Failure {
    /// What an error of the API server means.
    /// 401 is transient: tokens are renewed. The caller handles 404 and 409. If they get here, a later attempt reads everything again.
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                403 => Self::MissingRight,
                400 | 405 | 406 | 413 | 415 | 422 => Self::Refused,
                _ => Self::Transient,
            },
            kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => Self::Refused,
            error if errors::is_too_deep(error) => Self::Refused,
            _ => Self::Transient,
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
        assert_eq!(Failure::of(&api(403)), Failure::MissingRight);
        assert_eq!(Failure::of(&api(422)), Failure::Refused);
        assert_eq!(Failure::of(&api(503)), Failure::Transient);
        assert_eq!(Failure::of(&api(409)), Failure::Transient);
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).map_err(kube::Error::SerdeError);
        assert_eq!(read(&deep(400)).map_err(|error| Failure::of(&error)), Err(Failure::Refused), "it nests as deep the next time");
        assert!(read(&deep(errors::DEEPEST)).is_ok());
        assert_eq!(read("[[[").map_err(|error| Failure::of(&error)), Err(Failure::Transient), "a reply that was cut off");
    }
}
