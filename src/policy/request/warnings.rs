//! What an approver is to know of a plan that can be carried out.

use semver::Version;

use crate::api::plan::{PlanResult, PlannedAction, PlannedObject};

/// How many objects a warning names.
const NAMED: usize = 10;

/// What is said of a plan: a version that is lower than what it replaces, and what it deletes; first what loses data.
pub fn of(solution: &str, version: &Version, replaces: Option<&Version>, deleted: usize, objects: &[PlannedObject]) -> Vec<PlanResult> {
    let warning =
        |reason: &str, message: String| PlanResult { kind: "Solution".into(), name: solution.into(), reason: reason.into(), message };
    let mut warnings = Vec::new();
    if let Some(replaced) = replaces.filter(|replaced| *replaced > version) {
        warnings.push(warning("Downgrade", format!("{version} is lower than {replaced}, which it replaces")));
    }
    let deletions: Vec<&PlannedObject> = objects.iter().filter(|o| o.action == PlannedAction::Delete).collect();
    for (reason, claims, count, what) in [
        (
            "DeletesData",
            true,
            deletions.iter().filter(|o| is_claim(o)).count(),
            "deletes PersistentVolumeClaims, with the data on their volumes unless these are retained",
        ),
        ("Deletes", false, deleted, "deletes what an earlier version put there and this one does not have"),
    ] {
        if count == 0 {
            continue;
        }
        let named: Vec<String> =
            deletions.iter().filter(|o| !claims || is_claim(o)).take(NAMED).map(|o| format!("{} {}", o.kind, o.name)).collect();
        let more = count.saturating_sub(named.len());
        let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
        warnings.push(warning(reason, format!("{what}: {}{tail}", named.join(", "))));
    }
    warnings
}

fn is_claim(object: &PlannedObject) -> bool {
    object.kind == "PersistentVolumeClaim" && object.api_version == "v1"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(action: PlannedAction, kind: &str, name: &str) -> PlannedObject {
        PlannedObject { action, api_version: "v1".into(), kind: kind.into(), name: name.into(), fields: Vec::new() }
    }

    #[test]
    fn a_downgrade_and_deletions_are_warned_of_and_nothing_else() {
        let (old, new) = (Version::new(1, 4, 0), Version::new(1, 5, 0));
        let created = [object(PlannedAction::Create, "ConfigMap", "a")];
        assert_eq!(of("orders", &new, Some(&old), 0, &created), []);
        assert_eq!(of("orders", &new, None, 0, &created), []);
        let mut objects: Vec<PlannedObject> = (0..12).map(|i| object(PlannedAction::Delete, "ConfigMap", &format!("c{i}"))).collect();
        objects.push(object(PlannedAction::Delete, "PersistentVolumeClaim", "data"));
        let told = of("orders", &old, Some(&new), 13, &objects);
        let told: Vec<(&str, &str)> = told.iter().map(|w| (w.reason.as_str(), w.message.as_str())).collect();
        assert_eq!(told[0], ("Downgrade", "1.4.0 is lower than 1.5.0, which it replaces"));
        assert!(told[1].0 == "DeletesData" && told[1].1.ends_with("retained: PersistentVolumeClaim data"), "{told:?}");
        assert!(told[2].0 == "Deletes" && told[2].1.ends_with("ConfigMap c9 and 3 more"), "{told:?}");
    }
}
