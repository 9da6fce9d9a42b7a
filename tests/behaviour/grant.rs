//! `kubectl pilotage grant`: it prints what conditions print, and after somebody has applied it the request continues.

use std::path::Path;
use std::process::Command;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use pilotage::api::{DeploymentRequest, Environment, Stage};
use serde_json::{Value, json};

use crate::world::{World, client, outcome, phase};

/// Runs the plugin as the user of the kubeconfig. Returns its output, or its error.
pub fn plugin(world: &World, kubeconfig: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_kubectl-pilotage"))
        .args(["-n", &world.host])
        .args(args)
        .env("KUBECONFIG", kubeconfig)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The same as the cluster's administrator. It must succeed.
pub fn grant(world: &World, args: &[&str]) -> String {
    plugin(world, &world.plane.admin_kubeconfig(), &[&["grant"], args].concat()).unwrap()
}

/// Removes all grants of the world for the delegate of QA.
pub fn without_grants(world: &World) {
    let kubectl = world.plane.kubectl();
    for (namespace, binding) in
        [(&world.host, "pilotage-delegates"), (&world.host, "bot-qa"), (&world.qa, "pilotage-operator"), (&world.qa, "bot-qa")]
    {
        kubectl.ok(&["delete", "rolebinding", binding, "-n", namespace]).unwrap();
    }
}

/// The world's pipeline and its stage `qa`, written by olga and changed by `change`.
pub async fn configure(world: &World, change: impl Fn(&mut Value)) {
    let olga = world.olga().await;
    for mut object in world.pipeline() {
        if object["metadata"]["name"] == "prod" {
            continue;
        }
        change(&mut object);
        world.apply_as(&olga, &object).await.unwrap_or_else(|error| panic!("{error}: {object}"));
    }
}

/// Asks for a check now: rights are not watched.
pub async fn look_again(world: &World, stage: &str, word: &str) {
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"example.test/look-again": word}}}));
    Api::<Stage>::namespaced(world.admin.clone(), &world.host).patch(stage, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stage_misses_is_what_grant_prints_and_who_applies_it_makes_the_stage_ready() {
    let world = World::bare("grant-stage").await;
    without_grants(&world);
    configure(&world, |_| ()).await;
    let message = world.until_condition::<Stage>("qa", "Ready", "OperatorMayNotActAsDelegate").await;
    let delegate = grant(&world, &["delegate", "--stage", "qa", "--least"]);
    let operator = grant(&world, &["operator", "--stage", "qa", "--least"]);
    assert!(message.contains(&operator), "{message}\n\nis not\n\n{operator}");
    for part in delegate.split("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n") {
        assert!(message.contains(part), "{message}\n\nis not\n\n{part}");
    }
    let bot = format!("system:serviceaccount:{}:bot-qa", world.host);
    for (who, what) in
        [("the operator may not act as", ". Administrators"), (&bot, "may not decide requests"), (&bot, "lacks rights in namespace")]
    {
        assert!(message.contains(who) && message.contains(what), "{message}");
    }

    // Naming everything has the same effect as naming the stage.
    let named = grant(&world, &["operator", "--service-account", "bot-qa", "--target", &world.qa, "--least"]);
    assert_eq!(named, operator);
    for what in ["delegate", "operator"] {
        let done = grant(&world, &[what, "--stage", "qa", "--least", "--apply"]);
        assert!(done.contains(&format!("RoleBinding pilotage-{}", if what == "operator" { "as" } else { "delegate" })), "{done}");
    }
    world.ready::<Stage>("qa").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_what_a_solution_needs_it_deploys_and_what_a_request_misses_is_what_grant_prints() {
    let world = World::bare("grant-solution").await.provokes_refusals().await;
    without_grants(&world);
    configure(&world, |_| ()).await;
    let part_of = json!({"app.kubernetes.io/part-of": "orders"});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "orders", "namespace": world.dev, "labels": part_of},
        "spec": {"selector": {"app": "orders"}, "ports": [{"port": 80}]},
    });
    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "orders", "namespace": world.dev, "labels": part_of},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "orders"}}},
    });
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({})), service, budget]).await;
    for what in ["delegate", "operator"] {
        grant(&world, &[what, "--stage", "qa", "--least", "--apply"]);
    }
    world.ready::<Stage>("qa").await;
    let dana = world.dana().await;
    let request = world.request("to-qa", "qa", "orders", "1.0.0");
    let requests = Api::<DeploymentRequest>::namespaced(dana, &world.host);
    world.until("the pipeline is shared", async || requests.create(&PostParams::default(), &request).await.ok()).await;
    let message = world.waits_for("to-qa", "DelegateLacksTargetAccess").await;

    // From the solution in development, from its artifact, and from the kinds themselves.
    let of_solution = ["delegate", "--stage", "qa", "--solution", "orders", "--from", &world.dev];
    let printed = grant(&world, &of_solution);
    assert_eq!(printed, grant(&world, &["delegate", "--stage", "qa", "--artifact", "orders-1.0.0"]));
    assert_eq!(printed, grant(&world, &["delegate", "--stage", "qa", "--kind", "services", "--kind", "poddisruptionbudgets.policy"]));
    let kinds = printed.rfind("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n").unwrap();
    assert!(message.contains(&printed[kinds..]), "{message}\n\nis not\n\n{}", &printed[kinds..]);
    let operators = grant(&world, &["operator", "--stage", "qa", "--artifact", "orders-1.0.0"]);
    let kinds = operators.rfind("apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\n").unwrap();
    assert!(message.contains(&operators[kinds..]), "{message}\n\nis not\n\n{}", &operators[kinds..]);

    grant(&world, &[&of_solution[..], &["--apply"]].concat());
    grant(&world, &["operator", "--stage", "qa", "--artifact", "orders-1.0.0", "--apply"]);
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    // What the next version no longer has is deleted without another grant.
    world.plane.kubectl().ok(&["delete", "service/orders", "pdb/orders", "-n", &world.dev]).unwrap();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    let end = world.deploy("without", "qa", "orders", "1.1.0").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    assert!(!world.plane.kubectl().run(&["get", "service", "orders", "-n", &world.qa]).unwrap().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_is_given_to_the_host_by_what_its_condition_prints() {
    let world = World::bare("grant-environment").await.provokes_refusals().await;
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["label", "namespace", &world.qa, "pilotage.dev/managed-by-"]).unwrap();
    kubectl.ok(&["label", "namespace", &world.dev, "pilotage.dev/developed-in-"]).unwrap();
    kubectl.ok(&["delete", "rolebinding", "pilotage-export", "-n", &world.dev]).unwrap();
    kubectl.ok(&["delete", "rolebinding", "pilotage-host", "-n", &world.host]).unwrap();
    configure(&world, |_| ()).await;
    for (name, type_, namespace) in [("qa", "target", &world.qa), ("dev", "development", &world.dev)] {
        let message = world.until_condition::<Environment>(name, "Ready", "NotManaged").await;
        let printed = grant(&world, &["environment", namespace, "--type", type_]);
        let opt_in = printed
            .split("---\napiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: pilotage-export")
            .next()
            .unwrap();
        assert!(message.contains(opt_in), "{message}\n\nis not\n\n{opt_in}");
        grant(&world, &["environment", namespace, "--type", type_, "--apply"]);
        world.ready::<Environment>(name).await;
    }
    let message = world.until_condition::<Stage>("qa", "Ready", "OperatorLacksHostRole").await;
    let printed = grant(&world, &["host"]);
    let binding = &printed[printed.find("---\n").unwrap() + 4..];
    assert!(message.contains(binding), "{message}\n\nis not\n\n{binding}");
    let done = grant(&world, &["host", "--apply"]);
    assert!(done.contains(&format!("Namespace {} applied", world.host)), "{done}");
    world.ready::<Stage>("qa").await;
}

