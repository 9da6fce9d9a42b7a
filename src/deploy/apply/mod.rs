//! Carries out a plan: the record of the set, then the objects in waves; and pruning, once they are healthy.

pub(crate) mod handover;
pub(crate) mod order;
pub(crate) mod prune;
pub(crate) mod release;
pub(crate) mod share;
pub(crate) mod target;
pub(crate) mod write;

use std::collections::BTreeSet;
use std::sync::OnceLock;

use futures::{StreamExt as _, stream};
use tokio::time::Instant;

use self::prune::Leaving;
use self::target::Target;
use self::write::{AppliedObject, Failure, Pen, Writer};
use crate::api::reason::Reason;
use crate::api::reference::GroupKind as Kind;
use crate::api::request_status::ObjectError;
use crate::cluster::errors;
use crate::cluster::object::Key;
use crate::deploy::plan::applyset::GroupKind;
use crate::deploy::plan::live_state::config_maps;
use crate::deploy::plan::members::Set;
use crate::deploy::plan::planned::{ParentPlan, Planned, PlannedItem, Pruning};
use crate::identity::access::Right;
use crate::identity::claimed::Claimed;
use crate::identity::delegate::{Delegate, DelegateClient};
use crate::identity::fence::Fence;

/// A plan that was carried out except for its pruning. Only [`apply`] makes it.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) namespace: String,
    pub(crate) set: Set,
    pub(crate) objects: Vec<AppliedObject>,
    pub(crate) since: Instant,
    solution: String,
    delegate: Delegate,
    /// What is pruned once the objects are healthy.
    pruning: Pruning,
    parent: ParentPlan,
    /// Deleted objects that finalizers hold; set once everything is pruned.
    pruned: OnceLock<Vec<Leaving>>,
    left_in_cluster: BTreeSet<GroupKind>,
}

impl Applied {
    /// Deleted objects that still exist; empty before pruning.
    pub(crate) fn leaving(&self) -> &[Leaving] {
        self.pruned.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// The cluster-scoped kinds of which the solution has objects now. `None` if that is not known, because nothing was pruned.
    pub(crate) fn left_in_cluster(&self) -> Option<Vec<Kind>> {
        self.pruned.get()?;
        Some(self.left_in_cluster.iter().cloned().map(Kind::from).collect())
    }
}

/// A plan that could not be carried out completely. What was done stays; the next attempt continues from there.
#[derive(Debug, thiserror::Error)]
#[error("{} object(s) could not be written, the first: {}", errors.len(), errors.first().map_or("", |error| error.message.as_str()))]
pub(crate) struct ApplyError {
    /// What failed, one entry for each object.
    pub(crate) errors: Vec<ObjectError>,
    /// Whether all of it may pass by itself, so that another attempt is worthwhile.
    pub(crate) transient: bool,
    /// The rights that the delegate lacks (or the operator, to act as the delegate).
    pub(crate) missing: Vec<Right>,
}

/// Carries out the plan, as the delegate that made it, under the claim.
///
/// The parent of the set is written first if it is new or lacks kinds. Objects follow in waves ([`order`]). Unchanged ones are not written.
/// Changed ones are written only on the version that the plan saw, and on a newer one while uid and generation (or content) are the same
/// and the claim is held. New ones are created, and change nothing that exists by now. A wave with errors ends the run: nothing later is
/// applied. Nothing is deleted here: that is [`prune`].
///
/// # Errors
/// What failed. Claim, plan and client must be of the same target, solution and delegate.
pub(crate) async fn apply(fence: &Fence, delegate: &DelegateClient, planned: Planned, concurrency: usize) -> Result<Applied, ApplyError> {
    let claim = fence.claim();
    check_claim(claim, delegate, (&planned.solution, &planned.namespace, &planned.delegate))?;
    check_kinds(claim, &planned)?;
    let concurrency = concurrency.max(1);
    let Planned { namespace, solution, set, delegate: as_whom, force, mut parent, items, pruning, left_in_cluster, reported_on, .. } =
        planned;
    let writer = Writer { pen: Pen { target: Target::new(delegate, &namespace), fence }, set, force };
    let writer = &writer;

    if let Some(kinds) = parent.widened() {
        let manifest = writer.set.parent(kinds);
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
    for object in &mut objects {
        object.is_reported_on |= reported_on.contains(&GroupKind::of(&object.served.resource));
    }
    let (set, since, pruned) = (writer.set.clone(), Instant::now(), OnceLock::new());
    Ok(Applied { namespace, set, objects, since, solution, delegate: as_whom, pruning, parent, pruned, left_in_cluster })
}

impl From<Vec<Failure>> for ApplyError {
    fn from(failures: Vec<Failure>) -> Self {
        let transient = failures.iter().all(|failure| failure.is_transient);
        let missing: BTreeSet<Right> = failures.iter().flat_map(|failure| failure.missing.iter().cloned()).collect();
        Self { transient, missing: missing.into_iter().collect(), errors: failures.into_iter().map(|failure| *failure.error).collect() }
    }
}

/// The successes, if nothing failed.
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

/// Claim and client are those of that solution, namespace and delegate.
fn check_claim(claim: &Claimed, delegate: &DelegateClient, planned: (&str, &str, &Delegate)) -> Result<(), ApplyError> {
    let (solution, namespace, as_whom) = planned;
    if claim.solution() != solution || claim.namespace() != namespace {
        return mismatch(
            solution,
            &format!(
                "the claim is on {} in {}, and the plan is for {solution} in {namespace}: nothing was written",
                claim.solution(),
                claim.namespace(),
            ),
        );
    }
    if delegate.delegate() != as_whom {
        return mismatch(
            solution,
            &format!(
                "the plan names {} as the identity that deploys, and {} was to do it: nothing was written",
                as_whom.username(),
                delegate.delegate().username()
            ),
        );
    }
    Ok(())
}

fn check_kinds(claim: &Claimed, planned: &Planned) -> Result<(), ApplyError> {
    let Some(kind) = planned.kinds_of_cluster().into_iter().find(|kind| !claim.cluster_scoped().contains(kind)) else { return Ok(()) };
    mismatch(
        &planned.solution,
        &format!(
            "the claim is not on record for {} of the target's whole cluster, and the plan has some: nothing was written",
            GroupKind::from(&kind)
        ),
    )
}

fn mismatch(solution: &str, message: &str) -> Result<(), ApplyError> {
    let key = Key { group: String::new(), kind: "Solution".into(), name: solution.to_owned() };
    Err(ApplyError { errors: vec![errors::failure(&key, Reason::ClaimMismatch, message)], transient: false, missing: Vec::new() })
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
