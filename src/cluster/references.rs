//! Which Secrets and `ServiceAccounts` an object uses.
//!
//! One visitor knows all places. So reading (which Secrets must be offered in the target) and writing (references are renamed to the
//! target's Secrets) can't drift apart.

mod custom;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::cluster::object;

/// What a place refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Referred {
    Secret,
    ServiceAccount,
}

impl Referred {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::ServiceAccount => "ServiceAccount",
        }
    }
}

/// A place in an object that names another object.
pub(crate) struct Place<'a> {
    /// What it names.
    pub(crate) referred: Referred,
    pub(crate) name: &'a mut String,
    /// The namespace that it names; `None` for the object's own namespace.
    pub(crate) namespace: Option<String>,
    /// Whether the object works without it.
    pub(crate) optional: bool,
    /// Whether the place is known to name one. Otherwise the kind is not known here, and the place only looks like a reference.
    pub(crate) certain: bool,
}

/// A reference of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reference {
    /// What is named.
    pub(crate) referred: Referred,
    pub(crate) name: String,
    /// The namespace that is named; `None` for the object's own.
    pub(crate) namespace: Option<String>,
    /// Whether the object works without it.
    pub(crate) optional: bool,
    /// Whether the place is known to name one.
    pub(crate) certain: bool,
}

/// Everything that an object names, seen from its namespace `here`.
pub(crate) fn all(object: &Value, here: &str) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    if !may_refer(object) {
        return found;
    }
    // The visitor gives mutable access, so it works on a copy.
    visit(&mut object.clone(), &mut |place| {
        if !place.name.is_empty() {
            found.insert(Reference {
                referred: place.referred,
                name: place.name.clone(),
                namespace: place.namespace.filter(|said| !said.is_empty() && said != here),
                optional: place.optional,
                certain: place.certain,
            });
        }
    });
    found
}

/// Whether to look into an object at all: large objects are often just data.
fn may_refer(object: &Value) -> bool {
    !matches!((object::group(object), object::kind(object)), ("", "ConfigMap") | ("rbac.authorization.k8s.io" | "apiextensions.k8s.io", _))
}

/// The Secrets of its own namespace that an object refers to.
#[cfg(test)]
pub(crate) fn secrets(object: &Value) -> BTreeSet<String> {
    secret_references(object, "").into_keys().collect()
}

/// The Secrets of its own namespace `here` that an object refers to, each with whether all references to it are optional.
#[cfg(test)]
fn secret_references(object: &Value, here: &str) -> BTreeMap<String, bool> {
    own(object, here, Referred::Secret)
}

/// The `ServiceAccounts` as which an object's pods run, if it names any.
pub(crate) fn service_accounts(object: &Value) -> BTreeSet<String> {
    own(object, "", Referred::ServiceAccount).into_keys().collect()
}

fn own(object: &Value, here: &str, referred: Referred) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    for reference in all(object, here).into_iter().filter(|r| r.referred == referred && r.certain && r.namespace.is_none()) {
        *found.entry(reference.name).or_insert(true) &= reference.optional;
    }
    found
}

/// Renames the Secrets that an object refers to, all in one pass, so that two names can be exchanged.
pub(crate) fn rename_secrets(object: &mut Value, names: &BTreeMap<String, String>) {
    visit(object, &mut |place| {
        if place.referred == Referred::Secret
            && place.certain
            && place.namespace.is_none()
            && let Some(new) = names.get(place.name)
        {
            place.name.clone_from(new);
        }
    });
}

