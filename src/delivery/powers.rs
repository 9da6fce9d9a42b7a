//! Who gets which rights by an object of a solution: a plan that only names a `RoleBinding` hides what it is about.

use serde_json::Value;

use super::errors::{bounded, first_few};
use super::object;

/// The group of Roles and their bindings.
const RBAC: &str = "rbac.authorization.k8s.io";
/// The most characters of a rule: five of them leave room for what follows in a message.
const MAX_RULE: usize = 240;
/// The most characters of a name.
const MAX_NAME: usize = 120;

/// What an object gives, for people. The smaller one is to be read first: nobody hides a wide one behind many others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gift {
    is_narrow: bool,
    rank: u8,
    /// A sentence that begins with its verb.
    pub said: String,
}

/// What the object gives; `None` for one that gives no rights.
pub(super) fn of(object: &Value) -> Option<Gift> {
    if object::group(object) != RBAC {
        return None;
    }
    let (rank, is_wide, said) = match object::kind(object) {
        "ClusterRoleBinding" => (0, is_wide_binding(object), binding(object, "gives, in the whole cluster,")),
        "RoleBinding" => (1, is_wide_binding(object), binding(object, "gives")),
        "ClusterRole" => (2, is_wide_role(object), cluster_role(object)),
        "Role" => (3, is_wide_role(object), format!("allows {}", rules(object))),
        _ => return None,
    };
    Some(Gift { is_narrow: !is_wide, rank, said })
}

fn binding(object: &Value, gives: &str) -> String {
    let mut subjects: Vec<&Value> = list(object, "subjects").iter().collect();
    subjects.sort_by_key(|subject| (!is_wide_subject(subject), text(subject, "kind") == "ServiceAccount"));
    let whom = if subjects.is_empty() { "nobody".to_owned() } else { first_few(subjects.into_iter().map(subject)) };
    let role = object.get("roleRef").unwrap_or(&Value::Null);
    format!("{gives} {} {} to {whom}", shown(text(role, "kind")), shown(text(role, "name")))
}

fn subject(subject: &Value) -> String {
    let (kind, name) = (shown(text(subject, "kind")), shown(text(subject, "name")));
    match text(subject, "namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {}/{name}", shown(namespace)),
    }
}

/// A `ClusterRole` may gather the rules of others, and give its own to others.
fn cluster_role(object: &Value) -> String {
    let mut also = Vec::new();
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    for (label, value) in labels.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if let Some(role) = label.strip_prefix("rbac.authorization.k8s.io/aggregate-to-") {
            if value == "true" {
                also.push(format!("also to all who have ClusterRole {}", shown(role)));
            }
        } else if label.contains("aggregate") {
            // Who gathers by it is not known here; it is how such labels are called.
            also.push(format!("also to all who have a ClusterRole that gathers those with label {}", shown(&format!("{label}={value}"))));
        }
    }
    if object.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        also.push("with what ClusterRoles with the labels of its aggregationRule allow".to_owned());
    }
    let rules = rules(object);
    if also.is_empty() { format!("allows {rules}") } else { format!("allows, {}: {rules}", first_few(also.into_iter())) }
}

fn rules(object: &Value) -> String {
    let mut rules: Vec<&Value> = list(object, "rules").iter().collect();
    rules.sort_by_key(|rule| !is_wide_rule(rule));
    if rules.is_empty() { "nothing".to_owned() } else { first_few(rules.into_iter().map(|one| bounded(&rule(one), MAX_RULE))) }
}

/// One rule, its resources as kubectl names them.
fn rule(rule: &Value) -> String {
    let words = |field| list(rule, field).iter().filter_map(Value::as_str);
    let joined = |field| words(field).map(shown).collect::<Vec<_>>().join(", ");
    let verbs = joined("verbs");
    if words("nonResourceURLs").next().is_some() {
        return format!("{verbs} on {}", joined("nonResourceURLs"));
    }
    let resources: Vec<String> = words("resources")
        .flat_map(|resource| {
            words("apiGroups").map(move |group| if group.is_empty() { shown(resource) } else { shown(&format!("{resource}.{group}")) })
        })
        .collect();
    let named = if words("resourceNames").next().is_some() { format!(" named {}", joined("resourceNames")) } else { String::new() };
    format!("{verbs} on {}{named}", resources.join(", "))
}

/// Whether it is given to all, or is all that there is to give.
fn is_wide_binding(object: &Value) -> bool {
    let role = object.get("roleRef").unwrap_or(&Value::Null);
    text(role, "name") == "cluster-admin" || list(object, "subjects").iter().any(is_wide_subject)
}

fn is_wide_subject(subject: &Value) -> bool {
    match text(subject, "kind") {
        "Group" => text(subject, "name").starts_with("system:"),
        "User" => text(subject, "name") == "system:anonymous",
        _ => false,
    }
}

fn is_wide_role(object: &Value) -> bool {
    list(object, "rules").iter().any(is_wide_rule)
}

