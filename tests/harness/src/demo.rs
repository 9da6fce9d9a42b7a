//! The demo: Contoso's orders go from development through QA to production. Each step is done by the person or program that would really do
//! it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::controlplane::{ControlPlane, Options};
use crate::kubectl::{Kubectl, Output};
use crate::table::table;
use crate::{dev, paths};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_mins(1);
const HOST: &str = "contoso-host";

/// The people, each with credentials of their own.
struct People {
    admin: Kubectl,
    /// Configures the pipeline and owns its stages.
    olga: Kubectl,
    /// Develops. She is one of the makers that the pipeline is shared with.
    dana: Kubectl,
    /// Decides the step before production, but no approvals.
    eve: Kubectl,
    operator: Kubectl,
}

/// Runs the demo on a control plane that is ended with it.
///
/// # Errors
/// If a step does not succeed.
pub fn run(operator: &Path) -> Result<()> {
    let mut clock = Clock { started: Instant::now(), last: Instant::now(), steps: Vec::new() };
    say("starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok, which plays the kubelets");
    let plane = ControlPlane::start(&Options::default())?;
    clock.step("control plane started");
    say("installing kinds, roles and admission policies; starting the operator under the rights of its ServiceAccount");
    let running = dev::operate(&plane, operator)?;
    clock.step("Pilotage installed");

    let people = People {
        admin: plane.kubectl(),
        olga: plane.kubectl_as(&plane.user_kubeconfig("olga", &[])?),
        dana: plane.kubectl_as(&plane.user_kubeconfig("dana", &["makers"])?),
        eve: plane.kubectl_as(&plane.user_kubeconfig("eve", &[])?),
        operator: plane.kubectl_as(&plane.service_account_kubeconfig("pilotage-system", "pilotage")?),
    };
    prepare(&people)?;
    clock.step("host, environments, pipeline, stages and the application applied");
    refuse_production(&people)?;
    clock.step("production before QA refused");
    to_qa(&people, &plane)?;
    clock.step("orders 1.4.0 in QA");
    to_production(&people, &plane)?;
    clock.step("orders 1.4.0 in production");
    summary(&people, &clock)?;
    running.stop()
}

fn prepare(people: &People) -> Result<()> {
    heading("the platform team applies examples/contoso with plain kubectl apply");
    let example = |part: &str| paths::workspace().join("examples/contoso").join(part).display().to_string();
    people.admin.ok(&["apply", "-f", &example("platform.yaml")])?;
    people.olga.ok(&["apply", "-f", &example("pipeline.yaml")])?;
    for (kind, condition) in [("environments", "Ready"), ("stages", "Ready"), ("pipelines", "Ready")] {
        people.admin.ok(&["wait", kind, "--all", "-n", HOST, &format!("--for=condition={condition}"), "--timeout=60s"])?;
    }
    show(&people.admin, &["get", "environments,pipelines,stages", "-n", HOST])?;
    heading("dana develops orders in contoso-dev, where she holds `edit`, and nothing anywhere else");
    people.dana.ok(&["apply", "-f", &example("app")])?;
    people.dana.ok(&["wait", "deployments", "--all", "-n", "contoso-dev", "--for=condition=Available", "--timeout=60s"])?;
    show(&people.dana, &["get", "deployments,solutions", "-n", "contoso-dev"])?;
    refused("dana deploys to QA herself", &people.dana.run(&["create", "configmap", "shortcut", "-n", "contoso-qa"])?, "forbidden")?;
    refused("dana looks at the host's requests", &people.dana.run(&["get", "deploymentrequests", "-n", HOST])?, "forbidden")
}

fn refuse_production(people: &People) -> Result<()> {
    heading("dana asks for production first");
    let name = ask(people, "prod.yaml")?;
    let request = until(people, &name, |r| phase(r) == "Failed")?;
    let (reason, message) = condition(&request, "Succeeded");
    ensure!(reason == "PreviousStageNotSucceeded", "expected PreviousStageNotSucceeded, got {reason}: {message}");
    println!("  ✗ {name} ended: {message}");
    show(&people.dana, &["get", "solutions", "-n", "contoso-dev", "-o", "wide"])
}

