//! What is recorded after a deployment: who, what, where, when and who approved it. And only one deployment runs at a time.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::artifact::Outcome;
use pilotage::api::environment::DeployedSolution;
use pilotage::api::{Artifact, DeploymentRequest, Environment, Solution, Stage};
use serde_json::json;

use crate::world::{World, outcome, phase};

async fn in_qa(world: &World, solution: &str) -> Option<DeployedSolution> {
    let qa = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get("qa").await.unwrap();
    qa.status.unwrap().solutions.into_iter().find(|s| s.name == solution)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_on_record_with_who_what_where_and_approved_by_whom() {
    let world = World::new("records").await;
    world.apply(&[world.solution("orders", "1.4.0"), world.config("orders", "orders", json!({}))]).await;
    let request = world.deploy("to-qa", "qa", "orders", "1.4.0").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));
    let (bot, run) = (format!("system:serviceaccount:{}:bot-qa", world.host), request.status.clone().unwrap().run);
    let digest = run.artifact.unwrap().digest;

    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.4.0").await.unwrap();
    assert_eq!((artifact.spec.digest.as_str(), artifact.spec.exported_by.username.as_str()), (digest.as_str(), "dana"));
    let records = artifact.status.unwrap().deployments;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.pipeline.as_str(), record.stage.as_str(), record.environment.as_str()), ("standard", "qa", "qa"));
    assert_eq!((record.request.as_str(), Some(&record.request_uid)), ("to-qa", request.metadata.uid.as_ref()));
    let decided = record.decisions.iter().map(|d| d.by.as_str()).collect::<Vec<_>>();
    assert_eq!((record.requested_by.as_str(), decided.as_slice(), &record.deployed_by), ("dana", &[bot.as_str()][..], &bot));
    assert_eq!(record.approved_by.as_ref(), Some(&format!("approval: {bot}")));
    assert_eq!((record.outcome, Some(record.started_at), Some(record.ended_at)), (Outcome::Succeeded, run.start_time, run.end_time));

    let running = in_qa(&world, "orders").await.unwrap();
    assert_eq!((running.version.as_deref(), running.digest.as_ref()), (Some("1.4.0"), Some(&digest)));
    assert_eq!(
        (running.request.as_deref(), running.requested_by.as_deref(), running.deployed_by),
        (Some("to-qa"), Some("dana"), Some(bot.clone()))
    );
    assert_eq!((running.claim, running.deployed_at), (None, run.end_time));

    let solution = Api::<Solution>::namespaced(world.dana().await, &world.dev).get("orders").await.unwrap();
    let told = solution.status.unwrap().deployments;
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((told.host.as_str(), told.pipeline.as_str(), told.stage.as_str()), (world.host.as_str(), "standard", "qa"));
    assert_eq!((told.version.as_str(), told.phase.as_str(), told.request.as_str()), ("1.4.0", "Succeeded", "to-qa"));
    assert_eq!((told.requester.as_str(), told.approval_comments.as_deref()), ("dana", Some("as tested")));
    // What could not be looked for comes first.
    let message = told.message.as_deref().unwrap();
    assert!(message.starts_with("not looked for in development: ") && message.ends_with("; orders 1.4.0 runs in stage qa"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_of_a_run_holds_its_settings_its_plan_and_what_was_said_at_its_gates() {
    let world = World::new("whole-record").await;
    let mut solution = world.solution("orders", "1.4.0");
    solution["spec"]["environmentVariables"] =
        json!([{"name": "GREETING", "default": "none", "target": {"kind": "ConfigMap", "name": "orders", "path": "/data/greeting"}}]);
    world.apply(&[solution, world.config("orders", "orders", json!({"greeting": "dev"}))]).await;
    let mut request = serde_json::to_value(world.request("to-qa", "qa", "orders", "1.4.0")).unwrap();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": [{"name": "GREETING", "value": "hello"}]});
    request["spec"]["onBehalfOf"] = "dora".into();
    world.ask(&serde_json::from_value(request).unwrap()).await;
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await.status.unwrap().run;
    let (wait, opened) = (waiting.waiting.unwrap(), waiting.gates.approval.unwrap().opened_at);
    assert_eq!((wait.reason.as_str(), wait.since), ("AwaitingApproval", opened));
    assert!(wait.until > Some(wait.since));
    let bot = Api::<DeploymentRequest>::namespaced(world.bot("qa").await, &world.host);
    let decision = json!({"status": {"approval": {"decision": "Approved", "comments": "fine", "properties": {"ticket": "CHG-7"}}}});
    bot.patch_status("to-qa", &PatchParams::default(), &Patch::Merge(decision)).await.unwrap();
    let ended = world.end("to-qa").await;
    assert_eq!(phase(&ended), "Succeeded", "{:?}", outcome(&ended));
    let run = ended.status.unwrap().run;
    assert_eq!(run.waiting, None);

    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.4.0").await.unwrap();
    let developed = artifact.spec.developed_at.expect("when it appeared in development");
    assert!(developed <= artifact.spec.exported_at);
    let [record] = &artifact.status.unwrap().deployments[..] else { panic!("one record") };
    let settings = record.settings.as_ref().unwrap();
    assert_eq!((settings.environment_variables[0].name.as_str(), settings.environment_variables[0].value.as_str()), ("GREETING", "hello"));
    assert_eq!((record.requested_by.as_str(), record.on_behalf_of.as_deref()), ("dana", Some("dora")));
    assert_eq!(record.asked_at, ended.metadata.creation_timestamp.map(|at| at.0));
    let (plan, planned) = (record.plan.as_ref().unwrap(), run.plan.unwrap());
    assert_eq!((&plan.hash, plan.create, plan.replaces_version.as_deref()), (&planned.hash, 1, None));
    assert_eq!(record.findings.len(), planned.results.len());
    let [decision] = &record.decisions[..] else { panic!("one decision") };
    assert_eq!((decision.comments.as_deref(), decision.properties["ticket"].as_str()), (Some("fine"), "CHG-7"));
    assert!(decision.opened_at == Some(opened) && decision.at >= decision.opened_at);
    assert_eq!(record.first_succeeded_at, Some(record.ended_at));

    let solution = Api::<Solution>::namespaced(world.dana().await, &world.dev).get("orders").await.unwrap();
    let versions = solution.status.unwrap().developed;
    assert_eq!((versions[0].version.as_str(), versions[0].first_seen_at), ("1.4.0", developed));
    let wide = world.olgas_kubectl().ok(&["get", "env", "qa", "-o", "wide", "-n", &world.host]).unwrap();
    let digest: String = artifact.spec.digest.chars().take("sha256:".len() + 12).collect();
    let runs = format!(
        "orders 1.4.0 ({digest}) since {}, asked by dana for dora (as reported), deployed by system:serviceaccount:{}:bot-qa",
        record.ended_at, world.host
    );
    assert!(wide.contains(&runs), "{runs}: {wide}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_keeps_the_time_at_which_it_first_appeared() {
    let world = World::new("appeared").await;
    let solutions = Api::<Solution>::namespaced(world.admin.clone(), &world.dev);
    let mut seen = Vec::new();
    for version in ["1.0.0", "1.1.0", "1.0.0", "1.2.0"] {
        world.apply(&[world.solution("orders", version)]).await;
        let noted = async || {
            let versions = solutions.get("orders").await.unwrap().status?.developed;
            versions.iter().any(|v| v.version == version).then_some(versions)
        };
        seen.push(world.until("the version is noted", noted).await);
    }
    let last = seen.last().unwrap();
    assert_eq!(last.iter().map(|v| v.version.as_str()).collect::<Vec<_>>(), ["1.0.0", "1.1.0", "1.2.0"]);
    assert_eq!(last[0], seen[0][0], "it came back");
}

/// The Events of a request in order, after the last one exists.
async fn events_of(world: &World, request: &DeploymentRequest) -> Vec<Event> {
    let events = Api::<Event>::namespaced(world.admin.clone(), &world.host);
    world
        .until("the last Event is there", async || {
            let mut told = events.list(&ListParams::default()).await.unwrap().items;
            told.retain(|e| e.regarding.as_ref().is_some_and(|r| r.uid == request.metadata.uid));
            told.sort_by_key(|e| e.event_time.as_ref().map(|t| t.0));
            told.iter().any(|e| e.reason.as_deref() == Some("OnDeploymentCompleted")).then_some(told)
        })
        .await
}

fn reasons(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|e| e.reason.as_deref()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_what_happened_in_order() {
    let world = World::new("events").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let mut careful = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    careful["spec"]["preDeploymentStepRequired"] = true.into();
    world.apply_as(&world.olga().await, &careful).await.unwrap();
    world.ready::<Stage>("qa").await;

    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "to-qa", "Approved").await.unwrap();
    world.until_request("to-qa", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let completed = Patch::Merge(json!({"status": {"preDeploymentStep": {"decision": "Completed", "comments": "checked"}}}));
    let as_eve = Api::<DeploymentRequest>::namespaced(world.eve().await, &world.host);
    as_eve.patch_status("to-qa", &PatchParams::default(), &completed).await.unwrap();

    let told = events_of(&world, &world.end("to-qa").await).await;
    assert_eq!(
        reasons(&told),
        [
            "OnDeploymentRequested",
            "OnApprovalStarted",
            "OnApprovalCompleted",
            "OnPreDeploymentStarted",
            "OnPreDeploymentCompleted",
            "OnDeploymentStarted",
            "OnDeploymentCompleted"
        ]
    );
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    let ends = [
        format!("by {bot}, until "),
        format!("by {bot}, until "),
        format!("approved by {bot}: as tested"),
        "by a holder of the verb approve on stage qa, until ".into(),
        "completed by eve: checked".into(),
        format!("deploys to environment qa as {bot}"),
        "; orders 1.0.0 runs in stage qa".into(),
    ];
    for (event, end) in told.iter().zip(ends) {
        let note = event.note.as_deref().unwrap();
        assert!(note.starts_with("orders 1.0.0 to stage qa for dana: ") && note.contains(&end), "{end:?}: {note}");
        assert_eq!(event.type_.as_deref(), Some("Normal"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_tell_of_a_rejection_and_of_a_refusal() {
    let world = World::new("no-events").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ask(&world.request("rejected", "qa", "orders", "1.0.0")).await;
    world.until_request("rejected", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "rejected", "Rejected").await.unwrap();
    let told = events_of(&world, &world.end("rejected").await).await;
    assert_eq!(reasons(&told), ["OnDeploymentRequested", "OnApprovalStarted", "OnApprovalCompleted", "OnDeploymentCompleted"]);
    let types: Vec<&str> = told.iter().filter_map(|e| e.type_.as_deref()).collect();
    assert_eq!(types, ["Normal", "Normal", "Warning", "Warning"]);

    world.ask(&world.request("refused", "prod", "orders", "1.0.0")).await;
    let told = events_of(&world, &world.end("refused").await).await;
    assert_eq!(reasons(&told), ["OnDeploymentRequested", "OnDeploymentCompleted"]);
    assert!(told[1].note.as_deref().unwrap().contains("orders 1.0.0 has not succeeded in stage qa"), "{:?}", told[1].note);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_are_approved_at_once_for_one_target_one_deploys_and_the_other_says_why_not() {
    let world = World::new("rivals").await;
    for version in ["1.0.0", "1.1.0"] {
        world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"version": version}))]).await;
        world.ask(&world.request(&format!("to-{version}"), "qa", "orders", version)).await;
        world.until_request(&format!("to-{version}"), |r| phase(r) == "AwaitingApproval").await;
    }
    let (lower, higher) = tokio::join!(world.decide("qa", "to-1.0.0", "Approved"), world.decide("qa", "to-1.1.0", "Approved"));
    lower.unwrap();
    higher.unwrap();
    let (lower, higher) = (world.end("to-1.0.0").await, world.end("to-1.1.0").await);
    let ended = (phase(&lower), outcome(&lower).0, phase(&higher), outcome(&higher).0);
    let ended = (ended.0.as_str(), ended.1.as_str(), ended.2.as_str(), ended.3.as_str());
    // The later one was approved with a plan that replaces nothing.
    let first_won = ended == ("Succeeded", "Succeeded", "Failed", "PlanChanged");
    let second_won = ended == ("Failed", "Superseded", "Succeeded", "Succeeded");
    assert!(first_won || second_won, "{ended:?}: {:?} {:?}", outcome(&lower), outcome(&higher));
    let (won, version, lost) = if first_won { (&lower, "1.0.0", &higher) } else { (&higher, "1.1.0", &lower) };
    let message = outcome(lost).1;
    assert!(message.contains("nothing was written"), "{message}");
    assert!(second_won || message.ends_with("Make a new request: it starts from the stored artifact"), "{message}");
    assert!(lost.status.as_ref().unwrap().run.start_time.is_none(), "it never claimed the target");
    let running = in_qa(&world, "orders").await.unwrap();
    assert_eq!((running.version.as_deref(), running.request, running.claim), (Some(version), Some(won.name_any()), None));
    let arrived = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("orders").await.unwrap();
    assert_eq!(arrived.data.unwrap()["version"], version);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_has_no_more_is_deleted_and_what_others_own_stays() {
    let world = World::new("prune").await;
    world
        .apply(&[
            world.solution("orders", "1.0.0"),
            world.config("orders", "stays", json!({})),
            world.config("orders", "goes", json!({})),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "unowned", "namespace": world.qa}}),
            // The solution's labels do not make it the solution's object.
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "labelled", "namespace": world.qa, "labels": {"app.kubernetes.io/part-of": "orders"}},
            }),
        ])
        .await;
    assert_eq!(phase(&world.deploy("first", "qa", "orders", "1.0.0").await), "Succeeded");
    Api::<ConfigMap>::namespaced(world.dana().await, &world.dev).delete("goes", &DeleteParams::default()).await.unwrap();
    world.apply(&[world.solution("orders", "2.0.0")]).await;
    let second = world.deploy("second", "qa", "orders", "2.0.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let plan = second.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.create, plan.update, plan.delete, plan.unchanged), (0, 0, 1, 1));
    let there = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).list(&ListParams::default()).await.unwrap();
    let there: Vec<String> = there.iter().map(ResourceExt::name_any).collect();
    for (name, expected) in [("stays", true), ("goes", false), ("unowned", true), ("labelled", true)] {
        assert_eq!(there.iter().any(|n| n == name), expected, "{name} of {there:?}");
    }
    let deleted: Vec<_> = world.operator_writes(&world.qa, false).into_iter().filter(|c| c.verb.starts_with("delete")).collect();
    // Dry runs of deletions are among them: the audit log does not distinguish those.
    assert!(!deleted.is_empty() && deleted.iter().all(|c| c.name == "goes"), "{:?}", deleted.iter().map(|c| &c.uri).collect::<Vec<_>>());
    assert_eq!(deleted[0].acting_user(), format!("system:serviceaccount:{}:bot-qa", world.host));
}
