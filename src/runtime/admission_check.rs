//! Whether Pilotage's admission policies are in force. Without them anybody could decide anything, so nothing is deployed.

use std::sync::{LazyLock, Mutex, PoisonError};

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::Value;

use super::stores::Stores;
use crate::identity::delegation::Delegation;

/// The policies that must be in force, as they are installed. The policy for namespaces is not among them: it only prevents accidents.
const INSTALLED: &[&str] = &[
    include_str!("../../deploy/admission/environment.yaml"),
    include_str!("../../deploy/admission/operator.yaml"),
    include_str!("../../deploy/admission/pipeline.yaml"),
    include_str!("../../deploy/admission/records.yaml"),
    include_str!("../../deploy/admission/request-change.yaml"),
    include_str!("../../deploy/admission/request-create.yaml"),
    include_str!("../../deploy/admission/request-status.yaml"),
    include_str!("../../deploy/admission/stage.yaml"),
];

/// The policies that must be in force too where the operator acts with lent tokens.
const ON_LENT_TOKENS: &str = include_str!("../../deploy/components/older-kubernetes/lent-tokens.yaml");

/// A policy of [`ON_LENT_TOKENS`]. Where it is, the operator is meant to act with lent tokens.
const LENT_TOKEN: &str = "pilotage-lent-token";

/// What must be in force, parsed once: with impersonation, and with lent tokens, where the API server has no mutating policies.
static WITH_IMPERSONATION: LazyLock<Vec<Expected>> = LazyLock::new(|| INSTALLED.iter().flat_map(|text| parsed(text)).collect());
static WITH_LENT_TOKENS: LazyLock<Vec<Expected>> = LazyLock::new(|| {
    let validating = INSTALLED.iter().flat_map(|text| parsed(text)).filter(|wanted| !wanted.kind.starts_with("Mutating"));
    validating.chain(parsed(ON_LENT_TOKENS)).collect()
});

fn parsed(text: &str) -> impl Iterator<Item = Expected> + use<> {
    let objects = serde_saphyr::from_multiple::<Value>(text).unwrap_or_default();
    objects.into_iter().filter(|object| !object.is_null()).map(|mut object| Expected {
        kind: object["kind"].as_str().unwrap_or_default().to_owned(),
        name: object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default().to_owned(),
        spec: without_defaults(object["spec"].take()),
    })
}

/// What must be in force.
fn expected(delegation: Delegation) -> &'static [Expected] {
    match delegation {
        Delegation::Impersonation => &WITH_IMPERSONATION,
        Delegation::LentToken => &WITH_LENT_TOKENS,
    }
}

/// A policy or a binding that must be in force.
struct Expected {
    kind: String,
    name: String,
    spec: Value,
}

/// A policy or a binding as the caches hold it.
struct Live {
    /// The uid and the resource version.
    version: (String, String),
    spec: Box<dyn Fn() -> Value>,
}

/// What a verdict was made from: for each expected object its uid and version, if it exists.
type Grounds = Vec<Option<(String, String)>>;

/// The check. It parses policies again only if one has changed.
pub(crate) struct AdmissionCheck {
    expected: &'static [Expected],
    last: Mutex<Option<(Grounds, bool)>>,
}

impl AdmissionCheck {
    /// Of what must be in force for that way to act as delegates.
    pub(crate) fn new(delegation: Delegation) -> Self {
        Self { expected: expected(delegation), last: Mutex::default() }
    }

    /// Checks what the caches hold.
    pub(crate) fn by_caches(&self, stores: &Stores) -> bool {
        let live: Vec<Option<Live>> = self.expected.iter().map(|wanted| live(stores, wanted)).collect();
        let grounds: Grounds = live.iter().map(|found| found.as_ref().map(|f| f.version.clone())).collect();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, verdict)) = last.as_ref()
            && *of == grounds
        {
            return *verdict;
        }
        let found: Vec<Option<Value>> = live.into_iter().map(|found| found.map(|f| (f.spec)())).collect();
        let missing = missing(self.expected, &found);
        if missing.is_empty() {
            tracing::info!("the admission policies of Pilotage are in force");
        } else {
            tracing::warn!(missing = missing.join(", "), "admission policies of Pilotage are not in force");
        }
        *last = Some((grounds, missing.is_empty()));
        missing.is_empty()
    }
}

