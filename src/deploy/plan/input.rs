//! The input of a dry run, and its bounds.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::api::cluster_scoped::ClusterScopedKind;
use crate::api::reference::GroupKind as Kind;
use crate::cluster::object::{self, Key};

/// The default number of concurrent calls.
pub(crate) const CONCURRENCY: usize = 8;

/// What to plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlanInput<'a> {
    /// The target namespace.
    pub(crate) namespace: &'a str,
    /// The host that the solution belongs to. Another host's solution of the same name put other objects there.
    pub(crate) host: &'a str,
    /// The solution's name.
    pub(crate) solution: &'a str,
    /// The objects, as a person would have written them.
    pub(crate) objects: &'a [Value],
    /// Whether fields that other managers own are taken over. If false, they are conflicts.
    pub(crate) force: bool,
    /// How many calls run at the same time; at least 1.
    pub(crate) concurrency: usize,
    /// Whether the solution is expected to be new in the target. If so, the additional write of a first deployment is tried at once, and
    /// the parent and the members of the set are looked for only if that shows that the parent exists. A wrong guess costs only time.
    pub(crate) is_first: bool,
    /// The cluster-scoped objects that the solution may have.
    pub(crate) cluster: ClusterBounds<'a>,
    /// The only objects that may be deleted; `None`: all of the set that are not in `objects`.
    pub(crate) may_delete: Option<&'a Created>,
    /// The custom kinds that a controller reported on in development.
    pub(crate) reported_on: &'a [Kind],
}

/// How far the clocks of two clusters may differ.
const CLOCKS: Duration = Duration::from_mins(5);

/// What one run created. Objects that it only changed existed before, and stay when the run is rolled back.
#[derive(Clone, Debug)]
pub(crate) struct Created {
    /// The objects that its plan lists as created.
    pub(crate) planned: BTreeSet<Key>,
    /// The objects for which its plan had no room. Of these, those that are not older than the run.
    pub(crate) unlisted: BTreeSet<Key>,
    /// When the run began.
    pub(crate) since: Timestamp,
}

impl Created {
    /// Whether the run created this object. If its plan lists the object as created, it did not exist before. Then the time only excludes
    /// that another run created it meanwhile.
    pub(crate) fn has(&self, key: &Key, object: &Value) -> bool {
        let Some(at) = object::metadata(object, "creationTimestamp").and_then(|at| at.parse::<Timestamp>().ok()) else { return false };
        self.planned.contains(key) && at + CLOCKS >= self.since || self.unlisted.contains(key) && at >= self.since
    }
}

/// The cluster-scoped objects that a solution may have in its target, and who owns them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClusterBounds<'a> {
    /// The Environment that allows them, for people.
    pub(crate) environment: &'a str,
    /// The uid of the target namespace that owns these objects.
    pub(crate) namespace_uid: &'a str,
    /// The kinds that the Environment lists.
    pub(crate) allowed: &'a [ClusterScopedKind],
    /// The cluster-scoped kinds of which the solution has objects, or may have, by the operator's own record.
    pub(crate) recorded: &'a [Kind],
    /// The kinds that were cluster-scoped where the objects were exported from; `None` if that is not known.
    pub(crate) exported: Option<&'a [Kind]>,
}

impl<'a> PlanInput<'a> {
    /// A plan without force, with the usual concurrency ([`CONCURRENCY`]), and without cluster-scoped objects.
    pub(crate) fn new(namespace: &'a str, solution: &'a str, objects: &'a [Value]) -> Self {
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
