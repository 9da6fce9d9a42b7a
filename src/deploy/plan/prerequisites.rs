//! Objects that others name and can't run without. They must come with the solution or exist in the target. This is checked before anybody
//! is asked to approve, because the API server accepts objects that name missing ones, and their pods would wait for ever.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use kube::Client;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use serde_json::Value;

use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::cluster::errors::{self, Cause};
use crate::cluster::lookup;
use crate::cluster::object::{self, Key};
use crate::cluster::references;
use crate::cluster::retry::retrying;
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// How many objects are looked for at the same time.
const CONCURRENCY: usize = 8;

/// A kind of object that others refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A `ConfigMap` of the target.
    ConfigMap,
    /// A `PersistentVolumeClaim` of the target.
    PersistentVolumeClaim,
    /// A class of the target's cluster.
    PriorityClass,
    /// A class of the target's cluster.
    RuntimeClass,
    /// A class of the target's cluster.
    StorageClass,
    /// A class of the target's cluster.
    IngressClass,
}

impl Kind {
    fn resource(self) -> ApiResource {
        let (group, kind, plural) = match self {
            Self::ConfigMap => ("", "ConfigMap", "configmaps"),
            Self::PersistentVolumeClaim => ("", "PersistentVolumeClaim", "persistentvolumeclaims"),
            Self::PriorityClass => ("scheduling.k8s.io", "PriorityClass", "priorityclasses"),
            Self::RuntimeClass => ("node.k8s.io", "RuntimeClass", "runtimeclasses"),
            Self::StorageClass => ("storage.k8s.io", "StorageClass", "storageclasses"),
            Self::IngressClass => ("networking.k8s.io", "IngressClass", "ingressclasses"),
        };
        let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
        ApiResource { group: group.into(), version: "v1".into(), api_version, kind: kind.into(), plural: plural.into() }
    }

    /// Whether it is namespaced; otherwise it is cluster-scoped.
    fn is_namespaced(self) -> bool {
        matches!(self, Self::ConfigMap | Self::PersistentVolumeClaim)
    }
}

/// What the target must have, each with the first object that needs it.
pub(crate) type Needed = BTreeMap<(Kind, String), String>;

/// What the target must have: objects that the solution's objects name, don't bring and can't do without.
pub(crate) fn of<'a>(objects: impl IntoIterator<Item = &'a Value> + Clone) -> Needed {
    let brought: BTreeSet<Key> = objects.clone().into_iter().map(Key::of).collect();
    let claimed: Vec<String> = objects.clone().into_iter().flat_map(claim_prefixes).collect();
    let mut needed = BTreeMap::new();
    for object in objects {
        let user = Key::of(object).to_string();
        each(object, &mut |kind, name| {
            let resource = kind.resource();
            let key = Key { group: resource.group, kind: resource.kind, name: name.to_owned() };
            let comes_along =
                brought.contains(&key) || kind == Kind::PersistentVolumeClaim && claimed.iter().any(|prefix| name.starts_with(prefix));
            if !name.is_empty() && !comes_along {
                needed.entry((kind, name.to_owned())).or_insert_with(|| user.clone());
            }
        });
    }
    needed
}

/// The prerequisites in `all` that are not in `known`: what the target made of the objects. Classes of claims and ingresses are then the
/// target's own choice. A claim that has its volume no longer needs its class.
pub(crate) fn beyond(mut all: Needed, known: &Needed) -> Needed {
    all.retain(|needed, _| !known.contains_key(needed) && !matches!(needed.0, Kind::StorageClass | Kind::IngressClass));
    all
}

/// What a delegate needs to check whether these prerequisites are in `namespace`.
pub(crate) fn rights(namespace: &str, objects: &[Value]) -> Vec<Right> {
    let needed = of(objects).into_keys().filter(|(kind, _)| kind.is_namespaced());
    needed.map(|(kind, name)| right(kind, namespace, &name)).collect()
}

fn right(kind: Kind, namespace: &str, name: &str) -> Right {
    let resource = kind.resource();
    Right::on("get", &resource.group, &resource.plural, namespace).named(name)
}

/// How the names of the claims begin that a `StatefulSet` makes from its templates.
fn claim_prefixes(object: &Value) -> Vec<String> {
    let templates = object.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array);
    templates.into_iter().flatten().map(|template| format!("{}-{}-", object::name(template), object::name(object))).collect()
}

/// Calls the visitor for each name of something that the object can't do without.
fn each(object: &Value, show: &mut dyn FnMut(Kind, &str)) {
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    match (object::group(object), object::kind(object)) {
        ("", "PersistentVolumeClaim") => show(Kind::StorageClass, &text(object, "/spec/storageClassName")),
        ("networking.k8s.io", "Ingress") => show(Kind::IngressClass, &text(object, "/spec/ingressClassName")),
        _ => {}
    }
    for template in list(object, "/spec/volumeClaimTemplates") {
        show(Kind::StorageClass, &text(template, "/spec/storageClassName"));
    }
    for pod in references::pods(object) {
        each_of_pod(object, pod, show);
    }
}

