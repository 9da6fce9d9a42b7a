//! `examples/approval-controller`: a separate process decides approvals with the service principal's token and nothing else.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::receiver::KEY;
use crate::world::{World, outcome, phase};

/// The running program. It ends with this value.
struct Controller {
    process: Child,
    url: String,
    folder: PathBuf,
}

impl Drop for Controller {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn go(args: &[&str]) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/approval-controller");
    let output = Command::new("go").args(args).current_dir(source).env("CGO_ENABLED", "0").env("GOWORK", "off").output().unwrap();
    assert!(output.status.success(), "go {args:?}: {}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

impl Controller {
    /// Builds the program and starts it with three files: the API server's authority, the token, and the signing key.
    fn start(world: &World, stage: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("approval-{}", world.host));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("approval-controller");
        go(&["vet", "./..."]);
        go(&["test", "./..."]);
        go(&["build", "-o", program.to_str().unwrap(), "."]);
        let file = |name: &str, content: &str| {
            std::fs::write(folder.join(name), content).unwrap();
            folder.join(name)
        };
        let token = world.plane.service_account_token(&world.host, &format!("bot-{stage}")).unwrap();
        let mut process = Command::new(&program)
            .args(["-listen", "127.0.0.1:0", "-server", world.plane.server(), "-versions", r"1\..*"])
            .arg("-ca-file")
            .arg(file("ca.crt", &world.plane.ca_pem().unwrap()))
            .arg("-token-file")
            .arg(file("token", &token))
            .arg("-signing-key-file")
            .arg(file("key", KEY))
            // Nothing else from this process, for example no kubeconfig.
            .env_clear()
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        let address = first.split("listening on ").nth(1).unwrap().split(',').next().unwrap();
        let url = format!("http://{address}/");
        assert!(first.ends_with(&format!("deciding as system:serviceaccount:{}:bot-{stage}", world.host)), "{first}");
        // Its further output is read. Otherwise the program would stop when the pipe is full.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("{line}")));
        Self { process, url, folder }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_separate_program_approves_and_rejects_as_the_service_principal() {
    let world = World::new("controller").await;
    let controller = Controller::start(&world, "qa");
    // The API server accepts its manifests.
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/approval-controller/deploy.yaml");
    let manifests = std::fs::read_to_string(manifests).unwrap().replace("contoso-host", &world.host);
    world.plane.kubectl().run_with(&["apply", "--dry-run=server", "-f", "-"], &manifests).map(|o| assert!(o.ok, "{}", o.stderr)).unwrap();

    for version in ["1.0.0", "2.0.0"] {
        world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"version": version}))]).await;
        if version == "1.0.0" {
            super::sinks::key(&world).await;
            super::sinks::with_sinks(
                &world,
                json!([{"url": controller.url, "signingSecretRef": {"name": "sink", "key": "key"}, "triggers": ["OnApprovalStarted"]}]),
            )
            .await;
            let mut silent = world.request("silent", "qa", "orders", version);
            silent.spec.notes = None;
            world.ask(&silent).await;
            let rejected = world.end("silent").await;
            assert_eq!((phase(&rejected).as_str(), outcome(&rejected).0.as_str()), ("Rejected", "Rejected"));
            let said = "The request has no notes: make a new one and say in spec.notes what the deployment is for.";
            assert!(outcome(&rejected).1.ends_with(&format!("with the comment: {said}")), "{}", outcome(&rejected).1);
        }
        let mut asked = world.request(&format!("to-{version}"), "qa", "orders", version);
        asked.spec.notes = Some("for the summer sale".into());
        world.ask(&asked).await;
    }
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    let approved = world.end("to-1.0.0").await;
    assert_eq!(phase(&approved), "Succeeded", "{:?}", outcome(&approved));
    let status = approved.status.clone().unwrap();
    let decision = status.approval.unwrap();
    assert_eq!(decision.by.as_deref(), Some(bot.as_str()));
    assert_eq!(decision.comments.as_deref(), Some("Version 1.0.0 of orders is approved for stage qa."));
    assert_eq!(decision.plan_hash, status.run.plan.map(|p| p.hash), "it decided on the plan that it saw");
    let uid = approved.metadata.uid.unwrap();
    assert_eq!(decision.properties["event"], format!("{uid}-OnApprovalStarted"));
    assert_eq!(decision.properties["rule"], "notes-and-version");

    let rejected = world.end("to-2.0.0").await;
    assert_eq!(phase(&rejected), "Rejected");
    let decision = rejected.status.unwrap().approval.unwrap();
    assert_eq!(decision.by.as_deref(), Some(bot.as_str()));
    assert!(decision.comments.unwrap().contains("versions have to match"));

    // It made all its calls as the service principal.
    let calls = pilotage_harness::audit::read(&world.plane.audit_log()).unwrap();
    let its: Vec<_> = calls.iter().filter(|c| c.user_agent == "approval-controller" && c.namespace == world.host).collect();
    assert!(!its.is_empty() && its.iter().all(|c| c.user == bot && c.impersonated_user.is_none()), "{its:?}");
}
