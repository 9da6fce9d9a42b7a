//! `kubectl pilotage retention`: what retention would remove from a host, and why the rest stays.

use std::io::Write;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::{Column, Listing, Output, Row, Tone};
use super::reading;
use super::times::Times;
use crate::api::names::artifact_name;
use crate::policy::retention::view::Objects;
use crate::policy::retention::{Fate, HostView, Why, decide};

/// Look at what retention does. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct RetentionArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Preview(PreviewArgs),
}

/// List what a run of retention would remove now, and with --all what it would keep, and why. Nothing is changed. It is decided as the
/// operator decides it, from what you may read in the host. The namespace (-n) is the host.
#[derive(Args, Debug)]
struct PreviewArgs {
    /// Only what the runs of this pipeline are about.
    #[arg(long, value_name = "PIPELINE", value_parser = object_name)]
    pipeline: Option<String>,
    /// Also what would stay, with the reason.
    #[arg(long)]
    all: bool,
}

/// What becomes of one object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outlook {
    kind: &'static str,
    name: String,
    pipeline: Option<String>,
    outcome: &'static str,
    /// Whether it is put into the archive before it goes.
    archived: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whom: Option<String>,
    since: Option<Timestamp>,
}

impl Row for Outlook {
    const COLUMNS: &'static [Column] = &[
        Column::new("KIND"),
        Column::new("NAME"),
        Column::new("OUTCOME"),
        Column::new("BECAUSE"),
        Column::new("OF"),
        Column::wide("PIPELINE"),
        Column::wide("ARCHIVED"),
        Column::new("SINCE"),
    ];

    fn cells(&self, times: &Times) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        vec![
            self.kind.to_owned(),
            self.name.clone(),
            self.outcome.to_owned(),
            text(&self.because),
            text(&self.whom),
            text(&self.pipeline),
            if self.archived { "first" } else { "" }.to_owned(),
            times.show(self.since),
        ]
    }

    fn name(&self) -> String {
        format!("{}.pilotage.dev/{}", self.kind, self.name)
    }

    fn tone(&self) -> Tone {
        if self.because.is_none() { Tone::Bad } else { Tone::Plain }
    }
}

/// Prints the outlook.
///
/// # Errors
/// If the pipeline does not exist, or the host can't be read as a whole.
pub async fn run(connection: &Connection, args: RetentionArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let What::Preview(args) = args.what;
    connection.named()?;
    let host = connection.namespace();
    let pipelines: Vec<crate::api::Pipeline> = whole(connection, host).await?;
    if let Some(pipeline) = &args.pipeline
        && !pipelines.iter().any(|p| p.metadata.name.as_ref() == Some(pipeline))
    {
        return Err(Exit::NotFound.because(format!("pipeline {pipeline} does not exist in host {host}")));
    }
    let (stages, environments) = (whole(connection, host).await?, whole(connection, host).await?);
    let (requests, artifacts) = (whole(connection, host).await?, whole(connection, host).await?);
    let objects = Objects::<_, crate::api::Stage, crate::api::Environment, crate::api::DeploymentRequest, crate::api::Artifact> {
        pipelines: &pipelines,
        stages: &stages,
        environments: &environments,
        requests: &requests,
        artifacts: &artifacts,
    };
    let view = objects.view();
    let verdict = decide(&view, args.pipeline.as_deref(), Timestamp::now());
    let (removes, kept) = (verdict.removes(), verdict.kept());
    let of_requests =
        verdict.requests.iter().map(|(index, fate)| of_request(&view, *index, *fate, verdict.archived_requests.contains(index)));
    let of_artifacts =
        verdict.artifacts.iter().map(|(index, fate)| of_artifact(&view, *index, *fate, verdict.archived_artifacts.contains(index)));
    let rows = of_requests.chain(of_artifacts).filter(|row| args.all || row.because.is_none()).collect();
    out.list(&Listing { rows, not_shown: Vec::new() }, "nothing would be removed")?;
    let (kept_requests, kept_artifacts) = kept.iter().fold((0, 0), |(r, a), k| (r + k.requests, a + k.artifacts));
    out.note(&format!(
        "would remove {} requests, the bytes of {} artifacts and {} artifacts whole; {kept_requests} requests and {kept_artifacts} artifacts would stay",
        removes.requests, removes.bytes, removes.artifacts
    ))?;
    Ok(())
}

/// All objects of a kind in the host. What can't be read as a whole can't be decided about.
async fn whole<K>(connection: &Connection, host: &str) -> anyhow::Result<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let kind = K::plural(&());
    let found = reading::all(&Api::<K>::namespaced(connection.client(), host), &format!("{kind} of host {host}")).await?;
    found.ok_or_else(|| Exit::NotAllowed.because(format!("you may not list {kind} in host {host}, and what goes depends on all of them")))
}

/// In words, and why.
fn told(fate: Fate<'_>) -> (&'static str, Option<String>, Option<String>) {
    match fate {
        Fate::Goes => ("goes", None, None),
        Fate::LosesBytes => ("loses its bytes", None, None),
        Fate::Stays(Why { because, whom }) => ("stays", Some(format!("{because:?}")), whom.map(str::to_owned)),
    }
}

fn of_request(view: &HostView<'_>, index: usize, fate: Fate<'_>, archived: bool) -> Outlook {
    let request = &view.requests[index];
    let (outcome, because, whom) = told(fate);
    let pipeline = Some(request.pipeline.to_owned());
    Outlook { kind: "deploymentrequest", name: request.name.to_owned(), pipeline, outcome, archived, because, whom, since: request.ended }
}

fn of_artifact(view: &HostView<'_>, index: usize, fate: Fate<'_>, archived: bool) -> Outlook {
    let artifact = &view.artifacts[index];
    let (outcome, because, whom) = told(fate);
    let name = artifact_name(artifact.solution, artifact.version_text);
    Outlook { kind: "artifact", name, pipeline: None, outcome, archived, because, whom, since: Some(artifact.last_used()) }
}
