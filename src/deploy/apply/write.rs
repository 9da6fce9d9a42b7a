//! One write of one object, on exactly the version that was seen. A write that arrives late finds another version, and changes nothing.

use std::time::Duration;

use serde_json::Value;

use crate::api::names;
use crate::api::plan::PlannedAction;
use crate::api::reason::Reason;
use crate::api::request_status::ObjectError;
use crate::cluster::errors::{self, Cause};
use crate::cluster::object::{self, Item, Key, Served};
use crate::cluster::retry::retrying;
use crate::deploy::apply::release;
use crate::deploy::apply::target::{Mode, Target, expect};
use crate::deploy::plan::diff;
use crate::deploy::plan::findings::Obstacle;
use crate::deploy::plan::members::{Set, Standing};
use crate::deploy::plan::planned::{Deletion, PlannedItem, Release};
use crate::identity::access::Right;
use crate::identity::fence::Fence;

/// How often a write is repeated because its object changed in between.
pub(crate) const STALE_ATTEMPTS: u32 = 8;
/// The wait before the first repetition; it grows each time.
pub(crate) const STALE_WAIT: Duration = Duration::from_millis(20);

/// How often to check whether an object that is created anew is gone. After that the whole deployment is tried again later.
const GONE_ATTEMPTS: u32 = 16;

/// What was applied: an object as the API server returned it last.
#[derive(Clone, Debug)]
pub(crate) struct AppliedObject {
    pub(crate) key: Key,
    pub(crate) served: Served,
    pub(crate) object: Value,
    /// Whether this run wrote it.
    pub(crate) is_written: bool,
    /// Whether a controller reports on it: on the existing object, or on one of its kind in development.
    pub(crate) is_reported_on: bool,
}

/// Why one object could not be written.
pub(crate) struct Failure {
    pub(crate) error: Box<ObjectError>,
    pub(crate) cause: Cause,
    pub(crate) is_transient: bool,
    pub(crate) missing: Vec<Right>,
}

impl Failure {
    pub(crate) fn of_call(key: &Key, error: &kube::Error, rights: Vec<Right>) -> Self {
        let cause = errors::classify(error);
        let missing = if cause == Cause::Unauthorized { rights } else { Vec::new() };
        Self { error: Box::new(errors::object_error(key, error)), cause, is_transient: cause == Cause::Transient, missing }
    }

    fn because(key: &Key, cause: Cause, is_transient: bool, message: &str) -> Self {
        let error = Box::new(errors::failure(key, cause.reason(), message));
        Self { error, cause, is_transient, missing: Vec::new() }
    }

    fn told(key: &Key, reason: Reason, is_transient: bool, message: &str) -> Self {
        let cause = if is_transient { Cause::Transient } else { Cause::Other };
        Self { error: Box::new(errors::failure(key, reason, message)), cause, is_transient, missing: Vec::new() }
    }

    pub(crate) fn changed(key: &Key, what: &str) -> Self {
        let message = format!(
            "{key} {what} in the target while it was deployed, so that nothing more was written to it: find out by whom, then ask again"
        );
        Self::because(key, Cause::Stale, false, &message)
    }

    fn fenced(key: &Key) -> Self {
        let message = format!("{key} was not written: another operator has taken over, or the claim on the environment is gone");
        Self::told(key, Reason::Fenced, true, &message)
    }

    pub(crate) fn restless(key: &Key) -> Self {
        let message = format!("{key} changes in the target faster than it can be written: find out by whom; it is tried again");
        Self::because(key, Cause::Stale, true, &message)
    }

    fn being_deleted(key: &Key, object: &Value) -> Self {
        let holders = object::finalizers(object);
        let by = if holders.is_empty() { String::new() } else { format!(" ({})", holders.join(", ")) };
        let message = format!("{key} is being deleted in the target and waits for its finalizers{by}: it is tried again until it is gone");
        Self::told(key, Reason::BeingDeleted, true, &message)
    }
}

/// Writes single objects to one target, under a fence.
pub(crate) struct Pen<'a> {
    pub(crate) target: Target,
    pub(crate) fence: &'a Fence,
}

