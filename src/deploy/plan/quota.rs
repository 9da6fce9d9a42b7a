//! Whether everything that a plan creates fits together into the quotas of its namespace. A dry run checks each object alone, and pods are
//! created only after the approval.

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use kube::api::{Api, ListParams, VersionMatch};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::api::plan::{PlanResult, PlannedAction};
use crate::api::reason::Reason;
use crate::cluster::errors::{self, Cause, first_few};
use crate::cluster::object::Key;
use crate::cluster::quantity::Quantity;
use crate::cluster::retry::retrying;
use crate::deploy::plan::live_state::config_maps;
use crate::deploy::plan::planned::{Planned, PlannedItem};
use crate::deploy::plan::usage::{self, Usage};

/// The most quotas that are read: one page.
const MAX_QUOTAS: u32 = 100;

/// The result of comparing a plan with quotas.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The quotas that are too small for it, one entry for each.
    pub(crate) short: Vec<PlanResult>,
    /// What the approver should know.
    pub(crate) told: Vec<PlanResult>,
}

/// Compares the plan with the quotas of its namespace. They are read as `reader`, and only if the plan uses more of anything than the
/// objects that it replaces. Objects to be deleted still exist while the others are written, so they free nothing. For a single object
/// whose plan was checked before (`is_again`), the server's own dry run is enough.
///
/// # Errors
/// If the API server can't be asked.
pub(crate) async fn check(reader: &Client, planned: &Planned, is_again: bool) -> Result<Verdict, kube::Error> {
    let asked = asked(planned);
    let changed = planned.items.iter().filter(|i| i.action != PlannedAction::Unchanged).count();
    if !asked.grows() || is_again && changed <= 1 {
        return Ok(Verdict::default());
    }
    let api: Api<ResourceQuota> = Api::namespaced(reader.clone(), planned.namespace());
    let page = page();
    match retrying(|| api.list(&page)).await {
        Ok(quotas) => Ok(judge(&quotas.items, planned, &asked)),
        // If the administrator doesn't let the operator read quotas, the plan says so, and the server decides.
        Err(error) if errors::classify(&error) == Cause::Unauthorized => {
            let key = Key { group: String::new(), kind: "ResourceQuota".into(), name: String::new() };
            let message = format!(
                "whether it fits into the quotas of namespace {} was not looked at, as the operator may not list resourcequotas there: what does not fit is refused when it is written",
                planned.namespace()
            );
            Ok(Verdict { short: Vec::new(), told: vec![errors::result(&key, Reason::QuotaNotLookedAt, &message)] })
        }
        Err(error) => Err(error),
    }
}

/// From the server's watch cache: a list of what is newest waits there up to 100 ms for word from etcd, and what a quota says is used follows
/// the writes with a delay anyhow. The server decides when something is written. Beside a limit, kube leaves out the version 0, which would
/// say the same as 1.
fn page() -> ListParams {
    ListParams::default().limit(MAX_QUOTAS).matching(VersionMatch::NotOlderThan).at("1")
}

/// What the plan uses in addition to the existing objects.
fn asked(planned: &Planned) -> Usage {
    let changed = planned.items.iter().filter(|i| i.action != PlannedAction::Unchanged && i.item.served.is_namespaced);
    let mut all = changed.map(more).fold(Usage::default(), |all, more| all + more);
    if planned.parent.known.is_none() {
        all = all + usage::of(&config_maps().resource, &Value::Null);
    }
    all
}

fn more(planned: &PlannedItem) -> Usage {
    let resource = &planned.item.served.resource;
    // An item of a list does not state its kind, but the count depends on it.
    let whole = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = resource.api_version.clone().into();
        object["kind"] = resource.kind.clone().into();
        usage::of(resource, &object)
    };
    let after = whole(planned.outcome());
    planned.live.as_ref().map_or(after.clone(), |live| after - whole(live))
}

fn judge(quotas: &[ResourceQuota], planned: &Planned, asked: &Usage) -> Verdict {
    let mut verdict = Verdict::default();
    // Which pods are in a scope is known only when they exist.
    for quota in quotas.iter().filter(|quota| quota.spec.as_ref().is_some_and(|spec| !is_scoped(spec))) {
        let limits = limits(quota);
        let over: Vec<String> = limits
            .iter()
            .filter(|limit| asked.of(&limit.resource).is_positive() && limit.used + asked.of(&limit.resource) > limit.hard)
            .map(|limit| {
                format!("{}: hard {}, used {}, asked for {} more", limit.resource, limit.hard, limit.used, asked.of(&limit.resource))
            })
            .collect();
        let key = Key { group: String::new(), kind: "ResourceQuota".into(), name: quota.name_any() };
        if !over.is_empty() {
            let message = format!(
                "what would be created does not fit into ResourceQuota {} of namespace {}: {}. Have the namespace's administrator raise it or free some of it, or ship less",
                key.name,
                planned.namespace(),
                first_few(over.into_iter())
            );
            verdict.short.push(errors::result(&key, Cause::Quota.reason(), &message));
        }
        let open: Vec<String> = limits.iter().filter_map(|limit| left_open(planned, &limit.resource)).collect();
        if !open.is_empty() {
            let message = format!(
                "ResourceQuota {} of namespace {} counts what containers do not say: {}. Such pods are refused unless a LimitRange of the namespace fills it in",
                key.name,
                planned.namespace(),
                first_few(open.into_iter())
            );
            verdict.told.push(errors::result(&key, Reason::QuotaNeedsResources, &message));
        }
    }
    verdict
}

/// The first new workload whose pods don't specify how much of the resource they use.
fn left_open(planned: &Planned, resource: &str) -> Option<String> {
    let written = planned.items.iter().filter(|i| matches!(i.action, PlannedAction::Create | PlannedAction::Recreate));
    written
        .map(|i| (&i.item.key, &i.item.body))
        .find(|(_, body)| usage::leaves_open(body, resource))
        .map(|(key, _)| format!("{resource} of {key}"))
}

fn is_scoped(spec: &ResourceQuotaSpec) -> bool {
    spec.scope_selector.is_some() || spec.scopes.as_ref().is_some_and(|scopes| !scopes.is_empty())
}

struct Limit {
    resource: String,
    hard: Quantity,
    used: Quantity,
}

/// The limits of the quota; as specified, if its controller has not processed it yet.
fn limits(quota: &ResourceQuota) -> Vec<Limit> {
    let status = quota.status.clone().unwrap_or_default();
    let used = status.used.unwrap_or_default();
    let hard = status.hard.or_else(|| quota.spec.as_ref().and_then(|spec| spec.hard.clone())).unwrap_or_default();
    let limit = |(resource, hard): (String, k8s_openapi::apimachinery::pkg::api::resource::Quantity)| {
        let used = used.get(&resource).and_then(|used| Quantity::parse(&used.0)).unwrap_or_default();
        Some(Limit { hard: Quantity::parse(&hard.0)?, resource, used })
    };
    hard.into_iter().filter_map(limit).collect()
}

#[cfg(test)]
mod tests;
