//! What a Solution's status says about requests that only plan.

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::plan::{PlanResult, PlannedAction};

/// The most plans in the status of a Solution.
pub const MOST_PLANS: usize = 8;
/// The most objects of a plan there.
pub const MOST_OBJECTS: usize = 64;
/// The most results of a plan there.
pub const MOST_RESULTS: usize = 16;
/// The most characters of what is said about a plan.
pub const MAX_MESSAGE: usize = 4096;

/// A request that only plans, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SolutionPlan {
    /// The host namespace of the pipeline.
    #[schemars(length(max = 63))]
    pub host: String,
    /// The name of the Stage.
    #[schemars(length(max = 253))]
    pub stage: String,
    /// The name of the Pipeline.
    #[schemars(length(max = 253))]
    pub pipeline: String,
    /// The version that is planned.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The phase of the request: `Planned` if the plan could be carried out.
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
    /// What it waits for, or what would be done, in one line.
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
    /// The objects that would change, without values. The first 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_OBJECTS))]
    pub objects: Vec<PlannedChange>,
    /// How many more objects would change.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub objects_omitted: i32,
    /// What an approver would be told, or what prevents the deployment. The first 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MOST_RESULTS))]
    pub results: Vec<PlanResult>,
    /// How many more results there are.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub results_omitted: i32,
    /// When the request was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub asked_at: Option<Timestamp>,
    /// When the operator wrote this entry.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub at: Timestamp,
}

/// An object that a plan would change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// What would be done with it.
    pub action: PlannedAction,
    /// Its kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
}
