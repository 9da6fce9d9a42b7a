//! The controllers, one folder per kind, all alike: observe (reads) → policy (pure) → act (writes) → status.

pub mod request;
