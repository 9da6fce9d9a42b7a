//! Names that are typed. They become parts of the addresses that are asked of the API server, so nothing else is taken for one: neither
//! `../x`, nor `x/status`, nor `x?dryRun=All`.

/// The most characters of a name.
const LONGEST: usize = 253;

/// The name of an object, or a version: lower-case letters, digits, `-` and `.`.
pub(super) fn object_name(text: &str) -> Result<String, String> {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    let is_outer = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let is_name = text.len() <= LONGEST && text.chars().all(is_inner) && is_outer(text.chars().next()) && is_outer(text.chars().last());
    if is_name && !text.contains("..") {
        return Ok(text.to_owned());
    }
    Err(format!("no object has such a name: lower-case letters, digits, - and ., at most {LONGEST}"))
}

/// The name of an Artifact, or SOLUTION@VERSION.
pub(super) fn stored_version(text: &str) -> Result<String, String> {
    match text.split_once('@') {
        Some((solution, version)) => Ok(format!("{}@{}", object_name(solution)?, object_name(version)?)),
        None => object_name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_a_name_is_one() {
        for name in ["a", "orders-1.0.0-rc.1", "0a"] {
            assert_eq!(object_name(name).as_deref(), Ok(name));
        }
        let long = "a".repeat(254);
        for wrong in ["", ".", "..", "a/b", "../a", "a..b", "a?x=1", "a#b", "a%2fb", "A", "a_b", "-a", "a-", "ä", "a b", "\u{1b}a", &long]
        {
            assert!(object_name(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(stored_version("orders@1.0.0").as_deref(), Ok("orders@1.0.0"));
        for wrong in ["orders@", "@1.0.0", "orders@1.0.0@x", "orders@../1", "orders@1.0.0?x"] {
            assert!(stored_version(wrong).is_err(), "{wrong:?}");
        }
    }
}
