//! The settings that a version needs: listed before anything is asked for, taken from a terminal where they are missing, and refused
//! elsewhere with the flags to add.

use std::io::{self, BufRead, Write};

use anyhow::Context;
use kube::{Api, Client};

use super::is_forbidden;
use crate::api::phase::Phase;
use crate::api::settings::{ConnectionReference, DeploymentSettings, VariableType, VariableValue};
use crate::api::solution_stages::{NeededVariable, SolutionStage};
use crate::api::{DeploymentRequest, Solution};
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::cli::prompt;
use crate::text::Shown;

/// What a version defines. `None` if the caller can't know it.
#[derive(Debug)]
pub struct Needed(Option<Definitions>);

#[derive(Debug)]
struct Definitions {
    variables: Vec<NeededVariable>,
    connections: Vec<String>,
}

/// The settings of the last deployment to the stage, if the caller may read its request.
///
/// # Errors
/// If the API server can't be asked.
pub async fn before(
    client: &Client,
    solution: &Solution,
    stage: &SolutionStage,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<Option<DeploymentSettings>> {
    let entries = solution.status.iter().flat_map(|s| &s.deployments);
    let Some(entry) = entries.into_iter().find(|d| d.host == stage.host && d.stage == stage.stage) else { return Ok(None) };
    let runs = entry.runs.as_ref().map(|runs| runs.version.as_str());
    let is_it = |version: &str, phase: &str| Some(version) == runs && Phase::of(phase) == Some(Phase::Succeeded);
    let name = if is_it(&entry.version, &entry.phase) {
        Some(&entry.request)
    } else {
        entry.others.iter().find(|other| is_it(&other.version, &other.phase)).map(|other| &other.request)
    };
    let Some(name) = name else { return Ok(None) };
    match Api::<DeploymentRequest>::namespaced(client.clone(), &stage.host).get_opt(name).await {
        Ok(Some(request)) if request.spec.deployment_settings.is_some() => {
            out.note(&format!("settings: those of request {name}, the last deployment to stage {}, and what you set", stage.stage))?;
            Ok(request.spec.deployment_settings)
        }
        Ok(_) => Ok(None),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading request {name} of host {}", stage.host)),
    }
}

impl Needed {
    /// What the version defines: as it was stored, or as the Solution says if that is the version in development, and is not taken from a
    /// registry.
    pub fn of(solution: &Solution, host: &str, version: &str, from_registry: bool) -> Self {
        let stored = solution.status.iter().flat_map(|s| &s.versions).find(|v| v.host == host && v.version == version);
        if let Some(stored) = stored.filter(|stored| !stored.settings_omitted) {
            let (variables, connections) = (stored.environment_variables.clone(), stored.connection_references.clone());
            return Self(Some(Definitions { variables, connections }));
        }
        if solution.spec.version != version || from_registry {
            return Self(None);
        }
        let variables = solution.spec.environment_variables.iter().map(|variable| NeededVariable {
            name: variable.name.clone(),
            type_: variable.type_,
            required: variable.required,
            default: variable.default.clone(),
        });
        let connections = solution.spec.connection_references.iter().map(|reference| reference.name.clone()).collect();
        Self(Some(Definitions { variables: variables.collect(), connections }))
    }

    /// The settings that the version has definitions for. Others would be refused.
    pub fn fitting(&self, mut settings: DeploymentSettings) -> DeploymentSettings {
        if let Some(defined) = &self.0 {
            settings.environment_variables.retain(|v| defined.variables.iter().any(|d| d.name == v.name));
            settings.connection_references.retain(|c| defined.connections.contains(&c.name));
        }
        settings
    }

    /// Lists the settings, and completes them.
    ///
    /// # Errors
    /// If a setting does not exist, or has the wrong type; or if one is missing and nobody can be asked.
    pub fn complete(
        &self,
        settings: Option<DeploymentSettings>,
        stage: &SolutionStage,
        version: &str,
        out: &mut Output<impl Write + Send>,
    ) -> anyhow::Result<Option<DeploymentSettings>> {
        let mut settings = settings.unwrap_or_default();
        let Some(defined) = &self.0 else {
            out.note(&format!("which settings {version} needs is not known here; what is missing is told by the request"))?;
            return Ok(some(settings));
        };
        defined.check(&settings, version)?;
        for line in defined.listed(&settings) {
            out.note(&line)?;
        }
        let missing = defined.missing(&settings);
        if missing.is_empty() {
            return Ok(some(settings));
        }
        if !prompt::is_possible() {
            return Err(Exit::Usage.because(format!(
                "stage {} needs settings for {version} that are missing; no request was made. Add: {}",
                stage.stage,
                missing.iter().map(Missing::flag).collect::<Vec<_>>().join(" ")
            )));
        }
        for one in missing {
            let given = answer(&one, &mut io::stdin().lock(), &mut Shown::new(io::stderr()))?;
            one.put(given, &mut settings);
        }
        Ok(some(settings))
    }
}

fn some(settings: DeploymentSettings) -> Option<DeploymentSettings> {
    (settings != DeploymentSettings::default()).then_some(settings)
}

/// A setting that has no value.
#[derive(Debug)]
enum Missing<'a> {
    Variable(&'a NeededVariable),
    Connection(&'a str),
}

impl Missing<'_> {
    /// The flag that sets it.
    fn flag(&self) -> String {
        match self {
            Self::Variable(variable) => format!("--set {}={}", variable.name, sample(variable.type_)),
            Self::Connection(name) => format!("--connect {name}=SECRET"),
        }
    }

    fn put(&self, given: String, settings: &mut DeploymentSettings) {
        match self {
            Self::Variable(variable) => settings.environment_variables.push(VariableValue { name: variable.name.clone(), value: given }),
            Self::Connection(name) => {
                settings.connection_references.push(ConnectionReference { name: (*name).to_owned(), secret_name: given });
            }
        }
    }
}

fn sample(type_: VariableType) -> &'static str {
    match type_ {
        VariableType::String => "VALUE",
        VariableType::Number => "NUMBER",
        VariableType::Boolean => "true|false",
        VariableType::Json => "JSON",
    }
}

