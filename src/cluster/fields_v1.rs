//! Sets of fields: the `fieldsV1` of `metadata.managedFields`, and how to pick the fields that they name.
//!
//! Source: structured-merge-diff's `fieldpath` package. `f:<name>` is a field, `k:<JSON>` an item of an associative list by its keys,
//! `v:<JSON>` an item of a set, `i:<n>` an item by its position, and `.` the node itself.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// An item of a list.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Item {
    /// By the keys of an associative list.
    Keys(Map<String, Value>),
    /// By its value, in a set.
    Value(Value),
    /// By its position.
    Index(usize),
}

impl Item {
    /// Whether `value`, at position `index` of its list, is this item.
    pub(crate) fn matches(&self, index: usize, value: &Value) -> bool {
        match self {
            Self::Keys(keys) => keys.iter().all(|(key, wanted)| value.get(key) == Some(wanted)),
            Self::Value(wanted) => value == wanted,
            Self::Index(wanted) => index == *wanted,
        }
    }
}

/// A set of fields below one node. A node without children stands for everything below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct FieldSet {
    /// Whether the node itself is in the set, in addition to its children (`.`).
    itself: bool,
    /// Whether the children only describe parts of an atomic value, which a writer can only replace as a whole.
    atomic: bool,
    fields: BTreeMap<String, FieldSet>,
    items: Vec<(Item, FieldSet)>,
}

impl FieldSet {
    /// Parses one `fieldsV1`; `None` if it is not one.
    pub(crate) fn parse(fields_v1: &Value) -> Option<Self> {
        let mut set = Self::default();
        for (key, child) in fields_v1.as_object()? {
            if key == "." {
                set.itself = true;
            } else if let Some(name) = key.strip_prefix("f:") {
                set.fields.insert(name.to_owned(), Self::parse(child)?);
            } else {
                let item = match key.split_once(':')? {
                    ("k", json) => Item::Keys(serde_json::from_str(json).ok()?),
                    ("v", json) => Item::Value(serde_json::from_str(json).ok()?),
                    ("i", place) => Item::Index(place.parse().ok()?),
                    _ => return None,
                };
                set.items.push((item, Self::parse(child)?));
            }
        }
        Some(set)
    }

    /// Whether the node stands for everything below it.
    pub(crate) fn is_leaf(&self) -> bool {
        self.fields.is_empty() && self.items.is_empty()
    }

    /// The set below a field.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        self.fields.get(name)
    }

    /// The set below the item `value` at position `index`.
    pub(crate) fn item(&self, index: usize, value: &Value) -> Option<&Self> {
        self.items.iter().find(|(item, _)| item.matches(index, value)).map(|(_, set)| set)
    }

    /// The names of the fields below this node.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// The items below this node.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().map(|(item, _)| item)
    }

    /// Adds a field.
    pub(crate) fn insert(&mut self, name: &str, set: Self) {
        match self.fields.get_mut(name) {
            Some(existing) => existing.merge(set),
            None => drop(self.fields.insert(name.to_owned(), set)),
        }
    }

    /// Adds an item.
    pub(crate) fn insert_item(&mut self, item: Item, set: Self) {
        match self.items.iter_mut().find(|(existing, _)| *existing == item) {
            Some((_, existing)) => existing.merge(set),
            None => self.items.push((item, set)),
        }
    }

    /// Removes a field.
    pub(crate) fn remove(&mut self, name: &str) {
        self.fields.remove(name);
    }

    /// Adds all of `other`. If only one side is a leaf, the result has the node itself and the known children: the leaf was an empty map or
    /// list, and somebody else put children under it. An atomic value is included as a whole as soon as one side says so.
    pub(crate) fn merge(&mut self, other: Self) {
        if (self.atomic && other.is_leaf()) || (other.atomic && self.is_leaf()) {
            *self = Self { itself: true, ..Self::default() };
            return;
        }
        self.atomic |= other.atomic;
        self.itself |= other.itself || self.is_leaf() != other.is_leaf();
        for (name, set) in other.fields {
            self.insert(&name, set);
        }
        for (item, set) in other.items {
            self.insert_item(item, set);
        }
    }
}

