//! What all controllers share: caches, queues with back-off, the Lease, the panic guard, and the one function that writes status.

pub(crate) mod accounts;
pub(crate) mod admission_check;
pub(crate) mod admission_probe;
pub(crate) mod controller;
pub(crate) mod developed;
pub(crate) mod event_recorder;
pub(crate) mod freshness;
pub(crate) mod leadership;
pub(crate) mod open_requests;
pub(crate) mod remotes;
pub(crate) mod room;
pub(crate) mod status;
pub(crate) mod status_writer;
pub(crate) mod stores;
pub(crate) mod trimmed;

use std::sync::Arc;
use std::time::Duration;

use crate::api::{Artifact, Environment, Pipeline, Solution};
use crate::artifact::oci::Registries;
use crate::artifact::store::{ArtifactStore, Place};
use crate::cluster::discovery::Discovery;
use crate::identity::access::Access;
use crate::identity::clients::{ClientError, Clients};
use crate::identity::delegation::{Delegation, Fits, Served};
use crate::policy::storage::Quota;

use event_recorder::EventRecorder;
use freshness::Freshness;
use leadership::Leadership;
use remotes::Remotes;
use room::Rooms;
use status_writer::StatusWriter;
use stores::Stores;

/// What the operator was told at its start.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The hosts that it serves. Empty: all namespaces with the label of a host.
    pub(crate) hosts: Vec<String>,
    /// How long a request waits for what it needs to be accepted.
    pub(crate) accept_timeout: Duration,
    /// How many objects of a kind are worked on at once.
    pub(crate) concurrency: u16,
    /// How many calls one deployment makes to its target at once.
    pub(crate) apply_concurrency: usize,
    /// Where large artifacts are stored. `None`: only in the cluster.
    pub(crate) artifact_store: Option<Place>,
    /// How many bytes of artifacts are stored in `ConfigMaps`.
    pub(crate) stored: Quota,
    /// How delegates are acted as.
    pub(crate) delegation: Delegation,
    /// The Node that lent tokens are bound to.
    pub(crate) node: String,
}

/// The host's cluster as the operator sees it, and everything that is needed to act on it.
pub(crate) struct Cluster {
    /// The clients: the operator's own and those of the delegates.
    pub(crate) clients: Clients,
    /// Access reviews.
    pub(crate) access: Access,
    /// Caches.
    pub(crate) stores: Stores,
    /// The writers of status that several requests change.
    pub(crate) records: StatusWriters,
    /// The kinds that the cluster serves.
    pub(crate) discovery: Arc<Discovery>,
    /// The other clusters that have targets.
    pub(crate) remotes: Arc<Remotes>,
    /// Artifacts and their bytes.
    pub(crate) artifacts: ArtifactStore,
    /// How much room there is for artifacts.
    pub(crate) rooms: Rooms,
    /// Registries that artifacts are fetched from.
    pub(crate) registries: Registries,
    /// Kubernetes Events.
    pub(crate) events: EventRecorder,
    /// What the operator wrote last and the caches may not have yet.
    pub(crate) written: Freshness,
    /// Whether this process is still the leader.
    pub(crate) leadership: Leadership,
    /// What the operator was told at its start.
    pub(crate) options: Options,
    /// The version of the API server, at the start.
    pub(crate) served: Served,
}

/// The one writer for each kind whose status several requests change.
pub(crate) struct StatusWriters {
    /// Environments: validation, claims, what runs.
    pub(crate) environments: StatusWriter<Environment>,
    /// Pipelines: how far their sinks have been told.
    pub(crate) pipelines: StatusWriter<Pipeline>,
    /// Artifacts: where they were deployed.
    pub(crate) artifacts: StatusWriter<Artifact>,
    /// The status of Solutions: the maker's view.
    pub(crate) solutions: StatusWriter<Solution>,
}

impl Cluster {
    /// The cluster of `config`. The caches are empty until [`stores::watch`] fills them.
    ///
    /// # Errors
    /// If the configuration can't be used.
    pub(crate) fn new(config: kube::Config, stores: Stores, options: Options, served: Served) -> Result<Arc<Self>, ClientError> {
        let loopback = remotes::is_loopback(&config);
        let mut clients = Clients::new(config)?;
        if options.delegation == Delegation::LentToken {
            clients = clients.with_lent_tokens(&options.node);
        }
        let client = clients.operator();
        Ok(Arc::new(Self {
            access: Access::new(client.clone()),
            records: StatusWriters {
                environments: StatusWriter::new(client.clone(), stores.environments.clone()),
                pipelines: StatusWriter::new(client.clone(), stores.pipelines.clone()),
                artifacts: StatusWriter::new(client.clone(), stores.artifacts.clone()),
                solutions: StatusWriter::new(client.clone(), stores.solutions.clone()),
            },
            discovery: Arc::new(Discovery::new(client.clone())),
            remotes: Arc::new(Remotes::new(client.clone(), loopback, options.concurrency)),
            artifacts: ArtifactStore::new(client.clone()).with(options.artifact_store.clone(), options.concurrency),
            rooms: Rooms::new(stores.clone(), options.stored),
            registries: Registries::new(options.concurrency),
            events: EventRecorder::start(client),
            written: Freshness::default(),
            leadership: Leadership::default(),
            clients,
            stores,
            options,
            served,
        }))
    }

    /// Why nothing can be deployed in this cluster as the operator is installed; `None` if it can.
    pub(crate) fn unfit(&self) -> Option<String> {
        let delegation = self.options.delegation;
        (self.served.fits(delegation) == Fits::Not).then(|| self.served.told(delegation))
    }

    /// Whether this operator serves the namespace as a host.
    pub(crate) fn serves(&self, host: &str) -> bool {
        (self.options.hosts.is_empty() || self.options.hosts.iter().any(|h| h == host)) && self.stores.is_host(host)
    }
}
