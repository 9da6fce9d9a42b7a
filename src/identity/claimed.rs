//! The right to change one solution in one environment, as a type. Nothing can be applied without it.

use crate::api::Environment;
use crate::api::reference::GroupKind as Kind;

/// Proof that the environment's record names one request as the one that may change one solution.
///
/// It is made only from an Environment that was just read (or written). So [`apply`](crate::deploy::apply::apply) can't be reached without
/// a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    solution: String,
    namespace: String,
    request_uid: String,
    cluster_scoped: Vec<Kind>,
}

impl Claimed {
    /// The claim of that request on that solution, if the environment's status holds it.
    ///
    /// Returns `None` for a claim of another request, or if there is no claim. An empty uid never matches.
    pub(crate) fn from_environment(environment: &Environment, solution: &str, request_uid: &str) -> Option<Self> {
        if request_uid.is_empty() {
            return None;
        }
        let record = environment.status.as_ref()?.solutions.iter().find(|s| s.name == solution)?;
        let claim = record.claim.as_ref().filter(|claim| claim.request_uid == request_uid)?;
        Some(Self {
            solution: solution.to_owned(),
            namespace: environment.spec.namespace.clone(),
            request_uid: claim.request_uid.clone(),
            cluster_scoped: record.cluster_scoped.clone(),
        })
    }

    /// The solution that may be changed.
    pub(crate) fn solution(&self) -> &str {
        &self.solution
    }

    /// The target namespace in which it may be changed.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The uid of the request that holds the claim.
    pub(crate) fn request_uid(&self) -> &str {
        &self.request_uid
    }

    /// The cluster-scoped kinds of which objects may be written: those that are on record, so that the objects can be found again.
    pub(crate) fn cluster_scoped(&self) -> &[Kind] {
        &self.cluster_scoped
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn environment(claim: &serde_json::Value) -> Environment {
        serde_json::from_value(json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": "Environment",
            "metadata": {"name": "qa", "namespace": "host"},
            "spec": {"type": "Target", "namespace": "contoso-qa"},
            "status": {"observedGeneration": 1, "solutions": [{"name": "orders", "claim": claim}]}
        }))
        .unwrap()
    }

    #[test]
    fn only_the_request_that_the_environment_names_holds_the_claim() {
        let claimed = environment(&json!({"request": "r", "requestUID": "u1", "digest": "sha256:d", "since": "2026-01-01T00:00:00Z"}));
        let claim = Claimed::from_environment(&claimed, "orders", "u1").unwrap();
        assert_eq!((claim.namespace(), claim.solution(), claim.request_uid()), ("contoso-qa", "orders", "u1"));
        assert_eq!(Claimed::from_environment(&claimed, "orders", "u2"), None);
        assert_eq!(Claimed::from_environment(&claimed, "orders", ""), None);
        assert_eq!(Claimed::from_environment(&claimed, "billing", "u1"), None);
        assert_eq!(Claimed::from_environment(&environment(&json!(null)), "orders", "u1"), None);
    }
}
