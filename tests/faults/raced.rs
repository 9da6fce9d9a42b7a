//! Two store one version at the same time: it is one artifact, and what is deployed is that one.

use std::sync::Arc;

use jiff::Timestamp;
use pilotage::api::Artifact;
use pilotage::api::artifact::ArtifactOrigin;
use pilotage::api::reference::{Identity, SolutionVersion};
use pilotage::delivery::bundle::Bundle;
use pilotage::delivery::store::{ArtifactStore, NewArtifact};
use serde_json::json;

use crate::life;
use crate::proxy::Action;
use crate::shipped::greeting;
use crate::site::{self, Site};
use crate::world::{World, client, phase};

/// Another run of the operator is first, with what development held a moment before.
async fn stored_first(world: &World) -> Artifact {
    let dev = kube::Api::<k8s_openapi::api::core::v1::Namespace>::all(world.admin.clone()).get(&world.dev).await.unwrap();
    let operator = client(world.plane.token_kubeconfig(&site::token(&world.plane), None).unwrap()).await;
    let first = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "orders", "labels": {"app.kubernetes.io/part-of": "orders"}}, "data": {"greeting": "first"}});
    let new = NewArtifact {
        solution: SolutionVersion { name: "orders".into(), version: "1.4.0".into() },
        source: ArtifactOrigin { environment: Some("dev".into()), environment_id: dev.metadata.uid, oci: None },
        exported_by: Identity { username: "dana".into(), ..Identity::default() },
        bundle: Arc::new(Bundle::new(vec![first])),
        cluster_scoped: Vec::new(),
        not_listed: std::collections::BTreeSet::new(),
        environment_variables: Vec::new(),
        connection_references: Vec::new(),
        dependencies: Vec::new(),
    };
    ArtifactStore::new(operator).save(&world.host, new, Timestamp::now()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_is_what_is_stored_and_not_what_came_too_late() {
    let world = site::world(site::shared(), "raced").await;
    let mut site = Site::start(&world, |_| {}).await;
    let proxy = site.proxy.clone();
    site.tending(async {
        world.configure().await;
        let late = [world.config("orders", "orders", json!({"greeting": "late"})), world.config("orders", "late-only", json!({}))];
        world.apply(&[world.solution("orders", "1.4.0")]).await;
        world.apply(&late).await;
        let record = format!("POST /apis/pilotage.dev/v1alpha1/namespaces/{}/artifacts", world.host);
        let watched = record.clone();
        proxy.follow(move |call| if call.line == watched { Action::Hold } else { Action::Forward });
        world.ask(&world.request("orders-qa", "qa", "orders", "1.4.0")).await;
        let under_way = async || proxy.writes().iter().any(|w| w.line == record && w.code.is_none()).then_some(());
        world.until("the record is on its way", under_way).await;

        let stored = Box::pin(stored_first(&world)).await;
        proxy.release();
        // What is shown to the approver is what is deployed.
        let asks = world.until_request("orders-qa", |r| phase(r) == "AwaitingApproval").await;
        let plan = serde_json::to_string(&asks.status.unwrap().run.plan).unwrap();
        assert!(plan.contains(&stored.spec.digest) && !plan.contains("late-only"), "{plan}");
        life::end(&world, "orders-qa", "qa").await;
        assert_eq!(greeting(&world, &world.qa, "orders").await.as_deref(), Some("first"));
    })
    .await;
}
