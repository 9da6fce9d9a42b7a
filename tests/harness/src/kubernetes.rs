//! The versions of Kubernetes that a control plane can be built of.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::paths;

/// The variable that names the version of a run: the minor version, such as `1.33`. Control planes that tests start of their own follow it.
pub const ENVIRONMENT: &str = "PILOTAGE_KUBERNETES";

/// A minor version of Kubernetes, in the one patch version that is pinned for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    minor: u32,
    /// As its modules call it, such as `v1.33.13`.
    version: String,
    /// The go.mod that names its modules.
    modules: PathBuf,
}

impl Kubernetes {
    /// The one that Pilotage is developed on.
    ///
    /// # Errors
    /// If the source tree does not name it.
    pub fn developed_on() -> Result<Self> {
        Self::of(paths::module().join("go.mod"))
    }

    /// The one that the variable names, or else the one that Pilotage is developed on.
    ///
    /// # Errors
    /// If there is no such version here.
    pub fn from_env() -> Result<Self> {
        match std::env::var(ENVIRONMENT) {
            Ok(name) if !name.is_empty() => name.parse().context(ENVIRONMENT),
            _ => Self::developed_on(),
        }
    }

    /// All that can be built, the oldest first.
    ///
    /// # Errors
    /// If the source tree can't be read.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = vec![Self::developed_on()?];
        let others = paths::module().join("versions");
        for entry in std::fs::read_dir(&others).with_context(|| others.display().to_string())? {
            all.push(Self::of(entry?.path().join("go.mod"))?);
        }
        all.sort_by_key(Self::minor);
        Ok(all)
    }

    fn of(modules: PathBuf) -> Result<Self> {
        let text = std::fs::read_to_string(&modules).with_context(|| modules.display().to_string())?;
        let required = text.lines().find_map(|line| line.trim().trim_start_matches("require ").strip_prefix("k8s.io/kubernetes "));
        let version = required.with_context(|| format!("{} names no version of k8s.io/kubernetes", modules.display()))?.trim().to_owned();
        let minor = version.strip_prefix("v1.").and_then(|rest| rest.split('.').next()?.parse().ok());
        let minor = minor.with_context(|| format!("{}: {version} is no version of Kubernetes", modules.display()))?;
        Ok(Self { minor, version, modules })
    }

    /// The second number of its version.
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// Its whole version, such as `v1.33.13`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Whether it is not the one that Pilotage is developed on.
    pub(crate) fn is_other(&self) -> bool {
        self.modules != paths::module().join("go.mod")
    }

    /// The go.mod that names its modules. Its go.sum is beside it.
    pub(crate) fn modules(&self) -> &Path {
        &self.modules
    }

    /// Whether it has what Pilotage's own way of acting needs: constrained impersonation, and policies that fill in fields.
    pub fn has_constrained_impersonation(&self) -> bool {
        self.minor >= 36
    }
}

impl Display for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.minor)
    }
}

impl FromStr for Kubernetes {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = Self::all()?;
        let Some(found) = all.iter().find(|one| one.to_string() == name) else {
            let names: Vec<_> = all.iter().map(ToString::to_string).collect();
            bail!("there is no control plane of Kubernetes {name}, but of {}", names.join(", "));
        };
        Ok(found.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_that_make_tests_is_here_and_the_other_way_round() {
        let makefile = std::fs::read_to_string(paths::workspace().join("Makefile")).unwrap();
        let tested = makefile.lines().find_map(|line| line.strip_prefix("VERSIONS ?= ")).unwrap();
        let here: Vec<_> = Kubernetes::all().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(here, tested.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn a_versions_modules_are_all_of_that_version() {
        for kubernetes in Kubernetes::all().unwrap() {
            let text = std::fs::read_to_string(kubernetes.modules()).unwrap();
            let own = kubernetes.version().replace("v1.", "v0.");
            let pinned: Vec<&str> = text.lines().filter(|line| line.contains(" => k8s.io/")).collect();
            assert!(pinned.len() > 30 && pinned.iter().all(|line| line.ends_with(&format!(" {own}"))), "{kubernetes}: {pinned:#?}");
        }
    }

    #[test]
    fn a_version_that_is_not_here_is_told_which_are() {
        let error = "1.20".parse::<Kubernetes>().unwrap_err().to_string();
        assert!(error.starts_with("there is no control plane of Kubernetes 1.20, but of 1.33, "), "{error}");
    }
}
