//! Objects that their own spec holds back: paused, suspended, or changed only by hand. They match their spec but don't do what somebody
//! deploys them for. People are told so, because silent waiting would hide it.

use serde_json::Value;

use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::cluster::errors;
use crate::cluster::object::{self, Key};

/// The most objects that results name.
const NAMED: usize = 16;

/// How an object is held back so that changes don't take effect before somebody resumes it.
pub(crate) fn rollout(group: &str, kind: &str, object: &Value) -> Option<String> {
    let is_paused = object.pointer("/spec/paused") == Some(&Value::Bool(true));
    match (group, kind) {
        ("apps", "Deployment") if is_paused => {
            Some("it is paused (spec.paused: true): new pods come when somebody resumes it (kubectl rollout resume)".to_owned())
        }
        _ if is_paused && object::is_custom(group) => {
            Some("it is paused (spec.paused: true): nothing comes of it until somebody resumes it".to_owned())
        }
        _ => None,
    }
}

/// How an object is held back that should do nothing now. In this state it counts as done.
pub(crate) fn suspended(group: &str, kind: &str, object: &Value) -> Option<&'static str> {
    let is_suspended = object.pointer("/spec/suspend") == Some(&Value::Bool(true));
    match (group, kind) {
        ("batch", "Job") if is_suspended && !has_ended(object) => {
            Some("is suspended (spec.suspend: true), paused until somebody resumes it: its pods do not run")
        }
        ("batch", "CronJob") if is_suspended => {
            Some("is suspended (spec.suspend: true), paused until somebody resumes it: it starts no Jobs")
        }
        _ if is_suspended && object::is_custom(group) => {
            Some("is suspended (spec.suspend: true), paused until somebody resumes it: its controller does nothing")
        }
        _ => None,
    }
}

/// How pods of the previous version can keep running under an object that counts as current.
pub(crate) fn by_hand(group: &str, kind: &str, object: &Value) -> Option<String> {
    if group != "apps" || !matches!(kind, "StatefulSet" | "DaemonSet") {
        return None;
    }
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let (wanted, updated) = if kind == "DaemonSet" {
        (number("/status/desiredNumberScheduled"), number("/status/updatedNumberScheduled"))
    } else {
        (number("/status/replicas"), number("/status/updatedReplicas"))
    };
    let on_delete = object.pointer("/spec/updateStrategy/type").and_then(Value::as_str) == Some("OnDelete");
    let is_partial = number("/spec/updateStrategy/rollingUpdate/partition") > 0;
    let why = match (on_delete, is_partial) {
        (true, _) => "which change when somebody deletes them (updateStrategy: OnDelete)",
        (false, true) => "as its partition says (updateStrategy.rollingUpdate.partition)",
        (false, false) => return None,
    };
    (updated < wanted).then(|| format!("has {updated} of {wanted} pods of the new version, {why}"))
}

/// The message about such an object that counts as current.
pub(crate) fn told(key: &Key, object: &Value) -> Option<String> {
    let (group, kind) = (key.group.as_str(), key.kind.as_str());
    let said = suspended(group, kind, object).map(str::to_owned).or_else(|| by_hand(group, kind, object))?;
    Some(format!("{key} {said}"))
}

/// Which of these objects are held back, as they will be; as results of a plan.
pub(crate) fn results<'a>(outcomes: impl Iterator<Item = (&'a Key, &'a Value)>) -> Vec<PlanResult> {
    let held = outcomes.filter_map(|(key, outcome)| {
        let (group, kind) = (key.group.as_str(), key.kind.as_str());
        let said = suspended(group, kind, outcome).map(|said| format!("{key} {said}"));
        let said =
            said.or_else(|| rollout(group, kind, outcome).map(|said| format!("{key}: {said}; until then the deployment waits for it")))?;
        Some(errors::result(key, Reason::Paused, &said))
    });
    held.take(NAMED).collect()
}

fn has_ended(job: &Value) -> bool {
    let conditions = job.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    let text = |condition: &Value, field: &str| condition.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    conditions.into_iter().any(|c| matches!(text(c, "type").as_str(), "Complete" | "Failed") && text(c, "status") == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_paused_or_suspended_says_so() {
        let paused = json!({"spec": {"paused": true}});
        assert!(rollout("apps", "Deployment", &paused).unwrap().contains("kubectl rollout resume"));
        assert!(rollout("argoproj.io", "Rollout", &paused).unwrap().starts_with("it is paused"));
        assert_eq!(rollout("apps", "StatefulSet", &paused), None, "there is no such field");
        assert_eq!(rollout("apps", "Deployment", &json!({"spec": {"paused": false}})), None);
        let suspended_ = json!({"spec": {"suspend": true}});
        for (group, kind) in [("batch", "Job"), ("batch", "CronJob"), ("kustomize.toolkit.fluxcd.io", "Kustomization")] {
            assert!(suspended(group, kind, &suspended_).is_some_and(|said| said.contains("paused")), "{kind}");
            assert_eq!(suspended(group, kind, &json!({"spec": {}})), None);
        }
        let failed = json!({"spec": {"suspend": true}, "status": {"conditions": [{"type": "Failed", "status": "True"}]}});
        assert_eq!(suspended("batch", "Job", &failed), None);
    }

    #[test]
    fn pods_of_the_former_version_are_told_where_they_stay() {
        let set = |strategy: serde_json::Value, updated: u64| {
            let object = json!({"spec": {"updateStrategy": strategy}, "status": {"replicas": 3, "updatedReplicas": updated}});
            by_hand("apps", "StatefulSet", &object)
        };
        assert!(set(json!({"type": "OnDelete"}), 1).unwrap().starts_with("has 1 of 3 pods of the new version, which change when"));
        assert!(set(json!({"rollingUpdate": {"partition": 2}}), 1).unwrap().contains("partition"));
        assert_eq!(set(json!({"type": "OnDelete"}), 3), None);
        assert_eq!(set(json!({"type": "RollingUpdate"}), 1), None);
        let daemons = json!({"spec": {"updateStrategy": {"type": "OnDelete"}}, "status": {"desiredNumberScheduled": 2}});
        assert!(by_hand("apps", "DaemonSet", &daemons).is_some());
    }
}
