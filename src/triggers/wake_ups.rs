//! Wakes the desks of pipelines that have sinks. For all others a change costs one look into an empty table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::ObjectRef;
use tokio::sync::{Notify, mpsc};

use crate::api::{DeploymentRequest, Pipeline};

/// Tells desks of changes.
pub(crate) struct WakeUps {
    dispatchers: Mutex<HashMap<ObjectRef<Pipeline>, Arc<Notify>>>,
    orders: mpsc::UnboundedSender<ObjectRef<Pipeline>>,
    awake: AtomicBool,
}

/// The pipelines that need a desk.
pub(crate) struct Orders {
    /// As they come.
    pub(super) receiver: mpsc::UnboundedReceiver<ObjectRef<Pipeline>>,
    /// What wakes the desks.
    pub(super) wake_ups: Arc<WakeUps>,
}

impl WakeUps {
    /// A bell, and what its supervisor takes from.
    pub(crate) fn new() -> (Arc<Self>, Orders) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let wake_ups = Arc::new(Self { dispatchers: Mutex::default(), orders, awake: AtomicBool::new(false) });
        (wake_ups.clone(), Orders { receiver, wake_ups })
    }

    /// A request changed, or is gone.
    pub(crate) fn request(&self, object: &DeploymentRequest) {
        let host = object.metadata.namespace.as_deref().unwrap_or_default();
        self.ring(&ObjectRef::new(&object.spec.pipeline).within(host));
    }

    /// A pipeline changed, or is gone.
    pub(crate) fn pipeline(&self, object: &Pipeline) {
        let pipeline = ObjectRef::from_obj(object);
        if !self.ring(&pipeline) && needs_dispatcher(object) && self.awake.load(Ordering::Acquire) {
            // A closed queue belongs to an operator that is shutting down.
            let _ = self.orders.send(pipeline);
        }
    }

    /// Rings at a desk. Returns whether there is one.
    fn ring(&self, pipeline: &ObjectRef<Pipeline>) -> bool {
        let dispatchers = self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner);
        dispatchers.get(pipeline).is_some_and(|dispatcher| {
            dispatcher.notify_one();
            true
        })
    }

    /// From now on orders are taken.
    pub(super) fn wake(&self) {
        self.awake.store(true, Ordering::Release);
    }

    /// A desk is opened. `None` where there is one.
    pub(super) fn open(&self, pipeline: &ObjectRef<Pipeline>) -> Option<Arc<Notify>> {
        let mut dispatchers = self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner);
        if dispatchers.contains_key(pipeline) {
            return None;
        }
        let dispatcher = Arc::new(Notify::new());
        dispatchers.insert(pipeline.clone(), dispatcher.clone());
        Some(dispatcher)
    }

    /// A desk has closed.
    pub(super) fn close(&self, pipeline: &ObjectRef<Pipeline>) {
        self.dispatchers.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
    }
}

/// Whether the pipeline has sinks, or had some.
pub(super) fn needs_dispatcher(pipeline: &Pipeline) -> bool {
    !pipeline.spec.sinks.is_empty() || pipeline.status.as_ref().is_some_and(|s| !s.sinks.is_empty())
}
