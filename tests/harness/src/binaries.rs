//! Builds the control plane's programs.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;

use crate::kubernetes::Kubernetes;
use crate::{digest, paths};

/// The stages that make kwok's nodes and pods behave like healthy ones. Some of its other stages make them fail at random.
const STAGES: [&str; 4] =
    ["node/fast/node-initialize.yaml", "pod/fast/pod-ready.yaml", "pod/fast/pod-complete.yaml", "pod/fast/pod-delete.yaml"];

/// The packages that know their version only from the linker: the servers' and
/// the clients', which is in their user agent.
const VERSIONED: [&str; 2] = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"];

/// The programs of a control plane, built.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// kubectl, kwok with its stages and the supervisor: always those of the version that Pilotage is developed on.
    tools: PathBuf,
    /// etcd and the programs of Kubernetes.
    servers: PathBuf,
    /// A folder with programs to use instead of ours.
    assets: Option<PathBuf>,
}

impl Binaries {
    /// The folder that the servers are in.
    pub fn dir(&self) -> &Path {
        &self.servers
    }

    /// How to start one: the program and its first arguments.
    pub fn argv(&self, program: &str) -> Vec<String> {
        let own = |path: PathBuf| path.to_string_lossy().into_owned();
        if let Some(asset) = self.asset(program) {
            return vec![own(asset)];
        }
        match program {
            "kubectl" | "kwok" | "supervisor" => vec![own(self.tools.join(program))],
            _ => vec![own(self.servers.join("controlplane")), program.to_owned()],
        }
    }

    /// kwok's stage files.
    pub(crate) fn stages(&self) -> impl Iterator<Item = PathBuf> {
        STAGES.iter().map(|stage| self.tools.join(file_name(stage)))
    }

    fn asset(&self, program: &str) -> Option<PathBuf> {
        let path = self.assets.as_ref()?.join(program);
        path.is_file().then_some(path)
    }
}

/// Builds the programs of a version if that was not done yet, and reports it on standard error.
///
/// If `KUBEBUILDER_ASSETS` names a folder with etcd and kube-apiserver, its programs are used instead of ours, but not where another version
/// is asked for than the one that Pilotage is developed on.
///
/// # Errors
/// If they can't be built.
pub fn binaries(kubernetes: &Kubernetes) -> Result<Binaries> {
    let tools = built(&Kubernetes::developed_on()?)?;
    let assets = if kubernetes.is_other() { None } else { assets() };
    Ok(Binaries { tools, servers: built(kubernetes)?, assets })
}

/// The folder with what is built of a version.
fn built(kubernetes: &Kubernetes) -> Result<PathBuf> {
    let all = paths::target().join("controlplane");
    let dir = all.join(fingerprint(kubernetes)?);
    if !dir.is_dir() {
        std::fs::create_dir_all(&all)?;
        let lock = File::create(all.join("lock"))?;
        if lock.try_lock().is_err() {
            eprintln!("waiting for another build of the control plane…");
            lock.lock()?;
        }
        if !dir.is_dir() {
            build(kubernetes, &dir)?;
        }
    }
    Ok(dir)
}

fn assets() -> Option<PathBuf> {
    let dir = PathBuf::from(std::env::var_os("KUBEBUILDER_ASSETS")?);
    let complete = ["etcd", "kube-apiserver"].iter().all(|name| dir.join(name).is_file());
    complete.then_some(dir)
}

/// A short hash of everything that the build depends on. Of a version that Pilotage is not developed on only the servers are built.
fn fingerprint(kubernetes: &Kubernetes) -> Result<String> {
    let names = |all: &[&str]| all.iter().map(|name| name.as_bytes().to_vec()).collect::<Vec<_>>();
    let module = paths::module();
    if !kubernetes.is_other() {
        return Ok(digest::short([names(&STAGES), names(&VERSIONED), sources(&module, &["", "supervisor/"])?].concat()));
    }
    let modules = kubernetes.modules();
    let parts = [std::fs::read(module.join("main.go"))?, std::fs::read(modules)?, std::fs::read(modules.with_extension("sum"))?];
    Ok(format!("{kubernetes}-{}", digest::short([names(&VERSIONED), parts.to_vec()].concat())))
}

/// The names and contents of a Go module's files, in order.
fn sources(module: &Path, dirs: &[&str]) -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for dir in dirs {
        for entry in std::fs::read_dir(module.join(dir)).with_context(|| format!("the Go module in {}", module.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let source = Path::new(&name).extension().is_some_and(|extension| extension == "go");
            if source || name == "go.mod" || name == "go.sum" {
                files.push(format!("{dir}{name}"));
            }
        }
    }
    files.sort();
    let mut parts = Vec::new();
    for name in files {
        let content = std::fs::read(module.join(&name))?;
        parts.extend([name.into_bytes(), content]);
    }
    Ok(parts)
}

/// The registry and the programs that push to it.
///
/// # Errors
/// If it can't be built.
pub fn registry() -> Result<PathBuf> {
    program("registry", "tests/registry", ".")
}

/// Helm.
///
/// # Errors
/// If it can't be built.
pub fn helm() -> Result<PathBuf> {
    program("helm", "tests/helm", "helm.sh/helm/v4/cmd/helm")
}

/// What makes the image.
///
/// # Errors
/// If it can't be built.
pub fn release() -> Result<PathBuf> {
    program("release", "release", ".")
}

