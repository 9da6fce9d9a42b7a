//! Where in a file each field of a document is.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

/// A line and a column, both from 1.
pub(super) type Place = (usize, usize);

/// The places of the fields of a document, by their paths: `spec.windows[0].schedule`. Of an entry of a map it is where its key is.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(BTreeMap<String, Place>);

impl Places {
    /// The places in a text that is a document; none where they can't be told.
    pub(super) fn of(text: &str) -> Self {
        let mut places = BTreeMap::new();
        if let Ok(node) = serde_saphyr::from_str::<Node>(text) {
            node.collect("", &mut places);
        }
        Self(places)
    }

    /// Where a field is. Of one that is missing: where that is in which it is missing.
    pub(super) fn find(&self, prefix: &str, field: &str) -> Option<Place> {
        let field = field.trim_start_matches('.');
        let mut path = if prefix.is_empty() { field.to_owned() } else { format!("{prefix}.{field}") };
        loop {
            if let Some(place) = self.0.get(&path) {
                return Some(*place);
            }
            path.truncate(path.rfind(['.', '['])?);
        }
    }
}

/// What a document is made of.
enum Node {
    Map(Vec<(Spanned<String>, Self)>),
    List(Vec<Spanned<Self>>),
    Scalar,
}

impl Node {
    fn collect(&self, path: &str, places: &mut BTreeMap<String, Place>) {
        match self {
            Self::Map(entries) => {
                for (key, value) in entries {
                    let path = if path.is_empty() { key.value.clone() } else { format!("{path}.{}", key.value) };
                    places.extend(place(&key.referenced).map(|place| (path.clone(), place)));
                    value.collect(&path, places);
                }
            }
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    places.extend(place(&item.referenced).map(|place| (path.clone(), place)));
                    item.value.collect(&path, places);
                }
            }
            Self::Scalar => {}
        }
    }
}

fn place(at: &Location) -> Option<Place> {
    let (line, column) = (usize::try_from(at.line()).ok()?, usize::try_from(at.column()).ok()?);
    (line > 0).then_some((line, column))
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Node::Scalar)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_where_its_key_is_and_what_is_missing_where_it_is_missed() {
        let text = "kind: Stage\nspec:\n  pipeline: p\n  windows:\n    - schedule: \"0 0 * * *\"\n      type: Deny\n    - {type: 3}\n  n: 1.5\n  \
                    empty:\n  flag: true\n";
        let places = Places::of(text);
        for (field, place) in [
            ("spec.pipeline", (3, 3)),
            ("spec.windows[0].type", (6, 7)),
            ("spec.windows[1].type", (7, 8)),
            ("spec.windows[1].duration", (7, 7)),
            ("spec.flag", (10, 3)),
            (".spec.n", (8, 3)),
            ("spec.gates.timeout", (2, 1)),
        ] {
            assert_eq!(places.find("", field), Some(place), "{field}");
        }
        assert_eq!(places.find("", "metadata.namespace"), None);
        let list = Places::of("kind: List\nitems:\n  - kind: A\n    spec:\n      x: 1\n");
        assert_eq!(list.find("items[0]", "spec.x"), Some((5, 7)));
        assert_eq!(Places::of("[").find("", "x"), None);
    }
}
