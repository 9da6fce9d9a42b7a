//! Installs Pilotage on a control plane as an administrator does, and runs the operator as a process.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::controlplane::ControlPlane;
use crate::kubectl::Kubectl;
use crate::process::{self, Pid, Signal, wait_until};

/// How long it may take until the installed objects are in force.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long an operator may take to end properly.
const GRACE: Duration = Duration::from_secs(30);

/// What is applied from `deploy/`, in this order. The Deployment is not applied: the operator runs as a process, see [`Operator`].
const INSTALLED: [&str; 8] = [
    "deploy/namespace.yaml",
    "crds",
    "deploy/roles",
    "deploy/admission",
    "deploy/operator/serviceaccount.yaml",
    "deploy/operator/clusterrole.yaml",
    "deploy/operator/clusterrolebinding.yaml",
    "deploy/operator/role.yaml",
];

/// What an operator is told about how it acts as delegates: with tokens that are bound to a node, as on older versions, or by impersonation.
pub fn way(lends_tokens: bool) -> &'static [(&'static str, &'static str)] {
    if lends_tokens {
        &[("PILOTAGE_DELEGATION", "token"), ("PILOTAGE_NODE", "node-1")]
    } else {
        &[("PILOTAGE_DELEGATION", "impersonation")]
    }
}

/// Installs Pilotage from the source tree in `root`, without the operator itself, and waits until it is in force: an API server uses kinds,
/// policies and aggregated roles some moments after they are stored.
///
/// # Errors
/// If something is refused, or is not in force after a minute.
pub fn install(control_plane: &ControlPlane, root: &Path) -> Result<()> {
    let kubectl = control_plane.kubectl();
    if control_plane.lends_tokens() {
        install_for_older(&kubectl, root)?;
        return admission_check(&kubectl, true);
    }
    for part in INSTALLED {
        let path = root.join(part);
        let path = path.to_str().with_context(|| format!("{} is no text", path.display()))?;
        kubectl.ok(&["apply", "--recursive", "-f", path])?;
        if part == "crds" {
            kubectl.ok(&["wait", "--for=condition=Established", "--timeout=60s", "-f", path])?;
        }
    }
    admission_check(&kubectl, false)
}

/// What kustomize makes of `deploy/` with the component for older versions, but for the Deployment.
///
/// # Errors
/// If kustomize refuses it.
pub fn built_for_older(kubectl: &Kubectl, root: &Path) -> Result<Vec<Value>> {
    // kustomize takes only paths that are relative to its own file, and no file that is within what it names.
    // Several may install at once.
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let overlay = root.join("target").join(format!("older-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&overlay)?;
    let text = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../deploy]\n\
                components: [../../deploy/components/older-kubernetes]\n";
    std::fs::write(overlay.join("kustomization.yaml"), text)?;
    let built = kubectl.ok(&["kustomize", &overlay.to_string_lossy()])?;
    std::fs::remove_dir_all(&overlay)?;
    Ok(serde_saphyr::from_multiple(&built)?)
}

fn install_for_older(kubectl: &Kubectl, root: &Path) -> Result<()> {
    let all = built_for_older(kubectl, root)?;
    let (kinds, others): (Vec<Value>, Vec<Value>) = all
        .into_iter()
        .filter(|object| object["kind"] != "Deployment" && object["kind"] != "PodDisruptionBudget")
        .partition(|object| object["kind"] == "CustomResourceDefinition");
    let apply = |objects: Vec<Value>| {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let applied = kubectl.run_with(&["apply", "--server-side", "-f", "-"], &list)?;
        ensure!(applied.ok, "installing Pilotage: {}", applied.stderr);
        Ok(())
    };
    apply(kinds)?;
    kubectl.ok(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &root.join("crds").to_string_lossy()])?;
    apply(others)
}

