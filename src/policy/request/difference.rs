//! The differences, part by part, between the plan that was shown for approval and the plan that would be carried out.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::approvers;
use super::observed::{DelegateView, StageView};
use crate::api::approvers::ApprovalBy;
use crate::api::plan::{MAX_TERMS, Plan};
use crate::api::stage::OnFailure;

/// What a plan's hash covers of a stage, in words, except for its identity and its delegate.
pub(crate) fn terms(stage: &StageView, force: bool) -> String {
    let delegation = match stage.delegate {
        DelegateView::ServicePrincipal { .. } => "a service principal",
        DelegateView::StageOwner { .. } => "its owner",
        DelegateView::Requester => "the requester",
    };
    let failed = if stage.on_failure == OnFailure::Rollback { "rolls back" } else { "keeps" };
    let force = if force { "takes over" } else { "leaves" };
    let sharing = stage.sharing.as_ref().map_or_else(
        || "nothing".to_owned(),
        |sharing| {
            let kinds: Vec<String> = sharing.subject_kinds.iter().map(|kind| format!("{kind:?}")).collect();
            format!("{} with {}", sharing.cluster_roles.join(", "), kinds.join(", "))
        },
    );
    let approval = match stage.approval.by {
        ApprovalBy::Delegate => String::new(),
        ApprovalBy::Automatic => ", approves by itself".to_owned(),
        ApprovalBy::Approvers | ApprovalBy::DelegateOrApprovers => {
            format!(", is approved by {}", approvers::all(stage, || "the delegate".to_owned()).join(" or "))
        }
    };
    let whole = format!(
        "deploys to {} as {delegation} within {} s, {failed} what fails, {force} fields of others, shares {sharing}{approval}",
        stage.target_environment,
        stage.deployment_timeout.as_secs()
    );
    whole.chars().take(MAX_TERMS).collect()
}

/// The digest of the list of objects that a plan's hash covers.
pub(crate) fn marked_digest(marked: &[String]) -> String {
    let digest = Sha256::digest(marked.join("\n"));
    digest.iter().fold("sha256:".to_owned(), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What differs. `marked` names the objects that the new plan deletes or creates anew, and those that are cluster-scoped.
pub(crate) fn differences(pinned: &Plan, new: &Plan, marked: &str) -> Vec<String> {
    let none = "nothing".to_owned();
    let mut all = Vec::new();
    let mut differs = |what: &str, before: &str, now: &str| {
        if before != now {
            all.push(format!("{what}, which was {before} and is {now}"));
        }
    };
    differs("the artifact", &pinned.artifact_digest, &new.artifact_digest);
    differs("the digest of the settings", &pinned.settings_digest, &new.settings_digest);
    differs("the target namespace's uid", &pinned.environment_id, &new.environment_id);
    differs("who deploys", &pinned.delegate, &new.delegate);
    let replaced = |plan: &Plan| plan.replaces_version.clone().unwrap_or_else(|| none.clone());
    differs("the version that it replaces", &replaced(pinned), &replaced(new));
    if replaced(pinned) == replaced(new) {
        let digest = |plan: &Plan| plan.replaces.clone().unwrap_or_else(|| none.clone());
        differs("the artifact that it replaces", &digest(pinned), &digest(new));
    }
    // Plans of an earlier operator don't have these.
    if !pinned.terms.is_empty() {
        differs("what the stage says", &format!("\"{}\"", pinned.terms), &format!("\"{}\"", new.terms));
    }
    if pinned.stage_uid != new.stage_uid {
        all.push("the stage, which was deleted and made again".to_owned());
    }
    if !pinned.environment_uid.is_empty() && pinned.environment_uid != new.environment_uid {
        all.push("the Environment, which was deleted and made again".to_owned());
    }
    if !pinned.marked_digest.is_empty() && pinned.marked_digest != new.marked_digest {
        let marked = if marked.is_empty() { "none" } else { marked };
        all.push(format!("the objects that are deleted, created anew or cluster-scoped, which are now: {marked}"));
    }
    all
}

/// The differences in one sentence, followed by what the new plan is.
pub(crate) fn told(pinned: &Plan, new: &Plan, marked: &str, summary: &str) -> String {
    let differences = differences(pinned, new, marked);
    if differences.is_empty() {
        format!("it is now: {summary}")
    } else {
        format!("what differs is {}; it is now: {summary}", differences.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::scenario::head;
    use super::*;

    fn plan() -> Plan {
        let o = head();
        Plan {
            hash: "sha256:a".into(),
            artifact_digest: "sha256:b".into(),
            environment_id: "n1".into(),
            environment_uid: "e1".into(),
            stage_uid: "s1".into(),
            delegate: "bot".into(),
            terms: o.stage.present().map(|stage| terms(stage, false)).unwrap_or_default(),
            marked_digest: marked_digest(&[]),
            ..Plan::default()
        }
    }

    #[test]
    fn each_part_that_differs_is_said_and_no_other() {
        type Change = Box<dyn Fn(&mut Plan)>;
        let patient = head().with_stage(|stage| stage.deployment_timeout = Duration::from_mins(11));
        let changes: [(Change, &str); 8] = [
            (Box::new(|p| p.artifact_digest = "sha256:c".into()), "the artifact, which was sha256:b and is sha256:c"),
            (Box::new(|p| p.settings_digest = "sha256:c".into()), "the digest of the settings, "),
            (Box::new(|p| p.delegate = "other".into()), "who deploys, which was bot and is other"),
            (Box::new(|p| p.replaces_version = Some("1.3.0".into())), "the version that it replaces, which was nothing and is 1.3.0"),
            (Box::new(|p| p.stage_uid = "s2".into()), "the stage, which was deleted and made again"),
            (Box::new(|p| p.environment_uid = "e2".into()), "the Environment, which was deleted and made again"),
            (Box::new(|p| p.marked_digest = marked_digest(&["a".into()])), "which are now: Deployment old"),
            (Box::new(move |p| p.terms = patient.stage.present().map(|s| terms(s, false)).unwrap_or_default()), "within 660 s"),
        ];
        assert_eq!(differences(&plan(), &plan(), ""), [""; 0]);
        for (change, expected) in changes {
            let mut new = plan();
            change(&mut new);
            let said = differences(&plan(), &new, "Deployment old");
            assert!(said.len() == 1 && said[0].contains(expected), "{expected}: {said:?}");
        }
        let old = Plan { environment_uid: String::new(), terms: String::new(), marked_digest: String::new(), ..plan() };
        assert_eq!(differences(&old, &plan(), ""), [""; 0], "what an earlier operator planned");
        assert_eq!(told(&plan(), &plan(), "", "3 to create"), "it is now: 3 to create");
    }
}
