//! Which kinds a cluster serves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::Client;
use kube::core::ApiResource;
use kube::discovery::{Discovery as ClusterDiscovery, Scope};
use tokio::sync::Mutex;

use crate::cluster::resources::Resources;

/// How long an answer is used. Kinds change with custom resource definitions, which is rare.
const FRESH: Duration = Duration::from_mins(10);
/// How often an unknown kind may cause a new call. Many objects of one bundle may be of a missing kind.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A kind of object, in the version that the cluster prefers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KindInfo {
    /// Its group, version, kind and plural name.
    pub(crate) resource: ApiResource,
    /// Whether its objects are namespaced.
    pub(crate) namespaced: bool,
    /// The verbs that it supports, for example `list`.
    pub(crate) verbs: Vec<String>,
}

impl KindInfo {
    /// Whether the cluster serves `verb` for this kind.
    pub(crate) fn supports(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

/// Asks a cluster for its kinds, and caches the answer.
pub(crate) struct Discovery {
    client: Client,
    // Held during the call. Callers that come meanwhile wait for the same answer.
    known: Mutex<Option<Known>>,
}

struct Known {
    kinds: Arc<Vec<KindInfo>>,
    versions: HashMap<(String, String), (ApiResource, bool)>,
    /// When the call was made. The answer may lack kinds that were installed later.
    asked: Instant,
}

impl Discovery {
    /// Discovers with this client. No call is made yet.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, known: Mutex::new(None) }
    }

    /// All kinds, each in the preferred version, sorted by group and kind; at most 10 minutes old.
    ///
    /// # Errors
    /// If the cluster can't be asked.
    pub(crate) async fn kinds(&self) -> kube::Result<Arc<Vec<KindInfo>>> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|k| k.asked.elapsed() < FRESH) {
            return Ok(known.kinds.clone());
        }
        let fresh = ask(&self.client).await?;
        Ok(known.insert(fresh).kinds.clone())
    }

    /// The same, but from a call that began after this one, whoever made it. So it includes what was installed before.
    ///
    /// # Errors
    /// If the cluster can't be asked.
    pub(crate) async fn kinds_now(&self) -> kube::Result<Arc<Vec<KindInfo>>> {
        let called = Instant::now();
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|k| k.asked >= called) {
            return Ok(known.kinds.clone());
        }
        let fresh = ask(&self.client).await?;
        Ok(known.insert(fresh).kinds.clone())
    }

    /// The resource of a kind in exactly that version; `None` if the cluster does not serve it. For an unknown kind the cluster is asked
    /// again, because its definition may be new, but at most every 5 s.
    ///
    /// # Errors
    /// If the cluster can't be asked.
    pub(crate) async fn resource_for(&self, api_version: &str, kind: &str) -> kube::Result<Option<ApiResource>> {
        Ok(self.resource(api_version, kind).await?.map(|(resource, _)| resource))
    }

    /// A known kind. An unknown kind only if the last answer is recent enough to be sure.
    async fn find(
        &self,
        api_version: &str,
        kind: &str,
        is_good: impl Fn(Instant) -> bool + Send,
    ) -> kube::Result<Option<(ApiResource, bool)>> {
        let key = (api_version.to_owned(), kind.to_owned());
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|k| k.asked.elapsed() < FRESH) {
            if let Some(found) = known.versions.get(&key) {
                return Ok(Some(found.clone()));
            }
            if is_good(known.asked) {
                return Ok(None);
            }
        }
        let fresh = ask(&self.client).await?;
        Ok(known.insert(fresh).versions.get(&key).cloned())
    }
}

impl Resources for Discovery {
    async fn resource(&self, api_version: &str, kind: &str) -> kube::Result<Option<(ApiResource, bool)>> {
        self.find(api_version, kind, |asked| asked.elapsed() < ASK_AGAIN_AFTER).await
    }

    async fn resource_since(&self, api_version: &str, kind: &str, since: Instant) -> kube::Result<Option<(ApiResource, bool)>> {
        self.find(api_version, kind, |asked| asked >= since).await
    }

    async fn preferred(&self, group: &str, kind: &str) -> kube::Result<Option<(ApiResource, bool)>> {
        let kinds = self.kinds().await?;
        Ok(kinds.iter().find(|k| k.resource.group == group && k.resource.kind == kind).map(|k| (k.resource.clone(), k.namespaced)))
    }
}

/// Two calls, whatever the number of groups.
async fn ask(client: &Client) -> kube::Result<Known> {
    let asked = Instant::now();
    let cluster = ClusterDiscovery::new(client.clone()).run_aggregated().await?;
    let mut kinds = Vec::new();
    let mut versions = HashMap::new();
    for group in cluster.groups() {
        let mut chosen: HashMap<String, KindInfo> = HashMap::new();
        // The preferred version first. The others add kinds that it does not have.
        let preferred = group.preferred_version_or_latest();
        for version in std::iter::once(preferred).chain(group.versions().filter(|v| *v != preferred)) {
            for (resource, capabilities) in group.versioned_resources(version) {
                if resource.kind.is_empty() || resource.plural.is_empty() {
                    continue;
                }
                versions
                    .entry((resource.api_version.clone(), resource.kind.clone()))
                    .or_insert_with(|| (resource.clone(), capabilities.scope == Scope::Namespaced));
                chosen.entry(resource.plural.clone()).or_insert_with(|| KindInfo {
                    resource,
                    namespaced: capabilities.scope == Scope::Namespaced,
                    verbs: capabilities.operations,
                });
            }
        }
        kinds.extend(chosen.into_values());
    }
    kinds.sort_unstable_by(|a, b| {
        let key = |k: &KindInfo| (k.resource.group.clone(), k.resource.kind.clone(), k.resource.plural.clone());
        key(a).cmp(&key(b))
    });
    Ok(Known { kinds: Arc::new(kinds), versions, asked })
}
