//! Cluster-scoped kinds that an Environment allows one by one.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::GROUP;

/// Groups whose objects are never part of a solution: those that decide who may call the API server and what a call does, and Pilotage's
/// own. The rules of the schema name the same groups.
const NEVER_GROUPS: [&str; 9] = [
    // The core group: Namespaces, Nodes, PersistentVolumes.
    "",
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "certificates.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    GROUP,
];
/// Kinds of other groups by which one user could get the volume or the device of another.
const NEVER: [(&str, &str); 4] = [
    ("storage.k8s.io", "VolumeAttachment"),
    ("storage.k8s.io", "CSINode"),
    ("resource.k8s.io", "ResourceSlice"),
    ("snapshot.storage.k8s.io", "VolumeSnapshotContent"),
];

/// A cluster-scoped kind, by group and kind. There are no wildcards: each kind is allowed by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.group.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$') && self.kind.matches('^[A-Za-z][A-Za-z0-9]*$')")
        .message("name one kind by its group and kind, as in {group: scheduling.k8s.io, kind: PriorityClass}: there are no wildcards, and nothing of the core group is ever part of a solution"),
    validation = Rule::new("!(self.group in ['admissionregistration.k8s.io', 'apiregistration.k8s.io', 'authentication.k8s.io', 'authorization.k8s.io', 'certificates.k8s.io', 'flowcontrol.apiserver.k8s.io', 'internal.apiserver.k8s.io', 'pilotage.dev'])")
        .message("kinds of this group are never part of a solution, whoever allows it: they decide who may call the API server, and what becomes of the call. Take the entry out"),
    validation = Rule::new("!([self.group, self.kind] in [['storage.k8s.io', 'VolumeAttachment'], ['storage.k8s.io', 'CSINode'], ['resource.k8s.io', 'ResourceSlice'], ['snapshot.storage.k8s.io', 'VolumeSnapshotContent']])")
        .message("this kind is never part of a solution, whoever allows it: its objects give volumes and devices of others away. Take the entry out"),
)]
pub struct ClusterScopedKind {
    /// The API group, for example `rbac.authorization.k8s.io`.
    #[schemars(length(max = 253))]
    pub group: String,
    /// The kind, for example `ClusterRole`.
    #[schemars(length(max = 63))]
    pub kind: String,
}

/// Whether objects of a kind, if cluster-scoped, are never part of a solution, whatever an Environment lists.
pub fn is_never_allowed(group: &str, kind: &str) -> bool {
    NEVER_GROUPS.contains(&group) || NEVER.contains(&(group, kind))
}

/// Whether an Environment that lists `kinds` allows cluster-scoped objects of this kind.
pub fn allows(kinds: &[ClusterScopedKind], group: &str, kind: &str) -> bool {
    !is_never_allowed(group, kind) && kinds.iter().any(|listed| listed.group == group && listed.kind == kind)
}

/// The entry to add to an Environment, as YAML in one line.
pub fn entry(group: &str, kind: &str) -> String {
    format!("{{group: {group}, kind: {kind}}}")
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;

    fn listed(group: &str, kind: &str) -> ClusterScopedKind {
        ClusterScopedKind { group: group.into(), kind: kind.into() }
    }

    #[test]
    fn what_is_listed_is_allowed_by_group_and_kind_and_nothing_else() {
        let kinds = [listed("scheduling.k8s.io", "PriorityClass")];
        assert!(allows(&kinds, "scheduling.k8s.io", "PriorityClass"));
        assert!(!allows(&kinds, "example.test", "PriorityClass"));
        assert!(!allows(&kinds, "scheduling.k8s.io", "Other"));
        assert!(!allows(&[], "scheduling.k8s.io", "PriorityClass"));
    }

    #[test]
    fn what_is_never_allowed_is_not_where_it_is_listed_all_the_same() {
        for (group, kind) in
            [("", "Namespace"), ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"), ("storage.k8s.io", "CSINode")]
        {
            assert!(!allows(&[listed(group, kind)], group, kind), "{kind}");
        }
        assert!(allows(&[listed("storage.k8s.io", "StorageClass")], "storage.k8s.io", "StorageClass"));
    }

    #[test]
    fn the_schema_refuses_what_is_never_allowed() {
        let schema = serde_json::to_string(&crate::api::Environment::crd()).unwrap();
        for group in NEVER_GROUPS.iter().filter(|group| !group.is_empty()) {
            assert!(schema.contains(&format!("'{group}'")), "{group}");
        }
        for (group, kind) in NEVER {
            assert!(schema.contains(&format!("['{group}', '{kind}']")), "{kind}");
        }
    }
}
