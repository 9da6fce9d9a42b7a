//! A real OCI registry on loopback, and two programs that use it as people and pipelines do.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::certificates::Authority;
use crate::supervisor::{Probe, Process, Spec, Supervisor};
use crate::{ControlPlane, binaries, ports};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A registry. It ends with this value, or with the process that created it.
#[derive(Debug)]
pub struct Registry {
    dir: PathBuf,
    program: PathBuf,
    port: u16,
    /// The certificate authority's file, for https.
    authority: Option<PathBuf>,
    /// The only user. `None`: everybody may use it.
    user: Option<(String, String)>,
    supervisor: Option<Supervisor>,
    plane: crate::binaries::Binaries,
}

impl Registry {
    /// A registry for everybody that uses http.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start(plane: &ControlPlane) -> Result<Self> {
        Self::new(plane, false, None)
    }

    /// A registry that uses https, with a certificate authority of its own. It accepts only this user.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn start_private(plane: &ControlPlane, user: &str, password: &str) -> Result<Self> {
        Self::new(plane, true, Some((user.to_owned(), password.to_owned())))
    }

    fn new(plane: &ControlPlane, tls: bool, user: Option<(String, String)>) -> Result<Self> {
        let program = binaries::registry()?;
        let name = format!("registry-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let dir = plane.dir().join(name);
        std::fs::create_dir_all(&dir)?;
        let [port] = ports::free()?;
        let authority = tls.then(|| Authority::create(&dir.join("pki")).map(|authority| authority.file("ca.crt"))).transpose()?;
        let mut registry = Self { dir, program, port, authority, user, supervisor: None, plane: plane.binaries().clone() };
        registry.configure()?;
        registry.resume()?;
        Ok(registry)
    }

    fn configure(&self) -> Result<()> {
        let mut parts = vec![
            "version: 0.1".to_owned(),
            "log: {level: info, accesslog: {disabled: false}}".to_owned(),
            format!("storage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}", self.storage().display()),
            format!("http:\n  addr: 127.0.0.1:{}", self.port),
        ];
        if self.authority.is_some() {
            let pki = self.dir.join("pki");
            let (certificate, key) = (pki.join("apiserver.crt"), pki.join("apiserver.key"));
            parts.push(format!("  tls: {{certificate: {}, key: {}}}", certificate.display(), key.display()));
        }
        if let Some((user, password)) = &self.user {
            let users = self.dir.join("htpasswd");
            std::fs::write(&users, self.run(&["htpasswd", user, password])?)?;
            parts.push(format!("auth:\n  htpasswd: {{realm: pilotage-test, path: {}}}", users.display()));
        }
        let path = self.dir.join("config.yml");
        std::fs::write(&path, parts.join("\n")).with_context(|| path.display().to_string())
    }

    /// Ends its process. The stored data stays.
    pub fn stop(&mut self) {
        self.supervisor = None;
    }

    /// Starts its process again, at the same address.
    ///
    /// # Errors
    /// Where it does not start.
    pub fn resume(&mut self) -> Result<()> {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        let process = Process {
            name: "registry".to_owned(),
            argv: vec![text(&self.program)?, "serve".to_owned(), text(&self.dir.join("config.yml"))?],
            env: BTreeMap::from([("OTEL_TRACES_EXPORTER".to_owned(), "none".to_owned())]),
            log: self.log(),
            restart: false,
            ready: Some(Probe { url: format!("{scheme}://127.0.0.1:{}/", self.port), ca: self.authority.clone(), seconds: 30 }),
        };
        let spec = Spec { dir: self.dir.clone(), processes: vec![process], stop_seconds: 0, remove: false };
        self.supervisor = Some(Supervisor::start(&self.plane, &spec)?);
        Ok(())
    }

    /// Host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of a repository, as requests and pipelines write it.
    pub fn url(&self, repository: &str) -> String {
        format!("oci://{}/{repository}", self.host())
    }

    /// Its certificate authority, where it speaks https (PEM).
    ///
    /// # Errors
    /// Where it can't be read.
    pub fn authority(&self) -> Result<Option<String>> {
        self.authority.as_ref().map(std::fs::read_to_string).transpose().context("the registry's certificate authority")
    }

    /// The file of its certificate authority, if it uses https.
    pub fn authority_file(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// What it wrote, and who asked it for what.
    pub fn log(&self) -> PathBuf {
        self.dir.join("registry.log")
    }

    /// The folder with all its data.
    pub fn storage(&self) -> PathBuf {
        self.dir.join("storage")
    }

    /// The file of a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.storage().join("docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// Pushes a folder as `flux push artifact` does, and returns the digest.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn push_flux(&self, reference: &str, folder: &Path) -> Result<String> {
        let said = self.ask(&self.dir, &["flux", "push"], reference, &[&text(folder)?])?;
        let (_, digest) = said.trim().split_once('@').context("flux prints no digest")?;
        Ok(digest.to_owned())
    }

    /// Pulls an artifact into a folder as `flux pull artifact` does, and returns the revision in it.
    ///
    /// # Errors
    /// Where it can't be pulled.
    pub fn pull_flux(&self, reference: &str, folder: &Path) -> Result<String> {
        std::fs::create_dir_all(folder)?;
        let said = self.ask(&self.dir, &["flux", "pull"], reference, &[&text(folder)?])?;
        Ok(said.trim().to_owned())
    }

    /// Pushes a folder with `oras push`. `files` are its arguments, and may contain further options. Returns the digest.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn push_oras(&self, reference: &str, folder: &Path, files: &[&str]) -> Result<String> {
        let said = self.ask(folder, &["oras", "push", "--no-tty"], reference, files)?;
        let digest = said.lines().find_map(|line| line.strip_prefix("Digest: ")).context("oras prints no digest")?;
        Ok(digest.trim().to_owned())
    }

    /// Pulls an artifact into a folder with `oras pull`.
    ///
    /// # Errors
    /// Where it can't be pulled.
    pub fn pull_oras(&self, reference: &str, folder: &Path) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        self.ask(folder, &["oras", "pull", "--no-tty"], reference, &[]).map(|_| ())
    }

    /// Runs a command about something in this registry, as its user.
    fn ask(&self, folder: &Path, command: &[&str], reference: &str, more: &[&str]) -> Result<String> {
        let mut args: Vec<String> = command.iter().map(|part| (*part).to_owned()).collect();
        match &self.authority {
            Some(authority) => args.extend(["--ca-file".to_owned(), text(authority)?]),
            None => args.push("--plain-http".to_owned()),
        }
        if let Some((user, password)) = &self.user {
            args.extend(["--username", user, "--password", password].map(str::to_owned));
        }
        args.push(format!("{}/{reference}", self.host()));
        args.extend(more.iter().map(|part| (*part).to_owned()));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.run_in(folder, &args)
    }

    /// Creates an index of the artifacts with these tags, with oras.
    ///
    /// # Errors
    /// Where it is refused.
    pub fn push_index(&self, reference: &str, tags: &[&str]) -> Result<()> {
        let reference = format!("{}/{reference}", self.host());
        let mut args = vec!["oras", "manifest", "index", "create"];
        if self.authority.is_none() {
            args.push("--plain-http");
        }
        args.push(&reference);
        args.extend(tags);
        self.run(&args).map(|_| ())
    }

    /// Runs oras as it is told, in this folder.
    ///
    /// # Errors
    /// Where it fails.
    pub fn oras(&self, folder: &Path, args: &[&str]) -> Result<String> {
        self.run_in(folder, &[&["oras"], args].concat())
    }

    fn run(&self, args: &[&str]) -> Result<String> {
        self.run_in(&self.dir, args)
    }

    fn run_in(&self, folder: &Path, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.program)
            .args(args)
            .current_dir(folder)
            // Not with anybody's own credentials.
            .env("DOCKER_CONFIG", &self.dir)
            .stdin(Stdio::null())
            .output()
            .with_context(|| self.program.display().to_string())?;
        ensure!(output.status.success(), "{}: {}", args[0], String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
        if std::env::var_os("KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is no text", path.display()))?.to_owned())
}
