//! Waits until applied objects are healthy, with as few calls as possible.

pub(crate) mod consumers;
pub(crate) mod pods;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::core::ApiResource;
use serde_json::Value;

use crate::api::reason::Reason;
use crate::api::request_status::ObjectError;
use crate::cluster::errors;
pub(crate) use crate::cluster::kstatus::Health;
use crate::cluster::kstatus::{assess_as, is_reported_on, is_settled_by_writing, tells_generation};
use crate::cluster::object::{self, Key, Served};
use crate::cluster::paused;
use crate::cluster::retry::retrying;
use crate::deploy::apply::Applied;
use crate::deploy::apply::target::Target;
use crate::deploy::apply::write::AppliedObject;
use crate::deploy::plan::applyset::GroupKind;
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// How long to wait after a write before an old (or missing) status of a custom resource counts, if the status does not say which
/// generation it is about. Failures of anything that was just written also count only after this time.
const SETTLING: Duration = Duration::from_secs(5);
/// The most workloads whose pods are read.
const MAX_WORKLOADS: usize = 16;
/// The most deleted objects that are looked for.
const MAX_LEAVING: usize = 8;
/// The most reasons that are named for one workload.
const MAX_REASONS: usize = 4;

/// The progress of the applied objects.
#[derive(Clone, Debug, Default)]
pub(crate) struct HealthReport {
    /// Objects in progress: kind, name, and what they wait for.
    pub(crate) pending: Vec<(String, String, String)>,
    /// Objects that will not become healthy by themselves, one entry for each.
    pub(crate) failed: Vec<ObjectError>,
    /// Objects that count as current but do nothing yet, or not everything: one sentence for each.
    pub(crate) told: Vec<String>,
}

impl HealthReport {
    /// Whether everything is current.
    pub(crate) fn is_current(&self) -> bool {
        self.pending.is_empty() && self.failed.is_empty()
    }
}

/// Applied objects that are healthy, so that what they replace may be deleted. Only [`check`] makes it.
#[derive(Clone, Debug)]
pub(crate) struct Healthy {
    applied: Arc<Applied>,
}

impl Healthy {
    /// What was applied.
    pub(crate) fn applied(&self) -> &Applied {
        &self.applied
    }
}

/// Checks the applied objects, which are healthy if all of them are current. Objects of kinds that are in force once written, and objects that were current when last written or read,
/// are not read again. The others are read with one list for each kind. The classes of unbound claims are read as `operator`.
///
/// # Errors
/// If a list fails.
pub(crate) async fn check(
    delegate: &DelegateClient,
    operator: &Client,
    applied: &Arc<Applied>,
) -> Result<(HealthReport, Option<Healthy>), kube::Error> {
    let target = Target::new(delegate, &applied.namespace);
    let mut report = HealthReport::default();
    let (unsettled, elapsed) = (unsettled(applied), applied.since.elapsed());
    let lists = futures::future::try_join_all(unsettled.keys().map(|resource| {
        let (target, set) = (&target, &applied.set);
        async move {
            let selector = set.selector(resource.0.is_namespaced);
            retrying(|| target.list(&resource.0, &selector)).await
        }
    }))
    .await?;
    let mut looked: Vec<(&AppliedObject, Option<&Value>)> = Vec::new();
    for ((_, waiting), list) in unsettled.into_iter().zip(&lists) {
        let found: BTreeMap<&str, &Value> = list.iter().filter_map(|o| Some((object::metadata(o, "name")?, o))).collect();
        looked.extend(waiting.into_iter().map(|object| (object, found.get(object.key.name.as_str()).copied())));
    }
    let classes: BTreeSet<&str> = looked.iter().filter_map(|(object, found)| consumers::class_of_unused(&object.key, (*found)?)).collect();
    let lazy = if classes.is_empty() { BTreeSet::new() } else { consumers::lazy(operator, classes).await };
    for (object, found) in &looked {
        match found.and_then(|found| consumers::class_of_unused(&object.key, found)).filter(|class| lazy.contains(*class)) {
            Some(class) => report
                .told
                .push(format!("{} waits for its first consumer: its class {class} makes a volume for it when a pod uses it", object.key)),
            None => judge(object, *found, elapsed, &mut report),
        }
    }
    if report.is_current() {
        let last = |object: &AppliedObject| looked.iter().find(|(o, _)| o.key == object.key).and_then(|(_, found)| *found).cloned();
        report.told.extend(applied.objects.iter().filter_map(|o| paused::told(&o.key, last(o).as_ref().unwrap_or(&o.object))));
    }
    let healthy = report.is_current().then(|| Healthy { applied: applied.clone() });
    Ok((report, healthy))
}

