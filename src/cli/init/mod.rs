//! `kubectl pilotage init`: a host with its environments, pipeline, stages and grants, as files for Git.

mod answers;
mod files;

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

pub(super) use self::answers::subject;
use self::answers::{Answers, InitFlags};
use self::files::File;
use super::connection::Connection;
use super::exit::Exit;
use super::output::Output;
use super::{apply, grant};
use crate::api::{Pipeline, Stage, condition, duration};

/// How often is looked whether the host is ready.
const POLL: Duration = Duration::from_millis(500);
/// How long the API server may take to know kinds that are new to it.
const NEW_KINDS: Duration = Duration::from_mins(1);

/// Make a host: environments, a pipeline, its stages and all grants, as files for Git. They are separated by who has the rights to apply
/// them, and are applied in the order of their names. Asks for what the flags leave open, if this is a terminal.
#[derive(Args, Debug)]
pub struct InitArgs {
    #[command(flatten)]
    flags: InitFlags,
    /// The folder that the files are written to. Without it they are printed.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Write over files that are there.
    #[arg(long, requires = "out")]
    force: bool,
    /// Apply everything as you. Needs the rights of a cluster administrator.
    #[arg(long)]
    apply: bool,
    /// Wait until the pipeline and its stages are ready.
    #[arg(long, requires = "apply")]
    wait: bool,
    /// How long to wait, for example 2m.
    #[arg(long, default_value = "2m", requires = "wait", value_name = "DURATION")]
    timeout: String,
}

impl InitArgs {
    /// Whether a cluster is needed. Without one, files can still be written for whoever is named.
    pub fn needs_cluster(&self) -> bool {
        self.apply || self.flags.administrators.is_empty()
    }
}

/// Writes or prints the files, and applies them if that is asked for. Without a connection, nothing is.
///
/// # Errors
/// If the answers don't make a host, a file can't be written, or the API server refuses something.
pub async fn run(connection: Option<&Connection>, mut args: InitArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let timeout = duration::parse(&args.timeout)
        .ok_or_else(|| Exit::Usage.because(format!("--timeout {} is not a duration such as 2m", args.timeout)))?;
    args.flags.complete()?;
    let caller = match connection {
        Some(connection) if args.flags.administrators.is_empty() => Some(connection.caller().await?.username),
        _ => None,
    };
    if let (None, Some(connection)) = (args.flags.delegation, connection) {
        args.flags.delegation = Some(grant::delegation(&connection.client()).await?);
    }
    let answers = args.flags.answers(caller.as_deref())?;
    let files = files::of(&answers)?;
    if let Some(folder) = &args.out {
        write(folder, &files, args.force)?;
    }
    let mut said = String::new();
    if args.out.is_none() && !args.apply {
        said = files.iter().map(|file| format!("# {}\n{}", file.name, file.manifests)).collect::<Vec<_>>().join("---\n");
    } else if let Some(folder) = &args.out {
        for file in &files {
            let _ = writeln!(said, "{}: to be applied by {}", folder.join(&file.name).display(), file.applied_by);
        }
        if !args.apply {
            let _ = writeln!(said, "with all these rights: kubectl apply --server-side -f {}", folder.display());
        }
    }
    if let (true, Some(connection)) = (args.apply, connection) {
        for file in &files {
            let done = applied(connection, file).await?;
            let _ = writeln!(said, "{}: {} objects applied", file.name, done.lines().count());
        }
        if args.wait {
            ready(connection, &answers, timeout).await?;
            let _ = writeln!(said, "pipeline {} of host {} is ready", answers.pipeline, answers.host);
        }
    }
    let document = json!({"host": answers.host, "pipeline": answers.pipeline, "files": files});
    out.one(&document, &format!("namespace/{}", answers.host), &said)
}

fn write(folder: &Path, files: &[File], force: bool) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("making the folder {}", folder.display()))?;
    let there: Vec<String> =
        files.iter().map(|file| folder.join(&file.name)).filter(|path| path.exists()).map(|path| path.display().to_string()).collect();
    if !force && !there.is_empty() {
        return Err(Exit::Failed.because(format!("{} would be written over; nothing was written (--force writes over)", there.join(", "))));
    }
    for file in files {
        let path = folder.join(&file.name);
        std::fs::write(&path, &file.manifests).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Applies a file. For some seconds after they were installed, the API server's policies don't know the kinds.
async fn applied(connection: &Connection, file: &File) -> anyhow::Result<String> {
    let deadline = Instant::now() + NEW_KINDS;
    loop {
        match apply::all(&connection.client(), &file.manifests).await {
            Err(error) if error.to_string().contains("There can be a delay") && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            done => return done.with_context(|| format!("applying {}, which is for {}", file.name, file.applied_by)),
        }
    }
}

/// Waits until the pipeline and its stages are ready.
async fn ready(connection: &Connection, answers: &Answers, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    let stages = Api::<Stage>::namespaced(connection.client(), &answers.host);
    let pipelines = Api::<Pipeline>::namespaced(connection.client(), &answers.host);
    loop {
        let mut missing = Vec::new();
        for stage in &answers.stages {
            let found = stages.get(&stage.name).await.with_context(|| format!("reading stage {}", stage.name))?;
            let conditions =
                found.status.as_ref().filter(|s| Some(s.observed_generation) == found.metadata.generation).map(|s| s.conditions.as_slice());
            missing.extend(not_ready("stage", &found.name_any(), conditions.unwrap_or_default()));
        }
        let found = pipelines.get(&answers.pipeline).await.with_context(|| format!("reading pipeline {}", answers.pipeline))?;
        let conditions =
            found.status.as_ref().filter(|s| Some(s.observed_generation) == found.metadata.generation).map(|s| s.conditions.as_slice());
        missing.extend(not_ready("pipeline", &answers.pipeline, conditions.unwrap_or_default()));
        if missing.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Exit::TimedOut.because(missing.join("\n")));
        }
        tokio::time::sleep(POLL).await;
    }
}

fn not_ready(kind: &str, name: &str, conditions: &[condition::Condition]) -> Option<String> {
    if condition::is_true(conditions, condition::READY) {
        return None;
    }
    let why = condition::find(conditions, condition::READY)
        .map_or_else(|| ": no operator has looked at it yet".to_owned(), |found| format!(" ({}): {}", found.reason, found.message));
    Some(format!("{kind} {name} is not ready{why}"))
}
