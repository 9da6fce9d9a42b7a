//! A plan in memory: what will be written, what exists now, and what will be deleted.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::artifact::ArtifactObject;
use crate::api::plan::{MAX_OBJECTS, Plan, PlanResult, PlannedAction, PlannedObject};
use crate::api::reference::GroupKind as Kind;
use crate::cluster::managed_fields::{self, Ownership};
use crate::cluster::object::{Item, Key, Served, group_of};
use crate::cluster::paused;
use crate::deploy::plan::applyset::{self, GroupKind};
use crate::deploy::plan::created_anew::Handover;
use crate::deploy::plan::data_loss;
use crate::deploy::plan::members::Set;
use crate::deploy::plan::values;
use crate::identity::delegate::Delegate;

/// An object of the plan.
#[derive(Clone, Debug)]
pub(crate) struct PlannedItem {
    pub(crate) item: Item,
    pub(crate) action: PlannedAction,
    /// The object as the plan saw it; `None` for one that does not exist.
    pub(crate) live: Option<Value>,
    /// The object as the API server would leave it, by the dry run; `None` if that could not be tried because the version brings what the
    /// object needs.
    pub(crate) would_be: Option<Value>,
    pub(crate) fields: Vec<String>,
    /// What is handed over to Pilotage before the apply.
    pub(crate) handover: Handover,
}

impl PlannedItem {
    /// The object as it will be, as far as known: the server's version, or else the manifest.
    pub(crate) fn outcome(&self) -> &Value {
        self.would_be.as_ref().unwrap_or(&self.item.body)
    }
}

/// An object that an earlier version put there and this one lacks.
#[derive(Clone, Debug)]
pub(crate) struct Deletion {
    pub(crate) key: Key,
    pub(crate) served: Served,
    pub(crate) uid: String,
    /// The `resourceVersion` that the plan saw.
    pub(crate) version: String,
    /// The object as the plan saw it.
    pub(crate) live: Value,
}

/// An object that an earlier version adopted and this one lacks: it stays, without the fields that the solution set.
#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) key: Key,
    pub(crate) served: Served,
    /// The object as the plan saw it.
    pub(crate) live: Value,
    /// The fields that change with it.
    pub(crate) fields: Vec<String>,
}

/// What happens to objects of earlier versions that this one lacks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pruning {
    pub(crate) deletions: Vec<Deletion>,
    pub(crate) releases: Vec<Release>,
}

impl Pruning {
    pub(crate) fn is_empty(&self) -> bool {
        self.deletions.is_empty() && self.releases.is_empty()
    }
}

/// What happens to the parent of the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ParentPlan {
    /// The kinds that it names now; `None` if it does not exist.
    pub(crate) known: Option<BTreeSet<GroupKind>>,
    /// The parent as the plan saw it; `None` if it does not exist.
    pub(crate) live: Option<Value>,
    /// The kinds that it must name before anything is applied: the old ones and the new ones.
    pub(crate) before: BTreeSet<GroupKind>,
    /// The kinds that it must name after pruning.
    pub(crate) after: BTreeSet<GroupKind>,
}

impl ParentPlan {
    pub(crate) fn new(known: Option<BTreeSet<GroupKind>>, after: BTreeSet<GroupKind>) -> Self {
        let before = known.iter().flatten().chain(&after).cloned().collect();
        Self { known, live: None, before, after }
    }

    /// What happens to the parent that was seen, if there is one.
    pub(crate) fn of(live: Option<&Value>, after: BTreeSet<GroupKind>) -> Self {
        Self { live: live.cloned(), ..Self::new(live.map(applyset::kinds_of), after) }
    }

    /// What to write before the first object, if anything.
    pub(crate) fn widened(&self) -> Option<&BTreeSet<GroupKind>> {
        (self.known.as_ref() != Some(&self.before)).then_some(&self.before)
    }

    /// What to write after pruning, if anything.
    pub(crate) fn narrowed(&self) -> Option<&BTreeSet<GroupKind>> {
        (self.before != self.after).then_some(&self.after)
    }
}

