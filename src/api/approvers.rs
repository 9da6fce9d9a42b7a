//! Who decides the approval (gate 2) of a stage, if that is not the delegate alone.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::names;
use super::reference::{Subject, SubjectKind};

/// Who decides the approval of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ApprovalBy {
    /// The delegate alone, under its own name.
    #[default]
    Delegate,
    /// The subjects in `approvers`, and not the delegate.
    Approvers,
    /// The delegate, or any of the subjects in `approvers`.
    DelegateOrApprovers,
    /// Nobody is asked. The stage's owner has approved in advance everything that its other gates, windows and stage order allow.
    Automatic,
}

impl ApprovalBy {
    /// Whether the delegate may decide.
    pub fn is_by_delegate(self) -> bool {
        matches!(self, Self::Delegate | Self::DelegateOrApprovers)
    }
}

/// Who decides the approval of a stage. The delegate deploys in each case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.by in ['Approvers', 'DelegateOrApprovers']) == (has(self.approvers) && size(self.approvers) > 0)")
    .message("approvers are for by: Approvers and by: DelegateOrApprovers, and required there"))]
#[x_kube(validation = Rule::new("!has(self.approvers) || self.approvers.all(a, a.kind == 'ServiceAccount' || !a.name.startsWith('system:'))")
    .message("users and groups of system:* are no approvers: they are everybody, or the cluster's own; name a ServiceAccount by kind, namespace and name"))]
#[x_kube(validation = Rule::new("!has(self.approvers) || self.approvers.all(a, a.name.size() <= 253)")
    .message("the name of an approver has at most 253 characters"))]
pub struct StageApproval {
    /// `Delegate` (the delegate alone), `Approvers` (the subjects in `approvers`, not the delegate), `DelegateOrApprovers`, or `Automatic`
    /// (nobody is asked).
    #[serde(default)]
    pub by: ApprovalBy,
    /// The people, groups and `ServiceAccounts` that decide. Each also needs the rights of `ClusterRole` `pilotage-delegate` in the host,
    /// to read requests and to patch their status.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub approvers: Vec<Subject>,
}

/// A subject that may decide, in the form that admission compares with the caller.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approver {
    /// `User` (a `ServiceAccount` too, by its full user name) or `Group`.
    pub kind: ApproverKind,
    /// The user name, or the name of the group.
    #[schemars(length(min = 1, max = 340))]
    pub name: String,
}

/// How admission recognizes an approver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
pub enum ApproverKind {
    /// By a user name.
    User,
    /// By a group of the user.
    Group,
}

impl From<&Subject> for Approver {
    fn from(subject: &Subject) -> Self {
        match subject.kind {
            SubjectKind::User => Self { kind: ApproverKind::User, name: subject.name.clone() },
            SubjectKind::Group => Self { kind: ApproverKind::Group, name: subject.name.clone() },
            SubjectKind::ServiceAccount => {
                let namespace = subject.namespace.as_deref().unwrap_or_default();
                Self { kind: ApproverKind::User, name: names::service_account_username(namespace, &subject.name) }
            }
        }
    }
}

impl std::fmt::Display for Approver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            ApproverKind::User => f.write_str(&self.name),
            ApproverKind::Group => write!(f, "group {}", self.name),
        }
    }
}
