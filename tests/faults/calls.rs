//! How many calls one request costs, and which of them prove what.

use std::collections::BTreeMap;
use std::path::Path;

use pilotage_harness::audit::{self, Call};
use pilotage_harness::{ControlPlane, Options, dev};
use serde_json::json;

use crate::world::{World, ended, phase};

/// The most calls of a request to a later stage with one gate, for one object and the record of its set. Events, Leases and watches do not
/// count. On a slow machine, recent answers are too old by then: two rights and the artifact's bytes are read twice. Without that there are
/// 21.
const MOST: usize = 23;
const OPERATOR: &str = "system:serviceaccount:pilotage-system:pilotage";

fn said(call: &Call) -> String {
    let slash = |text: &str| if text.is_empty() { String::new() } else { format!("/{text}") };
    let dry_run = if call.dry_run { " (dry run)" } else { "" };
    let who = call.impersonated_user.as_deref().map(|who| format!(" as {who}")).unwrap_or_default();
    format!(
        "{} {}{} {}{}{who}{dry_run} {}",
        call.verb,
        call.resource,
        slash(&call.subresource),
        call.namespace,
        slash(&call.name),
        call.code
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_request_of_one_object_costs_few_calls_and_none_of_its_proofs() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let operator = dev::operate(&plane, Path::new(env!("CARGO_BIN_EXE_pilotage"))).unwrap();
    let world = World::on(plane, "calls").await.with_pipeline().await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");

    let since = audit::end(&world.plane.audit_log());
    let calls = async || {
        let mut calls = audit::since(&world.plane.audit_log(), since).unwrap().0;
        calls.retain(|c| c.user == OPERATOR && c.verb != "watch" && !["events", "leases"].contains(&c.resource.as_str()));
        calls.sort_by(|a, b| a.at.total_cmp(&b.at));
        calls
    };
    world.ask(&world.request("to-prod", "prod", "orders", "1.0.0")).await;
    world.until_request("to-prod", |r| phase(r) == "AwaitingApproval").await;
    let opened = calls().await.last().unwrap().at;
    let decided = world.decide("prod", "to-prod", "Approved").await.unwrap();
    assert!(!ended(&decided));
    assert_eq!(phase(&world.end("to-prod").await), "Succeeded");
    // The start, opening the gate, and the end.
    let of_request = |c: &Call| c.resource == "deploymentrequests" && c.subresource == "status" && c.name == "to-prod";
    let all = world.until("the log has the last write", async || {
        let calls = calls().await;
        (calls.iter().filter(|c| of_request(c)).count() >= 3).then_some(calls)
    });
    let all = all.await;
    let list: Vec<String> = all.iter().map(|c| format!("{:6.0} ms {}", (c.at - all[0].at) * 1000.0, said(c))).collect();
    println!("{} calls:\n{}", all.len(), list.join("\n"));

    let count = |which: &dyn Fn(&Call) -> bool| all.iter().filter(|c| which(c)).count();
    let is_write = |c: &Call| c.is_write() && !c.dry_run && c.group != "authorization.k8s.io";
    let mut writes: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for call in all.iter().filter(|c| is_write(c) && c.namespace != world.prod) {
        *writes.entry((call.resource.as_str(), call.subresource.as_str())).or_default() += 1;
    }
    let expected = [
        (("artifacts", "status"), 1),
        (("deploymentrequests", "status"), 3),
        (("environments", "status"), 2),
        (("solutions", "status"), 2),
    ];
    assert_eq!(writes, expected.into_iter().collect(), "{list:?}");
    assert_eq!(count(&|c| c.namespace == world.prod && is_write(c)), 2, "the object and the record of its set: {list:?}");
    // Except for the quotas, which few delegates may read.
    let in_target = |c: &&Call| c.namespace == world.prod && c.resource != "resourcequotas";
    assert!(all.iter().filter(in_target).all(|c| c.impersonated_user.is_some()), "as the delegate alone: {list:?}");
    // What may have changed while people decided is read again before anything is claimed.
    let claimed = all.iter().filter(|c| c.resource == "environments" && is_write(c)).map(|c| c.at).fold(f64::MAX, f64::min);
    let between = |c: &Call| c.at > opened && c.at < claimed;
    assert!(count(&|c| between(c) && c.resource == "subjectaccessreviews") >= 2, "the requester's right and the owner's: {list:?}");
    assert!(count(&|c| between(c) && c.verb == "get" && c.resource == "stages") >= 1, "the stage as it is: {list:?}");
    assert!(count(&|c| between(c) && c.namespace == world.prod) >= 1, "the target as it is: {list:?}");
    assert!(all.len() <= MOST, "{} calls instead of {MOST}: {list:?}", all.len());
    operator.stop().unwrap();
}
