//! What a manifest means, whatever existed before: the object as it would be if it were created anew, except for fields that others own.
//!
//! Server-side apply keeps fields that nobody owns, such as the defaults of an earlier version. It also restores a removed field from a
//! field that duplicates it. To find out what is meant, the server gets a dry run of a merge patch and fills in the missing defaults. The
//! result is compared with what the apply would leave. Where they differ, the leftover fields are handed over to Pilotage before the apply,
//! and the apply then removes them.

use serde_json::{Map, Value};

use crate::artifact::strip::assigned;
use crate::artifact::strip::defaults::{self, Declared};
use crate::cluster::fields_v1::{FieldSet, of_document, pick};
use crate::cluster::managed_fields::{self, Ownership, identity, keys_of, place};
use crate::cluster::object;

/// Fields that are not content.
const ENVELOPE: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];
/// Maps of the metadata that people write.
const WRITTEN_METADATA: [&str; 2] = ["labels", "annotations"];
/// Kinds that the server completes with values chosen for each object, and that are mostly immutable. The values from their creation stay
/// right.
const FROZEN: [(&str, &str); 4] = [("", "Pod"), ("", "PersistentVolumeClaim"), ("", "PersistentVolume"), ("batch", "Job")];

/// What must be handed over before an apply, in the form of `fieldsV1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handover {
    /// The fields that nobody will own after the handover, so that the apply removes them.
    pub(crate) takes: Value,
    /// Those among them that others own.
    pub(crate) drops: Value,
}

impl Handover {
    /// Whether there is anything to hand over.
    pub(crate) fn is_empty(&self) -> bool {
        self.takes.as_object().is_none_or(Map::is_empty)
    }

    /// The managed fields of the object after the handover. `None` if there is nothing to hand over.
    pub(crate) fn managed_fields(&self, live: &Value, api_version: &str) -> Option<Value> {
        if self.is_empty() {
            return None;
        }
        let mut entries = managed_fields::entries(live).to_vec();
        let empty = |fields: &Value| fields.as_object().is_none_or(Map::is_empty);
        for entry in entries.iter_mut().filter(|entry| !managed_fields::is_our_entry(entry)) {
            if let Some(fields) = entry.get_mut("fieldsV1") {
                managed_fields::subtract(fields, &self.drops);
            }
        }
        entries.retain(|entry| entry.get("fieldsV1").is_some_and(|fields| !empty(fields)));
        match entries.iter_mut().find(|entry| managed_fields::is_our_entry(entry)) {
            Some(ours) => managed_fields::unite(&mut ours["fieldsV1"], &self.takes),
            None => entries.push(serde_json::json!({
                "manager": crate::api::names::FIELD_MANAGER, "operation": "Apply", "apiVersion": api_version,
                "fieldsType": "FieldsV1", "fieldsV1": self.takes,
            })),
        }
        Some(Value::Array(entries))
    }
}

/// Whether objects of a kind are checked.
pub(crate) fn is_changeable(manifest: &Value) -> bool {
    !FROZEN.contains(&(object::group(manifest), object::kind(manifest)))
}

/// Values that the server chose when the object was created and would not choose again. They count as others', unless they are ours.
pub(crate) fn assigned_at_creation(manifest: &Value) -> Value {
    let names: &[&str] = match (object::group(manifest), object::kind(manifest)) {
        ("", "Service") => &["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort"],
        ("networking.k8s.io", "Ingress") => &["ingressClassName"],
        _ => return Value::Null,
    };
    let fields: Map<String, Value> = names.iter().map(|name| (format!("f:{name}"), Value::Object(Map::new()))).collect();
    serde_json::json!({"f:spec": fields})
}

