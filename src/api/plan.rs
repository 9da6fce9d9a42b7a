//! The plan of a deployment: what was found out before a person is asked.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::stage::OnFailure;

/// The most characters of what a stage asks for, as a plan holds it.
pub const MAX_TERMS: usize = 1024;
/// The most objects that a plan lists.
pub const MAX_OBJECTS: usize = 200;
/// The most Secrets and accounts that a plan lists.
pub const MAX_ACCESS: usize = 64;
/// The most fields that a plan lists of one object.
pub const MAX_FIELDS: usize = 16;
/// The most characters of the pointer to a field.
pub const MAX_POINTER: usize = 512;
/// The most characters of a value.
pub const MAX_VALUE: usize = 256;
/// The most characters of the name in a finding.
pub const MAX_NAME: usize = 253;
/// The most characters of the message of a finding or an error.
pub const MAX_MESSAGE: usize = 2048;

/// What a deployment will do. Approvals are bound to its hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Hash over everything that an approval covers: request, artifact, settings, target, delegate, stage, the artifact that is replaced,
    /// the objects that are deleted, recreated, adopted or released, and those that are cluster-scoped.
    #[schemars(length(max = 71))]
    pub hash: String,
    /// The digest of the artifact that is deployed.
    #[schemars(length(max = 71))]
    pub artifact_digest: String,
    /// The digest over the values of the environment variables and connection references.
    #[schemars(length(max = 71))]
    pub settings_digest: String,
    /// The uid of the target namespace. A namespace that is created again under the same name has another one.
    #[schemars(length(max = 128))]
    pub environment_id: String,
    /// The uid of the Stage. A stage that is created again under the same name has another one.
    #[serde(rename = "stageUID")]
    #[schemars(length(max = 128))]
    pub stage_uid: String,
    /// The user name of the identity that will deploy.
    #[schemars(length(max = 1024))]
    pub delegate: String,
    /// The digest of the artifact that is replaced. Left out if nothing is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub replaces: Option<String>,
    /// The version that is replaced. Left out if nothing is replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub replaces_version: Option<String>,
    /// What happens if the deployment fails, as the stage said when the plan was made. Left out: `Keep`.
    #[serde(default, skip_serializing_if = "is_keep")]
    pub on_failure: OnFailure,
    /// The uid of the Environment.
    #[serde(rename = "environmentUID", default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 128))]
    pub environment_uid: String,
    /// What else of the stage the hash covers, in words: how it delegates, its target, time-out, force and sharing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_TERMS))]
    pub terms: String,
    /// The digest of the list of all objects that are deleted, created anew or cluster-scoped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 71))]
    pub marked_digest: String,
    /// How many objects will be created.
    #[serde(default)]
    pub create: i32,
    /// How many objects will be changed.
    #[serde(default)]
    pub update: i32,
    /// How many objects will be deleted.
    #[serde(default)]
    pub delete: i32,
    /// How many objects will be deleted and created anew, because one of their fields is immutable.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub recreate: i32,
    /// How many objects that the solution did not put there will be adopted, because their owner marked them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub adopt: i32,
    /// How many adopted objects will be released, because the version does not have them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub release: i32,
    /// How many objects are not written, because they are as they should be.
    #[serde(default)]
    pub unchanged: i32,
    /// The objects that change: all that are deleted, created anew, adopted or released, and the first of the others. At most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_OBJECTS))]
    pub objects: Vec<PlannedObject>,
    /// How many more objects change.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub objects_omitted: i32,
    /// How many changed fields are listed without their values, because there are too many values or they are too long.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub values_omitted: i32,
    /// Secrets and `ServiceAccounts` of the target that the solution uses and its objects there do not use yet. Optional ones count whether
    /// they exist or not. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_ACCESS))]
    pub access: Vec<AccessedObject>,
    /// How many more Secrets and `ServiceAccounts` it uses.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub access_omitted: i32,
    /// What the approver should know, and what prevents the deployment, one entry for each object. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub results: Vec<PlanResult>,
    /// How many more findings there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub results_omitted: i32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(super) fn is_keep(value: &OnFailure) -> bool {
    *value == OnFailure::Keep
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
pub(super) fn is_zero(value: &i32) -> bool {
    *value == 0
}

/// What the deployment does with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum PlannedAction {
    /// It does not exist and will be created.
    Create,
    /// It exists and will be changed.
    Update,
    /// It exists, the new version does not have it, and it will be deleted.
    Delete,
    /// It exists, the version changes an immutable field, and it will be deleted and created anew.
    Recreate,
    /// It exists, the solution did not put it there, and its owner marked it for adoption: it is changed, and never deleted.
    Adopts,
    /// It was adopted, and the new version does not have it: it stays, without the fields that the solution set.
    Releases,
    /// It is as it should be, and is not written.
    Unchanged,
}

/// An object of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// What the deployment does with the object.
    pub action: PlannedAction,
    /// The object's API version, for example `apps/v1`.
    #[schemars(length(max = 316))]
    pub api_version: String,
    /// The object's kind, for example `Deployment`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The object's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Whether the object is cluster-scoped. If not, it is in the target's namespace.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cluster_scoped: bool,
    /// The fields that change, as JSON pointers. The first 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FIELDS), inner(length(max = MAX_POINTER)))]
    pub fields: Vec<String>,
    /// The values of these fields before and after. Values of fields with names like those of secrets are hidden. The values of all objects
    /// together have at most 64 KiB.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_FIELDS))]
    pub changes: Vec<FieldChange>,
}

/// The values of a field that changes. A text is shown as it is, anything else as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldChange {
    /// The field, as a JSON pointer.
    #[schemars(length(max = MAX_POINTER))]
    pub field: String,
    /// The value now. Left out if the field does not exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_VALUE))]
    pub old: Option<String>,
    /// The value after the deployment. Left out if the field is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_VALUE))]
    pub new: Option<String>,
}

/// An object of the target that the solution uses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessedObject {
    /// What the target provides: `Secret` or `ServiceAccount`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The name of the Secret or `ServiceAccount` in the target.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The object of the solution that uses it, by kind and name.
    #[schemars(length(max = 400))]
    pub used_by: String,
}

/// Something that the approver should know, or that prevents the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanResult {
    /// The kind of the object that this is about, or another word for what it is about.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The name of the object that this is about.
    #[schemars(length(max = MAX_NAME))]
    pub name: String,
    /// What was found, in one CamelCase word for programs.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What was found, and what to do about it.
    #[schemars(length(max = MAX_MESSAGE))]
    pub message: String,
}
