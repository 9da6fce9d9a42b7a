//! Starts a control plane, and offers what its tests need.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::binaries::{Binaries, binaries};
use crate::certificates::Authority;
use crate::kubeconfig::{self, Credential};
use crate::kubectl::Kubectl;
use crate::kubernetes::Kubernetes;
use crate::process::{self, Pid, Signal, wait_until};
use crate::processes::{self, Ports};
use crate::supervisor::{self, Spec, Supervisor};
use crate::{digest, nodes, paths, ports, readiness};

/// The variable that names the folder of a running control plane.
pub const ENVIRONMENT: &str = "PILOTAGE_CONTROLPLANE";

/// The file in a control plane's folder that says where it listens. It is written when the control plane is ready.
const DESCRIPTION: &str = "controlplane.json";

/// How Pilotage is installed on a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Installed {
    /// As its version needs.
    ForItsVersion,
    /// As on versions without constrained impersonation, whatever the version.
    LendingTokens,
}

/// How a control plane is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The version of its servers. `None`: the one that [`crate::kubernetes::ENVIRONMENT`] names, or else the one that Pilotage is
    /// developed on.
    pub kubernetes: Option<Kubernetes>,
    /// How Pilotage is installed there.
    pub installed: Installed,
    /// Its folder, which is created anew. `None`: a folder of its own, which is removed at the end unless the variable `KEEP` is 1.
    pub dir: Option<PathBuf>,
    /// Whether etcd waits until its writes are on the disk. Tests of behaviour need not wait. Measurements must.
    pub durable_etcd: bool,
    /// Whether the scheduler runs.
    pub scheduler: bool,
    /// How many nodes kwok simulates. With 0 it does not run.
    pub nodes: usize,
    /// Further arguments of kube-apiserver, such as feature gates.
    pub apiserver_args: Vec<String>,
    /// Further arguments of kube-controller-manager.
    pub controller_manager_args: Vec<String>,
    /// Whether it outlives its owner. `pilotage-dev down` or [`ControlPlane::stop_detached`] ends it.
    pub detached: bool,
    /// How long to wait at most: first for each process, then for everything else.
    pub ready_within: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            kubernetes: None,
            installed: match std::env::var("PILOTAGE_DELEGATION") {
                Ok(way) if way == "token" => Installed::LendingTokens,
                _ => Installed::ForItsVersion,
            },
            dir: None,
            durable_etcd: false,
            scheduler: true,
            nodes: 3,
            apiserver_args: Vec::new(),
            controller_manager_args: Vec::new(),
            detached: false,
            ready_within: Duration::from_secs(90),
        }
    }
}

/// A running control plane. Dropping the value that [`ControlPlane::start`] returned ends it, unless it is detached.
#[derive(Debug)]
pub struct ControlPlane {
    dir: PathBuf,
    server: String,
    kubernetes: Kubernetes,
    lends_tokens: bool,
    binaries: Binaries,
    supervisor: Option<Supervisor>,
}

#[derive(Serialize, Deserialize)]
struct Description {
    server: String,
    /// The minor version, such as `1.36`.
    kubernetes: String,
    lends_tokens: bool,
}

impl ControlPlane {
    /// Starts one and waits until it is ready for tests. Before, it builds the programs if that was not done yet.
    pub fn start(options: &Options) -> Result<Self> {
        let kubernetes = options.kubernetes.clone().map_or_else(Kubernetes::from_env, Ok)?;
        let binaries = binaries(&kubernetes)?;
        let temporary = options.dir.is_none();
        let dir = match &options.dir {
            Some(dir) => std::path::absolute(dir)?,
            None => temporary_dir()?,
        };
        anyhow::ensure!(!supervisor::runs(&dir), "a control plane runs in {}", dir.display());
        let remove = temporary && std::env::var_os("KEEP").is_none_or(|keep| keep != "1");
        let mut retries = 3;
        loop {
            match Self::start_once(&dir, remove, options, &kubernetes, &binaries) {
                // Somebody took a port after we had found it free.
                Err(error) if retries > 0 && error.to_string().contains("address already in use") => retries -= 1,
                Err(error) => {
                    if remove {
                        // The error contains the ends of the logs.
                        let _ = std::fs::remove_dir_all(&dir);
                    }
                    return Err(error);
                }
                ok => return ok,
            }
        }
    }

