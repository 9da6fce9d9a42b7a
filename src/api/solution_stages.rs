//! What a Solution's status says about what can be asked for: the stages that the solution can go to, and what stored versions need.

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::settings::VariableType;
use super::stage::{Window, WindowType};

/// The most stages that a Solution can go to in its status.
pub const MOST_STAGES: usize = 64;
/// The most stored versions in the status of a Solution.
pub const MOST_VERSIONS: usize = 16;
/// The most characters of the line that says with whom a pipeline is shared.
pub const MAX_SHARED_WITH: usize = 512;
/// The most characters of a message about what stands in the way.
pub const MAX_OBSTACLE: usize = 512;
/// The most characters of a default value.
pub const MAX_DEFAULT: usize = 256;

/// A stage that the solution can go to from this namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SolutionStage {
    /// The host namespace of the pipeline. Requests are made there.
    #[schemars(length(max = 63))]
    pub host: String,
    /// The name of the Stage.
    #[schemars(length(max = 253))]
    pub stage: String,
    /// The name of the Pipeline.
    #[schemars(length(max = 253))]
    pub pipeline: String,
    /// The place of the stage in its pipeline, from 1.
    pub order: i32,
    /// The stage that a version must succeed in first. Left out on first stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub previous_stage: Option<String>,
    /// First stages: what the host calls this namespace, the Environment that versions are exported from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub source_environment: Option<String>,
    /// Who may ask for deployments through the pipeline, as its `sharedWith` says, in one line for people.
    #[schemars(length(max = MAX_SHARED_WITH))]
    pub shared_with: String,
    /// The version that may be asked for now: on first stages the one in development, later the one that runs in the previous stage. Left
    /// out if there is none, or if it is not higher than the one that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub next: Option<String>,
    /// What stands in the way of a request for this stage now. Empty if nothing does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["reason".into()]))]
    pub obstacles: Vec<StageObstacle>,
    /// Times at which deployments to the stage may or may not start. A request may be made at any time; it waits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<StageWindow>,
    /// Later stages: when the soak time of `next` since its success in the previous stage is over. A request may be made before; it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub soaked_at: Option<Timestamp>,
}

/// Something that stands in the way of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageObstacle {
    /// What it is, in one CamelCase word for programs.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What it is, and what to do about it.
    #[schemars(length(max = MAX_OBSTACLE))]
    pub message: String,
}

/// A recurring span of time in which deployments may or may not start.
// Without the rules of a Stage's own windows: in a status they would be checked for each of all stages.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageWindow {
    /// `Allow` (deployments start only inside such windows) or `Deny` (they don't start inside such windows).
    #[serde(rename = "type")]
    pub type_: WindowType,
    /// When it begins, as a cron expression of five fields.
    #[schemars(length(max = 128))]
    pub schedule: String,
    /// How long it lasts, for example `60h`.
    #[schemars(length(max = 64))]
    pub duration: String,
    /// The IANA time zone of the schedule. Left out: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
}

impl From<Window> for StageWindow {
    fn from(Window { type_, schedule, duration, time_zone }: Window) -> Self {
        Self { type_, schedule, duration, time_zone }
    }
}

impl From<StageWindow> for Window {
    fn from(StageWindow { type_, schedule, duration, time_zone }: StageWindow) -> Self {
        Self { type_, schedule, duration, time_zone }
    }
}

/// A stored version that may be asked for, and the settings that it was stored with. What is not stored yet needs what `spec` says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredVersion {
    /// The host that it is stored in.
    #[schemars(length(max = 63))]
    pub host: String,
    /// The version.
    #[schemars(length(max = 63))]
    pub version: String,
    /// Its environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub environment_variables: Vec<NeededVariable>,
    /// The names of its connection references. A request names a Secret of the target for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub connection_references: Vec<String>,
    /// True if its settings are too large to be listed here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub settings_omitted: bool,
}

/// An environment variable that a stored version has.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NeededVariable {
    /// The variable's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The type of its value.
    #[serde(rename = "type", default)]
    pub type_: VariableType,
    /// Whether a request must give a value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub required: bool,
    /// The value if a request gives none. Cut if it is long. Left out: the exported value stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_DEFAULT))]
    pub default: Option<String>,
}
