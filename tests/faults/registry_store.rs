//! Large artifacts are stored in a registry of the operator's own. The tests use a real registry, and operators with its flags.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use pilotage::api::{Artifact, DeploymentRequest, Pipeline, Stage};
use pilotage_harness::Registry;
use pilotage_harness::install::Operator;
use serde_json::{Value, json};

use crate::fixture;
use crate::shipped::{request, takes_from};
use crate::world::{World, client, outcome, phase};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// In most tests, artifacts with at least this many compressed bytes go to the registry.
pub const FROM: usize = 20_000;

/// A world, its registry, and an operator that stores large artifacts there.
pub struct Kept {
    pub world: World,
    pub registry: Registry,
    /// `None` after the test has ended it.
    pub operator: Option<Operator>,
    /// The flags, as environment variables.
    pub flags: Vec<(&'static str, String)>,
}

impl Kept {
    /// With a registry for everybody.
    pub async fn new(name: &str) -> Self {
        let world = fixture::world(fixture::shared(), name).await;
        let registry = Registry::start(&world.plane).unwrap();
        let flags = vec![
            ("PILOTAGE_ARTIFACT_STORE", registry.url("kept")),
            ("PILOTAGE_ARTIFACT_STORE_FROM", FROM.to_string()),
            ("PILOTAGE_ARTIFACT_STORE_PLAIN_HTTP", "true".to_owned()),
        ];
        Self::of(world, registry, flags).await
    }

