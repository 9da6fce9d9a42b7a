//! `Environment`: a namespace that takes part in pipelines.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::cluster_scoped::ClusterScopedKind;
use super::condition::Condition;
use super::reference::{GroupKind, SecretKeyReference};

/// The role of an environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum EnvironmentType {
    /// Solutions are exported from it.
    Development,
    /// Solutions are deployed to it.
    Target,
}

/// An Environment is a namespace, in this cluster or a remote one, that takes part in pipelines.
///
/// It lives in a host namespace. The namespace it names must have opted in: a Target by the label
/// `pilotage.dev/managed-by: <host>` or a binding of the virtual verb `manage` on `environments`, a
/// Development environment by `pilotage.dev/developed-in: <host>` or the verb `develop`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pilotage.dev",
    version = "v1alpha1",
    kind = "Environment",
    plural = "environments",
    shortname = "env",
    category = "pilotage",
    namespaced,
    status = "EnvironmentStatus",
    derive = "PartialEq",
    doc = "A namespace, in this cluster or a remote one, that takes part in pipelines: a Development environment is exported from, a Target is deployed to. It lives in a host namespace, and the namespace it names must have opted in.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type", description = "Development or Target"),
    printcolumn(
        name = "Namespace",
        type_ = "string",
        json_path = ".spec.namespace",
        description = "The namespace that is the environment"
    ),
    printcolumn(
        name = "Validation Status",
        type_ = "string",
        json_path = ".status.validationStatus",
        description = "Pending, Success or Failed"
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
#[x_kube(validation = Rule::new("self.type == oldSelf.type && self.__namespace__ == oldSelf.__namespace__ && has(self.cluster) == has(oldSelf.cluster) && (!has(self.cluster) || self.cluster == oldSelf.cluster)")
    .message("type, namespace and cluster are immutable: delete this Environment and create another"))]
#[x_kube(validation = Rule::new("self.type == 'Target' || !has(self.cluster)").message(REMOTE_TARGETS_ONLY))]
pub struct EnvironmentSpec {
    /// `Development` (exported from) or `Target` (deployed to). Immutable.
    #[serde(rename = "type")]
    pub type_: EnvironmentType,
    /// What it is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The namespace that is the environment. Immutable.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
    /// The uid of that namespace. Where it is set, a namespace with another uid fails validation;
    /// setting the new uid accepts a namespace that was deleted and created again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub environment_id: Option<String>,
    /// The other cluster that the namespace is in; left out for the host's own. Targets only: the stage's delegate deploys there as the
    /// `ServiceAccount` of its name in `delegateNamespace`. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<RemoteCluster>,
    /// The kinds that belong to the whole cluster and may be part of solutions here: of which solutions take objects along from a
    /// Development environment, and of which they bring objects to a Target. Left out: none, a solution is what is in its namespace.
    /// Whoever adds a kind needs the verb `allow-cluster-scoped` on `environments.pilotage.dev` in the whole cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["group".into(), "kind".into()]))]
    pub cluster_scoped: Vec<ClusterScopedKind>,
    /// Objects in the namespace that must exist and be ready, for example its database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub prerequisites: Vec<Prerequisite>,
}

/// A cluster other than the host's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteCluster {
    /// The kubeconfig, in a Secret of the host namespace that the writer of this Environment and the operator can `get`. It may name a
    /// server (https) with its CA, and a token or a client certificate; programs, files, proxies and impersonation in it are refused.
    pub kubeconfig_secret_ref: SecretKeyReference,
    /// The namespace over there that holds the delegates' `ServiceAccounts`.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub delegate_namespace: String,
}

/// An object that must exist and be ready before the environment can be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prerequisite {
    /// The object's API version, for example `postgresql.cnpg.io/v1`.
    #[schemars(length(min = 1, max = 316))]
    pub api_version: String,
    /// The object's kind.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._:@-]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// A condition of the object that must be `True`; left out, the object must be current by the rules of kstatus.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub condition: Option<String>,
}

