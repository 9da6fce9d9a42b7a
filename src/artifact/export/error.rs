//! Why an export ended without a bundle.

use super::MAX_BYTES;
use crate::api::GROUP;
use crate::api::cluster_scoped::entry;
use crate::api::names::ALLOW_CLUSTER_SCOPED;
use crate::api::reason::Reason;
use crate::api::reference::GroupKind;
use crate::cluster::blocked::{Until, Wait};
use crate::cluster::errors::DEEPEST;
use crate::identity::access::Right;
use crate::identity::{OPERATOR_NAME, OPERATOR_NAMESPACE, OPERATOR_USERNAME, grants};

/// Why an export ended without a bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// A call failed.
    #[error("{action} in namespace {namespace} failed: {source}")]
    Api {
        /// What was done.
        action: String,
        /// The development namespace.
        namespace: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// An object can't be read.
    #[error(
        "the {kind} in namespace {namespace} can't be read: one of them nests deeper than {DEEPEST} levels, the levels of the API server's own bookkeeping \
         included. Make it flatter, or leave the kind out by the Solution's components"
    )]
    TooDeep {
        /// The kind's plural name.
        kind: String,
        /// The development namespace.
        namespace: String,
    },
    /// The operator may not read a kind that the solution names.
    #[error("{OPERATOR_USERNAME} may not read what the solution names in namespace {namespace}{}", operator_needs(rights))]
    OperatorMayNotRead {
        /// The development namespace.
        namespace: String,
        /// What is missing.
        rights: Vec<Right>,
    },
    /// The operator may not read anything.
    #[error(
        "{OPERATOR_USERNAME} may not read anything in namespace {namespace}; grant it there: kubectl create rolebinding pilotage-view --namespace \
         {namespace} --clusterrole=view --serviceaccount={OPERATOR_NAMESPACE}:{OPERATOR_NAME}"
    )]
    OperatorMayReadNothing {
        /// The development namespace.
        namespace: String,
    },
    /// Workloads run as accounts with rights, and the operator may not list the Roles and bindings that give the rights.
    #[error(
        "workloads of the solution run as {}, which may do things in namespace {namespace} that its Roles and RoleBindings allow, and {OPERATOR_USERNAME} may \
         not list those: the solution would arrive without them. Where they are no part of it, say so by naming the kinds that it consists of in the \
         Solution's spec.components{}",
        named_accounts(accounts),
        operator_needs(rights)
    )]
    RolesNotLookedFor {
        /// The development namespace.
        namespace: String,
        /// The names of the accounts.
        accounts: Vec<String>,
        /// What is missing.
        rights: Vec<Right>,
    },
    /// The requester may not read what would be exported for them.
    #[error(
        "{requester}, who asks, may not read all that is exported from namespace {namespace}. An administrator there applies (or binds the ClusterRole \
         view; nothing is deployed, at any stage, for who may not read it):\n{}",
        grants::reads_source(&grants::subject_of(requester), rights)
    )]
    RequesterMayNotRead {
        /// The development namespace.
        namespace: String,
        /// Who asked.
        requester: String,
        /// What is missing.
        rights: Vec<Right>,
    },
    /// Objects of the solution are being deleted.
    #[error(
        "in namespace {namespace} these objects of the solution are being deleted: {}. Wait until they are gone, or take them out of the solution's \
         selector, and ask again",
        shortened(objects)
    )]
    BeingDeleted {
        /// The development namespace.
        namespace: String,
        /// The objects.
        objects: Vec<String>,
    },
    /// The selector matches nothing.
    #[error(
        "no object that can be exported in namespace {namespace} has the labels {selector:?}: label the solution's objects (Secrets, and what controllers \
         make, don't count), or correct the Solution's selector or components"
    )]
    Nothing {
        /// The development namespace.
        namespace: String,
        /// The label selector.
        selector: String,
    },
    /// The selector matches more than an artifact may hold.
    #[error(
        "the solution's objects in namespace {namespace} have at least {size} bytes, and {MAX_BYTES} can be exported; the biggest is {biggest} with \
         {biggest_size} bytes: narrow the Solution's selector or components"
    )]
    TooLarge {
        /// The development namespace.
        namespace: String,
        /// The canonical bytes that were read so far.
        size: usize,
        /// The biggest object.
        biggest: String,
        /// Its bytes.
        biggest_size: usize,
    },
    /// The kind of a component is never exported.
    #[error(
        "the Solution's components name {}, which is never exported{}: take it out of the components",
        component,
        if component.kind == "Secret" { " (a target has Secrets of its own: declare a connection reference)" } else { "" }
    )]
    NeverExported {
        /// The component.
        component: GroupKind,
    },
    /// The cluster does not serve the kind of a component.
    #[error(
        "the Solution's components name {}, which the cluster does not serve: correct group and kind, or install its definition",
        component
    )]
    UnknownComponent {
        /// The component.
        component: GroupKind,
    },
    /// The kind of a component is cluster-scoped and never part of a solution, or can't be listed.
    #[error(
        "the Solution's components name {}, which is not in a namespace or can't be listed: a solution is what is in its namespace. Take it out of the components",
        component
    )]
    NotNamespaced {
        /// The component.
        component: GroupKind,
    },
    /// The kind of a component is cluster-scoped, and the Environment does not list it.
    #[error(
        "the Solution's components name {}, which is cluster-scoped: a solution is what is in its namespace, unless its \
         Environment allows more. Take it out of the components, or have somebody who holds {ALLOW_CLUSTER_SCOPED} on environments.{GROUP} in the whole \
         cluster add {} to spec.clusterScoped of Environment {environment}",
        component,
        entry(&component.group, &component.kind)
    )]
    ClusterScoped {
        /// The component.
        component: GroupKind,
        /// The development Environment.
        environment: String,
    },
    /// The selector is not a valid label selector.
    #[error("the selector of Solution {solution} can't be used: {why}")]
    InvalidSelector {
        /// The solution.
        solution: String,
        /// What is wrong with it.
        why: String,
    },
}

