//! `--dry-run`: a request that only plans, made, awaited and shown.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{full_name, is_forbidden, requester};
use crate::api::phase::Phase;
use crate::api::plan::{PlanResult, PlannedAction, PlannedObject};
use crate::api::request::DeploymentRequestSpec;
use crate::api::request_status::condition_types::SUCCEEDED;
use crate::api::solution_plans::{PlannedChange, SolutionPlan};
use crate::api::{DeploymentRequest, Solution, condition};
use crate::cli::difference;
use crate::cli::exit::Exit;
use crate::cli::output::Output;
use crate::text;

/// How often the plan is looked for.
const POLL: Duration = Duration::from_millis(300);

/// A plan, from the request or from the Solution.
struct Found {
    phase: String,
    message: String,
    objects: Vec<PlannedObject>,
    objects_omitted: i32,
    results: Vec<PlanResult>,
    results_omitted: i32,
}

/// Makes the request, waits for its plan, and prints it.
///
/// # Errors
/// If the request is refused, does not end in time, or could not be carried out.
pub async fn run(
    client: &Client,
    namespace: &str,
    host: &str,
    spec: DeploymentRequestSpec,
    timeout: Duration,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<()> {
    let (solution, version, stage) = (spec.solution.name.clone(), spec.solution.version.clone(), spec.stage.clone());
    let mut request = DeploymentRequest::new("", spec);
    request.metadata.name = None;
    request.metadata.generate_name = Some(format!("{solution}-{version}-{stage}-plan-"));
    let made = requester::create(client, host, &mut request)
        .await
        .with_context(|| format!("asking for a plan of {solution} {version} for stage {stage} in host {host}"))?;
    let (name, deadline) = (made.name_any(), Instant::now() + timeout);
    let found = loop {
        if let Some(found) = look(client, namespace, &made).await? {
            break found;
        }
        if Instant::now() >= deadline {
            return Err(Exit::TimedOut.because(format!(
                "request {name} of host {host}, which only plans, has not ended in time; the status of Solution {solution} tells of it"
            )));
        }
        tokio::time::sleep(POLL).await;
    };
    let shown = json!({
        "request": name, "host": host, "stage": stage, "solution": solution, "version": version, "phase": found.phase, "message": found.message,
        "objects": found.objects.iter().map(as_told).collect::<Vec<_>>(), "objectsOmitted": found.objects_omitted, "results": found.results, "resultsOmitted": found.results_omitted,
    });
    out.one(&shown, &full_name(&name), &in_words(&found))?;
    if Phase::of(&found.phase) == Some(Phase::Planned) {
        return Ok(());
    }
    Err(Exit::Unsuccessful.because(format!("{solution} {version} can't be deployed to stage {stage} as things are")))
}

/// The plan, if the request has ended: of the request if the caller may read it, otherwise of the Solution.
async fn look(client: &Client, namespace: &str, made: &DeploymentRequest) -> anyhow::Result<Option<Found>> {
    let (name, host) = (made.name_any(), made.namespace().unwrap_or_default());
    match Api::<DeploymentRequest>::namespaced(client.clone(), &host).get_opt(&name).await {
        Ok(Some(request)) => {
            let run = request.status.map(|s| s.run).filter(|run| run.end_time.is_some());
            return Ok(run.map(|run| {
                let mut plan = run.plan.unwrap_or_default();
                plan.objects.retain(|object| object.action != PlannedAction::Unchanged);
                Found {
                    message: condition::find(&run.conditions, SUCCEEDED).map(|c| c.message.clone()).unwrap_or_default(),
                    phase: run.phase,
                    objects: plan.objects,
                    objects_omitted: plan.objects_omitted,
                    results: plan.results,
                    results_omitted: plan.results_omitted,
                }
            }));
        }
        Ok(None) => return Err(Exit::NotFound.because(format!("request {name} was deleted"))),
        Err(error) if is_forbidden(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("reading request {name} of host {host}")),
    }
    let solution = &made.spec.solution.name;
    let solution = Api::<Solution>::namespaced(client.clone(), namespace).get(solution).await.context("reading the Solution")?;
    let plans = solution.status.map(|s| s.plans).unwrap_or_default();
    let uid = made.uid().unwrap_or_default();
    let told = plans.into_iter().find(|plan| plan.request_uid == uid && Phase::has_ended(&plan.phase));
    Ok(told.map(|SolutionPlan { phase, message, objects, objects_omitted, results, results_omitted, .. }| Found {
        phase,
        message,
        objects: objects.into_iter().map(without_fields).collect(),
        objects_omitted,
        results,
        results_omitted,
    }))
}

/// What the Solution tells of an object: not which fields change, and not of which version its kind is.
fn without_fields(PlannedChange { action, kind, name }: PlannedChange) -> PlannedObject {
    PlannedObject { action, api_version: String::new(), kind, name, cluster_scoped: false, fields: Vec::new(), changes: Vec::new() }
}

/// An object as JSON. What is not known of it is left out.
fn as_told(object: &PlannedObject) -> Value {
    let mut told = json!(object);
    if object.api_version.is_empty()
        && let Some(fields) = told.as_object_mut()
    {
        fields.remove("apiVersion");
    }
    told
}

/// What would be done, and what an approver would be told.
fn in_words(found: &Found) -> String {
    let mut said = format!("{}: {}\n{}", found.phase, found.message, difference::lines(&found.objects));
    if found.objects_omitted > 0 {
        // Writing to a String can't fail.
        let _ = writeln!(said, "and {} more objects", found.objects_omitted);
    }
    for PlanResult { kind, name, reason, message } in &found.results {
        let _ = writeln!(said, "{reason}: {} {}: {}", text::line(kind), text::line(name), text::line(message));
    }
    if found.results_omitted > 0 {
        let _ = writeln!(said, "and {} more results", found.results_omitted);
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_shown_object_by_object_and_result_by_result() {
        let found = Found {
            phase: "Planned".into(),
            message: "2 to create".into(),
            objects: vec![without_fields(PlannedChange { action: PlannedAction::Create, kind: "ConfigMap".into(), name: "orders".into() })],
            objects_omitted: 1,
            results: vec![PlanResult { kind: "Stage".into(), name: "qa".into(), reason: "Opens".into(), message: "a\nforged line".into() }],
            results_omitted: 0,
        };
        let said = in_words(&found);
        assert_eq!(said.lines().count(), 4, "{said}");
        assert_eq!(as_told(&found.objects[0]), json!({"action": "Create", "kind": "ConfigMap", "name": "orders"}));
        assert!(said.starts_with("Planned: 2 to create\n+ ConfigMap orders: create\nand 1 more objects\nOpens: Stage qa: a"), "{said}");
    }
}