/// Builds one program of a Go module, if that was not done yet.
fn program(name: &str, module: &str, package: &str) -> Result<PathBuf> {
    let module = paths::other_module(module);
    let all = paths::target().join("controlplane");
    let program = all.join(format!("{name}-{}", digest::short(sources(&module, &[""])?)));
    if !program.is_file() {
        std::fs::create_dir_all(&all)?;
        let lock = File::create(all.join(format!("{name}.lock")))?;
        lock.lock()?;
        if !program.is_file() {
            eprintln!("building {name} from Go modules (first time: up to 3 minutes of one core; cached afterwards)…");
            let (partial, log) = (program.with_extension("partial"), program.with_extension("log"));
            let output = File::create(&log)?;
            let mut command = go();
            command
                .current_dir(&module)
                .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
                .arg(&partial)
                .arg(package)
                .stdin(Stdio::null())
                .stdout(output.try_clone()?)
                .stderr(output);
            if !run_reporting(name, &mut command)? {
                bail!("building {name} failed:\n{}", std::fs::read_to_string(&log)?);
            }
            std::fs::rename(&partial, &program).with_context(|| program.display().to_string())?;
            std::fs::remove_file(&log)?;
        }
    }
    Ok(program)
}

/// Builds into a folder that gets its name when it is complete.
fn build(kubernetes: &Kubernetes, dir: &Path) -> Result<()> {
    let servers = format!("etcd, kube-apiserver, kube-controller-manager and kube-scheduler of Kubernetes {}", kubernetes.version());
    let (tools, minutes) = if kubernetes.is_other() { ("", 7) } else { (", kubectl and kwok", 9) };
    eprintln!("building {servers}{tools} from Go modules (first time: about {minutes} minutes on 2 cores; cached afterwards)…");
    let partial = dir.with_added_extension("partial");
    if partial.exists() {
        std::fs::remove_dir_all(&partial)?;
    }
    std::fs::create_dir_all(&partial)?;
    let log = dir.with_added_extension("log");
    let output = File::create(&log)?;
    let mut command = go();
    command.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &linker_flags(kubernetes), "-o"]).arg(&partial);
    if kubernetes.is_other() {
        command.arg("-modfile").arg(kubernetes.modules()).arg(".");
    } else {
        command.args([".", "./supervisor", "k8s.io/kubernetes/cmd/kubectl", "sigs.k8s.io/kwok/cmd/kwok"]);
    }
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let wanted = wanted_go().unwrap_or_default();
    if !run_reporting(&format!("the control plane of Kubernetes {kubernetes}"), &mut command)? {
        let log = std::fs::read_to_string(&log)?;
        bail!("building the control plane failed ({wanted} or later is needed):\n{log}");
    }
    if !kubernetes.is_other() {
        copy_stages(&partial)?;
    }
    std::fs::rename(&partial, dir).with_context(|| dir.display().to_string())?;
    std::fs::remove_file(&log)?;
    Ok(())
}

/// kwok's stage files are in its module.
fn copy_stages(dir: &Path) -> Result<()> {
    let kwok = go_json(&["list", "-m", "-json", "sigs.k8s.io/kwok"])?;
    let kwok = Path::new(kwok["Dir"].as_str().context("go list: no folder")?);
    for stage in STAGES {
        let content = std::fs::read(kwok.join("kustomize/stage").join(stage)).with_context(|| stage.to_owned())?;
        // It is written, not copied: in the module cache the file is read-only.
        std::fs::write(dir.join(file_name(stage)), content)?;
    }
    Ok(())
}

/// Prints what runs, because Rust may be built at the same time.
fn run_reporting(what: &str, command: &mut Command) -> Result<bool> {
    const EVERY: u64 = 15;
    let start = Instant::now();
    let mut next = EVERY;
    let mut child = command.spawn().map_err(not_started)?;
    loop {
        if let Some(status) = child.try_wait()? {
            if status.success() {
                eprintln!("{what} is built, in {}", elapsed(start));
            }
            return Ok(status.success());
        }
        if start.elapsed().as_secs() >= next {
            next += EVERY;
            let _ = writeln!(std::io::stderr(), "building {what}: {} so far", elapsed(start));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn elapsed(start: Instant) -> String {
    let seconds = start.elapsed().as_secs();
    format!("{}m{:02}s", seconds / 60, seconds % 60)
}

/// Without these everything says that it is version 0.0.0.
fn linker_flags(kubernetes: &Kubernetes) -> String {
    let package = "k8s.io/component-base/version";
    let (version, minor) = (kubernetes.version(), kubernetes.minor());
    format!("-s -w -X {package}.gitVersion={version} -X {package}.gitMajor=1 -X {package}.gitMinor={minor}")
}

fn go() -> Command {
    let mut command = Command::new("go");
    command.current_dir(paths::module()).env("CGO_ENABLED", "0").env("GOWORK", "off");
    command
}

fn go_json(args: &[&str]) -> Result<Value> {
    let output = go().args(args).stdin(Stdio::null()).output().map_err(not_started)?;
    if !output.status.success() {
        bail!("go {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn not_started(error: std::io::Error) -> anyhow::Error {
    if error.kind() != std::io::ErrorKind::NotFound {
        return anyhow::Error::new(error).context("starting go");
    }
    anyhow!(
        "the test control plane is built with Go, and there is no `go` in PATH; install the version that tests/controlplane/go.mod \
         names ({}), or a later one",
        wanted_go().unwrap_or_default()
    )
}

/// The version that go.mod names, read without Go.
fn wanted_go() -> Option<String> {
    let text = std::fs::read_to_string(paths::module().join("go.mod")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("go ")).map(|version| format!("Go {version}"))
}

fn file_name(stage: &str) -> &str {
    stage.rsplit('/').next().unwrap_or(stage)
}
