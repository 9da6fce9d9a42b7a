//! Attacks through registries: what the operator fetches and with whose credentials, and what a registry or its writers may do.

use std::net::TcpListener;

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Pipeline};
use pilotage_harness::Registry;
use serde_json::{Value, json};
use tar::EntryType;

use crate::attempt::{ignored, refused, told};
use crate::scene::{administrator, operator, patch_status};
use crate::shipped::{archive, config, folder, push_layer, request, takes_from};
use crate::world::{World, client, phase};

async fn set(world: &World, who: &kube::Client, entries: Value) -> kube::Result<Pipeline> {
    let pipelines: Api<Pipeline> = Api::namespaced(who.clone(), &world.host);
    let patch = Patch::Merge(json!({"spec": {"artifactRepositories": entries}}));
    pipelines.patch("standard", &PatchParams::default(), &patch).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_holds_files_and_folders_and_nothing_else() {
    let world = World::new("oci-archive").await;
    let registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/orders");
    takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
    let manifest = config("orders", "hello");
    let manifest = manifest.as_bytes();
    let cases: [(&str, &str, EntryType, &[u8], &str); 8] = [
        ("up", "../evil.yaml", EntryType::Regular, manifest, "leads out of its folder"),
        ("deep-up", "a/../../evil.yaml", EntryType::Regular, manifest, "leads out of its folder"),
        ("absolute", "/etc/evil.yaml", EntryType::Regular, manifest, "is absolute"),
        ("backslash", "..\\evil.yaml", EntryType::Regular, manifest, "has a backslash"),
        ("symlink", "app.yaml", EntryType::Symlink, b"", "is a symbolic link"),
        ("hardlink", "app.yaml", EntryType::Link, b"", "is a hard link"),
        ("device", "zero.yaml", EntryType::Char, b"", "is a device"),
        ("pipe", "app.yaml", EntryType::Fifo, b"", "is a named pipe"),
    ];
    for (name, path, kind, content, _) in cases {
        push_layer(&world, &registry, &format!("team/orders:{name}"), &archive(path, kind, content));
        world.ask(&request(&world, name, "1.0.0", &url, &json!({"tag": name}))).await;
    }
    for (name, _, _, _, words) in cases {
        let message = world.fails(name, "ArtifactUnsafe").await;
        told(36, &format!("an archive with an entry that {words}"), &message, &[words, &url, "Push plain files and folders only"]);
    }
    assert!(world.operator_writes(&world.qa, true).is_empty(), "not even a dry run");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_was_altered_in_the_registrys_storage_is_found_out() {
    let world = World::new("oci-altered").await;
    let registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/orders");
    takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
    let files = |greeting: &str| folder(&world, &[("app.yaml", &config("orders", greeting)), ("config.json", "{\"a\":1}")]);
    let typed = "config.json:application/vnd.unknown.config.v1+json";
    let push = |tag: &str, greeting: &str| {
        registry.push_oras(&format!("team/orders:{tag}"), &files(greeting), &["--config", typed, "app.yaml:application/yaml"]).unwrap()
    };
    let alter = |digest: &str, from: &str, to: &str| {
        let path = registry.blob(digest);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
    };
    // Each is what its own manifest says, so only the digest shows the difference.
    for (number, what, from, to) in
        [(1, "layer", "hello-1", "jello-1"), (2, "config", "{\"a\":1}", "{\"a\":2}"), (3, "manifest", "created\":\"20", "created\":\"21")]
    {
        let tag = format!("altered-{number}");
        let digest = push(&tag, &format!("hello-{number}"));
        let manifest: Value = serde_json::from_slice(&std::fs::read(registry.blob(&digest)).unwrap()).unwrap();
        let of = |pointer: &str| manifest.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        let blob = match what {
            "layer" => of("/layers/0/digest"),
            "config" => of("/config/digest"),
            _ => digest.clone(),
        };
        let before = std::fs::read(registry.blob(&blob)).unwrap();
        alter(&blob, from, to);
        world.ask(&request(&world, &tag, &format!("{number}.0.0"), &url, &json!({"digest": digest}))).await;
        let message = world.fails(&tag, "DigestMismatch").await;
        let words = [
            format!("the {what} of {url}@{digest} was altered: it should have digest {blob}, and what the registry sent has sha256:"),
            "Nothing is taken from it. Find out who changed the registry's storage".to_owned(),
        ];
        told(43, &format!("a {what} of an artifact, altered in the registry"), &message, &words.each_ref().map(String::as_str));
        std::fs::write(registry.blob(&blob), before).unwrap();
    }
    let none =
        Api::<pilotage::api::Artifact>::namespaced(world.admin.clone(), &world.host).list(&kube::api::ListParams::default()).await.unwrap();
    assert!(none.items.is_empty(), "no version was taken by it");
    assert!(world.operator_writes(&world.qa, true).is_empty(), "not even a dry run");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_lends_credentials_that_they_can_not_read() {
    let world = World::new("oci-lent").await;
    let ann = administrator(&world, "ann").await;
    let with = |url: &str, secret: &str| json!({"url": url, "credentialsSecretRef": {"name": secret}});
    let (theirs, hers) = ("oci://theirs.example.test/team", "oci://hers.example.test");
    set(&world, &world.admin, json!([with(theirs, "theirs"), {"url": hers}])).await.unwrap();
    let words = |index: usize| {
        [format!("you can't read the Secret of spec.artifactRepositories[{index}].credentialsSecretRef"), "verb get".to_owned()]
    };
    let authority =
        json!({"url": theirs, "credentialsSecretRef": {"name": "theirs"}, "certificateAuthority": "-----BEGIN CERTIFICATE-----"});
    let filler = |n: usize| json!({"url": format!("oci://r{n}.example.test")});
    for (what, entries, index) in [
        ("credentials of others are sent to another registry", json!([with("oci://evil.example.test", "theirs"), {"url": hers}]), 0),
        ("credentials of others for a wider path", json!([with("oci://theirs.example.test", "theirs"), {"url": hers}]), 0),
        ("a registry of others is trusted by another authority", json!([authority, {"url": hers}]), 0),
        ("one's own registry is given the credentials of others", json!([with(theirs, "theirs"), with(hers, "theirs")]), 1),
        (
            "the eighth registry is given the credentials of others",
            json!([filler(0), filler(1), filler(2), filler(3), filler(4), filler(5), filler(6), with(hers, "theirs")]),
            7,
        ),
    ] {
        let words = words(index);
        refused(143, what, set(&world, &ann, entries), 403, &words.each_ref().map(String::as_str)).await;
    }
    let stays = set(&world, &ann, json!([with(theirs, "theirs"), {"url": hers, "plainHttp": true}])).await.unwrap();
    assert_eq!(stays.spec.artifact_repositories.len(), 2, "what stays as it is needs no right");

    let plain = json!([{"url": theirs, "credentialsSecretRef": {"name": "theirs"}, "plainHttp": true}]);
    refused(144, "credentials over http", set(&world, &world.admin, plain), 422, &["credentials are never sent over http"]).await;
    for url in [
        "oci://user:password@theirs.example.test",
        "oci://theirs.example.test/../x",
        "https://theirs.example.test",
        "oci://theirs.example.test/team/",
    ] {
        refused(
            144,
            &format!("a repository at {url}"),
            set(&world, &world.admin, json!([{"url": url}])),
            422,
            &["url is oci://, a host in lower case"],
        )
        .await;
    }
    let many: Vec<Value> = (0..9).map(filler).collect();
    let attempt = set(&world, &world.admin, json!(many));
    refused(144, "more repositories than admission checks", attempt, 422, &["spec.artifactRepositories", "at most 8"]).await;
    let dana = world.dana().await;
    refused(145, "a maker adds a repository", set(&world, &dana, json!([{"url": hers}])), 403, &["dana", "cannot patch"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_maker_makes_the_operator_ask_nobody_whom_the_administrator_does_not_name() {
    let world = World::new("oci-ssrf").await;
    let registry = Registry::start(&world.plane).unwrap();
    registry.push_flux("team-b/orders:1", &folder(&world, &[("app.yaml", &config("orders", "hello"))])).unwrap();
    takes_from(&world, json!([{"url": registry.url("team"), "plainHttp": true}, {"url": "oci://169.254.169.254", "plainHttp": true}]))
        .await;
    let inside = TcpListener::bind("127.0.0.1:0").unwrap();
    inside.set_nonblocking(true).unwrap();
    let address = format!("oci://{}/latest/meta-data", inside.local_addr().unwrap());
    for (name, what, url) in [
        ("inside", "an address inside the cluster", address),
        ("lookalike", "a repository whose name begins like one that is named", registry.url("team-b/orders")),
        ("server", "the API server as a registry", format!("oci://{}/api/v1", world.plane.server().trim_start_matches("https://"))),
    ] {
        world.ask(&request(&world, name, "1.0.0", &url, &json!({"tag": "1"}))).await;
        let message = world.fails(name, "RepositoryNotAllowed").await;
        let start = format!("{url} is not, and not below, a repository that pipeline standard takes artifacts from");
        told(145, what, &message, &[&start, "nothing was asked there", "let an administrator add it to spec.artifactRepositories"]);
    }
    let asked = inside.accept();
    ignored(
        145,
        "a connection to an address inside the cluster",
        asked.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock),
        &asked,
    );
    let log = std::fs::read_to_string(registry.log()).unwrap();
    let fetched = log.lines().filter(|line| line.contains("team-b") && line.contains("pilotage/")).count();
    ignored(145, "a repository that is not named, by the registry's log", fetched == 0, &log);

    // What an administrator may name by mistake.
    world.ask(&request(&world, "metadata", "1.0.0", "oci://169.254.169.254/latest/meta-data", &json!({"tag": "1"}))).await;
    let message = world.waits_for("metadata", "RegistryUnreachable").await;
    told(146, "the address of a machine's metadata", &message, &["has the link-local address 169.254.169.254", "nothing is sent there"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tag_meant_is_written_once() {
    let world = World::new("oci-pinned").await;
    let registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/orders");
    takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
    registry.push_flux("team/orders:1", &folder(&world, &[("app.yaml", &config("orders", "hello"))])).unwrap();
    world.ask(&request(&world, "to-qa", "1.0.0", &url, &json!({"tag": "1"}))).await;
    let waiting: DeploymentRequest = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval").await;
    assert!(waiting.status.unwrap().run.source.is_some());
    let stolen = client(operator(&world)).await;
    for (what, source) in [
        ("the operator rewrites what a tag meant", json!(format!("{url}@sha256:{}", "a".repeat(64)))),
        ("the operator forgets what a tag meant", Value::Null),
    ] {
        let attempt = patch_status(&world, stolen.clone(), "to-qa", json!({"status": {"source": source}}));
        refused(147, what, attempt, 422, &["status.source is written once"]).await;
    }
}
