//! Who gets which rights by an object of a solution. A plan that only names a `RoleBinding` would hide what it does.

use serde_json::Value;

use crate::cluster::errors::{bounded, first_few};
use crate::cluster::object::{self, Key};
use crate::cluster::packed::packed;

/// The group of Roles and their bindings.
const RBAC: &str = "rbac.authorization.k8s.io";
/// How the label begins by which a `ClusterRole` adds its rules to another one.
const AGGREGATE_TO: &str = "rbac.authorization.k8s.io/aggregate-to-";
/// The most characters of a rule. Five rules leave room for the rest of a message.
const MAX_RULE: usize = 240;
/// The most characters of a name.
const MAX_NAME: usize = 120;

/// What an object grants, for people. The smaller one is shown first: people before the solution's own accounts, many rights before few.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gift {
    audience: Audience,
    is_narrow: bool,
    rank: u8,
    /// A sentence that begins with its verb.
    pub(crate) said: String,
}

impl Gift {
    /// Whether it grants something to others, or many rights to anybody. If so, it is told in any case.
    pub(crate) fn is_grave(&self) -> bool {
        !self.is_narrow || self.audience < Audience::Own
    }
}

/// Who gets rights; the most important come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Audience {
    /// Everybody who can log in, or even anonymous users.
    All,
    /// People, groups, and accounts of other namespaces.
    Others,
    /// Accounts of the target, or unknown from this object.
    Own,
}

/// What the object grants in namespace `here`, in several parts if needed; empty if it grants nothing. `roles` has the roles that come with
/// it.
pub(crate) fn of(object: &Value, here: &str, roles: &[&Value]) -> Vec<Gift> {
    if object::group(object) != RBAC {
        return Vec::new();
    }
    match object::kind(object) {
        "ClusterRoleBinding" => binding(object, 0, "gives, in the whole cluster,", here, roles),
        "RoleBinding" => binding(object, 1, "gives", here, roles),
        "ClusterRole" => {
            let audience = if is_aggregated(object) { Audience::Others } else { Audience::Own };
            role(object, 2, audience, &allows(object))
        }
        "Role" => role(object, 3, Audience::Own, "allows"),
        _ => Vec::new(),
    }
}

/// A role that a binding of a solution grants to a subject outside the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shared {
    pub(crate) binding: Key,
    pub(crate) role_kind: String,
    pub(crate) role: String,
    /// The kind of the subject.
    pub(crate) kind: String,
    /// The subject.
    pub(crate) name: String,
    /// The namespace of a `ServiceAccount`.
    pub(crate) namespace: Option<String>,
}

/// What the bindings among the objects grant to people, to groups, and to accounts of namespaces other than `here`.
pub(crate) fn shared(objects: &[Value], here: &str) -> Vec<Shared> {
    let is_binding = |one: &&Value| object::group(one) == RBAC && matches!(object::kind(one), "RoleBinding" | "ClusterRoleBinding");
    let of = |object: &Value| {
        let role = object.get("roleRef").cloned().unwrap_or_default();
        let given = list(object, "subjects").iter().filter(|subject| audience(subject, here) != Audience::Own);
        let to = |subject: &Value| Shared {
            binding: Key::of(object),
            role_kind: text(&role, "kind").to_owned(),
            role: text(&role, "name").to_owned(),
            kind: text(subject, "kind").to_owned(),
            name: text(subject, "name").to_owned(),
            namespace: Some(text(subject, "namespace").to_owned()).filter(|namespace| !namespace.is_empty()),
        };
        given.map(to).collect::<Vec<_>>()
    };
    objects.iter().filter(is_binding).flat_map(of).collect()
}

