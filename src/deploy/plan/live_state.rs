//! What is in the target now: the parent of the `ApplySet`, and its members.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use kube::core::ApiResource;
use serde_json::Value;

use crate::api::cluster_scoped;
use crate::api::names;
use crate::api::reason::Reason;
use crate::cluster::errors::{self, Cause};
use crate::cluster::object::{self, Key, Served};
use crate::cluster::resources::Resources;
use crate::cluster::retry::retrying;
use crate::deploy::apply::target::Target;
use crate::deploy::plan::applyset::{self, GroupKind};
use crate::deploy::plan::findings::{Findings, Obstacle, PlanError};
use crate::deploy::plan::input::{ClusterBounds, Created};
use crate::deploy::plan::members::Set;
use crate::deploy::plan::planned::{Deletion, ParentPlan, Pruning, Release};

/// The members of a set, by API version and key.
pub(crate) type Members = BTreeMap<(String, Key), (Served, Value)>;

/// What is in the target now.
#[derive(Default)]
pub(crate) struct Survey {
    pub(crate) parent: Option<Value>,
    pub(crate) members: Members,
    /// Cluster-scoped kinds that the parent names and the Environment does not list (any more). Their objects are left alone.
    pub(crate) left_alone: BTreeSet<GroupKind>,
    /// Those of them that the operator's own record names. The parent alone doesn't count, because others write to it.
    left_on_record: BTreeSet<GroupKind>,
}

impl Survey {
    /// The cluster-scoped kinds of former versions' objects that stay, or that finalizers still hold.
    pub(crate) fn left_in_cluster(&self, set: &Set, may_delete: Option<&Created>) -> BTreeSet<GroupKind> {
        let stays =
            |key: &Key, object: &Value| object::is_being_deleted(object) || set.has_adopted(object) || is_spared(key, object, may_delete);
        let staying = self.members.iter().filter(|((_, key), (served, object))| !served.is_namespaced && stays(key, object));
        self.left_on_record.iter().cloned().chain(staying.map(|(_, (served, _))| GroupKind::of(&served.resource))).collect()
    }
}

/// Which set is read, and how.
pub(crate) struct Scope<'a> {
    pub(crate) target: &'a Target,
    pub(crate) namespace: &'a str,
    pub(crate) solution: &'a str,
    pub(crate) set: &'a Set,
    pub(crate) concurrency: usize,
}

