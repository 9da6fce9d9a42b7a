//! Which setting wrote a field that the target refuses. With this a person can correct the setting, and leaves the manifest alone.

use serde_json::Value;

use super::field;
use crate::api::plan::{MAX_MESSAGE, PlanResult};
use crate::api::settings::FieldTarget;
use crate::cluster::errors::{CORRECT_THE_MANIFEST, bounded};
use crate::cluster::object;

/// A field that a setting wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    kind: String,
    name: String,
    /// The field as the API server names it, without the part that selects an item of a list.
    field: String,
    /// What to correct.
    advice: String,
}

impl Written {
    /// A field that an environment variable wrote, with a value of the request or with its default.
    pub(super) fn by_variable(objects: &[Value], target: &FieldTarget, variable: &str, is_given: bool) -> Option<Self> {
        let advice = if is_given {
            format!(
                "environment variable {variable} of the request wrote this field: make a new request with another value in deploymentSettings.environmentVariables"
            )
        } else {
            format!(
                "the default of environment variable {variable} wrote this field: make a new request with a value in deploymentSettings.environmentVariables, or correct the default in the Solution for the next version"
            )
        };
        Self::of(objects, target, advice)
    }

    /// A field that a connection reference wrote.
    pub(super) fn by_connection(objects: &[Value], target: &FieldTarget, connection: &str) -> Option<Self> {
        let advice = format!(
            "connection reference {connection} of the request wrote this field: make a new request with another Secret in deploymentSettings.connectionReferences"
        );
        Self::of(objects, target, advice)
    }

    fn of(objects: &[Value], target: &FieldTarget, advice: String) -> Option<Self> {
        let group = target.api_version.as_deref().map_or("", object::group_of);
        let is_it = |one: &&Value| object::kind(one) == target.kind && object::name(one) == target.name && object::group(one) == group;
        let mut value = objects.iter().find(is_it);
        let mut fields = Vec::new();
        for segment in field::segments(&target.path)? {
            value = match value {
                Some(Value::Array(items)) => items.get(field::place(items, &segment)?),
                found => {
                    let next = found.and_then(|found| found.get(&segment));
                    fields.push(segment);
                    next
                }
            };
        }
        // Keys of labels and annotations are in brackets, followed by the problem.
        if matches!(fields.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), ["metadata", "labels" | "annotations", ..]) {
            fields.truncate(2);
        }
        Some(Self { kind: target.kind.clone(), name: target.name.clone(), field: fields.join("."), advice })
    }

    /// Whether the message is about this field, or about a part of it.
    fn is_meant(&self, message: &str) -> bool {
        let mut depth = 0_usize;
        let plain: String = message
            .chars()
            .filter(|c| {
                depth = match c {
                    '[' => depth + 1,
                    ']' => depth.saturating_sub(1),
                    _ => depth,
                };
                depth == 0 && !matches!(c, ']' | '"' | '\\')
            })
            .collect();
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
        plain.match_indices(&self.field).any(|(at, found)| {
            let (before, after) = (&plain[..at], &plain[at + found.len()..]);
            !before.ends_with(is_part) && !after.starts_with(is_part)
        })
    }
}

/// If a finding is about a field that a setting wrote, adds which setting to correct.
pub(crate) fn blame(results: &mut [PlanResult], written: &[Written]) {
    for result in results {
        let is_it = |one: &&Written| one.kind == result.kind && one.name == result.name && one.is_meant(&result.message);
        let Some(blamed) = written.iter().find(is_it) else { continue };
        let tail = format!(" ({})", blamed.advice);
        let said = result.message.strip_suffix(&format!(" ({CORRECT_THE_MANIFEST})")).unwrap_or(&result.message);
        result.message = format!("{}{tail}", bounded(said, MAX_MESSAGE.saturating_sub(tail.chars().count())));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(path: &str) -> FieldTarget {
        serde_json::from_value(json!({"apiVersion": "v1", "kind": "Service", "name": "web", "path": path})).unwrap()
    }

    fn said(path: &str, message: &str) -> String {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"a/b": "c"}},
            "spec": {"type": "X", "ports": [{"name": "http", "port": 80, "nodePort": 5}]}});
        let written: Vec<Written> = Written::by_variable(&[service], &target(path), "V", true).into_iter().collect();
        let mut results = [PlanResult { kind: "Service".into(), name: "web".into(), reason: "Invalid".into(), message: message.into() }];
        blame(&mut results, &written);
        results[0].message.clone()
    }

    #[test]
    fn a_refused_field_that_a_setting_wrote_is_the_settings() {
        let refused = "Service web: Service \"web\" is invalid: spec.ports[0].nodePort: Invalid value (correct the manifest and raise the solution's version)";
        let told = said("/spec/ports/http/nodePort", refused);
        assert!(told.ends_with("Invalid value (environment variable V of the request wrote this field: make a new request with another value in deploymentSettings.environmentVariables)"), "{told}");
        assert_eq!(said("/spec/ports/http/port", refused), refused, "another field is not the setting's");
        assert_eq!(said("/spec/type", refused), refused);
        let typed = "Service web: failed to create typed patch object (qa/web; v1, Kind=Service): .spec.type: expected string";
        assert!(said("/spec/type", typed).contains("environment variable V"), "{typed}");
        let label = "Service web: metadata.labels: Invalid value (correct the manifest and raise the solution's version)";
        assert!(said("/metadata/labels/a~1b", label).contains("environment variable V"));
    }
}
