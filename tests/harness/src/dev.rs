//! The control plane of `make up`. It stays, so that people can try things.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::controlplane::{ControlPlane, Options};
use crate::install::{self, Operator};
use crate::kubernetes::Kubernetes;
use crate::process::wait_until;
use crate::{audit_check, paths, supervisor};

/// How long it may take until the operator leads. A predecessor that was killed holds the Lease until it expires.
const PATIENCE: Duration = Duration::from_mins(1);

/// Its folder.
pub fn dir() -> PathBuf {
    paths::target().join("dev")
}

/// Starts it, or attaches to it if it runs already. Returns whether it ran.
///
/// # Errors
/// If it can't be started, or one of another version runs.
pub fn up() -> Result<(ControlPlane, bool)> {
    if supervisor::runs(&dir()) {
        let running = ControlPlane::attach(&dir()).context("it is being started, or hangs; `pilotage-dev down` ends it")?;
        let (runs, wanted) = (running.kubernetes(), Kubernetes::from_env()?);
        ensure!(*runs == wanted, "one of Kubernetes {runs} runs, not of {wanted}; `pilotage-dev down` ends it");
        return Ok((running, true));
    }
    let options = Options { dir: Some(dir()), detached: true, ..Options::default() };
    Ok((ControlPlane::start(&options)?, false))
}

/// Installs Pilotage and starts the operator with the rights of its own `ServiceAccount`, and only those. Its log and pid file are in the
/// control plane's folder.
///
/// # Errors
/// If something is refused, or the operator does not become ready.
pub fn operate(control_plane: &ControlPlane, program: &Path) -> Result<Operator> {
    operate_with(control_plane, program, &[])
}

/// The same with additional environment variables for the operator.
///
/// # Errors
/// See [`operate`].
pub fn operate_with(control_plane: &ControlPlane, program: &Path, told: &[(&str, &str)]) -> Result<Operator> {
    install::install(control_plane, &paths::workspace())?;
    let token = control_plane.service_account_token("pilotage-system", "pilotage")?;
    let mut credentials = File::options().create(true).append(true).open(credentials_file(control_plane))?;
    writeln!(credentials, "{}", audit_check::credential(&token)?)?;
    let kubeconfig = control_plane.token_kubeconfig(&token, None)?;
    // Any port: tests and benches run in parallel, and read the API server, not this.
    let env = [&[("PILOTAGE_ADMIN_ADDRESS", "127.0.0.1:0")], install::way(control_plane.lends_tokens()), told].concat();
    let mut operator = Operator::start(program, &kubeconfig, &control_plane.dir().join("operator.log"), &env)?;
    let kubectl = control_plane.kubectl();
    let holder = ["get", "lease", "pilotage", "-n", "pilotage-system", "-o", "jsonpath={.spec.holderIdentity}", "--ignore-not-found"];
    let mine = format!("-{}", operator.pid());
    wait_until("the operator leads", PATIENCE, || !operator.runs() || kubectl.run(&holder).is_ok_and(|o| o.stdout.ends_with(&mine)))?;
    ensure!(operator.runs(), "the operator ended; see {}", control_plane.dir().join("operator.log").display());
    Ok(operator)
}

/// The credentials of all operators that [`operate`] started there. With them, the audit log distinguishes the operators from tests that
/// use the operator's account.
///
/// # Errors
/// If none was started.
pub fn credentials(control_plane: &ControlPlane) -> Result<Vec<String>> {
    let path = credentials_file(control_plane);
    Ok(std::fs::read_to_string(&path).with_context(|| path.display().to_string())?.lines().map(str::to_owned).collect())
}

fn credentials_file(control_plane: &ControlPlane) -> PathBuf {
    control_plane.dir().join("operator.credentials")
}

/// Like [`operate`], but it replaces the operator that ran before, and outlives this process.
///
/// # Errors
/// As for [`operate`].
pub fn run_operator(control_plane: &ControlPlane, program: &Path) -> Result<()> {
    install::stop_detached(&control_plane.dir().join("operator.pid"))?;
    operate(control_plane, program)?.detach();
    Ok(())
}

/// Ends it. Returns whether it ran. Its logs stay until the next start.
pub fn down() -> Result<bool> {
    let ran = supervisor::runs(&dir());
    install::stop_detached(&dir().join("operator.pid"))?;
    ControlPlane::stop_detached(&dir())?;
    Ok(ran)
}
