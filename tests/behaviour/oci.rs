//! An artifact that another system pushed to a registry is deployed unchanged. The registry is real; Flux and ORAS push to it.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use pilotage::api::{Artifact, DeploymentRequest, Stage};
use pilotage_harness::Registry;
use serde_json::json;

use crate::shipped::{archive, config, folder, greeting, push_layer, request, takes_from};
use crate::world::{World, outcome, phase};

const SOLUTION: &str = "apiVersion: pilotage.dev/v1alpha1\nkind: Solution\nmetadata: {name: orders}\nspec:\n  version: 1.4.0\n  environmentVariables:\n  - {name: GREETING, default: hello, target: {kind: ConfigMap, name: orders, path: /data/greeting}}\n";

fn succeeded(request: &DeploymentRequest) {
    assert_eq!(phase(request), "Succeeded", "{:?}", outcome(request));
}

async fn artifact(world: &World, name: &str) -> Artifact {
    Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get(name).await.unwrap()
}

fn source(request: &DeploymentRequest) -> Option<String> {
    request.status.as_ref().and_then(|s| s.run.source.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flux_pushed_goes_to_qa_and_production_wherever_its_tag_moves() {
    let world = World::new("oci-flux").await;
    let registry = Registry::start(&world.plane).unwrap();
    takes_from(&world, json!([{"url": registry.url("team"), "plainHttp": true}])).await;
    let written =
        format!("{}---\n{}", config("orders", "unset").replace("  labels:", "  namespace: some-dev\n  labels:"), config("more", "deep"));
    let files = [("app.yaml", written.as_str()), ("solution.yaml", SOLUTION), ("README.md", "not: [a manifest")];
    let first = registry.push_flux("team/orders:1.4.0", &folder(&world, &files)).unwrap();
    let pinned = format!("{}@{first}", registry.url("team/orders"));

    let mut wanted = request(&world, "to-qa", "1.4.0", &registry.url("team/orders"), &json!({"tag": "1.4.0"}));
    let set = json!({"environmentVariables": [{"name": "GREETING", "value": "ahoy"}]});
    wanted.spec.deployment_settings = Some(serde_json::from_value(set).unwrap());
    world.ask(&wanted).await;
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    assert_eq!(source(&waiting).as_ref(), Some(&pinned));
    let stored = artifact(&world, "orders-1.4.0").await;
    assert_eq!((stored.spec.source.oci.as_ref(), stored.spec.source.environment), (Some(&pinned), None));
    assert_eq!((stored.spec.object_count, stored.spec.exported_by.username.as_str()), (2, "dana"));
    assert_eq!(stored.spec.environment_variables[0].name, "GREETING");

    // Somebody moves the tag while the approver reads the plan.
    let evil = registry.push_flux("team/orders:1.4.0", &folder(&world, &[("app.yaml", &config("orders", "evil"))])).unwrap();
    assert_ne!(evil, first);
    succeeded(&world.approved("to-qa", "qa").await);
    assert_eq!(greeting(&world, &world.qa, "orders").await.as_deref(), Some("ahoy"));
    assert_eq!(greeting(&world, &world.qa, "more").await.as_deref(), Some("deep"));

    // The next stage needs no registry.
    drop(registry);
    succeeded(&world.deploy("to-prod", "prod", "orders", "1.4.0").await);
    assert_eq!(greeting(&world, &world.prod, "orders").await.as_deref(), Some("hello"), "the default");
    let digest = |r: DeploymentRequest| r.status.unwrap().run.artifact.unwrap().digest;
    let both = [world.end("to-qa").await, world.end("to-prod").await].map(digest);
    assert!(both.iter().all(|d| *d == stored.spec.digest), "{both:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_oras_pushed_goes_to_qa_and_production_by_its_digest() {
    let world = World::new("oci-oras").await;
    let registry = Registry::start(&world.plane).unwrap();
    takes_from(&world, json!([{"url": registry.url("team/orders"), "plainHttp": true}])).await;
    let more = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "listed"}, "data": {"greeting": "json"}}]});
    let dir = folder(&world, &[("app.yaml", &config("orders", "hello")), ("more/deep/list.json", &more.to_string())]);
    let digest = registry
        .push_oras("team/orders:any", &dir, &["--artifact-type", "application/vnd.contoso.app", "app.yaml:application/yaml", "more"])
        .unwrap();
    world.ask(&request(&world, "to-qa", "1.4.0", &registry.url("team/orders"), &json!({"digest": digest}))).await;
    succeeded(&world.approved("to-qa", "qa").await);
    succeeded(&world.deploy("to-prod", "prod", "orders", "1.4.0").await);
    for namespace in [&world.qa, &world.prod] {
        assert_eq!(greeting(&world, namespace, "orders").await.as_deref(), Some("hello"));
        assert_eq!(greeting(&world, namespace, "listed").await.as_deref(), Some("json"));
    }
    assert_eq!(artifact(&world, "orders-1.4.0").await.spec.source.oci, Some(format!("{}@{digest}", registry.url("team/orders"))));
    // ORAS calls a file without a given type an archive, and names it.
    let untold = registry.push_oras("team/orders:untold", &dir, &["app.yaml"]).unwrap();
    world.ask(&request(&world, "untold", "1.5.0", &registry.url("team/orders"), &json!({"digest": untold}))).await;
    succeeded(&world.approved("untold", "qa").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_registry_is_read_with_the_credentials_that_the_administrator_names() {
    let world = World::new("oci-private").await;
    let registry = Registry::start_private(&world.plane, "ci", "canary-password").unwrap();
    let (url, host) = (registry.url("team/orders"), &world.host);
    registry.push_flux("team/orders:1.4.0", &folder(&world, &[("app.yaml", &config("orders", "hello"))])).unwrap();
    let authority = registry.authority().unwrap();
    let ask = |name: &str| request(&world, name, "1.4.0", &url, &json!({"tag": "1.4.0"}));

    // The operator's machine does not trust its certificate.
    takes_from(&world, json!([{"url": url}])).await;
    world.ask(&ask("to-qa")).await;
    let message = world.waits_for("to-qa", "RegistryUnreachable").await;
    assert!(message.contains("certificate") && message.contains(&registry.host()), "{message}");

    takes_from(&world, json!([{"url": url, "certificateAuthority": authority}])).await;
    let message = world.waits_for("to-qa", "RegistryUnauthorized").await;
    let words =
        [format!("registry {} does not let anybody without credentials read {url} (401)", registry.host()), "credentialsSecretRef".into()];
    assert!(words.iter().all(|word| message.contains(word)), "{message}");

    // The Secret does not exist, and the operator may not read it.
    let entry = json!({"url": url, "certificateAuthority": authority, "credentialsSecretRef": {"name": "pull"}});
    takes_from(&world, json!([entry])).await;
    let message = world.waits_for("to-qa", "CredentialsUnreadable").await;
    let grant = &message[message.find("apiVersion:").unwrap()..];
    assert!(message.contains(&format!("the operator may not read Secret pull in namespace {host}")) && grant.contains("pull"), "{message}");
    let applied = world.plane.kubectl().run_with(&["apply", "-f", "-"], grant).unwrap();
    assert!(applied.ok, "{}", applied.stderr);
    let says = |words: &'static str| {
        let world = &world;
        async move { world.until_request("to-qa", |r| outcome(r).1.contains(words)).await }
    };
    says("does not exist: kubectl create secret docker-registry pull").await;

    let secret = |user: &str, password: &str, server: &str| {
        let config = json!({"auths": {server: {"username": user, "password": password}}}).to_string();
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "metadata": {"name": "pull", "namespace": host},
            "stringData": {".dockerconfigjson": config},
        })
    };
    world.apply(&[secret("ci", "canary-password", "other.example.test")]).await;
    says("the Secret has no entry for 127.0.0.1").await;
    world.apply(&[secret("ci", "wrong-canary-password", &registry.host())]).await;
    let refused = says("does not let user ci read").await;
    let text = serde_json::to_string(&refused).unwrap();
    assert!(outcome(&refused).1.contains("correct the credentials in the Secret") && !text.contains("canary"), "{text}");

    world.apply(&[secret("ci", "canary-password", &registry.host())]).await;
    let done = world.approved("to-qa", "qa").await;
    succeeded(&done);
    assert!(!serde_json::to_string(&done).unwrap().contains("canary"));
    let secrets: Api<Secret> = Api::namespaced(world.admin.clone(), host);
    assert_eq!(secrets.get("pull").await.unwrap().type_.as_deref(), Some("kubernetes.io/dockerconfigjson"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_is_waited_for_and_a_tag_that_is_not_there_too() {
    let world = World::new("oci-down").await;
    let mut registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/orders");
    takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
    registry.stop();
    world.ask(&request(&world, "to-qa", "1.4.0", &url, &json!({"tag": "next"}))).await;
    let message = world.waits_for("to-qa", "RegistryUnreachable").await;
    for word in [
        &format!("registry {} can't be reached", registry.host()),
        "(since 20",
        "start it, or let the operator's pods reach it",
        "Waits until",
    ] {
        assert!(message.contains(word), "{word}: {message}");
    }
    registry.resume().unwrap();
    let message = world.waits_for("to-qa", "ArtifactNotFound").await;
    assert!(message.contains(&format!("{url}:next is not in the registry: push it")), "{message}");
    registry.push_flux("team/orders:next", &folder(&world, &[("app.yaml", &config("orders", "hello"))])).unwrap();
    succeeded(&world.approved("to-qa", "qa").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_pinned_before_the_first_gate_opens() {
    let world = World::new("oci-gate").await;
    let registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/orders");
    takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
    let mut careful = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    careful["spec"]["preExportStepRequired"] = true.into();
    world.apply_as(&world.olga().await, &careful).await.unwrap();
    world.ready::<Stage>("qa").await;
    let first = registry.push_flux("team/orders:latest", &folder(&world, &[("app.yaml", &config("orders", "shown"))])).unwrap();
    world.ask(&request(&world, "to-qa", "1.4.0", &url, &json!({"tag": "latest"}))).await;
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingPreExportStep").await;
    assert_eq!(source(&waiting), Some(format!("{url}@{first}")), "whoever decides sees what it is about");
    registry.push_flux("team/orders:latest", &folder(&world, &[("app.yaml", &config("orders", "moved"))])).unwrap();
    let decided = json!({"status": {"preExportStep": {"decision": "Completed", "comments": "seen"}}});
    let requests: Api<DeploymentRequest> = Api::namespaced(world.eve().await, &world.host);
    requests.patch_status("to-qa", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(decided)).await.unwrap();
    succeeded(&world.approved("to-qa", "qa").await);
    assert_eq!(greeting(&world, &world.qa, "orders").await.as_deref(), Some("shown"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_has_one_source_for_ever_and_is_deployed_again_without_the_registry() {
    let world = World::new("oci-again").await;
    let registry = Registry::start(&world.plane).unwrap();
    let (url, other) = (registry.url("team/orders"), registry.url("team/orders-too"));
    takes_from(&world, json!([{"url": registry.url("team"), "plainHttp": true}])).await;
    let files = folder(&world, &[("app.yaml", &config("orders", "hello"))]);
    let tag = json!({"tag": "1.4.0"});
    for repository in ["team/orders:1.4.0", "team/orders-too:1.4.0"] {
        registry.push_flux(repository, &files).unwrap();
    }
    world.ask(&request(&world, "to-qa", "1.4.0", &url, &tag)).await;
    succeeded(&world.approved("to-qa", "qa").await);
    let patch = json!({"spec": {"allowRedeployments": true}});
    let pipelines: Api<pilotage::api::Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
    pipelines.patch("standard", &kube::api::PatchParams::default(), &kube::api::Patch::Merge(patch)).await.unwrap();
    world.ready::<pilotage::api::Pipeline>("standard").await;

    // From another registry, even with the same bytes; from development; and the other way round.
    world.ask(&request(&world, "elsewhere", "1.4.0", &other, &tag)).await;
    let message = world.fails("elsewhere", "ExportedElsewhere").await;
    assert!(
        message.contains(&format!("orders 1.4.0 was taken from {url}@sha256:"))
            && message.contains(&format!("Raise the version to ship it from {other}@")),
        "{message}"
    );
    world
        .apply(&[
            world.solution("orders", "1.4.0"),
            world.config("orders", "orders", json!({})),
            world.solution("web", "1.0.0"),
            world.config("web", "web", json!({})),
        ])
        .await;
    let mut exported = world.request("exported", "qa", "orders", "1.4.0");
    exported.spec.source_environment = Some("dev".into());
    world.ask(&exported).await;
    assert!(world.fails("exported", "ExportedElsewhere").await.contains("Raise the version to ship it from dev"));
    succeeded(&world.deploy("web", "qa", "web", "1.0.0").await);
    let mut pushed = request(&world, "pushed", "1.0.0", &url, &tag);
    pushed.spec.solution.name = "web".into();
    world.ask(&pushed).await;
    let message = world.fails("pushed", "ExportedElsewhere").await;
    assert!(
        message.contains("web 1.0.0 was exported from environment dev") && message.contains(&format!("Raise the version to ship {url}@")),
        "{message}"
    );

    // A moved tag is another source too. A request without a source means what is developed. Where nothing is developed, it means the
    // stored version. That needs the pipeline's list, but not the registry.
    registry.push_flux("team/orders:1.4.0", &folder(&world, &[("app.yaml", &config("orders", "moved"))])).unwrap();
    world.ask(&request(&world, "moved", "1.4.0", &url, &tag)).await;
    assert!(world.fails("moved", "ExportedElsewhere").await.contains("a version has one source for ever"));
    world.ask(&world.request("nameless", "qa", "orders", "1.4.0")).await;
    assert!(world.fails("nameless", "SourceDiffers").await.contains("means what is developed in environment dev"));
    world.plane.kubectl().ok(&["delete", "solution", "orders", "-n", &world.dev]).unwrap();
    drop(registry);
    succeeded(&world.deploy("again", "qa", "orders", "1.4.0").await);
    takes_from(&world, json!([])).await;
    world.ask(&world.request("unlisted", "qa", "orders", "1.4.0")).await;
    let message = world.fails("unlisted", "RepositoryNotAllowed").await;
    assert!(
        message.contains(&format!("{url} is not, and not below, a repository that pipeline standard takes artifacts from")),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_stage_takes_nothing_from_a_registry() {
    let world = World::new("oci-later").await;
    let mut wanted = request(&world, "to-prod", "1.4.0", "oci://registry.example.test/team/orders", &json!({"tag": "1"}));
    wanted.spec.stage = "prod".into();
    world.ask(&wanted).await;
    let message = world.fails("to-prod", "SourceNotAllowed").await;
    assert!(message.contains("stage prod comes after qa") && message.contains("make a new request without artifact"), "{message}");
}

/// What is pushed, and what happens when it is requested.
struct Refusal {
    name: &'static str,
    reason: &'static str,
    words: &'static [&'static str],
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_deployed_is_refused_with_what_to_do_and_takes_no_version() {
    let world = World::new("oci-refused").await;
    let registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/orders");
    takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
    let flux = |name: &str, files: &[(&str, &str)]| {
        registry.push_flux(&format!("team/orders:{name}"), &folder(&world, files)).unwrap();
    };
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: canary}\n";
    let cluster = "apiVersion: storage.k8s.io/v1\nkind: CSINode\nmetadata: {name: everything}\nspec: {drivers: []}\n";
    flux("secret", &[("a.yaml", &config("orders", "x")), ("s.yaml", secret)]);
    flux("cluster", &[("a.yaml", &config("orders", "x")), ("c.yaml", cluster)]);
    flux("stage", &[("s.yaml", "apiVersion: pilotage.dev/v1alpha1\nkind: Stage\nmetadata: {name: prod}\n")]);
    flux("broken", &[("a.yaml", "apiVersion: v1\nkind: ConfigMap\ndata: {a: canary\n")]);
    flux("twice", &[("a.yaml", &config("orders", "x")), ("b.yaml", &config("orders", "y"))]);
    flux(
        "namespaces",
        &[
            ("a.yaml", &config("a", "x").replace("  labels", "  namespace: one\n  labels")),
            ("b.yaml", &config("b", "x").replace("  labels", "  namespace: kube-system\n  labels")),
        ],
    );
    flux("solution", &[("a.yaml", &config("orders", "x")), ("s.yaml", SOLUTION)]);
    flux("nothing", &[("README.md", "hello")]);
    let image = folder(&world, &[("config.json", "{}"), ("layer.yaml", "a: b")]);
    let typed = "config.json:application/vnd.oci.image.config.v1+json";
    registry.push_oras("team/orders:image", &image, &["--config", typed, "layer.yaml:application/yaml"]).unwrap();
    let zip = folder(&world, &[("app.zip", "PK")]);
    registry.push_oras("team/orders:zip", &zip, &["app.zip:application/zip"]).unwrap();
    registry.push_index("team/orders:index", &["image"]).unwrap();
    push_layer(&world, &registry, "team/orders:damaged", b"this is no archive");
    let zeros = vec![b' '; 33 * 1024 * 1024];
    let bomb = archive("bomb.yaml", tar::EntryType::Regular, &zeros);
    assert!(bomb.len() < 1024 * 1024, "small on its way: {}", bomb.len());
    push_layer(&world, &registry, "team/orders:bomb", &bomb);
    // Bytes that can't be compressed.
    let mut state = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    })
    .take(17 * 1024 * 1024)
    .collect();
    push_layer(&world, &registry, "team/orders:large", &noise);

    let refusals = [
        Refusal {
            name: "secret",
            reason: "SecretNotAllowed",
            words: &["s.yaml is Secret db: Secrets are never deployed", "connection reference"],
        },
        Refusal {
            name: "cluster",
            reason: "NeverDeployed",
            words: &["CSINode everything is cluster-scoped", "no solution ever brings", "leave it out"],
        },
        Refusal { name: "stage", reason: "NeverDeployed", words: &["s.yaml is Stage prod of pilotage.dev/v1alpha1", "leave it out"] },
        Refusal {
            name: "broken",
            reason: "ManifestUnreadable",
            words: &["a.yaml is not YAML that can be read (line", "correct it and push it again"],
        },
        Refusal { name: "twice", reason: "Duplicate", words: &["ConfigMap orders is in a.yaml and in b.yaml", "keep one of them"] },
        Refusal {
            name: "namespaces",
            reason: "OtherNamespace",
            words: &["a.yaml is for namespace one, and b.yaml for kube-system", "leave metadata.namespace out"],
        },
        Refusal {
            name: "solution",
            reason: "SolutionDiffers",
            words: &["s.yaml is Solution orders 1.4.0, and the request is for orders 9.9.9"],
        },
        Refusal { name: "nothing", reason: "NothingToDeploy", words: &["no file in it that is named *.yaml"] },
        Refusal { name: "image", reason: "WrongMediaType", words: &["image of a container", "flux push artifact"] },
        Refusal { name: "index", reason: "WrongMediaType", words: &["it is an index of several images", "flux push artifact"] },
        Refusal { name: "zip", reason: "WrongMediaType", words: &["(app.zip) has media type application/zip", "flux push artifact"] },
        Refusal { name: "damaged", reason: "ArchiveUnreadable", words: &["not a gzip-compressed tar archive", "push it again"] },
        Refusal { name: "bomb", reason: "ArtifactTooLarge", words: &["33554432 bytes when they are unpacked", "split the solution"] },
        Refusal { name: "large", reason: "ArtifactTooLarge", words: &["16777216 can be fetched", "split the solution"] },
    ];
    for refusal in &refusals {
        world.ask(&request(&world, refusal.name, "9.9.9", &url, &json!({"tag": refusal.name}))).await;
    }
    for Refusal { name, reason, words } in &refusals {
        let message = world.fails(name, reason).await;
        assert!(words.iter().all(|word| message.contains(word)) && message.contains(&url), "{name}: {message}");
        assert!(!message.contains("canary"), "{name}: {message}");
    }
    // The version is still free.
    flux("good", &[("a.yaml", &config("orders", "good"))]);
    world.ask(&request(&world, "good", "9.9.9", &url, &json!({"tag": "good"}))).await;
    succeeded(&world.approved("good", "qa").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_lead_elsewhere_is_refused_as_it_is_written() {
    let world = World::new("oci-schema").await;
    let requests: Api<DeploymentRequest> = Api::namespaced(world.dana().await, &world.host);
    for (url, which, words) in [
        ("https://registry.example.test/team", json!({"tag": "1"}), "url is oci://"),
        ("oci://user:password@registry.example.test/team", json!({"tag": "1"}), "no tag, user, password or query"),
        ("oci://registry.example.test/team/../other", json!({"tag": "1"}), "url is oci://"),
        ("oci://registry.example.test/team:1", json!({"tag": "1"}), "url is oci://"),
        ("oci://registry.example.test/team", json!({}), "either tag or digest"),
        ("oci://registry.example.test/team", json!({"tag": "1", "digest": format!("sha256:{}", "a".repeat(64))}), "either tag or digest"),
        ("oci://registry.example.test/team", json!({"tag": "../../x"}), "tag is made of letters"),
        ("oci://registry.example.test/team", json!({"digest": format!("sha256:{}", "A".repeat(64))}), "digest is sha256:"),
    ] {
        let wanted = request(&world, "x", "1.4.0", url, &which);
        let error = requests.create(&kube::api::PostParams::default(), &wanted).await.unwrap_err().to_string();
        assert!(error.contains(words), "{url}: {error}");
    }
}
