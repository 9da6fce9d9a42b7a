//! Who acts: the operator's own client, the delegate's client, access reviews, and the rules to grant.

pub mod access;
pub(crate) mod answers;
pub(crate) mod circuit_breaker;
pub(crate) mod claimed;
pub mod clients;
pub mod delegate;
pub mod delegation;
pub(crate) mod fence;
pub(crate) mod grants;
pub(crate) mod kubeconfig;
pub mod lender;
pub(crate) mod remote;
pub(crate) mod secrets;

/// The full user name of the operator's `ServiceAccount`; the admission policies in `deploy/` name it too.
pub(crate) const OPERATOR_USERNAME: &str = "system:serviceaccount:pilotage-system:pilotage";
/// The namespace of the operator's `ServiceAccount`.
pub(crate) const OPERATOR_NAMESPACE: &str = "pilotage-system";
/// The name of the operator's `ServiceAccount`.
pub(crate) const OPERATOR_NAME: &str = "pilotage";
