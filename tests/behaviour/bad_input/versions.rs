//! Versions that can't be requested.

use kube::Api;
use kube::api::PostParams;
use pilotage::api::DeploymentRequest;
use serde_json::json;

use super::{nothing_was_written, world};
use crate::world::{outcome, phase};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_version_is_refused_by_the_schema() {
    let world = world("no-version").await;
    let as_dana = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    for version in ["latest", "1.0", "v1.0.0", "01.0.0", "1.0.0-RC1", "1.0.0+build.1", ""] {
        let refused = as_dana.create(&PostParams::default(), &world.request("bad", "qa", "orders", version)).await.unwrap_err();
        let kube::Error::Api(status) = &refused else { panic!("{refused}") };
        assert_eq!(status.code, 422, "{version}: {refused}");
        assert!(status.message.contains("spec.solution.version: Invalid value"), "{version}: {refused}");
    }
    as_dana.create(&PostParams::default(), &world.request("good", "qa", "orders", "1.0.0-rc.1")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_higher_is_refused_with_the_one_that_runs() {
    let world = world("lower").await;
    assert_eq!(phase(&world.deploy("first", "qa", "orders", "1.0.0").await), "Succeeded");
    world.apply(&[world.solution("orders", "1.1.0"), world.config("orders", "orders", json!({"version": "1.1.0"}))]).await;
    let second = world.deploy("second", "qa", "orders", "1.1.0").await;
    assert_eq!(phase(&second), "Succeeded", "{:?}", outcome(&second));
    let written = world.operator_writes(&world.qa, false).len();
    for (name, version) in [("lower", "1.0.0"), ("equal", "1.1.0")] {
        world.ask(&world.request(name, "qa", "orders", version)).await;
        assert_eq!(
            world.fails(name, "VersionNotHigher").await,
            format!(
                "stage qa runs orders 1.1.0 (request second); {version} is not higher. Raise the version, or let an administrator set allowRedeployments on pipeline standard"
            )
        );
    }
    assert_eq!(world.operator_writes(&world.qa, false).len(), written);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_development_is_not_at_is_refused_with_the_one_it_is_at() {
    let world = world("differs").await;
    world.ask(&world.request("ahead", "qa", "orders", "2.0.0")).await;
    assert_eq!(
        world.fails("ahead", "VersionDiffers").await,
        "solution orders in development environment dev is at version 1.0.0, the request is for 2.0.0, which was never exported; set the Solution's spec.version, or ask for 1.0.0"
    );
    nothing_was_written(&world).await;
}
