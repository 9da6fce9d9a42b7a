//! What several manifests say together: references, stages in order, schedules. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use semver::VersionReq;

use super::finding::{Finding, Severity};
use super::reading::Document;
use crate::api::environment::EnvironmentType;
use crate::api::{DeploymentRequest, Environment, Pipeline, Reason, Solution, Stage};
use crate::cluster::object;
use crate::policy::pipeline::{self, Development, EnvironmentView, StageView, View};
use crate::policy::windows::{self, Opening};

/// The objects of one host, each with its document.
#[derive(Default)]
struct Host<'a> {
    environments: BTreeMap<String, (Environment, &'a Document)>,
    pipelines: BTreeMap<String, (Pipeline, &'a Document)>,
    stages: BTreeMap<String, (Stage, &'a Document)>,
    requests: Vec<(DeploymentRequest, &'a Document)>,
}

/// All that is wrong between these documents. Each has to fit its definition.
pub(super) fn findings(documents: &[&Document], now: Timestamp) -> Vec<Finding> {
    let mut found = twice(documents);
    let mut hosts: BTreeMap<&str, Host<'_>> = BTreeMap::new();
    for document in documents {
        let host = hosts.entry(object::metadata(&document.object, "namespace").unwrap_or_default()).or_default();
        let name = object::name(&document.object).to_owned();
        let read = || document.object.clone();
        match object::kind(&document.object) {
            "Environment" => drop(serde_json::from_value(read()).map(|it| host.environments.insert(name, (it, document)))),
            "Pipeline" => drop(serde_json::from_value(read()).map(|it| host.pipelines.insert(name, (it, document)))),
            "Stage" => drop(serde_json::from_value(read()).map(|it| host.stages.insert(name, (it, document)))),
            "DeploymentRequest" => drop(serde_json::from_value(read()).map(|it| host.requests.push((it, document)))),
            "Solution" => found.extend(serde_json::from_value(read()).iter().flat_map(|it| solution(it, document))),
            _ => {}
        }
    }
    for host in hosts.values() {
        found.extend(host.pipelines.iter().filter_map(|(name, (it, document))| host.pipeline(name, it, document)));
        found.extend(host.stages.values().flat_map(|(it, document)| host.stage(it, document, now)));
        found.extend(host.requests.iter().flat_map(|(it, document)| host.request(it, document, now)));
    }
    found
}

/// Objects that are there twice: the one that is applied later wins.
fn twice(documents: &[&Document]) -> Vec<Finding> {
    let mut seen: BTreeMap<(&str, &str, &str), &Document> = BTreeMap::new();
    let mut found = Vec::new();
    for document in documents {
        let it = &document.object;
        let key = (object::kind(it), object::metadata(it, "namespace").unwrap_or_default(), object::name(it));
        if key.2.is_empty() {
            continue;
        }
        if let Some(first) = seen.insert(key, document) {
            let message = format!("it is in {}:{} already: the one that is applied later wins", first.file, first.line);
            found.push(Finding::about(Severity::Error, document, "DuplicateObject", message));
        }
    }
    found
}

impl Host<'_> {
    fn pipeline(&self, name: &str, it: &Pipeline, document: &Document) -> Option<Finding> {
        let environment = |(found, _): &(Environment, &Document)| EnvironmentView { type_: found.spec.type_, validated: Ok(()) };
        let development = it.spec.development_environments.iter();
        let view = View {
            development: development
                .map(|name| Development { name: name.clone(), found: self.environments.get(name).map(environment) })
                .collect(),
            stages: self
                .stages
                .iter()
                .filter(|(_, (stage, _))| stage.spec.pipeline == name)
                .map(|(name, (stage, _))| view(name, stage))
                .collect(),
            foreign: self.stages.iter().filter(|(_, (stage, _))| stage.spec.pipeline != name).map(|(name, _)| name.clone()).collect(),
            retention: it.spec.retention.as_ref().map(|kept| (kept.schedule.clone(), kept.time_zone.clone())),
        };
        let failure = pipeline::judge(&view).outcome.err()?;
        // What is not in these files may be in the cluster.
        let elsewhere = [Reason::UnknownEnvironment, Reason::NoStages, Reason::UnknownPreviousStage].contains(&failure.reason);
        let severity = if elsewhere { Severity::Warning } else { Severity::Error };
        Some(Finding::about(severity, document, failure.reason.as_str(), failure.message))
    }

    fn stage(&self, it: &Stage, document: &Document, now: Timestamp) -> Vec<Finding> {
        let mut found = Vec::new();
        let spec = &it.spec;
        if !self.pipelines.contains_key(&spec.pipeline) {
            let message = format!("pipeline {} is not in these files: apply it too, or correct the name", spec.pipeline);
            found
                .push(Finding::about(Severity::Warning, document, Reason::UnknownPipeline.as_str(), message).at(document, "spec.pipeline"));
        }
        match self.environments.get(&spec.target_environment) {
            None => {
                let message = format!("Environment {} is not in these files: apply it too, or correct the name", spec.target_environment);
                found.push(
                    Finding::about(Severity::Warning, document, Reason::UnknownEnvironment.as_str(), message)
                        .at(document, "spec.targetEnvironment"),
                );
            }
            Some((environment, _)) if environment.spec.type_ != EnvironmentType::Target => {
                let message = format!("Environment {} is of type Development, and nothing is deployed there", spec.target_environment);
                found.push(
                    Finding::about(Severity::Error, document, Reason::WrongEnvironmentType.as_str(), message)
                        .at(document, "spec.targetEnvironment"),
                );
            }
            Some(_) => {}
        }
        if !self.pipelines.contains_key(&spec.pipeline)
            && let Some(previous) = spec.previous_stage.as_ref().filter(|previous| !self.stages.contains_key(*previous))
        {
            let message = format!("stage {previous} is not in these files: apply it too, or correct the name");
            found.push(
                Finding::about(Severity::Warning, document, Reason::UnknownPreviousStage.as_str(), message)
                    .at(document, "spec.previousStage"),
            );
        }
        for (index, window) in spec.windows.iter().enumerate() {
            if let Err(why) = windows::check(window) {
                let field = format!("spec.windows[{index}]");
                found.push(Finding::about(Severity::Error, document, Reason::WindowInvalid.as_str(), why.to_string()).at(document, &field));
            }
        }
        if found.iter().all(|finding| finding.reason != Reason::WindowInvalid.as_str())
            && let Ok(Opening::Closed { until: None, .. }) = windows::opening(&spec.windows, now)
        {
            found.push(Finding::about(Severity::Error, document, "NeverOpens", "no Allow window ever opens").at(document, "spec.windows"));
        }
        found
    }

    fn request(&self, it: &DeploymentRequest, document: &Document, now: Timestamp) -> Vec<Finding> {
        let mut found = Vec::new();
        let spec = &it.spec;
        if let Some((stage, _)) = self.stages.get(&spec.stage) {
            if stage.spec.pipeline != spec.pipeline {
                let message = format!("stage {} is part of pipeline {}", spec.stage, stage.spec.pipeline);
                found.push(Finding::about(Severity::Error, document, "WrongPipeline", message).at(document, "spec.pipeline"));
            }
            if stage.spec.previous_stage.is_some() && (spec.source_environment.is_some() || spec.artifact.is_some()) {
                let message = format!("stage {} is not the first: it deploys what the first stage exported", spec.stage);
                found.push(Finding::about(Severity::Warning, document, "SourceNotUsed", message).at(document, "spec"));
            }
        }
        if let (Some((pipeline, _)), Some(source)) = (self.pipelines.get(&spec.pipeline), &spec.source_environment)
            && !pipeline.spec.development_environments.contains(source)
        {
            let message = format!("pipeline {} does not link Environment {source}", spec.pipeline);
            found.push(
                Finding::about(Severity::Error, document, Reason::UnknownEnvironment.as_str(), message)
                    .at(document, "spec.sourceEnvironment"),
            );
        }
        let time = spec.scheduled_time.as_deref().filter(|time| !time.is_empty()).and_then(|time| time.parse::<Timestamp>().ok());
        if time.is_some_and(|time| time < now) {
            found.push(
                Finding::about(Severity::Warning, document, "InThePast", "the time has passed: it is as if there were none")
                    .at(document, "spec.scheduledTime"),
            );
        }
        if spec.requested_by.is_some() {
            let message = "leave it out: it is filled from whoever asks, and everybody else is refused";
            found.push(Finding::about(Severity::Warning, document, "FilledIn", message).at(document, "spec.requestedBy"));
        }
        found
    }
}

fn view(name: &str, stage: &Stage) -> StageView {
    let (previous, target) = (stage.spec.previous_stage.clone(), stage.spec.target_environment.clone());
    StageView { name: name.to_owned(), previous, target, ready: Ok(()) }
}

fn solution(it: &Solution, document: &Document) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, dependency) in it.spec.dependencies.iter().enumerate() {
        if let Err(error) = VersionReq::parse(&dependency.version) {
            let message = format!("{} is no requirement of versions, such as >=2.1: {error}", dependency.version);
            let field = format!("spec.dependencies[{index}].version");
            found.push(Finding::about(Severity::Error, document, "VersionInvalid", message).at(document, &field));
        }
    }
    let names: BTreeSet<&str> = it.spec.dependencies.iter().map(|dependency| dependency.name.as_str()).collect();
    if it.metadata.name.as_deref().is_some_and(|own| names.contains(own)) {
        found.push(Finding::about(Severity::Error, document, "DependsOnItself", "it depends on itself").at(document, "spec.dependencies"));
    }
    found
}
