//! What a version is: its bundle, exported from development or taken from a registry, and where it is kept.

pub mod bundle;
pub mod export;
mod memory;
pub(crate) mod oci;
pub mod store;
pub(crate) mod strip;
