//! Reading one's own writes. If the cache has an object in an older state than the operator last wrote, a reconciliation would repeat
//! finished steps. So it is skipped, and the watch brings the newer state.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::Resource;

/// What was last written, by uid, until the cache has caught up.
#[derive(Default)]
pub(crate) struct Freshness {
    written: Mutex<HashMap<String, u64>>,
}

impl Freshness {
    /// Remembers an object as the API server returned it from a write.
    pub(crate) fn note(&self, object: &impl Resource) {
        if let (Some(uid), Some(version)) = (object.meta().uid.clone(), version(object)) {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).insert(uid, version);
        }
    }

    /// Forgets an object that is not reconciled any more.
    pub(crate) fn forget(&self, object: &impl Resource) {
        if let Some(uid) = &object.meta().uid {
            self.written.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
        }
    }

    /// Whether the cached object is older than the operator's last write of it.
    pub(crate) fn is_stale(&self, cached: &impl Resource) -> bool {
        let (Some(uid), Some(seen)) = (&cached.meta().uid, version(cached)) else { return false };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        match written.get(uid) {
            Some(last) if seen < *last => true,
            Some(_) => {
                written.remove(uid);
                false
            }
            None => false,
        }
    }
}

/// The resourceVersion as a number. Within a kind they are ordered (Kubernetes 1.35 guarantees it, etcd has always done so).
pub(crate) fn version(object: &impl Resource) -> Option<u64> {
    object.meta().resource_version.as_ref().and_then(|v| v.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::ObjectMeta;

    fn object(version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta { uid: Some("u".into()), resource_version: Some(version.into()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        }
    }

    #[test]
    fn a_cache_behind_the_last_write_is_stale_until_it_catches_up() {
        let freshness = Freshness::default();
        assert!(!freshness.is_stale(&object("5")));
        freshness.note(&object("9"));
        assert!(freshness.is_stale(&object("5")));
        assert!(!freshness.is_stale(&object("9")));
        assert!(!freshness.is_stale(&object("5")), "forgotten once caught up");
    }
}
