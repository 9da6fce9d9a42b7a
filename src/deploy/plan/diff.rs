//! What a dry run would change: pointers to fields, and their values before and after.

use serde_json::Value;

use crate::api::plan::{MAX_FIELDS, MAX_POINTER};

/// A field that changes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    /// The field, as a JSON pointer.
    pub(crate) field: String,
    /// The current value; null if there is none, and also if the pointer was cut.
    pub(crate) old: Value,
    /// The future value.
    pub(crate) new: Value,
}

/// Fields of the metadata that the API server maintains.
const SERVER_METADATA: [&str; 5] = ["managedFields", "resourceVersion", "generation", "creationTimestamp", "uid"];
/// An annotation that the deployment controller maintains.
const REVISION: &str = "deployment.kubernetes.io/revision";

/// The fields that differ between the object as it is and as a dry run would leave it, as JSON pointers.
///
/// Fields that the server and controllers maintain are left out: `status`, managed fields, versions, times, the deployment controller's
/// revision. At most [`MAX_FIELDS`] pointers of at most [`MAX_POINTER`] characters; a longer one is cut back to the parent that fits. An
/// empty result means that applying would change nothing.
pub(crate) fn changed_fields(live: &Value, dry_run: &Value) -> Vec<String> {
    changes(live, dry_run).into_iter().map(|change| change.field).collect()
}

/// The same with the values.
pub(crate) fn changes(live: &Value, dry_run: &Value) -> Vec<Change> {
    let mut found = Vec::new();
    let empty = Value::Null;
    for key in keys(live, dry_run) {
        let (before, after) = (live.get(&key).unwrap_or(&empty), dry_run.get(&key).unwrap_or(&empty));
        match key.as_str() {
            // Items of a list have neither.
            "status" | "apiVersion" | "kind" => {}
            "metadata" => metadata(before, after, &mut found),
            _ => compare(&child("", &key), before, after, &mut found),
        }
    }
    found
}

fn metadata(before: &Value, after: &Value, found: &mut Vec<Change>) {
    let empty = Value::Null;
    for key in keys(before, after) {
        let (before, after) = (before.get(&key).unwrap_or(&empty), after.get(&key).unwrap_or(&empty));
        let pointer = child("/metadata", &key);
        if key == "annotations" {
            for annotation in keys(before, after).into_iter().filter(|a| a != REVISION) {
                compare(
                    &child(&pointer, &annotation),
                    before.get(&annotation).unwrap_or(&empty),
                    after.get(&annotation).unwrap_or(&empty),
                    found,
                );
            }
        } else if !SERVER_METADATA.contains(&key.as_str()) {
            compare(&pointer, before, after, found);
        }
    }
}

fn compare(pointer: &str, before: &Value, after: &Value, found: &mut Vec<Change>) {
    if found.len() >= MAX_FIELDS || before == after {
        return;
    }
    let empty = Value::Null;
    match (before, after) {
        (Value::Object(_), Value::Object(_)) => {
            for key in keys(before, after) {
                compare(&child(pointer, &key), before.get(&key).unwrap_or(&empty), after.get(&key).unwrap_or(&empty), found);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            for index in 0..old.len().max(new.len()) {
                compare(&child(pointer, &index.to_string()), old.get(index).unwrap_or(&empty), new.get(index).unwrap_or(&empty), found);
            }
        }
        _ => {
            let field = bounded(pointer);
            let is_whole = field == pointer;
            if found.last().is_none_or(|last| last.field != field) {
                let value = |value: &Value| if is_whole { value.clone() } else { Value::Null };
                found.push(Change { field, old: value(before), new: value(after) });
            }
        }
    }
}

fn keys(a: &Value, b: &Value) -> Vec<String> {
    let mut keys: Vec<String> = [a, b].into_iter().filter_map(Value::as_object).flat_map(|map| map.keys().cloned()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn bounded(pointer: &str) -> String {
    let mut pointer = pointer;
    while pointer.chars().count() > MAX_POINTER {
        pointer = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    }
    pointer.to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_server_keeps_is_no_change() {
        let live = json!({"metadata": {"name": "x", "uid": "1", "resourceVersion": "5", "generation": 1, "creationTimestamp": "t", "managedFields": [],
            "annotations": {"deployment.kubernetes.io/revision": "3"}}, "spec": {"replicas": 1}, "status": {"replicas": 1}});
        let dry = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x", "uid": "1", "resourceVersion": "5", "generation": 2,
            "creationTimestamp": "t", "managedFields": [{}]}, "spec": {"replicas": 1}});
        assert!(changed_fields(&live, &dry).is_empty());
    }

    #[test]
    fn changes_are_pointers_and_never_values() {
        let live = json!({"metadata": {"labels": {"a": "1"}, "annotations": {"k/x": "1"}}, "data": {"A/B": "old", "gone": "x"},
            "spec": {"containers": [{"name": "a", "image": "a:1"}]}});
        let dry = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"k/x": "2"}}, "data": {"A/B": "canary"},
            "spec": {"containers": [{"name": "a", "image": "a:2"}, {"name": "b", "image": "b:1"}]}});
        assert_eq!(
            changed_fields(&live, &dry),
            [
                "/data/A~1B",
                "/data/gone",
                "/metadata/annotations/k~1x",
                "/metadata/labels/b",
                "/spec/containers/0/image",
                "/spec/containers/1"
            ]
        );
    }

    #[test]
    fn an_empty_map_is_something_and_null_is_nothing() {
        let issuer = |spec: Value| json!({"spec": spec});
        assert_eq!(changed_fields(&issuer(json!({})), &issuer(json!({"selfSigned": {}}))), ["/spec/selfSigned"]);
        assert_eq!(changed_fields(&issuer(json!({"rules": []})), &issuer(json!({}))), ["/spec/rules"]);
        assert!(changed_fields(&issuer(json!({"at": null})), &issuer(json!({}))).is_empty());
    }

    #[test]
    fn values_are_those_before_and_after() {
        let change = |old: Value, new: Value| changes(&json!({"spec": {"replicas": old}}), &json!({"spec": {"replicas": new}}));
        let expected = |old: Value, new: Value| vec![Change { field: "/spec/replicas".into(), old, new }];
        assert_eq!(change(json!(1), json!(2)), expected(json!(1), json!(2)));
        assert_eq!(change(Value::Null, json!(2)), expected(Value::Null, json!(2)));
        let long = "k".repeat(600);
        let cut = changes(&json!({"data": {(long.clone()): "1"}}), &json!({"data": {(long): "2"}}));
        assert_eq!(cut, [Change { field: "/data".into(), old: Value::Null, new: Value::Null }], "of what is not named no value is shown");
    }

    #[test]
    fn pointers_are_bounded_in_number_and_length() {
        let many: serde_json::Map<String, Value> = (0..40).map(|i| (format!("k{i}"), json!(i))).collect();
        assert_eq!(changed_fields(&json!({"data": {"x": 1}}), &json!({"data": many})).len(), MAX_FIELDS);
        let long = "k".repeat(600);
        assert_eq!(changed_fields(&json!({"data": {(long.clone()): "1"}}), &json!({"data": {(long): "2"}})), ["/data"]);
    }
}