/// What a dry run found. It is the first of `Planned`, [`Applied`](crate::deploy::apply::Applied) and
/// [`Healthy`](crate::deploy::health::Healthy). Only after the last one is what it replaces pruned.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) namespace: String,
    pub(crate) solution: String,
    pub(crate) set: Set,
    pub(crate) delegate: Delegate,
    pub(crate) force: bool,
    pub(crate) parent: ParentPlan,
    pub(crate) items: Vec<PlannedItem>,
    pub(crate) pruning: Pruning,
    /// Adopted objects that are no longer wanted and can't be released: they would be invalid without the solution's fields.
    pub(crate) held: Vec<Key>,
    pub(crate) left_alone: BTreeSet<GroupKind>,
    /// The cluster-scoped kinds of which the solution has objects once this is carried out.
    pub(crate) left_in_cluster: BTreeSet<GroupKind>,
    /// The custom kinds that a controller reports on.
    pub(crate) reported_on: BTreeSet<GroupKind>,
    /// The server's warnings in the dry run.
    pub(crate) warnings: Vec<PlanResult>,
}

/// A plan for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PlanSummary {
    /// How many objects will be created.
    pub(crate) create: i32,
    /// How many objects will be changed.
    pub(crate) update: i32,
    /// How many objects will be deleted.
    pub(crate) delete: i32,
    /// How many objects will be deleted and created anew.
    pub(crate) recreate: i32,
    /// How many objects of the target's owner will be adopted.
    pub(crate) adopt: i32,
    /// How many adopted objects will be released.
    pub(crate) release: i32,
    /// How many objects stay as they are.
    pub(crate) unchanged: i32,
    /// What changes: first what needs approval by name, then what is created and changed. In both parts cluster-scoped objects come first.
    /// At most [`MAX_OBJECTS`].
    pub(crate) objects: Vec<PlannedObject>,
    /// How many further objects change that are not listed.
    pub(crate) objects_omitted: i32,
    /// How many of the fields that change are listed without their values.
    pub(crate) values_omitted: i32,
}

impl Planned {
    /// The plan for people.
    pub(crate) fn report(&self) -> PlanSummary {
        let count = |action| to_i32(self.items.iter().filter(|i| i.action == action).count());
        let planned = |action, key: &Key, served: &Served, fields: &[String]| PlannedObject {
            action,
            api_version: served.resource.api_version.clone(),
            kind: key.kind.clone(),
            name: key.name.clone(),
            cluster_scoped: !served.is_namespaced,
            fields: fields.to_vec(),
            changes: Vec::new(),
        };
        let Pruning { deletions, releases } = &self.pruning;
        let mut objects: Vec<PlannedObject> = deletions
            .iter()
            .map(|d| planned(PlannedAction::Delete, &d.key, &d.served, &[]))
            .chain(releases.iter().map(|r| planned(PlannedAction::Releases, &r.key, &r.served, &r.fields)))
            .chain(self.items.iter().filter(|i| i.action != PlannedAction::Unchanged).map(|i| PlannedObject {
                changes: values::of(i.live.as_ref(), i.would_be.as_ref()),
                ..planned(i.action, &i.item.key, &i.item.served, &i.fields)
            }))
            .collect();
        // What matters least is left out if there is no room.
        objects.sort_by_key(|object| (!is_asked_for(object.action), !object.cluster_scoped));
        let omitted = objects.len().saturating_sub(MAX_OBJECTS);
        objects.truncate(MAX_OBJECTS);
        let values_omitted = values::bound(&mut objects);
        PlanSummary {
            create: count(PlannedAction::Create),
            update: count(PlannedAction::Update),
            delete: to_i32(deletions.len()),
            recreate: count(PlannedAction::Recreate),
            adopt: count(PlannedAction::Adopts),
            release: to_i32(releases.len()),
            unchanged: count(PlannedAction::Unchanged),
            objects,
            objects_omitted: to_i32(omitted),
            values_omitted: to_i32(values_omitted),
        }
    }

