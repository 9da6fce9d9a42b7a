//! `Stage`: one step of a pipeline.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::approvers::StageApproval;
use super::condition::Condition;
use super::duration;
use super::reference::{Identity, SubjectKind};

/// A Stage is one step of a pipeline. It says where to deploy, after which stage, through which gates and as whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pilotage.dev",
    version = "v1alpha1",
    kind = "Stage",
    plural = "stages",
    shortname = "stg",
    category = "pilotage",
    namespaced,
    status = "StageStatus",
    derive = "PartialEq",
    doc = "One step of a pipeline: the target environment, the previous stage, the gates at which a request waits, and the delegate that deploys.",
    printcolumn(name = "Pipeline", type_ = "string", json_path = ".spec.pipeline", description = "The pipeline it is part of"),
    printcolumn(
        name = "Previous",
        type_ = "string",
        json_path = ".spec.previousStage",
        description = "The stage that must have succeeded before"
    ),
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.targetEnvironment", description = "The Environment it deploys to"),
    printcolumn(
        name = "Delegate",
        type_ = "string",
        json_path = ".spec.delegatedDeployment.type",
        description = "Who deploys: ServicePrincipal, StageOwner, or the requester where empty"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether it can deploy"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready or not"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        description = "What to do about it",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!self.preExportStepRequired || !has(self.previousStage)")
    .message("preExportStepRequired is for the first stage: later stages deploy what the first exported"))]
#[x_kube(validation = Rule::new("!has(self.approval) || has(self.delegatedDeployment)")
    .message("approval says who approves in the delegate's place: without delegatedDeployment the requester deploys, and nobody is asked"))]
pub struct StageSpec {
    /// The Pipeline that the stage is part of.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub pipeline: String,
    /// What the stage is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The stage that must have succeeded first with the same artifact. Left out on the first stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub previous_stage: Option<String>,
    /// The Environment, of type Target, that the stage deploys to.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub target_environment: String,
    /// Gate 1: whether a request waits, before the export, for a holder of `approve` on this stage. First stages only.
    #[serde(default)]
    pub pre_export_step_required: bool,
    /// Who deploys in place of the requester. If it is set, a request waits for that delegate's approval, unless `approval` says otherwise.
    /// Left out: the requester deploys, with their own rights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated_deployment: Option<DelegatedDeployment>,
    /// Who decides gate 2, if that is not the delegate alone. The delegate deploys in each case. Only for stages with
    /// `delegatedDeployment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<StageApproval>,
    /// Gate 3: whether a request waits, before the deployment, for a holder of `approve` on this stage.
    #[serde(default)]
    pub pre_deployment_step_required: bool,
    /// How long the gates stay open, and whether requesters may decide their own requests.
    #[serde(default)]
    pub gates: Gates,
    /// Times at which deployments may or may not start. A request that may not start now is queued.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<Window>,
    /// The least time since the artifact first succeeded in the previous stage, for example `1h`. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = duration::MAX_LENGTH), regex(pattern = duration::PATTERN))]
    pub soak: Option<String>,
    /// How long a deployment may take, and what happens when it fails.
    #[serde(default)]
    pub deployment: DeploymentOptions,
    /// What a requester may ask to be shared after the deployment. Bindings that come with a solution may give people, groups and accounts
    /// of other namespaces no more than this either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sharing: Option<SharingPolicy>,
    /// Who is responsible for the stage. Admission fills it from the caller if it is left out, and refuses anybody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Identity>,
}

/// The kinds of delegate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum DelegateType {
    /// A `ServiceAccount` of the host.
    ServicePrincipal,
    /// The owner of the stage.
    StageOwner,
}

/// Who deploys in place of the requester.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.type == 'ServicePrincipal') == has(self.serviceAccountName)")
    .message("serviceAccountName is for type ServicePrincipal, and required there"))]
pub struct DelegatedDeployment {
    /// `ServicePrincipal` (a `ServiceAccount` of the host) or `StageOwner` (the user in `owner`).
    #[serde(rename = "type")]
    pub type_: DelegateType,
    /// The `ServiceAccount` of the host that deploys and approves. Required for type `ServicePrincipal`, forbidden otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
}

