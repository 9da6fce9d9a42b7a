//! Fields that the server, controllers and delivery tools set on objects, even if a person wrote them too. They mean nothing in another
//! namespace, or would make two tools fight over the object there.

use serde_json::{Map, Value};

use super::defaults::{Declared, each_item, node, pod_path};
use crate::api::names::RECREATE_ANNOTATION;
use crate::cluster::object;

/// Annotations that controllers write.
const CONTROLLER_KEYS: [&str; 8] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    // Somebody ran `kubectl rollout restart` here. They don't want it elsewhere.
    "kubectl.kubernetes.io/restartedAt",
    "deployment.kubernetes.io/revision",
    "deployment.kubernetes.io/desired-replicas",
    "deployment.kubernetes.io/max-replicas",
    "deprecated.daemonset.template.generation",
    "batch.kubernetes.io/job-tracking",
    "control-plane.alpha.kubernetes.io/leader",
];

/// Labels that the job controller gives to a job and its pods.
const JOB_LABELS: [&str; 4] = ["controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"];

/// Whether a label or annotation belongs to the server, a controller, or a tool that owns the object here. If Helm only rendered a chart,
/// its labels are a person's: many applications are published so.
fn is_assigned(key: &str, value: &Value, by_helm: bool) -> bool {
    if CONTROLLER_KEYS.contains(&key) {
        return true;
    }
    if key == RECREATE_ANNOTATION {
        return false;
    }
    if key == "app.kubernetes.io/managed-by" {
        return value == "Helm" && by_helm || value == "pilotage";
    }
    let Some((domain, name)) = key.split_once('/') else { return false };
    match domain {
        // The older way to request a storage class. A person writes it.
        "volume.beta.kubernetes.io" => name != "storage-class",
        "helm.sh" => by_helm,
        "pv.kubernetes.io"
        | "volume.kubernetes.io"
        | "meta.helm.sh"
        | "applyset.kubernetes.io"
        | "kapp.k14s.io"
        | "autoscaling.alpha.kubernetes.io" => true,
        _ => ["fluxcd.io", "argocd.argoproj.io", "pilotage.dev"]
            .iter()
            .any(|owner| domain.strip_suffix(owner).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))),
    }
}

/// Whether Helm installed an object. All objects of a release name the release, except its hooks.
fn is_of_helm(object: &Value) -> bool {
    let annotations = object.pointer("/metadata/annotations");
    ["meta.helm.sh/release-name", "helm.sh/hook"].iter().any(|key| annotations.is_some_and(|held| held.get(key).is_some()))
}

/// Removes assigned fields.
pub(crate) fn strip(object: &mut Value, declared: Declared<'_>) {
    let by_helm = is_of_helm(object);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for map in ["labels", "annotations"] {
            retain(metadata, map, |key, value| !is_assigned(key, value, by_helm));
        }
    }
    // Labels of pods stay, because selectors use them.
    if let Some((pod_holder, _)) = pod_path(object).and_then(|path| node(object, declared, &path[..path.len() - 1]))
        && let Some(metadata) = pod_holder.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.retain(|name, value| name != "creationTimestamp" || !value.is_null());
        retain(metadata, "annotations", |key, _| !CONTROLLER_KEYS.contains(&key));
    }
    match (object::group(object), object::kind(object)) {
        ("", "Service") => strip_service(object, declared),
        ("", "PersistentVolumeClaim") => drop_field(object, &["spec"], "volumeName"),
        ("", "ServiceAccount") => drop_field(object, &[], "secrets"),
        ("", "Pod") => strip_pod(object, declared),
        ("batch", "Job") => strip_job(object),
        ("apps", "StatefulSet") => strip_claim_templates(object),
        ("rbac.authorization.k8s.io", "ClusterRole") => leave_rules(object),
        _ => {}
    }
}

/// The rules of an aggregated role belong to its controller.
pub(crate) fn leave_rules(object: &mut Value) {
    let is_role = (object::group(object), object::kind(object)) == ("rbac.authorization.k8s.io", "ClusterRole");
    if is_role && object.get("aggregationRule").is_some_and(Value::is_object) {
        drop_field(object, &[], "rules");
    }
}

/// Removes the label by which Argo CD tracks its objects. Another Argo CD, or the same one, would take the object in the target for its
/// own.
pub(crate) fn drop_tracking_label(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        retain(metadata, "labels", |key, _| key != "app.kubernetes.io/instance");
    }
}

fn strip_service(object: &mut Value, declared: Declared<'_>) {
    let Some((spec, below)) = node(object, declared, &["spec"]) else { return };
    // A person writes `None`: a headless service.
    if spec.get("clusterIP").is_some_and(|ip| ip != "None") {
        spec.remove("clusterIP");
    }
    spec.remove("clusterIPs");
    spec.remove("healthCheckNodePort");
    // Whoever creates or edits a service owns the port that the server chose. Only a declared port was surely chosen by a person.
    each_item(spec, "ports", below, |port, below| {
        if below.field("nodePort").is_nothing() {
            port.remove("nodePort");
        }
    });
}

fn strip_pod(object: &mut Value, declared: Declared<'_>) {
    const TOKEN_VOLUME: &str = "kube-api-access-";
    let is_token = |holder: &Value| holder.get("name").and_then(Value::as_str).is_some_and(|name| name.starts_with(TOKEN_VOLUME));
    let Some((spec, below)) = node(object, declared, &["spec"]) else { return };
    spec.remove("nodeName");
    retain_items(spec, "volumes", |volume| !is_token(volume));
    for list in ["containers", "initContainers"] {
        each_item(spec, list, below, |container, _| retain_items(container, "volumeMounts", |mount| !is_token(mount)));
    }
    if below.field("tolerations").is_nothing() {
        let added = |toleration: &Value| {
            matches!(toleration.get("key").and_then(Value::as_str), Some("node.kubernetes.io/not-ready" | "node.kubernetes.io/unreachable"))
                && toleration.get("tolerationSeconds").and_then(Value::as_i64) == Some(300)
        };
        retain_items(spec, "tolerations", |toleration| !added(toleration));
    }
}

