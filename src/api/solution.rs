//! `Solution`: what a developer ships, and the status in which they follow what becomes of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::artifact::DecidedGate;
use super::condition::Condition;
use super::phase::Phase;
use super::reference::GroupKind;
use super::settings::{ConnectionDefinition, Dependency, VariableDefinition};
use super::solution_plans::{MOST_PLANS, SolutionPlan};
use super::solution_stages::{MOST_STAGES, MOST_VERSIONS, SolutionStage, StoredVersion};
use super::{artifact, bounds};

/// What is shipped: which objects, in which version, and which settings differ from stage to stage.
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
    doc = "What a developer ships from a development namespace: the selector of its components, its version, and the settings that differ from stage to stage. Its status shows what becomes of it, on every pipeline.",
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version", description = "The version in development"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "Whether it can be asked for from here"),
    printcolumn(name = "Deployments", type_ = "string", json_path = ".status.summary", description = "What runs in each stage, and what else was requested"),
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
    /// The version in development: semver, lower case, without build metadata. Raise it for every change that you want to ship.
    #[schemars(
        length(min = 5, max = 63),
        regex(
            pattern = r"^(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,18})(-(0|[1-9][0-9]*|[0-9]*[a-z-][0-9a-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[a-z-][0-9a-z-]*))*)?$"
        )
    )]
    pub version: String,
    /// What the solution is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Selects the solution's objects by label. Left out: the label `app.kubernetes.io/part-of` with the solution's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "bounded_selector")]
    pub selector: Option<LabelSelector>,
    /// The kinds of object that are exported. Left out: all kinds of a namespace that may be read. Cluster-scoped kinds must be named here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub components: Vec<GroupKind>,
    /// Values that differ from stage to stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub environment_variables: Vec<VariableDefinition>,
    /// Secrets that have a different name in each target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub connection_references: Vec<ConnectionDefinition>,
    /// Solutions that must run in the target before this one is deployed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub dependencies: Vec<Dependency>,
}

