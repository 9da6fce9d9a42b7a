//! Status that several requests change. There is one writer for each kind in this process. Writes are bound to the resourceVersion, and
//! changes that wait at the same time are put into one write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::core::NamespaceResourceScope;
use kube::core::object::HasStatus;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, CustomResourceExt, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::{freshness, status, trimmed};

/// How often a change is tried again on the newest state after a conflict with another writer.
const ATTEMPTS: usize = 8;

/// The status could not be written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum RecordError {
    /// The object does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The API server refused, or could not be reached.
    #[error("{record} could not be written: {source}")]
    Write {
        /// The object.
        record: String,
        /// What the API server said.
        #[source]
        source: Arc<kube::Error>,
    },
    /// The writer was stopped.
    #[error("the writer was stopped")]
    Stopped,
}

type Change<K> = Box<dyn FnMut(&K, &mut <K as HasStatus>::Status) + Send>;
type Answer<K> = oneshot::Sender<Result<Arc<K>, RecordError>>;

struct Slot<K: HasStatus> {
    waiting: Mutex<Vec<(Change<K>, Answer<K>)>>,
    current: tokio::sync::Mutex<Option<Arc<K>>>,
}

/// A kind whose status is written by the operator.
pub(crate) trait Recorded:
    HasStatus<Status: Serialize + Default + Clone + PartialEq + Send + Sync>
    + Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + CustomResourceExt
    + Serialize
    + DeserializeOwned
    + Clone
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Recorded for K
where
    K: HasStatus
        + Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + CustomResourceExt
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
    K::Status: Serialize + Default + Clone + PartialEq + Send + Sync,
{
}

/// The one writer of the status of one kind.
pub(crate) struct StatusWriter<K: HasStatus + Resource<DynamicType = ()> + Clone + 'static> {
    client: Client,
    store: Store<K>,
    slots: Mutex<HashMap<ObjectRef<K>, Arc<Slot<K>>>>,
}

impl<K: Recorded> StatusWriter<K> {
    /// Writes with `client`, and starts from what `store` has.
    pub(crate) fn new(client: Client, store: Store<K>) -> Self {
        Self { client, store, slots: Mutex::new(HashMap::new()) }
    }