/// Waits until the policies are in force and the aggregated roles are complete.
fn admission_check(kubectl: &Kubectl, lends_tokens: bool) -> Result<()> {
    let start = Instant::now();
    loop {
        let missing = missing(kubectl, lends_tokens)?;
        let Some(missing) = missing else {
            return Ok(());
        };
        if start.elapsed() > PATIENCE {
            bail!("Pilotage is not in force after {} s: {missing}", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Returns what is not in force yet, if anything. Nothing is stored for this: all creations are dry runs.
///
/// The API server starts to use policies in the order in which they were stored, separately for validating and mutating ones. Those of
/// stages are the last of both. The others are tried if it costs nothing.
fn missing(kubectl: &Kubectl, lends_tokens: bool) -> Result<Option<String>> {
    let stage = |owner: &str| {
        format!(
            "apiVersion: pilotage.dev/v1alpha1\nkind: Stage\nmetadata: {{name: probe, namespace: pilotage-system}}\n\
             spec: {{pipeline: probe, targetEnvironment: probe{owner}}}\n"
        )
    };
    let request = |requester: &str| {
        format!(
            "apiVersion: pilotage.dev/v1alpha1\nkind: DeploymentRequest\nmetadata: {{name: probe, namespace: pilotage-system}}\n\
             spec: {{pipeline: probe, stage: probe, solution: {{name: probe, version: 1.0.0}}{requester}}}\n"
        )
    };
    let bytes = "apiVersion: v1\nkind: ConfigMap\n\
                 metadata: {name: probe, namespace: pilotage-system, labels: {pilotage.dev/artifact: probe}}\n";
    let refused = [
        ("pilotage-request-create", request(", requestedBy: {username: forged}")),
        ("pilotage-artifact-bytes", bytes.to_owned()),
        ("pilotage-stage", stage(", owner: {username: forged}")),
    ];
    for (policy, object) in &refused {
        let answer = kubectl.run_with(&["create", "--dry-run=server", "-f", "-"], object)?;
        if answer.ok || !answer.stderr.contains(&format!("ValidatingAdmissionPolicy '{policy}'")) {
            return Ok(Some(format!("the policy {policy} does not refuse yet: {}", answer.stderr.trim())));
        }
    }
    if lends_tokens {
        let lent = [
            "--as=system:serviceaccount:default:probe",
            "--as-group=system:masters",
            "--as-user-extra=authentication.kubernetes.io/node-name=probe",
        ];
        let plain = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: probe, namespace: pilotage-system}\n";
        let answer = kubectl.run_with(&[&["create", "--dry-run=server", "-f", "-"][..], &lent].concat(), plain)?;
        if answer.ok || !answer.stderr.contains("ValidatingAdmissionPolicy 'pilotage-lent-token'") {
            return Ok(Some(format!("the policy pilotage-lent-token does not refuse yet: {}", answer.stderr.trim())));
        }
    }
    let filled = [("requestedBy", request("")), ("owner", stage(""))];
    for (field, object) in filled.iter().filter(|_| !lends_tokens) {
        let answer = kubectl.run_with(&["create", "--dry-run=server", "-o", "json", "-f", "-"], object)?;
        let made: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        if made["spec"][field]["username"].as_str().is_none() {
            return Ok(Some(format!("spec.{field} is not filled yet: {}", answer.stderr.trim())));
        }
    }
    let roles = kubectl.json(&["get", "clusterroles", "admin", "edit", "view"])?;
    let complete = roles["items"].as_array().is_some_and(|all| all.iter().all(|role| role["rules"].to_string().contains("pilotage.dev")));
    Ok((!complete).then(|| "the roles admin, edit and view are not aggregated yet".into()))
}

/// The allocator settings of the Deployment, so that the memory use here is the same. Each operator has addresses of its own.
fn allocator() -> Result<Vec<(String, String)>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(include_str!("../../../deploy/operator/deployment.yaml"))?;
    let containers = documents.iter().filter_map(|d| d.pointer("/spec/template/spec/containers/0/env")?.as_array());
    let text = |entry: &Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let all = containers.flatten().map(|entry| (text(entry, "name"), text(entry, "value")));
    Ok(all.filter(|(name, _)| name.contains("MALLOC_")).collect())
}

/// An operator that runs as a process. Dropping it kills it. [`Operator::stop`] ends it properly.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    pid_file: PathBuf,
}

impl Operator {
    /// Starts the program with a kubeconfig of the operator's `ServiceAccount`
    /// (`control_plane.service_account_kubeconfig("pilotage-system", "pilotage")`). Its output is added to `log`; its pid is in the
    /// file of that name with `.pid` in place of the extension, while it runs. It does not wait until the operator is ready.
    ///
    /// # Errors
    /// If the log can't be written or the program can't be started.
    pub fn start(program: &Path, kubeconfig: &Path, log: &Path, env: &[(&str, &str)]) -> Result<Self> {
        let output = File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        let child = Command::new(program)
            .env("KUBECONFIG", kubeconfig)
            .envs(allocator()?)
            .envs(env.iter().copied())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        // From here on it ends with this value, even if something fails.
        let operator = Self { child, pid_file: log.with_extension("pid") };
        std::fs::write(&operator.pid_file, operator.child.id().to_string()).with_context(|| operator.pid_file.display().to_string())?;
        Ok(operator)
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal, for example `STOP` and `CONT`.
    ///
    /// # Errors
    /// If the process does not exist any more.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        process::signal(self.pid(), signal)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    /// If it had ended before, did not end in time (then it is killed), or reported a failure.
    pub fn stop(mut self) -> Result<()> {
        ensure!(self.runs(), "the operator had ended already");
        self.signal(Signal::TERM)?;
        wait_until("the operator has ended", GRACE, || !matches!(self.child.try_wait(), Ok(None)))?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the operator ended with {status}");
        Ok(())
    }

    /// Kills it, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    /// Lets it outlive this value, for a demo. [`stop_detached`] ends it.
    pub fn detach(self) {
        // Without the destructor the process is left alone.
        std::mem::forget(self);
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It is no error if the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.pid_file);
    }
}

/// Ends a detached operator, by its pid file. Returns whether it ran.
///
/// # Errors
/// If no signal can be sent, or it does not end in time.
pub fn stop_detached(pid_file: &Path) -> Result<bool> {
    match std::fs::metadata(pid_file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other.with_context(|| pid_file.display().to_string())?,
    };
    let pid = process::read_pid(pid_file)?;
    let runs = process::exists(pid);
    if runs {
        process::signal(pid, Signal::TERM)?;
        wait_until("the operator has ended", GRACE, || !process::exists(pid))?;
    }
    std::fs::remove_file(pid_file).with_context(|| pid_file.display().to_string())?;
    Ok(runs)
}
