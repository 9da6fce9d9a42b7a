//! Bundles whose bytes were read and checked within the last two seconds. These bytes have the digest, whatever happened to the stored ones
//! since, so they are not read again. Only small bundles are kept for this, and few of them: parsed objects take many times the memory of
//! their JSON. Of others it is known who holds them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::artifact::bundle::Bundle;

/// How long bytes that were read and checked are not read again.
const JUST_READ: Duration = Duration::from_secs(2);

/// The most bytes of a bundle that is kept.
const SMALL: usize = 16 * 1024;
/// How many small bundles are kept. With [`SMALL`] this is 1 MiB of JSON.
const KEPT: usize = 64;

/// A bundle that was read.
struct Read {
    at: Instant,
    bundle: Weak<Bundle>,
    /// The bundle itself if it is small.
    kept: Option<Arc<Bundle>>,
}

impl Read {
    fn is_of_use(&self) -> bool {
        self.at.elapsed() < JUST_READ && self.bundle.strong_count() > 0
    }
}

/// The bundles that were read last, by uid and digest of their record.
#[derive(Default)]
pub(crate) struct JustRead(HashMap<(String, String), Read>);

impl JustRead {
    /// The bundle that was just read for the record of that uid and digest, if anybody still holds it.
    pub(crate) fn find(&self, uid: &str, digest: &str) -> Option<Arc<Bundle>> {
        let read = self.0.get(&(uid.to_owned(), digest.to_owned()))?;
        read.is_of_use().then(|| read.bundle.upgrade()).flatten()
    }

    /// Notes that a bundle of so many bytes was read for a record, and matched its digest.
    pub(crate) fn note(&mut self, uid: &str, digest: &str, bundle: &Arc<Bundle>, bytes: usize) {
        self.0.retain(|_, read| read.is_of_use());
        let is_kept = bytes <= SMALL && self.0.values().filter(|read| read.kept.is_some()).count() < KEPT;
        let read = Read { at: Instant::now(), bundle: Arc::downgrade(bundle), kept: is_kept.then(|| bundle.clone()) };
        self.0.insert((uid.to_owned(), digest.to_owned()), read);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bundle() -> Arc<Bundle> {
        Arc::new(Bundle::new(vec![json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "1"}})]))
    }

    #[test]
    fn what_was_read_just_now_is_known_by_its_record_and_digest_and_kept_by_nobody_if_it_is_large() {
        let mut known = JustRead::default();
        let read = bundle();
        known.note("uid", "d1", &read, SMALL + 1);
        assert!(known.find("uid", "d1").is_some());
        assert!(known.find("uid", "d2").is_none() && known.find("another", "d1").is_none());
        drop(read);
        assert!(known.find("uid", "d1").is_none());
    }

    #[test]
    fn few_small_ones_are_kept() {
        let mut known = JustRead::default();
        for number in 0..=KEPT {
            known.note("uid", &number.to_string(), &bundle(), SMALL);
        }
        assert!(known.find("uid", "0").is_some());
        assert!(known.find("uid", &KEPT.to_string()).is_none(), "one more than are kept");
    }
}
