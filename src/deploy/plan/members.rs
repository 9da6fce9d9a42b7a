//! Which objects of a target a solution put there. Labels tell, so that later versions find them and touch no others.
//!
//! In a namespace, the label of the `ApplySet` standard is enough. All namespaces share the cluster-scoped objects. Such an object belongs
//! to a set only if it also carries the uid of the set's namespace, because another namespace may get the same name. Without these labels
//! it is somebody else's.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::api::names;
use crate::api::reason::Reason;
use crate::cluster::errors;
use crate::cluster::object::{self, Key, Served};
use crate::deploy::plan::applyset::{self, GroupKind};
use crate::deploy::plan::findings::Obstacle;

/// What an existing object of a target means to a set that wants to write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does not exist.
    Free,
    /// The set put it there, or has adopted it.
    Own,
    /// Somebody else put it there, and marked it for adoption.
    Adoptable,
}

/// The set of one solution in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    /// Its id by the standard.
    pub(crate) id: String,
    namespace: String,
    namespace_uid: String,
    solution: String,
    /// The host that the solution belongs to; empty if that does not matter.
    host: String,
}

impl Set {
    /// The set of `solution` in the namespace that has this uid.
    pub(crate) fn new(solution: &str, namespace: &str, namespace_uid: &str) -> Self {
        Self {
            id: applyset::id(solution, namespace),
            namespace: namespace.to_owned(),
            namespace_uid: namespace_uid.to_owned(),
            solution: solution.to_owned(),
            host: String::new(),
        }
    }

    /// The same, for a solution of that host.
    #[must_use]
    pub(crate) fn of_host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Its parent, as it is applied.
    pub(crate) fn parent(&self, kinds: &BTreeSet<GroupKind>) -> Value {
        let mut parent = applyset::parent(&self.solution, &self.namespace, kinds);
        if !self.host.is_empty() {
            object::set_annotation(&mut parent, names::DEPLOYED_FROM_ANNOTATION, &self.host);
        }
        parent
    }

    /// Who owns the existing parent, if it is not this set's: another tool, or another host, whose solution of that name put other objects
    /// there.
    pub(crate) fn parent_taken_by(&self, parent: &Value) -> Option<String> {
        let other = object::annotation(parent, names::DEPLOYED_FROM_ANNOTATION).filter(|host| *host != self.host);
        applyset::taken_by(parent, &self.id).or_else(|| Some(format!("a solution of that name of host {}", other?)))
    }

    /// The labels of its members.
    fn labels(&self, is_namespaced: bool) -> Vec<(&'static str, &str)> {
        let mut labels = vec![(names::APPLYSET_PART_OF, self.id.as_str())];
        if !is_namespaced {
            labels.push((names::TARGET_NAMESPACE_LABEL, &self.namespace));
            labels.push((names::TARGET_UID_LABEL, &self.namespace_uid));
            labels.push((names::SOLUTION_LABEL, &self.solution));
        }
        labels
    }

    /// Labels an object as a member.
    pub(crate) fn mark(&self, body: &mut Value, is_namespaced: bool) {
        for (key, value) in self.labels(is_namespaced) {
            object::set_label(body, key, value);
        }
    }

    /// Selects its members of a kind.
    pub(crate) fn selector(&self, is_namespaced: bool) -> String {
        let part_of = format!("{}={}", names::APPLYSET_PART_OF, self.id);
        if is_namespaced { part_of } else { format!("{part_of},{}={}", names::TARGET_UID_LABEL, self.namespace_uid) }
    }

    /// Whether an object is a member. Without a uid, no cluster-scoped object is.
    pub(crate) fn owns(&self, found: &Value, is_namespaced: bool) -> bool {
        let is_part = object::label(found, names::APPLYSET_PART_OF) == Some(&self.id);
        let is_of_namespace = !self.namespace_uid.is_empty() && object::label(found, names::TARGET_UID_LABEL) == Some(&self.namespace_uid);
        is_part && (is_namespaced || is_of_namespace)
    }

    /// Whether a member belonged to somebody else before: it is changed, and never deleted. Its owner may mark any member so.
    pub(crate) fn has_adopted(&self, found: &Value) -> bool {
        object::label(found, names::ADOPTED_LABEL).is_some() || object::label(found, names::ADOPT_LABEL) == Some(&self.solution)
    }

    /// Marks an object as one that belonged to somebody else before, for all later versions.
    pub(crate) fn mark_adopted(&self, body: &mut Value) {
        object::set_label(body, names::ADOPTED_LABEL, &self.solution);
    }

    /// Whether a manifest has this mark.
    pub(crate) fn is_marked_adopted(&self, body: &Value) -> bool {
        object::label(body, names::ADOPTED_LABEL) == Some(&self.solution)
    }

