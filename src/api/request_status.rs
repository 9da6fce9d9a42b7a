//! The status of a `DeploymentRequest`: what the operator observed and did, and what approvers decided.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::approvers::Approver;
use super::condition::Condition;
use super::plan::{self, Plan};

/// Condition types of a request, in the order of its life.
pub mod condition_types {
    /// It may be carried out.
    pub const ACCEPTED: &str = "Accepted";
    /// Gate 1 was passed.
    pub const PRE_EXPORT_STEP_COMPLETED: &str = "PreExportStepCompleted";
    /// The artifact is stored.
    pub const EXPORTED: &str = "Exported";
    /// The dry run as the delegate succeeded.
    pub const VALIDATED: &str = "Validated";
    /// Gate 2 was passed.
    pub const APPROVED: &str = "Approved";
    /// Gate 3 was passed.
    pub const PRE_DEPLOYMENT_STEP_COMPLETED: &str = "PreDeploymentStepCompleted";
    /// All objects are applied and healthy.
    pub const DEPLOYED: &str = "Deployed";
    /// What was asked to be shared is shared.
    pub const SHARED: &str = "Shared";
    /// The summary.
    pub const SUCCEEDED: &str = "Succeeded";
    /// kstatus: it is on its way.
    pub const RECONCILING: &str = "Reconciling";
    /// kstatus: it will not get further.
    pub const STALLED: &str = "Stalled";
}

/// What became of the request. The decisions belong to approvers, all else to the operator.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRequestStatus {
    /// What the operator writes.
    #[serde(flatten)]
    pub run: RunStatus,
    /// Gate 1, decided by a holder of `approve` on the stage. Written once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_export_step: Option<StepDecision>,
    /// Gate 2, decided by the delegate, or by whom the stage names. Written once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// Gate 3, decided by a holder of `approve` on the stage. Written once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_deployment_step: Option<StepDecision>,
}

/// The most errors that a status lists.
pub const MAX_ERRORS: usize = 64;
/// The most characters of why a deployment is rolled back.
pub const MAX_ROLLBACK_MESSAGE: usize = 4096;

/// The part of the status that the operator writes. It has no decisions in it, so that no write of the
/// operator can carry one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// The generation that this status was made on; -1 before the first time.
    #[serde(default = "super::environment::unobserved")]
    pub observed_generation: i64,
    /// Where it is, in one word for people: Pending, `AwaitingPreExportStep`, `AwaitingApproval`,
    /// `AwaitingPreDeploymentStep`, Queued, Deploying, `RollingBack`, Succeeded, Failed, Rejected or Canceled. Programs read the conditions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub phase: String,
    /// What it waits for, or how it ended, in one short line for tables; the message of the condition `Succeeded` says it in full.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub waiting_for: String,
    /// What the tag of `spec.artifact.oci` means for this request: the repository and a digest. Written once, before anybody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub source: Option<String>,
    /// The artifact that is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactReference>,
    /// What the deployment will do, or did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The gates that were opened, each written once, when it opens.
    #[serde(default, skip_serializing_if = "GateStatus::is_empty")]
    pub gates: GateStatus,
    /// The identity that deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub deployed_by: Option<String>,
    /// Everybody who decided, gate by gate, in one line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub approved_by: Option<String>,
    /// When the request claimed its target and began to deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub start_time: Option<Timestamp>,
    /// When it ended. From then on the whole status is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub end_time: Option<Timestamp>,
    /// The way back that was begun when the deployment failed. Written before the first write of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// What failed in the target, one entry an object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ERRORS))]
    pub errors: Vec<ObjectError>,
    /// How many further objects failed that are not listed.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub errors_omitted: i32,
    /// `Accepted`, `PreExportStepCompleted`, `Exported`, `Validated`, `Approved`, `PreDeploymentStepCompleted`, `Deployed`, `Shared`,
    /// `Succeeded` (the summary; its message says what the request waits for), `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The way back to the version that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// The version that is restored.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The digest of its artifact.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// Since when.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub since: Timestamp,
    /// Why the deployment failed, in one word.
    #[schemars(length(max = 316))]
    pub reason: String,
    /// Why the deployment failed.
    #[schemars(length(max = MAX_ROLLBACK_MESSAGE))]
    pub message: String,
}

/// An Artifact of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactReference {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its digest.
    #[schemars(length(max = 71))]
    pub digest: String,
}

/// What failed at one object of the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectError {
    /// The object's kind.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The object's name.
    #[schemars(length(max = plan::MAX_NAME))]
    pub name: String,
    /// Why, in one word.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why, for people.
    #[schemars(length(max = plan::MAX_MESSAGE))]
    pub message: String,
}

/// The gates that were opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct GateStatus {
    /// Gate 1, before the export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_export_step: Option<Gate>,
    /// Gate 2, the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Gate>,
    /// Gate 3, before the deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_deployment_step: Option<Gate>,
}

impl GateStatus {
    /// Whether no gate was opened.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An opened gate: what admission needs to judge a decision, pinned.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// The delegate, where it may decide. Left out at the other gates, which any holder of `approve` on the stage decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub approver: Option<String>,
    /// The uid of that user, where it has one.
    #[serde(rename = "approverUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub approver_uid: Option<String>,
    /// Who else may decide, as the stage named them when the gate opened.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub approvers: Vec<Approver>,
    /// The hash of the plan that is decided on; left out before there is a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub plan_hash: Option<String>,
    /// Whether the requester may decide.
    #[serde(default)]
    pub allow_self_approval: bool,
    /// When it was opened.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub opened_at: Timestamp,
}

/// The outcome of gate 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ApprovalDecision {
    /// This plan may be carried out with the delegate's authority.
    Approved,
    /// It may not; the request ends.
    Rejected,
}

/// The outcome of gates 1 and 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum StepOutcome {
    /// The request goes on.
    Completed,
    /// The request ends.
    Rejected,
}

/// A decision at gate 2.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
// A decision can't be taken back: what the schema does not know is not dropped, so that admission sees it and refuses.
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct Approval {
    /// `Approved` or `Rejected`.
    pub decision: ApprovalDecision,
    /// For the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub comments: Option<String>,
    /// For those who can read the host, for example a ticket number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounded_properties")]
    pub properties: BTreeMap<String, String>,
    /// Who decided. Filled when left out; refused when it is not the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub by: Option<String>,
    /// The person who decided, as the approver reports. Shown, not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
    /// The hash of the plan that was decided on. Filled when left out; refused when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub plan_hash: Option<String>,
}

/// A decision at gates 1 and 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
// A decision can't be taken back: what the schema does not know is not dropped, so that admission sees it and refuses.
#[schemars(extend("x-kubernetes-preserve-unknown-fields" = true))]
pub struct StepDecision {
    /// `Completed` or `Rejected`.
    pub decision: StepOutcome,
    /// For the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub comments: Option<String>,
    /// For those who can read the host, for example a ticket number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounded_properties")]
    pub properties: BTreeMap<String, String>,
    /// Who decided. Filled when left out; refused when it is not the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub by: Option<String>,
    /// The person who decided, as the approver reports. Shown, not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
}

fn bounded_properties(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "For those who can read the host, for example a ticket number.",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 1024}
    })
}
