//! Carries a plan out: the record of the set, the objects in waves, then pruning.

use std::collections::BTreeSet;

use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use super::applyset::{self, GroupKind};
use super::claimed::Claimed;
use super::errors;
use super::fence::Fence;
use super::object::{Key, Served};
use super::order;
use super::planned::{Deletion, Planned, PlannedItem};
use super::set::Set;
use super::survey::config_maps;
use super::target::Target;
use super::write::{AppliedObject, Failure, Writer};
use crate::api::reference::GroupKind as Kind;
use crate::api::request_status::ObjectError;
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// An object that was deleted and is still there.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    pub key: Key,
    pub served: Served,
    pub uid: String,
}

/// A plan that was carried out. It comes from [`apply`] alone.
#[derive(Clone, Debug)]
pub struct Applied {
    pub(super) namespace: String,
    pub(super) set: Set,
    pub(super) objects: Vec<AppliedObject>,
    /// What was deleted and does not go, as finalizers hold it.
    pub(super) leaving: Vec<Leaving>,
    pub(super) since: Instant,
    written: usize,
    deleted: usize,
    left_in_cluster: BTreeSet<GroupKind>,
}

impl Applied {
    /// How many objects were created or changed.
    pub fn written(&self) -> usize {
        self.written
    }

    /// How many objects were deleted.
    pub fn deleted(&self) -> usize {
        self.deleted
    }

    /// The kinds of which there are objects of the solution in the whole cluster now.
    pub fn left_in_cluster(&self) -> Vec<Kind> {
        self.left_in_cluster.iter().cloned().map(Kind::from).collect()
    }

    /// How many objects the solution has.
    pub fn objects(&self) -> usize {
        self.objects.len()
    }
}

/// A plan could not be carried out in full. What was done stays; carrying it out again goes on from there.
#[derive(Debug, thiserror::Error)]
#[error("{} object(s) could not be written, the first: {}", errors.len(), errors.first().map_or("", |error| error.message.as_str()))]
pub struct ApplyError {
    /// What failed, one entry an object.
    pub errors: Vec<ObjectError>,
    /// Whether all of it may pass by itself, so that another attempt makes sense.
    pub transient: bool,
    /// The rights that the delegate lacks (or the operator, to act as the delegate).
    pub missing: Vec<Right>,
}

/// Carries out the plan, as the delegate that made it, under the claim.
///
/// The parent of the set is written first where it is new or lacks kinds. Objects follow in waves
/// ([`order`]); unchanged ones are not written; changed ones are written only on the version that the plan
/// saw, and again on a newer one while uid and generation (or content) are the same and the claim is held; new
/// ones are created, and change nothing that has come to be there. A wave with errors ends the run: nothing
/// later is applied and nothing is pruned. Pruning takes the waves in reverse and deletes exactly the uids that
/// the plan named.
///
/// # Errors
/// What failed. Claim, plan and client must be of the same target, solution and delegate.
pub async fn apply(fence: &Fence, delegate: &DelegateClient, planned: Planned, concurrency: usize) -> Result<Applied, ApplyError> {
    check_claim(fence.claim(), delegate, &planned)?;
    let concurrency = concurrency.max(1);
    let Planned { namespace, solution, set, force, mut parent, items, deletions, left_in_cluster, reported_on, .. } = planned;
    let writer = Writer { target: Target::new(delegate, &namespace), set, force, fence };
    let writer = &writer;

    if let Some(kinds) = parent.widened() {
        let manifest = applyset::parent(&solution, &namespace, kinds);
        parent.live =
            Some(writer.write_parent(&config_maps(), &manifest, parent.live.as_ref()).await.map_err(|f| ApplyError::from(vec![f]))?);
    }

    let waves = order::waves(items.iter().map(|i| (i.item.key.group.as_str(), i.item.key.kind.as_str())));
    let mut waiting: Vec<Option<PlannedItem>> = items.into_iter().map(Some).collect();
    let mut objects = Vec::with_capacity(waiting.len());
    for wave in waves {
        let members: Vec<PlannedItem> = wave.into_iter().filter_map(|index| waiting[index].take()).collect();
        let outcomes: Vec<Result<AppliedObject, Failure>> =
            stream::iter(members).map(|item| writer.write(item)).buffer_unordered(concurrency).collect().await;
        objects.extend(succeeded(outcomes)?);
    }

    let mut waves = order::waves(deletions.iter().map(|d| (d.key.group.as_str(), d.key.kind.as_str())));
    waves.reverse();
    let mut leaving = Vec::new();
    for wave in waves {
        let outcomes: Vec<Result<Option<Leaving>, Failure>> =
            stream::iter(wave).map(|index| leave(writer, &deletions[index])).buffer_unordered(concurrency).collect().await;
        leaving.extend(succeeded(outcomes)?.into_iter().flatten());
    }

    if let Some(kinds) = parent.narrowed() {
        let manifest = applyset::parent(&solution, &namespace, kinds);
        writer.write_parent(&config_maps(), &manifest, parent.live.as_ref()).await.map_err(|f| ApplyError::from(vec![f]))?;
    }
    for object in &mut objects {
        object.is_reported_on |= reported_on.contains(&GroupKind::of(&object.served.resource));
    }
    let written = objects.iter().filter(|o| o.is_written).count();
    let (set, deleted) = (writer.set.clone(), deletions.len());
    Ok(Applied { namespace, set, objects, leaving, since: Instant::now(), written, deleted, left_in_cluster })
}