    /// All objects that will be deleted, as sorted `group/kind/name`, for the plan's hash. Marks distinguish those that are created anew,
    /// adopted or released, those with which data is deleted, and those that are cluster-scoped: an approval of an object in a namespace
    /// covers nothing else. Unlike the report it is not cut.
    pub(crate) fn marked_for_hash(&self) -> Vec<String> {
        let line = |key: &Key| format!("{}/{}/{}", key.group, key.kind, key.name);
        let acted = |action| self.items.iter().filter(move |i| i.action == action);
        let recreated = acted(PlannedAction::Recreate).map(|i| ("recreate", &i.item.key));
        let adopted = acted(PlannedAction::Adopts).map(|i| ("adopt", &i.item.key));
        let released = self.pruning.releases.iter().map(|r| ("release", &r.key));
        let of_cluster = self.items.iter().filter(|i| !i.item.served.is_namespaced).map(|i| ("cluster", &i.item.key));
        let deleted = self.pruning.deletions.iter().map(|d| line(&d.key));
        let marked = recreated.chain(adopted).chain(released).chain(of_cluster);
        let mut keys: Vec<String> = deleted.chain(marked.map(|(mark, key)| format!("{mark} {}", line(key)))).collect();
        keys.extend(data_loss::keys(self).map(|key| format!("data {}", line(key))));
        keys.sort_unstable();
        keys
    }

    /// Whether it does anything that the hash covers by name.
    pub(crate) fn must_be_asked_for(&self) -> bool {
        !self.pruning.is_empty() || self.items.iter().any(|i| is_asked_for(i.action))
    }

    /// What it deletes, creates anew, adopts or releases although the approved plan `pinned` does not. After a part was carried out, what
    /// remains is never more. If `pinned` lists only such objects and had to omit some, it is not possible to know.
    pub(crate) fn beyond(&self, pinned: &Plan) -> Vec<Key> {
        if pinned.objects_omitted > 0 && pinned.objects.iter().all(|o| is_asked_for(o.action)) {
            return Vec::new();
        }
        let is_pinned = |key: &Key, action| {
            let same = |o: &PlannedObject| o.kind == key.kind && o.name == key.name && group_of(&o.api_version) == key.group;
            pinned.objects.iter().any(|o| o.action == action && same(o))
        };
        let deleted = self.pruning.deletions.iter().map(|d| (&d.key, PlannedAction::Delete));
        let released = self.pruning.releases.iter().map(|r| (&r.key, PlannedAction::Releases));
        let written = self.items.iter().filter(|i| is_asked_for(i.action)).map(|i| (&i.item.key, i.action));
        deleted.chain(released).chain(written).filter(|(key, action)| !is_pinned(key, *action)).map(|(key, _)| key.clone()).collect()
    }

    /// What it adopts, what it releases, and adopted objects that are no longer wanted and can't be released.
    pub(crate) fn adoptions(&self) -> [Vec<Key>; 3] {
        let adopted = self.items.iter().filter(|i| i.action == PlannedAction::Adopts).map(|i| i.item.key.clone());
        let released = self.pruning.releases.iter().map(|r| r.key.clone());
        [adopted.collect(), released.collect(), self.held.clone()]
    }

    /// What others added to its objects; it stays.
    pub(crate) fn foreign(&self) -> Vec<PlanResult> {
        let there = self.items.iter().filter_map(|i| Some((i, i.live.as_ref()?)));
        let changed = there.filter(|(i, _)| i.action != PlannedAction::Recreate);
        managed_fields::told(changed.map(|(i, live)| {
            let owned = Ownership::without(live, &i.item.served.resource.api_version, &i.handover.drops);
            (&i.item.key, live, &i.item.body, owned)
        }))
    }

    /// Cluster-scoped kinds that the Environment no longer lists, although an earlier version had objects of them. These objects stay.
    pub(crate) fn left_alone(&self) -> Vec<String> {
        self.left_alone.iter().map(ToString::to_string).collect()
    }

    /// The cluster-scoped kinds of its objects. They must be on record before any of them is written.
    pub(crate) fn kinds_of_cluster(&self) -> Vec<Kind> {
        let of_cluster = self.items.iter().filter(|i| !i.item.served.is_namespaced);
        let kinds: BTreeSet<Kind> = of_cluster.map(|i| GroupKind::of(&i.item.served.resource).into()).collect();
        kinds.into_iter().collect()
    }

    /// The warnings of the target's API server, as results.
    pub(crate) fn warnings(&self) -> Vec<PlanResult> {
        self.warnings.clone()
    }

    /// What will be paused or suspended, as results.
    pub(crate) fn held_back(&self) -> Vec<PlanResult> {
        paused::results(self.items.iter().map(|planned| (&planned.item.key, planned.outcome())))
    }

