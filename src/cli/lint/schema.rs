//! Checks an object against the definition of its kind as this program ships it: the schema, and the rules in CEL. What a rule compares
//! with the object as it was is left to the API server.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kube_cel::{CompiledSchema, ErrorKind, Validator};
use regex::Regex;
use serde_json::Value;

use crate::api::crd;

/// The definition of a kind.
pub(super) struct Definition {
    pub(super) version: String,
    schema: Value,
    compiled: CompiledSchema,
    /// The patterns in the schema, each compiled once.
    patterns: BTreeMap<String, Regex>,
}

/// A violation: the field, and what is wrong.
pub(super) type Violation = (String, String);

/// All definitions, by kind.
pub(super) static DEFINITIONS: LazyLock<BTreeMap<String, Definition>> = LazyLock::new(|| {
    let definitions = crd::all().into_iter().filter_map(|(_, definition)| {
        let kind = definition.spec.names.kind.clone();
        let version = definition.spec.versions.first()?.name.clone();
        let schema = serde_json::to_value(definition).ok()?.pointer("/spec/versions/0/schema/openAPIV3Schema")?.clone();
        let compiled = kube_cel::compile_schema(&schema);
        let mut patterns = BTreeMap::new();
        collect(&schema, &mut patterns);
        Some((kind, Definition { version, schema, compiled, patterns }))
    });
    definitions.collect()
});

fn collect(schema: &Value, patterns: &mut BTreeMap<String, Regex>) {
    match schema {
        Value::Object(map) => {
            if let Some(pattern) = map.get("pattern").and_then(Value::as_str)
                && let Ok(compiled) = Regex::new(pattern)
            {
                patterns.insert(pattern.to_owned(), compiled);
            }
            map.values().for_each(|value| collect(value, patterns));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, patterns)),
        _ => {}
    }
}

impl Definition {
    /// Everything that the definition says against the object.
    pub(super) fn violations(&self, object: &Value) -> Vec<Violation> {
        let mut found = Vec::new();
        for (key, value) in object.as_object().into_iter().flatten() {
            match key.as_str() {
                // The API server checks these for every kind.
                "apiVersion" | "kind" | "metadata" => {}
                _ => match self.schema["properties"].get(key) {
                    Some(schema) => self.walk(key, schema, value, &mut found),
                    None => found.push((key.clone(), "there is no such field".to_owned())),
                },
            }
        }
        if object.get("spec").is_none() {
            found.push(("spec".to_owned(), "is required".to_owned()));
        }
        // Rules are written for what has the right types.
        if found.is_empty()
            && let Err(errors) = Validator::new().validate_compiled(&self.compiled, object, None)
        {
            // What can't be evaluated here is left to the API server.
            let broken = errors.iter().filter(|error| error.kind == ErrorKind::ValidationFailure);
            found.extend(broken.map(|error| (error.field_path.clone(), error.message.clone())));
        }
        found
    }