/// Asks for a value until one fits.
fn answer(missing: &Missing<'_>, from: &mut impl BufRead, to: &mut impl Write) -> anyhow::Result<String> {
    loop {
        match missing {
            Missing::Variable(variable) => write!(to, "{} ({:?}): ", variable.name, variable.type_)?,
            Missing::Connection(name) => write!(to, "{name} (the Secret's name in the target): ")?,
        }
        to.flush()?;
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(Exit::Usage.because(format!("a setting is missing, and no request was made. Add: {}", missing.flag())));
        }
        let given = line.trim_end_matches(['\n', '\r']);
        let wrong = match missing {
            Missing::Variable(variable) => wrong_type(variable, given),
            Missing::Connection(_) => given.is_empty().then(|| "a Secret has a name".to_owned()),
        };
        match wrong {
            None => return Ok(given.to_owned()),
            Some(why) => writeln!(to, "{why}")?,
        }
    }
}

/// Why a text is not of the variable's type.
fn wrong_type(variable: &NeededVariable, given: &str) -> Option<String> {
    let json = serde_json::from_str::<serde_json::Value>(given);
    let is_right = match variable.type_ {
        VariableType::String => true,
        VariableType::Number => json.is_ok_and(|value| value.is_number()),
        VariableType::Boolean => json.is_ok_and(|value| value.is_boolean()),
        VariableType::Json => json.is_ok(),
    };
    (!is_right).then(|| format!("{} is of type {:?}: {given} is none", variable.name, variable.type_))
}

impl Definitions {
    /// Nothing is set that the version does not have, or that has another type.
    fn check(&self, settings: &DeploymentSettings, version: &str) -> anyhow::Result<()> {
        let known = |names: Vec<&str>| if names.is_empty() { "it has none".to_owned() } else { format!("it has {}", names.join(", ")) };
        for given in &settings.environment_variables {
            let Some(variable) = self.variables.iter().find(|v| v.name == given.name) else {
                let names = known(self.variables.iter().map(|v| v.name.as_str()).collect());
                return Err(Exit::Usage.because(format!("--set {}: {version} has no such environment variable; {names}", given.name)));
            };
            if let Some(why) = wrong_type(variable, &given.value) {
                return Err(Exit::Usage.because(format!("--set {}: {why}", given.name)));
            }
        }
        for given in &settings.connection_references {
            if !self.connections.contains(&given.name) {
                let names = known(self.connections.iter().map(String::as_str).collect());
                return Err(Exit::Usage.because(format!("--connect {}: {version} has no such connection reference; {names}", given.name)));
            }
        }
        Ok(())
    }

