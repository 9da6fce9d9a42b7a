//! Defaults of the core kinds, which the API server fills in where a person wrote nothing.
//!
//! Source: the defaulting functions of Kubernetes (`pkg/apis/*/v1/defaults.go`, 1.36). They are needed only for objects that were written
//! with an ordinary create or update: the manager of such a write also owns the defaults.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::cluster::fields_v1::FieldSet;
use crate::cluster::object;

/// What was declared below a node (applied, or in the last-applied document). A declared field stays even if it equals the default.
#[derive(Clone, Copy)]
pub(crate) enum Declared<'a> {
    Nothing,
    /// The node, and everything below it.
    All,
    /// Some of the fields below it.
    Some(&'a FieldSet),
}

impl<'a> Declared<'a> {
    /// What a set declares.
    pub(crate) fn of(set: Option<&'a FieldSet>) -> Self {
        match set {
            None => Self::Nothing,
            Some(set) if set.is_leaf() => Self::All,
            Some(set) => Self::Some(set),
        }
    }

    /// What is declared below a field.
    #[must_use]
    pub(crate) fn field(self, name: &str) -> Self {
        match self {
            Self::Some(set) => Self::of(set.field(name)),
            other => other,
        }
    }

    /// What is declared below an item of a list.
    #[must_use]
    pub(crate) fn item(self, index: usize, item: &Value) -> Self {
        match self {
            Self::Some(set) => Self::of(set.item(index, item)),
            other => other,
        }
    }

    /// What is known to be declared below a node that holds others. In an atomic value, a person's fields can't be told from the server's:
    /// both are in one field.
    fn inside(self) -> Self {
        if matches!(self, Self::All) { Self::Nothing } else { self }
    }