/// Whether it allows everything of some sort, or to get more.
fn is_wide_rule(rule: &Value) -> bool {
    let any = |field, words: &[&str]| list(rule, field).iter().filter_map(Value::as_str).any(|word| words.contains(&word));
    any("verbs", &["*", "escalate", "bind", "impersonate"]) || any("resources", &["*"]) || any("apiGroups", &["*"])
}

/// A name as it is, or quoted where it could be taken for more than a name.
pub(super) fn shown(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-._:/*@=".contains(c));
    if is_plain { bounded(name, MAX_NAME) } else { format!("{:?}", name.chars().take(MAX_NAME).collect::<String>()) }
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

    fn said(object: &Value) -> String {
        of(object).unwrap().said
    }

    #[test]
    fn a_binding_tells_who_gets_what() {
        let subjects = json!([
            {"kind": "User", "name": "mallory"}, {"kind": "Group", "name": "system:authenticated"},
            {"kind": "ServiceAccount", "name": "app", "namespace": "qa"}
        ]);
        let object = rbac("RoleBinding", json!({"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": subjects}));
        assert_eq!(said(&object), "gives ClusterRole admin to Group system:authenticated; User mallory; ServiceAccount qa/app");
        let nobody = rbac("RoleBinding", json!({"roleRef": {"kind": "Role", "name": "reader"}}));
        assert_eq!(said(&nobody), "gives Role reader to nobody");
        let many: Vec<Value> = (0..9).map(|n| json!({"kind": "User", "name": format!("u{n}")})).collect();
        let many = rbac("RoleBinding", json!({"roleRef": {"kind": "Role", "name": "reader"}, "subjects": many}));
        assert!(said(&many).ends_with("User u4; and 4 more"), "{}", said(&many));
    }

    #[test]
    fn a_role_tells_what_it_allows() {
        let rules = json!([
            {"apiGroups": ["", "apps"], "resources": ["*"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["db"], "verbs": ["get"]}
        ]);
        assert_eq!(said(&rbac("Role", json!({"rules": rules}))), "allows get, list on *, *.apps; get on secrets named db");
        assert_eq!(said(&rbac("Role", json!({}))), "allows nothing");
    }

    #[test]
    fn what_counts_in_the_whole_cluster_is_said_to() {
        let subjects = json!([{"kind": "Group", "name": "makers"}]);
        let object = rbac("ClusterRoleBinding", json!({"roleRef": {"kind": "ClusterRole", "name": "berths"}, "subjects": subjects}));
        assert_eq!(said(&object), "gives, in the whole cluster, ClusterRole berths to Group makers");
        let rules = json!([{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]);
        let labels =
            json!({"labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true", "rbac.authorization.k8s.io/aggregate-to-view": "no"}});
        let object = rbac("ClusterRole", json!({"rules": rules, "metadata": labels}));
        assert_eq!(said(&object), "allows, also to all who have ClusterRole edit: get on /metrics");
        let object = rbac("ClusterRole", json!({"aggregationRule": {"clusterRoleSelectors": []}}));
        assert_eq!(said(&object), "allows, with what ClusterRoles with the labels of its aggregationRule allow: nothing");
    }

    #[test]
    fn nothing_wide_is_hidden_behind_much_that_is_narrow() {
        let long = "x".repeat(3_000);
        let mut rules: Vec<Value> =
            (0..6).map(|_| json!({"apiGroups": [""], "resources": ["pods"], "resourceNames": [long], "verbs": ["get"]})).collect();
        rules.push(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}));
        let wide = rbac("Role", json!({"rules": rules}));
        assert!(said(&wide).starts_with("allows * on *.*; get on pods named xxx"), "{}", said(&wide));
        assert!(said(&wide).ends_with("…; and 2 more") && said(&wide).chars().count() < 2_000, "{}", said(&wide));
        let narrow = rbac("Role", json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}));
        let to_all = rbac(
            "RoleBinding",
            json!({"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [{"kind": "Group", "name": "system:authenticated"}]}),
        );
        let of_cluster = rbac("ClusterRoleBinding", json!({"roleRef": {"kind": "ClusterRole", "name": "view"}}));
        let mut gifts = [&narrow, &of_cluster, &wide, &to_all].map(|object| of(object).unwrap());
        gifts.sort();
        let firsts = gifts.map(|gift| gift.said.chars().take(12).collect::<String>());
        assert_eq!(firsts, ["gives Cluste", "allows * on ", "gives, in th", "allows get o"]);
    }

    #[test]
    fn a_name_is_not_taken_for_what_is_said_of_it() {
        let subjects = json!([{"kind": "User", "name": "x; and 0 more"}, {"kind": "User", "name": "a\n\u{1b}[2Kb"}]);
        let object = rbac("RoleBinding", json!({"roleRef": {"kind": "Role", "name": "reader"}, "subjects": subjects}));
        assert_eq!(said(&object), r#"gives Role reader to User "x; and 0 more"; User "a\n\u{1b}[2Kb""#);
    }

    #[test]
    fn what_gives_no_rights_is_passed_over() {
        assert_eq!(of(&json!({"apiVersion": "v1", "kind": "ConfigMap"})), None);
        assert_eq!(of(&json!({"apiVersion": "example.com/v1", "kind": "RoleBinding"})), None);
    }
}
