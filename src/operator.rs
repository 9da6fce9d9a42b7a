//! The operator's process: starts its parts, leads or stands by, and stops in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use kube::runtime::reflector::Store;
use kube::{Client, Config};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, State};
use crate::artifact::store::{Place, Wanted};
use crate::controllers::environment::EnvironmentController;
use crate::controllers::pipeline::PipelineController;
use crate::controllers::request::RequestController;
use crate::controllers::retention::RetentionController;
use crate::controllers::solution::SolutionController;
use crate::controllers::stage::StageController;
use crate::controllers::watch_mapping::WatchMapping;
use crate::deploy::plan::input::CONCURRENCY;
use crate::identity::delegation::{Delegation, Fits, IMPERSONATION_SINCE, Served};
use crate::policy::storage::{self, Quota};
use crate::runtime::admission_check::AdmissionCheck;
use crate::runtime::admission_probe::{self, Answer};
use crate::runtime::controller::{Queue, Reconciler};
use crate::runtime::leadership::Election;
use crate::runtime::stores::WatchHandler;
use crate::runtime::{Cluster, Options, controller, stores};
use crate::triggers;

/// How long running reconciliations may take to finish at a shutdown.
const GRACE: Duration = Duration::from_secs(25);

/// How often the API server is asked whether the policies are in force, until they are.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How long the API server may take to say its version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the version is asked for where nothing can be deployed on it.
const VERSION_INTERVAL: Duration = Duration::from_mins(1);

/// How the operator runs.
#[derive(Args, Clone, Debug)]
pub struct OperatorArgs {
    /// The hosts to serve; left out, all namespaces labelled pilotage.dev/host=true.
    #[arg(long, value_delimiter = ',', env = "PILOTAGE_HOSTS")]
    pub hosts: Vec<String>,
    /// Seconds that a request waits for what it needs to be accepted.
    #[arg(long, default_value_t = 3600, env = "PILOTAGE_ACCEPT_TIMEOUT")]
    pub accept_timeout: u64,
    /// The Lease in pilotage-system that makes one of several operators work. Operators of different hosts have one each.
    #[arg(long, default_value = "pilotage", env = "PILOTAGE_LEASE_NAME")]
    pub lease_name: String,
    /// Seconds after which a leader that does not renew its Lease is replaced.
    #[arg(long, default_value_t = 15, env = "PILOTAGE_LEASE_DURATION")]
    pub lease_duration: u64,
    /// How many objects of a kind are worked on at once.
    #[arg(long, default_value_t = 16, env = "PILOTAGE_CONCURRENCY")]
    pub concurrency: u16,
    /// How many calls one deployment makes to its target at once.
    #[arg(long, default_value_t = CONCURRENCY, env = "PILOTAGE_APPLY_CONCURRENCY")]
    pub apply_concurrency: usize,
    /// How many bytes of artifacts one host keeps, as stored; what is in a registry does not count.
    #[arg(long, default_value = "512Mi", value_name = "BYTES", value_parser = storage::bytes, env = "PILOTAGE_STORED_BYTES_PER_HOST")]
    pub stored_bytes_per_host: u64,
    /// How many of them may come from one development environment.
    #[arg(long, default_value = "128Mi", value_name = "BYTES", value_parser = storage::bytes, env = "PILOTAGE_STORED_BYTES_PER_ENVIRONMENT")]
    pub stored_bytes_per_environment: u64,
    /// How the operator acts as delegates: by constrained impersonation, which Kubernetes has since 1.36; or, on 1.33 to 1.35, with short-lived
    /// tokens of theirs, for which deploy/components/older-kubernetes has to be installed.
    #[arg(long, value_enum, default_value_t, env = "PILOTAGE_DELEGATION")]
    pub delegation: Delegation,
    /// The Node that the operator runs on. Lent tokens are bound to it.
    #[arg(long, default_value = "", value_name = "NAME", required_if_eq("delegation", "token"), env = "PILOTAGE_NODE")]
    pub node: String,
    /// Where health and metrics are served.
    #[arg(long, default_value = "127.0.0.1:8080", env = "PILOTAGE_ADMIN_ADDRESS")]
    pub admin_address: SocketAddr,
    /// Where large artifacts are kept.
    #[command(flatten)]
    pub artifact_store: ArtifactStoreArgs,
}

