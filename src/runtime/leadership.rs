//! Leader election by a Lease, in the way of client-go: the holder renews it, and the others measure the time since they last saw it
//! change. Every write carries the resourceVersion. A Lease alone prevents no late write, so every other write of the operator has a
//! precondition of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use crate::identity::OPERATOR_NAMESPACE;

/// Until when this process may act as the leader, by its own clock. A process that was suspended learns it here, before it sees that
/// another process has become the leader.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leadership(Arc<Mutex<Option<Instant>>>);

impl Leadership {
    /// Whether the Lease, as last renewed, has not expired.
    pub(crate) fn holds(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }

    fn last_until(&self, until: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}

/// An election in which this process is a candidate.
pub(crate) struct Election {
    api: Api<Lease>,
    leadership: Leadership,
    name: String,
    identity: String,
    duration: Duration,
}

impl Election {
    /// A candidate `identity` for the Lease `name`. A holder that does not renew for `duration` is replaced. `leadership` shows others how
    /// long the Lease is valid.
    pub(crate) fn new(client: Client, leadership: Leadership, name: String, identity: String, duration: Duration) -> Self {
        Self { api: Api::namespaced(client, OPERATOR_NAMESPACE), leadership, name, identity, duration }
    }

    /// How often a holder renews the Lease, and how often a standby reads it.
    fn period(&self) -> Duration {
        self.duration / 3
    }

    /// Waits until this process holds the Lease, or `stop`. Returns the Lease.
    pub(crate) async fn acquire(&self, stop: &CancellationToken) -> Option<Lease> {
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            // The time is counted from before the call. A standby starts counting after it.
            let asked = Instant::now();
            match self.try_acquire(&mut seen).await {
                Ok(Some(lease)) => {
                    self.leadership.last_until(asked + self.duration);
                    tracing::info!(identity = self.identity, "leading");
                    return Some(lease);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the Lease could not be taken; tried again"),
            }
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(self.period()) => {}
            }
        }
    }

    async fn try_acquire(&self, seen: &mut Option<(Option<String>, Instant)>) -> kube::Result<Option<Lease>> {
        let Some(lease) = self.api.get_opt(&self.name).await? else {
            let lease = Lease { metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() }, spec: Some(self.spec(1)) };
            return self.api.create(&PostParams::default(), &lease).await.map(Some);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let vacant = spec.holder_identity.as_deref().is_none_or(str::is_empty) || spec.holder_identity.as_deref() == Some(&self.identity);
        let version = lease.metadata.resource_version.clone();
        let since = match seen {
            Some((last, since)) if *last == version => *since,
            _ => {
                let now = Instant::now();
                *seen = Some((version, now));
                now
            }
        };
        let holder = Duration::from_secs(u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0));
        if !vacant && since.elapsed() < holder {
            return Ok(None);
        }
        let taken = Lease { metadata: lease.metadata, spec: Some(self.spec(spec.lease_transitions.unwrap_or(0) + 1)) };
        match self.api.replace(&self.name, &PostParams::default(), &taken).await {
            Ok(lease) => Ok(Some(lease)),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn spec(&self, transitions: i32) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(self.duration.as_secs().max(1)).ok(),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// Renews the Lease until it is lost, or `stop`. Then releases it, so that a standby need not wait.
    pub(crate) async fn hold(&self, mut lease: Lease, stop: &CancellationToken) {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => {
                    self.release(lease).await;
                    return;
                }
                () = tokio::time::sleep(self.period()) => {}
            }
            if let Some(spec) = lease.spec.as_mut() {
                spec.renew_time = Some(MicroTime(Timestamp::now()));
            }
            let asked = Instant::now();
            match self.api.replace(&self.name, &PostParams::default(), &lease).await {
                Ok(new) => {
                    lease = new;
                    renewed = asked;
                    self.leadership.last_until(asked + self.duration);
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {
                    // Somebody took the Lease, or wrote to it. It says who holds it now.
                    match self.api.get_opt(&self.name).await {
                        Ok(Some(new)) if new.spec.as_ref().and_then(|s| s.holder_identity.as_deref()) == Some(&self.identity) => {
                            lease = new;
                        }
                        Ok(_) => {
                            tracing::error!("another process holds the Lease");
                            return;
                        }
                        Err(error) => tracing::warn!(%error, "the Lease could not be read"),
                    }
                }
                Err(error) => tracing::warn!(%error, "the Lease could not be renewed"),
            }
            if renewed.elapsed() > self.duration {
                tracing::error!("the Lease was not renewed in time");
                return;
            }
        }
    }

    async fn release(&self, mut lease: Lease) {
        if let Some(spec) = lease.spec.as_mut() {
            spec.holder_identity = None;
        }
        if let Err(error) = self.api.replace(&self.name, &PostParams::default(), &lease).await {
            tracing::warn!(%error, "the Lease could not be released; it runs out");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenure_ends_by_the_clock() {
        let leadership = Leadership::default();
        assert!(!leadership.holds(), "nobody was elected");
        leadership.last_until(Instant::now() + Duration::from_secs(30));
        assert!(leadership.holds());
        leadership.last_until(Instant::now());
        assert!(!leadership.holds());
    }
}
