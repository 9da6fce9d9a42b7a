//! What the target offers: a solution may use only Secrets and `ServiceAccounts` of the target that their owner labelled for it. Otherwise
//! a maker could mount, or run as, what the target never meant to give.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::core::ApiResource;
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::names::CONNECTION_LABEL;
use crate::api::plan::{AccessedObject, PlanResult};
use crate::api::reason::Reason;
use crate::cluster::errors::{self, Cause};
use crate::cluster::object::{self, Key};
use crate::cluster::packed::packed;
use crate::cluster::references::{self, Reference, Referred};
use crate::cluster::retry::retrying;
use crate::deploy::plan::rbac_changes::shown;
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// How many objects are read at the same time.
const CONCURRENCY: usize = 8;

/// What objects use of the target and do not bring with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uses {
    /// What is surely used: the first object that uses it, and whether all can do without it.
    named: BTreeMap<(Referred, String), (String, bool)>,
    /// What may be used, in words, by the object that may use it.
    possible: BTreeMap<Key, BTreeSet<String>>,
}

impl Uses {
    /// What objects of `namespace` use.
    pub(crate) fn of<'a>(namespace: &str, objects: impl IntoIterator<Item = &'a Value> + Clone) -> Self {
        let mut uses = Self::default();
        let mut brought = BTreeSet::new();
        let mut possible = Vec::new();
        for object in objects.clone() {
            if object::group(object).is_empty() && object::kind(object) == Referred::ServiceAccount.kind() {
                brought.insert(object::name(object));
            }
        }
        for object in objects {
            let key = Key::of(object);
            for Reference { referred, name, namespace: elsewhere, optional, certain } in references::all(object, namespace) {
                let comes_along = referred == Referred::ServiceAccount && (name == "default" || brought.contains(name.as_str()));
                match elsewhere {
                    _ if comes_along => {}
                    Some(elsewhere) => possible.push((key.clone(), None, format!("{} {name} of namespace {elsewhere}", referred.kind()))),
                    None if certain => {
                        let entry = uses.named.entry((referred, name)).or_insert_with(|| (key.to_string(), true));
                        entry.1 &= optional;
                    }
                    None => possible.push((key.clone(), Some((referred, name.clone())), format!("{} {name}", referred.kind()))),
                }
            }
        }
        for (key, reference, said) in possible {
            if reference.is_none_or(|reference| !uses.named.contains_key(&reference)) {
                uses.possible.entry(key).or_default().insert(said);
            }
        }
        uses
    }

    /// The same, with the Secrets that connection references were given, each with the reference's name.
    #[must_use]
    pub(crate) fn connected(mut self, connected: &BTreeMap<String, String>) -> Self {
        for (secret, reference) in connected {
            self.named.entry((Referred::Secret, secret.clone())).or_insert_with(|| (format!("connection reference {reference}"), false));
            for said in self.possible.values_mut() {
                said.remove(&format!("{} {secret}", Referred::Secret.kind()));
            }
        }
        self.possible.retain(|_, said| !said.is_empty());
        self
    }

    /// What is used in addition to what was read: other names, and references that were thought to be optional.
    #[must_use]
    pub(crate) fn beyond(mut self, known: &Self) -> Self {
        self.named.retain(|used, (_, optional)| known.named.get(used).is_none_or(|(_, was_optional)| *was_optional && !*optional));
        self.possible.retain(|key, said| {
            let known = known.possible.get(key);
            said.retain(|one| known.is_none_or(|known| !known.contains(one)));
            !said.is_empty()
        });
        self
    }

    /// Whether it is surely used.
    pub(crate) fn has(&self, kind: &str, name: &str) -> bool {
        [Referred::Secret, Referred::ServiceAccount]
            .into_iter()
            .any(|referred| referred.kind() == kind && self.named.contains_key(&(referred, name.to_owned())))
    }

    /// Reports to the approver what only looks like a reference, and what belongs to somebody in another namespace.
    pub(crate) fn told(&self) -> Vec<PlanResult> {
        let said = |(key, said): (&Key, &BTreeSet<String>)| {
            let head = format!(
                "{key} may use, by what its fields are called, what was not looked for in the target: ask who wrote it, where that is not meant"
            );
            let parts = packed(said.iter().cloned(), ", ");
            parts.into_iter().map(|part| errors::result(key, Reason::MayUse, &format!("{head}: {part}"))).collect::<Vec<_>>()
        };
        self.possible.iter().flat_map(said).collect()
    }
}

