//! Which Solutions are cached: those in namespaces that a validated development Environment names. Whoever may edit another namespace may
//! create any number of Solutions there, and the operator caches none of them.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use kube::api::ListParams;
use kube::runtime::reflector::Store;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::stores::PAGE;
use crate::api::condition::{self, ConditionStatus, VALIDATED};
use crate::api::environment::EnvironmentType;
use crate::api::{Environment, Solution};

/// When to try again to list the Solutions of a namespace after an error.
const AGAIN: Duration = Duration::from_secs(2);

/// The namespace that the Environment develops in, if it was validated.
fn namespace(environment: &Environment) -> Option<String> {
    let conditions = environment.status.as_ref().map_or(&[][..], |s| &s.conditions);
    let validated = condition::find(conditions, VALIDATED).is_some_and(|c| c.status == ConditionStatus::True);
    (environment.spec.type_ == EnvironmentType::Development && validated).then(|| environment.spec.namespace.clone())
}

/// Is told of Environments, and reports new namespaces to [`only`].
#[derive(Clone)]
pub(crate) struct Developed {
    told: UnboundedSender<String>,
    hosts: Arc<[String]>,
}

impl Developed {
    /// The sending and the receiving end, for these hosts. An empty list means all hosts.
    pub(crate) fn new(hosts: &[String]) -> (Self, UnboundedReceiver<String>) {
        let (told, receiver) = unbounded_channel();
        (Self { told, hosts: hosts.into() }, receiver)
    }

    /// Takes note of an Environment.
    pub(crate) fn note(&self, environment: &Environment) {
        if let Some(namespace) = self.namespace(environment) {
            self.tell(namespace);
        }
    }

    fn tell(&self, namespace: String) {
        // At a shutdown nobody receives any more.
        let _ = self.told.send(namespace);
    }

    /// The namespace that the Environment develops in, if the operator serves the Environment's host.
    fn namespace(&self, environment: &Environment) -> Option<String> {
        let host = environment.namespace().unwrap_or_default();
        let is_worked_for = self.hosts.is_empty() || self.hosts.contains(&host);
        namespace(environment).filter(|_| is_worked_for)
    }
}

/// The Environments that exist at the start.
pub(crate) struct Known {
    /// Sent when the cache is filled.
    pub(crate) filled: oneshot::Receiver<()>,
    /// The cache.
    pub(crate) environments: Store<Environment>,
}

struct State<S> {
    watched: Pin<Box<S>>,
    client: Client,
    known: Option<Known>,
    told: UnboundedReceiver<String>,
    teller: Developed,
    namespaces: HashSet<String>,
    waiting: VecDeque<Event<Solution>>,
    /// True between the beginning and the end of a complete list. What is inserted in between would be lost at the end.
    listing: bool,
}

/// Filters a watch of all Solutions: only those in such namespaces. If a namespace is added later, its Solutions are listed then, because
/// the watch reported them long ago.
pub(crate) fn only<S>(
    watched: S,
    client: Client,
    known: Known,
    teller: Developed,
    told: UnboundedReceiver<String>,
) -> impl Stream<Item = watcher::Result<Event<Solution>>> + Send
where
    S: Stream<Item = watcher::Result<Event<Solution>>> + Send,
{
    let state = State {
        watched: Box::pin(watched),
        client,
        known: Some(known),
        told,
        teller,
        namespaces: HashSet::new(),
        waiting: VecDeque::new(),
        listing: true,
    };
    stream::unfold(state, |mut state| async move { state.next().await.map(|event| (event, state)) })
}

impl<S: Stream<Item = watcher::Result<Event<Solution>>> + Send> State<S> {
    async fn next(&mut self) -> Option<watcher::Result<Event<Solution>>> {
        if let Some(known) = self.known.take() {
            known.filled.await.ok()?;
            self.namespaces = known.environments.state().iter().filter_map(|e| self.teller.namespace(e)).collect();
        }
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(Ok(event));
            }
            let listing = self.listing;
            tokio::select! {
                event = self.watched.next() => {
                    let event = event?;
                    match &event {
                        Ok(Event::Init) => self.listing = true,
                        Ok(Event::InitDone) => self.listing = false,
                        Ok(Event::InitApply(solution) | Event::Apply(solution) | Event::Delete(solution)) if !self.is_wanted(solution) => continue,
                        _ => {}
                    }
                    return Some(event);
                }
                namespace = self.told.recv(), if !listing => self.take_in(namespace?).await,
            }
        }
    }

    fn is_wanted(&self, solution: &Solution) -> bool {
        let namespace = solution.namespace().unwrap_or_default();
        self.namespaces.contains(&namespace)
    }

    /// Lists a new namespace. No event of the watch is processed meanwhile, so that all later events are newer than the list.
    async fn take_in(&mut self, namespace: String) {
        if self.namespaces.contains(&namespace) {
            return;
        }
        let solutions: Api<Solution> = Api::namespaced(self.client.clone(), &namespace);
        let mut found = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        loop {
            match solutions.list(&params).await {
                Ok(page) => {
                    params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
                    found.extend(page.items.into_iter().map(|mut solution| {
                        super::trimmed::solution(&mut solution);
                        Event::Apply(solution)
                    }));
                }
                Err(error) => {
                    tracing::warn!(%error, namespace, "the Solutions of a development namespace could not be listed and are tried again");
                    let teller = self.teller.clone();
                    tokio::spawn(async move {
                        tokio::time::sleep(AGAIN).await;
                        teller.tell(namespace);
                    });
                    return;
                }
            }
            if params.continue_token.is_none() {
                break;
            }
        }
        self.namespaces.insert(namespace);
        self.waiting.extend(found);
    }
}
