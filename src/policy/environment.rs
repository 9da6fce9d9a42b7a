//! Whether a namespace may be used as an environment, and which claims on it have no holder any more.

use jiff::Timestamp;

use super::check::{Check, Failure, Remedy, edit, polled, watched};
use crate::api::environment::{EnvironmentType, REMOTE_TARGETS_ONLY};
use crate::api::names::{CROSS_REGION_LABEL, DEVELOPED_IN_LABEL, MANAGED_BY_LABEL, REGION_LABEL};
use crate::api::reason::Reason;
use crate::api::reference::Subject;
use crate::identity::access::Right;
use crate::identity::grants;

/// An Environment and what its validation looks at first: nothing of it is read from inside the namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// This Environment, among those of the same namespace.
    pub(crate) me: Holder,
    /// `spec.namespace`.
    pub(crate) namespace: String,
    /// `spec.environmentId`.
    pub(crate) environment_id: Option<String>,
    /// The cluster that `spec.cluster` names; `None` for the host's own.
    pub(crate) cluster: Option<There>,
    /// The uid of the namespace that was validated before.
    pub(crate) recorded_id: Option<String>,
    /// The namespace; `None` where there is none.
    pub(crate) found: Option<NamespaceView>,
    /// The region of the host namespace.
    pub(crate) host_region: Option<String>,
    /// Whether the host namespace allows other regions than its own.
    pub(crate) cross_region: bool,
    /// The other Environments of that namespace, of all hosts.
    pub(crate) rivals: Vec<Holder>,
}

/// A cluster other than the host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct There {
    /// What it is called in the host: the name of the kubeconfig's Secret.
    pub(crate) name: String,
    /// The name that it knows the kubeconfig's user by; empty before it was asked.
    pub(crate) user: String,
}

impl View {
    /// The namespace, and the cluster that it is in where that is not the host's.
    pub(crate) fn place(&self) -> String {
        match &self.cluster {
            None => self.namespace.clone(),
            Some(there) => format!("{} of cluster {}", self.namespace, there.name),
        }
    }

    /// Where a grant is applied, for the end of a sentence.
    fn there(&self) -> String {
        self.cluster.as_ref().map(|there| format!(" in cluster {}", there.name)).unwrap_or_default()
    }

    /// Who reads the namespace: the operator, or over there the kubeconfig's user.
    fn reader(&self) -> (String, Subject) {
        match &self.cluster {
            None => ("the operator".to_owned(), grants::operator()),
            Some(there) => (there.user.clone(), grants::subject_of(&there.user)),
        }
    }
}

/// The namespace that is to be an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamespaceView {
    pub(crate) uid: String,
    /// Whether it is being deleted.
    pub(crate) terminating: bool,
    /// Whether it is a host.
    pub(crate) is_host: bool,
    /// The region that its label names.
    pub(crate) region: Option<String>,
}

/// An Environment that wants a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The host it lives in.
    pub(crate) host: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    /// When it was created, to the second: the API server keeps no finer time.
    pub(crate) created: Timestamp,
    /// Whether it was validated for its namespace before.
    pub(crate) held: bool,
    /// Its role.
    pub(crate) type_: EnvironmentType,
    /// Whether the namespace gave itself to that host in that role.
    pub(crate) opted_in: bool,
}

/// What was read inside the namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inside {
    /// The prerequisites, in the order of the specification.
    pub(crate) prerequisites: Vec<PrerequisiteView>,
    /// The right that the operator lacks to export from a development environment.
    pub(crate) lacks: Option<Right>,
}

/// A prerequisite and its state.
#[derive(Clone, Debug)]
pub(crate) struct PrerequisiteView {
    pub(crate) kind: String,
    pub(crate) name: String,
    /// What was found.
    pub(crate) state: PrerequisiteState,
}

