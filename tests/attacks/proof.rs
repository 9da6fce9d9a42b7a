//! The proof that each attack is refused by what is believed to refuse it, and would succeed without. By `make attacks-proof`: after
//! each refusal the guard that its message names is taken away (one validation of a policy, the binding of a mutating one, one rule
//! of a schema, one missing right) and the same call is made again as a dry run, until the API server accepts it. The guards that it
//! took are compared with `guards.txt`. Attacks that the operator refuses are not tried here but in `removals`.

use std::fmt;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicy};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Error, ResourceExt};
use pilotage_harness::{ControlPlane, Kubectl};
use serde_json::{Value, json};

use crate::world::{recorder, unrecorded};

/// How long the API server may take to notice that a guard was removed or restored.
const PATIENCE: Duration = Duration::from_mins(1);
/// More guards than any attack has.
const MOST: usize = 6;

/// The folder of the control plane of the attack, if it is not the one of the run.
static ELSEWHERE: Mutex<Option<PathBuf>> = Mutex::new(None);

/// The next attacks are on the control plane with that folder, or on the one of the run.
pub fn on(dir: Option<&Path>) {
    *ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner) = dir.map(Path::to_owned);
}

fn attacked() -> ControlPlane {
    let elsewhere = ELSEWHERE.lock().unwrap_or_else(PoisonError::into_inner).clone();
    elsewhere.map_or_else(ControlPlane::from_env, |dir| ControlPlane::attach(&dir)).expect("a control plane")
}

/// What refused the call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Guard {
    /// A right that the caller lacks.
    Right { user: String, verb: String, resource: String, group: String },
    /// Nobody can grant rights that they do not have.
    Escalation { user: String },
    /// One validation of a policy.
    Validation { policy: String, index: usize, says: String },
    /// What a schema says about one field: its length, its pattern.
    Field { kind: String, path: String },
    /// A rule of a schema.
    Rule { kind: String, says: String },
    /// A guard that does not belong to Pilotage.
    BuiltIn(String),
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // The names of namespaces differ from run to run.
            Self::Right { user, verb, resource, .. } => {
                write!(f, "RBAC: {} may not {verb} {resource}", user.rsplit(':').next().unwrap_or(user))
            }
            Self::Escalation { .. } => f.write_str("RBAC: nobody hands on what they don't have"),
            Self::Validation { policy, says, .. } => write!(f, "policy {policy}: {says}"),
            Self::Field { kind, path } => write!(f, "schema of {kind}: what {path} may be"),
            Self::Rule { kind, says } => write!(f, "schema of {kind}: {says}"),
            Self::BuiltIn(what) => write!(f, "Kubernetes: {what}"),
        }
    }
}

/// What was removed and has to be restored.
enum Taken {
    Grant(String),
    Policy(Box<ValidatingAdmissionPolicy>),
    Binding(Box<MutatingAdmissionPolicyBinding>),
    Schema(Box<CustomResourceDefinition>),
}

/// Proves the refusal of the last call, if proofs are requested.
pub async fn prove(attack: u16, what: &str) {
    let Some(mode) = recorder::MODE.as_deref() else { return };
    let call = recorder::last().expect("a call that was recorded");
    let plane = attacked();
    let admin = unrecorded(plane.admin_kubeconfig()).await;
    let installed = Installed::read(&admin).await;
    let refusal = call.repeat().await.expect_err("what was refused is refused again");
    let (mut guards, mut taken) = (vec![recognize(&installed, &refusal)], Vec::new());
    // What goes wrong is told when everything has been put back: the other tests need it.
    let mut wrong = None;
    while guards.len() <= MOST {
        let guard = guards.last().unwrap().clone();
        let Some(was) = take_away(&admin, &plane.kubectl(), &guard, taken.len()).await else { break };
        taken.push(was);
        // Until another guard refuses, or none.
        let next = until(format!("{guard} is out of force"), async || match call.repeat().await {
            Ok(()) => Some(None),
            Err(error) => {
                let other = recognize(&installed, &error);
                (!guards.contains(&other)).then_some(Some(other))
            }
        });
        match next.await {
            Ok(None) => break,
            Ok(Some(next)) => guards.push(next),
            Err(in_vain) => {
                wrong = Some(in_vain);
                break;
            }
        }
    }
    for (was, guard) in taken.into_iter().zip(&guards).rev() {
        put_back(&admin, was).await;
        let is_back = until(format!("{guard} is in force again"), async || match call.repeat().await {
            Ok(()) => None,
            Err(error) => (recognize(&installed, &error) == *guard).then_some(()),
        });
        wrong = wrong.or(is_back.await.err());
    }
    assert!(guards.len() <= MOST, "attack {attack} ({what}) has no end of guards: {guards:?}");
    assert!(wrong.is_none(), "attack {attack} ({what}): {}", wrong.unwrap_or_default());

    let mut line = format!("{attack} | {what} | ");
    for (at, guard) in guards.iter().enumerate() {
        write!(line, "{}{guard}", if at == 0 { "" } else { " + " }).unwrap();
    }
    known(mode, &line);
}

