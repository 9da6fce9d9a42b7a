//! `Environment`: a namespace that takes part in pipelines.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::bounds;
use super::cluster_scoped::ClusterScopedKind;
use super::condition::Condition;
use super::reference::{GroupKind, SecretKeyReference};
use crate::text;

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
/// It lives in a host namespace. The namespace that it names must have opted in. A Target opts in by the label
/// `pilotage.dev/managed-by: <host>`, or by a binding of the virtual verb `manage` on `environments`. A Development environment opts in by
/// the label `pilotage.dev/developed-in: <host>`, or by the verb `develop`.
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
    doc = "A namespace, in this cluster or a remote one, that takes part in pipelines. Solutions are exported from a Development environment and deployed to a Target. The object lives in a host namespace. The namespace that it names must have opted in to the host.",
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
        name = "Runs",
        type_ = "string",
        json_path = ".status.summary",
        description = "Each solution that runs there: version, digest, since when, who asked and who deployed",
        priority = 1
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
    /// `Development` (solutions are exported from it) or `Target` (solutions are deployed to it). Immutable.
    #[serde(rename = "type")]
    pub type_: EnvironmentType,
    /// What the environment is, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The namespace that is the environment. It must have opted in to the host. Immutable.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: String,
    /// The uid of that namespace. If it is set, a namespace with another uid fails validation. To accept a namespace that was deleted and
    /// created again, set the new uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub environment_id: Option<String>,
    /// The other cluster that the namespace is in. Left out: the host's own cluster. Targets only: the `ServiceAccount` in
    /// `delegateNamespace` with the name of the stage's delegate deploys there. Immutable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<RemoteCluster>,
    /// The cluster-scoped kinds that may be part of solutions here: on a Development environment the kinds that solutions may export, on a
    /// Target the kinds that they may deploy. Left out: none, a solution has only objects of its namespace. Whoever adds a kind needs the
    /// verb `allow-cluster-scoped` on `environments.pilotage.dev` in the whole cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["group".into(), "kind".into()]))]
    pub cluster_scoped: Vec<ClusterScopedKind>,
    /// Objects in the namespace that must exist and be ready before the environment can be used, for example its database.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub prerequisites: Vec<Prerequisite>,
}

/// A cluster other than the host's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteCluster {
    /// The kubeconfig, in a Secret of the host namespace. Both the writer of this Environment and the operator must be able to `get` the
    /// Secret. The kubeconfig may have a server (https) with its CA, and a token or a client certificate. Programs, files, proxies and
    /// impersonation in it are refused.
    pub kubeconfig_secret_ref: SecretKeyReference,
    /// The namespace in the other cluster that holds the `ServiceAccounts` of the delegates.
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
    /// The object's kind, for example `Cluster`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// The object's name, in the namespace of the environment.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._:@-]*[A-Za-z0-9])?$"))]
    pub name: String,
    /// A condition of the object that must be `True`. Left out: the object must be current by the rules of kstatus.
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
    /// The namespace may be used.
    Success,
    /// The namespace may not be used; the condition `Validated` says why.
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

/// The most characters of the line for people.
pub const MAX_SUMMARY: usize = 4096;
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
    /// The Kubernetes version of the environment's cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub kubernetes_version: Option<String>,
    /// The namespace's label `topology.kubernetes.io/region`. Left out if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub region: Option<String>,
    /// `Pending` until an operator has looked at the environment, then `Success` or `Failed`.
    #[serde(default)]
    pub validation_status: ValidationStatus,
    /// When the outcome of the validation last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub validated_at: Option<Timestamp>,
    /// What runs here, in one line for people: each solution with its version, the beginning of its digest, since when, who asked and who
    /// deployed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_SUMMARY))]
    pub summary: String,
    /// What runs here, and which request may change it; one entry for each solution, at most 512.
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

impl EnvironmentStatus {
    /// Says in one line what runs here.
    pub fn sum_up(&mut self) {
        let each: Vec<String> = self.solutions.iter().filter_map(DeployedSolution::in_words).collect();
        self.summary = bounds::text(&each.join("; "), MAX_SUMMARY);
    }
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
    /// The version that was last deployed with success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
    /// The digest of that version's artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub digest: Option<String>,
    /// The digest of the settings with which it was deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71))]
    pub settings_digest: Option<String>,
    /// The name of the request that deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub request: Option<String>,
    /// The user name of the requester.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub requested_by: Option<String>,
    /// The person on whose behalf was asked, as the requester reported. Not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
    /// The user name of the identity that deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub deployed_by: Option<String>,
    /// When the deployment ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub deployed_at: Option<Timestamp>,
    /// The cluster-scoped kinds of which this solution may have objects, from before the first is written until none is left. Only the
    /// operator writes this list. The record in the target namespace is not enough: whoever controls that namespace could change it, and so
    /// keep objects from being deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_CLUSTER_KINDS))]
    pub cluster_scoped: Vec<GroupKind>,
    /// A later deployment that failed and was left there. Some of its objects may be there in place of those of `version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedDeployment>,
    /// The one request that may change this solution here now. Left out while no request deploys it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
}

impl DeployedSolution {
    /// What runs: `orders 1.4.0 (sha256:3f7a9c01d2e4) since 2026-12-01T06:00:00Z, asked by dana, deployed by …`. `None` if nothing does.
    fn in_words(&self) -> Option<String> {
        const SHOWN: usize = "sha256:".len() + 12;
        let version = self.version.as_deref()?;
        let digest: String = self.digest.iter().flat_map(|digest| digest.chars()).take(SHOWN).collect();
        let since = self.deployed_at.map(|at| format!(" since {at}")).unwrap_or_default();
        let person = self.on_behalf_of.as_deref().map(|person| format!(" for {} (as reported)", text::line(person))).unwrap_or_default();
        let (asked, deployed) = (self.requested_by.as_deref().unwrap_or_default(), self.deployed_by.as_deref().unwrap_or_default());
        Some(format!(
            "{} {version} ({digest}){since}, asked by {}{person}, deployed by {}",
            self.name,
            text::line(asked),
            text::line(deployed)
        ))
    }

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
    /// The version that failed.
    #[schemars(length(max = 63))]
    pub version: String,
    /// The digest of that version's artifact.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// The name of the request that failed.
    #[schemars(length(max = 253))]
    pub request: String,
    /// When the deployment ended.
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
    /// The uid of the request. A later request of the same name does not hold the claim.
    #[serde(rename = "requestUID")]
    #[schemars(length(max = 128))]
    pub request_uid: String,
    /// The digest of the artifact that the request deploys.
    #[schemars(length(max = 71))]
    pub digest: String,
    /// When the request claimed the target.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub since: Timestamp,
}
