//! Carries a plan out: the record of the set, the objects in waves, then pruning.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use kube::core::ApiResource;
use serde_json::Value;
use tokio::time::Instant;

use super::applyset::{self, GroupKind};
use super::claimed::Claimed;
use super::diff;
use super::errors::{self, Cause};
use super::findings::Obstacle;
use super::object::{self, Item, Key};
use super::order;
use super::plan::check_owner;
use super::planned::{Deletion, Planned, PlannedItem};
use super::retry::retrying;
use super::survey::config_maps;
use super::target::{Mode, Target};
use crate::api::names;
use crate::api::plan::PlannedAction;
use crate::api::request_status::ObjectError;
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// How often a write is made again because its object changed in between.
const STALE_ATTEMPTS: u32 = 8;
/// The wait before the first of these; it grows by itself each time.
const STALE_WAIT: Duration = Duration::from_millis(20);

/// How often it is looked whether an object that is created anew is gone, before the whole is tried again later.
const GONE_ATTEMPTS: u32 = 16;

/// What was applied: an object as the API server returned it last.
#[derive(Clone, Debug)]
pub(super) struct AppliedObject {
    pub key: Key,
    pub resource: ApiResource,
    pub object: Value,
    /// Whether this run wrote it.
    pub is_written: bool,
}

/// A plan that was carried out. It comes from [`apply`] alone.
#[derive(Clone, Debug)]
pub struct Applied {
    pub(super) namespace: String,
    pub(super) set: String,
    pub(super) objects: Vec<AppliedObject>,
    pub(super) since: Instant,
    written: usize,
    deleted: usize,
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
/// saw, and again on a newer one while uid and generation are the same. A wave with errors ends the run:
/// nothing later is applied and nothing is pruned. Pruning takes the waves in reverse and deletes exactly the
/// uids that the plan named.
///
/// # Errors
/// What failed. Claim, plan and client must be of the same target, solution and delegate.
pub async fn apply(claim: &Claimed, delegate: &DelegateClient, planned: Planned, concurrency: usize) -> Result<Applied, ApplyError> {
    check_claim(claim, delegate, &planned)?;
    let concurrency = concurrency.max(1);
    let target = Target::new(delegate, &planned.namespace);
    let Planned { namespace, solution, set, delegate: _, force, parent, items, deletions } = planned;
    let parent_exists = parent.known.is_some();

    if let Some(kinds) = parent.widened() {
        write_parent(&target, &namespace, &solution, kinds, parent_exists).await?;
    }

    let waves = order::waves(items.iter().map(|i| (i.item.key.group.as_str(), i.item.key.kind.as_str())));
    let mut waiting: Vec<Option<PlannedItem>> = items.into_iter().map(Some).collect();
    let mut objects = Vec::with_capacity(waiting.len());
    for wave in waves {
        let members: Vec<PlannedItem> = wave.into_iter().filter_map(|index| waiting[index].take()).collect();
        let outcomes: Vec<Result<AppliedObject, Failure>> =
            stream::iter(members).map(|item| write(&target, &set, force, item)).buffer_unordered(concurrency).collect().await;
        objects.extend(succeeded(outcomes)?);
    }

    let mut waves = order::waves(deletions.iter().map(|d| (d.key.group.as_str(), d.key.kind.as_str())));
    waves.reverse();
    for wave in waves {
        let outcomes: Vec<Result<(), Failure>> =
            stream::iter(wave).map(|index| delete(&target, &deletions[index])).buffer_unordered(concurrency).collect().await;
        succeeded(outcomes)?;
    }

    if let Some(kinds) = parent.narrowed() {
        write_parent(&target, &namespace, &solution, kinds, true).await?;
    }
    let written = objects.iter().filter(|o| o.is_written).count();
    Ok(Applied { namespace, set, objects, since: Instant::now(), written, deleted: deletions.len() })
}

/// Why one object could not be written.
struct Failure {
    error: ObjectError,
    is_transient: bool,
    missing: Vec<Right>,
}

impl Failure {
    fn of_call(key: &Key, error: &kube::Error, rights: Vec<Right>) -> Self {
        let cause = errors::classify(error);
        let missing = if cause == Cause::Unauthorized { rights } else { Vec::new() };
        Self { error: errors::object_error(key, error), is_transient: cause == Cause::Transient, missing }
    }

    fn changed(key: &Key, what: &str) -> Self {
        let message = format!(
            "{key} {what} in the target while it was deployed, so that nothing more was written to it: find out by whom, then ask again"
        );
        Self { error: errors::failure(key, Cause::Stale.reason(), &message), is_transient: false, missing: Vec::new() }
    }
}

impl From<Vec<Failure>> for ApplyError {
    fn from(failures: Vec<Failure>) -> Self {
        let transient = failures.iter().all(|failure| failure.is_transient);
        let missing: BTreeSet<Right> = failures.iter().flat_map(|failure| failure.missing.iter().cloned()).collect();
        Self { transient, missing: missing.into_iter().collect(), errors: failures.into_iter().map(|failure| failure.error).collect() }
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
    Ok(())
}

/// The parent is the set's own, which the plan made sure of: its fields are taken where others set them.
async fn write_parent(
    target: &Target,
    namespace: &str,
    solution: &str,
    kinds: &BTreeSet<GroupKind>,
    exists: bool,
) -> Result<(), ApplyError> {
    let (resource, name) = (config_maps(), names::applyset_parent_name(solution));
    let manifest = applyset::parent(solution, namespace, kinds);
    match retrying(|| target.apply(&resource, &name, &manifest, true, Mode::Write)).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let rights = target.rights_to_apply(&resource, exists, &error);
            Err(vec![Failure::of_call(&Key { group: String::new(), kind: resource.kind, name }, &error, rights)].into())
        }
    }
}

