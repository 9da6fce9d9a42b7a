//! Whether a solution would lack the Roles that it needs: the operator may not list Roles, and the accounts of the solution's workloads
//! have rights in development.
//!
//! To find out whether an account has rights, the API server is asked about rights that such accounts usually have. If one answer is yes, a
//! Role or binding gives the right. If all answers are no, the plan only names the kinds that could not be looked for.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::Value;

use super::{ExportError, KindInfo, Source, right};
use crate::api::reference::Identity;
use crate::cluster::references;
use crate::identity::access::{Right, service_account};

/// The group of Roles and their bindings.
const RBAC: &str = "rbac.authorization.k8s.io";
/// The most accounts that are checked.
const MAX_ACCOUNTS: usize = 32;
/// How many checks run at the same time.
const CONCURRENCY: usize = 8;
/// The rights that accounts of applications usually have: verb, group and resource.
const USUAL: [(&str, &str, &str); 12] = [
    ("list", "", "pods"),
    ("get", "", "configmaps"),
    ("get", "", "secrets"),
    ("list", "", "services"),
    ("list", "", "endpoints"),
    ("create", "", "events"),
    ("create", "", "pods"),
    ("list", "apps", "deployments"),
    ("create", "batch", "jobs"),
    ("list", "networking.k8s.io", "ingresses"),
    ("list", "discovery.k8s.io", "endpointslices"),
    ("create", "coordination.k8s.io", "leases"),
];

/// Refuses objects whose workloads run as accounts with rights, if the kinds that give rights can't be listed.
pub(super) async fn need_no_roles(source: &Source<'_>, objects: &[Value], denied: &[&KindInfo]) -> Result<(), ExportError> {
    let giving: Vec<&KindInfo> = denied.iter().copied().filter(|kind| gives_rights(kind)).collect();
    if giving.is_empty() {
        return Ok(());
    }
    let accounts: BTreeSet<String> = objects.iter().flat_map(references::service_accounts).filter(|name| name != "default").collect();
    let asked: Vec<Result<Option<String>, ExportError>> = stream::iter(accounts.into_iter().take(MAX_ACCOUNTS))
        .map(|name| async move { Ok(holds_any(source, &name).await?.then_some(name)) })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let holding: Vec<String> = asked.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    if holding.is_empty() {
        return Ok(());
    }
    let mut rights: Vec<Right> = giving.into_iter().map(|kind| right("list", kind, source.namespace)).collect();
    rights.sort();
    Err(ExportError::RolesNotLookedFor { namespace: source.namespace.to_owned(), accounts: holding, rights })
}

fn gives_rights(kind: &KindInfo) -> bool {
    kind.resource.group == RBAC && matches!(kind.resource.kind.as_str(), "Role" | "RoleBinding")
}

/// Whether an account has one of the usual rights that not everybody has.
async fn holds_any(source: &Source<'_>, name: &str) -> Result<bool, ExportError> {
    let account = service_account(source.namespace, name);
    let everybody = Identity { username: String::new(), ..account.clone() };
    let (account, everybody) = (&account, &everybody);
    let rights: Vec<Right> = USUAL.iter().map(|(verb, group, resource)| Right::on(verb, group, resource, source.namespace)).collect();
    let mut answers = stream::iter(rights)
        .map(|right| async move {
            let may = source.access.may(account, &right).await? && !source.access.may(everybody, &right).await?;
            Ok::<bool, kube::Error>(may)
        })
        .buffer_unordered(CONCURRENCY);
    while let Some(may) = answers.try_next().await.map_err(|e| ExportError::api("asking what accounts may do", source.namespace, e))? {
        if may {
            return Ok(true);
        }
    }
    Ok(false)
}