/// The part of `value` that is in the set `written`; `None` if there is none. If a leaf covers a whole map or list, the parts that only
/// `foreign` names are left out.
pub(crate) fn pick(value: &Value, written: &FieldSet, foreign: Option<&FieldSet>) -> Option<Value> {
    if written.is_leaf() {
        return Some(without(value, foreign));
    }
    match value {
        Value::Object(map) if !written.fields.is_empty() => {
            let picked: Map<String, Value> = map
                .iter()
                .filter_map(|(name, child)| {
                    let below = foreign.and_then(|f| f.field(name));
                    Some((name.clone(), pick(child, written.field(name)?, below)?))
                })
                .collect();
            (written.itself || !picked.is_empty()).then_some(Value::Object(picked))
        }
        Value::Array(items) if !written.items.is_empty() => {
            let picked: Vec<Value> = items
                .iter()
                .enumerate()
                .filter_map(|(index, child)| {
                    let (item, set) = written.items.iter().find(|(item, _)| item.matches(index, child))?;
                    let mut taken = pick(child, set, foreign.and_then(|f| f.item(index, child)))?;
                    // Without its keys an item can't be told from its neighbours.
                    if let (Item::Keys(keys), Value::Object(taken)) = (item, &mut taken) {
                        for (key, value) in keys {
                            taken.entry(key.clone()).or_insert_with(|| value.clone());
                        }
                    }
                    Some(taken)
                })
                .collect();
            (written.itself || !picked.is_empty()).then_some(Value::Array(picked))
        }
        // The set was made from a value of another shape: the value replaced it as a whole.
        other => Some(other.clone()),
    }
}

/// `value` without what the set `foreign` names below it. If `foreign` names the node as a whole, the node is shared.
fn without(value: &Value, foreign: Option<&FieldSet>) -> Value {
    let Some(foreign) = foreign.filter(|f| !f.is_leaf()) else { return value.clone() };
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(name, _)| foreign.field(name).is_none_or(|below| !below.is_leaf()))
                .map(|(name, child)| (name.clone(), without(child, foreign.field(name))))
                .collect(),
        ),
        Value::Array(items) => Value::Array(
            items
                .iter()
                .enumerate()
                .filter(|(index, child)| foreign.item(*index, child).is_none_or(|below| !below.itself && !below.is_leaf()))
                .map(|(index, child)| without(child, foreign.item(index, child)))
                .collect(),
        ),
        other => other.clone(),
    }
}

/// The fields of `live` that a JSON document writes. A document does not say how its lists are merged; `known`, which is what all managers
/// own, does.
pub(crate) fn of_document(document: &Value, live: &Value, known: Option<&FieldSet>) -> FieldSet {
    let mut set = FieldSet { atomic: known.is_some_and(FieldSet::is_leaf), ..FieldSet::default() };
    match (document, live) {
        (Value::Object(document), Value::Object(live)) => {
            set.itself = true;
            for (name, written) in document {
                if let (false, Some(value)) = (written.is_null(), live.get(name)) {
                    set.insert(name, of_document(written, value, known.and_then(|k| k.field(name))));
                }
            }
            // Everything that the document wrote here is gone, and what is there now belongs to somebody else. A field name that does not
            // exist prevents that the set stands for all of it.
            if set.fields.is_empty() && !document.is_empty() {
                set.insert("", FieldSet::default());
            }
        }
        (Value::Array(document), Value::Array(live)) => {
            set.itself = true;
            for (index, written) in document.iter().enumerate() {
                let found = match identity(written, known) {
                    Identity::Keys(keys) => by_keys(written, live, &keys),
                    Identity::Value => live.iter().position(|item| item == written).map(|place| (Item::Value(written.clone()), place)),
                    Identity::Place if live.len() == document.len() => Some((Item::Index(index), index)),
                    // An atomic list whose length differs from the document's was replaced, and is included as a whole.
                    Identity::Place => return FieldSet::default(),
                };
                if let Some((item, place)) = found {
                    let below = of_document(written, &live[place], known.and_then(|k| k.item(place, &live[place])));
                    set.insert_item(item, below);
                }
            }
            if set.items.is_empty() && !document.is_empty() {
                set.insert_item(Item::Index(usize::MAX), FieldSet::default());
            }
        }
        _ => {}
    }
    set
}

/// The keys that identify items in lists of core kinds, for lists that no manager's fields describe.
const USUAL_KEYS: [&[&str]; 6] =
    [&["name"], &["containerPort", "protocol"], &["port", "protocol"], &["mountPath"], &["devicePath"], &["ip"]];

/// How the items of a list are identified.
enum Identity<'a> {
    Keys(Vec<&'a str>),
    Value,
    Place,
}

fn identity<'a>(written: &Value, known: Option<&'a FieldSet>) -> Identity<'a> {
    match known.map(|k| k.items().next()) {
        Some(Some(Item::Keys(keys))) => Identity::Keys(keys.keys().map(String::as_str).collect()),
        Some(Some(Item::Value(_))) => Identity::Value,
        Some(Some(Item::Index(_)) | None) => Identity::Place,
        None => USUAL_KEYS.iter().find(|keys| written.get(keys[0]).is_some()).map_or(Identity::Place, |keys| Identity::Keys(keys.to_vec())),
    }
}