/// Calls the visitor for every place of `object` that names a Secret or a `ServiceAccount`, once for each.
pub(crate) fn visit(object: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
    let group = object::group(object).to_owned();
    let kind = object::kind(object).to_owned();
    match (group.as_str(), kind.as_str()) {
        ("", "Pod") => visit_pod(object.pointer_mut("/spec"), show),
        ("", "PodTemplate") => visit_pod(object.pointer_mut("/template/spec"), show),
        ("", "ServiceAccount") => {
            each(object.get_mut("imagePullSecrets"), |item| secret(item, "name", false, show));
            each(object.get_mut("secrets"), |item| secret(item, "name", false, show));
        }
        ("batch", "CronJob") => visit_pod(object.pointer_mut("/spec/jobTemplate/spec/template/spec"), show),
        ("networking.k8s.io" | "extensions", "Ingress") => {
            each(object.pointer_mut("/spec/tls"), |item| secret(item, "secretName", false, show));
            custom::visit_annotations(object.pointer_mut("/metadata/annotations"), show);
        }
        ("gateway.networking.k8s.io", _) => {
            if let Some(spec) = object.get_mut("spec") {
                visit_certificates(spec, show);
            }
        }
        (group, _) if !is_built_in(group) => custom::visit(object, show),
        // Deployments and the like.
        _ => {
            if let Some(pod) = object.pointer_mut("/spec/template/spec").filter(|pod| pod.get("containers").is_some_and(Value::is_array)) {
                visit_pod(Some(pod), show);
            }
        }
    }
}

/// Whether the group is built into the API server. All places of its kinds are known.
fn is_built_in(group: &str) -> bool {
    const NAMED: [&str; 18] = [
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "apiregistration.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "certificates.k8s.io",
        "coordination.k8s.io",
        "discovery.k8s.io",
        "events.k8s.io",
        "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io",
        "networking.k8s.io",
        "node.k8s.io",
        "rbac.authorization.k8s.io",
        "resource.k8s.io",
        "scheduling.k8s.io",
        "storage.k8s.io",
        "storagemigration.k8s.io",
    ];
    // The group of a custom resource always has a dot.
    !group.contains('.') || NAMED.contains(&group)
}

/// The pod specs of an object.
pub(crate) fn pods(object: &Value) -> Vec<&Value> {
    let place = match (object::group(object), object::kind(object)) {
        ("", "Pod") => "/spec",
        ("", "PodTemplate") => "/template/spec",
        ("batch", "CronJob") => "/spec/jobTemplate/spec/template/spec",
        (group, _) if !is_built_in(group) => return custom::pods(object),
        _ => "/spec/template/spec",
    };
    object.pointer(place).filter(|pod| pod.get("containers").is_some_and(Value::is_array)).into_iter().collect()
}

fn visit_pod(pod: Option<&mut Value>, show: &mut dyn FnMut(Place<'_>)) {
    let Some(pod) = pod else { return };
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        each(pod.get_mut(containers), |container| {
            each(container.get_mut("env"), |variable| optional_secret(variable.pointer_mut("/valueFrom/secretKeyRef"), "name", show));
            each(container.get_mut("envFrom"), |source| optional_secret(source.get_mut("secretRef"), "name", show));
        });
    }
    each(pod.get_mut("volumes"), |volume| visit_volume(volume, show));
    each(pod.get_mut("imagePullSecrets"), |item| secret(item, "name", false, show));
    // `serviceAccount` is the older name of `serviceAccountName`. The API server still accepts it.
    for field in ["serviceAccountName", "serviceAccount"] {
        if let Some(Value::String(name)) = pod.get_mut(field) {
            show(Place { referred: Referred::ServiceAccount, name, namespace: None, optional: false, certain: true });
        }
    }
}

fn visit_volume(volume: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
    optional_secret(volume.get_mut("secret"), "secretName", show);
    each(volume.pointer_mut("/projected/sources"), |source| optional_secret(source.get_mut("secret"), "name", show));
    if let Some(file) = volume.get_mut("azureFile") {
        secret(file, "secretName", false, show);
    }
    if let Some(reference) = volume.pointer_mut("/csi/nodePublishSecretRef") {
        secret(reference, "name", false, show);
    }
    visit_attributes(volume.pointer_mut("/csi/volumeAttributes"), show);
    for kind in ["flexVolume", "cephfs", "rbd", "iscsi", "scaleIO", "storageos"] {
        if let Some(reference) = volume.get_mut(kind).and_then(|v| v.get_mut("secretRef")) {
            secret(reference, "name", false, show);
        }
    }
}