impl Scope<'_> {
    pub(crate) fn parent_key(&self) -> Key {
        Key { group: String::new(), kind: "ConfigMap".into(), name: names::applyset_parent_name(self.solution) }
    }

    /// The parent, and the members of the given kinds, requested at the same time. Lists are expensive (a consistent one may wait for
    /// etcd's next progress notification). A set without a parent has no members, so nothing is listed.
    pub(crate) async fn survey(&self, kinds: &[Served]) -> (Survey, Findings) {
        let (parent, lists) = futures::join!(self.parent(), self.lists(kinds));
        let mut findings = Findings::default();
        let mut survey = Survey::default();
        match parent {
            Ok(found) => {
                if let Some(owner) = found.as_ref().and_then(|p| self.set.parent_taken_by(p)) {
                    let key = self.parent_key();
                    findings.refuse(
                        &key,
                        Reason::ParentTaken,
                        &format!(
                            "{key} exists in {} and belongs to {owner}: delete or rename it, it must record what {} puts there",
                            self.namespace, self.solution
                        ),
                    );
                }
                survey.parent = found;
            }
            Err(obstacle) => findings.add(&self.parent_key(), obstacle),
        }
        collect(lists, &mut survey.members, &mut findings);
        (survey, findings)
    }

    /// The members of kinds that the bundle has no objects of: the kinds that the parent names, and the cluster-scoped kinds on record,
    /// which somebody with rights in the namespace may have removed from the parent.
    pub(crate) async fn survey_former(
        &self,
        survey: &mut Survey,
        listed: &[Served],
        cluster: &ClusterBounds<'_>,
        resources: &impl Resources,
        findings: &mut Findings,
    ) -> Result<(), PlanError> {
        let listed: BTreeSet<GroupKind> = listed.iter().map(|served| GroupKind::of(&served.resource)).collect();
        let mut former = Vec::new();
        let recorded: BTreeSet<GroupKind> = cluster.recorded.iter().map(GroupKind::from).collect();
        let known: BTreeSet<GroupKind> = survey.parent.iter().flat_map(applyset::kinds_of).chain(recorded.iter().cloned()).collect();
        for kind in known.into_iter().filter(|kind| !listed.contains(kind)) {
            // Solutions have no Secrets. Somebody who wrote the kind in here must not make us read them.
            if kind.group.is_empty() && kind.kind == "Secret" {
                continue;
            }
            // A kind that is no longer served has no objects.
            let found = resources.preferred(&kind.group, &kind.kind).await.map_err(PlanError::Transient)?.map(Served::from);
            match found {
                Some(served) if served.is_namespaced || cluster_scoped::allows(cluster.allowed, &kind.group, &kind.kind) => {
                    former.push(served);
                }
                // Whoever writes to the parent needs no rights in the cluster. They must not be able to make the delegate read there.
                Some(_) if !cluster_scoped::is_never_allowed(&kind.group, &kind.kind) => {
                    if recorded.contains(&kind) {
                        survey.left_on_record.insert(kind.clone());
                    }
                    survey.left_alone.insert(kind);
                }
                _ => {}
            }
        }
        collect(self.lists(&former).await, &mut survey.members, findings);
        Ok(())
    }

    async fn parent(&self) -> Result<Option<Value>, Obstacle> {
        let resource = config_maps();
        let name = names::applyset_parent_name(self.solution);
        retrying(|| self.target.get(&resource, &name))
            .await
            .map_err(|error| Obstacle::Call { error, rights: vec![self.target.right("get", &resource)] })
    }

    async fn lists(&self, kinds: &[Served]) -> Vec<(Served, Result<Vec<Value>, Obstacle>)> {
        stream::iter(0..kinds.len())
            .map(|index| {
                let served = &kinds[index];
                async move {
                    let selector = self.set.selector(served.is_namespaced);
                    let found = retrying(|| self.target.list(served, &selector)).await;
                    (served.clone(), found.map_err(|error| Obstacle::Call { error, rights: vec![self.target.right("list", served)] }))
                }
            })
            .buffer_unordered(self.concurrency)
            .collect()
            .await
    }
}

fn collect(lists: Vec<(Served, Result<Vec<Value>, Obstacle>)>, members: &mut Members, findings: &mut Findings) {
    for (served, list) in lists {
        let resource = &served.resource;
        let key = |name: &str| Key { group: resource.group.clone(), kind: resource.kind.clone(), name: name.to_owned() };
        match list {
            Ok(objects) => {
                for object in objects {
                    if let Some(name) = object::metadata(&object, "name") {
                        members.insert((resource.api_version.clone(), key(name)), (served.clone(), object));
                    }
                }
            }
            // The kind was removed, and its objects with it.
            Err(Obstacle::Call { error, .. }) if errors::classify(&error) == Cause::NotFound => {}
            Err(obstacle) => findings.add(&key(""), obstacle),
        }
    }
}

/// The resource of the parent.
pub(crate) fn config_maps() -> Served {
    Served::in_namespaces(ApiResource {
        group: String::new(),
        version: "v1".into(),
        api_version: "v1".into(),
        kind: "ConfigMap".into(),
        plural: "configmaps".into(),
    })
}

/// The distinct kinds among these.
pub(crate) fn distinct<'a>(kinds: impl Iterator<Item = &'a Served>) -> Vec<Served> {
    let mut found: Vec<Served> = Vec::new();
    for served in kinds {
        if !found.contains(served) {
            found.push(served.clone());
        }
    }
    found
}

/// Whether an object is not among the only ones that may be deleted.
fn is_spared(key: &Key, object: &Value, may_delete: Option<&Created>) -> bool {
    may_delete.is_some_and(|created| !created.has(key, object))
}

