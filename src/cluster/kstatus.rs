//! Whether an object has reached the state that its spec asks for, by the rules of kstatus (sigs.k8s.io/cli-utils). Flux, kpt and Config
//! Sync wait by the same rules.
//!
//! Three rules are stricter, because "current" ends a deployment here: a Job is current only when it has completed; a Pod that has failed
//! is a failure; and built-in workloads are not current before their controller has seen them. One rule is milder: an unschedulable Pod may
//! be waiting for a node that is being added, and fails only at the time-out.

use serde_json::Value;

use crate::cluster::object;
use crate::cluster::paused;

/// The state of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It is as its spec asks for.
    Current,
    /// It is in progress; what it waits for.
    InProgress(String),
    /// It will not get there by itself; the reason.
    Failed(String),
}

/// The state of one object, from its own fields.
pub(crate) fn assess(object: &Value) -> Health {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    let group = object.get("apiVersion").and_then(Value::as_str).map_or("", object::group_of);
    assess_as(group, kind, object)
}

/// The same for an item of a list, which does not say its kind.
pub(crate) fn assess_as(group: &str, kind: &str, object: &Value) -> Health {
    if object::is_being_deleted(object) {
        return waits("it is being deleted");
    }
    // An object that does nothing, as its spec asks for, is not waited for: its controller need not even look at it.
    if paused::suspended(group, kind, object).is_some() {
        return Health::Current;
    }
    match (judged(group, kind, object), paused::rollout(group, kind, object)) {
        (Health::InProgress(what), Some(paused)) => Health::InProgress(format!("{paused}; {what}")),
        (health, _) => health,
    }
}

