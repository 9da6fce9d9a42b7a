//! Labels, annotations and names that have a meaning for Pilotage and its users.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// On a host namespace: `"true"` makes it a host.
pub const HOST_LABEL: &str = "pilotage.dev/host";
/// On a host namespace: `allowed` lets environments be in other regions than the host.
pub const CROSS_REGION_LABEL: &str = "pilotage.dev/cross-region";
/// On a target namespace: the host that may deploy to it.
pub const MANAGED_BY_LABEL: &str = "pilotage.dev/managed-by";
/// On a development namespace: the host whose pipelines may export from it.
pub const DEVELOPED_IN_LABEL: &str = "pilotage.dev/developed-in";
/// On namespaces: their region (set by the platform).
pub const REGION_LABEL: &str = "topology.kubernetes.io/region";
/// On an object of a solution: if one of its fields can't be changed, the object is deleted in the target and created anew.
pub const RECREATE_ANNOTATION: &str = "pilotage.dev/recreate";
/// On an object of a target that a solution did not put there: the solution that may adopt it. That solution may change the object, but
/// never deletes it.
pub const ADOPT_LABEL: &str = "pilotage.dev/adopt";
/// On an object of a target: the solution that has adopted it. That solution did not create it.
pub const ADOPTED_LABEL: &str = "pilotage.dev/adopted";
/// On a Secret or `ServiceAccount` of a target: its owner lets solutions use it.
pub const CONNECTION_LABEL: &str = "pilotage.dev/connection";
/// On objects that the operator generates in a host: the pipeline that they belong to.
pub const PIPELINE_LABEL: &str = "pilotage.dev/pipeline";
/// On the chunks of an artifact: the artifact's name.
pub const ARTIFACT_LABEL: &str = "pilotage.dev/artifact";
/// On artifacts and records, and on cluster-scoped objects of a target: the solution's name.
pub const SOLUTION_LABEL: &str = "pilotage.dev/solution";
/// On cluster-scoped objects of a target: the namespace whose solution put them there. `TARGET_UID_LABEL` has its uid, because another
/// namespace may get the same name.
pub const TARGET_NAMESPACE_LABEL: &str = "pilotage.dev/target-namespace";
/// The uid of that namespace.
pub const TARGET_UID_LABEL: &str = "pilotage.dev/target-uid";
/// On a request or an artifact, as annotation or label: retention keeps it, whatever the value.
pub const KEEP_ANNOTATION: &str = "pilotage.dev/keep";
/// On a Pipeline: each other value begins a run of its retention.
pub const RETAIN_NOW_ANNOTATION: &str = "pilotage.dev/retain-now";
/// Labels and annotations by which tools know what they apply: Flux, Argo CD, Helm, kpt and `kubectl apply --prune`. What such a tool
/// applies from a file, it makes anew when it is deleted.
pub const TOOL_KEYS: [&str; 8] = [
    "kustomize.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/name",
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/tracking-id",
    "app.kubernetes.io/instance",
    "meta.helm.sh/release-name",
    "config.k8s.io/owning-inventory",
    APPLYSET_PART_OF,
];
/// The standard label that names the tool in charge of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The standard label that names the application an object is part of; the default selector of a Solution.
pub const PART_OF: &str = "app.kubernetes.io/part-of";
/// Field manager of every write of the operator and of its delegates.
pub const FIELD_MANAGER: &str = "pilotage";
/// The virtual verb on Environments, in the whole cluster, of people who may let solutions have cluster-scoped objects.
pub const ALLOW_CLUSTER_SCOPED: &str = "allow-cluster-scoped";
/// Prefix of all keys that are Pilotage's own.
pub const KEY_PREFIX: &str = "pilotage.dev/";

/// On the `ConfigMap` that records what a solution put into a target: the host that deploys it there.
pub const DEPLOYED_FROM_ANNOTATION: &str = "pilotage.dev/deployed-from";

/// The `ApplySet` standard: which set an object belongs to.
pub const APPLYSET_PART_OF: &str = "applyset.kubernetes.io/part-of";
/// The `ApplySet` standard: the identity of a parent object.
pub const APPLYSET_ID: &str = "applyset.kubernetes.io/id";
/// The `ApplySet` standard: the tool in charge of a parent object.
pub const APPLYSET_TOOLING: &str = "applyset.kubernetes.io/tooling";
/// The `ApplySet` standard: the kinds that a set contains, as `Kind.group`, comma-separated.
pub const APPLYSET_GROUP_KINDS: &str = "applyset.kubernetes.io/contains-group-kinds";

/// The name of the Artifact that holds one version of one solution. Solution names have no dots. So the version is what follows the last
/// `-` before the first dot, and no two pairs share a name.
pub fn artifact_name(solution: &str, version: &str) -> String {
    format!("{solution}-{version}")
}

/// The name of the Role and `RoleBinding` that share a pipeline.
pub fn sharing_name(pipeline: &str) -> String {
    format!("pilotage-deploy-{pipeline}")
}

/// The name of the `ConfigMap` in the target that records what a solution put there.
pub fn applyset_parent_name(solution: &str) -> String {
    format!("pilotage-{solution}")
}

/// The full user name of a `ServiceAccount`, as the API server knows it.
pub fn service_account_username(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

/// Namespace and name of the `ServiceAccount` that has this user name; `None` for anybody else.
pub fn service_account(username: &str) -> Option<(&str, &str)> {
    username.strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// Eight hexadecimal digits that tell texts apart, if a name has no room for the whole text. Not for secrets.
pub fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(4).fold(String::new(), |mut hash, byte| {
        // Writing to a String can't fail.
        let _ = write!(hash, "{byte:02x}");
        hash
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_is_named_after_its_solution_and_version() {
        assert_eq!(artifact_name("orders", "1.4.0-rc.1"), "orders-1.4.0-rc.1");
    }
}
