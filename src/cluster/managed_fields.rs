//! Who owns which fields of an existing object, by its `metadata.managedFields`, and which fields others added.

use serde_json::{Map, Value};

use crate::api::names;
use crate::api::plan::{MAX_MESSAGE, PlanResult};
use crate::api::reason::Reason;
use crate::cluster::errors::{self, first_few};
use crate::cluster::fields_v1::{FieldSet, Item};
use crate::cluster::object::Key;

/// Field managers of the cluster's own components that write to objects of others.
const CLUSTER: [&str; 9] = [
    "clusterrole-aggregation-controller",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-apiserver",
    "kubelet",
    "cloud-controller-manager",
    "cluster-autoscaler",
    "horizontal-pod-autoscaler",
    "vertical-pod-autoscaler",
];

/// The most objects whose foreign fields are reported one by one.
const MAX_TOLD: usize = 16;
/// Fields that nobody writes, or that are reported elsewhere.
const NOT_CONTENT: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// Who owns which fields of one object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ownership {
    /// The fields that Pilotage applied.
    pub(crate) ours: FieldSet,
    /// The fields that anybody else wrote, except the status.
    pub(crate) foreign: FieldSet,
    /// Both. They say which lists are merged, and by which keys.
    pub(crate) known: FieldSet,
    /// Whether ownership is known: every entry was read, and is of the version in which the object was read.
    pub(crate) is_certain: bool,
    others: Vec<Other>,
}

/// The fields of one other manager.
#[derive(Clone, Debug)]
struct Other {
    manager: String,
    subresource: String,
    fields: FieldSet,
}

impl Ownership {
    /// Of an object that is read in this API version.
    pub(crate) fn of(live: &Value, api_version: &str) -> Self {
        Self::without(live, api_version, &Value::Null)
    }

    /// The same, as if others did not own the fields in `dropped` (in the form of `fieldsV1`).
    pub(crate) fn without(live: &Value, api_version: &str, dropped: &Value) -> Self {
        let mut found = Self { is_certain: true, ..Self::default() };
        let entries = entries(live);
        found.is_certain &= !entries.is_empty();
        for entry in entries {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            if text("subresource") == "status" {
                continue;
            }
            let is_ours = is_our_entry(entry);
            let mut fields = entry.get("fieldsV1").cloned().unwrap_or_default();
            let Some(all) = FieldSet::parse(&fields).filter(|_| text("apiVersion") == api_version) else {
                found.is_certain = false;
                continue;
            };
            found.known.merge(all.clone());
            if is_ours {
                found.ours.merge(all);
                continue;
            }
            subtract(&mut fields, dropped);
            if let Some(fields) = FieldSet::parse(&fields).filter(|fields| *fields != FieldSet::default()) {
                found.foreign.merge(fields.clone());
                found.others.push(Other { manager: text("manager").to_owned(), subresource: text("subresource").to_owned(), fields });
            }
        }
        found
    }

    /// Counts fields as others' (in the form of `fieldsV1`).
    pub(crate) fn leave(&mut self, fields: &Value) {
        if let Some(fields) = FieldSet::parse(fields) {
            self.foreign.merge(fields);
        }
    }

    /// Counts fields that are not ours as others' (in the form of `fieldsV1`): the server chose them for this object when it was created.
    pub(crate) fn leave_assigned(&mut self, fields: &Value) {
        let mut fields = fields.clone();
        if let (Some(spec), Some(ours)) = (fields.pointer_mut("/f:spec").and_then(Value::as_object_mut), self.ours.field("spec")) {
            spec.retain(|name, _| name.strip_prefix("f:").is_none_or(|name| ours.field(name).is_none()));
        }
        if let Some(fields) = FieldSet::parse(&fields).filter(|fields| fields.field("spec").is_some_and(|spec| !spec.is_leaf())) {
            self.foreign.merge(fields);
        }
    }

    /// The foreign fields below the root; `None` if there are none.
    pub(crate) fn foreign(&self) -> Option<&FieldSet> {
        (self.foreign != FieldSet::default()).then_some(&self.foreign)
    }

    /// Who sets the number of replicas by the `scale` subresource.
    pub(crate) fn scaler(&self) -> Option<&str> {
        let scales =
            |other: &&Other| other.subresource == "scale" && other.fields.field("spec").is_some_and(|s| s.field("replicas").is_some());
        self.others.iter().find(scales).map(|other| other.manager.as_str())
    }

    /// Whether Pilotage applied the number of replicas.
    pub(crate) fn owns_replicas(&self) -> bool {
        self.ours.field("spec").is_some_and(|spec| spec.field("replicas").is_some())
    }

