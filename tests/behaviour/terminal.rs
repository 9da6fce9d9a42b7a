//! The questions that the plugin asks on a terminal. The terminal is a real one, of script(1).

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kube::Api;
use kube::api::ListParams;
use pilotage::api::{DeploymentRequest, Solution};
use serde_json::json;

use crate::plugin::person;
use crate::world::{PATIENCE, World, ended, phase};

/// What Ctrl-C sends.
const CTRL_C: &str = "\u{3}";

/// The plugin on a terminal of its own.
struct Terminal {
    program: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn of(kubeconfig: &Path, args: &[&str]) -> Self {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
        let words = [env!("CARGO_BIN_EXE_kubectl-pilotage")].into_iter().chain(args.iter().copied());
        let line = words.map(quoted).collect::<Vec<_>>().join(" ");
        let mut program = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &format!("exec {line}"), "/dev/null"])
            .env("KUBECONFIG", kubeconfig)
            .env("SHELL", "/bin/sh")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script(1), which gives a program a terminal");
        let (keys, mut screen) = (program.stdin.take().unwrap(), program.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(String::new()));
        let seen = shown.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = screen.read(&mut bytes) {
                if count == 0 {
                    return;
                }
                seen.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { program, keys, shown }
    }

    fn screen(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until the terminal shows these words.
    async fn shows(&self, words: &str) {
        let start = Instant::now();
        while !self.screen().contains(words) {
            assert!(start.elapsed() < PATIENCE, "{words:?} is not shown: {}", self.screen());
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits for the end. Returns the exit code, and all that was shown.
    async fn ends(mut self) -> (i32, String) {
        let start = Instant::now();
        let code = loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                break status.code().unwrap();
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {}", self.screen());
            tokio::time::sleep(Duration::from_millis(30)).await;
        };
        // What was written last is read after the end.
        tokio::time::sleep(Duration::from_millis(200)).await;
        (code, self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

async fn develop(world: &World, version: &str) {
    let mut solution = world.solution("orders", version);
    let variable = |name: &str, type_: &str| json!({"name": name, "type": type_, "required": true, "target": {"kind": "ConfigMap", "name": "orders", "path": format!("/data/{name}")}});
    solution["spec"]["environmentVariables"] = json!([variable("greeting", "String"), variable("workers", "Number")]);
    world.apply(&[solution, world.config("orders", "orders", json!({"greeting": "hello", "workers": "1"}))]).await;
    let solutions = Api::<Solution>::namespaced(world.dana().await, &world.dev);
    world
        .until("the version may be asked for", async || {
            let stages = solutions.get("orders").await.ok()?.status?.stages;
            stages.iter().any(|stage| stage.next.as_deref() == Some(version)).then_some(())
        })
        .await;
}

async fn requests(world: &World) -> Vec<DeploymentRequest> {
    Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_settings_are_asked_for_until_they_fit_and_ctrl_c_asks_for_nothing() {
    let world = World::new("prompt").await;
    develop(&world, "1.0.0").await;
    let dana = person(&world, "dana");
    let args = ["deploy", "orders", "-n", &world.dev];
    let mut given_up = Terminal::of(&dana, &args);
    given_up.shows("greeting (String): ").await;
    given_up.types(&format!("welcome\n{CTRL_C}"));
    let (code, shown) = given_up.ends().await;
    assert_ne!(code, 0, "{shown}");
    assert!(requests(&world).await.is_empty(), "nothing was made: {shown}");

    let mut asked = Terminal::of(&dana, &args);
    asked.shows("greeting (String): ").await;
    asked.types("welcome\n");
    asked.shows("workers (Number): ").await;
    asked.types("two\n");
    asked.shows("workers is of type Number: two is none").await;
    asked.types("3\n");
    let (code, shown) = asked.ends().await;
    assert!(code == 0 && shown.contains(" made in host "), "{code}: {shown}");
    let made = requests(&world).await;
    let settings = made[0].spec.deployment_settings.as_ref().unwrap();
    let values: Vec<_> = settings.environment_variables.iter().map(|v| (v.name.as_str(), v.value.as_str())).collect();
    assert_eq!((made.len(), values), (1, vec![("greeting", "welcome"), ("workers", "3")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_asked_for_after_its_plan_and_only_a_clear_yes_is_one() {
    let world = World::new("prompt-gate").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let bot = world.plane.service_account_kubeconfig(&world.host, "bot-qa").unwrap();
    for (keys, ends) in [("\n", 1), ("maybe\n", 1), (CTRL_C, 130)] {
        let mut asked = Terminal::of(&bot, &["approve", "first", "-n", &world.host]);
        asked.shows("It can't be taken back [y/N]").await;
        assert!(asked.screen().contains("+ ConfigMap orders: create"), "the plan comes first: {}", asked.screen());
        asked.types(keys);
        let (code, shown) = asked.ends().await;
        assert!(code == ends && (keys == CTRL_C || shown.contains("nothing was decided")), "{keys:?}: {code}: {shown}");
    }
    assert!(world.until_request("first", |_| true).await.status.unwrap().approval.is_none());
    let mut asked = Terminal::of(&bot, &["approve", "first", "-n", &world.host]);
    asked.shows("[y/N]").await;
    asked.types("yes\n");
    let (code, shown) = asked.ends().await;
    assert!(code == 0 && shown.contains("approval is Approved by"), "{code}: {shown}");
    assert_eq!(phase(&world.end("first").await), "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_asks_before_it_deletes() {
    let world = World::new("prompt-purge").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ask(&world.request("no", "qa", "orders", "1.0.0")).await;
    world.until_request("no", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "no", "Rejected").await.unwrap();
    world.until_request("no", ended).await;
    let olga = person(&world, "olga");
    let args = ["purge", "request", "no", "-n", &world.host];
    for (keys, ends) in [("\n", 1), (CTRL_C, 130)] {
        let mut asked = Terminal::of(&olga, &args);
        asked.shows("Delete request no for orders 1.0.0 to stage qa, Rejected at ").await;
        asked.shows("for ever? [y/N]").await;
        asked.types(keys);
        let (code, shown) = asked.ends().await;
        assert_eq!(code, ends, "{keys:?}: {shown}");
    }
    assert_eq!(requests(&world).await.len(), 1, "nothing was deleted");
    let mut asked = Terminal::of(&olga, &args);
    asked.shows("[y/N]").await;
    asked.types("y\n");
    let (code, shown) = asked.ends().await;
    assert!(code == 0 && shown.contains("deleted request no"), "{code}: {shown}");
    assert!(requests(&world).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_while_somebody_thinks_is_told_and_nothing_is_done() {
    let world = World::new("prompt-gone").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    world.until_request("first", |r| phase(r) == "AwaitingApproval").await;
    let (bot, olga) = (world.plane.service_account_kubeconfig(&world.host, "bot-qa").unwrap(), person(&world, "olga"));
    let mut late = Terminal::of(&bot, &["approve", "first", "-n", &world.host]);
    late.shows("[y/N]").await;
    world.decide("qa", "first", "Rejected").await.unwrap();
    world.until_request("first", ended).await;
    late.types("y\n");
    let (code, shown) = late.ends().await;
    assert!(code == 1 && shown.contains("error: request first of host"), "{code}: {shown}");
    assert_eq!(phase(&world.until_request("first", |_| true).await), "Rejected");

    let purge = ["purge", "request", "first", "-n", &world.host];
    let mut late = Terminal::of(&olga, &purge);
    late.shows("[y/N]").await;
    let gone = crate::plugin::run(&olga, &[&purge[..], &["--yes"]].concat());
    assert_eq!(gone.code, 0, "{gone:?}");
    late.types("y\n");
    let (code, shown) = late.ends().await;
    assert!(code == 5 && shown.contains("was not deleted") && shown.contains("not found"), "{code}: {shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn init_asks_for_what_the_flags_leave_open_and_leaves_no_file_when_it_is_given_up() {
    let nowhere = Path::new("/does/not/exist");
    let folder = std::env::temp_dir().join(format!("pilotage-asked-{}", std::process::id()));
    let args = ["init", "--administrators", "olga", "--out", folder.to_str().unwrap()];
    let mut given_up = Terminal::of(nowhere, &args);
    given_up.shows("Namespace of the host").await;
    given_up.types(CTRL_C);
    assert_eq!(given_up.ends().await.0, 130);
    assert!(!folder.exists());
    let mut asked = Terminal::of(nowhere, &args);
    for (question, answer) in [
        ("Namespace of the host", "shop-host"),
        ("Development namespaces", "shop-dev"),
        ("Stages in order", "qa=shop-qa"),
        ("Groups that ask", "makers"),
        ("Groups that approve", ""),
    ] {
        asked.shows(question).await;
        asked.types(&format!("{answer}\n"));
    }
    let (code, shown) = asked.ends().await;
    assert_eq!(code, 0, "{shown}");
    assert!(folder.join("3-host.yaml").exists(), "{shown}");
    std::fs::remove_dir_all(&folder).unwrap();
}
