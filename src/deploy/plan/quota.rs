//! Whether everything that a plan creates fits together into the quotas of its namespace. A dry run checks each object alone, and pods are
//! created only after the approval.

use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;

use crate::api::plan::{PlanResult, PlannedAction};
use crate::cluster::errors::{self, Cause, first_few};
use crate::cluster::object::Key;
use crate::cluster::quantity::Quantity;
use crate::cluster::retry::retrying;
use crate::deploy::plan::live_state::config_maps;
use crate::deploy::plan::planned::{Planned, PlannedItem};
use crate::deploy::plan::usage::{self, Usage};

/// The most quotas that are looked at: a page.
const MAX_QUOTAS: u32 = 100;

/// What the quotas say to a plan.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The quotas that it does not fit into, one entry each.
    pub short: Vec<PlanResult>,
    /// What its approver is to know.
    pub told: Vec<PlanResult>,
}

/// Holds the plan against the quotas of its namespace, which are read as `reader`, and only where it uses more of anything than what it
/// replaces. What is deleted is still there when the rest is written, and frees nothing. Of a single object whose plan was looked at before
/// (`is_again`) the server's own dry run says enough.
///
/// # Errors
/// Where the API server can't be asked.
pub async fn check(reader: &Client, planned: &Planned, is_again: bool) -> Result<Verdict, kube::Error> {
    let asked = asked(planned);
    let changed = planned.items.iter().filter(|i| i.action != PlannedAction::Unchanged).count();
    if !asked.grows() || is_again && changed <= 1 {
        return Ok(Verdict::default());
    }
    let api: Api<ResourceQuota> = Api::namespaced(reader.clone(), planned.namespace());
    let page = ListParams::default().limit(MAX_QUOTAS);
    match retrying(|| api.list(&page)).await {
        Ok(quotas) => Ok(judge(&quotas.items, planned, &asked)),
        // An operator that may not see them, as the cluster's administrator decided, says so, and the server has the last word.
        Err(error) if errors::classify(&error) == Cause::Unauthorized => {
            let key = Key { group: String::new(), kind: "ResourceQuota".into(), name: String::new() };
            let message = format!(
                "whether it fits into the quotas of namespace {} was not looked at, as the operator may not list resourcequotas there: what does not fit is refused when it is written",
                planned.namespace()
            );
            Ok(Verdict { short: Vec::new(), told: vec![errors::result(&key, "QuotaNotLookedAt", &message)] })
        }
        Err(error) => Err(error),
    }
}

/// What the plan uses more than what is there.
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
    // An item of a list does not say what it is, and what is counted goes by that.
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
    // Which pods are in a scope is not known before they are there.
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
            verdict.told.push(errors::result(&key, "QuotaNeedsResources", &message));
        }
    }
    verdict
}

/// The first new workload whose pods don't say how much of the resource they use.
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

/// What the quota limits; as asked for, where its controller has not looked at it yet.
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
