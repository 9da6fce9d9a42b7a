//! What a crash left half done is done again.

use kube::Api;
use kube::api::PostParams;
use pilotage::api::Artifact;
use serde_json::json;

use crate::world::{World, client, outcome, phase};

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_its_bytes_is_removed_and_the_version_exported_anew() {
    let world = World::new("left-behind").await;
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
    // This is the state if an operator ends between the two writes.
    let operator = client(world.plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap()).await;
    let artifacts = Api::<Artifact>::namespaced(operator, &world.host);
    let digest = format!("sha256:{}", "0".repeat(64));
    let record: Artifact = serde_json::from_value(world.host_object(
        "Artifact",
        "orders-1.0.0",
        json!({
            "solution": {"name": "orders", "version": "1.0.0"}, "digest": digest, "source": {"environment": "dev"},
            "exportedBy": {"username": "dana"}, "exportedAt": "2026-01-01T00:00:00Z", "objectCount": 1,
            "size": 100, "storedSize": 100, "chunks": 1,
        }),
    ))
    .unwrap();
    let left = artifacts.create(&PostParams::default(), &record).await.unwrap();
    let end = world.deploy("to-qa", "qa", "orders", "1.0.0").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    let stored = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.0.0").await.unwrap();
    assert!(stored.metadata.uid != left.metadata.uid && stored.spec.digest != digest, "{:?}", stored.spec);
}
