//! Why the pods of a workload don't start, from the pods themselves: what a person would look for first.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::Selector;
use serde::Deserialize as _;
use serde_json::Value;

use crate::cluster::kstatus::{conditions, text};
use crate::cluster::object;

/// A workload's `spec.selector` as a list expects it; `None` if it would match nothing or everything.
pub(crate) fn selector(workload: &Value) -> Option<String> {
    let selector = LabelSelector::deserialize(workload.pointer("/spec/selector")?).ok()?;
    let selector = Selector::try_from(selector).ok()?;
    (!selector.selects_all()).then(|| selector.to_string())
}

/// Why these pods are not ready; each reason once, with the first pod that has it.
///
/// The output of containers, including their last words, is left out: it may contain anything.
pub(crate) fn reasons(pods: &[Value]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut reasons = Vec::new();
    for pod in pods.iter().filter(|pod| !object::is_being_deleted(pod)) {
        let name = object::metadata(pod, "name").unwrap_or_default();
        for (same, reason) in of_pod(pod) {
            if seen.insert(same) {
                reasons.push(format!("pod {name}: {reason}"));
            }
        }
    }
    reasons
}

/// Each reason, with a key by which equal ones are recognized.
fn of_pod(pod: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for condition in conditions(pod).filter(|c| text(c, "type") == "PodScheduled" && text(c, "status") == "False") {
        let reason = format!("{}: {}", text(condition, "reason"), text(condition, "message"));
        found.push((reason.clone(), reason));
    }
    for field in ["initContainerStatuses", "containerStatuses"] {
        for container in pod.get("status").and_then(|s| s.get(field)).and_then(Value::as_array).into_iter().flatten() {
            let name = text(container, "name");
            let last = container.pointer("/lastState/terminated").or_else(|| container.pointer("/state/terminated"));
            let ended = last.and_then(|state| {
                let code = state.get("exitCode").and_then(Value::as_i64)?;
                (code != 0).then(|| format!("it ended with {} (exit code {code})", text(state, "reason")))
            });
            match (container.pointer("/state/waiting"), ended) {
                (Some(waiting), ended) if !matches!(text(waiting, "reason"), "ContainerCreating" | "PodInitializing" | "") => {
                    let reason = text(waiting, "reason");
                    let ended = ended.map(|ended| format!("; {ended}")).unwrap_or_default();
                    found.push((
                        format!("{name} {reason}"),
                        format!("container {name} waits: {reason}: {}{ended}", text(waiting, "message")),
                    ));
                }
                (_, Some(ended)) => found.push((format!("{name} {ended}"), format!("container {name}: {ended}"))),
                _ => {}
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_becomes_the_text_that_a_list_takes() {
        let workload = json!({"spec": {"selector": {"matchLabels": {"app": "orders"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]}}});
        assert_eq!(selector(&workload).as_deref(), Some("app=orders,tier in (a,b),!old"));
        assert_eq!(selector(&json!({"spec": {"selector": {}}})), None);
        assert_eq!(selector(&json!({"spec": {}})), None);
    }

    #[test]
    fn the_reasons_of_pods_are_named_once_each_and_quote_no_output() {
        let pulling = |name: &str| {
            json!({"metadata": {"name": name}, "status": {"phase": "Pending", "containerStatuses":
            [{"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image \"x:1\""}}}]}})
        };
        let crashing = json!({"metadata": {"name": "c"}, "status": {"containerStatuses": [{"name": "app",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "canary"}}}]}});
        let unscheduled = json!({"metadata": {"name": "d"}, "status": {"conditions":
            [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]}});
        let starting = json!({"metadata": {"name": "e"}, "status": {"containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}]}});
        assert_eq!(
            reasons(&[pulling("a"), pulling("b"), crashing, unscheduled, starting]),
            [
                "pod a: container app waits: ImagePullBackOff: Back-off pulling image \"x:1\"",
                "pod c: container app waits: CrashLoopBackOff: back-off 10s; it ended with Error (exit code 1)",
                "pod d: Unschedulable: 0/1 nodes are available",
            ]
        );
    }
}
