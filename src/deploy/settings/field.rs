//! The field of an object that a setting writes.

use serde_json::{Map, Value};

use crate::api::names::KEY_PREFIX;
use crate::api::reason::Reason;
use crate::api::settings::FieldTarget;
use crate::cluster::object::{self, Key};
use crate::cluster::replicas;

/// The labels that identify the objects of a set.
const APPLYSET_PREFIX: &str = "applyset.kubernetes.io/";

/// Sets a value at its target. If only text is possible there (data of a `ConfigMap`, labels, annotations, the value of a container's
/// variable), the text is set as written, whatever the type.
pub(super) fn put(objects: &mut [Value], target: &FieldTarget, text: &str, value: Value) -> Result<(), (Reason, String)> {
    let group = target.api_version.as_deref().map_or("", object::group_of);
    let described =
        if group.is_empty() { format!("{} {}", target.kind, target.name) } else { format!("{}.{group} {}", target.kind, target.name) };
    let missing = |why: String| (Reason::SettingTargetMissing, why);
    let Some(path) = segments(&target.path) else {
        return Err(missing(format!(
            "its target path {} is no JSON pointer: write it as /data/KEY, with ~0 for ~ and ~1 for /",
            target.path
        )));
    };
    if let Some(why) = forbidden(&path) {
        return Err((Reason::SettingTargetForbidden, format!("it aims at {} of {described}, but {why}", target.path)));
    }
    if path == ["spec", "replicas"]
        && let Some(scaler) = objects.iter().find(|o| scales(o, group, target))
    {
        return Err((
            Reason::SettingTargetForbidden,
            format!(
                "it aims at {} of {described}, but {} scales it, and the two would fight: aim at /spec/minReplicas or /spec/maxReplicas of that",
                target.path,
                Key::of(scaler)
            ),
        ));
    }
    let Some(object) =
        objects.iter_mut().find(|o| object::kind(o) == target.kind && object::name(o) == target.name && object::group(o) == group)
    else {
        return Err(missing(format!(
            "its target {described} is not in this version of the solution: correct the target in the Solution (apiVersion, kind, name) or add the object, and raise the version"
        )));
    };
    let value = if takes_text(object, &path) { Value::String(text.to_owned()) } else { value };
    set(object, &path, value).map_err(|at| {
        missing(format!(
            "{described} has no {at}, so that {} can't be set: correct the path in the Solution, and raise the version",
            target.path
        ))
    })
}

/// Whether an object scales the target.
fn scales(object: &Value, group: &str, target: &FieldTarget) -> bool {
    let key = Key { group: group.to_owned(), kind: target.kind.clone(), name: target.name.clone() };
    replicas::by_others([object]).contains(&key)
}

/// The segments of a JSON pointer (RFC 6901). In addition to the standard, a segment may be the name of a list item, see [`item`].
pub(super) fn segments(pointer: &str) -> Option<Vec<String>> {
    let unescape = |segment: &str| {
        let plain = segment.replace("~0", "").replace("~1", "");
        (!plain.contains('~')).then(|| segment.replace("~1", "/").replace("~0", "~"))
    };
    pointer.strip_prefix('/')?.split('/').map(unescape).collect()
}

/// Fields that a setting may not change: they say which object it is, who owns it, and which set it belongs to.
fn forbidden(path: &[String]) -> Option<&'static str> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["apiVersion" | "kind", ..] => Some("a setting does not change which object it is"),
        ["status", ..] => Some("status is written by controllers"),
        ["metadata", "labels" | "annotations", key, ..] if key.starts_with(KEY_PREFIX) || key.starts_with(APPLYSET_PREFIX) => {
            Some("that key is written by the deployment")
        }
        ["metadata", "labels" | "annotations", _] => None,
        ["metadata", ..] => Some("of metadata, only labels and annotations can be set, each by its key"),
        _ => None,
    }
}

/// Maps that an object may lack although one of their keys can be set: people leave them out if they are empty.
fn is_made_where_missing(object: &Value, path: &[String], index: usize) -> bool {
    let parent = index.checked_sub(1).map(|parent| path[parent].as_str());
    match (parent, path[index].as_str()) {
        (None, "data") => object::group(object).is_empty() && object::kind(object) == "ConfigMap",
        (Some("metadata"), "labels" | "annotations") | (Some("spec"), "nodeSelector") | (Some("resources"), "limits" | "requests") => true,
        (Some(_), "resources") => path.get(index + 1).is_some_and(|next| matches!(next.as_str(), "limits" | "requests")),
        _ => false,
    }
}

/// An item of a list, by its position or, if it has one, by its name.
fn item<'a>(items: &'a mut [Value], segment: &str) -> Option<&'a mut Value> {
    let place = place(items, segment)?;
    items.get_mut(place)
}

/// The position of the list item that a segment means.
pub(super) fn place(items: &[Value], segment: &str) -> Option<usize> {
    let place = if segment.chars().all(|c| c.is_ascii_digit()) { segment.parse().ok() } else { None };
    place.or_else(|| items.iter().position(|item| item.get("name").and_then(Value::as_str) == Some(segment)))
}

fn takes_text(object: &Value, path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["data" | "binaryData", _] => object::group(object).is_empty() && object::kind(object) == "ConfigMap",
        [.., "labels" | "annotations" | "matchLabels" | "nodeSelector", _] | [.., "env", _, "value"] => true,
        _ => false,
    }
}

/// Sets the value. A missing key is created at the last segment, and so are the maps that an object may lack. The error is the pointer to
/// the first part that is missing.
fn set(object: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let opens: Vec<bool> = (0..path.len()).map(|index| is_made_where_missing(object, path, index)).collect();
    let escaped = |segment: &String| segment.replace('~', "~0").replace('/', "~1");
    let pointer = |upto: usize| format!("/{}", path[..=upto].iter().map(escaped).collect::<Vec<_>>().join("/"));
    let mut node = object;
    for (index, segment) in path.iter().enumerate() {
        let last = index + 1 == path.len();
        node = match node {
            Value::Object(map) => {
                if last || opens[index] {
                    map.entry(segment.clone()).or_insert_with(|| Value::Object(Map::new()))
                } else {
                    map.get_mut(segment).ok_or_else(|| pointer(index))?
                }
            }
            Value::Array(items) => item(items, segment).ok_or_else(|| pointer(index))?,
            _ => return Err(pointer(index)),
        };
    }
    *node = value;
    Ok(())
}