    /// Whether nothing is declared.
    pub(crate) fn is_nothing(self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// The key in the table for each item of a list.
const EACH: &str = "[]";

/// Maps whose presence has a meaning, whatever they contain. The server fills in their missing fields, but never creates the map.
const SAID_BY_BEING_THERE: [&str; 21] = [
    "spec",
    "template",
    "jobTemplate",
    "volumeClaimTemplate",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "httpGet",
    "grpc",
    "lifecycle",
    "postStart",
    "preStop",
    "configMap",
    "secret",
    "downwardAPI",
    "projected",
    "hostPath",
    "ephemeral",
    "valueFrom",
    "fieldRef",
    "resourceFieldRef",
];

fn container() -> Value {
    let probe = json!({"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3, "httpGet": {"scheme": "HTTP"}, "grpc": {"service": ""}});
    let handler = json!({"httpGet": {"scheme": "HTTP"}});
    json!({
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "resources": {},
        "livenessProbe": probe,
        "readinessProbe": probe,
        "startupProbe": probe,
        "lifecycle": {"postStart": handler, "preStop": handler},
        "ports": {EACH: {"protocol": "TCP"}},
        "env": {EACH: {"valueFrom": {"fieldRef": {"apiVersion": "v1"}, "resourceFieldRef": {"divisor": "0"}}}}
    })
}

fn pod_spec() -> Value {
    let downward = json!({EACH: {"fieldRef": {"apiVersion": "v1"}, "resourceFieldRef": {"divisor": "0"}}});
    json!({
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "securityContext": {},
        "containers": {EACH: container()},
        "initContainers": {EACH: container()},
        "volumes": {EACH: {
            "configMap": {"defaultMode": 420},
            "secret": {"defaultMode": 420},
            "downwardAPI": {"defaultMode": 420, "items": downward},
            "projected": {"defaultMode": 420, "sources": {EACH: {
                "serviceAccountToken": {"expirationSeconds": 3600},
                "downwardAPI": {"items": downward}
            }}},
            "hostPath": {"type": ""},
            "ephemeral": {"volumeClaimTemplate": {"metadata": {"creationTimestamp": null}, "spec": {"volumeMode": "Filesystem"}}}
        }}
    })
}

fn template() -> Value {
    json!({"metadata": {"creationTimestamp": null}, "spec": pod_spec()})
}

fn job_spec() -> Value {
    json!({
        "backoffLimit": 6,
        "completionMode": "NonIndexed",
        "suspend": false,
        "manualSelector": false,
        "podReplacementPolicy": "TerminatingOrFailed",
        "template": template()
    })
}

static POD: LazyLock<Value> = LazyLock::new(|| {
    let mut pod = json!({"spec": pod_spec()});
    // Only the admission of pods adds these. A template keeps what was written.
    for (field, value) in [
        ("enableServiceLinks", json!(true)),
        ("serviceAccountName", json!("default")),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("priority", json!(0)),
    ] {
        pod["spec"][field] = value;
    }
    pod
});
static POD_TEMPLATE: LazyLock<Value> = LazyLock::new(|| json!({"template": template()}));
static DEPLOYMENT: LazyLock<Value> = LazyLock::new(|| {
    json!({"spec": {
        "replicas": 1,
        "progressDeadlineSeconds": 600,
        "revisionHistoryLimit": 10,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
        "template": template()
    }})
});
static STATEFUL_SET: LazyLock<Value> = LazyLock::new(|| {
    json!({"spec": {
        "replicas": 1,
        "podManagementPolicy": "OrderedReady",
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
        "volumeClaimTemplates": {EACH: {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"volumeMode": "Filesystem"}}},
        "template": template()
    }})
});
static DAEMON_SET: LazyLock<Value> = LazyLock::new(|| {
    json!({"spec": {
        "revisionHistoryLimit": 10,
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "template": template()
    }})
});
static REPLICA_SET: LazyLock<Value> = LazyLock::new(|| json!({"spec": {"replicas": 1, "template": template()}}));
static JOB: LazyLock<Value> = LazyLock::new(|| json!({"spec": job_spec()}));
static CRON_JOB: LazyLock<Value> = LazyLock::new(|| {
    json!({"spec": {
        "concurrencyPolicy": "Allow",
        "suspend": false,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1,
        "jobTemplate": {"metadata": {"creationTimestamp": null}, "spec": job_spec()}
    }})
});
static SERVICE: LazyLock<Value> = LazyLock::new(|| {
    json!({"spec": {
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "internalTrafficPolicy": "Cluster",
        "externalTrafficPolicy": "Cluster",
        "ipFamilyPolicy": "SingleStack",
        "allocateLoadBalancerNodePorts": true,
        "ports": {EACH: {"protocol": "TCP"}}
    }})
});
static ENDPOINT_SLICE: LazyLock<Value> =
    LazyLock::new(|| json!({"endpoints": {EACH: {"conditions": {}}}, "ports": {EACH: {"protocol": "TCP", "name": ""}}}));
static NETWORK_POLICY: LazyLock<Value> = LazyLock::new(|| {
    let rules = json!({EACH: {"ports": {EACH: {"protocol": "TCP"}}}});
    json!({"spec": {"ingress": rules, "egress": rules}})
});
static CLAIM: LazyLock<Value> = LazyLock::new(|| json!({"spec": {"volumeMode": "Filesystem"}}));
static AUTOSCALER: LazyLock<Value> = LazyLock::new(|| json!({"spec": {"minReplicas": 1}}));

fn table(object: &Value) -> Option<&'static Value> {
    Some(match (object::group(object), object::kind(object)) {
        ("", "Pod") => &POD,
        ("", "PodTemplate") => &POD_TEMPLATE,
        ("apps", "Deployment") => &DEPLOYMENT,
        ("apps", "StatefulSet") => &STATEFUL_SET,
        ("apps", "DaemonSet") => &DAEMON_SET,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => &REPLICA_SET,
        ("batch", "Job") => &JOB,
        ("batch", "CronJob") => &CRON_JOB,
        ("", "Service") => &SERVICE,
        ("discovery.k8s.io", "EndpointSlice") => &ENDPOINT_SLICE,
        ("networking.k8s.io", "NetworkPolicy") => &NETWORK_POLICY,
        ("", "PersistentVolumeClaim") => &CLAIM,
        ("autoscaling", "HorizontalPodAutoscaler") => &AUTOSCALER,
        _ => return None,
    })
}

/// Where kinds with pods keep the pod spec.
pub(crate) fn pod_path(object: &Value) -> Option<&'static [&'static str]> {
    Some(match (object::group(object), object::kind(object)) {
        ("", "Pod") => &["spec"],
        ("", "PodTemplate") => &["template", "spec"],
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("", "ReplicationController") | ("batch", "Job") => {
            &["spec", "template", "spec"]
        }
        ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template", "spec"],
        _ => return None,
    })
}

/// The node at a path of fields, and what is declared below it.
pub(crate) fn node<'v, 'd>(
    object: &'v mut Value,
    declared: Declared<'d>,
    path: &[&str],
) -> Option<(&'v mut Map<String, Value>, Declared<'d>)> {
    let (mut value, mut below) = (object, declared);
    for name in path {
        value = value.get_mut(*name)?;
        below = below.field(name);
    }
    Some((value.as_object_mut()?, below))
}

/// Removes the server's defaults from `object`, except for declared fields.
pub(crate) fn strip(object: &mut Value, declared: Declared<'_>) {
    let Some(table) = table(object).and_then(Value::as_object) else { return };
    // Fields that depend on a neighbour are removed first, while the neighbour is still there.
    strip_dependent(object, declared);
    if let Some(map) = object.as_object_mut() {
        subtract(map, table, declared);
    }
}

fn subtract(map: &mut Map<String, Value>, defaults: &Map<String, Value>, declared: Declared<'_>) {
    for (name, default) in defaults {
        let below = declared.field(name);
        let Some(value) = map.get_mut(name) else { continue };
        let emptied = match (value, default) {
            (Value::Array(items), Value::Object(default)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let below = below.inside().item(index, item);
                    if let (Some(each), Value::Object(item)) = (default.get(EACH).and_then(Value::as_object), item) {
                        subtract(item, each, below.inside());
                    }
                }
                false
            }
            (Value::Object(value), Value::Object(default)) => {
                let before = value.len();
                subtract(value, default, below.inside());
                value.is_empty() && (before > 0 || default.is_empty()) && !SAID_BY_BEING_THERE.contains(&name.as_str())
            }
            (value, default) => value == default,
        };
        if emptied && below.is_nothing() {
            map.remove(name);
        }
    }
}

