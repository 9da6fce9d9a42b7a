//! What objects use of the quotas of their namespace, in the terms of a `ResourceQuota`.

use std::collections::BTreeMap;
use std::ops::{Add, Sub};

use kube::core::ApiResource;
use serde_json::Value;

use crate::cluster::object;
use crate::cluster::quantity::Quantity;

/// Core kinds that quotas also count under their bare names.
const COUNTED: [&str; 6] = ["services", "configmaps", "secrets", "persistentvolumeclaims", "replicationcontrollers", "resourcequotas"];
/// Shorter names that quotas also use.
const SHORT: [(&str, &str); 3] =
    [("requests.cpu", "cpu"), ("requests.memory", "memory"), ("requests.ephemeral-storage", "ephemeral-storage")];

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage(BTreeMap<String, Quantity>);

impl Usage {
    /// The amount of one resource of quotas.
    pub(crate) fn of(&self, resource: &str) -> Quantity {
        self.0.get(resource).copied().unwrap_or_default()
    }

    /// Whether any amount is more than zero.
    pub(crate) fn grows(&self) -> bool {
        self.0.values().any(|amount| amount.is_positive())
    }

    fn put(&mut self, resource: &str, amount: Quantity) {
        let sum = self.of(resource) + amount;
        self.0.insert(resource.to_owned(), sum);
    }

    fn times(mut self, count: u64) -> Self {
        self.0.values_mut().for_each(|amount| *amount = amount.times(count));
        self
    }

    fn combined(self, other: Self, with: fn(Quantity, Quantity) -> Quantity) -> Self {
        let mut all = self;
        for (resource, amount) in other.0 {
            let combined = with(all.of(&resource), amount);
            all.0.insert(resource, combined);
        }
        all
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.combined(other, Quantity::add)
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.combined(other, Quantity::sub)
    }
}

/// What an object of that kind uses, including its pods and claims.
pub(crate) fn of(resource: &ApiResource, object: &Value) -> Usage {
    let mut usage = Usage::default();
    let one = Quantity::whole(1);
    let dotted = if resource.group.is_empty() { resource.plural.clone() } else { format!("{}.{}", resource.plural, resource.group) };
    usage.put(&format!("count/{dotted}"), one);
    if resource.group.is_empty() && COUNTED.contains(&resource.plural.as_str()) {
        usage.put(&resource.plural, one);
    }
    match (resource.group.as_str(), resource.kind.as_str()) {
        ("", "Service") => usage + service(object),
        ("", "PersistentVolumeClaim") => usage + storage(object),
        ("", "Pod") => usage + pod(own_pod(object)),
        ("apps", "StatefulSet") => {
            let claims = list(object, "/spec/volumeClaimTemplates").map(claim).fold(Usage::default(), Usage::add);
            usage + claims.times(pods(object)) + running(object)
        }
        _ => usage + running(object),
    }
}

/// A resource that the quota counts and the object's pods don't specify. The server refuses such pods under a quota for it, unless a
/// `LimitRange` fills it in.
pub(crate) fn leaves_open(object: &Value, resource: &str) -> bool {
    let is_pods = pods(object) > 0 && own_pod(object).is_some();
    let said = match resource {
        "requests.cpu" | "cpu" => ["requests", "cpu"],
        "requests.memory" | "memory" => ["requests", "memory"],
        "limits.cpu" => ["limits", "cpu"],
        "limits.memory" => ["limits", "memory"],
        _ => return false,
    };
    let says = |container: &Value| {
        amount(container, said[0], said[1]).is_some() || said[0] == "requests" && amount(container, "limits", said[1]).is_some()
    };
    is_pods && own_pod(object).is_some_and(|pod| pod.get("resources").is_none() && !list(pod, "/containers").all(says))
}

/// The spec of the pods that run for an object. Quotas count these pods, and no pod specs elsewhere in the object.
fn own_pod(object: &Value) -> Option<&Value> {
    let is_pod = (object::group(object), object::kind(object)) == ("", "Pod");
    object.pointer(if is_pod { "/spec" } else { "/spec/template/spec" }).filter(|pod| pod.get("containers").is_some_and(Value::is_array))
}

fn service(object: &Value) -> Usage {
    let mut usage = Usage::default();
    let ports = list(object, "/spec/ports").count() as u64;
    let type_ = object.pointer("/spec/type").and_then(Value::as_str).unwrap_or_default();
    let is_balanced = type_ == "LoadBalancer";
    if is_balanced {
        usage.put("services.loadbalancers", Quantity::whole(1));
    }
    let gets_ports = object.pointer("/spec/allocateLoadBalancerNodePorts") != Some(&Value::Bool(false));
    if type_ == "NodePort" || is_balanced && gets_ports {
        usage.put("services.nodeports", Quantity::whole(ports));
    }
    usage
}

