//! Writes the settings of a request into the objects of a version.

mod blame;
mod field;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

pub(crate) use blame::{Written, blame};

use crate::api::plan::{MAX_MESSAGE, MAX_NAME, PlanResult};
use crate::api::reason::Reason;
use crate::api::settings::{ConnectionDefinition, DeploymentSettings, FieldTarget, VariableDefinition, VariableType};
use crate::artifact::bundle;
use crate::cluster::references;
use crate::text;

const VARIABLE: &str = "EnvironmentVariable";
const CONNECTION: &str = "ConnectionReference";

/// The objects with the settings in them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resolved {
    /// The objects, in the order they came in.
    pub(crate) objects: Vec<Value>,
    /// `sha256:` and the hash over the effective settings: values including defaults, and connections.
    pub(crate) digest: String,
    /// The target's Secrets that connection references were given, each with the first such reference.
    pub(crate) connected: BTreeMap<String, String>,
    /// The fields that settings wrote.
    pub(crate) written: Vec<Written>,
}

/// Puts `settings` into a copy of `objects`. First come the variables: the request's value, or else the default; without either, the
/// exported value stays. Then come the target's Secret names for the solution's connection references, in the places that are known to name
/// Secrets and in the fields that a reference names. Other Secrets keep their names. A default satisfies a required variable.
///
/// # Errors
/// One entry for each problem, all at once, in the order of the definitions.
pub(crate) fn resolve(
    objects: &[Value],
    definitions: &[VariableDefinition],
    connections: &[ConnectionDefinition],
    settings: &DeploymentSettings,
) -> Result<Resolved, Vec<PlanResult>> {
    let mut offences = Vec::new();
    let mut objects = objects.to_vec();
    let values = values(definitions, settings, &mut offences);
    let mut written = Vec::new();
    for (definition, text) in &values {
        match typed(definition.type_, text) {
            Ok(value) => {
                let put = field::put(&mut objects, &definition.target, text, value);
                let is_given = settings.environment_variables.iter().any(|given| given.name == definition.name);
                written.extend(Written::by_variable(&objects, &definition.target, &definition.name, is_given));
                if let Err((reason, message)) = put {
                    offences.push(offence(
                        VARIABLE,
                        &definition.name,
                        reason,
                        &format!("environment variable {}: {message}", definition.name),
                    ));
                }
            }
            Err(expected) => offences.push(offence(
                VARIABLE,
                &definition.name,
                Reason::WrongType,
                &format!("the value of environment variable {} is not {expected}: write it as JSON", definition.name),
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
    let mut connected = BTreeMap::new();
    for connection in connections {
        let Some(secret) = secrets.get(&connection.secret_name) else { continue };
        written.extend(connection.targets.iter().filter_map(|target| Written::by_connection(&objects, target, &connection.name)));
        connected.entry(secret.clone()).or_insert_with(|| connection.name.clone());
        for target in &connection.targets {
            if let Err((reason, message)) = connect(&mut objects, target, secret) {
                let message = format!("connection reference {}: {message}", connection.name);
                offences.push(offence(CONNECTION, &connection.name, reason, &message));
            }
        }
    }
    if offences.is_empty() { Ok(Resolved { objects, digest, connected, written }) } else { Err(offences) }
}

/// The digest that settings have, by which they are recognized. `None` if they don't fit the definitions.
pub(crate) fn digest_of(
    definitions: &[VariableDefinition],
    connections: &[ConnectionDefinition],
    settings: &DeploymentSettings,
) -> Option<String> {
    let mut offences = Vec::new();
    let values = values(definitions, settings, &mut offences);
    let secrets = secrets(connections, settings, &mut offences);
    offences.is_empty().then(|| digest(&values, connections, &secrets))
}

/// Names a Secret in a field that a connection reference declares. The field must already name one.
fn connect(objects: &mut [Value], target: &FieldTarget, secret: &str) -> Result<(), (Reason, String)> {
    field::put(objects, target, secret, Value::String(secret.to_owned()))
}

/// The effective value of each variable that has one.
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
                Reason::VariableMissing,
                &format!(
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
            Reason::UnknownVariable,
            &format!("this version of the solution has no environment variable {name}: {}", choices("it has", defined.iter().copied())),
        ));
    }
    values
}

/// The names of development's Secrets, each with the target's.
fn secrets(
    connections: &[ConnectionDefinition],
    settings: &DeploymentSettings,
    offences: &mut Vec<PlanResult>,
) -> BTreeMap<String, String> {
    let given: BTreeMap<&str, &str> = settings.connection_references.iter().map(|c| (c.name.as_str(), c.secret_name.as_str())).collect();
    let mut secrets: BTreeMap<String, String> = BTreeMap::new();
    for connection in connections {
        let Some(secret) = given.get(connection.name.as_str()) else {
            offences.push(offence(
                CONNECTION,
                &connection.name,
                Reason::ConnectionReferenceMissing,
                &format!(
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
                Reason::ConnectionReferenceAmbiguous,
                &format!(
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
            Reason::UnknownConnectionReference,
            &format!("this version of the solution has no connection reference {name}: {}", choices("it has", defined.iter().copied())),
        ));
    }
    secrets
}

fn digest(values: &[(&VariableDefinition, &str)], connections: &[ConnectionDefinition], secrets: &BTreeMap<String, String>) -> String {
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

/// The possible names, or the first few of them, because messages have a limit.
fn choices<'a>(intro: &str, names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<&str> = names.collect();
    match all.len() {
        0 => format!("{intro} none"),
        n if n > SHOWN => format!("{intro} {} and {} more", all[..SHOWN].join(", "), n - SHOWN),
        _ => format!("{intro} {}", all.join(", ")),
    }
}

fn offence(kind: &str, name: &str, reason: Reason, message: &str) -> PlanResult {
    PlanResult {
        kind: kind.to_owned(),
        name: text::bounded(name, MAX_NAME),
        reason: reason.into(),
        message: text::bounded(&text::line(message), MAX_MESSAGE),
    }
}

#[cfg(test)]
mod tests;