/// Whether a field that the manifest no longer has is still there after the apply, although nobody else owns it.
pub(crate) fn gives_up(owned: &Ownership, manifest: &Value, would_be: &Value) -> bool {
    owned.ours.names().filter(|name| !ENVELOPE.contains(name)).any(|name| {
        let foreign = owned.foreign().and_then(|f| f.field(name));
        owned.ours.field(name).is_some_and(|ours| given_up(ours, manifest.get(name), would_be.get(name), foreign))
    })
}

fn given_up(ours: &FieldSet, manifest: Option<&Value>, would_be: Option<&Value>, foreign: Option<&FieldSet>) -> bool {
    let Some(would_be) = would_be.filter(|value| !value.is_null()) else { return false };
    if ours.is_leaf() {
        return manifest.is_none() && foreign.is_none();
    }
    let of_fields = ours.names().any(|name| {
        let below = ours.field(name).zip(Some(foreign.and_then(|f| f.field(name))));
        below.is_some_and(|(ours, foreign)| given_up(ours, manifest.and_then(|m| m.get(name)), would_be.get(name), foreign))
    });
    let of_items = || {
        let mut items = would_be.as_array().into_iter().flatten().enumerate();
        let keys = keys_of(Some(ours)).unwrap_or_default();
        let wanted = manifest.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        items.any(|(index, item)| {
            let Some(ours) = ours.item(index, item).filter(|_| !keys.is_empty()) else { return false };
            let wanted = place(wanted, &identity(item, &keys)).map(|at| &wanted[at]);
            given_up(ours, wanted, Some(item), foreign.and_then(|f| f.item(index, item)))
        })
    };
    of_fields || of_items()
}

/// Whether a field is left after the apply that the manifest doesn't set, that nobody owns, and that is not a known default of the server.
pub(crate) fn leaves_behind(owned: &Ownership, manifest: &Value, would_be: &Value) -> bool {
    let mut rest = would_be.clone();
    let declared = of_document(manifest, would_be, Some(&owned.known));
    let declared = Declared::of(Some(&declared));
    assigned::strip(&mut rest, declared);
    defaults::strip(&mut rest, declared);
    content(&rest).any(|(name, value)| {
        let known = owned.known.field(name);
        left(value, manifest.get(name), owned.foreign().and_then(|f| f.field(name)), known)
    })
}

fn left(rest: &Value, manifest: Option<&Value>, foreign: Option<&FieldSet>, known: Option<&FieldSet>) -> bool {
    if is_absent(rest) || foreign.is_some_and(FieldSet::is_leaf) {
        return false;
    }
    match (rest, manifest) {
        (Value::Object(map), _) => map.iter().any(|(name, value)| {
            let field = |set: Option<&FieldSet>| set.and_then(|set| set.field(name)).cloned();
            left(value, manifest.and_then(|m| m.get(name)), field(foreign).as_ref(), field(known).as_ref())
        }),
        (Value::Array(items), Some(Value::Array(wanted))) => {
            let Some(keys) = keys_of(known) else { return false };
            items.iter().enumerate().any(|(index, item)| {
                let wanted = place(wanted, &identity(item, &keys)).map(|at| &wanted[at]);
                let foreign = foreign.and_then(|f| f.item(index, item));
                match wanted {
                    Some(_) => left(item, wanted, foreign, known.and_then(|k| k.item(index, item))),
                    None => foreign.is_none(),
                }
            })
        }
        (_, Some(_)) => false,
        (_, None) => foreign.is_none(),
    }
}