fn strip_job(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        retain(metadata, "labels", |key, _| !JOB_LABELS.contains(&key));
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    if spec.get("manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    spec.remove("selector");
    let Some(template) = spec.get_mut("template").and_then(Value::as_object_mut) else { return };
    if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        retain(metadata, "labels", |key, _| !JOB_LABELS.contains(&key));
        if metadata.is_empty() {
            template.remove("metadata");
        }
    }
}

/// The list is atomic, so the server's entries in it come with the person's.
fn strip_claim_templates(object: &mut Value) {
    for claim in object.pointer_mut("/spec/volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(claim) = claim.as_object_mut() else { continue };
        claim.remove("status");
        if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("creationTimestamp");
        }
    }
}

fn drop_field(object: &mut Value, path: &[&str], field: &str) {
    if let Some((holder, _)) = node(object, Declared::Nothing, path) {
        holder.remove(field);
    }
}

/// Keeps the entries of a map of texts for which `keep` is true, and the map only if entries are left.
fn retain(holder: &mut Map<String, Value>, name: &str, keep: impl Fn(&str, &Value) -> bool) {
    if let Some(map) = holder.get_mut(name).and_then(Value::as_object_mut) {
        map.retain(|key, value| keep(key, value));
        if map.is_empty() {
            holder.remove(name);
        }
    }
}

fn retain_items(holder: &mut Map<String, Value>, name: &str, keep: impl Fn(&Value) -> bool) {
    if let Some(items) = holder.get_mut(name).and_then(Value::as_array_mut) {
        let before = items.len();
        items.retain(keep);
        if items.is_empty() && before > 0 {
            holder.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::fields_v1::FieldSet;

    #[test]
    fn what_tools_own_objects_by_is_left_behind() {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x",
            "labels": {"app.kubernetes.io/part-of": "orders", "app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "c",
                "kustomize.toolkit.fluxcd.io/name": "k", "argocd.argoproj.io/instance": "a", "notfluxcd.io/x": "stays", "pilotage.dev/solution": "s"},
            "annotations": {"meta.helm.sh/release-name": "r", "applyset.kubernetes.io/part-of": "p", "volume.kubernetes.io/selected-node": "n"}}});
        strip(&mut object, Declared::Nothing);
        assert_eq!(object["metadata"], json!({"name": "x", "labels": {"app.kubernetes.io/part-of": "orders", "notfluxcd.io/x": "stays"}}));
    }

    #[test]
    fn what_a_chart_wrote_is_the_authors_where_helm_installed_nothing() {
        let labels = json!({"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "orders-1.0.0"});
        let mut rendered = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": labels,
            "annotations": {"helm.sh/resource-policy": "keep"}}});
        let before = rendered.clone();
        strip(&mut rendered, Declared::Nothing);
        assert_eq!(rendered, before);
        // Hooks belong to a release too, although Helm does not write its name on them.
        let mut hook = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x", "labels": labels,
            "annotations": {"helm.sh/hook": "pre-install"}}});
        strip(&mut hook, Declared::Nothing);
        assert_eq!(hook["metadata"], json!({"name": "x"}));
    }

    #[test]
    fn another_tools_managed_by_is_kept() {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "labels": {"app.kubernetes.io/managed-by": "terraform"}}});
        let before = object.clone();
        strip(&mut object, Declared::Nothing);
        assert_eq!(object, before);
    }

    #[test]
    fn a_node_port_stays_only_where_it_was_declared() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "healthCheckNodePort": 31000,
            "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 81, "protocol": "TCP", "nodePort": 30081}]}});
        let declared = FieldSet::parse(
            &json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}, "f:nodePort": {}}}}}),
        )
        .unwrap();
        let mut object = service.clone();
        strip(&mut object, Declared::of(Some(&declared)));
        assert_eq!(object["spec"], json!({"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}, {"port": 81, "protocol": "TCP"}]}));
        let mut headless = json!({"apiVersion": "v1", "kind": "Service", "spec": {"clusterIP": "None", "clusterIPs": ["None"]}});
        strip(&mut headless, Declared::Nothing);
        assert_eq!(headless["spec"], json!({"clusterIP": "None"}));
    }

    #[test]
    fn a_job_loses_its_generated_selector_and_keeps_one_of_its_own() {
        let job = |manual: bool| {
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "j"}, "spec": {"manualSelector": manual, "selector": {"matchLabels": {"controller-uid": "u"}},
                "template": {"metadata": {"labels": {"controller-uid": "u", "batch.kubernetes.io/job-name": "j"}}, "spec": {}}}})
        };
        let mut generated = job(false);
        strip(&mut generated, Declared::Nothing);
        assert_eq!(generated["spec"], json!({"manualSelector": false, "template": {"spec": {}}}));
        let mut own = job(true);
        strip(&mut own, Declared::Nothing);
        assert_eq!(own, job(true));
    }

    #[test]
    fn a_pod_loses_its_node_and_its_token() {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n", "volumes": [{"name": "kube-api-access-x"}],
            "tolerations": [{"key": "node.kubernetes.io/not-ready", "tolerationSeconds": 300}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "kube-api-access-x", "mountPath": "/t"}, {"name": "v", "mountPath": "/v"}]}]}});
        strip(&mut pod, Declared::Nothing);
        assert_eq!(pod["spec"], json!({"containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}));
    }
}
