//! Data that a plan deletes. A plan has no line for some of it, because the cluster deletes it together with something else: the claims of
//! a `StatefulSet`, and what the controller of a custom resource keeps for it.
//!
//! The volume says whether its data outlives the claim. Volumes are cluster-scoped and not read, so their data counts as lost.

use serde_json::Value;

use crate::api::plan::{PlanResult, PlannedAction};
use crate::api::reason::Reason;
use crate::cluster::errors::{self, first_few};
use crate::cluster::object::{self, Key};
use crate::deploy::plan::planned::{Deletion, Planned, PlannedItem};

/// The most objects that results name.
const NAMED: usize = 16;

/// What loses data, one result for each object. Claims that are objects of the solution come first.
pub(crate) fn of(planned: &Planned) -> Vec<PlanResult> {
    let mut lost: Vec<(&Key, String)> = lost(planned).collect();
    lost.sort_by_key(|(key, _)| !is_claim(key));
    let mut results: Vec<PlanResult> = lost.iter().take(NAMED).map(|(key, said)| errors::result(key, Reason::DeletesData, said)).collect();
    if let Some(more) = lost.len().checked_sub(NAMED).filter(|more| *more > 0) {
        let solution = Key { group: String::new(), kind: "Solution".into(), name: planned.solution.clone() };
        let message = format!("{more} more objects go with the data that they keep: look at what is deleted before you decide");
        results.push(errors::result(&solution, Reason::DeletesData, &message));
    }
    results
}

/// The objects with which data is deleted.
pub(crate) fn keys(planned: &Planned) -> impl Iterator<Item = &Key> {
    lost(planned).map(|(key, _)| key)
}

fn lost(planned: &Planned) -> impl Iterator<Item = (&Key, String)> {
    let goes = planned.pruning.deletions.iter().map(|Deletion { key, live, .. }| (key, going(key, live, "deletes")));
    let changes = planned.items.iter().map(|item| (&item.item.key, changing(item)));
    goes.chain(changes).filter_map(|(key, said)| Some((key, said?)))
}

fn changing(planned: &PlannedItem) -> Option<String> {
    let live = planned.live.as_ref()?;
    match planned.action {
        PlannedAction::Recreate => going(&planned.item.key, live, "deletes and creates anew"),
        PlannedAction::Update if is_stateful_set(&planned.item.key) => scaled_down(&planned.item.key, live, planned.outcome()),
        _ => None,
    }
}

/// What is deleted together with an object.
fn going(key: &Key, live: &Value, does: &str) -> Option<String> {
    if is_claim(key) {
        return Some(format!("{does} {key}, with the data on its volume unless that is retained (persistentVolumeReclaimPolicy: Retain)"));
    }
    if is_stateful_set(key) && retention(live, "whenDeleted") == "Delete" {
        let claims = claims(key, live, 0..replicas(live));
        return (!claims.is_empty()).then(|| {
            format!(
                "{does} {key}, and the cluster deletes its claims with it (persistentVolumeClaimRetentionPolicy.whenDeleted: Delete), with the data on their volumes unless these are retained: {}",
                named(claims)
            )
        });
    }
    let holders = object::finalizers(live);
    (object::is_custom(&key.group) && !holders.is_empty()).then(|| {
        format!(
            "{does} {key}, and its controller deletes what it stands for, which may hold data (finalizers: {})",
            first_few(holders.into_iter().map(|holder| errors::bounded(holder, 253)).collect::<Vec<_>>().into_iter())
        )
    })
}

/// The claims of the pods that a `StatefulSet` will no longer have.
fn scaled_down(key: &Key, live: &Value, outcome: &Value) -> Option<String> {
    if retention(outcome, "whenScaled") != "Delete" {
        return None;
    }
    let claims = claims(key, live, replicas(outcome)..replicas(live));
    (!claims.is_empty()).then(|| {
        format!(
            "scales {key} down, and the cluster deletes the claims of the pods that go (persistentVolumeClaimRetentionPolicy.whenScaled: Delete), with the data on their volumes unless these are retained: {}",
            named(claims)
        )
    })
}

