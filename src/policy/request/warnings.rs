//! What an approver should know about a plan that can be carried out.

use semver::Version;

use crate::api::names;
use crate::api::plan::{MAX_MESSAGE, PlanResult, PlannedAction, PlannedObject};
use crate::api::reason::Reason;
use crate::cluster::errors;

/// How many objects a warning names.
const NAMED: usize = 10;

/// Warnings about a plan: a version that is lower than the one it replaces, and objects that are deleted or created anew. Lost data is
/// reported before ([`data_lost`](crate::deploy::plan::planned::Planned::data_lost)). `objects` names the first of `deleted` and
/// `recreated`.
pub(crate) fn of(
    solution: &str,
    version: &Version,
    replaces: Option<&Version>,
    [deleted, recreated]: [usize; 2],
    objects: &[PlannedObject],
) -> Vec<PlanResult> {
    let warning =
        |reason: Reason, message: String| PlanResult { kind: "Solution".into(), name: solution.into(), reason: reason.into(), message };
    let mut warnings = Vec::new();
    if let Some(replaced) = replaces.filter(|replaced| *replaced > version) {
        warnings.push(warning(Reason::Downgrade, format!("{version} is lower than {replaced}, which it replaces")));
    }
    let named = |chosen: &dyn Fn(&PlannedObject) -> bool, count: usize, reason: Reason, what: &str| {
        let first: Vec<String> = objects.iter().filter(|o| chosen(o)).take(NAMED).map(|o| format!("{} {}", o.kind, o.name)).collect();
        let more = count.saturating_sub(first.len());
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        (count > 0).then(|| warning(reason, format!("{what}: {}{tail}", first.join(", "))))
    };
    let goes = |o: &PlannedObject| o.action == PlannedAction::Delete;
    let anew = |o: &PlannedObject| o.action == PlannedAction::Recreate;
    let defines = |o: &PlannedObject| is_definition(o) && (goes(o) || anew(o));
    let kinds = "deletes CustomResourceDefinitions, with all objects of their kinds in all namespaces of the cluster";
    warnings.extend(named(&defines, objects.iter().filter(|o| defines(o)).count(), Reason::DeletesKinds, kinds));
    warnings.extend(named(&goes, deleted, Reason::Deletes, "deletes what an earlier version put there and this one does not have"));
    warnings.extend(named(&anew, recreated, Reason::Recreates, "deletes and creates anew what can't be changed"));
    let of_cluster = |o: &PlannedObject| o.cluster_scoped && matches!(o.action, PlannedAction::Create | PlannedAction::Update);
    let count = objects.iter().filter(|o| of_cluster(o)).count();
    warnings.extend(named(&of_cluster, count, Reason::InWholeCluster, "creates or changes cluster-scoped objects"));
    warnings
}

/// Warns of cluster-scoped objects that an earlier version put there and that the operator may not touch any more.
pub(crate) fn left_alone(solution: &str, environment: &str, kinds: &[String]) -> Option<PlanResult> {
    let message = || {
        format!(
            "cluster-scoped objects of earlier versions are neither changed nor deleted, because Environment {environment} does not list their kinds in spec.clusterScoped: {}. List them again until a deployment has deleted what is not needed. If the solution never had objects of a kind, somebody else wrote it into the annotation {} of ConfigMap {}: remove it there",
            kinds.join(", "),
            names::APPLYSET_GROUP_KINDS,
            names::applyset_parent_name(solution)
        )
    };
    (!kinds.is_empty()).then(|| PlanResult {
        kind: "Solution".into(),
        name: solution.into(),
        reason: Reason::LeftAlone.into(),
        message: errors::bounded(&message(), MAX_MESSAGE),
    })
}

fn is_definition(object: &PlannedObject) -> bool {
    object.kind == "CustomResourceDefinition" && object.api_version.starts_with("apiextensions.k8s.io/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(action: PlannedAction, kind: &str, name: &str) -> PlannedObject {
        PlannedObject {
            action,
            api_version: "v1".into(),
            kind: kind.into(),
            name: name.into(),
            cluster_scoped: false,
            fields: Vec::new(),
            changes: Vec::new(),
        }
    }

    #[test]
    fn a_definition_that_goes_takes_the_objects_of_all_along() {
        let mut gone = object(PlannedAction::Delete, "CustomResourceDefinition", "widgets.example.test");
        gone.api_version = "apiextensions.k8s.io/v1".into();
        let version = Version::new(1, 0, 0);
        let told = of("orders", &version, None, [1, 0], &[gone]);
        assert!(
            told[0].reason == "DeletesKinds"
                && told[0].message.ends_with("namespaces of the cluster: CustomResourceDefinition widgets.example.test")
        );
        let kept = object(PlannedAction::Update, "CustomResourceDefinition", "widgets.example.test");
        assert_eq!(of("orders", &version, None, [0, 0], &[kept]), []);
    }

    #[test]
    fn what_is_left_alone_is_named_with_what_to_do() {
        assert_eq!(left_alone("orders", "qa", &[]), None);
        let told = left_alone("orders", "qa", &["ClusterRole.rbac.authorization.k8s.io".into()]).unwrap();
        for words in
            ["Environment qa", "spec.clusterScoped: ClusterRole.rbac.authorization.k8s.io. List them again", "ConfigMap pilotage-orders"]
        {
            assert!(told.message.contains(words), "{}", told.message);
        }
    }

    #[test]
    fn a_downgrade_and_deletions_are_warned_of_and_nothing_else() {
        let (old, new) = (Version::new(1, 4, 0), Version::new(1, 5, 0));
        let created = [object(PlannedAction::Create, "ConfigMap", "a")];
        assert_eq!(of("orders", &new, Some(&old), [0, 0], &created), []);
        assert_eq!(of("orders", &new, None, [0, 0], &created), []);
        let mut objects: Vec<PlannedObject> = (0..12).map(|i| object(PlannedAction::Delete, "ConfigMap", &format!("c{i}"))).collect();
        objects.push(object(PlannedAction::Delete, "PersistentVolumeClaim", "data"));
        objects.push(object(PlannedAction::Recreate, "PersistentVolumeClaim", "index"));
        let told = of("orders", &old, Some(&new), [13, 1], &objects);
        let told: Vec<(&str, &str)> = told.iter().map(|w| (w.reason.as_str(), w.message.as_str())).collect();
        assert_eq!(told[0], ("Downgrade", "1.4.0 is lower than 1.5.0, which it replaces"));
        assert!(told[1].0 == "Deletes" && told[1].1.ends_with("ConfigMap c9 and 3 more"), "{told:?}");
        assert_eq!(told[2], ("Recreates", "deletes and creates anew what can't be changed: PersistentVolumeClaim index"));
    }

    #[test]
    fn what_goes_into_the_whole_cluster_is_named() {
        let mut objects = [object(PlannedAction::Create, "PriorityClass", "orders"), object(PlannedAction::Create, "ConfigMap", "orders")];
        objects[0].cluster_scoped = true;
        let told = of("orders", &Version::new(1, 0, 0), None, [0, 0], &objects);
        let told: Vec<(&str, &str)> = told.iter().map(|w| (w.reason.as_str(), w.message.as_str())).collect();
        assert_eq!(told, [("InWholeCluster", "creates or changes cluster-scoped objects: PriorityClass orders")]);
    }
}
