//! The only place that prints rules: what is missing, as the Role and `RoleBinding` that grant it.

use std::fmt::Write as _;

use super::access::Right;
use super::delegate::Delegate;
use super::delegation::Delegation;
use super::{OPERATOR_NAME, OPERATOR_NAMESPACE};
use crate::api::GROUP;
use crate::api::names::{self, ALLOW_CLUSTER_SCOPED, short_hash};
use crate::api::reference::{Subject, SubjectKind};

/// The verbs that a delegate needs on the kinds that it deploys. It deletes objects that a later version no longer has.
pub(crate) const DELEGATE_VERBS: [&str; 5] = ["get", "list", "patch", "create", "delete"];

/// The operator itself.
pub(crate) fn operator() -> Subject {
    service_account(OPERATOR_NAMESPACE, OPERATOR_NAME)
}

/// The `ServiceAccount` as the subject of a binding.
pub(crate) fn service_account(namespace: &str, name: &str) -> Subject {
    Subject { kind: SubjectKind::ServiceAccount, name: name.to_owned(), namespace: Some(namespace.to_owned()) }
}

/// A subject in words, for messages.
pub(crate) fn described(kind: SubjectKind, name: &str, namespace: Option<&str>) -> String {
    namespace.map_or_else(|| format!("{kind:?} {name}"), |namespace| format!("{kind:?} {namespace}/{name}"))
}

/// The subject of a binding for this user name: a `ServiceAccount` if the name is one's, otherwise a user.
pub(crate) fn subject_of(username: &str) -> Subject {
    match names::service_account(username) {
        Some((namespace, name)) => service_account(namespace, name),
        None => Subject { kind: SubjectKind::User, name: username.to_owned(), namespace: None },
    }
}

/// A Role and a `RoleBinding` as YAML that give `subject` the `rights` in `namespace`, ready for `kubectl apply -f -`. Rights on the same
/// group share a rule if their verbs and names agree.
pub(crate) fn role_and_binding(name: &str, namespace: &str, subject: &Subject, rights: &[Right]) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {name}, namespace: {namespace}}}\nrules:\n{}---\n{}",
        rules(rights),
        binding(name, namespace, "Role", name, subject),
    )
}

/// A `ClusterRole` and a `ClusterRoleBinding` as YAML that give `subject` the `rights` everywhere: for cluster-scoped objects.
pub(crate) fn cluster_role_and_binding(name: &str, subject: &Subject, rights: &[Right]) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {{name: {name}}}\nrules:\n{}---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {name}}}\nsubjects:\n- {}\n",
        rules(rights),
        subject_line(subject),
    )
}

/// A `RoleBinding` as YAML that gives `subject` the `ClusterRole` in `namespace`.
pub(crate) fn cluster_role_binding_in(name: &str, namespace: &str, cluster_role: &str, subject: &Subject) -> String {
    binding(name, namespace, "ClusterRole", cluster_role, subject)
}

/// The grant by which a namespace of a remote cluster opts in to a host: its subject is the user of the host's kubeconfig.
pub(crate) fn opt_in_remotely(host: &str, namespace: &str, verb: &str, user: &Subject) -> String {
    role_and_binding(&format!("pilotage-{verb}-{host}"), namespace, user, &[Right::on(verb, GROUP, "environments", namespace)])
}

/// The grant by which the user of a kubeconfig can see one namespace.
pub(crate) fn sees_namespace(namespace: &str, user: &Subject) -> String {
    let right = Right { verb: "get".into(), resource: "namespaces".into(), name: Some(namespace.to_owned()), ..Right::default() };
    cluster_role_and_binding(&format!("pilotage-environment-{namespace}"), user, &[right])
}

/// The grant by which the user of a kubeconfig may ask for tokens of one delegate.
pub(crate) fn lends_token(namespace: &str, account: &str, user: &Subject) -> String {
    let right = Right::on("create", "", "serviceaccounts", namespace).of_subresource("token").named(account);
    role_and_binding(&object_name("pilotage-token", account), namespace, user, &[right])
}

