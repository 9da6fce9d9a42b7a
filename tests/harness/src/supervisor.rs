//! Processes that end together with their owner.
//!
//! A [`Supervisor`] is a process that runs others. It stops them when its standard input ends. This happens however its owner ends: the
//! kernel closes the pipe of a killed process too. If the supervisor itself is killed, the kernel kills what it runs (on Linux).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use crate::binaries::Binaries;
use crate::process::{self, Signal, wait_until};

/// What a supervisor runs.
#[derive(Debug, Clone, Serialize)]
pub struct Spec {
    /// The folder for pid files, and the processes' working folder.
    pub dir: PathBuf,
    /// The processes in the order of their start. Each is started when the one before is ready. The first is stopped last, because the
    /// others depend on it.
    pub processes: Vec<Process>,
    /// How long a process may take to end before it is killed. With 0 all are killed at once.
    pub stop_seconds: u32,
    /// Whether the folder is removed after an orderly end.
    pub remove: bool,
}

/// A process to run.
#[derive(Debug, Clone, Serialize)]
pub struct Process {
    /// Its name, unique in the spec. While it runs, its pid is in `<name>.pid`.
    pub name: String,
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Additions to the environment.
    pub env: BTreeMap<String, String>,
    /// The file for its standard output and error.
    pub log: PathBuf,
    /// Whether it is started again after somebody killed it (SIGKILL, SIGTERM) or it ended without an error. If it fails, all are stopped.
    pub restart: bool,
    /// How to find out that it is ready.
    pub ready: Option<Probe>,
}

/// A URL that answers 200 once a process is ready.
#[derive(Debug, Clone, Serialize)]
pub struct Probe {
    /// The URL.
    pub url: String,
    /// For `https`, the file of the authority.
    pub ca: Option<PathBuf>,
    /// How long to wait at most.
    pub seconds: u32,
}

/// A running supervisor. Dropping it stops its processes, unless it was started
/// detached.
#[derive(Debug)]
pub struct Supervisor {
    dir: PathBuf,
    /// `None` if it is detached.
    child: Option<Child>,
}

/// The longest time that a proper stop takes.
const PATIENCE: Duration = Duration::from_secs(30);

impl Supervisor {
    /// Starts the processes and waits until all are ready.
    pub fn start(binaries: &Binaries, spec: &Spec) -> Result<Self> {
        Self::launch(binaries, spec, false)
    }

    /// Starts processes that outlive the caller. [`stop`] ends them.
    pub fn start_detached(binaries: &Binaries, spec: &Spec) -> Result<()> {
        Self::launch(binaries, spec, true).map(drop)
    }

    fn launch(binaries: &Binaries, spec: &Spec, detached: bool) -> Result<Self> {
        std::fs::create_dir_all(&spec.dir)?;
        let file = spec.dir.join("supervisor.json");
        std::fs::write(&file, serde_json::to_vec_pretty(spec)?)?;
        let messages = spec.dir.join("supervisor.log");
        let mut command = Command::new(&binaries.argv("supervisor")[0]);
        command.arg("run").stdout(Stdio::piped());
        if detached {
            command.arg("--detached").stdin(Stdio::null()).stderr(File::create(&messages)?);
        } else {
            // It is not in the terminal's process group: Ctrl-C ends the owner, and that stops the processes in order.
            command.process_group(0).stdin(Stdio::piped());
        }
        let mut child = command.arg(&file).spawn().context("starting the supervisor")?;
        let mut said = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut said)?;
        }
        if said.trim() != "ready" {
            let status = child.wait()?;
            let reason = if detached { std::fs::read_to_string(&messages)? } else { String::new() };
            let names: Vec<_> = spec.processes.iter().map(|p| p.name.as_str()).collect();
            let tails: String = spec.processes.iter().map(|p| tail(&p.log)).collect();
            return Err(anyhow!("starting {}: {status}\n{reason}{tails}", names.join(", ")));
        }
        Ok(Self { dir: spec.dir.clone(), child: (!detached).then_some(child) })
    }

    /// Stops the processes and waits for their end.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        drop(child.stdin.take());
        let ended = wait_until("the supervisor has stopped everything", PATIENCE, || !matches!(child.try_wait(), Ok(None)));
        if ended.is_err() {
            child.kill()?;
        }
        child.wait()?;
        ended.with_context(|| self.dir.display().to_string())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// Whether a supervisor runs for this folder.
pub fn runs(dir: &Path) -> bool {
    process::locked(&dir.join("supervisor.lock"))
}

/// Stops a detached supervisor and what it runs.
pub fn stop(dir: &Path) -> Result<()> {
    if !runs(dir) {
        return Ok(());
    }
    let pid = process::read_pid(&dir.join("supervisor.pid"))?;
    process::signal(pid, Signal::TERM)?;
    if wait_until("the supervisor has stopped", PATIENCE, || !runs(dir)).is_err() {
        process::signal(pid, Signal::KILL)?;
        wait_until("the killed supervisor is gone", PATIENCE, || !runs(dir))?;
    }
    Ok(())
}

/// The end of a log, with a heading. Empty if there is no log.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    if lines.is_empty() {
        return String::new();
    }
    let end = lines[lines.len().saturating_sub(LINES)..].join("\n");
    format!("--- the end of {}:\n{end}\n", log.display())
}