    fn walk(&self, path: &str, schema: &Value, value: &Value, found: &mut Vec<Violation>) {
        let mut say = |message: String| found.push((path.to_owned(), message));
        if value.is_null() && (schema["nullable"] == true || schema.get("default").is_some()) {
            return;
        }
        let wanted = schema["type"].as_str().unwrap_or_default();
        if !is_of(wanted, value) {
            let hint = if wanted == "string" && !value.is_object() && !value.is_array() { ": put it into quotes" } else { "" };
            return say(format!("is to be {}, and is {}{hint}", with_article(wanted), with_article(type_of(value))));
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let allowed: Vec<String> = allowed.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect();
            say(format!("is none of {}", allowed.join(", ")));
        }
        let bound = |key: &str| schema[key].as_u64().and_then(|bound| usize::try_from(bound).ok());
        match value {
            Value::String(text) => {
                let size = text.chars().count();
                if bound("minLength").is_some_and(|least| size < least) || bound("maxLength").is_some_and(|most| size > most) {
                    say(format!("has {size} characters, and may have {}", range(bound("minLength"), bound("maxLength"))));
                }
                if let Some(pattern) = schema["pattern"].as_str()
                    && self.patterns.get(pattern).is_some_and(|compiled| !compiled.is_match(text))
                {
                    say(format!("has not the form {pattern}"));
                }
            }
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or_default();
                let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
                if least.is_some_and(|least| number < least) || most.is_some_and(|most| number > most) {
                    let shown = |bound: Option<f64>, none: &str| bound.map_or_else(|| none.to_owned(), |bound| bound.to_string());
                    say(format!("is {number}, and may be {} to {}", shown(least, "anything"), shown(most, "anything")));
                }
            }
            Value::Array(items) => {
                if bound("minItems").is_some_and(|least| items.len() < least) || bound("maxItems").is_some_and(|most| items.len() > most) {
                    say(format!("has {} entries, and may have {}", items.len(), range(bound("minItems"), bound("maxItems"))));
                }
                self.entries(path, schema, items, found);
            }
            Value::Object(map) => {
                if bound("maxProperties").is_some_and(|most| map.len() > most) {
                    say(format!("has {} entries, and may have {}", map.len(), range(None, bound("maxProperties"))));
                }
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                for name in required.filter(|name| !map.contains_key(*name)) {
                    found.push((format!("{path}.{name}"), "is required".to_owned()));
                }
                for (key, value) in map {
                    let path = format!("{path}.{key}");
                    let known = schema["properties"].get(key).or_else(|| Some(&schema["additionalProperties"]).filter(|s| s.is_object()));
                    match known {
                        Some(known) => self.walk(&path, known, value, found),
                        None if schema["x-kubernetes-preserve-unknown-fields"] == true || schema["additionalProperties"] == true => {}
                        None => found.push((path, "there is no such field".to_owned())),
                    }
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn entries(&self, path: &str, schema: &Value, items: &[Value], found: &mut Vec<Violation>) {
        let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let is_set = schema["x-kubernetes-list-type"] == "set";
        let mut seen: Vec<Vec<&Value>> = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.walk(&path, &schema["items"], item, found);
            let key: Vec<&Value> = if is_set { vec![item] } else { keys.iter().map(|key| &item[*key]).collect() };
            if !key.is_empty() && seen.contains(&key) {
                let of = if is_set { "the value".to_owned() } else { keys.join(" and ") };
                found.push((path, format!("is there twice: {of} tells the entries apart")));
            }
            seen.push(key);
        }
    }
}

fn is_of(wanted: &str, value: &Value) -> bool {
    match wanted {
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "" => true,
        _ => wanted == type_of(value),
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn with_article(type_: &str) -> String {
    match type_ {
        "array" => "a list".to_owned(),
        "object" => "a map".to_owned(),
        "integer" => "a whole number".to_owned(),
        "null" => "nothing".to_owned(),
        other => format!("a {other}"),
    }
}

fn range(least: Option<usize>, most: Option<usize>) -> String {
    match (least, most) {
        (Some(least), Some(most)) => format!("{least} to {most}"),
        (Some(least), None) => format!("{least} or more"),
        (None, Some(most)) => format!("at most {most}"),
        (None, None) => "any number".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Rules that could not be compiled, with their fields.
    fn uncompiled(path: &str, schema: &CompiledSchema, found: &mut Vec<String>) {
        found.extend(schema.compilation_errors().iter().map(|error| format!("{path}: {error}")));
        for (name, inner) in &schema.properties {
            uncompiled(&format!("{path}.{name}"), inner, found);
        }
        for inner in [&schema.items, &schema.additional_properties].into_iter().flatten() {
            uncompiled(&format!("{path}[]"), inner, found);
        }
    }

    /// A rule that compares with the object as it was needs that object, and one on the status is for the operator.
    #[test]
    fn every_rule_on_what_people_write_is_understood_here() {
        let mut found = Vec::new();
        for (kind, definition) in DEFINITIONS.iter() {
            uncompiled(kind, &definition.compiled, &mut found);
        }
        found.retain(|rule| !rule.contains("oldSelf") && !rule.contains("self.status"));
        assert!(found.is_empty(), "left to the API server: {found:#?}");
        assert_eq!(DEFINITIONS.len(), 6);
    }

    #[test]
    fn a_pattern_that_is_in_a_definition_is_checked() {
        fn patterns(schema: &Value) -> Vec<&str> {
            match schema {
                Value::Object(map) => {
                    map.get("pattern").and_then(Value::as_str).into_iter().chain(map.values().flat_map(patterns)).collect()
                }
                Value::Array(items) => items.iter().flat_map(patterns).collect(),
                _ => Vec::new(),
            }
        }
        for definition in DEFINITIONS.values() {
            assert!(patterns(&definition.schema).iter().all(|pattern| definition.patterns.contains_key(*pattern)));
        }
    }

    fn said(kind: &str, spec: &Value) -> Vec<String> {
        let object =
            json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": kind, "metadata": {"name": "x", "namespace": "h"}, "spec": spec});
        DEFINITIONS[kind].violations(&object).into_iter().map(|(field, message)| format!("{field}: {message}")).collect()
    }

    #[test]
    fn types_bounds_forms_and_unknown_fields_are_told_with_their_place() {
        let wrong = said(
            "Stage",
            &json!({"pipeline": 7, "targetEnviroment": "qa", "windows": [{"type": "Never", "schedule": "0 17 * * 5", "duration": "x"}]}),
        );
        for part in [
            "spec.pipeline: is to be a string, and is a number: put it into quotes",
            "spec.targetEnvironment: is required",
            "spec.targetEnviroment: there is no such field",
            "spec.windows[0].type: is none of Allow, Deny",
            "spec.windows[0].duration: has not the form",
        ] {
            assert!(wrong.iter().any(|said| said.starts_with(part)), "{part:?} is not in {wrong:#?}");
        }
        assert_eq!(said("Stage", &json!({"pipeline": "p", "targetEnvironment": "qa"})), Vec::<String>::new());
        let twice =
            json!({"version": "1.0.0", "connectionReferences": [{"name": "db", "secretName": "a"}, {"name": "db", "secretName": "b"}]});
        assert!(said("Solution", &twice).iter().any(|said| said.contains("is there twice")));
    }

    #[test]
    fn rules_in_cel_are_evaluated_with_their_messages() {
        let delegate = json!({"pipeline": "p", "targetEnvironment": "qa", "delegatedDeployment": {"type": "ServicePrincipal"}});
        assert_eq!(
            said("Stage", &delegate),
            ["spec.delegatedDeployment: serviceAccountName is for type ServicePrincipal, and required there"]
        );
        let both = json!({"pipeline": "p", "stage": "qa", "solution": {"name": "o", "version": "1.0.0"}, "sourceEnvironment": "dev",
            "artifact": {"oci": {"url": "oci://r.test/x", "tag": "1"}}});
        assert_eq!(said("DeploymentRequest", &both), ["spec: at most one source: sourceEnvironment or artifact"]);
        let window =
            json!({"pipeline": "p", "targetEnvironment": "qa", "windows": [{"type": "Deny", "schedule": "70 * * * *", "duration": "1h"}]});
        assert!(said("Stage", &window)[0].contains("schedule is five fields of cron"), "a rule with optionals");
        let repository =
            json!({"artifactRepositories": [{"url": "oci://r.test/x", "plainHttp": true, "credentialsSecretRef": {"name": "s"}}]});
        assert!(said("Pipeline", &repository)[0].contains("credentials are never sent over http"));
    }
}
