//! Which tests run on a version of Kubernetes: `tests/versions.yaml`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::kubernetes::Kubernetes;
use crate::paths;

/// What `tests/versions.yaml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Versions {
    /// The tests that show on a version, in a few minutes, that Pilotage does its main job there and refuses what matters most.
    essentials: Vec<String>,
    /// The tests that can't hold on all versions.
    only: Vec<Only>,
}

/// A test that can't hold on all versions.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Only {
    test: String,
    /// The first version on which it holds.
    from: Option<String>,
    /// The last version on which it holds.
    to: Option<String>,
    /// Why it can't hold on others.
    because: String,
}

/// Which tests run.
#[derive(Debug)]
pub struct Selection {
    /// The arguments of a test program.
    pub arguments: Vec<String>,
    /// What is left out, and why, for people.
    pub left_out: Vec<String>,
}

/// Chooses from all tests, as test programs list them with `--list`.
///
/// # Errors
/// If the file names a test that is not there, or that two programs have.
pub fn select(kubernetes: &Kubernetes, essentials: bool, listed: &str) -> Result<Selection> {
    let path = paths::workspace().join("tests/versions.yaml");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    choose(&serde_saphyr::from_str(&text).with_context(|| path.display().to_string())?, kubernetes, essentials, listed)
}

fn choose(versions: &Versions, kubernetes: &Kubernetes, essentials: bool, listed: &str) -> Result<Selection> {
    let tests: Vec<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    for name in versions.essentials.iter().chain(versions.only.iter().map(|only| &only.test)) {
        let found = tests.iter().filter(|test| *test == name).count();
        ensure!(found == 1, "tests/versions.yaml: there is not one test {name}, but {found}");
    }
    let mut left_out = BTreeSet::new();
    let mut told = Vec::new();
    for only in &versions.only {
        let minor = |name: &String| name.parse::<Kubernetes>().map(|version| version.minor());
        let from = only.from.as_ref().map(minor).transpose()?.unwrap_or_default();
        let to = only.to.as_ref().map(minor).transpose()?.unwrap_or(u32::MAX);
        if !(from..=to).contains(&kubernetes.minor()) {
            left_out.insert(only.test.as_str());
            told.push(format!("{}: {}", only.test, only.because));
        }
    }
    let mut arguments = vec!["--exact".to_owned()];
    if essentials {
        arguments.extend(versions.essentials.iter().filter(|name| !left_out.contains(name.as_str())).cloned());
    } else {
        arguments.extend(left_out.iter().flat_map(|name| ["--skip".to_owned(), (*name).to_owned()]));
    }
    Ok(Selection { arguments, left_out: told })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "a::older: test\na::newer: test\na::always: test\n\n3 tests, 0 benchmarks\n";

    fn versions() -> Versions {
        let only = |test: &str, from: Option<&str>, to: Option<&str>| Only {
            test: test.into(),
            from: from.map(Into::into),
            to: to.map(Into::into),
            because: "it can't".into(),
        };
        Versions {
            essentials: vec!["a::always".into(), "a::newer".into()],
            only: vec![only("a::newer", Some("1.36"), None), only("a::older", None, Some("1.35"))],
        }
    }

    #[test]
    fn what_can_not_hold_is_left_out_and_told() {
        for (version, left_out) in [("1.35", "a::newer"), ("1.36", "a::older")] {
            let selected = choose(&versions(), &version.parse().unwrap(), false, LISTED).unwrap();
            assert_eq!(selected.arguments, ["--exact", "--skip", left_out]);
            assert_eq!(selected.left_out, [format!("{left_out}: it can't")]);
        }
    }

    #[test]
    fn essentials_are_named() {
        let chosen = |version: &str| choose(&versions(), &version.parse().unwrap(), true, LISTED).unwrap().arguments;
        assert_eq!(chosen("1.37"), ["--exact", "a::always", "a::newer"]);
        assert_eq!(chosen("1.33"), ["--exact", "a::always"]);
    }

    #[test]
    fn a_name_that_is_no_test_is_an_error() {
        let error = choose(&versions(), &Kubernetes::developed_on().unwrap(), false, "a::always: test\na::newer: test\n").unwrap_err();
        assert!(error.to_string().contains("there is not one test a::older, but 0"), "{error}");
    }
}
