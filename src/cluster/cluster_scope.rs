//! Which cluster-scoped objects may be brought into a target's cluster. There is one decision, for artifacts from a registry and for plans.

use serde_json::Value;

use crate::api::cluster_scoped::{self, ClusterScopedKind, entry};
use crate::api::reason::Reason;
use crate::api::{GROUP, names};
use crate::cluster::object::Key;

/// Kinds whose parameters a storage driver reads. The parameters can name Secrets for it to use.
const CLASSES: [(&str, &str); 4] = [
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("snapshot.storage.k8s.io", "VolumeSnapshotClass"),
    ("groupsnapshot.storage.k8s.io", "VolumeGroupSnapshotClass"),
];

/// Why a cluster-scoped object is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unwelcome {
    /// Why, in one word.
    pub(crate) reason: Reason,
    /// Why, on which object, and what to do about it.
    pub(crate) message: String,
}

impl Unwelcome {
    /// Whether the Environment could still allow it.
    pub(crate) fn may_be_listed(&self) -> bool {
        self.reason == Reason::ClusterScoped
    }
}

/// Why a cluster-scoped object may not be brought to an Environment that lists these kinds; `None` if it may.
pub(crate) fn judge(object: &Value, environment: &str, allowed: &[ClusterScopedKind]) -> Option<Unwelcome> {
    let key = Key::of(object);
    let never = |why: &str| Some(Unwelcome { reason: Reason::NeverDeployed, message: format!("{key} {why}") });
    if cluster_scoped::is_never_allowed(&key.group, &key.kind) {
        return never(
            "is cluster-scoped, and is of a kind that no solution ever brings: have the target cluster's administrator install it, and leave it out of the solution",
        );
    }
    let field = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if (key.group.as_str(), key.kind.as_str()) == ("apiextensions.k8s.io", "CustomResourceDefinition") {
        if field("/spec/group") == GROUP || key.name.ends_with(&format!(".{GROUP}")) {
            return never("defines a kind of Pilotage itself, which no solution ever brings: leave it out of the solution");
        }
        if field("/spec/conversion/strategy") == "Webhook" {
            return never(
                "has its objects converted by a webhook, which would see those of all namespaces: no solution ever brings that. Have the target cluster's administrator install it, and leave it out of the solution",
            );
        }
    }
    if CLASSES.contains(&(key.group.as_str(), key.kind.as_str())) {
        let parameters = object.pointer("/parameters").and_then(Value::as_object);
        let secrets: Vec<&str> =
            parameters.into_iter().flatten().map(|(name, _)| name.as_str()).filter(|name| name.to_lowercase().contains("secret")).collect();
        if !secrets.is_empty() {
            return never(&format!(
                "names Secrets for the storage driver to use ({}), which can be those of anybody in the cluster: no solution ever brings that. Have the target cluster's administrator make the class, and leave it out of the solution",
                secrets.join(", ")
            ));
        }
    }
    (!cluster_scoped::allows(allowed, &key.group, &key.kind)).then(|| Unwelcome {
        reason: Reason::ClusterScoped,
        message: format!(
            "{key} is cluster-scoped, and Environment {environment} does not allow its kind: have the target cluster's administrator install it, and leave it out of the solution; or have somebody who holds {} on environments.{GROUP} in the whole cluster add {} to spec.clusterScoped of Environment {environment}",
            names::ALLOW_CLUSTER_SCOPED,
            entry(&key.group, &key.kind),
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::object;

    fn listed(group: &str, kind: &str) -> [ClusterScopedKind; 1] {
        [ClusterScopedKind { group: group.into(), kind: kind.into() }]
    }

    #[test]
    fn a_class_that_names_secrets_is_the_administrators_to_make() {
        for (api_version, kind, parameter) in [
            ("storage.k8s.io/v1", "StorageClass", "csi.storage.k8s.io/node-publish-secret-name"),
            ("storage.k8s.io/v1", "StorageClass", "csi.storage.k8s.io/provisioner-secret-namespace"),
            ("storage.k8s.io/v1", "StorageClass", "adminSecretName"),
            ("snapshot.storage.k8s.io/v1", "VolumeSnapshotClass", "csi.storage.k8s.io/snapshotter-secret-name"),
        ] {
            let class = |parameters: Value| json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "fast"}, "parameters": parameters});
            let allowed = listed(object::group_of(api_version), kind);
            let refused = judge(&class(json!({(parameter): "theirs", "type": "ssd"})), "qa", &allowed).unwrap();
            assert!(refused.reason == Reason::NeverDeployed && !refused.may_be_listed(), "{refused:?}");
            for words in [&format!("{kind} fast names Secrets"), parameter, "cluster's administrator"] {
                assert!(refused.message.contains(words), "{}", refused.message);
            }
            assert!(!refused.message.contains("theirs") && !refused.message.contains("ssd"), "{}", refused.message);
            assert_eq!(judge(&class(json!({"type": "ssd"})), "qa", &allowed), None);
        }
    }

    #[test]
    fn what_could_be_listed_is_told_from_what_never_is() {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "high"}});
        let refused = judge(&class, "qa", &[]).unwrap();
        assert!(refused.may_be_listed() && refused.message.contains("{group: scheduling.k8s.io, kind: PriorityClass}"), "{refused:?}");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
        assert!(!judge(&namespace, "qa", &listed("", "Namespace")).unwrap().may_be_listed());
    }
}