/// Where large artifacts are kept: in their host, unless a registry is named.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Artifact store")]
pub struct ArtifactStoreArgs {
    /// The path in a registry that large artifacts go to; each solution of each host has a repository below it.
    #[arg(long, value_name = "oci://HOST[:PORT]/PATH", env = "PILOTAGE_ARTIFACT_STORE")]
    pub artifact_store: Option<String>,
    /// The compressed size from which an artifact goes there; left out, what does not fit one chunk of 700 KiB.
    #[arg(long, value_name = "BYTES", env = "PILOTAGE_ARTIFACT_STORE_FROM")]
    pub artifact_store_from: Option<usize>,
    /// A file with the registry's credentials (.dockerconfigjson). It is read whenever it is needed.
    #[arg(long, value_name = "FILE", env = "PILOTAGE_ARTIFACT_STORE_CREDENTIALS")]
    pub artifact_store_credentials: Option<PathBuf>,
    /// A file with the registry's certificate authority (PEM), in place of those that the machine trusts.
    #[arg(long, value_name = "FILE", env = "PILOTAGE_ARTIFACT_STORE_CERTIFICATE_AUTHORITY")]
    pub artifact_store_certificate_authority: Option<PathBuf>,
    /// Speak http with the registry. Not together with credentials or a certificate authority.
    #[arg(long, env = "PILOTAGE_ARTIFACT_STORE_PLAIN_HTTP")]
    pub artifact_store_plain_http: bool,
}

impl ArtifactStoreArgs {
    fn place(self) -> anyhow::Result<Option<Place>> {
        let wanted = Wanted {
            store: self.artifact_store,
            from: self.artifact_store_from,
            credentials: self.artifact_store_credentials,
            authority: self.artifact_store_certificate_authority,
            plain_http: self.artifact_store_plain_http,
        };
        Place::of(wanted).map_err(anyhow::Error::msg)
    }
}

/// Runs until a signal, or until the Lease is lost.
///
/// # Errors
/// Where it can't start.
pub async fn run(args: OperatorArgs) -> anyhow::Result<()> {
    let artifact_store = args.artifact_store.place()?;
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let config = Config::infer().await?;
    let options = Options {
        hosts: args.hosts,
        accept_timeout: Duration::from_secs(args.accept_timeout),
        concurrency: args.concurrency.max(1),
        apply_concurrency: args.apply_concurrency.max(1),
        artifact_store,
        stored: Quota { host: args.stored_bytes_per_host, environment: args.stored_bytes_per_environment },
        delegation: args.delegation,
        node: args.node,
    };
    anyhow::ensure!(
        options.delegation == Delegation::Impersonation || !options.node.is_empty(),
        "with lent tokens, PILOTAGE_NODE has to name the Node"
    );
    let state = State::default();
    let admin = tokio::spawn(admin::serve(args.admin_address, state.clone(), stop.clone()));
    let mut asking = config.clone();
    (asking.connect_timeout, asking.read_timeout) = (Some(VERSION_TIMEOUT), Some(VERSION_TIMEOUT));
    let asking = Client::try_from(asking)?;
    let served = tokio::select! {
        served = version(&asking) => served,
        () = stop.cancelled() => return Ok(()),
    };
    tell(&served, options.delegation);
    let mutating = served.impersonates() && options.delegation == Delegation::Impersonation;
    let (caches, writers) = stores::empty();
    let cluster = Cluster::new(config, caches.clone(), options, served)?;
    let (watch_mapping, queues) = WatchMapping::new(caches.clone(), cluster.remotes.clone());
    let watch_handler: Arc<dyn WatchHandler> = watch_mapping;
    let hosts = &cluster.options.hosts;
    let watches = tokio::spawn(stores::watch(&cluster.clients.watch(), &cluster.stores, writers, &watch_handler, hosts, mutating));
    tokio::select! {
        ready = caches.ready() => ready?,
        () = stop.cancelled() => return Ok(()),
    }
    tracing::info!("caches are filled");
    let readiness = tokio::spawn(get_ready(cluster.clone(), state.clone(), stop.clone()));

    let identity = format!("{}-{}", std::env::var("HOSTNAME").unwrap_or_else(|_| "pilotage".into()), std::process::id());
    let election = Election::new(
        cluster.clients.operator(),
        cluster.leadership.clone(),
        args.lease_name,
        identity,
        Duration::from_secs(args.lease_duration.max(1)),
    );
    let Some(lease) = election.acquire(&stop).await else { return Ok(()) };
    state.set_leading();

    let policies = AdmissionCheck::new(cluster.options.delegation);
    let start = Start { cluster: cluster.clone(), stop: stop.clone() };
    let controllers = vec![
        start.controller(EnvironmentController::new(cluster.clone()), &caches.environments, queues.environments),
        start.controller(PipelineController::new(cluster.clone()), &caches.pipelines, queues.pipelines),
        start.slow_controller(RetentionController::new(cluster.clone()), &caches.pipelines, queues.retentions),
        start.controller(
            StageController::new(cluster.clone(), Box::new(move |stores| policies.by_caches(stores)), watch_handler),
            &caches.stages,
            queues.stages,
        ),
        start.controller(RequestController::new(cluster.clone()), &caches.requests, queues.requests),
        start.controller(SolutionController::new(cluster.clone()), &caches.solutions, queues.solutions),
        tokio::spawn(triggers::run(cluster.clone(), queues.sinks, stop.clone())),
    ];
    // The Lease is released only after the last reconciliation has ended.
    let finished = CancellationToken::new();
    let drained = {
        let (stop, finished) = (stop.clone(), finished.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            if tokio::time::timeout(GRACE, futures::future::join_all(controllers)).await.is_err() {
                tracing::warn!("running reconciliations did not finish in time; the next leader continues them");
            }
            finished.cancel();
        })
    };
    election.hold(lease, &finished).await;
    if !stop.is_cancelled() {
        anyhow::bail!("the Lease was lost; this process ends so that only one leads");
    }
    drained.await?;
    watches.abort();
    admin.abort();
    readiness.abort();
    tracing::info!("stopped");
    Ok(())
}

