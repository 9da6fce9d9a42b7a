//! Cluster-scoped objects in tests: kinds that Environments allow, grants in the whole cluster, and their removal after the test.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::Environment;
use pilotage_harness::Kubectl;
use serde_json::{Value, json};

use crate::world::World;

pub const RBAC: &str = "rbac.authorization.k8s.io";
pub const CLASS: (&str, &str) = ("scheduling.k8s.io", "PriorityClass");
pub const ROLE: (&str, &str) = (RBAC, "ClusterRole");
pub const BINDING: (&str, &str) = (RBAC, "ClusterRoleBinding");

/// Deletes what is named after a world when a test ends, because it is in no namespace.
pub struct Swept {
    kubectl: Kubectl,
    prefix: String,
}

impl Swept {
    pub fn after(world: &World) -> Self {
        Self::of(world.plane.kubectl(), world)
    }

    /// The same in another cluster.
    pub fn of(kubectl: Kubectl, world: &World) -> Self {
        Self { kubectl, prefix: prefix(world) }
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        for kind in ["customresourcedefinitions", "priorityclasses", "clusterrolebindings", "clusterroles"] {
            let Ok(names) = self.kubectl.ok(&["get", kind, "-o", "name"]) else { continue };
            for name in names.lines().filter(|name| name.contains(&self.prefix)) {
                let _ = self.kubectl.ok(&["delete", name, "--wait=false"]);
            }
        }
    }
}

/// The prefix of a world's names.
pub fn prefix(world: &World) -> String {
    world.host.trim_end_matches("-host").to_owned()
}

/// The name of a cluster-scoped object that belongs only to this world.
pub fn named(world: &World, name: &str) -> String {
    format!("{}-{name}", prefix(world))
}

/// Lists kinds in `spec.clusterScoped` of an Environment, as the cluster's administrator. Waits until the operator has seen it.
pub async fn allow(world: &World, environment: &str, kinds: &[(&str, &str)]) {
    let entries: Vec<Value> = kinds.iter().map(|(group, kind)| json!({"group": group, "kind": kind})).collect();
    let patch = Patch::Merge(json!({"spec": {"clusterScoped": entries}}));
    let environments: Api<Environment> = Api::namespaced(world.admin.clone(), &world.host);
    environments.patch(environment, &PatchParams::default(), &patch).await.unwrap();
    world.ready::<Environment>(environment).await;
}

/// Grants rights in the whole cluster.
pub async fn grant(world: &World, name: &str, rules: Value, subject: &Value) {
    let (name, api) = (named(world, name), format!("{RBAC}/v1"));
    world
        .apply(&[
            json!({"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}),
            json!({"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name}, "subjects": [subject]}),
        ])
        .await;
}

/// The rules for classes and roles, with verbs that begin with `prefix`.
fn rules(prefix: &str, verbs: &[&str]) -> Value {
    let verbs: Vec<String> = verbs.iter().map(|verb| format!("{prefix}{verb}")).collect();
    json!([
        {"apiGroups": ["scheduling.k8s.io"], "resources": ["priorityclasses"], "verbs": verbs},
        {"apiGroups": [RBAC], "resources": ["clusterroles", "clusterrolebindings"], "verbs": verbs},
    ])
}

pub fn operator() -> Value {
    json!({"kind": "ServiceAccount", "namespace": "pilotage-system", "name": "pilotage"})
}

pub fn bot(world: &World, stage: &str) -> Value {
    json!({"kind": "ServiceAccount", "namespace": world.host, "name": format!("bot-{stage}")})
}

/// Lets makers and the operator read classes and roles in the whole cluster.
pub async fn may_be_exported(world: &World) {
    grant(world, "read", rules("", &["get", "list"]), &json!({"kind": "Group", "apiGroup": RBAC, "name": "makers"})).await;
    grant(world, "export", rules("", &["list"]), &operator()).await;
}

/// Gives the delegate of a stage what the roles of these tests grant, because it must hold that itself.
pub async fn holds_what_it_grants(world: &World, stage: &str) {
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    grant(world, &format!("holds-{stage}"), rules, &bot(world, stage)).await;
}

/// Lets the delegate of a stage, and the operator as this delegate, deploy classes and roles.
pub async fn may_be_deployed(world: &World, stage: &str) {
    let verbs = ["get", "list", "patch", "delete"];
    grant(world, &format!("deploys-{stage}"), rules("", &[verbs.as_slice(), &["create"]].concat()), &bot(world, stage)).await;
    grant(world, &format!("as-{stage}"), rules("impersonate-on:serviceaccount:", &verbs), &operator()).await;
    holds_what_it_grants(world, stage).await;
}

/// A class of a solution.
pub fn class(name: &str, value: i32) -> Value {
    json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "orders"}}, "value": value})
}

/// A role of a solution that allows to read `ConfigMaps`.
pub fn cluster_role(name: &str) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRole",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]})
}

/// A binding of that role to a `ServiceAccount` of a namespace.
pub fn cluster_binding(name: &str, namespace: &str) -> Value {
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "orders", "namespace": namespace}]})
}

/// The definition of a kind `Berth` that belongs only to this world. Also returns its group.
pub fn berths(world: &World, scope: &str) -> (String, Value) {
    let group = format!("{}.test", prefix(world));
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("berths.{group}")},
        "spec": {
            "group": group, "scope": scope, "names": {"kind": "Berth", "plural": "berths", "singular": "berth", "listKind": "BerthList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}],
        },
    });
    (group, definition)
}

/// A berth, with or without a namespace.
pub fn berth(group: &str, name: &str, solution: &str, namespace: Option<&str>) -> Value {
    let mut berth = json!({"apiVersion": format!("{group}/v1"), "kind": "Berth",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": solution}}, "spec": {"length": 40}});
    if let Some(namespace) = namespace {
        berth["metadata"]["namespace"] = namespace.into();
    }
    berth
}

/// Defines a kind, and waits until it is served.
pub async fn define(world: &World, definition: &Value) {
    world.apply(std::slice::from_ref(definition)).await;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.admin.clone());
    let name = definition["metadata"]["name"].as_str().unwrap();
    world
        .until(&format!("{name} is established"), async || {
            let found = definitions.get(name).await.ok()?;
            found.status?.conditions?.iter().any(|c| c.type_ == "Established" && c.status == "True").then_some(())
        })
        .await;
}

/// The versions of this world's cluster-scoped objects: class, role and binding, if they exist.
pub async fn versions(world: &World, name: &str) -> [Option<String>; 3] {
    let name = named(world, name);
    let class = Api::<PriorityClass>::all(world.admin.clone()).get_opt(&name).await.unwrap();
    let role = Api::<ClusterRole>::all(world.admin.clone()).get_opt(&name).await.unwrap();
    let binding = Api::<ClusterRoleBinding>::all(world.admin.clone()).get_opt(&name).await.unwrap();
    [class.and_then(|o| o.resource_version()), role.and_then(|o| o.resource_version()), binding.and_then(|o| o.resource_version())]
}
