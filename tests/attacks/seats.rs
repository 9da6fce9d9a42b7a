//! Attacks from the seat of a maker, by the plugin and by what it makes: nobody learns of others what a `Private` pipeline keeps from
//! them, and no word that is typed for a name is anything else.

use std::path::Path;
use std::process::Command;

use kube::Api;
use kube::api::PostParams;
use pilotage::api::{DeploymentRequest, Solution};
use serde_json::{Value, json};

use crate::attempt::{ignored, told};
use crate::scene::{at_the_gate, orders, person, requests};
use crate::world::{World, outcome, phase};

/// The secrets of others: the name of their solution and of their request, and what they wrote.
const SECRET: [&str; 3] = ["nightfall", "canary", "\"dan\""];

/// What the plugin says to somebody.
fn says(kubeconfig: &Path, args: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    let output = command.args(args).env("KUBECONFIG", kubeconfig).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_never_an_address() {
    let world = World::new("address").await;
    at_the_gate(&world, "waits").await;
    world.decide("qa", "waits", "Rejected").await.unwrap();
    world.end("waits").await;
    let olga = world.plane.user_kubeconfig("olga", &[]).unwrap();
    // A script that is given this for a name would be told that the record is deleted, and it is not.
    let (code, said) = says(&olga, &["purge", "request", "waits?dryRun=All", "--yes", "-n", &world.host]);
    ignored(270, "a name with a parameter makes a dry run of a deletion", code == 2 && !said.contains("deleted request"), &said);
    let elsewhere = format!("{}/artifacts/orders-1.0.0?x=", world.host);
    for args in [
        &["purge", "request", "waits/status", "--yes", "-n", &world.host][..],
        &["retry", "../waits", "-n", &world.host],
        &["status", "-n", &elsewhere],
    ] {
        let (code, said) = says(&olga, args);
        assert_eq!(code, 2, "{args:?}: {said}");
        told(270, "a name that is a path", &said, &["no object has such a name"]);
    }
    assert!(requests(&world, world.admin.clone()).get_opt("waits").await.unwrap().is_some());
}

/// A second development namespace of the pipeline, which dan develops in and dana may not read. His solution has a default that nobody else
/// is to know.
async fn of_dan(world: &World) {
    let dev = format!("{}-of-dan", world.dev);
    let binding = |name: &str, role: &str, subject: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name, "namespace": dev},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": [subject]})
    };
    let operator = json!({"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"});
    let mut solution = world.solution("nightfall", "1.0.0");
    solution["spec"]["environmentVariables"] = json!([{"name": "URL", "default": "https://canary.example.test", "required": true,
        "target": {"kind": "ConfigMap", "name": "nightfall", "path": "/data/url"}}]);
    let mut config = world.config("nightfall", "nightfall", json!({"url": "x"}));
    for object in [&mut solution, &mut config] {
        object["metadata"]["namespace"] = dev.clone().into();
    }
    let mut pipeline = world.pipeline().remove(3);
    pipeline["spec"]["developmentEnvironments"] = json!(["dev", "of-dan"]);
    world
        .apply(&[
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": dev, "labels": {"pilotage.dev/developed-in": world.host}}}),
            binding("pilotage-export", "view", operator.clone()),
            binding("pilotage-development", "pilotage-development", operator),
            binding("dan", "edit", json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "dan"})),
            solution,
            config,
            world.host_object("Environment", "of-dan", json!({"type": "Development", "namespace": dev})),
            pipeline,
        ])
        .await;
    world.ready::<pilotage::api::Pipeline>("standard").await;
}

/// Dan's request, which waits for its approval, or has succeeded.
async fn dans(world: &World, stage: &str, name: &str, approved: bool) {
    let dan = requests(world, person(world, "dan", &["makers"]).await);
    let mut request: DeploymentRequest = world.request(name, stage, "nightfall", "1.0.0");
    request.spec.source_environment = (stage == "qa").then(|| "of-dan".to_owned());
    request.spec.notes = Some("canary in the notes".into());
    world.until("dan may ask", async || dan.create(&PostParams::default(), &request).await.ok()).await;
    if approved {
        let end = world.approved(name, stage).await;
        assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    } else {
        world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_verb_shows_a_maker_what_a_private_pipeline_keeps_from_them() {
    let world = World::new("kept-from").await;
    of_dan(&world).await;
    orders(&world).await;
    let mut mine = world.request("mine", "qa", "orders", "1.0.0");
    mine.spec.source_environment = Some("dev".into());
    world.ask(&mine).await;
    assert_eq!(phase(&world.approved("mine", "qa").await), "Succeeded");
    dans(&world, "qa", "nightfall-first", true).await;
    dans(&world, "prod", "nightfall-second", false).await;
    let dana = world.plane.user_kubeconfig("dana", &["makers"]).unwrap();
    let (host, dev) = (world.host.as_str(), world.dev.as_str());
    for verb in [
        &["status", "--all"][..],
        &["history"],
        &["inbox"],
        &["report"],
        &["where", "orders"],
        &["tree", "standard"],
        &["artifact", "list"],
        &["retention", "preview"],
        &["share", "standard"],
        &["grant", "deploy", "standard", "--user", "x"],
        &["deploy", "orders", "--dry-run"],
        &["check"],
    ] {
        for place in [&["-n", host][..], &["-n", dev], &["-A"], &[]] {
            for form in [&["-o", "json"][..], &["-o", "wide"], &["-o", "csv"]] {
                let (_, said) = says(&dana, &[verb, place, form].concat());
                let kept = SECRET.iter().all(|secret| !said.contains(secret));
                ignored(271, &format!("a maker looks for others' requests with {} {}", verb.join(" "), place.join(" ")), kept, &said);
            }
        }
    }
    // Nor whether a name that is guessed is one.
    for verb in [&["cancel"][..], &["retry"], &["diff"], &["approve", "--yes"], &["reject", "--yes"], &["purge", "request", "--yes"]] {
        for place in [host, dev] {
            let asked = |name: &str| {
                let (code, said) = says(&dana, &[verb, &[name, "-n", place]].concat());
                (code, said.replace(name, "NAME"))
            };
            let (there, nowhere) = (asked("nightfall-second"), asked("nightfall-nowhere"));
            ignored(272, &format!("a maker tries whether a request exists with {}", verb.join(" ")), there == nowhere, &(there, nowhere));
        }
    }
    let waits = requests(&world, world.admin.clone()).get("nightfall-second").await.unwrap();
    assert_eq!(phase(&waits), "AwaitingApproval", "and nothing was done to it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_of_the_same_name_is_told_nothing_of_what_others_define() {
    let world = World::new("namesake").await;
    of_dan(&world).await;
    dans(&world, "qa", "nightfall-first", true).await;
    // She makes one of the same name and version, in her own namespace.
    let solutions = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    let namesake: Solution = serde_json::from_value(world.solution("nightfall", "1.0.0")).unwrap();
    solutions.create(&PostParams::default(), &namesake).await.unwrap();
    let status = world
        .until("her Solution tells what may be asked for", async || {
            let status = solutions.get("nightfall").await.unwrap().status?;
            (status.stages.len() == 2 && status.observed_generation > 0).then_some(status)
        })
        .await;
    let said = serde_json::to_string(&status).unwrap();
    let kept = !said.contains("canary") && !said.contains("nightfall-first") && !said.contains("URL");
    ignored(273, "a Solution of the same name is told the defaults that others define", kept, &status);
}
