//! Runs a controller: one reconciliation for each object at a time, many objects at once. Each object has its own back-off. A panic is
//! caught.

use std::collections::HashMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{FutureExt, StreamExt};
use kube::Resource;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::{ObjectRef, Store};
use tokio_util::sync::CancellationToken;

use super::leadership::Leadership;
use super::status_writer::RecordError;
use crate::cluster::errors::{self, Cause};

/// The first delay after an error; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay after errors.
const LONGEST_DELAY: Duration = Duration::from_mins(1);
/// After how many failed tries in a row the object's status says so, if the cause does not go away by itself. That takes about a minute.
const MOST_TRIES: u32 = 10;
/// The longest time until an object is reconciled again, even if it waits for a later time.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// When to reconcile an object again if nothing happens before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something changes.
    Done,
    /// After this time.
    After(Duration),
}

/// A reconciliation could not be completed and is tried again later.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server refused, or could not be reached.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// A record could not be written.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The Lease has expired. The new leader continues.
    #[error("the Lease has run out; nothing more is done here")]
    LeaseRanOut,
    /// The state that the decision was based on has changed.
    #[error("decided on an older state")]
    Overtaken,
    /// The API server will never accept what is to be written to the object itself.
    #[error("the API server refuses its status: {0}")]
    Refused(String),
    /// Another cause, in words. It may go away by itself.
    #[error("{0}")]
    Transient(String),
    /// Another cause, in words.
    #[error("{0}")]
    Other(String),
    /// The reconciliation panicked. This is a defect, and does not affect other objects.
    #[error("the reconciliation panicked: {0}")]
    Panicked(String),
}

impl ReconcileError {
    /// Whether the object has changed since it was read. The reconciliation is repeated at once, and nothing is reported.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Overtaken) || matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }

    /// Whether another try will fail in the same way, as far as is known. Problems of the API server, of the network, or between two
    /// writers go away by themselves.
    fn is_lasting(&self) -> bool {
        let lasts = |error: &kube::Error| !matches!(errors::classify(error), Cause::Transient | Cause::Stale | Cause::NamespaceTerminating);
        match self {
            Self::Api(error) => lasts(error),
            Self::Record(RecordError::Write { source, .. }) => lasts(source),
            Self::Record(RecordError::NotFound(_) | RecordError::Stopped) | Self::LeaseRanOut | Self::Overtaken | Self::Transient(_) => {
                false
            }
            Self::Refused(_) | Self::Other(_) | Self::Panicked(_) => true,
        }
    }
}

/// The message for an object whose reconciliations fail again and again.
fn given_up(error: &ReconcileError) -> String {
    format!(
        "{MOST_TRIES} tries in a row ended with the same kind of error, which does not pass by itself. The last one: {error}. Correct \
         what it names; where it names nothing of yours, it is a defect of Pilotage, which whoever runs the operator finds in its log"
    )
}

/// One controller: how one object of its kind is reconciled.
pub(crate) trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static;

    /// Reconciles one object.
    fn reconcile(&self, object: Arc<Self::Kind>) -> impl Future<Output = Result<Next, ReconcileError>> + Send;

    /// Writes to the object why its reconciliations fail again and again. It is called again after each further failure.
    fn give_up(&self, object: Arc<Self::Kind>, why: String) -> impl Future<Output = Result<Next, ReconcileError>> + Send;
}

/// The failures of one object since its last successful reconciliation.
#[derive(Clone, Copy, Default)]
struct Failures {
    /// All of them.
    count: u32,
    /// Those that will not go away by themselves.
    lasting: u32,
}

/// Puts objects into the queue of a controller.
pub(crate) struct Enqueuer<K: Resource<DynamicType = ()>> {
    sender: mpsc::UnboundedSender<ObjectRef<K>>,
    awake: Arc<AtomicBool>,
}

impl<K: Resource<DynamicType = ()> + Clone> Clone for Enqueuer<K> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), awake: self.awake.clone() }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Enqueuer<K> {
    /// An enqueuer, and the queue that the controller reads from.
    pub(crate) fn new() -> (Self, Queue<K>) {
        let (sender, receiver) = mpsc::unbounded();
        let awake = Arc::new(AtomicBool::new(false));
        (Self { sender, awake: awake.clone() }, Queue { receiver, awake })
    }

    /// Asks for a reconciliation of that object. A standby ignores this: when it becomes the leader, it reconciles everything.
    pub(crate) fn wake(&self, object: ObjectRef<K>) {
        if self.awake.load(Ordering::Acquire) {
            // A closed queue belongs to a controller that shuts down.
            let _ = self.sender.unbounded_send(object);
        }
    }
}

/// The objects that wait to be reconciled.
pub(crate) struct Queue<K: Resource<DynamicType = ()>> {
    receiver: mpsc::UnboundedReceiver<ObjectRef<K>>,
    awake: Arc<AtomicBool>,
}

