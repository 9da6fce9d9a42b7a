//! Who decides the approval: the delegate, the approvers that the stage names, or nobody.

use std::ops::ControlFlow::{self, Break, Continue};

use super::observed::{DelegateView, Observed, StageView};
use super::step::{End, Ending, Progress, Step};
use crate::api::approvers::{Approver, ApproverKind};
use crate::api::names;
use crate::api::reason::Reason;
use crate::api::request_status::Gate;
use crate::identity::access::Right;

/// Whether the delegate may decide.
pub(crate) fn delegate_decides(stage: &StageView) -> bool {
    stage.approval.by.is_by_delegate()
}

/// The approvers that the stage names.
pub(crate) fn named(stage: &StageView) -> Vec<Approver> {
    stage.approval.approvers.iter().map(Approver::from).collect()
}

/// A stage that approves by itself does so in its owner's name. So its owner must not be the requester.
pub(crate) fn automatic(o: &Observed, stage: &StageView) -> ControlFlow<Step> {
    let owner = stage.owner.as_ref().map(|owner| owner.username.as_str());
    let asks = o.request.requester.as_ref().map(|requester| requester.username.as_str());
    if !stage.approves_by_itself() || stage.allow_self_approval || owner.is_none() || owner != asks {
        return Continue(());
    }
    Break(Ending::step(
        End::Failed,
        Progress::Approval,
        Reason::RequesterIsApprover,
        format!(
            "stage {} approves by itself, for which its owner {} answers, who asks for this deployment too; let somebody else ask, or set gates.allowSelfApproval on the stage",
            o.request.stage,
            owner.unwrap_or_default()
        ),
    ))
}

/// Says that nobody was asked, and who is responsible; `None` if somebody is asked.
pub(crate) fn answered_for(o: &Observed) -> Option<String> {
    let stage = o.stage.present().filter(|stage| stage.approves_by_itself())?;
    let owner = stage.owner.as_ref().map_or("its owner", |owner| owner.username.as_str());
    Some(format!("stage {} approves by itself (spec.approval.by: Automatic), for which {owner} answers", o.request.stage))
}

