//! The verbs that help: `init`, `lint`, `diff`, `rollback`, `share` and `check`, from the seats of those who use them.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Pipeline};
use serde_json::{Value, json};

use crate::deciding::{plugin, user};
use crate::world::{World, outcome, phase};

async fn deployed(world: &World, name: &str, version: &str) {
    let mut config = world.config("orders", "orders", json!({"greeting": version}));
    config["data"]["API_PASSWORD"] = format!("canary-{version}").into();
    world.apply(&[world.solution("orders", version), config]).await;
    let end = world.deploy(name, "qa", "orders", version).await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
}

/// Somebody reads everything of the host, with the bytes of artifacts.
async fn views(world: &World, name: &str) -> PathBuf {
    let kubectl = world.plane.kubectl();
    let (host, to) = (world.host.as_str(), format!("--user={name}"));
    kubectl.ok(&["create", "rolebinding", name, "--clusterrole=pilotage-viewer", &to, "-n", host]).unwrap();
    kubectl.ok(&["create", "role", "bytes", "--verb=get", "--resource=configmaps", "-n", host]).unwrap();
    kubectl.ok(&["create", "rolebinding", &format!("{name}-bytes"), "--role=bytes", &to, "-n", host]).unwrap();
    let asked = || kubectl.run(&["auth", "can-i", "get", "configmaps", "-n", host, "--as", name]).unwrap().ok;
    world.until("the binding is in force", async || asked().then_some(())).await;
    user(world, name)
}

