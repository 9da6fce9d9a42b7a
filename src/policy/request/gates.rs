//! The gates. Each is opened once, decided once by somebody who may, and fails the request when its time-out ends.

use std::ops::ControlFlow::{self, Break, Continue};

use jiff::Timestamp;

use super::acceptance::Subject;
use super::approvers;
use super::observed::{DelegateView, Observed, PlanOutcome, StageView};
use super::step::{End, Ending, GateKind, Progress, Step, Waiting};
use super::waiting::reached;
use crate::api::names;
use crate::api::reason::Reason;
use crate::api::request_status::{ApprovalDecision, Gate, StepOutcome};
use crate::identity::remote;
use crate::policy::clock;
use crate::text;

/// Passes a gate that the stage asks for, or decides what its state means. A gate that has opened must be decided, whatever happened to the
/// stage since: the people who configure a stage are not the people who decide.
pub(crate) fn pass(o: &Observed, subject: &Subject<'_>, kind: GateKind, now: Timestamp) -> ControlFlow<Step> {
    let Some(gate) = opened(o, kind) else {
        if !asked_for(subject.stage, kind) {
            return if kind == GateKind::Approval { approvers::automatic(o, subject.stage) } else { Continue(()) };
        }
        // Nobody is asked for a request that would be refused anyway. With the approval it is asked with the plan, see `will_ask_approver`.
        could_be_decided_by_requester(o)?;
        return Break(Step::OpenGate(kind));
    };
    let at = progress(kind);
    if is_decided(o, kind) {
        // Admission accepts no other hash. Without this check a decision would mean nothing.
        if kind == GateKind::Approval && o.request.approval.as_ref().and_then(|d| d.plan_hash.as_ref()) != gate.plan_hash.as_ref() {
            return Break(Ending::step(
                End::Failed,
                at,
                Reason::ApprovalNotBound,
                "the approval does not carry the hash of the plan it was asked for: the admission policies of Pilotage were not in force. Install them and make a new request",
            ));
        }
        return Continue(());
    }
    let deadline = clock::after(gate.opened_at, subject.stage.gate_timeout);
    if now >= deadline {
        return Break(Ending::step(
            End::Failed,
            at,
            Reason::GateTimedOut,
            format!(
                "the {} was not decided between {} and {deadline} by {}; make a new request",
                word(kind),
                gate.opened_at,
                approvers::said(o, gate)
            ),
        ));
    }
    Break(Waiting::watched(
        at,
        match kind {
            GateKind::PreExportStep => Reason::AwaitingPreExportStep,
            GateKind::Approval => Reason::AwaitingApproval,
            GateKind::PreDeploymentStep => Reason::AwaitingPreDeploymentStep,
        },
        format!("waits since {} for the {} by {}, until {deadline}", gate.opened_at, word(kind), approvers::said(o, gate)),
        Some(deadline),
    ))
}

/// The approval is not asked for if the requester could decide it in the delegate's place. This does not depend on anything else that the
/// request waits for. It is checked before people grant other missing rights.
pub(crate) fn could_be_decided_by_requester(o: &Observed) -> ControlFlow<Step> {
    let Some(stage) = o.stage.present() else { return Continue(()) };
    let to_be_opened = asked_for(stage, GateKind::Approval) && opened(o, GateKind::Approval).is_none();
    if stage.allow_self_approval || !to_be_opened || stage.pipeline != o.request.pipeline {
        return Continue(());
    }
    match o.outcomes.requester_could_approve {
        None => Break(Step::AskApprover),
        Some(true) => Break(Ending::step(
            End::Failed,
            if matches!(o.outcomes.plan, Some(PlanOutcome::Ready { .. })) { Progress::Approval } else { reached(o) },
            Reason::RequesterCouldApprove,
            format!(
                "{} may impersonate {}, or create a token of such a ServiceAccount, and so could approve their own request; take that right away, or set gates.allowSelfApproval on stage {}",
                requester(o),
                approvers::all(stage, || approver(o, stage)).join(" or "),
                o.request.stage
            ),
        )),
        Some(false) => Continue(()),
    }
}

/// Whether the approval gate still has to be opened. Only if the requester can't decide there.
pub(crate) fn will_ask_approver(o: &Observed) -> bool {
    let asked = |stage: &StageView| asked_for(stage, GateKind::Approval) && !stage.allow_self_approval;
    !o.request.plan_only
        && o.stage.present().is_some_and(asked)
        && opened(o, GateKind::Approval).is_none()
        && o.outcomes.requester_could_approve.is_none()
}

/// Whether every gate that the stage asks for is decided.
pub(crate) fn are_passed(o: &Observed) -> bool {
    let kinds = [GateKind::PreExportStep, GateKind::Approval, GateKind::PreDeploymentStep];
    o.stage.present().is_some_and(|stage| kinds.into_iter().all(|kind| !asked_for(stage, kind) || is_decided(o, kind)))
}