/// The grant by which a namespace opts in to a host: `verb` is `manage` for targets, `develop` for development environments. The subject is
/// a group that stands for the host. Nobody outside the host is in it.
pub(crate) fn opt_in(host: &str, namespace: &str, verb: &str) -> String {
    let subject = Subject { kind: SubjectKind::Group, name: format!("system:serviceaccounts:{host}"), namespace: None };
    role_and_binding(&format!("pilotage-{verb}-{host}"), namespace, &subject, &[Right::on(verb, GROUP, "environments", namespace)])
}

/// What the operator needs in a host beyond reading it: `ServiceAccounts` by name, and the Roles that share pipelines.
pub(crate) fn operator_in_host(host: &str) -> String {
    cluster_role_binding_in("pilotage-host", host, "pilotage-host", &operator())
}

/// What a delegate needs in the host to decide its gate. Approvers of the other gates need more.
pub(crate) fn delegate_in_host(host: &str, delegate: &Subject) -> String {
    cluster_role_binding_in(&about("pilotage-delegate", delegate), host, "pilotage-delegate", delegate)
}

/// What a delegate needs in every target: the parent object of an `ApplySet` is a `ConfigMap`.
pub(crate) fn rights_in_every_target(target: &str) -> Vec<Right> {
    DELEGATE_VERBS.iter().map(|verb| Right::on(verb, "", "configmaps", target)).collect()
}

/// What a delegate needs in its target at least.
pub(crate) fn delegate_in_target(target: &str, delegate: &Subject) -> String {
    role_and_binding(&about("pilotage-delegate", delegate), target, delegate, &rights_in_every_target(target))
}

/// What a delegate needs in its target, or in its whole cluster, in addition to its rights. Each set of rights is a grant of its own, so it
/// replaces none that was printed and applied before.
pub(crate) fn delegate_in_target_too(delegate: &Subject, rights: &[Right]) -> String {
    where_they_lie(|rights| with_rights(&about("pilotage-delegate", delegate), rights), delegate, &whole_kinds(rights))
}

/// What the operator needs to become a delegate: the first half of constrained impersonation, or its tokens.
pub(crate) fn operator_becomes(delegate: &Delegate, delegation: Delegation) -> String {
    operator_may(&about("pilotage-as", &delegate.subject()), &delegate.to_become(delegation))
}

/// What the operator needs to act as a delegate at all: to become it, and to use the rights that every target needs.
pub(crate) fn operator_as_delegate(target: &str, delegate: &Delegate, delegation: Delegation) -> String {
    let mut rights = delegate.to_become(delegation);
    rights.extend(uses(delegate, &rights_in_every_target(target)));
    operator_may(&about("pilotage-as", &delegate.subject()), &rights)
}

/// The same, but only for places where one of these rights is missing. Such a place gets everything that is needed there.
pub(crate) fn operator_as_delegate_where(
    target: &str,
    delegate: &Delegate,
    delegation: Delegation,
    is_missing: impl Fn(&Right) -> bool,
) -> String {
    let all = [delegate.to_become(delegation), uses(delegate, &rights_in_every_target(target))];
    let rights: Vec<Right> = all.into_iter().filter(|rights| rights.iter().any(&is_missing)).flatten().collect();
    operator_may(&about("pilotage-as", &delegate.subject()), &rights)
}

/// What the operator needs in a target, or in its whole cluster, to use these rights of a delegate there, in addition to its rights.
pub(crate) fn operator_in_target_too(delegate: &Delegate, rights: &[Right]) -> String {
    let rights = uses(delegate, &whole_kinds(rights));
    where_they_lie(|rights| with_rights(&about("pilotage-as", &delegate.subject()), rights), &operator(), &rights)
}

/// What somebody needs to use these rights as the delegate, each once. The right to bind a role is not a call: the API server checks it on
/// the delegate's own rights when a binding is made.
fn uses(delegate: &Delegate, rights: &[Right]) -> Vec<Right> {
    let mut uses: Vec<Right> = Vec::new();
    for right in rights.iter().filter(|right| is_a_call(right)).map(|right| delegate.to_use(right)) {
        if !uses.contains(&right) {
            uses.push(right);
        }
    }
    uses
}

/// Whether a right allows a call, and is not only checked during another call.
pub(crate) fn is_a_call(right: &Right) -> bool {
    right.verb != "bind"
}

