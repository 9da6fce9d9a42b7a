//! `kubectl pilotage status`: where a solution's versions are, and what each request waits for, for whom and since when.

use std::collections::BTreeSet;
use std::io::Write;

use clap::Args;
use kube::{Api, Client, ResourceExt};

use super::connection::Connection;
use super::exit::Exit;
use super::output::{Listing, Output};
use super::progress::{self, Choice, HostObjects, Progress};
use super::reading::{self, Read, Where};
use crate::api::environment::EnvironmentType;
use crate::api::names::HOST_LABEL;
use crate::api::{DeploymentRequest, Environment, Pipeline, Solution, Stage};

/// Show what runs in each stage, and what each request waits for, for whom and since when.
///
/// In a namespace with Solutions it is what their status tells, for which you need no right in a host. In a host it is what the host's
/// objects tell. Requests that have ended are left out, except for the newest of a stage that did not succeed.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    choice: Choice,
    /// Requests that have ended too.
    #[arg(long)]
    all: bool,
}

/// Prints the status.
///
/// # Errors
/// If the caller may read neither Solutions nor requests there, or the API server can't be reached.
pub async fn run(connection: &Connection, args: StatusArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    args.choice.check()?;
    let mut list = if connection.is_everywhere() { everywhere(connection, args.all).await? } else { one(connection, args.all).await? };
    list.rows.retain(|line| args.choice.takes(line));
    let silent = list.rows.iter().any(|line| line.request.as_ref().is_some_and(|asked| asked.is_unseen));
    let place = if connection.is_everywhere() { "any namespace" } else { &format!("namespace {}", connection.namespace()) };
    out.list(&list, &format!("no solutions and no requests in {place}"))?;
    if silent {
        writeln!(
            out,
            "\nno operator has looked at some of these: it looks only into hosts, which carry the label {HOST_LABEL}=true (kubectl get \
             namespaces -l {HOST_LABEL}=true)"
        )?;
    }
    Ok(())
}

/// Of one namespace: its Solutions, and its requests if it is a host.
async fn one(connection: &Connection, all: bool) -> anyhow::Result<Listing<Progress>> {
    let (client, namespace) = (connection.client(), connection.namespace());
    let solutions =
        reading::all(&Api::<Solution>::namespaced(client.clone(), namespace), &format!("solutions of namespace {namespace}")).await?;
    let there = Where::One(namespace.to_owned());
    let requests = reading::list::<DeploymentRequest>(&client, &there).await?;
    let Some(solutions) = solutions else {
        if !requests.not_shown.is_empty() {
            return Err(Exit::NotAllowed.because(format!("you may read neither solutions nor requests of namespace {namespace}")));
        }
        return of_hosts(connection, &there, requests, all).await;
    };
    let mut list = Listing { rows: told(&solutions, all), not_shown: Vec::new() };
    if requests.not_shown.is_empty() && (solutions.is_empty() || !requests.items.is_empty()) {
        let host = of_hosts(connection, &there, requests, all).await?;
        list.rows.extend(host.rows);
        list.not_shown.extend(host.not_shown);
    }
    Ok(list)
}

/// Of all hosts, and of the Solutions whose hosts the caller may not read.
async fn everywhere(connection: &Connection, all: bool) -> anyhow::Result<Listing<Progress>> {
    let (there, mut not_shown) = reading::hosts::<DeploymentRequest>(connection).await?;
    let requests = reading::list::<DeploymentRequest>(&connection.client(), &there).await?;
    let is_whole = there == Where::Everywhere;
    let mut list = of_hosts(connection, &there, requests, all).await?;
    if is_whole {
        return Ok(list);
    }
    let seen: BTreeSet<String> = list.rows.iter().map(|line| line.host.clone()).collect();
    let mut solutions = reading::all(&Api::<Solution>::all(connection.client()), "solutions of all namespaces").await?;
    if solutions.is_none() {
        let own = connection.namespace();
        solutions = reading::all(&Api::<Solution>::namespaced(connection.client(), own), &format!("solutions of namespace {own}")).await?;
        not_shown.push(format!("solutions: you may not list them in all namespaces, so that only those of {own} are shown"));
    }
    let solutions = solutions.unwrap_or_default();
    list.rows.extend(told(&solutions, all).into_iter().filter(|line| !seen.contains(&line.host)));
    list.not_shown.extend(not_shown);
    Ok(list)
}

/// What Solutions tell. One that nobody asked for yet has no line, so it is told by its version in development.
fn told(solutions: &[Solution], all: bool) -> Vec<Progress> {
    let of = |solution: &Solution| {
        let lines = progress::of_solution(solution, all);
        if !lines.is_empty() {
            return lines;
        }
        let stage = "(development)".to_owned();
        vec![Progress { solution: solution.name_any(), stage, runs: Some(solution.spec.version.clone()), ..Progress::default() }]
    };
    solutions.iter().flat_map(of).collect()
}

async fn of_hosts(
    connection: &Connection,
    there: &Where,
    requests: Read<DeploymentRequest>,
    all: bool,
) -> anyhow::Result<Listing<Progress>> {
    let client = connection.client();
    let pipelines = reading::list::<Pipeline>(&client, there).await?;
    let stages = reading::list::<Stage>(&client, there).await?;
    let environments = reading::list::<Environment>(&client, there).await?;
    let solutions = developed(&client, there, &environments.items).await?;
    let not_shown = [requests.not_shown, stages.not_shown, environments.not_shown].concat();
    let objects = HostObjects {
        pipelines: pipelines.items,
        stages: stages.items,
        environments: environments.items,
        requests: requests.items,
        solutions,
    };
    Ok(Listing { rows: progress::of_hosts(&objects, all), not_shown })
}

/// The Solutions that are developed for these hosts. Who reads a host need not read development: then what comes from there is not told.
async fn developed(client: &Client, there: &Where, environments: &[Environment]) -> anyhow::Result<Vec<Solution>> {
    let of_development = environments.iter().filter(|e| e.spec.type_ == EnvironmentType::Development && e.cluster_name().is_none());
    let namespaces: BTreeSet<&String> = of_development.map(|environment| &environment.spec.namespace).collect();
    let there = if *there == Where::Everywhere { Where::Everywhere } else { Where::Some(namespaces.into_iter().cloned().collect()) };
    Ok(reading::list::<Solution>(client, &there).await?.items)
}
