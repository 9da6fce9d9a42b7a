//! What a dry run is asked about, and within which bounds.

use std::collections::BTreeSet;

use serde_json::Value;

use super::object::Key;
use crate::api::cluster_scoped::ClusterScopedKind;
use crate::api::reference::GroupKind as Kind;

/// How many calls are under way at once, where nothing else is said.
pub const CONCURRENCY: usize = 8;

/// What to plan.
#[derive(Clone, Copy, Debug)]
pub struct PlanInput<'a> {
    /// The target namespace.
    pub namespace: &'a str,
    /// The solution's name.
    pub solution: &'a str,
    /// The objects, as a person would have written them.
    pub objects: &'a [Value],
    /// Whether fields that other managers own are taken from them. False: they are conflicts.
    pub force: bool,
    /// How many calls are under way at once; at least 1.
    pub concurrency: usize,
    /// Whether the solution is expected to be new in the target: then what a first deployment writes besides is asked for at once,
    /// and members of its set are looked for only where the set has a parent. A guess that is wrong costs time, and nothing else.
    pub is_first: bool,
    /// What may belong to the target's whole cluster.
    pub cluster: ClusterBounds<'a>,
    /// The objects that alone may be deleted; `None`: all of the set that are not in `objects`.
    pub may_delete: Option<&'a BTreeSet<Key>>,
    /// The custom kinds that a controller reported on where the objects came from.
    pub reported_on: &'a [Kind],
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
