//! The `CustomResourceDefinitions` of all kinds, as `crds/` holds them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSON};
use kube::CustomResourceExt;
use serde_json::json;

use super::condition::{ConditionStatus, READY};
use super::request_status::condition_types::SUCCEEDED;
use super::{Artifact, DeploymentRequest, Environment, Pipeline, Reason, Solution, Stage};

/// All definitions with the name of the file that holds each, in the order of their names.
pub fn all() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("artifacts.yaml", Artifact::crd()),
        ("deploymentrequests.yaml", silent(DeploymentRequest::crd(), SUCCEEDED, HOSTS)),
        ("environments.yaml", silent(Environment::crd(), READY, HOSTS)),
        ("pipelines.yaml", silent(Pipeline::crd(), READY, HOSTS)),
        ("solutions.yaml", silent(Solution::crd(), READY, DEVELOPED)),
        ("stages.yaml", silent(Stage::crd(), READY, HOSTS)),
    ]
}

/// Where operators look at what belongs into a host.
const HOSTS: &str = "no operator has looked at this yet: it looks only into namespaces with the label pilotage.dev/host=true";
/// Where operators look at Solutions.
const DEVELOPED: &str =
    "no operator has looked at this yet: it looks only into namespaces that a validated Environment of type Development names";

/// The condition of an object until an operator has looked at it. Operators never look at objects elsewhere than `message` says. Without
/// this default, such an object would have no status, and kstatus counts an object without a status as current.
fn silent(mut definition: CustomResourceDefinition, summary: &str, message: &str) -> CustomResourceDefinition {
    let mut unseen = json!({
        "observedGeneration": -1,
        "conditions": [{
            "type": summary, "status": ConditionStatus::Unknown, "reason": Reason::NotLookedAt, "message": message, "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    });
    if summary == SUCCEEDED {
        unseen["waitingFor"] = "an operator that looks at it, which it does in hosts alone".into();
    }
    for version in &mut definition.spec.versions {
        let root = version.schema.as_mut().and_then(|s| s.open_api_v3_schema.as_mut()).and_then(|s| s.properties.as_mut());
        if let Some(status) = root.and_then(|properties| properties.get_mut("status")) {
            status.default = Some(JSON(unseen.clone()));
        }
    }
    definition
}

/// One definition as YAML.
///
/// # Errors
/// Where the definition can't be written as YAML, which is a defect.
pub fn to_yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(crd)?)
}
