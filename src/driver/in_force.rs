//! Whether Pilotage's admission policies are in force: without them anybody could decide anything, so nothing deploys.

use serde::Serialize;
use serde_json::Value;

use super::stores::Stores;

/// The policies that must be in force, as they are installed. That of namespaces guards against accidents only.
const INSTALLED: &[&str] = &[
    include_str!("../../deploy/admission/environment.yaml"),
    include_str!("../../deploy/admission/operator.yaml"),
    include_str!("../../deploy/admission/pipeline.yaml"),
    include_str!("../../deploy/admission/records.yaml"),
    include_str!("../../deploy/admission/request-change.yaml"),
    include_str!("../../deploy/admission/request-create.yaml"),
    include_str!("../../deploy/admission/request-status.yaml"),
    include_str!("../../deploy/admission/stage.yaml"),
];

/// Judges by what the caches hold.
pub fn by_caches(stores: &Stores) -> bool {
    let mut live = Vec::new();
    collect("ValidatingAdmissionPolicy", &stores.validating_policies.state(), &mut live);
    collect("ValidatingAdmissionPolicyBinding", &stores.validating_bindings.state(), &mut live);
    collect("MutatingAdmissionPolicy", &stores.mutating_policies.state(), &mut live);
    collect("MutatingAdmissionPolicyBinding", &stores.mutating_bindings.state(), &mut live);
    let missing = missing(&expected(), &live);
    if !missing.is_empty() {
        tracing::warn!(missing = missing.join(", "), "admission policies of Pilotage are not in force");
    }
    missing.is_empty()
}

/// What must be in force, and is not there or says less: `Kind name`.
fn missing(expected: &[Value], live: &[Value]) -> Vec<String> {
    let name = |object: &Value| object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned();
    expected
        .iter()
        .filter(|wanted| {
            !live.iter().any(|found| {
                found["kind"] == wanted["kind"]
                    && name(found) == name(wanted)
                    && found.pointer("/metadata/deletionTimestamp").is_none()
                    && contains(&found["spec"], &wanted["spec"])
            })
        })
        .map(|wanted| format!("{} {}", wanted["kind"].as_str().unwrap_or_default(), name(wanted)))
        .collect()
}

fn expected() -> Vec<Value> {
    INSTALLED.iter().flat_map(|text| serde_saphyr::from_multiple::<Value>(text).unwrap_or_default()).filter(|o| !o.is_null()).collect()
}

fn collect<K: Serialize>(kind: &str, objects: &[std::sync::Arc<K>], into: &mut Vec<Value>) {
    for object in objects {
        if let Ok(mut value) = serde_json::to_value(object.as_ref()) {
            // Items of a list do not repeat their kind.
            value["kind"] = kind.into();
            into.push(value);
        }
    }
}

/// Whether `live` says all that `wanted` says; the server adds defaults.
fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(key, value)| live.get(key).is_some_and(|l| contains(l, value))),
        (Value::Array(live), Value::Array(wanted)) => live.len() == wanted.len() && live.iter().zip(wanted).all(|(l, w)| contains(l, w)),
        (live, wanted) => live == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_policy_that_is_installed_is_expected_with_its_binding() {
        let expected = expected();
        let of = |kind: &str| expected.iter().filter(|o| o["kind"] == kind).count();
        assert!(of("ValidatingAdmissionPolicy") >= 8);
        assert_eq!(of("ValidatingAdmissionPolicy"), of("ValidatingAdmissionPolicyBinding"));
        assert_eq!(of("MutatingAdmissionPolicy"), of("MutatingAdmissionPolicyBinding"));
        assert!(missing(&expected, &expected).is_empty());
    }

    #[test]
    fn a_policy_that_was_removed_or_weakened_is_missing() {
        let all = expected();
        assert_eq!(missing(&all, &all[1..]).len(), 1);
        let mut weakened = all.clone();
        let binding = weakened.iter_mut().find(|o| o["kind"] == "ValidatingAdmissionPolicyBinding").unwrap();
        binding["spec"]["validationActions"] = json!(["Audit"]);
        assert_eq!(missing(&all, &weakened).len(), 1);
        let mut defaulted = all.clone();
        defaulted[0]["spec"]["added"] = json!("by the server");
        assert!(missing(&all, &defaulted).is_empty());
    }
}