    /// Each setting with its type and what it will be.
    fn listed(&self, settings: &DeploymentSettings) -> Vec<String> {
        let variables = self.variables.iter().map(|variable| {
            let set = settings.environment_variables.iter().find(|v| v.name == variable.name).map(|v| v.value.clone());
            let value = match (set, &variable.default, variable.required) {
                (Some(value), _, _) => value,
                (None, Some(default), _) => format!("{default} (default)"),
                (None, None, true) => "missing".to_owned(),
                (None, None, false) => "as in development".to_owned(),
            };
            format!("  {} ({:?}): {value}", variable.name, variable.type_)
        });
        let connections = self.connections.iter().map(|name| {
            let set = settings.connection_references.iter().find(|c| c.name == *name);
            format!("  {name} (connection): {}", set.map_or("missing".to_owned(), |c| format!("Secret {}", c.secret_name)))
        });
        variables.chain(connections).collect()
    }

    fn missing(&self, settings: &DeploymentSettings) -> Vec<Missing<'_>> {
        let has_value = |variable: &NeededVariable| settings.environment_variables.iter().any(|v| v.name == variable.name);
        let variables = self.variables.iter().filter(|v| v.required && v.default.is_none() && !has_value(v)).map(Missing::Variable);
        let is_set = |name: &String| settings.connection_references.iter().any(|c| c.name == *name);
        let connections = self.connections.iter().filter(|name| !is_set(name)).map(|name| Missing::Connection(name));
        variables.chain(connections).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definitions() -> Definitions {
        let solution: Solution = serde_json::from_value(json!({"metadata": {"name": "orders"}, "spec": {"version": "1.0.0",
            "environmentVariables": [
                {"name": "URL", "required": true, "target": {"kind": "ConfigMap", "name": "o", "path": "/data/u"}},
                {"name": "WORKERS", "type": "Number", "required": true, "default": "2", "target": {"kind": "ConfigMap", "name": "o", "path": "/data/w"}},
                {"name": "NOTE", "target": {"kind": "ConfigMap", "name": "o", "path": "/data/n"}},
            ],
            "connectionReferences": [{"name": "db", "secretName": "dev-db"}]}}))
        .unwrap();
        assert!(Needed::of(&solution, "h", "9.9.9", false).0.is_none(), "another version may need anything");
        assert!(Needed::of(&solution, "h", "1.0.0", true).0.is_none(), "and so may one that was developed elsewhere");
        Needed::of(&solution, "h", "1.0.0", false).0.unwrap()
    }

    fn set(name: &str, value: &str) -> DeploymentSettings {
        let variable = VariableValue { name: name.into(), value: value.into() };
        DeploymentSettings { environment_variables: vec![variable], connection_references: Vec::new() }
    }

    #[test]
    fn what_has_no_value_and_no_default_is_missing_with_its_flag() {
        let defined = definitions();
        let flags = |settings: &DeploymentSettings| defined.missing(settings).iter().map(Missing::flag).collect::<Vec<_>>();
        assert_eq!(flags(&DeploymentSettings::default()), ["--set URL=VALUE", "--connect db=SECRET"]);
        assert_eq!(flags(&set("URL", "x")), ["--connect db=SECRET"]);
        assert_eq!(
            defined.listed(&set("URL", "x")),
            ["  URL (String): x", "  WORKERS (Number): 2 (default)", "  NOTE (String): as in development", "  db (connection): missing"]
        );
    }

    #[test]
    fn what_the_version_does_not_have_or_is_of_another_type_is_refused_early() {
        for (settings, part) in [(set("URLS", "x"), "it has URL, WORKERS, NOTE"), (set("WORKERS", "two"), "of type Number")] {
            let error = definitions().check(&settings, "1.0.0").unwrap_err();
            assert!(Exit::of(&error) == Exit::Usage && error.to_string().contains(part), "{error}");
        }
        definitions().check(&set("WORKERS", "3"), "1.0.0").unwrap();
    }

    #[test]
    fn a_person_is_asked_until_the_answer_fits() {
        let (defined, mut said) = (definitions(), Vec::new());
        let given = answer(&Missing::Variable(&defined.variables[1]), &mut "two\n3\n".as_bytes(), &mut said).unwrap();
        assert_eq!(given, "3");
        assert_eq!(String::from_utf8(said).unwrap(), "WORKERS (Number): WORKERS is of type Number: two is none\nWORKERS (Number): ");
        let gone = answer(&Missing::Connection("db"), &mut "".as_bytes(), &mut Vec::new()).unwrap_err();
        assert!(gone.to_string().ends_with("Add: --connect db=SECRET"), "{gone}");
    }
}