fn judged(group: &str, kind: &str, object: &Value) -> Health {
    if let Some(generic) = generic(object) {
        return generic;
    }
    match (group, kind) {
        ("apps", "Deployment") => observed(object).unwrap_or_else(|| deployment(object)),
        ("apps", "StatefulSet") => observed(object).unwrap_or_else(|| stateful_set(object)),
        ("apps", "DaemonSet") => observed(object).unwrap_or_else(|| daemon_set(object)),
        ("apps", "ReplicaSet") => observed(object).unwrap_or_else(|| replica_set(object)),
        ("batch", "Job") => job(object),
        ("", "Pod") => pod(object),
        ("", "PersistentVolumeClaim") => volume_claim(object),
        ("", "Service") => service(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        // The conditions of these kinds don't say whether they are in force.
        ("autoscaling", "HorizontalPodAutoscaler")
        | ("networking.k8s.io", "Ingress")
        | ("policy", "PodDisruptionBudget")
        | ("batch", "CronJob")
        | ("", "ResourceQuota" | "ReplicationController") => Health::Current,
        _ => by_conditions(object),
    }
}

/// Whether objects of the kind are in force as soon as they are written. Then they need not be read again.
pub(crate) fn is_settled_by_writing(group: &str, kind: &str) -> bool {
    match group {
        "" => !matches!(kind, "Pod" | "PersistentVolumeClaim" | "Service" | "ReplicationController"),
        "rbac.authorization.k8s.io"
        | "networking.k8s.io"
        | "autoscaling"
        | "scheduling.k8s.io"
        | "storage.k8s.io"
        | "coordination.k8s.io" => true,
        "batch" => kind == "CronJob",
        _ => false,
    }
}

/// Whether a controller has reported on the object.
pub(crate) fn is_reported_on(object: &Value) -> bool {
    integer(object, "/status/observedGeneration").is_some() || conditions(object).next().is_some()
}

/// Whether a field in the object's status says which generation it is about.
pub(crate) fn tells_generation(object: &Value) -> bool {
    integer(object, "/status/observedGeneration").is_some() || conditions(object).any(|c| c.get("observedGeneration").is_some())
}

fn generic(object: &Value) -> Option<Health> {
    if let (Some(generation), Some(observed)) = (object::generation(object), integer(object, "/status/observedGeneration"))
        && observed != generation
    {
        return Some(waits(&format!("its controller has seen generation {observed} and not yet {generation}")));
    }
    if let Some(condition) = condition(object, "Reconciling", "True") {
        return Some(waits(&said(condition, "it is being reconciled")));
    }
    condition(object, "Stalled", "True").map(|condition| Health::Failed(said(condition, "it is stalled")))
}

/// Built-in controllers always report the generation that they have seen.
fn observed(object: &Value) -> Option<Health> {
    integer(object, "/status/observedGeneration").is_none().then(|| waits("its controller has not seen it yet"))
}

fn deployment(object: &Value) -> Health {
    if let Some(exceeded) = conditions(object).find(|c| text(c, "type") == "Progressing" && text(c, "reason") == "ProgressDeadlineExceeded")
    {
        let why = condition(object, "ReplicaFailure", "True").map(|c| format!(" ({})", said(c, ""))).unwrap_or_default();
        return Health::Failed(format!("{}{why}", said(exceeded, "its progress deadline was exceeded")));
    }
    if let Some(failure) = condition(object, "ReplicaFailure", "True") {
        return waits(&format!("its pods can't be created: {}", said(failure, "see its conditions")));
    }
    // If the deadline is unset (or unlimited), the controller does not write the condition. If the object is paused, it writes another one.
    let is_paused = object.pointer("/spec/paused") == Some(&Value::Bool(true));
    let is_progressing = is_paused
        || integer(object, "/spec/progressDeadlineSeconds").is_none_or(|seconds| seconds == i64::from(i32::MAX))
        || conditions(object)
            .any(|c| text(c, "type") == "Progressing" && text(c, "status") == "True" && text(c, "reason") == "NewReplicaSetAvailable");
    let wanted = integer(object, "/spec/replicas").unwrap_or(1);
    let (replicas, updated) = (count(object, "replicas"), count(object, "updatedReplicas"));
    let (ready, available) = (count(object, "readyReplicas"), count(object, "availableReplicas"));
    if wanted > replicas {
        waits(&format!("{replicas} of {wanted} pods exist"))
    } else if wanted > updated {
        waits(&format!("{updated} of {wanted} pods are of the new version"))
    } else if replicas > wanted {
        waits(&format!("{} old pods still run", replicas - wanted))
    } else if updated > available {
        waits(&format!("{available} of {updated} pods are available"))
    } else if wanted > ready {
        waits(&format!("{ready} of {wanted} pods are ready"))
    } else if !is_progressing {
        waits("its new ReplicaSet is not available yet")
    } else if condition(object, "Available", "True").is_none() {
        waits("it is not available yet")
    } else {
        Health::Current
    }
}

fn stateful_set(object: &Value) -> Health {
    if object.pointer("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete") {
        return Health::Current;
    }
    let wanted = integer(object, "/spec/replicas").unwrap_or(1);
    let (replicas, ready) = (count(object, "replicas"), count(object, "readyReplicas"));
    let (current, updated) = (count(object, "currentReplicas"), count(object, "updatedReplicas"));
    let partition = integer(object, "/spec/updateStrategy/rollingUpdate/partition").filter(|partition| *partition > 0);
    if wanted > replicas {
        return waits(&format!("{replicas} of {wanted} pods exist"));
    } else if wanted > ready {
        return waits(&format!("{ready} of {wanted} pods are ready"));
    } else if replicas > wanted {
        return waits(&format!("{} pods are still to end", replicas - wanted));
    }
    if let Some(partition) = partition {
        let wanted = wanted - partition;
        return if updated < wanted { waits(&format!("{updated} of {wanted} pods are of the new version")) } else { Health::Current };
    }
    if object.pointer("/status/currentRevision") != object.pointer("/status/updateRevision") {
        waits(&format!("{updated} of {wanted} pods are of the new version"))
    } else if wanted > current {
        waits(&format!("{current} of {wanted} pods are of the current version"))
    } else {
        Health::Current
    }
}

fn daemon_set(object: &Value) -> Health {
    let Some(wanted) = integer(object, "/status/desiredNumberScheduled") else {
        return waits("its controller has not counted the nodes yet");
    };
    let on_delete = object.pointer("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete");
    for (field, what) in [
        ("currentNumberScheduled", "have its pod"),
        ("updatedNumberScheduled", "have its new pod"),
        ("numberAvailable", "have an available pod"),
        ("numberReady", "have a ready pod"),
    ] {
        let have = count(object, field);
        if wanted > have && !(on_delete && field == "updatedNumberScheduled") {
            return waits(&format!("{have} of {wanted} nodes {what}"));
        }
    }
    Health::Current
}

fn replica_set(object: &Value) -> Health {
    if let Some(failure) = condition(object, "ReplicaFailure", "True") {
        return waits(&format!("its pods can't be created: {}", said(failure, "see its conditions")));
    }
    let wanted = integer(object, "/spec/replicas").unwrap_or(1);
    for (field, what) in [("fullyLabeledReplicas", "labelled"), ("availableReplicas", "available"), ("readyReplicas", "ready")] {
        let have = count(object, field);
        if wanted > have {
            return waits(&format!("{have} of {wanted} pods are {what}"));
        }
    }
    let replicas = count(object, "replicas");
    if replicas > wanted { waits(&format!("{} pods are still to end", replicas - wanted)) } else { Health::Current }
}

fn job(object: &Value) -> Health {
    if let Some(failed) = condition(object, "Failed", "True") {
        return Health::Failed(format!("it failed: {}", said(failed, "see its pods")));
    }
    if condition(object, "Complete", "True").is_some() || condition(object, "Suspended", "True").is_some() {
        return Health::Current;
    }
    if object.pointer("/status/startTime").is_none() {
        return waits("it has not started yet");
    }
    waits(&format!(
        "it runs: {} pods succeeded, {} active, {} failed",
        count(object, "succeeded"),
        count(object, "active"),
        count(object, "failed")
    ))
}

fn pod(object: &Value) -> Health {
    match object.pointer("/status/phase").and_then(Value::as_str) {
        Some("Succeeded") => Health::Current,
        Some("Failed") => Health::Failed(format!(
            "it failed: {}",
            object.pointer("/status/reason").and_then(Value::as_str).unwrap_or("a container ended with an error")
        )),
        Some("Running") if condition(object, "Ready", "True").is_some() => Health::Current,
        Some("Running") => {
            let crashing: Vec<&str> = object
                .pointer("/status/containerStatuses")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter(|c| c.pointer("/state/waiting/reason").and_then(Value::as_str) == Some("CrashLoopBackOff"))
                .map(|c| text(c, "name"))
                .collect();
            if crashing.is_empty() {
                waits("it runs and is not ready")
            } else {
                Health::Failed(format!("containers crash again and again: {}", crashing.join(", ")))
            }
        }
        Some("Pending") => match condition(object, "PodScheduled", "False") {
            Some(unscheduled) => waits(&format!("no node takes it: {}", said(unscheduled, "not scheduled"))),
            None => waits("it is pending"),
        },
        _ => waits("no node has reported on it yet"),
    }
}

fn volume_claim(object: &Value) -> Health {
    match object.pointer("/status/phase").and_then(Value::as_str) {
        Some("Bound") => Health::Current,
        phase => waits(&format!("it is {} and not bound to a volume", phase.unwrap_or("new"))),
    }
}

fn service(object: &Value) -> Health {
    let is_balanced = object.pointer("/spec/type").and_then(Value::as_str) == Some("LoadBalancer");
    let address = object.pointer("/spec/clusterIP").and_then(Value::as_str).unwrap_or_default();
    if is_balanced && address.is_empty() { waits("it has no cluster IP yet") } else { Health::Current }
}

fn definition(object: &Value) -> Health {
    if let Some(refused) = condition(object, "NamesAccepted", "False") {
        return Health::Failed(said(refused, "its names are taken"));
    }
    match condition_of_type(object, "Established") {
        Some(c) if text(c, "status") == "True" => Health::Current,
        Some(c) if text(c, "status") == "False" && text(c, "reason") != "Installing" => Health::Failed(said(c, "it can't be established")),
        _ => waits("it is being installed"),
    }
}

/// Custom resources: `Ready` or `Available` counts, if they have it. A resource without conditions is current.
fn by_conditions(object: &Value) -> Health {
    // Perhaps only the other conditions say which generation they are about.
    let spoken_of = conditions(object).filter_map(|c| c.get("observedGeneration").and_then(Value::as_i64)).max();
    if let (Some(generation), Some(seen)) = (object::generation(object), spoken_of)
        && seen < generation
    {
        return waits(&format!("its conditions speak of generation {seen} and not yet of {generation}"));
    }
    for type_ in ["Ready", "Available"] {
        let Some(condition) = condition_of_type(object, type_) else { continue };
        let generations = (object::generation(object), condition.get("observedGeneration").and_then(Value::as_i64));
        if let (Some(generation), Some(seen)) = generations
            && seen < generation
        {
            return waits(&format!("its condition {type_} speaks of generation {seen} and not yet of {generation}"));
        }
        if text(condition, "status") != "True" {
            return waits(&format!("{type_} is {}: {}", text(condition, "status"), said(condition, "no reason given")));
        }
    }
    Health::Current
}

fn waits(what: &str) -> Health {
    Health::InProgress(what.to_owned())
}

/// What a condition says, in its own words.
fn said(condition: &Value, otherwise: &str) -> String {
    match (text(condition, "reason"), text(condition, "message")) {
        ("", "") => otherwise.to_owned(),
        ("", message) => message.to_owned(),
        (reason, "") => reason.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

pub(crate) fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

fn condition_of_type<'a>(object: &'a Value, type_: &str) -> Option<&'a Value> {
    conditions(object).find(|c| text(c, "type") == type_)
}

fn condition<'a>(object: &'a Value, type_: &str, status: &str) -> Option<&'a Value> {
    condition_of_type(object, type_).filter(|c| text(c, "status") == status)
}

pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn integer(object: &Value, pointer: &str) -> Option<i64> {
    object.pointer(pointer)?.as_i64()
}

fn count(object: &Value, field: &str) -> i64 {
    object.get("status").and_then(|s| s.get(field)).and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