fn plural(referred: Referred) -> &'static str {
    match referred {
        Referred::Secret => "secrets",
        Referred::ServiceAccount => "serviceaccounts",
    }
}

/// What a delegate needs to check, for everything that the objects use in `namespace`, whether it is offered.
pub(crate) fn rights(namespace: &str, objects: &[Value]) -> Vec<Right> {
    Uses::of(namespace, objects).named.keys().map(|(referred, name)| right(namespace, *referred, name)).collect()
}

fn right(namespace: &str, referred: Referred, name: &str) -> Right {
    Right::on("get", "", plural(referred), namespace).named(name)
}

/// The result of checking what a solution uses in the target.
#[derive(Debug, Default)]
pub(crate) struct Offers {
    /// What is offered, and what will be used as soon as it exists.
    pub(crate) used: Vec<AccessedObject>,
    /// The missing part of it: objects can do without it, and use it as soon as somebody creates it.
    pub(crate) awaited: Vec<AccessedObject>,
    /// What is missing or not offered, one entry for each.
    pub(crate) refused: Vec<PlanResult>,
    /// The rights that the delegate would need to look.
    pub(crate) rights: Vec<Right>,
}

/// The result of one look-up.
enum Found {
    Offered,
    NotOffered,
    Absent,
    Unseen,
    /// No object can have that name, so no call was made.
    NoName,
}

/// Reads, as the delegate, every Secret and `ServiceAccount` of `namespace` that is used. Only metadata is read.
///
/// # Errors
/// If the API server can't be asked.
pub(crate) async fn check(delegate: &DelegateClient, namespace: &str, uses: &Uses) -> Result<Offers, kube::Error> {
    let looked: Vec<_> = stream::iter(uses.named.clone())
        .map(|((referred, name), (user, optional))| async move {
            let found = match referred {
                _ if !object::is_plain_name(&name) => Ok(Found::NoName),
                Referred::Secret => look::<Secret>(delegate, namespace, &name).await,
                Referred::ServiceAccount => look::<ServiceAccount>(delegate, namespace, &name).await,
            };
            (referred, name, user, optional, found)
        })
        .buffered(CONCURRENCY)
        .collect()
        .await;
    let mut offers = Offers::default();
    for (referred, name, user, optional, found) in looked {
        let accessed = || AccessedObject { kind: referred.kind().to_owned(), name: name.clone(), used_by: user.clone() };
        match found? {
            Found::Offered => offers.used.push(accessed()),
            // An optional reference to an existing object that is not offered is refused. One to a missing object is only reported: charts
            // name many that a target never has.
            Found::Absent if optional => {
                offers.used.push(accessed());
                offers.awaited.push(accessed());
            }
            Found::Absent | Found::NotOffered => offers.refused.push(refusal(namespace, referred, &name, &user)),
            Found::NoName => offers.refused.push(no_name(referred, &name, &user)),
            Found::Unseen => offers.rights.push(right(namespace, referred, &name)),
        }
    }
    Ok(offers)
}

async fn look<K>(delegate: &DelegateClient, namespace: &str, name: &str) -> Result<Found, kube::Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let resource = ApiResource::erase::<K>(&());
    match retrying(|| delegate.metadata(&resource, namespace, name)).await {
        Ok(Some(object)) if object.labels().get(CONNECTION_LABEL).is_some_and(|v| v == "true") => Ok(Found::Offered),
        Ok(Some(_)) => Ok(Found::NotOffered),
        Ok(None) => Ok(Found::Absent),
        Err(error) if errors::classify(&error) == Cause::Unauthorized => Ok(Found::Unseen),
        Err(error) => Err(error),
    }
}

/// Why it can't be used. The message doesn't say whether it exists.
fn refusal(namespace: &str, referred: Referred, name: &str, user: &str) -> PlanResult {
    let (kind, plural) = (referred.kind(), plural(referred));
    let or = match referred {
        Referred::Secret => "; or name another by a connection reference",
        Referred::ServiceAccount => "; or bring one of another name with the solution",
    };
    let message = format!(
        "{user} uses {kind} {name} of namespace {namespace}, which is not offered to solutions, or does not exist there. Its owner offers it, once it is there, with: kubectl label {plural} {name} -n {namespace} {CONNECTION_LABEL}=true{or}"
    );
    errors::result(&Key { group: String::new(), kind: kind.to_owned(), name: name.to_owned() }, Reason::NotOffered, &message)
}

