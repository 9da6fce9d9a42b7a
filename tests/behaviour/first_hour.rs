//! Follows `docs/first-hour.md` exactly, on a control plane of its own: from a cluster with Pilotage to a version in three stages. Its
//! commands and its lines of YAML are counted.

use std::path::Path;
use std::process::Command;

use pilotage_harness::{ControlPlane, Options, dev};

use crate::install::blocks;

/// The most commands of the page.
const COMMANDS: usize = 5;
/// The most lines of YAML that somebody has to write.
const LINES: usize = 60;

/// Runs commands as they are printed, in the folder, and returns what they print.
fn run(plane: &ControlPlane, folder: &Path, commands: &str) -> String {
    let plugin = Path::new(env!("CARGO_BIN_EXE_kubectl-pilotage")).parent().unwrap();
    let path = format!("{}:{}:{}", plugin.display(), plane.bin().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-euc", commands])
        .current_dir(folder)
        .env("PATH", path)
        .env("KUBECONFIG", plane.admin_kubeconfig())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{commands}\n{out}{err}");
    out
}

#[test]
fn the_page_brings_a_version_through_three_stages_with_few_commands_and_lines() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/first-hour.md")).unwrap();
    let commands = blocks(&page, "");
    let files: Vec<(String, String)> = blocks(&page, "yaml")
        .into_iter()
        .filter_map(|block| {
            let (name, text) = block.strip_prefix("# ")?.split_once('\n')?;
            Path::new(name).extension().is_some_and(|end| end == "yaml").then(|| (name.to_owned(), text.to_owned()))
        })
        .collect();
    assert!(commands.len() <= COMMANDS, "{} commands", commands.len());
    for command in &commands {
        assert_eq!(command.replace("\\\n", "").lines().count(), 1, "one command in a block: {command}");
    }
    let lines: usize = files.iter().map(|(_, text)| text.lines().count()).sum();
    assert!(files.len() == 2 && lines <= LINES, "{lines} lines of YAML in {} files", files.len());

    let plane = ControlPlane::start(&Options::default()).unwrap();
    let _operator = dev::operate(&plane, Path::new(env!("CARGO_BIN_EXE_pilotage"))).unwrap();
    let folder = plane.dir().join("first-hour");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in &files {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let said: Vec<String> = commands.iter().map(|command| run(&plane, &folder, command)).collect();
    assert!(said[0].contains("pipeline standard of host contoso-host is ready"), "{}", said[0]);
    assert!(said[3].contains("+ Deployment orders: create") && said[3].contains("deploy-prod"), "the plan is shown: {}", said[3]);

    let kubectl = plane.kubectl();
    for (namespace, greeting) in [("contoso-test", "hello from test"), ("contoso-qa", "hello from QA"), ("contoso-prod", "hello")] {
        let config = kubectl.json(&["get", "configmap", "orders", "-n", namespace]).unwrap();
        assert_eq!(config["data"]["GREETING"], greeting);
    }
    // What the page says of the record.
    let record = kubectl.json(&["get", "artifact", "orders-1.0.0", "-n", "contoso-host"]).unwrap();
    let prod = record["status"]["deployments"].as_array().unwrap().iter().find(|d| d["stage"] == "prod").unwrap();
    for (field, value) in
        [("requestedBy", "dana"), ("deployedBy", "system:serviceaccount:contoso-host:deploy-prod"), ("outcome", "Succeeded")]
    {
        assert_eq!(prod[field], value, "{field}");
        assert!(page.contains(&format!("{field}: {value}")), "the page shows {field}");
    }
    // The same files again change nothing, and others may apply them.
    let again = run(&plane, &folder, "kubectl apply --server-side --force-conflicts -f contoso/");
    assert!(again.lines().count() > 20, "{again}");
    kubectl.ok(&["wait", "stage/prod", "-n", "contoso-host", "--for=condition=Ready", "--timeout=60s"]).unwrap();
}
