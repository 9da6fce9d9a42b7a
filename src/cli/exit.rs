//! How the program ends: one code for each kind of end, so that scripts can tell them apart.

use std::fmt::Write as _;
use std::io;

use clap::ValueEnum;

use crate::cluster::errors::message;

/// The exit codes. Their numbers are promised to scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Exit {
    /// What was asked for is done.
    Done = 0,
    /// It was refused, or failed for another reason than those below.
    Failed = 1,
    /// A flag or an argument is wrong. Nothing was done.
    Usage = 2,
    /// The request that was waited for ended without success.
    Unsuccessful = 3,
    /// The wait took longer than its time-out. What was waited for goes on.
    TimedOut = 4,
    /// An object that was named does not exist.
    NotFound = 5,
    /// The caller lacks a right.
    NotAllowed = 6,
    /// The API server can't be reached, or can't answer.
    Unreachable = 7,
}

/// An error that says how the program ends.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
struct Ended {
    code: Exit,
    message: String,
}

impl Exit {
    /// An error that ends the program with this code.
    pub fn because(self, message: impl Into<String>) -> anyhow::Error {
        Ended { code: self, message: message.into() }.into()
    }

    /// The code that an error ends the program with: the one that a verb gave it, or the one that fits what the API server answered.
    pub fn of(error: &anyhow::Error) -> Self {
        if let Some(ended) = error.downcast_ref::<Ended>() {
            return ended.code;
        }
        for cause in error.chain() {
            if let Some(answer) = cause.downcast_ref::<kube::Error>() {
                return Self::of_answer(answer);
            }
            // Whoever read the output has read enough.
            if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
                return Self::Done;
            }
        }
        Self::Failed
    }

    fn of_answer(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => match status.code {
                401 | 403 => Self::NotAllowed,
                404 => Self::NotFound,
                429 | 500..=599 => Self::Unreachable,
                _ => Self::Failed,
            },
            kube::Error::Service(_) | kube::Error::HyperError(_) | kube::Error::ReadEvents(_) => Self::Unreachable,
            _ => Self::Failed,
        }
    }

    /// The codes with their meaning, for the help.
    pub(super) fn help() -> String {
        let mut text = String::from("Exit codes:\n");
        for code in Self::value_variants() {
            let meaning = code.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string)).unwrap_or_default();
            // Writing to a String can't fail.
            let _ = writeln!(text, "  {}  {meaning}", *code as u8);
        }
        text
    }
}

/// An error with its causes, up to what the API server says.
pub(super) fn said(error: &anyhow::Error) -> String {
    let mut words = Vec::new();
    for cause in error.chain() {
        if let Some(answer) = cause.downcast_ref::<kube::Error>() {
            words.push(answered(answer));
            break;
        }
        words.push(cause.to_string());
    }
    words.join(": ")
}

/// What the API server answered. If it did not, the causes say more than the error.
fn answered(error: &kube::Error) -> String {
    let kube::Error::Service(cause) = error else { return message(error) };
    let mut deepest: &dyn std::error::Error = cause.as_ref();
    while let Some(next) = deepest.source() {
        deepest = next;
    }
    format!("the API server can't be reached: {deepest}")
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use kube::core::Status;

    use super::*;

    fn answer(code: u16) -> anyhow::Error {
        kube::Error::Api(Status::failure("no", "").with_code(code).boxed()).into()
    }

    #[test]
    fn the_code_is_found_below_what_was_added_and_by_what_the_server_answered() {
        let deep = Err::<(), _>(Exit::TimedOut.because("it goes on")).context("waiting").context("retrying").unwrap_err();
        assert_eq!((Exit::of(&deep), said(&deep).as_str()), (Exit::TimedOut, "retrying: waiting: it goes on"));
        for (code, exit) in [(404, Exit::NotFound), (403, Exit::NotAllowed), (503, Exit::Unreachable), (422, Exit::Failed)] {
            assert_eq!(Exit::of(&answer(code).context("reading")), exit, "{code}");
        }
        assert_eq!(Exit::of(&anyhow::anyhow!("x")), Exit::Failed);
        assert_eq!(Exit::of(&io::Error::from(io::ErrorKind::BrokenPipe).into()), Exit::Done);
    }

    #[test]
    fn the_help_says_what_each_code_means() {
        let help = Exit::help();
        assert!(help.contains("  3  The request that was waited for ended without success\n"), "{help}");
        assert_eq!(help.lines().count(), 1 + Exit::value_variants().len());
    }
}