/// A name that would make a call reach something else.
fn no_name(referred: Referred, name: &str, user: &str) -> PlanResult {
    let kind = referred.kind();
    let message = format!(
        "{user} uses a {kind} by a name that none can have, {}: correct it, in the request's settings where one wrote it",
        shown(name)
    );
    errors::result(&Key { group: String::new(), kind: kind.to_owned(), name: name.to_owned() }, Reason::InvalidName, &message)
}

impl Offers {
    /// Adds what another look found.
    pub(crate) fn merge(&mut self, others: Self) {
        self.used.extend(others.used);
        self.awaited.extend(others.awaited);
        self.refused.extend(others.refused);
        self.rights.extend(others.rights);
    }

    /// Reports what will be used as soon as somebody creates it.
    pub(crate) fn told(&self, solution: &str) -> Vec<PlanResult> {
        let said = |one: &AccessedObject| format!("{} {} ({})", one.kind, one.name, one.used_by);
        let key = Key { group: String::new(), kind: "Solution".into(), name: solution.to_owned() };
        let parts = packed(self.awaited.iter().map(said), ", ");
        let result = |part: String| {
            let message = format!(
                "can do without these, which are not there, and uses each from when somebody makes it, without asking again whether it is offered: {part}"
            );
            errors::result(&key, Reason::UsesOnceThere, &message)
        };
        parts.into_iter().map(result).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(pod: Value) -> Value {
        let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"template": {}}});
        object["spec"]["template"]["spec"] = pod;
        object
    }

    fn named(uses: &Uses) -> Vec<String> {
        uses.named.iter().map(|((referred, name), (user, optional))| format!("{} {name} by {user} {optional}", referred.kind())).collect()
    }

    #[test]
    fn only_a_service_account_of_the_core_group_comes_along() {
        let deployment = deployment(json!({"serviceAccountName": "root", "containers": []}));
        let of = |api_version: &str| json!({"apiVersion": api_version, "kind": "ServiceAccount", "metadata": {"name": "root"}});
        let used = named(&Uses::of("qa", &[of("cloudplatform.gcp.m.upbound.io/v1"), deployment.clone()]));
        assert_eq!(used, ["ServiceAccount root by Deployment d false"]);
        assert_eq!(named(&Uses::of("qa", &[of("v1"), deployment])), [""; 0]);
    }

    #[test]
    fn what_the_target_makes_of_objects_is_looked_at_beyond_what_they_say() {
        let pod = |secrets: &[(&str, bool)]| {
            let sources: Vec<Value> =
                secrets.iter().map(|(name, optional)| json!({"secretRef": {"name": name, "optional": optional}})).collect();
            deployment(json!({"containers": [{"name": "c", "envFrom": sources}]}))
        };
        let known = Uses::of("qa", &[pod(&[("a", false), ("b", true), ("c", true)])]);
        let beyond = Uses::of("qa", &[pod(&[("a", false), ("b", false), ("c", true), ("d", true)])]).beyond(&known);
        assert_eq!(named(&beyond), ["Secret b by Deployment d false", "Secret d by Deployment d true"]);
    }

    #[test]
    fn what_only_looks_like_a_reference_is_told_unless_a_connection_stands_for_it() {
        let thing = json!({"apiVersion": "example.test/v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": {"secretName": "a", "authSecret": "b"}});
        let uses = Uses::of("qa", &[thing]);
        let told = uses.told();
        assert!(told.len() == 1 && told[0].reason == "MayUse" && told[0].message.ends_with(": Secret a, Secret b"), "{told:?}");
        let told = uses.connected(&[("a".to_owned(), "db".to_owned())].into()).told();
        assert!(told[0].message.ends_with(": Secret b"), "{told:?}");
        let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "g"}, "spec": {"listeners": [
            {"tls": {"certificateRefs": [{"name": "own", "namespace": "qa"}, {"name": "theirs", "namespace": "prod"}]}}]}});
        let uses = Uses::of("qa", &[gateway]);
        assert_eq!(named(&uses), ["Secret own by Gateway g false"]);
        assert!(uses.told()[0].message.ends_with(": Secret theirs of namespace prod"), "{:?}", uses.told());
    }

    #[test]
    fn one_sentence_is_for_what_is_not_offered_and_for_what_is_not_there() {
        let told = refusal("qa", Referred::Secret, "vault", "Deployment d");
        assert_eq!(told.reason, "NotOffered");
        for words in ["not offered to solutions, or does not exist there", "kubectl label secrets vault -n qa pilotage.dev/connection=true"]
        {
            assert!(told.message.contains(words), "{}", told.message);
        }
    }
}