fn each_of_pod(object: &Value, pod: &Value, show: &mut dyn FnMut(Kind, &str)) {
    let text = |value: &Value, pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    show(Kind::PriorityClass, &text(pod, "/priorityClassName"));
    show(Kind::RuntimeClass, &text(pod, "/runtimeClassName"));
    let mut map = |reference: Option<&Value>| {
        if let Some(reference) = reference.filter(|r| r.get("optional") != Some(&Value::Bool(true))) {
            show(Kind::ConfigMap, &text(reference, "/name"));
        }
    };
    for containers in ["/initContainers", "/containers"] {
        for container in list(pod, containers) {
            list(container, "/env").for_each(|variable| map(variable.pointer("/valueFrom/configMapKeyRef")));
            list(container, "/envFrom").for_each(|source| map(source.get("configMapRef")));
        }
    }
    // For a volume with the name of a claim template, a `StatefulSet` uses the claim instead of the pod template's volume.
    let is_replaced =
        |volume: &&Value| list(object, "/spec/volumeClaimTemplates").any(|claim| object::name(claim) == text(volume, "/name"));
    let volumes: Vec<&Value> = list(pod, "/volumes").filter(|volume| !is_replaced(volume)).collect();
    for volume in &volumes {
        map(volume.get("configMap"));
        list(volume, "/projected/sources").for_each(|source| map(source.get("configMap")));
    }
    for volume in volumes {
        show(Kind::PersistentVolumeClaim, &text(volume, "/persistentVolumeClaim/claimName"));
        show(Kind::StorageClass, &text(volume, "/ephemeral/volumeClaimTemplate/spec/storageClassName"));
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

/// The result of looking for prerequisites.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    /// The missing prerequisites, one entry for each.
    pub(crate) results: Vec<PlanResult>,
    /// Missing prerequisites without which the objects deploy but have no effect; and claims of the target that they mount.
    pub(crate) warnings: Vec<PlanResult>,
    /// The rights that the delegate would need to look.
    pub(crate) rights: Vec<Right>,
}

/// Looks for prerequisites: in `namespace` as the delegate. Classes hold nothing private, so the operator itself looks for them. Only
/// metadata is read.
///
/// # Errors
/// If the API server can't be asked.
pub(crate) async fn check(delegate: &DelegateClient, operator: &Client, namespace: &str, needed: Needed) -> Result<Missing, kube::Error> {
    let looked: Vec<_> = stream::iter(needed)
        .map(|((kind, name), user)| async move {
            let resource = kind.resource();
            let found = if kind.is_namespaced() {
                retrying(|| delegate.metadata(&resource, namespace, &name)).await
            } else {
                let classes: Api<DynamicObject> = Api::all_with(operator.clone(), &resource);
                retrying(|| lookup::metadata(&classes, &name)).await
            };
            (kind, resource, name, user, found)
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let mut missing = Missing::default();
    for (kind, resource, name, user, found) in looked {
        match found {
            Ok(Some(_)) if kind == Kind::PersistentVolumeClaim => missing.warnings.push(mounts(&name, &user)),
            Ok(Some(_)) => {}
            // Nothing waits for an IngressClass. Without it the ingress is not served, as in development.
            Ok(None) if kind == Kind::IngressClass => missing.warnings.push(unserved(&name, &user)),
            Ok(None) => missing.results.push(absent(kind, &resource.kind, &name, &user, namespace)),
            Err(error) if errors::classify(&error) == Cause::Unauthorized => {
                // If the administrator doesn't let the operator read classes, it reports nothing about them.
                if kind.is_namespaced() {
                    missing.rights.push(right(kind, namespace, &name));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(missing)
}

/// No label says whose data it is.
fn mounts(name: &str, user: &str) -> PlanResult {
    let key = Key { group: String::new(), kind: "PersistentVolumeClaim".into(), name: name.to_owned() };
    let message = format!(
        "{user} mounts PersistentVolumeClaim {name} of the target, which does not come with the solution, with the data that it has"
    );
    errors::result(&key, Reason::MountsData, &message)
}

fn unserved(name: &str, user: &str) -> PlanResult {
    let key = Key { group: String::new(), kind: "IngressClass".into(), name: name.to_owned() };
    let message = format!(
        "{user} names IngressClass {name}, which the target's cluster does not have: nothing serves it until its administrator creates that. Or set the name of one that it has by an environment variable"
    );
    errors::result(&key, Reason::NotFound, &message)
}

fn absent(kind: Kind, what: &str, name: &str, user: &str, namespace: &str) -> PlanResult {
    let message = if kind.is_namespaced() {
        format!(
            "{user} uses {what} {name}, which does not come with the solution and does not exist in namespace {namespace}: label it in development as part of the solution and raise the version, or create it there"
        )
    } else {
        // A claim without such a class may still be bound to a volume that somebody created by hand. That can't be seen here.
        let by_hand =
            if kind == Kind::StorageClass { " (with provisioner kubernetes.io/no-provisioner where volumes are made by hand)" } else { "" };
        format!(
            "{user} names {what} {name}, which the target's cluster does not have: set the name of one that it has by an environment variable, or have its administrator create it{by_hand}"
        )
    };
    let key = Key { group: String::new(), kind: what.to_owned(), name: name.to_owned() };
    errors::result(&key, Reason::NotFound, &message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn needs(objects: &[Value]) -> Vec<(Kind, String)> {
        of(objects).into_keys().collect()
    }

    fn pod() -> Value {
        json!({
            "priorityClassName": "high", "runtimeClassName": "gvisor",
            "initContainers": [{"name": "i", "envFrom": [{"configMapRef": {"name": "init"}}]}],
            "containers": [{"name": "c",
                "env": [
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "env", "key": "a"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "maybe-env", "key": "a", "optional": true}}},
                    {"name": "C", "valueFrom": {"secretKeyRef": {"name": "no-map", "key": "a"}}}],
                "envFrom": [{"configMapRef": {"name": "env-from"}}, {"configMapRef": {"name": "maybe", "optional": true}}]}],
            "volumes": [
                {"name": "1", "configMap": {"name": "volume"}},
                {"name": "2", "configMap": {"name": "maybe-volume", "optional": true}},
                {"name": "3", "projected": {"sources": [{"configMap": {"name": "projected"}}, {"configMap": {"name": "maybe", "optional": true}}]}},
                {"name": "4", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "5", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": "scratch"}}}},
                {"name": "6", "emptyDir": {}}]
        })
    }

    #[test]
    fn every_place_of_a_pod_is_looked_at_in_every_kind_with_pods() {
        let expected: Vec<(Kind, String)> = [
            (Kind::ConfigMap, "env"),
            (Kind::ConfigMap, "env-from"),
            (Kind::ConfigMap, "init"),
            (Kind::ConfigMap, "projected"),
            (Kind::ConfigMap, "volume"),
            (Kind::PersistentVolumeClaim, "claim"),
            (Kind::PriorityClass, "high"),
            (Kind::RuntimeClass, "gvisor"),
            (Kind::StorageClass, "scratch"),
        ]
        .map(|(kind, name)| (kind, name.to_owned()))
        .into();
        for object in [
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": pod()}}}),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod()}}}}}),
            json!({"apiVersion": "v1", "kind": "Pod", "spec": pod()}),
            json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "spec": {"template": {"spec": pod()}}}),
        ] {
            assert_eq!(needs(&[object]), expected);
        }
    }

    #[test]
    fn what_comes_along_is_not_needed() {
        let named = |kind: &str, name: &str| json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {"spec": {
            "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "own"}}, {"configMapRef": {"name": "foreign"}}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "uploads"}}, {"name": "w", "persistentVolumeClaim": {"claimName": "data-store-0"}}]}}}});
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "store"}, "spec": {
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"storageClassName": "fast"}}]}});
        let objects = [named("ConfigMap", "own"), named("PersistentVolumeClaim", "uploads"), set, deployment];
        assert_eq!(
            of(&objects),
            BTreeMap::from([
                ((Kind::ConfigMap, "foreign".to_owned()), "Deployment d".to_owned()),
                ((Kind::StorageClass, "fast".to_owned()), "StatefulSet store".to_owned()),
            ])
        );
    }

    #[test]
    fn a_volume_that_a_claim_template_replaces_is_not_needed() {
        let set = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "store"}, "spec": {
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}, {"metadata": {"name": "index"}}],
            "template": {"spec": {"containers": [{"name": "c"}], "volumes": [
                {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
                {"name": "index", "configMap": {"name": "index"}},
                {"name": "backup", "persistentVolumeClaim": {"claimName": "backup"}}]}}}});
        assert_eq!(needs(&[set]), [(Kind::PersistentVolumeClaim, "backup".to_owned())]);
    }

    #[test]
    fn classes_of_claims_and_ingresses_are_needed_where_one_is_named() {
        let claim = |class: Value| json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"}, "spec": {"storageClassName": class}});
        assert_eq!(needs(&[claim(json!("fast"))]), [(Kind::StorageClass, "fast".to_owned())]);
        assert!(needs(&[claim(json!("")), claim(Value::Null)]).is_empty(), "no class is wanted, or the default");
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"ingressClassName": "nginx"}});
        assert_eq!(needs(&[ingress]), [(Kind::IngressClass, "nginx".to_owned())]);
    }
}
