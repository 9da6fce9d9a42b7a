//! `DeploymentRequest`: one request to bring one version of one solution to one stage.

use kube::core::Message;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::reference::{Identity, SolutionVersion, SubjectKind};
use super::request_status::DeploymentRequestStatus;
use super::settings::DeploymentSettings;

/// The message for a second decision: a decision is final, who made it, and what it was. Admission guarantees that `by` is set. An
/// expression that checks for it would exceed the cost limit.
fn decided(key: &str) -> Message {
    Message::Expression(format!(
        "'status.{key} is written once: it was decided already, ' + oldSelf.status.{key}.decision + ' by ' + oldSelf.status.{key}.by"
    ))
}

/// What is asked for. After creation only `cancel` and `scheduledTime` can be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, CustomResource, KubeSchema)]
#[kube(
    group = "pilotage.dev",
    version = "v1alpha1",
    kind = "DeploymentRequest",
    plural = "deploymentrequests",
    shortname = "dr",
    category = "pilotage",
    namespaced,
    status = "DeploymentRequestStatus",
    derive = "PartialEq",
    doc = "One request to bring one version of one solution to one stage: its gates, its run, its outcome. Approvers decide by patching its status, for example {\"status\":{\"approval\":{\"decision\":\"Approved\",\"comments\":\"…\"}}}.",
    selectable = ".spec.pipeline",
    selectable = ".spec.stage",
    selectable = ".spec.solution.name",
    printcolumn(name = "Solution", type_ = "string", json_path = ".spec.solution.name", description = "The solution that is deployed"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.solution.version", description = "The version that is deployed"),
    printcolumn(name = "Stage", type_ = "string", json_path = ".spec.stage", description = "The stage it is deployed to"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where it is, in one word"),
    printcolumn(name = "Waiting for", type_ = "string", json_path = ".status.waitingFor", description = "What it waits for, or how it ended, in a line"),
    printcolumn(name = "Waiting since", type_ = "date", json_path = ".status.waiting.since", description = "How long it has waited for that", priority = 1),
    printcolumn(name = "Requested by", type_ = "string", json_path = ".spec.requestedBy.username", description = "Who asked", priority = 1),
    printcolumn(name = "Deployed by", type_ = "string", json_path = ".status.deployedBy", description = "The identity that deploys", priority = 1),
    printcolumn(name = "Approved by", type_ = "string", json_path = ".status.approvedBy", description = "Everybody who decided, gate by gate", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Succeeded\")].message", description = "What it waits for, or how it ended, in full", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.endTime) || (has(self.status) && self.status == oldSelf.status)")
        .message("the request has ended: its status is frozen").field_path(".status"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.approval) || (has(self.status) && has(self.status.approval) && self.status.approval == oldSelf.status.approval)")
        .message(decided("approval")).field_path(".status.approval"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.preExportStep) || (has(self.status) && has(self.status.preExportStep) && self.status.preExportStep == oldSelf.status.preExportStep)")
        .message(decided("preExportStep")).field_path(".status.preExportStep"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.preDeploymentStep) || (has(self.status) && has(self.status.preDeploymentStep) && self.status.preDeploymentStep == oldSelf.status.preDeploymentStep)")
        .message(decided("preDeploymentStep")).field_path(".status.preDeploymentStep"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.gates) || !has(oldSelf.status.gates.preExportStep) || (has(self.status) && has(self.status.gates) && has(self.status.gates.preExportStep) && self.status.gates.preExportStep == oldSelf.status.gates.preExportStep)")
        .message("status.gates.preExportStep is written once").field_path(".status.gates.preExportStep"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.gates) || !has(oldSelf.status.gates.approval) || (has(self.status) && has(self.status.gates) && has(self.status.gates.approval) && self.status.gates.approval == oldSelf.status.gates.approval)")
        .message("status.gates.approval is written once").field_path(".status.gates.approval"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.gates) || !has(oldSelf.status.gates.preDeploymentStep) || (has(self.status) && has(self.status.gates) && has(self.status.gates.preDeploymentStep) && self.status.gates.preDeploymentStep == oldSelf.status.gates.preDeploymentStep)")
        .message("status.gates.preDeploymentStep is written once").field_path(".status.gates.preDeploymentStep"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.source) || (has(self.status) && has(self.status.source) && self.status.source == oldSelf.status.source)")
        .message("status.source is written once").field_path(".status.source"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.startTime) || (has(self.status) && has(self.status.startTime) && self.status.startTime == oldSelf.status.startTime)")
        .message("status.startTime is written once").field_path(".status.startTime"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.startTime) || self.spec.?cancel.orValue(false) == oldSelf.spec.?cancel.orValue(false)")
        .message("the deployment has started: it can't be canceled any more").field_path(".spec.cancel"),
    validation = Rule::new("!self.spec.?planOnly.orValue(false) || !has(self.status) || !(has(self.status.startTime) || has(self.status.gates) || has(self.status.artifact) || has(self.status.deployedBy))")
        .message("a request that only plans opens no gate and never starts to deploy").field_path(".status"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.endTime) || self.spec.?cancel.orValue(false) == oldSelf.spec.?cancel.orValue(false)")
        .message("the request has ended: there is nothing to cancel").field_path(".spec.cancel"),
    validation = Rule::new("!has(oldSelf.status) || !(has(oldSelf.status.approval) || has(oldSelf.status.startTime) || has(oldSelf.status.endTime)) || (has(self.spec.scheduledTime) == has(oldSelf.spec.scheduledTime) && (!has(self.spec.scheduledTime) || self.spec.scheduledTime == oldSelf.spec.scheduledTime))")
        .message("scheduledTime is frozen once the approval is decided or the deployment has started").field_path(".spec.scheduledTime")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.pipeline == oldSelf.pipeline && self.stage == oldSelf.stage && self.solution == oldSelf.solution && has(self.sourceEnvironment) == has(oldSelf.sourceEnvironment) && (!has(self.sourceEnvironment) || self.sourceEnvironment == oldSelf.sourceEnvironment) && has(self.artifact) == has(oldSelf.artifact) && (!has(self.artifact) || self.artifact == oldSelf.artifact) && has(self.deploymentSettings) == has(oldSelf.deploymentSettings) && (!has(self.deploymentSettings) || self.deploymentSettings == oldSelf.deploymentSettings) && has(self.shareWith) == has(oldSelf.shareWith) && (!has(self.shareWith) || self.shareWith == oldSelf.shareWith) && has(self.notes) == has(oldSelf.notes) && (!has(self.notes) || self.notes == oldSelf.notes) && has(self.onBehalfOf) == has(oldSelf.onBehalfOf) && (!has(self.onBehalfOf) || self.onBehalfOf == oldSelf.onBehalfOf) && has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy) && self.?planOnly.orValue(false) == oldSelf.?planOnly.orValue(false)")
        .message("spec is immutable but for cancel and scheduledTime: make a new request"),
    validation = Rule::new("!(has(self.sourceEnvironment) && has(self.artifact))")
        .message("at most one source: sourceEnvironment or artifact"),
    validation = Rule::new("!oldSelf.?cancel.orValue(false) || self.?cancel.orValue(false)")
        .message("cancel can't be taken back: make a new request"),
    validation = Rule::new("!has(self.scheduledTime) || self.scheduledTime == '' || (self.scheduledTime.size() <= 35 && self.scheduledTime.matches('^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$'))")
        .message("scheduledTime is a time of RFC 3339, for example 2026-12-01T06:00:00Z")
)]
pub struct DeploymentRequestSpec {
    /// The Pipeline to deploy through, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub pipeline: String,
    /// The Stage of that pipeline to deploy to.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub stage: String,
    /// The solution, and the version of it to deploy.
    pub solution: SolutionVersion,
    /// First stages: the development Environment to export from. May be left out if the pipeline links just one. Later stages deploy what
    /// the first stage exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub source_environment: Option<String>,
    /// First stages: an artifact that another system pushed to a registry. It takes the place of an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<ArtifactSource>,
    /// Values for the solution's environment variables and connection references. Stored in plain text: don't put secret values here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_settings: Option<DeploymentSettings>,
    /// With whom the delegate shares the deployed solution in the target after the deployment. The stage's `sharing` must allow each entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub share_with: Vec<ShareGrant>,
    /// Text for the approver, for example what this version changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub notes: Option<String>,
    /// The person on whose behalf a program asks. Reported by the requester; shown, not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub on_behalf_of: Option<String>,
    /// The earliest time to deploy (RFC 3339, without fractions of a second). Left out: at once. Can be changed until the approval is
    /// decided or the deployment has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub scheduled_time: Option<String>,
    /// True: find out what the deployment would do, and end. The plan is made as the delegate, like that of a deployment. Nobody is asked to
    /// approve it, no target is claimed, nothing is written there, and a version that is not stored yet is not stored, so that it can still
    /// change. Such a request never deploys; ask again without this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plan_only: bool,
    /// Set to true to withdraw the request before it deploys. You can't take it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel: bool,
    /// Who asks. Admission fills it from the caller, and refuses anybody else; leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Identity>,
}

