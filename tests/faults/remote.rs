//! Production in another cluster: what is deployed there, as whom, and what happens if that cluster, its credentials or the operator fail
//! in between.

use std::time::{Duration, Instant};

use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::{Artifact, Environment, Stage};
use pilotage_harness::process::Signal;
use serde_json::json;

use crate::life::Application;
use crate::proxy::Action;
use crate::remote_fixture::{self, CLUSTER, RemoteFixture, TURNS};
use crate::scoped::{self, Swept};
use crate::tcp_proxy::Way;
use crate::world::{outcome, phase};

/// Nobody else must have to wait for a dead cluster: this is much less than one call to it may take.
const SOON: Duration = Duration::from_secs(10);

/// How many calls a deployment makes to its target at once.
const UNDER_WAY: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_from_development_over_qa_to_another_cluster_and_back_out_of_it() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("there").await;
    let application = Application::small();
    remote.world.apply(&application.objects(&remote.world)).await;
    remote.deploy("qa", "orders", "1.4.0").await;
    let request = remote.deploy("prod", "orders", "1.4.0").await;

    let run = request.status.as_ref().unwrap().run.clone();
    let bot = format!("system:serviceaccount:{}:bot-prod in cluster {CLUSTER}", remote.delegates);
    assert_eq!(run.deployed_by.as_deref(), Some(bot.as_str()), "identity and cluster are on record");
    let plan = run.plan.unwrap();
    assert_eq!((plan.delegate.as_str(), plan.create), (bot.as_str(), 3), "the plan that was approved names who will write");
    let environment = Api::<Environment>::namespaced(remote.world.admin.clone(), &remote.world.host).get("prod").await.unwrap();
    let status = environment.status.unwrap();
    assert_eq!(status.solutions[0].deployed_by.as_deref(), Some(bot.as_str()));
    assert!(status.kubernetes_version.is_some_and(|v| v.starts_with('v')));
    let artifact = Api::<Artifact>::namespaced(remote.world.admin.clone(), &remote.world.host).get("orders-1.4.0").await.unwrap();
    assert!(artifact.status.unwrap().deployments.iter().any(|d| d.deployed_by == bot));
    remote.check_writers();
    let made = remote.writes().len();
    assert!(remote.writes().iter().any(|(_, what)| what == "patch deployments orders/"), "{:?}", remote.writes());

    // Changes are deployed, removed objects are pruned, and unchanged objects are not written.
    let world = &remote.world;
    let config = |name: &str, greeting: &str| world.config("orders", name, json!({"greeting": greeting}));
    world.apply(&[config("orders", "good morning"), config("orders-more", "good night"), world.solution("orders", "1.5.0")]).await;
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(world.admin.clone(), &world.dev);
    services.delete("orders", &DeleteParams::default()).await.unwrap();
    remote.deploy("qa", "orders", "1.5.0").await;
    remote.deploy("prod", "orders", "1.5.0").await;
    let writes = remote.writes();
    let mut changes: Vec<&str> = writes[made..]
        .iter()
        .filter(|(who, what)| who == "bot-prod" && !what.contains("pilotage-orders"))
        .map(|(_, what)| what.as_str())
        .collect();
    changes.sort_unstable();
    assert_eq!(changes, ["delete services orders/", "patch configmaps orders-more/", "patch configmaps orders/"]);

    // The same again: it is allowed, and there is nothing to write.
    let made = writes.len();
    let mut pipeline = remote.pipeline().into_iter().find(|o| o["kind"] == "Pipeline").unwrap();
    pipeline["spec"]["allowRedeployments"] = json!(true);
    remote.world.apply_as(&remote.world.olga().await, &pipeline).await.unwrap();
    let world = &remote.world;
    remote
        .fixture
        .tending(async {
            world
                .until("redeployments are allowed", async || {
                    let again = world.request("again", "prod", "orders", "1.5.0");
                    let dana = world.dana().await;
                    Api::namespaced(dana, &world.host).create(&kube::api::PostParams::default(), &again).await.ok()
                })
                .await;
            let ended = world.approved("again", "prod").await;
            assert_eq!(outcome(&ended).0, "Succeeded", "{:?}", outcome(&ended));
        })
        .await;
    assert_eq!(remote.writes().len(), made, "unchanged is not written, and the token is still good: {:?}", &remote.writes()[made..]);

    // When there is nothing to do, no call goes to the other cluster.
    let world = &remote.world;
    remote.fixture.settle(world).await;
    let calls = remote.calls().len();
    assert!(
        tokio::time::timeout(Duration::from_millis(900), remote.wait("a call is made", |a| (a.calls().len() > calls).then_some(())))
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_breaks_off_midway_is_waited_for_and_others_go_on() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("midway").await;
    remote.develop("orders", "1.0.0", 80).await;
    remote.develop("billing", "1.0.0", 2).await;
    let request = remote.ask("orders", "1.0.0").await;
    remote.proxy.set(Way::Slow(Duration::from_millis(40)));
    remote.world.decide("prod", &request, "Approved").await.unwrap();
    remote.midway("orders").await;
    remote.proxy.set(Way::Shut);
    let before = remote.arrived("orders").await.len();
    assert!(before < 80, "it was to be midway: {before}");
    let message = remote.waits_for(&request, "ClusterUnreachable").await;
    assert!(message.contains(&format!("cluster {CLUSTER} does not answer")) && message.contains("Waits until"), "{message}");

    let start = Instant::now();
    remote.deploy("qa", "billing", "1.0.0").await;
    assert!(start.elapsed() < SOON, "a local stage took {:?}", start.elapsed());

    remote.proxy.set(Way::Open);
    remote.succeeds(&request).await;
    assert_eq!(remote.arrived("orders").await.len(), 80);
    let mut written = remote.applied("orders");
    let all = written.len();
    written.sort_unstable();
    written.dedup();
    // A call that was running when the connection broke may be in the log as a failure, and is found done.
    assert!(written.len() >= 80 - UNDER_WAY, "objects came from somewhere else: {written:?}");
    assert!(all <= 80 + UNDER_WAY, "repeated is at most what was under way: {all}");
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_to_a_cluster_that_is_silent_hold_up_nobody_else() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("silent").await;
    let names: Vec<String> = (0..20).map(|n| format!("app{n}")).collect();
    for name in &names {
        remote.develop(name, "1.0.0", 1).await;
        remote.world.ask(&remote.world.request(&format!("{name}-qa"), "qa", name, "1.0.0")).await;
    }
    let world = &remote.world;
    let passed = futures::future::join_all(names.iter().map(|name| async move { world.approved(&format!("{name}-qa"), "qa").await }));
    remote.fixture.tending(passed).await;
    remote.develop("billing", "1.0.0", 1).await;
    remote.proxy.set(Way::Silent);
    for name in &names {
        remote.world.ask(&remote.world.request(&format!("{name}-prod"), "prod", name, "1.0.0")).await;
    }
    let start = Instant::now();
    remote.deploy("qa", "billing", "1.0.0").await;
    assert!(start.elapsed() < SOON, "a local stage took {:?} beside 20 requests to a silent cluster", start.elapsed());
    for name in [&names[0], &names[19]] {
        let message = remote.waits_for(&format!("{name}-prod"), "ClusterUnreachable").await;
        assert!(message.contains(&format!("cluster {CLUSTER} does not answer")), "{message}");
    }
    assert!(remote.proxy.taken() < 100, "a silent cluster is not asked over and over: {} connections", remote.proxy.taken());
    remote.proxy.set(Way::Open);
    let world = &remote.world;
    let request = format!("{}-prod", names[0]);
    remote.fixture.tending(world.until_request(&request, |r| phase(r) == "AwaitingApproval")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_killed_over_there_and_comes_back_is_waited_for() {
    let _turn = TURNS.write().await;
    let mut remote = RemoteFixture::ready("killed").await;
    remote.develop("orders", "1.0.0", 80).await;
    let request = remote.ask("orders", "1.0.0").await;
    remote.proxy.set(Way::Slow(Duration::from_millis(40)));
    remote.world.decide("prod", &request, "Approved").await.unwrap();
    remote.midway("orders").await;
    let plane = remote_fixture::plane();
    tokio::task::block_in_place(|| plane.stop_process("kube-apiserver")).unwrap();
    remote.waits_for(&request, "ClusterUnreachable").await;
    remote.proxy.set(Way::Open);
    tokio::task::block_in_place(|| plane.resume_process("kube-apiserver")).unwrap();
    remote.succeeds(&request).await;
    assert_eq!(remote.arrived("orders").await.len(), 80);
    remote.check_writers();

    // For the caller, a cluster that hangs is the same.
    remote.develop("orders", "1.1.0", 3).await;
    remote.deploy("qa", "orders", "1.1.0").await;
    plane.signal("kube-apiserver", Signal::STOP).unwrap();
    remote.world.ask(&remote.world.request("hung", "prod", "orders", "1.1.0")).await;
    remote.waits_for("hung", "ClusterUnreachable").await;
    plane.signal("kube-apiserver", Signal::CONT).unwrap();
    let world = &remote.world;
    let ended = remote.fixture.tending(world.approved("hung", "prod")).await;
    assert_eq!(outcome(&ended).0, "Succeeded", "{:?}", outcome(&ended));
    assert!(remote.arrived("orders").await.len() >= 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_that_is_deleted_over_there_is_asked_for_and_made_anew_is_another() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("gone").await;
    remote.develop("orders", "1.0.0", 2).await;
    let request = remote.ask("orders", "1.0.0").await;
    // Between approval and deployment, the token that the plan was made with is rejected, and there is no other.
    remote.revoke("bot-prod").await;
    remote.world.decide("prod", &request, "Approved").await.unwrap();
    let message = remote.waits_for(&request, "DelegateMissingInCluster").await;
    assert!(message.contains(&format!("kubectl create serviceaccount bot-prod -n {}", remote.delegates)), "{message}");
    assert!(message.contains(&format!("cluster {CLUSTER}")), "{message}");
    assert!(remote.arrived("orders").await.is_empty(), "nothing was written");
    let message = remote.stage_says("DelegateMissingInCluster").await;
    assert!(message.contains("bot-prod"), "{message}");
    remote.make_account("bot-prod").await;
    remote.stage_says("Ready").await;
    remote.succeeds(&request).await;
    assert_eq!(remote.arrived("orders").await.len(), 2);
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_that_are_missing_over_there_are_printed_for_that_cluster_and_suffice() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::new("rights").await;
    let bound = "rbac.authorization.k8s.io/v1";
    let (prod, delegates) = (remote.world.prod.clone(), remote.delegates.clone());
    let bindings = |namespace: &str| Api::<k8s_openapi::api::rbac::v1::RoleBinding>::namespaced(remote.admin.clone(), namespace);
    bindings(&delegates).delete("lend", &DeleteParams::default()).await.unwrap();
    bindings(&prod).delete("bot-prod", &DeleteParams::default()).await.unwrap();
    let cluster: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(remote.admin.clone());
    cluster.delete(&format!("see-{prod}"), &DeleteParams::default()).await.unwrap();
    remote.label(json!({"pilotage.dev/managed-by": null})).await;
    let olga = remote.world.olga().await;
    for object in remote.pipeline() {
        remote.world.apply_as(&olga, &object).await.unwrap();
    }

    // One after the other, each applied exactly as it is printed.
    let user = format!("name: \"pilotage\", namespace: {delegates}}}");
    let message = remote.environment_says("NamespaceNotReadable").await;
    assert!(message.contains(&user) && message.contains(&format!("in cluster {CLUSTER}")), "{message}");
    grant(&message);
    let message = remote.environment_says("NotManaged").await;
    let labels = format!("(kubectl label namespace {prod} ");
    assert!(
        message.contains(&format!("applies in cluster {CLUSTER} what follows")) && message.contains(&labels) && message.contains(&user),
        "{message}"
    );
    grant(&message);
    remote.environment_says("Validated").await;
    let message = remote.stage_says("TokenNotGranted").await;
    assert!(message.contains("resources: [serviceaccounts/token], resourceNames: [\"bot-prod\"]") && message.contains(&user), "{message}");
    grant(&message);
    let message = remote.stage_says("DelegateLacksTargetAccess").await;
    assert!(message.contains(&format!("name: \"bot-prod\", namespace: {delegates}}}")) && message.contains(bound), "{message}");
    grant(&message);
    remote.stage_says("Ready").await;

    // If a version needs more than that, it is found out before anybody is asked.
    let services = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": remote.world.dev,
        "labels": {"app.kubernetes.io/part-of": "web"}}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}});
    remote.world.apply(&[services, remote.world.solution("web", "1.0.0")]).await;
    let world = &remote.world;
    remote.fixture.tending(async { world.ready::<Stage>("qa").await }).await;
    remote.deploy("qa", "web", "1.0.0").await;
    remote.world.ask(&remote.world.request("web-prod", "prod", "web", "1.0.0")).await;
    let message = remote.waits_for("web-prod", "DelegateLacksTargetAccess").await;
    assert!(message.contains(&format!("of cluster {CLUSTER}. Grant in that cluster:")) && message.contains("services"), "{message}");
    grant(&message);
    let world = &remote.world;
    let ended = remote.fixture.tending(world.approved("web-prod", "prod")).await;
    assert_eq!(outcome(&ended).0, "Succeeded", "{:?}", outcome(&ended));
    remote.check_writers();

    // If a kubeconfig's user may manage all namespaces, no namespace in particular opted in.
    let everything = json!([{"kind": "ServiceAccount", "name": "pilotage", "namespace": delegates}]);
    let name = format!("all-{prod}");
    remote
        .apply(&json!({"apiVersion": bound, "kind": "ClusterRoleBinding", "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}, "subjects": everything}))
        .await;
    remote.environment_says("NotManaged").await;
    cluster.delete(&name, &DeleteParams::default()).await.unwrap();
    remote.environment_says("Validated").await;

    // In the host's cluster the operator needs only that Secret.
    let home = Api::<k8s_openapi::api::rbac::v1::RoleBinding>::namespaced(remote.world.admin.clone(), &remote.world.host);
    home.delete("kubeconfig", &DeleteParams::default()).await.unwrap();
    let message = remote.environment_says("KubeconfigNotReadable").await;
    assert!(message.contains(&format!("resources: [secrets], resourceNames: [\"{CLUSTER}\"], verbs: [\"get\"]")), "{message}");
    assert!(message.contains("name: \"pilotage\", namespace: pilotage-system}"), "{message}");
    grant_in(&remote.world.plane, &message);
    remote.environment_says("Validated").await;
}

/// Applies the grant that a message ends with, in the second cluster, as its administrator.
pub fn grant(message: &str) {
    grant_in(remote_fixture::plane(), message);
}

fn grant_in(plane: &pilotage_harness::ControlPlane, message: &str) {
    let from = message.find("apiVersion:").unwrap_or_else(|| panic!("no grant: {message}"));
    tokio::task::block_in_place(|| {
        let applied = plane.kubectl().run_with(&["apply", "-f", "-"], &message[from..]).unwrap();
        assert!(applied.ok, "{}: {message}", applied.stderr);
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_that_was_revoked_is_said_and_a_new_one_is_taken_up() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("rotated").await;
    remote.develop("orders", "1.0.0", 2).await;
    let request = remote.ask("orders", "1.0.0").await;
    // All tokens of the kubeconfig's user and of the delegate become invalid: both accounts are created again.
    for account in ["pilotage", "bot-prod"] {
        remote.revoke(account).await;
        remote.make_account(account).await;
    }
    remote.world.decide("prod", &request, "Approved").await.unwrap();
    let message = remote.waits_for(&request, "KubeconfigRejected").await;
    assert!(message.contains(&format!("kubeconfig Secret {CLUSTER}")) && message.contains("update the Secret"), "{message}");
    remote.environment_says("KubeconfigRejected").await;
    remote.remember(&remote.kubeconfig(&remote.proxy.url())).await;
    remote.succeeds(&request).await;
    remote.environment_says("Validated").await;
    assert_eq!(remote.arrived("orders").await.len(), 2);
    remote.check_writers();

    // When that account is gone too, another user with a certificate instead of a token takes over.
    let administrators = std::fs::read_to_string(remote_fixture::plane().admin_kubeconfig()).unwrap();
    let mut certified: serde_json::Value = serde_saphyr::from_str(&administrators).unwrap();
    certified["clusters"][0]["cluster"]["server"] = json!(remote.proxy.url());
    remote.remember(&certified).await;
    remote.revoke("pilotage").await;
    remote.develop("orders", "1.1.0", 2).await;
    remote.deploy("qa", "orders", "1.1.0").await;
    remote.deploy("prod", "orders", "1.1.0").await;
    assert!(remote.arrived("orders").await.iter().all(|(_, version)| version == "1.1.0"));
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_that_leads_to_another_namespace_of_that_name_changes_nothing_there() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("astray").await;
    remote.develop("orders", "1.0.0", 2).await;
    let request = remote.ask("orders", "1.0.0").await;
    // The namespace is deleted and created again, with the same name.
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(remote.admin.clone());
    namespaces.delete(&remote.world.prod, &DeleteParams::default()).await.unwrap();
    let world = &remote.world;
    let look = world.until("the namespace is gone", async || namespaces.get_opt(&world.prod).await.unwrap().is_none().then_some(()));
    remote.fixture.tending(look).await;
    remote.grant_again().await;
    remote.world.decide("prod", &request, "Approved").await.unwrap();
    let message = remote.waits_for(&request, "IdentityChanged").await;
    assert!(message.contains(&format!("cluster {CLUSTER}")) && message.contains("the Environment says how to accept it"), "{message}");
    let message = remote.environment_says("IdentityChanged").await;
    assert!(message.contains("set spec.environmentId to") && message.contains(&format!("of cluster {CLUSTER}")), "{message}");
    assert!(remote.applied("orders").is_empty(), "nothing was written there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_dies_midway_over_there_reaches_the_same_end() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("crash").await;
    remote.develop("orders", "1.0.0", 40).await;
    let request = remote.ask("orders", "1.0.0").await;
    // Right after the claim is written, and again when the artifact's record is written.
    for (line, action) in [("/environments/prod/status", Action::CrashAfter), ("/artifacts/", Action::CrashBefore)] {
        let mut done = false;
        remote.fixture.proxy.follow(move |call| {
            let hit = !done && call.write.is_some() && call.line.contains(line);
            done |= hit;
            if hit { action } else { Action::Forward }
        });
        if line.contains("environments") {
            remote.world.decide("prod", &request, "Approved").await.unwrap();
        }
        let restarts = remote.fixture.restarts();
        remote.wait("the operator was killed", |a| (a.fixture.restarts() > restarts).then_some(())).await;
    }
    remote.succeeds(&request).await;
    assert_eq!(remote.arrived("orders").await.len(), 40);
    assert_eq!(remote.applied("orders").len(), 40, "each was written once");
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_can_not_be_had_in_another_cluster_is_refused_there() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("refused").await;
    let olga = remote.world.olga().await;
    let stages: Api<Stage> = Api::namespaced(olga.clone(), &remote.world.host);
    for (delegation, who) in [(json!({"type": "StageOwner", "serviceAccountName": null}), "its owner"), (json!(null), "each requester")] {
        let patch = Patch::Merge(json!({"spec": {"delegatedDeployment": delegation}}));
        stages.patch("prod", &PatchParams::default(), &patch).await.unwrap();
        let world = &remote.world;
        let what = format!("the stage says that {who} can't be had there");
        let said = world.until(&what, async || {
            let (reason, message) = world.condition::<Stage>("prod", "Ready").await?;
            (reason == "RemoteNeedsServicePrincipal" && message.contains(who)).then_some(message)
        });
        let message = remote.fixture.tending(said).await;
        assert!(message.contains(&remote.delegates) && message.contains("type ServicePrincipal"), "{message}");
    }
    let mut development = remote.pipeline().into_iter().find(|o| o["kind"] == "Environment" && o["metadata"]["name"] == "prod").unwrap();
    development["metadata"]["name"] = json!("far");
    development["spec"]["type"] = json!("Development");
    let message = remote.world.apply_as(&olga, &development).await.unwrap_err().to_string();
    for part in [
        "only targets can be in another cluster",
        "push each version as an OCI artifact",
        "spec.artifactRepositories",
        "leave out spec.cluster",
    ] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_a_whole_cluster_has_its_name_in_each_of_them() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::new("classes").await;
    let _swept = [Swept::after(&remote.world), Swept::of(remote_fixture::plane().kubectl(), &remote.world)];
    // Directly to the other cluster: in the cluster of development the name is taken.
    let mut pipeline = remote.pipeline();
    for object in pipeline.iter_mut().filter(|o| o["kind"] == "Stage") {
        let is_qa = object["metadata"]["name"] == "qa";
        let spec = object["spec"].as_object_mut().unwrap();
        spec.remove("previousStage");
        if is_qa {
            spec.insert("previousStage".into(), "prod".into());
        }
    }
    remote.fixture.tending(remote.world.configure_with(pipeline)).await;
    let world = &remote.world;
    scoped::may_be_exported(world).await;
    let name = scoped::named(world, "orders");
    let mut solution = world.solution("orders", "1.0.0");
    solution["spec"]["components"] = json!([{"group": "", "kind": "ConfigMap"}, {"group": scoped::CLASS.0, "kind": scoped::CLASS.1}]);
    world.apply(&[scoped::class(&name, 7), world.config("orders", "orders", json!({})), solution]).await;
    let message = remote
        .fixture
        .tending(async {
            scoped::allow(world, "dev", &[scoped::CLASS]).await;
            scoped::allow(world, "prod", &[scoped::CLASS]).await;
            world.ask(&world.request("to-prod", "prod", "orders", "1.0.0")).await;
            world.waits_for("to-prod", "DelegateLacksTargetAccess").await
        })
        .await;
    assert!(
        message.contains("in the whole cluster") && message.contains(&format!("of cluster {CLUSTER}. Grant in that cluster:")),
        "{message}"
    );
    let printed = &message[message.find("apiVersion:").unwrap()..];
    let applied = remote_fixture::plane().kubectl().run_with(&["apply", "-f", "-"], printed).unwrap();
    assert!(applied.ok, "{}", applied.stderr);
    let ended = remote.fixture.tending(world.approved("to-prod", "prod")).await;
    assert_eq!(outcome(&ended).0, "Succeeded", "{:?}", outcome(&ended));
    let classes: Api<PriorityClass> = Api::all(remote.admin.clone());
    let theirs = classes.get(&name).await.unwrap();
    assert_eq!(theirs.metadata.labels.unwrap()["pilotage.dev/target-namespace"], remote.world.prod);
    let ours = Api::<PriorityClass>::all(remote.world.admin.clone()).get(&name).await.unwrap();
    assert!(!ours.metadata.labels.unwrap().contains_key("pilotage.dev/target-namespace"), "development's own stays as it is");
    remote.check_writers();
}