fn bounded_selector(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "Selects the solution's objects by label. Left out: the label app.kubernetes.io/part-of with the solution's name.",
        "x-kubernetes-map-type": "atomic",
        "properties": {
            "matchLabels": {
                "type": "object",
                "description": "Labels that an object must have, with their values.",
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

/// What became of the solution, on all pipelines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SolutionStatus {
    /// The generation that this status was made on; -1 before the first time.
    #[serde(default = "super::environment::unobserved")]
    pub observed_generation: i64,
    /// What runs in each stage, and in brackets what else was requested, in one line for people:
    /// `qa: 1.4.0, prod: 1.3.0 (1.4.0 AwaitingApproval)`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_SUMMARY))]
    pub summary: String,
    /// For each host and stage, what runs there and what was requested. At most 128.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_DEPLOYMENTS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into(), "stage".into()]))]
    pub deployments: Vec<SolutionDeployment>,
    /// How many entries were dropped to keep the list within its bound: the oldest of stages in which nothing runs.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub deployments_omitted: i32,
    /// The stages that the solution can go to from here, with the version that may be asked for next and what stands in the way: those of
    /// pipelines that this namespace feeds and that are shared with somebody. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_STAGES))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into(), "stage".into()]))]
    pub stages: Vec<SolutionStage>,
    /// How many more stages there are.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub stages_omitted: i32,
    /// Of the stored versions that `stages` offers, which settings each needs. At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_VERSIONS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["host".into(), "version".into()]))]
    pub versions: Vec<StoredVersion>,
    /// How many more stored versions there are.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub versions_omitted: i32,
    /// The newest requests that only plan (`spec.planOnly`), with what they found. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_PLANS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["requestUID".into()]))]
    pub plans: Vec<SolutionPlan>,
    /// When each version first appeared in development, as the operator saw it. The last 16 versions. Lead times count from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_DEVELOPED))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["version".into()]))]
    pub developed: Vec<DevelopedVersion>,
    /// `Ready` (whether it can be asked for from here), `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The most versions of which a Solution's status says when they appeared.
pub const MOST_DEVELOPED: usize = 16;
/// The most stages in the status of a Solution.
pub const MOST_DEPLOYMENTS: usize = 128;
/// The most further requests for one stage in the status of a Solution.
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
    /// The host namespace of the pipeline.
    #[schemars(length(max = 63))]
    pub host: String,
    /// The name of the Stage.
    #[schemars(length(max = 253))]
    pub stage: String,
    /// The name of the Pipeline.
    #[schemars(length(max = 253))]
    pub pipeline: String,
    /// What runs there. Left out if nothing runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runs: Option<RunningVersion>,
    /// The version that was requested last. Accepted requests come before those that were never accepted.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The phase of the request, in one word for people.
    #[schemars(length(max = 64))]
    pub phase: String,
    /// The request's name.
    #[schemars(length(max = 253))]
    pub request: String,
    /// The uid of the request.
    #[serde(rename = "requestUID")]
    #[schemars(length(max = 128))]
    pub request_uid: String,
    /// The user name of the requester.
    #[schemars(length(max = 1024))]
    pub requester: String,
    /// Whether the request was never accepted. An accepted request takes the place of such a request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_accepted: bool,
    /// What the request waits for, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,
    /// Since when it waits for that. Left out once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub waiting_since: Option<Timestamp>,
    /// Until when it waits: a time that comes, as with a schedule, or a time-out. Left out if there is no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub waiting_until: Option<Timestamp>,
    /// Everybody who decided, gate by gate, in one line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = artifact::MAX_APPROVED_BY))]
    pub approved_by: Option<String>,
    /// The comments of the approval, for the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub approval_comments: Option<String>,
    /// The development Environment that the request names as its source. Left out if it names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub source_environment: Option<String>,
    /// What the request takes from a registry: the repository and the digest, `oci://…@sha256:…`, or the tag until that is known. Left out
    /// if it names no artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub artifact: Option<String>,
    /// What was decided at each gate, with comments and properties. In the order of the gates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["gate".into()]))]
    pub decisions: Vec<SolutionDecision>,
    /// When the request was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub asked_at: Option<Timestamp>,
    /// When the operator wrote this entry.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub at: Timestamp,
    /// Further requests for the stage: those under way first, then the newest. If one has to be dropped, it is a request of the person who
    /// has most of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_OTHERS))]
    pub others: Vec<OtherRequest>,
    /// How many further requests were dropped.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub others_omitted: i32,
}

/// A decision at a gate, as the requester sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SolutionDecision {
    /// The gate: `PreExportStep`, `Approval` or `PreDeploymentStep`.
    pub gate: DecidedGate,
    /// What was decided: `Completed`, `Approved` or `Rejected`.
    #[schemars(length(max = 16))]
    pub decision: String,
    /// The user name of whoever decided.
    #[schemars(length(max = 1024))]
    pub by: String,
    /// The person who decided, as the approver reports. Not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
    /// What the approver wrote to the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_COMMENTS))]
    pub comments: Option<String>,
    /// What else the approver wrote, for example a ticket number. The first 16.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "shown_properties")]
    pub properties: BTreeMap<String, String>,
}

/// The most properties of a decision in the status of a Solution.
pub const MOST_PROPERTIES: usize = 16;
/// The most characters of the name of a property, and of its value.
pub const MAX_PROPERTY: usize = 256;
/// The most characters of the comments of a decision.
pub const MAX_COMMENTS: usize = 4096;

fn shown_properties(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "What else the approver wrote, for example a ticket number. The first 16.",
        "maxProperties": MOST_PROPERTIES,
        "additionalProperties": {"type": "string", "maxLength": MAX_PROPERTY}
    })
}

/// A version of the Solution in development.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DevelopedVersion {
    /// The version.
    #[schemars(length(max = 63))]
    pub version: String,
    /// When `spec.version` was first set to it, as the operator saw it.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub first_seen_at: Timestamp,
}

/// A version that runs in a stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunningVersion {
    /// The version that was last deployed with success.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Since when it runs there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub since: Option<Timestamp>,
}

/// A further request for a stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OtherRequest {
    /// The version that was requested.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The phase of the request, in one word for people.
    #[schemars(length(max = 64))]
    pub phase: String,
    /// The request's name.
    #[schemars(length(max = 253))]
    pub request: String,
    /// The request's uid.
    #[serde(rename = "requestUID")]
    #[schemars(length(max = 128))]
    pub request_uid: String,
    /// The user name of the requester.
    #[schemars(length(max = 1024))]
    pub requester: String,
    /// Whether the request was never accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub never_accepted: bool,
    /// The beginning of what the request waits for, or how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_OTHER_MESSAGE))]
    pub message: Option<String>,
    /// When the request was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub asked_at: Option<Timestamp>,
    /// When the operator wrote this entry.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub at: Timestamp,
}

/// What runs in each stage, and what else was requested, in one line within the bound of the schema.
pub fn summary(deployments: &[SolutionDeployment]) -> String {
    let each: Vec<String> = deployments.iter().map(in_words).collect();
    bounds::text(&each.join(", "), MAX_SUMMARY)
}

fn in_words(entry: &SolutionDeployment) -> String {
    let SolutionDeployment { stage, version, phase, .. } = entry;
    match &entry.runs {
        Some(runs) if runs.version == *version && *phase == Phase::Succeeded => format!("{stage}: {version}"),
        Some(runs) => format!("{stage}: {} ({version} {phase})", runs.version),
        None => format!("{stage}: nothing ({version} {phase})"),
    }
}