/// An artifact outside the host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactSource {
    /// The repository, and the tag or digest in it.
    pub oci: OciSource,
}

/// An OCI artifact in the layout of `flux push artifact` or ORAS.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(r"self.url.matches('^oci://[a-z0-9]([-a-z0-9.]*[a-z0-9])?(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$')")
    .message("url is oci://, a host and a repository in lower case, for example oci://registry.example.test/team/orders; no tag, user, password or query"))]
#[x_kube(validation = Rule::new("has(self.tag) != has(self.digest)").message("either tag or digest"))]
#[x_kube(validation = Rule::new(r"!has(self.tag) || self.tag.matches('^[a-zA-Z0-9_][a-zA-Z0-9._-]*$')").message("tag is made of letters, digits, . _ and -"))]
#[x_kube(validation = Rule::new("!has(self.digest) || self.digest.matches('^sha256:[a-f0-9]{64}$')").message("digest is sha256: and 64 hexadecimal digits in lower case"))]
pub struct OciSource {
    /// The repository, for example `oci://registry.example.test/team/orders`. The pipeline's `artifactRepositories` must list it.
    #[schemars(length(min = 7, max = 1024))]
    pub url: String,
    /// A tag. The operator resolves it to a digest once, before anybody is asked to approve. Give either a tag or a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub tag: Option<String>,
    /// The digest of the manifest, `sha256:` and 64 hexadecimal digits. Give either a tag or a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 71, max = 71))]
    pub digest: Option<String>,
}

