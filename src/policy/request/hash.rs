//! The hash of a plan covers exactly what an approval covers. Creates and updates are shown, not hashed, so drift in the target does not
//! void an approval.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::observed::{DelegateView, StageView};
use crate::api::approvers::{ApprovalBy, Approver};
use crate::api::stage::OnFailure;

/// What a plan's hash is made of.
pub(crate) struct PlanInputs<'a> {
    /// The request's uid.
    pub(crate) request_uid: &'a str,
    /// The artifact's digest.
    pub(crate) artifact_digest: &'a str,
    pub(crate) settings_digest: &'a str,
    /// The uid of the target namespace.
    pub(crate) environment_id: &'a str,
    pub(crate) environment_uid: &'a str,
    /// The delegate's user name.
    pub(crate) delegate: &'a str,
    pub(crate) stage: &'a StageView,
    /// Whether fields of other field managers are taken over.
    pub(crate) force: bool,
    /// The digest of the artifact that is replaced.
    pub(crate) replaces: Option<&'a str>,
    /// The objects that are deleted or created anew, or are cluster-scoped, sorted, each as one line.
    pub(crate) marked: &'a [String],
}

/// `sha256:` and the hash.
pub(crate) fn plan_hash(inputs: &PlanInputs<'_>) -> String {
    let mut hasher = Sha256::new();
    let mut field = |name: &str, value: &str| {
        // Length-prefixed, so that no two lists of fields are the same bytes.
        hasher.update(format!("{name}:{}:{value}\n", value.len()));
    };
    field("request", inputs.request_uid);
    field("artifact", inputs.artifact_digest);
    field("settings", inputs.settings_digest);
    field("environmentId", inputs.environment_id);
    field("environment", inputs.environment_uid);
    field("delegate", inputs.delegate);
    field("stage", &inputs.stage.uid);
    field("target", &inputs.stage.target_environment);
    field(
        "delegation",
        match inputs.stage.delegate {
            DelegateView::ServicePrincipal { .. } => "ServicePrincipal",
            DelegateView::StageOwner { .. } => "StageOwner",
            DelegateView::Requester => "Requester",
        },
    );
    // The default adds nothing: who decides is then said by the delegate.
    if inputs.stage.approval.by != ApprovalBy::Delegate {
        let approval = &inputs.stage.approval;
        let named: Vec<String> = approval.approvers.iter().map(|subject| Approver::from(subject).to_string()).collect();
        field("approval", &format!("{:?} {}", approval.by, named.join(",")));
    }
    field("timeout", &inputs.stage.deployment_timeout.as_secs().to_string());
    field("onFailure", if inputs.stage.on_failure == OnFailure::Rollback { "Rollback" } else { "Keep" });
    if let Some(sharing) = &inputs.stage.sharing {
        let kinds: Vec<String> = sharing.subject_kinds.iter().map(|kind| format!("{kind:?}")).collect();
        field("sharing", &format!("{} with {}", sharing.cluster_roles.join(","), kinds.join(",")));
    }
    field("force", if inputs.force { "true" } else { "false" });
    field("replaces", inputs.replaces.unwrap_or_default());
    for object in inputs.marked {
        field("delete", object);
    }
    hasher.finalize().iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
