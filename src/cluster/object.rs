//! Objects of a target: their identity and their metadata.

use std::fmt;

use kube::core::ApiResource;
use serde_json::Value;

use crate::api::artifact::ArtifactObject;

/// The deepest nesting of an object.
pub(crate) const DEEPEST: usize = 100;

/// Identifies an object in a namespace, in any API version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    /// The API group; empty for the core group.
    pub(crate) group: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

impl Key {
    /// The key of an object; parts that it lacks are empty.
    pub(crate) fn of(object: &Value) -> Self {
        Self { group: group(object).to_owned(), kind: kind(object).to_owned(), name: name(object).to_owned() }
    }
}

impl From<ArtifactObject> for Key {
    fn from(object: ArtifactObject) -> Self {
        Self { group: group_of(&object.api_version).to_owned(), kind: object.kind, name: object.name }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A kind as a cluster serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Served {
    pub(crate) resource: ApiResource,
    /// Whether its objects are namespaced; otherwise they are cluster-scoped.
    pub(crate) is_namespaced: bool,
}

impl Served {
    /// A namespaced kind.
    pub(crate) fn in_namespaces(resource: ApiResource) -> Self {
        Self { resource, is_namespaced: true }
    }
}

impl From<(ApiResource, bool)> for Served {
    fn from((resource, is_namespaced): (ApiResource, bool)) -> Self {
        Self { resource, is_namespaced }
    }
}

/// An object that should be in the target, with the kind that serves it.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) key: Key,
    pub(crate) served: Served,
    /// The manifest as it is sent: the one from the bundle, with the label of the set.
    pub(crate) body: Value,
}

/// The group of an `apiVersion`; empty for the core group.
pub(crate) fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// Whether a group is of custom kinds.
pub(crate) fn is_custom(group: &str) -> bool {
    group.contains('.') && !group.ends_with(".k8s.io")
}

/// `apiVersion`, or nothing.
pub(crate) fn api_version(object: &Value) -> &str {
    object.get("apiVersion").and_then(Value::as_str).unwrap_or_default()
}

/// The API group; empty for the core group.
pub(crate) fn group(object: &Value) -> &str {
    group_of(api_version(object))
}

/// `kind`, or nothing.
pub(crate) fn kind(object: &Value) -> &str {
    object.get("kind").and_then(Value::as_str).unwrap_or_default()
}

/// `metadata.name`, or nothing.
pub(crate) fn name(object: &Value) -> &str {
    metadata(object, "name").unwrap_or_default()
}

/// A text field of an object's metadata.
pub(crate) fn metadata<'a>(object: &'a Value, field: &str) -> Option<&'a str> {
    object.get("metadata")?.get(field)?.as_str()
}

/// A label of an object.
pub(crate) fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(key)?.as_str()
}

/// An annotation of an object.
pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get("metadata")?.get("annotations")?.get(key)?.as_str()
}

/// The object's generation; kinds without a spec, such as `ConfigMap`, have none.
pub(crate) fn generation(object: &Value) -> Option<i64> {
    object.get("metadata")?.get("generation")?.as_i64()
}

/// Whether the object waits for its finalizers or its grace period to end.
pub(crate) fn is_being_deleted(object: &Value) -> bool {
    metadata(object, "deletionTimestamp").is_some()
}

/// The finalizers that must be removed before the object is gone.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let listed = object.get("metadata").and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Whether a controller made the object from another one. An example is the `EndpointSlice` of a Service, which inherits the Service's
/// labels. Such objects are created and deleted with their owner.
pub(crate) fn is_controlled(object: &Value) -> bool {
    controller(object).is_some()
}

/// Kind and name of the object from which a controller made this one, if it did.
pub(crate) fn controller(object: &Value) -> Option<String> {
    let owners = object.get("metadata")?.get("ownerReferences")?.as_array()?;
    let owner = owners.iter().find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true))?;
    let field = |name: &str| owner.get(name).and_then(Value::as_str).unwrap_or_default();
    Some(format!("{} {}", field("kind"), field("name")))
}

/// Whether two readings are of the same object in the same state.
pub(crate) fn same_state(a: &Value, b: &Value) -> bool {
    metadata(a, "uid").is_some()
        && metadata(a, "uid") == metadata(b, "uid")
        && metadata(a, "resourceVersion") == metadata(b, "resourceVersion")
}

/// Whether the object nests deeper than can be read again after it was stored, or after a target returned it with the API server's
/// additions.
pub(crate) fn is_too_deep(object: &Value) -> bool {
    fn deeper(value: &Value, left: usize) -> bool {
        let inner = |value| left == 0 || deeper(value, left - 1);
        match value {
            Value::Array(items) => items.iter().any(inner),
            Value::Object(fields) => fields.values().any(inner),
            _ => false,
        }
    }
    deeper(object, DEEPEST)
}

/// Sets a text field of an object's metadata.
pub(crate) fn set_metadata(object: &mut Value, field: &str, value: &str) {
    if let Some(metadata) = metadata_mut(object) {
        metadata.insert(field.to_owned(), Value::from(value));
    }
}

/// Sets a label of an object.
pub(crate) fn set_label(object: &mut Value, key: &str, value: &str) {
    if let Some(metadata) = metadata_mut(object) {
        let labels = metadata.entry("labels").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if !labels.is_object() {
            *labels = Value::Object(serde_json::Map::new());
        }
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(key.to_owned(), Value::from(value));
        }
    }
}

/// Sets an annotation of an object.
pub(crate) fn set_annotation(object: &mut Value, key: &str, value: &str) {
    let annotations =
        metadata_mut(object).map(|metadata| metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new())));
    if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
        annotations.insert(key.to_owned(), Value::from(value));
    }
}

/// Removes a label from an object.
pub(crate) fn remove_label(object: &mut Value, key: &str) {
    if let Some(labels) = metadata_mut(object).and_then(|metadata| metadata.get_mut("labels")).and_then(Value::as_object_mut) {
        labels.remove(key);
    }
}

fn metadata_mut(object: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    object.as_object_mut()?.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new())).as_object_mut()
}

/// Whether the name can be a part of a URL's path without escaping. The API server allows little more than this in names of any kind. Other
/// characters could make a call reach another path.
pub(crate) fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 253
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '@'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_that_would_reach_another_path_is_not_plain() {
        assert!(is_plain_name("orders-config") && is_plain_name("system:reader"));
        for name in ["", ".", "..", "a/b", "a?dryRun=All", "a%2fb", "a b", "a#b"] {
            assert!(!is_plain_name(name), "{name}");
        }
    }

    #[test]
    fn what_nests_too_deep_is_found() {
        let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
        assert!(!is_too_deep(&nested(DEEPEST)) && is_too_deep(&nested(DEEPEST + 1)));
    }

    #[test]
    fn a_label_is_set_beside_the_others() {
        let mut object = json!({"metadata": {"name": "x", "labels": {"a": "b"}}});
        set_label(&mut object, "c/d", "e");
        assert_eq!(object["metadata"]["labels"], json!({"a": "b", "c/d": "e"}));
        let mut bare = json!({"kind": "ConfigMap"});
        set_label(&mut bare, "c", "e");
        assert_eq!(label(&bare, "c"), Some("e"));
    }

    #[test]
    fn an_object_that_a_controller_made_is_told_apart() {
        assert!(is_controlled(&json!({"metadata": {"ownerReferences": [{"kind": "Service", "controller": true}]}})));
        assert!(!is_controlled(&json!({"metadata": {"ownerReferences": [{"kind": "Service"}]}})));
    }
}