impl std::fmt::Display for OciSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "{}@{digest}", self.url),
            (None, Some(tag)) => write!(f, "{}:{tag}", self.url),
            (None, None) => f.write_str(&self.url),
        }
    }
}

impl OciSource {
    /// Reads what `Display` writes. `None` if it has neither a digest nor a tag.
    pub fn read(text: &str) -> Option<Self> {
        if let Some((url, digest)) = text.split_once('@') {
            return Some(Self { url: url.to_owned(), tag: None, digest: Some(digest.to_owned()) });
        }
        // A port stands before the path, and a tag after it.
        let (path, last) = text.rsplit_once('/')?;
        let (name, tag) = last.split_once(':')?;
        Some(Self { url: format!("{path}/{name}"), tag: Some(tag.to_owned()), digest: None })
    }
}

/// One `RoleBinding` that the delegate makes in the target after the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'ServiceAccount') == has(self.__namespace__)")
    .message("namespace is for kind ServiceAccount, and required there"))]
#[x_kube(validation = Rule::new("!self.name.startsWith('system:')")
    .message("nothing is shared with users and groups of the system (system:…), which are everybody, or the cluster itself: name your own, and a ServiceAccount by kind ServiceAccount"))]
pub struct ShareGrant {
    /// What the subject is: `User`, `Group` or `ServiceAccount`.
    pub kind: SubjectKind,
    /// The user name, the group, or the `ServiceAccount` that gets the rights. Names of `system:…` are refused.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// The namespace of the `ServiceAccount`. Required for `ServiceAccount`, forbidden otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// The `ClusterRole` that the subject gets in the target namespace.
    #[schemars(length(min = 1, max = 253))]
    pub cluster_role: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_request_takes_from_a_registry_is_read_as_it_is_written() {
        let url = "oci://registry.example.test:5000/team/orders";
        for text in [format!("{url}:1.0.0"), format!("{url}@sha256:{}", "a".repeat(64))] {
            let read = OciSource::read(&text).unwrap();
            assert_eq!((read.url.as_str(), read.to_string()), (url, text));
        }
        assert_eq!(OciSource::read(url), None);
    }
}