/// Pruned objects that still exist, with who holds them. The deployment does not depend on this, so objects that can't be read are left
/// out.
pub(crate) async fn leaving(delegate: &DelegateClient, healthy: &Healthy) -> Vec<String> {
    let applied = healthy.applied();
    let target = Target::new(delegate, &applied.namespace);
    let mut found = Vec::new();
    for gone in applied.leaving().iter().take(MAX_LEAVING) {
        let Ok(Some(object)) = target.get(&gone.served, &gone.key.name).await else { continue };
        let holders = object::finalizers(&object).join(", ");
        if object::metadata(&object, "uid") == Some(&gone.uid) && !holders.is_empty() {
            found.push(format!("{} (held by {holders})", gone.key));
        }
    }
    found
}

/// The rights that this check needs.
pub(crate) fn rights(delegate: &DelegateClient, applied: &Applied) -> Vec<Right> {
    let target = Target::new(delegate, &applied.namespace);
    unsettled(applied).keys().map(|resource| target.right("list", &resource.0)).collect()
}

/// A resource in a form that can be a key.
#[derive(Clone, PartialEq, Eq)]
struct Listed(Served);

impl Ord for Listed {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let of = |served: &Served| (GroupKind::of(&served.resource), served.resource.version.clone(), served.is_namespaced);
        of(&self.0).cmp(&of(&other.0))
    }
}

impl PartialOrd for Listed {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What has to be read, by resource.
fn unsettled(applied: &Applied) -> BTreeMap<Listed, Vec<&AppliedObject>> {
    let mut unsettled: BTreeMap<Listed, Vec<&AppliedObject>> = BTreeMap::new();
    for object in &applied.objects {
        let (group, kind) = (object.key.group.as_str(), object.key.kind.as_str());
        let is_known = is_settled_by_writing(group, kind)
            || (assess_as(group, kind, &object.object) == Health::Current && !may_be_believed_too_early(object, &object.object));
        if !is_known {
            unsettled.entry(Listed(object.served.clone())).or_default().push(object);
        }
    }
    unsettled
}

/// Whether "current" may come from a controller that has not seen this run's write yet.
fn may_be_believed_too_early(object: &AppliedObject, now: &Value) -> bool {
    object.is_written && object::is_custom(&object.key.group) && !tells_generation(now)
}

/// Whether no controller has reported on the object although its kind is reported on: its controller has not looked at it.
fn is_overlooked(object: &AppliedObject, now: &Value) -> bool {
    object.is_written && object::is_custom(&object.key.group) && object.is_reported_on && !is_reported_on(now)
}

/// Whether the cluster deletes an object when it has finished: nothing more can be seen of such a Job.
fn removes_itself(object: &AppliedObject) -> bool {
    object.key.group == "batch"
        && object.key.kind == "Job"
        && object.object.pointer("/spec/ttlSecondsAfterFinished").is_some_and(Value::is_u64)
}

fn judge(object: &AppliedObject, found: Option<&Value>, elapsed: Duration, report: &mut HealthReport) {
    let key = &object.key;
    let Some(found) = found else {
        if removes_itself(object) {
            return;
        }
        report.failed.push(errors::failure(
            key,
            Reason::Missing,
            &format!("{key} was applied, and somebody deleted it from the target since (or took its label): find out who"),
        ));
        return;
    };
    match assess_as(&key.group, &key.kind, found) {
        // A suspended object need not be read.
        Health::Current if paused::told(key, found).is_some() => {}
        Health::Current if is_overlooked(object, found) => {
            pend(key, "its controller, which reports on objects of this kind, has not looked at it yet: see whether it runs", report);
        }
        Health::Current if may_be_believed_too_early(object, found) && elapsed < SETTLING => {
            pend(key, "its controller may not have seen it yet", report);
        }
        Health::Current => {}
        Health::InProgress(what) => pend(key, &what, report),
        // The failure may be from before the write.
        Health::Failed(why) if object.is_written && elapsed < SETTLING => pend(key, &why, report),
        Health::Failed(why) => report.failed.push(errors::failure(key, Reason::Unhealthy, &format!("{key}: {why}"))),
    }
}

fn pend(key: &Key, what: &str, report: &mut HealthReport) {
    report.pending.push((key.kind.clone(), key.name.clone(), errors::bounded(what, 512)));
}

/// For the time-out: what is not current, and what its pods say if the delegate may list pods.
///
/// One list for each workload that is not current, at most 16 of them. What can't be read is left out.
pub(crate) async fn reasons(delegate: &DelegateClient, applied: &Applied, report: &HealthReport) -> Vec<ObjectError> {
    let target = Target::new(delegate, &applied.namespace);
    let pods = Served::in_namespaces(ApiResource::erase::<Pod>(&()));
    let mut found = report.failed.clone();
    for (index, (kind, name, what)) in report.pending.iter().enumerate() {
        let Some(object) = applied.objects.iter().find(|o| o.key.kind == *kind && o.key.name == *name) else { continue };
        let mut message = format!("{} was not current in time: {what}", object.key);
        if index < MAX_WORKLOADS
            && let Some(selector) = pods::selector(&object.object)
            && let Ok(pods) = target.list(&pods, &selector).await
        {
            for reason in pods::reasons(&pods).into_iter().take(MAX_REASONS) {
                message.push_str("; ");
                message.push_str(&reason);
            }
        }
        found.push(errors::failure(&object.key, Reason::NotCurrentInTime, &message));
    }
    found
}

#[cfg(test)]
mod tests {
    use kube::core::GroupVersionKind;
    use serde_json::json;

