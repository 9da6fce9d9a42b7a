//! Exports a development namespace into a bundle: selects the objects of a solution, and checks that the requester may read them.

mod accounts;
mod error;
mod selector;

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authorization::v1::SubjectRulesReviewStatus;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, Request};
use kube::{Client, Resource};
use serde::Deserialize;
use serde_json::Value;

pub(crate) use self::error::ExportError;
pub(crate) use self::selector::selector_text;
use crate::api::cluster_scoped::{self, ClusterScopedKind};
use crate::api::reference::{GroupKind, Identity};
use crate::api::{GROUP, names};
use crate::artifact::bundle::{Bundle, canonical};
use crate::artifact::strip::project;
use crate::cluster::discovery::{Discovery, KindInfo};
use crate::cluster::errors;
use crate::cluster::kstatus::is_reported_on;
use crate::cluster::object::{self, Key};
use crate::cluster::replicas;
use crate::cluster::resources::Resources as _;
use crate::identity::access::{Access, Right};
use crate::identity::answers::RECENT;

/// The most canonical bytes that are exported.
pub const MAX_BYTES: usize = 16 * 1024 * 1024;
/// How many kinds are listed, and how many rights are checked, at the same time.
const CONCURRENCY: usize = 8;
/// How many objects a page has. An object may have up to 1.5 MiB.
const PAGE: u32 = 100;

/// Kinds that are never exported: Secrets, and objects that controllers make in every namespace.
const NEVER: [(&str, &str); 8] = [
    ("", "Secret"),
    ("", "Event"),
    ("events.k8s.io", "Event"),
    ("", "Endpoints"),
    ("apps", "ControllerRevision"),
    ("coordination.k8s.io", "Lease"),
    ("storage.k8s.io", "CSIStorageCapacity"),
    ("cilium.io", "CiliumEndpoint"),
];
/// Groups of metrics and reviews, and our own.
const NEVER_GROUPS: [&str; 6] =
    ["metrics.k8s.io", "custom.metrics.k8s.io", "external.metrics.k8s.io", "authorization.k8s.io", "authentication.k8s.io", GROUP];
/// Objects that exist in every namespace.
const OF_THE_NAMESPACE: [(&str, &str); 2] = [("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")];

/// Where and what to export, and for whom.
pub(crate) struct Source<'a> {
    /// The operator's own client.
    pub(crate) client: Client,
    /// The kinds of the cluster.
    pub(crate) discovery: &'a Discovery,
    /// Asks for the rights of the operator and of the requester.
    pub(crate) access: &'a Access,
    /// The development namespace.
    pub(crate) namespace: &'a str,
    /// The development Environment, for people.
    pub(crate) environment: &'a str,
    /// The cluster-scoped kinds that it lists. Objects of these kinds are exported if the components name the kind.
    pub(crate) cluster_scoped: &'a [ClusterScopedKind],
    /// The label selector, as [`selector_text`] makes it.
    pub(crate) selector: &'a str,
    /// The kinds to export; empty for all kinds that the operator may read.
    pub(crate) components: &'a [GroupKind],
    /// The requester. Only what they may read is exported.
    pub(crate) requester: &'a Identity,
}

/// The result of an export.
#[derive(Debug)]
pub(crate) struct Exported {
    /// The objects.
    pub(crate) bundle: Bundle,
    /// The cluster-scoped kinds among them.
    pub(crate) cluster_scoped: Vec<GroupKind>,
    /// The kinds that the export did not look for, because the operator may not list them and the Solution names none.
    pub(crate) not_listed: BTreeSet<GroupKind>,
    /// The custom kinds that a controller reported on there.
    pub(crate) reported_on: BTreeSet<GroupKind>,
}