/// The names of the claims of these pods of a `StatefulSet`.
fn claims(key: &Key, set: &Value, pods: std::ops::Range<u64>) -> Vec<String> {
    let templates = set.pointer("/spec/volumeClaimTemplates").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let first = set.pointer("/spec/ordinals/start").and_then(Value::as_u64).unwrap_or(0);
    // Only as many as a sentence names, and their number: the field may have any value.
    let pods = pods.start..pods.end.min(pods.start.saturating_add(1000));
    let of_pod =
        |pod: u64| templates.iter().map(move |template| format!("{}-{}-{}", object::name(template), key.name, first.saturating_add(pod)));
    pods.flat_map(of_pod).collect()
}

fn named(claims: Vec<String>) -> String {
    first_few(claims.into_iter().map(|name| format!("PersistentVolumeClaim {name}")))
}

fn retention<'a>(set: &'a Value, when: &str) -> &'a str {
    set.pointer("/spec/persistentVolumeClaimRetentionPolicy")
        .and_then(|policy| policy.get(when))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn replicas(set: &Value) -> u64 {
    set.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)
}

fn is_claim(key: &Key) -> bool {
    key.group.is_empty() && key.kind == "PersistentVolumeClaim"
}

fn is_stateful_set(key: &Key) -> bool {
    key.group == "apps" && key.kind == "StatefulSet"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(group: &str, kind: &str, name: &str) -> Key {
        Key { group: group.into(), kind: kind.into(), name: name.into() }
    }

    fn set(replicas: u64, policy: &Value) -> Value {
        json!({"spec": {"replicas": replicas, "persistentVolumeClaimRetentionPolicy": policy,
            "volumeClaimTemplates": [{"metadata": {"name": "data"}}, {"metadata": {"name": "log"}}]}})
    }

    #[test]
    fn a_stateful_set_that_goes_takes_the_claims_of_its_pods_along_where_it_says_so() {
        let db = key("apps", "StatefulSet", "db");
        let said = going(&db, &set(2, &json!({"whenDeleted": "Delete"})), "deletes").unwrap();
        let names = ["data-db-0", "log-db-0", "data-db-1", "log-db-1"].map(|name| format!("PersistentVolumeClaim {name}")).join("; ");
        assert!(said.starts_with("deletes StatefulSet db, ") && said.ends_with(&names), "{said}");
        assert_eq!(going(&db, &set(2, &json!({"whenDeleted": "Retain", "whenScaled": "Delete"})), "deletes"), None);
        assert_eq!(going(&db, &set(2, &Value::Null), "deletes"), None);
        let mut numbered = set(1, &json!({"whenDeleted": "Delete"}));
        numbered["spec"]["ordinals"] = json!({"start": 5});
        assert!(going(&db, &numbered, "deletes").unwrap().contains("data-db-5"));
        assert!(going(&db, &set(u64::MAX, &json!({"whenDeleted": "Delete"})), "deletes").unwrap().ends_with("and 1995 more"));
    }

    #[test]
    fn a_stateful_set_that_shrinks_loses_the_claims_of_the_pods_that_go() {
        let db = key("apps", "StatefulSet", "db");
        let policy = json!({"whenScaled": "Delete"});
        let said = scaled_down(&db, &set(3, &policy), &set(2, &policy)).unwrap();
        assert!(said.ends_with("PersistentVolumeClaim data-db-2; PersistentVolumeClaim log-db-2"), "{said}");
        assert_eq!(scaled_down(&db, &set(3, &policy), &set(2, &json!({"whenScaled": "Retain"}))), None);
        assert_eq!(scaled_down(&db, &set(2, &policy), &set(3, &policy)), None);
    }

    #[test]
    fn claims_and_what_finalizers_stand_for_are_data() {
        assert!(going(&key("", "PersistentVolumeClaim", "uploads"), &json!({}), "deletes").is_some());
        let held = json!({"metadata": {"finalizers": ["db.example.test/cluster"]}});
        let said = going(&key("db.example.test", "Cluster", "main"), &held, "deletes and creates anew").unwrap();
        assert!(said.starts_with("deletes and creates anew Cluster main") && said.contains("db.example.test/cluster"), "{said}");
        assert_eq!(going(&key("db.example.test", "Cluster", "main"), &json!({}), "deletes"), None);
        assert_eq!(going(&key("", "Service", "web"), &held, "deletes"), None, "the cluster's own finalizers keep no data");
    }
}
