//! Which credentials a registry asks for, by its header `WWW-Authenticate`.
//!
//! Not by http-auth: it refuses a header that does not keep to RFC 9110 in all that it says, for example a realm without quotes, and a scheme
//! or a realm can be understood all the same.

/// The kinds of authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password, in each call.
    Basic,
    /// A token from another address.
    Bearer {
        /// The address that issues the token.
        realm: String,
        /// The service that the token is for.
        service: Option<String>,
    },
}

/// Parses the header.
pub(crate) fn parse(header: &str) -> Option<Challenge> {
    let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let value = |name: &str| parameters(rest).into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    Some(Challenge::Bearer { realm: value("realm")?, service: value("service") })
}

/// `key="value"` pairs, separated by commas. A quoted value may contain commas.
fn parameters(mut text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    while let Some((key, rest)) = text.split_once('=') {
        let key = key.trim_matches(|c: char| c == ',' || c.is_whitespace()).to_owned();
        let (value, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(',').unwrap_or((rest, "")),
        };
        found.push((key, value.trim().to_owned()));
        text = after;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        assert_eq!(parse("Basic realm=\"basic-realm\""), Some(Challenge::Basic));
        assert_eq!(
            parse(r#"Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a:pull,push""#),
            Some(Challenge::Bearer { realm: "https://auth.test/token".into(), service: Some("registry.test".into()) })
        );
        assert_eq!(
            parse("bearer service=x, realm=https://auth.test"),
            Some(Challenge::Bearer { realm: "https://auth.test".into(), service: Some("x".into()) })
        );
        for other in ["Negotiate", "Bearer", "Bearer realm", ""] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
