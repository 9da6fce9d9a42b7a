//! How much is accepted: objects in a solution, bytes in an object, bytes in an artifact.

use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use pilotage::api::Artifact;
use serde_json::json;

use super::{maps, writes};
use crate::world::{World, outcome, phase};

const THOUSAND: usize = 1000;
const MEBIBYTE: usize = 1024 * 1024;

/// Text that can't be compressed: sixteen characters for each number, and nothing repeats.
fn noise(seed: u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 16);
    let mut number = 0u64;
    while text.len() < bytes {
        let mut hasher = DefaultHasher::new();
        (seed, number).hash(&mut hasher);
        write!(text, "{:016x}", hasher.finish()).unwrap();
        number += 1;
    }
    text.truncate(bytes);
    text
}

async fn create(world: &World, many: Vec<ConfigMap>) {
    let api = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.dev);
    let made = stream::iter(many).map(|map| {
        let api = api.clone();
        async move { api.create(&PostParams::default(), &map).await.map(|_| ()) }
    });
    made.buffer_unordered(16).try_collect::<()>().await.unwrap();
}

fn map(world: &World, name: &str, data: &str) -> ConfigMap {
    serde_json::from_value(world.config("orders", name, json!({"data": data}))).unwrap()
}

async fn artifact(world: &World, version: &str) -> Option<Artifact> {
    Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get_opt(&format!("orders-{version}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_arrive_and_are_not_written_again() {
    let world = World::new("thousand").await;
    create(&world, (0..THOUSAND).map(|i| map(&world, &format!("orders-{i:04}"), &i.to_string())).collect()).await;
    world.apply(&[world.solution("orders", "1.0.0")]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let plan = first.status.as_ref().unwrap().run.plan.as_ref().unwrap();
    assert_eq!((plan.create, plan.objects.len(), plan.objects_omitted), (1000, 200, 800), "what is not listed is counted");
    let size = serde_json::to_vec(&first).unwrap().len();
    assert!(size < MEBIBYTE / 4, "the request has {size} bytes");
    assert_eq!(maps(&world, &world.qa).await.len(), THOUSAND);
    assert_eq!(artifact(&world, "1.0.0").await.unwrap().spec.object_count, 1000);

    let before = writes(&world);
    assert_eq!(before, THOUSAND + 1, "one an object, and the set's own record");
    world.apply(&[world.solution("orders", "1.0.1")]).await;
    let again = world.deploy("again", "qa", "orders", "1.0.1").await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
    assert_eq!(again.status.unwrap().run.plan.unwrap().unchanged, 1000);
    assert_eq!(writes(&world), before, "nothing is written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_as_large_as_a_cluster_takes_arrive_in_chunks_and_byte_for_byte() {
    let world = World::new("large").await;
    let sizes = [MEBIBYTE - 4096, MEBIBYTE - 4096, MEBIBYTE - 4096];
    let large: Vec<ConfigMap> =
        sizes.iter().enumerate().map(|(i, size)| map(&world, &format!("orders-{i}"), &noise(i as u64, *size))).collect();
    create(&world, large.clone()).await;
    world.apply(&[world.solution("orders", "1.0.0")]).await;
    let first = world.deploy("first", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let arrived = maps(&world, &world.qa).await;
    assert_eq!(arrived.iter().map(|m| &m.data).collect::<Vec<_>>(), large.iter().map(|m| &m.data).collect::<Vec<_>>());
    let artifact = artifact(&world, "1.0.0").await.unwrap();
    assert!(artifact.spec.chunks > 2, "it needs several: {}", artifact.spec.chunks);
    let chunks = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.host);
    let label = format!("pilotage.dev/artifact={}", artifact.uid().unwrap());
    let chunks = chunks.list(&ListParams::default().labels(&label)).await.unwrap();
    assert_eq!(i32::try_from(chunks.items.len()).unwrap(), artifact.spec.chunks);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_an_artifact_holds_is_refused_at_export_and_the_largest_is_named() {
    let world = World::new("too-large").await;
    let mut many: Vec<ConfigMap> = (0..18).map(|i| map(&world, &format!("orders-{i}"), &noise(i, 900 * 1024))).collect();
    many.push(map(&world, "the-largest", &noise(99, MEBIBYTE - 4096)));
    create(&world, many).await;
    world.apply(&[world.solution("orders", "1.0.0")]).await;
    world.ask(&world.request("first", "qa", "orders", "1.0.0")).await;
    let message = world.fails("first", "TooLarge").await;
    for part in
        [&format!("namespace {}", world.dev), "16777216 can be exported", "ConfigMap ", "narrow the Solution's selector or components"]
    {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert!(artifact(&world, "1.0.0").await.is_none(), "nothing is stored");
    assert_eq!(writes(&world), 0);

    // What the message says to do helps.
    let api = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.dev);
    for i in 2..18 {
        api.delete(&format!("orders-{i}"), &DeleteParams::default()).await.unwrap();
    }
    let again = world.deploy("again", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_make_an_object_too_large_are_refused_before_anybody_is_asked() {
    let world = World::new("grown").await;
    let names: Vec<String> = (0..15).map(|i| format!("V{i}")).collect();
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["environmentVariables"] = names
        .iter()
        .map(|name| json!({"name": name, "target": {"kind": "ConfigMap", "name": "orders", "path": format!("/data/{name}")}}))
        .collect();
    create(&world, vec![map(&world, "orders", &noise(1, 980 * 1024))]).await;
    world.apply(&[solution]).await;
    let mut request = serde_json::to_value(world.request("first", "qa", "orders", "1.0.0")).unwrap();
    let values: Vec<_> = names.iter().map(|name| json!({"name": name, "value": "é".repeat(4096)})).collect();
    request["spec"]["deploymentSettings"] = json!({"environmentVariables": values});
    world.ask(&serde_json::from_value(request).unwrap()).await;
    let message = world.fails("first", "DryRunRefused").await;
    for part in ["nothing was written; ConfigMap orders: Invalid: ", "1048576", "(correct the manifest and raise the solution's version)"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert!(world.end("first").await.status.unwrap().run.gates.approval.is_none());
    assert_eq!(writes(&world), 0);
}
