//! Short retries of calls that may be repeated: reads, dry runs, and applies (which are idempotent). Controllers wait longer by themselves.

use std::future::Future;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use tokio::time::Instant;

use crate::cluster::errors::{self, Cause};

/// How often a call is made again at most.
const RETRIES: usize = 3;
/// The wait after the first failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// A call that has taken this long, including retries, is not repeated: the server hangs.
const ENOUGH: Duration = Duration::from_secs(15);

/// Repeats the call until it succeeds, fails permanently, or has failed often enough. A write must be idempotent, because after a lost
/// reply nobody knows whether it was applied.
///
/// # Errors
/// The last error.
pub(crate) async fn retrying<T, F, A>(call: F) -> Result<T, kube::Error>
where
    F: FnMut() -> A,
    A: Future<Output = Result<T, kube::Error>>,
{
    let started = Instant::now();
    call.retry(ExponentialBuilder::default().with_min_delay(FIRST_WAIT).with_max_times(RETRIES))
        .sleep(tokio::time::sleep)
        .when(|error| is_worth_another_try(error) && started.elapsed() < ENOUGH)
        .adjust(|error, wait| wait.map(|wait| errors::retry_after(error).map_or(wait, |asked| asked.max(wait))))
        .await
}

/// Rejected credentials don't become valid within a second.
fn is_worth_another_try(error: &kube::Error) -> bool {
    errors::classify(error) == Cause::Transient && !matches!(error, kube::Error::Api(status) if status.code == 401)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kube::core::Status;

    use super::*;

    fn answer(code: u16) -> kube::Error {
        kube::Error::Api(Status::failure("no", "").with_code(code).boxed())
    }

    #[tokio::test]
    async fn only_what_may_pass_is_tried_again() {
        let calls = Cell::new(0);
        let outcome = retrying(async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err(answer(503)) } else { Ok(calls.get()) }
        })
        .await;
        assert_eq!(outcome.unwrap(), 3);

        calls.set(0);
        let outcome: Result<(), _> = retrying(async || {
            calls.set(calls.get() + 1);
            Err(answer(503))
        })
        .await;
        assert!(outcome.is_err());
        assert_eq!(calls.get(), 4, "no more than often enough");

        for code in [403, 401, 422] {
            calls.set(0);
            let outcome: Result<(), _> = retrying(async || {
                calls.set(calls.get() + 1);
                Err(answer(code))
            })
            .await;
            assert!(outcome.is_err());
            assert_eq!(calls.get(), 1, "{code}");
        }
    }
}
