//! The input of a dry run, and its bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::cluster_scoped::ClusterScopedKind;
use crate::api::reference::GroupKind as Kind;
use crate::cluster::object::{self, Key};

/// How many calls are under way at once, where nothing else is said.
pub const CONCURRENCY: usize = 8;

/// What to plan.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The target namespace.
    pub namespace: &'a str,
    /// The host whose solution it is: another host's of the same name put other objects there.
    pub host: &'a str,
    /// The solution's name.
    pub solution: &'a str,
    /// The objects, as a person would have written them.
    pub objects: &'a [Value],
    /// Whether fields that other managers own are taken from them. False: they are conflicts.
    pub force: bool,
    /// How many calls are under way at once; at least 1.
    pub concurrency: usize,
    /// Whether the solution is expected to be new in the target: then what a first deployment writes besides is tried at once,
    /// and parent and members of its set are looked for only where that says that the parent is there. A guess that is wrong costs time, and nothing else.
    pub is_first: bool,
    /// What may belong to the target's whole cluster.
    pub cluster: ClusterBounds<'a>,
    /// The objects that alone may be deleted; `None`: all of the set that are not in `objects`.
    pub may_delete: Option<&'a Created>,
    /// The custom kinds that a controller reported on where the objects came from.
    pub reported_on: &'a [Kind],
}

/// How far the clocks of two clusters may be apart.
const CLOCKS: Duration = Duration::from_mins(5);

/// What one run created: what it changed was there before, and stays when the run is taken back.
#[derive(Clone, Debug)]
pub struct Created {
    /// What its plan says that it creates.
    pub planned: BTreeSet<Key>,
    /// What its plan had no room for: of these, what is as young as the run.
    pub unlisted: BTreeSet<Key>,
    /// When the run began.
    pub since: Timestamp,
}

impl Created {
    /// Whether the run created this object. Where its plan says that it was to be created, it was not there before: then the time tells
    /// only that it is not what another run created meanwhile.
    pub fn has(&self, key: &Key, object: &Value) -> bool {
        let Some(at) = object::metadata(object, "creationTimestamp").and_then(|at| at.parse::<Timestamp>().ok()) else { return false };
        self.planned.contains(key) && at + CLOCKS >= self.since || self.unlisted.contains(key) && at >= self.since
    }
}

/// What a solution may bring that belongs to its target's whole cluster, and as whose.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClusterBounds<'a> {
    /// The Environment that allows it, for people.
    pub environment: &'a str,
    /// The uid of the target namespace, whose these objects are.
    pub namespace_uid: &'a str,
    /// The kinds that the Environment lists.
    pub allowed: &'a [ClusterScopedKind],
    /// The kinds of which the solution has put objects into the whole cluster, or may have, by the operator's own record.
    pub recorded: &'a [Kind],
    /// The kinds that belonged to the whole cluster where the objects were exported from; `None` where that is not known.
    pub exported: Option<&'a [Kind]>,
}

impl<'a> PlanInput<'a> {
    /// A plan without force, with the usual concurrency ([`CONCURRENCY`]), and with nothing that belongs to the whole cluster.
    pub fn new(namespace: &'a str, solution: &'a str, objects: &'a [Value]) -> Self {
        Self {
            namespace,
            host: "",
            solution,
            objects,
            force: false,
            concurrency: CONCURRENCY,
            is_first: false,
            cluster: ClusterBounds::default(),
            may_delete: None,
            reported_on: &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_created_what_its_plan_says_and_what_is_as_young_as_it_where_the_plan_had_no_room() {
        let key = |name: &str| Key { group: String::new(), kind: "ConfigMap".into(), name: name.into() };
        let created = Created {
            planned: [key("planned")].into(),
            unlisted: [key("unlisted")].into(),
            since: "2026-01-01T12:00:00Z".parse().unwrap(),
        };
        let has = |name: &str, at: &str| created.has(&key(name), &json!({"metadata": {"creationTimestamp": at}}));
        assert!(has("planned", "2026-01-01T12:00:00Z") && has("planned", "2026-01-01T11:59:00Z"), "clocks differ");
        assert!(!has("planned", "2026-01-01T11:00:00Z"), "somebody else created it after it was planned");
        assert!(has("unlisted", "2026-01-01T12:00:00Z") && !has("unlisted", "2026-01-01T11:59:59Z"));
        assert!(!has("another", "2026-01-01T12:00:00Z"), "whatever its age");
        assert!(!created.has(&key("planned"), &json!({"metadata": {}})));
    }
}