/// Who may decide at an open gate, for people.
pub(crate) fn said(o: &Observed, gate: &Gate) -> String {
    let all: Vec<String> = gate.approver.iter().cloned().chain(gate.approvers.iter().map(ToString::to_string)).collect();
    match all.as_slice() {
        [] => format!("a holder of the verb approve on stage {}", o.request.stage),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// What a requester must not hold, so that they can't decide in an approver's place: the right to be the approver, or to get their token.
pub(crate) fn rights_to_become(o: &Observed, stage: &StageView) -> Vec<Right> {
    let account = |namespace: &str, name: &str| {
        let right = |verb: &str| Right::on(verb, "", "serviceaccounts", namespace).named(name);
        [right("impersonate"), right("create").of_subresource("token")]
    };
    let mut rights = Vec::new();
    if let (true, DelegateView::ServicePrincipal { name }) = (delegate_decides(stage), &stage.delegate) {
        rights.extend(account(&o.request.host, name));
    }
    let named = named(stage);
    if named.iter().any(|approver| names::service_account(&approver.name).is_none()) {
        // Constrained impersonation of people; a ServiceAccount decides with a token of its own alone.
        let decides = Right::on("impersonate-on:user-info:patch", crate::api::GROUP, "deploymentrequests", &o.request.host);
        rights.push(decides.of_subresource("status"));
    }
    for approver in named {
        match (approver.kind, names::service_account(&approver.name)) {
            (ApproverKind::User, Some((namespace, name))) => rights.extend(account(namespace, name)),
            (ApproverKind::User, None) => rights.push(Right::within("impersonate", "", "users", None).named(&approver.name)),
            (ApproverKind::Group, _) => rights.push(Right::within("impersonate", "", "groups", None).named(&approver.name)),
        }
    }
    rights
}

/// Everybody who may decide, for people. `delegate` is the word for the delegate.
pub(crate) fn all(stage: &StageView, delegate: impl FnOnce() -> String) -> Vec<String> {
    let delegate = delegate_decides(stage).then(delegate);
    delegate.into_iter().chain(named(stage).iter().map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::scenario::{HASH, after, head};
    use super::super::{decide, gates};
    use super::*;
    use crate::api::approvers::{ApprovalBy, StageApproval};
    use crate::api::reference::{Subject, SubjectKind};

    fn subject(kind: SubjectKind, name: &str, namespace: Option<&str>) -> Subject {
        Subject { kind, name: name.into(), namespace: namespace.map(str::to_owned) }
    }

    fn approval(by: ApprovalBy) -> StageApproval {
        let approvers = vec![
            subject(SubjectKind::User, "pia", None),
            subject(SubjectKind::Group, "release-managers", None),
            subject(SubjectKind::ServiceAccount, "board", Some("ci")),
        ];
        StageApproval { by, approvers: if matches!(by, ApprovalBy::Delegate | ApprovalBy::Automatic) { Vec::new() } else { approvers } }
    }

    #[test]
    fn a_requester_may_be_none_of_those_who_decide() {
        let asked = |by| {
            let o = head().with_stage(|stage| stage.approval = approval(by));
            let stage = o.stage.present().unwrap();
            rights_to_become(&o, stage)
                .iter()
                .map(|r| format!("{} {} {}", r.verb, r.resource, r.name.clone().unwrap_or_default()))
                .collect::<Vec<_>>()
        };
        let delegate = ["impersonate serviceaccounts bot", "create serviceaccounts bot"];
        let others = [
            "impersonate-on:user-info:patch deploymentrequests ",
            "impersonate users pia",
            "impersonate groups release-managers",
            "impersonate serviceaccounts board",
            "create serviceaccounts board",
        ];
        assert_eq!(asked(ApprovalBy::Delegate), delegate);
        assert_eq!(asked(ApprovalBy::Approvers), others);
        assert_eq!(asked(ApprovalBy::DelegateOrApprovers), [&delegate[..], &others[..]].concat());
        assert!(asked(ApprovalBy::Automatic).is_empty());
    }

    #[test]
    fn a_gate_names_all_who_may_decide() {
        let o = head().with_stage(|stage| stage.approval = approval(ApprovalBy::DelegateOrApprovers));
        let gate = gates::open(&o, o.stage.present().unwrap(), super::super::step::GateKind::Approval, None, after(1));
        assert_eq!(gate.approver.as_deref(), Some("system:serviceaccount:host:bot"));
        assert_eq!(said(&o, &gate), "system:serviceaccount:host:bot, pia, group release-managers or system:serviceaccount:ci:board");
        let people = head().with_stage(|stage| stage.approval = approval(ApprovalBy::Approvers));
        let gate = gates::open(&people, people.stage.present().unwrap(), super::super::step::GateKind::Approval, None, after(1));
        assert_eq!((gate.approver.as_deref(), gate.approvers.len()), (None, 3));
    }

    #[test]
    fn a_stage_that_approves_by_itself_asks_nobody_and_its_owner_does_not_ask() {
        let owned = |owner: &str| {
            let owner = crate::api::reference::Identity { username: owner.into(), ..Default::default() };
            head().exported().planned(HASH).with_stage(|stage| {
                stage.approval = approval(ApprovalBy::Automatic);
                stage.owner = Some(owner);
            })
        };
        assert_eq!(decide(&owned("olga"), after(9)), Step::Claim);
        let requester = head().request.requester.unwrap().username;
        let own = owned(&requester);
        let Step::Finish(ending) = decide(&own, after(9)) else { panic!("{:?}", decide(&own, after(9))) };
        assert_eq!(ending.reason.as_str(), "RequesterIsApprover");
        assert_eq!(decide(&own.with_stage(|stage| stage.allow_self_approval = true), after(9)), Step::Claim);
    }
}