/// What is meant, as a merge patch on the existing object.
pub(crate) fn meant(owned: &Ownership, manifest: &Value, live: &Value) -> Value {
    let mut patch = Map::new();
    let names = content(live).chain(content(manifest)).map(|(name, _)| name.clone());
    for name in names.collect::<std::collections::BTreeSet<String>>() {
        let (here, wanted) = (live.get(&name), manifest.get(&name));
        let wanted = overlaid(wanted, here, owned.foreign().and_then(|f| f.field(&name)), owned.known.field(&name));
        if let Some(change) = merge_patch(here, wanted.as_ref()) {
            patch.insert(name, change);
        }
    }
    let mut metadata = Map::new();
    for field in ["uid", "resourceVersion"] {
        if let Some(value) = object::metadata(live, field) {
            metadata.insert(field.to_owned(), value.into());
        }
    }
    for name in WRITTEN_METADATA {
        let wanted = manifest.pointer("/metadata").and_then(|m| m.get(name)).and_then(Value::as_object);
        let mut changes: Map<String, Value> = wanted.cloned().unwrap_or_default();
        let of = |set: Option<&FieldSet>| set.and_then(|s| s.field("metadata")).and_then(|m| m.field(name)).cloned();
        let (ours, foreign) = (of(Some(&owned.ours)), of(owned.foreign()));
        for key in ours.iter().flat_map(FieldSet::names) {
            if !changes.contains_key(key) && foreign.as_ref().is_none_or(|f| f.field(key).is_none()) {
                changes.insert(key.to_owned(), Value::Null);
            }
        }
        if !changes.is_empty() {
            metadata.insert(name.to_owned(), Value::Object(changes));
        }
    }
    patch.insert("metadata".into(), Value::Object(metadata));
    Value::Object(patch)
}

/// The manifest's value, with the parts of the existing value that others own.
fn overlaid(manifest: Option<&Value>, live: Option<&Value>, foreign: Option<&FieldSet>, known: Option<&FieldSet>) -> Option<Value> {
    let (Some(live), Some(foreign)) = (live, foreign) else { return manifest.cloned() };
    let Some(manifest) = manifest else { return pick(live, foreign, None) };
    if foreign.is_leaf() {
        return Some(manifest.clone());
    }
    match (manifest, live) {
        (Value::Object(wanted), Value::Object(here)) => {
            let mut all: Map<String, Value> = Map::new();
            for (name, value) in wanted {
                let below = overlaid(Some(value), here.get(name), foreign.field(name), known.and_then(|k| k.field(name)));
                all.extend(below.map(|value| (name.clone(), value)));
            }
            for name in foreign.names().filter(|name| !wanted.contains_key(*name)) {
                let theirs = here.get(name).zip(foreign.field(name)).and_then(|(value, set)| pick(value, set, None));
                all.extend(theirs.map(|value| (name.to_owned(), value)));
            }
            Some(Value::Object(all))
        }
        (Value::Array(wanted), Value::Array(here)) => {
            let Some(keys) = keys_of(known) else { return Some(manifest.clone()) };
            let mut taken = vec![false; wanted.len()];
            let mut all = Vec::new();
            for (index, item) in here.iter().enumerate() {
                let theirs = foreign.item(index, item);
                match place(wanted, &identity(item, &keys)) {
                    Some(at) => {
                        taken[at] = true;
                        all.extend(overlaid(Some(&wanted[at]), Some(item), theirs, known.and_then(|k| k.item(index, item))));
                    }
                    None => all.extend(theirs.and_then(|set| {
                        let mut kept = pick(item, set, None)?;
                        for (key, value) in identity(item, &keys) {
                            kept.as_object_mut()?.entry(key).or_insert(value);
                        }
                        Some(kept)
                    })),
                }
            }
            all.extend(wanted.iter().zip(taken).filter(|(_, taken)| !taken).map(|(item, _)| item.clone()));
            Some(Value::Array(all))
        }
        _ => Some(manifest.clone()),
    }
}

/// The merge patch that changes `here` into `wanted`; `None` if nothing changes.
fn merge_patch(here: Option<&Value>, wanted: Option<&Value>) -> Option<Value> {
    match (here, wanted) {
        (Some(Value::Object(here)), Some(Value::Object(wanted))) => {
            let names: std::collections::BTreeSet<&String> = here.keys().chain(wanted.keys()).collect();
            let changes: Map<String, Value> =
                names.into_iter().filter_map(|name| Some((name.clone(), merge_patch(here.get(name), wanted.get(name))?))).collect();
            (!changes.is_empty()).then_some(Value::Object(changes))
        }
        (None, None) => None,
        (Some(_), None) => Some(Value::Null),
        (here, Some(wanted)) => (here != Some(wanted)).then(|| wanted.clone()),
    }
}

