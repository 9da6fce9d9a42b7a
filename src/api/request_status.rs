//! The status of a `DeploymentRequest`: what the operator observed and did, and what approvers decided.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::approvers::Approver;
use super::condition::Condition;
use super::plan::{self, Plan, PlanResult};

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

/// What became of the request. Approvers write the decisions; the operator writes everything else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRequestStatus {
    /// What the operator writes.
    #[serde(flatten)]
    pub run: RunStatus,
    /// Gate 1, decided by a holder of `approve` on the stage. Written once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_export_step: Option<StepDecision>,
    /// Gate 2, decided by the delegate, or by the approvers that the stage names. Written once.
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

/// The part of the status that the operator writes. It contains no decisions, so no write of the operator can carry one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStatus {
    /// The generation that this status was made on; -1 before the first time.
    #[serde(default = "super::environment::unobserved")]
    pub observed_generation: i64,
    /// Where the request is, in one word for people: Pending, `AwaitingPreExportStep`, `AwaitingApproval`, `AwaitingPreDeploymentStep`,
    /// Queued, Deploying, `RollingBack`, Succeeded, Planned, Failed, Rejected or Canceled. Programs read the conditions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub phase: String,
    /// What the request waits for, or how it ended, in one short line for tables. The message of the condition `Succeeded` says it in full.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub waiting_for: String,
    /// What the request waits for, since when and until when. Left out once it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Wait>,
    /// The repository and the digest that the tag of `spec.artifact.oci` means for this request. Written once, before anybody is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub source: Option<String>,
    /// The Artifact that is deployed. Set once it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactReference>,
    /// What the deployment will do, or did. Approvals are bound to its hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The gates that were opened. The operator writes each once, when it opens.
    #[serde(default, skip_serializing_if = "GateStatus::is_empty")]
    pub gates: GateStatus,
    /// The user name of the identity that deploys. Set when the request claims its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub deployed_by: Option<String>,
    /// Everybody who decided, gate by gate, in one line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub approved_by: Option<String>,
    /// When the request claimed its target and began to deploy. From then on it can't be canceled or deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub start_time: Option<Timestamp>,
    /// When the request ended. From then on the whole status is frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub end_time: Option<Timestamp>,
    /// The rollback that was started when the deployment failed. Written before the first write of the rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<Rollback>,
    /// What failed in the target, one entry for each object. At most 64; `errorsOmitted` counts the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ERRORS))]
    pub errors: Vec<ObjectError>,
    /// How many more objects failed.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub errors_omitted: i32,
    /// `Accepted`, `PreExportStepCompleted`, `Exported`, `Validated`, `Approved`, `PreDeploymentStepCompleted`, `Deployed`, `Shared`,
    /// `Succeeded` (the summary; its message says what the request waits for), `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A wait. `waitingFor` says it in a line, and the message of the condition `Succeeded` in full: for what, on whom, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// What it waits for, in one CamelCase word for programs: the reason of the condition `Succeeded`.
    #[schemars(length(max = 316))]
    pub reason: String,
    /// Since when it has waited for that without a break.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub since: Timestamp,
    /// Until when it waits: a time that comes, as with a schedule, or a time-out. Left out if there is no such time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub until: Option<Timestamp>,
}

/// The rollback to the version that was replaced.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollback {
    /// The version that is restored.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The digest of the restored version's artifact.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// When the rollback started.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub since: Timestamp,
    /// Why the deployment failed, in one CamelCase word for programs.
    #[schemars(length(max = 316))]
    pub reason: String,
    /// Why the deployment failed, for people.
    #[schemars(length(max = MAX_ROLLBACK_MESSAGE))]
    pub message: String,
}

/// An Artifact of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactReference {
    /// The name of the Artifact, in the same namespace.
    #[schemars(length(max = 253))]
    pub name: String,
    /// `sha256:` and the hash over the artifact's canonical bytes.
    #[schemars(length(max = 71))]
    pub digest: String,
}

/// What failed at one object of the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectError {
    /// The kind of the object that failed.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The name of the object that failed.
    #[schemars(length(max = plan::MAX_NAME))]
    pub name: String,
    /// Why it failed, in one CamelCase word for programs.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Why it failed, and what to do about it.
    #[schemars(length(max = plan::MAX_MESSAGE))]
    pub message: String,
}

impl From<PlanResult> for ObjectError {
    fn from(PlanResult { kind, name, reason, message }: PlanResult) -> Self {
        Self { kind, name, reason, message }
    }
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

/// An opened gate. It pins what admission needs to check a decision.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// The user name of the delegate, if the delegate may decide. Left out at gates 1 and 3, which any holder of `approve` on the stage
    /// decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub approver: Option<String>,
    /// The uid of that user. Left out if it has none.
    #[serde(rename = "approverUID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub approver_uid: Option<String>,
    /// Who else may decide, as the stage named them when the gate opened. People who are named later decide later requests.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub approvers: Vec<Approver>,
    /// The hash of the plan that is decided on. Left out if there is no plan yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub plan_hash: Option<String>,
    /// Whether the requester may decide, as the stage said when the gate opened.
    #[serde(default)]
    pub allow_self_approval: bool,
    /// When the gate was opened. The stage's `gates.timeout` counts from here.
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
    /// `Approved`: this plan may be deployed as the delegate. `Rejected`: the request ends.
    pub decision: ApprovalDecision,
    /// Text for the requester. It is shown on the Solution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub comments: Option<String>,
    /// More for the requester and for those who can read the host, for example a ticket number. Shown on the Solution.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounded_properties")]
    pub properties: BTreeMap<String, String>,
    /// Who decided. Admission fills it from the caller, and refuses anybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub by: Option<String>,
    /// The person who decided, as the approver reports. Shown, not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
    /// The hash of the plan that was decided on. Admission fills it if it is left out, and refuses another one. Programs should send the
    /// hash that they showed.
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
    /// `Completed`: the request goes on. `Rejected`: the request ends.
    pub decision: StepOutcome,
    /// Text for the requester. It is shown on the Solution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub comments: Option<String>,
    /// More for the requester and for those who can read the host, for example a ticket number. Shown on the Solution.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounded_properties")]
    pub properties: BTreeMap<String, String>,
    /// Who decided. Admission fills it from the caller, and refuses anybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub by: Option<String>,
    /// The person who decided, as the approver reports. Shown, not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
}

pub(super) fn bounded_properties(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "description": "More for the requester and for those who can read the host, for example a ticket number. Shown on the Solution.",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 1024}
    })
}
