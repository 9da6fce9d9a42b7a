//! `Artifact`: the stored, immutable form of one version of one solution.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::reference::{GroupKind, Identity, SolutionVersion};
use super::settings::{ConnectionDefinition, Dependency, VariableDefinition};

pub use super::record::{DecidedGate, DeploymentRecord, MAX_APPROVED_BY, MAX_MESSAGE, Outcome, RecordedDecision};

/// The most objects that an artifact lists.
pub const MAX_OBJECTS: usize = 1000;
/// The most kinds that are reported on that it lists.
pub const MAX_KINDS_REPORTED_ON: usize = 64;
/// The most kinds that were not looked for that it lists: a cluster may have hundreds.
pub const MAX_KINDS_NOT_LISTED: usize = 20;

/// What was exported, by whom and from where. The operator writes it once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pilotage.dev",
    version = "v1alpha1",
    kind = "Artifact",
    plural = "artifacts",
    shortname = "art",
    category = "pilotage",
    namespaced,
    status = "ArtifactStatus",
    derive = "PartialEq",
    doc = "The immutable, digest-addressed backup of one version of one solution, and the record of where it was deployed. Only the operator writes it.",
    printcolumn(name = "Solution", type_ = "string", json_path = ".spec.solution.name", description = "The solution"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.solution.version", description = "The version"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest", description = "sha256 over the canonical bytes"),
    printcolumn(name = "Objects", type_ = "integer", json_path = ".spec.objectCount", description = "How many objects it holds"),
    printcolumn(name = "Succeeded in", type_ = "string", json_path = ".status.summary", description = "The stages that it succeeded in"),
    printcolumn(
        name = "Exported by",
        type_ = "string",
        json_path = ".spec.exportedBy.username",
        description = "The requester whose request exported it",
        priority = 1
    ),
    printcolumn(
        name = "Stored in",
        type_ = "string",
        json_path = ".spec.storedIn",
        description = "The registry that holds its bytes, if one does",
        priority = 1
    ),
    printcolumn(
        name = "Bytes removed",
        type_ = "date",
        json_path = ".status.bytesRemoved.at",
        description = "Time since retention removed its bytes, if it did",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("an artifact is immutable: raise the solution's version"))]
#[x_kube(validation = Rule::new("has(self.storedIn) ? self.chunks == 0 : self.chunks > 0")
    .message("an artifact is stored in chunks, or storedIn names where it is stored in a registry"))]
#[x_kube(validation = Rule::new(r"!has(self.storedIn) || self.storedIn.matches('^oci://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+@sha256:[a-f0-9]{64}$')")
    .message("storedIn is oci://, a host, a repository and the digest of a manifest"))]
pub struct ArtifactSpec {
    /// The solution, and the version of it that is stored.
    pub solution: SolutionVersion,
    /// `sha256:` and the hash over the canonical bytes.
    #[schemars(length(min = 71, max = 71))]
    pub digest: String,
    /// The development environment or the registry that the version came from.
    pub source: ArtifactOrigin,
    /// The requester whose request exported it.
    pub exported_by: Identity,
    /// When the version was exported, or fetched from a registry.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub exported_at: Timestamp,
    /// When the version first appeared in development. Left out for artifacts from a registry, and by older versions of the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub developed_at: Option<Timestamp>,
    /// How many objects it holds.
    pub object_count: i32,
    /// The objects it holds; the first 1,000.
    #[serde(default)]
    #[schemars(length(max = MAX_OBJECTS))]
    pub objects: Vec<ArtifactObject>,
    /// The kinds among its objects that were cluster-scoped where they were exported from. Left out for artifacts from a registry, where
    /// this is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub cluster_scoped: Vec<GroupKind>,
    /// The size of the canonical bytes, in bytes.
    pub size: i64,
    /// The size of the compressed bytes as stored, in bytes. Quotas count it for artifacts in `ConfigMaps`.
    pub stored_size: i64,
    /// How many `ConfigMaps` it is stored in. 0 if it is stored in a registry.
    pub chunks: i32,
    /// Where it is stored, if that is a registry: `oci://`, the repository and the digest of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub stored_in: Option<String>,
    /// The custom kinds among its objects that a controller reported on where they were exported from. Objects of these kinds are healthy
    /// only after a controller has looked at them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_KINDS_REPORTED_ON))]
    pub kinds_reported_on: Vec<GroupKind>,
    /// The kinds that the export did not look for, because the operator may not list them in the development namespace and the Solution
    /// does not name its kinds. The first 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_KINDS_NOT_LISTED))]
    pub kinds_not_listed: Vec<GroupKind>,
    /// How many more kinds the export did not look for.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub kinds_not_listed_omitted: i32,
    /// The solution's environment variables, as they were at export.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 128))]
    pub environment_variables: Vec<VariableDefinition>,
    /// The solution's connection references, as they were at export.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub connection_references: Vec<ConnectionDefinition>,
    /// The solution's dependencies, as they were at export.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub dependencies: Vec<Dependency>,
}

/// Where a version came from: an export or a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactOrigin {
    /// The name of the development Environment that it was exported from. Left out for artifacts from a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub environment: Option<String>,
    /// The uid of the development namespace that it was exported from. Left out for artifacts from a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub environment_id: Option<String>,
    /// The repository and the digest in a registry, for an artifact that another system pushed. Left out for exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub oci: Option<String>,
}

/// An object of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactObject {
    /// The object's API version, for example `apps/v1`.
    #[schemars(length(max = 316))]
    pub api_version: String,
    /// The object's kind, for example `Deployment`.
    #[schemars(length(max = 63))]
    pub kind: String,
    /// The object's name.
    #[schemars(length(max = 253))]
    pub name: String,
}

/// The most characters of the line for people.
pub const MAX_SUMMARY: usize = 2048;
/// The most records of deployments.
pub const MAX_DEPLOYMENTS: usize = 256;

/// Where the artifact was deployed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactStatus {
    /// The generation that this status was made on; -1 before the first time.
    #[serde(default = "super::environment::unobserved")]
    pub observed_generation: i64,
    /// The stages in which it succeeded, in one line for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_SUMMARY))]
    pub summary: String,
    /// The durable record: the latest success of each stage and environment, and the last 50 of all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_DEPLOYMENTS))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["requestUID".into()]))]
    pub deployments: Vec<DeploymentRecord>,
    /// That retention removed the bytes. The artifact stays as the record of its deployments. It can't be deployed any more, and its version
    /// can't be stored again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_removed: Option<BytesRemoved>,
}

/// The removal of an artifact's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BytesRemoved {
    /// When it was decided.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub at: Timestamp,
    /// The Pipeline whose retention decided it.
    #[schemars(length(max = 253))]
    pub pipeline: String,
    /// Whether all bytes are gone. If not, the next run of retention goes on.
    #[serde(default)]
    pub complete: bool,
    /// Where the record and the bytes were archived before: `oci://`, the repository and the digest of the manifest. Left out if retention
    /// archives nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1200))]
    pub archived_in: Option<String>,
}