/// Whether there is a decision. Rejections have ended the request before.
fn is_decided(o: &Observed, kind: GateKind) -> bool {
    match kind {
        GateKind::PreExportStep => o.request.pre_export.is_some(),
        GateKind::Approval => o.request.approval.is_some(),
        GateKind::PreDeploymentStep => o.request.pre_deployment.is_some(),
    }
}

/// A rejection at any gate ends the request, whatever else it waits for.
pub(crate) fn rejected(o: &Observed) -> ControlFlow<Step> {
    let request = &o.request;
    let rejections = [
        (
            GateKind::PreExportStep,
            request.pre_export.as_ref().filter(|d| d.decision == StepOutcome::Rejected).map(|d| (&d.by, &d.comments)),
        ),
        (GateKind::Approval, request.approval.as_ref().filter(|d| d.decision == ApprovalDecision::Rejected).map(|d| (&d.by, &d.comments))),
        (
            GateKind::PreDeploymentStep,
            request.pre_deployment.as_ref().filter(|d| d.decision == StepOutcome::Rejected).map(|d| (&d.by, &d.comments)),
        ),
    ];
    for (kind, rejection) in rejections {
        if let Some((by, comments)) = rejection {
            let said = comments.as_ref().map_or_else(|| "without a comment".to_owned(), |c| format!("with the comment: {}", text::line(c)));
            return Break(Ending::step(End::Rejected, progress(kind), Reason::Rejected, format!("{} rejected by {by} {said}", word(kind))));
        }
    }
    Continue(())
}

/// The gate that opens first once there is a plan.
pub(crate) fn first_after_plan(stage: &StageView) -> Option<GateKind> {
    [GateKind::Approval, GateKind::PreDeploymentStep].into_iter().find(|kind| asked_for(stage, *kind))
}

/// The gate as it is opened now. It pins who may decide, so that admission need not look it up.
pub(crate) fn open(o: &Observed, stage: &StageView, kind: GateKind, plan_hash: Option<String>, now: Timestamp) -> Gate {
    Gate {
        approver: (kind == GateKind::Approval && approvers::delegate_decides(stage)).then(|| approver(o, stage)),
        approver_uid: None,
        approvers: if kind == GateKind::Approval { approvers::named(stage) } else { Vec::new() },
        plan_hash: if kind == GateKind::PreExportStep { None } else { plan_hash },
        allow_self_approval: stage.allow_self_approval,
        opened_at: crate::api::condition::whole_seconds(now),
    }
}

/// The user name of the delegate.
pub(crate) fn approver(o: &Observed, stage: &StageView) -> String {
    match &stage.delegate {
        DelegateView::ServicePrincipal { name } => names::service_account_username(&o.request.host, name),
        DelegateView::StageOwner { owner } => owner.username.clone(),
        DelegateView::Requester => requester(o),
    }
}

/// Who deploys, as plans and records name it: the delegate; in another cluster the `ServiceAccount` of the same name there.
pub(crate) fn deployer(o: &Observed, stage: &StageView) -> String {
    match (o.target.present().and_then(|target| target.cluster.as_ref()), &stage.delegate) {
        (Some(cluster), DelegateView::ServicePrincipal { name }) => {
            remote::said(&remote::delegate_username(&cluster.delegate_namespace, name), &cluster.name)
        }
        _ => approver(o, stage),
    }
}

fn requester(o: &Observed) -> String {
    o.request.requester.as_ref().map(|r| r.username.clone()).unwrap_or_default()
}

fn asked_for(stage: &StageView, kind: GateKind) -> bool {
    match kind {
        GateKind::PreExportStep => stage.pre_export_step && stage.previous.is_none(),
        GateKind::Approval => stage.needs_approval(),
        GateKind::PreDeploymentStep => stage.pre_deployment_step,
    }
}

fn opened(o: &Observed, kind: GateKind) -> Option<&Gate> {
    match kind {
        GateKind::PreExportStep => o.request.gates.pre_export_step.as_ref(),
        GateKind::Approval => o.request.gates.approval.as_ref(),
        GateKind::PreDeploymentStep => o.request.gates.pre_deployment_step.as_ref(),
    }
}

/// The state of a request at that gate.
pub(crate) fn progress(kind: GateKind) -> Progress {
    match kind {
        GateKind::PreExportStep => Progress::PreExportStep,
        GateKind::Approval => Progress::Approval,
        GateKind::PreDeploymentStep => Progress::PreDeploymentStep,
    }
}

fn word(kind: GateKind) -> &'static str {
    match kind {
        GateKind::PreExportStep => "pre-export step",
        GateKind::Approval => "approval",
        GateKind::PreDeploymentStep => "pre-deployment step",
    }
}
