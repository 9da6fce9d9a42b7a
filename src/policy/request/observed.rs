//! The input of a decision: small views with only what decisions need.

use std::time::Duration;

use jiff::Timestamp;
use semver::Version;

use crate::api::approvers::{ApprovalBy, StageApproval};
use crate::api::artifact::Outcome;
use crate::api::reason::Reason;
use crate::api::reference::Identity;
use crate::api::request::ShareGrant;
use crate::api::request_status::{ApprovalDecision, GateStatus, Rollback, StepOutcome};
use crate::api::stage::{OnFailure, SharingPolicy, Window};
use crate::cluster::blocked::Blocked;
use crate::policy::stage::TargetCluster;

/// The outcome of a look-up. Nothing terminal is decided from a cached absence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lookup<T> {
    /// It was not looked up.
    #[default]
    Unknown,
    /// It was not found.
    Absent,
    /// It was found.
    Present(T),
}

impl<T> Lookup<T> {
    /// What was found.
    pub fn present(&self) -> Option<&T> {
        if let Self::Present(value) = self { Some(value) } else { None }
    }
}

impl<T> From<Option<T>> for Lookup<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Present)
    }
}

/// The input of a decision about one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The request.
    pub request: RequestView,
    /// Its pipeline.
    pub pipeline: Lookup<PipelineView>,
    /// Its stage.
    pub stage: Lookup<StageView>,
    /// The stage's target environment.
    pub target: Lookup<TargetView>,
    /// The development environment that it is exported from; only at first stages.
    pub source: Lookup<SourceView>,
    /// The Solution in that environment; only at first stages.
    pub solution: Lookup<SolutionView>,
    /// The artifact of that solution and version.
    pub artifact: Lookup<ArtifactView>,
    /// Other requests for the same solution and environment that have not ended.
    pub rivals: Vec<Rival>,
    /// A request for the same solution and version in the previous stage that has not ended.
    pub previous_in_flight: Option<String>,
    /// A request that brings a solution which this one depends on to the same target. It was accepted and has not ended.
    pub dependency_in_flight: Option<String>,
    /// The development environments of the pipeline that have a Solution of that name; only at first stages.
    pub developed_in: Vec<String>,
    /// Whether absences and rivals were confirmed by reading them live in this reconciliation.
    pub confirmed: bool,
    /// What the steps of this reconciliation found.
    pub outcomes: StepOutcomes,
    /// How long a request waits for what it needs to be accepted.
    pub accept_timeout: Duration,
}

/// The request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestView {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its namespace: the host.
    pub host: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// The pipeline it names.
    pub pipeline: String,
    /// The stage it names.
    pub stage: String,
    /// The solution it names.
    pub solution: String,
    /// The version it names.
    pub version: Version,
    /// The source environment it names.
    pub source_environment: Option<String>,
    /// The repository that it names, in a registry.
    pub repository: Option<String>,
    /// The repository and digest that it is about, once they are known.
    pub registry_source: Option<String>,
    /// With whom it asks for what is deployed to be shared.
    pub share_with: Vec<ShareGrant>,
    /// Whether it is withdrawn.
    pub cancel: bool,
    /// Who asks.
    pub requester: Option<Identity>,
    /// The earliest time to deploy; `Err` with the text where it can't be read.
    pub scheduled_time: Result<Option<Timestamp>, String>,
    /// The digest of the artifact that its status names.
    pub artifact_digest: Option<String>,
    /// The hash of the plan that its status holds.
    pub plan_hash: Option<String>,
    /// The gates that were opened.
    pub gates: GateStatus,
    /// The decision at gate 1.
    pub pre_export: Option<Decided<StepOutcome>>,
    /// The decision at gate 2.
    pub approval: Option<Decided<ApprovalDecision>>,
    /// The decision at gate 3.
    pub pre_deployment: Option<Decided<StepOutcome>>,
    /// When it began to deploy.
    pub start_time: Option<Timestamp>,
    /// What is done when its deployment fails, as its plan says.
    pub on_failure: OnFailure,
    /// The version that its plan replaces.
    pub replaces: Option<Replaced>,
    /// The rollback that was started.
    pub rollback: Option<Rollback>,
    /// When it ended.
    pub end_time: Option<Timestamp>,
}

/// The version that a plan replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The version.
    pub version: String,
    /// The digest of its artifact.
    pub digest: String,
}

/// A decision at a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided<T> {
    /// What was decided.
    pub decision: T,
    /// Who decided.
    pub by: String,
    /// The comment for the requester.
    pub comments: Option<String>,
    /// The hash of the plan that was decided on.
    pub plan_hash: Option<String>,
}