fn role(object: &Value, rank: u8, audience: Audience, allows: &str) -> Vec<Gift> {
    let is_narrow = !is_wide_role(object);
    let gift = |said| Gift { audience, is_narrow, rank, said };
    let rules = packed(rules(object).into_iter(), "; ");
    if rules.is_empty() {
        return vec![gift(format!("{allows} nothing"))];
    }
    let parts = rules.iter().enumerate();
    parts.map(|(part, rules)| gift(if part == 0 { format!("{allows} {rules}") } else { format!("allows, besides, {rules}") })).collect()
}

fn binding(object: &Value, rank: u8, gives: &str, here: &str, roles: &[&Value]) -> Vec<Gift> {
    let role = object.get("roleRef").unwrap_or(&Value::Null);
    let is_narrow = !gives_much(role, roles);
    let mut subjects: Vec<(Audience, bool, &Value)> =
        list(object, "subjects").iter().map(|one| (audience(one, here), text(one, "kind") == "ServiceAccount", one)).collect();
    subjects.sort_by_key(|(audience, is_account, _)| (*audience, *is_account));
    let what = format!("{} {}", shown(text(role, "kind")), shown(text(role, "name")));
    let audience = subjects.first().map_or(Audience::Own, |(audience, ..)| *audience);
    let gift = |said| Gift { audience, is_narrow, rank, said };
    if subjects.is_empty() {
        return vec![gift(format!("{gives} {what} to nobody"))];
    }
    let whom = packed(subjects.into_iter().map(|(.., one)| subject(one)), "; ");
    let parts = whom.iter().enumerate();
    parts
        .map(|(part, whom)| gift(if part == 0 { format!("{gives} {what} to {whom}") } else { format!("{gives} {what} also to {whom}") }))
        .collect()
}

fn audience(subject: &Value, here: &str) -> Audience {
    if is_wide_subject(subject) {
        return Audience::All;
    }
    let is_here = [here, ""].contains(&text(subject, "namespace"));
    if text(subject, "kind") == "ServiceAccount" && is_here { Audience::Own } else { Audience::Others }
}

/// Whether a bound role has many rights: by its rules if it comes with the solution; by its name if every cluster has it. A role that is
/// not known here may.
fn gives_much(role: &Value, roles: &[&Value]) -> bool {
    let (kind, name) = (text(role, "kind"), text(role, "name"));
    match roles.iter().find(|one| object::group(one) == RBAC && object::kind(one) == kind && object::name(one) == name) {
        Some(role) => is_wide_role(role) || is_gathering(role),
        None => (kind, name) != ("ClusterRole", "view"),
    }
}

fn subject(subject: &Value) -> String {
    let (kind, name) = (shown(text(subject, "kind")), shown(text(subject, "name")));
    match text(subject, "namespace") {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {}/{name}", shown(namespace)),
    }
}

fn is_gathering(role: &Value) -> bool {
    role.get("aggregationRule").is_some_and(|rule| !rule.is_null())
}

/// Whether holders of another role get its rules.
fn is_aggregated(role: &Value) -> bool {
    let labels = role.pointer("/metadata/labels").and_then(Value::as_object);
    labels.into_iter().flatten().any(|(label, value)| {
        value == "true" && label.starts_with(AGGREGATE_TO) || label.contains("aggregate") && !label.starts_with(AGGREGATE_TO)
    })
}

/// A `ClusterRole` may aggregate the rules of others, and add its own to others.
fn allows(object: &Value) -> String {
    let mut also = Vec::new();
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    for (label, value) in labels.into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if let Some(role) = label.strip_prefix(AGGREGATE_TO) {
            if value == "true" {
                also.push(format!("also to all who have ClusterRole {}", shown(role)));
            }
        } else if label.contains("aggregate") {
            // Which role aggregates it is not known here; such labels follow this naming.
            also.push(format!("also to all who have a ClusterRole that gathers those with label {}", shown(&format!("{label}={value}"))));
        }
    }
    if object.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
        also.push("with what ClusterRoles with the labels of its aggregationRule allow".to_owned());
    }
    if also.is_empty() { "allows".to_owned() } else { format!("allows, {}:", first_few(also.into_iter())) }
}