    /// The fields that people and tools added to the object and that the manifest does not set, each with its manager. The cluster's own
    /// components are left out, because they add fields all the time.
    fn added(&self, live: &Value, manifest: &Value) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for other in self.others.iter().filter(|other| !is_of_cluster(&other.manager)) {
            let mut paths = Vec::new();
            for name in other.fields.names().filter(|name| !NOT_CONTENT.contains(name)) {
                added(&format!("/{name}"), other.fields.field(name), live.get(name), manifest.get(name), &mut paths);
            }
            found.extend(paths.into_iter().map(|path| (path, other.manager.clone())));
        }
        found
    }
}

/// The entries of an object's managed fields.
pub(crate) fn entries(live: &Value) -> &[Value] {
    live.pointer("/metadata/managedFields").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether an entry is of Pilotage's applies.
pub(crate) fn is_our_entry(entry: &Value) -> bool {
    let is = |name: &str, wanted: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default() == wanted;
    is("manager", names::FIELD_MANAGER) && is("operation", "Apply") && is("subresource", "")
}

/// Removes the fields in `dropped` from a `fieldsV1`. Nodes that become empty are removed too, because an empty node would stand for
/// everything below it.
pub(crate) fn subtract(fields: &mut Value, dropped: &Value) {
    let (Some(fields), Some(dropped)) = (fields.as_object_mut(), dropped.as_object()) else { return };
    for (key, below) in dropped {
        let is_whole = below.as_object().is_none_or(Map::is_empty);
        let Some(child) = fields.get_mut(key) else { continue };
        if !is_whole {
            subtract(child, below);
        }
        if is_whole || child.as_object().is_some_and(Map::is_empty) {
            fields.remove(key);
        }
    }
}

/// Adds the fields in `more` to a `fieldsV1`.
pub(crate) fn unite(fields: &mut Value, more: &Value) {
    if !fields.is_object() {
        *fields = Value::Object(Map::new());
    }
    let (Some(fields), Some(more)) = (fields.as_object_mut(), more.as_object()) else { return };
    for (key, below) in more {
        unite(fields.entry(key.clone()).or_insert_with(|| Value::Object(Map::new())), below);
    }
}

/// The position of the item of `items` with these keys. A key that is left out has its default; for core kinds that is only `protocol:
/// TCP`.
pub(crate) fn place(items: &[Value], keys: &Map<String, Value>) -> Option<usize> {
    let has = |item: &Value, key: &str, wanted: &Value| match item.get(key) {
        Some(value) => value == wanted,
        None => key == "protocol" && wanted == "TCP",
    };
    items.iter().position(|item| keys.iter().all(|(key, wanted)| has(item, key, wanted)))
}

/// The keys that identify the items of a list; `None` for a list that is one value, or a set.
pub(crate) fn keys_of(known: Option<&FieldSet>) -> Option<Vec<String>> {
    known?.items().find_map(|item| match item {
        Item::Keys(keys) => Some(keys.keys().cloned().collect()),
        _ => None,
    })
}

/// The keys that identify an item of such a list.
pub(crate) fn identity(item: &Value, keys: &[String]) -> Map<String, Value> {
    let default = |key: &String| (key == "protocol").then(|| Value::from("TCP"));
    keys.iter().filter_map(|key| Some((key.clone(), item.get(key).cloned().or_else(|| default(key))?))).collect()
}

fn added(path: &str, fields: Option<&FieldSet>, live: Option<&Value>, manifest: Option<&Value>, found: &mut Vec<String>) {
    let (Some(fields), Some(live)) = (fields, live) else { return };
    if manifest.is_none() {
        found.push(path.to_owned());
        return;
    }
    for name in fields.names() {
        let below = manifest.and_then(|m| m.get(name));
        added(&format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), fields.field(name), live.get(name), below, found);
    }
    let (Some(live), Some(manifest)) = (live.as_array(), manifest.and_then(Value::as_array)) else { return };
    for item in fields.items() {
        let Item::Keys(keys) = item else { continue };
        let Some(at) = place(live, keys) else { continue };
        let below = place(manifest, keys).map(|at| &manifest[at]);
        let shown = keys.get("name").and_then(Value::as_str).map_or_else(|| at.to_string(), str::to_owned);
        added(&format!("{path}/{shown}"), fields.item(at, &live[at]), Some(&live[at]), below, found);
    }
}