/// The version of the API server, as soon as it answers.
async fn version(client: &Client) -> Served {
    loop {
        match client.apiserver_version().await {
            Ok(found) => return Served::of(&found.major, &found.minor, &found.git_version),
            Err(error) => tracing::warn!(%error, "the version of the API server could not be asked for; it is tried again"),
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
}

/// Says in the log which of the two a cluster is, and what is weaker, one line each.
fn tell(served: &Served, delegation: Delegation) {
    match served.fits(delegation) {
        Fits::Well => tracing::info!("{}", served.told(delegation)),
        Fits::Weaker | Fits::Not => tracing::warn!("{}", served.told(delegation)),
    }
    for weaker in delegation.weaker() {
        tracing::warn!("weaker than on Kubernetes 1.{IMPERSONATION_SINCE}: {weaker}");
    }
}

/// Waits until the API server was upgraded.
async fn until_another_version(client: &Client, served: &Served) {
    while version(client).await == *served {
        tokio::time::sleep(VERSION_INTERVAL).await;
    }
}

/// Is ready as soon as the policies are installed and the API server enforces them, so that whoever waits for the Deployment can write
/// Stages and requests then. What deploys does not depend on this: the Stage controller checks the policies by itself, and goes on checking.
async fn get_ready(cluster: Arc<Cluster>, state: State, stop: CancellationToken) {
    let delegation = cluster.options.delegation;
    let policies = AdmissionCheck::new(delegation);
    let client = cluster.clients.operator();
    if let Some(why) = cluster.unfit() {
        state.set_unready(why);
        until_another_version(&client, &cluster.served).await;
        tracing::info!("the API server has another version: starting anew");
        stop.cancel();
        return;
    }
    loop {
        let answer = if policies.by_caches(&cluster.stores) {
            admission_probe::ask(&client, delegation).await
        } else {
            Answer::NotYet("not all of them are installed".into())
        };
        match answer {
            Answer::InForce => break,
            Answer::NotAsked => {
                tracing::warn!("whether the policies are in force can't be asked: apply deploy/operator/role.yaml of this version");
                break;
            }
            Answer::NotYet(answer) => {
                let why = format!("the API server does not enforce the policies of deploy/admission yet: {answer}");
                if state.set_unready(why.clone()) {
                    tracing::warn!("not ready: {why}");
                }
            }
        }
        tokio::time::sleep(PROBE_INTERVAL).await;
    }
    state.set_ready();
    tracing::info!("ready");
}

/// Starts controllers.
struct Start {
    cluster: Arc<Cluster>,
    stop: CancellationToken,
}

impl Start {
    fn controller<R: Reconciler>(&self, reconciler: R, store: &Store<R::Kind>, queue: Queue<R::Kind>) -> JoinHandle<()> {
        self.start(reconciler, store, queue, self.cluster.options.concurrency)
    }

    /// One object at a time: what this does is not urgent, and must not keep the API server busy.
    fn slow_controller<R: Reconciler>(&self, reconciler: R, store: &Store<R::Kind>, queue: Queue<R::Kind>) -> JoinHandle<()> {
        self.start(reconciler, store, queue, 1)
    }

    fn start<R: Reconciler>(&self, reconciler: R, store: &Store<R::Kind>, queue: Queue<R::Kind>, concurrency: u16) -> JoinHandle<()> {
        tokio::spawn(controller::run(
            Arc::new(reconciler),
            store.clone(),
            queue,
            concurrency,
            self.cluster.leadership.clone(),
            self.stop.clone(),
        ))
    }
}

fn stop_on_signals(stop: CancellationToken) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}
