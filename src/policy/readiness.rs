//! Whether any object at all is ready, by what the objects of all kinds have in common.

use serde_json::Value;

/// The conditions that make an object without a named one ready, in the order in which they are believed.
const SUMMARIES: [&str; 2] = ["Ready", "Available"];

/// `Ok` where the object is ready; otherwise why it is not. With a named `condition` that one must be `True`; without one, nothing may
/// speak against it: a deletion, an older generation, `Stalled`, `Reconciling`, or a summary condition that is not `True`
/// (the rules of kstatus for kinds that it does not know).
///
/// # Errors
/// Why it is not ready.
pub fn of(object: &Value, condition: Option<&str>) -> Result<(), String> {
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
    if let Some(type_) = condition {
        return match state(status, type_) {
            Some("True") => Ok(()),
            Some(other) => Err(format!("has condition {type_}={other}{}", reason(status, type_))),
            None => Err(format!("has no condition {type_} yet")),
        };
    }
    for type_ in ["Stalled", "Reconciling"] {
        if state(status, type_) == Some("True") {
            return Err(format!("has condition {type_}=True{}", reason(status, type_)));
        }
    }
    match SUMMARIES.iter().find_map(|type_| state(status, type_).map(|s| (*type_, s))) {
        None | Some((_, "True")) => Ok(()),
        Some((type_, other)) => Err(format!("has condition {type_}={other}{}", reason(status, type_))),
    }
}

fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|c| c["type"] == type_)
}

fn state<'a>(status: &'a Value, type_: &str) -> Option<&'a str> {
    condition(status, type_)?["status"].as_str()
}

/// The condition's reason alone: messages of other controllers may hold anything.
fn reason(status: &Value, type_: &str) -> String {
    condition(status, type_).and_then(|c| c["reason"].as_str()).map(|r| format!(" ({r})")).unwrap_or_default()
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
