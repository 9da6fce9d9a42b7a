//! The objects of one version of one solution, and their canonical bytes.
//!
//! The digest of an artifact is computed over these bytes. So they must not depend on the order in which a client or the API server wrote
//! keys.

use std::cmp::Ordering;

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::cluster::object::{self, Key};

/// The objects of one version of one solution, in the order of (group, kind, name).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bundle {
    objects: Vec<Value>,
}

/// Why bytes are not a bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BundleError {
    /// The bytes are not UTF-8.
    #[error("the bundle is not UTF-8 text: its bytes were damaged, or it is something else")]
    NotText,
    /// A line is not JSON. The content is not repeated here: it may be anything.
    #[error("line {line} of the bundle is not JSON (column {column}): a bundle has one JSON object per line")]
    NotJson {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// A line is JSON, but not a Kubernetes object.
    #[error("line {line} of the bundle is no Kubernetes object: it lacks {missing}")]
    NotAnObject {
        /// The line, from 1.
        line: usize,
        /// Which field it lacks.
        missing: &'static str,
    },
    /// Two lines are the same object.
    #[error("the bundle holds {0} twice: an object may be in a bundle once")]
    Duplicate(String),
}

impl Bundle {
    /// A bundle of these objects, sorted by (group, kind, name), with the keys of every map in order.
    pub fn new(objects: Vec<Value>) -> Self {
        let mut keyed: Vec<(Key, Value)> = objects.into_iter().map(|object| (Key::of(&object), sorted(object))).collect();
        keyed.sort_by(|(a, x), (b, y)| match a.cmp(b) {
            // No API server can hold such objects side by side, but their order must be defined nevertheless.
            Ordering::Equal => canonical(x).cmp(&canonical(y)),
            order => order,
        });
        Self { objects: keyed.into_iter().map(|(_, object)| object).collect() }
    }

    /// The objects.
    pub fn objects(&self) -> &[Value] {
        &self.objects
    }

    /// The canonical bytes: one canonical JSON object in each line.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for object in &self.objects {
            write_canonical(object, &mut bytes);
            bytes.push(b'\n');
        }
        bytes
    }

    /// The digest of the canonical bytes, computed without holding all of them.
    pub(crate) fn digest(&self) -> String {
        let (mut hash, mut line) = (Sha256::new(), Vec::new());
        for object in &self.objects {
            line.clear();
            write_canonical(object, &mut line);
            line.push(b'\n');
            hash.update(&line);
        }
        shown(&hash.finalize())
    }

    /// Parses what [`Bundle::to_bytes`] wrote, or the same lines in another order.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, BundleError> {
        let text = std::str::from_utf8(bytes).map_err(|_| BundleError::NotText)?;
        let mut objects = Vec::new();
        for (index, words) in text.lines().enumerate() {
            let line = index + 1;
            if words.trim().is_empty() {
                continue;
            }
            let object: Value = serde_json::from_str(words).map_err(|error| BundleError::NotJson { line, column: error.column() })?;
            for (missing, found) in
                [("apiVersion", object::api_version(&object)), ("kind", object::kind(&object)), ("metadata.name", object::name(&object))]
            {
                if found.is_empty() {
                    return Err(BundleError::NotAnObject { line, missing });
                }
            }
            objects.push(object);
        }
        let bundle = Self::new(objects);
        for pair in bundle.objects.windows(2) {
            let key = Key::of(&pair[0]);
            if key == Key::of(&pair[1]) {
                return Err(BundleError::Duplicate(key.to_string()));
            }
        }
        Ok(bundle)
    }
}

/// `sha256:` and the hash of the bytes in lower-case hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    shown(&Sha256::digest(bytes))
}

/// `sha256:` and a hash in lower-case hexadecimal.
pub(crate) fn shown(hash: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(71);
    text.push_str("sha256:");
    for byte in hash {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The value as JSON without white space. The keys of every map are sorted by their bytes.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_canonical(value, &mut bytes);
    bytes
}

/// Appends the canonical form of `value`. The keys are sorted here, because any crate of the build can change whether `serde_json` keeps
/// maps sorted.
pub(crate) fn write_canonical(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            bytes.push(b'{');
            for (index, (key, item)) in entries.into_iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write_text(key, bytes);
                bytes.push(b':');
                write_canonical(item, bytes);
            }
            bytes.push(b'}');
        }
        Value::Array(items) => {
            bytes.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    bytes.push(b',');
                }
                write_canonical(item, bytes);
            }
            bytes.push(b']');
        }
        Value::String(text) => write_text(text, bytes),
        Value::Null | Value::Bool(_) | Value::Number(_) => bytes.extend_from_slice(value.to_string().as_bytes()),
    }
}

