//! Caches of all that the operator watches, and who is told of changes.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use super::developed::{self, Developed};
use super::open_requests::{self, OpenRequests};
use super::trimmed;
use crate::api::names::HOST_LABEL;
use crate::api::{Artifact, DeploymentRequest, Environment, Pipeline, Solution, Stage};

/// How many objects one page of a list has. A server sends each object whole, up to 1.5 MiB, however little of it is kept.
pub(crate) const PAGE: u32 = 50;

/// The caches.
#[derive(Clone)]
pub(crate) struct Stores {
    /// All Environments.
    pub(crate) environments: Store<Environment>,
    /// All Pipelines.
    pub(crate) pipelines: Store<Pipeline>,
    /// All Stages.
    pub(crate) stages: Store<Stage>,
    /// All requests. Of ended ones only what other objects need is kept.
    pub(crate) requests: Store<DeploymentRequest>,
    /// Which of them have not ended.
    pub(crate) open: Arc<OpenRequests>,
    /// All Artifacts. The lists of their objects are dropped except for the Jobs, and so are large definitions.
    pub(crate) artifacts: Store<Artifact>,
    /// All Solutions of development namespaces: their versions and their status.
    pub(crate) solutions: Store<Solution>,
    /// The metadata of all namespaces.
    pub(crate) namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Admission policies, to check that Pilotage's own are in force.
    pub(crate) validating_policies: Store<ValidatingAdmissionPolicy>,
    /// Their bindings.
    pub(crate) validating_bindings: Store<ValidatingAdmissionPolicyBinding>,
    pub(crate) mutating_policies: Store<MutatingAdmissionPolicy>,
    /// Their bindings.
    pub(crate) mutating_bindings: Store<MutatingAdmissionPolicyBinding>,
}

/// The write ends of the caches.
pub(crate) struct Writers {
    environments: Writer<Environment>,
    pipelines: Writer<Pipeline>,
    stages: Writer<Stage>,
    requests: Writer<DeploymentRequest>,
    artifacts: Writer<Artifact>,
    solutions: Writer<Solution>,
    namespaces: Writer<PartialObjectMeta<Namespace>>,
    validating_policies: Writer<ValidatingAdmissionPolicy>,
    validating_bindings: Writer<ValidatingAdmissionPolicyBinding>,
    mutating_policies: Writer<MutatingAdmissionPolicy>,
    mutating_bindings: Writer<MutatingAdmissionPolicyBinding>,
}

/// Empty caches and their write ends.
pub(crate) fn empty() -> (Stores, Writers) {
    let (environments, environments_writer) = reflector::store();
    let (pipelines, pipelines_writer) = reflector::store();
    let (stages, stages_writer) = reflector::store();
    let (requests, requests_writer) = reflector::store();
    let (artifacts, artifacts_writer) = reflector::store();
    let (solutions, solutions_writer) = reflector::store();
    let (namespaces, namespaces_writer) = reflector::store();
    let (validating_policies, validating_policies_writer) = reflector::store();
    let (validating_bindings, validating_bindings_writer) = reflector::store();
    let (mutating_policies, mutating_policies_writer) = reflector::store();
    let (mutating_bindings, mutating_bindings_writer) = reflector::store();
    (
        Stores {
            environments,
            pipelines,
            stages,
            requests,
            open: Arc::default(),
            artifacts,
            solutions,
            namespaces,
            validating_policies,
            validating_bindings,
            mutating_policies,
            mutating_bindings,
        },
        Writers {
            environments: environments_writer,
            pipelines: pipelines_writer,
            stages: stages_writer,
            requests: requests_writer,
            artifacts: artifacts_writer,
            solutions: solutions_writer,
            namespaces: namespaces_writer,
            validating_policies: validating_policies_writer,
            validating_bindings: validating_bindings_writer,
            mutating_policies: mutating_policies_writer,
            mutating_bindings: mutating_bindings_writer,
        },
    )
}

