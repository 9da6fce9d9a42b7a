//! What an approver should know about objects that the solution did not put into the target.

use crate::api::names;
use crate::api::plan::{MAX_MESSAGE, PlanResult};
use crate::api::reason::Reason;
use crate::cluster::errors;
use crate::cluster::object::Key;

/// How many objects a sentence names.
const NAMED: usize = 10;

/// What a plan adopts, what it releases, and what it would release if it could.
pub(crate) fn told(solution: &str, namespace: &str, [adopted, released, held]: &[Vec<Key>; 3]) -> Vec<PlanResult> {
    let said = |reason: Reason, keys: &[Key], message: &dyn Fn(&str) -> String| {
        (!keys.is_empty()).then(|| PlanResult {
            kind: "Solution".into(),
            name: solution.into(),
            reason: reason.into(),
            message: errors::bounded(&message(&named(keys)), MAX_MESSAGE),
        })
    };
    let adopts = said(Reason::Adopts, adopted, &|named| {
        format!(
            "changes what it did not put into {namespace}, as the owner marked it for that: {named}. None of it is ever deleted: a version without it gives up what the solution set in it"
        )
    });
    let releases = said(Reason::Releases, released, &|named| {
        format!("gives back what an earlier version adopted and this one does not have, without what the solution set in it: {named}")
    });
    let stays = said(Reason::StaysAdopted, held, &|named| {
        format!(
            "an earlier version adopted this and this one does not have it, and it would not be valid without what the solution set in it: {named}. It stays as it is. Its owner takes it back with: kubectl label KIND NAME -n {namespace} {}- {}- {}-",
            names::APPLYSET_PART_OF,
            names::ADOPTED_LABEL,
            names::ADOPT_LABEL
        )
    });
    [adopts, releases, stays].into_iter().flatten().collect()
}

/// The same for a summary.
pub(crate) fn counted(adopted: i32, released: i32) -> String {
    let part = |count: i32, what: &str| if count > 0 { format!(", {count} to {what}") } else { String::new() };
    format!("{}{}", part(adopted, "adopt"), part(released, "let go"))
}

fn named(keys: &[Key]) -> String {
    let first: Vec<String> = keys.iter().take(NAMED).map(ToString::to_string).collect();
    let more = keys.len().saturating_sub(first.len());
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", first.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_somebody_elses_is_named_and_what_becomes_of_it() {
        let keys = |names: &[&str]| -> Vec<Key> {
            names.iter().map(|name| Key { group: String::new(), kind: "ConfigMap".into(), name: (*name).into() }).collect()
        };
        assert_eq!(told("orders", "qa", &[vec![], vec![], vec![]]), []);
        let said = told("orders", "qa", &[keys(&["a"]), keys(&["b"]), keys(&["c"])]);
        assert_eq!(said.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(), ["Adopts", "Releases", "StaysAdopted"]);
        assert!(said[0].message.contains("ConfigMap a. None of it is ever deleted"), "{}", said[0].message);
        assert!(
            said[2].message.ends_with("applyset.kubernetes.io/part-of- pilotage.dev/adopted- pilotage.dev/adopt-"),
            "{}",
            said[2].message
        );
        let many: Vec<String> = (0..12).map(|n| format!("m{n}")).collect();
        let many = keys(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(told("orders", "qa", &[many, vec![], vec![]])[0].message.contains(" and 2 more."));
        assert_eq!((counted(2, 0), counted(1, 3)), (", 2 to adopt".into(), ", 1 to adopt, 3 to let go".into()));
    }
}