/// Writes the objects of one set to one target.
pub(crate) struct Writer<'a> {
    pub(crate) pen: Pen<'a>,
    pub(crate) set: Set,
    pub(crate) force: bool,
}

/// The manifest to write, and the object to write it on.
pub(crate) struct Put<'a> {
    pub(crate) key: &'a Key,
    pub(crate) served: &'a Served,
    pub(crate) body: &'a Value,
    /// The object as it was seen; `None` if it did not exist.
    pub(crate) seen: Option<&'a Value>,
    pub(crate) force: bool,
}

impl Writer<'_> {
    /// Writes an object of the plan, if it changes.
    pub(crate) async fn write(&self, planned: PlannedItem) -> Result<AppliedObject, Failure> {
        let PlannedItem { item, action, live, handover, .. } = planned;
        let is_reported_on = live.as_ref().is_some_and(crate::cluster::kstatus::is_reported_on);
        let (object, is_written) = match (action, live) {
            // The patch also contains what an earlier attempt wrote into it.
            (PlannedAction::Unchanged, Some(object)) if object::is_being_deleted(&object) => {
                return Err(Failure::being_deleted(&item.key, &object));
            }
            (PlannedAction::Unchanged, Some(object)) => (object, false),
            (action, live) => {
                let live = match live {
                    Some(old) if action == PlannedAction::Recreate => {
                        self.make_room(&item, &old).await?;
                        None
                    }
                    Some(seen) if !handover.is_empty() => Some(self.hand_over(&item, seen, &handover).await?),
                    live => live,
                };
                let Item { key, served, body } = &item;
                let put = Put { key, served, body, seen: live.as_ref(), force: self.force };
                let may_adopt = action == PlannedAction::Adopts;
                (self.pen.put(&put, |found| self.is_ours(key, served, found, may_adopt)).await?, true)
            }
        };
        Ok(AppliedObject { key: item.key, served: item.served, object, is_written, is_reported_on })
    }

    /// Writes the parent of the set, and returns it. The plan made sure that it is the set's own, so its fields are taken over if others
    /// set them.
    pub(crate) async fn write_parent(&self, served: &Served, body: &Value, seen: Option<&Value>) -> Result<Value, Failure> {
        let name = object::metadata(body, "name").unwrap_or_default().to_owned();
        let key = Key { group: String::new(), kind: served.resource.kind.clone(), name };
        let put = Put { key: &key, served, body, seen, force: true };
        self.pen.put(&put, |found| Ok(object::label(found, names::APPLYSET_ID) == Some(&self.set.id))).await
    }

    /// Deletes the object that the plan saw. It may have changed since, but must not have been given to somebody else. Returns the object
    /// if finalizers hold it.
    pub(crate) async fn delete(&self, deletion: &Deletion) -> Result<Option<Value>, Failure> {
        let Deletion { key, served, uid, version, live: _ } = deletion;
        let pen = &self.pen;
        let mut version = version.clone();
        for attempt in 1..=STALE_ATTEMPTS {
            pen.stands(key)?;
            let outcome = retrying(|| pen.target.delete(served, &key.name, uid, Some(&version), Mode::Write(pen.fence))).await;
            let error = match outcome {
                Ok(left) => return Ok(left.filter(|object| !object::finalizers(object).is_empty())),
                Err(error) => error,
            };
            if errors::classify(&error) != Cause::Stale {
                return Err(Failure::of_call(key, &error, vec![pen.target.right("delete", served)]));
            }
            let found = pen.get(key, served).await?;
            let Some(found) = found.filter(|found| object::metadata(found, "uid") == Some(uid) && !object::is_being_deleted(found)) else {
                return Ok(None);
            };
            if !self.set.owns(&found, served.is_namespaced) {
                return Err(Failure::changed(key, "was taken over by somebody else"));
            }
            if self.set.has_adopted(&found) {
                return Err(Failure::changed(key, "was marked as what is not to be deleted"));
            }
            pen.still_holds(key).await?;
            object::metadata(&found, "resourceVersion").unwrap_or_default().clone_into(&mut version);
            tokio::time::sleep(STALE_WAIT * attempt).await;
        }
        Err(Failure::restless(key))
    }

    /// Removes the fields that the solution set in an object that it has adopted, and nothing else. If the object is gone, or no longer the
    /// set's, there is nothing to do.
    pub(crate) async fn release(&self, release: &Release) -> Result<(), Failure> {
        let Release { key, served, live, .. } = release;
        let pen = &self.pen;
        let mut manifest = release::nothing(key, served);
        let mut live = live.clone();
        for attempt in 1..=STALE_ATTEMPTS {
            pen.stands(key)?;
            expect(&mut manifest, Some(&live));
            let outcome = retrying(|| pen.target.apply(served, &key.name, &manifest, false, Mode::Write(pen.fence))).await;
            match outcome {
                Ok(_) => return Ok(()),
                Err(error) if errors::classify(&error) == Cause::Stale => {}
                Err(error) => return Err(Failure::of_call(key, &error, vec![pen.target.right("patch", served)])),
            }
            let is_it = |found: &Value| object::metadata(found, "uid") == object::metadata(&live, "uid");
            let found = pen.get(key, served).await?.filter(|found| is_it(found) && self.set.owns(found, served.is_namespaced));
            let Some(found) = found else { return Ok(()) };
            pen.still_holds(key).await?;
            live = found;
            tokio::time::sleep(STALE_WAIT * attempt).await;
        }
        Err(Failure::restless(key))
    }

    /// Whether an object that exists by now, or has changed, is the set's own, or is to be adopted as planned; `Err` if it may not be
    /// touched.
    fn is_ours(&self, key: &Key, served: &Served, found: &Value, may_adopt: bool) -> Result<bool, Failure> {
        match self.set.check_owner(key, served, Some(found)) {
            Ok(standing) => Ok(standing == Standing::Own || may_adopt && standing == Standing::Adoptable),
            Err(Obstacle::Refusal(result)) if !served.is_namespaced || result.reason != Reason::ExistsAlready => {
                Err(Failure { error: Box::new(result.into()), cause: Cause::Other, is_transient: false, missing: Vec::new() })
            }
            Err(_) => Ok(false),
        }
    }

    /// Deletes the object that the plan saw, and waits until its name is free.
    async fn make_room(&self, item: &Item, old: &Value) -> Result<(), Failure> {
        let Item { key, served, .. } = item;
        let of = |field: &str| object::metadata(old, field).unwrap_or_default().to_owned();
        let deletion =
            Deletion { key: key.clone(), served: served.clone(), uid: of("uid"), version: of("resourceVersion"), live: Value::Null };
        self.delete(&deletion).await?;
        let mut last = old.clone();
        for attempt in 1..=GONE_ATTEMPTS {
            match self.pen.get(key, served).await?.filter(|found| object::metadata(found, "uid") == Some(&deletion.uid)) {
                None => return Ok(()),
                Some(found) => last = found,
            }
            tokio::time::sleep(STALE_WAIT * attempt).await;
        }
        Err(Failure::being_deleted(key, &last))
    }
}