/// The rights in a fixed order. If a right on a kind is missing, the grant covers everything that deploying the kind needs. Otherwise the
/// next version would wait for the next right. Rights on a named object, and rights to grant rights, are kept as they are.
pub(crate) fn whole_kinds(rights: &[Right]) -> Vec<Right> {
    let mut rights = rights.to_vec();
    rights.sort_by(|a, b| {
        (&a.group, &a.resource, &a.subresource, &a.name, &a.verb).cmp(&(&b.group, &b.resource, &b.subresource, &b.name, &b.verb))
    });
    let mut whole: Vec<Right> = Vec::new();
    for right in rights {
        let as_it_is = right.name.is_some() || right.subresource.is_some() || right.group == "rbac.authorization.k8s.io";
        if as_it_is || !DELEGATE_VERBS.contains(&right.verb.as_str()) {
            whole.push(right);
            continue;
        }
        let known =
            whole.iter().any(|w| w.name.is_none() && w.subresource.is_none() && w.group == right.group && w.resource == right.resource);
        if !known {
            whole.extend(DELEGATE_VERBS.iter().map(|verb| Right { verb: (*verb).to_owned(), ..right.clone() }));
        }
    }
    whole.dedup();
    whole
}

/// The grant by which somebody may ask for deployments through a pipeline that is not shared with them by `spec.sharedWith`.
pub(crate) fn maker(host: &str, pipeline: &str, who: &Subject) -> String {
    let on = |verb: &str| Right::on(verb, GROUP, "pipelines", host).named(pipeline);
    let role = role_and_binding(&about(&object_name("pilotage-deploy", pipeline), who), host, who, &[on("get"), on("deploy")]);
    format!("{role}---\n{}", cluster_role_binding_in(&about("pilotage-user", who), host, "pilotage-user", who))
}

/// The grant by which somebody decides the steps before export and deployment: of one stage, or of all in the host.
pub(crate) fn approver(host: &str, stage: Option<&str>, who: &Subject) -> String {
    let Some(stage) = stage else {
        return cluster_role_binding_in(&about("pilotage-approver", who), host, "pilotage-approver", who);
    };
    let mut rights: Vec<Right> = Vec::new();
    for resource in ["stages", "deploymentrequests", "artifacts"] {
        rights.extend(["get", "list", "watch"].map(|verb| Right::on(verb, GROUP, resource, host)));
    }
    rights.extend(["get", "patch"].map(|verb| Right::on(verb, GROUP, "deploymentrequests", host).of_subresource("status")));
    rights.push(Right::on("approve", GROUP, "stages", host).named(stage));
    role_and_binding(&about(&object_name("pilotage-approve", stage), who), host, who, &rights)
}

/// The grant by which somebody may refer to an Environment from pipelines and stages.
pub(crate) fn user_of_environment(host: &str, environment: &str, who: &Subject) -> String {
    let right = Right::on("use", GROUP, "environments", host).named(environment);
    role_and_binding(&about(&object_name("pilotage-use", environment), who), host, who, &[right])
}

/// The grant by which somebody administers one pipeline's requests, or configures the host.
pub(crate) fn administrator(host: &str, pipeline: Option<&str>, who: &Subject) -> String {
    let Some(pipeline) = pipeline else {
        return cluster_role_binding_in(&about("pilotage-administrator", who), host, "pilotage-administrator", who);
    };
    let requests = ["get", "list", "watch", "update", "patch", "delete"].map(|verb| Right::on(verb, GROUP, "deploymentrequests", host));
    let mut rights = requests.to_vec();
    rights.push(Right::on("administer", GROUP, "pipelines", host).named(pipeline));
    role_and_binding(&about(&object_name("pilotage-administer", pipeline), who), host, who, &rights)
}

/// The grant by which somebody configures one pipeline: they refer to its Environments, and may own stages that delegate to these
/// `ServiceAccounts`.
pub(crate) fn configures(host: &str, pipeline: &str, environments: &[&str], accounts: &[&str], who: &Subject) -> String {
    let used = environments.iter().map(|name| Right::on("use", GROUP, "environments", host).named(name));
    let delegated = accounts.iter().map(|name| Right::on("delegate", "", "serviceaccounts", host).named(name));
    let rights: Vec<Right> = used.chain(delegated).collect();
    role_and_binding(&about(&object_name("pilotage-configure", pipeline), who), host, who, &rights)
}