/// A claim that is made from a template.
fn claim(template: &Value) -> Usage {
    let mut usage = storage(template);
    for resource in ["persistentvolumeclaims", "count/persistentvolumeclaims"] {
        usage.put(resource, Quantity::whole(1));
    }
    usage
}

fn storage(claim: &Value) -> Usage {
    let mut usage = Usage::default();
    let size = claim.pointer("/spec/resources/requests/storage").and_then(quantity).unwrap_or_default();
    usage.put("requests.storage", size);
    if let Some(class) = claim.pointer("/spec/storageClassName").and_then(Value::as_str).filter(|class| !class.is_empty()) {
        usage.put(&format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
        usage.put(&format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), Quantity::whole(1));
    }
    usage
}

/// What all pods of a workload use together.
fn running(object: &Value) -> Usage {
    pod(own_pod(object)).times(pods(object))
}

/// How many pods a workload runs, if it says so.
fn pods(object: &Value) -> u64 {
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64);
    match (object::group(object), object::kind(object)) {
        // It starts no pods by itself, or not now.
        ("", "PodTemplate") | ("batch", "CronJob") => 0,
        ("", "Pod") => 1,
        // Their number depends on the number of nodes.
        ("apps", "DaemonSet") => number("/status/desiredNumberScheduled").unwrap_or(0),
        ("batch", "Job") => {
            let has = |type_: &str| {
                list(object, "/status/conditions").any(|c| {
                    c.get("type").and_then(Value::as_str) == Some(type_) && c.get("status").and_then(Value::as_str) == Some("True")
                })
            };
            let is_idle = object.pointer("/spec/suspend") == Some(&Value::Bool(true)) || has("Complete") || has("Failed");
            let at_once = number("/spec/parallelism").unwrap_or(1);
            if is_idle { 0 } else { number("/spec/completions").map_or(at_once, |all| all.min(at_once)) }
        }
        _ => number("/spec/replicas").unwrap_or(1),
    }
}

/// What one pod uses. Containers run together. Init containers run one after the other, beside the sidecars among them.
fn pod(spec: Option<&Value>) -> Usage {
    let Some(spec) = spec else { return Usage::default() };
    let together = list(spec, "/containers").map(container).fold(Usage::default(), Usage::add);
    let (mut staying, mut preparing) = (Usage::default(), Usage::default());
    for init in list(spec, "/initContainers") {
        if init.get("restartPolicy").and_then(Value::as_str) == Some("Always") {
            staying = staying + container(init);
        } else {
            preparing = preparing.combined(staying.clone() + container(init), Quantity::max);
        }
    }
    let mut usage = (together + staying).combined(preparing, Quantity::max);
    for (name, amount) in object_of(spec.get("overhead")) {
        if let Some(amount) = quantity(amount) {
            usage.put(&format!("requests.{name}"), amount);
            usage.put(&format!("limits.{name}"), amount);
        }
    }
    for (long, short) in SHORT {
        let amount = usage.of(long);
        usage.put(short, amount);
    }
    for resource in ["pods", "count/pods"] {
        usage.put(resource, Quantity::whole(1));
    }
    usage
}

/// What one container requests and is limited to. A limit without a request counts as the request too.
fn container(container: &Value) -> Usage {
    let mut usage = Usage::default();
    let section = |name: &str| object_of(container.get("resources").and_then(|r| r.get(name)));
    for (name, amount) in section("limits") {
        let Some(amount) = quantity(amount) else { continue };
        usage.put(&format!("limits.{name}"), amount);
        if self::amount(container, "requests", name).is_none() {
            usage.put(&format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in section("requests") {
        usage.put(&format!("requests.{name}"), quantity(amount).unwrap_or_default());
    }
    usage
}

fn amount(container: &Value, section: &str, name: &str) -> Option<Quantity> {
    container.get("resources")?.get(section)?.get(name).and_then(quantity)
}

/// Quantities are texts. A person may have written numbers.
pub(crate) fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text),
        Value::Number(number) => Quantity::parse(&number.to_string()),
        _ => None,
    }
}

