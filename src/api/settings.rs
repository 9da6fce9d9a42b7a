//! The settings that a solution defines, and the values that a request gives.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// The type of an environment variable's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum VariableType {
    /// Any text.
    #[default]
    String,
    /// A JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON value.
    Json,
}

/// A field of an object of the solution.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldTarget {
    /// The object's API version. May be left out for the core group (`v1`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub api_version: Option<String>,
    /// The kind of the object, for example `ConfigMap`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The name of the object, in development and in the target.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// JSON pointer (RFC 6901) to the field, for example `/data/API_URL` or `/spec/replicas`.
    #[schemars(length(min = 2, max = 1024), regex(pattern = "^/"))]
    pub path: String,
}

/// An environment variable: a value that differs from stage to stage.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VariableDefinition {
    /// The variable's name. Requests refer to it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// What the variable is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The type of the value: `String`, `Number`, `Boolean` or `Json`. Values are checked against it.
    #[serde(rename = "type", default)]
    pub type_: VariableType,
    /// Whether a request must give a value.
    #[serde(default)]
    pub required: bool,
    /// The value if a request gives none, as text. Left out: the exported value stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub default: Option<String>,
    /// The field of an exported object that takes the value.
    pub target: FieldTarget,
}

/// A connection reference of a solution: a Secret that has a different name in each target.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionDefinition {
    /// The reference's name. Requests refer to it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The name of the Secret in development. At deployment, Pods, Ingresses, Gateways and `ServiceAccounts` that name it refer to the
    /// target's Secret.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// Fields of custom resources that also name the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub targets: Vec<FieldTarget>,
}

/// The target's Secret for one connection reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionReference {
    /// The reference's name, as the Solution defines it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The name of the Secret in the target. Its owner must have offered it.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
}

/// A value for an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct VariableValue {
    /// The variable's name, as the Solution defines it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The value, as text. Numbers, booleans and JSON are written as JSON. Not for secret values.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// The settings of one deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.environmentVariables) || self.environmentVariables.map(v, v.name.size() + v.value.size()).sum() <= 65536")
    .message("environmentVariables have at most 65,536 characters together: leave out those whose defaults will do, or have the solution hold what is large"))]
pub struct DeploymentSettings {
    /// Values for the solution's environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub environment_variables: Vec<VariableValue>,
    /// The target's Secrets for the solution's connection references.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub connection_references: Vec<ConnectionReference>,
}

/// A solution that must run in the target first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The name of the other solution, in the same target.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The versions that satisfy the dependency, as a semver requirement, for example `>=2.1`.
    #[schemars(length(min = 1, max = 128))]
    pub version: String,
}
