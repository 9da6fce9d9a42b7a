//! The settings of a new request: those of the last deployment, changed by flags.

use clap::Args;

use crate::api::settings::{ConnectionReference, DeploymentSettings, VariableValue};
use crate::cli::exit::Exit;

/// Flags that change settings.
#[derive(Args, Debug)]
pub struct SettingsArgs {
    /// The value of an environment variable; may be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// The target's Secret for a connection reference; may be given several times.
    #[arg(long = "connect", value_name = "NAME=SECRET")]
    connections: Vec<String>,
    /// Start from the defaults of the solution's definitions, not from the settings of the last deployment.
    #[arg(long)]
    defaults: bool,
}

impl SettingsArgs {
    /// Whether flags say what the settings start from.
    pub fn are_given(&self) -> bool {
        self.defaults || !self.variables.is_empty() || !self.connections.is_empty()
    }

    /// Whether to start from the defaults.
    pub fn from_defaults(&self) -> bool {
        self.defaults
    }

    /// Whether each flag has the form `NAME=VALUE`.
    ///
    /// # Errors
    /// If one does not.
    pub fn check(&self) -> anyhow::Result<()> {
        pairs("--set", &self.variables)?;
        pairs("--connect", &self.connections).map(|_| ())
    }

    /// The settings `before`, changed by the flags.
    ///
    /// # Errors
    /// If a flag does not have the form `NAME=VALUE`.
    pub fn over(&self, before: Option<DeploymentSettings>) -> anyhow::Result<Option<DeploymentSettings>> {
        let mut settings = before.filter(|_| !self.defaults).unwrap_or_default();
        for (name, value) in pairs("--set", &self.variables)? {
            settings.environment_variables.retain(|v| v.name != name);
            settings.environment_variables.push(VariableValue { name, value });
        }
        for (name, secret_name) in pairs("--connect", &self.connections)? {
            settings.connection_references.retain(|c| c.name != name);
            settings.connection_references.push(ConnectionReference { name, secret_name });
        }
        Ok((settings != DeploymentSettings::default()).then_some(settings))
    }
}

fn pairs(flag: &str, given: &[String]) -> anyhow::Result<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for text in given {
        let (name, value) = text.split_once('=').ok_or_else(|| Exit::Usage.because(format!("{flag} {text}: write NAME=VALUE")))?;
        if name.is_empty() || pairs.iter().any(|(other, _)| other == name) {
            return Err(Exit::Usage.because(format!("{flag} {text}: name each once")));
        }
        pairs.push((name.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(variables: &[&str], connections: &[&str], defaults: bool) -> SettingsArgs {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
        SettingsArgs { variables: owned(variables), connections: owned(connections), defaults }
    }

    fn before() -> DeploymentSettings {
        let value = |name: &str, value: &str| VariableValue { name: name.into(), value: value.into() };
        DeploymentSettings {
            environment_variables: vec![value("A", "1"), value("B", "2")],
            connection_references: vec![ConnectionReference { name: "db".into(), secret_name: "old".into() }],
        }
    }

    #[test]
    fn flags_override_one_by_one_and_the_rest_stays() {
        let made = args(&["B=x=y", "C="], &["db=new"], false).over(Some(before())).unwrap().unwrap();
        let values: Vec<_> = made.environment_variables.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
        assert_eq!(values, [("A", "1"), ("B", "x=y"), ("C", "")]);
        assert_eq!(made.connection_references[0].secret_name, "new");
        assert_eq!(args(&[], &[], false).over(Some(before())).unwrap(), Some(before()));
        assert_eq!(args(&[], &[], true).over(Some(before())).unwrap(), None);
    }

    #[test]
    fn what_is_no_pair_or_named_twice_is_refused() {
        for wrong in [&["A"][..], &["=1"], &["A=1", "A=2"]] {
            assert!(args(wrong, &[], false).over(None).unwrap_err().to_string().starts_with("--set "));
        }
    }
}
