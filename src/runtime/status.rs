//! The one place that writes status: a merge patch of what changed, bound to the object that the decision was made on.

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, CustomResourceExt, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::api::bounds;
use crate::api::names::FIELD_MANAGER;
use crate::cluster::errors::{self, Cause};

/// Writes `new` over `old`, the status of `object`. Returns the object as written, or `None` if nothing changed. The write carries the
/// object's uid and resourceVersion: a conflict means that the decision was made on another state. Values longer than the schema allows are
/// cut. A status that would make the object too large is shortened.
///
/// # Errors
/// If the API server refuses the write. A stale object is a conflict (409).
pub(crate) async fn write<K, S>(client: &Client, object: &K, old: Option<&S>, new: &S) -> kube::Result<Option<K>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + CustomResourceExt
        + Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug,
    S: Serialize,
{
    let old = old.map_or(Ok(Value::Null), serde_json::to_value).map_err(kube::Error::SerdeError)?;
    let mut new = serde_json::to_value(new).map_err(kube::Error::SerdeError)?;
    let schema = bounds::status_schema::<K>();
    bounds::keep(&mut new, &schema);
    if bounds::size(&new) > bounds::SURELY_FITS {
        bounds::fit(&mut new, &schema, room(object)?);
    }
    let Some(diff) = merge_diff(&old, &new) else { return Ok(None) };
    let api: Api<K> = Api::namespaced(client.clone(), object.meta().namespace.as_deref().unwrap_or_default());
    let patch = json!({
        "metadata": {"uid": object.meta().uid, "resourceVersion": object.meta().resource_version},
        "status": diff,
    });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch_status(&object.name_any(), &params, &Patch::Merge(patch)).await.map(Some)
}

/// Whether the API server will never accept what was written, because it does not fit the schema or is too large.
pub(crate) fn is_refused(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(_)) && errors::classify(error) == Cause::Invalid
}

/// The most bytes that the rest of the object leaves for the status.
fn room<K: Serialize>(object: &K) -> kube::Result<usize> {
    let mut rest = serde_json::to_value(object).map_err(kube::Error::SerdeError)?;
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("status");
    }
    Ok(bounds::MOST_WRITTEN.saturating_sub(bounds::size(&rest)).max(bounds::SURELY_FITS))
}

/// The JSON merge patch (RFC 7386) that turns `old` into `new`. `None` if they are equal.
fn merge_diff(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut diff = Map::new();
            for (key, value) in new {
                match old.get(key) {
                    Some(before) => {
                        if let Some(change) = merge_diff(before, value) {
                            diff.insert(key.clone(), change);
                        }
                    }
                    None => {
                        diff.insert(key.clone(), value.clone());
                    }
                }
            }
            for key in old.keys().filter(|k| !new.contains_key(*k)) {
                diff.insert(key.clone(), Value::Null);
            }
            (!diff.is_empty()).then_some(Value::Object(diff))
        }
        (old, new) => (old != new).then(|| new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_written() {
        let old = json!({"a": 1, "b": {"c": 1, "d": 2}, "e": [1]});
        assert_eq!(merge_diff(&old, &old), None);
        assert_eq!(merge_diff(&old, &json!({"a": 1, "b": {"c": 3}, "e": [1, 2]})), Some(json!({"b": {"c": 3, "d": null}, "e": [1, 2]})));
        assert_eq!(merge_diff(&Value::Null, &json!({"a": 1})), Some(json!({"a": 1})));
    }
}