/// What must be in force and is missing, or differs from what was installed: `Kind name`. `found` has one spec for each expected object, in
/// that order.
fn missing(expected: &[Expected], found: &[Option<Value>]) -> Vec<String> {
    expected
        .iter()
        .zip(found)
        .filter(|(wanted, live)| live.as_ref().is_none_or(|live| without_defaults(live.clone()) != wanted.spec))
        .map(|(wanted, _)| format!("{} {}", wanted.kind, wanted.name))
        .collect()
}

/// How the operator of this cluster is meant to act as delegates, by what is installed, read as the caller.
pub(crate) async fn delegation_now(client: &Client) -> kube::Result<Delegation> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    Ok(if policies.get_metadata_opt(LENT_TOKEN).await?.is_some() { Delegation::LentToken } else { Delegation::Impersonation })
}

/// The same as the API server has it now, read as the caller: what is missing or differs.
pub(crate) async fn missing_now(client: &Client, delegation: Delegation) -> kube::Result<Vec<String>> {
    let expected = expected(delegation);
    let mut found = Vec::new();
    for wanted in expected {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", &wanted.kind));
        let live = Api::<DynamicObject>::all_with(client.clone(), &resource).get_opt(&wanted.name).await?;
        let live = live.filter(|object| object.metadata.deletion_timestamp.is_none());
        found.push(live.map(|mut object| object.data["spec"].take()));
    }
    Ok(missing(expected, &found))
}

fn live(stores: &Stores, wanted: &Expected) -> Option<Live> {
    let name = &wanted.name;
    match wanted.kind.as_str() {
        "ValidatingAdmissionPolicy" => of(&stores.validating_policies, name, |o| serde_json::to_value(&o.spec)),
        "ValidatingAdmissionPolicyBinding" => of(&stores.validating_bindings, name, |o| serde_json::to_value(&o.spec)),
        "MutatingAdmissionPolicy" => of(&stores.mutating_policies, name, |o| serde_json::to_value(&o.spec)),
        "MutatingAdmissionPolicyBinding" => of(&stores.mutating_bindings, name, |o| serde_json::to_value(&o.spec)),
        _ => None,
    }
}

fn of<K>(store: &Store<K>, name: &str, spec: fn(&K) -> serde_json::Result<Value>) -> Option<Live>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let object = store.get(&ObjectRef::new(name)).filter(|object| object.meta().deletion_timestamp.is_none())?;
    Some(Live {
        version: (object.uid().unwrap_or_default(), object.resource_version().unwrap_or_default()),
        spec: Box::new(move || spec(object.as_ref()).unwrap_or_default()),
    })
}

