//! Attacks on cluster-scoped objects by a solution that should stay in its namespace: through the lists of Environments, through rights in
//! one namespace, through names of other people's objects, and through kinds that change their scope.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Environment};
use pilotage_harness::Registry;
use serde_json::{Value, json};

use crate::attempt::{ignored, refused, told};
use crate::scene::{person, user};
use crate::scoped::{
    BINDING, CLASS, ROLE, Swept, allow, berth, berths, class, cluster_binding, cluster_role, define, grant, may_be_deployed, named,
    operator, versions,
};
use crate::shipped::{config, folder, request, takes_from};
use crate::world::{World, outcome, phase};

/// Versions of solution `orders`. Each is pushed to a registry and deployed to stage `qa` by a request with the version's name.
struct Shipping<'w> {
    world: &'w World,
    registry: Registry,
    url: String,
}

impl<'w> Shipping<'w> {
    async fn of(world: &'w World) -> Self {
        let registry = Registry::start(&world.plane).unwrap();
        let url = registry.url("team/orders");
        takes_from(world, json!([{"url": url, "plainHttp": true}])).await;
        Self { world, registry, url }
    }

    fn push(&self, version: &str, objects: &[Value]) {
        let mut text = config("orders", version);
        for object in objects {
            writeln!(text, "---\n{object}").unwrap();
        }
        self.registry.push_flux(&format!("team/orders:{version}"), &folder(self.world, &[("app.yaml", &text)])).unwrap();
    }

    async fn ask(&self, version: &str) -> String {
        let name = version.replace('.', "-");
        self.world.ask(&request(self.world, &name, version, &self.url, &json!({"tag": version}))).await;
        name
    }

    async fn fails(&self, version: &str, reason: &str) -> String {
        let name = self.ask(version).await;
        self.world.fails(&name, reason).await
    }

    async fn deploys(&self, version: &str) {
        let name = self.ask(version).await;
        let end = self.world.approved(&name, "qa").await;
        assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
    }
}

/// Changes the object so that it belongs to the solution of a deleted namespace with the same name. The delegate still owns its fields.
async fn is_of_another_namespace(world: &World, class: &str) {
    let classes: Api<PriorityClass> = Api::all(world.admin.clone());
    let mut object = classes.get(class).await.unwrap();
    let managers = object.metadata.managed_fields.take().unwrap();
    let [applied] = managers.iter().filter(|m| m.operation.as_deref() == Some("Apply")).collect::<Vec<_>>()[..] else {
        panic!("applied by one manager: {managers:?}")
    };
    object.metadata.labels.as_mut().unwrap().insert("pilotage.dev/target-uid".into(), "5f0c0000-0000-0000-0000-000000000000".into());
    (object.metadata.resource_version, object.metadata.uid) = (None, None);
    classes.patch(class, &PatchParams::apply(applied.manager.as_ref().unwrap()).force(), &Patch::Apply(&object)).await.unwrap();
}