/// A JSON string. Only characters that JSON requires to be escaped are escaped.
fn write_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(b'"');
    for character in text.chars() {
        match character {
            '"' => bytes.extend_from_slice(b"\\\""),
            '\\' => bytes.extend_from_slice(b"\\\\"),
            '\n' => bytes.extend_from_slice(b"\\n"),
            '\r' => bytes.extend_from_slice(b"\\r"),
            '\t' => bytes.extend_from_slice(b"\\t"),
            control if u32::from(control) < 0x20 => bytes.extend_from_slice(format!("\\u{:04x}", u32::from(control)).as_bytes()),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes.push(b'"');
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
            Value::Object(entries.into_iter().map(|(key, item)| (key, sorted(item))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn object(api_version: &str, kind: &str, name: &str) -> Value {
        json!({"kind": kind, "metadata": {"name": name}, "apiVersion": api_version})
    }

    #[test]
    fn objects_are_sorted_by_group_kind_and_name() {
        let bundle = Bundle::new(vec![
            object("apps/v1", "Deployment", "b"),
            object("apps/v1", "Deployment", "a"),
            object("v1", "Service", "z"),
            object("v1", "ConfigMap", "z"),
        ]);
        let order: Vec<String> = bundle.objects().iter().map(|o| Key::of(o).to_string()).collect();
        assert_eq!(order, ["ConfigMap z", "Service z", "Deployment a", "Deployment b"]);
    }

    #[test]
    fn the_bytes_are_one_sorted_object_per_line() {
        let bundle = Bundle::new(vec![
            json!({"kind": "ConfigMap", "data": {"b": "1\n\"\u{1}", "a": "é"}, "apiVersion": "v1", "metadata": {"name": "x"}}),
        ]);
        assert_eq!(
            String::from_utf8(bundle.to_bytes()).unwrap(),
            "{\"apiVersion\":\"v1\",\"data\":{\"a\":\"é\",\"b\":\"1\\n\\\"\\u0001\"},\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"x\"}}\n"
        );
    }

    #[test]
    fn a_digest_names_its_algorithm() {
        assert_eq!(digest(b""), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }

    #[test]
    fn damaged_bytes_are_told_by_line_without_their_words() {
        assert_eq!(Bundle::from_bytes(&[0xff]), Err(BundleError::NotText));
        let text = b"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"x\"}}\n{\"password\": hunter2}\n";
        let error = Bundle::from_bytes(text).unwrap_err();
        assert!(matches!(error, BundleError::NotJson { line: 2, .. }));
        assert!(!error.to_string().contains("hunter2"));
        assert_eq!(Bundle::from_bytes(b"[1]\n"), Err(BundleError::NotAnObject { line: 1, missing: "apiVersion" }));
    }

    #[test]
    fn an_object_may_be_in_a_bundle_once() {
        let mut bytes = Bundle::new(vec![object("v1", "ConfigMap", "x")]).to_bytes();
        bytes.extend(Bundle::new(vec![object("v1", "ConfigMap", "x")]).to_bytes());
        assert_eq!(Bundle::from_bytes(&bytes), Err(BundleError::Duplicate("ConfigMap x".into())));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((".{0,6}", inner), 0..5).prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    fn any_objects() -> impl Strategy<Value = Vec<Value>> {
        prop::collection::vec(any_value(), 0..6).prop_map(|specs| {
            specs
                .into_iter()
                .enumerate()
                .map(|(index, spec)| json!({"apiVersion": if index % 2 == 0 { "v1" } else { "apps/v1" }, "kind": "Thing", "metadata": {"name": format!("n{index}")}, "spec": spec}))
                .collect()
        })
    }

    /// The same value, its keys written in the opposite order.
    fn reversed(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().map(|(k, v)| (k.clone(), reversed(v))).collect();
                entries.reverse();
                Value::Object(entries.into_iter().collect())
            }
            Value::Array(items) => Value::Array(items.iter().map(reversed).collect()),
            other => other.clone(),
        }
    }

    proptest! {
        #[test]
        fn reading_the_bytes_gives_the_bundle_back(objects in any_objects()) {
            let bundle = Bundle::new(objects);
            let read = Bundle::from_bytes(&bundle.to_bytes()).unwrap();
            prop_assert_eq!(&read, &bundle);
            prop_assert_eq!(read.to_bytes(), bundle.to_bytes());
            prop_assert_eq!(bundle.digest(), digest(&bundle.to_bytes()));
        }

        #[test]
        fn the_bytes_do_not_depend_on_any_order(objects in any_objects()) {
            let mut other: Vec<Value> = objects.iter().map(reversed).collect();
            other.reverse();
            prop_assert_eq!(Bundle::new(other).to_bytes(), Bundle::new(objects).to_bytes());
        }
    }
}
