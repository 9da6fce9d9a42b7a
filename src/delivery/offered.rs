//! What the target offers: a solution uses only those Secrets and `ServiceAccounts` of the target that their owner labelled for it.
//! Otherwise a maker could mount, or run as, what the target never meant to give.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::core::ApiResource;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::errors::{self, Cause};
use super::references;
use crate::api::names::CONNECTION_LABEL;
use crate::api::plan::{AccessedObject, PlanResult};
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// What was found of what a solution uses in the target.
#[derive(Debug, Default)]
pub struct Offers {
    /// What is offered.
    pub used: Vec<AccessedObject>,
    /// What is missing or not offered, one entry each.
    pub refused: Vec<PlanResult>,
    /// What the delegate would need to look.
    pub rights: Vec<Right>,
}

/// What objects use of the target's and do not bring along.
#[derive(Debug, Default)]
struct Uses {
    /// By name: the first object that uses it, and whether all can do without.
    secrets: BTreeMap<String, (String, bool)>,
    /// By name: the first object that runs as it.
    accounts: BTreeMap<String, String>,
}

fn uses(objects: &[Value]) -> Uses {
    let mut uses = Uses::default();
    let text = |object: &Value, pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    for object in objects {
        let user = format!("{} {}", text(object, "/kind"), text(object, "/metadata/name"));
        for (name, optional) in references::secret_references(object) {
            let entry = uses.secrets.entry(name).or_insert_with(|| (user.clone(), true));
            entry.1 &= optional;
        }
        for name in references::service_accounts(object) {
            let brought = objects.iter().any(|o| text(o, "/kind") == "ServiceAccount" && text(o, "/metadata/name") == name);
            if name != "default" && !brought {
                uses.accounts.entry(name).or_insert_with(|| user.clone());
            }
        }
    }
    uses
}

/// What a delegate needs to see, of each thing that the objects use in `namespace`, whether it is offered.
pub fn rights(namespace: &str, objects: &[Value]) -> Vec<Right> {
    let Uses { secrets, accounts } = uses(objects);
    let looks = |plural: &'static str| move |name: &String| Right::on("get", "", plural, namespace).named(name);
    secrets.keys().map(looks("secrets")).chain(accounts.keys().map(looks("serviceaccounts"))).collect()
}

/// Looks, as the delegate, at every Secret and `ServiceAccount` of `namespace` that the objects use and do not bring along, and at the
/// Secrets that connection references were given (`connected`: each with the reference's name). Only metadata is read.
///
/// # Errors
/// Where the API server can't be asked.
pub async fn check(
    delegate: &DelegateClient,
    namespace: &str,
    objects: &[Value],
    connected: &BTreeMap<String, String>,
) -> Result<Offers, kube::Error> {
    let Uses { mut secrets, accounts } = uses(objects);
    for (secret, reference) in connected {
        secrets.entry(secret.clone()).or_insert_with(|| (format!("connection reference {reference}"), false));
    }
    let mut found = Offers::default();
    for (name, (user, optional)) in &secrets {
        found.look::<Secret>(delegate, namespace, "secrets", name, user, *optional).await?;
    }
    for (name, user) in &accounts {
        found.look::<ServiceAccount>(delegate, namespace, "serviceaccounts", name, user, false).await?;
    }
    Ok(found)
}

impl Offers {
    async fn look<K>(
        &mut self,
        delegate: &DelegateClient,
        namespace: &str,
        plural: &str,
        name: &str,
        user: &str,
        optional: bool,
    ) -> Result<(), kube::Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let kind = K::kind(&()).into_owned();
        let result =
            |reason: &str, message: String| PlanResult { kind: kind.clone(), name: name.to_owned(), reason: reason.to_owned(), message };
        match delegate.metadata(&ApiResource::erase::<K>(&()), namespace, name).await {
            Ok(Some(object)) if object.labels().get(CONNECTION_LABEL).is_some_and(|v| v == "true") => {
                self.used.push(AccessedObject { kind, name: name.to_owned(), used_by: user.to_owned() });
            }
            Ok(Some(_)) => self.refused.push(result(
                "NotOffered",
                format!("{user} uses {kind} {name} of namespace {namespace}, which is not offered to solutions. Its owner offers it with: kubectl label {plural} {name} -n {namespace} {CONNECTION_LABEL}=true"),
            )),
            Ok(None) if optional => {}
            Ok(None) => self.refused.push(result(
                "NotFound",
                format!("{user} uses {kind} {name}, which does not exist in namespace {namespace} and never travels with a solution. Create it there and label it {CONNECTION_LABEL}=true, or name another by a connection reference"),
            )),
            Err(error) if errors::classify(&error) == Cause::Unauthorized => {
                self.rights.push(Right::on("get", "", plural, namespace).named(name));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
