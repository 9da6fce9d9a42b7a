//! The plugin's verbs that read, from the seats of a maker, an approver, an administrator and somebody who has no rights; what they say to
//! wrong input, and with which exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{Artifact, DeploymentRequest};
use serde_json::{Value, json};

use crate::world::{World, phase};

/// How a run of the plugin ended.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The values of a field of all items of a list.
    pub fn all(&self, field: &str) -> Vec<String> {
        let values = self.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item.pointer(field).cloned().unwrap_or_default())
            .collect::<Vec<_>>();
        values.into_iter().map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)).collect()
    }
}

fn command(kubeconfig: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    command.args(args).env("KUBECONFIG", kubeconfig);
    command
}

fn ran(output: std::process::Output) -> Ran {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

pub fn run(kubeconfig: &Path, args: &[&str]) -> Ran {
    ran(command(kubeconfig, args).output().unwrap())
}

pub fn person(world: &World, name: &str) -> PathBuf {
    let groups: &[&str] = if name == "dana" { &["makers"] } else { &[] };
    world.plane.user_kubeconfig(name, groups).unwrap()
}

async fn develop(world: &World, version: &str, greeting: &str) {
    world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"greeting": greeting}))]).await;
}

/// 1.0.0 runs in QA, and waits for production.
async fn waits_for_production(world: &World) {
    develop(world, "1.0.0", "hello").await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");
    world.ask(&world.request("to-prod", "prod", "orders", "1.0.0")).await;
    world.until_request("to-prod", |r| phase(r) == "AwaitingApproval").await;
}

