//! What a request sets is put into the objects of a version.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::bundle;
use super::object;
use super::references;
use crate::api::names::{APPLYSET_PART_OF, KEY_PREFIX};
use crate::api::plan::PlanResult;
use crate::api::settings::{ConnectionReference, DeploymentSettings, VariableDefinition, VariableTarget, VariableType};

/// A request sets a variable that the solution does not define.
pub const UNKNOWN_VARIABLE: &str = "UnknownVariable";
/// A required variable has neither a value nor a default.
pub const VARIABLE_MISSING: &str = "VariableMissing";
/// A value is not of its variable's type.
pub const WRONG_TYPE: &str = "WrongType";
/// The object or field that takes a value is not in the artifact.
pub const SETTING_TARGET_MISSING: &str = "SettingTargetMissing";
/// A variable aims at what no variable may change.
pub const SETTING_TARGET_FORBIDDEN: &str = "SettingTargetForbidden";
/// A request gives a Secret for a connection reference that the solution does not have.
pub const UNKNOWN_CONNECTION_REFERENCE: &str = "UnknownConnectionReference";
/// A connection reference has no Secret in the request.
pub const CONNECTION_REFERENCE_MISSING: &str = "ConnectionReferenceMissing";
/// Two connection references stand for one Secret of development and are given different ones.
pub const CONNECTION_REFERENCE_AMBIGUOUS: &str = "ConnectionReferenceAmbiguous";

const VARIABLE: &str = "EnvironmentVariable";
const CONNECTION: &str = "ConnectionReference";

/// The objects with the settings in them.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The objects, in the order they came in.
    pub objects: Vec<Value>,
    /// `sha256:` and the hash over the settings in effect: values with defaults, and connections.
    pub digest: String,
}

/// Puts `settings` into a copy of `objects`: a value for each variable that has one (the request's, else the default;
/// without either the exported value stays), then the target's Secret names for the solution's connection references.
/// Secrets that are no connection reference keep their names. A default satisfies a required variable.
///
/// # Errors
/// One entry for each offence, all of them at once, in the order of the definitions.
pub fn resolve(
    objects: &[Value],
    definitions: &[VariableDefinition],
    connections: &[ConnectionReference],
    settings: &DeploymentSettings,
) -> Result<Resolved, Vec<PlanResult>> {
    let mut offences = Vec::new();
    let mut objects = objects.to_vec();
    let values = values(definitions, settings, &mut offences);
    for (definition, text) in &values {
        match typed(definition.type_, text) {
            Ok(value) => {
                if let Err((reason, message)) = put(&mut objects, &definition.target, text, value) {
                    offences.push(offence(
                        VARIABLE,
                        &definition.name,
                        reason,
                        format!("environment variable {}: {message}", definition.name),
                    ));
                }
            }
            Err(expected) => offences.push(offence(
                VARIABLE,
                &definition.name,
                WRONG_TYPE,
                format!("the value of environment variable {} is not {expected}: write it as JSON", definition.name),
            )),
        }
    }
    let secrets = secrets(connections, settings, &mut offences);
    if !offences.is_empty() {
        return Err(offences);
    }
    let digest = digest(&values, connections, &secrets);
    for object in &mut objects {
        references::rename_secrets(object, &secrets);
    }
    Ok(Resolved { objects, digest })
}

/// The value in effect of each variable that has one.
fn values<'a>(
    definitions: &'a [VariableDefinition],
    settings: &'a DeploymentSettings,
    offences: &mut Vec<PlanResult>,
) -> Vec<(&'a VariableDefinition, &'a str)> {
    let given: BTreeMap<&str, &str> = settings.environment_variables.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
    let mut values = Vec::new();
    for definition in definitions {
        match given.get(definition.name.as_str()).copied().or(definition.default.as_deref()) {
            Some(value) => values.push((definition, value)),
            None if definition.required => offences.push(offence(
                VARIABLE,
                &definition.name,
                VARIABLE_MISSING,
                format!(
                    "environment variable {} is required: give it a value in the request's deploymentSettings.environmentVariables",
                    definition.name
                ),
            )),
            None => {}
        }
    }
    let defined: BTreeSet<&str> = definitions.iter().map(|d| d.name.as_str()).collect();
    for name in given.keys().filter(|name| !defined.contains(*name)) {
        offences.push(offence(
            VARIABLE,
            name,
            UNKNOWN_VARIABLE,
            format!("this version of the solution has no environment variable {name}: {}", choices("it has", defined.iter().copied())),
        ));
    }
    values
}

