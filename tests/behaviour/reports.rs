//! `kubectl pilotage report`, from the seats of an auditor and of somebody who may not read the records.

use std::process::{Command, Output};

use pilotage_harness::Kubectl;
use serde_json::{Value, json};

use crate::world::{World, outcome, phase};

/// The plugin as somebody.
fn plugin(world: &World, user: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    command.env("KUBECONFIG", world.plane.user_kubeconfig(user, &[]).unwrap()).args(["report", "-n", &world.host]).args(arguments);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Lets a user read everything in the host.
fn bind_viewer(kubectl: &Kubectl, world: &World, user: &str) {
    let user_flag = format!("--user={user}");
    kubectl.ok(&["create", "rolebinding", user, "--clusterrole=pilotage-viewer", &user_flag, "-n", &world.host]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_counts_from_records_and_outlives_the_requests() {
    let world = World::new("reports").await;
    bind_viewer(&world.plane.kubectl(), &world, "vic");
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    for (name, stage) in [("to-qa", "qa"), ("to-prod", "prod")] {
        let request = world.deploy(name, stage, "orders", "1.0.0").await;
        assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    }
    world.plane.kubectl().ok(&["delete", "dr", "to-qa", "to-prod", "-n", &world.host]).unwrap();
    let output = plugin(&world, "vic", &["-o", "json"]);
    assert!(output.status.success(), "{}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let lines = report["items"].as_array().unwrap();
    assert_eq!(lines.iter().map(|line| line["stage"].as_str().unwrap()).collect::<Vec<_>>(), ["prod", "qa"]);
    for line in lines {
        assert_eq!(
            (line["pipeline"].as_str(), line["deployments"].as_u64(), line["changes"].as_u64()),
            (Some("standard"), Some(1), Some(1))
        );
        assert_eq!((line["approval"]["count"].as_u64(), line["preDeploymentStep"]["count"].as_u64()), (Some(1), Some(0)), "{line}");
        assert_eq!((line["failedChanges"].as_u64(), line["changeFailureRate"].as_f64()), (Some(0), Some(0.0)));
    }
    let lead = |at: usize| lines[at]["leadTime"]["median"].as_i64().unwrap();
    assert!(lead(0) >= lead(1), "production comes after QA: {report}");

    let csv = said(&plugin(&world, "vic", &["--by", "pipeline", "-o", "csv"]));
    let mut rows = csv.lines();
    assert!(rows.next().unwrap().starts_with("HOST,PIPELINE,STAGE,MONTH,DEPLOYMENTS,A WEEK,LEAD TIME,LEAD TIME P90,"), "{csv}");
    assert!(rows.next().unwrap().starts_with(&format!("{},standard,,,2,", world.host)) && rows.next().is_none(), "{csv}");
    for (arguments, nothing) in
        [(&["--stage", "nowhere"][..], true), (&["--until", "2020-01-01"], true), (&["--since", "2020-01-01"], false)]
    {
        let table = said(&plugin(&world, "vic", arguments));
        assert_eq!(table.contains("nothing was deployed"), nothing, "{arguments:?}: {table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_says_what_is_wrong_and_what_may_not_be_read() {
    let world = World::bare("no-report").await;
    bind_viewer(&world.plane.kubectl(), &world, "vic");
    for (user, arguments, code, words) in [
        ("vic", &["--since", "yesterday"][..], 2, "not a day, as 2026-11-01"),
        ("vic", &["--by", "year"], 2, "invalid value 'year'"),
        ("vic", &["--since", "2026-11-02", "--until", "2026-11-02"], 2, "--since is not before --until"),
        ("dana", &[], 6, "you may not list artifacts in namespace"),
        ("vic", &[], 0, "nothing was deployed through host"),
    ] {
        let output = plugin(&world, user, arguments);
        assert_eq!((output.status.code(), said(&output).contains(words)), (Some(code), true), "{user} {arguments:?}: {}", said(&output));
    }
}