/// Waits until the maker's Solution says so.
async fn solution_says(world: &World, stage: &str, phase: &str) {
    world
        .until(&format!("the Solution says {phase}"), async || {
            let solution = world.danas_kubectl().json(&["get", "solution", "orders", "-n", &world.dev]).unwrap();
            let entries = solution["status"]["deployments"].as_array()?;
            entries.iter().any(|entry| entry["stage"] == stage && entry["phase"] == phase).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_sees_from_their_own_namespace_what_runs_what_waits_and_what_was() {
    let world = World::new("seat-maker").await;
    let dana = person(&world, "dana");
    // Before anybody has asked for it: what may be asked for.
    develop(&world, "1.0.0", "hello").await;
    let offered = async || {
        let table = run(&dana, &["status", "-n", &world.dev]);
        table.out.lines().any(|line| line.contains(" qa ") && line.contains("1.0.0 may be asked for")).then_some(())
    };
    world.until("the Solution tells what may be asked for", offered).await;
    waits_for_production(&world).await;
    solution_says(&world, "prod", "AwaitingApproval").await;

    let seen = run(&dana, &["status", "-n", &world.dev, "-o", "json"]);
    let mut lines: Vec<(String, String)> = seen.all("/stage").into_iter().zip(seen.all("/request/phase")).collect();
    lines.sort();
    let line = |stage: &str, phase: &str| (stage.to_owned(), phase.to_owned());
    assert_eq!(lines, [line("prod", "AwaitingApproval"), line("qa", "null")], "what has ended is left aside: {seen:?}");
    let table = run(&dana, &["status", "-n", &world.dev]);
    let row = table.out.lines().find(|line| line.contains("to-prod")).unwrap();
    assert!(row.contains("for the approval by") && row.contains("dana") && row.contains("AwaitingApproval"), "{table:?}");
    assert_eq!(run(&dana, &["status", "-n", &world.dev, "--all", "--stage", "qa", "-o", "json"]).all("/request/name"), ["to-qa"]);
    assert_eq!(run(&dana, &["status", "-n", &world.dev, "--stage", "qa", "-o", "json"]).all("/runs"), ["1.0.0"]);
    assert_eq!(
        run(&dana, &["status", "-n", &world.dev, "--phase", "AwaitingApproval", "-o", "name"]).out,
        "deploymentrequest.pilotage.dev/to-prod\n"
    );
    assert_eq!(run(&dana, &["history", "-n", &world.dev, "-o", "json"]).all("/request"), ["to-qa"]);

    // The host is not theirs. What it is about is told by their Solution.
    let place = run(&dana, &["where", "orders", "-n", &world.host, "-o", "json"]);
    assert!(place.all("/host").is_empty() && place.json()["notShown"][0].as_str().unwrap().contains("you may not list them"), "{place:?}");
    for args in [&["status"][..], &["history"], &["artifact", "list"], &["artifact", "show", "orders@1.0.0"]] {
        let refused = run(&dana, &[args, &["-n", &world.host]].concat());
        assert!(refused.code == 6 && refused.err.contains("you may "), "{args:?}: {refused:?}");
    }
    // They may read the pipeline that is shared with them, and are told what they don't see of it.
    let tree = run(&dana, &["tree", "standard", "-n", &world.host]);
    assert!(tree.code == 0 && tree.out.starts_with(&format!("pipeline standard of host {}: ready\n", world.host)), "{tree:?}");
    assert!(tree.err.contains("not shown: stages of namespace"), "{tree:?}");
    let inbox = run(&dana, &["inbox", "-n", &world.host]);
    assert!(inbox.code == 0 && inbox.out.is_empty() && inbox.err.contains("nothing waits for you"), "{inbox:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_has_what_its_owner_may_decide_and_nothing_else() {
    let world = World::bare("seat-approver").await;
    let mut pipeline = world.pipeline();
    for stage in pipeline.iter_mut().filter(|object| object["kind"] == "Stage" && object["metadata"]["name"] == "qa") {
        stage["spec"]["preDeploymentStepRequired"] = true.into();
    }
    world.configure_with(pipeline).await;
    develop(&world, "1.0.0", "hello").await;
    let mut request = world.request("first", "qa", "orders", "1.0.0");
    request.spec.notes = Some("please".into());
    world.ask(&request).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let (dana, eve, olga) = (person(&world, "dana"), person(&world, "eve"), person(&world, "olga"));
    let bot = world.plane.service_account_kubeconfig(&world.host, "bot-qa").unwrap();
    let inbox = |who: &Path| run(who, &["inbox", "-n", &world.host, "-o", "json"]);

    let waits = inbox(&bot);
    assert_eq!(
        (waits.all("/request"), waits.all("/gate"), waits.all("/as")),
        (vec!["first".into()], vec!["approval".into()], vec!["you".into()])
    );
    let item = &waits.json()["items"][0];
    assert_eq!((&item["plan"], &item["notes"], &item["requestedBy"]), (&json!("1 created"), &json!("please"), &json!("dana")));
    assert!(item["planHash"].as_str().unwrap().len() > 20, "{item}");
    // An administrator of the cluster may ask for the delegate's token. Approvers of steps and the host's administrator may not.
    assert_eq!(inbox(&world.plane.admin_kubeconfig()).all("/as"), ["delegate bot-qa"]);
    assert!(inbox(&eve).all("/request").is_empty() && inbox(&olga).all("/request").is_empty());
    // Without -n it looks for hosts itself. An account of the host knows of none but its own.
    let own = run(&bot, &["inbox"]);
    assert!(own.code == 0 && own.err.contains("you may not list namespaces"), "{own:?}");

    world.decide("qa", "first", "Approved").await.unwrap();
    world.until_request("first", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    assert_eq!((inbox(&eve).all("/gate"), inbox(&eve).all("/as")), (vec!["preDeploymentStep".into()], vec!["you".into()]));
    assert!(inbox(&bot).all("/request").is_empty() && inbox(&olga).all("/request").is_empty());
    // Whoever asked does not decide, whatever else they may do.
    let args = ["create", "rolebinding", "dana-approves", "--clusterrole=pilotage-approver", "--user=dana", "-n", &world.host];
    world.plane.kubectl().ok(&args).unwrap();
    world
        .until("dana may approve", async || {
            let inbox = inbox(&dana).json();
            let own = inbox["notShown"][0].as_str().is_some_and(|note| note.contains("request first") && note.contains("it is your own"));
            (own && inbox["items"] == json!([])).then_some(())
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_sees_the_host_its_past_and_its_versions() {
    let world = World::new("seat-admin").await;
    waits_for_production(&world).await;
    develop(&world, "1.1.0", "hi").await;
    world.ask(&world.request("no", "qa", "orders", "1.1.0")).await;
    world.until_request("no", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "no", "Rejected").await.unwrap();
    world.end("no").await;
    let olga = person(&world, "olga");
    let host = |args: &[&str]| run(&olga, &[args, &["-n", &world.host]].concat());
    let list = |args: &[&str]| host(&[args, &["-o", "json"]].concat());

    // A rejected request is told until a newer one makes it good.
    let status = list(&["status"]);
    assert_eq!(
        (status.all("/stage"), status.all("/request/name")),
        (vec!["qa".into(), "prod".into()], vec!["no".into(), "to-prod".into()])
    );
    assert_eq!(status.all("/runs"), ["1.0.0", "null"]);

    let history = |args: &[&str]| list(&[&["history"], args].concat()).all("/request");
    assert_eq!(history(&[]), ["no", "to-qa"]);
    assert_eq!(history(&["--outcome", "rejected"]), ["no"]);
    assert_eq!(history(&["--environment", "qa", "--limit", "1"]), ["no"]);
    assert_eq!(history(&["--person", &format!("system:serviceaccount:{}:bot-qa", world.host)]), ["no", "to-qa"]);
    assert_eq!(history(&["--person", "nobody"]), [""; 0]);
    assert_eq!(history(&["--until", "2020-01-01"]), [""; 0]);
    // A request that is gone is told by the record of its artifact.
    Api::<DeploymentRequest>::namespaced(world.olga().await, &world.host).delete("to-qa", &kube::api::DeleteParams::default()).await.ok();
    let all = list(&["history"]);
    assert!(all.all("/request").contains(&"to-qa".to_owned()), "{all:?}");
    let csv = host(&["history", "-o", "csv"]);
    assert!(csv.out.starts_with("ENDED,HOST,REQUEST,") && csv.out.lines().count() == 3, "{csv:?}");

    let place = list(&["where", "orders@1.0.0"]);
    assert_eq!(
        (place.all("/environment"), place.all("/deployedBy")),
        (vec!["qa".into()], vec![format!("system:serviceaccount:{}:bot-qa", world.host)])
    );
    assert!(list(&["where", "orders@9.9.9"]).all("/environment").is_empty());

    let tree = host(&["tree", "standard"]);
    for part in [
        "├─ from environment dev (namespace ",
        "stage qa: ready\n",
        "runs orders 1.0.0 since ",
        "   └─ stage prod: ready\n",
        "deployed by service account bot-prod; gates: approval by the delegate\n",
        "request to-prod: orders 1.0.0 AwaitingApproval since ",
    ] {
        assert!(tree.out.contains(part), "{part:?} is not in {}", tree.out);
    }
    assert_eq!(list(&["tree", "standard"]).json()["stages"][1]["target"]["name"], "qa", "{tree:?}");

    assert_eq!(list(&["artifact", "list"]).all("/version"), ["1.1.0", "1.0.0"]);
    assert_eq!(host(&["artifact", "list", "nothing", "-o", "name"]).out, "");
    let shown = host(&["artifact", "show", "orders@1.0.0"]);
    assert!(shown.out.contains("ConfigMap orders") && shown.out.contains("Succeeded in stage qa"), "{shown:?}");
    // The bytes are in ConfigMaps, which are not an administrator's. Who may read them gets them as they are stored.
    let refused = host(&["artifact", "pull", "orders@1.0.0"]);
    assert!(refused.code == 6 && refused.err.contains("you may not read the ConfigMaps of host"), "{refused:?}");
    let admin = world.plane.admin_kubeconfig();
    let pulled = run(&admin, &["artifact", "pull", "orders@1.0.0", "-n", &world.host]);
    let objects: Vec<Value> = serde_saphyr::from_multiple(&pulled.out).unwrap();
    assert_eq!(
        (objects.len(), &objects[0]["kind"], &objects[0]["data"]["greeting"]),
        (1, &json!("ConfigMap"), &json!("hello")),
        "{pulled:?}"
    );
    let file = std::env::temp_dir().join(format!("{}.yaml", world.host));
    let path = file.to_str().unwrap();
    let into = || run(&admin, &["artifact", "pull", "orders-1.0.0", "-n", &world.host, "--out", path]);
    assert_eq!((into().code, std::fs::read_to_string(&file).unwrap()), (0, pulled.out.clone()));
    assert_eq!(into().code, 1, "what is there is not overwritten");
    std::fs::remove_file(&file).unwrap();

    // Everything that there is, in all hosts that they may see: an administrator of one host sees that one.
    let everywhere = run(&admin, &["status", "-A", "-o", "json"]);
    assert!(everywhere.all("/host").contains(&world.host), "{everywhere:?}");
    let stored = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.0.0").await.unwrap();
    assert_eq!(
        run(&admin, &["artifact", "show", "orders@1.0.0", "-n", &world.host, "-o", "json"]).json()["spec"]["digest"],
        json!(stored.spec.digest)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outsider_is_told_what_they_may_not_see_and_wrong_input_what_is_wrong() {
    let world = World::new("seat-outsider").await;
    waits_for_production(&world).await;
    let mallory = person(&world, "mallory");
    for args in [
        &["status"][..],
        &["history"],
        &["tree", "standard"],
        &["watch"],
        &["artifact", "list"],
        &["artifact", "show", "orders@1.0.0"],
        &["artifact", "pull", "orders@1.0.0"],
        &["cancel", "to-prod"],
        &["retry", "to-qa"],
    ] {
        let refused = run(&mallory, &[args, &["-n", &world.host]].concat());
        assert!(refused.code == 6 && refused.out.is_empty(), "{args:?}: {refused:?}");
        assert!(!refused.err.contains("bot-prod") && !refused.err.contains("AwaitingApproval"), "{args:?}: {refused:?}");
    }
    for args in [
        &["inbox", "-o", "json"][..],
        &["where", "orders", "-o", "json"],
        &["status", "-A", "-o", "json"],
        &["inbox", "-n", &world.host, "-o", "json"],
    ] {
        let seen = run(&mallory, args).json();
        assert!(seen["items"] == json!([]) && !seen["notShown"].as_array().unwrap().is_empty(), "{args:?}: {seen}");
    }

    let olga = person(&world, "olga");
    let code = |args: &[&str]| {
        let ended = run(&olga, args);
        assert!(ended.out.is_empty() && !ended.err.is_empty(), "{args:?}: {ended:?}");
        ended.code
    };
    let host = ["-n", &world.host];
    for (wanted, args) in [
        (2, &["status", "--phase", "Nowhere"][..]),
        (2, &["history", "--since", "yesterday"]),
        (2, &["history", "--outcome", "maybe"]),
        (2, &["where", "@1.0.0"]),
        (2, &["watch", "--timeout", "1m"]),
        (2, &["watch", "--until-done", "--timeout", "soon"]),
        (2, &["status", "-o", "xml"]),
        (2, &["tree", "standard", "-o", "csv"]),
        (2, &["status", "--context", "nowhere"]),
        (2, &["status", "--kubeconfig", "/does/not/exist"]),
        (2, &["status", "--as-group", "makers"]),
        (2, &["status", "--request-timeout", "soon"]),
        (2, &["retry", "to-qa", "--set", "A"]),
        (2, &["nothing"]),
        (5, &["tree", "nothing"]),
        (5, &["artifact", "show", "orders@9.9.9"]),
        (5, &["retry", "nothing"]),
        (5, &["cancel", "nothing"]),
        (5, &["watch", "nothing", "--until-done"]),
        (6, &["status", "--as", "dana"]),
        (4, &["watch", "to-prod", "--until-done", "--timeout", "1s"]),
    ] {
        let ended = run(&olga, &[args, &host].concat());
        assert!(ended.code == wanted && !ended.err.is_empty(), "{args:?} ends with {wanted}: {ended:?}");
    }
    for args in [&["status", "-A", "-n", "x"][..], &["tree", "standard", "-A"], &["cancel", "to-prod", "-A"]] {
        assert_eq!(code(args), 2, "{args:?}");
    }
    // Nobody listens there.
    let kubeconfig = std::fs::read_to_string(&olga).unwrap();
    let server = kubeconfig.lines().find(|line| line.contains("server:")).unwrap();
    let elsewhere = std::env::temp_dir().join(format!("{}.kubeconfig", world.host));
    std::fs::write(&elsewhere, kubeconfig.replace(server.trim(), "server: https://127.0.0.1:1")).unwrap();
    for args in [&["status"][..], &["inbox"], &["watch"]] {
        let ended = run(&elsewhere, args);
        assert!(ended.code == 7 && ended.err.contains("can't be reached"), "{args:?}: {ended:?}");
    }
    std::fs::remove_file(&elsewhere).unwrap();
    // What needs no cluster works without one.
    let nowhere = Path::new("/does/not/exist");
    assert_eq!(run(nowhere, &["version", "-o", "json"]).json()["version"], env!("CARGO_PKG_VERSION"));
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = run(nowhere, &["completion", shell]);
        assert!(script.code == 0 && script.out.contains("inbox"), "{shell}: {script:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_tells_each_change_and_ends_as_what_it_waits_for_ends() {
    let world = World::new("watch").await;
    waits_for_production(&world).await;
    solution_says(&world, "prod", "AwaitingApproval").await;
    let follow = |who: PathBuf, namespace: &str| {
        let args = ["watch", "to-prod", "-n", namespace, "--until-done", "-o", "json"];
        let child = command(&who, &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        tokio::task::spawn_blocking(move || ran(child.wait_with_output().unwrap()))
    };
    let (maker, administrator) = (follow(person(&world, "dana"), &world.dev), follow(person(&world, "olga"), &world.host));
    assert_eq!(phase(&world.approved("to-prod", "prod").await), "Succeeded");
    for told in [maker.await.unwrap(), administrator.await.unwrap()] {
        assert_eq!(told.code, 0, "{told:?}");
        let phases: Vec<Value> =
            told.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["request"]["phase"].clone()).collect();
        assert_eq!(phases.last().unwrap(), "Succeeded", "{told:?}");
    }

    develop(&world, "2.0.0", "hi").await;
    world.ask(&world.request("no", "qa", "orders", "2.0.0")).await;
    world.until_request("no", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "no", "Rejected").await.unwrap();
    world.end("no").await;
    let ended = run(&person(&world, "olga"), &["watch", "no", "-n", &world.host, "--until-done"]);
    assert!(
        ended.code == 3 && ended.out.contains("no: orders 2.0.0 to qa: Rejected") && ended.err.contains("without success: no"),
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_wrote_controls_no_terminal_and_reaches_programs_as_it_was() {
    let world = World::new("hostile").await;
    develop(&world, "1.0.0", "hello").await;
    let hostile = "\u{1b}[2K\u{1b}]52;c;cm0=\u{7}\u{9b}2K\u{202e}\u{200b}\nforged  row,\"=1+1";
    let mut request = world.request("first", "qa", "orders", "1.0.0");
    request.spec.notes = Some(hostile.to_owned());
    request.spec.on_behalf_of = Some(hostile.to_owned());
    world.ask(&request).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let admin = world.plane.admin_kubeconfig();
    let forms = ["table", "wide", "json", "yaml", "name", "csv"];
    let is_shown = |c: char| c == '\n' || !(c.is_control() || matches!(c, '\u{200b}' | '\u{202a}'..='\u{202e}'));
    let check = |verb: &str| {
        for form in forms {
            let shown = run(&admin, &[verb, "-n", &world.host, "-o", form]);
            assert!(shown.code == 0 && shown.out.chars().all(is_shown) && shown.err.chars().all(is_shown), "{verb} {form}: {shown:?}");
            assert!(!shown.out.lines().any(|line| line.starts_with("forged")), "{verb} {form}: {shown:?}");
        }
        let json = run(&admin, &[verb, "-n", &world.host, "-o", "json"]).json();
        let yaml: Value = serde_saphyr::from_str(&run(&admin, &[verb, "-n", &world.host, "-o", "yaml"]).out).unwrap();
        assert_eq!(json, yaml, "{verb}");
        json["items"][0].clone()
    };
    assert_eq!(check("inbox")["notes"], hostile);
    let comment = Patch::Merge(json!({"status": {"approval": {"decision": "Rejected", "comments": hostile}}}));
    Api::<DeploymentRequest>::namespaced(world.bot("qa").await, &world.host)
        .patch_status("first", &PatchParams::default(), &comment)
        .await
        .unwrap();
    world.end("first").await;
    check("status");
    assert_eq!(check("history")["onBehalfOf"], hostile);
}
