//! Reads one value of one Secret of a host, which an administrator lets the operator `get` by name.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};

use super::access::{Access, Right};
use super::grants;
use crate::cluster::lookup;

/// Why there is no value.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// A call failed.
    Failed(kube::Error),
    /// The operator may not read the Secret: what to grant.
    NotAllowed(String),
    /// There is no such Secret.
    NoSecret,
    /// The Secret does not have the key.
    NoKey,
}

/// The value under `key` of the Secret `name` of `host`, which messages call `secret`.
pub(crate) async fn read(
    access: &Access,
    operator: Client,
    host: &str,
    name: &str,
    key: &str,
    secret: &str,
) -> Result<ByteString, Unreadable> {
    let right = Right::on("get", "", "secrets", host).named(name);
    // Asked first, so that a grant that is missing is no refused call.
    if !access.i_may(&right).await.map_err(Unreadable::Failed)? {
        let grant = grants::operator_reads(host, &right);
        return Err(Unreadable::NotAllowed(format!("the operator may not read {secret}; who may grant that applies:\n{grant}")));
    }
    let found = lookup::object(&Api::<Secret>::namespaced(operator, host), name).await.map_err(Unreadable::Failed)?;
    found.ok_or(Unreadable::NoSecret)?.data.and_then(|mut data| data.remove(key)).ok_or(Unreadable::NoKey)
}
