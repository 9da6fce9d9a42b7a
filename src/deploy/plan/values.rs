//! The old and new values that a plan shows: bounded, and without secrets.

use serde_json::Value;

use crate::api::plan::{FieldChange, MAX_VALUE, PlannedObject};
use crate::cluster::redaction;
use crate::deploy::plan::diff;

/// The most bytes of all values and their fields in a plan: they share the status with much else.
const MAX_BYTES: usize = 64 * 1024;

/// The changed values between the object as it is and as it would be. If one of the two is not known, there are no values: the values of a
/// new object are those of the artifact.
pub(crate) fn of(live: Option<&Value>, would_be: Option<&Value>) -> Vec<FieldChange> {
    let (Some(live), Some(would_be)) = (live, would_be) else { return Vec::new() };
    // Secrets are never deployed. This line is for the case that somebody allows them later.
    if would_be.get("kind").is_some_and(|kind| kind == "Secret") {
        return Vec::new();
    }
    diff::changes(live, would_be)
        .into_iter()
        .filter(|change| !(change.old.is_null() && change.new.is_null()))
        .map(|change| {
            let shown = |value: &Value, object: &Value| {
                (!value.is_null()).then(|| redaction::shown(&named(&change.field, object), value, MAX_VALUE))
            };
            FieldChange { old: shown(&change.old, live), new: shown(&change.new, would_be), field: change.field }
        })
        .collect()
}

/// The pointer to a value, or the pointer to the environment variable's name if it is the variable's value.
fn named(pointer: &str, object: &Value) -> String {
    let variable = pointer.strip_suffix("/value").and_then(|holder| object.pointer(holder)?.get("name")?.as_str());
    variable.map_or_else(|| pointer.to_owned(), |name| format!("{pointer}/{name}"))
}

/// Keeps as many values as there is room for, and returns how many fields have none.
pub(crate) fn bound(objects: &mut [PlannedObject]) -> usize {
    let mut room = MAX_BYTES;
    let mut omitted = 0;
    for object in objects {
        let before = object.fields.len();
        object.changes.retain(|change| {
            let size = serde_json::to_vec(change).map_or(MAX_BYTES, |json| json.len());
            let fits = size <= room;
            room = if fits { room - size } else { 0 };
            fits
        });
        omitted += before.saturating_sub(object.changes.len());
    }
    omitted
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::plan::PlannedAction;

    #[test]
    fn values_before_and_after_are_shown() {
        let live = json!({"kind": "ConfigMap", "data": {"a": "1", "gone": "x"}});
        let would_be = json!({"kind": "ConfigMap", "data": {"a": "2", "new": "y"}});
        let change = |field: &str, old: Option<&str>, new: Option<&str>| FieldChange {
            field: field.into(),
            old: old.map(str::to_owned),
            new: new.map(str::to_owned),
        };
        assert_eq!(
            of(Some(&live), Some(&would_be)),
            [change("/data/a", Some("1"), Some("2")), change("/data/gone", Some("x"), None), change("/data/new", None, Some("y"))]
        );
        assert_eq!(of(None, Some(&would_be)), []);
        let secret = |value: &str| json!({"kind": "Secret", "data": {"a": value}});
        assert_eq!(of(Some(&secret("1")), Some(&secret("2"))), [], "never of Secrets");
    }

    #[test]
    fn the_value_of_a_variable_that_is_named_as_secrets_are_is_hidden() {
        let with = |value: &str| json!({"spec": {"env": [{"name": "DB_PASSWORD", "value": value}, {"name": "LEVEL", "value": value}]}});
        let changes = of(Some(&with("1")), Some(&with("2")));
        assert_eq!((changes[0].old.as_deref(), changes[0].new.as_deref()), (Some("(hidden)"), Some("(hidden)")));
        assert_eq!((changes[1].field.as_str(), changes[1].new.as_deref()), ("/spec/env/1/value", Some("2")));
    }

    #[test]
    fn all_values_together_are_bounded() {
        let long = |c: &str| Some(c.repeat(MAX_VALUE));
        let change = |n: usize| FieldChange { field: format!("/data/{n}"), old: long("é"), new: long("é") };
        let object = |n: usize| PlannedObject {
            action: PlannedAction::Update,
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: n.to_string(),
            cluster_scoped: false,
            fields: (0..16).map(|n| format!("/data/{n}")).collect(),
            changes: (0..16).map(change).collect(),
        };
        let mut objects: Vec<PlannedObject> = (0..200).map(object).collect();
        let omitted = bound(&mut objects);
        let kept: usize = objects.iter().map(|o| o.changes.len()).sum();
        assert_eq!(kept + omitted, 200 * 16);
        assert!(kept > 30 && serde_json::to_vec(&objects.iter().map(|o| &o.changes).collect::<Vec<_>>()).unwrap().len() < 66 * 1024);
    }
}