fn to_qa(people: &People, plane: &ControlPlane) -> Result<()> {
    heading("dana asks for QA");
    let name = ask(people, "qa.yaml")?;
    let request = until(people, &name, |r| phase(r) == "AwaitingApproval")?;
    println!("  … {}", condition(&request, "Succeeded").1);
    println!("  plan {}: {}", request["status"]["plan"]["hash"].as_str().unwrap_or_default(), condition(&request, "Validated").1);
    refused(
        "eve, who approves other steps, decides the delegate's approval",
        &approve(&people.eve, &name)?,
        "only system:serviceaccount:contoso-host:release-bot-qa",
    )?;
    // kubectl reads before it patches, and the operator may not even read. Without the read, admission refuses the patch.
    refused(
        "the operator approves what it will deploy",
        &approve(&people.operator, &name)?,
        "cannot get resource \"deploymentrequests/status\"",
    )?;
    accepted("release-bot-qa approves, with its own token", &approve(&bot(plane, "release-bot-qa")?, &name)?)?;
    let request = until(people, &name, |r| !r["status"]["endTime"].is_null())?;
    ensure!(phase(&request) == "Succeeded", "{}: {}", phase(&request), condition(&request, "Succeeded").1);
    println!("  ✓ {}, deployed by {}", condition(&request, "Succeeded").1, request["status"]["deployedBy"].as_str().unwrap_or_default());
    show(&people.admin, &["get", "deployments,services,ingresses,cronjobs", "-n", "contoso-qa"])
}

