//! References of an object to its own namespace. The export removes the namespace's name, and the deployment inserts the name of the
//! target.
//!
//! If the name were kept, the `ServiceAccounts` of development would get rights in production.

use serde_json::Value;

use crate::cluster::object;

/// The field.
const NAMESPACE: &str = "namespace";

/// Removes the name `own` from references that mean the object's own namespace.
pub(crate) fn leave(object: &mut Value, own: &str) {
    match object::group(object) {
        "rbac.authorization.k8s.io" => accounts(object, |subject| {
            if subject.get(NAMESPACE).is_some_and(|namespace| namespace == own) {
                subject.remove(NAMESPACE);
            }
        }),
        // References of such an object that name no namespace mean their own.
        "gateway.networking.k8s.io" => {
            if let Some(spec) = object.get_mut("spec") {
                leave_references(spec, own);
            }
        }
        _ => {}
    }
}

/// Inserts the namespace `here` where a reference must name one and names none, and removes it where a reference need not name one. So all
/// ways to write a reference to the own namespace are checked alike.
pub(crate) fn enter(object: &mut Value, here: &str) {
    match object::group(object) {
        "rbac.authorization.k8s.io" => accounts(object, |subject| {
            subject.entry(NAMESPACE).or_insert_with(|| here.into());
        }),
        "gateway.networking.k8s.io" => {
            if let Some(spec) = object.get_mut("spec") {
                leave_references(spec, here);
            }
        }
        _ => {}
    }
}

/// The `ServiceAccounts` among the subjects of a binding.
fn accounts(object: &mut Value, mut act: impl FnMut(&mut serde_json::Map<String, Value>)) {
    if !matches!(object::kind(object), "RoleBinding" | "ClusterRoleBinding") {
        return;
    }
    for subject in object.get_mut("subjects").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(subject) = subject.as_object_mut().filter(|s| s.get("kind").is_some_and(|kind| kind == "ServiceAccount")) {
            act(subject);
        }
    }
}

fn leave_references(value: &mut Value, own: &str) {
    match value {
        Value::Object(map) => {
            if map.contains_key("name") && map.get(NAMESPACE).is_some_and(|namespace| namespace == own) {
                map.remove(NAMESPACE);
            }
            map.values_mut().for_each(|child| leave_references(child, own));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| leave_references(item, own)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_binding_binds_the_accounts_of_the_namespace_that_it_is_in() {
        let mut binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "subjects": [
            {"kind": "ServiceAccount", "name": "own", "namespace": "dev"},
            {"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"},
            {"kind": "Group", "name": "dev"}
        ]});
        leave(&mut binding, "dev");
        assert_eq!(binding["subjects"][0], json!({"kind": "ServiceAccount", "name": "own"}));
        enter(&mut binding, "prod");
        assert_eq!(
            binding["subjects"],
            json!([
                {"kind": "ServiceAccount", "name": "own", "namespace": "prod"},
                {"kind": "ServiceAccount", "name": "prometheus", "namespace": "monitoring"},
                {"kind": "Group", "name": "dev"}
            ])
        );
    }

    #[test]
    fn a_route_goes_to_services_of_the_namespace_that_it_is_in() {
        let mut route = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "spec": {
            "parentRefs": [{"name": "edge", "namespace": "infra"}],
            "rules": [{"backendRefs": [{"name": "api", "namespace": "dev", "port": 80}]}]}});
        leave(&mut route, "dev");
        enter(&mut route, "prod");
        assert_eq!(
            route["spec"],
            json!({"parentRefs": [{"name": "edge", "namespace": "infra"}], "rules": [{"backendRefs": [{"name": "api", "port": 80}]}]})
        );
        let mut gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": {"listeners": [
            {"tls": {"certificateRefs": [{"name": "cert", "namespace": "prod"}]}}]}});
        enter(&mut gateway, "prod");
        assert_eq!(gateway["spec"]["listeners"][0]["tls"]["certificateRefs"], json!([{"name": "cert"}]), "it is its own");
    }
}