/// A spec without the defaults that the API server fills in. Everything else counts: with one more match condition, selector or excluded
/// rule, a policy looks the same and checks less.
fn without_defaults(mut spec: Value) -> Value {
    let Some(constraints) = spec.get_mut("matchConstraints").and_then(Value::as_object_mut) else { return spec };
    for selector in ["namespaceSelector", "objectSelector"] {
        if constraints.get(selector).is_some_and(|s| s.as_object().is_some_and(serde_json::Map::is_empty)) {
            constraints.remove(selector);
        }
    }
    if constraints.get("matchPolicy").is_some_and(|policy| policy == "Equivalent") {
        constraints.remove("matchPolicy");
    }
    for rule in constraints.get_mut("resourceRules").and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut) {
        if rule.get("scope").is_some_and(|scope| scope == "*") {
            rule.remove("scope");
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What was installed, as an API server that fills in its defaults returns it.
    fn installed(delegation: Delegation) -> Vec<Option<Value>> {
        let defaulted = |wanted: &Expected| {
            let mut spec = wanted.spec.clone();
            if let Some(constraints) = spec.get_mut("matchConstraints").and_then(Value::as_object_mut) {
                for (key, default) in
                    [("namespaceSelector", json!({})), ("objectSelector", json!({})), ("matchPolicy", json!("Equivalent"))]
                {
                    constraints.entry(key).or_insert(default);
                }
                for rule in constraints["resourceRules"].as_array_mut().unwrap() {
                    rule["scope"] = json!("*");
                }
            }
            Some(spec)
        };
        expected(delegation).iter().map(defaulted).collect()
    }

    fn position(kind: &str, name: &str) -> usize {
        WITH_IMPERSONATION.iter().position(|e| e.kind == kind && e.name == name).unwrap()
    }

    #[test]
    fn every_policy_that_is_installed_is_expected_with_its_binding() {
        for (delegation, mutating, most) in [(Delegation::Impersonation, 6, 10), (Delegation::LentToken, 0, 12)] {
            let all = expected(delegation);
            let of = |kind: &str| all.iter().filter(|e| e.kind == kind && !e.name.is_empty() && e.spec.is_object()).count();
            assert!(of("ValidatingAdmissionPolicy") >= most, "{delegation:?}: {}", of("ValidatingAdmissionPolicy"));
            assert_eq!(of("ValidatingAdmissionPolicy"), of("ValidatingAdmissionPolicyBinding"));
            assert_eq!((of("MutatingAdmissionPolicy"), of("MutatingAdmissionPolicyBinding")), (mutating, mutating));
            assert_eq!(all.len(), 2 * (of("ValidatingAdmissionPolicy") + of("MutatingAdmissionPolicy")));
            assert_eq!(missing(all, &installed(delegation)), Vec::<String>::new());
        }
        assert!(WITH_LENT_TOKENS.iter().any(|wanted| wanted.name == LENT_TOKEN));
    }

    #[test]
    fn a_policy_that_was_removed_is_missing() {
        let mut all = installed(Delegation::Impersonation);
        all[position("ValidatingAdmissionPolicyBinding", "pilotage-stage")] = None;
        assert_eq!(missing(&WITH_IMPERSONATION, &all), ["ValidatingAdmissionPolicyBinding pilotage-stage"]);
    }

    #[test]
    fn a_policy_that_judges_less_is_missing() {
        let policy = |change: fn(&mut Value)| ("ValidatingAdmissionPolicy", change);
        let binding = |change: fn(&mut Value)| ("ValidatingAdmissionPolicyBinding", change);
        for (kind, change) in [
            policy(|spec| spec["matchConditions"] = json!([{"name": "never", "expression": "false"}])),
            policy(|spec| spec["matchConstraints"]["excludeResourceRules"] = spec["matchConstraints"]["resourceRules"].clone()),
            policy(|spec| spec["matchConstraints"]["namespaceSelector"] = json!({"matchLabels": {"no": "where"}})),
            policy(|spec| spec["matchConstraints"]["objectSelector"] = json!({"matchLabels": {"no": "where"}})),
            policy(|spec| spec["matchConstraints"]["matchPolicy"] = json!("Exact")),
            policy(|spec| spec["matchConstraints"]["resourceRules"][0]["scope"] = json!("Cluster")),
            policy(|spec| spec["matchConstraints"]["resourceRules"][0]["operations"] = json!(["CREATE"])),
            policy(|spec| spec["matchConstraints"]["resourceRules"][0]["resourceNames"] = json!(["one"])),
            policy(|spec| spec["failurePolicy"] = json!("Ignore")),
            policy(|spec| spec["validations"][0]["expression"] = json!("true")),
            binding(|spec| spec["validationActions"] = json!(["Audit"])),
            binding(|spec| spec["matchResources"] = json!({"namespaceSelector": {"matchLabels": {"no": "where"}}})),
            binding(|spec| spec["paramRef"] = json!({"name": "none", "parameterNotFoundAction": "Allow"})),
        ] {
            let mut all = installed(Delegation::Impersonation);
            change(all[position(kind, "pilotage-request-change")].as_mut().unwrap());
            assert_eq!(
                missing(&WITH_IMPERSONATION, &all),
                [format!("{kind} pilotage-request-change")],
                "{:?}",
                all[position(kind, "pilotage-request-change")]
            );
        }
    }
}