/// The grant by which the operator may list what `view` does not cover and solutions often have, so that no object is missed.
pub(crate) fn operator_exports_too(namespace: &str) -> String {
    let group = "rbac.authorization.k8s.io";
    let rights = [(group, "roles"), (group, "rolebindings"), ("", "podtemplates")];
    role_and_binding("pilotage-export-all", namespace, &operator(), &rights.map(|(group, kind)| Right::on("list", group, kind, namespace)))
}

/// The grant by which somebody has one of the cluster's own roles in a namespace.
pub(crate) fn has_role(namespace: &str, cluster_role: &str, who: &Subject) -> String {
    cluster_role_binding_in(&about(&format!("pilotage-{cluster_role}"), who), namespace, cluster_role, who)
}

/// What makes a namespace a host.
pub(crate) fn host(namespace: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{{}: \"true\"}}}}\n---\n{}",
        crate::api::names::HOST_LABEL,
        operator_in_host(namespace)
    )
}

/// The grant by which the operator may read what is exported from a development environment: `view` includes no Secrets.
pub(crate) fn operator_exports(namespace: &str) -> String {
    cluster_role_binding_in("pilotage-export", namespace, "view", &operator())
}

/// The grant by which the operator may list cluster-scoped kinds, to export a solution's objects of these kinds.
pub(crate) fn operator_exports_of_cluster(rights: &[Right]) -> String {
    cluster_role_and_binding(&with_rights("pilotage-export", rights), &operator(), rights)
}

/// The grant by which somebody may let solutions have cluster-scoped objects.
pub(crate) fn allows_cluster_scoped(who: &Subject) -> String {
    let right = Right::on(ALLOW_CLUSTER_SCOPED, GROUP, "environments", "").everywhere();
    cluster_role_and_binding(&about("pilotage-allow-cluster-scoped", who), who, &[right])
}

/// The grant by which somebody may own stages that delegate to a `ServiceAccount`, without being able to take its token.
pub(crate) fn owner_of(host: &str, account: &str, owner: &Subject) -> String {
    let right = Right::on("delegate", "", "serviceaccounts", host).named(account);
    role_and_binding(&about(&format!("pilotage-owner-of-{account}"), owner), host, owner, &[right])
}

/// The grant by which the operator may read one object of a namespace.
pub(crate) fn operator_reads(namespace: &str, right: &Right) -> String {
    reads(namespace, right, &operator())
}

/// The grant by which somebody may read one object of a namespace.
pub(crate) fn reads(namespace: &str, right: &Right, who: &Subject) -> String {
    let what = format!("{}-{}", right.resource, right.name.as_deref().unwrap_or("all"));
    role_and_binding(&object_name("pilotage-read", &what), namespace, who, std::slice::from_ref(right))
}

/// The grant that gives somebody one right on an object of a namespace.
pub(crate) fn may(right: &Right, who: &Subject) -> String {
    let what = format!("{}-{}", right.resource, right.name.as_deref().unwrap_or("all"));
    let name = about(&object_name(&format!("pilotage-{}", right.verb), &what), who);
    role_and_binding(&name, right.namespace.as_deref().unwrap_or_default(), who, std::slice::from_ref(right))
}

/// The grant by which somebody may read what they have deployed, where it was exported from.
pub(crate) fn reads_source(who: &Subject, rights: &[Right]) -> String {
    where_they_lie(|rights| with_rights(&about("pilotage-read", who), rights), who, rights)
}

/// Joins several messages. Each begins with a line that says what is missing, and most go on with what to apply. The first line stays
/// first. Everything after it can be applied as it stands, because its explanations are YAML comments.
pub(crate) fn together(messages: impl IntoIterator<Item = String>) -> String {
    let mut all = String::new();
    let mut applies = false;
    for message in messages {
        for (index, line) in message.lines().enumerate() {
            if index == 0 && all.is_empty() {
                all.push_str(line);
                continue;
            }
            if index == 0 && applies {
                all.push_str("\n---");
            }
            applies &= index > 0;
            applies |= line.starts_with("apiVersion:");
            let comment = if applies || line.is_empty() { "" } else { "# " };
            let _ = write!(all, "\n{comment}{line}");
        }
    }
    if applies || all.contains('\n') {
        all.push('\n');
    }
    all
}

