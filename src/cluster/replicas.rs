//! Who decides the number of replicas: the manifest, or somebody who scales.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::managed_fields::Ownership;
use crate::cluster::object::{self, Key};

/// The field.
const REPLICAS: &str = "replicas";

/// The objects that others among these scale. They are named in a `spec.scaleTargetRef`, as in `HorizontalPodAutoscaler`, `ScaledObject`
/// and similar kinds. If no kind is named, a Deployment is meant.
pub(crate) fn by_others<'a>(objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<Key> {
    let named = objects.into_iter().filter_map(|scaler| scaler.pointer("/spec/scaleTargetRef"));
    named.filter_map(target).collect()
}

/// The object that a `scaleTargetRef` names.
fn target(reference: &Value) -> Option<Key> {
    let text = |name: &str| reference.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = text("name")?.to_owned();
    let (kind, group) = match text("kind") {
        Some(kind) => (kind, text("apiVersion").map(object::group_of)),
        None => ("Deployment", None),
    };
    Some(Key { group: group.unwrap_or("apps").to_owned(), kind: kind.to_owned(), name })
}

/// Removes the number of replicas from objects that others among these scale. Otherwise two would fight over it.
pub(crate) fn give_up(objects: &mut [Value]) {
    let scaled = by_others(objects.iter());
    for object in objects.iter_mut().filter(|object| scaled.contains(&Key::of(object))) {
        take_out(object);
    }
}

fn take_out(object: &mut Value) -> bool {
    object.get_mut("spec").and_then(Value::as_object_mut).is_some_and(|spec| spec.remove(REPLICAS).is_some())
}

/// Whether the manifest no longer has a number of replicas that Pilotage has set. The server would fill in its default.
pub(crate) fn gives_up(manifest: &Value, live: &Value, owned: &Ownership) -> bool {
    let is_set = |object: &Value| object.pointer("/spec/replicas").is_some_and(Value::is_number);
    owned.owns_replicas() && is_set(live) && manifest.get("spec").is_some() && !is_set(manifest)
}

/// Keeps the current number.
pub(crate) fn keep(manifest: &mut Value, live: &Value) {
    if let (Some(spec), Some(replicas)) = (manifest.get_mut("spec").and_then(Value::as_object_mut), live.pointer("/spec/replicas")) {
        spec.insert(REPLICAS.to_owned(), replicas.clone());
    }
}

/// If the manifest has another number, leaves the number to whoever scales the object by its subresource. `force` overrides a person who
/// did. It does not override autoscalers, which would only scale again. Returns whether the number was left.
pub(crate) fn leave(manifest: &mut Value, live: &Value, owned: &Ownership, force: bool) -> bool {
    let is_left = |scaler: &str| !(force && scaler.starts_with("kubectl"));
    let differs = manifest.pointer("/spec/replicas").is_some_and(|wanted| live.pointer("/spec/replicas") != Some(wanted));
    differs && owned.scaler().is_some_and(is_left) && take_out(manifest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn web(replicas: Option<i64>) -> Value {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"paused": false}});
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = replicas.into();
        }
        object
    }

    fn live(manager: &str, operation: &str, subresource: &str) -> (Value, Ownership) {
        let mut live = web(Some(3));
        live["metadata"]["managedFields"] = json!([{"manager": manager, "operation": operation, "subresource": subresource,
            "apiVersion": "apps/v1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
        let owned = Ownership::of(&live, "apps/v1");
        (live, owned)
    }

    #[test]
    fn what_an_autoscaler_of_any_kind_names_says_no_number() {
        let scaler = |kind: &str, target: Value| json!({"apiVersion": "x/v1", "kind": kind, "metadata": {"name": "web"}, "spec": {"scaleTargetRef": target}});
        for target in [json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}), json!({"name": "web"})] {
            let mut objects = [web(Some(5)), scaler("ScaledObject", target)];
            give_up(&mut objects);
            assert_eq!(objects[0], web(None));
        }
        let mut others = [web(Some(5)), scaler("ScaledObject", json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web"}))];
        give_up(&mut others);
        assert_eq!(others[0], web(Some(5)));
    }

    #[test]
    fn a_number_that_is_given_up_stays_as_it_is() {
        let (live, owned) = live("pilotage", "Apply", "");
        let mut manifest = web(None);
        assert!(gives_up(&manifest, &live, &owned) && !gives_up(&web(Some(1)), &live, &owned));
        keep(&mut manifest, &live);
        assert_eq!(manifest, web(Some(3)));
    }

    #[test]
    fn a_number_that_somebody_scales_is_left_to_them() {
        let (live, owned) = live("keda-operator", "Update", "scale");
        for force in [false, true] {
            let mut manifest = web(Some(1));
            assert!(leave(&mut manifest, &live, &owned, force));
            assert_eq!(manifest, web(None));
        }
        assert!(!leave(&mut web(Some(3)), &live, &owned, false), "they agree");
    }

    #[test]
    fn a_person_who_scaled_is_overruled_by_force_alone() {
        let (live, owned) = live("kubectl-scale", "Update", "scale");
        assert!(leave(&mut web(Some(1)), &live, &owned, false));
        assert!(!leave(&mut web(Some(1)), &live, &owned, true));
    }
}