/// The options of inline volumes depend on the driver. A driver names its Secret in an option whose name says so.
fn visit_attributes(attributes: Option<&mut Value>, show: &mut dyn FnMut(Place<'_>)) {
    let Some(attributes) = attributes.and_then(Value::as_object_mut) else { return };
    let said = |key: &str, what: &str| key.to_lowercase().contains(what);
    let is_namespace = |key: &str| said(key, "secret") && said(key, "namespace");
    let namespace = attributes.iter().find(|(key, _)| is_namespace(key)).and_then(|(_, value)| value.as_str().map(str::to_owned));
    for (key, value) in attributes.iter_mut().filter(|(key, _)| said(key, "secret") && !is_namespace(key)) {
        if let Value::String(name) = value {
            show(Place { referred: Referred::Secret, name, namespace: namespace.clone(), optional: false, certain: said(key, "name") });
        }
    }
}

/// The certificates of Gateways and of their backends: Secrets or `ConfigMaps`, of the own namespace unless another one is named.
fn visit_certificates(value: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                match (key.as_str(), &mut *child) {
                    ("clientCertificateRef", reference) => certificate(reference, show),
                    ("certificateRefs" | "caCertificateRefs", Value::Array(references)) => {
                        for reference in references {
                            certificate(reference, show);
                        }
                    }
                    _ => visit_certificates(child, show),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| visit_certificates(item, show)),
        _ => {}
    }
}

fn certificate(reference: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
    let says = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
    if says("group").is_empty() && matches!(says("kind"), "" | "Secret") {
        let namespace = Some(says("namespace").to_owned()).filter(|said| !said.is_empty());
        if let Some(Value::String(name)) = reference.get_mut("name") {
            show(Place { referred: Referred::Secret, name, namespace, optional: false, certain: true });
        }
    }
}