    use super::*;

    fn applied_object(group: &str, kind: &str, is_written: bool, object: Value) -> AppliedObject {
        AppliedObject {
            key: Key { group: group.into(), kind: kind.into(), name: "x".into() },
            served: Served::in_namespaces(ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind))),
            object,
            is_written,
            is_reported_on: false,
        }
    }

    fn report() -> HealthReport {
        HealthReport::default()
    }

    #[test]
    fn a_custom_resource_is_given_time_until_its_controller_has_seen_it() {
        let silent = json!({"metadata": {"generation": 2}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let written = applied_object("example.test", "Widget", true, silent.clone());
        let mut early = report();
        judge(&written, Some(&silent), Duration::ZERO, &mut early);
        assert_eq!(early.pending.len(), 1);

        let telling = json!({"metadata": {"generation": 2}, "status": {"observedGeneration": 2, "conditions": [{"type": "Ready", "status": "True"}]}});
        let mut told = report();
        judge(&written, Some(&telling), Duration::ZERO, &mut told);
        judge(&applied_object("example.test", "Widget", false, silent.clone()), Some(&silent), Duration::ZERO, &mut told);
        assert!(told.is_current());

        let mut late = report();
        judge(&written, Some(&silent), SETTLING, &mut late);
        assert!(late.is_current());
    }

    #[test]
    fn a_custom_resource_that_controllers_report_on_is_not_current_before_they_do() {
        let silent = json!({"metadata": {"generation": 1}});
        let pending = |is_reported_on: bool, is_written: bool, now: &Value| {
            let mut report = report();
            let object = AppliedObject { is_reported_on, ..applied_object("example.test", "Widget", is_written, now.clone()) };
            judge(&object, Some(now), SETTLING * 100, &mut report);
            report.pending.len()
        };
        assert_eq!(pending(true, true, &silent), 1);
        assert_eq!((pending(false, true, &silent), pending(true, false, &silent)), (0, 0));
        let suspended = json!({"metadata": {"generation": 1}, "spec": {"suspend": true}});
        assert_eq!(pending(true, true, &suspended), 0, "its controller need not look at it");
        let reported = json!({"metadata": {"generation": 1}, "status": {"conditions": [{"type": "Synced", "status": "True"}]}});
        assert_eq!(pending(true, true, &reported), 0);
    }

    #[test]
    fn the_failure_of_what_was_there_before_is_not_that_of_what_was_just_written() {
        let exceeded = json!({
            "metadata": {"generation": 2},
            "status": {"observedGeneration": 2, "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]},
        });
        let judged = |is_written: bool, elapsed: Duration| {
            let mut report = report();
            judge(&applied_object("apps", "Deployment", is_written, exceeded.clone()), Some(&exceeded), elapsed, &mut report);
            (report.pending.len(), report.failed.len())
        };
        assert_eq!(judged(true, Duration::ZERO), (1, 0));
        assert_eq!(judged(true, SETTLING), (0, 1));
        assert_eq!(judged(false, Duration::ZERO), (0, 1));
    }

    #[test]
    fn a_job_that_removes_itself_is_not_missed() {
        let judged = |spec: Value| {
            let mut report = report();
            judge(&applied_object("batch", "Job", true, json!({"spec": spec})), None, SETTLING, &mut report);
            (report.pending.len(), report.failed.len())
        };
        assert_eq!(judged(json!({"ttlSecondsAfterFinished": 0})), (0, 0));
        assert_eq!(judged(json!({})), (0, 1));
    }

    #[test]
    fn an_object_that_was_deleted_meanwhile_is_a_failure() {
        let mut report = report();
        judge(&applied_object("apps", "Deployment", true, json!({})), None, SETTLING, &mut report);
        assert_eq!(report.failed[0].reason, "Missing");
    }
}
