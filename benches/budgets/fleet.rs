//! Twenty pipelines of two delegated stages each, with forty targets, and two hundred solutions of one object.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use pilotage::api::{Environment, Stage, condition};
use serde_json::{Value, json};

use crate::stand::Scene;
use crate::stock;
use crate::world::PATIENCE;

/// How many pipelines there are, each with a head and a later stage.
pub const PIPELINES: usize = 20;
/// How many solutions there are. Each pipeline has the same number.
pub const SOLUTIONS: usize = 200;

/// A stage of the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first of its pipeline.
    Head,
    /// The second.
    Later,
}

impl Place {
    /// The stage, and its Environment, of a pipeline.
    pub fn stage(self, pipeline: usize) -> String {
        let letter = match self {
            Self::Head => 'h',
            Self::Later => 'l',
        };
        format!("{letter}{pipeline:02}")
    }
}

/// A pipeline's name.
pub fn pipeline(number: usize) -> String {
    format!("fleet{number:02}")
}

/// A solution's name. Its pipeline is the number modulo [`PIPELINES`].
pub fn solution(number: usize) -> String {
    format!("s{number:03}")
}

/// The namespace of a stage.
pub fn namespace(scene: &Scene, stage: &str) -> String {
    format!("{}-{stage}", scene.world.qa)
}

/// Creates all of it and waits until it is ready.
pub async fn build(scene: &Scene) -> Result<()> {
    let stages: Vec<String> = (0..PIPELINES).flat_map(|p| [Place::Head.stage(p), Place::Later.stage(p)]).collect();
    let admin = &scene.world.admin;
    let namespaces = stages.iter().map(|stage| {
        json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": namespace(scene, stage), "labels": {"pilotage.dev/managed-by": scene.world.host}},
        })
    });
    stock::apply(admin, namespaces.collect()).await?;
    stock::apply(admin, stages.iter().flat_map(|stage| grants(scene, stage)).collect()).await?;
    let environments = stages
        .iter()
        .map(|stage| scene.world.host_object("Environment", stage, json!({"type": "Target", "namespace": namespace(scene, stage)})));
    stock::apply(&scene.olga, environments.collect()).await?;
    let pipelines = (0..PIPELINES).map(|number| {
        let spec =
            json!({"developmentEnvironments": ["dev"], "sharedWith": [{"kind": "Group", "name": "makers"}], "allowRedeployments": true});
        scene.world.host_object("Pipeline", &pipeline(number), spec)
    });
    stock::apply(&scene.olga, pipelines.collect()).await?;
    stock::apply(&scene.olga, (0..PIPELINES).flat_map(|number| stages_of(scene, number)).collect()).await?;
    for number in 0..PIPELINES {
        scene.askable(&pipeline(number), &Place::Head.stage(number)).await?;
        scene.askable(&pipeline(number), &Place::Later.stage(number)).await?;
    }
    Ok(())
}

/// Gives the solutions a new version with other content.
pub async fn release(scene: &Scene, version: &str) -> Result<()> {
    let objects = (0..SOLUTIONS).flat_map(|number| {
        let name = solution(number);
        [scene.world.solution(&name, version), scene.world.config(&name, &name, json!({"greeting": "hello", "version": version}))]
    });
    stock::apply(&scene.world.admin, objects.collect()).await
}

/// Waits until all stages and targets of the fleet are ready, after a start of the operator.
pub async fn ready(scene: &Scene) -> Result<()> {
    let start = std::time::Instant::now();
    let ours: BTreeSet<String> = (0..PIPELINES).flat_map(|p| [Place::Head.stage(p), Place::Later.stage(p)]).collect();
    let (stages, environments): (Api<Stage>, Api<Environment>) = (api(&scene.world.admin, scene), api(&scene.world.admin, scene));
    loop {
        let all = stages.list(&ListParams::default()).await?.items;
        let all = all.iter().filter(|s| ours.contains(&s.name_any()));
        let unready = all.filter(|s| !s.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, "Ready"))).count();
        let all = environments.list(&ListParams::default()).await?.items;
        let all = all.iter().filter(|e| ours.contains(&e.name_any()));
        let invalid = all.filter(|e| !e.status.as_ref().is_some_and(|s| condition::is_true(&s.conditions, "Ready"))).count();
        if unready + invalid == 0 {
            return Ok(());
        }
        (start.elapsed() < PATIENCE).then_some(()).with_context(|| format!("{unready} stages and {invalid} environments are not ready"))?;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn api<K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>>(client: &Client, scene: &Scene) -> Api<K> {
    Api::namespaced(client.clone(), &scene.world.host)
}

fn stages_of(scene: &Scene, number: usize) -> [Value; 2] {
    let stage = |place: Place, previous: Option<String>| {
        let name = place.stage(number);
        let mut spec = json!({
            "pipeline": pipeline(number), "targetEnvironment": name,
            "delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": "bot-qa"},
        });
        if let Some(previous) = previous {
            spec["previousStage"] = previous.into();
        }
        scene.world.host_object("Stage", &name, spec)
    };
    [stage(Place::Head, None), stage(Place::Later, Some(Place::Head.stage(number)))]
}

fn grants(scene: &Scene, stage: &str) -> [Value; 4] {
    let namespace = namespace(scene, stage);
    let verbs = ["get", "list", "patch", "delete"];
    let mut own: Vec<String> = verbs.iter().map(ToString::to_string).collect();
    own.push("create".into());
    let lent: Vec<String> = verbs.iter().map(|verb| format!("impersonate-on:serviceaccount:{verb}")).collect();
    let [a, b] = grant(&namespace, "delegate", &own, &json!({"kind": "ServiceAccount", "name": "bot-qa", "namespace": scene.world.host}));
    let [c, d] =
        grant(&namespace, "operator", &lent, &json!({"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"}));
    [a, b, c, d]
}

fn grant(namespace: &str, name: &str, verbs: &[String], subject: &Value) -> [Value; 2] {
    let metadata = json!({"name": name, "namespace": namespace});
    [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}],
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}, "subjects": [subject],
        }),
    ]
}
