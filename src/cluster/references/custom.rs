//! References in annotations and in kinds that are not known here. What has the shape of a pod, or of a reference to a Secret, is treated
//! as one. What only has the name of a reference is reported as a possible one.

use serde_json::{Map, Value};

use super::{Place, Referred, optional_secret, secret, visit_volume};

/// The fields of a pod that name Secrets and accounts. They are visited with the pod.
const OF_PODS: [&str; 7] =
    ["initContainers", "containers", "ephemeralContainers", "volumes", "imagePullSecrets", "serviceAccountName", "serviceAccount"];
/// If one of these fields is beside a `serviceAccountName`, something runs as that account.
const RUNS: [&str; 9] = ["containers", "container", "volumes", "templates", "template", "steps", "tasks", "image", "entrypoint"];
/// The fields of a volume that holds a Secret.
const VOLUMES: [&str; 10] = ["secret", "projected", "csi", "azureFile", "flexVolume", "cephfs", "rbd", "iscsi", "scaleIO", "storageos"];
/// The ends of field names that are about Secrets, but name none.
const NO_NAMES: [&str; 16] = [
    "namespace",
    "key",
    "keys",
    "path",
    "type",
    "class",
    "template",
    "engine",
    "policy",
    "version",
    "realm",
    "provider",
    "label",
    "format",
    "prefix",
    "field",
];

/// Visits the references of an object of an unknown kind.
pub(super) fn visit(object: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
    let Some(fields) = object.as_object_mut() else { return };
    for (field, child) in fields {
        if !matches!(field.as_str(), "apiVersion" | "kind" | "metadata" | "status") {
            known(field, child, false, show);
        }
    }
}

/// Everything that has the shape of a pod spec.
pub(super) fn pods(object: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(field, _)| *field != "metadata" && *field != "status").for_each(|(_, child)| find_pods(child, &mut found));
    found
}

fn find_pods<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            if is_pod(map) {
                found.push(value);
            }
            map.values().for_each(|child| find_pods(child, found));
        }
        Value::Array(items) => items.iter().for_each(|item| find_pods(item, found)),
        _ => {}
    }
}

fn is_pod(map: &Map<String, Value>) -> bool {
    let containers = map.get("containers").and_then(Value::as_array);
    containers
        .into_iter()
        .flatten()
        .any(|container| ["name", "image"].iter().any(|field| container.get(*field).is_some_and(Value::is_string)))
}