/// What must be deleted or released, and what happens to the parent. Members that are being deleted already, members that a controller
/// made, and members that may not be deleted are left alone. The parent keeps the kinds of the first and the last of these, of released
/// objects (a release may prove impossible), and of kinds that are not read.
pub(crate) fn prune(
    survey: &Survey,
    set: &Set,
    desired: &BTreeSet<&Key>,
    desired_kinds: BTreeSet<GroupKind>,
    may_delete: Option<&Created>,
) -> (Pruning, ParentPlan) {
    let mut deletions: BTreeMap<Key, Deletion> = BTreeMap::new();
    let mut releases: BTreeMap<Key, Release> = BTreeMap::new();
    let mut kinds = desired_kinds;
    kinds.extend(survey.left_alone.iter().cloned());
    for ((_, key), (served, object)) in &survey.members {
        if desired.contains(key) || object::is_controlled(object) {
            continue;
        }
        if object::is_being_deleted(object) {
            kinds.insert(GroupKind::of(&served.resource));
        } else if set.has_adopted(object) {
            kinds.insert(GroupKind::of(&served.resource));
            let release = Release { key: key.clone(), served: served.clone(), live: object.clone(), fields: Vec::new() };
            releases.insert(key.clone(), release);
        } else if is_spared(key, object, may_delete) {
            kinds.insert(GroupKind::of(&served.resource));
        } else if let Some(uid) = object::metadata(object, "uid") {
            let version = object::metadata(object, "resourceVersion").unwrap_or_default().to_owned();
            let deletion = Deletion { key: key.clone(), served: served.clone(), uid: uid.to_owned(), version, live: object.clone() };
            deletions.insert(key.clone(), deletion);
        }
    }
    let pruning = Pruning { deletions: deletions.into_values().collect(), releases: releases.into_values().collect() };
    (pruning, ParentPlan::of(survey.parent.as_ref(), kinds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_that_are_not_wanted_any_more_are_deleted_and_inherited_labels_are_not() {
        let key = |name: &str| Key { group: String::new(), kind: "ConfigMap".into(), name: name.into() };
        let mut survey = Survey::default();
        for (name, metadata) in [
            ("kept", json!({"name": "kept", "uid": "1"})),
            ("old", json!({"name": "old", "uid": "2"})),
            ("made", json!({"name": "made", "uid": "3", "ownerReferences": [{"controller": true}]})),
            ("going", json!({"name": "going", "uid": "4", "deletionTimestamp": "2026-01-01T00:00:00Z"})),
            ("adopted", json!({"name": "adopted", "uid": "5", "labels": {(names::ADOPTED_LABEL): "orders"}})),
            ("marked", json!({"name": "marked", "uid": "6", "labels": {(names::ADOPT_LABEL): "orders"}})),
        ] {
            survey.members.insert(("v1".into(), key(name)), (config_maps(), json!({"metadata": metadata})));
        }
        let kept = key("kept");
        let set = Set::new("orders", "qa", "uid");
        let (pruning, parent) = prune(&survey, &set, &[&kept].into(), BTreeSet::new(), None);
        assert_eq!(pruning.deletions.iter().map(|d| (d.key.name.as_str(), d.uid.as_str())).collect::<Vec<_>>(), [("old", "2")]);
        assert_eq!(pruning.releases.iter().map(|r| r.key.name.as_str()).collect::<Vec<_>>(), ["adopted", "marked"], "never deleted");
        assert_eq!(parent.after.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ConfigMap"]);
    }

    #[test]
    fn what_may_not_be_deleted_stays_and_is_still_looked_for() {
        let key = |name: &str| Key { group: String::new(), kind: "ConfigMap".into(), name: name.into() };
        let mut survey = Survey::default();
        for name in ["brought", "labelled"] {
            let object = json!({"metadata": {"name": name, "uid": name, "creationTimestamp": "2026-01-01T00:00:00Z"}});
            survey.members.insert(("v1".into(), key(name)), (Served { is_namespaced: false, ..config_maps() }, object));
        }
        let named = |may_delete: Option<&Created>| {
            let set = Set::new("orders", "qa", "uid");
            let (pruning, parent) = prune(&survey, &set, &BTreeSet::new(), BTreeSet::new(), may_delete);
            let names: Vec<String> = pruning.deletions.iter().map(|d| d.key.name.clone()).collect();
            (names, parent.after.len(), survey.left_in_cluster(&set, may_delete).len())
        };
        assert_eq!(named(None), (vec!["brought".into(), "labelled".into()], 0, 0));
        let created =
            Created { planned: [key("brought")].into(), unlisted: BTreeSet::new(), since: "2026-01-01T00:00:00Z".parse().unwrap() };
        assert_eq!(named(Some(&created)), (vec!["brought".into()], 1, 1));
    }
}