fn optional_secret(holder: Option<&mut Value>, field: &str, show: &mut dyn FnMut(Place<'_>)) {
    if let Some(holder) = holder {
        let optional = holder.get("optional").and_then(Value::as_bool).unwrap_or(false);
        secret(holder, field, optional, show);
    }
}

fn secret(holder: &mut Value, field: &str, optional: bool, show: &mut dyn FnMut(Place<'_>)) {
    if let Some(Value::String(name)) = holder.get_mut(field) {
        show(Place { referred: Referred::Secret, name, namespace: None, optional, certain: true });
    }
}

#[expect(clippy::needless_pass_by_value, reason = "callers have just looked the place up")]
fn each(list: Option<&mut Value>, mut act: impl FnMut(&mut Value)) {
    if let Some(Value::Array(items)) = list {
        items.iter_mut().for_each(&mut act);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "serviceAccountName": "orders",
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"name": "i", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "init-env", "key": "a"}}}]}],
            "containers": [{
                "name": "c",
                "env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "a"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "no-secret", "key": "a"}}}
                ],
                "envFrom": [{"secretRef": {"name": "env-from", "optional": true}}, {"configMapRef": {"name": "no-secret"}}]
            }],
            "ephemeralContainers": [{"name": "e", "envFrom": [{"secretRef": {"name": "ephemeral"}}]}],
            "volumes": [
                {"name": "1", "secret": {"secretName": "volume"}},
                {"name": "2", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "no-secret"}}]}},
                {"name": "3", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "csi"}}},
                {"name": "4", "flexVolume": {"driver": "d", "secretRef": {"name": "flex"}}},
                {"name": "5", "cephfs": {"secretRef": {"name": "cephfs"}}},
                {"name": "6", "rbd": {"secretRef": {"name": "rbd"}}},
                {"name": "7", "iscsi": {"secretRef": {"name": "iscsi"}}},
                {"name": "8", "scaleIO": {"secretRef": {"name": "scaleio"}}},
                {"name": "9", "storageos": {"secretRef": {"name": "storageos"}}},
                {"name": "10", "azureFile": {"secretName": "azure", "shareName": "s"}}
            ]
        })
    }

    const ALL: [&str; 15] = [
        "azure",
        "cephfs",
        "csi",
        "env",
        "env-from",
        "ephemeral",
        "flex",
        "init-env",
        "iscsi",
        "projected",
        "pull",
        "rbd",
        "scaleio",
        "storageos",
        "volume",
    ];

    fn all() -> BTreeSet<String> {
        ALL.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn every_kind_with_pods_is_looked_into() {
        for (api_version, kind) in [
            ("apps/v1", "Deployment"),
            ("apps/v1", "StatefulSet"),
            ("apps/v1", "DaemonSet"),
            ("apps/v1", "ReplicaSet"),
            ("batch/v1", "Job"),
            ("argoproj.io/v1alpha1", "Rollout"),
            ("serving.knative.dev/v1", "Service"),
        ] {
            let object = json!({"apiVersion": api_version, "kind": kind, "spec": {"template": {"spec": pod()}}});
            assert_eq!(secrets(&object), all(), "{kind}");
            assert_eq!(service_accounts(&object), BTreeSet::from(["orders".to_owned()]), "{kind}");
        }
        assert_eq!(secrets(&json!({"apiVersion": "v1", "kind": "Pod", "spec": pod()})), all());
        let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"jobTemplate": {"spec": {"template": {"spec": pod()}}}}});
        assert_eq!(secrets(&cron), all());
    }

    #[test]
    fn only_what_is_optional_everywhere_is_optional() {
        let mut object = json!({"apiVersion": "v1", "kind": "Pod", "spec": pod()});
        assert_eq!(secret_references(&object, "").get("env-from"), Some(&true));
        assert_eq!(secret_references(&object, "").get("env"), Some(&false));
        object["spec"]["volumes"][0]["secret"]["secretName"] = json!("env-from");
        assert_eq!(secret_references(&object, "").get("env-from"), Some(&false));
    }

    #[test]
    fn ingress_service_account_and_gateway_refer_to_secrets() {
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"tls": [{"hosts": ["a"], "secretName": "tls"}, {"hosts": ["b"]}]}});
        assert_eq!(secrets(&ingress), BTreeSet::from(["tls".to_owned()]));
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "pull"}], "secrets": [{"name": "mount"}]});
        assert_eq!(secrets(&account), BTreeSet::from(["mount".to_owned(), "pull".to_owned()]));
        let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": {"listeners": [{"tls": {"certificateRefs": [
            {"name": "cert"}, {"name": "here", "namespace": "qa"}, {"name": "elsewhere", "namespace": "other"}, {"kind": "ConfigMap", "name": "map"}],
            "frontendValidation": {"caCertificateRefs": [{"kind": "Secret", "name": "ca"}, {"kind": "ConfigMap", "name": "map"}]}}}],
            "tls": {"backend": {"clientCertificateRef": {"kind": "Secret", "name": "client"}}}}});
        assert_eq!(secret_references(&gateway, "qa").into_keys().collect::<Vec<_>>(), ["ca", "cert", "client", "here"]);
        let elsewhere: Vec<_> = super::all(&gateway, "qa").into_iter().filter_map(|r| Some((r.namespace?, r.name))).collect();
        assert_eq!(elsewhere, [("other".to_owned(), "elsewhere".to_owned())]);
    }

    #[test]
    fn every_place_that_is_read_is_renamed() {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": pod()}}});
        let names: BTreeMap<String, String> = ALL.iter().map(|n| ((*n).to_owned(), format!("target-{n}"))).collect();
        rename_secrets(&mut object, &names);
        assert_eq!(secrets(&object), ALL.iter().map(|n| format!("target-{n}")).collect());
        assert_eq!(service_accounts(&object), BTreeSet::from(["orders".to_owned()]));
    }

    #[test]
    fn two_secrets_may_change_places() {
        let mut object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "a"}, {"name": "b"}]});
        rename_secrets(&mut object, &BTreeMap::from([("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())]));
        assert_eq!(object["imagePullSecrets"], json!([{"name": "b"}, {"name": "a"}]));
    }

    #[test]
    fn a_malformed_object_refers_to_nothing() {
        assert!(secrets(&json!({"kind": "Pod", "apiVersion": "v1", "spec": {"volumes": "x", "containers": [1, {"env": {}}]}})).is_empty());
        assert!(secrets(&Value::Null).is_empty());
    }
}