/// The names of development's Secrets, each with the target's.
fn secrets(connections: &[ConnectionReference], settings: &DeploymentSettings, offences: &mut Vec<PlanResult>) -> BTreeMap<String, String> {
    let given: BTreeMap<&str, &str> = settings.connection_references.iter().map(|c| (c.name.as_str(), c.secret_name.as_str())).collect();
    let mut secrets: BTreeMap<String, String> = BTreeMap::new();
    for connection in connections {
        let Some(secret) = given.get(connection.name.as_str()) else {
            offences.push(offence(
                CONNECTION,
                &connection.name,
                CONNECTION_REFERENCE_MISSING,
                format!(
                    "connection reference {} has no Secret: name one of the target in the request's deploymentSettings.connectionReferences",
                    connection.name
                ),
            ));
            continue;
        };
        let earlier = secrets.insert(connection.secret_name.clone(), (*secret).to_owned());
        if earlier.is_some_and(|earlier| earlier != *secret) {
            offences.push(offence(
                CONNECTION,
                &connection.name,
                CONNECTION_REFERENCE_AMBIGUOUS,
                format!(
                    "connection reference {} and another one both stand for Secret {} of development, but the request names different Secrets for them: name the same one",
                    connection.name, connection.secret_name
                ),
            ));
        }
    }
    let defined: BTreeSet<&str> = connections.iter().map(|c| c.name.as_str()).collect();
    for name in given.keys().filter(|name| !defined.contains(*name)) {
        offences.push(offence(
            CONNECTION,
            name,
            UNKNOWN_CONNECTION_REFERENCE,
            format!("this version of the solution has no connection reference {name}: {}", choices("it has", defined.iter().copied())),
        ));
    }
    secrets
}

fn digest(values: &[(&VariableDefinition, &str)], connections: &[ConnectionReference], secrets: &BTreeMap<String, String>) -> String {
    let variables: Map<String, Value> = values.iter().map(|(definition, value)| (definition.name.clone(), json!(value))).collect();
    let connections: Map<String, Value> = connections
        .iter()
        .filter_map(|c| Some((c.name.clone(), json!({"from": c.secret_name, "to": secrets.get(&c.secret_name)?}))))
        .collect();
    bundle::digest(&bundle::canonical(&json!({"environmentVariables": variables, "connectionReferences": connections})))
}

/// The value of a text, or what it should have been.
fn typed(type_: VariableType, text: &str) -> Result<Value, &'static str> {
    let parsed = || serde_json::from_str::<Value>(text).ok();
    match type_ {
        VariableType::String => Ok(Value::String(text.to_owned())),
        VariableType::Number => parsed().filter(Value::is_number).ok_or("a number"),
        VariableType::Boolean => parsed().filter(Value::is_boolean).ok_or("true or false"),
        VariableType::Json => parsed().ok_or("JSON"),
    }
}

/// Sets a value at its target. Where only text can stand (data of a `ConfigMap`, labels, annotations, the value of a
/// container's variable) the text as written is set, whatever the type.
fn put(objects: &mut [Value], target: &VariableTarget, text: &str, value: Value) -> Result<(), (&'static str, String)> {
    let group = target.api_version.as_deref().map_or("", object::group_of);
    let described =
        if group.is_empty() { format!("{} {}", target.kind, target.name) } else { format!("{}.{group} {}", target.kind, target.name) };
    let missing = |why: String| (SETTING_TARGET_MISSING, why);
    let Some(path) = segments(&target.path) else {
        return Err(missing(format!(
            "its target path {} is no JSON pointer: write it as /data/KEY, with ~0 for ~ and ~1 for /",
            target.path
        )));
    };
    if let Some(why) = forbidden(&path) {
        return Err((SETTING_TARGET_FORBIDDEN, format!("it aims at {} of {described}, but {why}", target.path)));
    }
    let Some(object) =
        objects.iter_mut().find(|o| object::kind(o) == target.kind && object::name(o) == target.name && object::group(o) == group)
    else {
        return Err(missing(format!(
            "its target {described} is not in this version of the solution: correct the target in the Solution (apiVersion, kind, name) or add the object, and raise the version"
        )));
    };
    let value = if takes_text(object, &path) { Value::String(text.to_owned()) } else { value };
    set(object, &path, value).map_err(|at| {
        missing(format!(
            "{described} has no {at}, so that {} can't be set: correct the path in the Solution, and raise the version",
            target.path
        ))
    })
}

