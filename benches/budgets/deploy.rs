//! How long it takes to write a large application, compared with a bare client that writes the same.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use pilotage::api::Artifact;
use pilotage_harness::ControlPlane;
use pilotage_harness::audit::Call;

use crate::calls::{self, Mark};
use crate::figures::{Budget, Figures, median};
use crate::stand::Scene;
use crate::stock;

/// What is measured here.
pub const FIGURES: [(&str, Budget); 21] = [
    ("deploy_ratio_35", Budget::AtMost(1.5)),
    ("deploy_ratio_300", Budget::AtMost(1.5)),
    ("deploy_ratio_1000", Budget::AtMost(1.5)),
    ("deploy_ms_35", Budget::None),
    ("deploy_ms_300", Budget::None),
    ("deploy_ms_1000", Budget::None),
    ("dry_run_and_apply_ms_35", Budget::AtMost(600.0)),
    ("unchanged_ms_35", Budget::AtMost(300.0)),
    ("unchanged_ms_300", Budget::None),
    ("unchanged_ms_1000", Budget::None),
    ("unchanged_ms_per_object_35", Budget::None),
    ("unchanged_ms_per_object_300", Budget::None),
    ("unchanged_ms_per_object_1000", Budget::None),
    ("unchanged_target_calls_per_object_1000", Budget::None),
    ("export_ms_35", Budget::None),
    ("export_ms_300", Budget::None),
    ("export_ms_1000", Budget::None),
    ("artifact_bytes_35", Budget::None),
    ("artifact_bytes_300", Budget::None),
    ("artifact_bytes_1000", Budget::None),
    ("exported_bytes_1000", Budget::None),
];

/// How many calls one deployment makes at once (`--apply-concurrency`).
const CONCURRENCY: usize = 8;

/// How many objects, and how often.
const SIZES: [(usize, usize); 3] = [(35, 7), (300, 3), (1000, 3)];

/// Pairs of a deployment and a bare apply, for 35, 300 and 1,000 objects, and the same deployed again.
pub async fn measure(plane: &ControlPlane, scene: &mut Scene, figures: &mut Figures) {
    for (size, times) in SIZES {
        if let Err(error) = of_size(plane, scene, figures, size, times).await {
            let of_size = FIGURES.into_iter().filter(|(name, _)| name.ends_with(&format!("_{size}")));
            figures.missed(&of_size.collect::<Vec<_>>(), &error);
        }
    }
}

async fn of_size(plane: &ControlPlane, scene: &mut Scene, figures: &mut Figures, size: usize, times: usize) -> Result<()> {
    let mut add = |name: &str, value: f64| {
        if let Some((name, budget)) = FIGURES.into_iter().find(|(known, _)| *known == name) {
            figures.add(name, value, budget);
        }
    };
    let pairs = pairs(plane, scene, size, times).await?;
    let middle = |of: fn(&Pair) -> f64| median(pairs.iter().map(of).collect());
    add(&format!("deploy_ratio_{size}"), middle(|p| p.pilotage / p.bare)?);
    add(&format!("deploy_ms_{size}"), middle(|p| p.pilotage * 1000.0)?);
    add(&format!("dry_run_and_apply_ms_{size}"), middle(|p| p.after_approval * 1000.0)?);
    add(&format!("export_ms_{size}"), middle(|p| p.export * 1000.0)?);
    let (unchanged, calls) = unchanged(plane, scene, size).await?;
    let objects = f64::from(u32::try_from(size)?);
    add(&format!("unchanged_ms_{size}"), unchanged * 1000.0);
    add(&format!("unchanged_ms_per_object_{size}"), unchanged * 1000.0 / objects);
    add(&format!("unchanged_target_calls_per_object_{size}"), calls / objects);
    let artifact: Artifact = Api::namespaced(scene.world.admin.clone(), &scene.world.host)
        .get(&pilotage::api::names::artifact_name(&format!("app{size}x0"), "1.0.0"))
        .await
        .context("the artifact")?;
    add(&format!("artifact_bytes_{size}"), f64::from(u32::try_from(artifact.spec.stored_size)?));
    add(&format!("exported_bytes_{size}"), f64::from(u32::try_from(artifact.spec.size)?));
    Ok(())
}

/// The times of one deployment and of the bare client's, in seconds.
struct Pair {
    export: f64,
    pilotage: f64,
    after_approval: f64,
    bare: f64,
}

