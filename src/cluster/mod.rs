//! How to talk to a cluster: its kinds and resources, its objects and the owners of their fields, its errors and its terms.

pub mod blocked;
pub mod cluster_scope;
pub mod discovery;
pub mod errors;
pub mod fields_v1;
pub mod kstatus;
pub mod lookup;
pub mod managed_fields;
pub mod namespace;
pub mod node_ports;
pub mod object;
pub mod packed;
pub mod paused;
pub mod quantity;
pub mod redaction;
pub mod references;
pub mod replicas;
pub mod resources;
pub mod retry;
pub mod server_warnings;
