//! `kubectl pilotage watch`: what happens to requests, as it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use futures::StreamExt;
use jiff::Timestamp;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{WatchStreamExt, watcher::Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::ask::is_forbidden;
use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::Output;
use super::progress::{self, Choice, Progress};
use crate::api::{DeploymentRequest, Solution, duration};

/// Show what happens to requests, as it happens, until Ctrl-C.
///
/// In a namespace with Solutions it is what their status tells, for which you need no right in a host. In a host, or with -A, it is what
/// the requests tell.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// Only these requests. Default: all that are under way or come.
    #[arg(value_parser = object_name)]
    requests: Vec<String>,
    #[command(flatten)]
    choice: Choice,
    /// End when all of them have ended: those that are named, or those that were under way at the beginning. Fails unless all succeed.
    #[arg(long)]
    until_done: bool,
    /// How long to wait, for example 15m. Default: as long as it takes.
    #[arg(long, value_name = "DURATION", requires = "until_done")]
    timeout: Option<String>,
}

/// Prints a line for each change.
///
/// # Errors
/// If a flag is wrong, if the caller may not watch there, or if what was waited for did not succeed in time.
pub async fn run(connection: &Connection, args: WatchArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    args.choice.check()?;
    let timeout = args
        .timeout
        .as_deref()
        .map(|text| duration::parse(text).ok_or_else(|| Exit::Usage.because(format!("--timeout {text} is not a duration such as 15m"))));
    let timeout = timeout.transpose()?;
    let client = connection.client();
    let mut seen = Seen { args, told: BTreeMap::new(), awaited: BTreeSet::new(), failed: BTreeSet::new() };
    if connection.is_everywhere() {
        return follow(Api::<DeploymentRequest>::all(client), timeout, &mut seen, out).await;
    }
    let namespace = connection.namespace();
    let solutions = Api::<Solution>::namespaced(client.clone(), namespace);
    let has_solutions = match solutions.list(&ListParams::default().limit(1)).await {
        Ok(found) => !found.items.is_empty(),
        Err(error) if is_forbidden(&error) => false,
        Err(error) => return Err(error).with_context(|| format!("reading solutions of namespace {namespace}")),
    };
    if has_solutions {
        return follow(solutions, timeout, &mut seen, out).await;
    }
    follow(Api::<DeploymentRequest>::namespaced(client, namespace), timeout, &mut seen, out).await
}

/// An object that tells of requests.
trait Tells {
    fn lines(&self) -> Vec<Progress>;
}

impl Tells for DeploymentRequest {
    fn lines(&self) -> Vec<Progress> {
        vec![progress::of_request(self)]
    }
}

impl Tells for Solution {
    fn lines(&self) -> Vec<Progress> {
        progress::of_solution(self, true)
    }
}

/// What was told, and what is waited for.
struct Seen {
    args: WatchArgs,
    /// By uid: the phase and the line.
    told: BTreeMap<String, (String, String)>,
    /// The uids of the requests that have not ended.
    awaited: BTreeSet<String>,
    /// The names of those that ended without success.
    failed: BTreeSet<String>,
}

impl Seen {
    /// Takes in what an object tells, and returns what is new. `at_first` is what was there at the beginning.
    fn takes(&mut self, lines: Vec<Progress>, at_first: bool) -> Vec<Progress> {
        lines.into_iter().filter(|line| self.is_new(line, at_first)).collect()
    }

    fn is_new(&mut self, line: &Progress, at_first: bool) -> bool {
        let Some(asked) = &line.request else { return false };
        let is_named = self.args.requests.contains(&asked.name);
        // The phase of a choice is where a request is now. Those that were told before are told when they leave it.
        let is_chosen = self.args.choice.takes(line) || self.told.contains_key(&asked.uid);
        if !is_chosen || !(is_named || self.args.requests.is_empty()) {
            return false;
        }
        if asked.has_ended() {
            if (self.awaited.remove(&asked.uid) || is_named) && !asked.has_succeeded() {
                self.failed.insert(asked.name.clone());
            }
        } else if at_first || is_named {
            self.awaited.insert(asked.uid.clone());
        }
        let now = (asked.phase.clone(), asked.waiting_for.clone());
        let before = self.told.insert(asked.uid.clone(), now.clone());
        // What had ended before the beginning is no news, unless it was asked about.
        before.as_ref() != Some(&now) && !(at_first && asked.has_ended() && !is_named)
    }

    /// What is gone has not succeeded, unless it was told before that it did.
    fn lost(&mut self, lines: Vec<Progress>) {
        for asked in lines.into_iter().filter_map(|line| line.request) {
            if self.awaited.remove(&asked.uid) {
                self.failed.insert(asked.name);
            }
        }
    }

