//! Attacks from other places: other hosts, target namespaces and their administrators, and environments that are moved.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Environment, Stage};
use serde_json::{Value, json};

use crate::attempt::{ignored, refused, told};
use crate::scene::{at_the_gate, bind, grant, orders, person, until_may, user};
use crate::world::{World, outcome, phase};

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn environment(world: &World, name: &str, type_: &str, namespace: &str) -> Value {
    world.host_object("Environment", name, json!({"type": type_, "namespace": namespace}))
}

/// The cluster role `admin` in QA, for tom.
async fn administers_qa(world: &World) -> kube::Client {
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "tom", "namespace": world.qa},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}, "subjects": [user("tom")]});
    world.apply(&[binding]).await;
    let tom = person(world, "tom", &[]).await;
    let maps: Api<ConfigMap> = Api::namespaced(tom.clone(), &world.qa);
    world.until("tom administers QA", async || maps.list(&kube::api::ListParams::default()).await.ok()).await;
    tom
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_gets_no_namespace_that_did_not_give_itself_to_it() {
    let world = World::bare("hosts").await;
    let (other, theirs) = (format!("{}-other", world.host), format!("{}-theirs", world.qa));
    world
        .apply(&[
            // It has opted in, so it is told what it is.
            namespace(&other, &json!({"pilotage.dev/host": "true", "pilotage.dev/managed-by": world.host})),
            namespace(&theirs, &json!({"pilotage.dev/managed-by": other})),
        ])
        .await;
    // The other host wants this host's namespace, and came first.
    let mut blocks = environment(&world, "blocks", "Target", &world.qa);
    blocks["metadata"]["namespace"] = other.clone().into();
    world.apply(&[blocks]).await;
    let elsewhere: Api<Environment> = Api::namespaced(world.admin.clone(), &other);
    let blocked = world
        .until("the other host's Environment is judged", async || {
            let seen = elsewhere.get("blocks").await.unwrap().status?;
            let ready = pilotage::api::condition::find(&seen.conditions, "Ready");
            ready.filter(|c| c.reason != "NotLookedAt").map(|c| (c.reason.clone(), c.message.clone()))
        })
        .await;
    assert_eq!(blocked.0, "NotManaged", "{}", blocked.1);
    told(106, "another host wants this host's target", &blocked.1, &["has not given itself to host", &other]);
    world.configure().await;
    ignored(106, "another host's older claim on a target", true, &"QA is ready all the same");

    let olga = world.olga().await;
    for (attack, what, name, of, reason, word) in [
        (41, "a namespace that opted in to another host", "theirs", theirs.as_str(), "NotManaged", "has not given itself to host"),
        (41, "a namespace that opted in to nobody", "system", "kube-public", "NotManaged", "has not given itself to host"),
        (107, "the host itself as a target", "self", world.host.as_str(), "HostIsEnvironment", "three different namespaces"),
        (107, "another host as a target", "host", other.as_str(), "HostIsEnvironment", "three different namespaces"),
        (50, "a second Environment on one namespace", "second", world.qa.as_str(), "NamespaceTaken", "belongs to Environment qa"),
    ] {
        world.apply_as(&olga, &environment(&world, name, "Target", of)).await.unwrap();
        let message = world.until_condition::<Environment>(name, "Ready", reason).await;
        told(attack, what, &message, &[&format!("namespace {of} "), word]);
    }
    // A development namespace can't become a target, and the other way round.
    world.apply_as(&olga, &environment(&world, "dev-as-target", "Target", &world.dev)).await.unwrap();
    let message = world.until_condition::<Environment>("dev-as-target", "Ready", "NamespaceTaken").await;
    told(107, "a development environment as a target", &message, &["belongs to Environment dev (Development)"]);
    let mut spies = environment(&world, "spies", "Target", &world.prod);
    spies["spec"]["prerequisites"] = json!([{"apiVersion": "v1", "kind": "Secret", "name": "vault"}]);
    world.plane.kubectl().ok(&["delete", "environment", "prod", "-n", &world.host]).unwrap();
    world.apply_as(&olga, &spies).await.unwrap();
    let message = world.until_condition::<Environment>("spies", "Ready", "PrerequisiteNotAllowed").await;
    told(108, "a Secret of a target as a prerequisite", &message, &["Secret vault can't be a prerequisite", "does not read Secrets"]);
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    for name in [&other, &theirs] {
        namespaces.delete(name, &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_environment_stays_what_its_stages_were_written_for() {
    let world = World::new("moved").await;
    orders(&world).await;
    bind(&world, "ann", "ClusterRole", "pilotage-administrator", &user("ann")).await;
    until_may(&world, "ann", &[], "create", "environments.pilotage.dev").await;
    let ann = person(&world, "ann", &[]).await;
    let environments: Api<Environment> = Api::namespaced(ann.clone(), &world.host);
    let (plain, moved) = (PatchParams::default(), Patch::Merge(json!({"spec": {"namespace": world.prod}})));
    let words = ["type, namespace and cluster are immutable", "create another"];
    refused(54, "an Environment is pointed at another namespace", environments.patch("qa", &plain, &moved), 422, &words).await;
    let flipped = Patch::Merge(json!({"spec": {"type": "Development"}}));
    refused(54, "a target is made a development environment", environments.patch("qa", &plain, &flipped), 422, &words).await;

    // Ann may delete it and create it again, but may not make somebody's delegate deploy there.
    for name in ["qa", "prod"] {
        environments.delete(name, &DeleteParams::default()).await.unwrap();
    }
    world
        .until("the Environment is made again for production", async || {
            world
                .apply_as(&ann, &environment(&world, "qa", "Target", &world.prod))
                .await
                .ok()
                .filter(|e| e.metadata.deletion_timestamp.is_none())
        })
        .await;
    let message = world.until_condition::<Stage>("qa", "Ready", "TargetChanged").await;
    told(54, "an Environment made again for another namespace", &message, &["deleted and created again", "the owner confirms it"]);
    world.ask(&world.request("orders", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("orders", "StageNotReady").await;
    assert!(message.contains("TargetChanged"), "{message}");
    assert!(world.operator_writes(&world.prod, false).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_targets_administrator_gets_nothing_out_of_the_host() {
    let world = World::new("target").await;
    let tom = administers_qa(&world).await;
    let role = |verbs: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "more", "namespace": world.qa},
            "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}]})
    };
    let words = ["attempting to grant RBAC permissions not currently held", "impersonate-on:serviceaccount:get"];
    let attempt = role(json!(["impersonate-on:serviceaccount:get"]));
    refused(29, "a target's administrator lets the operator do more as the delegate", world.apply_as(&tom, &attempt), 403, &words).await;
    let host: Api<DeploymentRequest> = Api::namespaced(tom.clone(), &world.host);
    let words = ["tom", "cannot list", "deploymentrequests"];
    refused(109, "a target's administrator reads the host", host.list(&kube::api::ListParams::default()), 403, &words).await;
    let words = ["tom", "cannot impersonate"];
    let as_bot =
        crate::scene::acting_as(world.plane.user_kubeconfig("tom", &[]).unwrap(), &crate::scene::delegate(&world, "qa"), &[]).await;
    let maps: Api<ConfigMap> = Api::namespaced(as_bot, &world.qa);
    refused(109, "a target's administrator acts as the delegate", maps.list(&kube::api::ListParams::default()), 403, &words).await;

    // A target's administrator may write the delegate's record. This makes no deployment do what was not granted.
    let squatted = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pilotage-orders", "namespace": world.qa,
        "annotations": {"applyset.kubernetes.io/tooling": "somebody/v1", "applyset.kubernetes.io/contains-group-kinds": "Secret"}}});
    world.apply_as(&tom, &squatted).await.unwrap();
    orders(&world).await;
    world.ask(&world.request("orders", "qa", "orders", "1.0.0")).await;
    let message = world.fails("orders", "DryRunRefused").await;
    let words = ["ConfigMap pilotage-orders", "ParentTaken", "belongs to somebody/v1", "delete or rename it"];
    told(110, "somebody else's set under the name of the solution's record", &message, &words);
    assert!(world.operator_writes(&world.qa, false).is_empty());

    let api: Api<ConfigMap> = Api::namespaced(tom.clone(), &world.qa);
    api.delete("pilotage-orders", &DeleteParams::default()).await.unwrap();
    assert_eq!(phase(&world.deploy("again", "qa", "orders", "1.0.0").await), "Succeeded");
    let lure = Patch::Merge(json!({"metadata": {"annotations": {"applyset.kubernetes.io/contains-group-kinds": "ConfigMap,Secret"}}}));
    api.patch("pilotage-orders", &PatchParams::default(), &lure).await.unwrap();
    world.apply(&[world.solution("orders", "1.1.0")]).await;
    let next = world.deploy("next", "qa", "orders", "1.1.0").await;
    let (calls, _) = pilotage_harness::audit::since(&world.plane.audit_log(), 0).unwrap();
    let read: Vec<_> =
        calls.iter().filter(|c| c.namespace == world.qa && c.resource == "secrets" && c.user.ends_with(":pilotage")).collect();
    ignored(110, "a record that says the set holds Secrets", phase(&next) == "Succeeded" && read.is_empty(), &(outcome(&next), read));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_team_neither_ships_nor_reads_what_is_not_theirs() {
    let world = World::new("teams").await;
    let second = format!("{}-second", world.dev);
    let rbac = "rbac.authorization.k8s.io";
    let view = |name: &str, subject: Value| {
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": {"name": name, "namespace": second},
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"}, "subjects": [subject]})
    };
    let operator = json!({"kind": "ServiceAccount", "namespace": "pilotage-system", "name": "pilotage"});
    world
        .apply(&[
            namespace(&second, &json!({"pilotage.dev/developed-in": world.host})),
            view("operator", operator),
            view("dan", user("dan")),
            json!({"apiVersion": "pilotage.dev/v1alpha1", "kind": "Solution", "metadata": {"name": "orders", "namespace": second}, "spec": {"version": "1.0.0"}}),
        ])
        .await;
    let olga = world.olga().await;
    world.apply_as(&olga, &environment(&world, "second", "Development", &second)).await.unwrap();
    let shared = json!({"developmentEnvironments": ["dev", "second"], "sharedWith": [{"kind": "Group", "name": "makers"}, {"kind": "User", "name": "dan"}]});
    world.apply_as(&olga, &world.host_object("Pipeline", "standard", shared)).await.unwrap();
    world.ready::<Environment>("second").await;
    until_may(&world, "dan", &[], "deploy", "pipelines.pilotage.dev/standard").await;
    until_may(&world, "dan", &[], "create", "deploymentrequests.pilotage.dev").await;

    orders(&world).await;
    let from = |name: &str, source: &str| {
        let mut request = world.request(name, "qa", "orders", "1.0.0");
        request.spec.source_environment = Some(source.to_owned());
        request
    };
    world.ask(&from("orders", "dev")).await;
    world.until_request("orders", |r| phase(r) == "AwaitingApproval").await;
    let dan: Api<DeploymentRequest> = Api::namespaced(person(&world, "dan", &[]).await, &world.host);
    dan.create(&kube::api::PostParams::default(), &from("other", "second")).await.unwrap();
    let message = world.fails("other", "ExportedElsewhere").await;
    told(
        58,
        "the same version from another development environment",
        &message,
        &["exported from environment dev", "one source for ever", "Raise the version"],
    );
    dan.create(&kube::api::PostParams::default(), &from("same", "dev")).await.unwrap();
    let message = world.waits_for("same", "RequesterMayNotRead").await;
    told(
        58,
        "a stored version, by who may not read what it was exported from",
        &message,
        &["dan, who asks, may not read all that is exported", &world.dev],
    );
    assert!(world.operator_writes(&world.qa, false).is_empty());
    Api::<Namespace>::all(world.admin.clone()).delete(&second, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_not_deleted_by_accident_or_in_passing() {
    let world = World::new("deletion").await;
    let namespaces: Api<Namespace> = Api::all(world.admin.clone());
    let none = DeleteParams::default();
    let words = ["holds pipeline standard", "confirm-delete"];
    refused(111, "a host with pipelines is deleted", namespaces.delete(&world.host, &none), 403, &words).await;
    let wrong = Patch::Merge(json!({"metadata": {"annotations": {"pilotage.dev/confirm-delete": world.qa}}}));
    namespaces.patch(&world.host, &PatchParams::default(), &wrong).await.unwrap();
    refused(111, "a host with pipelines is deleted, confirmed by another name", namespaces.delete(&world.host, &none), 403, &words).await;
    let olga: Api<Namespace> = Api::all(world.olga().await);
    refused(
        111,
        "a host's administrator confirms its deletion",
        olga.patch(&world.host, &PatchParams::default(), &wrong),
        403,
        &["olga", "cannot patch"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_hands_on_what_they_do_not_have() {
    let world = World::new("escalation").await;
    // Somebody who manages the roles in the host for everybody.
    let rules = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create", "get", "patch", "update"]}]);
    grant(&world, "rita", rules, &user("rita")).await;
    until_may(&world, "rita", &[], "create", "roles.rbac.authorization.k8s.io").await;
    let rita = person(&world, "rita", &[]).await;
    let words = ["attempting to grant RBAC permissions not currently held"];
    for (resource, group, verb) in [
        ("pipelines", "pilotage.dev", "deploy"),
        ("pipelines", "pilotage.dev", "administer"),
        ("stages", "pilotage.dev", "approve"),
        ("environments", "pilotage.dev", "use"),
        ("serviceaccounts", "", "delegate"),
    ] {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "more", "namespace": world.host},
            "rules": [{"apiGroups": [group], "resources": [resource], "verbs": [verb]}]});
        refused(29, &format!("a Role that gives {verb} to whoever writes it"), world.apply_as(&rita, &role), 403, &words).await;
    }
    for role in ["pilotage-administrator", "pilotage-approver", "pilotage-delegate"] {
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "more", "namespace": world.host},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}, "subjects": [user("rita")]});
        refused(29, &format!("who manages roles binds {role} to themselves"), world.apply_as(&rita, &binding), 403, &words).await;
    }
    // A maker does not even get that far.
    at_the_gate(&world, "orders").await;
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "mine", "namespace": world.host}, "rules": []});
    refused(29, "a maker makes a Role in the host", world.apply_as(&world.dana().await, &role), 403, &["dana", "cannot patch", "roles"])
        .await;
}
