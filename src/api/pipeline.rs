//! `Pipeline`: development environments, stages in order, and who may use them.

use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::reference::{SecretKeyReference, SecretReference, Subject};
use super::retention::{Retention, RetentionStatus};

/// A Pipeline links at least one development environment with 1 to 7 stages, and says who may deploy through them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pilotage.dev",
    version = "v1alpha1",
    kind = "Pipeline",
    plural = "pipelines",
    shortname = "pl",
    category = "pilotage",
    namespaced,
    status = "PipelineStatus",
    derive = "PartialEq",
    doc = "Links development environments with 1 to 7 stages, in order, and says who may ask for deployments through them. It may exist before it can run: the condition Ready says what is missing.",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether requests can be made"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why it is ready or not"
    ),
    printcolumn(name = "Stages", type_ = "string", json_path = ".status.summary", description = "The stages in order"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend", description = "Whether new deployments are held"),
    printcolumn(
        name = "Sinks",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"SinksDelivering\")].reason",
        description = "Whether its sinks accept what is sent; empty without sinks"
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
pub struct PipelineSpec {
    /// What the pipeline is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The names of the Environments of type Development that solutions may come from. The pipeline is not ready without one.
    #[serde(default)]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub development_environments: Vec<String>,
    /// The repositories of OCI registries from which requests to the first stage may take an artifact, in place of an export.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["url".into()]))]
    pub artifact_repositories: Vec<ArtifactRepository>,
    /// Who may ask for deployments through this pipeline. The operator makes a Role and `RoleBindings` in the host from this list. Left
    /// out: nobody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub shared_with: Vec<Subject>,
    /// What the subjects of `sharedWith` may read of the host: `Private` (nothing) or `Shared` (its requests).
    #[serde(default)]
    pub visibility: Visibility,
    /// Where `CloudEvents` about this pipeline's requests are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["url".into()]))]
    pub sinks: Vec<Sink>,
    /// Whether a version that is not higher than the one in the target may be deployed.
    #[serde(default)]
    pub allow_redeployments: bool,
    /// Emergency stop: while true, nothing new starts to deploy. Deployments that have started finish.
    #[serde(default)]
    pub suspend: bool,
    /// How long ended requests, the bytes of artifacts and records are kept. Left out: all are kept, unless another pipeline of this host has
    /// a retention with the scope `Host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

/// What the makers of a pipeline see of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Visibility {
    /// They create and cancel requests, and read nothing of the host. They follow their requests on the Solution in their own namespace.
    #[default]
    Private,
    /// They may also read and patch the host's requests.
    Shared,
}

/// A repository of an OCI registry, or all repositories below a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(r"self.url.matches('^oci://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$')")
    .message("url is oci://, a host in lower case, a port where one is wanted, and a path in lower case; no tag, user, password or query"))]
#[x_kube(validation = Rule::new("!has(self.plainHttp) || !self.plainHttp || !(has(self.credentialsSecretRef) || has(self.certificateAuthority))")
    .message("plainHttp goes without credentialsSecretRef and certificateAuthority: credentials are never sent over http"))]
pub struct ArtifactRepository {
    /// The repository, for example `oci://registry.example.test/team`. It covers this repository and all below it, by whole parts of the
    /// path: `team-b` is not below `team`.
    #[schemars(length(min = 7, max = 1024))]
    pub url: String,
    /// Credentials, in a Secret of the host of type `kubernetes.io/dockerconfigjson`. The operator must be able to get the Secret.
    /// Credentials are sent only to hosts that the Secret has an entry for. Left out: the registry is read without credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<SecretReference>,
    /// The certificate authority of the registry (PEM). It replaces those that the operator's machine trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32_768))]
    pub certificate_authority: Option<String>,
    /// Use http, not https: for a registry without secret content, in a trusted network. Anybody between the operator and the registry can
    /// decide what a tag means.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain_http: bool,
}

/// A receiver of `CloudEvents`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(r"self.url.matches('^https?://[^/?#@\\s]+([/?][^#\\s]*)?$')")
    .message("url is http:// or https://, a host, and a path where one is wanted; no user, password or fragment"))]