/// The pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineView {
    /// Why it is not ready; `None` where it is.
    pub not_ready: Option<String>,
    /// Its development environments.
    pub development_environments: Vec<String>,
    /// The repositories that artifacts may come from.
    pub artifact_repositories: Vec<String>,
    /// Whether versions that are not higher may be deployed.
    pub allow_redeployments: bool,
    /// Whether it is stopped.
    pub suspended: bool,
}

/// Who deploys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DelegateView {
    /// A `ServiceAccount` of the host.
    ServicePrincipal {
        /// Its name.
        name: String,
    },
    /// The stage's owner.
    StageOwner {
        /// The owner.
        owner: Identity,
    },
    /// The requester.
    Requester,
}

/// The stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageView {
    /// Its uid.
    pub uid: String,
    /// The pipeline that it is part of.
    pub pipeline: String,
    /// Why it is not ready; `None` where it is.
    pub not_ready: Option<String>,
    /// The stage before it.
    pub previous: Option<PreviousStage>,
    /// The name of its target environment.
    pub target_environment: String,
    /// Who deploys.
    pub delegate: DelegateView,
    /// Who approves.
    pub approval: StageApproval,
    /// Who answers for it.
    pub owner: Option<Identity>,
    /// Whether gate 1 is asked for.
    pub pre_export_step: bool,
    /// Whether gate 3 is asked for.
    pub pre_deployment_step: bool,
    /// How long a gate stays open.
    pub gate_timeout: Duration,
    /// Whether the requester may decide.
    pub allow_self_approval: bool,
    /// When deployments may start.
    pub windows: Vec<Window>,
    /// The least time since the previous stage succeeded.
    pub soak: Duration,
    /// How long a deployment may take to become healthy.
    pub deployment_timeout: Duration,
    /// What is done when it does not.
    pub on_failure: OnFailure,
    /// What requesters may ask to be shared.
    pub sharing: Option<SharingPolicy>,
}

impl StageView {
    /// Whether gate 2 is asked for.
    pub fn needs_approval(&self) -> bool {
        self.delegate != DelegateView::Requester && !self.approves_by_itself()
    }

    /// Whether nobody is asked for the approval, because the stage's owner answers for it.
    pub fn approves_by_itself(&self) -> bool {
        self.delegate != DelegateView::Requester && self.approval.by == ApprovalBy::Automatic
    }
}

/// The stage before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousStage {
    /// Its name.
    pub name: String,
    /// Where it leads; `None` where it or its environment does not exist.
    pub place: Option<Place>,
}

/// A stage and its target. A record must match them to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stage's uid.
    pub stage_uid: String,
    /// The Environment's uid.
    pub environment_uid: String,
    /// The name of the stage's pipeline.
    pub pipeline: String,
    /// The stage's name.
    pub stage: String,
    /// The Environment's name.
    pub environment: String,
    /// The uid of the target namespace; empty before it was validated.
    pub environment_id: String,
    /// The cluster that the namespace is in; `None` for the host's own.
    pub cluster: Option<String>,
}

impl Place {
    /// Whether a deployment was to this very stage and Environment; or to one of their names in the same namespace of the same cluster,
    /// where they were deleted and applied again.
    pub fn saw(&self, deployment: &DeploymentView) -> bool {
        let same_objects = deployment.stage_uid == self.stage_uid && deployment.environment_uid == self.environment_uid;
        let same_names = deployment.pipeline == self.pipeline && deployment.stage == self.stage;
        let same_namespace =
            !self.environment_id.is_empty() && deployment.environment_id == self.environment_id && deployment.cluster == self.cluster;
        same_objects || (same_names && same_namespace)
    }

    /// When something succeeded here for the first time.
    pub fn first_success(&self, artifact: &ArtifactView) -> Option<Timestamp> {
        artifact.deployments.iter().filter(|d| d.outcome == Outcome::Succeeded && self.saw(d)).map(|d| d.ended_at).min()
    }
}

/// The target environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetView {
    /// Why it is not ready; `None` where it is.
    pub not_ready: Option<String>,
    /// The uid of its namespace.
    pub environment_id: String,
    /// The uid of the Environment.
    pub uid: String,
    /// The cluster that it is in; `None` for the host's own.
    pub cluster: Option<TargetCluster>,
    /// What runs there of this solution.
    pub current: Option<CurrentVersion>,
    /// The request whose deployment there failed last and was left as it was.
    pub failed: Option<String>,
    /// Who holds the claim on this solution there.
    pub claim: Option<ClaimView>,
    /// Whether the solutions that this one depends on run there; what is missing, in words.
    pub missing_dependencies: Vec<String>,
}