/// The segments of a JSON pointer (RFC 6901).
fn segments(pointer: &str) -> Option<Vec<String>> {
    let unescape = |segment: &str| {
        let plain = segment.replace("~0", "").replace("~1", "");
        (!plain.contains('~')).then(|| segment.replace("~1", "/").replace("~0", "~"))
    };
    pointer.strip_prefix('/')?.split('/').map(unescape).collect()
}

/// What a setting may not change: which object it is, whose, and where it is counted.
fn forbidden(path: &[String]) -> Option<&'static str> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["apiVersion" | "kind", ..] => Some("a setting does not change which object it is"),
        ["status", ..] => Some("status is written by controllers"),
        ["metadata", "labels" | "annotations", key, ..] if key.starts_with(KEY_PREFIX) || *key == APPLYSET_PART_OF => {
            Some("that key is written by the deployment")
        }
        ["metadata", "labels" | "annotations", ..] => None,
        ["metadata", ..] => Some("of metadata, only labels and annotations can be set"),
        _ => None,
    }
}

fn takes_text(object: &Value, path: &[String]) -> bool {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path.as_slice() {
        ["data" | "binaryData", _] => object::group(object).is_empty() && object::kind(object) == "ConfigMap",
        [.., "labels" | "annotations" | "matchLabels" | "nodeSelector", _] | [.., "env", _, "value"] => true,
        _ => false,
    }
}

/// Sets the value; a missing key is made at the last segment, and the maps of text that an object may lack.
/// The error is the pointer to the first thing that is missing.
fn set(object: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let is_config_map = object::group(object).is_empty() && object::kind(object) == "ConfigMap";
    let escaped = |segment: &String| segment.replace('~', "~0").replace('/', "~1");
    let pointer = |upto: usize| format!("/{}", path[..=upto].iter().map(escaped).collect::<Vec<_>>().join("/"));
    let mut node = object;
    for (index, segment) in path.iter().enumerate() {
        let last = index + 1 == path.len();
        let open = (index == 0 && is_config_map && segment == "data") || (index == 1 && path[0] == "metadata");
        node = match node {
            Value::Object(map) => {
                if last || open {
                    map.entry(segment.clone()).or_insert_with(|| Value::Object(Map::new()))
                } else {
                    map.get_mut(segment).ok_or_else(|| pointer(index))?
                }
            }
            Value::Array(items) => segment.parse::<usize>().ok().and_then(|place| items.get_mut(place)).ok_or_else(|| pointer(index))?,
            _ => return Err(pointer(index)),
        };
    }
    *node = value;
    Ok(())
}

/// The names one may choose from; a few of them, as messages have an end.
fn choices<'a>(intro: &str, names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<&str> = names.collect();
    match all.len() {
        0 => format!("{intro} none"),
        n if n > SHOWN => format!("{intro} {} and {} more", all[..SHOWN].join(", "), n - SHOWN),
        _ => format!("{intro} {}", all.join(", ")),
    }
}

