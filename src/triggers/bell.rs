//! Wakes the desks of pipelines that have sinks. For all others a change costs one look into an empty table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::ObjectRef;
use tokio::sync::{Notify, mpsc};

use crate::api::{DeploymentRequest, Pipeline};

/// Tells desks of changes.
pub struct Bell {
    desks: Mutex<HashMap<ObjectRef<Pipeline>, Arc<Notify>>>,
    orders: mpsc::UnboundedSender<ObjectRef<Pipeline>>,
    awake: AtomicBool,
}

/// The pipelines that need a desk.
pub struct Orders {
    /// As they come.
    pub(super) receiver: mpsc::UnboundedReceiver<ObjectRef<Pipeline>>,
    /// What wakes the desks.
    pub(super) bell: Arc<Bell>,
}

impl Bell {
    /// A bell, and what its supervisor takes from.
    pub fn new() -> (Arc<Self>, Orders) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let bell = Arc::new(Self { desks: Mutex::default(), orders, awake: AtomicBool::new(false) });
        (bell.clone(), Orders { receiver, bell })
    }

    /// A request changed, or is gone.
    pub fn request(&self, object: &DeploymentRequest) {
        let host = object.metadata.namespace.as_deref().unwrap_or_default();
        self.ring(&ObjectRef::new(&object.spec.pipeline).within(host));
    }

    /// A pipeline changed, or is gone.
    pub fn pipeline(&self, object: &Pipeline) {
        let pipeline = ObjectRef::from_obj(object);
        if !self.ring(&pipeline) && needs_desk(object) && self.awake.load(Ordering::Acquire) {
            // A closed queue belongs to an operator that is shutting down.
            let _ = self.orders.send(pipeline);
        }
    }

    /// Rings at a desk. Returns whether there is one.
    fn ring(&self, pipeline: &ObjectRef<Pipeline>) -> bool {
        let desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.get(pipeline).is_some_and(|desk| {
            desk.notify_one();
            true
        })
    }

    /// From now on orders are taken.
    pub(super) fn wake(&self) {
        self.awake.store(true, Ordering::Release);
    }

    /// A desk is opened. `None` where there is one.
    pub(super) fn open(&self, pipeline: &ObjectRef<Pipeline>) -> Option<Arc<Notify>> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        if desks.contains_key(pipeline) {
            return None;
        }
        let desk = Arc::new(Notify::new());
        desks.insert(pipeline.clone(), desk.clone());
        Some(desk)
    }

    /// A desk has closed.
    pub(super) fn close(&self, pipeline: &ObjectRef<Pipeline>) {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner).remove(pipeline);
    }
}

/// Whether the pipeline has sinks, or had some.
pub(super) fn needs_desk(pipeline: &Pipeline) -> bool {
    !pipeline.spec.sinks.is_empty() || pipeline.status.as_ref().is_some_and(|s| !s.sinks.is_empty())
}
