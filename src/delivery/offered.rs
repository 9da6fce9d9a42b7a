//! What the target offers: a solution uses only those Secrets and `ServiceAccounts` of the target that their owner labelled for it.
//! Otherwise a maker could mount, or run as, what the target never meant to give.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::errors::{self, Cause};
use super::references;
use crate::api::names::CONNECTION_LABEL;
use crate::api::plan::{AccessedObject, PlanResult};
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// The target does not offer what the solution uses.
#[derive(Debug, thiserror::Error)]
pub enum OfferError {
    /// The API server could not be asked.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// Some are missing or not offered, one entry each.
    #[error("the target does not offer what the solution uses")]
    Refused(Vec<PlanResult>),
    /// The delegate may not look.
    #[error("the delegate may not look at what the solution uses")]
    MissingRights(Vec<Right>),
}

/// Looks, as the delegate, at every Secret and `ServiceAccount` of `namespace` that the objects use and do not bring along.
/// Only metadata is read. Returns what is used.
///
/// # Errors
/// Where something is missing or not offered, or the delegate may not look.
pub async fn check(delegate: &DelegateClient, namespace: &str, objects: &[Value]) -> Result<Vec<AccessedObject>, OfferError> {
    let mut secrets: BTreeMap<String, (String, bool)> = BTreeMap::new();
    let mut accounts: BTreeMap<String, String> = BTreeMap::new();
    let text = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    for object in objects {
        let user = format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"));
        for (name, optional) in references::secret_references(object) {
            let entry = secrets.entry(name).or_insert_with(|| (user.clone(), true));
            entry.1 &= optional;
        }
        for name in references::service_accounts(object) {
            let brought = objects.iter().any(|o| text(o, "/kind") == "ServiceAccount" && text(o, "/metadata/name") == name);
            if name != "default" && !brought {
                accounts.entry(name).or_insert_with(|| user.clone());
            }
        }
    }
    let mut found = Findings::default();
    for (name, (user, optional)) in &secrets {
        found.look::<Secret>(delegate, namespace, "secrets", name, user, *optional).await?;
    }
    for (name, user) in &accounts {
        found.look::<ServiceAccount>(delegate, namespace, "serviceaccounts", name, user, false).await?;
    }
    if !found.rights.is_empty() {
        return Err(OfferError::MissingRights(found.rights));
    }
    if !found.results.is_empty() {
        return Err(OfferError::Refused(found.results));
    }
    Ok(found.used)
}

#[derive(Default)]
struct Findings {
    used: Vec<AccessedObject>,
    results: Vec<PlanResult>,
    rights: Vec<Right>,
}

impl Findings {
    async fn look<K>(
        &mut self,
        delegate: &DelegateClient,
        namespace: &str,
        plural: &str,
        name: &str,
        user: &str,
        optional: bool,
    ) -> Result<(), OfferError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let kind = K::kind(&()).into_owned();
        let result =
            |reason: &str, message: String| PlanResult { kind: kind.clone(), name: name.to_owned(), reason: reason.to_owned(), message };
        match Api::<K>::namespaced(delegate.client(), namespace).get_metadata_opt(name).await {
            Ok(Some(object)) if object.labels().get(CONNECTION_LABEL).is_some_and(|v| v == "true") => {
                self.used.push(AccessedObject { kind, name: name.to_owned(), used_by: user.to_owned() });
            }
            Ok(Some(_)) => self.results.push(result(
                "NotOffered",
                format!("{user} uses {kind} {name} of namespace {namespace}, which is not offered to solutions. Its owner offers it with: kubectl label {plural} {name} -n {namespace} {CONNECTION_LABEL}=true"),
            )),
            Ok(None) if optional => {}
            Ok(None) => self.results.push(result(
                "NotFound",
                format!("{user} uses {kind} {name}, which does not exist in namespace {namespace} and never travels with a solution. Create it there and label it {CONNECTION_LABEL}=true, or name another by a connection reference"),
            )),
            Err(error) if errors::classify(&error) == Cause::Unauthorized => {
                self.rights.push(Right::on("get", "", plural, namespace).named(name));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}
