//! Pilotage can be installed on the control plane, and the people that its example is written for can apply the example.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilotage_harness::install::{Operator, install, stop_detached};
use pilotage_harness::process::{exists, wait_until};
use pilotage_harness::{ControlPlane, Kubectl};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Applies a part of the example.
fn apply(kubectl: &Kubectl, part: &str) -> Result<String> {
    let path = root().join("examples/contoso").join(part);
    kubectl.ok(&["apply", "--recursive", "-f", path.to_str().context("a path that is no text")?])
}

#[test]
fn pilotage_is_installed_and_its_example_applied() -> Result<()> {
    let control_plane = ControlPlane::from_env()?;
    let admin = control_plane.kubectl();
    install(&control_plane, &root())?;
    // Installing twice changes nothing.
    install(&control_plane, &root())?;

    let user = |name: &str, groups: &[&str]| anyhow::Ok(control_plane.kubectl_as(&control_plane.user_kubeconfig(name, groups)?));
    apply(&admin, "platform.yaml")?;
    let olga = user("olga", &[])?;
    if control_plane.lends_tokens() {
        // No policy fills in the owner of a stage there. The refusal says what to write, and then it is accepted.
        let refused = apply(&olga, "pipeline.yaml").err().context("stages without an owner are accepted")?.to_string();
        ensure!(refused.contains("write this where it is not: owner: {username: 'olga'}"), "{refused}");
        let pipeline = std::fs::read_to_string(root().join("examples/contoso/pipeline.yaml"))?;
        olga.apply(&pipeline.replace("  delegatedDeployment:", "  owner: {username: olga}\n  delegatedDeployment:"))?;
    } else {
        apply(&olga, "pipeline.yaml")?;
    }
    let dana = user("dana", &["makers"])?;
    apply(&dana, "app")?;
    let owner = admin.ok(&["-n", "contoso-host", "get", "stage", "standard-prod", "-o", "jsonpath={.spec.owner.username}"])?;
    assert_eq!(owner, "olga");
    // The operator shares the pipeline, and no operator runs.
    assert!(apply(&dana, "requests").is_err());

    // Every policy was understood: the controller that checks their types reports nothing.
    let policies = admin.json(&["get", "validatingadmissionpolicies"])?;
    for policy in policies["items"].as_array().context("no policies")? {
        let name = &policy["metadata"]["name"];
        assert!(policy["status"]["typeChecking"]["expressionWarnings"].is_null(), "{name}: {}", policy["status"]);
    }
    Ok(())
}

#[test]
fn an_operator_runs_until_it_is_stopped() -> Result<()> {
    let dir = std::env::temp_dir().join(format!("pilotage-operator-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let log = dir.join("operator.log");
    let program = dir.join("program");
    std::fs::write(
        &program,
        "#!/bin/sh\ntrap 'exit 0' TERM\necho \"$GREETING $KUBECONFIG $_RJEM_MALLOC_CONF\"\nwhile :; do sleep 0.05; done\n",
    )?;
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let start = || Operator::start(&program, Path::new("kubeconfig"), &log, &[("GREETING", "hello")]);
    let said = || std::fs::read_to_string(&log).unwrap_or_default().matches("hello kubeconfig narenas:2,").count();
    let wait = |times: usize| wait_until("it has spoken", Duration::from_secs(10), || said() == times);

    let operator = start()?;
    wait(1)?;
    let pid = operator.pid();
    operator.stop()?;
    assert!(!exists(pid));

    let operator = start()?;
    wait(2)?;
    let pid = operator.pid();
    operator.kill();
    assert!(!exists(pid));

    let operator = start()?;
    wait(3)?;
    operator.detach();
    assert!(stop_detached(&log.with_extension("pid"))?);
    assert!(!stop_detached(&log.with_extension("pid"))?);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