    /// Removes the mark from a manifest.
    pub(crate) fn unmark_adopted(body: &mut Value) {
        object::remove_label(body, names::ADOPTED_LABEL);
    }

    /// What an existing object means to the set. An object that the set did not put there stays as it is, unless its owner marked it for
    /// adoption: otherwise the manifest would be merged with what the object's owner gave it. An object of another set stays with that set,
    /// because two solutions would undo each other's writes. An object that a controller makes stays with the controller. A
    /// `ServiceAccount` that is offered to solutions counts as marked. Cluster-scoped objects that are not the set's own always stay as
    /// they are.
    pub(crate) fn check_owner(&self, key: &Key, served: &Served, live: Option<&Value>) -> Result<Standing, Obstacle> {
        let Some(live) = live else { return Ok(Standing::Free) };
        if !served.is_namespaced {
            return if self.owns(live, false) { Ok(Standing::Own) } else { Err(self.of_the_cluster(key, served, live)) };
        }
        if let Some(maker) = object::controller(live) {
            let message =
                format!("{key} exists in the target and is made by {maker}, which keeps it as it wants it to be: give it another name");
            return Err(refusal(key, Reason::MadeByController, &message));
        }
        let part_of = object::label(live, names::APPLYSET_PART_OF);
        if part_of == Some(&self.id) {
            return Ok(Standing::Own);
        }
        if let Some(owner) = part_of.or_else(|| object::label(live, names::APPLYSET_ID)) {
            let message =
                format!("{key} exists in the target and belongs to the ApplySet {owner}: remove it from one of the two, or rename it");
            return Err(refusal(key, Reason::OwnedByAnotherSet, &message));
        }
        let is_account = key.group.is_empty() && key.kind == "ServiceAccount";
        let mark = object::label(live, names::ADOPT_LABEL);
        if mark == Some(&self.solution) || is_account && object::label(live, names::CONNECTION_LABEL) == Some("true") {
            return Ok(Standing::Adoptable);
        }
        let (name, namespace, plural) = (&key.name, object::metadata(live, "namespace").unwrap_or(&self.namespace), full_plural(served));
        if is_account {
            let message = format!(
                "{key} exists in the target, was not put there by this solution and is not offered to it: give it another name, or let its owner offer it with: kubectl label {plural} {name} -n {namespace} {}=true",
                names::CONNECTION_LABEL
            );
            return Err(refusal(key, Reason::NotOffered, &message));
        }
        let overwrite = if mark.is_some() { "--overwrite " } else { "" };
        let message = format!(
            "{key} exists in the target and was not put there by this solution: it stays as it is. Give it another name, or let its owner mark it as to be adopted, after which this solution changes it and never deletes it, with: kubectl label {overwrite}{plural} {name} -n {namespace} {}={}",
            names::ADOPT_LABEL,
            self.solution
        );
        Err(refusal(key, Reason::ExistsAlready, &message))
    }

    /// Who owns a cluster-scoped object, and how it could become the set's.
    fn of_the_cluster(&self, key: &Key, served: &Served, live: &Value) -> Obstacle {
        let label = |key: &str| object::label(live, key);
        let plural = full_plural(served);
        let labels: Vec<String> = self.labels(false).iter().map(|(key, value)| format!("{key}={value}")).collect();
        let hand_over = format!("kubectl label --overwrite {plural} {} {}", key.name, labels.join(" "));
        let (reason, whose) = match (label(names::TARGET_NAMESPACE_LABEL), label(names::SOLUTION_LABEL), label(names::APPLYSET_PART_OF)) {
            (Some(namespace), Some(solution), set)
                if namespace == self.namespace
                    && solution == self.solution
                    && set != Some(&self.id)
                    && label(names::TARGET_UID_LABEL) == Some(&self.namespace_uid) =>
            {
                let was = format!("was put there by this solution, but carries its label {} no more", names::APPLYSET_PART_OF);
                (Reason::OwnedByAnotherSet, was)
            }
            (Some(namespace), Some(solution), _) if namespace == self.namespace && solution == self.solution => {
                (Reason::OwnedByAnotherSet, format!("was put there for a namespace {namespace} that had another uid and is gone"))
            }
            (Some(namespace), Some(solution), _) => {
                (Reason::OwnedByAnotherSet, format!("belongs to solution {solution} of namespace {namespace}"))
            }
            (_, _, Some(set)) => (Reason::OwnedByAnotherSet, format!("belongs to the ApplySet {set}")),
            _ => (Reason::ExistsAlready, "was not put there by this solution, nor by any other".to_owned()),
        };
        refusal(
            key,
            reason,
            &format!(
                "{key} exists in the target's cluster, where it belongs to no namespace and every name is there once, and {whose}: it stays as it is. Give it another name in the solution, deploy to another cluster, or have its owner hand it over with: {hand_over}"
            ),
        )
    }
}

