//! What differs between two lists of objects, as a plan says it: which objects come, go and change, and the fields that change, with
//! their values before and after.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;

use serde_json::{Value, json};

use super::output::Output;
use crate::api::plan::{MAX_FIELDS, PlannedAction, PlannedObject};
use crate::cluster::object::{self, Key};
use crate::deploy::plan::{diff, values};
use crate::text;

/// Two sides, and what differs.
pub struct Compared {
    /// The side that is compared, in words.
    pub before: String,
    /// The side that it is compared with.
    pub after: String,
    /// What differs.
    pub objects: Vec<PlannedObject>,
}

impl Compared {
    /// Prints it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn print(&self, name: &str, out: &mut Output<impl Write>) -> anyhow::Result<()> {
        let mut said = format!("from {} to {}\n", text::line(&self.before), text::line(&self.after));
        if self.objects.is_empty() {
            said.push_str("nothing differs\n");
        }
        said.push_str(&lines(&self.objects));
        out.one(&json!({"from": self.before, "to": self.after, "objects": self.objects}), name, &said)
    }
}

/// The objects that differ, in the order of their kinds and names. An object that is only in `after` is created, one that is only in
/// `before` is deleted. Fields that the API server maintains don't count. Values that look like secrets are hidden, and of a Secret no
/// field is listed.
pub fn between(before: &[Value], after: &[Value]) -> Vec<PlannedObject> {
    let by_key = |objects| -> BTreeMap<Key, &Value> { <[Value]>::iter(objects).map(|o| (Key::of(o), o)).collect() };
    let (before, after) = (by_key(before), by_key(after));
    let mut found = Vec::new();
    for (key, old) in &before {
        match after.get(key) {
            None => found.push((key, planned(PlannedAction::Delete, old))),
            Some(new) => {
                let fields = diff::changed_fields(old, new);
                if fields.is_empty() {
                    continue;
                }
                let mut object = planned(PlannedAction::Update, new);
                if object.kind != "Secret" {
                    object.changes = values::of(Some(old), Some(new));
                    object.fields = fields;
                }
                found.push((key, object));
            }
        }
    }
    found.extend(after.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(key, new)| (key, planned(PlannedAction::Create, new))));
    found.sort_by_key(|(key, _)| *key);
    found.into_iter().map(|(_, object)| object).collect()
}

fn planned(action: PlannedAction, object: &Value) -> PlannedObject {
    PlannedObject {
        action,
        api_version: object::api_version(object).to_owned(),
        kind: object::kind(object).to_owned(),
        name: object::name(object).to_owned(),
        cluster_scoped: false,
        fields: Vec::new(),
        changes: Vec::new(),
    }
}

/// The objects for people: a line for each object, and below it one for each field that changes.
pub fn lines(objects: &[PlannedObject]) -> String {
    let mut said = String::new();
    for object in objects {
        let (sign, word) = match object.action {
            PlannedAction::Create => ('+', "create"),
            PlannedAction::Update => ('~', "update"),
            PlannedAction::Delete => ('-', "delete"),
            PlannedAction::Recreate => ('!', "delete and create anew"),
            PlannedAction::Adopts => ('~', "adopt"),
            PlannedAction::Releases => ('~', "release"),
            PlannedAction::Unchanged => continue,
        };
        let place = if object.cluster_scoped { ", cluster-scoped" } else { "" };
        let named = text::line(&object.name).into_owned();
        // Writing to a String can't fail.
        let _ = writeln!(said, "{sign} {} {named}: {word}{place}", text::line(&object.kind));
        for field in &object.fields {
            let shown = |value: Option<&String>| value.map_or_else(|| "nothing".to_owned(), |value| text::line(value).into_owned());
            let change = object.changes.iter().find(|change| change.field == *field);
            let values = change.map(|c| format!(": {} → {}", shown(c.old.as_ref()), shown(c.new.as_ref()))).unwrap_or_default();
            let _ = writeln!(said, "    {}{values}", text::line(field));
        }
        if object.fields.len() >= MAX_FIELDS {
            let _ = writeln!(said, "    the first {MAX_FIELDS} fields are listed");
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str, greeting: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": greeting}, "data": {"greeting": greeting}})
    }

    #[test]
    fn objects_that_come_go_and_change_are_told_with_their_values() {
        let before = [config("same", "x"), config("gone", "x"), config("other", "one")];
        let after = [config("other", "two"), config("new", "x"), config("same", "x")];
        let said = lines(&between(&before, &after));
        assert_eq!(said, "- ConfigMap gone: delete\n+ ConfigMap new: create\n~ ConfigMap other: update\n    /data/greeting: one → two\n");
        assert!(between(&after, &after).is_empty());
    }

    #[test]
    fn nothing_of_a_secret_is_told_but_that_it_differs() {
        let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"canary": value}});
        let said = lines(&between(&[secret("b25l")], &[secret("dHdv")]));
        assert_eq!(said, "~ Secret s: update\n");
        let hidden = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"password": value}});
        assert!(lines(&between(&[hidden("one")], &[hidden("two")])).contains("/data/password: (hidden) → (hidden)"));
    }

    #[test]
    fn what_others_wrote_stays_in_its_line() {
        let said = lines(&between(&[config("a", "x")], &[config("a", "y\n+ ConfigMap forged: create\u{1b}[2K")]));
        assert_eq!(said.lines().count(), 2, "{said}");
        assert!(!said.contains('\u{1b}'));
    }
}