/// Exports the objects that the selector selects: those of the namespace, and cluster-scoped ones of kinds that the components name and the
/// Environment lists.
///
/// # Errors
/// Why there is no bundle.
pub(crate) async fn export(source: &Source<'_>) -> Result<Exported, ExportError> {
    // A kind that was installed a moment ago must not be missing in a version for ever.
    let kinds = async {
        let kinds = source.discovery.kinds_now().await;
        kinds.map_err(|e| ExportError::api("discovering the kinds of the cluster", source.namespace, e))
    };
    let rules = async {
        let rules = source.access.own_rules(source.namespace).await;
        rules.map_err(|e| ExportError::api("asking what the operator may read", source.namespace, e))
    };
    let (kinds, rules) = futures::try_join!(kinds, rules)?;
    let chosen = chosen(&kinds, source.components, &Bounds { environment: source.environment, allowed: Some(source.cluster_scoped) })?;
    let named = !source.components.is_empty();
    // A selector can ask for any label. So people who may not list cluster-scoped objects don't even learn whether one exists.
    let of_cluster = chosen.iter().filter(|kind| !kind.namespaced);
    let rights = of_cluster.flat_map(|kind| to_read(&kind.resource, None)).collect();
    held(source.access, source.requester, source.namespace, rights, RECENT).await?;

    let (readable, unreadable): (Vec<&KindInfo>, Vec<&KindInfo>) = chosen.into_iter().partition(|kind| may_list(&rules, &kind.resource));
    // The answer may lack rules that don't come from RBAC. Then only trying tells.
    let (tried, mut denied) = if rules.incomplete { ([readable, unreadable].concat(), Vec::new()) } else { (readable, unreadable) };
    if !named && tried.is_empty() {
        return Err(ExportError::OperatorMayReadNothing { namespace: source.namespace.to_owned() });
    }
    let mut found = Vec::new();
    if !named || denied.is_empty() {
        let calls: Vec<_> = tried.into_iter().map(|kind| list(source, kind)).collect();
        let mut listings = stream::iter(calls).buffer_unordered(CONCURRENCY);
        while let Some(listing) = listings.next().await {
            match listing? {
                Listing::Found(listed) => found.push(listed),
                Listing::Denied(kind) => denied.push(kind),
            }
            // The pages in transit are the most that comes on top.
            if found.iter().map(|f| f.size).sum::<usize>() > MAX_BYTES {
                break;
            }
        }
    }
    if named && !denied.is_empty() {
        let mut rights: Vec<Right> = denied.iter().map(|kind| right("list", kind, source.namespace)).collect();
        rights.sort();
        return Err(ExportError::OperatorMayNotRead { namespace: source.namespace.to_owned(), rights });
    }
    found.retain(|listed| !listed.objects.is_empty() || !listed.deleted.is_empty());
    // This comes before any message about the objects: people who may not read them don't even learn their names.
    requester_may_read(source, &found).await?;

    let mut deleted: Vec<String> = found.iter().flat_map(|f| f.deleted.iter().map(ToString::to_string)).collect();
    if !deleted.is_empty() {
        deleted.sort();
        return Err(ExportError::BeingDeleted { namespace: source.namespace.to_owned(), objects: deleted });
    }
    let size: usize = found.iter().map(|f| f.size).sum();
    if size > MAX_BYTES {
        let biggest = found.iter().filter_map(|f| f.biggest.clone()).max_by_key(|(size, _)| *size);
        let (biggest_size, biggest) = biggest.map_or((0, String::new()), |(size, key)| (size, key.to_string()));
        return Err(ExportError::TooLarge { namespace: source.namespace.to_owned(), size, biggest, biggest_size });
    }
    let of_cluster = found.iter().filter(|listed| !listed.kind.namespaced && !listed.objects.is_empty());
    let mut cluster_scoped: Vec<GroupKind> = of_cluster.map(|listed| group_kind(listed.kind)).collect();
    cluster_scoped.sort();
    let reported_on = found.iter().filter(|listed| listed.is_reported_on).map(|listed| group_kind(listed.kind)).collect();
    let mut objects: Vec<Value> = found.into_iter().flat_map(|f| f.objects).collect();
    if objects.is_empty() {
        return Err(ExportError::Nothing { namespace: source.namespace.to_owned(), selector: source.selector.to_owned() });
    }
    replicas::give_up(&mut objects);
    if !named {
        accounts::need_no_roles(source, &objects, &denied).await?;
    }
    let not_listed = denied.iter().map(|kind| GroupKind { group: kind.resource.group.clone(), kind: kind.resource.kind.clone() }).collect();
    Ok(Exported { bundle: Bundle::new(objects), cluster_scoped, not_listed, reported_on })
}

/// The result of listing a kind.
struct Listed<'a> {
    kind: &'a KindInfo,
    objects: Vec<Value>,
    deleted: Vec<Key>,
    size: usize,
    biggest: Option<(usize, Key)>,
    /// Whether it is a custom kind and a controller reported on one of its objects.
    is_reported_on: bool,
}

