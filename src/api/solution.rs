//! `Solution`: what a developer ships, and their window on what becomes of it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::reference::GroupKind;
use super::settings::{ConnectionDefinition, Dependency, VariableDefinition};
use super::{artifact, bounds};

/// What is shipped: which objects, in which version, with which settings open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pilotage.dev",
    version = "v1alpha1",
    kind = "Solution",
    plural = "solutions",
    shortname = "sol",
    category = "pilotage",
    namespaced,
    status = "SolutionStatus",
    derive = "PartialEq",
    doc = "What a developer ships from a development namespace: the selector of its components, its version, and the settings that differ from stage to stage. Its status shows all that happens to it, on every pipeline.",
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version", description = "The version in development"),
    printcolumn(name = "Deployments", type_ = "string", json_path = ".status.summary", description = "For each stage what runs there, and what was asked for"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')")
        .message("a solution's name is a DNS label: at most 63 characters, no dots").field_path(".spec")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.environmentVariables) ? self.environmentVariables.map(v, v.name.size() + (has(v.description) ? v.description.size() : 0) + (has(v.default) ? v.default.size() : 0) + v.target.name.size() + v.target.path.size()).sum() : 0) + (has(self.connectionReferences) ? self.connectionReferences.map(c, c.name.size() + c.secretName.size() + (has(c.targets) ? c.targets.map(t, t.name.size() + t.path.size()).sum() : 0)).sum() : 0) <= 65536")
    .message("environmentVariables and connectionReferences have at most 65,536 characters together: shorten descriptions, defaults and paths, or make two solutions of it"))]
#[x_kube(validation = Rule::new("!has(self.selector) || !has(self.selector.matchLabels) || self.selector.matchLabels.all(key, key.size() <= 317)")
    .message("a label's key has at most 317 characters"))]
pub struct SolutionSpec {
    /// The version in development: semver, lower case, without build metadata. Raise it for every change that shall be shipped.
    #[schemars(
        length(min = 5, max = 63),
        regex(
            pattern = r"^(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})(-(0|[1-9][0-9]*|[0-9]*[a-z-][0-9a-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[a-z-][0-9a-z-]*))*)?$"
        )
    )]
    pub version: String,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Selects the solution's objects by label; left out: `app.kubernetes.io/part-of` is the solution's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounded_selector")]
    pub selector: Option<LabelSelector>,
    /// The kinds of object that are exported; left out: all kinds that may be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub components: Vec<GroupKind>,
    /// Values that differ from stage to stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub environment_variables: Vec<VariableDefinition>,
    /// Secrets that each target has under a name of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub connection_references: Vec<ConnectionDefinition>,
    /// Solutions that must run in the target first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dependencies: Vec<Dependency>,
}

fn bounded_selector(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "Selects the solution's objects by label; left out: app.kubernetes.io/part-of is the solution's name.",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that must be there with that value.",
                "maxProperties": 16,
                "additionalProperties": {"type": "string", "maxLength": 63}
            },
            "matchExpressions": {
                "type": "array",
                "description": "Conditions that must all hold.",
                "maxItems": 16,
                "x-kubernetes-list-type": "atomic",
                "items": {
                    "type": "object",
                    "required": ["key", "operator"],
                    "properties": {
                        "key": {"type": "string", "maxLength": 317, "description": "The label's key."},
                        "operator": {"type": "string", "enum": ["In", "NotIn", "Exists", "DoesNotExist"], "description": "How the label is compared."},
                        "values": {
                            "type": "array",
                            "description": "The values to compare with, for In and NotIn.",
                            "maxItems": 64,
                            "x-kubernetes-list-type": "atomic",
                            "items": {"type": "string", "maxLength": 63}
                        }
                    }
                }
            }
        }
    })
}

