//! Attack 35: kubeconfigs that would run a program, read a file, or send traffic elsewhere. Each is refused by the name of its field, before
//! anything of the kind happens, and nothing of its values is told.

use std::os::unix::fs::OpenOptionsExt as _;

use kube::Api;
use pilotage::api::Environment;
use serde_json::{Value, json};

use crate::abroad::{Abroad, TURNS};

/// A value that must be told nowhere.
const CANARY: &str = "canary-35-d41c";

#[tokio::test(flavor = "multi_thread")]
async fn kubeconfigs_that_do_more_than_name_a_server_are_refused_and_nothing_happens() {
    let _turn = TURNS.read().await;
    let mut abroad = Abroad::new("evil").await;
    let folder = abroad.world.plane.dir().join("evil");
    std::fs::create_dir_all(&folder).unwrap();
    let ran = folder.join("ran");
    let script = folder.join("script");
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\necho {CANARY}\n", ran.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // A pipe: whoever opens it to read waits for a writer, and is seen by it.
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (script, pipe) = (script.to_str().unwrap().to_owned(), pipe.to_str().unwrap().to_owned());

    let good = abroad.kubeconfig(&abroad.gate.url());
    let exec = json!({"apiVersion": "client.authentication.k8s.io/v1", "command": script, "interactiveMode": "Never"});
    let user = |field: &str, value: Value| (format!("a user has {field}"), format!("/users/0/user/{field}"), value);
    let cluster = |field: &str, value: Value| (format!("a cluster has {field}"), format!("/clusters/0/cluster/{field}"), value);
    let server = |said: &str, value: &str| (said.to_owned(), "/clusters/0/cluster/server".to_owned(), json!(value));
    let attacks = [
        user("exec", exec),
        user("auth-provider", json!({"name": "gcp", "config": {"cmd-path": script, "access-token": CANARY}})),
        user("tokenFile", json!(pipe)),
        user("client-certificate", json!(pipe)),
        user("client-key", json!(pipe)),
        user("username", json!(CANARY)),
        user("password", json!(CANARY)),
        user("as", json!(format!("system:{CANARY}"))),
        user("as-groups", json!(["system:masters", CANARY])),
        user("as-uid", json!(CANARY)),
        user("as-user-extra", json!({"a": [CANARY]})),
        cluster("certificate-authority", json!(pipe)),
        cluster("insecure-skip-tls-verify", json!(true)),
        cluster("proxy-url", json!(abroad.gate.url().replace("https", "http"))),
        server("is http", &abroad.gate.url().replace("https", "http")),
        server("user name or password", &abroad.gate.url().replace("https://", &format!("https://dana:{CANARY}@"))),
        server("query", &format!("{}/?{CANARY}", abroad.gate.url())),
        server("metadata service", "https://169.254.169.254"),
        server("metadata service", "https://metadata.google.internal"),
        server("unusual spelling", "https://2852039166"),
    ];
    let environment = abroad.pipeline().into_iter().find(|o| o["kind"] == "Environment" && o["metadata"]["name"] == "prod").unwrap();
    let mut told = String::new();
    for (number, (said, place, value)) in attacks.iter().enumerate() {
        let mut evil = good.clone();
        let (parent, field) = place.rsplit_once('/').unwrap();
        evil.pointer_mut(parent).unwrap()[field] = value.clone();
        abroad.remember(&evil).await;
        if number == 0 {
            abroad.world.apply_as(&abroad.world.olga().await, &environment).await.unwrap();
        }
        abroad.look_again::<Environment>("prod").await;
        let world = &abroad.world;
        let what = format!("the Environment says: {said}");
        let found = world.until(&what, async || {
            world
                .condition::<Environment>("prod", "Ready")
                .await
                .filter(|(reason, text)| reason == "KubeconfigRefused" && text.contains(said))
        });
        let (_, message) = abroad.site.tending(found).await;
        assert!(message.contains("key kubeconfig of Secret eu"), "{message}");
        println!("attack 35 refused: {place}");
        told.push_str(&message);
    }
    assert_eq!(abroad.gate.taken(), 0, "no connection was made");
    assert!(!ran.exists(), "no program was started");
    // Without waiting: it can't be opened to write while nobody reads.
    let reader = std::fs::OpenOptions::new().write(true).custom_flags(0o4000).open(&pipe);
    assert!(reader.is_err(), "no file is read");
    assert!(!told.contains(CANARY), "a value was told: {told}");

    // What is behind it all was in order.
    abroad.remember(&good).await;
    abroad.environment_says("Validated").await;
    assert!(abroad.gate.taken() > 0);
    let environment = Api::<Environment>::namespaced(abroad.world.admin.clone(), &abroad.world.host).get("prod").await.unwrap();
    let token = good["users"][0]["user"]["token"].as_str().unwrap();
    assert!(!serde_json::to_string(&environment).unwrap().contains(token));
    assert!(!abroad.site.whole_log().contains(token) && !abroad.site.whole_log().contains(CANARY), "neither is in the log");
}