enum Listing<'a> {
    Found(Listed<'a>),
    Denied(&'a KindInfo),
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMetadata,
    #[serde(default)]
    items: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
struct PageMetadata {
    #[serde(rename = "continue", default)]
    next: Option<String>,
}

/// Lists a kind page by page. Each page is reduced to the exported objects at once, so that only one page is held in full.
async fn list<'a>(source: &Source<'_>, kind: &'a KindInfo) -> Result<Listing<'a>, ExportError> {
    let action = || format!("listing {}", kind.resource.plural);
    let request = Request::new(DynamicObject::url_path(&kind.resource, kind.namespaced.then_some(source.namespace)));
    let mut listed = Listed { kind, objects: Vec::new(), deleted: Vec::new(), size: 0, biggest: None, is_reported_on: false };
    let mut params = ListParams::default().labels(source.selector).limit(PAGE);
    loop {
        let call = request.list(&params).map_err(|e| ExportError::api(&action(), source.namespace, kube::Error::BuildRequest(e)))?;
        let page: Page = match source.client.request(call).await {
            Ok(page) => page,
            Err(kube::Error::Api(status)) if status.code == 403 => return Ok(Listing::Denied(kind)),
            // The kind was removed after the discovery.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 405 => return Ok(Listing::Found(listed)),
            Err(error) if errors::is_too_deep(&error) => {
                return Err(ExportError::TooDeep { kind: kind.resource.plural.clone(), namespace: source.namespace.to_owned() });
            }
            Err(error) => return Err(ExportError::api(&action(), source.namespace, error)),
        };
        for mut live in page.items.unwrap_or_default() {
            // A list of a core kind does not repeat these fields for each item.
            live["apiVersion"] = kind.resource.api_version.clone().into();
            live["kind"] = kind.resource.kind.clone().into();
            take(&mut listed, &live, source.namespace);
        }
        match page.metadata.next.filter(|next| !next.is_empty()) {
            Some(next) if listed.size <= MAX_BYTES => params.continue_token = Some(next),
            _ => return Ok(Listing::Found(listed)),
        }
    }
}

fn take(listed: &mut Listed<'_>, live: &Value, own: &str) {
    let Some(object) = exportable(live, own) else { return };
    if live.pointer("/metadata/deletionTimestamp").is_some_and(|at| !at.is_null()) {
        listed.deleted.push(Key::of(live));
        return;
    }
    // One more for the end of the line.
    let size = canonical(&object).len() + 1;
    listed.size += size;
    if listed.biggest.as_ref().is_none_or(|(biggest, _)| *biggest < size) {
        listed.biggest = Some((size, Key::of(&object)));
    }
    listed.is_reported_on |= object::is_custom(&listed.kind.resource.group) && is_reported_on(live);
    listed.objects.push(object);
}

/// An object as it is exported from the namespace `own`; `None` if it is not exported.
pub(crate) fn exportable(live: &Value, own: &str) -> Option<Value> {
    if OF_THE_NAMESPACE.contains(&(object::kind(live), object::name(live))) || has_controller(live) {
        return None;
    }
    // The objects of a target in the same cluster are beside those of development, and have the same labels.
    if object::metadata(live, "namespace").is_none() && object::label(live, names::TARGET_UID_LABEL).is_some() {
        return None;
    }
    project(live, own)
}

/// Whether another object makes this one, and will make it again elsewhere.
fn has_controller(live: &Value) -> bool {
    let owners = live.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Which cluster-scoped objects may be exported.
pub(crate) struct Bounds<'a> {
    /// The development Environment, for people.
    pub(crate) environment: &'a str,
    /// The kinds that it lists; `None` if that is checked elsewhere.
    pub(crate) allowed: Option<&'a [ClusterScopedKind]>,
}

/// The kinds to list: those that can be listed, narrowed by the components. Cluster-scoped kinds are included only if a component names
/// them and they are allowed.
///
/// # Errors
/// If the kind of a component is never exported, not served, or not allowed.
pub(crate) fn chosen<'a>(kinds: &'a [KindInfo], components: &[GroupKind], bounds: &Bounds<'_>) -> Result<Vec<&'a KindInfo>, ExportError> {
    for component in components {
        let (group, kind) = (component.group.as_str(), component.kind.as_str());
        if is_never_exported(group, kind) {
            return Err(ExportError::NeverExported { component: component.clone() });
        }
        let served: Vec<&KindInfo> = kinds.iter().filter(|k| k.resource.group == group && k.resource.kind == kind).collect();
        if served.is_empty() {
            return Err(ExportError::UnknownComponent { component: component.clone() });
        }
        let listable = |namespaced: bool| served.iter().any(|k| k.namespaced == namespaced && k.supports("list"));
        if listable(true) {
            continue;
        }
        if !listable(false) || cluster_scoped::is_never_allowed(group, kind) {
            return Err(ExportError::NotNamespaced { component: component.clone() });
        }
        if bounds.allowed.is_some_and(|allowed| !cluster_scoped::allows(allowed, group, kind)) {
            return Err(ExportError::ClusterScoped { component: component.clone(), environment: bounds.environment.to_owned() });
        }
    }
    let is_named = |k: &KindInfo| components.iter().any(|c| c.group == k.resource.group && c.kind == k.resource.kind);
    let in_namespaces = |kind: &GroupKind| kinds.iter().any(|k| k.namespaced && k.supports("list") && group_kind(k) == *kind);
    Ok(kinds
        .iter()
        .filter(|k| k.supports("list") && !is_never_exported(&k.resource.group, &k.resource.kind))
        // If a cluster serves a kind in both scopes, the namespaced one counts.
        .filter(|k| if k.namespaced { components.is_empty() || is_named(k) } else { is_named(k) && !in_namespaces(&group_kind(k)) })
        .collect())
}

fn group_kind(kind: &KindInfo) -> GroupKind {
    GroupKind { group: kind.resource.group.clone(), kind: kind.resource.kind.clone() }
}

/// Whether objects of a kind are in no artifact, whatever its source.
pub(crate) fn is_never_exported(group: &str, kind: &str) -> bool {
    NEVER.contains(&(group, kind)) || NEVER_GROUPS.contains(&group)
}

/// Whether the operator's own rules let it list a kind as a whole.
fn may_list(rules: &SubjectRulesReviewStatus, resource: &ApiResource) -> bool {
    let has = |words: Option<&Vec<String>>, wanted: &str| words.is_some_and(|w| w.iter().any(|word| word == "*" || word == wanted));
    rules.resource_rules.iter().any(|rule| {
        rule.resource_names.as_ref().is_none_or(Vec::is_empty)
            && has(Some(&rule.verbs), "list")
            && has(rule.api_groups.as_ref(), &resource.group)
            && has(rule.resources.as_ref(), &resource.plural)
    })
}

/// The right to read a kind: in the namespace, or in the whole cluster.
fn right(verb: &str, kind: &KindInfo, namespace: &str) -> Right {
    right_on(verb, &kind.resource, kind.namespaced.then_some(namespace))
}

fn right_on(verb: &str, resource: &ApiResource, namespace: Option<&str>) -> Right {
    Right::within(verb, &resource.group, &resource.plural, namespace)
}

/// What somebody needs to see what is exported of a kind. For cluster-scoped kinds that includes `list`, because these objects concern all
/// namespaces.
fn to_read(resource: &ApiResource, namespace: Option<&str>) -> Vec<Right> {
    let mut rights = vec![right_on("get", resource, namespace)];
    if namespace.is_none() {
        rights.push(right_on("list", resource, None));
    }
    rights
}

/// Checks for each kind that was found in the namespace whether the requester may read it.
async fn requester_may_read(source: &Source<'_>, found: &[Listed<'_>]) -> Result<(), ExportError> {
    let in_namespace = found.iter().filter(|listed| listed.kind.namespaced);
    let rights = in_namespace.flat_map(|listed| to_read(&listed.kind.resource, Some(source.namespace))).collect();
    held(source.access, source.requester, source.namespace, rights, RECENT).await
}

/// Whether a requester may read everything in an artifact where it was exported from.
///
/// # Errors
/// If they may not, or the cluster can't be asked.
pub(crate) async fn readable(
    discovery: &Discovery,
    access: &Access,
    requester: &Identity,
    namespace: &str,
    bundle: &Bundle,
    age: Duration,
) -> Result<(), ExportError> {
    let mut rights = BTreeSet::new();
    for held in bundle.objects() {
        let found = discovery.resource(object::api_version(held), object::kind(held)).await;
        // If the cluster no longer has a kind, nobody can read its objects any more, so nothing has to be hidden.
        if let Some((resource, namespaced)) = found.map_err(|e| ExportError::api("discovering kinds", namespace, e))? {
            rights.extend(to_read(&resource, namespaced.then_some(namespace)));
        }
    }
    held(access, requester, namespace, rights.into_iter().collect(), age).await
}

async fn held(access: &Access, requester: &Identity, namespace: &str, rights: Vec<Right>, age: Duration) -> Result<(), ExportError> {
    let answers: Vec<(Right, bool)> = stream::iter(rights)
        .map(|right| async move {
            let may = access.lately(requester, &right, true, age).await;
            may.map(|may| (right, may)).map_err(|e| ExportError::api("asking what the requester may read", namespace, e))
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    let mut missing: Vec<Right> = answers.into_iter().filter(|(_, may)| !may).map(|(right, _)| right).collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort();
    Err(ExportError::RequesterMayNotRead { namespace: namespace.to_owned(), requester: requester.username.clone(), rights: missing })
}

#[cfg(test)]
mod tests;
