//! The `CustomResourceDefinitions` of all kinds, as `crds/` holds them.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use kube::CustomResourceExt;
use serde_json::json;

use super::condition::{ConditionStatus, READY};
use super::request_status::condition_types::SUCCEEDED;
use super::{Artifact, DeploymentRequest, Environment, Pipeline, Reason, Solution, Stage};

/// All definitions with the name of the file that holds each, in the order of their names.
pub fn all() -> Vec<(&'static str, CustomResourceDefinition)> {
    vec![
        ("artifacts.yaml", owned_as_one(Artifact::crd())),
        ("deploymentrequests.yaml", owned_as_one(silent(DeploymentRequest::crd(), SUCCEEDED, HOSTS))),
        ("environments.yaml", owned_as_one(silent(Environment::crd(), READY, HOSTS))),
        ("pipelines.yaml", owned_as_one(silent(Pipeline::crd(), READY, HOSTS))),
        ("solutions.yaml", owned_as_one(silent(Solution::crd(), READY, DEVELOPED))),
        ("stages.yaml", owned_as_one(silent(Stage::crd(), READY, HOSTS))),
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
    for status in statuses(&mut definition) {
        status.default = Some(JSON(unseen.clone()));
    }
    definition
}

/// What one writer writes is owned as one: each item of a keyed list, and each of [`WRITTEN_AS_ONE`]. The server keeps in `managedFields`
/// who owns each field, and works that out again at every write. With an entry for each field of each item, that was half of a Solution,
/// and half of what its writes took the server. The keys of the lists stay unique.
fn owned_as_one(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for status in statuses(&mut definition) {
        for (name, property) in status.properties.iter_mut().flatten() {
            if WRITTEN_AS_ONE.contains(&name.as_str()) {
                property.x_kubernetes_map_type = Some(ATOMIC.to_owned());
            }
            items_owned_as_one(property);
        }
    }
    definition
}

/// The parts of a status that the operator alone writes, and writes as a whole.
const WRITTEN_AS_ONE: [&str; 4] = ["gates", "plan", "retention", "rollback"];
/// How a schema says that an object has one owner.
const ATOMIC: &str = "atomic";

fn items_owned_as_one(schema: &mut JSONSchemaProps) {
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        if schema.x_kubernetes_list_type.as_deref() == Some("map") {
            items.x_kubernetes_map_type = Some(ATOMIC.to_owned());
        }
        items_owned_as_one(items);
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| items_owned_as_one(property));
}

/// The schemas of a definition's status, one for each version.
fn statuses(definition: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    definition.spec.versions.iter_mut().filter_map(|version| {
        let root = version.schema.as_mut()?.open_api_v3_schema.as_mut()?;
        root.properties.as_mut()?.get_mut("status")
    })
}

/// One definition as YAML.
///
/// # Errors
/// Where the definition can't be written as YAML, which is a defect.
pub fn to_yaml(crd: &CustomResourceDefinition) -> anyhow::Result<String> {
    Ok(serde_saphyr::to_string(crd)?)
}
