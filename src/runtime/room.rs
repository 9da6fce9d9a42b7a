//! How much room there is for artifacts: what the cache knows, and what this process has stored and the cache may not know yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

use super::stores::Stores;
use crate::api::Artifact;
use crate::policy::storage::{self, Kept, Quota};

/// How long it may take until the cache knows what was stored, or until storing it fails.
const BEHIND: Duration = Duration::from_mins(1);

/// A host and the name of an artifact.
type Key = (String, String);

/// The development environment that the artifact comes from, its bytes, and when the room was taken.
type Taken = (Option<String>, u64, Instant);

/// The room that is left in each host.
pub(crate) struct Rooms {
    stores: Stores,
    quota: Quota,
    taken: Mutex<HashMap<Key, Taken>>,
}

impl Rooms {
    /// The room as these caches show it.
    pub(crate) fn new(stores: Stores, quota: Quota) -> Self {
        Self { stores, quota, taken: Mutex::default() }
    }

    /// Why there is no room for `wanted` bytes of an artifact of that name. `None`: there is room, and it is taken.
    pub(crate) fn take(&self, host: &str, name: &str, environment: Option<&str>, wanted: u64) -> Option<String> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|(host, name), (_, _, at)| {
            at.elapsed() < BEHIND && self.stores.artifacts.get(&ObjectRef::new(name).within(host)).is_none()
        });
        let mut kept = self.kept(host);
        let own = taken.iter().filter(|((in_host, of), _)| in_host == host && of != name);
        kept.extend(own.map(|((_, name), (environment, bytes, _))| Kept {
            name: name.clone(),
            environment: environment.clone(),
            bytes: *bytes,
            needed: true,
        }));
        let full = storage::full(host, environment, wanted, &kept, self.quota);
        if full.is_none() {
            taken.insert((host.to_owned(), name.to_owned()), (environment.map(str::to_owned), wanted, Instant::now()));
        }
        full
    }

    /// Why there is no room at all. Then nothing has to be read to find that out.
    pub(crate) fn full(&self, host: &str, environment: Option<&str>) -> Option<String> {
        storage::full(host, environment, 1, &self.kept(host), self.quota)
    }

    fn kept(&self, host: &str) -> Vec<Kept> {
        let has_bytes = |a: &Artifact| a.status.as_ref().is_none_or(|s| s.bytes_removed.as_ref().is_none_or(|removed| !removed.complete));
        let in_chunks = self
            .stores
            .artifacts
            .state_filter(|a| a.metadata.namespace.as_deref() == Some(host) && a.spec.stored_in.is_none() && has_bytes(a));
        in_chunks
            .iter()
            .map(|artifact| {
                let solution = &artifact.spec.solution;
                let in_use = || self.stores.open_requests_for(host, &solution.name).any(|r| r.spec.solution.version == solution.version);
                Kept {
                    name: artifact.name_any(),
                    environment: artifact.spec.source.environment.clone(),
                    bytes: u64::try_from(artifact.spec.stored_size).unwrap_or_default(),
                    needed: artifact.status.as_ref().is_some_and(|s| !s.deployments.is_empty()) || in_use(),
                }
            })
            .collect()
    }
}
