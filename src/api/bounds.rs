//! The bounds of a status, which are those of its schema. This is the one place that cuts a status to what the API server accepts. It
//! shortens lists and texts that are too long, and counts what is left out if the schema has a field for it. Callers decide earlier which
//! entries matter; this catches what they forgot.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::CustomResourceExt;
use serde_json::{Map, Value};

/// The most bytes that etcd accepts for one object, by default.
pub const MOST_BYTES: usize = 1536 * 1024;
/// How many of them are left to the object's managed fields, which the API server writes.
const MANAGED_FIELDS: usize = 384 * 1024;
/// The most bytes of an object as it is written here.
pub const MOST_WRITTEN: usize = MOST_BYTES - MANAGED_FIELDS;
/// The most bytes of a status that surely fits into any stored object.
pub const SURELY_FITS: usize = 64 * 1024;

/// How the name of a field ends that counts what was left out of a list.
const OMITTED: &str = "Omitted";
/// The mark at the end of a text that was cut.
const MARK: &str = " […]";
/// The lengths to which texts for people are cut, step by step, if an object is too large.
const SHORTER: [usize; 3] = [2048, 512, 128];
/// Texts that identify somebody or something, or that are deployed again. If they were cut, they would be others.
const NAMES: [&str; 22] = [
    "approver",
    "by",
    "delegate",
    "deployedBy",
    "name",
    "oci",
    "next",
    "onBehalfOf",
    "pipeline",
    "previousStage",
    "request",
    "requestedBy",
    "requester",
    "secretName",
    "source",
    "sourceEnvironment",
    "stage",
    "storedIn",
    "url",
    "username",
    "value",
    "version",
];

/// The schema of the status of a kind, as its definition has it.
pub fn status_schema<K: CustomResourceExt>() -> Arc<Value> {
    static KNOWN: Mutex<Option<HashMap<&'static str, Arc<Value>>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known
        .get_or_insert_default()
        .entry(K::crd_name())
        .or_insert_with(|| {
            let definition = serde_json::to_value(K::crd()).unwrap_or_default();
            let schema = definition.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status");
            Arc::new(schema.cloned().unwrap_or_default())
        })
        .clone()
}

