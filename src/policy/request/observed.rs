//! The input of a decision: small views with only what decisions need.

use std::time::Duration;

use jiff::Timestamp;
use semver::Version;

use crate::api::approvers::{ApprovalBy, StageApproval};
use crate::api::artifact::Outcome;
use crate::api::reason::Reason;
use crate::api::reference::Identity;
use crate::api::request::ShareGrant;
use crate::api::request_status::{ApprovalDecision, GateStatus, Rollback, StepOutcome, Wait};
use crate::api::stage::{OnFailure, SharingPolicy, Window};
use crate::cluster::blocked::Blocked;
use crate::policy::stage::TargetCluster;

/// The outcome of a look-up. Nothing terminal is decided from a cached absence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lookup<T> {
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
    pub(crate) fn present(&self) -> Option<&T> {
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
pub(crate) struct Observed {
    pub(crate) request: RequestView,
    pub(crate) pipeline: Lookup<PipelineView>,
    pub(crate) stage: Lookup<StageView>,
    /// The stage's target environment.
    pub(crate) target: Lookup<TargetView>,
    /// The development environment that it is exported from; only at first stages.
    pub(crate) source: Lookup<SourceView>,
    /// The Solution in that environment; only at first stages.
    pub(crate) solution: Lookup<SolutionView>,
    /// The artifact of that solution and version.
    pub(crate) artifact: Lookup<ArtifactView>,
    /// Other requests for the same solution and environment that have not ended.
    pub(crate) rivals: Vec<Rival>,
    /// A request for the same solution and version in the previous stage that has not ended.
    pub(crate) previous_in_flight: Option<String>,
    /// A request that brings a solution which this one depends on to the same target. It was accepted and has not ended.
    pub(crate) dependency_in_flight: Option<String>,
    /// The development environments of the pipeline that have a Solution of that name; only at first stages.
    pub(crate) developed_in: Vec<String>,
    /// Whether absences and rivals were confirmed by reading them live in this reconciliation.
    pub(crate) confirmed: bool,
    /// What the steps of this reconciliation found.
    pub(crate) outcomes: StepOutcomes,
    /// How long a request waits for what it needs to be accepted.
    pub(crate) accept_timeout: Duration,
}

/// The request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestView {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Its namespace: the host.
    pub(crate) host: String,
    /// When it was created.
    pub(crate) created_at: Timestamp,
    /// The pipeline it names.
    pub(crate) pipeline: String,
    /// The stage it names.
    pub(crate) stage: String,
    /// The solution it names.
    pub(crate) solution: String,
    /// The version it names.
    pub(crate) version: Version,
    /// The source environment it names.
    pub(crate) source_environment: Option<String>,
    /// The repository that it names, in a registry.
    pub(crate) repository: Option<String>,
    /// The repository and digest that it is about, once they are known.
    pub(crate) registry_source: Option<String>,
    /// With whom it asks for what is deployed to be shared.
    pub(crate) share_with: Vec<ShareGrant>,
    pub(crate) plan_only: bool,
    pub(crate) cancel: bool,
    /// Who asks.
    pub(crate) requester: Option<Identity>,
    /// The earliest time to deploy; `Err` with the text where it can't be read.
    pub(crate) scheduled_time: Result<Option<Timestamp>, String>,
    /// The digest of the artifact that its status names.
    pub(crate) artifact_digest: Option<String>,
    /// The hash of the plan that its status holds.
    pub(crate) plan_hash: Option<String>,
    /// The gates that were opened.
    pub(crate) gates: GateStatus,
    /// The decision at gate 1.
    pub(crate) pre_export: Option<Decided<StepOutcome>>,
    /// The decision at gate 2.
    pub(crate) approval: Option<Decided<ApprovalDecision>>,
    /// The decision at gate 3.
    pub(crate) pre_deployment: Option<Decided<StepOutcome>>,
    /// What it waits for, as its status says.
    pub(crate) waiting: Option<Wait>,
    /// When it began to deploy.
    pub(crate) start_time: Option<Timestamp>,
    /// What is done when its deployment fails, as its plan says.
    pub(crate) on_failure: OnFailure,
    /// The version that its plan replaces.
    pub(crate) replaces: Option<Replaced>,
    /// The rollback that was started.
    pub(crate) rollback: Option<Rollback>,
    /// When it ended.
    pub(crate) end_time: Option<Timestamp>,
}

/// The version that a plan replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replaced {
    pub(crate) version: String,
    /// The digest of its artifact.
    pub(crate) digest: String,
}

