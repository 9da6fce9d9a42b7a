//! What existed while tests ran, for checks after their end: every namespace and every request, as a watch saw them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::audit;
use crate::controlplane::ControlPlane;

/// The label of namespaces in which a test has the operator, or a delegate, refused on purpose.
pub const PROVOKES: &str = "pilotage-test/provokes-refusals";

/// How often to check whether a watch has ended.
const GLANCE: Duration = Duration::from_millis(50);

/// Watches that run. Dropping it ends them.
#[derive(Debug)]
pub struct WatchRecorder {
    watches: Vec<Watch>,
}

/// A watch that is started again whenever the API server ends it: after some time, and when the definition of its kind changes. Each begins
/// with everything that exists, so only what is created and deleted in between is missed.
#[derive(Debug)]
struct Watch {
    /// The program that watches. `None` when it shall stop.
    program: Arc<Mutex<Option<Child>>>,
    /// Starts the program again. At the end, returns the files that were written.
    keeper: Option<JoinHandle<Result<Vec<PathBuf>>>>,
}

impl Watch {
    fn start(control_plane: &ControlPlane, kind: &'static str) -> Result<Self> {
        let (kubectl, dir) = (control_plane.kubectl(), control_plane.dir().to_owned());
        let begin = move |number: usize| -> Result<(Child, PathBuf)> {
            let path = dir.join(format!("{kind}.{number}.seen"));
            let mut command: Command = kubectl.command();
            let child = command
                .args(["get", kind, "--all-namespaces", "--watch", "--output-watch-events", "-o", "json"])
                .stdout(File::create(&path).with_context(|| path.display().to_string())?)
                .stderr(Stdio::null())
                .spawn()
                .context("starting kubectl")?;
            Ok((child, path))
        };
        let (child, path) = begin(0)?;
        let program = Arc::new(Mutex::new(Some(child)));
        let kept = program.clone();
        let keeper = std::thread::spawn(move || {
            let mut paths = vec![path];
            loop {
                std::thread::sleep(GLANCE);
                let mut program = kept.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(child) = program.as_mut() else { return Ok(paths) };
                if child.try_wait()?.is_some() {
                    let (child, path) = begin(paths.len())?;
                    *program = Some(child);
                    paths.push(path);
                }
            }
        });
        Ok(Self { program, keeper: Some(keeper) })
    }

    /// Ends it. Returns the files that it wrote.
    fn stop(&mut self) -> Result<Vec<PathBuf>> {
        if let Some(mut child) = self.program.lock().unwrap_or_else(PoisonError::into_inner).take() {
            child.kill()?;
            child.wait()?;
        }
        match self.keeper.take().map(JoinHandle::join) {
            Some(Ok(paths)) => paths,
            Some(Err(_)) => anyhow::bail!("the thread that kept a watch going panicked"),
            None => Ok(Vec::new()),
        }
    }
}

/// What they saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// The names of namespaces, by uid.
    pub namespaces: BTreeMap<String, String>,
    /// Those that carried the label [`PROVOKES`].
    pub provoking: BTreeSet<String>,
    /// When the deletion of namespaces began, in seconds since 1970: the grants in them are deleted one by one.
    pub ending: BTreeMap<String, f64>,
    /// Plans that were shown, by the uid of their request.
    pub plans: BTreeMap<String, Plan>,
}

/// A plan and its run.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Plan {
    /// The uid of the target namespace.
    pub environment_id: String,
    /// The delegate that it names.
    pub delegate: String,
    /// When it deployed, from and to, in seconds since 1970. There is no end if it was not seen.
    pub ran: Option<(f64, f64)>,
}

impl WatchRecorder {
    /// Begins to watch. The kinds must exist.
    ///
    /// # Errors
    /// If kubectl can't be started.
    pub fn start(control_plane: &ControlPlane) -> Result<Self> {
        let kinds = ["namespaces", "deploymentrequests.pilotage.dev"];
        Ok(Self { watches: kinds.into_iter().map(|kind| Watch::start(control_plane, kind)).collect::<Result<_>>()? })
    }

    /// Ends the watches and returns what they saw.
    ///
    /// # Errors
    /// If a watch could not be started again, or what it wrote can't be read.
    pub fn stop(mut self) -> Result<Seen> {
        let mut seen = Seen::default();
        for watch in &mut self.watches {
            for path in watch.stop()? {
                let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
                // The last event may be incomplete.
                for event in serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>().map_while(Result::ok) {
                    seen.note(&event["object"])?;
                }
            }
        }
        Ok(seen)
    }
}

impl Drop for WatchRecorder {
    fn drop(&mut self) {
        for watch in &mut self.watches {
            let _ = watch.stop();
        }
    }
}

impl Seen {
    fn note(&mut self, object: &Value) -> Result<()> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let uid = text("/metadata/uid");
        if object["kind"] == "Namespace" {
            let name = text("/metadata/name");
            if object["metadata"]["labels"].get(PROVOKES).is_some() {
                self.provoking.insert(name.clone());
            }
            if let Some(at) = object["metadata"]["deletionTimestamp"].as_str() {
                self.ending.insert(name.clone(), audit::seconds(at)?);
            }
            self.namespaces.insert(uid, name);
            return Ok(());
        }
        let Some(plan) = object.pointer("/status/plan") else { return Ok(()) };
        let field = |name: &str| plan[name].as_str().unwrap_or_default().to_owned();
        let time = |name: &str| object["status"][name].as_str().map(audit::seconds).transpose();
        let ran = time("startTime")?.map(|start| Ok::<_, anyhow::Error>((start, time("endTime")?.unwrap_or(f64::INFINITY)))).transpose()?;
        self.plans.insert(uid, Plan { environment_id: field("environmentId"), delegate: field("delegate"), ran });
        Ok(())
    }
}
