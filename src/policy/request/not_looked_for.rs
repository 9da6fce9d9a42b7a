//! Kinds that an export did not look for, because the operator may not list them in development. The solution may lack some of its objects,
//! so this is said before anything else.

use super::observed::ArtifactView;
use crate::api::plan::{MAX_MESSAGE, PlanResult};
use crate::api::reason::Reason;
use crate::cluster::errors;

/// How many kinds are named: it stands before what else is said.
const NAMED: usize = 3;

/// The first result of a plan.
pub(crate) fn result(solution: &str, artifact: &ArtifactView) -> Option<PlanResult> {
    let kinds = kinds(artifact)?;
    let message = format!(
        "what there is in development of these kinds is not in the version, as the operator may not list them there: {kinds}. Where {solution} has such \
         objects, reject it, have the administrator of development bind the operator a role that lists them, and raise the version; where it has none, \
         its maker says so by naming the kinds that it consists of in the Solution's spec.components"
    );
    Some(PlanResult {
        kind: "Solution".into(),
        name: solution.into(),
        reason: Reason::NotLookedFor.into(),
        message: errors::bounded(&message, MAX_MESSAGE),
    })
}

/// A message that says it first.
pub(crate) fn before(artifact: Option<&ArtifactView>, message: &str) -> String {
    let Some(kinds) = artifact.and_then(kinds) else { return message.to_owned() };
    let first = format!("not looked for in development: {kinds}; ");
    if message.starts_with(&first) { message.to_owned() } else { format!("{first}{message}") }
}

fn kinds(artifact: &ArtifactView) -> Option<String> {
    let (first, count) = &artifact.not_listed;
    let named: Vec<&str> = first.iter().take(NAMED).map(String::as_str).collect();
    let more = count.saturating_sub(named.len());
    match (count, more) {
        (0, _) => None,
        (_, 0) => Some(named.join(", ")),
        (_, more) => Some(format!("{} and {more} more kinds", named.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario::artifact;
    use super::*;

    fn without(kinds: &[&str], count: usize) -> ArtifactView {
        ArtifactView { not_listed: (kinds.iter().map(|k| (*k).to_owned()).collect(), count), ..artifact() }
    }

    #[test]
    fn what_was_not_looked_for_comes_first_and_once() {
        assert_eq!(result("orders", &without(&[], 0)), None);
        assert_eq!(before(None, "runs"), "runs");
        assert_eq!(before(Some(&without(&[], 0)), "runs"), "runs");
        let some = without(&["RoleBinding", "Role", "PodTemplate", "Widget"], 30);
        let said = before(Some(&some), "runs");
        assert_eq!(said, "not looked for in development: RoleBinding, Role, PodTemplate and 27 more kinds; runs");
        assert_eq!(before(Some(&some), &said), said);
        let told = result("orders", &some).unwrap();
        assert!(told.reason == "NotLookedFor" && told.message.contains("spec.components"), "{told:?}");
        assert!(before(Some(&without(&["Role"], 1)), "runs").starts_with("not looked for in development: Role; "));
    }
}
