//! Requests that only plan: they ask nobody, wait for nobody, and can't get to a claim.

use super::{ends, waits};
use crate::api::reason::Reason;
use crate::cluster::blocked::{Blocked, Wait};
use crate::policy::request::decide;
use crate::policy::request::observed::{ExportOutcome, Lookup, Observed, PlanOutcome};
use crate::policy::request::report;
use crate::policy::request::scenario::{DIGEST, HASH, after, head, second};
use crate::policy::request::step::{End, Progress, Step};

fn planning(mut o: Observed) -> Observed {
    o.request.plan_only = true;
    o.outcomes.requester_could_approve = None;
    o.outcomes.export = Some(ExportOutcome::Stored { digest: DIGEST.into() });
    o
}

fn planned(mut o: Observed) -> Observed {
    o.outcomes.plan = Some(PlanOutcome::Ready { hash: HASH.into(), summary: "1 to create".into() });
    o
}

#[test]
fn it_exports_plans_and_ends_whatever_gates_windows_and_times_the_stage_has() {
    let mut o = planning(head()).with_stage(|stage| {
        stage.pre_export_step = true;
        stage.pre_deployment_step = true;
    });
    o.request.scheduled_time = Ok(Some(after(9000)));
    o.outcomes.export = None;
    assert_eq!(decide(&o, after(5)), Step::Export);
    o.outcomes.export = Some(ExportOutcome::Stored { digest: DIGEST.into() });
    assert_eq!(decide(&o, after(5)), Step::Plan);
    let (end, reason, message) = ends(decide(&planned(o), after(5)));
    assert_eq!((end, reason), (End::Planned, Reason::Planned));
    assert!(message.contains("1 to create") && message.contains("nothing was written or stored"), "{message}");
}

#[test]
fn it_ends_as_planned_and_says_of_no_artifact_that_it_is_stored() {
    let o = planned(planning(head()));
    let Step::Finish(ending) = decide(&o, after(5)) else { panic!("it ends") };
    let report = report::ended(&o, &ending);
    assert_eq!(report.phase.as_str(), "Planned");
    let types: Vec<&str> = report.conditions.iter().map(|c| c.type_).collect();
    assert_eq!(types, ["Accepted", "Validated", "Succeeded", "Reconciling", "Stalled"]);
}

#[test]
fn it_waits_for_no_person_and_for_a_server_only_for_a_while() {
    let mut o = planning(head());
    o.outcomes.plan = Some(PlanOutcome::Blocked(Blocked::waits(Wait::Right, Reason::MissingRights, "grant it")));
    let (end, reason, message) = ends(decide(&o, after(1)));
    assert_eq!((end, reason, message.as_str()), (End::Failed, Reason::MissingRights, "grant it"));
    o.outcomes.plan = Some(PlanOutcome::Blocked(Blocked::waits(Wait::Server, Reason::TargetUnavailable, "away")));
    assert_eq!(waits(decide(&o, after(1))).0, Progress::Validation);
    assert_eq!(ends(decide(&o, after(60))).1, Reason::TargetUnavailable);
}

#[test]
fn it_is_told_of_the_order_and_not_refused_where_the_version_is_stored() {
    let mut o = planning(second());
    if let Lookup::Present(artifact) = &mut o.artifact {
        artifact.deployments.clear();
    }
    assert_eq!(ends(decide(&planned(o.clone()), after(5))).1, Reason::Planned);
    let told = crate::policy::request::acceptance::order_told(&o).expect("the order is told");
    assert!(told.reason == Reason::PreviousStageNotSucceeded && told.message.contains("stage qa"), "{told:?}");
    assert_eq!(crate::policy::request::acceptance::order_told(&planning(second())), None);
    // Nothing is there to be planned.
    o.artifact = Lookup::Absent;
    o.confirmed = true;
    o.previous_in_flight = Some("orders-qa".into());
    assert_eq!(ends(decide(&o, after(5))).1, Reason::PreviousStageNotSucceeded);
}