/// The fields of `base` that differ from what is meant, and that no apply of the manifest would change.
pub(crate) fn left_behind(owned: &Ownership, manifest: &Value, base: &Value, meant: &Value, drops: Value) -> Handover {
    let mut takes = Map::new();
    for (name, value) in content(base) {
        let foreign = owned.foreign().and_then(|f| f.field(name));
        if let Some(below) = taken(value, meant.get(name), manifest.get(name), foreign, owned.known.field(name)) {
            takes.insert(format!("f:{name}"), below);
        }
    }
    Handover { takes: Value::Object(takes), drops }
}

fn taken(
    base: &Value,
    meant: Option<&Value>,
    manifest: Option<&Value>,
    foreign: Option<&FieldSet>,
    known: Option<&FieldSet>,
) -> Option<Value> {
    if Some(base) == meant || foreign.is_some_and(FieldSet::is_leaf) || (is_absent(base) && meant.is_none_or(is_absent)) {
        return None;
    }
    let mut found = Map::new();
    match base {
        Value::Object(map) if !map.is_empty() && meant.is_none_or(Value::is_object) => {
            for (name, value) in map {
                let below = |from: Option<&'_ Value>| from.and_then(|v| v.get(name)).cloned();
                let (meant, manifest) = (below(meant), below(manifest));
                let sets = (foreign.and_then(|f| f.field(name)), known.and_then(|k| k.field(name)));
                let below = taken(value, meant.as_ref(), manifest.as_ref(), sets.0, sets.1);
                found.extend(below.map(|below| (format!("f:{name}"), below)));
            }
        }
        Value::Array(items) if meant.is_none_or(Value::is_array) && keys_of(known).is_some() => {
            let keys = keys_of(known).unwrap_or_default();
            let list = |from: Option<&Value>| from.and_then(Value::as_array).cloned().unwrap_or_default();
            let (meant, manifest) = (list(meant), list(manifest));
            for (index, item) in items.iter().enumerate() {
                let id = identity(item, &keys);
                let of = |list: &[Value]| place(list, &id).map(|at| list[at].clone());
                let (foreign, known) = (foreign.and_then(|f| f.item(index, item)), known.and_then(|k| k.item(index, item)));
                let below = taken(item, of(&meant).as_ref(), of(&manifest).as_ref(), foreign, known);
                found.extend(below.map(|below| (format!("k:{}", Value::Object(id)), below)));
            }
        }
        _ => return manifest.is_none().then(|| Value::Object(Map::new())),
    }
    if found.is_empty() {
        return None;
    }
    if meant.is_none() && manifest.is_none() && foreign.is_none() {
        found.insert(".".to_owned(), Value::Object(Map::new()));
    }
    Some(Value::Object(found))
}

/// The fields to be taken that would have the same value if the object were created anew, as `created` was in a dry run: a policy for
/// creations has set them. In the form of `fieldsV1`; `None` if there are none.
pub(crate) fn as_at_creation(takes: &Value, base: &Value, created: &Value) -> Option<Value> {
    let takes = takes.as_object()?;
    let children = || takes.iter().filter(|(key, _)| *key != ".");
    if children().next().is_none() {
        return (base == created).then(|| Value::Object(Map::new()));
    }
    let below = |from: &Value, key: &str| match key.split_once(':')? {
        ("f", name) => from.get(name).cloned(),
        ("k", keys) => {
            let items = from.as_array()?;
            place(items, &serde_json::from_str(keys).ok()?).map(|at| items[at].clone())
        }
        _ => None,
    };
    let found: Map<String, Value> = children()
        .filter_map(|(key, takes)| Some((key.clone(), as_at_creation(takes, &below(base, key)?, &below(created, key)?)?)))
        .collect();
    (!found.is_empty()).then_some(Value::Object(found))
}