#[tokio::test(flavor = "multi_thread")]
async fn two_versions_and_a_stage_are_compared_by_whoever_may_read_them() {
    let world = World::new("diff").await;
    deployed(&world, "first", "1.0.0").await;
    deployed(&world, "second", "2.0.0").await;
    let rita = views(&world, "rita").await;
    let said = plugin(&world, &rita, &["diff", "orders", "1.0.0", "2.0.0"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("/data/greeting: 1.0.0 → 2.0.0") && !said.out.contains("canary"), "{}", said.out);
    // The same by the names of what is stored.
    let stored = plugin(&world, &rita, &["artifact", "diff", "orders@1.0.0", "orders-2.0.0"]);
    assert!(stored.code == 0 && stored.out.starts_with("from orders-1.0.0 to orders-2.0.0\n"), "{}{}", stored.out, stored.err);
    assert_eq!(stored.out.split_once('\n').unwrap().1, said.out.split_once('\n').unwrap().1);
    let said = plugin(&world, &rita, &["diff", "orders", "1.0.0", "--to", "qa", "-o", "json"]);
    let read: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}{}", said.out, said.err));
    assert_eq!(read["objects"][0]["changes"][1]["new"], "1.0.0", "{read}");

    // What is in development now, read as a maker who also reads the host.
    world.apply(&[world.solution("orders", "3.0.0"), world.config("orders", "more", json!({"greeting": "new"}))]).await;
    let admin = world.plane.admin_kubeconfig();
    let said = plugin(&world, &admin, &["diff", "orders", "--to", "qa", "--from", &world.dev]);
    assert!(said.code == 0 && said.out.contains("+ ConfigMap more: create"), "{}{}", said.out, said.err);
    assert!(said.out.contains("from orders 2.0.0, which stage qa runs to orders 3.0.0 as it is in namespace"), "{}", said.out);

    let said = plugin(&world, &admin, &["diff", "second"]);
    assert!(said.code == 0 && said.out.contains("plan hash:"), "{}{}", said.out, said.err);
    let wrong: [(&[&str], i32); 5] = [
        (&["artifact", "diff", "orders@1.0.0", "orders@9.0.0"], 5),
        (&["diff", "orders", "1.0.0"], 2),
        (&["diff", "orders", "1.0.0", "9.0.0"], 5),
        (&["diff", "nothing"], 5),
        (&["diff", "orders", "1.0.0", "2.0.0", "--to", "qa"], 2),
    ];
    for (args, code) in wrong {
        let said = plugin(&world, &rita, args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
    }
    let said = plugin(&world, &user(&world, "dana"), &["diff", "orders", "1.0.0", "2.0.0"]);
    assert!(said.code == 6 && said.err.contains("pilotage-viewer"), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_asks_for_what_ran_there_before() {
    let world = World::new("back").await;
    let pipelines = Api::<Pipeline>::namespaced(world.olga().await, &world.host);
    let redeployments = Patch::Merge(json!({"spec": {"allowRedeployments": true}}));
    pipelines.patch("standard", &PatchParams::default(), &redeployments).await.unwrap();
    world.ready::<Pipeline>("standard").await;
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["create", "rolebinding", "dana-views", "--clusterrole=pilotage-viewer", "--user=dana", "-n", &world.host]).unwrap();
    deployed(&world, "first", "1.0.0").await;
    let dana = user(&world, "dana");
    let said = plugin(&world, &dana, &["rollback", "orders", "--stage", "qa"]);
    assert!(said.code == 5 && said.err.contains("no version of orders that succeeded on stage qa before 1.0.0"), "{}", said.err);
    deployed(&world, "second", "2.0.0").await;
    let said = plugin(&world, &dana, &["rollback", "orders", "--stage", "qa", "--notes", "the second is slow"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("back from 2.0.0 to 1.0.0") && said.out.contains("downgrade"), "{}", said.out);
    let name = said.out.split("request ").find_map(|rest| rest.split_once(" made in host ")).unwrap().0.to_owned();
    let end = world.approved(&name, "qa").await;
    assert_eq!((phase(&end).as_str(), end.spec.solution.version.as_str()), ("Succeeded", "1.0.0"), "{:?}", outcome(&end));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_is_shared_with_more_and_with_fewer() {
    let world = World::new("share").await;
    let olga = user(&world, "olga");
    let said = plugin(&world, &olga, &["share", "standard", "--with", "user:sam", "-o", "name"]);
    assert!(said.code == 0 && said.out == "group/makers\nuser/sam\n", "{}{}", said.out, said.err);
    let sam = crate::world::client(user(&world, "sam")).await;
    world
        .until("sam may ask", async || {
            let asked = world.request("sams", "qa", "none", "1.0.0");
            Api::<DeploymentRequest>::namespaced(sam.clone(), &world.host)
                .create(&kube::api::PostParams { dry_run: true, ..Default::default() }, &asked)
                .await
                .ok()
        })
        .await;
    let said = plugin(&world, &olga, &["share", "standard", "--without", "user:sam"]);
    assert!(said.code == 0 && !said.out.contains("sam"), "{}{}", said.out, said.err);
    let said = plugin(&world, &olga, &["share", "standard", "--without", "user:sam"]);
    assert!(said.code == 5 && said.err.contains("not shared with User sam"), "{}", said.err);
    let said = plugin(&world, &user(&world, "eve"), &["share", "standard", "--with", "user:eve"]);
    assert_eq!(said.code, 6, "{}", said.err);
}

/// Runs the plugin without a cluster.
fn alone(folder: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"));
    command.args(args).current_dir(folder).env("KUBECONFIG", "/does/not/exist");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It may end before it has read all, or anything.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_init_writes_has_nothing_wrong_and_the_api_server_takes_it() {
    let world = World::bare("init").await;
    let folder = world.plane.dir().join(&world.host);
    std::fs::create_dir_all(&folder).unwrap();
    let stages = format!("qa={},prod={}", world.qa, world.prod);
    let args = ["init", "--host", &world.host, "--dev", &world.dev, "--stages", &stages, "--makers", "makers", "--approvers", "user:eve"];
    let written = ["--administrators", "user:olga", "--without-namespaces", "--pipeline", "main", "--out", "files"];
    let (code, out, err) = alone(&folder, &[&args[..], &written].concat(), "");
    assert!(code == 0 && out.contains("to be applied by an administrator of the host (User olga)"), "{out}{err}");
    let (code, _, err) = alone(&folder, &[&args[..], &written].concat(), "");
    assert!(code == 1 && err.contains("would be written over"), "{err}");
    let (code, out, err) = alone(&folder, &["lint", "--strict", "files"], "");
    assert_eq!(code, 0, "{out}{err}");
    let (code, _, err) = alone(&folder, &["init", "--host", "h"], "");
    assert!(code != 0 && err.contains("error"), "{err}");

    // Each part by whoever has the rights for it.
    let kubectl = world.plane.kubectl();
    let file = |name: &str| folder.join("files").join(name).display().to_string();
    kubectl.ok(&["apply", "--server-side", "--force-conflicts", "-f", &file("1-cluster.yaml")]).unwrap();
    for namespace in [&world.dev, &world.qa, &world.prod] {
        let somebody = format!("admin-of-{namespace}");
        kubectl.ok(&["create", "rolebinding", &somebody, "--clusterrole=admin", &format!("--user={somebody}"), "-n", namespace]).unwrap();
        let theirs = world.plane.kubectl_as(&world.plane.user_kubeconfig(&somebody, &[]).unwrap());
        let part = file(&format!("2-{namespace}.yaml"));
        let applied = async || theirs.run(&["apply", "--server-side", "--force-conflicts", "-f", &part]).unwrap().ok.then_some(());
        world.until("the administrator of the namespace applies their part", applied).await;
    }
    let part = file("3-host.yaml");
    let applied = async || world.olgas_kubectl().run(&["apply", "--server-side", "-f", &part]).unwrap().ok.then_some(());
    world.until("olga applies the host", applied).await;
    for stage in ["qa", "prod"] {
        world.ready::<pilotage::api::Stage>(stage).await;
    }
    world.ready::<Pipeline>("main").await;
    let said = plugin(&world, &user(&world, "olga"), &["lint", "--server", &part]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let said = plugin(&world, &user(&world, "mallory"), &["lint", "--server", &part]);
    assert!(said.code == 1 && said.out.contains("cannot patch resource"), "{}{}", said.out, said.err);
}

#[test]
fn lint_tells_what_is_wrong_with_its_place_for_people_and_for_programs() {
    let folder = std::env::temp_dir();
    let stage =
        "apiVersion: pilotage.dev/v1alpha1\nkind: Stage\nmetadata: {name: qa, namespace: h}\nspec: {pipeline: p, targetEnviroment: x}\n";
    let (code, out, err) = alone(&folder, &["lint", "-"], stage);
    assert!(code == 1 && out.contains("spec.targetEnviroment") && out.contains("there is no such field"), "{out}{err}");
    let (code, out, _) = alone(&folder, &["lint", "-", "-o", "json"], &format!("kind: [\n---\n{stage}"));
    let read: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, read["items"][0]["reason"].as_str(), read["items"][0]["file"].as_str()), (1, Some("NotYaml"), Some("-")));
    assert!(read["items"][0]["column"].is_u64(), "{read}");
    let (code, _, err) = alone(&folder, &["lint", "/does/not/exist.yaml"], "");
    assert!(code == 1 && err.contains("/does/not/exist.yaml"), "{err}");
    assert_eq!(alone(&folder, &["lint"], "").0, 2);
    let hostile = stage.replace("name: qa", "name: \"\\u001b[2Jqa\"");
    assert!(!alone(&folder, &["lint", "-"], &hostile).1.contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_of_each_part_whether_it_is_as_it_should_be() {
    let world = World::bare("check").await;
    let admin = world.plane.admin_kubeconfig();
    let said = plugin(&world, &admin, &["check"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    for what in [
        "Kubernetes",
        "kind Stage",
        "admission policies",
        "ClusterRole pilotage-host",
        "operator's rights",
        &format!("host {}", world.host),
    ] {
        assert!(said.out.contains(what), "{what:?} is not in {}", said.out);
    }
    world.plane.kubectl().ok(&["delete", "rolebinding", "pilotage-host", "-n", &world.host]).unwrap();
    world
        .until("the operator lacks its role in the host", async || {
            let said = plugin(&world, &admin, &["check"]);
            (said.code == 1 && said.out.contains("kubectl pilotage grant host")).then_some(())
        })
        .await;
    let said = plugin(&world, &user(&world, "mallory"), &["check"]);
    assert!(said.code == 1 && said.out.contains("let a cluster administrator run this"), "{}{}", said.out, said.err);
}
