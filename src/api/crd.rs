//! The `CustomResourceDefinitions` of all kinds, as `crds/` holds them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

use super::{Artifact, DeploymentRequest, Environment, Pipeline, Solution, Stage};

/// All definitions with the name of the file that holds each, in the order of their names.
pub fn all() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("artifacts.yaml", Artifact::crd()),
        ("deploymentrequests.yaml", DeploymentRequest::crd()),
        ("environments.yaml", Environment::crd()),
        ("pipelines.yaml", Pipeline::crd()),
        ("solutions.yaml", Solution::crd()),
        ("stages.yaml", Stage::crd()),
    ]
}

/// One definition as YAML.
///
/// # Errors
/// Where the definition can't be written as YAML, which is a defect.
pub fn to_yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(crd)?)
}