/// Rights of the operator.
fn operator_may(name: &str, rights: &[Right]) -> String {
    where_they_lie(|_| name.to_owned(), &operator(), rights)
}

/// Rights of somebody: Roles in the namespaces of these rights, and a `ClusterRole` for the others. Each is named after what it grants.
fn where_they_lie(name: impl Fn(&[Right]) -> String, subject: &Subject, rights: &[Right]) -> String {
    let mut namespaces: Vec<Option<&String>> = Vec::new();
    for right in rights {
        if !namespaces.contains(&right.namespace.as_ref()) {
            namespaces.push(right.namespace.as_ref());
        }
    }
    let parts: Vec<String> = namespaces
        .into_iter()
        .map(|namespace| {
            let here: Vec<Right> = rights.iter().filter(|r| r.namespace.as_ref() == namespace).cloned().collect();
            match namespace {
                Some(namespace) => role_and_binding(&name(&here), namespace, subject, &here),
                None => cluster_role_and_binding(&name(&here), subject, &here),
            }
        })
        .collect();
    parts.join("---\n")
}

fn binding(name: &str, namespace: &str, role_kind: &str, role: &str, subject: &Subject) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: {namespace}}}\nroleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {role_kind}, name: {role}}}\nsubjects:\n- {}\n",
        subject_line(subject),
    )
}

/// The name of a grant for `subject`. Grants for different subjects must not replace each other.
fn about(prefix: &str, subject: &Subject) -> String {
    match &subject.namespace {
        Some(namespace) => object_name(prefix, &format!("{namespace}-{}", subject.name)),
        None => object_name(prefix, &subject.name),
    }
}

/// The name of a grant of exactly these rights.
fn with_rights(name: &str, rights: &[Right]) -> String {
    format!("{name}-{}", short_hash(&rules(rights)))
}

/// A name for an object that is about `who`, which may be any user name. Characters that a name can't have become `-`. A short hash keeps
/// names apart that would then be the same.
fn object_name(prefix: &str, who: &str) -> String {
    const MOST: usize = 200;
    let plain: String =
        who.chars().map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' { c } else { '-' }).take(MOST).collect();
    let plain = plain.trim_matches(|c| c == '-' || c == '.');
    if plain == who {
        return format!("{prefix}-{plain}");
    }
    let hash = short_hash(who);
    if plain.is_empty() { format!("{prefix}-{hash}") } else { format!("{prefix}-{plain}-{hash}") }
}

/// A text as a YAML scalar. Whatever an authenticator allows in names, it can't break out of its place.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A rule: group, resources, verbs, and the one object name, if any.
type Rule = (String, Vec<String>, Vec<String>, Option<String>);

/// The rules alone, one line each, for conditions.
pub(crate) fn rules(rights: &[Right]) -> String {
    let mut grouped: Vec<Rule> = Vec::new();
    for right in rights {
        let resource = right.subresource.as_ref().map_or_else(|| right.resource.clone(), |sub| format!("{}/{sub}", right.resource));
        match grouped
            .iter_mut()
            .find(|(group, resources, _, name)| *group == right.group && resources[0] == resource && *name == right.name)
        {
            Some((_, _, verbs, _)) => {
                if !verbs.contains(&right.verb) {
                    verbs.push(right.verb.clone());
                }
            }
            None => grouped.push((right.group.clone(), vec![resource], vec![right.verb.clone()], right.name.clone())),
        }
    }
    let mut merged: Vec<Rule> = Vec::new();
    for (group, resources, verbs, name) in grouped {
        match merged.iter_mut().find(|(g, _, v, n)| *g == group && *v == verbs && *n == name) {
            Some((_, existing, _, _)) => existing.extend(resources),
            None => merged.push((group, resources, verbs, name)),
        }
    }
    let mut text = String::new();
    for (group, resources, verbs, name) in merged {
        let names = name.map(|n| format!(", resourceNames: [{}]", quoted(&n))).unwrap_or_default();
        let verbs: Vec<String> = verbs.iter().map(|v| format!("\"{v}\"")).collect();
        let _ =
            writeln!(text, "- {{apiGroups: [\"{group}\"], resources: [{}]{names}, verbs: [{}]}}", resources.join(", "), verbs.join(", "));
    }
    text
}

