//! The `kubectl` plugin, one file per verb.

pub mod grant;
pub mod status;
