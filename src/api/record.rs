//! The record of a deployment: what outlives the request that asked for it, in the status of its Artifact.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::plan::{MAX_NAME, Plan, is_zero};
use super::request_status::bounded_properties;
use super::settings::{ConnectionReference, DeploymentSettings, VariableValue};
use super::stage::OnFailure;

/// How a deployment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Outcome {
    /// All objects were applied and healthy.
    Succeeded,
    /// The deployment failed after it had claimed its target.
    Failed,
}

/// A gate of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DecidedGate {
    /// Gate 1, before the export.
    PreExportStep,
    /// Gate 2, the approval.
    Approval,
    /// Gate 3, before the deployment.
    PreDeploymentStep,
}

/// Who decided a gate of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedDecision {
    /// The gate that was decided.
    pub gate: DecidedGate,
    /// The user name of whoever decided, as the API server authenticated it.
    #[schemars(length(max = 1024))]
    pub by: String,
    /// The person who decided, as the approver reported. Not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
    /// When the gate was opened. Left out by older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub opened_at: Option<Timestamp>,
    /// When the operator saw the decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub at: Option<Timestamp>,
    /// What the approver said to the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub comments: Option<String>,
    /// What the approver noted for those who can read the host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounded_properties")]
    pub properties: BTreeMap<String, String>,
}

/// The most characters of who decided, in one line.
pub const MAX_APPROVED_BY: usize = 8192;
/// The most characters of why a deployment failed, in its record.
pub const MAX_MESSAGE: usize = 1024;

/// The most findings, and the most errors, of a record.
pub const MAX_FINDINGS: usize = 16;
/// The most characters of the message of one of them.
pub const MAX_FINDING_MESSAGE: usize = 512;

/// The plan that was carried out, in numbers. The objects were listed in the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedPlan {
    /// The hash that the approval is bound to.
    #[schemars(length(max = 71))]
    pub hash: String,
    /// The digest of the artifact that was replaced. Left out if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub replaces: Option<String>,
    /// The version that was replaced. Left out if nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub replaces_version: Option<String>,
    /// What was to happen if the deployment failed. Left out: `Keep`.
    #[serde(default, skip_serializing_if = "super::plan::is_keep")]
    pub on_failure: OnFailure,
    /// How many objects were to be created.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub create: i32,
    /// How many objects were to be changed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub update: i32,
    /// How many objects were to be deleted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub delete: i32,
    /// How many objects were to be deleted and created anew.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recreate: i32,
    /// How many objects were to be adopted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub adopt: i32,
    /// How many adopted objects were to be released.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub release: i32,
    /// How many objects were as they should be already, and were not written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unchanged: i32,
}

impl From<&Plan> for RecordedPlan {
    fn from(plan: &Plan) -> Self {
        Self {
            hash: plan.hash.clone(),
            replaces: plan.replaces.clone(),
            replaces_version: plan.replaces_version.clone(),
            on_failure: plan.on_failure,
            create: plan.create,
            update: plan.update,
            delete: plan.delete,
            recreate: plan.recreate,
            adopt: plan.adopt,
            release: plan.release,
            unchanged: plan.unchanged,
        }
    }
}

/// What validation told the approver, or what failed in the target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedFinding {
    /// The kind of the object.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The name of the object.
    #[schemars(length(max = MAX_NAME))]
    pub name: String,
    /// What it is, in one CamelCase word for programs.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What it is, for people; the first 512 characters.
    #[schemars(length(max = MAX_FINDING_MESSAGE))]
    pub message: String,
}

/// The settings with which a version was deployed, as the request gave them. They contain names of Secrets, and never what is in one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedSettings {
    /// The values that were given to environment variables. The others had the defaults of their definitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub environment_variables: Vec<VariableValue>,
    /// The Secrets of the target that were given to connection references.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub connection_references: Vec<ConnectionReference>,
}

impl RecordedSettings {
    /// What a request gave. `None` if it gave nothing.
    pub fn of(settings: Option<&DeploymentSettings>) -> Option<Self> {
        let settings = settings?;
        let recorded = Self {
            environment_variables: settings.environment_variables.clone(),
            connection_references: settings.connection_references.clone(),
        };
        (recorded != Self::default()).then_some(recorded)
    }
}

