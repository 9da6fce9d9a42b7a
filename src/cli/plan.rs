//! A request and its plan for people, as whoever decides needs it: what should make them pause comes first. Pure.

use std::fmt::Write as _;

use super::difference;
use crate::api::plan::Plan;
use crate::api::stage::OnFailure;
use crate::api::{DeploymentRequest, Reason};
use crate::identity::grants;
use crate::text;

/// What is asked for: what, where, by whom, as whom, with which settings; and the plan, if there is one.
pub fn said(request: &DeploymentRequest) -> String {
    let spec = &request.spec;
    let mut said = String::new();
    let mut put = |label: &str, value: &str| {
        // Writing to a String can't fail.
        let _ = writeln!(said, "{:<16}{}", format!("{label}:"), text::line(value));
    };
    put("deploys", &format!("{} {}", spec.solution.name, spec.solution.version));
    put("to", &format!("stage {} of pipeline {}", spec.stage, spec.pipeline));
    if let Some(requester) = &spec.requested_by {
        put("asked for by", &requester.username);
    }
    if let Some(person) = &spec.on_behalf_of {
        put("on behalf of", &format!("{person} (as the requester reports)"));
    }
    if let Some(notes) = &spec.notes {
        put("notes", notes);
    }
    if let Some(time) = spec.scheduled_time.as_deref().filter(|time| !time.is_empty()) {
        put("not before", time);
    }
    let settings = spec.deployment_settings.as_ref();
    for variable in settings.iter().flat_map(|s| &s.environment_variables) {
        put("sets", &format!("{} = {}", variable.name, variable.value));
    }
    for connection in settings.iter().flat_map(|s| &s.connection_references) {
        put("connects", &format!("{} to Secret {} of the target", connection.name, connection.secret_name));
    }
    for grant in &spec.share_with {
        let who = grants::described(grant.kind, &grant.name, grant.namespace.as_deref());
        put("shares with", &format!("{who} gets ClusterRole {} in the target", grant.cluster_role));
    }
    match request.status.as_ref().and_then(|status| status.run.plan.as_ref()) {
        Some(plan) => said.push_str(&of_plan(plan)),
        None => put("plan", "there is none yet: it is made after the export"),
    }
    said
}

/// The plan alone: warnings, access, counts, objects with their changed fields.
pub fn of_plan(plan: &Plan) -> String {
    let mut said = String::new();
    let mut put = |label: &str, value: &str| {
        let _ = writeln!(said, "{:<16}{}", format!("{label}:"), text::line(value));
    };
    put("deployed as", &plan.delegate);
    match (&plan.replaces_version, &plan.replaces) {
        (Some(version), _) => put("replaces", version),
        (None, Some(digest)) => put("replaces", digest),
        (None, None) => put("replaces", "nothing"),
    }
    if plan.on_failure == OnFailure::Rollback {
        put("on failure", "the replaced version is restored");
    }
    // What gives somebody rights comes before everything else.
    let (rights, others): (Vec<_>, Vec<_>) =
        plan.results.iter().partition(|result| Reason::of(&result.reason) == Some(Reason::GivesRights));
    for result in rights.into_iter().chain(others) {
        put("warning", &format!("{} {} ({}): {}", result.kind, result.name, result.reason, result.message));
    }
    if plan.results_omitted > 0 {
        put("warning", &format!("{} more findings are not listed in the plan", plan.results_omitted));
    }
    for used in &plan.access {
        put("gives access", &format!("{} gets {} {} of the target", used.used_by, used.kind, used.name));
    }
    if plan.access_omitted > 0 {
        put("gives access", &format!("{} more are not listed in the plan", plan.access_omitted));
    }
    put("plan", &counts(plan));
    said.push_str(&difference::lines(&plan.objects));
    if plan.objects_omitted > 0 {
        let _ = writeln!(said, "{} more objects change, which the plan does not list", plan.objects_omitted);
    }
    if plan.values_omitted > 0 {
        let _ = writeln!(said, "the values of {} fields are not listed: they are too many or too long", plan.values_omitted);
    }
    let _ = writeln!(said, "{:<16}{}", "plan hash:", text::line(&plan.hash));
    said
}

fn counts(plan: &Plan) -> String {
    let always = [("create", plan.create), ("update", plan.update), ("delete", plan.delete)];
    let sometimes = [("create anew", plan.recreate), ("adopt", plan.adopt), ("release", plan.release)];
    let told = always.into_iter().chain(sometimes.into_iter().filter(|(_, count)| *count > 0));
    let mut parts: Vec<String> = told.map(|(word, count)| format!("{word} {count}")).collect();
    parts.push(format!("unchanged {}", plan.unchanged));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(plan: Option<serde_json::Value>) -> DeploymentRequest {
        let mut request = json!({
            "metadata": {"name": "r", "namespace": "host"},
            "spec": {"pipeline": "p", "stage": "qa", "solution": {"name": "orders", "version": "1.4.0"}, "notes": "as agreed\nforged: line",
                "requestedBy": {"username": "dana"}, "deploymentSettings": {"environmentVariables": [{"name": "A", "value": "1"}],
                "connectionReferences": [{"name": "db", "secretName": "qa-db"}]},
                "shareWith": [{"kind": "Group", "name": "qa", "clusterRole": "view"}]},
        });
        if let Some(plan) = plan {
            request["status"] = json!({"plan": plan});
        }
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn warnings_come_before_the_counts_and_rights_before_other_warnings() {
        let result = |reason: &str| json!({"kind": "RoleBinding", "name": "x", "reason": reason, "message": "look"});
        let plan = json!({"hash": "sha256:abc", "artifactDigest": "", "settingsDigest": "", "environmentId": "", "stageUID": "", "delegate": "bot",
            "create": 3, "update": 2, "delete": 1, "unchanged": 29, "results": [result("Downgrade"), result("GivesRights")],
            "access": [{"kind": "Secret", "name": "qa-db", "usedBy": "Deployment web"}],
            "objects": [{"action": "Delete", "apiVersion": "v1", "kind": "Service", "name": "old"}]});
        let said = said(&request(Some(plan)));
        let at = |words: &str| said.find(words).unwrap_or_else(|| panic!("{words:?} is not in {said}"));
        let order = [
            "asked for by:   dana",
            "deployed as:    bot",
            "GivesRights",
            "Downgrade",
            "Deployment web gets Secret qa-db",
            "create 3, update 2, delete 1, unchanged 29",
            "- Service old: delete",
            "plan hash:      sha256:abc",
        ];
        assert!(order.map(at).is_sorted(), "{said}");
        for told in ["sets:           A = 1", "connects:       db to Secret qa-db", "shares with:    Group qa gets ClusterRole view"] {
            at(told);
        }
        assert!(!said.contains("\nforged"), "{said}");
    }

    #[test]
    fn before_the_export_there_is_no_plan() {
        assert!(said(&request(None)).contains("plan:           there is none yet"));
    }
}
