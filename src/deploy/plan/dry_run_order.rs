//! Objects that a dry run refuses only because another object of the same bundle doesn't exist yet.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::errors::{self, Cause};
use crate::cluster::object::{Item, Key};

/// Objects of a bundle that the API server checks others of its objects against.
pub(crate) struct Provided {
    roles: BTreeSet<(String, String)>,
    service_accounts: BTreeSet<String>,
    priority_classes: BTreeSet<String>,
}

impl Provided {
    /// What these objects bring.
    pub(crate) fn by<'a>(keys: impl Iterator<Item = &'a Key>) -> Self {
        let mut provided = Self { roles: BTreeSet::new(), service_accounts: BTreeSet::new(), priority_classes: BTreeSet::new() };
        for key in keys {
            match (key.group.as_str(), key.kind.as_str()) {
                ("rbac.authorization.k8s.io", kind @ ("Role" | "ClusterRole")) => {
                    provided.roles.insert((kind.to_owned(), key.name.clone()))
                }
                ("scheduling.k8s.io", "PriorityClass") => provided.priority_classes.insert(key.name.clone()),
                ("", "ServiceAccount") => provided.service_accounts.insert(key.name.clone()),
                _ => false,
            };
        }
        provided
    }

    /// Whether the refusal will disappear once the bundle's other objects are applied. They are applied first.
    ///
    /// A binding is checked against its role, so in a dry run of both the role is not found. The role's own dry run proves that the
    /// delegate holds what it grants, and whoever holds that may bind it: in the namespace, or everywhere. A Pod is checked against its
    /// `ServiceAccount` and its `PriorityClass`.
    pub(crate) fn will_satisfy(&self, item: &Item, error: &kube::Error) -> bool {
        let named = |pointer: &str| item.body.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match (item.key.group.as_str(), item.key.kind.as_str(), errors::classify(error)) {
            ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding", Cause::NotFound) => {
                self.roles.contains(&(named("/roleRef/kind").to_owned(), named("/roleRef/name").to_owned()))
            }
            ("", "Pod", Cause::Denied) => {
                let says = |words: &str| matches!(error, kube::Error::Api(status) if status.message.contains(words));
                says("error looking up service account") && self.service_accounts.contains(named("/spec/serviceAccountName"))
                    || says("no PriorityClass with name") && self.priority_classes.contains(named("/spec/priorityClassName"))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ApiResource, GroupVersionKind, Status};
    use serde_json::json;

    use super::*;
    use crate::cluster::object::Served;

    const RBAC: &str = "rbac.authorization.k8s.io";

    fn key(group: &str, kind: &str, name: &str) -> Key {
        Key { group: group.into(), kind: kind.into(), name: name.into() }
    }

    fn binding(role: &str, kind: &str) -> Item {
        Item {
            key: key(RBAC, "RoleBinding", "b"),
            served: Served::in_namespaces(ApiResource::from_gvk(&GroupVersionKind::gvk(RBAC, "v1", "RoleBinding"))),
            body: json!({"roleRef": {"kind": kind, "name": role}}),
        }
    }

    #[test]
    fn a_binding_waits_for_the_role_that_comes_with_it_and_for_no_other() {
        let keys = [key(RBAC, "Role", "reader"), key(RBAC, "ClusterRole", "everywhere"), key("", "ConfigMap", "x")];
        let provided = Provided::by(keys.iter());
        let refusal = |code: u16| kube::Error::Api(Status::failure("not found", "").with_code(code).boxed());
        assert!(provided.will_satisfy(&binding("reader", "Role"), &refusal(404)));
        assert!(!provided.will_satisfy(&binding("reader", "Role"), &refusal(403)));
        assert!(!provided.will_satisfy(&binding("writer", "Role"), &refusal(404)));
        assert!(!provided.will_satisfy(&binding("reader", "ClusterRole"), &refusal(404)));
        assert!(provided.will_satisfy(&binding("everywhere", "ClusterRole"), &refusal(404)));
        assert!(!provided.will_satisfy(&binding("everywhere", "Role"), &refusal(404)));
    }
}