/// The spec of an Environment that lists one kind.
fn listing(world: &World, environment: &str, type_: &str, namespace: &str, group: &str, kind: &str) -> Value {
    let entry = json!({"group": group, "kind": kind});
    world.host_object("Environment", environment, json!({"type": type_, "namespace": namespace, "clusterScoped": [entry]}))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_a_host_does_not_open_the_cluster() {
    let world = World::new("cluster-listing").await;
    let olga = world.olga().await;
    let words = ["olga may not add to spec.clusterScoped", "allow-cluster-scoped on environments.pilotage.dev in the whole cluster"];
    for (what, environment, type_, namespace) in [
        ("a host's administrator lets a target's cluster be written to", "qa", "Target", &world.qa),
        ("a host's administrator lets the cluster of development be read", "dev", "Development", &world.dev),
        ("a host's administrator makes an Environment that reaches the cluster", "new", "Target", &world.qa),
    ] {
        let attempt = listing(&world, environment, type_, namespace, CLASS.0, CLASS.1);
        refused(148, what, world.apply_as(&olga, &attempt), 403, &words).await;
    }
    // In addition to what somebody else listed, and for another namespace than it was listed for.
    let other = Patch::Merge(json!({"spec": {"environmentId": "5f0c0000-0000-0000-0000-000000000000"}}));
    let environments: Api<Environment> = Api::namespaced(olga.clone(), &world.host);
    allow(&world, "qa", &[CLASS, BINDING]).await;
    let mut wider = listing(&world, "qa", "Target", &world.qa, CLASS.0, CLASS.1);
    let narrower = wider.clone();
    wider["spec"]["clusterScoped"].as_array_mut().unwrap().push(json!({"group": ROLE.0, "kind": ROLE.1}));
    refused(148, "a host's administrator lists a kind beside one that is listed", world.apply_as(&olga, &wider), 403, &words).await;
    let params = PatchParams::default();
    let attempt = environments.patch("qa", &params, &other);
    refused(148, "a host's administrator has the list hold for another namespace", attempt, 403, &words).await;
    // Shortening the list and applying it again need no right. Nor does another namespace if nothing is listed.
    for _ in 0..2 {
        world.apply_as(&olga, &narrower).await.unwrap();
    }
    environments.patch("prod", &params, &other).await.unwrap();
    let verb = json!([{"apiGroups": ["pilotage.dev"], "resources": ["environments"], "verbs": ["allow-cluster-scoped"]}]);
    grant(&world, "allows", verb, &user("olga")).await;
    world.until("olga may list kinds", async || world.apply_as(&olga, &wider).await.ok()).await;
    for (group, kind, words) in [
        ("*", "*", ["no wildcards", "by its group and kind"]),
        ("", "Namespace", ["no wildcards", "nothing of the core group"]),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", ["never part of a solution", "Take the entry out"]),
        ("pilotage.dev", "Stage", ["never part of a solution", "Take the entry out"]),
        ("storage.k8s.io", "VolumeAttachment", ["this kind is never part of a solution", "Take the entry out"]),
    ] {
        let attempt = listing(&world, "qa", "Target", &world.qa, group, kind);
        refused(149, &format!("an Environment lists {kind} of group {group:?}"), world.apply_as(&world.admin, &attempt), 422, &words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_in_a_namespace_read_nothing_of_the_cluster() {
    let world = World::new("cluster-rights").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let (group, definition) = berths(&world, "Cluster");
    define(&world, &definition).await;
    let components = json!([{"group": group, "kind": "Berth"}]);
    let mut solution = world.solution("spy", "1.0.0");
    solution["spec"]["components"] = components;
    world.apply(&[solution, berth(&group, "secret-berth", "spy", None)]).await;
    world.ask(&world.request("closed", "qa", "spy", "1.0.0")).await;
    let message = world.waits_for("closed", "ClusterScoped").await;
    told(38, "a component of the whole cluster", &message, &["Berth", "a solution is what is in its namespace", "Environment dev"]);

    allow(&world, "dev", &[(&group, "Berth")]).await;
    let rules = json!([{"apiGroups": [group], "resources": ["berths"], "verbs": ["get", "list"]}]);
    grant(&world, "export", rules.clone(), &operator()).await;
    // All rights that a namespace can give.
    let dana = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "dana"}]);
    world.apply(&crate::world::role(&world.dev, "berths", &rules, &dana)).await;
    world.ask(&world.request("spies", "qa", "spy", "1.0.0")).await;
    let message = world.waits_for("spies", "RequesterMayNotRead").await;
    told(
        150,
        "a right in the namespace for what belongs to the cluster",
        &message,
        &["dana, who asks", "kind: ClusterRoleBinding", "\"get\", \"list\""],
    );
    ignored(150, "the name of what dana may not see", !message.contains("secret-berth"), &message);
    // A selector can name any label. Whether something has that label must not become visible.
    let mut asks = world.solution("asks", "1.0.0");
    asks["spec"]["components"] = json!([{"group": group, "kind": "Berth"}]);
    asks["spec"]["selector"] = json!({"matchLabels": {"owner": "nobody-at-all"}});
    world.apply(&[asks]).await;
    world.ask(&world.request("asks", "qa", "asks", "1.0.0")).await;
    let nothing = world.waits_for("asks", "RequesterMayNotRead").await;
    // The messages are the same, except for the time until which they wait.
    let said = |message: &str| message.split_once("dana, who asks").map(|(_, said)| said.to_owned());
    let is_same = said(&nothing).is_some() && said(&nothing) == said(&message);
    ignored(150, "whether anything in the cluster carries a label", is_same, &(nothing, message));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_cluster_that_is_somebody_elses_is_touched() {
    let world = World::new("cluster-foreign").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let shipping = Shipping::of(&world).await;
    let (name, foreign) = (named(&world, "orders"), named(&world, "foreign"));
    shipping.push("1.0.0", &[class(&name, 7)]);
    shipping.ask("1.0.0").await;
    let message = world.waits_for("1-0-0", "ClusterScoped").await;
    told(151, "an artifact of a registry brings what belongs to the cluster", &message, &[&name, "is cluster-scoped", "Environment qa"]);

    // From here on, the delegate may do everything that is tried.
    world.plane.kubectl().ok(&["delete", "deploymentrequest", "1-0-0", "-n", &world.host]).unwrap();
    allow(&world, "qa", &[CLASS, ROLE, BINDING, ("apiextensions.k8s.io", "CustomResourceDefinition")]).await;
    may_be_deployed(&world, "qa").await;
    let theirs = [class(&foreign, 7), cluster_role(&foreign)];
    world.apply(&theirs).await;
    let before = versions(&world, "foreign").await;
    shipping.push("1.1.0", &[class(&foreign, 7), cluster_role(&foreign)]);
    let message = shipping.fails("1.1.0", "DryRunRefused").await;
    told(
        152,
        "a solution takes over what a person has",
        &message,
        &["ExistsAlready", &foreign, "was not put there by this solution", "it stays as it is"],
    );
    let mut widened = cluster_role(&foreign);
    widened["rules"] = json!([]);
    shipping.push("1.1.1", &[widened]);
    let message = shipping.fails("1.1.1", "DryRunRefused").await;
    told(152, "a solution empties a role that a person has", &message, &["ExistsAlready", &format!("ClusterRole {foreign}")]);
    ignored(152, "the objects of a person", versions(&world, "foreign").await == before, &before);

    // A binding without effect, because its role is gone.
    world.apply(&[cluster_binding(&foreign, &world.host)]).await;
    let kubectl = world.plane.kubectl();
    kubectl.ok(&["delete", "clusterrole", &foreign]).unwrap();
    shipping.push("1.1.2", &[cluster_role(&foreign), cluster_binding(&foreign, &world.qa)]);
    let message = shipping.fails("1.1.2", "DryRunRefused").await;
    let words = ["ExistsAlready", &format!("ClusterRoleBinding {foreign}"), "it stays as it is", "nothing was written"];
    told(152, "a role gives a person's binding its effect back", &message, &words);
    let [_, role, _] = versions(&world, "foreign").await;
    ignored(152, "the role that a person's binding names", role.is_none(), &role);
    world.apply(&[cluster_role(&foreign)]).await;

    // The solution's own object, after it was given to another namespace.
    shipping.push("1.2.0", &[class(&name, 7)]);
    shipping.deploys("1.2.0").await;
    is_of_another_namespace(&world, &name).await;
    shipping.push("1.3.0", &[class(&name, 7)]);
    let message = shipping.fails("1.3.0", "DryRunRefused").await;
    told(
        153,
        "a namespace made anew under the name of another inherits what that one had",
        &message,
        &["OwnedByAnotherSet", &name, "had another uid"],
    );

    let ours = |name: &str, group: &str| {
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
            "spec": {"group": group, "scope": "Namespaced", "names": {"kind": "Stage", "plural": "stages", "singular": "stage", "listKind": "StageList"},
                "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
    };
    shipping.push("1.5.0", &[ours("stages.pilotage.dev", "pilotage.dev")]);
    let message = shipping.fails("1.5.0", "NeverDeployed").await;
    told(
        155,
        "a solution brings the definition of Pilotage's own stages",
        &message,
        &["stages.pilotage.dev", "a kind of Pilotage itself", "leave it out"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_kinds_leads_to_nothing_that_others_have() {
    let world = World::new("cluster-lured").await;
    let _swept = Swept::after(&world);
    let shipping = Shipping::of(&world).await;
    let (name, foreign) = (named(&world, "orders"), named(&world, "foreign"));
    allow(&world, "qa", &[CLASS, ROLE]).await;
    may_be_deployed(&world, "qa").await;
    world.apply(&[cluster_role(&foreign)]).await;
    shipping.push("1.2.0", &[class(&name, 7)]);
    shipping.deploys("1.2.0").await;
    let kubectl = world.plane.kubectl();
    let label =
        kubectl.ok(&["get", "priorityclass", &name, "-o", "jsonpath={.metadata.labels.applyset\\.kubernetes\\.io/part-of}"]).unwrap();
    kubectl.ok(&["label", "clusterrole", &foreign, &format!("applyset.kubernetes.io/part-of={label}")]).unwrap();
    is_of_another_namespace(&world, &name).await;
    let before = (versions(&world, "foreign").await, versions(&world, "orders").await);
    // Somebody who writes ConfigMaps in the target adds kinds to the record, so that the delegate prunes them.
    let kinds = "ClusterRole.rbac.authorization.k8s.io,ConfigMap,Namespace,Node,PriorityClass.scheduling.k8s.io";
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"applyset.kubernetes.io/contains-group-kinds": kinds}}}));
    let maps: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.qa);
    maps.patch("pilotage-orders", &PatchParams::default(), &patch).await.unwrap();
    shipping.push("1.4.0", &[]);
    shipping.deploys("1.4.0").await;
    let after = (versions(&world, "foreign").await, versions(&world, "orders").await);
    ignored(154, "the record names kinds of the cluster with objects of others", after == before, &after);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_namespace_does_not_keep_what_a_solution_had_in_the_cluster() {
    let world = World::new("cluster-record").await;
    let _swept = Swept::after(&world);
    let shipping = Shipping::of(&world).await;
    allow(&world, "qa", &[CLASS, ROLE, BINDING]).await;
    may_be_deployed(&world, "qa").await;
    let administers = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "tara", "namespace": world.qa}, "subjects": [user("tara")],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"}});
    world.apply(&[administers]).await;
    let maps: Api<ConfigMap> = Api::namespaced(person(&world, "tara", &[]).await, &world.qa);
    let record = "pilotage-orders";
    world.until("tara administers the target", async || maps.list(&ListParams::default()).await.ok()).await;
    let name = named(&world, "orders");
    let all = [class(&name, 7), cluster_role(&name), cluster_binding(&name, &world.qa)];
    for (round, what) in
        ["a target's administrator takes kinds out of the record", "a target's administrator takes the record of kinds away"]
            .iter()
            .enumerate()
    {
        shipping.push(&format!("{round}.1.0"), &all);
        shipping.deploys(&format!("{round}.1.0")).await;
        let brought = versions(&world, "orders").await;
        assert!(brought.iter().all(Option::is_some), "{brought:?}");
        if round == 0 {
            let patch = json!({"metadata": {"annotations": {"applyset.kubernetes.io/contains-group-kinds": "ConfigMap"}}});
            maps.patch(record, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
        } else {
            maps.delete(record, &DeleteParams::default()).await.unwrap();
        }
        // Rights in the whole cluster are taken away.
        shipping.push(&format!("{round}.2.0"), &all[..1]);
        shipping.deploys(&format!("{round}.2.0")).await;
        let [class, role, binding] = versions(&world, "orders").await;
        ignored(159, what, role.is_none() && binding.is_none(), &(role, binding));
        assert_eq!(class, brought[0], "what the new version has stays as it is");
        let environments: Api<Environment> = Api::namespaced(world.admin.clone(), &world.host);
        let status = environments.get("qa").await.unwrap().status.unwrap();
        let kinds: Vec<&str> = status.solutions[0].cluster_scoped.iter().map(|k| k.kind.as_str()).collect();
        assert_eq!(kinds, ["PriorityClass"], "what is gone is not looked for any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_a_namespace_stays_in_one_and_the_other_way_round() {
    let world = World::new("cluster-scopes").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let (group, of_cluster) = berths(&world, "Cluster");
    let (_, in_namespaces) = berths(&world, "Namespaced");
    let kind = (group.as_str(), "Berth");
    let makers = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "dana"});
    let all = json!([{"apiGroups": [group], "resources": ["berths"], "verbs": ["get", "list", "patch", "create", "delete"]}]);
    let acting: Vec<String> =
        ["get", "list", "patch", "delete"].iter().map(|verb| format!("impersonate-on:serviceaccount:{verb}")).collect();
    let acting = json!([{"apiGroups": [group], "resources": ["berths"], "verbs": acting}]);
    grant(&world, "read", all.clone(), &makers).await;
    grant(&world, "export", all.clone(), &operator()).await;
    grant(&world, "bot", all, &crate::scoped::bot(&world, "qa")).await;
    grant(&world, "as-bot", acting, &operator()).await;
    for environment in ["dev", "qa"] {
        allow(&world, environment, &[kind]).await;
    }
    let definitions: Api<CustomResourceDefinition> = Api::all(world.admin.clone());
    let name = format!("berths.{group}");
    let redefine = async |definition: &Value| {
        if definitions.delete(&name, &DeleteParams::default()).await.is_ok() {
            world.until("the old definition is gone", async || definitions.get_opt(&name).await.unwrap().is_none().then_some(())).await;
        }
        define(&world, definition).await;
    };
    let develop = async |solution: &str, namespace: Option<&str>| {
        let mut written = world.solution(solution, "1.0.0");
        written["spec"]["components"] = json!([{"group": group, "kind": "Berth"}]);
        world.apply(&[written, berth(&group, solution, solution, namespace)]).await;
    };
    let requests: Api<DeploymentRequest> = Api::namespaced(world.admin.clone(), &world.host);
    for (what, before, after, namespace, words) in [
        (
            "an object of a namespace gets into the whole cluster",
            &in_namespaces,
            &of_cluster,
            Some(world.dev.as_str()),
            "belonged to a namespace",
        ),
        ("an object of the whole cluster gets into a namespace", &of_cluster, &in_namespaces, None, "belonged to the whole cluster"),
    ] {
        let solution = if namespace.is_some() { "up" } else { "down" };
        redefine(before).await;
        develop(solution, namespace).await;
        // It is exported before the kind changes. There is only one cluster, so cluster-scoped objects in it are those of development.
        world.ask(&world.request(solution, "qa", solution, "1.0.0")).await;
        let exported = world.until_request(solution, |r| phase(r) == "AwaitingApproval" || phase(r) == "Failed").await;
        assert!(phase(&exported) != "Failed" || outcome(&exported).1.contains("ExistsAlready"), "{:?}", outcome(&exported));
        redefine(after).await;
        // An export makes the operator discover the cluster's kinds again.
        world
            .apply(&[
                world.solution(&format!("{solution}-ask"), "1.0.0"),
                world.config(&format!("{solution}-ask"), &format!("{solution}-ask"), json!({})),
            ])
            .await;
        world.ask(&world.request(&format!("{solution}-ask"), "qa", &format!("{solution}-ask"), "1.0.0")).await;
        world.until_request(&format!("{solution}-ask"), |r| phase(r) == "AwaitingApproval").await;
        let again = format!("{solution}-again");
        world.ask(&world.request(&again, "qa", solution, "1.0.0")).await;
        let message = world.fails(&again, "DryRunRefused").await;
        told(156, what, &message, &["ScopeDiffers", words, "nothing was written", "raise the version"]);
        assert!(requests.get(&again).await.unwrap().status.unwrap().run.start_time.is_none());
    }
}
