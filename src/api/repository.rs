//! Names of repositories in OCI registries, as requests and pipelines write them.

use std::fmt;

/// A repository, or all repositories below a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Repository {
    /// The registry: a host, and a port where one is named.
    pub registry: String,
    /// The path in the registry. Empty for the whole registry.
    pub path: String,
}

impl Repository {
    /// Reads `oci://HOST[:PORT][/PATH]`. The schema accepts only this form. It is checked again here for other callers, because a URL is
    /// built from the result.
    pub fn parse(url: &str) -> Option<Self> {
        let rest = url.strip_prefix("oci://")?;
        let (registry, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = registry.split_once(':').map_or((registry, None), |(host, port)| (host, Some(port)));
        let host_is_plain = !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
            && host.starts_with(|c: char| c.is_ascii_alphanumeric())
            && host.ends_with(|c: char| c.is_ascii_alphanumeric());
        let port_is_one = port.is_none_or(|port| port.len() <= 5 && port.parse::<u16>().is_ok_and(|port| port > 0));
        let path_is_plain = rest.len() == registry.len() || path.split('/').all(is_plain_segment);
        (host_is_plain && port_is_one && path_is_plain).then(|| Self { registry: registry.to_owned(), path: path.to_owned() })
    }

    /// Whether `other` is this repository or below it. Names are compared part by part: `team-b` is not below `team`.
    pub fn covers(&self, other: &Self) -> bool {
        self.registry == other.registry
            && (self.path.is_empty() || other.path.strip_prefix(&self.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

fn is_plain_segment(segment: &str) -> bool {
    !segment.is_empty()
        && segment.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b'_'))
        && segment.starts_with(|c: char| c.is_ascii_alphanumeric())
        && segment.ends_with(|c: char| c.is_ascii_alphanumeric())
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}", self.registry)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

/// The most specific entry of `listed` that covers a repository.
pub fn covering<'a>(listed: impl IntoIterator<Item = &'a str>, wanted: &Repository) -> Option<&'a str> {
    let covers = |url: &&str| Repository::parse(url).is_some_and(|listed| listed.covers(wanted));
    listed.into_iter().filter(covers).max_by_key(|url| url.len())
}

/// Takes `oci://HOST/PATH@DIGEST` apart.
pub fn pinned(source: &str) -> Option<(Repository, &str)> {
    let (url, digest) = source.split_once('@')?;
    let hex = digest.strip_prefix("sha256:")?;
    let whole = hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'a'..=b'f'));
    let repository = Repository::parse(url).filter(|r| !r.path.is_empty())?;
    whole.then_some((repository, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(url: &str) -> Repository {
        Repository::parse(url).unwrap()
    }

    #[test]
    fn what_could_lead_elsewhere_is_no_repository() {
        for url in [
            "https://registry.test/team",
            "oci://",
            "oci:///team",
            "oci://user:password@registry.test/team",
            "oci://registry.test:0/team",
            "oci://registry.test:99999/team",
            "oci://registry.test:5000:5000/team",
            "oci://Registry.test/team",
            "oci://registry.test/../v2",
            "oci://registry.test/team/..",
            "oci://registry.test/team//orders",
            "oci://registry.test/team/",
            "oci://registry.test/team?x=y",
            "oci://registry.test/team#x",
            "oci://registry.test/team%2f..",
            "oci://registry.test/team\\orders",
            "oci://[::1]/team",
            "oci://.registry.test/team",
        ] {
            assert_eq!(Repository::parse(url), None, "{url}");
        }
        assert_eq!(repository("oci://127.0.0.1:5000/team/orders_2").to_string(), "oci://127.0.0.1:5000/team/orders_2");
        assert_eq!(repository("oci://registry.test").path, "");
    }

    #[test]
    fn a_prefix_ends_where_a_part_of_the_path_ends() {
        let team = repository("oci://registry.test/team");
        for covered in ["oci://registry.test/team", "oci://registry.test/team/orders"] {
            assert!(team.covers(&repository(covered)), "{covered}");
        }
        for other in
            ["oci://registry.test/team-b", "oci://registry.test", "oci://registry.test:443/team", "oci://registry.test.evil.test/team"]
        {
            assert!(!team.covers(&repository(other)), "{other}");
        }
        assert!(repository("oci://registry.test").covers(&team));
    }

    #[test]
    fn the_closest_of_the_list_is_taken() {
        let listed = ["oci://registry.test", "oci://registry.test/team/orders", "oci://registry.test/team"];
        let closest = |url: &str| covering(listed, &repository(url));
        assert_eq!(closest("oci://registry.test/team/orders"), Some("oci://registry.test/team/orders"));
        assert_eq!(closest("oci://registry.test/team/web"), Some("oci://registry.test/team"));
        assert_eq!(closest("oci://other.test/team"), None);
    }

    #[test]
    fn a_pinned_source_has_a_whole_digest() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let source = format!("oci://registry.test/team@{digest}");
        assert_eq!(pinned(&source), Some((repository("oci://registry.test/team"), digest.as_str())));
        for other in ["oci://registry.test/team", "oci://registry.test/team@sha256:aa", "oci://registry.test@sha256:aa"] {
            assert_eq!(pinned(other), None, "{other}");
        }
    }
}