pub struct Sink {
    /// Where events are posted. Everybody who may read the pipeline sees it, so don't put a token into it.
    #[schemars(length(min = 8, max = 2048))]
    pub url: String,
    /// The key with which deliveries are signed (Standard Webhooks, `whsec_…`), in a Secret of the host. The operator must be able to get
    /// the Secret. Left out: deliveries are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_secret_ref: Option<SecretKeyReference>,
    /// The triggers that are sent. Left out: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub triggers: Vec<Trigger>,
}

/// What happened to a request. The order is the order in which it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum Trigger {
    /// The operator has noticed the request.
    OnDeploymentRequested,
    /// The approval gate opened.
    OnApprovalStarted,
    /// The approval was decided.
    OnApprovalCompleted,
    /// The pre-deployment gate opened.
    OnPreDeploymentStarted,
    /// The pre-deployment step was decided.
    OnPreDeploymentCompleted,
    /// The request claimed its target.
    OnDeploymentStarted,
    /// The request ended, however it ended.
    OnDeploymentCompleted,
}

/// The most characters of the line that sums up the stages.
pub const MAX_SUMMARY: usize = 2048;

/// Whether the pipeline can be used, and its stages in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PipelineStatus {
    /// The generation that this status was made on; -1 before the first time.
    #[serde(default = "super::environment::unobserved")]
    pub observed_generation: i64,
    /// The stages in order, in one line for people: `qa → prod`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = MAX_SUMMARY))]
    pub summary: String,
    /// The stages in order, each after its previous one. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub stages: Vec<StageSummary>,
    /// How many more stages there are.
    #[serde(default, skip_serializing_if = "super::plan::is_zero")]
    pub stages_omitted: i32,
    /// What each sink has been told, and what still has to be sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["url".into()]))]
    pub sinks: Vec<SinkStatus>,
    /// What retention did last, and when it runs next. Left out without `spec.retention`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionStatus>,
    /// `Ready` (the summary), `Shared` (if it is shared), `SinksDelivering` (if it has sinks), `RetentionComplete` (after a run of retention
    /// began), `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// A stage as its pipeline sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageSummary {
    /// The stage's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The stage that comes before it. Left out on the first stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub previous_stage: Option<String>,
    /// The Environment that it deploys to.
    #[schemars(length(max = 253))]
    pub target_environment: String,
    /// Whether the stage can deploy: its condition `Ready` is `True`.
    pub ready: bool,
}

/// The most characters of why a sink could not be told.
pub const MAX_ERROR: usize = 4096;

/// What a sink has been told, and what still has to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkStatus {
    /// The sink's `url` in the spec.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// How many requests have triggers that still have to be sent.
    #[serde(default)]
    pub waiting: i32,
    /// Since when deliveries fail. Left out while they succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub failing_since: Option<Timestamp>,
    /// Why the last delivery failed. Left out while deliveries succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = MAX_ERROR))]
    pub last_error: Option<String>,
    /// What the sink has been told. The next leader continues from here.
    pub cursor: SinkCursor,
}

/// The most requests in each list of a cursor.
pub const MAX_REQUESTS: usize = 1000;

/// What a sink has been told. Of requests created before `since`, everything except those in `open`; of newer requests, those in `done`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SinkCursor {
    /// The sink has been told everything of requests created before this time, except those in `open`.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub since: Timestamp,
    /// Requests of which the sink has been told a part, or of which something may still happen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_REQUESTS))]
    pub open: Vec<OpenRequest>,
    /// The uids of requests created after `since` of which the sink has been told everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_REQUESTS), inner(length(max = 64)))]
    pub done: Vec<String>,
}

/// A request of which a sink has been told a part. It has only the uid: makers read their pipeline, but not the requests of others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenRequest {
    /// The uid of the request.
    #[schemars(length(max = 64))]
    pub uid: String,
    /// The trigger that was delivered last. Left out if none was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Trigger>,
}