/// How the gates of a stage behave.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gates {
    /// How long a gate stays open before the request fails, for example `72h`.
    #[serde(default = "default_gate_timeout")]
    #[schemars(length(max = duration::MAX_LENGTH), regex(pattern = duration::PATTERN))]
    pub timeout: String,
    /// Whether the requester may decide their own request, at all three gates.
    #[serde(default)]
    pub allow_self_approval: bool,
}

impl Default for Gates {
    fn default() -> Self {
        Self { timeout: default_gate_timeout(), allow_self_approval: false }
    }
}

fn default_gate_timeout() -> String {
    "72h".to_owned()
}

/// Whether a window allows or forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum WindowType {
    /// Deployments start only inside such windows.
    Allow,
    /// Deployments don't start inside such windows. `Deny` wins over `Allow`.
    Deny,
}

/// A recurring span of time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(super::schedule::rule("self.schedule")).message(super::schedule::FORM))]
#[x_kube(validation = Rule::new(super::schedule::zone_rule("self.timeZone")).message(super::schedule::ZONE_FORM))]
#[x_kube(validation = Rule::new("self.duration.matches('[1-9]')").message("a window lasts some time: duration is more than zero, for example 60h"))]
pub struct Window {
    /// `Allow` (deployments start only inside such windows) or `Deny` (they don't start inside such windows).
    #[serde(rename = "type")]
    pub type_: WindowType,
    /// When it begins, as a cron expression of five fields.
    #[schemars(length(min = 9, max = 128))]
    pub schedule: String,
    /// How long it lasts, for example `60h`.
    #[schemars(length(max = duration::MAX_LENGTH), regex(pattern = duration::PATTERN))]
    pub duration: String,
    /// The IANA time zone of the schedule, for example `Europe/Prague`. Left out: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
}

/// What happens when a deployment fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum OnFailure {
    /// What was applied stays.
    #[default]
    Keep,
    /// The artifact that was replaced is restored, with its settings.
    Rollback,
}

/// How a deployment runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentOptions {
    /// How long to wait until the deployed objects are healthy, for example `10m`.
    #[serde(default = "default_deployment_timeout")]
    #[schemars(length(max = duration::MAX_LENGTH), regex(pattern = duration::PATTERN))]
    pub timeout: String,
    /// What happens when the deployment fails: `Keep` (what was applied stays) or `Rollback` (the replaced version is restored).
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Whether the deployment takes over fields that another field manager owns. Otherwise such a conflict fails the request.
    #[serde(default)]
    pub force: bool,
}

impl Default for DeploymentOptions {
    fn default() -> Self {
        Self { timeout: default_deployment_timeout(), on_failure: OnFailure::Keep, force: false }
    }
}

fn default_deployment_timeout() -> String {
    "10m".to_owned()
}

/// What a requester may ask to be shared after the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SharingPolicy {
    /// The `ClusterRoles` that may be bound in the target.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub cluster_roles: Vec<String>,
    /// The kinds of subject to which they may be bound.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub subject_kinds: Vec<SubjectKind>,
}

/// Whether the stage can deploy.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// The generation that this status was made on; -1 before the first time.
    #[serde(default = "super::environment::unobserved")]
    pub observed_generation: i64,
    /// The target as it was when the owner last wrote the stage. If the target becomes another one, the stage waits until its owner writes
    /// it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<PinnedTarget>,
    /// `Ready` (the summary), `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A target as it was when the owner last wrote the stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PinnedTarget {
    /// The generation of the stage with which the owner confirmed the target.
    pub generation: i64,
    /// The uid of the Environment that the owner confirmed.
    #[serde(rename = "environmentUID")]
    #[schemars(length(max = 128))]
    pub environment_uid: String,
    /// The uid of the target namespace that the owner confirmed.
    #[schemars(length(max = 128))]
    pub environment_id: String,
    /// The cluster of the target, by the name of its kubeconfig's Secret. Left out for the host's own cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub cluster: Option<String>,
}