/// The rules. Those that allow most come first.
fn rules(object: &Value) -> Vec<String> {
    let mut rules: Vec<&Value> = list(object, "rules").iter().collect();
    rules.sort_by_key(|rule| !is_wide_rule(rule));
    rules.into_iter().map(|one| bounded(&rule(one), MAX_RULE)).collect()
}

/// One rule, its resources as kubectl names them.
fn rule(rule: &Value) -> String {
    // The end of a long rule is cut; the important part comes first.
    let words = |field| {
        let mut words: Vec<&str> = list(rule, field).iter().filter_map(Value::as_str).collect();
        words.sort_by_key(|word| !is_wide_word(word));
        words.into_iter()
    };
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

/// Whether it stands for all objects or all names.
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

/// Resources whose rights mean more than their names say: reading them reveals secrets or running workloads, or they let their writer run
/// something.
const WIDE_RESOURCES: [&str; 33] = [
    "*",
    "*/*",
    "secrets",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/proxy",
    "pods/ephemeralcontainers",
    "services/proxy",
    "nodes/proxy",
    "serviceaccounts/token",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
    "mutatingadmissionpolicies",
    "validatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingadmissionpolicybindings",
    "certificatesigningrequests/approval",
    "users",
    "groups",
    "userextras",
    "persistentvolumes",
    "apiservices",
    "customresourcedefinitions",
    "pods/*",
    "nodes/*",
    "services/*",
    "serviceaccounts/*",
    "*/exec",
    "*/attach",
    "*/portforward",
    "*/proxy",
    "*/token",
];
/// Resources whose objects run as any account of their namespace, with any of its Secrets. Whoever may write them chooses.
const RUNS: [&str; 8] = ["pods", "deployments", "daemonsets", "statefulsets", "replicasets", "replicationcontrollers", "jobs", "cronjobs"];

/// Whether it allows everything of some kind, or gaining further rights.
fn is_wide_rule(rule: &Value) -> bool {
    let any = |field, judge: &dyn Fn(&str) -> bool| list(rule, field).iter().filter_map(Value::as_str).any(judge);
    let writes = any("verbs", &|verb| matches!(verb, "create" | "update" | "patch"));
    any("verbs", &is_wide_verb)
        || any("apiGroups", &|group| group == "*")
        || any("resources", &|resource| WIDE_RESOURCES.contains(&resource) || writes && RUNS.contains(&resource))
        || any("nonResourceURLs", &|url| url == "*" || url == "/*")
}

fn is_wide_verb(verb: &str) -> bool {
    matches!(verb, "*" | "escalate" | "bind") || verb.starts_with("impersonate")
}

fn is_wide_word(word: &str) -> bool {
    is_wide_verb(word) || WIDE_RESOURCES.contains(&word)
}

/// A name as it is, or in quotes if it could be mistaken for more than a name.
pub(crate) fn shown(name: &str) -> String {
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
        told(object).join(" | ")
    }

    fn told(object: &Value) -> Vec<String> {
        of(object, "qa", &[]).into_iter().map(|gift| gift.said).collect()
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
        assert!(said(&many).ends_with("User u7; User u8"), "nobody is left out: {}", said(&many));
        let crowd: Vec<Value> = (0..300).map(|n| json!({"kind": "User", "name": format!("user-{n}")})).collect();
        let crowd = rbac("RoleBinding", json!({"roleRef": {"kind": "Role", "name": "reader"}, "subjects": crowd}));
        assert!(told(&crowd).len() > 1 && told(&crowd)[1].starts_with("gives Role reader also to User user-"), "{:?}", told(&crowd));
        assert_eq!(told(&crowd).concat().matches("User user-").count(), 300);
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
        assert_eq!(said(&wide).matches("get on pods named").count(), 6, "{}", said(&wide));
        let narrow = rbac("Role", json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}));
        let to_all = rbac(
            "RoleBinding",
            json!({"roleRef": {"kind": "ClusterRole", "name": "admin"}, "subjects": [{"kind": "Group", "name": "system:authenticated"}]}),
        );
        let of_cluster = rbac("ClusterRoleBinding", json!({"roleRef": {"kind": "ClusterRole", "name": "view"}}));
        let mut gifts = [&narrow, &of_cluster, &wide, &to_all].map(|object| of(object, "qa", &[]).remove(0));
        gifts.sort();
        assert_eq!(gifts.each_ref().map(Gift::is_grave), [true, true, false, false]);
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
        assert_eq!(told(&json!({"apiVersion": "v1", "kind": "ConfigMap"})), [""; 0]);
        assert_eq!(told(&json!({"apiVersion": "example.com/v1", "kind": "RoleBinding"})), [""; 0]);
    }

    #[test]
    fn people_come_before_accounts_and_what_gets_more_before_what_does_not() {
        let bound =
            |role: Value, subject: Value| rbac("RoleBinding", json!({"metadata": {"name": "b"}, "roleRef": role, "subjects": [subject]}));
        let view = json!({"kind": "ClusterRole", "name": "view"});
        let account = |namespace: &str| json!({"kind": "ServiceAccount", "name": "app", "namespace": namespace});
        let role = rbac(
            "Role",
            json!({"metadata": {"name": "zz"}, "rules": [{"apiGroups": [""], "resources": ["configmaps", "secrets"], "verbs": ["get"]}]}),
        );
        let objects = [
            bound(view.clone(), account("qa")),
            bound(json!({"kind": "ClusterRole", "name": "edit"}), account("qa")),
            bound(view.clone(), account("elsewhere")),
            bound(json!({"kind": "Role", "name": "zz"}), json!({"kind": "User", "name": "dana"})),
            bound(view, json!({"kind": "Group", "name": "system:authenticated"})),
        ];
        let mut gifts: Vec<Gift> = objects.iter().flat_map(|object| of(object, "qa", &[&role])).collect();
        gifts.sort();
        let said: Vec<&str> = gifts.iter().map(|gift| gift.said.as_str()).collect();
        assert_eq!(
            said,
            [
                "gives ClusterRole view to Group system:authenticated",
                "gives Role zz to User dana",
                "gives ClusterRole view to ServiceAccount elsewhere/app",
                "gives ClusterRole edit to ServiceAccount qa/app",
                "gives ClusterRole view to ServiceAccount qa/app",
            ]
        );
        assert_eq!(gifts.iter().map(Gift::is_grave).collect::<Vec<_>>(), [true, true, true, true, false]);
    }

    #[test]
    fn what_leads_to_more_is_wide_and_stands_first_in_its_rule() {
        for (resource, verb) in [
            ("secrets", "list"),
            ("pods/exec", "create"),
            ("pods/attach", "create"),
            ("pods/portforward", "create"),
            ("serviceaccounts/token", "create"),
            ("nodes/proxy", "get"),
            ("validatingwebhookconfigurations", "get"),
            ("deployments", "patch"),
            ("users", "impersonate"),
            ("serviceaccounts", "impersonate:serviceaccount"),
            ("clusterroles", "bind"),
        ] {
            assert!(is_wide_rule(&json!({"apiGroups": [""], "resources": [resource], "verbs": [verb]})), "{verb} {resource}");
        }
        assert!(!is_wide_rule(&json!({"apiGroups": ["apps"], "resources": ["deployments", "pods"], "verbs": ["get", "list"]})));
        let mut resources: Vec<String> = (0..60).map(|n| format!("resource-{n}")).collect();
        resources.push("secrets".into());
        let role = rbac("Role", json!({"rules": [{"apiGroups": [""], "resources": resources, "verbs": ["get"]}]}));
        assert!(said(&role).starts_with("allows get on secrets, resource-0"), "{}", said(&role));
    }
}