/// The manifest under a name that no object has, to find out what would be created.
pub(crate) fn under_another_name(manifest: &Value, live: &Value) -> Value {
    let uid = object::metadata(live, "uid").unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).take(12);
    let mut other = manifest.clone();
    object::set_metadata(&mut other, "name", &format!("pilotage-anew-{}", uid.collect::<String>()));
    other
}

/// List items that were ours until somebody changed their key, such as a port 80 that became 83: the manifest's item is missing, and a
/// similar one has its place. In the form of `fieldsV1`.
pub(crate) fn drifted(owned: &Ownership, manifest: &Value, live: &Value) -> Value {
    let mut found = Map::new();
    for (name, wanted) in content(manifest) {
        let sets = (owned.foreign().and_then(|f| f.field(name)), owned.known.field(name));
        let below = live.get(name).and_then(|here| drifted_in(wanted, here, sets.0, sets.1));
        found.extend(below.map(|below| (format!("f:{name}"), below)));
    }
    Value::Object(found)
}

fn drifted_in(wanted: &Value, here: &Value, foreign: Option<&FieldSet>, known: Option<&FieldSet>) -> Option<Value> {
    let foreign = foreign.filter(|f| !f.is_leaf())?;
    let mut found = Map::new();
    match (wanted, here) {
        (Value::Object(wanted), Value::Object(here)) => {
            for (name, wanted) in wanted {
                let below = here.get(name).and_then(|h| drifted_in(wanted, h, foreign.field(name), known.and_then(|k| k.field(name))));
                found.extend(below.map(|below| (format!("f:{name}"), below)));
            }
        }
        (Value::Array(wanted), Value::Array(here)) => {
            let keys = keys_of(known)?;
            let mut missing: Vec<&Value> = wanted.iter().filter(|item| place(here, &identity(item, &keys)).is_none()).collect();
            for (index, item) in here.iter().enumerate() {
                let (id, theirs) = (identity(item, &keys), foreign.item(index, item));
                let below = match place(wanted, &id) {
                    Some(at) => drifted_in(&wanted[at], item, theirs, known.and_then(|k| k.item(index, item))),
                    None if theirs.is_some() => missing.iter().position(|missing| is_like(missing, item, &keys)).map(|at| {
                        missing.swap_remove(at);
                        Value::Object(Map::new())
                    }),
                    None => None,
                };
                found.extend(below.map(|below| (format!("k:{}", Value::Object(id)), below)));
            }
        }
        _ => return None,
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

/// Whether an item was ours under another key. An item that is identified by a name alone may be an addition. So only containers are
/// recognized, by their image.
fn is_like(wanted: &Value, here: &Value, keys: &[String]) -> bool {
    if keys == ["name"] {
        let image = |item: &Value| item.get("image").and_then(Value::as_str).map(|image| without_tag(image).to_owned());
        return image(wanted).is_some_and(|wanted| image(here) == Some(wanted));
    }
    let mut fields = wanted.as_object().into_iter().flatten();
    fields.any(|(name, value)| !keys.contains(name) && name != "protocol" && here.get(name) == Some(value))
        || wanted.as_object().is_some_and(|fields| fields.keys().all(|name| keys.contains(name)))
}

fn without_tag(image: &str) -> &str {
    let named = image.split_once('@').map_or(image, |(named, _)| named);
    match named.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => name,
        _ => named,
    }
}

/// The fields of an object that are its content.
fn content(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten().filter(|(name, _)| !ENVELOPE.contains(&name.as_str()))
}

/// The server is not consistent in writing null and empty maps.
fn is_absent(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

#[cfg(test)]
mod tests;