/// Cuts a value to what its schema allows.
pub fn keep(value: &mut Value, schema: &Value) {
    match value {
        Value::String(text) => {
            if let Some(most) = limit(schema, "maxLength") {
                cut(text, most);
            }
        }
        Value::Array(items) => {
            if let Some(of_each) = schema.get("items") {
                for item in items {
                    keep(item, of_each);
                }
            }
        }
        Value::Object(fields) => keep_fields(fields, schema),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn keep_fields(fields: &mut Map<String, Value>, schema: &Value) {
    if let Some(of_each) = schema.get("additionalProperties") {
        if let Some(most) = limit(schema, "maxProperties") {
            let beyond: Vec<String> = fields.keys().skip(most).cloned().collect();
            for key in beyond {
                fields.remove(&key);
            }
        }
        fields.values_mut().for_each(|value| keep(value, of_each));
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, of_field) in properties {
        let Some(value) = fields.get_mut(name) else { continue };
        let left_out = match (value.as_array_mut(), limit(of_field, "maxItems")) {
            (Some(items), Some(most)) => shorten(items, most),
            _ => 0,
        };
        keep(value, of_field);
        count(fields, properties, name, left_out);
    }
}

/// Makes a status smaller until it has at most `most` bytes: it shortens texts for people, and lists whose rest is counted. Names stay
/// whole. If that is not enough, the status becomes as small as possible.
pub fn fit(status: &mut Value, schema: &Value, most: usize) {
    for words in SHORTER {
        if size(status) <= most {
            return;
        }
        shorten_texts(status, words);
    }
    while size(status) > most {
        if !halve(status, schema) {
            return;
        }
    }
}

/// The size of a value as it is stored, in bytes.
pub fn size(value: &Value) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}

/// A text of at most `most` characters, with a mark if it was cut.
pub fn text(text: &str, most: usize) -> String {
    let mut text = text.to_owned();
    cut(&mut text, most);
    text
}

fn cut(text: &mut String, most: usize) {
    if text.len() <= most || text.chars().count() <= most {
        return;
    }
    let mark = MARK.chars().count();
    // A mark that would be most of it says less than what it stands for.
    let (kept, mark) = if most > 4 * mark { (most - mark, MARK) } else { (most, "") };
    *text = text.chars().take(kept).collect();
    text.push_str(mark);
}

fn shorten(items: &mut Vec<Value>, most: usize) -> usize {
    let left_out = items.len().saturating_sub(most);
    items.truncate(most);
    left_out
}

/// Adds to the field that counts what was left out of a list, if there is one.
fn count(fields: &mut Map<String, Value>, properties: &Map<String, Value>, list: &str, left_out: usize) {
    let name = format!("{list}{OMITTED}");
    if left_out > 0 && properties.contains_key(&name) {
        let before = fields.get(&name).and_then(Value::as_i64).unwrap_or_default();
        let sum = before.saturating_add(i64::try_from(left_out).unwrap_or(i64::MAX)).min(i64::from(i32::MAX));
        fields.insert(name, sum.into());
    }
}

fn shorten_texts(value: &mut Value, most: usize) {
    match value {
        Value::String(text) => cut(text, most),
        Value::Array(items) => items.iter_mut().for_each(|item| shorten_texts(item, most)),
        Value::Object(fields) => {
            fields.iter_mut().filter(|(name, _)| !NAMES.contains(&name.as_str())).for_each(|(_, value)| shorten_texts(value, most));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Halves the largest list whose rest is counted. Returns whether a list could become shorter.
fn halve(status: &mut Value, schema: &Value) -> bool {
    let Some(path) = largest(status, schema).map(|(_, path)| path) else { return false };
    let Some((list, above)) = path.split_last() else { return false };
    let (mut value, mut schema) = (status, schema);
    for name in above {
        let (Some(inner), Some(of_inner)) = (value.get_mut(name), schema.pointer(&format!("/properties/{name}"))) else { return false };
        (value, schema) = (inner, of_inner);
    }
    let (Some(fields), Some(properties)) = (value.as_object_mut(), schema.get("properties").and_then(Value::as_object)) else {
        return false;
    };
    let Some(items) = fields.get_mut(list).and_then(Value::as_array_mut) else { return false };
    let left_out = shorten(items, items.len() / 2);
    count(fields, properties, list, left_out);
    left_out > 0
}

/// The largest list whose rest is counted: its bytes, and the fields that lead to it.
fn largest(value: &Value, schema: &Value) -> Option<(usize, Vec<String>)> {
    let (fields, properties) = (value.as_object()?, schema.get("properties")?.as_object()?);
    let mut found: Option<(usize, Vec<String>)> = None;
    for (name, value) in fields {
        let counted = properties.contains_key(&format!("{name}{OMITTED}")) && value.as_array().is_some_and(|items| !items.is_empty());
        let inner = if counted {
            Some((size(value), vec![name.clone()]))
        } else {
            properties.get(name).and_then(|schema| largest(value, schema)).map(|(bytes, mut path)| {
                path.insert(0, name.clone());
                (bytes, path)
            })
        };
        if inner.as_ref().is_some_and(|(bytes, _)| found.as_ref().is_none_or(|(most, _)| bytes > most)) {
            found = inner;
        }
    }
    found
}

fn limit(schema: &Value, name: &str) -> Option<usize> {
    schema.get(name).and_then(Value::as_u64).and_then(|most| usize::try_from(most).ok())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;
    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;
    use crate::api::{
        Artifact, ArtifactStatus, DeploymentRequest, DeploymentRequestStatus, Environment, EnvironmentStatus, Pipeline, PipelineStatus,
        Solution, SolutionStatus, Stage, StageStatus,
    };

    /// How it is seen to that a list is not longer than its schema takes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum By {
        /// What is left out is counted in the field beside it.
        Count,
        /// It has an entry for each of something of which there are never more: the types of conditions, the sinks of a pipeline.
        Nature(usize),
        /// Its own code decides which entries go, or lets nothing come in, and has tests of its own there.
        Code(&'static str),
        /// A decision of somebody else: the API server refuses one that is longer.
        Refusal,
    }

    /// All lists and maps of all statuses. One that is not here fails the test: say what bounds it.
    fn table() -> BTreeMap<&'static str, By> {
        BTreeMap::from([
            ("Artifact.deployments", By::Code("policy::record::bound")),
            ("Artifact.deployments[].decisions", By::Nature(3)),
            // As many as a request has.
            ("Artifact.deployments[].decisions[].properties", By::Nature(32)),
            ("Artifact.deployments[].errors", By::Count),
            ("Artifact.deployments[].findings", By::Count),
            ("Artifact.deployments[].settings.connectionReferences", By::Nature(64)),
            ("Artifact.deployments[].settings.environmentVariables", By::Nature(128)),
            ("DeploymentRequest.approval.properties", By::Refusal),
            ("DeploymentRequest.conditions", By::Nature(11)),
            ("DeploymentRequest.errors", By::Count),
            // As many as a stage names.
            ("DeploymentRequest.gates.approval.approvers", By::Nature(16)),
            ("DeploymentRequest.gates.preDeploymentStep.approvers", By::Nature(16)),
            ("DeploymentRequest.gates.preExportStep.approvers", By::Nature(16)),
            ("DeploymentRequest.plan.access", By::Count),
            ("DeploymentRequest.plan.objects", By::Count),
            ("DeploymentRequest.plan.objects[].fields", By::Code("deploy::plan::diff::changed_fields")),
            ("DeploymentRequest.plan.objects[].changes", By::Code("deploy::plan::values::of")),
            ("DeploymentRequest.plan.results", By::Count),
            ("DeploymentRequest.preDeploymentStep.properties", By::Refusal),
            ("DeploymentRequest.preExportStep.properties", By::Refusal),
            ("Environment.conditions", By::Nature(4)),
            ("Environment.solutions", By::Code("policy::record::no_room")),
            ("Environment.solutions[].clusterScoped", By::Code("policy::record::no_room")),
            ("Pipeline.conditions", By::Nature(6)),
            // One entry for each reason.
            ("Pipeline.retention.kept", By::Nature(11)),
            ("Pipeline.sinks", By::Nature(4)),
            ("Pipeline.sinks[].cursor.done", By::Code("triggers::progress::Progress::cursor")),
            ("Pipeline.sinks[].cursor.open", By::Code("triggers::progress::Progress::cursor")),
            ("Pipeline.stages", By::Count),
            ("Solution.conditions", By::Nature(3)),
            ("Solution.deployments", By::Code("policy::makers_view::note")),
            ("Solution.deployments[].decisions", By::Nature(3)),
            ("Solution.deployments[].decisions[].properties", By::Code("controllers::request::makers_view::decisions")),
            ("Solution.deployments[].others", By::Code("policy::makers_view::note")),
            ("Solution.developed", By::Code("policy::versions::note")),
            ("Solution.plans", By::Code("policy::makers_plans::note")),
            ("Solution.plans[].objects", By::Count),
            ("Solution.plans[].results", By::Count),
            ("Solution.stages", By::Code("policy::offered::bound")),
            ("Solution.stages[].obstacles", By::Nature(6)),
            // As many as a stage has.
            ("Solution.stages[].windows", By::Nature(16)),
            ("Solution.versions", By::Code("policy::makers_view::settle")),
            // As many as an artifact has.
            ("Solution.versions[].connectionReferences", By::Nature(64)),
            ("Solution.versions[].environmentVariables", By::Nature(128)),
            ("Stage.conditions", By::Nature(3)),
        ])
    }

    fn kinds() -> Vec<(&'static str, Arc<Value>)> {
        vec![
            ("Artifact", status_schema::<Artifact>()),
            ("DeploymentRequest", status_schema::<DeploymentRequest>()),
            ("Environment", status_schema::<Environment>()),
            ("Pipeline", status_schema::<Pipeline>()),
            ("Solution", status_schema::<Solution>()),
            ("Stage", status_schema::<Stage>()),
        ]
    }

    /// Shows each list and map of a schema, with its limit and whether its rest is counted; and fails for one without a limit, and for a
    /// text without one.
    fn each(path: &str, schema: &Value, show: &mut dyn FnMut(&str, usize, bool)) {
        let text = schema["type"] == "string" && schema.get("enum").is_none() && schema.get("format").is_none();
        assert!(!text || limit(schema, "maxLength").is_some(), "{path} is a text without maxLength");
        if let Some(of_each) = schema.get("additionalProperties") {
            let most = limit(schema, "maxProperties").unwrap_or_else(|| panic!("{path} is a map without maxProperties"));
            show(path, most, false);
            each(&format!("{path}{{}}"), of_each, show);
        }
        for (name, of_field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            if of_field["type"] == "array" {
                let most = limit(of_field, "maxItems").unwrap_or_else(|| panic!("{path} is a list without maxItems"));
                show(&path, most, schema["properties"].get(format!("{name}{OMITTED}")).is_some());
                each(&format!("{path}[]"), &of_field["items"], show);
            } else {
                each(&path, of_field, show);
            }
        }
    }

    #[test]
    fn every_list_of_every_status_has_something_that_bounds_it() {
        let mut table = table();
        for (kind, schema) in kinds() {
            each("", &schema, &mut |path, most, counted| {
                let name = format!("{kind}.{path}");
                let by = table.remove(name.as_str()).unwrap_or_else(|| panic!("nothing is said to bound {name}"));
                match by {
                    By::Count => assert!(counted, "{name} has no field that counts what is left out"),
                    By::Nature(entries) => assert!(entries <= most, "{name} takes {most}, and there may be {entries}"),
                    By::Code(_) | By::Refusal => {}
                }
            });
        }
        assert!(table.is_empty(), "these are in no schema: {:?}", table.keys());
    }

    /// A value of a schema in which every list, map and text has one more than it may.
    fn too_much(schema: &Value, number: usize) -> Value {
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return words[0].clone();
        }
        match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("string"), Some("date-time")) => json!("2026-11-30T00:00:00Z"),
            (Some("string"), _) => {
                let most = limit(schema, "maxLength").unwrap_or_default();
                // Each entry of a map by a key has one of its own.
                let number = number.to_string();
                json!(format!("{number}{}", "ä".repeat((most + 1).saturating_sub(number.len()))))
            }
            (Some("boolean"), _) => json!(true),
            (Some("integer"), _) => json!(1),
            (Some("array"), _) => {
                let most = limit(schema, "maxItems").unwrap_or_default();
                (0..=most).map(|number| too_much(&schema["items"], number)).collect()
            }
            _ => {
                let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
                let mut object: Map<String, Value> = properties.map(|(name, schema)| (name.clone(), too_much(schema, number))).collect();
                if let Some(of_each) = schema.get("additionalProperties") {
                    let most = limit(schema, "maxProperties").unwrap_or_default();
                    object.extend((0..=most).map(|number| (format!("k{number}"), too_much(of_each, number))));
                }
                Value::Object(object)
            }
        }
    }

    /// What is wrong with a value, by the limits of its schema.
    fn beyond(path: &str, value: &Value, schema: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) if limit(schema, "maxLength").is_some_and(|most| text.chars().count() > most) => {
                found.push(format!("{path}: {} characters", text.chars().count()));
            }
            Value::Array(items) => {
                if limit(schema, "maxItems").is_some_and(|most| items.len() > most) {
                    found.push(format!("{path}: {} items", items.len()));
                }
                for item in items {
                    beyond(&format!("{path}[]"), item, &schema["items"], found);
                }
            }
            Value::Object(fields) => {
                if limit(schema, "maxProperties").is_some_and(|most| fields.len() > most) {
                    found.push(format!("{path}: {} fields", fields.len()));
                }
                for (name, value) in fields {
                    let schema = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
                    beyond(&format!("{path}.{name}"), value, schema, found);
                }
            }
            _ => {}
        }
    }

    fn is_cut<S: Serialize + DeserializeOwned>(kind: &str, schema: &Value) {
        let mut status = too_much(schema, 0);
        serde_json::from_value::<S>(status.clone()).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let mut found = Vec::new();
        beyond(kind, &status, schema, &mut found);
        let mut lists = 0;
        each("", schema, &mut |_, _, _| lists += 1);
        assert!(found.len() > lists, "{kind}: all is one more than it may be");
        keep(&mut status, schema);
        found.clear();
        beyond(kind, &status, schema, &mut found);
        assert!(found.is_empty(), "{kind}: {found:?}");
        let again = {
            let mut again = status.clone();
            keep(&mut again, schema);
            again
        };
        assert_eq!(again, status, "{kind}: what fits stays as it is");
        serde_json::from_value::<S>(status).unwrap_or_else(|error| panic!("{kind}: {error}"));
    }

    #[test]
    fn one_more_than_each_schema_takes_is_cut_to_what_it_takes() {
        is_cut::<ArtifactStatus>("Artifact", &status_schema::<Artifact>());
        is_cut::<DeploymentRequestStatus>("DeploymentRequest", &status_schema::<DeploymentRequest>());
        is_cut::<EnvironmentStatus>("Environment", &status_schema::<Environment>());
        is_cut::<PipelineStatus>("Pipeline", &status_schema::<Pipeline>());
        is_cut::<SolutionStatus>("Solution", &status_schema::<Solution>());
        is_cut::<StageStatus>("Stage", &status_schema::<Stage>());
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let schema = status_schema::<DeploymentRequest>();
        let entry = json!({"kind": "Secret", "name": "o", "usedBy": "Deployment orders"});
        let mut status = json!({"plan": {"access": vec![entry; 70], "accessOmitted": 2}});
        keep(&mut status, &schema);
        assert_eq!((status["plan"]["access"].as_array().unwrap().len(), &status["plan"]["accessOmitted"]), (64, &json!(8)));
    }

    #[test]
    fn the_largest_status_of_a_request_is_made_to_fit_and_says_who_decides_in_full() {
        let schema = status_schema::<DeploymentRequest>();
        let mut status = too_much(&schema, 0);
        keep(&mut status, &schema);
        let approver = status["gates"]["approval"]["approver"].clone();
        assert!(size(&status) > MOST_WRITTEN, "there is something to do");
        fit(&mut status, &schema, MOST_WRITTEN);
        assert!(size(&status) <= MOST_WRITTEN);
        assert_eq!(status["gates"]["approval"]["approver"], approver);
        // One more than the schema takes, and one that was omitted before.
        assert_eq!(status["plan"]["objects"].as_array().unwrap().len() + omitted(&status, "objects"), 202);
        fit(&mut status, &schema, MOST_WRITTEN / 8);
        assert!(size(&status) <= MOST_WRITTEN / 8, "{}", size(&status));
    }

    fn omitted(status: &Value, list: &str) -> usize {
        usize::try_from(status["plan"][format!("{list}Omitted")].as_u64().unwrap()).unwrap()
    }

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(text("äöü", 3), "äöü");
        assert_eq!(text(&"ä".repeat(30), 20), format!("{}{MARK}", "ä".repeat(16)));
        assert_eq!(text("äöü", 2), "äö", "no room for a mark");
    }
}
