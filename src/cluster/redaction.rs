//! Removes values from the API server's error messages, which quote the values that they refuse. A value may be a secret in the wrong
//! place, and messages end in a status that others read.

use serde_json::Value;

use crate::text::{bounded, line};

/// What takes the place of a value.
const HIDDEN: &str = "(hidden)";
/// The words that the server puts before a quoted value.
const BEFORE_VALUE: [&str; 4] = ["Invalid value: ", "Unsupported value: ", "Duplicate value: ", "Not found: "];

/// The message without the values in it. Field, reason and advice stay.
pub(crate) fn redact(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((at, words)) = BEFORE_VALUE.iter().filter_map(|words| rest.find(words).map(|at| (at, *words))).min() {
        let (before, after) = rest.split_at(at + words.len());
        text.push_str(before);
        text.push_str(HIDDEN);
        rest = &after[value_length(after)..];
    }
    text.push_str(rest);
    without_parser_context(&without_got(&text))
}

/// The length of the value at the beginning of the text: a quoted string, JSON, or everything up to the next `: `.
fn value_length(text: &str) -> usize {
    if text.starts_with('"') {
        return quoted_length(text);
    }
    if text.starts_with(['{', '[']) {
        let mut values = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
        if let Some(Ok(_)) = values.next() {
            return values.byte_offset();
        }
    }
    let line_end = text.find('\n').unwrap_or(text.len());
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        || text.starts_with("true")
        || text.starts_with("false")
        || text.starts_with("null")
    {
        return text[..line_end].find([':', ',']).unwrap_or(line_end);
    }
    // A Go value may contain anything, so only what follows the last colon is kept.
    text[..line_end].rfind(": ").unwrap_or(line_end)
}

fn quoted_length(text: &str) -> usize {
    let mut escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return index + 1,
            _ => {}
        }
    }
    text.len()
}

