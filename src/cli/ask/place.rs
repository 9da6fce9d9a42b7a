//! The target of a request: the host, the stage and its pipeline, as far as the caller may see them.

use anyhow::{Context, bail};
use kube::{Api, Client, ResourceExt};

use super::is_forbidden;
use super::makers_view::{MakersView, whereabouts};
use crate::api::environment::DeployedSolution;
use crate::api::{Environment, Stage};
use crate::cli::exit::Exit;

/// The target of a request.
#[derive(Debug)]
pub struct Place {
    /// The host.
    pub host: String,
    /// The pipeline.
    pub pipeline: String,
    /// Whether the stage is known to be the first of its pipeline.
    pub is_first: bool,
    /// The version of the solution that runs there, if the caller may read it.
    pub running: Option<DeployedSolution>,
}

impl Place {
    /// Finds the place by the stage. If the caller may not read the stage, by the status of their Solution, or by the flags.
    ///
    /// # Errors
    /// If the place is not known. The error says which flag to use.
    pub async fn find(
        client: &Client,
        namespace: Option<&str>,
        from: Option<&str>,
        solution: &str,
        stage: &str,
        pipeline: Option<&str>,
    ) -> anyhow::Result<Self> {
        let host = namespace.unwrap_or_else(|| client.default_namespace());
        match Api::<Stage>::namespaced(client.clone(), host).get_opt(stage).await {
            Ok(Some(found)) => {
                let running = running(client, host, &found, solution).await?;
                return Ok(Self {
                    host: host.to_owned(),
                    pipeline: found.spec.pipeline.clone(),
                    is_first: found.spec.previous_stage.is_none(),
                    running,
                });
            }
            Ok(None) if namespace.is_some() => {
                let hint = whereabouts(client, host, from, |e| e.stage == stage).await;
                return Err(Exit::NotFound
                    .because(format!("stage {stage} does not exist in host {host}: see kubectl get stages -n {host}; {hint}")));
            }
            Ok(None) => {}
            Err(error) if is_forbidden(&error) => {}
            Err(error) => return Err(error).with_context(|| format!("reading stage {stage} of namespace {host}")),
        }
        let unseen = |host, pipeline: &str| Self { host, pipeline: pipeline.to_owned(), is_first: false, running: None };
        if let (Some(host), Some(pipeline)) = (namespace, pipeline) {
            return Ok(unseen(host.to_owned(), pipeline));
        }
        let view = MakersView::open(client, from, solution).await.with_context(|| cannot_tell(host, stage))?;
        match view.of_stage(namespace, stage)[..] {
            [entry] => Ok(unseen(entry.host.clone(), &entry.pipeline)),
            [] if namespace.is_some() && !view.of_stage(None, stage).is_empty() => {
                bail!("stage {stage} is not one of host {host}: {}", whereabouts(client, host, from, |e| e.stage == stage).await)
            }
            [] => bail!("{}: Solution {solution} of namespace {} was not asked for there yet", cannot_tell(host, stage), view.namespace),
            _ => bail!("Solution {solution} goes to a stage {stage} in several hosts: name the one you mean with -n"),
        }
    }
}

fn cannot_tell(host: &str, stage: &str) -> String {
    format!(
        "you may not read stage {stage} in namespace {host}: name the host with -n and the stage's pipeline with --pipeline, or with --from the namespace of the Solution, whose status names both"
    )
}

/// What runs in the stage's target. `None` if the caller may not read Environments.
async fn running(client: &Client, host: &str, stage: &Stage, solution: &str) -> anyhow::Result<Option<DeployedSolution>> {
    let name = &stage.spec.target_environment;
    match Api::<Environment>::namespaced(client.clone(), host).get_opt(name).await {
        Ok(found) => Ok(found.and_then(|e| e.status).and_then(|s| s.solutions.into_iter().find(|s| s.name == solution))),
        Err(error) if is_forbidden(&error) => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("reading Environment {name} of host {host}, the target of stage {}", stage.name_any()))
        }
    }
}
