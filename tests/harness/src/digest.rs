//! Short names for things with long names.

use ring::digest::{Context, SHA256};

/// The first 64 bits of a SHA-256, in hexadecimal, over the parts and their lengths.
pub(crate) fn short<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        let part = part.as_ref();
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    let bits = digest.as_ref().iter().take(8).fold(0, |bits: u64, byte| bits << 8 | u64::from(*byte));
    format!("{bits:016x}")
}
