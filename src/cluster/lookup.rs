//! Looks up objects that somebody else named. A name that no object can have counts as not found, and never becomes part of a path.
//! Otherwise the call would fail for ever, or reach another object.

use kube::core::PartialObjectMeta;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::cluster::object::is_plain_name;

/// The object of that name, if it exists.
pub(crate) async fn object<K>(api: &Api<K>, name: &str) -> kube::Result<Option<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    if is_plain_name(name) { api.get_opt(name).await } else { Ok(None) }
}

/// The metadata of the object of that name, if it exists.
pub(crate) async fn metadata<K>(api: &Api<K>, name: &str) -> kube::Result<Option<PartialObjectMeta<K>>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug,
{
    if is_plain_name(name) { api.get_metadata_opt(name).await } else { Ok(None) }
}
