//! `kubectl pilotage status`: where a solution's versions are, and what each request waits for.

use comfy_table::{Table, presets};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

use crate::api::names::HOST_LABEL;
use crate::api::reason::Reason;
use crate::api::request_status::condition_types::SUCCEEDED;
use crate::api::{DeploymentRequest, Solution, condition};
use crate::text;

/// Shows the Solutions of a namespace (the maker's view), or the requests of a host.
///
/// # Errors
/// If the caller may read neither, or the API server can't be reached.
pub async fn run(client: Client, namespace: Option<String>) -> anyhow::Result<String> {
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let solutions: Api<Solution> = Api::namespaced(client.clone(), &namespace);
    let found = solutions.list(&ListParams::default()).await;
    if let Ok(list) = &found
        && !list.items.is_empty()
    {
        return Ok(of_solutions(&list.items));
    }
    let requests: Api<DeploymentRequest> = Api::namespaced(client, &namespace);
    match (requests.list(&ListParams::default()).await, found) {
        (Ok(list), _) if !list.items.is_empty() => Ok(of_requests(&list.items)),
        (Ok(_), _) | (Err(_), Ok(_)) => Ok(format!("no solutions and no requests in namespace {namespace}")),
        (Err(error), Err(_)) => Err(anyhow::anyhow!("neither solutions nor requests of namespace {namespace} can be read: {error}")),
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header.iter().copied());
    table
}

fn of_solutions(solutions: &[Solution]) -> String {
    let mut rows = table(&["SOLUTION", "IN DEVELOPMENT", "STAGE", "RUNS", "VERSION", "PHASE", "REQUESTER", "MESSAGE"]);
    for solution in solutions {
        let deployments = solution.status.as_ref().map(|s| s.deployments.as_slice()).unwrap_or_default();
        if deployments.is_empty() {
            rows.add_row([solution.name_any(), solution.spec.version.clone()]);
        }
        for d in deployments {
            let message = d.message.as_deref().map(condition::in_a_line).unwrap_or_default();
            rows.add_row(cells([
                &solution.name_any(),
                &solution.spec.version,
                &d.stage,
                d.runs.as_ref().map_or("nothing", |runs| runs.version.as_str()),
                &d.version,
                &d.phase,
                &d.requester,
                &message,
            ]));
        }
    }
    rows.to_string()
}

fn of_requests(requests: &[DeploymentRequest]) -> String {
    let mut rows = table(&["REQUEST", "SOLUTION", "VERSION", "STAGE", "PHASE", "DEPLOYED BY", "WAITING FOR"]);
    let mut silent = false;
    for request in requests {
        let run = request.status.as_ref().map(|s| &s.run);
        let summary = run.and_then(|r| condition::find(&r.conditions, SUCCEEDED));
        silent |= summary.is_none_or(|c| c.reason == Reason::NotLookedAt);
        rows.add_row(cells([
            request.name_any().as_str(),
            &request.spec.solution.name,
            &request.spec.solution.version,
            &request.spec.stage,
            run.map(|r| r.phase.as_str()).unwrap_or_default(),
            run.and_then(|r| r.deployed_by.as_deref()).unwrap_or_default(),
            &summary.map(|c| condition::in_a_line(&c.message)).unwrap_or_default(),
        ]));
    }
    if silent {
        return format!(
            "{rows}\n\nno operator has looked at some of these: it looks only into hosts, which carry the label {HOST_LABEL}=true (kubectl get \
             namespaces -l {HOST_LABEL}=true)"
        );
    }
    rows.to_string()
}

/// Each value in one line and without control characters, so that each row has one line.
fn cells<const N: usize>(of: [&str; N]) -> [String; N] {
    of.map(|cell| text::line(cell).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_others_wrote_does_not_control_the_terminal_of_who_reads_it() {
        let hostile = "\u{1b}[2K\u{1b}[1A\u{1b}[32mesc  rq  1.0.0  Succeeded\u{1b}[0m\u{1b}]52;c;cm0=\u{7}\u{202e}\u{9b}2K";
        let condition = json!({"type": "Succeeded", "status": "False", "reason": "X", "message": hostile, "lastTransitionTime": "2026-01-01T00:00:00Z"});
        let request: DeploymentRequest = serde_json::from_value(json!({
            "metadata": {"name": "esc"}, "spec": {"pipeline": "p", "stage": "qa", "solution": {"name": "rq", "version": "1.0.0"}},
            "status": {"phase": "Failed", "deployedBy": format!("{hostile}\nforged  row"), "conditions": [condition]},
        }))
        .unwrap();
        let entry = json!({"host": "h", "stage": "qa", "pipeline": "p", "version": "1.0.0", "phase": "Failed", "request": "esc", "requestUID": "u",
            "requester": hostile, "message": hostile, "at": "2026-01-01T00:00:00Z"});
        let solution: Solution =
            serde_json::from_value(json!({"metadata": {"name": "rq"}, "spec": {"version": "1.0.0"}, "status": {"deployments": [entry]}}))
                .unwrap();
        for shown in [of_requests(&[request]), of_solutions(&[solution])] {
            assert!(shown.chars().all(|c| c == '\n' || text::line(&c.to_string()) == c.to_string()), "{shown:?}");
            assert_eq!(shown.lines().count(), 2, "one row: {shown}");
        }
    }
}
