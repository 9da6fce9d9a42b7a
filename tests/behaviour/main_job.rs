//! The main job: from development to QA to production, by the right people and nobody else.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use serde_json::json;

use crate::world::{World, outcome, phase};

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_from_development_over_qa_to_production_as_the_delegates() {
    let world = World::new("job").await;
    world.apply(&[world.solution("orders", "1.4.0"), world.config("orders", "orders", json!({"greeting": "hello"}))]).await;
    let qa = world.deploy("orders-qa", "qa", "orders", "1.4.0").await;
    assert_eq!(phase(&qa), "Succeeded", "{:?}", outcome(&qa));
    // Development changes. Production gets what QA got.
    world.apply(&[world.config("orders", "orders", json!({"greeting": "changed"}))]).await;
    let prod = world.deploy("orders-prod", "prod", "orders", "1.4.0").await;
    assert_eq!(phase(&prod), "Succeeded", "{:?}", outcome(&prod));
    let artifact = |r: &pilotage::api::DeploymentRequest| r.status.as_ref().unwrap().run.artifact.clone().unwrap().digest;
    assert_eq!(artifact(&qa), artifact(&prod));
    for namespace in [&world.qa, &world.prod] {
        let arrived = Api::<ConfigMap>::namespaced(world.admin.clone(), namespace).get("orders").await.unwrap();
        assert_eq!(arrived.data.unwrap()["greeting"], "hello");
    }
}