/// What was found of a prerequisite.
#[derive(Clone, Debug)]
pub(crate) enum PrerequisiteState {
    /// The cluster has no such kind, in words.
    Unserved(String),
    /// It is of a kind that can't be a prerequisite, in words.
    NotAllowed(String),
    /// It does not exist.
    Absent,
    /// The operator lacks this right to read it.
    Forbidden(Right),
    /// It exists and is not ready, in words.
    NotReady(String),
    /// It exists and is ready.
    Ready,
}

/// The virtual verb by which a namespace opts in to a host in that role.
pub(crate) fn opt_in_verb(type_: EnvironmentType) -> &'static str {
    match type_ {
        EnvironmentType::Target => "manage",
        EnvironmentType::Development => "develop",
    }
}

/// The label by which a namespace opts in to a host in that role.
pub(crate) fn opt_in_label(type_: EnvironmentType) -> &'static str {
    match type_ {
        EnvironmentType::Target => MANAGED_BY_LABEL,
        EnvironmentType::Development => DEVELOPED_IN_LABEL,
    }
}

/// The checks that look at the namespace from outside, and the namespace that passes them. Before they pass, nothing is read inside the
/// namespace. Nothing is told about a namespace that did not opt in to the host, not even whether it exists.
///
/// # Errors
/// The first check that failed.
pub(crate) fn from_outside(view: &View) -> Result<&NamespaceView, Failure> {
    not_own_host(view)?;
    not_taken(view)?;
    was_given_and_goes(view)?;
    let found = given(view)?;
    not_terminating(view, found)?;
    no_host(view, found)?;
    identity_matches(view, found)?;
    not_recreated(view, found)?;
    region_agrees(view, found)?;
    Ok(found)
}

/// The checks that look inside the namespace.
///
/// # Errors
/// The first check that failed.
pub(crate) fn from_inside(view: &View, inside: &Inside) -> Check {
    inside.prerequisites.iter().try_for_each(|p| prerequisite_is_ready(view, p))?;
    source_is_readable(view, inside)
}

/// Whether an Environment of this type can be in another cluster.
///
/// # Errors
/// If it can't.
pub(crate) fn can_be_remote(type_: EnvironmentType) -> Check {
    if type_ == EnvironmentType::Target {
        return Ok(());
    }
    // The schema refuses it at admission. An object that was stored before is never exported from.
    edit(Reason::RemoteDevelopmentUnsupported, REMOTE_TARGETS_ONLY)
}

/// In the host's cluster the namespace is watched. In other clusters it is read again and again.
fn remedy(view: &View) -> Remedy {
    if view.cluster.is_some() { Remedy::Polled } else { Remedy::Watched }
}

/// The namespace, if it opted in to the host. If it never did, it is not told whether it exists. Another cluster tells that to the user of
/// the kubeconfig anyway.
fn given(view: &View) -> Result<&NamespaceView, Failure> {
    match &view.found {
        None if view.recorded_id.is_some() || view.cluster.is_some() => Err(Failure {
            reason: Reason::NamespaceNotFound,
            message: format!("namespace {} does not exist: create it, or delete this Environment", view.place()),
            remedy: remedy(view),
        }),
        None => Err(not_given(view)),
        Some(found) => opted_in(view).map(|()| found),
    }
}

/// A deleted namespace takes its grants with it. The reason is told only if it is the very namespace that was validated before.
fn was_given_and_goes(view: &View) -> Check {
    match &view.found {
        Some(found) if view.recorded_id.as_ref() == Some(&found.uid) => not_terminating(view, found),
        _ => Ok(()),
    }
}

fn not_terminating(view: &View, found: &NamespaceView) -> Check {
    if found.terminating {
        return Err(Failure {
            reason: Reason::NamespaceTerminating,
            message: format!(
                "namespace {} is being deleted: wait until it is gone and create it again, or delete this Environment",
                view.place()
            ),
            remedy: remedy(view),
        });
    }
    Ok(())
}

