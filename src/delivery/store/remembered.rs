//! Bundles that were decoded a moment ago. What was read just now decides; only its decoding is spared.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::delivery::bundle::Bundle;

/// The most memory, as estimated, that decoded bundles are kept in.
const REMEMBERED_BYTES: usize = 8 * 1024 * 1024;
/// What a parsed object takes in memory, compared with its JSON.
const BYTES_IN_MEMORY: usize = 4;

/// The bundles that were decoded last, by the digest of their compressed bytes.
#[derive(Default)]
pub struct Remembered {
    entries: VecDeque<RememberedBundle>,
    cost: usize,
}

struct RememberedBundle {
    payload_digest: String,
    digest: String,
    bundle: Arc<Bundle>,
    cost: usize,
}

impl Remembered {
    /// The bundle that these compressed bytes are, where it has that digest.
    pub fn find(&mut self, payload_digest: &str, digest: &str) -> Option<Arc<Bundle>> {
        let place = self.entries.iter().position(|e| e.payload_digest == payload_digest && e.digest == digest)?;
        let entry = self.entries.remove(place)?;
        let bundle = entry.bundle.clone();
        self.entries.push_back(entry);
        Some(bundle)
    }

    /// Keeps a bundle that has so many canonical bytes, and forgets the oldest for it.
    pub fn keep(&mut self, payload_digest: String, digest: String, bundle: Arc<Bundle>, size: usize) {
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