fn offence(kind: &str, name: &str, reason: &str, message: String) -> PlanResult {
    const MAX_MESSAGE: usize = 2048;
    let message =
        if message.chars().count() > MAX_MESSAGE { message.chars().take(MAX_MESSAGE - 1).chain(['…']).collect() } else { message };
    PlanResult { kind: kind.to_owned(), name: name.to_owned(), reason: reason.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::settings::VariableValue;

    fn objects() -> Vec<Value> {
        vec![
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"API_URL": "https://dev"}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "empty"}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"}, "spec": {"replicas": 1, "template": {"spec": {
                "containers": [{"name": "c", "env": [{"name": "A", "value": "x"}], "envFrom": [{"secretRef": {"name": "dev-db"}}, {"secretRef": {"name": "other"}}]}]}}}}),
        ]
    }

    fn variable(name: &str, type_: VariableType, target: (Option<&str>, &str, &str, &str)) -> VariableDefinition {
        VariableDefinition {
            name: name.into(),
            description: None,
            type_,
            required: false,
            default: None,
            target: VariableTarget {
                api_version: target.0.map(Into::into),
                kind: target.1.into(),
                name: target.2.into(),
                path: target.3.into(),
            },
        }
    }

    fn url() -> VariableDefinition {
        variable("API_URL", VariableType::String, (None, "ConfigMap", "config", "/data/API_URL"))
    }

    fn replicas() -> VariableDefinition {
        variable("REPLICAS", VariableType::Number, (Some("apps/v1"), "Deployment", "orders", "/spec/replicas"))
    }

    fn given(values: &[(&str, &str)]) -> DeploymentSettings {
        DeploymentSettings {
            environment_variables: values
                .iter()
                .map(|(name, value)| VariableValue { name: (*name).into(), value: (*value).into() })
                .collect(),
            connection_references: Vec::new(),
        }
    }

    fn connection(name: &str, secret: &str) -> ConnectionReference {
        ConnectionReference { name: name.into(), secret_name: secret.into() }
    }

    fn reasons(result: Result<Resolved, Vec<PlanResult>>) -> Vec<(String, String)> {
        result.unwrap_err().into_iter().map(|r| (r.name, r.reason)).collect()
    }

    #[test]
    fn values_are_set_with_their_type() {
        let resolved = resolve(&objects(), &[url(), replicas()], &[], &given(&[("API_URL", "https://qa"), ("REPLICAS", "3")])).unwrap();
        assert_eq!(resolved.objects[0]["data"]["API_URL"], json!("https://qa"));
        assert_eq!(resolved.objects[2]["spec"]["replicas"], json!(3));
    }

    #[test]
    fn where_only_text_can_stand_a_number_is_text() {
        let in_config = variable("A", VariableType::Number, (Some("v1"), "ConfigMap", "config", "/data/NEW"));
        let in_env =
            variable("B", VariableType::Boolean, (Some("apps/v1"), "Deployment", "orders", "/spec/template/spec/containers/0/env/0/value"));
        let label = variable("C", VariableType::Number, (None, "ConfigMap", "empty", "/metadata/labels/tier"));
        let in_empty = variable("D", VariableType::String, (None, "ConfigMap", "empty", "/data/KEY"));
        let resolved =
            resolve(&objects(), &[in_config, in_env, label, in_empty], &[], &given(&[("A", "5"), ("B", "true"), ("C", "1"), ("D", "d")]))
                .unwrap();
        assert_eq!(resolved.objects[0]["data"]["NEW"], json!("5"));
        assert_eq!(resolved.objects[2]["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"], json!("true"));
        assert_eq!(resolved.objects[1]["metadata"]["labels"]["tier"], json!("1"));
        assert_eq!(resolved.objects[1]["data"]["KEY"], json!("d"));
    }

    #[test]
    fn the_exported_value_stays_where_there_is_none() {
        let resolved = resolve(&objects(), &[url()], &[], &given(&[])).unwrap();
        assert_eq!(resolved.objects, objects());
        let mut with_default = url();
        with_default.default = Some("https://default".into());
        with_default.required = true;
        let resolved = resolve(&objects(), &[with_default], &[], &given(&[])).unwrap();
        assert_eq!(resolved.objects[0]["data"]["API_URL"], json!("https://default"));
    }

    #[test]
    fn every_offence_is_told_at_once_and_no_value_is_repeated() {
        let mut required = url();
        required.required = true;
        let mut no_object = variable("NO_OBJECT", VariableType::String, (None, "ConfigMap", "nowhere", "/data/X"));
        no_object.default = Some("x".into());
        let mut no_path = variable("NO_PATH", VariableType::String, (Some("apps/v1"), "Deployment", "orders", "/spec/strategy/type"));
        no_path.default = Some("Recreate".into());
        let mut identity = variable("NAME", VariableType::String, (None, "ConfigMap", "config", "/metadata/name"));
        identity.default = Some("x".into());
        let result = resolve(
            &objects(),
            &[required, replicas(), no_object, no_path, identity],
            &[connection("db", "dev-db")],
            &DeploymentSettings {
                connection_references: vec![connection("queue", "q")],
                ..given(&[("REPLICAS", "hunter2"), ("TYPO", "hunter2")])
            },
        );
        assert!(result.as_ref().unwrap_err().iter().all(|r| !r.message.contains("hunter2")));
        assert!(result.as_ref().unwrap_err().iter().any(|r| r.message.contains("/spec/strategy,")));
        let expected = [
            ("API_URL", VARIABLE_MISSING),
            ("TYPO", UNKNOWN_VARIABLE),
            ("REPLICAS", WRONG_TYPE),
            ("NO_OBJECT", SETTING_TARGET_MISSING),
            ("NO_PATH", SETTING_TARGET_MISSING),
            ("NAME", SETTING_TARGET_FORBIDDEN),
            ("db", CONNECTION_REFERENCE_MISSING),
            ("queue", UNKNOWN_CONNECTION_REFERENCE),
        ];
        assert_eq!(reasons(result), expected.map(|(name, reason)| (name.to_owned(), reason.to_owned())));
    }

    #[test]
    fn an_object_of_another_group_is_no_target() {
        let mut definition = replicas();
        definition.target.api_version = None;
        assert_eq!(
            reasons(resolve(&objects(), &[definition], &[], &given(&[("REPLICAS", "1")]))),
            [("REPLICAS".into(), SETTING_TARGET_MISSING.into())]
        );
    }

    #[test]
    fn references_point_at_the_targets_secret_and_others_stay() {
        let settings = DeploymentSettings { connection_references: vec![connection("db", "qa-db")], ..DeploymentSettings::default() };
        let resolved = resolve(&objects(), &[], &[connection("db", "dev-db")], &settings).unwrap();
        assert_eq!(references::secrets(&resolved.objects[2]), BTreeSet::from(["qa-db".to_owned(), "other".to_owned()]));
    }

    #[test]
    fn two_references_to_one_secret_must_agree() {
        let settings =
            DeploymentSettings { connection_references: vec![connection("a", "x"), connection("b", "y")], ..DeploymentSettings::default() };
        let connections = [connection("a", "dev-db"), connection("b", "dev-db")];
        assert_eq!(reasons(resolve(&objects(), &[], &connections, &settings)), [("b".into(), CONNECTION_REFERENCE_AMBIGUOUS.into())]);
    }

    #[test]
    fn the_digest_covers_defaults_and_not_the_order() {
        let digest = |definitions: &[VariableDefinition], values: &[(&str, &str)]| {
            resolve(&objects(), definitions, &[], &given(values)).unwrap().digest
        };
        let mut with_default = url();
        with_default.default = Some("https://qa".into());
        assert_eq!(digest(&[with_default], &[]), digest(&[url()], &[("API_URL", "https://qa")]));
        assert_eq!(
            digest(&[url(), replicas()], &[("API_URL", "a"), ("REPLICAS", "2")]),
            digest(&[replicas(), url()], &[("REPLICAS", "2"), ("API_URL", "a")])
        );
        assert_ne!(digest(&[url()], &[("API_URL", "a")]), digest(&[url()], &[("API_URL", "b")]));
    }

    #[test]
    fn a_pointer_is_read_as_rfc_6901_says() {
        assert_eq!(segments("/metadata/annotations/a~1b~0c"), Some(vec!["metadata".into(), "annotations".into(), "a/b~c".into()]));
        assert_eq!(segments("data"), None);
        assert_eq!(segments("/a~2"), None);
    }
}