fn not_own_host(view: &View) -> Check {
    if view.cluster.is_none() && view.namespace == view.me.host { host_is_environment(view) } else { Ok(()) }
}

fn no_host(view: &View, found: &NamespaceView) -> Check {
    if found.is_host { host_is_environment(view) } else { Ok(()) }
}

fn host_is_environment(view: &View) -> Check {
    edit(
        Reason::HostIsEnvironment,
        format!(
            "namespace {} is a host: a host, a development environment and a target are three different namespaces; delete this \
             Environment and create it for another namespace",
            view.place()
        ),
    )
}

fn identity_matches(view: &View, found: &NamespaceView) -> Check {
    match &view.environment_id {
        Some(wanted) if *wanted != found.uid => edit(
            Reason::IdentityMismatch,
            format!(
                "namespace {} has the uid {}, not {wanted} as spec.environmentId says; if this namespace is meant, set spec.environmentId to \
                 {}",
                view.place(),
                found.uid,
                found.uid
            ),
        ),
        _ => Ok(()),
    }
}

fn not_recreated(view: &View, found: &NamespaceView) -> Check {
    match &view.recorded_id {
        Some(recorded) if *recorded != found.uid && view.environment_id.as_ref() != Some(&found.uid) => edit(
            Reason::IdentityChanged,
            format!(
                "namespace {} was deleted and created again: it had the uid {recorded} and has {} now; to accept the new one, set \
                 spec.environmentId to {}",
                view.place(),
                found.uid,
                found.uid
            ),
        ),
        _ => Ok(()),
    }
}

/// One Environment holds a namespace: the oldest one that the namespace opted in to, and among equals of one host also the oldest. Of two
/// that were created in the same second, the one that has held it keeps it. An Environment of another host counts only if the namespace opted in to that host, or anybody could block other people's namespaces. It is
/// named only if the namespace opted in to this host too.
fn not_taken(view: &View) -> Check {
    let rank = |holder: &Holder| (!holder.opted_in, holder.created, !holder.held, holder.uid.clone());
    let rivals = view.rivals.iter().filter(|r| r.host == view.me.host || r.opted_in && view.me.opted_in);
    let Some(first) = rivals.min_by_key(|r| rank(r)).filter(|r| rank(r) < rank(&view.me)) else { return Ok(()) };
    let holder = if first.host == view.me.host {
        format!("Environment {} ({:?})", first.name, first.type_)
    } else {
        "an Environment of another host".to_owned()
    };
    watched(
        Reason::NamespaceTaken,
        format!(
            "namespace {} belongs to {holder} already, and a namespace is one environment: delete this Environment, or the other one",
            view.place()
        ),
    )
}

fn opted_in(view: &View) -> Check {
    if view.me.opted_in {
        return Ok(());
    }
    Err(not_given(view))
}

fn not_given(view: &View) -> Failure {
    let Holder { host, type_, .. } = &view.me;
    let (namespace, label) = (&view.namespace, opt_in_label(*type_));
    let grant = match &view.cluster {
        None => grants::opt_in(host, namespace, opt_in_verb(*type_)),
        Some(there) => grants::opt_in_remotely(host, namespace, opt_in_verb(*type_), &grants::subject_of(&there.user)),
    };
    Failure {
        reason: Reason::NotManaged,
        message: format!(
            "namespace {} has not given itself to host {host} as a {type_:?} environment, or does not exist. An administrator of it applies{} \
             what follows, or a cluster administrator labels it (kubectl label namespace {namespace} {label}={host}):\n{grant}",
            view.place(),
            view.there(),
        ),
        remedy: Remedy::Polled,
    }
}