/// The name of a kind in a form that kubectl can't confuse with another kind.
fn full_plural(served: &Served) -> String {
    let resource = &served.resource;
    if resource.group.is_empty() { resource.plural.clone() } else { format!("{}.{}", resource.plural, resource.group) }
}

fn refusal(key: &Key, reason: Reason, message: &str) -> Obstacle {
    Obstacle::Refusal(errors::result(key, reason, message))
}

#[cfg(test)]
mod tests {
    use kube::core::{ApiResource, GroupVersionKind};
    use serde_json::json;

    use super::*;

    fn set() -> Set {
        Set::new("orders", "qa", "uid-1")
    }

    fn role() -> (Key, Served) {
        let group = "rbac.authorization.k8s.io";
        let key = Key { group: group.into(), kind: "ClusterRole".into(), name: "reader".into() };
        (key, Served { resource: ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", "ClusterRole")), is_namespaced: false })
    }

    fn check(live: &Value) -> Result<Standing, (String, String)> {
        let (key, served) = role();
        match set().check_owner(&key, &served, Some(live)) {
            Ok(standing) => Ok(standing),
            Err(Obstacle::Refusal(result)) => Err((result.reason, result.message)),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_object_of_the_cluster_is_the_sets_own_or_somebody_elses() {
        let mut own = json!({"metadata": {"name": "reader"}});
        set().mark(&mut own, false);
        assert_eq!(check(&own), Ok(Standing::Own));

        let (reason, message) = check(&json!({"metadata": {"name": "reader"}})).unwrap_err();
        assert_eq!(reason, "ExistsAlready");
        let hand_over = "kubectl label --overwrite clusterroles.rbac.authorization.k8s.io reader applyset.kubernetes.io/part-of=applyset-";
        assert!(message.contains(hand_over) && message.contains("pilotage.dev/target-uid=uid-1"), "{message}");

        for (other, words) in [
            (Set::new("billing", "qa", "uid-1"), "solution billing of namespace qa"),
            (Set::new("orders", "prod", "uid-2"), "solution orders of namespace prod"),
            (Set::new("orders", "qa", "uid-0"), "for a namespace qa that had another uid"),
        ] {
            let mut live = json!({"metadata": {"name": "reader"}});
            other.mark(&mut live, false);
            let (reason, message) = check(&live).unwrap_err();
            assert_eq!(reason, "OwnedByAnotherSet");
            assert!(message.contains(words), "{message}");
        }
        for part_of in [None, Some("applyset-other-v1")] {
            let mut taken = own.clone();
            let labels = taken["metadata"]["labels"].as_object_mut().unwrap();
            labels.remove(names::APPLYSET_PART_OF);
            labels.extend(part_of.map(|set| (names::APPLYSET_PART_OF.to_owned(), json!(set))));
            let (reason, message) = check(&taken).unwrap_err();
            assert!(
                reason == "OwnedByAnotherSet" && message.contains("carries its label applyset.kubernetes.io/part-of no more"),
                "{message}"
            );
            assert!(!message.contains("another uid"), "{message}");
        }
        let foreign = json!({"metadata": {"name": "reader", "labels": {(names::APPLYSET_PART_OF): "applyset-x-v1"}}});
        assert!(check(&foreign).unwrap_err().1.contains("the ApplySet applyset-x-v1"));
    }

    #[test]
    fn the_label_of_the_standard_alone_makes_no_member_of_the_cluster() {
        let live = json!({"metadata": {"labels": {(names::APPLYSET_PART_OF): set().id}}});
        assert!(set().owns(&live, true) && !set().owns(&live, false));
        let mut unknown = json!({"metadata": {}});
        let nobody = Set::new("orders", "qa", "");
        nobody.mark(&mut unknown, false);
        assert!(!nobody.owns(&unknown, false), "no uid is nobody's");
        assert_eq!(set().selector(false), format!("{},pilotage.dev/target-uid=uid-1", set().selector(true)));
    }

    #[test]
    fn a_service_account_of_the_target_is_taken_over_only_where_it_is_offered() {
        let key = Key { group: String::new(), kind: "ServiceAccount".into(), name: "root".into() };
        let served = Served::in_namespaces(ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "ServiceAccount")));
        let check = |live: Option<&Value>| set().check_owner(&key, &served, live);
        let labelled = |labels: Value| json!({"metadata": {"name": "root", "namespace": "qa", "labels": labels}});
        assert_eq!(check(None).unwrap(), Standing::Free);
        assert_eq!(check(Some(&labelled(json!({(names::APPLYSET_PART_OF): set().id})))).unwrap(), Standing::Own);
        for mark in [json!({(names::CONNECTION_LABEL): "true"}), json!({(names::ADOPT_LABEL): "orders"})] {
            assert_eq!(check(Some(&labelled(mark))).unwrap(), Standing::Adoptable);
        }
        for labels in [json!({}), json!({(names::CONNECTION_LABEL): "false"})] {
            let Err(Obstacle::Refusal(result)) = check(Some(&labelled(labels))) else { panic!() };
            assert_eq!(result.reason, "NotOffered");
            assert!(
                result.message.ends_with("kubectl label serviceaccounts root -n qa pilotage.dev/connection=true"),
                "{}",
                result.message
            );
        }
    }

    #[test]
    fn an_object_of_another_set_is_left_to_it() {
        let key = Key { group: String::new(), kind: "ConfigMap".into(), name: "shared".into() };
        let served = crate::deploy::plan::live_state::config_maps();
        let check = |live: Option<&Value>| set().check_owner(&key, &served, live);
        let labelled = |label: &str, value: &str| json!({"metadata": {"name": "shared", "labels": {(label): value}}});
        assert_eq!(check(None).unwrap(), Standing::Free);
        assert_eq!(check(Some(&labelled(names::APPLYSET_PART_OF, &set().id))).unwrap(), Standing::Own);
        for label in [names::APPLYSET_PART_OF, names::APPLYSET_ID] {
            let Err(Obstacle::Refusal(result)) = check(Some(&labelled(label, "other"))) else { panic!() };
            assert_eq!(result.reason, "OwnedByAnotherSet");
            assert!(result.message.contains("other"));
        }
    }

    #[test]
    fn what_nobody_marked_stays_as_it_is_and_the_mark_is_printed() {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"));
        let key = Key { group: "apps".into(), kind: "Deployment".into(), name: "backup".into() };
        let served = Served::in_namespaces(resource);
        let labelled = |labels: Value| json!({"metadata": {"name": "backup", "namespace": "qa", "labels": labels}});
        let check = |live: &Value| match set().check_owner(&key, &served, Some(live)) {
            Ok(standing) => Ok(standing),
            Err(Obstacle::Refusal(result)) => Err((result.reason, result.message)),
            Err(other) => panic!("{other:?}"),
        };
        for (labels, overwrite) in [
            (json!({}), ""),
            (json!({(names::CONNECTION_LABEL): "true"}), ""),
            (json!({(names::ADOPT_LABEL): "billing"}), "--overwrite "),
            (json!({(names::ADOPTED_LABEL): "orders"}), ""),
        ] {
            let (reason, message) = check(&labelled(labels)).unwrap_err();
            let how = format!("kubectl label {overwrite}deployments.apps backup -n qa pilotage.dev/adopt=orders");
            assert!(reason == "ExistsAlready" && message.ends_with(&how), "{message}");
        }
        let marked = labelled(json!({(names::ADOPT_LABEL): "orders"}));
        assert_eq!(check(&marked), Ok(Standing::Adoptable));
        assert!(set().has_adopted(&marked) && !set().has_adopted(&labelled(json!({(names::ADOPT_LABEL): "billing"}))));
        let mut adopted = labelled(json!({}));
        set().mark(&mut adopted, true);
        assert!(!set().has_adopted(&adopted));
        set().mark_adopted(&mut adopted);
        assert!(check(&adopted) == Ok(Standing::Own) && set().has_adopted(&adopted));

        // What a controller makes may carry the labels of what it is made from.
        let mut made = adopted;
        made["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Service", "name": "orders", "controller": true}]);
        let (reason, message) = check(&made).unwrap_err();
        assert!(reason == "MadeByController" && message.contains("made by Service orders,"), "{message}");
    }

    #[test]
    fn the_record_of_another_hosts_solution_of_that_name_is_left_alone() {
        let ours = set().of_host("team-a");
        let parent = ours.parent(&BTreeSet::new());
        assert_eq!(ours.parent_taken_by(&parent), None);
        let said = set().of_host("team-b").parent_taken_by(&parent).unwrap();
        assert_eq!(said, "a solution of that name of host team-a");
        assert_eq!(ours.parent_taken_by(&set().parent(&BTreeSet::new())), None, "one that does not say");
        assert!(ours.parent_taken_by(&json!({"metadata": {"name": "pilotage-orders"}})).unwrap().contains("no ApplySet tool"));
    }
}
