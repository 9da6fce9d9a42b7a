//! Bindings of the target to a `ServiceAccount` that does not exist. Whoever creates one of that name gets their rights.

use std::collections::BTreeSet;

use futures::future::try_join;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, RoleRef, Subject};
use kube::api::ListParams;
use kube::{Resource, ResourceExt};

use crate::api::names::service_account_username;
use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::cluster::errors::{self, first_few};
use crate::cluster::object::Key;
use crate::cluster::packed::packed;
use crate::cluster::retry::retrying;
use crate::deploy::plan::rbac_changes::shown;
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// The API group of bindings.
const RBAC: &str = "rbac.authorization.k8s.io";
/// The most bindings that are read.
const PAGE: u32 = 500;

/// What is needed to list the bindings of a namespace, and those of its whole cluster.
pub(crate) fn rights(namespace: &str) -> [Right; 2] {
    [Right::on("list", RBAC, "rolebindings", namespace), Right::on("list", RBAC, "clusterrolebindings", "").everywhere()]
}

/// A binding, reduced to what is needed here.
struct Bound {
    key: Key,
    role: String,
    subjects: Vec<Subject>,
}

fn bound(kind: &str, name: String, role: &RoleRef, subjects: Option<Vec<Subject>>) -> Bound {
    let key = Key { group: RBAC.to_owned(), kind: kind.to_owned(), name };
    Bound { key, role: format!("{} {}", role.kind, shown(&role.name)), subjects: subjects.unwrap_or_default() }
}

/// What bindings of the target grant to accounts of these names, as the delegate sees them: `may_list` says which of the two kinds it may
/// list. `is_own` marks the solution's own bindings, which the plan reports anyway.
///
/// # Errors
/// If the API server can't be asked.
pub(crate) async fn look(
    delegate: &DelegateClient,
    namespace: &str,
    accounts: &BTreeSet<String>,
    may_list: [bool; 2],
    is_own: impl Fn(&Key) -> bool,
) -> kube::Result<Vec<PlanResult>> {
    let [here, everywhere] = may_list;
    let (here, everywhere) = try_join(of_namespace(delegate, namespace, here), of_cluster(delegate, everywhere)).await?;
    let foreign: Vec<Bound> = here.into_iter().chain(everywhere).filter(|bound| !is_own(&bound.key)).collect();
    let mut told: Vec<PlanResult> = accounts.iter().flat_map(|account| waits_for(namespace, account, &foreign)).collect();
    told.extend(unseen(&delegate.delegate().username(), namespace, accounts, may_list));
    Ok(told)
}

async fn of_namespace(delegate: &DelegateClient, namespace: &str, may_list: bool) -> kube::Result<Vec<Bound>> {
    let found = if may_list { all::<RoleBinding>(delegate, Some(namespace)).await? } else { Vec::new() };
    Ok(found.into_iter().map(|b| bound("RoleBinding", b.name_any(), &b.role_ref, b.subjects)).collect())
}

async fn of_cluster(delegate: &DelegateClient, may_list: bool) -> kube::Result<Vec<Bound>> {
    let found = if may_list { all::<ClusterRoleBinding>(delegate, None).await? } else { Vec::new() };
    Ok(found.into_iter().map(|b| bound("ClusterRoleBinding", b.name_any(), &b.role_ref, b.subjects)).collect())
}

async fn all<K>(delegate: &DelegateClient, namespace: Option<&str>) -> kube::Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let mut found = Vec::new();
    let mut params = ListParams::default().limit(PAGE);
    loop {
        let page = retrying(|| delegate.page::<K>(namespace, &params)).await?;
        found.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// What the bindings grant to an account of this name.
fn waits_for(namespace: &str, account: &str, bindings: &[Bound]) -> Vec<PlanResult> {
    let username = service_account_username(namespace, account);
    let is_it = |subject: &Subject| match subject.kind.as_str() {
        "ServiceAccount" => subject.name == account && subject.namespace.as_deref().is_none_or(|other| other == namespace),
        "User" => subject.name == username,
        _ => false,
    };
    let given = bindings.iter().filter(|bound| bound.subjects.iter().any(is_it));
    let said = packed(given.map(|bound| format!("{} {} gives it {}", bound.key.kind, shown(&bound.key.name), bound.role)), "; ");
    let key = Key { group: String::new(), kind: "ServiceAccount".into(), name: account.to_owned() };
    let result = |said: String| {
        let message = format!(
            "{key} is created, and what the target gives to that name already, it gets: {said}. Have the target's owner take away what is not meant for it"
        );
        errors::result(&key, Reason::BoundAlready, &message)
    };
    said.into_iter().map(result).collect()
}

/// What could not be checked.
fn unseen(delegate: &str, namespace: &str, accounts: &BTreeSet<String>, may_list: [bool; 2]) -> Option<PlanResult> {
    let what = match may_list {
        [true, true] => return None,
        [false, true] => format!("RoleBindings of namespace {namespace}"),
        [true, false] => "ClusterRoleBindings".to_owned(),
        [false, false] => format!("RoleBindings of namespace {namespace}, and ClusterRoleBindings,"),
    };
    let named = first_few(accounts.iter().map(|account| format!("ServiceAccount {account}")));
    let first = accounts.first()?;
    let message = format!(
        "whether {what} give something already to what is created could not be looked at, as {delegate} may not list them: {named}. What they give to these names, the solution gets"
    );
    Some(errors::result(&Key { group: String::new(), kind: "ServiceAccount".into(), name: first.clone() }, Reason::NotLookedAt, &message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(kind: &str, name: &str, namespace: Option<&str>) -> Subject {
        Subject { kind: kind.into(), name: name.into(), namespace: namespace.map(str::to_owned), api_group: None }
    }

    fn binding(name: &str, subjects: Vec<Subject>) -> Bound {
        let role = RoleRef { kind: "ClusterRole".into(), name: "admin".into(), ..RoleRef::default() };
        bound("RoleBinding", name.into(), &role, Some(subjects))
    }

    #[test]
    fn a_binding_that_waits_for_the_account_is_told() {
        let bindings = [
            binding("dangling", vec![subject("ServiceAccount", "old-operator", Some("qa"))]),
            binding("by-user", vec![subject("User", "system:serviceaccount:qa:old-operator", None)]),
            binding("other", vec![subject("ServiceAccount", "old-operator", Some("prod")), subject("Group", "old-operator", None)]),
        ];
        let told = waits_for("qa", "old-operator", &bindings).remove(0);
        assert_eq!(told.reason, "BoundAlready");
        assert!(
            told.message
                .contains("gets: RoleBinding dangling gives it ClusterRole admin; RoleBinding by-user gives it ClusterRole admin. Have"),
            "{told:?}"
        );
        assert_eq!(waits_for("qa", "new", &bindings), []);
    }

    #[test]
    fn what_could_not_be_looked_at_is_said() {
        let accounts = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(unseen("bot", "qa", &accounts, [true, true]), None);
        let told = unseen("bot", "qa", &accounts, [false, false]).unwrap();
        assert!(told.message.contains("bot may not list them: ServiceAccount a; ServiceAccount b"), "{told:?}");
    }
}