/// Two namespaces are in the same region if both have the same label, or neither has one. If only one has a label, nobody knows.
fn region_agrees(view: &View, found: &NamespaceView) -> Check {
    if view.host_region == found.region || view.cross_region {
        return Ok(());
    }
    let (namespace, host) = (view.place(), &view.me.host);
    let (what, label) = match (&view.host_region, &found.region) {
        (Some(ours), Some(theirs)) => {
            (format!("namespace {namespace} is in region {theirs} and host {host} in {ours}: use a host of that region"), None)
        }
        (Some(ours), None) => (
            format!(
                "namespace {namespace} does not say in which region it is, and host {host} is in {ours}: where it is there too, label it{}",
                view.there()
            ),
            Some((&view.namespace, ours)),
        ),
        (None, theirs) => {
            let theirs = theirs.as_ref().unwrap_or(&view.namespace);
            (
                format!(
                    "namespace {namespace} is in region {theirs}, and host {host} does not say in which it is: where it is there too, label it"
                ),
                Some((host, theirs)),
            )
        }
    };
    let label =
        label.map(|(namespace, region)| format!(":\nkubectl label namespace {namespace} {REGION_LABEL}={region}\n")).unwrap_or_default();
    let or = if label.is_empty() { ", or let" } else { "Or let" };
    Err(Failure {
        reason: Reason::RegionMismatch,
        message: format!(
            "{what}{label}{or} a cluster administrator label the host namespace, where solutions may cross regions (labels {REGION_LABEL}):\n\
             kubectl label namespace {host} {CROSS_REGION_LABEL}=allowed"
        ),
        remedy: remedy(view),
    })
}

fn prerequisite_is_ready(view: &View, prerequisite: &PrerequisiteView) -> Check {
    let PrerequisiteView { kind, name, state } = prerequisite;
    let namespace = &view.place();
    match state {
        PrerequisiteState::Ready => Ok(()),
        PrerequisiteState::NotAllowed(why) => edit(Reason::PrerequisiteNotAllowed, format!("{kind} {name} can't be a prerequisite: {why}")),
        PrerequisiteState::Unserved(what) => polled(
            Reason::PrerequisiteNotFound,
            format!("prerequisite {kind} {name}: {what}; install what serves it, or correct apiVersion and kind in spec.prerequisites"),
        ),
        PrerequisiteState::Absent => polled(
            Reason::PrerequisiteNotFound,
            format!(
                "prerequisite {kind} {name} does not exist in namespace {namespace}: create it there, or take it out of spec.prerequisites"
            ),
        ),
        PrerequisiteState::Forbidden(right) => {
            let (who, subject) = view.reader();
            polled(
                Reason::PrerequisiteNotReadable,
                format!(
                    "{who} may not read prerequisite {kind} {name} in namespace {namespace}; an administrator of that namespace applies{}:\n{}",
                    view.there(),
                    grants::reads(&view.namespace, right, &subject),
                ),
            )
        }
        PrerequisiteState::NotReady(why) => polled(
            Reason::PrerequisiteNotReady,
            format!("prerequisite {kind} {name} in namespace {namespace} {why}: it has to become ready first"),
        ),
    }
}

fn source_is_readable(view: &View, inside: &Inside) -> Check {
    if inside.lacks.is_none() {
        return Ok(());
    }
    let namespace = &view.namespace;
    polled(
        Reason::SourceNotReadable,
        format!(
            "the operator may not read namespace {namespace}, so that nothing can be exported from it; an administrator of that namespace \
             applies (view can't read Secrets):\n{}",
            grants::operator_exports(namespace),
        ),
    )
}

/// What is known about the request that holds a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimHolder {
    /// It exists, with the uid of the claim, and has not ended.
    Running,
    /// It exists, with the uid of the claim, and has ended. An ended request stays ended.
    Ended,
    /// The cache has no request of that name and uid, but may be out of date.
    NotCached,
    /// The API server has no request of that name and uid.
    Gone,
}

/// Whether nobody holds the claim any more. A cache without the request proves nothing.
pub(crate) fn is_orphaned(holder: ClaimHolder) -> bool {
    matches!(holder, ClaimHolder::Ended | ClaimHolder::Gone)
}

#[cfg(test)]
mod tests;