/// If the document leaves out a key, the live item has its default. For core kinds that is only `protocol: TCP`.
fn by_keys(written: &Value, live: &[Value], keys: &[&str]) -> Option<(Item, usize)> {
    let is = |item: &Value| {
        keys.iter().all(|key| match written.get(key) {
            Some(wanted) => item.get(key) == Some(wanted),
            None => item.get(key).is_none_or(|value| *key != "protocol" || value == "TCP"),
        })
    };
    let place = live.iter().position(is)?;
    let found = keys.iter().filter_map(|key| Some(((*key).to_owned(), live[place].get(key)?.clone()))).collect();
    Some((Item::Keys(found), place))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(fields: &Value) -> FieldSet {
        FieldSet::parse(fields).unwrap()
    }

    #[test]
    fn items_are_found_by_key_value_and_place() {
        let live =
            json!({"ports": [{"port": 80, "protocol": "TCP", "x": 1}, {"port": 81, "protocol": "TCP"}], "set": ["a", "b"], "list": [1, 2]});
        let fields = set(&json!({
            "f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
            "f:set": {"v:\"b\"": {}},
            "f:list": {"i:0": {}}
        }));
        assert_eq!(pick(&live, &fields, None), Some(json!({"ports": [{"port": 80, "protocol": "TCP"}], "set": ["b"], "list": [1]})));
    }

    #[test]
    fn an_atomic_field_comes_whole_and_an_owned_empty_map_stays() {
        let live = json!({"selector": {"app": "a", "tier": "b"}, "labels": {"x": "1"}, "empty": {}});
        let fields = set(&json!({"f:selector": {}, "f:labels": {".": {}, "f:gone": {}}, "f:empty": {}}));
        assert_eq!(pick(&live, &fields, None), Some(json!({"selector": {"app": "a", "tier": "b"}, "labels": {}, "empty": {}})));
    }

    #[test]
    fn what_a_controller_put_into_an_empty_map_is_not_the_writers() {
        let live = json!({"resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}});
        let fields = set(&json!({"f:resources": {}}));
        let foreign = set(&json!({"f:resources": {"f:requests": {"f:cpu": {}}}}));
        assert_eq!(pick(&live, &fields, Some(&foreign)), Some(json!({"resources": {"requests": {}, "limits": {"cpu": "2"}}})));
    }

    #[test]
    fn nothing_is_read_from_what_is_no_field_set() {
        assert_eq!(FieldSet::parse(&json!({"x:y": {}})), None);
        assert_eq!(FieldSet::parse(&json!({"k:{": {}})), None);
        assert_eq!(FieldSet::parse(&json!("f:x")), None);
    }

    #[test]
    fn a_document_writes_what_it_names_of_the_live_lists() {
        let live = json!({"containers": [{"name": "a", "image": "1", "resources": {}}, {"name": "sidecar"}], "args": ["x"], "gone": 1});
        let document = json!({"containers": [{"name": "a", "image": "0"}], "args": ["x"], "removed": 1, "void": null});
        let known = set(&json!({"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:name": {}}}, "f:args": {}}));
        for known in [Some(&known), None] {
            assert_eq!(
                pick(&live, &of_document(&document, &live, known), None),
                Some(json!({"containers": [{"name": "a", "image": "1"}], "args": ["x"]}))
            );
        }
    }

    #[test]
    fn a_document_leaves_out_the_protocol_of_a_port() {
        let live = json!({"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP", "nodePort": 3}]});
        let written = of_document(&json!({"ports": [{"port": 53}]}), &live, None);
        assert_eq!(pick(&live, &written, None), Some(json!({"ports": [{"port": 53, "protocol": "TCP"}]})));
    }

    #[test]
    fn whoever_replaced_an_atomic_list_wrote_all_of_it() {
        let live = json!({"rules": [{"host": "b", "default": 1}]});
        let edited = set(&json!({"f:rules": {}}));
        let mut written = of_document(&json!({"rules": [{"host": "a"}]}), &live, Some(&edited));
        assert_eq!(pick(&live, &written, None), Some(json!({"rules": [{"host": "b"}]})));
        written.merge(edited);
        assert_eq!(pick(&live, &written, None), Some(live));
    }

    #[test]
    fn what_a_document_wrote_and_somebody_replaced_is_not_its_own() {
        let live = json!({"env": [{"name": "B"}], "data": {"b": "2"}});
        let written = of_document(&json!({"env": [{"name": "A"}], "data": {"a": "1"}}), &live, None);
        assert_eq!(pick(&live, &written, None), Some(json!({"env": [], "data": {}})));
    }

    #[test]
    fn an_atomic_list_of_another_length_comes_whole() {
        let live = json!({"rules": [{"host": "a"}, {"host": "b"}]});
        let known = set(&json!({"f:rules": {}}));
        let written = of_document(&json!({"rules": [{"host": "a"}]}), &live, Some(&known));
        assert_eq!(pick(&live, &written, None), Some(live));
    }
}