/// Proves, if proofs are requested, that the last call would be answered with the hidden text if there were no mutating policy that undoes
/// what a stranger wrote.
pub async fn undone(attack: u16, what: &str, policy: &str, hidden: &str) {
    let Some(mode) = recorder::MODE.as_deref() else { return };
    let call = recorder::last().expect("a call that was recorded");
    let admin = unrecorded(ControlPlane::from_env().expect("a control plane").admin_kubeconfig()).await;
    let api = Api::<MutatingAdmissionPolicyBinding>::all(admin.clone());
    let was = api.get(policy).await.unwrap();
    api.delete(policy, &DeleteParams::default()).await.unwrap();
    let shows = async || call.repeat().await.err().is_some_and(|error| error.to_string().contains(hidden));
    let hides_nothing = until("what is hidden is shown".to_owned(), async || shows().await.then_some(())).await;
    let without = call.repeat().await;
    put_back(&admin, Taken::Binding(Box::new(was))).await;
    let hides_again = until("it is hidden again".to_owned(), async || (!shows().await).then_some(())).await;
    for in_vain in [hides_nothing, hides_again] {
        assert!(in_vain.is_ok(), "attack {attack} ({what}): {}; without the policy the answer is {without:?}", in_vain.unwrap_err());
    }
    known(mode, &format!("{attack} | {what} | mutating policy {policy}, without which the answer shows it"));
}

/// Writes a line of the proof, or checks that it is known.
fn known(mode: &str, line: &str) {
    println!("proof: {line}");
    if mode == "write" {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/guards.txt");
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
        return;
    }
    let known = include_str!("guards.txt").lines().any(|known| known == line);
    assert!(known, "not in tests/attacks/guards.txt: {line}");
}

/// The guards, as they are installed.
struct Installed {
    policies: Vec<ValidatingAdmissionPolicy>,
    kinds: Vec<CustomResourceDefinition>,
}

impl Installed {
    async fn read(admin: &Client) -> Self {
        let (all, admin) = (ListParams::default(), || admin.clone());
        Self { policies: Api::all(admin()).list(&all).await.unwrap().items, kinds: Api::all(admin()).list(&all).await.unwrap().items }
    }
}