/// Deletes what an earlier version put there, and tells of what does not go.
async fn leave(writer: &Writer<'_>, deletion: &Deletion) -> Result<Option<Leaving>, Failure> {
    let left = writer.delete(deletion).await?;
    Ok(left.map(|_| Leaving { key: deletion.key.clone(), served: deletion.served.clone(), uid: deletion.uid.clone() }))
}

impl From<Vec<Failure>> for ApplyError {
    fn from(failures: Vec<Failure>) -> Self {
        let transient = failures.iter().all(|failure| failure.is_transient);
        let missing: BTreeSet<Right> = failures.iter().flat_map(|failure| failure.missing.iter().cloned()).collect();
        Self { transient, missing: missing.into_iter().collect(), errors: failures.into_iter().map(|failure| *failure.error).collect() }
    }
}

/// What succeeded, where nothing failed.
fn succeeded<T>(outcomes: Vec<Result<T, Failure>>) -> Result<Vec<T>, ApplyError> {
    let mut failures = Vec::new();
    let mut done = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        match outcome {
            Ok(value) => done.push(value),
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(done) } else { Err(failures.into()) }
}

fn check_claim(claim: &Claimed, delegate: &DelegateClient, planned: &Planned) -> Result<(), ApplyError> {
    let refuse = |message: String| {
        let key = Key { group: String::new(), kind: "Solution".into(), name: planned.solution.clone() };
        Err(ApplyError { errors: vec![errors::failure(&key, "ClaimMismatch", &message)], transient: false, missing: Vec::new() })
    };
    if claim.solution() != planned.solution || claim.namespace() != planned.namespace {
        return refuse(format!(
            "the claim is on {} in {}, and the plan is for {} in {}: nothing was written",
            claim.solution(),
            claim.namespace(),
            planned.solution,
            planned.namespace
        ));
    }
    if *delegate.delegate() != planned.delegate {
        return refuse(format!(
            "the plan names {} as the identity that deploys, and {} was to do it: nothing was written",
            planned.delegate.username(),
            delegate.delegate().username()
        ));
    }
    if let Some(kind) = planned.kinds_of_cluster().into_iter().find(|kind| !claim.cluster_scoped().contains(kind)) {
        return refuse(format!(
            "the claim is not on record for {} of the target's whole cluster, and the plan has some: nothing was written",
            GroupKind::from(&kind)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn failure(code: u16, message: &str) -> Failure {
        let key = Key { group: String::new(), kind: "ConfigMap".into(), name: "x".into() };
        let error = kube::Error::Api(Status::failure(message, "").with_code(code).boxed());
        Failure::of_call(&key, &error, vec![Right::on("patch", "", "configmaps", "qa")])
    }

    #[test]
    fn an_error_is_transient_only_where_all_of_it_may_pass() {
        assert!(ApplyError::from(vec![failure(503, "busy"), failure(429, "slow down")]).transient);
        let mixed = ApplyError::from(vec![failure(503, "busy"), failure(403, r#"User "u" cannot patch resource "configmaps""#)]);
        assert!(!mixed.transient);
        assert_eq!(mixed.missing, [Right::on("patch", "", "configmaps", "qa")]);
        assert_eq!(mixed.errors.len(), 2);
        assert!(ApplyError::from(vec![failure(422, "bad")]).missing.is_empty());
    }
}
