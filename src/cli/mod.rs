//! The `kubectl` plugin, one file per verb.

pub mod status;
