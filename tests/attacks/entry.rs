//! Attacks by requests: for something that the requester may not read, in the name of its developers, and about namespaces that belong to
//! nobody.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use pilotage::api::{Artifact, DeploymentRequest, Environment, Pipeline};
use pilotage_harness::Registry;
use serde_json::{Value, json};

use crate::attempt::{ignored, told};
use crate::scene::{orders, patch_status, person, requests, until_may, user, with_a_step};
use crate::shipped::{config, folder, request, takes_from};
use crate::world::{World, outcome, phase};

/// Shares the pipeline with sam, who has no right in development.
async fn sam(world: &World) -> Client {
    let pipelines: Api<Pipeline> = Api::namespaced(world.olga().await, &world.host);
    let with = json!({"spec": {"sharedWith": [{"kind": "Group", "name": "makers"}, {"kind": "User", "name": "sam"}]}});
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(with)).await.unwrap();
    until_may(world, "sam", &[], "deploy", "pipelines.pilotage.dev/standard").await;
    until_may(world, "sam", &[], "create", "deploymentrequests.pilotage.dev").await;
    person(world, "sam", &[]).await
}

async fn ask(world: &World, who: &Client, request: &DeploymentRequest) {
    requests(world, who.clone()).create(&PostParams::default(), request).await.unwrap();
}

/// Lets sam read what is developed.
async fn let_sam_view(world: &World) {
    let rbac = "rbac.authorization.k8s.io";
    world
        .apply(&[json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": {"name": "sam", "namespace": world.dev},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"}, "subjects": [user("sam")]})])
        .await;
}

