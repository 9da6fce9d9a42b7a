//! What the admission policies cost: creating a request in a host with a thousand stages, with and without them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use k8s_openapi::api::admissionregistration::v1::{MutatingAdmissionPolicyBinding, ValidatingAdmissionPolicyBinding};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use pilotage::api::DeploymentRequest;
use pilotage::api::reference::Identity;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::figures::{Budget, Figures, median};
use crate::stand::{Scene, Stand, request};
use crate::stock;

/// What is measured here.
pub const FIGURES: [(&str, Budget); 3] = [
    ("create_request_p50_ms_1000_stages", Budget::None),
    ("create_request_without_policies_p50_ms_1000_stages", Budget::None),
    ("policies_ratio_1000_stages", Budget::None),
];

/// How many stages there are.
const STAGES: usize = 1000;
/// How many of them belong to one pipeline.
const STAGES_OF_ONE: usize = 5;
/// How many requests are made in a round.
const REQUESTS: usize = 100;
/// How many rounds there are of each.
const ROUNDS: usize = 3;
/// How long the API server may take to notice that the policies were deleted or restored.
const PATIENCE: Duration = Duration::from_secs(30);

/// Creates requests one after the other, alternately with and without the policies. No operator runs.
pub async fn measure(stand: &mut Stand, scene: &Scene, figures: &mut Figures) -> Result<()> {
    stand.pause()?;
    fill(scene).await?;
    let admin = &scene.world.admin;
    let (validating, mutating) =
        (ours::<ValidatingAdmissionPolicyBinding>(admin).await?, ours::<MutatingAdmissionPolicyBinding>(admin).await?);
    ensure!(!validating.is_empty() && !mutating.is_empty(), "the policies are not in force");
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        create(scene, &format!("cost-{round}"), &mut with).await?;
        remove(admin, &validating).await?;
        remove(admin, &mutating).await?;
        until_forgery_passes(scene, true).await?;
        create(scene, &format!("bare-{round}"), &mut without).await?;
        restore(admin, &validating).await?;
        restore(admin, &mutating).await?;
        until_forgery_passes(scene, false).await?;
    }
    let (with, without) = (median(with)?, median(without)?);
    for ((name, budget), value) in FIGURES.into_iter().zip([with, without, with / without]) {
        figures.add(name, value, budget);
    }
    Ok(())
}

/// Adds stages until the host has a thousand.
async fn fill(scene: &Scene) -> Result<()> {
    let world = &scene.world;
    let pipeline = |number: usize| format!("many{number:03}");
    let pipelines = (0..STAGES / STAGES_OF_ONE)
        .map(|number| world.host_object("Pipeline", &pipeline(number), json!({"developmentEnvironments": ["dev"]})))
        .collect();
    stock::apply(&scene.olga, pipelines).await?;
    let stages = (0..STAGES).map(|number| {
        let spec = json!({
            "pipeline": pipeline(number / STAGES_OF_ONE), "targetEnvironment": "qa",
            "delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": "bot-qa"},
        });
        world.host_object("Stage", &format!("many{number:04}"), spec)
    });
    stock::apply(&scene.olga, stages.collect()).await
}

async fn create(scene: &Scene, prefix: &str, took: &mut Vec<f64>) -> Result<()> {
    let api: Api<DeploymentRequest> = Api::namespaced(scene.dana.clone(), &scene.world.host);
    for number in 0..REQUESTS {
        let request = request(&scene.world.host, &format!("{prefix}-{number}"), "standard", "qa", "none", "1.0.0")?;
        let start = Instant::now();
        api.create(&PostParams::default(), &request).await?;
        took.push(start.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(())
}

/// Waits until a request in somebody else's name is accepted, as without the policies, or refused, as with them. With all policies, a
/// request that names nobody is accepted and filled in.
async fn until_forgery_passes(scene: &Scene, wanted: bool) -> Result<()> {
    let api: Api<DeploymentRequest> = Api::namespaced(scene.dana.clone(), &scene.world.host);
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let mut forged = request(&scene.world.host, "forged", "standard", "qa", "none", "1.0.0")?;
    let honest = forged.clone();
    forged.spec.requested_by = Some(Identity { username: "olga".into(), uid: None, groups: Vec::new() });
    let start = Instant::now();
    while api.create(&dry_run, &forged).await.is_ok() != wanted || api.create(&dry_run, &honest).await.is_err() {
        ensure!(start.elapsed() < PATIENCE, "the API server has not noticed the change of the policies in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The API server may notice the other policies a moment later.
    scene.settle().await;
    Ok(())
}

/// The bindings that put Pilotage's policies in force.
async fn ours<K>(admin: &Client) -> Result<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let all = Api::<K>::all(admin.clone()).list(&ListParams::default().labels("app.kubernetes.io/part-of=pilotage")).await?;
    Ok(all.items)
}

async fn remove<K>(admin: &Client, bindings: &[K]) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    for binding in bindings {
        Api::<K>::all(admin.clone()).delete(&binding.name_any(), &DeleteParams::default()).await?;
    }
    Ok(())
}

async fn restore<K>(admin: &Client, bindings: &[K]) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    for binding in bindings {
        let mut binding = binding.clone();
        binding.meta_mut().resource_version = None;
        binding.meta_mut().uid = None;
        Api::<K>::all(admin.clone()).create(&PostParams::default(), &binding).await?;
    }
    Ok(())
}
