//! A request that is about to be deployed to a second stage, for tests to change.

use std::time::Duration;

use jiff::Timestamp;
use semver::Version;

use super::observed::{
    ArtifactView, DelegateView, DeploymentView, ExportOutcome, Lookup, Observed, PipelineView, Place, PlanOutcome, PreviousStage,
    RequestView, RightsOutcome, SolutionView, SourceView, StageView, StepOutcomes, TargetView,
};
use crate::api::approvers::StageApproval;
use crate::api::artifact::Outcome;
use crate::api::reference::Identity;
use crate::api::request_status::{ApprovalDecision, Gate, GateStatus};
use crate::api::stage::OnFailure;

/// The digest of the artifact in all scenarios.
pub(super) const DIGEST: &str = "sha256:aa";
/// The hash of the plan in all scenarios.
pub(super) const HASH: &str = "sha256:bb";

/// `seconds` after the request was made.
pub(super) fn after(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

/// A request for a first stage, with everything in place and nothing done.
pub(super) fn head() -> Observed {
    Observed {
        request: RequestView {
            name: "orders-qa".into(),
            uid: "r1".into(),
            host: "host".into(),
            created_at: after(0),
            pipeline: "standard".into(),
            stage: "qa".into(),
            solution: "orders".into(),
            version: Version::new(1, 4, 0),
            source_environment: None,
            repository: None,
            registry_source: None,
            share_with: Vec::new(),
            plan_only: false,
            cancel: false,
            requester: Some(Identity { username: "dana".into(), uid: None, groups: vec!["makers".into()] }),
            scheduled_time: Ok(None),
            artifact_digest: None,
            plan_hash: None,
            gates: GateStatus::default(),
            pre_export: None,
            approval: None,
            pre_deployment: None,
            waiting: None,
            start_time: None,
            on_failure: OnFailure::Keep,
            replaces: None,
            rollback: None,
            end_time: None,
        },
        pipeline: Lookup::Present(PipelineView {
            not_ready: None,
            development_environments: vec!["dev".into()],
            artifact_repositories: vec!["oci://registry.test/team".into()],
            allow_redeployments: false,
            suspended: false,
        }),
        stage: Lookup::Present(StageView {
            uid: "s-qa".into(),
            pipeline: "standard".into(),
            not_ready: None,
            previous: None,
            target_environment: "qa".into(),
            delegate: DelegateView::ServicePrincipal { name: "bot".into() },
            approval: StageApproval::default(),
            owner: None,
            pre_export_step: false,
            pre_deployment_step: false,
            gate_timeout: Duration::from_hours(72),
            allow_self_approval: false,
            windows: Vec::new(),
            soak: Duration::ZERO,
            deployment_timeout: Duration::from_mins(10),
            on_failure: OnFailure::Keep,
            sharing: None,
        }),
        target: Lookup::Present(TargetView {
            not_ready: None,
            environment_id: "ns-qa".into(),
            cluster: None,
            uid: "e-qa".into(),
            current: None,
            failed: None,
            claim: None,
            missing_dependencies: Vec::new(),
        }),
        source: Lookup::Present(SourceView { name: "dev".into(), not_ready: None, namespace: "orders-dev".into() }),
        solution: Lookup::Present(SolutionView { version: Version::new(1, 4, 0) }),
        artifact: Lookup::Absent,
        rivals: Vec::new(),
        previous_in_flight: None,
        dependency_in_flight: None,
        developed_in: Vec::new(),
        confirmed: false,
        outcomes: StepOutcomes { rights: Some(RightsOutcome::Held), requester_could_approve: Some(false), ..StepOutcomes::default() },
        accept_timeout: Duration::from_hours(1),
    }
}

/// The first stage and its target.
fn qa() -> Place {
    Place {
        stage_uid: "s-qa".into(),
        environment_uid: "e-qa".into(),
        pipeline: "standard".into(),
        stage: "qa".into(),
        environment: "qa".into(),
        environment_id: "ns-qa".into(),
        cluster: None,
    }
}

/// A success in the first stage, by a request of that uid.
pub(super) fn deployed(request_uid: &str, ended_at: Timestamp) -> DeploymentView {
    DeploymentView {
        request: "orders-qa".into(),
        request_uid: request_uid.into(),
        pipeline: "standard".into(),
        stage: "qa".into(),
        stage_uid: "s-qa".into(),
        environment: "qa".into(),
        environment_uid: "e-qa".into(),
        environment_id: "ns-qa".into(),
        cluster: None,
        ended_at,
        outcome: Outcome::Succeeded,
        failure: None,
        restored: None,
    }
}

/// A request for a second stage whose artifact succeeded in the first.
pub(super) fn second() -> Observed {
    let mut o = head();
    o.request.name = "orders-prod".into();
    o.request.stage = "prod".into();
    if let Lookup::Present(stage) = &mut o.stage {
        stage.uid = "s-prod".into();
        stage.target_environment = "prod".into();
        stage.previous = Some(PreviousStage { name: "qa".into(), place: Some(qa()) });
    }
    if let Lookup::Present(target) = &mut o.target {
        target.uid = "e-prod".into();
        target.environment_id = "ns-prod".into();
    }
    o.artifact = Lookup::Present(ArtifactView {
        digest: DIGEST.into(),
        stored_at: after(-120),
        not_listed: (Vec::new(), 0),
        source_environment: Some("dev".into()),
        registry_source: None,
        deployments: vec![deployed("r0", after(-60))],
    });
    o
}

impl Observed {
    /// Lets the stage be changed.
    pub(super) fn with_stage(mut self, change: impl FnOnce(&mut StageView)) -> Self {
        if let Lookup::Present(stage) = &mut self.stage {
            change(stage);
        }
        self
    }

    /// Lets the target be changed.
    pub(super) fn with_target(mut self, change: impl FnOnce(&mut TargetView)) -> Self {
        if let Lookup::Present(target) = &mut self.target {
            change(target);
        }
        self
    }

    /// Lets the pipeline be changed.
    pub(super) fn with_pipeline(mut self, change: impl FnOnce(&mut PipelineView)) -> Self {
        if let Lookup::Present(pipeline) = &mut self.pipeline {
            change(pipeline);
        }
        self
    }

    /// The export of this reconciliation succeeded.
    pub(super) fn exported(mut self) -> Self {
        self.outcomes.export = Some(ExportOutcome::Stored { digest: DIGEST.into() });
        self.stored(1)
    }

    /// The artifact was stored so many seconds after the request's creation, unless it was there already.
    pub(super) fn stored(mut self, seconds: i64) -> Self {
        if self.artifact == Lookup::Absent {
            self.artifact = Lookup::Present(ArtifactView {
                digest: DIGEST.into(),
                stored_at: after(seconds),
                not_listed: (Vec::new(), 0),
                source_environment: Some("dev".into()),
                registry_source: None,
                deployments: Vec::new(),
            });
        }
        self
    }

    /// The plan of this reconciliation succeeded.
    pub(super) fn planned(mut self, hash: &str) -> Self {
        self.outcomes.plan = Some(PlanOutcome::Ready { hash: hash.into(), summary: "3 to create".into() });
        self.outcomes.requester_could_approve = Some(false);
        self
    }

    /// The approval gate was opened for the plan.
    pub(super) fn asked(mut self) -> Self {
        self.request.artifact_digest = Some(DIGEST.into());
        self.request.plan_hash = Some(HASH.into());
        self.request.gates.approval = Some(Gate {
            approver: Some("system:serviceaccount:host:bot".into()),
            approver_uid: None,
            approvers: Vec::new(),
            plan_hash: Some(HASH.into()),
            allow_self_approval: false,
            opened_at: after(1),
        });
        self.stored(1)
    }

    /// The approver decided.
    pub(super) fn decided(mut self, decision: ApprovalDecision) -> Self {
        self.request.approval = Some(super::observed::Decided {
            decision,
            by: "system:serviceaccount:host:bot".into(),
            comments: Some("no tests".into()),
            plan_hash: Some(HASH.into()),
        });
        self
    }
}

/// An artifact that was exported whole.
pub(super) fn artifact() -> ArtifactView {
    ArtifactView {
        digest: DIGEST.into(),
        stored_at: after(0),
        not_listed: (Vec::new(), 0),
        source_environment: Some("dev".into()),
        registry_source: None,
        deployments: Vec::new(),
    }
}