/// Defaults that are made from another field.
fn strip_dependent(object: &mut Value, declared: Declared<'_>) {
    if let Some((pod, below)) = pod_path(object).and_then(|path| node(object, declared, path)) {
        for list in ["containers", "initContainers"] {
            each_item(pod, list, below, |container, below| {
                let default = container.get("image").and_then(Value::as_str).map(pull_policy);
                if below.field("imagePullPolicy").is_nothing() && container.get("imagePullPolicy").and_then(Value::as_str) == default {
                    container.remove("imagePullPolicy");
                }
            });
        }
        // The older name of the same field. The server writes both.
        if below.field("serviceAccount").is_nothing() && (pod.contains_key("serviceAccountName") || below.is_nothing()) {
            pod.remove("serviceAccount");
        }
    }
    match (object::group(object), object::kind(object)) {
        ("", "Service") => {
            if let Some((spec, below)) = node(object, declared, &["spec"]) {
                if below.field("ipFamilies").is_nothing()
                    && matches!(spec.get("ipFamilyPolicy").and_then(Value::as_str), None | Some("SingleStack"))
                {
                    spec.remove("ipFamilies");
                }
                each_item(spec, "ports", below, |port, below| {
                    if below.field("targetPort").is_nothing() && port.get("targetPort") == port.get("port") {
                        port.remove("targetPort");
                    }
                });
            }
        }
        ("batch", "Job") => strip_counts(object, declared, &["spec"]),
        ("batch", "CronJob") => strip_counts(object, declared, &["spec", "jobTemplate", "spec"]),
        _ => {}
    }
}

/// A job without values runs one pod once. A value of 1 has a meaning if the other value is not 1.
fn strip_counts(object: &mut Value, declared: Declared<'_>, path: &[&str]) {
    if let Some((spec, below)) = node(object, declared, path)
        && ["completions", "parallelism"].iter().all(|count| below.field(count).is_nothing() && spec.get(*count) == Some(&json!(1)))
    {
        spec.remove("completions");
        spec.remove("parallelism");
    }
}

