//! Wakes the dispatchers of pipelines that have sinks. For all other pipelines a change costs one look-up in an empty table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::ObjectRef;
use tokio::sync::{Notify, mpsc};

use crate::api::{DeploymentRequest, Pipeline};

/// Tells dispatchers of changes.
pub(crate) struct WakeUps {
    dispatchers: Mutex<HashMap<ObjectRef<Pipeline>, Arc<Notify>>>,
    orders: mpsc::UnboundedSender<ObjectRef<Pipeline>>,
    awake: AtomicBool,
}

/// The pipelines that need a dispatcher.
pub(crate) struct Orders {
    /// The pipelines, in the order of their changes.
    pub(super) receiver: mpsc::UnboundedReceiver<ObjectRef<Pipeline>>,
    /// What wakes the dispatchers.
    pub(super) wake_ups: Arc<WakeUps>,
}

impl WakeUps {
    /// The wake-ups, and what the supervisor reads from.
    pub(crate) fn new() -> (Arc<Self>, Orders) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let wake_ups = Arc::new(Self { dispatchers: Mutex::default(), orders, awake: AtomicBool::new(false) });
        (wake_ups.clone(), Orders { receiver, wake_ups })
    }

    /// A request changed, or is gone.
    pub(crate) fn request(&self, object: &DeploymentRequest) {
        let host = object.metadata.namespace.as_deref().unwrap_or_default();
        self.notify(&ObjectRef::new(&object.spec.pipeline).within(host));
    }

    /// A pipeline changed, or is gone.
    pub(crate) fn pipeline(&self, object: &Pipeline) {
        let pipeline = ObjectRef::from_obj(object);
        if !self.notify(&pipeline) && needs_dispatcher(object) && self.awake.load(Ordering::Acquire) {
            // A closed queue belongs to an operator that shuts down.
            let _ = self.orders.send(pipeline);
        }
    }

    /// Wakes a dispatcher. Returns whether there is one.
    fn notify(&self, pipeline: &ObjectRef<Pipeline>) -> bool {
        let dispatchers = self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner);
        dispatchers.get(pipeline).is_some_and(|dispatcher| {
            dispatcher.notify_one();
            true
        })
    }

    /// From now on pipelines are accepted.
    pub(super) fn wake(&self) {
        self.awake.store(true, Ordering::Release);
    }

    /// A dispatcher is started. `None` if there is one already.
    pub(super) fn open(&self, pipeline: &ObjectRef<Pipeline>) -> Option<Arc<Notify>> {
        let mut dispatchers = self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner);
        if dispatchers.contains_key(pipeline) {
            return None;
        }
        let dispatcher = Arc::new(Notify::new());
        dispatchers.insert(pipeline.clone(), dispatcher.clone());
        Some(dispatcher)
    }

    /// A dispatcher has stopped.
    pub(super) fn close(&self, pipeline: &ObjectRef<Pipeline>) {
        self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
    }
}

/// Whether the pipeline has sinks, or had some.
pub(super) fn needs_dispatcher(pipeline: &Pipeline) -> bool {
    !pipeline.spec.sinks.is_empty() || pipeline.status.as_ref().is_some_and(|s| !s.sinks.is_empty())
}