/// Whether the namespace may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ValidationStatus {
    /// Not validated yet.
    #[default]
    Pending,
    /// It may be used.
    Success,
    /// It may not; the condition `Validated` says why.
    Failed,
}

impl Environment {
    /// The cluster that it is in, by the name of its kubeconfig's Secret; `None` for the host's own.
    pub fn cluster_name(&self) -> Option<String> {
        self.spec.cluster.as_ref().map(|cluster| cluster.kubeconfig_secret_ref.name.clone())
    }
}

/// Why a `Development` environment is never in another cluster, and what is done instead.
pub const REMOTE_TARGETS_ONLY: &str = "only targets can be in another cluster: a version is exported for the person who asks for it, by what they \
    may read, and who somebody is in this cluster says nothing about the other one. Have CI there push each version as an OCI artifact, list its \
    repository in the Pipeline (spec.artifactRepositories), and request it by spec.artifact; it needs no Development environment there. For a \
    development namespace of this cluster leave out spec.cluster";

/// The most solutions in an environment.
pub const MAX_SOLUTIONS: usize = 512;
/// The most kinds of the whole cluster that one of them may have objects of.
pub const MAX_CLUSTER_KINDS: usize = 256;

/// What was found at the last validation, and what runs in the environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// The generation that this status was made on; -1 before the first time.
    #[serde(default = "super::environment::unobserved")]
    pub observed_generation: i64,
    /// The uid of the namespace that was validated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub environment_id: Option<String>,
    /// The version of the environment's cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kubernetes_version: Option<String>,
    /// The region that the namespace's label names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub region: Option<String>,
    /// `Pending`, `Success` or `Failed`.
    #[serde(default)]
    pub validation_status: ValidationStatus,
    /// When the outcome of the validation last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub validated_at: Option<Timestamp>,
    /// What runs here, and which request may change it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_SOLUTIONS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub solutions: Vec<DeployedSolution>,
    /// `Validated` and `Ready` (the summary), `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// `observedGeneration` before anything was observed.
pub fn unobserved() -> i64 {
    -1
}

/// A solution that runs in the environment, or is being deployed to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeployedSolution {
    /// The solution's name.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The version that was deployed last with success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
    /// The digest of that version's artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
    /// The digest of the settings that it was deployed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub settings_digest: Option<String>,
    /// The request that deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub request: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub requested_by: Option<String>,
    /// The identity that deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub deployed_by: Option<String>,
    /// When the deployment ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub deployed_at: Option<Timestamp>,
    /// The kinds of which there may be objects of this solution in the environment's whole cluster, from before the first of them is
    /// written until none is left. Nobody but the operator writes it: by the record in the target namespace alone, whoever has that
    /// namespace could keep them from being deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_CLUSTER_KINDS))]
    pub cluster_scoped: Vec<GroupKind>,
    /// A later deployment that failed and was not taken back: objects of it may be there in place of those of `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedDeployment>,
    /// The one request that may change this solution here now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

impl DeployedSolution {
    /// Whether there is anything of the solution here, or may be.
    pub fn is_anything(&self) -> bool {
        self.claim.is_some() || self.version.is_some() || self.failed.is_some() || !self.cluster_scoped.is_empty()
    }

    /// Adds kinds to those of which there may be objects in the whole cluster.
    pub fn may_have(&mut self, kinds: &[GroupKind]) {
        self.cluster_scoped.extend_from_slice(kinds);
        self.cluster_scoped.sort_unstable();
        self.cluster_scoped.dedup();
    }
}

/// A deployment that failed after its first write, and whose objects were left.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedDeployment {
    /// The version that was deployed.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The digest of its artifact.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// The request that failed.
    #[schemars(length(max = 253))]
    pub request: String,
    /// When it ended.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub at: Timestamp,
}

/// The right of one request to change one solution in one environment, until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    /// The request's name.
    #[schemars(length(max = 253))]
    pub request: String,
    /// The request's uid.
    #[serde(rename = "requestUID")]
    #[schemars(length(max = 128))]
    pub request_uid: String,
    /// The digest of the artifact that it deploys.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// Since when.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub since: Timestamp,
}