/// A person with a certificate.
async fn person(world: &World, name: &str) -> Client {
    client(world.plane.user_kubeconfig(name, &[]).unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_what_they_are_granted_and_no_more() {
    let world = World::bare("grant-people").await;
    let olga = world.olga().await;
    for object in world.pipeline().iter().filter(|o| o["kind"] != "Stage") {
        world.apply_as(&olga, object).await.unwrap();
    }
    let stage = |name: &str| {
        let mut object = world.pipeline().into_iter().find(|o| o["kind"] == "Stage").unwrap();
        object["metadata"]["name"] = name.into();
        object["spec"]["preDeploymentStepRequired"] = true.into();
        object
    };
    // An administrator of the host. Before the grants, they may neither use its environments nor act as its delegates.
    let pat = person(&world, "pat").await;
    let refused = |error: kube::Error| error.to_string();
    let error = refused(world.apply_as(&pat, &stage("second")).await.unwrap_err());
    assert!(error.contains("cannot patch resource \"stages\""), "{error}");
    grant(&world, &["administer", "--user", "pat", "--apply"]);
    let error = world
        .until("pat administers the host", async || {
            world.apply_as(&pat, &stage("second")).await.err().map(refused).filter(|e| !e.contains("cannot patch"))
        })
        .await;
    assert!(error.contains("pat could not act as ServiceAccount") && error.contains("they need the verb delegate"), "{error}");
    grant(&world, &["own", "bot-qa", "--user", "pat", "--apply"]);
    let error = world
        .until("pat answers for the delegate", async || {
            world.apply_as(&pat, &stage("second")).await.err().map(refused).filter(|e| !e.contains("could not act as"))
        })
        .await;
    assert!(error.contains("pat may not deploy to environment") && error.contains("they need the verb use"), "{error}");
    grant(&world, &["use", "qa", "--user", "pat", "--apply"]);
    world.until("pat uses the environment", async || world.apply_as(&pat, &stage("second")).await.ok()).await;
    world.ready::<Stage>("second").await;

    // Carl makes requests through that pipeline, and decides nothing. Fred decides the step of that stage, and of no other.
    world.apply(&[world.solution("orders", "1.0.0"), world.config("orders", "orders", json!({}))]).await;
    let carl = person(&world, "carl").await;
    let requests = Api::<DeploymentRequest>::namespaced(carl.clone(), &world.host);
    let request = world.request("to-second", "second", "orders", "1.0.0");
    let error = requests.create(&PostParams::default(), &request).await.unwrap_err().to_string();
    assert!(error.contains("cannot create resource \"deploymentrequests\""), "{error}");
    world.plane.kubectl().ok(&["create", "rolebinding", "carl", "--clusterrole=view", "--user=carl", "-n", &world.dev]).unwrap();
    grant(&world, &["deploy", "standard", "--user", "carl", "--apply"]);
    world.until("carl may ask", async || requests.create(&PostParams::default(), &request).await.ok()).await;
    world.until_request("to-second", |r| phase(r) == "AwaitingApproval").await;
    world.decide("qa", "to-second", "Approved").await.unwrap();
    world.until_request("to-second", |r| phase(r) == "AwaitingPreDeploymentStep").await;
    let fred = Api::<DeploymentRequest>::namespaced(person(&world, "fred").await, &world.host);
    let completed = Patch::Merge(json!({"status": {"preDeploymentStep": {"decision": "Completed"}}}));
    grant(&world, &["approve", "qa", "--user", "fred", "--apply"]);
    let error = world
        .until("fred may patch decisions", async || {
            fred.patch_status("to-second", &PatchParams::default(), &completed)
                .await
                .err()
                .map(|e| e.to_string())
                .filter(|e| !e.contains("cannot patch"))
        })
        .await;
    assert!(error.contains("by holders of the verb approve on its stage"), "{error}");
    grant(&world, &["approve", "second", "--user", "fred", "--apply"]);
    world.until("fred decides", async || fred.patch_status("to-second", &PatchParams::default(), &completed).await.ok()).await;
    let end = world.end("to-second").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));

    // Ada administers the requests of the pipeline: she cancels other people's requests.
    let mut second = world.request("canceled", "second", "orders", "2.0.0");
    second.spec.scheduled_time = Some("2999-01-01T00:00:00Z".into());
    requests.create(&PostParams::default(), &second).await.unwrap();
    let ada = Api::<DeploymentRequest>::namespaced(person(&world, "ada").await, &world.host);
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    assert!(ada.patch("canceled", &PatchParams::default(), &cancel).await.is_err());
    grant(&world, &["administer", "standard", "--user", "ada", "--apply"]);
    world.until("ada administers", async || ada.patch("canceled", &PatchParams::default(), &cancel).await.ok()).await;
    assert_eq!(phase(&world.end("canceled").await), "Canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_hand_it_on_is_told_what_was_refused_and_why() {
    let world = World::new("grant-refused").await;
    let olga = world.plane.user_kubeconfig("olga", &[]).unwrap();
    let text = plugin(&world, &olga, &["grant", "operator", "--stage", "qa", "--apply"]).unwrap_err();
    assert!(text.contains(&format!("Role pilotage-as-{}-bot-qa of namespace {} was refused", world.host, world.host)), "{text}");
    assert!(text.contains("you may not write it: ") && text.contains("cannot patch resource \"roles\""), "{text}");
    // Somebody who writes Roles there can still only grant the rights that they hold.
    let admin = ["create", "rolebinding", "olga-admin", "--clusterrole=admin", "--user=olga", "-n", &world.qa];
    world.plane.kubectl().ok(&admin).unwrap();
    let name = format!("system:serviceaccount:{}:bot-qa", world.host);
    let args = ["grant", "operator", "--user", &name, "--target", &world.qa, "--apply"];
    let text = plugin(&world, &olga, &args).unwrap_err();
    assert!(text.contains("was refused"), "{text}");
    let text = plugin(&world, &olga, &["grant", "environment", &world.qa, "--type", "target", "--apply"]).unwrap();
    assert!(text.contains(&format!("Role pilotage-manage-{} of namespace {} applied", world.host, world.qa)), "admin may opt in: {text}");
    let text = plugin(&world, &olga, &["grant", "delegate", "--stage", "nowhere"]).unwrap_err();
    assert!(text.contains(&format!("reading Stage nowhere of namespace {}", world.host)), "{text}");
}

/// A suspended `CronJob` that refers to everything that a target can have: it is healthy at once, and needs all of that to exist.
fn refers(world: &World, class: &str) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "orders", "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"schedule": "0 5 31 2 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "serviceAccountName": "runner", "priorityClassName": class,
            "imagePullSecrets": [{"name": "registry"}],
            "containers": [{"name": "a", "image": "a",
                "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
                        {"name": "M", "valueFrom": {"configMapKeyRef": {"name": "of-the-target", "key": "a"}}}]}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "uploads"}},
                        {"name": "w", "ephemeral": {"volumeClaimTemplate": {"spec": {"storageClassName": class,
                            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}],
        }}}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grant_prints_is_all_that_a_delegate_without_any_right_needs_also_where_the_solution_refers_to_much() {
    let world = World::bare("grant-all").await;
    without_grants(&world);
    let (qa, class) = (&world.qa, format!("class-of-{}", world.qa));
    let offered = json!({"pilotage.dev/connection": "true"});
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": qa, "labels": offered}, "stringData": {"password": "p"}});
    world
        .apply(&[
            secret("db"),
            secret("registry"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "runner", "namespace": qa, "labels": offered}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-the-target", "namespace": qa}, "data": {"a": "b"}}),
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "uploads", "namespace": qa},
                   "spec": {"storageClassName": "", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": class}, "value": 1}),
            json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": class}, "provisioner": "example.test/none"}),
            refers(&world, &class),
            world.solution("orders", "1.0.0"),
        ])
        .await;
    let of_solution = ["--stage", "qa", "--solution", "orders", "--from", &world.dev];
    configure(&world, |_| ()).await;
    for what in ["delegate", "operator"] {
        let printed = grant(&world, &[&[what], &of_solution[..]].concat());
        for name in ["\"db\"", "\"registry\"", "\"runner\"", "\"uploads\""] {
            assert!(printed.contains(name), "{name} is not looked at: {printed}");
        }
        assert!(!printed.contains("of-the-target"), "every ConfigMap is granted already: {printed}");
        world.plane.kubectl().apply(&printed).unwrap();
    }
    look_again(&world, "qa", "granted").await;
    world.ready::<Stage>("qa").await;
    let requests = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let request = world.request("to-qa", "qa", "orders", "1.0.0");
    world.until("the pipeline is shared", async || requests.create(&PostParams::default(), &request).await.ok()).await;
    // Nothing is missing: it asks for approval. None of its calls to the target was refused, as the audit check sees.
    let waiting = world.until_request("to-qa", |r| phase(r) == "AwaitingApproval" || outcome(r).0 == "DelegateLacksTargetAccess").await;
    assert_eq!(phase(&waiting), "AwaitingApproval", "{:?}", outcome(&waiting));
    let end = world.approved("to-qa", "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    assert_eq!(
        grant(&world, &[&["operator"], &of_solution[..]].concat()),
        grant(&world, &["operator", "--stage", "qa", "--artifact", "orders-1.0.0"]),
        "the artifact refers to the same"
    );

    // A connection reference stands for something with another name in the target.
    let mut connected = world.solution("orders", "1.1.0");
    connected["spec"]["connectionReferences"] = json!([{"name": "database", "secretName": "db"}]);
    world.apply(&[connected]).await;
    let printed = grant(&world, &[&["delegate"], &of_solution[..], &["--secret", "qa-db"]].concat());
    assert!(printed.contains("# Secrets that connection references put in the place of db are not among this"), "{printed}");
    assert!(printed.contains("\"qa-db\"") && printed.contains("\"registry\"") && !printed.contains("\"db\""), "{printed}");
    // A kind is granted with all rights that deploying it needs, or not at all.
    let printed = grant(&world, &["delegate", "--stage", "qa", "--kind", "roles.rbac.authorization.k8s.io"]);
    assert!(["get", "list", "patch", "create", "delete"].iter().all(|verb| printed.contains(&format!("\"{verb}\""))), "{printed}");
    let refused = plugin(&world, &world.plane.admin_kubeconfig(), &["grant", "delegate", "--stage", "qa", "--kind", "deployment.apps"]);
    assert!(refused.as_ref().is_err_and(|text| text.contains("does not serve deployment.apps: write its plural name")), "{refused:?}");

    // Somebody who may read the artifact but not its bytes is told what they don't see.
    let olga = world.plane.user_kubeconfig("olga", &[]).unwrap();
    let printed = plugin(&world, &olga, &["grant", "delegate", "--stage", "qa", "--artifact", "orders-1.0.0"]).unwrap();
    assert!(printed.starts_with("# You may not read the ConfigMaps of artifact orders-1.0.0") && printed.contains("--secret"), "{printed}");
    assert!(printed.contains("cronjobs") && !printed.contains("runner"), "{printed}");
    for (kind, name) in [("priorityclass", &class), ("storageclass", &class)] {
        world.plane.kubectl().ok(&["delete", kind, name]).unwrap();
    }
}
