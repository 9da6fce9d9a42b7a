//! The `kubectl` plugin, one file per verb.

pub mod ask;
pub mod cancel;
pub mod grant;
pub mod redeploy;
pub mod retry;
pub mod status;
