//! Runs a controller: one object at a time, many objects at once, with a back-off for each, and a guard against panics.

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

use super::lease::Tenure;
use super::records::RecordError;

/// The first delay after an error; it doubles with each further one.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay after errors.
const LONGEST_DELAY: Duration = Duration::from_mins(1);

/// When to look at an object again if nothing happens before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// When something changes.
    Done,
    /// After this time.
    After(Duration),
}

/// A pass could not be completed and is tried again later.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused, or could not be reached.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// A record could not be written.
    #[error("{0}")]
    Record(#[from] RecordError),
    /// The Lease has run out: whoever leads now goes on.
    #[error("the Lease has run out; nothing more is done here")]
    LeaseRanOut,
    /// What it was decided on is no longer so.
    #[error("decided on an older state")]
    Overtaken,
    /// Something else, in words.
    #[error("{0}")]
    Other(String),
    /// The pass panicked: a defect, kept from the other objects.
    #[error("the pass panicked: {0}")]
    Panicked(String),
}

impl ReconcileError {
    /// Whether the pass was made on an object that has changed since: to be repeated at once, and nothing to report.
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Overtaken) || matches!(self, Self::Api(kube::Error::Api(status)) if status.code == 409)
    }
}

/// One controller: what is done about one object of its kind.
pub trait Reconciler: Send + Sync + 'static {
    /// The kind.
    type Kind: Resource<DynamicType = ()> + Clone + std::fmt::Debug + Send + Sync + 'static;

    /// One pass over one object.
    fn reconcile(&self, object: Arc<Self::Kind>) -> impl Future<Output = Result<Next, ReconcileError>> + Send;
}

/// Wakes a controller for one object.
pub struct Waker<K: Resource<DynamicType = ()>> {
    sender: mpsc::UnboundedSender<ObjectRef<K>>,
    awake: Arc<AtomicBool>,
}

impl<K: Resource<DynamicType = ()> + Clone> Clone for Waker<K> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), awake: self.awake.clone() }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Waker<K> {
    /// A waker, and the queue that its controller takes from.
    pub fn new() -> (Self, Queue<K>) {
        let (sender, receiver) = mpsc::unbounded();
        let awake = Arc::new(AtomicBool::new(false));
        (Self { sender, awake: awake.clone() }, Queue { receiver, awake })
    }

    /// Asks for a pass over that object. A standby takes note of nothing: when it leads, it looks at everything.
    pub fn wake(&self, object: ObjectRef<K>) {
        if self.awake.load(Ordering::Acquire) {
            // A closed queue belongs to a controller that is shutting down.
            let _ = self.sender.unbounded_send(object);
        }
    }
}

/// The objects that wait for a pass.
pub struct Queue<K: Resource<DynamicType = ()>> {
    receiver: mpsc::UnboundedReceiver<ObjectRef<K>>,
    awake: Arc<AtomicBool>,
}

/// Runs a controller over all objects of `store`, then over those that are woken, until `stop`; passes that run are finished.
pub async fn run<R: Reconciler>(
    reconciler: Arc<R>,
    store: Store<R::Kind>,
    queue: Queue<R::Kind>,
    concurrency: u16,
    tenure: Tenure,
    stop: CancellationToken,
) {
    queue.awake.store(true, Ordering::Release);
    let all: Vec<ObjectRef<R::Kind>> = store.state().iter().map(|o| ObjectRef::from_obj(o.as_ref())).collect();
    let queued = futures::stream::iter(all).chain(queue.receiver).take_until(stop.cancelled_owned()).map(Ok::<_, std::convert::Infallible>);
    let failures: Arc<Mutex<HashMap<ObjectRef<R::Kind>, u32>>> = Arc::default();
    let forget = failures.clone();
    let pass = move |object: Arc<R::Kind>, reconciler: Arc<R>| {
        let (forget, tenure) = (forget.clone(), tenure.clone());
        async move {
            if !tenure.holds() {
                return Err(ReconcileError::LeaseRanOut);
            }
            let key = ObjectRef::from_obj(object.as_ref());
            let outcome = AssertUnwindSafe(reconciler.reconcile(object)).catch_unwind().await;
            match outcome {
                Ok(Ok(next)) => {
                    forget.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                    Ok(match next {
                        Next::Done => Action::await_change(),
                        Next::After(delay) => Action::requeue(delay),
                    })
                }
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(ReconcileError::Panicked(panic_message(panic.as_ref()))),
            }
        }
        .boxed()
    };
    let back_off = move |object: Arc<R::Kind>, error: &ReconcileError, _: Arc<R>| {
        let key = ObjectRef::from_obj(object.as_ref());
        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(key.clone()).and_modify(|c| *c += 1).or_insert(1);
        let delay = FIRST_DELAY.saturating_mul(2u32.saturating_pow((*count - 1).min(16))).min(LONGEST_DELAY);
        if error.is_conflict() {
            tracing::debug!(object = %key, "decided on an older state; decided again");
        } else {
            tracing::warn!(object = %key, %error, again_in = ?delay, "a pass failed");
        }
        Action::requeue(delay)
    };
    applier(pass, back_off, reconciler, store, queued, Config::default().concurrency(concurrency))
        .for_each(|_| futures::future::ready(()))
        .await;
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| (*s).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}