fn object_of(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    fn usage(group: &str, kind: &str, mut object: Value) -> Usage {
        object["apiVersion"] = if group.is_empty() { json!("v1") } else { json!(format!("{group}/v1")) };
        object["kind"] = json!(kind);
        of(&ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)), &object)
    }

    fn assert_is(usage: &Usage, expected: &[(&str, &str)]) {
        for (resource, amount) in expected {
            assert_eq!(usage.of(resource).to_string(), *amount, "{resource} of {usage:?}");
        }
    }

    #[test]
    fn objects_count_and_services_count_what_they_take() {
        let ports = json!([{"port": 80}, {"port": 443}]);
        let expected = [("services", "1"), ("count/services", "1"), ("services.loadbalancers", "1"), ("services.nodeports", "2")];
        assert_is(&usage("", "Service", json!({"spec": {"type": "LoadBalancer", "ports": ports}})), &expected);
        let without =
            usage("", "Service", json!({"spec": {"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}}));
        assert_is(&without, &[("services.loadbalancers", "1"), ("services.nodeports", "0")]);
        assert_is(&usage("", "Service", json!({"spec": {"ports": ports}})), &[("services", "1"), ("services.nodeports", "0")]);
        assert_is(&usage("apps", "Deployment", json!({"spec": {"replicas": 0}})), &[("count/deployments.apps", "1"), ("pods", "0")]);
    }

    #[test]
    fn storage_counts_by_class_and_so_does_what_a_stateful_set_claims() {
        let spec = json!({"storageClassName": "fast", "resources": {"requests": {"storage": "2Gi"}}});
        let expected = [
            ("persistentvolumeclaims", "1"),
            ("requests.storage", "2Gi"),
            ("fast.storageclass.storage.k8s.io/requests.storage", "2Gi"),
            ("fast.storageclass.storage.k8s.io/persistentvolumeclaims", "1"),
        ];
        assert_is(&usage("", "PersistentVolumeClaim", json!({"spec": spec})), &expected);
        let set = usage("apps", "StatefulSet", json!({"spec": {"replicas": 3, "volumeClaimTemplates": [{"spec": spec}]}}));
        assert_is(&set, &[("persistentvolumeclaims", "3"), ("requests.storage", "6Gi"), ("count/statefulsets.apps", "1")]);
    }

    #[test]
    fn pods_count_with_all_that_runs_at_once() {
        let resources = |requests: Value, limits: Value| json!({"resources": {"requests": requests, "limits": limits}});
        let pod = json!({
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}},
                resources(json!({"cpu": "2"}), json!({})),
            ],
            "containers": [resources(json!({"cpu": "500m"}), json!({"memory": "1Gi", "nvidia.com/gpu": 1})), resources(json!({"cpu": "250m"}), json!({}))],
            "overhead": {"cpu": "50m"},
        });
        let workload = json!({"spec": {"replicas": 2, "template": {"spec": pod}}});
        let expected = [
            ("pods", "2"),
            ("requests.cpu", "4300m"),
            ("cpu", "4300m"),
            ("requests.memory", "2Gi"),
            ("limits.memory", "2Gi"),
            ("requests.nvidia.com/gpu", "2"),
        ];
        assert_is(&usage("apps", "Deployment", workload.clone()), &expected);
        assert_is(&usage("argoproj.io", "Rollout", workload), &[("pods", "2")]);
        for idle in [json!({"suspend": true}), json!({"parallelism": 0})] {
            let mut job = json!({"spec": idle});
            job["spec"]["template"] = json!({"spec": pod});
            assert_is(&usage("batch", "Job", job), &[("pods", "0"), ("count/jobs.batch", "1")]);
        }
        let job = json!({"spec": {"parallelism": 5, "completions": 2, "template": {"spec": pod}}});
        assert_is(&usage("batch", "Job", job), &[("pods", "2")]);
    }

    #[test]
    fn a_change_uses_the_difference() {
        let deployment =
            |replicas: u64| usage("apps", "Deployment", json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": []}}}}));
        let grown = deployment(3) - deployment(1);
        assert_is(&grown, &[("pods", "2"), ("count/deployments.apps", "0")]);
        assert!(grown.grows() && !(deployment(1) - deployment(3)).grows() && !(deployment(1) - deployment(1)).grows());
    }

    #[test]
    fn a_pod_that_leaves_open_what_is_counted_is_seen() {
        let of = |resources: Value| json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"template": {"spec": {"containers": [{"resources": resources}]}}}});
        assert!(leaves_open(&of(json!({})), "requests.cpu") && leaves_open(&of(json!({"requests": {"cpu": "1"}})), "limits.cpu"));
        assert!(!leaves_open(&of(json!({"limits": {"cpu": "1"}})), "requests.cpu") && !leaves_open(&of(json!({})), "services"));
    }
}
