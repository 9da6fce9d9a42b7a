//! The remote clusters that have targets. Each is known by the kubeconfig in one Secret of one host. Its clients are created when they are
//! first needed, created anew when the Secret has changed, and dropped when nobody has used them for a while.
//!
//! The Secret is read by name and not watched. It is read at each validation of an Environment, when a deployment needs it and the last
//! read is a minute old, and as soon as the cluster rejects the credentials. A watch would need one more right on Secrets and one
//! connection for each of them, and would only report a change a little earlier.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config, Error};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::environment::RemoteCluster as Spec;
use crate::api::reason::Reason;
use crate::cluster::discovery::Discovery;
use crate::cluster::errors;
use crate::identity::access::Access;
use crate::identity::circuit_breaker;
use crate::identity::delegate::DelegateClient;
use crate::identity::grants;
use crate::identity::kubeconfig::Kubeconfig;
use crate::identity::lender::LendError;
use crate::identity::remote::RemoteCluster;
use crate::identity::secrets::{self, Unreadable};
use crate::policy::check::{Failure, Remedy};

/// How long a kubeconfig is used after it was read.
const BELIEVED: Duration = Duration::from_mins(1);
/// How long a cluster that nobody used is kept. Environments are validated more often.
const KEPT: Duration = Duration::from_mins(15);
/// One remote cluster may take this part of all concurrent reconciliations: a quarter. All remote clusters together may take half.
const SHARE: usize = 4;

/// The most characters of a cluster's message that are shown.
const MOST_SAID: usize = 512;

/// A cluster and what is known about it.
pub(crate) struct Remote {
    /// Its clients.
    pub(crate) cluster: RemoteCluster,
    /// The kinds that the kubeconfig's user sees there.
    pub(crate) discovery: Arc<Discovery>,
    permits: Arc<Semaphore>,
}

/// How a cluster is identified: host, name and key of the Secret.
type Place = (String, String, String);

struct Known {
    remote: Arc<Remote>,
    read: Instant,
    used: Instant,
}

/// All of them.
pub(crate) struct Remotes {
    client: Client,
    access: Access,
    loopback: bool,
    share: usize,
    permits: Arc<Semaphore>,
    known: Mutex<HashMap<Place, Known>>,
    /// How often a cluster was forgotten. A Secret that was being read then is not remembered.
    forgotten: AtomicU64,
}

/// As long as this lives, a reconciliation may work on a remote cluster.
pub(crate) struct Admitted {
    _all: OwnedSemaphorePermit,
    _here: Option<OwnedSemaphorePermit>,
}