/// A decision at a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided<T> {
    /// What was decided.
    pub(crate) decision: T,
    /// Who decided.
    pub(crate) by: String,
    /// The comment for the requester.
    pub(crate) comments: Option<String>,
    /// The hash of the plan that was decided on.
    pub(crate) plan_hash: Option<String>,
}

/// The pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PipelineView {
    /// Why it is not ready; `None` where it is.
    pub(crate) not_ready: Option<String>,
    pub(crate) development_environments: Vec<String>,
    /// The repositories that artifacts may come from.
    pub(crate) artifact_repositories: Vec<String>,
    /// Whether versions that are not higher may be deployed.
    pub(crate) allow_redeployments: bool,
    /// Whether it is stopped.
    pub(crate) suspended: bool,
}

/// Who deploys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DelegateView {
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
    Requester,
}

/// The stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StageView {
    pub(crate) uid: String,
    /// The pipeline that it is part of.
    pub(crate) pipeline: String,
    /// Why it is not ready; `None` where it is.
    pub(crate) not_ready: Option<String>,
    /// The stage before it.
    pub(crate) previous: Option<PreviousStage>,
    /// The name of its target environment.
    pub(crate) target_environment: String,
    /// Who deploys.
    pub(crate) delegate: DelegateView,
    /// Who approves.
    pub(crate) approval: StageApproval,
    /// Who answers for it.
    pub(crate) owner: Option<Identity>,
    /// Whether gate 1 is asked for.
    pub(crate) pre_export_step: bool,
    /// Whether gate 3 is asked for.
    pub(crate) pre_deployment_step: bool,
    /// How long a gate stays open.
    pub(crate) gate_timeout: Duration,
    /// Whether the requester may decide.
    pub(crate) allow_self_approval: bool,
    /// When deployments may start.
    pub(crate) windows: Vec<Window>,
    /// The least time since the previous stage succeeded.
    pub(crate) soak: Duration,
    /// How long a deployment may take to become healthy.
    pub(crate) deployment_timeout: Duration,
    /// What is done when it does not.
    pub(crate) on_failure: OnFailure,
    /// What requesters may ask to be shared.
    pub(crate) sharing: Option<SharingPolicy>,
}

impl StageView {
    /// Whether gate 2 is asked for.
    pub(crate) fn needs_approval(&self) -> bool {
        self.delegate != DelegateView::Requester && !self.approves_by_itself()
    }

    /// Whether nobody is asked for the approval, because the stage's owner answers for it.
    pub(crate) fn approves_by_itself(&self) -> bool {
        self.delegate != DelegateView::Requester && self.approval.by == ApprovalBy::Automatic
    }
}

/// The stage before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PreviousStage {
    pub(crate) name: String,
    /// Where it leads; `None` where it or its environment does not exist.
    pub(crate) place: Option<Place>,
}

/// A stage and its target. A record must match them to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The stage's uid.
    pub(crate) stage_uid: String,
    /// The Environment's uid.
    pub(crate) environment_uid: String,
    /// The name of the stage's pipeline.
    pub(crate) pipeline: String,
    /// The stage's name.
    pub(crate) stage: String,
    /// The Environment's name.
    pub(crate) environment: String,
    /// The uid of the target namespace; empty before it was validated.
    pub(crate) environment_id: String,
    /// The cluster that the namespace is in; `None` for the host's own.
    pub(crate) cluster: Option<String>,
}

impl Place {
    /// Whether a deployment was to this very stage and Environment; or to one of their names in the same namespace of the same cluster,
    /// where they were deleted and applied again.
    pub(crate) fn saw(&self, deployment: &DeploymentView) -> bool {
        let same_objects = deployment.stage_uid == self.stage_uid && deployment.environment_uid == self.environment_uid;
        let same_names = deployment.pipeline == self.pipeline && deployment.stage == self.stage;
        let same_namespace =
            !self.environment_id.is_empty() && deployment.environment_id == self.environment_id && deployment.cluster == self.cluster;
        same_objects || (same_names && same_namespace)
    }

    /// When something succeeded here for the first time.
    pub(crate) fn first_success(&self, artifact: &ArtifactView) -> Option<Timestamp> {
        artifact.deployments.iter().filter(|d| d.outcome == Outcome::Succeeded && self.saw(d)).map(|d| d.ended_at).min()
    }
}

/// The target environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetView {
    /// Why it is not ready; `None` where it is.
    pub(crate) not_ready: Option<String>,
    /// The uid of its namespace.
    pub(crate) environment_id: String,
    /// The uid of the Environment.
    pub(crate) uid: String,
    /// The cluster that it is in; `None` for the host's own.
    pub(crate) cluster: Option<TargetCluster>,
    /// What runs there of this solution.
    pub(crate) current: Option<CurrentVersion>,
    /// The request whose deployment there failed last and was left as it was.
    pub(crate) failed: Option<String>,
    /// Who holds the claim on this solution there.
    pub(crate) claim: Option<ClaimView>,
    /// Whether the solutions that this one depends on run there; what is missing, in words.
    pub(crate) missing_dependencies: Vec<String>,
}

