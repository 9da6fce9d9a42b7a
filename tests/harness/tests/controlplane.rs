//! The control plane does what its tests rely on.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilotage_harness::process::{self, Pid, Signal, wait_until};
use pilotage_harness::{ControlPlane, Options, audit};

const PROCESSES: [&str; 6] = ["supervisor", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"];

/// One for all tests here that do not damage it. It ends with the process.
fn control_plane() -> Result<&'static ControlPlane> {
    static SHARED: OnceLock<Result<ControlPlane>> = OnceLock::new();
    let shared = SHARED.get_or_init(ControlPlane::from_env);
    shared.as_ref().map_err(|error| anyhow::anyhow!("{error:#}"))
}

#[test]
fn a_deployment_becomes_available() -> Result<()> {
    let kubectl = control_plane()?.kubectl();
    kubectl.ok(&["create", "namespace", "available"])?;
    kubectl.ok(&["-n", "available", "create", "deployment", "web", "--image=web:1", "--replicas=2"])?;
    kubectl.ok(&["-n", "available", "rollout", "status", "deployment/web", "--timeout=60s"])?;
    let deployment = kubectl.json(&["-n", "available", "get", "deployment", "web"])?;
    assert_eq!(deployment["status"]["availableReplicas"], 2);
    // It is deleted with everything in it.
    kubectl.ok(&["delete", "namespace", "available", "--timeout=60s"])?;
    Ok(())
}

#[test]
fn users_are_who_their_kubeconfig_says() -> Result<()> {
    let control_plane = control_plane()?;
    let whoami = |kubeconfig: &Path| {
        let review = control_plane.kubectl_as(kubeconfig).json(&["auth", "whoami"])?;
        let user = &review["status"]["userInfo"];
        let name = user["username"].as_str().context("no name")?.to_owned();
        let groups = user["groups"].as_array().context("no groups")?.clone();
        anyhow::Ok((name, groups))
    };

    let (name, groups) = whoami(&control_plane.user_kubeconfig("ann: the \"maker\"", &["makers", "a/b", "c"])?)?;
    assert_eq!(name, "ann: the \"maker\"");
    assert_eq!(groups, ["makers", "a/b", "c", "system:authenticated"]);

    let kubectl = control_plane.kubectl();
    kubectl.ok(&["create", "namespace", "whoami"])?;
    kubectl.ok(&["-n", "whoami", "create", "serviceaccount", "deployer"])?;
    let (name, _) = whoami(&control_plane.service_account_kubeconfig("whoami", "deployer")?)?;
    assert_eq!(name, "system:serviceaccount:whoami:deployer");
    Ok(())
}

#[test]
fn the_audit_log_tells_who_called_how() -> Result<()> {
    let control_plane = control_plane()?;
    control_plane.kubectl().ok(&["create", "clusterrolebinding", "audited", "--clusterrole=edit", "--user=audited"])?;
    let kubectl = control_plane.kubectl_as(&control_plane.user_kubeconfig("audited", &[])?);
    let start = audit::end(&control_plane.audit_log());
    kubectl.ok(&["create", "configmap", "kept"])?;
    kubectl.ok(&["create", "configmap", "tried", "--dry-run=server"])?;
    assert!(!kubectl.run(&["get", "nodes", "--as", "someone"])?.ok);
    control_plane.kubectl().ok(&["get", "configmap", "kept", "--as", "audited"])?;

    let mut calls = Vec::new();
    wait_until("the calls are in the audit log", Duration::from_secs(5), || {
        calls = audit::since(&control_plane.audit_log(), start).map_or_else(|_| Vec::new(), |(calls, _)| calls);
        calls.retain(|call| [&*call.user, call.acting_user()].contains(&"audited") && !call.resource.is_empty());
        calls.len() >= 4
    })?;
    let [kept, tried, refused, lent] = &calls[..] else {
        anyhow::bail!("not four calls: {calls:#?}");
    };
    assert_eq!((kept.verb.as_str(), kept.resource.as_str(), kept.code, kept.dry_run), ("create", "configmaps", 201, false));
    assert_eq!((kept.namespace.as_str(), kept.decision.as_str()), ("default", "allow"));
    assert!(kept.is_write() && tried.dry_run && tried.at > kept.at && kept.took > 0.0);
    // It was refused before anybody checked whether `someone` may do it.
    assert_eq!((refused.code, refused.decision.as_str(), refused.acting_user()), (403, "", "audited"));
    assert!(refused.message.contains("cannot impersonate"), "{}", refused.message);
    assert_eq!((lent.user.as_str(), lent.acting_user(), lent.decision.as_str()), ("admin", "audited", "allow"));
    let constrained = control_plane.kubernetes().has_constrained_impersonation();
    assert_eq!(lent.impersonation.as_deref(), constrained.then_some("impersonate:user-info"));
    Ok(())
}

#[test]
fn what_tests_kill_comes_back() -> Result<()> {
    let control_plane = ControlPlane::start(&Options::default())?;
    let kubectl = control_plane.kubectl();
    kubectl.ok(&["create", "configmap", "survivor"])?;

    control_plane.stop_process("kube-apiserver")?;
    ensure!(!kubectl.run(&["get", "configmaps"])?.ok, "something answers for the killed API server");
    control_plane.resume_process("kube-apiserver")?;

    let before = control_plane.pid("etcd")?;
    control_plane.signal("etcd", Signal::KILL)?;
    wait_until("etcd is another process", Duration::from_secs(20), || control_plane.pid("etcd").is_ok_and(|pid| pid != before))?;
    control_plane.wait_api_ready(Duration::from_mins(1))?;
    kubectl.ok(&["get", "configmap", "survivor"])?;

    // Dropping it leaves nothing.
    let (dir, pids) = (control_plane.dir().to_owned(), pids(control_plane.dir())?);
    drop(control_plane);
    ensure!(!dir.exists(), "{} is left", dir.display());
    ensure!(pids.iter().all(|pid| !process::exists(*pid)), "processes are left");
    Ok(())
}

#[test]
fn a_start_that_fails_says_why() -> Result<()> {
    let options = Options { apiserver_args: vec!["--no-such-flag".into()], ..Options::default() };
    let error = ControlPlane::start(&options).err().context("it started")?;
    ensure!(error.to_string().contains("unknown flag: --no-such-flag"), "{error:#}");
    Ok(())
}

#[test]
fn nothing_outlives_a_killed_owner() -> Result<()> {
    let script = "echo \"$PILOTAGE_CONTROLPLANE\"; kubectl get nodes >&2; echo $$; exec sleep 60";
    let mut owner =
        Command::new(env!("CARGO_BIN_EXE_pilotage-dev")).args(["run", "--", "sh", "-c", script]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(owner.stdout.take().context("no stdout")?).lines();
    let dir = lines.next().context("the control plane did not start")??;
    let command = lines.next().context("the command did not run")??;
    let command = Pid::from_raw(command.parse()?).context("no pid")?;
    let dir = Path::new(&dir);
    let mut pids = pids(dir)?;
    pids.push(command);
    ensure!(pids.iter().all(|pid| process::exists(*pid)), "not everything runs");

    owner.kill()?;
    owner.wait()?;
    wait_until("all processes are gone", Duration::from_secs(15), || pids.iter().all(|pid| !process::exists(*pid)))?;
    wait_until("the folder is gone", Duration::from_secs(5), || !dir.exists())
}

fn pids(dir: &Path) -> Result<Vec<Pid>> {
    PROCESSES.iter().map(|name| process::read_pid(&dir.join(format!("{name}.pid")))).collect()
}