/// Whether the API server of that configuration is on this machine.
pub(crate) fn is_loopback(config: &Config) -> bool {
    let host = config.cluster_url.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl Remotes {
    /// Reads Secrets with this client. `loopback`: whether clusters on this machine are allowed. `concurrency`: how many reconciliations
    /// run at once.
    pub(crate) fn new(client: Client, loopback: bool, concurrency: u16) -> Self {
        let all = usize::from(concurrency);
        Self {
            access: Access::new(client.clone()),
            client,
            loopback,
            share: (all / SHARE).max(1),
            permits: Arc::new(Semaphore::new((all / 2).max(1))),
            known: Mutex::default(),
            forgotten: AtomicU64::new(0),
        }
    }

    /// The cluster that an Environment of `host` names. Its kubeconfig is read again if `anew` is set, or if it is older than a minute.
    ///
    /// # Errors
    /// Why it can't be used, and what to do about it.
    pub(crate) async fn get(&self, host: &str, spec: &Spec, anew: bool) -> Result<Arc<Remote>, Failure> {
        let reference = &spec.kubeconfig_secret_ref;
        let place = place(host, spec);
        let forgotten = self.forgotten.load(Ordering::Acquire);
        let known = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get_mut(&place).map(|k| {
                k.used = Instant::now();
                (k.remote.clone(), k.read)
            })
        };
        if let Some((remote, read)) = &known
            && !anew
            && read.elapsed() < BELIEVED
            && !remote.cluster.is_rejected()
        {
            return open(remote.clone());
        }
        let kubeconfig = self.read(host, &reference.name, &reference.key).await?;
        let remote = match known {
            Some((remote, _)) if remote.cluster.is_of(&kubeconfig) => {
                remote.cluster.forgive();
                remote
            }
            _ => {
                let cluster = RemoteCluster::new(&reference.name, kubeconfig).map_err(|_| {
                    refused(host, spec, "no client can be made of it: the certificate and key don't fit, or the CA is none")
                })?;
                Arc::new(Remote {
                    discovery: Arc::new(Discovery::new(cluster.client())),
                    cluster,
                    permits: Arc::new(Semaphore::new(self.share)),
                })
            }
        };
        let now = Instant::now();
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if self.forgotten.load(Ordering::Acquire) == forgotten {
            all.insert(place, Known { remote: remote.clone(), read: now, used: now });
        }
        drop(all);
        open(remote)
    }

    /// Admits a reconciliation to a cluster, unless many work on it: a cluster that does not answer must not delay work elsewhere.
    pub(crate) fn admit(&self, host: &str, spec: &Spec) -> Option<Admitted> {
        let place = place(host, spec);
        let here = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&place).map(|k| k.remote.permits.clone())
        };
        let all = self.permits.clone().try_acquire_owned().ok()?;
        let here = match here {
            Some(here) => Some(here.try_acquire_owned().ok()?),
            None => None,
        };
        Some(Admitted { _all: all, _here: here })
    }

    /// Forgets a cluster that has no Environment any more, with its connections and tokens. Reconciliations that work on it finish with
    /// what they have.
    pub(crate) fn forget(&self, host: &str, spec: &Spec) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&place(host, spec));
        self.forgotten.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets clusters that nobody has used for a while, with their connections and tokens.
    pub(crate) fn sweep(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).retain(|_, k| k.used.elapsed() < KEPT);
    }

    async fn read(&self, host: &str, name: &str, key: &str) -> Result<Kubeconfig, Failure> {
        let failed = |reason, message| Failure { reason, message, remedy: Remedy::Polled };
        let secret = format!("the kubeconfig Secret {name} in namespace {host}");
        let value = secrets::read(&self.access, self.client.clone(), host, name, key, &secret).await;
        let value = value.map_err(|why| match why {
            Unreadable::Failed(error) => failed(Reason::KubeconfigNotReadable, format!("{secret} could not be read: {error}")),
            Unreadable::NotAllowed(message) => failed(Reason::KubeconfigNotReadable, message),
            Unreadable::NoSecret => {
                let how = format!("kubectl create secret generic {name} -n {host} --from-file={key}=FILE");
                failed(Reason::KubeconfigNotFound, format!("the kubeconfig Secret {name} does not exist in namespace {host}: {how}"))
            }
            Unreadable::NoKey => {
                let how = "put the kubeconfig there, or create the Environment with another key";
                failed(Reason::KubeconfigNotFound, format!("{secret} has no key {key}: {how}"))
            }
        })?;
        Kubeconfig::parse(&value.0, self.loopback).map_err(|why| {
            failed(
                Reason::KubeconfigRefused,
                format!("the kubeconfig in key {key} of Secret {name} in namespace {host} can't be used: {why}"),
            )
        })
    }
}

fn place(host: &str, spec: &Spec) -> Place {
    (host.to_owned(), spec.kubeconfig_secret_ref.name.clone(), spec.kubeconfig_secret_ref.key.clone())
}

fn refused(host: &str, spec: &Spec, why: &str) -> Failure {
    let reference = &spec.kubeconfig_secret_ref;
    Failure {
        reason: Reason::KubeconfigRefused,
        message: format!("the kubeconfig in key {} of Secret {} in namespace {host} can't be used: {why}", reference.key, reference.name),
        remedy: Remedy::Polled,
    }
}

/// The cluster, unless it failed to answer a moment ago.
fn open(remote: Arc<Remote>) -> Result<Arc<Remote>, Failure> {
    match remote.cluster.away() {
        None => Ok(remote),
        Some(why) => Err(remote.away(&why)),
    }
}