/// `expected string, got &value.valueUnstructured{…}`: a type's name may stay, a value may not.
fn without_got(text: &str) -> String {
    text.split('\n')
        .map(|line| match line.find(", got ") {
            Some(at)
                if !line[at + 6..].chars().all(|c| c.is_ascii_alphanumeric()) || line[at + 6..].chars().any(|c| c.is_ascii_digit()) =>
            {
                format!("{}, got {HIDDEN}", &line[..at])
            }
            _ => line.to_owned(),
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Older servers' JSON parser quotes the text around an error.
fn without_parser_context(text: &str) -> String {
    text.find(", error found in #").map_or_else(|| text.to_owned(), |at| text[..at].to_owned())
}

/// Parts of the names of fields that hold secrets, in lower case and without punctuation.
const SECRET_NAMES: [&str; 9] = ["password", "passwd", "passphrase", "secret", "token", "apikey", "accesskey", "privatekey", "credential"];
/// The beginnings of texts that hold a secret, whatever the field's name.
const SECRET_TEXTS: [&str; 3] = ["-----BEGIN", "Bearer ", "Basic "];

/// A value as a plan shows it: a text as it is, anything else as JSON, at most `most` characters. Values that are named or look like
/// secrets are hidden. `pointer` is the field's place.
pub(crate) fn shown(pointer: &str, value: &Value, most: usize) -> String {
    let name = pointer.rsplit('/').next().unwrap_or_default();
    let text = match hidden(name, value) {
        Value::String(text) => text,
        other => other.to_string(),
    };
    bounded(&line(&text), most)
}

/// The value without secrets.
fn hidden(name: &str, value: &Value) -> Value {
    match value {
        // References name Secrets and contain none of their values.
        Value::String(text) if is_secret(name) && !is_reference(name) || SECRET_TEXTS.iter().any(|begin| text.starts_with(begin)) => {
            HIDDEN.into()
        }
        Value::String(text) if has_password(text) => HIDDEN.into(),
        Value::Object(map) => {
            // An environment variable: its name is a value.
            let named = map.get("name").and_then(Value::as_str).filter(|_| map.contains_key("value"));
            let of = |key: &str| if key == "value" { named.unwrap_or(key).to_owned() } else { key.to_owned() };
            Value::Object(map.iter().map(|(key, value)| (key.clone(), hidden(&of(key), value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(|item| hidden(name, item)).collect()),
        other => other.clone(),
    }
}

/// Whether a field of this name holds a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET_NAMES.iter().any(|secret| plain.contains(secret))
}

/// Whether a field of this name names a Secret.
fn is_reference(name: &str) -> bool {
    matches!(name, "secretName" | "secretKeyRef" | "secretRef" | "imagePullSecrets" | "secret" | "tokenExpirationSeconds")
}

/// Whether a text is an address with a password.
fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_cut_out_and_the_rest_stays() {
        for (message, shown) in [
            (
                r#"Deployment.apps "x" is invalid: spec.replicas: Invalid value: "canary \" here": must be a number"#,
                r#"Deployment.apps "x" is invalid: spec.replicas: Invalid value: (hidden): must be a number"#,
            ),
            (
                r#"spec.selector: Invalid value: {"matchLabels":{"app":"canary"}}: field is immutable"#,
                "spec.selector: Invalid value: (hidden): field is immutable",
            ),
            (
                r#"spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string{"app":"canary"}}: field is immutable"#,
                "spec.selector: Invalid value: (hidden): field is immutable",
            ),
            (
                "spec.ports[0]: Invalid value: 99999: must be between 1 and 65535",
                "spec.ports[0]: Invalid value: (hidden): must be between 1 and 65535",
            ),
            (
                r#"[a: Unsupported value: "canary": supported values: "A", "B", b: Invalid value: "canary": bad]"#,
                r#"[a: Unsupported value: (hidden): supported values: "A", "B", b: Invalid value: (hidden): bad]"#,
            ),
            (
                "errors:\n  .data.a: expected string, got &value.valueUnstructured{Value:\"canary\"}\n  .b: expected map, got string",
                "errors:\n  .data.a: expected string, got (hidden)\n  .b: expected map, got string",
            ),
            ("cannot unmarshal string, error found in #10 byte of ...|canary|...", "cannot unmarshal string"),
            (r#"Invalid value: "canary without an end"#, "Invalid value: (hidden)"),
        ] {
            assert_eq!(redact(message), shown);
            assert!(!redact(message).contains("canary"));
        }
    }

    #[test]
    fn values_of_a_plan_hide_what_secrets_are_named_by_or_look_like() {
        for (pointer, value, text) in [
            ("/spec/replicas", json!(3), "3"),
            ("/data/greeting", json!("hello"), "hello"),
            ("/data/DB_PASSWORD", json!("canary"), "(hidden)"),
            ("/data/dsn", json!("postgres://app:canary@db/orders"), "(hidden)"),
            ("/data/key.pem", json!("-----BEGIN PRIVATE KEY-----canary"), "(hidden)"),
            ("/spec/x/env/0", json!({"name": "API_TOKEN", "value": "canary"}), r#"{"name":"API_TOKEN","value":"(hidden)"}"#),
            ("/spec/x/env/0", json!({"name": "DEBUG", "value": "1"}), r#"{"name":"DEBUG","value":"1"}"#),
            ("/spec/x/volumes/0", json!({"secret": {"secretName": "db"}}), r#"{"secret":{"secretName":"db"}}"#),
        ] {
            assert_eq!(shown(pointer, &value, 256), text);
        }
        assert_eq!(shown("/data/a", &json!("x".repeat(900)), 256).chars().count(), 256);
        assert_eq!(
            shown("/data/a", &json!("a\u{1b}[2Jb\u{202e}c\nd"), 256),
            "a\\u{1b}[2Jb\\u{202e}c\\nd",
            "nothing that steers a terminal"
        );
    }
}