async fn pairs(plane: &ControlPlane, scene: &mut Scene, size: usize, pairs: usize) -> Result<Vec<Pair>> {
    let mut measured = Vec::new();
    for number in 0..pairs {
        let solution = format!("app{size}x{number}");
        let mut objects = stock::application(&scene.world.dev, &solution, size);
        objects.push(scene.world.solution(&solution, "1.0.0"));
        stock::apply(&scene.world.admin, objects).await?;
        scene.settle().await;

        let mark = Mark::now(plane);
        scene.deploy(&format!("{solution}-qa"), "qa", &solution, "1.0.0").await?;
        scene.settle().await;
        let run = mark.since()?;
        let written = run.iter().filter(|c| calls::is_target_write(c));
        ensure!(written.clone().count() >= size, "not all objects of {solution} were written: {}", calls::summary(written));
        let pilotage = calls::span(written).context("the deployment's writes")?;

        let mark = Mark::now(plane);
        apply_bare(&scene.bot_prod, &scene.world.prod, &solution, size).await?;
        scene.settle().await;
        let bare = mark.since()?;
        let bare =
            calls::span(bare.iter().filter(|c| c.namespace == scene.world.prod && c.user.ends_with(":bot-prod") && calls::stores(c)));
        let pair = Pair {
            export: export(&run)?,
            pilotage,
            after_approval: after_approval(&run)?,
            bare: bare.context("the bare client's writes")?,
        };
        println!("  {size} objects: {:.0} ms, bare client {:.0} ms", pair.pilotage * 1000.0, pair.bare * 1000.0);
        measured.push(pair);
    }
    Ok(measured)
}

/// A client that applies the same objects, and nothing else.
async fn apply_bare(client: &Client, namespace: &str, solution: &str, size: usize) -> Result<()> {
    let params = PatchParams::apply("bare").force();
    stream::iter(stock::application(namespace, solution, size))
        .map(|object| {
            let params = params.clone();
            async move {
                let name = object["metadata"]["name"].as_str().unwrap_or_default();
                stock::api(client, &object).patch(name, &params, &Patch::Apply(&object)).await.map(|_| ())
            }
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    Ok(())
}

/// From the creation of the request to the record of the artifact.
fn export(run: &[Call]) -> Result<f64> {
    let asked = run.iter().find(|c| c.verb == "create" && c.resource == "deploymentrequests").context("the request's creation")?;
    let stored = run.iter().filter(|c| calls::is_host_write(c) && c.verb == "create");
    let last = stored.map(|c| c.at + c.took).max_by(f64::total_cmp).context("the artifact's creation")?;
    Ok(last - asked.at - asked.took)
}

/// From the approval to the last write in the target: the second dry run, and the apply.
fn after_approval(run: &[Call]) -> Result<f64> {
    let approval = run.iter().find(|c| c.subresource == "status" && c.user.ends_with(":bot-qa")).context("the approval")?;
    let last = run.iter().filter(|c| c.impersonated_user.is_some()).map(|c| c.at + c.took).max_by(f64::total_cmp);
    Ok(last.context("the deployment's calls")? - approval.at - approval.took)
}

/// Deploys the same objects again. Returns the time from the decision to the last call in the target, and how many calls were made there.
async fn unchanged(plane: &ControlPlane, scene: &mut Scene, size: usize) -> Result<(f64, f64)> {
    let (mut times, mut counts) = (Vec::new(), Vec::new());
    for number in 0..3 {
        let start = Instant::now();
        let mark = Mark::now(plane);
        let run = scene.deploy(&format!("again{size}x{number}"), "qa", &format!("app{size}x0"), "1.0.0").await?;
        println!(
            "  {size} unchanged: {:.0} ms, {:.0} ms with the decision",
            run.took.as_secs_f64() * 1000.0,
            start.elapsed().as_secs_f64() * 1000.0
        );
        scene.settle().await;
        let calls = mark.since()?;
        let writes = calls.iter().filter(|c| calls::is_target_write(c));
        ensure!(writes.clone().count() == 0, "what did not change was written: {}", calls::summary(writes));
        times.push(after_approval(&calls)?);
        counts.push(f64::from(u32::try_from(calls.iter().filter(|c| c.impersonated_user.is_some()).count())?));
    }
    Ok((median(times)?, median(counts)?))
}