async fn write(target: &Target, set: &str, force: bool, planned: PlannedItem) -> Result<AppliedObject, Failure> {
    let PlannedItem { item, action, live, .. } = planned;
    let applied =
        |object: Value, is_written: bool| AppliedObject { key: item.key.clone(), resource: item.resource.clone(), object, is_written };
    let (resource, name) = (&item.resource, item.key.name.as_str());
    if let (PlannedAction::Unchanged, Some(object)) = (action, &live) {
        return Ok(applied(object.clone(), false));
    }
    let live = match live {
        Some(old) if action == PlannedAction::Recreate => {
            make_room(target, &item, &old).await?;
            None
        }
        live => live,
    };
    let mut manifest = item.body.clone();
    let mut current = live.clone();
    for attempt in 1..=STALE_ATTEMPTS {
        if let Some(current) = &current {
            expect_version(&mut manifest, current);
        }
        let error = match retrying(|| target.apply(resource, name, &manifest, force, Mode::Write)).await {
            Ok(object) if object::is_being_deleted(&object) => return Err(being_deleted(&item.key)),
            Ok(object) => return Ok(applied(object, true)),
            Err(error) => error,
        };
        if errors::classify(&error) != Cause::Stale {
            let rights = target.rights_to_apply(resource, current.is_some(), &error);
            return Err(Failure::of_call(&item.key, &error, rights));
        }
        let found = retrying(|| target.get(resource, name))
            .await
            .map_err(|error| Failure::of_call(&item.key, &error, vec![target.right("get", resource)]))?;
        match (&live, found) {
            // Two creations met. What is there may be another set's.
            (None, found) => {
                if let Err(Obstacle::Refusal(result)) = check_owner(&item.key, set, found.as_ref()) {
                    return Err(Failure {
                        error: errors::failure(&item.key, &result.reason, &result.message),
                        is_transient: false,
                        missing: Vec::new(),
                    });
                }
            }
            (Some(_), None) => return Err(Failure::changed(&item.key, "was deleted")),
            (Some(then), Some(now)) if object::metadata(then, "uid") != object::metadata(&now, "uid") => {
                return Err(Failure::changed(&item.key, "was deleted and created again"));
            }
            (Some(then), Some(now)) if object::generation(then) == object::generation(&now) => current = Some(now),
            (Some(_), Some(now)) => {
                // Somebody else changed it, unless it was we, and the reply was lost: then it is as it shall be.
                expect_version(&mut manifest, &now);
                return match retrying(|| target.apply(resource, name, &manifest, force, Mode::DryRun)).await {
                    Ok(would_be) if diff::changed_fields(&now, &would_be).is_empty() => Ok(applied(now, true)),
                    Ok(_) => Err(Failure::changed(&item.key, "was changed by somebody else")),
                    Err(error) if errors::classify(&error) == Cause::Stale => {
                        Err(Failure::changed(&item.key, "was changed by somebody else"))
                    }
                    Err(error) => Err(Failure::of_call(&item.key, &error, vec![target.right("patch", resource)])),
                };
            }
        }
        tokio::time::sleep(STALE_WAIT * attempt).await;
    }
    let message = format!("{} changes in the target faster than it can be written: find out by whom; it is tried again", item.key);
    Err(Failure { error: errors::failure(&item.key, Cause::Stale.reason(), &message), is_transient: true, missing: Vec::new() })
}

/// Deletes the object that the plan saw, and waits until its name is free.
async fn make_room(target: &Target, item: &Item, old: &Value) -> Result<(), Failure> {
    let (resource, name) = (&item.resource, item.key.name.as_str());
    let uid = object::metadata(old, "uid").unwrap_or_default();
    let failed = |verb: &str, error: &kube::Error| Failure::of_call(&item.key, error, vec![target.right(verb, resource)]);
    retrying(|| target.delete(resource, name, uid, Mode::Write)).await.map_err(|error| failed("delete", &error))?;
    for attempt in 1..=GONE_ATTEMPTS {
        let found = retrying(|| target.get(resource, name)).await.map_err(|error| failed("get", &error))?;
        if found.is_none_or(|found| object::metadata(&found, "uid") != Some(uid)) {
            return Ok(());
        }
        tokio::time::sleep(STALE_WAIT * attempt).await;
    }
    Err(being_deleted(&item.key))
}

/// Makes the write one on exactly this version of exactly this object.
fn expect_version(manifest: &mut Value, current: &Value) {
    for field in ["uid", "resourceVersion"] {
        if let Some(value) = object::metadata(current, field) {
            object::set_metadata(manifest, field, value);
        }
    }
}

fn being_deleted(key: &Key) -> Failure {
    let message = format!("{key} is being deleted in the target and waits for its finalizers: it is tried again until it is gone");
    Failure { error: errors::failure(key, "BeingDeleted", &message), is_transient: true, missing: Vec::new() }
}

async fn delete(target: &Target, deletion: &Deletion) -> Result<(), Failure> {
    retrying(|| target.delete(&deletion.resource, &deletion.key.name, &deletion.uid, Mode::Write))
        .await
        .map_err(|error| Failure::of_call(&deletion.key, &error, vec![target.right("delete", &deletion.resource)]))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

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

    #[test]
    fn a_write_names_the_version_that_it_is_made_for() {
        let mut manifest = json!({"metadata": {"name": "x"}});
        expect_version(&mut manifest, &json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": "7", "generation": 2}}));
        assert_eq!(manifest, json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": "7"}}));
    }
}