/// Runs a controller until `stop`: over all objects of `store` first, then over those that are enqueued. Running reconciliations are
/// finished.
pub(crate) async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    store: Store<R::Kind>,
    queue: Queue<R::Kind>,
    concurrency: u16,
    leadership: Leadership,
    stop: CancellationToken,
) {
    queue.awake.store(true, Ordering::Release);
    let all: Vec<ObjectRef<R::Kind>> = store.state().iter().map(|o| ObjectRef::from_obj(o.as_ref())).collect();
    let queued = futures::stream::iter(all).chain(queue.receiver).take_until(stop.cancelled_owned()).map(Ok::<_, std::convert::Infallible>);
    let failures: Arc<Mutex<HashMap<ObjectRef<R::Kind>, Failures>>> = Arc::default();
    let known = failures.clone();
    let reconcile = move |object: Arc<R::Kind>, reconciler: Arc<R>| {
        let (known, leadership) = (known.clone(), leadership.clone());
        async move {
            if !leadership.holds() {
                return Err(ReconcileError::LeaseRanOut);
            }
            let key = ObjectRef::from_obj(object.as_ref());
            let error = match guarded(reconciler.reconcile(object.clone())).await {
                Ok(next) => {
                    known.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                    return Ok(action(next));
                }
                Err(error) => error,
            };
            if !error.is_lasting() {
                return Err(error);
            }
            let tries = {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                let of_object = known.entry(key.clone()).or_default();
                of_object.lasting = of_object.lasting.saturating_add(1);
                of_object.lasting
            };
            if tries < MOST_TRIES {
                return Err(error);
            }
            tracing::error!(object = %key, %error, tries, "its reconciliations fail again and again; its status says so");
            match guarded(reconciler.give_up(object, given_up(&error))).await {
                Ok(next) => Ok(action(next)),
                Err(also) => {
                    tracing::error!(object = %key, error = %also, "its status can't say why its reconciliations fail");
                    Err(error)
                }
            }
        }
        .boxed()
    };
    let back_off = move |object: Arc<R::Kind>, error: &ReconcileError, _: Arc<R>| {
        let key = ObjectRef::from_obj(object.as_ref());
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        let of_object = failures.entry(key.clone()).or_default();
        of_object.count = of_object.count.saturating_add(1);
        let delay = FIRST_DELAY.saturating_mul(2u32.saturating_pow((of_object.count - 1).min(16))).min(LONGEST_DELAY);
        if error.is_conflict() {
            tracing::debug!(object = %key, "decided on an older state; decided again");
        } else {
            tracing::warn!(object = %key, %error, again_in = ?delay, "a reconciliation failed");
        }
        Action::requeue(delay)
    };
    applier(reconcile, back_off, reconciler, store, queued, Config::default().concurrency(concurrency))
        .for_each(|_| futures::future::ready(()))
        .await;
}

/// One call to a reconciler. A panic becomes an error.
async fn guarded(call: impl Future<Output = Result<Next, ReconcileError>> + Send) -> Result<Next, ReconcileError> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(outcome) => outcome,
        Err(panic) => Err(ReconcileError::Panicked(panic_message(panic.as_ref()))),
    }
}

fn action(next: Next) -> Action {
    match next {
        Next::Done => Action::await_change(),
        Next::After(delay) => Action::requeue(delay.min(LONGEST_WAIT)),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api(code: u16, message: &str) -> kube::Error {
        kube::Error::Api(Status::failure(message, "").with_code(code).boxed())
    }

    #[test]
    fn what_goes_away_by_itself_is_not_counted() {
        for code in [409, 429, 500, 503, 504] {
            assert!(!ReconcileError::Api(api(code, "busy")).is_lasting(), "{code}");
        }
        let record = |source| ReconcileError::Record(RecordError::Write { record: "Environment qa".into(), source: Arc::new(source) });
        assert!(!record(api(503, "busy")).is_lasting());
        assert!(!ReconcileError::LeaseRanOut.is_lasting() && !ReconcileError::Transient("registry".into()).is_lasting());
        for lasting in [
            ReconcileError::Api(api(422, "status.deployments: Too many: 129")),
            ReconcileError::Api(api(500, "etcdserver: request is too large")),
            record(api(413, "Request entity too large")),
            ReconcileError::Other("no semver".into()),
            ReconcileError::Panicked("overflow".into()),
        ] {
            assert!(lasting.is_lasting(), "{lasting}");
            assert!(given_up(&lasting).contains(&lasting.to_string()));
        }
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_object_alone() {
        let error = guarded(async { if true { panic!("overflowed") } else { Ok(Next::Done) } }).await.unwrap_err();
        assert_eq!(error.to_string(), "the reconciliation panicked: overflowed");
    }

    #[test]
    fn a_time_that_lies_far_away_is_waited_for_day_by_day() {
        assert_eq!(action(Next::After(Duration::MAX)), Action::requeue(LONGEST_WAIT));
        assert_eq!(action(Next::After(FIRST_DELAY)), Action::requeue(FIRST_DELAY));
    }
}