    fn start_once(dir: &Path, remove: bool, options: &Options, kubernetes: &Kubernetes, binaries: &Binaries) -> Result<Self> {
        if dir.exists() {
            std::fs::remove_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        std::fs::create_dir_all(dir.join("logs"))?;
        std::fs::create_dir_all(dir.join("kubeconfigs"))?;
        let authority = Authority::create(&dir.join("pki"))?;
        let [etcd, etcd_peer, apiserver] = ports::free()?;
        let ports = Ports { etcd, etcd_peer, apiserver };
        let server = format!("https://127.0.0.1:{apiserver}");
        write_policy(&dir.join("audit-policy.yaml"))?;
        write_identity(&authority, &server, "admin", &["system:masters"], &dir.join("kubeconfig"))?;
        link_kubectl(dir, binaries)?;
        let spec = Spec {
            dir: dir.to_owned(),
            processes: processes::all(dir, &authority, &ports, &server, options, binaries)?,
            // In a folder that is removed, there is nothing to wait for.
            stop_seconds: if remove { 0 } else { 5 },
            remove,
        };
        let supervisor = if options.detached {
            Supervisor::start_detached(binaries, &spec)?;
            None
        } else {
            Some(Supervisor::start(binaries, &spec)?)
        };
        let lends_tokens = options.installed == Installed::LendingTokens || !kubernetes.has_constrained_impersonation();
        let control_plane =
            Self { dir: dir.to_owned(), server, kubernetes: kubernetes.clone(), lends_tokens, binaries: binaries.clone(), supervisor };
        if let Err(error) = control_plane.wait_ready(options) {
            let tails: String = spec.processes.iter().map(|p| supervisor::tail(&p.log)).collect();
            if options.detached {
                supervisor::stop(dir)?;
            }
            return Err(error.context(tails));
        }
        let description = Description {
            server: control_plane.server.clone(),
            kubernetes: kubernetes.to_string(),
            lends_tokens: control_plane.lends_tokens,
        };
        std::fs::write(dir.join(DESCRIPTION), serde_json::to_vec(&description)?)?;
        Ok(control_plane)
    }

    fn wait_ready(&self, options: &Options) -> Result<()> {
        let kubectl = self.kubectl();
        if options.nodes > 0 {
            let args = ["create", "--validate=false", "-f", "-"];
            let created = kubectl.run_with(&args, &nodes::manifests(options.nodes))?;
            anyhow::ensure!(created.ok, "creating the nodes: {}", created.stderr);
        }
        readiness::wait(&kubectl, options.nodes, options.ready_within)?;
        // The administrator has all rights by name too, not only by system:masters: access reviews about the owner of a Stage are made
        // without the groups that the API server reserves.
        let bind = ["create", "clusterrolebinding", "administrator", "--clusterrole=cluster-admin", "--user=admin"];
        let bound = kubectl.run(&bind)?;
        anyhow::ensure!(bound.ok || bound.stderr.contains("already exists"), "binding the administrator: {}", bound.stderr);
        Ok(())
    }

    /// Attaches to a control plane that runs in this folder.
    pub fn attach(dir: &Path) -> Result<Self> {
        let dir = std::path::absolute(dir)?;
        anyhow::ensure!(supervisor::runs(&dir), "no control plane runs in {}", dir.display());
        let path = dir.join(DESCRIPTION);
        let description = std::fs::read(&path).with_context(|| path.display().to_string())?;
        let description: Description = serde_json::from_slice(&description)?;
        let kubernetes: Kubernetes = description.kubernetes.parse()?;
        let Description { server, lends_tokens, .. } = description;
        Ok(Self { dir, server, binaries: binaries(&kubernetes)?, kubernetes, lends_tokens, supervisor: None })
    }

    /// Attaches to the one that `PILOTAGE_CONTROLPLANE` names, or else starts
    /// one.
    pub fn from_env() -> Result<Self> {
        match std::env::var_os(ENVIRONMENT) {
            Some(dir) if !dir.is_empty() => Self::attach(Path::new(&dir)),
            _ => Self::start(&Options::default()),
        }
    }

    /// Ends a detached control plane.
    pub fn stop_detached(dir: &Path) -> Result<()> {
        supervisor::stop(dir)
    }

    /// Whether this value started it, and ends it.
    pub fn owned(&self) -> bool {
        self.supervisor.is_some()
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The version of its servers.
    pub fn kubernetes(&self) -> &Kubernetes {
        &self.kubernetes
    }

    /// Its programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The API server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The certificate of the authority that signed the API server's.
    pub fn ca_pem(&self) -> Result<String> {
        self.authority().pem()
    }

    /// The audit log, for [`crate::audit`].
    pub fn audit_log(&self) -> PathBuf {
        self.dir.join("audit.log")
    }

    /// The log of one of its processes.
    pub fn log(&self, name: &str) -> PathBuf {
        log(&self.dir, name)
    }

    /// The folder with `kubectl`, for `PATH`.
    pub fn bin(&self) -> PathBuf {
        self.dir.join("bin")
    }

    /// A kubeconfig of a user who may do everything.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// A kubeconfig of a user with a certificate.
    pub fn user_kubeconfig(&self, name: &str, groups: &[&str]) -> Result<PathBuf> {
        let path = self.kubeconfig_file(&[&["user", name], groups].concat());
        if !path.exists() {
            write_identity(&self.authority(), &self.server, name, groups, &path)?;
        }
        Ok(path)
    }

    /// A kubeconfig of a `ServiceAccount`, which must exist, with a new token.
    pub fn service_account_kubeconfig(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.service_account_token(namespace, name)?;
        self.write_token(&["sa", namespace, name], &self.server, &token)
    }

    /// A new token of a `ServiceAccount`, which must exist.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let token = self.kubectl().ok(&["create", "token", name, "--namespace", namespace, "--duration", "24h"])?;
        Ok(token.trim().to_owned())
    }

    /// A kubeconfig with a token, for this server or for a proxy to it.
    pub fn token_kubeconfig(&self, token: &str, server: Option<&str>) -> Result<PathBuf> {
        let server = server.unwrap_or(&self.server);
        self.write_token(&["token", server, token], server, token)
    }

    /// kubectl as a user who may do everything.
    pub fn kubectl(&self) -> Kubectl {
        self.kubectl_as(&self.admin_kubeconfig())
    }

    /// Whether the operator acts as delegates with lent tokens there, as on older versions.
    pub fn lends_tokens(&self) -> bool {
        self.lends_tokens
    }

    /// kubectl with a kubeconfig.
    pub fn kubectl_as(&self, kubeconfig: &Path) -> Kubectl {
        let argv = self.binaries.argv("kubectl").into_iter().map(Into::into).collect();
        Kubectl::new(argv, kubeconfig, &self.dir.join("kubectl-cache"))
    }

    /// The process with this name: `etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `kwok` or `supervisor`.
    pub fn pid(&self, name: &str) -> Result<Pid> {
        process::read_pid(&self.dir.join(format!("{name}.pid")))
    }

    /// Sends a signal to one of the processes. A killed process is started again at once.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        process::signal(self.pid(name)?, signal)
    }