    /// Whether an object of that kind and name is part of the new version.
    pub(crate) fn has(&self, object: &ArtifactObject) -> bool {
        let is_it = |key: &Key| key.kind == object.kind && key.name == object.name && key.group == group_of(&object.api_version);
        self.items.iter().any(|i| is_it(&i.item.key))
    }

    /// What loses data, as results.
    pub(crate) fn data_lost(&self) -> Vec<PlanResult> {
        data_loss::of(self)
    }

    /// The target namespace.
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn solution(&self) -> &str {
        &self.solution
    }
}

/// Whether an action needs approval by name: it deletes something, or touches what belonged to somebody else.
fn is_asked_for(action: PlannedAction) -> bool {
    matches!(action, PlannedAction::Delete | PlannedAction::Recreate | PlannedAction::Adopts | PlannedAction::Releases)
}

fn to_i32(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use kube::core::{ApiResource, GroupVersionKind};
    use serde_json::json;

    use super::*;

    fn served(group: &str, kind: &str) -> Served {
        Served::in_namespaces(ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)))
    }

    fn key(group: &str, kind: &str, name: &str) -> Key {
        Key { group: group.into(), kind: kind.into(), name: name.into() }
    }

    /// A `ConfigMap` of that name.
    pub(crate) fn item(name: &str, action: PlannedAction) -> PlannedItem {
        PlannedItem {
            item: Item { key: key("", "ConfigMap", name), served: served("", "ConfigMap"), body: json!({}) },
            action,
            live: None,
            would_be: None,
            fields: vec![],
            handover: Handover::default(),
        }
    }

    /// A plan of solution `orders` for namespace `qa`.
    pub(crate) fn planned(items: Vec<PlannedItem>, deletions: Vec<Deletion>) -> Planned {
        let kinds: BTreeSet<GroupKind> = [GroupKind { group: String::new(), kind: "ConfigMap".into() }].into();
        Planned {
            namespace: "qa".into(),
            solution: "orders".into(),
            set: Set::new("orders", "qa", "uid"),
            delegate: Delegate::ServicePrincipal { namespace: "host".into(), name: "bot".into() },
            force: false,
            parent: ParentPlan::new(Some(kinds.clone()), kinds),
            items,
            pruning: Pruning { deletions, releases: Vec::new() },
            held: Vec::new(),
            left_alone: BTreeSet::new(),
            left_in_cluster: BTreeSet::new(),
            warnings: vec![],
            reported_on: BTreeSet::new(),
        }
    }

    #[test]
    fn deletions_come_first_and_the_list_is_bounded() {
        let items = (0..250).map(|i| item(&format!("c{i}"), PlannedAction::Create)).collect();
        let deletion = |name: &str| Deletion {
            key: key("apps", "Deployment", name),
            served: served("apps", "Deployment"),
            uid: "u".into(),
            version: "7".into(),
            live: Value::Null,
        };
        let plan = planned(items, vec![deletion("b"), deletion("a")]);
        let report = plan.report();
        assert_eq!((report.create, report.delete, report.objects.len(), report.objects_omitted), (250, 2, 200, 52));
        assert_eq!(report.objects[1].action, PlannedAction::Delete);
        assert_eq!(plan.marked_for_hash(), ["apps/Deployment/a", "apps/Deployment/b"]);
        assert!(!writes_nothing(&plan));
    }

    #[test]
    fn what_is_created_anew_is_shown_with_the_deletions_and_hashed() {
        let mut items: Vec<PlannedItem> = (0..250).map(|i| item(&format!("c{i}"), PlannedAction::Update)).collect();
        items.push(item("anew", PlannedAction::Recreate));
        let plan = planned(items, vec![]);
        let report = plan.report();
        assert_eq!((report.recreate, report.update, report.objects[0].action), (1, 250, PlannedAction::Recreate));
        assert_eq!(plan.marked_for_hash(), ["recreate /ConfigMap/anew"]);
        let mut of_cluster = item("everywhere", PlannedAction::Unchanged);
        of_cluster.item.served.is_namespaced = false;
        let plan = planned(vec![of_cluster, item("here", PlannedAction::Create)], vec![]);
        assert_eq!(plan.marked_for_hash(), ["cluster /ConfigMap/everywhere"]);
        assert_eq!(plan.kinds_of_cluster(), [Kind { group: String::new(), kind: "ConfigMap".into() }]);
    }

    #[test]
    fn what_is_planned_again_midway_takes_away_no_more_than_was_approved() {
        let deletion = |name: &str| Deletion {
            key: key("apps", "Deployment", name),
            served: served("apps", "Deployment"),
            uid: "u".into(),
            version: "7".into(),
            live: Value::Null,
        };
        let pinned = |plan: &Planned| {
            let report = plan.report();
            Plan { objects: report.objects, objects_omitted: report.objects_omitted, ..Plan::default() }
        };
        let approved =
            pinned(&planned(vec![item("anew", PlannedAction::Recreate), item("new", PlannedAction::Create)], vec![deletion("a")]));
        let beyond = |items, deletions| planned(items, deletions).beyond(&approved).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(beyond(vec![item("anew", PlannedAction::Create)], vec![]), [""; 0], "a part is done");
        assert_eq!(beyond(vec![item("anew", PlannedAction::Recreate)], vec![deletion("a")]), [""; 0], "or nothing");
        assert_eq!(beyond(vec![item("new", PlannedAction::Recreate)], vec![]), ["ConfigMap new"]);
        assert_eq!(beyond(vec![], vec![deletion("anew"), deletion("a")]), ["Deployment anew"], "another kind, and another action");
        assert_eq!(beyond(vec![item("new", PlannedAction::Adopts)], vec![]), ["ConfigMap new"], "nobody's yet when it was asked for");
        let mut lets_go = planned(vec![item("mine", PlannedAction::Adopts)], vec![]);
        lets_go.pruning.releases.push(Release {
            key: key("", "ConfigMap", "theirs"),
            served: served("", "ConfigMap"),
            live: json!({}),
            fields: vec![],
        });
        assert_eq!(lets_go.marked_for_hash(), ["adopt /ConfigMap/mine", "release /ConfigMap/theirs"]);
        assert_eq!((lets_go.report().adopt, lets_go.report().release), (1, 1));
        assert!(lets_go.must_be_asked_for() && !writes_nothing(&lets_go));
        assert_eq!(lets_go.beyond(&approved).len(), 2);
        assert_eq!(lets_go.beyond(&pinned(&lets_go)), []);
        let many = (0..250).map(|n| deletion(&format!("d{n}"))).collect();
        assert_eq!(planned(vec![], vec![deletion("x")]).beyond(&pinned(&planned(vec![], many))), [], "not all of them are known");
    }

    fn writes_nothing(plan: &Planned) -> bool {
        let is_unchanged = plan.items.iter().all(|i| i.action == PlannedAction::Unchanged);
        plan.pruning.is_empty() && is_unchanged && plan.parent.widened().is_none() && plan.parent.narrowed().is_none()
    }

    #[test]
    fn a_plan_that_changes_nothing_writes_the_parent_alone_where_it_is_missing() {
        let mut plan = planned(vec![item("a", PlannedAction::Unchanged)], vec![]);
        assert!(writes_nothing(&plan));
        plan.parent.known = None;
        assert!(!writes_nothing(&plan));
    }

    #[test]
    fn the_parent_names_old_and_new_kinds_until_pruning_is_done() {
        let kinds = |names: &[&str]| -> BTreeSet<GroupKind> {
            names.iter().map(|k| GroupKind { group: String::new(), kind: (*k).into() }).collect()
        };
        let swapped = ParentPlan::new(Some(kinds(&["Service"])), kinds(&["ConfigMap"]));
        assert_eq!(swapped.widened(), Some(&kinds(&["ConfigMap", "Service"])));
        assert_eq!(swapped.narrowed(), Some(&kinds(&["ConfigMap"])));
        let new = ParentPlan::new(None, kinds(&["ConfigMap"]));
        assert_eq!((new.widened(), new.narrowed()), (Some(&kinds(&["ConfigMap"])), None));
        let same = ParentPlan::new(Some(kinds(&["ConfigMap"])), kinds(&["ConfigMap"]));
        assert_eq!((same.widened(), same.narrowed()), (None, None));
        let fewer = ParentPlan::new(Some(kinds(&["ConfigMap", "Service"])), kinds(&["ConfigMap"]));
        assert_eq!((fewer.widened(), fewer.narrowed()), (None, Some(&kinds(&["ConfigMap"]))));
    }
}