impl Remote {
    /// The cluster did not answer.
    pub(crate) fn away(&self, why: &str) -> Failure {
        let name = self.cluster.name();
        Failure {
            reason: Reason::ClusterUnreachable,
            message: format!(
                "cluster {name} does not answer ({why}): see that its API server runs, and that it is reached from the operator by the address and CA in Secret {name}"
            ),
            remedy: Remedy::Polled,
        }
    }

    /// What an error of a call by the kubeconfig's user means.
    pub(crate) fn failure(&self, error: &Error) -> Failure {
        match error {
            Error::Api(status) if status.code == 401 => self.rejected(),
            Error::Api(status) => Failure {
                reason: Reason::ClusterRefuses,
                // The message comes from another cluster, which may say anything.
                message: format!(
                    "cluster {} answers {}: {}",
                    self.cluster.name(),
                    status.code,
                    errors::bounded(&status.message, MOST_SAID)
                ),
                remedy: Remedy::Polled,
            },
            error => self.away(&circuit_breaker::cause(error)),
        }
    }

    fn rejected(&self) -> Failure {
        let name = self.cluster.name();
        Failure {
            reason: Reason::KubeconfigRejected,
            message: format!(
                "cluster {name} rejects the credential of kubeconfig Secret {name}: it has expired or was revoked; make a new one and update the Secret"
            ),
            remedy: Remedy::Polled,
        }
    }

    /// The namespace in the remote cluster.
    ///
    /// # Errors
    /// Why it can't be read.
    pub(crate) async fn namespace(&self, namespace: &str) -> Result<Option<Namespace>, Failure> {
        match Api::<Namespace>::all(self.cluster.client()).get_opt(namespace).await {
            Ok(found) => Ok(found),
            Err(Error::Api(status)) if status.code == 403 => {
                let user = self.cluster.user().await;
                Err(Failure {
                    reason: Reason::NamespaceNotReadable,
                    message: format!(
                        "{} may not read namespace {namespace} in cluster {}; an administrator of that cluster applies there:\n{}",
                        user,
                        self.cluster.name(),
                        grants::sees_namespace(namespace, &grants::subject_of(&user))
                    ),
                    remedy: Remedy::Polled,
                })
            }
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// A client that acts as the delegate of that name in the remote cluster.
    ///
    /// # Errors
    /// Why there is no such client, and what to do about it.
    pub(crate) async fn lend(&self, delegate_namespace: &str, name: &str) -> Result<DelegateClient, Failure> {
        let cluster = self.cluster.name();
        let failed = |reason, message| Failure { reason, message, remedy: Remedy::Polled };
        match self.cluster.lend(delegate_namespace, name).await {
            Ok(client) => Ok(client),
            Err(LendError::Absent) => Err(failed(
                Reason::DelegateMissingInCluster,
                format!(
                    "ServiceAccount {name} does not exist in namespace {delegate_namespace} of cluster {cluster}, so that nobody can deploy there: kubectl create serviceaccount {name} -n {delegate_namespace} in that cluster, and grant it what it deploys"
                ),
            )),
            Err(LendError::Forbidden) => {
                let user = self.cluster.user().await;
                Err(failed(
                    Reason::TokenNotGranted,
                    format!(
                        "{user} may not ask for tokens of ServiceAccount {name} in namespace {delegate_namespace} of cluster {cluster}; an administrator of that namespace applies there:\n{}",
                        grants::lends_token(delegate_namespace, name, &grants::subject_of(&user))
                    ),
                ))
            }
            Err(why @ (LendError::Denied(_) | LendError::NoNode(_))) => Err(failed(
                Reason::TokenNotLent,
                format!("cluster {cluster} gives no token of ServiceAccount {name} in namespace {delegate_namespace}: {why}"),
            )),
            Err(LendError::Rejected) => Err(self.rejected()),
            Err(LendError::Api(error)) => Err(self.failure(&error)),
        }
    }
}