    /// Lets `change` alter the status of an object, and writes the status if it changed. After a conflict, `change` is called again on the
    /// newest state. Returns its last result, with the object as it was then.
    ///
    /// # Errors
    /// If the object does not exist or can't be written.
    pub(crate) async fn update<R: Send + 'static>(
        &self,
        namespace: &str,
        name: &str,
        mut change: impl FnMut(&K, &mut K::Status) -> R + Send + 'static,
    ) -> Result<(R, Arc<K>), RecordError> {
        let key = ObjectRef::new(name).within(namespace);
        let slot = self.slot(&key);
        let result = Arc::new(Mutex::new(None));
        let sink_worker = result.clone();
        let (answer, answered) = oneshot::channel();
        let job: Change<K> = Box::new(move |object, status| {
            let value = change(object, status);
            *sink_worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        slot.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((job, answer));
        {
            let mut current = slot.current.lock().await;
            let batch = std::mem::take(&mut *slot.waiting.lock().unwrap_or_else(PoisonError::into_inner));
            if !batch.is_empty() {
                self.write(&key, &mut current, batch).await;
            }
        }
        let object = answered.await.map_err(|_| RecordError::Stopped)??;
        let value = result.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(RecordError::Stopped)?;
        Ok((value, object))
    }

    /// The newest known state of an object: from the cache, or from the operator's own last write if the cache is older.
    pub(crate) async fn newest(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new(name).within(namespace);
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let own = match slot {
            Some(slot) => slot.current.lock().await.clone(),
            None => None,
        };
        newer(own, self.store.get(&key))
    }

    fn slot(&self, key: &ObjectRef<K>) -> Arc<Slot<K>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // An entry is dropped if the cache has caught up and nobody waits for it.
        slots.retain(|key, slot| {
            Arc::strong_count(slot) > 1
                || slot.current.try_lock().map_or(true, |own| match (own.as_ref(), self.store.get(key)) {
                    (Some(own), Some(cached)) => freshness::version(own.as_ref()) > freshness::version(cached.as_ref()),
                    _ => false,
                })
        });
        slots
            .entry(key.clone())
            .or_insert_with(|| Arc::new(Slot { waiting: Mutex::new(Vec::new()), current: tokio::sync::Mutex::new(None) }))
            .clone()
    }

    async fn write(&self, key: &ObjectRef<K>, current: &mut Option<Arc<K>>, mut batch: Vec<(Change<K>, Answer<K>)>) {
        let outcome = self.attempt(key, current, &mut batch).await;
        let is_refused = matches!(&outcome, Err(RecordError::Write { source, .. }) if status::is_refused(source));
        if !is_refused || batch.len() == 1 {
            answer(&outcome, current, batch);
            return;
        }
        // A change that can't be written does not affect the others.
        for one in batch {
            let mut alone = [one];
            let outcome = self.attempt(key, current, &mut alone).await;
            answer(&outcome, current, alone);
        }
    }

    async fn attempt(
        &self,
        key: &ObjectRef<K>,
        current: &mut Option<Arc<K>>,
        batch: &mut [(Change<K>, Answer<K>)],
    ) -> Result<Arc<K>, RecordError> {
        let record = || format!("{} {}/{}", K::kind(&()), key.namespace.as_deref().unwrap_or_default(), key.name);
        let failed = |source: kube::Error| RecordError::Write { record: record(), source: Arc::new(source) };
        // What the cache lacks would be taken out of the status.
        let mut base = newer(current.take(), self.store.get(key)).filter(|object| !trimmed::has_shortened_status(object.as_ref()));
        for attempt in 1.. {
            let object = match base.take() {
                Some(object) => object,
                None => Arc::new(self.live(key).await.map_err(failed)?.ok_or_else(|| RecordError::NotFound(record()))?),
            };
            let mut new = object.status().cloned().unwrap_or_default();
            for (change, _) in batch.iter_mut() {
                change(&object, &mut new);
            }
            match status::write(&self.client, object.as_ref(), object.status(), &new).await {
                Ok(Some(written)) => return Ok(Arc::new(written)),
                Ok(None) => return Ok(object),
                // Somebody else wrote, or the cache was stale: decide again on the newest state.
                Err(kube::Error::Api(status)) if status.code == 409 && attempt < ATTEMPTS => {}
                // The write was based on a cached object that was deleted.
                Err(kube::Error::Api(status)) if status.code == 404 => return Err(RecordError::NotFound(record())),
                Err(error) => return Err(failed(error)),
            }
        }
        Err(RecordError::Stopped)
    }

    async fn live(&self, key: &ObjectRef<K>) -> kube::Result<Option<K>> {
        Api::<K>::namespaced(self.client.clone(), key.namespace.as_deref().unwrap_or_default()).get_opt(&key.name).await
    }
}

/// Remembers what was written, and answers all who waited for it.
fn answer<K: HasStatus>(
    outcome: &Result<Arc<K>, RecordError>,
    current: &mut Option<Arc<K>>,
    batch: impl IntoIterator<Item = (Change<K>, Answer<K>)>,
) {
    if let Ok(object) = outcome {
        *current = Some(object.clone());
    }
    for (_, answer) in batch {
        // If nobody waits any more, nobody needs the answer.
        let _ = answer.send(outcome.clone());
    }
}

/// The newer of what this process wrote and what the cache has. If they are different objects, the cached one.
fn newer<K: Resource + ResourceExt>(own: Option<Arc<K>>, cached: Option<Arc<K>>) -> Option<Arc<K>> {
    match (own, cached) {
        (Some(own), Some(cached)) => {
            let ahead = own.uid() == cached.uid() && freshness::version(own.as_ref()) > freshness::version(cached.as_ref());
            Some(if ahead { own } else { cached })
        }
        (Some(own), None) => Some(own),
        (None, cached) => cached,
    }
}
