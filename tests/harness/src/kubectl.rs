//! Running kubectl.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Runs kubectl as one user.
#[derive(Debug, Clone)]
pub struct Kubectl {
    argv: Vec<OsString>,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

/// The result of a run of kubectl.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Whether it succeeded.
    pub ok: bool,
}

impl Kubectl {
    pub(crate) fn new(argv: Vec<OsString>, kubeconfig: &Path, cache: &Path) -> Self {
        Self { argv, kubeconfig: kubeconfig.to_owned(), cache: cache.to_owned() }
    }

    /// The command, for callers with special needs.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .env("KUBECONFIG", &self.kubeconfig)
            // Nothing in the home folder is written or has an effect.
            .env("KUBECACHEDIR", &self.cache)
            .env("KUBERC", "off")
            .stdin(Stdio::null());
        command
    }

    /// Runs it. An error means that it could not be run. The output says whether it succeeded.
    pub fn run(&self, args: &[&str]) -> Result<Output> {
        let output = self.command().args(args).output().context("starting kubectl")?;
        Ok(output.into())
    }

    /// Runs it with a standard input.
    pub fn run_with(&self, args: &[&str], input: &str) -> Result<Output> {
        let mut child = self
            .command()
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting kubectl")?;
        let stdin = child.stdin.take();
        let written = std::thread::scope(|scope| {
            // The input is written while the output is read: both pipes may fill up.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
            child.wait_with_output()
        });
        Ok(written?.into())
    }

    /// Runs it and returns its standard output. If it does not succeed, that is an error.
    pub fn ok(&self, args: &[&str]) -> Result<String> {
        self.run(args)?.success(args)
    }

    /// Applies manifests.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let args = ["apply", "-f", "-"];
        self.run_with(&args, yaml)?.success(&args)
    }

    /// Runs it with `-o json` and parses what it prints.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        let args = [args, &["-o", "json"]].concat();
        let text = self.ok(&args)?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {}: no JSON: {text}", args.join(" ")))
    }
}

impl Output {
    fn success(self, args: &[&str]) -> Result<String> {
        if !self.ok {
            bail!("kubectl {}: {}", args.join(" "), self.stderr.trim());
        }
        Ok(self.stdout)
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            ok: output.status.success(),
        }
    }
}
