//! The `ApplySet` standard (KEP-3659): which objects a solution put into a namespace. The record is in the cluster itself, so anybody can
//! find what an earlier (or half-failed) version left.
//!
//! Every object carries the label `applyset.kubernetes.io/part-of`. One parent, a `ConfigMap`, names the set and the kinds to look for.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kube::core::ApiResource;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::api::names;
use crate::api::reference::GroupKind as Kind;
use crate::cluster::object;

/// The tool in charge, as `<name>/<version>`. Tools don't touch the sets of other tools.
pub(crate) const TOOLING: &str = "pilotage/v1";

/// The id of the set of `solution` in `namespace`, by the rule of the standard:
/// `applyset-<base64url(sha256("<name>.<namespace>.<kind>.<group>"))>-v1`, of the parent.
pub fn id(solution: &str, namespace: &str) -> String {
    id_of_parent(&names::applyset_parent_name(solution), namespace, "ConfigMap", "")
}

fn id_of_parent(name: &str, namespace: &str, kind: &str, group: &str) -> String {
    let hash = Sha256::digest(format!("{name}.{namespace}.{kind}.{group}"));
    format!("applyset-{}-v1", URL_SAFE_NO_PAD.encode(hash))
}

/// A kind without its version. The order is the one in which the standard writes kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKind {
    /// The API group; empty for the core group.
    pub(crate) group: String,
    pub(crate) kind: String,
}

impl GroupKind {
    /// The kind of a resource.
    pub(crate) fn of(resource: &ApiResource) -> Self {
        Self { group: resource.group.clone(), kind: resource.kind.clone() }
    }

    /// Reads `Kind.group`, or `Kind` for the core group.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (kind, group) = text.split_once('.').unwrap_or((text, ""));
        (!kind.is_empty()).then(|| Self { group: group.to_owned(), kind: kind.to_owned() })
    }
}

impl From<&Kind> for GroupKind {
    fn from(kind: &Kind) -> Self {
        Self { group: kind.group.clone(), kind: kind.kind.clone() }
    }
}

impl From<GroupKind> for Kind {
    fn from(kind: GroupKind) -> Self {
        Self { group: kind.group, kind: kind.kind }
    }
}

impl std::fmt::Display for GroupKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.group.is_empty() { f.write_str(&self.kind) } else { write!(f, "{}.{}", self.kind, self.group) }
    }
}

impl Ord for GroupKind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.to_string().cmp(&other.to_string())
    }
}

impl PartialOrd for GroupKind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The kinds that a parent names.
pub(crate) fn kinds_of(parent: &Value) -> BTreeSet<GroupKind> {
    object::annotation(parent, names::APPLYSET_GROUP_KINDS).unwrap_or_default().split(',').filter_map(GroupKind::parse).collect()
}

/// Who owns the parent, if it is not the set with this id and of this tool.
pub(crate) fn taken_by(parent: &Value, id: &str) -> Option<String> {
    let tooling = object::annotation(parent, names::APPLYSET_TOOLING);
    let is_ours = tooling.is_some_and(|tool| tool.split('/').next() == TOOLING.split('/').next());
    if is_ours && object::label(parent, names::APPLYSET_ID) == Some(id) {
        return None;
    }
    Some(tooling.map_or_else(|| "somebody who is no ApplySet tool".to_owned(), str::to_owned))
}

/// The parent as it is applied.
pub(crate) fn parent(solution: &str, namespace: &str, kinds: &BTreeSet<GroupKind>) -> Value {
    let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names::applyset_parent_name(solution),
            "labels": {(names::APPLYSET_ID): id(solution, namespace), (names::MANAGED_BY): "pilotage"},
            "annotations": {(names::APPLYSET_TOOLING): TOOLING, (names::APPLYSET_GROUP_KINDS): kinds.join(",")},
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_follows_the_rule_of_the_standard() {
        // The example of kubectl's own test: parent Secret "my-set" in namespace "test".
        assert_eq!(id_of_parent("my-set", "test", "Secret", ""), "applyset-0eFHV8ySqp7XoShsGvyWFQD3s96yqwHmzc4e0HR1dsY-v1");
        assert!(id("orders", "contoso-qa").len() <= 63);
        assert_ne!(id("orders", "contoso-qa"), id("orders", "contoso-prod"));
    }

    #[test]
    fn a_parent_names_its_kinds_in_order_and_they_are_read_back() {
        let kinds: BTreeSet<GroupKind> = ["Service", "Deployment.apps", "ConfigMap"].iter().filter_map(|k| GroupKind::parse(k)).collect();
        let parent = parent("orders", "qa", &kinds);
        assert_eq!(parent["metadata"]["annotations"][names::APPLYSET_GROUP_KINDS], "ConfigMap,Deployment.apps,Service");
        assert_eq!(kinds_of(&parent), kinds);
        assert_eq!(kinds_of(&json!({"metadata": {"annotations": {(names::APPLYSET_GROUP_KINDS): ""}}})), BTreeSet::new());
    }

    #[test]
    fn the_parent_of_another_tool_or_of_nobody_is_left_alone() {
        let ours = parent("orders", "qa", &BTreeSet::new());
        assert_eq!(taken_by(&ours, &id("orders", "qa")), None);
        let mut foreign = ours.clone();
        foreign["metadata"]["annotations"][names::APPLYSET_TOOLING] = json!("kubectl/v1.30");
        assert_eq!(taken_by(&foreign, &id("orders", "qa")).as_deref(), Some("kubectl/v1.30"));
        assert!(taken_by(&json!({"metadata": {"name": "pilotage-orders"}}), &id("orders", "qa")).is_some());
    }
}
