//! Two operators store one version at the same time: there is one artifact, and that one is deployed.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use pilotage::api::Artifact;
use pilotage::api::artifact::ArtifactOrigin;
use pilotage::api::reference::{Identity, SolutionVersion};
use pilotage::artifact::bundle::Bundle;
use pilotage::artifact::store::{ArtifactStore, NewArtifact};
use serde_json::json;

use crate::fixture::{self, Fixture};
use crate::life;
use crate::proxy::Action;
use crate::shipped::greeting;
use crate::world::{World, client, outcome, phase};

/// The operator's client, for what only the operator may do.
async fn operator(world: &World) -> Client {
    client(world.plane.token_kubeconfig(&fixture::token(&world.plane), None).unwrap()).await
}

/// Another run of the operator stores a version with the content that development had a moment before.
async fn stored_first(world: &World) -> Artifact {
    let dev = Api::<Namespace>::all(world.admin.clone()).get(&world.dev).await.unwrap();
    let first = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "orders", "labels": {"app.kubernetes.io/part-of": "orders"}}, "data": {"greeting": "first"}});
    let new = NewArtifact {
        solution: SolutionVersion { name: "orders".into(), version: "1.4.0".into() },
        source: ArtifactOrigin { environment: Some("dev".into()), environment_id: dev.metadata.uid, oci: None },
        exported_by: Identity { username: "dana".into(), ..Identity::default() },
        developed_at: None,
        bundle: Arc::new(Bundle::new(vec![first])),
        cluster_scoped: Vec::new(),
        not_listed: std::collections::BTreeSet::new(),
        reported_on: std::collections::BTreeSet::new(),
        environment_variables: Vec::new(),
        connection_references: Vec::new(),
        dependencies: Vec::new(),
    };
    ArtifactStore::new(operator(world).await).save(&world.host, new, Timestamp::now()).await.unwrap().artifact
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deployed_is_what_is_stored_and_not_what_came_too_late() {
    let world = fixture::world(fixture::shared(), "raced").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    let proxy = fixture.proxy.clone();
    Box::pin(fixture.tending(async {
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
        // What the approver is shown is what is deployed.
        let asks = world.until_request("orders-qa", |r| phase(r) == "AwaitingApproval").await;
        let plan = serde_json::to_string(&asks.status.unwrap().run.plan).unwrap();
        assert!(plan.contains(&stored.spec.digest) && !plan.contains("late-only"), "{plan}");
        life::end(&world, "orders-qa", "qa").await;
        assert_eq!(greeting(&world, &world.qa, "orders").await.as_deref(), Some("first"));
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proof_of_a_deployment_is_not_given_to_another_artifact_of_that_name() {
    let world = fixture::world(fixture::shared(), "raced-proof").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture
        .tending(async {
            world.configure().await;
            // Its pods have no node to run on.
            let template = json!({"metadata": {"labels": {"app": "orders"}},
            "spec": {"nodeSelector": {"there": "is-none"}, "containers": [{"name": "orders", "image": "orders"}]}});
            let waits = json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
                "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": template},
            });
            world.apply(&[world.solution("orders", "1.4.0"), waits]).await;
            world.ask(&world.request("to-qa", "qa", "orders", "1.4.0")).await;
            world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
            world.decide("qa", "to-qa", "Approved").await.unwrap();
            world.until_request("to-qa", |r| outcome(r).0 == "WaitingForHealth").await;

            let artifacts: Api<Artifact> = Api::namespaced(operator(&world).await, &world.host);
            let approved = artifacts.get("orders-1.4.0").await.unwrap();
            artifacts.delete("orders-1.4.0", &DeleteParams::default()).await.unwrap();
            let other = Box::pin(stored_first(&world)).await;
            let message = world.fails("to-qa", "ArtifactChanged").await;
            for part in [
                &format!("Artifact orders-1.4.0 in host {} was deleted and made again", world.host),
                &approved.spec.digest,
                &other.spec.digest,
                "raise the solution's version",
                "what was applied stays",
            ] {
                assert!(message.contains(part), "{part:?} is not said: {message}");
            }
            let recorded = artifacts.get("orders-1.4.0").await.unwrap().status.map(|s| s.deployments).unwrap_or_default();
            assert!(recorded.is_empty(), "{recorded:?}");
            world.ask(&world.request("to-prod", "prod", "orders", "1.4.0")).await;
            world.fails("to-prod", "PreviousStageNotSucceeded").await;
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_a_crash_left_is_not_completed_with_another_version() {
    let world = fixture::world(fixture::shared(), "raced-raised").await;
    let mut fixture = Fixture::start(&world, |_| {}).await;
    fixture
        .tending(async {
            world.configure().await;
            world.apply(&[world.solution("orders", "1.5.0"), world.config("orders", "orders", json!({"greeting": "1.5.0"}))]).await;
            world.ask(&world.request("next", "qa", "orders", "1.5.0")).await;
            world.until_request("next", |r| phase(r) == "AwaitingApproval").await;
            // This is the state if an operator is killed before it has written the first chunk.
            let artifacts: Api<Artifact> = Api::namespaced(operator(&world).await, &world.host);
            let mut left = Artifact::new("orders-1.4.0", artifacts.get("orders-1.5.0").await.unwrap().spec);
            left.spec.solution.version = "1.4.0".into();
            left.spec.digest = format!("sha256:{}", "a".repeat(64));
            let left = artifacts.create(&PostParams::default(), &left).await.unwrap();
            world.ask(&world.request("before", "qa", "orders", "1.4.0")).await;
            let message = world.fails("before", "VersionDiffers").await;
            for part in ["artifact orders-1.4.0", "is incomplete", "environment dev is at version 1.5.0 now", "or ask for 1.5.0"] {
                assert!(message.contains(part), "{part:?} is not said: {message}");
            }
            assert_eq!(artifacts.get("orders-1.4.0").await.unwrap().metadata.uid, left.metadata.uid);
        })
        .await;
}
