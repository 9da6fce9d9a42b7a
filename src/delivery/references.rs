//! Which Secrets and `ServiceAccounts` of its namespace an object uses.
//!
//! One visitor knows all places. What is read (which Secrets must be offered in the target) and what is written
//! (references renamed to the target's Secrets) can't drift apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::object;

/// What a place refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Referred {
    /// A Secret.
    Secret,
    /// A `ServiceAccount`.
    ServiceAccount,
}

/// A place in an object that names another object.
pub struct Place<'a> {
    /// What it names.
    pub referred: Referred,
    /// The name.
    pub name: &'a mut String,
    /// Whether the object works without it.
    pub optional: bool,
}

/// The Secrets that an object refers to.
pub fn secrets(object: &Value) -> BTreeSet<String> {
    secret_references(object).into_keys().collect()
}

/// The Secrets that an object refers to, each with whether all references to it are optional.
pub fn secret_references(object: &Value) -> BTreeMap<String, bool> {
    names(object, Referred::Secret)
}

/// The `ServiceAccounts` that an object's pods run as, where it names any.
pub fn service_accounts(object: &Value) -> BTreeSet<String> {
    names(object, Referred::ServiceAccount).into_keys().collect()
}

/// Renames the Secrets that an object refers to, all at once: two names may change places.
pub fn rename_secrets(object: &mut Value, names: &BTreeMap<String, String>) {
    visit(object, &mut |place| {
        if place.referred == Referred::Secret
            && let Some(new) = names.get(place.name)
        {
            place.name.clone_from(new);
        }
    });
}

fn names(object: &Value, referred: Referred) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    // The visitor hands out mutable places, so that it reads a copy.
    visit(&mut object.clone(), &mut |place| {
        if place.referred == referred && !place.name.is_empty() {
            let all_optional = found.entry(place.name.clone()).or_insert(true);
            *all_optional &= place.optional;
        }
    });
    found
}

/// Shows every place of `object` that names a Secret or a `ServiceAccount`.
pub fn visit(object: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
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
        }
        ("gateway.networking.k8s.io", "Gateway") => each(object.pointer_mut("/spec/listeners"), |listener| {
            each(listener.pointer_mut("/tls/certificateRefs"), |reference| certificate(reference, show));
        }),
        // Deployments and the like, and any custom kind that has a pod template in the usual place.
        _ => {
            if let Some(pod) = object.pointer_mut("/spec/template/spec").filter(|pod| pod.get("containers").is_some_and(Value::is_array)) {
                visit_pod(Some(pod), show);
            }
        }
    }
}

/// The specification of an object's pods.
pub fn pod(object: &Value) -> Option<&Value> {
    match (object::group(object), object::kind(object)) {
        ("", "Pod") => object.pointer("/spec"),
        ("", "PodTemplate") => object.pointer("/template/spec"),
        ("batch", "CronJob") => object.pointer("/spec/jobTemplate/spec/template/spec"),
        _ => object.pointer("/spec/template/spec"),
    }
    .filter(|pod| pod.get("containers").is_some_and(Value::is_array))
}

fn visit_pod(pod: Option<&mut Value>, show: &mut dyn FnMut(Place<'_>)) {
    let Some(pod) = pod else { return };
    for containers in ["initContainers", "containers", "ephemeralContainers"] {
        each(pod.get_mut(containers), |container| {
            each(container.get_mut("env"), |variable| optional_secret(variable.pointer_mut("/valueFrom/secretKeyRef"), "name", show));
            each(container.get_mut("envFrom"), |source| optional_secret(source.get_mut("secretRef"), "name", show));
        });
    }
    each(pod.get_mut("volumes"), |volume| {
        optional_secret(volume.get_mut("secret"), "secretName", show);
        each(volume.pointer_mut("/projected/sources"), |source| optional_secret(source.get_mut("secret"), "name", show));
        if let Some(file) = volume.get_mut("azureFile") {
            secret(file, "secretName", false, show);
        }
        if let Some(reference) = volume.pointer_mut("/csi/nodePublishSecretRef") {
            secret(reference, "name", false, show);
        }
        for kind in ["flexVolume", "cephfs", "rbd", "iscsi", "scaleIO", "storageos"] {
            if let Some(reference) = volume.get_mut(kind).and_then(|v| v.get_mut("secretRef")) {
                secret(reference, "name", false, show);
            }
        }
    });
    each(pod.get_mut("imagePullSecrets"), |item| secret(item, "name", false, show));
    // `serviceAccount` is the older name of `serviceAccountName`; the API server still takes it.
    for field in ["serviceAccountName", "serviceAccount"] {
        if let Some(Value::String(name)) = pod.get_mut(field) {
            show(Place { referred: Referred::ServiceAccount, name, optional: false });
        }
    }
}

/// A Gateway's certificate is a Secret of its own namespace unless it says otherwise.
fn certificate(reference: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
    let says = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
    if says("group").is_empty() && matches!(says("kind"), "" | "Secret") && says("namespace").is_empty() {
        secret(reference, "name", false, show);
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
        show(Place { referred: Referred::Secret, name, optional });
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
        assert_eq!(secret_references(&object).get("env-from"), Some(&true));
        assert_eq!(secret_references(&object).get("env"), Some(&false));
        object["spec"]["volumes"][0]["secret"]["secretName"] = json!("env-from");
        assert_eq!(secret_references(&object).get("env-from"), Some(&false));
    }

    #[test]
    fn ingress_service_account_and_gateway_refer_to_secrets() {
        let ingress = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"tls": [{"hosts": ["a"], "secretName": "tls"}, {"hosts": ["b"]}]}});
        assert_eq!(secrets(&ingress), BTreeSet::from(["tls".to_owned()]));
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{"name": "pull"}], "secrets": [{"name": "mount"}]});
        assert_eq!(secrets(&account), BTreeSet::from(["mount".to_owned(), "pull".to_owned()]));
        let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "spec": {"listeners": [{"tls": {"certificateRefs": [
            {"name": "cert"}, {"name": "elsewhere", "namespace": "other"}, {"kind": "ConfigMap", "name": "map"}]}}]}});
        assert_eq!(secrets(&gateway), BTreeSet::from(["cert".to_owned()]));
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
