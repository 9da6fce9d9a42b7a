//! What a plan must tell the approver about rights that it gives and access that it opens: all of it, the worst first. If it doesn't fit,
//! there is no plan.

use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::cluster::errors;
use crate::cluster::object::Key;
use crate::cluster::packed::packed;
use crate::deploy::plan::exposure::Exposure;
use crate::deploy::plan::rbac_changes::{Gift, shown};

/// How many entries of a plan tell who gets which rights.
const GIFTS: usize = 24;
/// How many entries of a plan tell what it opens.
const EXPOSURES: usize = 16;
/// How many entries of a plan tell both, and what the target gives to new accounts.
const ALL: usize = 52;
/// How many findings of both are told one by one if there are too many.
const ALONE: usize = 8;

/// Who gets which rights. `Err` means more than any approver could be told.
///
/// # Errors
/// If something important does not fit.
pub(crate) fn gifts(solution: &str, gifts: &[(Key, Gift)]) -> Result<Vec<PlanResult>, PlanResult> {
    let said = |(key, gift): &(Key, Gift)| Told {
        key: key.clone(),
        reason: Reason::GivesRights,
        said: gift.said.clone(),
        is_grave: gift.is_grave(),
    };
    fit(solution, &gifts.iter().map(said).collect::<Vec<_>>(), GIFTS, Reason::GivesRights)
}

/// What is opened, and what of others is reached.
///
/// # Errors
/// If it does not fit.
pub(crate) fn exposures(solution: &str, exposures: &[(Key, Exposure)]) -> Result<Vec<PlanResult>, PlanResult> {
    let said = |(key, one): &(Key, Exposure)| Told { key: key.clone(), reason: one.what.reason(), said: one.said.clone(), is_grave: true };
    fit(solution, &exposures.iter().map(said).collect::<Vec<_>>(), EXPOSURES, Reason::Opens)
}

/// Puts everything that a plan gives and opens into one list.
///
/// # Errors
/// If no room would be left for the other findings.
pub(crate) fn all(solution: &str, parts: &[Vec<PlanResult>; 3]) -> Result<Vec<PlanResult>, PlanResult> {
    let all = parts.concat();
    if all.len() > ALL { Err(too_much(solution, all.len())) } else { Ok(all) }
}

/// Nobody decides about something that they were not told.
fn too_much(solution: &str, ways: usize) -> PlanResult {
    let key = Key { group: String::new(), kind: "Solution".into(), name: solution.to_owned() };
    let message = format!(
        "gives or opens more, in {ways} ways, than the plan can tell an approver, who would decide without having seen it: split the solution, or leave roles, bindings and the like to the target's owner"
    );
    errors::result(&key, Reason::TooMuchToTell, &message)
}

/// One sentence about one object.
struct Told {
    key: Key,
    reason: Reason,
    said: String,
    is_grave: bool,
}

impl Told {
    fn sentence(&self) -> String {
        format!("{} {} {}", self.key.kind, shown(&self.key.name), self.said)
    }
}

/// Puts sentences, the worst of which come first, into at most `most` entries.
fn fit(solution: &str, told: &[Told], most: usize, reason: Reason) -> Result<Vec<PlanResult>, PlanResult> {
    let alone = |one: &Told| errors::result(&one.key, one.reason, &one.sentence());
    if told.len() <= most {
        return Ok(told.iter().map(alone).collect());
    }
    let key = Key { group: String::new(), kind: "Solution".into(), name: solution.to_owned() };
    let (first, rest) = told.split_at(ALONE);
    let mut results: Vec<PlanResult> = first.iter().map(alone).collect();
    let together =
        |texts: Vec<String>| texts.into_iter().map(|text| errors::result(&key, reason, &format!("besides: {text}"))).collect::<Vec<_>>();
    let sentences = |is_grave: bool| rest.iter().filter(move |one| one.is_grave == is_grave).map(Told::sentence);
    results.extend(together(packed(sentences(true), "; ")));
    // One entry is reserved for findings that are only counted.
    if results.len() >= most {
        return Err(too_much(solution, told.len()));
    }
    let mut narrow = together(packed(sentences(false), "; "));
    let room = most - results.len();
    if narrow.len() > room {
        narrow.truncate(room.saturating_sub(1));
        let message = "more roles and bindings are created or changed, which give little and to nobody but the solution's own accounts";
        narrow.push(errors::result(&key, reason, message));
    }
    results.extend(narrow);
    Ok(results)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::deploy::plan::rbac_changes;

    fn binding(name: &str, role: &str, subject: &serde_json::Value) -> Vec<(Key, Gift)> {
        let object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": [subject]});
        rbac_changes::of(&object, "qa", &[]).into_iter().map(|gift| (Key::of(&object), gift)).collect()
    }

    fn sorted(mut all: Vec<(Key, Gift)>) -> Vec<(Key, Gift)> {
        all.sort_by(|a, b| a.1.cmp(&b.1));
        all
    }

    #[test]
    fn nothing_that_is_given_is_only_counted() {
        let account = |n: usize| json!({"kind": "ServiceAccount", "name": format!("x{n}")});
        let mut all: Vec<(Key, Gift)> = (0..100).flat_map(|n| binding(&format!("a{n}"), "view", &account(n))).collect();
        all.extend(binding("zz", "view", &json!({"kind": "User", "name": "dana"})));
        let told = gifts("orders", &sorted(all)).unwrap();
        assert!(told.len() <= GIFTS, "{}", told.len());
        assert_eq!(told[0].message, "RoleBinding zz gives ClusterRole view to User dana");
        let said: String = told.iter().map(|r| r.message.as_str()).collect();
        assert_eq!(said.matches(" to ServiceAccount x").count(), 100, "{said}");
        assert!(told.iter().all(|r| r.reason == "GivesRights"));
    }

    #[test]
    fn what_can_not_be_told_is_not_planned() {
        let many = |role: &str, of: usize| -> Vec<(Key, Gift)> {
            let name = |n: usize| format!("{}{n}", "long-".repeat(30));
            sorted((0..of).flat_map(|n| binding(&name(n), role, &json!({"kind": "ServiceAccount", "name": name(n)}))).collect())
        };
        let refused = gifts("orders", &many("admin", 300)).unwrap_err();
        assert!(refused.reason == "TooMuchToTell" && refused.message.contains("in 300 ways"), "{refused:?}");
        let told = gifts("orders", &many("view", 300)).unwrap();
        assert!(told.len() == GIFTS && told[GIFTS - 1].message.contains("give little"), "{told:?}");
        assert_eq!(gifts("orders", &many("admin", GIFTS)).unwrap().len(), GIFTS);
    }
}
