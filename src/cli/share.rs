//! `kubectl pilotage share`: who may ask for deployments through a pipeline.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde::Serialize;
use serde_json::json;

use super::connection::Connection;
use super::exit::Exit;
use super::init::subject;
use super::names::object_name;
use super::output::{Column, Listing, Output, Row};
use super::times::Times;
use crate::api::Pipeline;
use crate::api::reference::{Subject, SubjectKind};
use crate::identity::grants;

/// List who may ask for deployments through a pipeline, or change that as you. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct ShareArgs {
    /// The pipeline.
    #[arg(value_parser = object_name)]
    pipeline: String,
    /// Who may ask from now on: a group, or user:NAME, or serviceaccount:NAMESPACE:NAME; may be given several times.
    #[arg(long, value_name = "SUBJECT")]
    with: Vec<String>,
    /// Who may not ask any more: the same forms.
    #[arg(long, value_name = "SUBJECT")]
    without: Vec<String>,
}

/// Whom a pipeline is shared with.
#[derive(Debug, Serialize)]
struct Shared {
    pipeline: String,
    host: String,
    #[serde(flatten)]
    subject: Subject,
}

impl Row for Shared {
    const COLUMNS: &'static [Column] =
        &[Column::wide("HOST"), Column::new("PIPELINE"), Column::new("KIND"), Column::new("NAME"), Column::new("NAMESPACE")];

    fn cells(&self, _: &Times) -> Vec<String> {
        let namespace = self.subject.namespace.clone().unwrap_or_default();
        vec![self.host.clone(), self.pipeline.clone(), format!("{:?}", self.subject.kind), self.subject.name.clone(), namespace]
    }

    fn name(&self) -> String {
        let kind = match self.subject.kind {
            SubjectKind::User => "user",
            SubjectKind::Group => "group",
            SubjectKind::ServiceAccount => "serviceaccount",
        };
        format!("{kind}/{}", self.subject.name)
    }
}

/// Changes it if that is asked for, and lists it.
///
/// # Errors
/// If the pipeline does not exist, or the caller may not read or change it.
pub async fn run(connection: &Connection, args: ShareArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    let (host, name) = (connection.namespace().to_owned(), &args.pipeline);
    let read = |flag: &str, given: &[String]| -> anyhow::Result<Vec<Subject>> {
        given.iter().map(|text| subject(text).map_err(|why| Exit::Usage.because(format!("{flag} {text}: {why}")))).collect()
    };
    let (with, without) = (read("--with", &args.with)?, read("--without", &args.without)?);
    let pipelines = Api::<Pipeline>::namespaced(connection.client(), &host);
    let mut found = pipelines.get(name).await.with_context(|| format!("reading pipeline {name} of host {host} (-n names the host)"))?;
    let wanted = changed(&found.spec.shared_with, &with, &without)
        .map_err(|who| Exit::NotFound.because(format!("pipeline {name} of host {host} is not shared with {who}")))?;
    if wanted != found.spec.shared_with {
        // The list is written as a whole, so it must be the one that was read.
        let patch = json!({"metadata": {"resourceVersion": found.metadata.resource_version}, "spec": {"sharedWith": wanted}});
        found = match pipelines.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {
                bail!("pipeline {name} of host {host} was changed meanwhile, and nothing was shared: run this again")
            }
            answer => answer.with_context(|| format!("sharing pipeline {name} of host {host}"))?,
        };
        out.note(&format!("pipeline {name} of host {host} is changed"))?;
    }
    let row = |subject: &Subject| Shared { pipeline: name.clone(), host: host.clone(), subject: subject.clone() };
    let rows = found.spec.shared_with.iter().map(row).collect();
    out.list(&Listing { rows, not_shown: Vec::new() }, &format!("pipeline {name} of host {host} is shared with nobody: --with shares it"))
}

/// The list with some more and without others. Whoever is there already is not added again.
///
/// # Errors
/// Whom it has not, of those that are to go.
fn changed(now: &[Subject], with: &[Subject], without: &[Subject]) -> Result<Vec<Subject>, String> {
    if let Some(unknown) = without.iter().find(|who| !now.contains(who)) {
        return Err(grants::described(unknown.kind, &unknown.name, unknown.namespace.as_deref()));
    }
    let mut wanted: Vec<Subject> = now.iter().filter(|who| !without.contains(who)).cloned().collect();
    for who in with {
        if !wanted.contains(who) {
            wanted.push(who.clone());
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_come_and_go_and_nobody_is_there_twice() {
        let who = |name: &str| subject(name).unwrap();
        let now = [who("makers"), who("user:dana")];
        assert_eq!(changed(&now, &[who("makers"), who("more")], &[who("user:dana")]).unwrap(), [who("makers"), who("more")]);
        assert_eq!(changed(&now, &[], &[who("dana")]).unwrap_err(), "Group dana");
    }
}