    /// The end, once there is nothing more to wait for.
    fn end(&self) -> Option<anyhow::Result<()>> {
        if !self.args.until_done || !self.awaited.is_empty() {
            return None;
        }
        let failed: Vec<&str> = self.failed.iter().map(String::as_str).collect();
        Some(if failed.is_empty() { Ok(()) } else { Err(Exit::Unsuccessful.because(format!("without success: {}", failed.join(", ")))) })
    }
}

async fn follow<K>(api: Api<K>, timeout: Option<Duration>, seen: &mut Seen, out: &mut Output<impl Write + Send>) -> anyhow::Result<()>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Tells + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let mut begun = false;
    loop {
        let event = match deadline {
            None => events.next().await,
            Some(deadline) => tokio::time::timeout_at(deadline, events.next()).await.map_err(|_| {
                let given = seen.args.timeout.clone().unwrap_or_default();
                Exit::TimedOut.because(format!("{} requests have not ended within {given}; they go on", seen.awaited.len()))
            })?,
        };
        let Some(event) = event else { return Ok(()) };
        match event {
            Ok(Event::Init) => {}
            Ok(Event::InitApply(object)) => tell(seen.takes(object.lines(), !begun), out)?,
            Ok(Event::Apply(object)) => tell(seen.takes(object.lines(), false), out)?,
            Ok(Event::Delete(object)) => seen.lost(object.lines()),
            Ok(Event::InitDone) if begun => {}
            Ok(Event::InitDone) => {
                begun = true;
                all_there(seen)?;
            }
            Err(error) => {
                let error = answered(error);
                let code = Exit::of(&error);
                if !begun || code == Exit::NotAllowed || code == Exit::NotFound {
                    return Err(error.context(format!("watching {}", K::plural(&()))));
                }
                out.note(&format!("the connection was lost, trying again: {}", super::exit::said(&error)))?;
            }
        }
        if let Some(end) = seen.end().filter(|_| begun) {
            return end;
        }
    }
}

/// What the API server answered, where it did.
fn answered(error: watcher::Error) -> anyhow::Error {
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
            error.into()
        }
        other => other.into(),
    }
}

/// Whether all requests that were named are there.
fn all_there(seen: &Seen) -> anyhow::Result<()> {
    if seen.args.requests.is_empty() || !seen.args.until_done {
        return Ok(());
    }
    if seen.told.len() < seen.args.requests.len() {
        let named = seen.args.requests.join(", ");
        return Err(
            Exit::NotFound.because(format!("not all of {named} are told of here: -n names the host, or the namespace of the Solution"))
        );
    }
    Ok(())
}

fn tell(lines: Vec<Progress>, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    for line in lines {
        let Some(asked) = &line.request else { continue };
        let people = format!(
            "{}  {}: {} {} to {}: {}: {}",
            Timestamp::now().round(jiff::Unit::Second)?,
            asked.name,
            line.solution,
            asked.version,
            line.stage,
            asked.phase,
            asked.waiting_for
        );
        out.event(&line, &super::ask::full_name(&asked.name), &people)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::progress::Asked;

    fn line(uid: &str, phase: &str, waiting_for: &str) -> Progress {
        let request = Asked { name: uid.into(), uid: uid.into(), phase: phase.into(), waiting_for: waiting_for.into(), ..Asked::default() };
        Progress { request: Some(request), ..Progress::default() }
    }

    fn seen(requests: &[&str]) -> Seen {
        let args = WatchArgs {
            requests: requests.iter().map(|name| (*name).to_owned()).collect(),
            choice: Choice::default(),
            until_done: true,
            timeout: None,
        };
        Seen { args, told: BTreeMap::new(), awaited: BTreeSet::new(), failed: BTreeSet::new() }
    }

    #[test]
    fn a_change_is_told_once_and_what_ended_before_is_no_news() {
        let mut seen = seen(&[]);
        assert_eq!(seen.takes(vec![line("a", "Pending", "x"), line("b", "Failed", "y")], true).len(), 1);
        assert!(seen.takes(vec![line("a", "Pending", "x")], false).is_empty());
        assert_eq!(seen.takes(vec![line("a", "Pending", "z")], false).len(), 1);
        assert!(seen.end().is_none());
        assert_eq!(seen.takes(vec![line("c", "Pending", "")], false).len(), 1, "a new one is told, and not waited for");
        seen.takes(vec![line("a", "Succeeded", "")], false);
        assert!(seen.end().unwrap().is_ok());
    }

    #[test]
    fn what_fails_or_goes_ends_the_wait_without_success() {
        let mut one = seen(&["a"]);
        assert_eq!(one.takes(vec![line("a", "Rejected", "no"), line("b", "Pending", "")], true).len(), 1);
        assert_eq!(Exit::of(&one.end().unwrap().unwrap_err()), Exit::Unsuccessful);
        let mut gone = seen(&[]);
        gone.takes(vec![line("a", "Pending", "")], true);
        gone.lost(vec![line("a", "Pending", "")]);
        assert_eq!(Exit::of(&gone.end().unwrap().unwrap_err()), Exit::Unsuccessful);
    }
}
