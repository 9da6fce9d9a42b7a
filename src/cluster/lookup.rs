//! Looks up objects that somebody else named. A name that no object can have counts as not found, and never becomes part of a path.
//! Otherwise the call would fail for ever, or reach another object.

use kube::core::PartialObjectMeta;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::cluster::object::is_plain_name;

/// The object of that name, if it exists.
pub async fn object<K>(api: &Api<K>, name: &str) -> kube::Result<Option<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    if is_plain_name(name) { api.get_opt(name).await } else { Ok(None) }
}

/// The metadata of the object of that name, if it exists.
pub async fn metadata<K>(api: &Api<K>, name: &str) -> kube::Result<Option<PartialObjectMeta<K>>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    if is_plain_name(name) { api.get_metadata_opt(name).await } else { Ok(None) }
}

/// Why there is no object of that name, in words. It may be a name that no object can have.
pub fn why_not(name: &str) -> &'static str {
    if is_plain_name(name) { "does not exist" } else { "does not exist, as no object can have that name" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_object_can_have_is_said_to_be_one() {
        assert_eq!(why_not("orders"), "does not exist");
        for name in [" ", "a\nb", "../../secrets/x", "x\"}, {", "a?b"] {
            assert!(why_not(name).contains("no object can have"), "{name}");
        }
    }
}
