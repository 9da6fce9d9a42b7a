//! Attacks by the content of a version: a maker writes anything in development and asks for its deployment.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams};
use pilotage::api::{DeploymentRequest, Solution};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused, told};
use crate::scene::{orders, requests};
use crate::world::{World, phase};

/// The operator wrote nothing to QA, under any identity.
fn untouched(world: &World) {
    let writes = world.operator_writes(&world.qa, false);
    assert!(writes.is_empty(), "{writes:?}");
}

/// A Deployment of a solution in development with these pods.
fn deployment(world: &World, solution: &str, pod: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "app", "image": "registry.example.test/app:1"}]});
    spec.as_object_mut().unwrap().extend(pod.as_object().unwrap().clone());
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": solution, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": solution}},
        "spec": {"selector": {"matchLabels": {"app": solution}}, "template": {"metadata": {"labels": {"app": solution}}, "spec": spec}},
    })
}

/// Solution 1.0.0 of that name, with these fields of its spec.
fn solution(world: &World, name: &str, spec: &Value) -> Value {
    let mut solution = world.solution(name, "1.0.0");
    solution["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    solution
}

/// Asks for 1.0.0 of a solution in QA. Returns the message of the failure.
async fn fails(world: &World, solution: &str, reason: &str) -> String {
    world.ask(&world.request(solution, "qa", solution, "1.0.0")).await;
    world.fails(solution, reason).await
}

/// Asks for 1.0.0 of a solution in QA. It waits for what is not offered. Returns the message.
async fn waits(world: &World, solution: &str) -> String {
    world.ask(&world.request(solution, "qa", solution, "1.0.0")).await;
    let message = world.waits_for(solution, "NotOffered").await;
    assert!(message.starts_with("nothing was written; "), "{message}");
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_uses_what_the_target_does_not_offer() {
    let world = World::new("offered").await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault", "namespace": world.qa}, "stringData": {"key": "canary"}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "root", "namespace": world.qa}});
    world.apply(&[secret, account]).await;
    world.may_look_at(&["vault"]).await;
    let offer = format!("kubectl label secrets vault -n {} pilotage.dev/connection=true", world.qa);

    let mounts = json!({"volumes": [{"name": "v", "secret": {"secretName": "vault"}}]});
    world.apply(&[world.solution("mounts", "1.0.0"), deployment(&world, "mounts", &mounts)]).await;
    let message = waits(&world, "mounts").await;
    told(47, "a workload mounts a Secret of the target", &message, &["Deployment mounts uses Secret vault", "not offered", &offer]);

    // The maker also chooses the name that the request gives for a connection.
    let connection = json!({"connectionReferences": [{"name": "db", "secretName": "dev-db"}]});
    let env =
        json!({"containers": [{"name": "app", "image": "registry.example.test/app:1", "envFrom": [{"secretRef": {"name": "dev-db"}}]}]});
    world.apply(&[solution(&world, "connects", &connection), deployment(&world, "connects", &env)]).await;
    let mut request = serde_json::to_value(world.request("connects", "qa", "connects", "1.0.0")).unwrap();
    request["spec"]["deploymentSettings"] = json!({"connectionReferences": [{"name": "db", "secretName": "vault"}]});
    world.ask(&serde_json::from_value::<DeploymentRequest>(request).unwrap()).await;
    let message = world.waits_for("connects", "NotOffered").await;
    told(47, "a connection is given a Secret of the target", &message, &["Deployment connects uses Secret vault", "not offered", &offer]);

    let offer = format!("kubectl label serviceaccounts root -n {} pilotage.dev/connection=true", world.qa);
    for (name, field) in [("runs", "serviceAccountName"), ("runs-old", "serviceAccount")] {
        world.apply(&[world.solution(name, "1.0.0"), deployment(&world, name, &json!({field: "root"}))]).await;
        let message = waits(&world, name).await;
        told(47, &format!("a workload runs as a ServiceAccount of the target ({field})"), &message, &["uses ServiceAccount root", &offer]);
    }

    let variable = json!({"environmentVariables": [{"name": "WHO", "default": "root",
        "target": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "set", "path": "/spec/template/spec/serviceAccountName"}}]});
    world.apply(&[solution(&world, "set", &variable), deployment(&world, "set", &json!({}))]).await;
    let message = waits(&world, "set").await;
    told(47, "a setting makes a workload run as a ServiceAccount of the target", &message, &["uses ServiceAccount root", &offer]);

    // Shipping an object of that name does not make the target's object the maker's.
    let brought = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "root", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "brings"}}});
    world.apply(&[world.solution("brings", "1.0.0"), brought, deployment(&world, "brings", &json!({"serviceAccountName": "root"}))]).await;
    let message = waits(&world, "brings").await;
    told(101, "a version brings a ServiceAccount that the target has already", &message, &["ServiceAccount root", "NotOffered", &offer]);
    untouched(&world);

    // What its owner offers is used.
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["label", "secret/vault", "serviceaccount/root", "-n", &world.qa, "pilotage.dev/connection=true"]).unwrap();
    for name in ["mounts", "brings"] {
        world.until_request(name, |r| phase(r) == "AwaitingApproval").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_stays_in_its_namespace_and_in_its_set() {
    let world = World::new("bounds").await;
    orders(&world).await;
    assert_eq!(phase(&world.deploy("orders", "qa", "orders", "1.0.0").await), "Succeeded");
    let before = world.operator_writes(&world.qa, false).len();

    let at = |path: &str| json!({"environmentVariables": [{"name": "V", "default": "kube-system", "target": {"kind": "ConfigMap", "name": "aims", "path": path}}]});
    for (attack, what, path, why) in [
        (38, "a setting moves an object to another namespace", "/metadata/namespace", "only labels and annotations"),
        (102, "a setting makes an object another one", "/metadata/name", "only labels and annotations"),
        (102, "a setting makes an object one of another kind", "/kind", "does not change which object it is"),
        (102, "a setting puts an object into another set", "/metadata/labels/applyset.kubernetes.io~1part-of", "written by the deployment"),
        (102, "a setting marks an object as Pilotage's own", "/metadata/labels/pilotage.dev~1connection", "written by the deployment"),
    ] {
        let name = format!("aims{}", path.to_lowercase().replace(['/', '.', '~'], "-"));
        // A version is stored only once, so each attempt has its own.
        let version = format!("1.0.{}", path.len());
        let mut aims = solution(&world, "aims", &at(path));
        aims["spec"]["version"] = version.clone().into();
        world.apply(&[aims, world.config("aims", "aims", json!({}))]).await;
        world.ask(&world.request(&name, "qa", "aims", &version)).await;
        let message = world.fails(&name, "SettingsRefused").await;
        told(attack, what, &message, &["nothing was written", "SettingTargetForbidden", path, why]);
    }
    world.apply(&[solution(&world, "wide", &json!({"components": [{"group": "", "kind": "Namespace"}]}))]).await;
    let message = fails(&world, "wide", "NotNamespaced").await;
    told(38, "a solution of whole namespaces", &message, &["Namespace", "a solution is what is in its namespace"]);
    world.apply(&[solution(&world, "own", &json!({"components": [{"group": "pilotage.dev", "kind": "Stage"}]}))]).await;
    let message = fails(&world, "own", "NeverExported").await;
    told(103, "a solution of Pilotage's own stages", &message, &["Stage", "never exported", "take it out"]);

    // Another solution's objects, and its record.
    world.apply(&[world.solution("takes", "1.0.0"), world.config("takes", "orders", json!({"greeting": "taken"}))]).await;
    // In development, the object is now part of the other solution.
    let message = fails(&world, "takes", "DryRunRefused").await;
    told(104, "a solution takes over another one's object", &message, &["ConfigMap orders", "OwnedByAnotherSet", "nothing was written"]);
    world.apply(&[world.solution("record", "1.0.0"), world.config("record", "pilotage-orders", json!({"a": "b"}))]).await;
    let message = fails(&world, "record", "DryRunRefused").await;
    told(104, "a solution takes over another one's record", &message, &["ConfigMap pilotage-orders", "OwnedByAnotherSet"]);
    world.apply(&[world.solution("self", "1.0.0"), world.config("self", "pilotage-self", json!({"a": "b"}))]).await;
    let message = fails(&world, "self", "DryRunRefused").await;
    told(
        104,
        "a solution brings its own record",
        &message,
        &["ConfigMap pilotage-self", "ReservedName", "give the ConfigMap another name"],
    );
    assert_eq!(world.operator_writes(&world.qa, false).len(), before, "all that was refused wrote nothing");

    // The label of another set on an object in development is not deployed: the other set would prune the object.
    let maps: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.qa);
    let theirs = maps.get("orders").await.unwrap().metadata.labels.unwrap()["applyset.kubernetes.io/part-of"].clone();
    let mut joined = world.config("joins", "joins", json!({}));
    joined["metadata"]["labels"]["applyset.kubernetes.io/part-of"] = theirs.clone().into();
    world.apply(&[world.solution("joins", "1.0.0"), joined]).await;
    assert_eq!(phase(&world.deploy("joins", "qa", "joins", "1.0.0").await), "Succeeded");
    let labels = maps.get("joins").await.unwrap().metadata.labels.unwrap();
    ignored(104, "an object that carries another set's label", labels["applyset.kubernetes.io/part-of"] != theirs, &labels);

    // The bytes of artifacts are only in the host. In no other place does a ConfigMap count as such bytes.
    let mut bytes = world.config("bytes", "bytes", json!({}));
    bytes["metadata"]["labels"]["pilotage.dev/artifact"] = "orders-9.9.9".into();
    let words = ["hold the bytes of artifacts", "leave that label out"];
    refused(105, "a maker's ConfigMap in development with the label of bytes", world.apply_as(&world.dana().await, &bytes), 403, &words)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_leaves_development_or_gets_into_what_others_read() {
    const CANARY: &str = "canary-5f1c0d";
    let world = World::new("canary").await;
    let part_of = json!({"app.kubernetes.io/part-of": "leaky"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "leaky", "namespace": world.dev, "labels": part_of}, "stringData": {"key": CANARY}});
    let mut map = world.config("leaky", "leaky", json!({"harmless": "yes"}));
    map["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": format!("{{\"data\":\"{CANARY}\"}}")});
    world.apply(&[world.solution("leaky", "1.0.0"), secret, map]).await;
    assert_eq!(phase(&world.deploy("leaky", "qa", "leaky", "1.0.0").await), "Succeeded");
    let chunks: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.host);
    let mut bytes = String::new();
    for chunk in chunks.list(&ListParams::default().labels("pilotage.dev/artifact")).await.unwrap() {
        for part in chunk.binary_data.unwrap_or_default().values() {
            let plain = zstd::stream::decode_all(part.0.as_slice()).unwrap_or_else(|_| part.0.clone());
            bytes.push_str(&String::from_utf8_lossy(&plain));
        }
    }
    assert!(bytes.contains("harmless"), "these are the artifact's bytes: {bytes}");
    ignored(39, "a Secret with the solution's label", !bytes.contains(CANARY) && !bytes.contains("\"Secret\""), &"the artifact's bytes");
    world.apply(&[solution(&world, "named", &json!({"components": [{"group": "", "kind": "Secret"}]}))]).await;
    let message = fails(&world, "named", "NeverExported").await;
    told(39, "a solution of Secrets", &message, &["Secret", "never exported", "declare a connection reference"]);

    // The API server quotes what it refuses.
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "broken", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "broken"}},
        "spec": {"selector": {"app": "broken"}, "ports": [{"port": 80}]}});
    let variable = json!({"environmentVariables": [{"name": "TYPE", "default": CANARY,
        "target": {"apiVersion": "v1", "kind": "Service", "name": "broken", "path": "/spec/type"}}]});
    world.apply(&[solution(&world, "broken", &variable), service]).await;
    let message = fails(&world, "broken", "DryRunRefused").await;
    told(37, "a secret value in an invalid manifest", &message, &["Service broken", "spec.type", "nothing was written"]);
    let request = requests(&world, world.admin.clone()).get("broken").await.unwrap();
    let mut broken = Api::<Solution>::namespaced(world.admin.clone(), &world.dev).get("broken").await.unwrap();
    // The definitions of stored versions repeat the defaults of the spec, which the same people read.
    assert!(serde_json::to_string(&broken.spec).unwrap().contains(CANARY));
    let mut told = broken.status.take().unwrap();
    told.versions.clear();
    let events =
        ["events", "events.events.k8s.io"].map(|kind| world.plane.kubectl().ok(&["get", kind, "--all-namespaces", "-o", "json"]).unwrap());
    let log = std::fs::read_to_string(world.plane.dir().join("operator.log")).unwrap();
    assert!(log.contains("admission policies"), "this is the operator's log");
    let seen = [serde_json::to_string(&request.status).unwrap(), serde_json::to_string(&told).unwrap(), events.concat(), log];
    assert!(seen.iter().take(2).all(|text| text.contains("spec.type")), "the refusal is told there");
    for (place, text) in ["the request's status", "the Solution's status", "an Event", "the operator's log"].iter().zip(&seen) {
        let line = text.lines().find(|line| line.contains(CANARY));
        ignored(37, &format!("the secret value, looked for in {place}"), line.is_none(), &line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_refused_and_many_are_bearable() {
    let world = World::new("many").await;
    let dana = world.dana().await;
    let api = requests(&world, dana.clone());
    let sized = |field: &str, value: Value| {
        let mut request = serde_json::to_value(world.request("big", "qa", "orders", "1.0.0")).unwrap();
        request["spec"][field] = value;
        request
    };
    let long = "x".repeat(1024 * 1024);
    let words = ["spec.notes", "Too long"];
    refused(40, "notes of a MiB", crate::scene::create(&world, dana.clone(), &sized("notes", long.clone().into())), 422, &words).await;
    let many: Vec<Value> = (0..10_000).map(|n| json!({"name": format!("V{n}"), "value": "x"})).collect();
    let settings = json!({"environmentVariables": many});
    let many = sized("deploymentSettings", settings);
    let attempt = crate::scene::create(&world, dana.clone(), &many);
    refused(40, "10,000 settings", attempt, 422, &["environmentVariables", "must have at most"]).await;
    let mut noted = world.request("big", "qa", "orders", "1.0.0");
    noted.metadata.annotations = Some([("example.test/note".to_owned(), long.clone())].into());
    refused(40, "an annotation of a MiB", api.create(&PostParams::default(), &noted), 422, &["Too long"]).await;
    let mut odd = world.request("odd", "qa", "nothing", "1.0.0");
    odd.metadata.annotations = Some([("example.test/note".to_owned(), "\u{0}\u{7f}{{{ \u{202e} not: [yaml".to_owned())].into());
    api.create(&PostParams::default(), &odd).await.unwrap();

    // Hundreds of requests that wait for something that will never come delay nobody.
    let names: Vec<String> = (0..300).map(|n| format!("junk-{n}")).collect();
    for part in names.chunks(30) {
        let made = part.iter().map(|name| {
            let request = world.request(name, "qa", name, "1.0.0");
            let api = &api;
            async move { api.create(&PostParams::default(), &request).await }
        });
        futures::future::try_join_all(made).await.unwrap();
    }
    orders(&world).await;
    world.ask(&world.request("orders", "qa", "orders", "1.0.0")).await;
    world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    let words = ["status.approval.comments", "Too long"];
    let patch = json!({"status": {"approval": {"decision": "Approved", "comments": long}}});
    let attempt = crate::scene::patch_status(&world, world.bot("qa").await, "orders", patch);
    refused(40, "a comment of a MiB", attempt, 422, &words).await;
    world.decide("qa", "orders", "Approved").await.unwrap();
    let end = world.end("orders").await;
    ignored(40, "300 requests that wait for nothing, before one that is meant", phase(&end) == "Succeeded", &end.status);
}