impl Stores {
    /// The requests for one solution in one host that have not ended.
    pub(crate) fn open_requests_for(&self, host: &str, solution: &str) -> impl Iterator<Item = Arc<DeploymentRequest>> + '_ {
        open_requests::cached(&self.requests, self.open.of(host, solution))
    }

    /// All requests that have not ended.
    pub(crate) fn open_requests(&self) -> impl Iterator<Item = Arc<DeploymentRequest>> + '_ {
        open_requests::cached(&self.requests, self.open.all())
    }

    /// Waits until every cache has been filled once.
    ///
    /// # Errors
    /// If a watch has ended, which is a defect.
    pub(crate) async fn ready(&self) -> Result<(), reflector::store::WriterDropped> {
        self.environments.wait_until_ready().await?;
        self.pipelines.wait_until_ready().await?;
        self.stages.wait_until_ready().await?;
        self.requests.wait_until_ready().await?;
        self.artifacts.wait_until_ready().await?;
        self.solutions.wait_until_ready().await?;
        self.namespaces.wait_until_ready().await?;
        self.validating_policies.wait_until_ready().await?;
        self.validating_bindings.wait_until_ready().await?;
        self.mutating_policies.wait_until_ready().await?;
        self.mutating_bindings.wait_until_ready().await
    }

    /// Whether the namespace has the label of a host.
    pub(crate) fn is_host(&self, namespace: &str) -> bool {
        self.namespaces.get(&ObjectRef::new(namespace)).is_some_and(|ns| ns.labels().get(HOST_LABEL).is_some_and(|v| v == "true"))
    }
}

/// Who is told of changes. It gets the object as it is now, or as it was last seen before it was deleted.
pub(crate) trait WatchHandler: Send + Sync + 'static {
    /// An Environment changed.
    fn environment(&self, object: &Environment);
    /// A Pipeline changed.
    fn pipeline(&self, object: &Pipeline);
    /// A Stage changed.
    fn stage(&self, object: &Stage);
    /// A request changed.
    fn request(&self, object: &DeploymentRequest);
    /// An Artifact changed.
    fn artifact(&self, object: &Artifact);
    /// A Solution changed.
    fn solution(&self, object: &Solution);
    /// A namespace changed.
    fn namespace(&self, object: &PartialObjectMeta<Namespace>);
    /// An admission policy or binding changed.
    fn policy(&self);
    /// A `ServiceAccount` of a host was created or deleted.
    fn account(&self, host: &str, name: &str);
}