impl ExportError {
    pub(super) fn api(action: &str, namespace: &str, source: kube::Error) -> Self {
        Self::Api { action: action.to_owned(), namespace: namespace.to_owned(), source: Box::new(source) }
    }

    /// Whether waiting can help, and what for.
    pub(crate) fn until(&self) -> Until {
        match self {
            Self::Api { source, .. } => Until::of(source),
            // Somebody may list the kind while a request waits.
            Self::ClusterScoped { .. }
            | Self::OperatorMayNotRead { .. }
            | Self::OperatorMayReadNothing { .. }
            | Self::RolesNotLookedFor { .. }
            | Self::RequesterMayNotRead { .. } => Until::Wait(Wait::Right),
            Self::BeingDeleted { .. }
            | Self::TooDeep { .. }
            | Self::Nothing { .. }
            | Self::TooLarge { .. }
            | Self::NeverExported { .. }
            | Self::UnknownComponent { .. }
            | Self::NotNamespaced { .. }
            | Self::InvalidSelector { .. } => Until::End,
        }
    }

    /// The reason in one word, for conditions.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Api { .. } => Reason::ExportFailed,
            Self::OperatorMayNotRead { .. } | Self::OperatorMayReadNothing { .. } => Reason::OperatorMayNotRead,
            Self::RolesNotLookedFor { .. } => Reason::RolesNotLookedFor,
            Self::RequesterMayNotRead { .. } => Reason::RequesterMayNotRead,
            Self::BeingDeleted { .. } => Reason::BeingDeleted,
            Self::TooDeep { .. } => Reason::TooDeeplyNested,
            Self::Nothing { .. } => Reason::NothingToExport,
            Self::TooLarge { .. } => Reason::TooLarge,
            Self::NeverExported { .. } => Reason::NeverExported,
            Self::UnknownComponent { .. } => Reason::UnknownComponent,
            Self::NotNamespaced { .. } => Reason::NotNamespaced,
            Self::ClusterScoped { .. } => Reason::ClusterScoped,
            Self::InvalidSelector { .. } => Reason::InvalidSelector,
        }
    }
}

/// Rights in the namespace, and rights in the whole cluster.
fn divided(rights: &[Right]) -> (Vec<Right>, Vec<Right>) {
    rights.iter().cloned().partition(|right| right.namespace.is_some())
}

/// The rights that the operator lacks, in words and as a grant.
fn operator_needs(rights: &[Right]) -> String {
    let (here, everywhere) = divided(rights);
    let mut text = String::new();
    if !here.is_empty() {
        text.push_str("; grant it there:\n");
        text.push_str(&grants::rules(&here));
    }
    if !everywhere.is_empty() {
        text.push_str("; to let it read cluster-scoped objects, apply this:\n");
        text.push_str(&grants::operator_exports_of_cluster(&everywhere));
    }
    text
}

fn named_accounts(names: &[String]) -> String {
    let named: Vec<String> = names.iter().map(|name| format!("ServiceAccount {name}")).collect();
    shortened(&named)
}

fn shortened(names: &[String]) -> String {
    const SHOWN: usize = 10;
    if names.len() <= SHOWN { names.join(", ") } else { format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN) }
}
