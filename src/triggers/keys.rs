//! Signing keys, read from Secrets that an administrator lets the operator get one by one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::signature::Keys;
use crate::api::reference::SecretKeyReference;
use crate::cluster::lookup;
use crate::identity::access::Right;
use crate::identity::grants;
use crate::runtime::Cluster;

/// How long a key that was read is used. A key that is exchanged, and a right that is taken back, are noticed after so long.
const BELIEVED: Duration = Duration::from_mins(1);

/// Reads keys of one host and keeps them for a while.
pub struct KeyRing {
    cluster: Arc<Cluster>,
    host: String,
    known: Mutex<HashMap<SecretKeyReference, (Keys, Instant)>>,
}

impl KeyRing {
    /// Reads Secrets of that host as the operator.
    pub fn new(cluster: Arc<Cluster>, host: String) -> Self {
        Self { cluster, host, known: Mutex::default() }
    }

    /// The keys that a sink's deliveries are signed with; else what is wrong and what to do about it, without the value.
    pub async fn get(&self, reference: &SecretKeyReference) -> Result<Keys, String> {
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|_, (_, since)| since.elapsed() < BELIEVED);
            if let Some((keys, _)) = known.get(reference) {
                return Ok(keys.clone());
            }
        }
        let keys = self.read(reference).await?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(reference.clone(), (keys.clone(), Instant::now()));
        Ok(keys)
    }

    async fn read(&self, SecretKeyReference { name, key }: &SecretKeyReference) -> Result<Keys, String> {
        let host = &self.host;
        let unread = |error: kube::Error| format!("the signing Secret {name} in namespace {host} could not be read: {error}");
        let right = Right::on("get", "", "secrets", host).named(name);
        // Asked first, so that a grant that is missing is no refused call.
        if !self.cluster.access.i_may(&right).await.map_err(unread)? {
            return Err(format!(
                "the operator may not read the signing Secret {name} in namespace {host}; who may grant that applies:\n{}",
                grants::operator_reads(host, &right)
            ));
        }
        let secret = match lookup::object(&Api::<Secret>::namespaced(self.cluster.clients.operator(), host), name).await {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                return Err(format!("the signing Secret {name} does not exist in namespace {host}: create it, {}", how(name, key, host)));
            }
            Err(error) => return Err(unread(error)),
        };
        let Some(value) = secret.data.as_ref().and_then(|data| data.get(key)) else {
            return Err(format!("the signing Secret {name} in namespace {host} has no key {key}: {}", how(name, key, host)));
        };
        Keys::parse(&value.0)
            .map_err(|why| format!("the key {key} of the signing Secret {name} in namespace {host} {why}: {}", how(name, key, host)))
    }
}

fn how(name: &str, key: &str, host: &str) -> String {
    format!("kubectl create secret generic {name} -n {host} --from-literal={key}=\"whsec_$(openssl rand -base64 32)\"")
}
