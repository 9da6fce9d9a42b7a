//! Bundles whose bytes were read and checked within the last two seconds. These bytes have the digest, whatever happened to the stored ones
//! since, so they are not read again. No bundle is kept for this: parsed objects take many times the memory of their JSON.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::artifact::bundle::Bundle;

/// How long bytes that were read and checked are not read again.
const JUST_READ: Duration = Duration::from_secs(2);

/// The bundles that were read last, by uid and digest of their record.
#[derive(Default)]
pub(crate) struct JustRead(HashMap<(String, String), (Instant, Weak<Bundle>)>);

impl JustRead {
    /// The bundle that was just read for the record of that uid and digest, if anybody still holds it.
    pub(crate) fn find(&self, uid: &str, digest: &str) -> Option<Arc<Bundle>> {
        let (at, bundle) = self.0.get(&(uid.to_owned(), digest.to_owned()))?;
        (at.elapsed() < JUST_READ).then(|| bundle.upgrade()).flatten()
    }

    /// Notes that a bundle was read for a record, and matched its digest.
    pub(crate) fn note(&mut self, uid: &str, digest: &str, bundle: &Arc<Bundle>) {
        self.0.retain(|_, (at, bundle)| at.elapsed() < JUST_READ && bundle.strong_count() > 0);
        self.0.insert((uid.to_owned(), digest.to_owned()), (Instant::now(), Arc::downgrade(bundle)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_read_just_now_is_known_by_its_record_and_digest_and_kept_by_nobody() {
        let mut known = JustRead::default();
        let read = Arc::new(Bundle::new(vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "1"}})]));
        known.note("uid", "d1", &read);
        assert!(known.find("uid", "d1").is_some());
        assert!(known.find("uid", "d2").is_none() && known.find("another", "d1").is_none());
        drop(read);
        assert!(known.find("uid", "d1").is_none());
    }
}