    /// Kills one of the processes, and prevents that it is started again.
    pub fn stop_process(&self, name: &str) -> Result<()> {
        let pid = self.pid(name)?;
        std::fs::write(self.hold(name), "")?;
        process::signal(pid, Signal::KILL)?;
        wait_until(&format!("{name} has ended"), Duration::from_secs(10), || !process::exists(pid))
    }

    /// Starts a process again that [`ControlPlane::stop_process`] has killed. Waits until the API server is ready.
    pub fn resume_process(&self, name: &str) -> Result<()> {
        std::fs::remove_file(self.hold(name))?;
        wait_until(&format!("{name} has started"), Duration::from_secs(10), || self.pid(name).is_ok())?;
        self.wait_api_ready(Duration::from_mins(1))
    }

    /// Waits until the API server says that it is ready.
    pub fn wait_api_ready(&self, within: Duration) -> Result<()> {
        let kubectl = self.kubectl();
        let args = ["get", "--raw=/readyz", "--request-timeout=5s"];
        wait_until("the API server is ready", within, || kubectl.run(&args).is_ok_and(|output| output.ok))
    }

    fn hold(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.hold"))
    }

    fn authority(&self) -> Authority {
        Authority::open(&self.dir.join("pki"))
    }

    fn write_token(&self, key: &[&str], server: &str, token: &str) -> Result<PathBuf> {
        let path = self.kubeconfig_file(key);
        kubeconfig::write(&path, server, &self.ca_pem()?, "token", &Credential::Token(token))?;
        Ok(path)
    }

    /// The file for a kubeconfig. User names may contain characters that file names may not.
    fn kubeconfig_file(&self, key: &[&str]) -> PathBuf {
        self.dir.join("kubeconfigs").join(digest::short(key))
    }
}

pub(crate) fn log(dir: &Path, name: &str) -> PathBuf {
    dir.join("logs").join(format!("{name}.log"))
}

pub(crate) fn write_identity(authority: &Authority, server: &str, user: &str, groups: &[&str], path: &Path) -> Result<()> {
    let identity = authority.client(user, groups)?;
    kubeconfig::write(path, server, &authority.pem()?, user, &Credential::Certificate(&identity))
}

fn link_kubectl(dir: &Path, binaries: &Binaries) -> Result<()> {
    std::fs::create_dir_all(dir.join("bin"))?;
    std::os::unix::fs::symlink(&binaries.argv("kubectl")[0], dir.join("bin/kubectl"))?;
    Ok(())
}

fn write_policy(path: &Path) -> Result<()> {
    let policy = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted, Panic]
rules:
- level: Metadata
";
    std::fs::write(path, policy).with_context(|| path.display().to_string())
}

/// A new folder in the build's output. Old folders of control planes that failed are removed after a day.
fn temporary_dir() -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const DAY: Duration = Duration::from_hours(24);
    let all = paths::target().join("controlplane/run");
    std::fs::create_dir_all(&all)?;
    for entry in std::fs::read_dir(&all)?.flatten() {
        let age = entry
            .metadata()
            .and_then(|metadata| metadata.modified())
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok());
        if age.is_some_and(|age| age > DAY) && !supervisor::runs(&entry.path()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    Ok(all.join(format!("{}-{number}", std::process::id())))
}
