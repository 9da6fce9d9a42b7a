//! Who gets which rights by an object of a solution: a plan that only names a `RoleBinding` hides what it is about.

use std::fmt::Write as _;

use serde_json::Value;

use super::errors::first_few;
use super::object;

/// The group of Roles and their bindings.
const RBAC: &str = "rbac.authorization.k8s.io";

/// What the object gives, as a sentence that begins with its verb; `None` for one that gives no rights.
pub(super) fn of(object: &Value) -> Option<String> {
    if object::group(object) != RBAC {
        return None;
    }
    match object::kind(object) {
        "RoleBinding" => Some(binding(object)),
        "ClusterRoleBinding" => Some(format!("{}, in the whole cluster", binding(object))),
        "Role" => Some(role(object)),
        "ClusterRole" => Some(cluster_role(object)),
        _ => None,
    }
}

fn binding(object: &Value) -> String {
    let subjects: Vec<String> = list(object, "subjects").iter().map(subject).collect();
    let whom = if subjects.is_empty() { "nobody".to_owned() } else { first_few(subjects.into_iter()) };
    let role = object.get("roleRef").unwrap_or(&Value::Null);
    format!("gives {} {} to {whom}", text(role, "kind"), text(role, "name"))
}

fn subject(subject: &Value) -> String {
    match text(subject, "namespace") {
        "" => format!("{} {}", text(subject, "kind"), text(subject, "name")),
        namespace => format!("{} {namespace}/{}", text(subject, "kind"), text(subject, "name")),
    }
}

fn role(object: &Value) -> String {
    let rules: Vec<String> = list(object, "rules").iter().map(rule).collect();
    if rules.is_empty() { "allows nothing".to_owned() } else { format!("allows {}", first_few(rules.into_iter())) }
}

/// A `ClusterRole` may gather the rules of others, and give its own to others.
fn cluster_role(object: &Value) -> String {
    let mut text = role(object);
    if object.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        text.push_str(", and what ClusterRoles with the labels of its aggregationRule allow");
    }
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let to: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.as_str() == Some("true"))
        .filter_map(|(label, _)| label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-"))
        .collect();
    if !to.is_empty() {
        // Writing to a String can't fail.
        let _ = write!(text, ", to all who have ClusterRole {} too", to.join(", "));
    }
    text
}

/// One rule, its resources as kubectl names them.
fn rule(rule: &Value) -> String {
    let words = |field| list(rule, field).iter().filter_map(Value::as_str);
    let paths: Vec<&str> = words("nonResourceURLs").collect();
    if !paths.is_empty() {
        return format!("{} on {}", words("verbs").collect::<Vec<_>>().join(", "), paths.join(", "));
    }
    let resources: Vec<String> = words("resources")
        .flat_map(|resource| {
            words("apiGroups").map(move |group| if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") })
        })
        .collect();
    let names: Vec<&str> = words("resourceNames").collect();
    let named = if names.is_empty() { String::new() } else { format!(" named {}", names.join(", ")) };
    format!("{} on {}{named}", words("verbs").collect::<Vec<_>>().join(", "), resources.join(", "))
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rbac(kind: &str, more: Value) -> Value {
        let mut object = more;
        object["apiVersion"] = json!("rbac.authorization.k8s.io/v1");
        object["kind"] = json!(kind);
        object
    }

    #[test]
    fn a_binding_tells_who_gets_what() {
        let subjects = json!([
            {"kind": "User", "name": "mallory"}, {"kind": "Group", "name": "system:authenticated"},
            {"kind": "ServiceAccount", "name": "app", "namespace": "qa"}
        ]);
        let object = rbac("RoleBinding", json!({"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": subjects}));
        assert_eq!(of(&object).unwrap(), "gives ClusterRole admin to User mallory; Group system:authenticated; ServiceAccount qa/app");
        let nobody = rbac("RoleBinding", json!({"roleRef": {"kind": "Role", "name": "reader"}}));
        assert_eq!(of(&nobody).unwrap(), "gives Role reader to nobody");
        let many: Vec<Value> = (0..9).map(|n| json!({"kind": "User", "name": format!("u{n}")})).collect();
        let many = rbac("RoleBinding", json!({"roleRef": {"kind": "Role", "name": "reader"}, "subjects": many}));
        assert!(of(&many).unwrap().ends_with("User u4; and 4 more"), "{:?}", of(&many));
    }

    #[test]
    fn a_role_tells_what_it_allows() {
        let rules = json!([
            {"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["db"], "verbs": ["get"]}
        ]);
        assert_eq!(of(&rbac("Role", json!({"rules": rules}))).unwrap(), "allows get, list on *, *.apps; get on secrets named db");
        assert_eq!(of(&rbac("Role", json!({}))).unwrap(), "allows nothing");
    }

    #[test]
    fn what_counts_in_the_whole_cluster_is_said_to() {
        let subjects = json!([{"kind": "Group", "name": "makers"}]);
        let object = rbac("ClusterRoleBinding", json!({"roleRef": {"kind": "ClusterRole", "name": "berths"}, "subjects": subjects}));
        assert_eq!(of(&object).unwrap(), "gives ClusterRole berths to Group makers, in the whole cluster");
        let rules = json!([{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]);
        let labels =
            json!({"labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true", "rbac.authorization.k8s.io/aggregate-to-view": "no"}});
        let object = rbac("ClusterRole", json!({"rules": rules, "metadata": labels}));
        assert_eq!(of(&object).unwrap(), "allows get on /metrics, to all who have ClusterRole edit too");
        let object = rbac("ClusterRole", json!({"aggregationRule": {"clusterRoleSelectors": []}}));
        assert_eq!(of(&object).unwrap(), "allows nothing, and what ClusterRoles with the labels of its aggregationRule allow");
    }

    #[test]
    fn what_gives_no_rights_is_passed_over() {
        assert_eq!(of(&json!({"apiVersion": "v1", "kind": "ConfigMap"})), None);
        assert_eq!(of(&json!({"apiVersion": "example.com/v1", "kind": "RoleBinding"})), None);
    }
}