/// Applies everything that a message prints from its second line on.
fn apply_printed(world: &World, message: &str) {
    let (_, printed) = message.split_once('\n').unwrap_or_else(|| panic!("nothing to apply in: {message}"));
    world.plane.kubectl().apply(printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_read_a_solution_takes_it_to_no_stage() {
    let world = World::new("unread").await;
    orders(&world).await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");
    let sam = sam(&world).await;
    ask(&world, &sam, &world.request("to-prod", "prod", "orders", "1.0.0")).await;
    let message = world.waits_for("to-prod", "RequesterMayNotRead").await;
    let words = ["sam, who asks, may not read all that is exported from namespace", &world.dev, "resources: [configmaps]"];
    told(207, "a release taken from QA to production by who may not read it", &message, &words);
    assert!(world.operator_writes(&world.prod, true).is_empty(), "not even a dry run");
    apply_printed(&world, &message);
    world.until_request("to-prod", |r| phase(r) == "AwaitingApproval").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_read_that_was_taken_away_counts_until_the_target_is_claimed() {
    let world = World::new("unread-later").await;
    with_a_step(&world).await;
    orders(&world).await;
    let sam = sam(&world).await;
    let_sam_view(&world).await;
    ask(&world, &sam, &world.request("orders", "qa", "orders", "1.0.0")).await;
    world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "orders", "Approved").await.unwrap();
    world.until_request("orders", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    Api::<RoleBinding>::namespaced(world.admin.clone(), &world.dev).delete("sam", &DeleteParams::default()).await.unwrap();
    world
        .until("sam sees development no more", async || {
            let args = ["auth", "can-i", "get", "configmaps", "-n", &world.dev, "--as", "sam"];
            (!world.plane.kubectl().run(&args).unwrap().ok).then_some(())
        })
        .await;
    let completed = json!({"status": {"preDeploymentStep": {"decision": "Completed"}}});
    patch_status(&world, world.eve().await, "orders", completed).await.unwrap();
    let message = world.waits_for("orders", "RequesterMayNotRead").await;
    told(208, "the right to read taken away after the approval", &message, &["sam, who asks, may not read"]);
    assert!(world.operator_writes(&world.qa, false).is_empty());
    let_sam_view(&world).await;
    assert_eq!(phase(&world.end("orders").await), "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_development_environment_that_is_gone_lets_nobody_read_its_namespace() {
    let world = World::new("unread-gone").await;
    orders(&world).await;
    assert_eq!(phase(&world.deploy("to-qa", "qa", "orders", "1.0.0").await), "Succeeded");
    let sam = sam(&world).await;
    // The pipeline continues with another one.
    let second = format!("{}-second", world.dev);
    world
        .apply(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": second, "labels": {"pilotage.dev/developed-in": world.host}}})])
        .await;
    let rbac = "rbac.authorization.k8s.io";
    world
        .apply(&[json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": {"name": "operator", "namespace": second},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "namespace": "pilotage-system", "name": "pilotage"}]})])
        .await;
    let olga = world.olga().await;
    world.apply_as(&olga, &world.host_object("Environment", "second", json!({"type": "Development", "namespace": second}))).await.unwrap();
    world.ready::<Environment>("second").await;
    let linked = json!({"spec": {"developmentEnvironments": ["second"]}});
    Api::<Pipeline>::namespaced(olga.clone(), &world.host).patch("standard", &PatchParams::default(), &Patch::Merge(linked)).await.unwrap();
    Api::<Environment>::namespaced(olga, &world.host).delete("dev", &DeleteParams::default()).await.unwrap();
    world.ready::<Pipeline>("standard").await;
    ask(&world, &sam, &world.request("to-prod", "prod", "orders", "1.0.0")).await;
    let message = world.waits_for("to-prod", "RequesterMayNotRead").await;
    told(209, "a release of an environment that is gone, whose namespace is there", &message, &["sam, who asks, may not read", &world.dev]);
    assert_eq!(phase(&world.deploy("as-dana", "prod", "orders", "1.0.0").await), "Succeeded");
    Api::<k8s_openapi::api::core::v1::Namespace>::all(world.admin.clone()).delete(&second, &DeleteParams::default()).await.unwrap();
}

/// A world whose pipeline accepts artifacts from a registry to which sam has pushed `orders`. Dana has not developed `orders` yet.
async fn squatted(name: &str) -> (World, Registry, String, Client) {
    let world = World::new(name).await;
    let registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/app");
    let sam = sam(&world).await;
    takes_from(&world, json!([{"url": registry.url("team"), "plainHttp": true}])).await;
    registry.push_flux("team/app:v", &folder(&world, &[("app.yaml", &config("orders", "from sam"))])).unwrap();
    (world, registry, url, sam)
}

/// Dana's own `orders` in that version.
async fn develops(world: &World) {
    world.apply(&[world.solution("orders", "5.0.0"), world.config("orders", "orders", json!({"greeting": "from dana"}))]).await;
}

async fn arrived(world: &World) -> String {
    let map = Api::<ConfigMap>::namespaced(world.admin.clone(), &world.qa).get("orders").await.unwrap();
    map.data.unwrap_or_default().get("greeting").cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_somebody_else_stored_is_not_deployed_in_anothers_name() {
    let (world, _registry, url, sam) = squatted("squatted").await;
    ask(&world, &sam, &request(&world, "of-sam", "5.0.0", &url, &json!({"tag": "v"}))).await;
    world.until_request("of-sam", |r| phase(r) == "AwaitingApproval").await;
    requests(&world, sam).delete("of-sam", &DeleteParams::default()).await.unwrap();
    develops(&world).await;
    let end = world.deploy("of-dana", "qa", "orders", "5.0.0").await;
    let deployed = (phase(&end), arrived(&world).await);
    let harmless = deployed == ("Succeeded".to_owned(), "from dana".to_owned());
    ignored(210, "a version stored from a registry before its development asks for it", harmless, &(deployed, outcome(&end)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_asked_for_from_a_registry_is_told_to_its_development() {
    let (world, _registry, url, sam) = squatted("held").await;
    ask(&world, &sam, &request(&world, "of-sam", "5.0.0", &url, &json!({"tag": "v"}))).await;
    world.until_request("of-sam", |r| phase(r) == "AwaitingApproval").await;
    develops(&world).await;
    world.ask(&world.request("of-dana", "qa", "orders", "5.0.0")).await;
    let message = world.fails("of-dana", "SourceDiffers").await;
    let words =
        ["as sam asked", &url, "environment dev", "Request of-sam is about it", "Raise the Solution's version", "spec.artifact.oci"];
    told(211, "what is stored by a request that has not ended", &message, &words);
    // Somebody who may read the Solution but not change it can't take the version either.
    let_sam_view(&world).await;
    requests(&world, sam.clone()).delete("of-sam", &DeleteParams::default()).await.unwrap();
    ask(&world, &sam, &world.request("again", "qa", "orders", "5.0.0")).await;
    let message = world.fails("again", "SourceDiffers").await;
    told(211, "a stored version in place of development's, by who may not update that", &message, &["as sam asked", "environment dev"]);
    assert!(world.operator_writes(&world.qa, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_a_version_of_what_others_develop() {
    let (world, registry, url, sam) = squatted("taken-version").await;
    develops(&world).await;
    ask(&world, &sam, &request(&world, "of-sam", "5.0.1", &url, &json!({"tag": "v"}))).await;
    let message = world.waits_for("of-sam", "SolutionIsDevelopedElsewhere").await;
    let words = ["solution orders is developed in environment dev", "sam, who asks for orders 5.0.1", "verbs: [\"update\"]"];
    told(212, "the next version of what others develop, from a registry", &message, &words);
    // For a digest, the registry need not be asked first.
    let digest = registry.push_flux("team/app:w", &folder(&world, &[("app.yaml", &config("orders", "from sam, too"))])).unwrap();
    ask(&world, &sam, &request(&world, "pinned", "5.0.2", &url, &json!({"digest": digest}))).await;
    let message = world.waits_for("pinned", "SolutionIsDevelopedElsewhere").await;
    told(212, "the same by its digest", &message, &words[..1]);
    let stored = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
    assert!(stored.items.is_empty(), "no version was taken by it");
    apply_printed(&world, &message);
    world.until_request("pinned", |r| phase(r) == "AwaitingApproval").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deployed_from_a_registry_is_deployed_again_by_name_alone() {
    let (world, _registry, url, sam) = squatted("deployed").await;
    ask(&world, &sam, &request(&world, "of-sam", "5.0.0", &url, &json!({"tag": "v"}))).await;
    assert_eq!(phase(&world.approved("of-sam", "qa").await), "Succeeded");
    develops(&world).await;
    let again = json!({"spec": {"allowRedeployments": true}});
    Api::<Pipeline>::namespaced(world.olga().await, &world.host)
        .patch("standard", &PatchParams::default(), &Patch::Merge(again))
        .await
        .unwrap();
    world.ready::<Pipeline>("standard").await;
    world.ask(&world.request("of-dana", "qa", "orders", "5.0.0")).await;
    let message = world.fails("of-dana", "SourceDiffers").await;
    told(213, "what was deployed from a registry, in the name of its development", &message, &[&url, "make a request that names it"]);
    let digest = message.rsplit_once("digest ").unwrap().1.to_owned();
    world.ask(&request(&world, "by-name", "5.0.0", &url, &json!({"digest": digest}))).await;
    let end = world.approved("by-name", "qa").await;
    assert_eq!((phase(&end).as_str(), arrived(&world).await.as_str()), ("Succeeded", "from sam"), "{:?}", outcome(&end));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_namespaces_that_did_not_give_themselves_to_a_host_it_learns_nothing() {
    let world = World::bare("strange").await;
    world.apply(&[world.host_object("Environment", "mine", json!({"type": "Target", "namespace": world.qa}))]).await;
    world.ready::<Environment>("mine").await;
    let strange = |namespace: &str, more: &Value| {
        let mut spec = json!({"type": "Target", "namespace": namespace});
        for (key, value) in more.as_object().unwrap() {
            spec[key] = value.clone();
        }
        spec
    };
    let mut said = Vec::new();
    for (name, namespace, more) in [
        ("there", "kube-public", json!({})),
        ("guessed", "kube-system", json!({"environmentId": "00000000-0000-0000-0000-000000000000"})),
        ("not-there", "kube-private", json!({})),
    ] {
        world.apply(&[world.host_object("Environment", name, strange(namespace, &more))]).await;
        let message = world.until_condition::<Environment>(name, "Ready", "NotManaged").await;
        let environment = Api::<Environment>::namespaced(world.admin.clone(), &world.host).get(name).await.unwrap();
        assert_eq!(environment.status.unwrap().environment_id, None);
        said.push(message.replace(namespace, "NAMESPACE"));
    }
    let uid = |name: &str| world.plane.kubectl().json(&["get", "namespace", name]).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let uids = [uid("kube-public"), uid("kube-system")];
    let alike = said.iter().all(|message| *message == said[0] && uids.iter().all(|uid| !message.contains(uid)));
    ignored(214, "Environments on namespaces of others, to learn of them", alike, &said);
}
