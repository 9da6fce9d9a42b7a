//! Retention whose operator dies around each of its writes.

use std::time::Instant;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::{Artifact, DeploymentRequest, Pipeline};
use serde_json::{Value, json};

use crate::fixture::{self, Fixture};
use crate::proxy::Action;
use crate::world::{PATIENCE, World, outcome, phase};

pub async fn change(world: &World, patch: Value) {
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
}

pub async fn names<K>(world: &World) -> Vec<String>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let all = Api::<K>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
    all.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_retention_that_dies_around_each_of_its_writes_ends_as_if_nothing_had_happened() {
    let world = fixture::world(fixture::shared(), "retained").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture
        .tending(async {
            world.configure().await;
            for version in ["1.0.0", "1.1.0", "1.2.0", "1.3.0"] {
                world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"version": version}))]).await;
                let end = world.deploy(&format!("to-{version}"), "qa", "orders", version).await;
                assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
            }
            let end = world.deploy("to-prod", "prod", "orders", "1.3.0").await;
            assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
            let limits = json!({"schedule": "0 0 1 1 *", "requests": {"maxAge": "0s"}, "artifacts": {"maxAge": "0s"}});
            change(&world, json!({"spec": {"retention": limits}})).await;
        })
        .await;
    fixture.settle(&world).await;
    // A write that was refused by a crash is carried out the next time, and then its answer is lost with its operator.
    fixture.proxy.follow(|call| match call.write {
        Some(number) if number % 2 == 1 => Action::CrashBefore,
        Some(_) => Action::CrashAfter,
        None => Action::Forward,
    });
    let run = fixture
        .tending(async {
            change(&world, json!({"metadata": {"annotations": {"pilotage.dev/retain-now": "now"}}})).await;
            let begun = Instant::now();
            loop {
                let pipeline = Api::<Pipeline>::namespaced(world.admin.clone(), &world.host).get("standard").await.unwrap();
                let status = pipeline.status.and_then(|s| s.retention).unwrap_or_default();
                if let (None, Some(run)) = (status.running, status.last_run) {
                    break run;
                }
                assert!(begun.elapsed() < PATIENCE * 8, "the run does not end");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        })
        .await;
    fixture.settle(&world).await;
    // Two requests, and for each of two artifacts its status, its bytes and its status again.
    assert!(fixture.restarts() >= 2 * (2 + 2 * 3), "it died {} times only", fixture.restarts());
    assert_eq!((run.removed.requests, run.removed.bytes, run.removed.artifacts, run.refused), (2, 2, 0, 0));
    assert_eq!(names::<DeploymentRequest>(&world).await, ["to-1.2.0", "to-1.3.0", "to-prod"]);
    let artifacts = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
    let is_removed = |artifact: &Artifact| artifact.status.as_ref().and_then(|s| s.bytes_removed.as_ref()).map(|removed| removed.complete);
    let removed: Vec<Option<bool>> = artifacts.iter().map(is_removed).collect();
    assert_eq!(removed, [Some(true), Some(true), None, None]);
    assert!(artifacts.iter().all(|a| a.status.as_ref().is_some_and(|s| !s.deployments.is_empty())), "the records stay");
    let chunks = ListParams::default().labels("pilotage.dev/artifact");
    let bytes = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.host).list(&chunks).await.unwrap().items;
    assert_eq!(bytes.len(), 2, "no bytes are left behind");
}