fn to_production(people: &People, plane: &ControlPlane) -> Result<()> {
    heading("development moves on to 1.5.0; dana asks for production of what QA has seen");
    people.dana.ok(&["set", "image", "deployment/orders-web", "web=nginx:1.31-next", "-n", "contoso-dev"])?;
    people.dana.ok(&["patch", "solution", "orders", "-n", "contoso-dev", "--type=merge", "-p", r#"{"spec":{"version":"1.5.0"}}"#])?;
    let name = ask(people, "prod.yaml")?;
    until(people, &name, |r| phase(r) == "AwaitingApproval")?;
    accepted("release-bot-prod approves", &approve(&bot(plane, "release-bot-prod")?, &name)?)?;
    let request = until(people, &name, |r| phase(r) == "AwaitingPreDeploymentStep")?;
    println!("  … {}", condition(&request, "Succeeded").1);
    let complete = r#"{"status":{"preDeploymentStep":{"decision":"Completed","comments":"change CHG-1047 is open"}}}"#;
    accepted("eve completes the step before production", &decide(&people.eve, &name, complete)?)?;
    let request = until(people, &name, |r| !r["status"]["endTime"].is_null())?;
    ensure!(phase(&request) == "Succeeded", "{}: {}", phase(&request), condition(&request, "Succeeded").1);
    println!("  ✓ {}, deployed by {}", condition(&request, "Succeeded").1, request["status"]["deployedBy"].as_str().unwrap_or_default());
    let image = |namespace: &str| {
        people.admin.ok(&["get", "deployment", "orders-web", "-n", namespace, "-o", "jsonpath={.spec.template.spec.containers[0].image}"])
    };
    let (development, qa, production) = (image("contoso-dev")?, image("contoso-qa")?, image("contoso-prod")?);
    ensure!(qa == production && development != production, "production runs {production}, QA {qa}, development {development}");
    println!("  ✓ orders-web: development runs {development}, QA and production {production}");
    Ok(())
}

fn summary(people: &People, clock: &Clock) -> Result<()> {
    heading("who deployed what where, under whose authority");
    let artifacts = people.admin.json(&["get", "artifacts", "-n", HOST])?;
    let mut rows = vec![
        ["SOLUTION", "VERSION", "DIGEST", "STAGE", "ENVIRONMENT", "REQUESTED BY", "APPROVED BY", "DEPLOYED BY", "OUTCOME"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let mut digests = Vec::new();
    for artifact in artifacts["items"].as_array().context("artifacts")? {
        for d in artifact["status"]["deployments"].as_array().context("deployments")? {
            let text = |value: &Value| value.as_str().unwrap_or_default().replace("system:serviceaccount:", "");
            let digest = text(&artifact["spec"]["digest"]);
            rows.push(vec![
                text(&artifact["spec"]["solution"]["name"]),
                text(&artifact["spec"]["solution"]["version"]),
                digest.chars().take(19).collect(),
                text(&d["stage"]),
                text(&d["environment"]),
                text(&d["requestedBy"]),
                text(&d["approvedBy"]),
                text(&d["deployedBy"]),
                text(&d["outcome"]),
            ]);
            digests.push(digest);
        }
    }
    print!("{}", table(&rows));
    ensure!(digests.len() == 2 && digests[0] == digests[1], "QA and production did not get the same artifact: {digests:?}");
    heading("how long each step took");
    let mut rows: Vec<Vec<String>> =
        clock.steps.iter().map(|(what, took)| vec![what.clone(), format!("{:.1} s", took.as_secs_f64())]).collect();
    rows.push(vec!["in all".into(), format!("{:.1} s", clock.started.elapsed().as_secs_f64())]);
    print!("{}", table(&rows));
    println!("\nTry it yourself: make up");
    Ok(())
}

/// Creates a request from the example as dana, with a name of its own, because nobody reads other people's names here.
fn ask(people: &People, file: &str) -> Result<String> {
    let path = paths::workspace().join("examples/contoso/requests").join(file);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let named = text.replace("metadata: {name: ", "metadata: {generateName: ").replacen(", namespace", "-, namespace", 1);
    let made = people.dana.run_with(&["create", "-f", "-", "-o", "jsonpath={.metadata.name}"], &named)?;
    ensure!(made.ok, "dana could not ask: {}", made.stderr);
    println!("  → kubectl create -f examples/contoso/requests/{file}: {}", made.stdout);
    Ok(made.stdout)
}

fn bot(plane: &ControlPlane, name: &str) -> Result<Kubectl> {
    Ok(plane.kubectl_as(&plane.service_account_kubeconfig(HOST, name)?))
}

fn approve(who: &Kubectl, request: &str) -> Result<Output> {
    decide(who, request, r#"{"status":{"approval":{"decision":"Approved","comments":"tests are green"}}}"#)
}

fn decide(who: &Kubectl, request: &str, patch: &str) -> Result<Output> {
    who.run(&["patch", "deploymentrequest", request, "-n", HOST, "--subresource=status", "--type=merge", "-p", patch])
}

fn accepted(what: &str, output: &Output) -> Result<()> {
    ensure!(output.ok, "{what}: {}", output.stderr);
    println!("  ✓ {what}");
    Ok(())
}

fn refused(what: &str, output: &Output, because: &str) -> Result<()> {
    ensure!(!output.ok, "{what}: this went through and must not");
    ensure!(output.stderr.contains(because), "{what}: refused for another reason: {}", output.stderr);
    let message = output.stderr.trim().trim_start_matches("Error from server (Forbidden): ");
    println!("  ✗ {what}: refused\n      {message}");
    Ok(())
}

/// Reads a request, as its administrator, until it is as wanted.
fn until(people: &People, name: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    let start = Instant::now();
    loop {
        let request = people.admin.json(&["get", "deploymentrequest", name, "-n", HOST])?;
        if wanted(&request) {
            return Ok(request);
        }
        let (reason, message) = condition(&request, "Succeeded");
        if start.elapsed() > PATIENCE || (!request["status"]["endTime"].is_null() && phase(&request) != "Succeeded") {
            bail!(
                "request {name} is {} after {:.0} s, which was not expected: {reason}: {message}",
                phase(&request),
                start.elapsed().as_secs_f64()
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn phase(request: &Value) -> &str {
    request["status"]["phase"].as_str().unwrap_or_default()
}

/// The reason and the message of a condition.
fn condition(request: &Value, type_: &str) -> (String, String) {
    let found = request["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == type_);
    let text = |field: &str| found.and_then(|c| c[field].as_str()).unwrap_or_default().to_owned();
    (text("reason"), text("message"))
}

fn show(who: &Kubectl, args: &[&str]) -> Result<()> {
    for line in who.ok(args)?.lines().filter(|line| !line.is_empty()) {
        println!("  {line}");
    }
    Ok(())
}

fn heading(text: &str) {
    println!("\n── {text}");
}

fn say(text: &str) {
    println!("… {text}");
}

/// How long each step took.
struct Clock {
    started: Instant,
    last: Instant,
    steps: Vec<(String, Duration)>,
}

impl Clock {
    fn step(&mut self, what: &str) {
        self.steps.push((what.to_owned(), self.last.elapsed()));
        self.last = Instant::now();
    }
}
