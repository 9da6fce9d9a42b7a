//! Formats a Solution's selector as the API server expects it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube::core::{Expression, Selector};

use super::ExportError;
use crate::api::names::PART_OF;
use crate::api::solution::SolutionSpec;

/// The label selector of the solution `name`: its own, or `app.kubernetes.io/part-of=<name>` if it has none. The text does not depend on
/// the order of labels and values. An empty selector selects the whole namespace, as elsewhere in Kubernetes.
///
/// # Errors
/// If a key, a value or an operator of the selector is invalid.
pub(crate) fn selector_text(name: &str, spec: &SolutionSpec) -> Result<String, ExportError> {
    match &spec.selector {
        None => Ok(format!("{PART_OF}={name}")),
        Some(selector) => text(selector).map_err(|why| ExportError::InvalidSelector { solution: name.to_owned(), why }),
    }
}

fn text(selector: &LabelSelector) -> Result<String, String> {
    for (key, value) in selector.match_labels.iter().flatten() {
        check_key(key)?;
        check_value(value)?;
    }
    for LabelSelectorRequirement { key, operator, values } in selector.match_expressions.iter().flatten() {
        check_key(key)?;
        values.iter().flatten().try_for_each(|value| check_value(value))?;
        match (operator.as_str(), values.iter().flatten().next()) {
            ("In" | "NotIn", Some(_)) | ("Exists" | "DoesNotExist", None) => {}
            ("In" | "NotIn", None) => return Err(format!("{operator} on {key} needs values")),
            ("Exists" | "DoesNotExist", Some(_)) => return Err(format!("{operator} on {key} takes no values")),
            _ => return Err(format!("{operator:?} is none of In, NotIn, Exists, DoesNotExist")),
        }
    }
    let selector = Selector::try_from(selector.clone()).map_err(|error| error.to_string())?;
    let mut terms: Vec<Expression> = selector.into_iter().collect();
    terms.sort_by_cached_key(ToString::to_string);
    Ok(Selector::from_iter(terms).to_string())
}

/// A key or value with `,` or `=` would select something other than what was written.
fn check_key(key: &str) -> Result<(), String> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let is_domain = |d: &str| {
        !d.is_empty() && d.len() <= 253 && d.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    if !name.is_empty() && is_label(name) && domain.is_none_or(is_domain) { Ok(()) } else { Err(format!("{key:?} is no label key")) }
}

fn check_value(value: &str) -> Result<(), String> {
    if is_label(value) { Ok(()) } else { Err(format!("{value:?} is no label value")) }
}

fn is_label(text: &str) -> bool {
    text.len() <= 63
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        && !text.starts_with(['-', '_', '.'])
        && !text.ends_with(['-', '_', '.'])
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(selector: &Value) -> SolutionSpec {
        serde_json::from_value(json!({"version": "1.0.0", "selector": selector})).unwrap()
    }

    #[test]
    fn without_a_selector_the_name_is_what_objects_are_part_of() {
        assert_eq!(selector_text("orders", &spec(&Value::Null)).unwrap(), "app.kubernetes.io/part-of=orders");
    }

    #[test]
    fn all_operators_have_their_text() {
        let selector = json!({"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["web", "api"]},
            {"key": "env", "operator": "NotIn", "values": ["test"]},
            {"key": "x.io/y", "operator": "Exists"},
            {"key": "legacy", "operator": "DoesNotExist"}
        ]});
        assert_eq!(selector_text("orders", &spec(&selector)).unwrap(), "!legacy,a=1,b=2,env notin (test),tier in (api,web),x.io/y");
    }

    #[test]
    fn nothing_is_smuggled_into_the_text() {
        for selector in [
            json!({"matchLabels": {"a": "1,b=2"}}),
            json!({"matchLabels": {"a,b": "1"}}),
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x) , y in (z"]}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": []}]}),
            json!({"matchExpressions": [{"key": "a", "operator": "Equals", "values": ["x"]}]}),
        ] {
            assert!(matches!(selector_text("orders", &spec(&selector)), Err(ExportError::InvalidSelector { .. })), "{selector}");
        }
    }
}
