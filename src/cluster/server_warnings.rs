//! Warnings that an API server sends with its answer (HTTP `Warning` headers, RFC 7234): pods that the namespace's Pod Security level will
//! refuse, deprecated API versions, warnings of policies and webhooks. The objects are accepted nevertheless, so nobody else would report
//! the warnings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::plan::{MAX_MESSAGE, PlanResult};
use crate::api::reason::Reason;
use crate::cluster::errors;
use crate::cluster::object::Key;
use crate::cluster::redaction::redact;

/// The most objects that results name.
const NAMED: usize = 16;
/// The most warnings that are kept for one object, and the most characters of one. The server itself sends 4,096 bytes for all.
const KEPT: usize = 8;
const MAX_WARNING: usize = 1024;

/// The warnings of calls, by object; each text once.
#[derive(Clone, Default)]
pub(crate) struct Warnings(Arc<Mutex<BTreeMap<Key, BTreeSet<String>>>>);

impl Warnings {
    /// Keeps the warnings about an object from the values of `Warning` headers.
    pub(crate) fn keep<'a>(&self, key: &Key, headers: impl Iterator<Item = &'a [u8]>) {
        let mut texts = headers.flat_map(|value| texts(&String::from_utf8_lossy(value))).peekable();
        if texts.peek().is_none() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_object = all.entry(key.clone()).or_default();
        for text in texts {
            if of_object.len() < KEPT {
                of_object.insert(errors::bounded(&plain(&redact(&text)), MAX_WARNING));
            }
        }
    }

    /// As results of a plan: one for each object, and one for all objects that are not named.
    pub(crate) fn results(&self) -> Vec<PlanResult> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut results: Vec<PlanResult> = all.iter().take(NAMED).map(|(key, texts)| result(key, texts)).collect();
        if let Some(more) = all.len().checked_sub(NAMED).filter(|more| *more > 0) {
            let rest = Key { group: String::new(), kind: "Solution".into(), name: String::new() };
            results.push(errors::result(&rest, Reason::ServerWarning, &format!("the target's API server warns of {more} more objects")));
        }
        results
    }
}

fn result(key: &Key, texts: &BTreeSet<String>) -> PlanResult {
    let said = texts.iter().cloned().collect::<Vec<_>>().join("; ");
    let refuses_pods = texts.iter().any(|text| text.starts_with("would violate PodSecurity"));
    let tail = if refuses_pods {
        " (where the namespace enforces that level its pods are refused, and the deployment would wait for them in vain: correct its pods, or have the namespace's administrator set another level)"
    } else {
        ""
    };
    let head = format!("{key}: the target's API server takes it and warns: {said}");
    errors::result(
        key,
        Reason::ServerWarning,
        &format!("{}{tail}", errors::bounded(&head, MAX_MESSAGE.saturating_sub(tail.chars().count()))),
    )
}

/// The texts in the value of a header: `299 - "text" "date", 299 …`. Parsing stops at the first part that can't be read.
fn texts(header: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let Some((code, after)) = rest.split_once(' ') else { break };
        let Some((_agent, after)) = after.trim_start().split_once(' ') else { break };
        let Some((text, after)) = quoted(after.trim_start()) else { break };
        if code.len() != 3 || !code.bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        if !text.is_empty() {
            found.push(text);
        }
        let after = after.trim_start();
        let after = quoted(after).map_or(after, |(_date, after)| after.trim_start());
        rest = after.strip_prefix(',').map_or("", str::trim_start);
    }
    found
}

/// A quoted string at the beginning of the text, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut content = String::new();
    let mut chars = inner.char_indices();
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((content, &inner[index + 1..])),
            '\\' => content.push(chars.next()?.1),
            _ => content.push(c),
        }
    }
    None
}

/// The text in one line. Characters that control a terminal or change the direction are escaped.
fn plain(text: &str) -> String {
    let is_hidden =
        |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    text.chars().flat_map(|c| if is_hidden(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { group: "apps".into(), kind: "Deployment".into(), name: name.into() }
    }

    #[test]
    fn headers_are_read_as_servers_and_proxies_write_them() {
        let violation = r#"299 - "would violate PodSecurity \"restricted:latest\": runAsNonRoot != true (container \"web\" must set it)""#;
        assert_eq!(
            texts(violation),
            [r#"would violate PodSecurity "restricted:latest": runAsNonRoot != true (container "web" must set it)"#]
        );
        assert_eq!(texts(r#"299 - "one" "Mon, 30 Nov 2026 00:00:00 GMT", 299 kube-apiserver "two, still two""#), ["one", "two, still two"]);
        for nonsense in ["", "299", "299 -", "299 - unquoted", r#"299 - "open"#, r#"29x - "text""#] {
            assert!(texts(nonsense).is_empty(), "{nonsense}");
        }
    }

    #[test]
    fn an_object_is_warned_of_once_on_one_line_and_within_bounds() {
        let warnings = Warnings::default();
        let deprecated: &[u8] = "299 - \"batch/v1beta1 CronJob is deprecated\u{1b}[31m\u{202e}\"".as_bytes();
        warnings.keep(&key("web"), [deprecated, deprecated].into_iter());
        warnings.keep(&key("web"), std::iter::once(deprecated));
        warnings.keep(&key("silent"), std::iter::empty());
        let results = warnings.results();
        assert_eq!(results.len(), 1);
        assert_eq!((results[0].reason.as_str(), results[0].name.as_str()), ("ServerWarning", "web"));
        assert_eq!(
            results[0].message,
            r"Deployment web: the target's API server takes it and warns: batch/v1beta1 CronJob is deprecated\u{1b}[31m\u{202e}"
        );
        for n in 0..40 {
            let long = format!("299 - \"would violate PodSecurity {}\"", "x".repeat(5000));
            warnings.keep(&key(&format!("w{n}")), std::iter::once(long.as_bytes()));
            warnings.keep(&key(&format!("w{n}")), std::iter::once(format!("299 - \"and {}\"", "y".repeat(5000)).as_bytes()));
        }
        let results = warnings.results();
        assert_eq!(results.len(), NAMED + 1);
        assert_eq!(results[NAMED].message, "the target's API server warns of 25 more objects");
        let longest = results.iter().map(|r| r.message.chars().count()).max();
        assert_eq!(longest, Some(MAX_MESSAGE));
        assert!(results[1].message.ends_with("set another level)"));
    }
}
