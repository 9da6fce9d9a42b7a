//! Bundles that were decoded recently. The bytes that were just read decide; the cache only saves decoding them. Bytes that were read and
//! checked within the last two seconds are not read again: these bytes have the digest, whatever happened to the stored ones since.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::artifact::bundle::Bundle;

/// The most memory for decoded bundles, as estimated.
const REMEMBERED_BYTES: usize = 8 * 1024 * 1024;
/// How much more memory a parsed object takes than its JSON.
const BYTES_IN_MEMORY: usize = 4;
/// How long bytes that were read and checked are not read again.
const JUST_READ: Duration = Duration::from_secs(2);

/// The bundles that were decoded last, by the digest of their compressed bytes.
#[derive(Default)]
pub(crate) struct Remembered {
    entries: VecDeque<RememberedBundle>,
    cost: usize,
    /// By uid and digest of the record.
    read: HashMap<(String, String), (Instant, Weak<Bundle>)>,
}

struct RememberedBundle {
    payload_digest: String,
    digest: String,
    bundle: Arc<Bundle>,
    cost: usize,
}

impl Remembered {
    /// The bundle of these compressed bytes, if it has that digest.
    pub(crate) fn find(&mut self, payload_digest: &str, digest: &str) -> Option<Arc<Bundle>> {
        let place = self.entries.iter().position(|e| e.payload_digest == payload_digest && e.digest == digest)?;
        let entry = self.entries.remove(place)?;
        let bundle = entry.bundle.clone();
        self.entries.push_back(entry);
        Some(bundle)
    }

    /// The bundle that was just read for the record of that uid and digest.
    pub(crate) fn just_read(&self, uid: &str, digest: &str) -> Option<Arc<Bundle>> {
        let (at, bundle) = self.read.get(&(uid.to_owned(), digest.to_owned()))?;
        (at.elapsed() < JUST_READ).then(|| bundle.upgrade()).flatten()
    }

    /// Notes that a bundle was read for a record, and matched its digest. [`Self::keep`] stores the bundle.
    pub(crate) fn note(&mut self, uid: &str, digest: &str, bundle: &Arc<Bundle>) {
        self.read.retain(|_, (at, _)| at.elapsed() < JUST_READ);
        self.read.insert((uid.to_owned(), digest.to_owned()), (Instant::now(), Arc::downgrade(bundle)));
    }

    /// Stores a bundle of so many canonical bytes, and drops the oldest ones to make room.
    pub(crate) fn keep(&mut self, payload_digest: String, digest: String, bundle: Arc<Bundle>, size: usize) {
        let cost = size * BYTES_IN_MEMORY;
        if cost > REMEMBERED_BYTES || self.find(&payload_digest, &digest).is_some() {
            return;
        }
        self.cost += cost;
        self.entries.push_back(RememberedBundle { payload_digest, digest, bundle, cost });
        while self.cost > REMEMBERED_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.cost -= oldest.cost;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle(name: &str) -> Arc<Bundle> {
        Arc::new(Bundle::new(vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})]))
    }

    #[test]
    fn what_was_read_just_now_is_known_by_its_record_and_digest_and_kept_by_nobody() {
        let mut remembered = Remembered::default();
        let read = bundle("1");
        remembered.note("uid", "d1", &read);
        assert!(remembered.just_read("uid", "d1").is_some());
        assert!(remembered.just_read("uid", "d2").is_none() && remembered.just_read("another", "d1").is_none());
        drop(read);
        assert!(remembered.just_read("uid", "d1").is_none());
    }

    #[test]
    fn only_decoding_is_remembered_and_the_oldest_goes_first() {
        const HALF: usize = REMEMBERED_BYTES / BYTES_IN_MEMORY / 2;
        let mut remembered = Remembered::default();
        remembered.keep("p1".into(), "d1".into(), bundle("1"), HALF);
        remembered.keep("p2".into(), "d2".into(), bundle("2"), HALF);
        assert!(remembered.find("p1", "another digest").is_none());
        assert!(remembered.find("p1", "d1").is_some());
        remembered.keep("p3".into(), "d3".into(), bundle("3"), HALF);
        assert!(remembered.find("p2", "d2").is_none());
        assert!(remembered.find("p1", "d1").is_some() && remembered.find("p3", "d3").is_some());
        remembered.keep("p4".into(), "d4".into(), bundle("4"), 2 * HALF + 1);
        assert!(remembered.find("p4", "d4").is_none());
        assert_eq!(remembered.cost, REMEMBERED_BYTES);
    }
}
