//! The `kubectl` plugin. Each verb has a file.

pub mod ask;
pub mod cancel;
pub mod grant;
pub mod redeploy;
pub mod retry;
pub mod status;
