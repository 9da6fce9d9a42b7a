//! Names with the maximum length in Kubernetes: names that are derived from them must not become too long.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use pilotage::api::{Artifact, DeploymentRequest, Solution, Stage};
use serde_json::json;

use crate::world::{World, outcome, phase};

fn long(letter: char) -> String {
    letter.to_string().repeat(253)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_may_have_the_longest_name() {
    let world = World::bare("long-names").await;
    let (dev, qa, pipeline, stage, name) = (long('d'), long('q'), long('p'), long('s'), long('r'));
    let (solution, version) = ("o".repeat(63), format!("1.0.0-{}", "v".repeat(57)));
    let olga = world.olga().await;
    for object in [
        world.host_object("Environment", &dev, json!({"type": "Development", "namespace": world.dev})),
        world.host_object("Environment", &qa, json!({"type": "Target", "namespace": world.qa})),
        world.host_object(
            "Pipeline",
            &pipeline,
            json!({"developmentEnvironments": [dev], "sharedWith": [{"kind": "Group", "name": "makers"}]}),
        ),
        world.host_object(
            "Stage",
            &stage,
            json!({
                "pipeline": pipeline, "targetEnvironment": qa, "deployment": {"timeout": "2m"},
                "delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": "bot-qa"},
            }),
        ),
    ] {
        world.apply_as(&olga, &object).await.unwrap_or_else(|error| panic!("{error}: {object}"));
    }
    world.ready::<Stage>(&stage).await;
    let object = long('c');
    world.apply(&[world.solution(&solution, &version), world.config(&solution, &object, json!({"a": "b"}))]).await;
    let spec = json!({"pipeline": pipeline, "stage": stage, "solution": {"name": solution, "version": version}});
    let request: DeploymentRequest = serde_json::from_value(world.host_object("DeploymentRequest", &name, spec)).unwrap();
    let requests = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let asked = async || requests.create(&kube::api::PostParams::default(), &request).await.ok();
    world.until("the pipeline is shared with the makers", asked).await;
    let request = world.approved(&name, "qa").await;
    assert_eq!(phase(&request), "Succeeded", "{:?}", outcome(&request));

    let arrived = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get(&object).await.unwrap();
    assert_eq!(serde_json::to_value(arrived.data).unwrap(), json!({"a": "b"}));
    let artifact = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get(&format!("{solution}-{version}")).await.unwrap();
    assert_eq!(artifact.status.unwrap().deployments.len(), 1, "its record tells of it");
    let view = Api::<Solution>::namespaced(world.admin.clone(), &world.dev).get(&solution).await.unwrap();
    assert_eq!(view.status.unwrap().deployments[0].request, name);
    let told = async || {
        let events = Api::<Event>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
        let of_request = events.items.iter().filter(|e| e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(&name));
        let reasons: Vec<_> = of_request.filter_map(|e| e.reason.as_deref()).collect();
        reasons.contains(&"OnDeploymentCompleted").then_some(())
    };
    world.until("Events tell what happened to it", told).await;
}