fn subject_line(subject: &Subject) -> String {
    let name = quoted(&subject.name);
    match (subject.kind, &subject.namespace) {
        (SubjectKind::ServiceAccount, Some(namespace)) => format!("{{kind: ServiceAccount, name: {name}, namespace: {namespace}}}"),
        (SubjectKind::ServiceAccount, None) => format!("{{kind: ServiceAccount, name: {name}}}"),
        (SubjectKind::User, _) => format!("{{kind: User, apiGroup: rbac.authorization.k8s.io, name: {name}}}"),
        (SubjectKind::Group, _) => format!("{{kind: Group, apiGroup: rbac.authorization.k8s.io, name: {name}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_with_the_same_verbs_are_one_rule() {
        let rights = [
            Right::on("patch", "apps", "deployments", "qa"),
            Right::on("get", "apps", "deployments", "qa"),
            Right::on("patch", "apps", "statefulsets", "qa"),
            Right::on("get", "apps", "statefulsets", "qa"),
            Right::on("patch", "", "services", "qa"),
        ];
        assert_eq!(
            rules(&rights),
            "- {apiGroups: [\"apps\"], resources: [deployments, statefulsets], verbs: [\"patch\", \"get\"]}\n- {apiGroups: [\"\"], resources: [services], verbs: [\"patch\"]}\n"
        );
    }

    /// What `kubectl apply` would read from a grant.
    fn documents(text: &str) -> Vec<serde_json::Value> {
        text.split("---\n").map(|document| serde_saphyr::from_str(document).unwrap_or_default()).collect()
    }

    #[test]
    fn every_grant_is_yaml_that_can_be_applied() {
        let olga = Delegate::User { username: "olga".into(), groups: vec!["leads".into()] };
        let all = [
            opt_in("host", "qa", "manage"),
            operator_in_host("host"),
            delegate_in_host("host", &service_account("host", "bot")),
            delegate_in_target("qa", &subject_of("olga@example.test")),
            operator_as_delegate("qa", &olga, Delegation::Impersonation),
            super::host("host"),
            maker("host", "standard", &subject_of("dana")),
            approver("host", Some("qa"), &subject_of("eve")),
            administrator("host", None, &subject_of("olga")),
        ]
        .join("---\n");
        let kinds: Vec<String> = documents(&all).iter().map(|d| d["kind"].as_str().unwrap_or("?").to_owned()).collect();
        assert_eq!(
            kinds,
            [
                "Role",
                "RoleBinding",
                "RoleBinding",
                "RoleBinding",
                "Role",
                "RoleBinding",
                "ClusterRole",
                "ClusterRoleBinding",
                "Role",
                "RoleBinding",
                "Namespace",
                "RoleBinding",
                "Role",
                "RoleBinding",
                "RoleBinding",
                "Role",
                "RoleBinding",
                "RoleBinding"
            ]
        );
    }

    #[test]
    fn a_user_name_can_not_break_out_of_a_grant() {
        let evil = "x\"}\n- {kind: Group, name: everyone}\n---\nkind: \"";
        let text = delegate_in_target("qa", &subject_of(evil));
        let documents = documents(&text);
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1]["subjects"][0]["name"], evil);
        assert_eq!(documents[1]["subjects"].as_array().map(Vec::len), Some(1));
    }

    #[test]
    fn a_further_grant_replaces_no_earlier_one() {
        let delegate = Delegate::ServicePrincipal { namespace: "host".into(), name: "bot".into() };
        let bot = delegate.subject();
        let names = |text: &str| documents(text).iter().map(|d| d["metadata"]["name"].clone()).collect::<Vec<_>>();
        let [services, jobs] = [Right::on("patch", "", "services", "qa"), Right::on("patch", "batch", "jobs", "qa")];
        let first = names(&delegate_in_target_too(&bot, std::slice::from_ref(&services)));
        let second = names(&delegate_in_target_too(&bot, std::slice::from_ref(&jobs)));
        assert!(first.iter().all(|name| !second.contains(name)), "{first:?} {second:?}");
        let base = names(&delegate_in_target("qa", &bot));
        assert!(base.iter().all(|name| !first.contains(name)), "{base:?} {first:?}");
        let [first, second] = [services, jobs].map(|right| names(&operator_in_target_too(&delegate, &[right])));
        assert!(first.iter().all(|name| !second.contains(name)), "{first:?} {second:?}");
    }

    #[test]
    fn whoever_lacks_one_right_on_a_kind_is_given_what_deploying_it_takes_and_named_objects_stay_named() {
        let secret = Right::on("get", "", "secrets", "qa").named("orders-db");
        let some = [Right::on("patch", "apps", "deployments", "qa"), secret.clone(), Right::on("list", "apps", "deployments", "qa")];
        let text = rules(&whole_kinds(&some));
        assert_eq!(
            text,
            "- {apiGroups: [\"\"], resources: [secrets], resourceNames: [\"orders-db\"], verbs: [\"get\"]}\n\
             - {apiGroups: [\"apps\"], resources: [deployments], verbs: [\"get\", \"list\", \"patch\", \"create\", \"delete\"]}\n"
        );
        let other = [secret, Right::on("create", "apps", "deployments", "qa")];
        assert_eq!(rules(&whole_kinds(&other)), text, "the same grant, whichever of the rights is missing");
        let bot = Delegate::ServicePrincipal { namespace: "host".into(), name: "bot".into() };
        let operators = operator_in_target_too(&bot, &some);
        assert!(operators.contains("\"impersonate-on:serviceaccount:patch\", \"impersonate-on:serviceaccount:delete\""), "{operators}");
        assert!(!operators.contains(":create"), "server-side apply is a patch: {operators}");
    }

    #[test]
    fn what_lies_in_no_namespace_is_granted_in_the_whole_cluster_and_the_rest_is_not() {
        let bot = Delegate::ServicePrincipal { namespace: "host".into(), name: "bot".into() };
        let everywhere = |verb: &str| Right::on(verb, "scheduling.k8s.io", "priorityclasses", "").everywhere();
        let rights = [Right::on("patch", "", "services", "qa"), everywhere("create"), everywhere("patch")];
        let kinds = |text: &str| documents(text).iter().map(|d| d["kind"].as_str().unwrap_or("?").to_owned()).collect::<Vec<_>>();
        let delegates = delegate_in_target_too(&bot.subject(), &rights);
        assert_eq!(kinds(&delegates), ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"]);
        assert_eq!(documents(&delegates)[2]["rules"][0]["resources"], serde_json::json!(["priorityclasses"]));
        assert_eq!(documents(&delegates)[2]["rules"].as_array().map(Vec::len), Some(1), "{delegates}");
        let operators = operator_in_target_too(&bot, &rights[1..]);
        assert_eq!(kinds(&operators), ["ClusterRole", "ClusterRoleBinding"]);
        assert!(operators.contains("\"impersonate-on:serviceaccount:patch\"") && !operators.contains("create\""), "{operators}");
    }

    #[test]
    fn several_grants_can_be_applied_at_once_and_what_is_said_of_them_is_a_comment() {
        let bot = service_account("host", "bot");
        let grant = |why: &str| format!("{why}; apply:\n{}", delegate_in_host("host", &bot));
        let all = together([grant("the first"), "no token: see the docs\nand ask".to_owned(), grant("the last")]);
        assert!(all.starts_with("the first; apply:\napiVersion") && all.ends_with('\n'), "{all}");
        let (_, text) = all.split_once('\n').unwrap();
        let kinds: Vec<String> = documents(text).iter().map(|d| d["kind"].as_str().unwrap_or("?").to_owned()).collect();
        assert_eq!(kinds, ["RoleBinding", "RoleBinding"], "{all}");
        assert!(all.contains("\n---\n# no token: see the docs\n# and ask\n# the last; apply:\napiVersion"), "{all}");
        assert_eq!(together([grant("alone")]), grant("alone"));
        assert_eq!(together(["alone".to_owned()]), "alone");
    }

    #[test]
    fn different_people_get_different_names() {
        assert_eq!(object_name("a", "release-bot"), "a-release-bot");
        assert_ne!(object_name("a", "Olga"), object_name("a", "olga"));
        assert_ne!(object_name("a", "olga@x"), object_name("a", "olga+x"));
    }
}
