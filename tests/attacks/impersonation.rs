//! Attacks on impersonation: delegates that granted nothing, requesters with almost the name of a delegate, approvers of something else,
//! forged tokens.

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use pilotage::api::Stage;
use pilotage::identity::clients::Clients;
use pilotage::identity::delegate::Delegate;
use serde_json::{Value, json};

use crate::attempt::{refused, told};
use crate::scene::{at_the_gate, create, delegate, grant, orders, patch_status, person, until_may, user, with_a_step};
use crate::world::{World, client, phase, recorder};

fn step(key: &str) -> Value {
    json!({"status": {key: {"decision": "Completed"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delegate_that_lent_nothing_deploys_nothing() {
    let world = World::new("unlent").await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "unlent", "namespace": world.host}});
    world.apply(&[account]).await;
    let rules = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["unlent"], "verbs": ["delegate"]}]);
    grant(&world, "olga-unlent", rules, &user("olga")).await;
    until_may(&world, "olga", &[], "delegate", "serviceaccounts/unlent").await;
    let stage = world.host_object(
        "Stage",
        "unlent",
        json!({"pipeline": "standard", "previousStage": "qa", "targetEnvironment": "prod",
            "delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": "unlent"}}),
    );
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    let message = world.until_condition::<Stage>("unlent", "Ready", "OperatorMayNotActAsDelegate").await;
    let rule = if world.plane.lends_tokens() { "serviceaccounts/token" } else { "impersonate:serviceaccount" };
    told(
        22,
        "a ServiceAccount that never let the operator act as it",
        &message,
        &["the operator may not act as", ":unlent", "apply", rule],
    );

    // It has no more rights in the target than before, whatever the stage says.
    orders(&world).await;
    assert_eq!(phase(&world.deploy("orders", "qa", "orders", "1.0.0").await), "Succeeded");
    let before = world.operator_writes(&world.prod, true).len();
    world.ask(&world.request("next", "unlent", "orders", "1.0.0")).await;
    let message = world.waits_for("next", "StageNotReady").await;
    assert!(message.contains("OperatorMayNotActAsDelegate"), "{message}");
    assert_eq!(world.operator_writes(&world.prod, true).len(), before, "not even a dry run");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_become_the_approver_gets_no_gate() {
    let world = World::new("nearly").await;
    orders(&world).await;
    for (what, name, resource, verb) in [
        ("a requester who may mint the delegate's token", "mints", "serviceaccounts/token", "create"),
        ("a requester who may impersonate the delegate", "poses", "serviceaccounts", "impersonate"),
    ] {
        let rules = json!([{"apiGroups": [""], "resources": [resource], "verbs": [verb]}]);
        grant(&world, name, rules, &user("dana")).await;
        let (kind, sub) = resource.split_once('/').map_or((resource, None), |(kind, sub)| (kind, Some(sub)));
        world
            .until("dana may", async || {
                let mut args = vec!["auth", "can-i", verb, kind, "-n", &world.host, "--as", "dana"];
                let subresource = sub.map(|sub| format!("--subresource={sub}"));
                args.extend(subresource.as_deref());
                world.plane.kubectl().run(&args).unwrap().ok.then_some(())
            })
            .await;
        world.ask(&world.request(name, "qa", "orders", "1.0.0")).await;
        let message = world.fails(name, "RequesterCouldApprove").await;
        told(55, what, &message, &["dana may impersonate", ":bot-qa", "could approve their own request", "take that right away"]);
        world.plane.kubectl().ok(&["delete", "rolebinding", name, "-n", &world.host]).unwrap();
    }
    assert!(world.operator_writes(&world.qa, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_approver_decides_what_is_theirs() {
    let world = World::new("theirs").await;
    with_a_step(&world).await;
    let rules = json!([
        {"apiGroups": ["pilotage.dev"], "resources": ["deploymentrequests"], "verbs": ["get"]},
        {"apiGroups": ["pilotage.dev"], "resources": ["deploymentrequests/status"], "verbs": ["get", "patch"]},
        {"apiGroups": ["pilotage.dev"], "resources": ["stages"], "resourceNames": ["prod"], "verbs": ["approve"]},
    ]);
    grant(&world, "percy", rules, &user("percy")).await;
    until_may(&world, "percy", &[], "approve", "stages.pilotage.dev/prod").await;
    at_the_gate(&world, "orders").await;
    world.decide("qa", "orders", "Approved").await.unwrap();
    world.until_request("orders", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let percy = person(&world, "percy", &[]).await;
    let attempt = patch_status(&world, percy, "orders", step("preDeploymentStep"));
    let words = ["the gate is not open yet or is not yours", "holders of the verb approve on its stage"];
    refused(118, "an approver of another stage decides a step", attempt, 403, &words).await;
    let attempt = patch_status(&world, world.bot("qa").await, "orders", step("preDeploymentStep"));
    let words = ["status.preDeploymentStep is decided by holders of the verb approve on stage", "bot-qa is not"];
    refused(119, "the delegate decides a step", attempt, 403, &words).await;
    patch_status(&world, world.eve().await, "orders", step("preDeploymentStep")).await.unwrap();
    assert_eq!(phase(&world.end("orders").await), "Succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_passes_for_a_delegates_token() {
    let world = World::new("passes").await;
    at_the_gate(&world, "orders").await;
    let bot = delegate(&world, "qa");
    // A certificate with the ServiceAccount's name, from a careless authority.
    let certified = person(&world, &bot, &["system:serviceaccounts", &format!("system:serviceaccounts:{}", world.host)]).await;
    let words = ["decides with a token of its own", "kubectl create token"];
    refused(120, "a certificate with the delegate's name", world.approve_as(certified, "orders", "Approved"), 403, &words).await;

    // Impersonation that also sets the mark of a token.
    let rules = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}]);
    grant(&world, "impersonator", rules, &user("olga")).await;
    until_may(&world, "olga", &[], "impersonate", "serviceaccounts").await;
    let kubeconfig = Kubeconfig::read_from(world.plane.user_kubeconfig("olga", &[]).unwrap()).unwrap();
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    config.auth_info.impersonate = Some(bot.clone());
    let mark = "impersonate-extra-authentication.kubernetes.io%2fcredential-id";
    config.headers.push((mark.parse().unwrap(), "JTI=00000000-0000-0000-0000-000000000000".parse().unwrap()));
    let forged = recorder::wrap(Client::try_from(config).unwrap());
    let words = ["olga", "cannot impersonate", "userextras"];
    refused(
        121,
        "the delegate by impersonation, with a forged mark of a token",
        world.approve_as(forged, "orders", "Approved"),
        403,
        &words,
    )
    .await;

    // A delegate's own token is only for decisions and for its target.
    let bot = world.bot("qa").await;
    let words = ["bot-qa", "cannot create"];
    let mut asks = serde_json::to_value(world.request("own", "qa", "orders", "1.0.0")).unwrap();
    refused(122, "a delegate makes a request", create(&world, bot.clone(), &asks), 403, &words).await;
    asks["spec"]["cancel"] = true.into();
    let attempt = crate::scene::patch(&world, bot.clone(), "orders", json!({"spec": {"cancel": true}}));
    refused(122, "a delegate cancels a request", attempt, 403, &["bot-qa", "cannot patch"]).await;
    let stages: Api<Stage> = Api::namespaced(bot, &world.host);
    let plain = kube::api::PatchParams::default();
    let lax = kube::api::Patch::Merge(json!({"spec": {"gates": {"allowSelfApproval": true}}}));
    refused(122, "a delegate configures its stage", stages.patch("qa", &plain, &lax), 403, &["bot-qa", "cannot patch", "stages"]).await;
    let own: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(world.bot("qa").await, &world.host);
    let attempt = async { own.list(&kube::api::ListParams::default()).await };
    refused(122, "a delegate reads the Secrets of the host", attempt, 403, &["bot-qa", "cannot list", "secrets"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_names() {
    let world = World::new("names").await;
    let olga = world.olga().await;
    // Somebody may act as every ServiceAccount. Only the schema knows what a name is.
    let rules = json!([{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["delegate"]}]);
    grant(&world, "lends-all", rules, &user("olga")).await;
    until_may(&world, "olga", &[], "delegate", "serviceaccounts").await;
    for name in ["bot-qa/../root", "system:serviceaccount:kube-system:default", "BOT", "", " "] {
        let stage = world.host_object(
            "Stage",
            "odd",
            json!({"pipeline": "standard", "targetEnvironment": "qa", "delegatedDeployment": {"type": "ServicePrincipal", "serviceAccountName": name}}),
        );
        refused(123, &format!("a delegate called {name:?}"), world.apply_as(&olga, &stage), 422, &["serviceAccountName"]).await;
    }
    for (field, value) in [("name", "../orders"), ("name", "a.b"), ("version", "1.0.0/../../x"), ("version", "latest")] {
        let mut request = serde_json::to_value(world.request("odd", "qa", "orders", "1.0.0")).unwrap();
        request["spec"]["solution"][field] = value.into();
        let what = format!("a solution's {field} {value:?}");
        refused(124, &what, create(&world, world.dana().await, &request), 422, &[&format!("spec.solution.{field}")]).await;
    }
    for (field, value) in [("stage", "qa/status"), ("stage", "../stages/qa"), ("sourceEnvironment", "dev/../prod")] {
        let mut request = serde_json::to_value(world.request("odd", "qa", "orders", "1.0.0")).unwrap();
        request["spec"][field] = value.into();
        let what = format!("a request whose {field} is {value:?}");
        refused(124, &what, create(&world, world.dana().await, &request), 422, &[&format!("spec.{field}")]).await;
    }
    // An empty user name would make the API server act as the operator itself.
    let _ = client(world.plane.admin_kubeconfig()).await;
    let kubeconfig = Kubeconfig::read_from(world.plane.admin_kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    let clients = Clients::new(config).unwrap();
    for name in ["", " "] {
        let nobody = Delegate::User { username: name.to_owned(), groups: vec!["system:masters".to_owned()] };
        let error = clients.delegate(&nobody).await.err().map(|e| e.to_string()).unwrap_or_default();
        told(34, &format!("the user {name:?} is impersonated"), &error, &["refused to impersonate an empty user name"]);
    }
}
