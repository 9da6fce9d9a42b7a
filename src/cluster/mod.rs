//! How to talk to a cluster: its kinds and resources, its objects and the owners of their fields, its errors and its terms.

pub(crate) mod blocked;
pub(crate) mod cluster_scope;
pub(crate) mod discovery;
pub mod errors;
pub(crate) mod fields_v1;
pub(crate) mod kstatus;
pub(crate) mod lookup;
pub(crate) mod managed_fields;
pub(crate) mod namespace;
pub(crate) mod node_ports;
pub(crate) mod object;
pub(crate) mod packed;
pub(crate) mod paused;
pub(crate) mod quantity;
pub(crate) mod redaction;
pub(crate) mod references;
pub(crate) mod replicas;
pub(crate) mod resources;
pub(crate) mod retry;
pub(crate) mod server_warnings;