impl Pen<'_> {
    /// Writes an object on the version that was seen, and on later versions for which `is_ours` says that the write still applies.
    pub(crate) async fn put(&self, put: &Put<'_>, is_ours: impl Fn(&Value) -> Result<bool, Failure>) -> Result<Value, Failure> {
        let Put { key, served, body, seen, force } = *put;
        let mut manifest = body.clone();
        let mut newer: Option<Value> = None;
        for attempt in 1..=STALE_ATTEMPTS {
            self.stands(key)?;
            let current = newer.as_ref().or(seen);
            expect(&mut manifest, current);
            let error = match retrying(|| self.target.apply(served, &key.name, &manifest, force, Mode::Write(self.fence))).await {
                Ok(object) if object::is_being_deleted(&object) => return Err(Failure::being_deleted(key, &object)),
                Ok(object) => return Ok(object),
                Err(error) => error,
            };
            if errors::classify(&error) != Cause::Stale {
                let rights = self.target.rights_to_apply(served, current.is_some(), &error);
                return Err(Failure::of_call(key, &error, rights));
            }
            let found = self.get(key, served).await?;
            match (seen, found) {
                (None, None) => newer = None,
                // Two creations met. The existing object may be another set's, or a person's. If it is our own, go on with it.
                (None, Some(found)) if is_ours(&found)? => newer = Some(found),
                (None, Some(_)) => return Err(Failure::changed(key, "was created by somebody else")),
                (Some(_), None) => return Err(Failure::changed(key, "was deleted")),
                (Some(then), Some(now)) if object::metadata(then, "uid") != object::metadata(&now, "uid") => {
                    return Err(Failure::changed(key, "was deleted and created again"));
                }
                // Labels don't change the generation, and an object is handed on by changing its labels.
                (Some(_), Some(now)) if !is_ours(&now).unwrap_or_default() => {
                    return Err(Failure::changed(key, "was taken over by somebody else"));
                }
                (Some(then), Some(now)) if is_as_it_was(then, &now) => newer = Some(now),
                (Some(_), Some(now)) => return self.found_done(put, manifest, now).await,
            }
            self.still_holds(key).await?;
            tokio::time::sleep(STALE_WAIT * attempt).await;
        }
        Err(Failure::restless(key))
    }

    /// Somebody else changed the object. Or we did, and the reply was lost: then the object is as it should be.
    async fn found_done(&self, put: &Put<'_>, mut manifest: Value, now: Value) -> Result<Value, Failure> {
        let Put { key, served, force, .. } = *put;
        expect(&mut manifest, Some(&now));
        match retrying(|| self.target.apply(served, &key.name, &manifest, force, Mode::DryRun)).await {
            Ok(would_be) if diff::changed_fields(&now, &would_be).is_empty() => Ok(now),
            Ok(_) => Err(Failure::changed(key, "was changed by somebody else")),
            Err(error) if errors::classify(&error) == Cause::Stale => Err(Failure::changed(key, "was changed by somebody else")),
            Err(error) => Err(Failure::of_call(key, &error, vec![self.target.right("patch", served)])),
        }
    }

    pub(crate) async fn get(&self, key: &Key, served: &Served) -> Result<Option<Value>, Failure> {
        let found = retrying(|| self.target.get(served, &key.name)).await;
        found.map_err(|error| Failure::of_call(key, &error, vec![self.target.right("get", served)]))
    }

    pub(crate) fn stands(&self, key: &Key) -> Result<(), Failure> {
        if self.fence.stands() { Ok(()) } else { Err(Failure::fenced(key)) }
    }

    /// The check between reading an object and writing it on the version that was read.
    pub(crate) async fn still_holds(&self, key: &Key) -> Result<(), Failure> {
        match self.fence.holds().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::fenced(key)),
            Err(error) => Err(Failure::of_call(key, &error, Vec::new())),
        }
    }
}

/// Whether nobody has changed what a person writes in an object. Kinds without a spec have no generation that would tell.
pub(crate) fn is_as_it_was(then: &Value, now: &Value) -> bool {
    match (object::generation(then), object::generation(now)) {
        (None, None) => diff::changed_fields(then, now).is_empty(),
        (then, now) => then == now,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_has_no_generation_is_compared_by_what_it_holds() {
        let map = |version: &str, data: &str| json!({"metadata": {"uid": "u", "resourceVersion": version}, "data": {"a": data}});
        assert!(is_as_it_was(&map("1", "x"), &map("2", "x")));
        assert!(!is_as_it_was(&map("1", "x"), &map("2", "y")));
        let workload =
            |generation: i64, annotation: &str| json!({"metadata": {"generation": generation, "annotations": {"a": annotation}}});
        assert!(is_as_it_was(&workload(1, "x"), &workload(1, "y")));
        assert!(!is_as_it_was(&workload(1, "x"), &workload(2, "x")));
    }
}