/// Fields that others added to objects of the solution. They stay, and the approver is told.
pub(crate) fn told<'a>(objects: impl Iterator<Item = (&'a Key, &'a Value, &'a Value, Ownership)>) -> Vec<PlanResult> {
    let found: Vec<(&Key, Vec<(String, String)>)> =
        objects.map(|(key, live, manifest, owned)| (key, owned.added(live, manifest))).filter(|(_, added)| !added.is_empty()).collect();
    let more = found.len().saturating_sub(MAX_TOLD);
    let mut results: Vec<PlanResult> = found
        .iter()
        .take(MAX_TOLD)
        .map(|(key, added)| {
            let named = first_few(added.iter().map(|(path, manager)| format!("{path} by {}", errors::bounded(manager, 128))));
            let message = format!("others set fields of {key} that the solution does not set, and they stay as they are: {named}");
            errors::result(key, Reason::ForeignField, &message)
        })
        .collect();
    if let (true, Some(last)) = (more > 0, results.last_mut()) {
        last.message = errors::bounded(&format!("{}. The same of {more} more objects", last.message), MAX_MESSAGE);
    }
    results
}

/// Whether a field manager is one of the cluster's own components.
pub(crate) fn is_of_cluster(manager: &str) -> bool {
    CLUSTER.contains(&manager) || manager.starts_with("vpa-")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn managed(manager: &str, operation: &str, subresource: &str, fields: &Value) -> Value {
        json!({"manager": manager, "operation": operation, "subresource": subresource, "apiVersion": "apps/v1", "fieldsV1": fields})
    }

    fn web() -> Value {
        json!({"metadata": {"name": "web", "managedFields": [
            managed("pilotage", "Apply", "", &json!({"f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {".": {}, "f:image": {}, "f:name": {}}}}}}})),
            managed("kubectl-set", "Update", "", &json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:env": {".": {}, "k:{\"name\":\"DEBUG\"}": {".": {}, "f:name": {}, "f:value": {}}}}}}}}})),
            managed("kube-controller-manager", "Update", "status", &json!({"f:status": {}}))]},
            "spec": {"replicas": 2, "template": {"spec": {"containers": [{"name": "web", "image": "a", "env": [{"name": "DEBUG", "value": "1"}]}]}}}})
    }

    #[test]
    fn what_others_added_is_told_with_field_and_manager() {
        let live = web();
        let owned = Ownership::of(&live, "apps/v1");
        assert!(owned.is_certain && owned.owns_replicas() && owned.scaler().is_none());
        let manifest = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "image": "b"}]}}}});
        let key = Key { group: "apps".into(), kind: "Deployment".into(), name: "web".into() };
        let told = told([(&key, &live, &manifest, owned)].into_iter());
        assert_eq!((told.len(), told[0].reason.as_str()), (1, "ForeignField"));
        assert!(told[0].message.ends_with("/spec/template/spec/containers/web/env by kubectl-set"), "{}", told[0].message);
    }

    #[test]
    fn what_others_added_is_bounded() {
        let live = web();
        let manifest = json!({"spec": {}});
        let keys: Vec<Key> = (0..40).map(|n| Key { group: "apps".into(), kind: "Deployment".into(), name: format!("web-{n}") }).collect();
        let told = told(keys.iter().map(|key| (key, &live, &manifest, Ownership::of(&live, "apps/v1"))));
        assert_eq!(told.len(), MAX_TOLD);
        assert!(told[MAX_TOLD - 1].message.ends_with("The same of 24 more objects"), "{}", told[MAX_TOLD - 1].message);
    }

    #[test]
    fn what_is_of_another_version_or_unreadable_is_not_judged() {
        assert!(!Ownership::of(&web(), "apps/v2").is_certain);
        assert!(!Ownership::of(&json!({"metadata": {}}), "apps/v1").is_certain);
    }

    #[test]
    fn what_is_taken_out_leaves_no_node_that_would_stand_for_all_below_it() {
        let mut fields = json!({"f:spec": {"f:ports": {"k:{\"port\":83}": {".": {}, "f:port": {}}}, "f:type": {}}});
        subtract(&mut fields, &json!({"f:spec": {"f:ports": {"k:{\"port\":83}": {}}}}));
        assert_eq!(fields, json!({"f:spec": {"f:type": {}}}));
        unite(&mut fields, &json!({"f:spec": {"f:ports": {"k:{\"port\":83}": {".": {}}}}}));
        assert_eq!(fields, json!({"f:spec": {"f:ports": {"k:{\"port\":83}": {".": {}}}, "f:type": {}}}));
    }

    #[test]
    fn who_scales_is_known_by_the_subresource() {
        let mut live = web();
        let scaled = managed("keda", "Update", "scale", &json!({"f:spec": {"f:replicas": {}}}));
        live["metadata"]["managedFields"].as_array_mut().unwrap().push(scaled);
        assert_eq!(Ownership::of(&live, "apps/v1").scaler(), Some("keda"));
    }
}