/// A version that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentVersion {
    /// The version.
    pub version: Version,
    /// The artifact's digest.
    pub digest: String,
    /// The request that deployed it.
    pub request: String,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimView {
    /// The name of the request that holds it.
    pub request: String,
    /// Its uid.
    pub request_uid: String,
}

/// The development environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceView {
    /// Its name.
    pub name: String,
    /// Why it is not ready; `None` where it is.
    pub not_ready: Option<String>,
    /// Its namespace.
    pub namespace: String,
}

/// The Solution in development.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SolutionView {
    /// The version in development.
    pub version: Version,
}

/// The artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactView {
    /// Its digest.
    pub digest: String,
    /// When it was stored, by the API server's clock.
    pub stored_at: Timestamp,
    /// The kinds that its export did not look for: the first of them as they are named to people, and how many there are.
    pub not_listed: (Vec<String>, usize),
    /// The development environment that it came from.
    pub source_environment: Option<String>,
    /// The repository and digest that it came from.
    pub registry_source: Option<String>,
    /// Where it was deployed.
    pub deployments: Vec<DeploymentView>,
}

/// A deployment of the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentView {
    /// The request's name.
    pub request: String,
    /// The request's uid.
    pub request_uid: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// The stage's name.
    pub stage: String,
    /// The stage's uid.
    pub stage_uid: String,
    /// The environment's name.
    pub environment: String,
    /// The environment's uid.
    pub environment_uid: String,
    /// The uid of the target namespace.
    pub environment_id: String,
    /// The cluster that it was in; `None` for the host's own.
    pub cluster: Option<String>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed, in one word and in words.
    pub failure: Option<(Reason, String)>,
    /// The version that was put back in its place.
    pub restored: Option<String>,
}

/// Another request for the same solution and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Since when its last gate has been open for it, where it queues for the claim.
    pub queued_since: Option<Timestamp>,
}

/// What steps of this reconciliation found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepOutcomes {
    /// Why a registry did not say what a tag means. What it said is in the status.
    pub resolve: Option<Blocked>,
    /// Of the export.
    pub export: Option<ExportOutcome>,
    /// Of the plan.
    pub plan: Option<PlanOutcome>,
    /// What was deleted and is still there, with who holds it.
    pub leaving: Vec<String>,
    /// What counts as healthy and does nothing yet, or not all.
    pub told: Vec<String>,
    /// Whether those in whose name it is deployed may still have it so.
    pub rights: Option<RightsOutcome>,
    /// Whether the requester could become the approver.
    pub requester_could_approve: Option<bool>,
    /// Of the claim.
    pub claim: Option<ClaimOutcome>,
    /// Of the apply.
    pub apply: Option<ApplyOutcome>,
    /// Of putting the replaced version back.
    pub restore: Option<ApplyOutcome>,
    /// Of the health check.
    pub health: Option<HealthOutcome>,
    /// Of the pruning.
    pub prune: Option<ApplyOutcome>,
    /// Of the sharing.
    pub share: Option<ShareOutcome>,
}

/// Whether the requester may still deploy through the pipeline, and the owner still answers for the stage's delegate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RightsOutcome {
    /// They do.
    Held,
    /// A right was taken away, or what they would have to be asked about can't be read.
    Blocked(Blocked),
}

/// What the export found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportOutcome {
    /// The artifact is stored and may be used by this requester.
    Stored {
        /// Its digest.
        digest: String,
    },
    /// It is not stored, or may not be used.
    Blocked(Blocked),
}

/// What the plan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanOutcome {
    /// It can be carried out.
    Ready {
        /// Its hash.
        hash: String,
        /// In words: how much is created, changed and deleted.
        summary: String,
    },
    /// It can't be carried out.
    Blocked(Blocked),
}

/// What became of the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// It is this request's, and the start is written.
    Won,
    /// Another request has it.
    Lost {
        /// The request that has it.
        to: String,
    },
    /// The environment's record has no room for another solution.
    NoRoom {
        /// Why, and what to do about it.
        message: String,
    },
}

/// What became of the apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// Everything is as planned.
    Applied,
    /// A right is missing, what it is made from can't be had, or the target refused part of it.
    Blocked(Blocked),
    /// Part of it could not be written, which may pass.
    Unavailable(String),
}

/// What the health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthOutcome {
    /// Everything is healthy.
    Healthy,
    /// Some are not yet.
    Pending(String),
    /// Some never will be.
    Failed(String),
    /// A right to look at them is missing.
    Blocked(Blocked),
}

/// What became of what was to be shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareOutcome {
    /// It was tried.
    Done {
        /// What is shared, in words.
        made: Vec<String>,
        /// What was refused, and why; empty where nothing was.
        refused: String,
    },
    /// The target could not be asked.
    Unreachable(String),
}
