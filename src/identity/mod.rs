//! Who acts: the operator's own client, the delegate's client, access reviews, and the rules to grant.

pub mod access;
pub mod answers;
pub mod circuit_breaker;
pub mod claimed;
pub mod clients;
pub mod delegate;
pub mod fence;
pub mod grants;
pub mod kubeconfig;
pub mod remote;
pub mod secrets;

/// The full user name of the operator's `ServiceAccount`; the admission policies in `deploy/` name it too.
pub const OPERATOR_USERNAME: &str = "system:serviceaccount:pilotage-system:pilotage";
/// The namespace of the operator's `ServiceAccount`.
pub const OPERATOR_NAMESPACE: &str = "pilotage-system";
/// The name of the operator's `ServiceAccount`.
pub const OPERATOR_NAME: &str = "pilotage";
