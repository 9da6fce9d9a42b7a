//! A Solution's selector as the text that the API server takes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::ExportError;
use crate::api::names::PART_OF;
use crate::api::solution::SolutionSpec;

/// The label selector of the solution `name`: its own, or `app.kubernetes.io/part-of=<name>` where it has none. The text does
/// not depend on the order of labels and values. A selector that is there and empty selects the whole namespace, as it does elsewhere in Kubernetes.
///
/// # Errors
/// Where the selector has a key, value or operator that no label selector may have.
pub fn selector_text(name: &str, spec: &SolutionSpec) -> Result<String, ExportError> {
    match &spec.selector {
        None => Ok(format!("{PART_OF}={name}")),
        Some(selector) => text(selector).map_err(|why| ExportError::InvalidSelector { solution: name.to_owned(), why }),
    }
}

fn text(selector: &LabelSelector) -> Result<String, String> {
    let mut terms = Vec::new();
    for (key, value) in selector.match_labels.iter().flatten() {
        terms.push(format!("{}={}", checked_key(key)?, checked_value(value)?));
    }
    for expression in selector.match_expressions.iter().flatten() {
        let key = checked_key(&expression.key)?;
        let mut values = expression.values.iter().flatten().map(|value| checked_value(value)).collect::<Result<Vec<_>, _>>()?;
        values.sort_unstable();
        let operator = expression.operator.as_str();
        terms.push(match (operator, values.is_empty()) {
            ("In", false) => format!("{key} in ({})", values.join(",")),
            ("NotIn", false) => format!("{key} notin ({})", values.join(",")),
            ("Exists", true) => key.to_owned(),
            ("DoesNotExist", true) => format!("!{key}"),
            ("In" | "NotIn", true) => return Err(format!("{operator} on {key} needs values")),
            ("Exists" | "DoesNotExist", false) => return Err(format!("{operator} on {key} takes no values")),
            _ => return Err(format!("{operator:?} is none of In, NotIn, Exists, DoesNotExist")),
        });
    }
    terms.sort_unstable();
    Ok(terms.join(","))
}

/// A text with `,` or `=` in a key or value would select something else than what was written.
fn checked_key(key: &str) -> Result<&str, String> {
    let (domain, name) = key.split_once('/').map_or((None, key), |(domain, name)| (Some(domain), name));
    let is_domain = |d: &str| {
        !d.is_empty() && d.len() <= 253 && d.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
    };
    if !name.is_empty() && is_label(name) && domain.is_none_or(is_domain) { Ok(key) } else { Err(format!("{key:?} is no label key")) }
}

fn checked_value(value: &str) -> Result<&str, String> {
    if is_label(value) { Ok(value) } else { Err(format!("{value:?} is no label value")) }
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