impl From<RecordedSettings> for DeploymentSettings {
    fn from(recorded: RecordedSettings) -> Self {
        Self { environment_variables: recorded.environment_variables, connection_references: recorded.connection_references }
    }
}

/// One deployment of the artifact. Stage order is decided from these records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRecord {
    /// The uid of the request. There is one record for each request.
    #[serde(rename = "requestUID")]
    #[schemars(length(max = 128))]
    pub request_uid: String,
    /// The request's name.
    #[schemars(length(max = 253))]
    pub request: String,
    /// The Pipeline's name.
    #[schemars(length(max = 253))]
    pub pipeline: String,
    /// The Stage's name.
    #[schemars(length(max = 253))]
    pub stage: String,
    /// The uid of the Stage. A stage that is created again under the same name has another one.
    #[serde(rename = "stageUID")]
    #[schemars(length(max = 128))]
    pub stage_uid: String,
    /// The Environment's name.
    #[schemars(length(max = 253))]
    pub environment: String,
    /// The uid of the Environment. An Environment that is created again under the same name has another one.
    #[serde(rename = "environmentUID")]
    #[schemars(length(max = 128))]
    pub environment_uid: String,
    /// The uid of the target namespace. A namespace that is created again under the same name has another one.
    #[schemars(length(max = 128))]
    pub environment_id: String,
    /// The cluster of the target, by the name of its kubeconfig's Secret. Left out for the host's own cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub cluster: Option<String>,
    /// The digest of the settings with which it was deployed.
    #[schemars(length(max = 71))]
    pub settings_digest: String,
    /// These settings, as the request gave them. Left out if it gave none. If they were left out for want of room, `detailsOmitted` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<RecordedSettings>,
    /// The user name of the requester.
    #[schemars(length(max = 1024))]
    pub requested_by: String,
    /// The person on whose behalf was asked, as the requester reported. Not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
    /// When the request was made. Left out by older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub asked_at: Option<Timestamp>,
    /// Everybody who decided, gate by gate, in one line for people. Old records have only the approver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_APPROVED_BY))]
    pub approved_by: Option<String>,
    /// The decisions at the gates, in the order of the gates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub decisions: Vec<RecordedDecision>,
    /// The user name of the identity that deployed.
    #[schemars(length(max = 1024))]
    pub deployed_by: String,
    /// When the request claimed its target.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub started_at: Timestamp,
    /// When the deployment ended.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub ended_at: Timestamp,
    /// How the deployment ended: `Succeeded` or `Failed`.
    pub outcome: Outcome,
    /// Why the deployment failed, in one CamelCase word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub reason: Option<String>,
    /// Why the deployment failed, for people; the first 1,024 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: Option<String>,
    /// The version that a rollback restored after the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub restored: Option<String>,
    /// When the deployment had failed and its rollback began. Left out if none began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub failed_at: Option<Timestamp>,
    /// When the version first succeeded in this stage and environment. Only on records of successes; it is kept if the record of that first
    /// success is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub first_succeeded_at: Option<Timestamp>,
    /// The plan that was carried out, in numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<RecordedPlan>,
    /// What validation told the approver; the first 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FINDINGS))]
    pub findings: Vec<RecordedFinding>,
    /// How many more findings there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub findings_omitted: i32,
    /// What failed in the target; the first 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FINDINGS))]
    pub errors: Vec<RecordedFinding>,
    /// How many more errors there were.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errors_omitted: i32,
    /// Whether settings, comments, properties, findings and errors were left out, because the artifact's record had no room for them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub details_omitted: bool,
}

impl DeploymentRecord {
    /// Leaves out what only people read, and what is needed only to deploy the same again.
    pub fn drop_details(&mut self) {
        let before = self.clone();
        self.settings = None;
        self.findings_omitted = self.findings_omitted.saturating_add(count(std::mem::take(&mut self.findings).len()));
        self.errors_omitted = self.errors_omitted.saturating_add(count(std::mem::take(&mut self.errors).len()));
        for decision in &mut self.decisions {
            decision.comments = None;
            decision.properties.clear();
        }
        self.details_omitted |= *self != before;
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