/// Calls `act` on each map of a list.
pub(crate) fn each_item(
    holder: &mut Map<String, Value>,
    list: &str,
    declared: Declared<'_>,
    mut act: impl FnMut(&mut Map<String, Value>, Declared<'_>),
) {
    let below = declared.field(list);
    for (index, item) in holder.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().enumerate() {
        let below = below.item(index, item);
        if let Some(item) = item.as_object_mut() {
            act(item, below);
        }
    }
}

/// `Always` for the tag `latest`, also if it is implied; otherwise `IfNotPresent`.
fn pull_policy(image: &str) -> &'static str {
    let (named, digest) = image.split_once('@').map_or((image, None), |(named, digest)| (named, Some(digest)));
    let tag = named.rsplit('/').next().and_then(|last| last.split_once(':')).map(|(_, tag)| tag);
    match (tag, digest) {
        (Some("latest"), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(mut object: Value, declared: Option<&Value>) -> Value {
        let set = declared.map(|d| FieldSet::parse(d).unwrap());
        strip(&mut object, Declared::of(set.as_ref()));
        object
    }

    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/nginx:1.2", "IfNotPresent"),
            ("nginx@sha256:abc", "IfNotPresent"),
            ("nginx:latest@sha256:abc", "Always"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn a_partly_default_strategy_keeps_the_other_part() {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": "25%"}}, "revisionHistoryLimit": 3}});
        assert_eq!(stripped(deployment, None)["spec"], json!({"strategy": {"rollingUpdate": {"maxSurge": 1}}, "revisionHistoryLimit": 3}));
    }

    #[test]
    fn a_declared_default_stays() {
        let deployment =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"revisionHistoryLimit": 10, "progressDeadlineSeconds": 600}});
        let declared = json!({"f:spec": {"f:revisionHistoryLimit": {}}});
        assert_eq!(stripped(deployment, Some(&declared))["spec"], json!({"revisionHistoryLimit": 10}));
    }

    #[test]
    fn the_servers_words_in_what_was_applied_as_one_value_go() {
        let live = json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "spec": {"replicas": 1, "volumeClaimTemplates": [
            {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {"volumeMode": "Filesystem", "storageClassName": "fast"}}]}});
        let declared = json!({"f:spec": {"f:replicas": {}, "f:volumeClaimTemplates": {}}});
        assert_eq!(
            stripped(live, Some(&declared))["spec"],
            json!({"replicas": 1, "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"storageClassName": "fast"}}]})
        );
    }

    #[test]
    fn a_job_of_several_pods_keeps_both_counts() {
        let job = |completions: i32, parallelism: i32| json!({"apiVersion": "batch/v1", "kind": "Job", "spec": {"completions": completions, "parallelism": parallelism}});
        assert_eq!(stripped(job(1, 1), None)["spec"], json!({}));
        assert_eq!(stripped(job(1, 3), None)["spec"], json!({"completions": 1, "parallelism": 3}));
    }

    #[test]
    fn probes_and_volumes_lose_their_defaults_alone() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {
            "containers": [{"name": "a", "image": "a:1", "imagePullPolicy": "IfNotPresent", "resources": {},
                "readinessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "timeoutSeconds": 5, "periodSeconds": 10}}],
            "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c", "defaultMode": 420}}]
        }});
        assert_eq!(
            stripped(pod, None)["spec"],
            json!({
                "containers": [{"name": "a", "image": "a:1", "readinessProbe": {"httpGet": {"path": "/", "port": 80}, "timeoutSeconds": 5}}],
                "volumes": [{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c"}}]
            })
        );
    }

    #[test]
    fn what_is_said_by_an_empty_map_stays() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {
            "containers": [{"name": "a", "image": "a:1", "securityContext": {}, "startupProbe": {"timeoutSeconds": 1}}],
            "volumes": [{"name": "d", "downwardAPI": {"defaultMode": 420}}, {"name": "p", "projected": {"defaultMode": 420}}, {"name": "e", "emptyDir": {}}]
        }});
        assert_eq!(
            stripped(pod, None)["spec"],
            json!({
                "containers": [{"name": "a", "image": "a:1", "securityContext": {}, "startupProbe": {}}],
                "volumes": [{"name": "d", "downwardAPI": {}}, {"name": "p", "projected": {}}, {"name": "e", "emptyDir": {}}]
            })
        );
        let declared = json!({"f:spec": {"f:securityContext": {}}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"securityContext": {}}});
        assert_eq!(stripped(pod.clone(), Some(&declared)), pod, "written by a person");
    }
}