    /// With that registry and these flags.
    pub async fn of(world: World, registry: Registry, flags: Vec<(&'static str, String)>) -> Self {
        let mut kept = Self { world, registry, operator: None, flags };
        kept.start();
        kept.world.configure().await;
        kept
    }

    /// Starts an operator with the flags. It replaces the running one, which is killed.
    pub fn start(&mut self) {
        self.operator = None;
        self.operator = Some(self.operate(&self.world));
    }

    /// Starts an operator with the same flags for any world.
    pub fn operate(&self, world: &World) -> Operator {
        let (plane, number) = (&world.plane, NUMBER.fetch_add(1, Ordering::Relaxed));
        let kubeconfig = plane.token_kubeconfig(&fixture::token(plane), None).unwrap();
        let flags: Vec<(&str, &str)> = self.flags.iter().map(|(name, value)| (*name, value.as_str())).collect();
        // It has a Lease of its own, because a dead operator holds its Lease for a while.
        let lease = format!("kept-{number}");
        let log = plane.dir().join(format!("{lease}.log"));
        fixture::start_with(&kubeconfig, &log, &world.host, &lease, fixture::LEASE_SECONDS, &flags)
    }

    /// The repository of a solution of this host.
    pub fn url(&self, solution: &str) -> String {
        self.registry.url(&format!("kept/{}/{solution}", self.world.host))
    }

    /// A version of orders in development with this many bytes. Compression halves them.
    pub async fn develop(&self, version: &str, bytes: usize) {
        self.develop_as("orders", version, bytes).await;
    }

    /// The same for any solution.
    pub async fn develop_as(&self, solution: &str, version: &str, bytes: usize) {
        let data = json!({"greeting": version, "bytes": noise(version, bytes)});
        self.world.apply(&[self.world.solution(solution, version), self.world.config(solution, solution, data)]).await;
    }

    pub async fn artifact(&self, name: &str) -> Artifact {
        Api::namespaced(self.world.admin.clone(), &self.world.host).get(name).await.unwrap()
    }

    /// The `ConfigMaps` that hold bytes of an artifact.
    pub async fn chunks(&self, artifact: &Artifact) -> usize {
        let maps: Api<ConfigMap> = Api::namespaced(self.world.admin.clone(), &self.world.host);
        let label = format!("pilotage.dev/artifact={}", artifact.metadata.uid.as_ref().unwrap());
        maps.list(&ListParams::default().labels(&label)).await.unwrap().items.len()
    }

    /// How many writes the operator sent to the registry, and how many calls in total.
    fn calls(&self) -> (usize, usize) {
        let log = std::fs::read_to_string(self.registry.log()).unwrap();
        let ours: Vec<&str> = log.lines().filter(|line| line.contains("\"pilotage/")).collect();
        let writes = ours.iter().filter(|line| line.contains("\"POST ") || line.contains("\"PUT ")).count();
        (writes, ours.len())
    }

    /// The greeting in a `ConfigMap` of a namespace.
    pub async fn greeting(&self, namespace: &str, name: &str) -> Option<String> {
        crate::shipped::greeting(&self.world, namespace, name).await
    }

    pub async fn allow_redeployments(&self) {
        let pipelines: Api<Pipeline> = Api::namespaced(self.world.admin.clone(), &self.world.host);
        let patch = Patch::Merge(json!({"spec": {"allowRedeployments": true}}));
        pipelines.patch("standard", &PatchParams::default(), &patch).await.unwrap();
        self.world.ready::<Pipeline>("standard").await;
    }
}

/// Hexadecimal digits without a pattern. They differ for each version.
pub fn noise(seed: &str, bytes: usize) -> String {
    let mut state = seed.bytes().fold(1_u64, |state, byte| state.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let digits = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from_digit(u32::try_from(state >> 60).unwrap(), 16).unwrap()
    });
    digits.take(bytes).collect()
}

pub fn succeeded(request: &DeploymentRequest) {
    assert_eq!(phase(request), "Succeeded", "{:?}", outcome(request));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_one_chunk_is_kept_in_the_registry_and_deployed_from_it() {
    let mut kept = Kept::new("kept").await;
    kept.flags.retain(|(name, _)| *name != "PILOTAGE_ARTIFACT_STORE_FROM");
    kept.start();
    let world = &kept.world;
    kept.develop("1.4.0", 900_000).await;
    world.apply(&[world.config("orders", "more", json!({"greeting": "more", "bytes": noise("more", 900_000)}))]).await;
    kept.develop_as("web", "1.0.0", 100_000).await;
    succeeded(&world.deploy("to-qa", "qa", "orders", "1.4.0").await);
    succeeded(&world.deploy("small", "qa", "web", "1.0.0").await);

    let (large, small) = (kept.artifact("orders-1.4.0").await, kept.artifact("web-1.0.0").await);
    let stored_in = large.spec.stored_in.clone().unwrap();
    assert!(stored_in.starts_with(&format!("{}@sha256:", kept.url("orders"))), "{stored_in}");
    assert!(large.spec.stored_size > 716_800, "{}", large.spec.stored_size);
    assert_eq!((large.spec.chunks, kept.chunks(&large).await), (0, 0));
    assert_eq!((small.spec.chunks, kept.chunks(&small).await, small.spec.stored_in.clone()), (1, 1, None));

    // A record names one of the two, and nothing that leads to another place.
    let artifacts: Api<Artifact> =
        Api::namespaced(client(world.plane.token_kubeconfig(&fixture::token(&world.plane), None).unwrap()).await, &world.host);
    let whole = format!("@sha256:{}", "a".repeat(64));
    for (chunks, stored_in, words) in [
        (0, None, "an artifact is stored in chunks, or storedIn names where"),
        (1, Some(stored_in.clone()), "an artifact is stored in chunks, or storedIn names where"),
        (0, Some(format!("oci://user:password@r.test/x{whole}")), "storedIn is oci://, a host, a repository and the digest"),
        (0, Some("oci://r.test/x:1.4.0".to_owned()), "storedIn is oci://, a host, a repository and the digest"),
        (0, Some(format!("oci://r.test{whole}")), "storedIn is oci://, a host, a repository and the digest"),
    ] {
        let mut other = Artifact::new("other-1.0.0", large.spec.clone());
        (other.spec.chunks, other.spec.stored_in) = (chunks, stored_in);
        let error = artifacts.create(&PostParams { dry_run: true, ..PostParams::default() }, &other).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }

    // It continues from there, and is stored once.
    let (writes, calls) = kept.calls();
    assert!(writes >= 5, "two blobs and a manifest: {writes}");
    succeeded(&world.deploy("to-prod", "prod", "orders", "1.4.0").await);
    kept.allow_redeployments().await;
    let before = world.operator_writes(&world.qa, false).len();
    succeeded(&world.deploy("again", "qa", "orders", "1.4.0").await);
    assert_eq!(world.operator_writes(&world.qa, false).len(), before, "all of it was there");
    let after = kept.calls();
    assert!(after.0 == writes && after.1 > calls, "{after:?} after {:?}", (writes, calls));
    for namespace in [&world.qa, &world.prod] {
        assert_eq!(kept.greeting(namespace, "orders").await.as_deref(), Some("1.4.0"));
        assert_eq!(kept.greeting(namespace, "more").await.as_deref(), Some("more"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_what_flux_and_oras_pull_and_stays_the_same_bytes_when_it_is_pushed_again() {
    let kept = Kept::new("kept-pulled").await;
    let world = &kept.world;
    kept.develop("1.4.0", 100_000).await;
    // Characters that YAML does not accept unescaped.
    let odd = json!({"greeting": "a\u{7f}\u{85}\u{2028}\u{feff}é😀\n"});
    let odd = serde_json::from_value(world.config("orders", "odd", odd)).unwrap();
    Api::<ConfigMap>::namespaced(world.admin.clone(), &world.dev).create(&PostParams::default(), &odd).await.unwrap();
    succeeded(&world.deploy("to-qa", "qa", "orders", "1.4.0").await);
    let artifact = kept.artifact("orders-1.4.0").await;
    let (_, digest) = artifact.spec.stored_in.as_ref().unwrap().split_once('@').unwrap();
    let reference = |which: String| format!("kept/{}/orders{which}", world.host);
    let folders: Vec<PathBuf> =
        ["flux", "oras"].iter().map(|tool| world.plane.dir().join(format!("pulled-{}-{tool}", world.host))).collect();
    let revision = kept.registry.pull_flux(&reference(":1.4.0".to_owned()), &folders[0]).unwrap();
    assert_eq!(revision, format!("1.4.0@{}", artifact.spec.digest));
    kept.registry.pull_oras(&reference(format!("@{digest}")), &folders[1]).unwrap();
    for folder in &folders {
        // Somebody who has only the registry can restore it by hand.
        let namespace = format!("{}-{}", world.host, folder.to_str().unwrap().rsplit('-').next().unwrap());
        let kubectl = world.plane.kubectl();
        kubectl.ok(&["create", "namespace", &namespace]).unwrap();
        kubectl.ok(&["apply", "-n", &namespace, "-f", folder.join("orders-1.4.0").to_str().unwrap()]).unwrap();
        for name in ["orders", "odd"] {
            let (by_hand, deployed) = (kept.greeting(&namespace, name).await, kept.greeting(&world.qa, name).await);
            assert!(by_hand.is_some() && by_hand == deployed, "{by_hand:?} {deployed:?}");
        }
    }
    // The same objects give the same bytes, whichever way they come.
    let again = kept.registry.url("team/taken");
    kept.registry.push_flux("team/taken:2.0.0", &folders[0].join("orders-1.4.0")).unwrap();
    takes_from(world, json!([{"url": again, "plainHttp": true}])).await;
    let mut taken = request(world, "taken", "2.0.0", &again, &json!({"tag": "2.0.0"}));
    taken.spec.solution.name = "taken".into();
    world.ask(&taken).await;
    let copy = world.until("it is stored", async || {
        Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get_opt("taken-2.0.0").await.unwrap()
    });
    assert_eq!(copy.await.spec.digest, artifact.spec.digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_come_from_a_file_that_may_change_and_go_to_that_registry_alone() {
    let world = fixture::world(fixture::shared(), "kept-private").await;
    let registry = Registry::start_private(&world.plane, "keeper", "canary-password").unwrap();
    let file = world.plane.dir().join(format!("{}.dockerconfigjson", world.host));
    let flags = vec![
        ("PILOTAGE_ARTIFACT_STORE", registry.url("kept")),
        ("PILOTAGE_ARTIFACT_STORE_FROM", FROM.to_string()),
        ("PILOTAGE_ARTIFACT_STORE_CREDENTIALS", file.to_str().unwrap().to_owned()),
        ("PILOTAGE_ARTIFACT_STORE_CERTIFICATE_AUTHORITY", registry.authority_file().unwrap().to_str().unwrap().to_owned()),
    ];
    let kept = Kept::of(world, registry, flags).await;
    let world = &kept.world;
    kept.develop("1.4.0", 100_000).await;
    world.ask(&world.request("to-qa", "qa", "orders", "1.4.0")).await;
    let message = world.waits_for("to-qa", "CredentialsUnreadable").await;
    for part in [
        &format!("artifact orders-1.4.0 in host {} belongs in {} (the operator's --artifact-store)", world.host, kept.url("orders")),
        &format!("the file {} of --artifact-store-credentials can't be read", file.display()),
        "mount a .dockerconfigjson there",
        "Waits until",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    let write = |server: &str, password: &str| {
        let config: Value = json!({"auths": {server: {"username": "keeper", "password": password}}});
        std::fs::write(&file, config.to_string()).unwrap();
    };
    let says = |words: String| world.until_request("to-qa", move |r| outcome(r).1.contains(&words));
    let host = kept.registry.host();
    write("elsewhere.example.test", "canary-password");
    says(format!(
        "does not let anybody without credentials write to {} (401): the file of --artifact-store-credentials has no entry for {host}",
        kept.url("orders")
    ))
    .await;
    write(&host, "wrong-canary-password");
    says(format!("does not let user keeper write to {} (401): let that user push to and pull from it", kept.url("orders"))).await;
    write(&host, "canary-password");
    let done = world.approved("to-qa", "qa").await;
    succeeded(&done);
    succeeded(&world.deploy("to-prod", "prod", "orders", "1.4.0").await);

    // A registry that a pipeline names is different, even if the same operator calls it.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("oci://{}/team", other.local_addr().unwrap());
    takes_from(world, json!([{"url": url, "plainHttp": true}])).await;
    world.ask(&request(world, "other", "9.0.0", &url, &json!({"tag": "1"}))).await;
    let heard = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = other.accept().unwrap();
        let mut head = vec![0; 4096];
        let length = std::io::Read::read(&mut stream, &mut head).unwrap();
        String::from_utf8_lossy(&head[..length]).to_ascii_lowercase()
    });
    let heard = heard.await.unwrap();
    assert!(heard.starts_with("get /v2/team/manifests/1 ") && !heard.contains("authorization"), "{heard}");
    let all = Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).list(&ListParams::default()).await.unwrap();
    assert!(!serde_json::to_string(&all.items).unwrap().contains("canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_kept_in_the_registry_is_put_back_when_the_next_one_fails() {
    let kept = Kept::new("kept-back").await;
    let world = &kept.world;
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"] = json!({"timeout": "10s", "onFailure": "Rollback"});
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
    kept.develop("1.0.0", 100_000).await;
    succeeded(&world.deploy("first", "qa", "orders", "1.0.0").await);
    kept.develop("2.0.0", 100_000).await;
    // Its pods have no node to run on.
    let template = json!({"metadata": {"labels": {"app": "orders"}},
        "spec": {"nodeSelector": {"there": "is-none"}, "containers": [{"name": "orders", "image": "orders"}]}});
    world
        .apply(&[json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
            "spec": {"selector": {"matchLabels": {"app": "orders"}}, "template": template},
        })])
        .await;
    let repository = kept.registry.storage().join("docker/registry/v2/repositories/kept").join(&world.host).join("orders");
    let away = repository.with_extension("away");
    let manifest = kept.artifact("orders-1.0.0").await.spec.stored_in.unwrap();
    let manifest = format!("_manifests/revisions/sha256/{}", manifest.rsplit(':').next().unwrap());
    let lose = || std::fs::rename(repository.join(&manifest), &away).unwrap();
    let find = || std::fs::rename(&away, repository.join(&manifest)).unwrap();
    // Whether a rollback is possible is checked before it is needed.
    lose();
    world.ask(&world.request("second", "qa", "orders", "2.0.0")).await;
    let message = world.waits_for("second", "RegistryLacksArtifact").await;
    for part in [
        "1.0.0, which stage qa puts back where the deployment fails (onFailure: Rollback), can't be read",
        &format!("artifact orders-1.0.0 in host {}", world.host),
        "set onFailure: Keep on the stage",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert!(world.operator_writes(&world.qa, false).iter().all(|call| call.resource != "deployments"), "nothing was written");
    find();
    world.until_request("second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "second", "Approved").await.unwrap();
    world.until_request("second", |r| outcome(r).0 == "WaitingForHealth").await;
    // If another registry answers during the rollback, the rollback waits.
    lose();
    world.waits_for("second", "RegistryLacksArtifact").await;
    find();
    let second = world.end("second").await;
    let (reason, message) = outcome(&second);
    assert_eq!((phase(&second).as_str(), reason.as_str()), ("Failed", "RolledBack"), "{message}");
    assert_eq!(kept.greeting(&world.qa, "orders").await.as_deref(), Some("1.0.0"));
    assert!(kept.artifact("orders-1.0.0").await.spec.stored_in.is_some());
}