/// A version that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CurrentVersion {
    pub(crate) version: Version,
    /// The artifact's digest.
    pub(crate) digest: String,
    /// The request that deployed it.
    pub(crate) request: String,
}

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimView {
    /// The name of the request that holds it.
    pub(crate) request: String,
    pub(crate) request_uid: String,
}

/// The development environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceView {
    pub(crate) name: String,
    /// Why it is not ready; `None` where it is.
    pub(crate) not_ready: Option<String>,
    pub(crate) namespace: String,
}

/// The Solution in development.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SolutionView {
    /// The version in development.
    pub(crate) version: Version,
}

/// The artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactView {
    pub(crate) digest: String,
    /// When it was stored, by the API server's clock.
    pub(crate) stored_at: Timestamp,
    /// The kinds that its export did not look for: the first of them as they are named to people, and how many there are.
    pub(crate) not_listed: (Vec<String>, usize),
    /// The development environment that it came from.
    pub(crate) source_environment: Option<String>,
    /// The repository and digest that it came from.
    pub(crate) registry_source: Option<String>,
    /// Where it was deployed.
    pub(crate) deployments: Vec<DeploymentView>,
}

/// A deployment of the artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeploymentView {
    /// The request's name.
    pub(crate) request: String,
    /// The request's uid.
    pub(crate) request_uid: String,
    /// The pipeline's name.
    pub(crate) pipeline: String,
    /// The stage's name.
    pub(crate) stage: String,
    /// The stage's uid.
    pub(crate) stage_uid: String,
    /// The environment's name.
    pub(crate) environment: String,
    /// The environment's uid.
    pub(crate) environment_uid: String,
    /// The uid of the target namespace.
    pub(crate) environment_id: String,
    /// The cluster that it was in; `None` for the host's own.
    pub(crate) cluster: Option<String>,
    /// When it ended.
    pub(crate) ended_at: Timestamp,
    /// How it ended.
    pub(crate) outcome: Outcome,
    /// Why it failed, in one word and in words.
    pub(crate) failure: Option<(Reason, String)>,
    /// The version that was put back in its place.
    pub(crate) restored: Option<String>,
}

/// Another request for the same solution and environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Since when its last gate has been open for it, where it queues for the claim.
    pub(crate) queued_since: Option<Timestamp>,
}

/// What steps of this reconciliation found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StepOutcomes {
    /// Why a registry did not say what a tag means. What it said is in the status.
    pub(crate) resolve: Option<Blocked>,
    /// Of the export.
    pub(crate) export: Option<ExportOutcome>,
    /// Of the plan.
    pub(crate) plan: Option<PlanOutcome>,
    /// What was deleted and is still there, with who holds it.
    pub(crate) leaving: Vec<String>,
    /// What counts as healthy and does nothing yet, or not all.
    pub(crate) told: Vec<String>,
    /// Whether those in whose name it is deployed may still have it so.
    pub(crate) rights: Option<RightsOutcome>,
    /// Whether the requester could become the approver.
    pub(crate) requester_could_approve: Option<bool>,
    /// Of the claim.
    pub(crate) claim: Option<ClaimOutcome>,
    /// Of the apply.
    pub(crate) apply: Option<ApplyOutcome>,
    /// Of putting the replaced version back.
    pub(crate) restore: Option<ApplyOutcome>,
    /// Of the health check.
    pub(crate) health: Option<HealthOutcome>,
    /// Of the pruning.
    pub(crate) prune: Option<ApplyOutcome>,
    /// Of the sharing.
    pub(crate) share: Option<ShareOutcome>,
}

/// Whether the requester may still deploy through the pipeline, and the owner still answers for the stage's delegate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RightsOutcome {
    /// They do.
    Held,
    /// A right was taken away, or what they would have to be asked about can't be read.
    Blocked(Blocked),
}

/// What the export found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ExportOutcome {
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
pub(crate) enum PlanOutcome {
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
pub(crate) enum ClaimOutcome {
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
pub(crate) enum ApplyOutcome {
    /// Everything is as planned.
    Applied,
    /// A right is missing, what it is made from can't be had, or the target refused part of it.
    Blocked(Blocked),
    /// Part of it could not be written, which may pass.
    Unavailable(String),
}

/// What the health check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HealthOutcome {
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
pub(crate) enum ShareOutcome {
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
