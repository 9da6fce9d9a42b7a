//! Attack 35: kubeconfigs that would run a program, read a file, or send traffic to another place. Each is refused before that happens. The
//! message names the field, and none of its values.

use std::os::unix::fs::OpenOptionsExt as _;

use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::Environment;
use serde_json::{Value, json};

use crate::attempt::{ignored, told};
use crate::scene::{grant, user};
use crate::tcp_proxy::TcpProxy;
use crate::world::World;

/// A value that must not appear anywhere.
const CANARY: &str = "canary-35-d41c";
/// The kubeconfig's Secret. The kubeconfig leads to this cluster itself, through a proxy that counts connections.
const CLUSTER: &str = "eu";

/// Puts a kubeconfig into the Secret.
async fn remember(world: &World, kubeconfig: &Value) {
    let metadata = json!({"name": CLUSTER, "namespace": world.host});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"kubeconfig": kubeconfig.to_string()}});
    world.apply(&[secret]).await;
}

/// Asks for a new validation of the Environment, as an administrator would.
async fn look_again(world: &World, number: usize) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.com/look": number.to_string()}}}));
    Api::<Environment>::namespaced(world.admin.clone(), &world.host).patch("far", &PatchParams::default(), &patch).await.unwrap();
}

/// A kubeconfig whose user sees only the namespace of production.
async fn good(world: &World, proxy: &TcpProxy) -> Value {
    let see = format!("see-{}", world.prod);
    let rbac = "rbac.authorization.k8s.io";
    let subjects = json!([{"kind": "ServiceAccount", "name": "far", "namespace": world.dev}]);
    let rules = json!([{"apiGroups": [""], "resources": ["secrets"], "resourceNames": [CLUSTER], "verbs": ["get"]}]);
    let operator = json!({"kind": "ServiceAccount", "name": "pilotage", "namespace": "pilotage-system"});
    grant(world, "kubeconfig", rules.clone(), &operator).await;
    grant(world, "kubeconfig-olga", rules, &user("olga")).await;
    world
        .apply(&[
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "far", "namespace": world.dev}}),
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRole", "metadata": {"name": see},
                   "rules": [{"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [world.prod], "verbs": ["get"]}]}),
            json!({"apiVersion": format!("{rbac}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": see},
                   "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": see}, "subjects": subjects}),
        ])
        .await;
    let token = tokio::task::block_in_place(|| world.plane.service_account_token(&world.dev, "far").unwrap());
    let authority = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, world.plane.ca_pem().unwrap());
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "there",
        "clusters": [{"name": "there", "cluster": {"server": proxy.url(), "certificate-authority-data": authority}}],
        "users": [{"name": "far", "user": {"token": token}}],
        "contexts": [{"name": "there", "context": {"cluster": "there", "user": "far"}}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn kubeconfigs_that_do_more_than_name_a_server_are_refused_and_nothing_happens() {
    let world = World::bare("evil").await;
    let proxy = TcpProxy::before(world.plane.server()).await;
    let folder = world.plane.dir().join("evil");
    std::fs::create_dir_all(&folder).unwrap();
    let ran = folder.join("ran");
    let script = folder.join("script");
    std::fs::write(&script, format!("#!/bin/sh\ntouch {}\necho {CANARY}\n", ran.display())).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // A pipe: whoever opens it to read waits for a writer, and the writer notices.
    let pipe = folder.join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (script, pipe) = (script.to_str().unwrap().to_owned(), pipe.to_str().unwrap().to_owned());

    let good = good(&world, &proxy).await;
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
        cluster("proxy-url", json!(proxy.url().replace("https", "http"))),
        server("is http", &proxy.url().replace("https", "http")),
        server("user name or password", &proxy.url().replace("https://", &format!("https://dana:{CANARY}@"))),
        server("query", &format!("{}/?{CANARY}", proxy.url())),
        server("metadata service", "https://169.254.169.254"),
        // In between, each attempt waits until the Environment reports it.
        server("unusual spelling", "https://2852039166"),
        server("metadata service", "https://metadata.google.internal"),
    ];
    let environment = world.host_object(
        "Environment",
        "far",
        json!({"type": "Target", "namespace": world.prod, "cluster": {
            "kubeconfigSecretRef": {"name": CLUSTER, "key": "kubeconfig"}, "delegateNamespace": world.dev}}),
    );
    let mut said_of_all = String::new();
    for (number, (said, place, value)) in attacks.iter().enumerate() {
        let mut evil = good.clone();
        let (parent, field) = place.rsplit_once('/').unwrap();
        evil.pointer_mut(parent).unwrap()[field] = value.clone();
        remember(&world, &evil).await;
        if number == 0 {
            world.until("olga may read the Secret", async || world.apply_as(&world.olga().await, &environment).await.ok()).await;
        }
        look_again(&world, number).await;
        let what = format!("the Environment says: {said}");
        let (_, message) = world
            .until(&what, async || {
                let found = world.condition::<Environment>("far", "Ready").await;
                found.filter(|(reason, text)| reason == "KubeconfigRefused" && text.contains(said.as_str()))
            })
            .await;
        told(
            35,
            &format!("a kubeconfig whose {place} is {value}").replace(&script, "…").replace(&pipe, "…"),
            &message,
            &[said, "key kubeconfig of Secret eu"],
        );
        said_of_all.push_str(&message);
    }
    let told = said_of_all;
    ignored(35, "a server is called that was refused", proxy.taken() == 0, &proxy.taken());
    ignored(35, "a program is run by a kubeconfig", !ran.exists(), &ran);
    // Without waiting: it can't be opened to write while nobody reads.
    let reader = std::fs::OpenOptions::new().write(true).custom_flags(0o4000).open(&pipe);
    ignored(35, "a file is read by a kubeconfig", reader.is_err(), &reader);
    ignored(35, "a value of a kubeconfig is told", !told.contains(CANARY), &told);

    // Apart from these kubeconfigs, everything was correct.
    remember(&world, &good).await;
    look_again(&world, attacks.len()).await;
    world.until_condition::<Environment>("far", "Ready", "Validated").await;
    assert!(proxy.taken() > 0);
    let environments = Api::<Environment>::namespaced(world.admin.clone(), &world.host);
    let far = environments.get("far").await.unwrap();
    let token = good["users"][0]["user"]["token"].as_str().unwrap();
    let log = std::fs::read_to_string(world.plane.dir().join("operator.log")).unwrap();
    ignored(35, "a token is in a status", !serde_json::to_string(&far).unwrap().contains(token), &far);
    ignored(35, "a token or a value is in the log", !log.contains(token) && !log.contains(CANARY), &"the log");
    // While somebody still may do it.
    environments.delete("far", &DeleteParams::default()).await.unwrap();
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["delete", "clusterrole,clusterrolebinding", &format!("see-{}", world.prod)]).unwrap();
}
