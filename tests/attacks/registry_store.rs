//! Attacks on what the operator stores in a registry of its own: writing to that registry deploys nothing, and nobody can read it through
//! the operator. The control plane is the test's own, and its operator has a registry.

use std::path::Path;

use pilotage::api::Artifact;
use pilotage_harness::install::{Operator, install, way};
use pilotage_harness::{ControlPlane, Options, Registry};
use serde_json::{Value, json};

use crate::attempt::{ignored, told};
use crate::shipped::{request, takes_from};
use crate::world::{World, ended, outcome, phase};

/// An operator that stores all artifacts in a registry, with these flags.
fn operate(plane: &ControlPlane, registry: &Registry, flags: &[(&str, &str)]) -> Operator {
    install(plane, Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    let token = plane.service_account_token("pilotage-system", "pilotage").unwrap();
    let store = registry.url("kept");
    let mut env =
        vec![("PILOTAGE_ADMIN_ADDRESS", "127.0.0.1:0"), ("PILOTAGE_ARTIFACT_STORE", store.as_str()), ("PILOTAGE_ARTIFACT_STORE_FROM", "1")];
    env.extend(way(plane.lends_tokens()));
    env.extend(flags);
    let kubeconfig = plane.token_kubeconfig(&token, None).unwrap();
    Operator::start(Path::new(env!("CARGO_BIN_EXE_pilotage")), &kubeconfig, &plane.dir().join("operator.log"), &env).unwrap()
}

/// The flags for a private registry.
fn privately(plane: &ControlPlane, registry: &Registry) -> [(&'static str, String); 2] {
    let credentials = plane.dir().join("store.dockerconfigjson");
    let config = json!({"auths": {(registry.host()): {"username": "keeper", "password": "canary-password"}}});
    std::fs::write(&credentials, config.to_string()).unwrap();
    let file = |path: &Path| path.to_str().unwrap().to_owned();
    [
        ("PILOTAGE_ARTIFACT_STORE_CREDENTIALS", file(&credentials)),
        ("PILOTAGE_ARTIFACT_STORE_CERTIFICATE_AUTHORITY", file(registry.authority_file().unwrap())),
    ]
}

async fn stored_in(world: &World, version: &str) -> String {
    let artifacts = kube::Api::<Artifact>::namespaced(world.admin.clone(), &world.host);
    artifacts.get(&format!("orders-{version}")).await.unwrap().spec.stored_in.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_to_the_registry_deploys_nothing_and_nobody_reads_it_by_way_of_the_operator() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let registry = Registry::start_private(&plane, "keeper", "canary-password").unwrap();
    let flags = privately(&plane, &registry);
    let operator = operate(&plane, &registry, &flags.each_ref().map(|(name, value)| (*name, value.as_str())));
    let world = World::on(plane, "kept").await.with_pipeline().await;
    let develop = async |version: &str| {
        world.apply(&[world.solution("orders", version), world.config("orders", "orders", json!({"greeting": version}))]).await;
        let done = world.deploy(&format!("to-qa-{version}"), "qa", "orders", version).await;
        assert_eq!(phase(&done), "Succeeded", "{:?}", outcome(&done));
        let stored_in = stored_in(&world, version).await;
        let manifest = stored_in.split_once('@').unwrap().1.to_owned();
        let read: Value = serde_json::from_slice(&std::fs::read(registry.blob(&manifest)).unwrap()).unwrap();
        (stored_in, manifest, read["layers"][0]["digest"].as_str().unwrap().to_owned())
    };
    let (_, other_manifest, other_layer) = develop("1.3.0").await;
    let (stored_in, manifest, layer) = develop("1.4.0").await;

    // Each of the others is complete, and from the same repository.
    for (what, blob, other) in [("layer", &layer, &other_layer), ("manifest", &manifest, &other_manifest)] {
        let path = registry.blob(blob);
        let right = std::fs::read(&path).unwrap();
        std::fs::copy(registry.blob(other), &path).unwrap();
        let name = format!("exchanged-{what}");
        world.ask(&world.request(&name, "prod", "orders", "1.4.0")).await;
        let message = world.fails(&name, "ArtifactAltered").await;
        let start =
            format!("artifact orders-1.4.0 in host {} was altered: the {what} of {stored_in} should have digest {blob}", world.host);
        let words = [start.as_str(), "what the registry sent has ", "Nothing is deployed from it. Find out who changed it"];
        told(43, &format!("the {what} of an artifact, exchanged in the operator's own registry"), &message, &words);
        std::fs::write(&path, right).unwrap();
    }
    assert!(world.operator_writes(&world.prod, false).is_empty());
    assert!(world.operator_writes(&world.prod, true).is_empty(), "not even a dry run");
    assert_eq!(phase(&world.deploy("mended", "prod", "orders", "1.4.0").await), "Succeeded");

    // An administrator of a host knows the registry, which is no secret, and gives it another name. They have no credentials for it.
    let host = registry.host().replace("127.0.0.1", "localhost");
    let url = stored_in.split_once('@').unwrap().0.replace(&registry.host(), &host);
    takes_from(&world, json!([{"url": url, "certificateAuthority": registry.authority().unwrap()}])).await;
    let mut wanted = request(&world, "borrowed", "9.0.0", &url, &json!({"tag": "1.4.0"}));
    wanted.spec.solution.name = "borrowed".into();
    world.ask(&wanted).await;
    let message = world.waits_for("borrowed", "RegistryUnauthorized").await;
    let start = format!("registry {host} does not let anybody without credentials read {url} (401)");
    told(157, "the operator's own registry as the source of a pipeline", &message, &[&start, "credentialsSecretRef"]);
    operator.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_hosts_keep_in_a_registry_for_everybody_is_the_source_of_no_pipeline() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let registry = Registry::start(&plane).unwrap();
    let operator = operate(&plane, &registry, &[("PILOTAGE_ARTIFACT_STORE_PLAIN_HTTP", "true")]);
    let mut theirs = World::on(ControlPlane::attach(plane.dir()).unwrap(), "kept-theirs").await.with_pipeline().await;
    theirs.keep = true;
    let mine = World::on(plane, "kept-mine").await.with_pipeline().await;
    theirs.apply(&[theirs.solution("orders", "1.4.0"), theirs.config("orders", "orders", json!({"greeting": "canary"}))]).await;
    let done = theirs.deploy("to-qa", "qa", "orders", "1.4.0").await;
    assert_eq!(phase(&done), "Succeeded", "{:?}", outcome(&done));
    let stored_in = stored_in(&theirs, "1.4.0").await;
    let (url, digest) = stored_in.split_once('@').unwrap();
    assert!(registry.blob(digest).exists(), "it is there to be read");

    takes_from(
        &mine,
        json!([{"url": registry.url("kept"), "plainHttp": true}, {"url": format!("oci://{}", registry.host()), "plainHttp": true}]),
    )
    .await;
    let before = reads(&registry);
    for (name, what, which) in [
        ("by-tag", "what another host keeps, by its tag", json!({"tag": "1.4.0"})),
        ("by-digest", "what another host keeps, by its digest", json!({"digest": digest})),
    ] {
        let mut wanted = request(&mine, name, "9.0.0", url, &which);
        wanted.spec.solution.name = name.into();
        mine.ask(&wanted).await;
        let seen = mine.until_request(name, |r| ended(r) || phase(r) == "AwaitingApproval").await;
        let (reason, message) = outcome(&seen);
        ignored(
            158,
            &format!("{what}: a plan of it"),
            phase(&seen) == "Failed" && reason == "RepositoryNotAllowed",
            &(phase(&seen), &message),
        );
        let start = format!("{url} is where the operator itself keeps artifacts");
        told(158, what, &message, &[&start, &registry.url("kept"), "nothing was asked there", "make a new request"]);
    }
    ignored(158, "what another host keeps, by the registry's log", reads(&registry) == before, &before);
    let artifacts = kube::Api::<Artifact>::namespaced(mine.admin.clone(), &mine.host);
    assert!(artifacts.list(&kube::api::ListParams::default()).await.unwrap().items.is_empty(), "no version was taken by it");
    operator.stop().unwrap();
}

/// How often the operator read something from the registry.
fn reads(registry: &Registry) -> usize {
    let log = std::fs::read_to_string(registry.log()).unwrap();
    log.lines().filter(|line| line.contains("\"pilotage/") && line.contains("\"GET ")).count()
}