fn walk(value: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
    match value {
        Value::Object(map) => {
            let is_pod = is_pod(map);
            let runs = RUNS.iter().any(|field| map.contains_key(*field));
            if is_pod {
                super::visit_pod(Some(value), show);
            }
            let Value::Object(map) = value else { return };
            for (field, child) in map {
                if !is_pod || !OF_PODS.contains(&field.as_str()) {
                    known(field, child, runs, show);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, show)),
        _ => {}
    }
}

/// One field, if its name alone says enough.
fn known(field: &str, child: &mut Value, runs: bool, show: &mut dyn FnMut(Place<'_>)) {
    match (field, &mut *child) {
        ("secretKeyRef", Value::Object(map)) if map.get("name").is_some_and(Value::is_string) => {
            let optional = map.get("optional").and_then(Value::as_bool).unwrap_or(false);
            let namespace = map.get("namespace").and_then(Value::as_str).map(str::to_owned);
            if let Some(Value::String(name)) = map.get_mut("name") {
                show(Place { referred: Referred::Secret, name, namespace, optional, certain: true });
            }
        }
        ("envFrom", Value::Array(sources)) => {
            for source in sources {
                match source.get_mut("secretRef") {
                    Some(reference) => optional_secret(Some(reference), "name", show),
                    None => walk(source, show),
                }
            }
        }
        ("imagePullSecrets", Value::Array(items)) => {
            for item in items {
                match item {
                    Value::String(name) => possible(Referred::Secret, name, None, show),
                    item => secret(item, "name", false, show),
                }
            }
        }
        ("volumes", Value::Array(volumes)) => {
            for volume in volumes {
                if VOLUMES.iter().any(|kind| volume.get(kind).is_some_and(Value::is_object)) {
                    visit_volume(volume, show);
                } else {
                    walk(volume, show);
                }
            }
        }
        ("serviceAccountName" | "serviceAccount", Value::String(name)) => {
            show(Place { referred: Referred::ServiceAccount, name, namespace: None, optional: false, certain: runs });
        }
        _ => named(field, child, show),
    }
}

/// Whether a field's name suggests that it names a Secret or an account.
fn named(field: &str, child: &mut Value, show: &mut dyn FnMut(Place<'_>)) {
    let word = field.to_lowercase();
    let referred = if NO_NAMES.iter().any(|end| word.ends_with(end)) {
        None
    } else if word.contains("serviceaccount") {
        Some(Referred::ServiceAccount)
    } else if word.contains("secret") {
        Some(Referred::Secret)
    } else {
        None
    };
    match (referred, &mut *child) {
        (Some(referred), Value::String(name)) => possible(referred, name, None, show),
        (Some(referred), Value::Object(map)) if is_reference(map, referred) => {
            let namespace = map.get("namespace").and_then(Value::as_str).map(str::to_owned);
            let key = if map.contains_key("name") { "name" } else { "secretName" };
            if let Some(Value::String(name)) = map.get_mut(key) {
                possible(referred, name, namespace, show);
            }
        }
        (Some(referred), Value::Array(items)) => {
            for item in items {
                match item {
                    Value::String(name) => possible(referred, name, None, show),
                    item => named(field, item, show),
                }
            }
        }
        _ => walk(child, show),
    }
}

/// Whether the fields are a reference to such an object, not to one of another kind.
fn is_reference(map: &Map<String, Value>, referred: Referred) -> bool {
    let is_other = map.get("kind").and_then(Value::as_str).is_some_and(|kind| !kind.is_empty() && kind != referred.kind());
    !is_other && ["name", "secretName"].iter().any(|field| map.get(*field).is_some_and(Value::is_string))
}

fn possible(referred: Referred, name: &mut String, namespace: Option<String>, show: &mut dyn FnMut(Place<'_>)) {
    // A text that can't be a name is not a reference.
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if !name.is_empty() && name.len() <= 253 && name.chars().all(is_name) {
        show(Place { referred, name, namespace, optional: false, certain: false });
    }
}

/// Annotations from which ingress controllers read names of Secrets, as `name` or as `namespace/name`.
pub(super) fn visit_annotations(annotations: Option<&mut Value>, show: &mut dyn FnMut(Place<'_>)) {
    let Some(annotations) = annotations.and_then(Value::as_object_mut) else { return };
    for (annotation, value) in annotations {
        let word = annotation.rsplit('/').next().unwrap_or_default().to_lowercase();
        let others = ["server-ca", "server-crt", "client-ca", "client-crt", "jwt-key", "auth-idp-oidc"];
        let names_one = word.contains("secret") && !NO_NAMES.iter().any(|end| word.ends_with(end)) || others.contains(&word.as_str());
        let Value::String(text) = value else { continue };
        if !names_one || text.is_empty() {
            continue;
        }
        // Others contain settings with the name in them.
        if let Ok(Value::Object(settings)) = serde_json::from_str::<Value>(text) {
            settings.into_iter().for_each(|(field, mut child)| named(&field, &mut child, show));
            continue;
        }
        let plain = text.split_once("://").map_or(text.as_str(), |(_, rest)| rest);
        let (namespace, mut name) = match plain.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name.to_owned()),
            None => (None, plain.to_owned()),
        };
        let before = name.clone();
        show(Place { referred: Referred::Secret, name: &mut name, namespace, optional: false, certain: true });
        if name != before {
            *text = format!("{}{name}", text.strip_suffix(&before).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Reference, all, pods, rename_secrets, secrets, service_accounts};
    use super::*;

    fn names(object: &Value, certain: bool) -> Vec<String> {
        let said = |r: Reference| format!("{} {}{}", r.referred.kind(), r.namespace.map(|n| n + "/").unwrap_or_default(), r.name);
        all(object, "qa").into_iter().filter(|r| r.certain == certain).map(said).collect()
    }

    fn pod() -> Value {
        json!({"serviceAccountName": "root", "containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "vault"}}]}]})
    }

    #[test]
    fn pods_are_found_wherever_a_kind_keeps_them() {
        for spec in [
            json!({"template": {"spec": pod()}}),
            json!({"jobTargetRef": {"template": {"spec": pod()}}}),
            json!({"tasks": [{"name": "t", "template": {"spec": pod()}}]}),
            json!({"replicatedJobs": [{"template": {"spec": {"template": {"spec": pod()}}}}]}),
        ] {
            let object = json!({"apiVersion": "example.test/v1", "kind": "Job", "spec": spec});
            assert_eq!(names(&object, true), ["Secret vault", "ServiceAccount root"], "{spec}");
            assert_eq!(pods(&object).len(), 1);
        }
    }

    #[test]
    fn a_workflow_runs_as_an_account_with_volumes_and_variables() {
        let object = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "spec": {
            "serviceAccountName": "root", "entrypoint": "m", "volumes": [{"name": "v", "secret": {"secretName": "vault"}}, {"name": "e", "emptyDir": {}}],
            "templates": [{"name": "m", "container": {"image": "i", "envFrom": [{"secretRef": {"name": "env"}}],
                "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "key", "key": "a", "optional": true}}}]}}]}});
        assert_eq!(secrets(&object), ["env", "key", "vault"].map(str::to_owned).into());
        assert_eq!(service_accounts(&object), ["root".to_owned()].into());
    }

    #[test]
    fn what_is_only_called_like_a_secret_is_shown_as_possible() {
        let object = json!({"apiVersion": "example.test/v1", "kind": "Thing", "metadata": {"labels": {"secretName": "label"}}, "spec": {
            "secretName": "a", "credentialsSecretRef": {"name": "b", "namespace": "other"}, "secrets": ["c", {"name": "d"}],
            "serviceAccountRef": {"name": "e"}, "serviceAccountName": "f",
            "secretStoreRef": {"kind": "SecretStore", "name": "store"}, "secretKey": "password", "secretNamespace": "kube-system",
            "clientSecret": "Not a name!", "nested": [{"auth": {"passwordSecret": "g"}}]}});
        assert_eq!(names(&object, true), [""; 0]);
        let expected =
            ["Secret a", "Secret other/b", "Secret c", "Secret d", "Secret g", "ServiceAccount e", "ServiceAccount f"].map(str::to_owned);
        let mut found = names(&object, false);
        found.sort();
        let mut sorted = expected.to_vec();
        sorted.sort();
        assert_eq!(found, sorted);
    }

    #[test]
    fn annotations_of_ingresses_name_secrets_too() {
        let mut object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"annotations": {
            "nginx.ingress.kubernetes.io/auth-secret": "basic", "nginx.ingress.kubernetes.io/auth-secret-type": "auth-file",
            "nginx.ingress.kubernetes.io/auth-tls-secret": "qa/ca", "nginx.ingress.kubernetes.io/proxy-ssl-secret": "prod/vault",
            "haproxy.org/server-ca": "haproxy", "nginx.com/jwt-key": "jwt",
            "alb.ingress.kubernetes.io/auth-idp-oidc": "{\"secretName\":\"oidc\",\"issuer\":\"https://example.test\"}",
            "cert-manager.io/cluster-issuer": "letsencrypt"}}});
        assert_eq!(names(&object, true), ["Secret basic", "Secret ca", "Secret haproxy", "Secret jwt", "Secret prod/vault"]);
        assert_eq!(names(&object, false), ["Secret oidc"]);
        rename_secrets(&mut object, &[("basic".to_owned(), "target".to_owned())].into());
        assert_eq!(object["metadata"]["annotations"]["nginx.ingress.kubernetes.io/auth-secret"], "target");
    }

    #[test]
    fn volumes_that_a_driver_makes_name_secrets_in_its_own_words() {
        let object = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [], "volumes": [{"name": "v", "csi": {"driver": "d",
            "volumeAttributes": {"secretName": "vault", "secretNamespace": "qa", "secretProviderClass": "aws", "shareName": "s"}}}]}});
        assert_eq!(names(&object, true), ["Secret vault"]);
        assert_eq!(names(&object, false), ["Secret aws"]);
    }

    #[test]
    fn a_place_is_shown_once_so_that_names_can_change_places() {
        let mut object = json!({"apiVersion": "example.test/v1", "kind": "Job", "spec": {"imagePullSecrets": [{"name": "a"}, {"name": "b"}],
            "containers": [{"image": "i", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "a", "key": "k"}}}]}]}});
        rename_secrets(&mut object, &[("a".to_owned(), "b".to_owned()), ("b".to_owned(), "a".to_owned())].into());
        assert_eq!(object["spec"]["imagePullSecrets"], json!([{"name": "b"}, {"name": "a"}]));
        assert_eq!(object["spec"]["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"]["name"], "b");
    }
}