/// What happens to the solution, on all pipelines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SolutionStatus {
    /// The generation that this status was made on; -1 before the first time.
    #[serde(default = "super::environment::unobserved")]
    pub observed_generation: i64,
    /// What runs in each stage, and in brackets what was asked for beside it, in one line for people:
    /// `qa: 1.4.0, prod: 1.3.0 (1.4.0 AwaitingApproval)`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_SUMMARY))]
    pub summary: String,
    /// The stages: what runs there, and what was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_DEPLOYMENTS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into(), "stage".into()]))]
    pub deployments: Vec<SolutionDeployment>,
    /// How many entries were dropped to keep the list within its bounds: the oldest of stages in which nothing runs.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub deployments_omitted: i32,
    /// `Ready`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The most stages that a Solution tells of.
pub const MOST_DEPLOYMENTS: usize = 128;
/// The most further requests that it tells of for one stage.
pub const MOST_OTHERS: usize = 4;
/// The most characters of the line for people.
pub const MAX_SUMMARY: usize = 4096;
/// The most characters of a message.
pub const MAX_MESSAGE: usize = 4096;
/// The most characters of a message of a further request.
pub const MAX_OTHER_MESSAGE: usize = 1024;

/// One stage: what runs there, and the newest accepted request for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SolutionDeployment {
    /// The host namespace.
    #[schemars(length(max = 63))]
    pub host: String,
    /// The Stage.
    #[schemars(length(max = 253))]
    pub stage: String,
    /// The Pipeline.
    #[schemars(length(max = 253))]
    pub pipeline: String,
    /// What runs there; left out where nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<RunningVersion>,
    /// The version that was asked for.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Where the request is, in one word.
    #[schemars(length(max = 64))]
    pub phase: String,
    /// The request's name.
    #[schemars(length(max = 253))]
    pub request: String,
    /// The request's uid.
    #[serde(rename = "requestUID")]
    #[schemars(length(max = 128))]
    pub request_uid: String,
    /// Who asked.
    #[schemars(length(max = 1024))]
    pub requester: String,
    /// Whether the request was never accepted. One that was is not hidden by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_accepted: bool,
    /// What it waits for, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,
    /// Everybody who decided, gate by gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = artifact::MAX_APPROVED_BY))]
    pub approved_by: Option<String>,
    /// What the approver said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub approval_comments: Option<String>,
    /// When the request was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub asked_at: Option<Timestamp>,
    /// When this was written.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub at: Timestamp,
    /// Further requests for the stage: those that are under way first, then the newest; no more of one person while others have to go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_OTHERS))]
    pub others: Vec<OtherRequest>,
    /// How many were dropped from there to keep it short.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub others_omitted: i32,
}

/// A version that runs in a stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunningVersion {
    /// The version that was deployed last with success.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub since: Option<Timestamp>,
}

/// A further request for a stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtherRequest {
    /// The version that was asked for.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Where the request is, in one word.
    #[schemars(length(max = 64))]
    pub phase: String,
    /// The request's name.
    #[schemars(length(max = 253))]
    pub request: String,
    /// The request's uid.
    #[serde(rename = "requestUID")]
    #[schemars(length(max = 128))]
    pub request_uid: String,
    /// Who asked.
    #[schemars(length(max = 1024))]
    pub requester: String,
    /// Whether the request was never accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_accepted: bool,
    /// What it waits for, or how it ended; the beginning of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_OTHER_MESSAGE))]
    pub message: Option<String>,
    /// When the request was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub asked_at: Option<Timestamp>,
    /// When this was written.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub at: Timestamp,
}

/// What runs in each stage, and what was asked for beside it, in one line within what the schema allows.
pub fn summary(deployments: &[SolutionDeployment]) -> String {
    let each: Vec<String> = deployments.iter().map(in_words).collect();
    bounds::text(&each.join(", "), MAX_SUMMARY)
}

fn in_words(entry: &SolutionDeployment) -> String {
    let SolutionDeployment { stage, version, phase, .. } = entry;
    match &entry.runs {
        Some(runs) if runs.version == *version && phase == "Succeeded" => format!("{stage}: {version}"),
        Some(runs) => format!("{stage}: {} ({version} {phase})", runs.version),
        None => format!("{stage}: nothing ({version} {phase})"),
    }
}