/// Fills the caches as long as it is polled. Each watch has its own back-off, so that a failing watch delays no other.
///
/// `hosts` are those that the operator serves. An empty list means all. `mutating`: whether the API server has mutating policies. Where it
/// has none, there are none in the caches.
pub(crate) fn watch(
    client: &Client,
    stores: &Stores,
    mut writers: Writers,
    watch_handler: &Arc<dyn WatchHandler>,
    hosts: &[String],
    mutating: bool,
) -> impl Future<Output = ()> + Send + use<> {
    let (open, requests, told) = (stores.open.clone(), stores.requests.clone(), watch_handler.clone());
    let request = move |request: &DeploymentRequest| {
        open.note(request, requests.get(&ObjectRef::from_obj(request)).is_none());
        told.request(request);
    };
    let (developed, namespaces) = Developed::new(hosts);
    let environment = {
        let (developed, told) = (developed.clone(), watch_handler.clone());
        move |environment: &Environment| {
            developed.note(environment);
            told.environment(environment);
        }
    };
    let (filled, environments) = oneshot::channel();
    let known = developed::Known { filled: environments, environments: stores.environments.clone() };
    let solutions = developed::only(whole_watch::<Solution>(client), client.clone(), known, developed, namespaces);
    let mut all = vec![
        tokio::spawn(follow(whole_watch(client), writers.environments, trimmed::environment, environment, Some(filled))),
        spawn(client, writers.pipelines, trimmed::pipeline, tell(watch_handler, <dyn WatchHandler>::pipeline)),
        spawn(client, writers.stages, trimmed::stage, tell(watch_handler, <dyn WatchHandler>::stage)),
        spawn(client, writers.requests, trimmed::request, request),
        spawn(client, writers.artifacts, trimmed::artifact, tell(watch_handler, <dyn WatchHandler>::artifact)),
        tokio::spawn(follow(solutions, writers.solutions, trimmed::solution, tell(watch_handler, <dyn WatchHandler>::solution), None)),
        spawn(client, writers.validating_policies, trimmed::validating_policy, tell(watch_handler, |n, _| n.policy())),
        spawn(client, writers.validating_bindings, trimmed::validating_binding, tell(watch_handler, |n, _| n.policy())),
        spawn(client, writers.namespaces, trimmed::namespace, tell(watch_handler, <dyn WatchHandler>::namespace)),
    ];
    if mutating {
        all.push(spawn(client, writers.mutating_policies, trimmed::mutating_policy, tell(watch_handler, |n, _| n.policy())));
        all.push(spawn(client, writers.mutating_bindings, trimmed::mutating_binding, tell(watch_handler, |n, _| n.policy())));
    } else {
        filled_with_nothing(&mut writers.mutating_policies);
        filled_with_nothing(&mut writers.mutating_bindings);
    }
    async move {
        for ended in futures::future::join_all(all).await {
            if let Err(error) = ended {
                tracing::error!(%error, "a watch ended");
            }
        }
    }
}

fn filled_with_nothing<K>(writer: &mut Writer<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    writer.apply_watcher_event(&watcher::Event::Init);
    writer.apply_watcher_event(&watcher::Event::InitDone);
}

fn tell<K>(watch_handler: &Arc<dyn WatchHandler>, call: impl Fn(&dyn WatchHandler, &K) + Send + 'static) -> impl Fn(&K) + Send + 'static {
    let watch_handler = watch_handler.clone();
    move |object| call(watch_handler.as_ref(), object)
}

fn spawn<K>(client: &Client, writer: Writer<K>, shrink: fn(&mut K), changed: impl Fn(&K) + Send + 'static) -> tokio::task::JoinHandle<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    tokio::spawn(follow(whole_watch::<K>(client), writer, shrink, changed, None))
}

fn whole_watch<K>(client: &Client) -> impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher(Api::<K>::all(client.clone()), watcher::Config::default().page_size(PAGE))
}

/// Follows one watch. Reports objects too that were deleted while the watch was interrupted. Signals `filled` when all objects are there.
async fn follow<K>(
    stream: impl futures::Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    mut writer: Writer<K>,
    shrink: fn(&mut K),
    changed: impl Fn(&K) + Send + 'static,
    mut filled: Option<oneshot::Sender<()>>,
) where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let store = writer.as_reader();
    let mut before: HashMap<ObjectRef<K>, Arc<K>> = HashMap::new();
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event.modify(shrink),
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "a watch failed and is tried again");
                continue;
            }
        };
        writer.apply_watcher_event(&event);
        match &event {
            watcher::Event::Init => before = store.state().into_iter().map(|o| (ObjectRef::from_obj(o.as_ref()), o)).collect(),
            watcher::Event::InitApply(object) => {
                before.remove(&ObjectRef::from_obj(object));
            }
            watcher::Event::InitDone => {
                for object in &store.state() {
                    changed(object);
                }
                for gone in std::mem::take(&mut before).values() {
                    changed(gone);
                }
                if let Some(filled) = filled.take() {
                    // At a shutdown nobody waits any more.
                    let _ = filled.send(());
                }
            }
            watcher::Event::Apply(object) | watcher::Event::Delete(object) => changed(object),
        }
    }
}
