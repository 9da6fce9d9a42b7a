//! Signing keys. They are read from Secrets that an administrator lets the operator read one by one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::signature::Keys;
use crate::api::reference::SecretKeyReference;
use crate::identity::secrets::{self, Unreadable};
use crate::runtime::Cluster;

/// How long a key is used after it was read. After this time the operator notices a changed key, or a right that was taken away.
const BELIEVED: Duration = Duration::from_mins(1);

/// Reads the keys of one host and keeps them for a while.
pub(crate) struct KeyRing {
    cluster: Arc<Cluster>,
    host: String,
    known: Mutex<HashMap<SecretKeyReference, (Keys, Instant)>>,
}

impl KeyRing {
    /// Reads Secrets of that host as the operator.
    pub(crate) fn new(cluster: Arc<Cluster>, host: String) -> Self {
        Self { cluster, host, known: Mutex::default() }
    }

    /// The keys that a sink's deliveries are signed with. The error says what is wrong and what to do about it, without the value.
    pub(crate) async fn get(&self, reference: &SecretKeyReference) -> Result<Keys, String> {
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
        let secret = format!("the signing Secret {name} in namespace {host}");
        let value = secrets::read(&self.cluster.access, self.cluster.clients.operator(), host, name, key, &secret).await;
        let value = value.map_err(|why| match why {
            Unreadable::Failed(error) => format!("{secret} could not be read: {error}"),
            Unreadable::NotAllowed(message) => message,
            Unreadable::NoSecret => {
                format!("the signing Secret {name} does not exist in namespace {host}: create it, {}", how(name, key, host))
            }
            Unreadable::NoKey => format!("{secret} has no key {key}: {}", how(name, key, host)),
        })?;
        Keys::parse(&value.0).map_err(|why| format!("the key {key} of {secret} {why}: {}", how(name, key, host)))
    }
}

fn how(name: &str, key: &str, host: &str) -> String {
    format!("kubectl create secret generic {name} -n {host} --from-literal={key}=\"whsec_$(openssl rand -base64 32)\"")
}
