//! `pilotage-dev`: a control plane for development.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use pilotage_harness::process::{self, Pid, Signal};
use pilotage_harness::watch_recorder::WatchRecorder;
use pilotage_harness::{ControlPlane, Kubernetes, Options, audit_check, binaries, controlplane, demo, dev, kubernetes, selection};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const USAGE: &str = "usage: pilotage-dev COMMAND

  build [--all]                    builds the programs of the control plane; and the registry, Helm and what makes the image
  run [--operator PROGRAM [--trail]] -- CMD
                                   runs a command with a control plane of its own
  up [--operator PROGRAM]          starts a control plane that stays, or reuses the running one
  down                             ends it
  tests [--essentials]             reads what tests there are (`cargo test -- --list`), and prints the arguments with which those that
                                   can hold on this version run; on standard error, which are left out and why
  demo --operator PROGRAM          plays the example from development to production

  With --kubernetes VERSION after COMMAND, such as 1.33, the control plane is of that version. It does the same as the variable
  PILOTAGE_KUBERNETES. Without, it is of the version that Pilotage is developed on.
  With --operator Pilotage is installed, and that program runs as its operator, under the rights that deploy/ gives it.
  With --trail the command must be all the tests: when it has succeeded, the audit log is read, and it fails after all where the
  operator wrote to a target as anybody but whom a plan names, was refused what no test means to be refused, or holds a right that
  it never used.";

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("pilotage-dev: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[OsString]) -> Result<ExitCode> {
    if let [command, flag, version, rest @ ..] = args
        && flag == "--kubernetes"
    {
        return on(version, command, rest);
    }
    match args.first().and_then(|command| command.to_str()) {
        Some("build") => build(args.get(1).is_some_and(|flag| flag == "--all")),
        Some("run") => {
            let (operator, rest) = operator(&args[1..])?;
            let (judged, rest) = match rest {
                [flag, rest @ ..] if flag == "--trail" => (true, rest),
                _ => (false, rest),
            };
            let command = rest.strip_prefix(&[OsString::from("--")]).unwrap_or(rest);
            run(command, operator.as_deref(), judged)
        }
        Some("up") => up(operator(&args[1..])?.0.as_deref()),
        Some("down") => down(),
        Some("tests") => tests(args.get(1).is_some_and(|flag| flag == "--essentials")),
        Some("demo") => {
            let program = operator(&args[1..])?.0.context("demo: which operator? --operator PROGRAM")?;
            demo::run(&program)?;
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("{USAGE}"),
    }
}

/// Becomes this program with the variable set, so that everything that it starts follows it.
fn on(version: &OsStr, command: &OsStr, rest: &[OsString]) -> Result<ExitCode> {
    let kubernetes: Kubernetes = version.to_string_lossy().parse()?;
    let program = std::env::current_exe()?;
    let error = Command::new(&program).env(kubernetes::ENVIRONMENT, kubernetes.to_string()).arg(command).args(rest).exec();
    Err(error).with_context(|| program.display().to_string())
}

/// Removes `--operator PROGRAM` from the beginning.
fn operator(args: &[OsString]) -> Result<(Option<PathBuf>, &[OsString])> {
    match args {
        [flag, program, rest @ ..] if flag == "--operator" => {
            let program = std::path::absolute(program)?;
            anyhow::ensure!(program.is_file(), "{} does not exist: build it first", program.display());
            Ok((Some(program), rest))
        }
        _ => Ok((None, args)),
    }
}

fn build(all: bool) -> Result<ExitCode> {
    println!("{}", binaries::binaries(&Kubernetes::from_env()?)?.dir().display());
    if all {
        for program in [binaries::registry()?, binaries::helm()?, binaries::release()?] {
            println!("{}", program.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn up(operator: Option<&Path>) -> Result<ExitCode> {
    let (control_plane, ran) = dev::up()?;
    let version = control_plane.kubernetes().version();
    if ran {
        println!("The control plane runs already. It is Kubernetes {version}.");
    } else {
        println!("The control plane runs. It is Kubernetes {version}. `pilotage-dev down` ends it.");
    }
    if let Some(program) = operator {
        dev::run_operator(&control_plane, program)?;
        println!("Pilotage is installed, and its operator runs: {}", program.display());
    }
    println!(
        "  export KUBECONFIG={}\n  export PATH={}:$PATH\n  audit log: {}",
        control_plane.admin_kubeconfig().display(),
        control_plane.bin().display(),
        control_plane.audit_log().display()
    );
    Ok(ExitCode::SUCCESS)
}

fn down() -> Result<ExitCode> {
    println!("{}", if dev::down()? { "The control plane has ended." } else { "No control plane runs." });
    Ok(ExitCode::SUCCESS)
}

fn tests(essentials: bool) -> Result<ExitCode> {
    let kubernetes = Kubernetes::from_env()?;
    let selected = selection::select(&kubernetes, essentials, &std::io::read_to_string(std::io::stdin())?)?;
    for left_out in &selected.left_out {
        eprintln!("not on Kubernetes {kubernetes}: {left_out}");
    }
    println!("{}", selected.arguments.join(" "));
    Ok(ExitCode::SUCCESS)
}

/// What the command's run waits for.
enum Event {
    Signal(i32),
    Ended(std::io::Result<std::process::ExitStatus>),
}

fn run(argv: &[OsString], operator: Option<&Path>, judged: bool) -> Result<ExitCode> {
    anyhow::ensure!(!argv.is_empty(), "run: which command?");
    let (events, inbox) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let sender = events.clone();
    std::thread::spawn(move || {
        for signal in &mut signals {
            let _ = sender.send(Event::Signal(signal));
        }
    });
    let control_plane = ControlPlane::start(&Options::default())?;
    if let Ok(Event::Signal(signal)) = inbox.try_recv() {
        return Ok(code(128 + signal));
    }
    let operator = operator.map(|program| dev::operate(&control_plane, program)).transpose()?;
    anyhow::ensure!(!judged || operator.is_some(), "--trail: of which operator?");
    let witness = judged.then(|| WatchRecorder::start(&control_plane)).transpose()?;
    let child = start(&control_plane, argv)?;
    let pid = Pid::from_child(&child);
    std::thread::spawn(move || {
        let mut child = child;
        let _ = events.send(Event::Ended(child.wait()));
    });
    let status = wait(&inbox, pid)?;
    if let Some(operator) = operator {
        operator.stop()?;
    }
    if let Some(witness) = witness {
        let seen = witness.stop()?;
        if status.success() {
            let findings = audit_check::read(&control_plane, &dev::credentials(&control_plane)?, &seen)?;
            println!("operator's trail: {} writes to targets, {} plans", findings.writes, seen.plans.len());
            if let Some(complaint) = findings.complaint() {
                bail!("the operator's trail in the audit log:\n{complaint}");
            }
        }
    }
    drop(control_plane);
    Ok(code(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())))
}

fn start(control_plane: &ControlPlane, argv: &[OsString]) -> Result<Child> {
    let mut path = control_plane.bin().into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    // With `bind`, the command ends with this process even if it is killed.
    let mut command = Command::new(&control_plane.binaries().argv("supervisor")[0]);
    // What `cargo run` sets for this program is not for a cargo that the command runs: it would build half of everything again.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
        .arg("bind")
        .args(argv)
        .env(controlplane::ENVIRONMENT, control_plane.dir())
        .env("KUBECONFIG", control_plane.admin_kubeconfig())
        .env("PATH", path)
        .spawn()
        .with_context(|| format!("starting {}", argv[0].to_string_lossy()))
}

/// Waits for the command's end. After a signal it has to end soon.
fn wait(inbox: &mpsc::Receiver<Event>, pid: Pid) -> Result<std::process::ExitStatus> {
    const PATIENCE: Duration = Duration::from_secs(5);
    // What to send when the time is over. The mildest signal is last.
    let mut next = vec![Signal::KILL, Signal::TERM];
    let mut asked = false;
    loop {
        let event = if asked { inbox.recv_timeout(PATIENCE) } else { inbox.recv().map_err(Into::into) };
        match event {
            Ok(Event::Ended(status)) => return Ok(status?),
            // A signal from a terminal has reached the command too. It may take its time to end.
            Ok(Event::Signal(SIGINT)) => asked = true,
            Ok(Event::Signal(_)) | Err(mpsc::RecvTimeoutError::Timeout) => {
                asked = true;
                let _ = process::signal(pid, next.pop().unwrap_or(Signal::KILL));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the command was lost"),
        }
    }
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