/// Which guard refused.
fn recognize(installed: &Installed, error: &Error) -> Guard {
    let Error::Api(status) = error else { panic!("the call did not reach the API server: {error:?}") };
    let message = &status.message;
    if let Some(policy) = between(message, "ValidatingAdmissionPolicy '", "'") {
        let speaks = installed.policies.iter().find(|p| p.name_any() == policy);
        return speaks
            .and_then(|policy| validation(policy, message))
            .unwrap_or_else(|| panic!("no validation of {policy} says: {message}"));
    }
    if message.contains("attempting to grant RBAC permissions not currently held") {
        return Guard::Escalation { user: between(message, "user \"", "\"").unwrap_or_default().to_owned() };
    }
    if let Some(user) = between(message, "User \"", "\" cannot ") {
        let right = message.split_once("\" cannot ").map_or("", |(_, rest)| rest);
        return Guard::Right {
            user: user.to_owned(),
            verb: right.split(' ').next().unwrap_or_default().to_owned(),
            resource: between(right, "resource \"", "\"").unwrap_or_default().to_owned(),
            group: between(right, "API group \"", "\"").unwrap_or_default().to_owned(),
        };
    }
    for definition in &installed.kinds {
        let kind = &definition.spec.names.kind;
        if !message.starts_with(&format!("{kind}.")) {
            continue;
        }
        let mut rules = Vec::new();
        visit_rules(&mut serde_json::to_value(&definition.spec).unwrap(), &mut |rule| rules.extend(says(rule)));
        if let Some(says) = rules.into_iter().find(|says| message.contains(says)) {
            return Guard::Rule { kind: kind.clone(), says };
        }
        let path = between(message, "is invalid: ", ": ").unwrap_or_default().trim_start_matches('[');
        // That a list is a set is part of how it is merged. The API server lets nobody change that.
        if message.contains("Duplicate value") {
            return Guard::BuiltIn(format!("{path} is there already"));
        }
        if path.starts_with("spec.") || path.starts_with("status.") {
            return Guard::Field { kind: kind.clone(), path: path.to_owned() };
        }
        return Guard::BuiltIn(format!("what {path} may be"));
    }
    Guard::BuiltIn(message.chars().take(60).collect())
}

/// The message of a schema's rule, up to the first value that it inserts.
fn says(rule: &Value) -> Option<String> {
    if let Some(fixed) = rule["message"].as_str() {
        return Some(fixed.to_owned());
    }
    let text = rule["messageExpression"].as_str()?.split('\'').nth(1)?;
    Some(text.split(':').next().unwrap_or_default().to_owned())
}

/// The validation with this message: found by its fixed text, or by a text in its expression.
fn validation(policy: &ValidatingAdmissionPolicy, message: &str) -> Option<Guard> {
    let validations = policy.spec.as_ref()?.validations.as_ref()?;
    let texts = |expression: &str| -> Vec<String> {
        expression.split('"').skip(1).step_by(2).map(str::trim).filter(|text| text.len() > 12).map(str::to_owned).collect()
    };
    let index = validations.iter().position(|v| match &v.message_expression {
        Some(expression) => texts(expression).iter().any(|text| message.contains(text.as_str())),
        None => v.message.as_ref().is_some_and(|fixed| message.contains(fixed.as_str())),
    })?;
    let says = validations[index].message.clone().unwrap_or_default();
    Some(Guard::Validation { policy: policy.name_any(), index, says: says.split(':').next().unwrap_or_default().to_owned() })
}

/// Removes a guard. `None` if that is not possible, because the guard is part of Kubernetes.
async fn take_away(admin: &Client, kubectl: &Kubectl, guard: &Guard, number: usize) -> Option<Taken> {
    match guard {
        Guard::Right { user, verb, resource, group } => {
            Some(grant(kubectl, user, number, &json!([{"apiGroups": [group], "resources": [resource], "verbs": [verb]}])))
        }
        Guard::Escalation { user } => {
            let resources = ["roles", "rolebindings", "clusterroles"];
            let rules = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": resources, "verbs": ["escalate", "bind"]}]);
            Some(grant(kubectl, user, number, &rules))
        }
        Guard::Validation { policy, index, .. } => {
            let api = Api::<ValidatingAdmissionPolicy>::all(admin.clone());
            let was = api.get(policy).await.unwrap();
            let mut without = was.clone();
            let validation = &mut without.spec.as_mut()?.validations.as_mut()?[*index];
            validation.expression = "true".into();
            validation.message_expression = None;
            api.replace(policy, &PostParams::default(), &without).await.unwrap();
            Some(Taken::Policy(Box::new(was)))
        }
        Guard::Rule { kind, says } => {
            let api = Api::<CustomResourceDefinition>::all(admin.clone());
            let all = api.list(&ListParams::default()).await.unwrap();
            let was = all.into_iter().find(|d| d.spec.names.kind == *kind)?;
            let mut spec = serde_json::to_value(&was.spec).unwrap();
            visit_rules(&mut spec, &mut |rule| {
                if self::says(rule).as_ref() == Some(says) {
                    *rule = json!({"rule": "true", "message": "taken away for a proof"});
                }
            });
            let without = CustomResourceDefinition { spec: serde_json::from_value(spec).unwrap(), ..was.clone() };
            api.replace(&was.name_any(), &PostParams::default(), &without).await.unwrap();
            Some(Taken::Schema(Box::new(was)))
        }
        Guard::Field { kind, path } => {
            let api = Api::<CustomResourceDefinition>::all(admin.clone());
            let all = api.list(&ListParams::default()).await.unwrap();
            let was = all.into_iter().find(|d| d.spec.names.kind == *kind)?;
            let mut spec = serde_json::to_value(&was.spec).unwrap();
            unbound(&mut spec, path);
            let without = CustomResourceDefinition { spec: serde_json::from_value(spec).unwrap(), ..was.clone() };
            // If rules are about the field, its bounds also bound their cost: the API server keeps the bounds.
            let replaced = api.replace(&was.name_any(), &PostParams::default(), &without).await;
            replaced.ok().map(|_| Taken::Schema(Box::new(was)))
        }
        Guard::BuiltIn(_) => None,
    }
}

