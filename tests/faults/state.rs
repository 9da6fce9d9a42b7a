//! What a run left, in a form in which two runs can be compared: everything in the world's namespaces that Pilotage or its delegates write,
//! without uids, times and the names of the world.

use kube::Client;
use serde_json::{Map, Value, json};

use crate::world::World;

/// The kinds of the records.
const RECORDS: [&str; 5] = ["deploymentrequests", "artifacts", "environments", "stages", "pipelines"];
/// The kinds of applications' objects.
const COMPONENTS: [&str; 13] = [
    "api/v1/configmaps",
    "api/v1/services",
    "api/v1/serviceaccounts",
    "api/v1/persistentvolumeclaims",
    "apis/apps/v1/deployments",
    "apis/apps/v1/statefulsets",
    "apis/apps/v1/daemonsets",
    "apis/batch/v1/jobs",
    "apis/batch/v1/cronjobs",
    "apis/autoscaling/v2/horizontalpodautoscalers",
    "apis/policy/v1/poddisruptionbudgets",
    "apis/networking.k8s.io/v1/ingresses",
    "apis/networking.k8s.io/v1/networkpolicies",
];
/// What Kubernetes creates in every namespace.
const EVERYWHERE: [&str; 2] = ["kube-root-ca.crt", "default"];
/// Fields that differ from run to run, in addition to times and uids: versions, assigned addresses, hashes over uids, and who wrote when.
const RANDOM: [&str; 10] = [
    "resourceVersion",
    "managedFields",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "hash",
    "planHash",
    "pilotage.dev/plan-hash",
    "applyset.kubernetes.io/id",
    "applyset.kubernetes.io/part-of",
];

/// Everything that is compared.
pub async fn of(world: &World) -> Value {
    let mut all = Map::new();
    for kind in RECORDS {
        all.insert(format!("host {kind}"), list(&world.admin, "apis/pilotage.dev/v1alpha1", kind, &world.host).await);
    }
    for kind in ["roles", "rolebindings"] {
        all.insert(format!("host {kind}"), list(&world.admin, "apis/rbac.authorization.k8s.io/v1", kind, &world.host).await);
    }
    all.insert("host configmaps".into(), list(&world.admin, "api/v1", "configmaps", &world.host).await);
    all.insert("dev solutions".into(), list(&world.admin, "apis/pilotage.dev/v1alpha1", "solutions", &world.dev).await);
    for namespace in [&world.qa, &world.prod] {
        let scaled = scaled(&world.admin, namespace).await;
        for kind in COMPONENTS {
            let (version, plural) = kind.rsplit_once('/').unwrap();
            let mut objects = list(&world.admin, version, plural, namespace).await;
            for object in objects.as_array_mut().unwrap() {
                // The cluster decides what its status is.
                object.as_object_mut().unwrap().remove("status");
                if scaled.contains(&(plural.to_owned(), object["metadata"]["name"].clone())) {
                    object["spec"].as_object_mut().unwrap().remove("replicas");
                    object["metadata"].as_object_mut().unwrap().remove("generation");
                }
            }
            if objects.as_array().is_some_and(|objects| !objects.is_empty()) {
                all.insert(format!("{namespace} {plural}"), objects);
            }
        }
    }
    let mut all = Value::Object(all);
    let names = [(&world.host, "HOST"), (&world.dev, "DEV"), (&world.qa, "QA"), (&world.prod, "PROD")];
    mask(&mut all, &names);
    all
}

/// Workloads whose replicas an autoscaler sets at some time: the kind's plural and the name.
async fn scaled(client: &Client, namespace: &str) -> Vec<(String, Value)> {
    let autoscalers = list(client, "apis/autoscaling/v2", "horizontalpodautoscalers", namespace).await;
    let targets = autoscalers.as_array().unwrap().iter().map(|autoscaler| &autoscaler["spec"]["scaleTargetRef"]);
    targets.map(|target| (format!("{}s", target["kind"].as_str().unwrap_or_default().to_lowercase()), target["name"].clone())).collect()
}

async fn list(client: &Client, version: &str, plural: &str, namespace: &str) -> Value {
    let uri = format!("/{version}/namespaces/{namespace}/{plural}");
    let mut found: Value = client.request(hyper::Request::get(uri).body(Vec::new()).unwrap()).await.unwrap();
    let mut items = found["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    items.retain(|object| !object["metadata"]["name"].as_str().is_some_and(|name| EVERYWHERE.contains(&name)));
    for object in &mut items {
        if let Some(conditions) = object.pointer_mut("/status/conditions").and_then(Value::as_array_mut) {
            conditions.sort_by_key(|condition| condition["type"].to_string());
        }
        // Bytes are compared by their digest. The name of their place contains a uid.
        if plural == "configmaps" && object["binaryData"].is_object() {
            object["metadata"]["name"] = json!("CHUNK");
        }
    }
    Value::Array(items)
}

fn mask(value: &mut Value, names: &[(&String, &str)]) {
    match value {
        Value::Object(fields) => {
            let old = std::mem::take(fields);
            for (key, mut inner) in old {
                if RANDOM.contains(&key.as_str()) {
                    inner = json!("RANDOM");
                } else {
                    mask(&mut inner, names);
                }
                fields.insert(masked(&key, names), inner);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| mask(item, names)),
        Value::String(text) => *text = masked(text, names),
        _ => {}
    }
}

fn masked(text: &str, names: &[(&String, &str)]) -> String {
    if text.parse::<jiff::Timestamp>().is_ok() {
        return "TIME".into();
    }
    let mut text = text.to_owned();
    for (name, word) in names {
        text = text.replace(name.as_str(), word);
    }
    let text: String = text.split_inclusive(' ').map(without_time).collect();
    text.split_inclusive([' ', '"', ',', ':', ';', '/']).map(|word| if is_uid(word) { "UID " } else { word }).collect()
}

/// A word of a sentence, or in place of a time what stands for all times.
fn without_time(word: &str) -> String {
    let time = word.trim_end_matches([' ', ',', ';', ')']);
    if time.parse::<jiff::Timestamp>().is_ok() { format!("TIME{}", &word[time.len()..]) } else { word.to_owned() }
}

/// Eight, four, four, four and twelve hexadecimal digits.
fn is_uid(word: &str) -> bool {
    let word = word.trim_end_matches([' ', '"', ',', ':', ';', '/']);
    let parts: Vec<usize> = word.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && word.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

/// The paths at which two states differ, with both values.
pub fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let mut all = Vec::new();
    compare("", expected, found, &mut all);
    all
}

fn compare(path: &str, expected: &Value, found: &Value, all: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(e), Value::Object(f)) => {
            for (key, value) in e {
                compare(&format!("{path}/{key}"), value, f.get(key).unwrap_or(&Value::Null), all);
            }
            for (key, value) in f.iter().filter(|(key, _)| !e.contains_key(*key)) {
                compare(&format!("{path}/{key}"), &Value::Null, value, all);
            }
        }
        (Value::Array(e), Value::Array(f)) if e.len() == f.len() => {
            for (index, (e, f)) in e.iter().zip(f).enumerate() {
                compare(&format!("{path}/{index}"), e, f, all);
            }
        }
        (e, f) if e != f => all.push(format!("{path}: expected {e}, found {f}")),
        _ => {}
    }
}
