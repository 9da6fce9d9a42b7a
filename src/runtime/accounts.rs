//! Whether the `ServiceAccounts` of hosts are still the ones that stages were validated with. Each host has a watch of its own. It begins
//! when the first stage of the host that delegates to a `ServiceAccount` was found valid. The operator lists no accounts of other
//! namespaces.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};

use super::stores::{Stores, WatchHandler};

/// How often the operator checks whether a namespace is still a host. A watch is started again every few minutes, and must not be started
/// where the operator has no business any more.
const LOOK: Duration = Duration::from_secs(1);

/// The accounts of all hosts that are watched.
pub(crate) struct Accounts {
    client: Client,
    stores: Stores,
    watch_handler: Arc<dyn WatchHandler>,
    hosts: Arc<Mutex<Hosts>>,
}

/// What is known about the hosts.
#[derive(Default)]
struct Hosts {
    /// Those that are watched.
    watched: HashSet<String>,
    /// How often each account of each host was created or deleted.
    changes: HashMap<(String, String), u64>,
}

impl Accounts {
    /// Watches nothing yet. `watch_handler` is told of each account that is created or deleted.
    pub(crate) fn new(client: Client, stores: Stores, watch_handler: Arc<dyn WatchHandler>) -> Self {
        Self { client, stores, watch_handler, hosts: Arc::default() }
    }

    /// How often an account was created or deleted, as far as it was watched.
    pub(crate) fn changes(&self, host: &str, account: &str) -> u64 {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.changes.get(&(host.to_owned(), account.to_owned())).copied().unwrap_or_default()
    }

    /// Watches the accounts of a host, unless they are watched already.
    pub(crate) fn watch(&self, host: &str) {
        if !self.hosts.lock().unwrap_or_else(PoisonError::into_inner).watched.insert(host.to_owned()) {
            return;
        }
        let (hosts, watch_handler, stores, host) = (self.hosts.clone(), self.watch_handler.clone(), self.stores.clone(), host.to_owned());
        let accounts = Api::<PartialObjectMeta<ServiceAccount>>::namespaced(self.client.clone(), &host);
        tokio::spawn(async move {
            let changed = |name: &str| {
                *hosts.lock().unwrap_or_else(PoisonError::into_inner).changes.entry((host.clone(), name.to_owned())).or_default() += 1;
                watch_handler.account(&host, name);
            };
            let is_host = || {
                let namespace = stores.namespaces.get(&ObjectRef::new(&host));
                stores.is_host(&host) && namespace.is_some_and(|n| n.metadata.deletion_timestamp.is_none())
            };
            follow(watcher(accounts, watcher::Config::default()), is_host, changed).await;
            // The right was taken away, or the namespace is no host any more. The next stage that is found valid starts the watch again.
            hosts.lock().unwrap_or_else(PoisonError::into_inner).watched.remove(&host);
        });
    }
}

/// Follows the accounts of one namespace as long as it is a host and may be watched. What exists at the start is no change.
async fn follow(
    stream: impl futures::Stream<Item = watcher::Result<watcher::Event<PartialObjectMeta<ServiceAccount>>>> + Send,
    is_host: impl Fn() -> bool + Send,
    changed: impl Fn(&str) + Send,
) {
    let mut known: Option<HashMap<String, String>> = None;
    let mut listed = HashMap::new();
    let mut stream = std::pin::pin!(stream.default_backoff());
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = tokio::time::sleep(LOOK) => if is_host() { continue } else { return },
        };
        let Some(event) = event else { return };
        match event {
            Ok(watcher::Event::Init) => listed = HashMap::new(),
            Ok(watcher::Event::InitApply(account)) => {
                listed.insert(account.name_any(), account.uid().unwrap_or_default());
            }
            Ok(watcher::Event::InitDone) => {
                let now = std::mem::take(&mut listed);
                if let Some(before) = known.replace(now.clone()) {
                    let names: HashSet<&String> = before.keys().chain(now.keys()).collect();
                    names.into_iter().filter(|name| before.get(*name) != now.get(*name)).for_each(|name| changed(name));
                }
            }
            Ok(watcher::Event::Apply(account)) => {
                let (name, uid) = (account.name_any(), account.uid().unwrap_or_default());
                if known.get_or_insert_default().insert(name.clone(), uid.clone()).as_ref() != Some(&uid) {
                    changed(&name);
                }
            }
            Ok(watcher::Event::Delete(account)) => {
                known.get_or_insert_default().remove(&account.name_any());
                changed(&account.name_any());
            }
            Err(
                watcher::Error::InitialListFailed(kube::Error::Api(status)) | watcher::Error::WatchStartFailed(kube::Error::Api(status)),
            ) if status.code == 403 => {
                return;
            }
            Err(error) => tracing::debug!(%error, "a watch of ServiceAccounts failed and is tried again"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str, uid: &str) -> PartialObjectMeta<ServiceAccount> {
        let mut account = PartialObjectMeta::<ServiceAccount>::default();
        account.metadata.name = Some(name.into());
        account.metadata.uid = Some(uid.into());
        account
    }

    #[tokio::test]
    async fn what_goes_or_comes_is_told_and_what_was_there_is_not() {
        use watcher::Event::{Apply, Delete, Init, InitApply, InitDone};
        let events = vec![
            Init,
            InitApply(account("bot", "1")),
            InitApply(account("default", "2")),
            InitDone,
            Apply(account("bot", "1")),
            Delete(account("bot", "1")),
            Apply(account("bot", "3")),
            // The watch was interrupted in between.
            Init,
            InitApply(account("bot", "4")),
            InitApply(account("default", "2")),
            InitDone,
        ];
        let told = Mutex::new(Vec::new());
        let note = |name: &str| told.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
        follow(futures::stream::iter(events.into_iter().map(Ok)), || true, note).await;
        let told = told.into_inner().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(told, ["bot", "bot", "bot"], "deleted, made again, and another one after the interruption");
    }
}