/// Grants a right in the whole cluster.
fn grant(kubectl: &Kubectl, user: &str, number: usize, rules: &Value) -> Taken {
    let name = format!("proof-{number}");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}],
    });
    kubectl.apply(&format!("{role}\n---\n{binding}")).unwrap();
    Taken::Grant(name)
}

async fn put_back(admin: &Client, was: Taken) {
    let plain = PatchParams::default();
    match was {
        Taken::Grant(name) => {
            use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
            Api::<ClusterRoleBinding>::all(admin.clone()).delete(&name, &DeleteParams::default()).await.unwrap();
            Api::<ClusterRole>::all(admin.clone()).delete(&name, &DeleteParams::default()).await.unwrap();
        }
        Taken::Policy(was) => {
            let patch = Patch::Merge(json!({"spec": was.spec}));
            Api::<ValidatingAdmissionPolicy>::all(admin.clone()).patch(&was.name_any(), &plain, &patch).await.unwrap();
        }
        Taken::Binding(mut was) => {
            was.metadata = kube::api::ObjectMeta { name: was.metadata.name, labels: was.metadata.labels, ..Default::default() };
            Api::<MutatingAdmissionPolicyBinding>::all(admin.clone()).create(&PostParams::default(), &was).await.unwrap();
        }
        Taken::Schema(was) => {
            let patch = Patch::Merge(json!({"spec": was.spec}));
            Api::<CustomResourceDefinition>::all(admin.clone()).patch(&was.name_any(), &plain, &patch).await.unwrap();
        }
    }
}

/// Removes what a schema says about one field, except for its type.
fn unbound(spec: &mut Value, path: &str) {
    let mut node = spec.pointer_mut("/versions/0/schema/openAPIV3Schema").expect("a schema");
    for part in path.split('.') {
        let (field, is_item) = part.split_once('[').map_or((part, false), |(field, _)| (field, true));
        node = &mut node["properties"][field];
        if is_item {
            node = &mut node["items"];
        }
    }
    let map = node.as_object_mut().unwrap_or_else(|| panic!("no schema of {path}"));
    map.retain(|key, _| !["minLength", "maxLength", "pattern", "maxItems", "enum"].contains(&key.as_str()));
}

/// Calls `show` with each rule of a schema.
fn visit_rules(schema: &mut Value, show: &mut dyn FnMut(&mut Value)) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "x-kubernetes-validations" {
                    value.as_array_mut().into_iter().flatten().for_each(&mut *show);
                } else {
                    visit_rules(value, show);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| visit_rules(item, show)),
        _ => {}
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// Waits until `look` returns something. Otherwise says what was waited for in vain.
async fn until<T>(what: String, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("waited {PATIENCE:?} in vain until {what}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
