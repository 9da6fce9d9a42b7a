//! Whether an object that another controller manages is ready.

use serde_json::Value;

use crate::cluster::kstatus::{Health, assess};

/// `Ok` if the object is ready; otherwise why it is not. With a named `condition`, that one must be `True`, on the object's generation.
/// Without one, the object must be current by the rules of kstatus, like the objects of a deployment.
///
/// # Errors
/// Why it is not ready.
pub(crate) fn of(object: &Value, condition: Option<&str>) -> Result<(), String> {
    let Some(type_) = condition else {
        return match assess(object) {
            Health::Current => Ok(()),
            Health::InProgress(what) | Health::Failed(what) => Err(format!("is not ready: {what}")),
        };
    };
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Err("is being deleted".to_owned());
    }
    let status = &object["status"];
    let (generation, observed) = (object["metadata"]["generation"].as_i64(), status["observedGeneration"].as_i64());
    if let (Some(generation), Some(observed)) = (generation, observed)
        && observed < generation
    {
        return Err(format!("has generation {generation}, and its controller has looked at {observed} only"));
    }
    let found = status["conditions"].as_array().and_then(|all| all.iter().find(|c| c["type"] == type_));
    match found.map(|c| (c["status"].as_str().unwrap_or("Unknown"), c["reason"].as_str())) {
        Some(("True", _)) => Ok(()),
        // Only the reason: messages of other controllers may contain anything.
        Some((other, Some(reason))) => Err(format!("has condition {type_}={other} ({reason})")),
        Some((other, None)) => Err(format!("has condition {type_}={other}")),
        None => Err(format!("has no condition {type_} yet")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_named_condition_must_be_true_on_the_current_generation() {
        let object = |status: &str, observed: i64| json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": [{"type": "Ready", "status": status, "reason": "Why"}]}});
        assert_eq!(of(&object("True", 2), Some("Ready")), Ok(()));
        assert_eq!(of(&object("False", 2), Some("Ready")), Err("has condition Ready=False (Why)".into()));
        assert!(of(&object("True", 1), Some("Ready")).is_err());
        assert_eq!(of(&object("True", 2), Some("Healthy")), Err("has no condition Healthy yet".into()));
    }

    #[test]
    fn without_a_named_condition_nothing_may_speak_against_it() {
        let with = |type_: &str, status: &str| json!({"status": {"conditions": [{"type": type_, "status": status}]}});
        assert_eq!(of(&json!({}), None), Ok(()), "a ConfigMap exists, and that is all");
        assert_eq!(of(&with("Available", "True"), None), Ok(()));
        for (type_, status) in [("Available", "False"), ("Ready", "Unknown"), ("Reconciling", "True"), ("Stalled", "True")] {
            assert!(of(&with(type_, status), None).is_err(), "{type_}={status}");
        }
        assert!(of(&json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), None).is_err());
    }
}
