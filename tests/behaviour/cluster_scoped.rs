//! Cluster-scoped objects are deployed if both Environments list their kind and the delegate has the rights. They belong to their solution
//! like all its objects, and nobody else's objects are touched.

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::plan::{Plan, PlannedAction};
use pilotage::api::{Artifact, DeploymentRequest, Pipeline, Stage};
use pilotage_harness::Registry;
use serde_json::{Value, json};

use crate::grant::grant as plugin_grant;
use crate::scoped::{
    BINDING, CLASS, ROLE, Swept, allow, berth, berths, class, cluster_binding, cluster_role, define, grant, holds_what_it_grants,
    may_be_deployed, may_be_exported, named, operator, versions,
};
use crate::shipped::{config, folder, request, takes_from};
use crate::world::{World, ended, outcome, phase};

/// How many grants may be needed until nothing is missing: a right is requested when it is needed.
const MOST_GRANTS: usize = 6;

fn plan(request: &DeploymentRequest) -> Plan {
    request.status.as_ref().and_then(|s| s.run.plan.clone()).unwrap_or_default()
}

fn succeeded(request: &DeploymentRequest) {
    assert_eq!(phase(request), "Succeeded", "{:?} {:?}", outcome(request), request.status.as_ref().map(|s| &s.run.errors));
}

/// Applies the grant at the end of a message.
fn apply_printed(world: &World, message: &str) {
    let printed = &message[message.find("apiVersion:").unwrap_or_else(|| panic!("no grant: {message}"))..];
    let applied = world.plane.kubectl().run_with(&["apply", "-f", "-"], printed).unwrap();
    assert!(applied.ok, "{}: {printed}", applied.stderr);
}

/// Applies every grant that a request prints, until it asks for no more.
async fn grant_what_is_printed(world: &World, name: &str) -> (DeploymentRequest, Vec<String>) {
    let mut printed: Vec<String> = Vec::new();
    loop {
        let wants = |r: &DeploymentRequest| {
            let (reason, message) = outcome(r);
            matches!(reason.as_str(), "DelegateLacksTargetAccess" | "OperatorMayNotActAsDelegate")
                && message.contains("kind: ClusterRole")
                && !printed.contains(&message)
        };
        let seen = world.until_request(name, |r| wants(r) || ended(r) || phase(r) == "AwaitingApproval").await;
        if !wants(&seen) {
            return (seen, printed);
        }
        let message = outcome(&seen).1;
        apply_printed(world, &message);
        printed.push(message);
        assert!(printed.len() <= MOST_GRANTS, "there is no end of grants: {printed:#?}");
    }
}

fn solution(world: &World, version: &str, components: &[(&str, &str)]) -> Value {
    let mut solution = world.solution("orders", version);
    let components = components.iter().chain([&("", "ConfigMap")]);
    solution["spec"]["components"] = components.map(|(group, kind)| json!({"group": group, "kind": kind})).collect();
    solution
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_along_where_both_environments_list_it_and_the_delegate_may() {
    let world = World::new("cluster-along").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let name = named(&world, "orders");
    may_be_exported(&world).await;
    holds_what_it_grants(&world, "qa").await;
    let all = [CLASS, ROLE, BINDING];
    let of_cluster = [class(&name, 7), cluster_role(&name), cluster_binding(&name, &world.dev)];
    world.apply(&of_cluster).await;
    world.apply(&[solution(&world, "1.0.0", &all), world.config("orders", "orders", json!({"a": "b"}))]).await;

    // Development does not list it.
    world.ask(&world.request("closed", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("closed", "ClusterScoped").await;
    for words in
        ["PriorityClass.scheduling.k8s.io", "is cluster-scoped", "add {group: scheduling.k8s.io, kind: PriorityClass}", "Environment dev"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    // The target does not list it: there is one finding for each object, before anybody is asked. The request that was made first continues
    // by itself.
    allow(&world, "dev", &all).await;
    let shut = world.until_request("closed", |r| ended(r) || outcome(r).1.contains("Environment qa")).await;
    let (reason, message) = outcome(&shut);
    assert_eq!((ended(&shut), reason.as_str()), (false, "ClusterScoped"), "{message}");
    for words in [
        "nothing was written",
        "ClusterRole",
        "PriorityClass",
        "kind: ClusterRoleBinding} to spec.clusterScoped of Environment qa",
        "allow-cluster-scoped",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    let stored = Api::<Artifact>::namespaced(world.admin.clone(), &world.host).get("orders-1.0.0").await.unwrap();
    let kinds: Vec<&str> = stored.spec.cluster_scoped.iter().map(|k| k.kind.as_str()).collect();
    assert_eq!((stored.spec.object_count, kinds), (4, vec!["ClusterRole", "ClusterRoleBinding", "PriorityClass"]));

    // The missing rights in the whole cluster are printed, and the request continues after somebody has applied them. There is one cluster,
    // so development holds those names.
    allow(&world, "qa", &all).await;
    let (refused, printed) = grant_what_is_printed(&world, "closed").await;
    assert!(printed[0].contains("in the whole cluster, as not all objects belong to"), "{}", printed[0]);
    assert!(
        printed.concat().contains("\"impersonate-on:serviceaccount:patch\"") && !printed.concat().contains("kind: Role\n"),
        "{printed:#?}"
    );
    let (reason, message) = outcome(&refused);
    assert_eq!(reason, "DryRunRefused", "{message}");
    let theirs = format!("PriorityClass {name} exists in the target's cluster");
    for words in ["ExistsAlready", &theirs, "was not put there by this solution", "it stays as it is", "deploy to another cluster"] {
        assert!(message.contains(words), "{words}: {message}");
    }

    // The plugin prints such grants too, from what was exported and from what is developed.
    let of_artifact = plugin_grant(&world, &["delegate", "--stage", "qa", "--artifact", "orders-1.0.0"]);
    assert_eq!(of_artifact, plugin_grant(&world, &["delegate", "--stage", "qa", "--solution", "orders", "--from", &world.dev]));
    let everywhere = &of_artifact[of_artifact.find("kind: ClusterRole\n").unwrap_or_else(|| panic!("{of_artifact}"))..];
    for words in ["resources: [priorityclasses]", "clusterrolebindings", "kind: ClusterRoleBinding"] {
        assert!(everywhere.contains(words), "{words}: {of_artifact}");
    }

    // The names are free when development is somewhere else.
    for object in &of_cluster {
        let kind = object["kind"].as_str().unwrap();
        world.plane.kubectl().ok(&["delete", kind, &name]).unwrap();
    }
    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let (waiting, _) = grant_what_is_printed(&world, "to-qa").await;
    assert_eq!(phase(&waiting), "AwaitingApproval", "{:?}", outcome(&waiting));
    let planned = plan(&waiting);
    let shown: Vec<(&str, bool)> = planned.objects.iter().map(|o| (o.kind.as_str(), o.cluster_scoped)).collect();
    assert_eq!(planned.create, 4);
    assert!(shown.contains(&("ConfigMap", false)) && shown.iter().filter(|(_, of_cluster)| *of_cluster).count() == 3, "{shown:?}");
    succeeded(&world.approved("to-qa", "qa").await);

    let role = Api::<ClusterRole>::all(world.admin.clone()).get(&name).await.unwrap();
    let labels = role.metadata.labels.unwrap();
    assert_eq!((labels["pilotage.dev/target-namespace"].as_str(), labels["pilotage.dev/solution"].as_str()), (world.qa.as_str(), "orders"));
    assert_eq!(labels["pilotage.dev/target-uid"], planned.environment_id);
    let binding = Api::<ClusterRoleBinding>::all(world.admin.clone()).get(&name).await.unwrap();
    assert_eq!(binding.subjects.unwrap()[0].namespace.as_ref(), Some(&world.qa), "the account of where it went, not of where it came from");
}

/// Versions that are pushed to a registry, and requested from there.
struct Pushed<'a> {
    world: &'a World,
    registry: Registry,
    url: String,
}

impl<'a> Pushed<'a> {
    async fn to(world: &'a World) -> Self {
        let registry = Registry::start(&world.plane).unwrap();
        let url = registry.url("team/orders");
        takes_from(world, json!([{"url": url, "plainHttp": true}])).await;
        let pipelines: Api<Pipeline> = Api::namespaced(world.admin.clone(), &world.host);
        let again = Patch::Merge(json!({"spec": {"allowRedeployments": true}}));
        pipelines.patch("standard", &PatchParams::default(), &again).await.unwrap();
        world.ready::<Pipeline>("standard").await;
        Self { world, registry, url }
    }

    fn push(&self, version: &str, of_cluster: &[Value]) {
        let mut files = vec![("app.yaml".to_owned(), config("orders", version))];
        files.extend(of_cluster.iter().enumerate().map(|(index, object)| (format!("{index}.json"), object.to_string())));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        self.registry.push_flux(&format!("team/orders:{version}"), &folder(self.world, &files)).unwrap();
    }

    async fn ask(&self, request_name: &str, version: &str) {
        self.world.ask(&request(self.world, request_name, version, &self.url, &json!({"tag": version}))).await;
    }

    async fn deploy(&self, request_name: &str, version: &str) -> DeploymentRequest {
        self.ask(request_name, version).await;
        self.world.approved(request_name, "qa").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_its_solutions_own_until_a_later_version_has_it_no_more() {
    let world = World::new("cluster-life").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let pushed = Pushed::to(&world).await;
    let name = named(&world, "orders");
    let all = [class(&name, 7), cluster_role(&name), cluster_binding(&name, &world.qa)];

    // If the target does not allow it, the version is not taken.
    pushed.push("1.0.0", &all);
    pushed.ask("shut", "1.0.0").await;
    let message = world.waits_for("shut", "ClusterScoped").await;
    assert!(message.contains("to spec.clusterScoped of Environment qa") && message.contains("Waits until"), "{message}");
    may_be_deployed(&world, "qa").await;
    allow(&world, "qa", &[CLASS, ROLE, BINDING]).await;
    let first = world.approved("shut", "qa").await;
    succeeded(&first);
    assert_eq!(plan(&first).create, 4);
    let written = versions(&world, "orders").await;
    assert!(written.iter().all(Option::is_some), "{written:?}");

    // Deploying the same again writes nothing.
    let same = pushed.deploy("same", "1.0.0").await;
    succeeded(&same);
    assert_eq!((plan(&same).create, plan(&same).update, plan(&same).unchanged), (0, 0, 4));
    assert_eq!(versions(&world, "orders").await, written);

    // A second target in the cluster can't get what the first one has.
    allow(&world, "prod", &[CLASS, ROLE, BINDING]).await;
    may_be_deployed(&world, "prod").await;
    world.ask(&world.request("to-prod", "prod", "orders", "1.0.0")).await;
    // Nor may a binding in the solution share more than the stage allows.
    let message = world.fails("to-prod", "SharingNotAllowed").await;
    for words in ["OwnedByAnotherSet", &format!("belongs to solution orders of namespace {}", world.qa)] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(versions(&world, "orders").await, written);

    // What a failed version changed is restored.
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["deployment"] = json!({"timeout": "5s", "onFailure": "Rollback"});
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<Stage>("qa").await;
    let stuck = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "stuck"}, "spec": {
        "nodeSelector": {"there": "is-none"}, "priorityClassName": named(&world, "other"),
        "containers": [{"name": "app", "image": "registry.example.test/app:1"}]}});
    pushed.push("1.1.0", &[class(&named(&world, "other"), 8), class(&name, 7), stuck]);
    let failed = pushed.deploy("fails", "1.1.0").await;
    assert_eq!(phase(&failed), "Failed", "{:?}", outcome(&failed));
    assert!(failed.status.as_ref().unwrap().run.rollback.is_some(), "{:?}", outcome(&failed));
    let [class_now, role, binding] = versions(&world, "orders").await;
    assert!(class_now == written[0] && role.is_some() && binding.is_some(), "the role and its binding are there again");
    assert_eq!(versions(&world, "other").await[0], None, "what the failed version brought is gone");

    // What the next version no longer has is deleted, what it changes is changed, and what it keeps is not written.
    let mut changed = cluster_role(&name);
    changed["metadata"]["labels"]["tier"] = "gold".into();
    pushed.push("1.2.0", &[class(&name, 7), changed]);
    pushed.ask("upgrade", "1.2.0").await;
    let waiting = world.until_request("upgrade", |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    let planned = plan(&waiting);
    assert_eq!((planned.delete, planned.update, planned.unchanged), (1, 2, 1), "{:?}", planned.objects);
    let gone = &planned.objects[0];
    assert_eq!((gone.action, gone.kind.as_str(), gone.cluster_scoped), (PlannedAction::Delete, "ClusterRoleBinding", true));
    succeeded(&world.approved("upgrade", "qa").await);
    let [class_now, role_now, binding] = versions(&world, "orders").await;
    assert!(class_now == written[0] && role_now != role && binding.is_none());

    // What the Environment does not list any more is not touched, and the plan says so.
    allow(&world, "qa", &[ROLE]).await;
    pushed.push("1.3.0", &[cluster_role(&name)]);
    let narrowed = pushed.deploy("narrowed", "1.3.0").await;
    succeeded(&narrowed);
    let said = plan(&narrowed).results.into_iter().find(|r| r.reason == "LeftAlone").expect("what is left alone is said").message;
    assert!(said.contains("Environment qa") && said.contains("PriorityClass.scheduling.k8s.io"), "{said}");
    assert_eq!(versions(&world, "orders").await[0], written[0]);
    allow(&world, "qa", &[CLASS, ROLE]).await;
    pushed.push("1.4.0", &[cluster_role(&name)]);
    succeeded(&pushed.deploy("widened", "1.4.0").await);
    assert_eq!(versions(&world, "orders").await[0], None, "it is still known to be the solution's, and goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_has_in_the_whole_cluster_stays_theirs_until_they_hand_it_over() {
    let world = World::new("cluster-foreign").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let pushed = Pushed::to(&world).await;
    may_be_deployed(&world, "qa").await;
    allow(&world, "qa", &[CLASS]).await;

    let foreign = named(&world, "foreign");
    world.apply(&[class(&foreign, 7)]).await;
    let before = versions(&world, "foreign").await;
    pushed.push("1.5.0", &[class(&foreign, 9)]);
    pushed.ask("foreign", "1.5.0").await;
    let message = world.fails("foreign", "DryRunRefused").await;
    assert!(message.contains("ExistsAlready") && message.contains(&format!("PriorityClass {foreign} exists")), "{message}");
    assert_eq!(versions(&world, "foreign").await, before);
    // Unless its owner hands it over with the command in the message.
    let hand_over = message.split("hand it over with: kubectl ").nth(1).unwrap().split(" Waits").next().unwrap();
    let words: Vec<&str> = hand_over.split_whitespace().map(|word| word.trim_end_matches([';', '.'])).collect();
    world.plane.kubectl().ok(&words).unwrap();
    pushed.push("1.5.1", &[class(&foreign, 7)]);
    succeeded(&pushed.deploy("handed-over", "1.5.1").await);
    let owned = Api::<PriorityClass>::all(world.admin.clone()).get(&foreign).await.unwrap();
    assert_eq!(owned.labels()["pilotage.dev/target-namespace"], world.qa);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_takes_to_export_it_is_printed_and_granted_in_the_whole_cluster() {
    let world = World::new("cluster-export").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let (group, definition) = berths(&world, "Cluster");
    define(&world, &definition).await;
    let kind = (group.as_str(), "Berth");
    world
        .apply(&[solution(&world, "1.0.0", &[kind]), world.config("orders", "orders", json!({})), berth(&group, "one", "orders", None)])
        .await;
    allow(&world, "dev", &[kind]).await;

    world.ask(&world.request("to-qa", "qa", "orders", "1.0.0")).await;
    let message = world.waits_for("to-qa", "RequesterMayNotRead").await;
    let rule = format!("- {{apiGroups: [\"{group}\"], resources: [berths], verbs: [\"get\", \"list\"]}}");
    assert!(message.contains("dana, who asks") && message.contains("kind: ClusterRoleBinding") && message.contains(&rule), "{message}");
    let rules = json!([{"apiGroups": [group], "resources": ["berths"], "verbs": ["get", "list"]}]);
    grant(&world, "berths", rules, &json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "dana"})).await;
    let message = world.waits_for("to-qa", "OperatorMayNotRead").await;
    assert!(message.contains("berths") && message.contains("kind: ClusterRoleBinding"), "{message}");
    apply_printed(&world, &message);
    let message = world.waits_for("to-qa", "ClusterScoped").await;
    assert!(message.contains("Berth one is cluster-scoped"), "{message}");
    // The operator's grant has the name of what it grants, not of this world.
    let roles: Api<ClusterRole> = Api::all(world.admin.clone());
    let granted = roles.list(&kube::api::ListParams::default()).await.unwrap().into_iter().find(|r| {
        r.rules.iter().flatten().any(|rule| rule.resources.iter().flatten().any(|r| r == "berths"))
            && r.name_any().starts_with("pilotage-export-")
    });
    let granted = granted.expect("the grant that was printed").name_any();
    Api::<ClusterRoleBinding>::all(world.admin.clone()).delete(&granted, &DeleteParams::default()).await.unwrap();
    roles.delete(&granted, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_comes_before_its_objects_and_the_plan_says_so() {
    let world = World::new("cluster-kinds").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/orders");
    takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
    let definitions = ("apiextensions.k8s.io", "CustomResourceDefinition");
    let (group, definition) = berths(&world, "Namespaced");
    allow(&world, "qa", &[definitions]).await;
    let verbs = ["get", "list", "patch", "delete"];
    for (name, prefix, subject) in
        [("crds", "", crate::scoped::bot(&world, "qa")), ("crds-as", "impersonate-on:serviceaccount:", operator())]
    {
        let mut verbs: Vec<String> = verbs.iter().map(|verb| format!("{prefix}{verb}")).collect();
        if prefix.is_empty() {
            verbs.push("create".into());
        }
        let rules = json!([
            {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": verbs},
            {"apiGroups": [group], "resources": ["berths"], "verbs": verbs},
        ]);
        grant(&world, name, rules, &subject).await;
    }
    let push = |version: &str, objects: &[&Value]| {
        let text: Vec<String> = objects.iter().map(ToString::to_string).collect();
        registry.push_flux(&format!("team/orders:{version}"), &folder(&world, &[("app.yaml", &text.join("\n---\n"))])).unwrap();
    };
    let one = berth(&group, "one", "orders", None);
    let app = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "orders"}, "data": {"a": "b"}});
    push("0.9.0", &[&app]);
    world.ask(&request(&world, "runs", "0.9.0", &url, &json!({"tag": "0.9.0"}))).await;
    succeeded(&world.approved("runs", "qa").await);
    let maps: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.qa);
    let before = maps.get("orders").await.unwrap();
    push("1.0.0", &[&app, &definition, &one]);
    world.ask(&request(&world, "both", "1.0.0", &url, &json!({"tag": "1.0.0"}))).await;
    let message = world.fails("both", "DryRunRefused").await;
    assert!(
        message.contains(&format!(
            "deploy a version with CustomResourceDefinition berths.{group} and without the objects of kind Berth first, then this one"
        )),
        "{message}"
    );
    // Only with these words. What ran continues.
    push("1.1.0", &[&app, &definition]);
    world.ask(&request(&world, "kind", "1.1.0", &url, &json!({"tag": "1.1.0"}))).await;
    succeeded(&world.approved("kind", "qa").await);
    push("1.2.0", &[&app, &definition, &one]);
    world.ask(&request(&world, "objects", "1.2.0", &url, &json!({"tag": "1.2.0"}))).await;
    succeeded(&world.approved("objects", "qa").await);
    assert_eq!(maps.get("orders").await.unwrap().metadata.uid, before.metadata.uid, "nothing was taken away on the way");
    // The definition is deleted with all its objects in every namespace: the approver is warned.
    push("1.3.0", &[&app]);
    world.ask(&request(&world, "without", "1.3.0", &url, &json!({"tag": "1.3.0"}))).await;
    let waiting = world.until_request("without", |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    let warned = plan(&waiting).results.into_iter().find(|r| r.reason == "DeletesKinds").expect("a warning").message;
    assert!(warned.contains("all objects of their kinds in all namespaces") && warned.contains(&format!("berths.{group}")), "{warned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_known_from_when_it_is_served_however_lately_it_was_asked_for() {
    let world = World::new("cluster-lately").await.provokes_refusals().await;
    let _swept = Swept::after(&world);
    let registry = Registry::start(&world.plane).unwrap();
    let url = registry.url("team/orders");
    takes_from(&world, json!([{"url": url, "plainHttp": true}])).await;
    let (group, definition) = berths(&world, "Namespaced");
    let verbs = ["get", "list", "patch", "delete"];
    let rule = |verbs: Vec<String>| json!([{"apiGroups": [group], "resources": ["berths"], "verbs": verbs}]);
    let own = verbs.iter().chain(&["create"]).map(ToString::to_string).collect();
    grant(&world, "berths", rule(own), &crate::scoped::bot(&world, "qa")).await;
    grant(&world, "berths-as", rule(verbs.map(|verb| format!("impersonate-on:serviceaccount:{verb}")).into()), &operator()).await;
    let text = berth(&group, "one", "orders", None).to_string();
    registry.push_flux("team/orders:1.0.0", &folder(&world, &[("app.yaml", &text)])).unwrap();
    world.ask(&request(&world, "early", "1.0.0", &url, &json!({"tag": "1.0.0"}))).await;
    let message = world.fails("early", "DryRunRefused").await;
    for words in ["KindNotFound", &format!("the CustomResourceDefinition of group {group}"), "have its administrator install"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    define(&world, &definition).await;
    world.ask(&request(&world, "late", "1.0.0", &url, &json!({"tag": "1.0.0"}))).await;
    succeeded(&world.approved("late", "qa").await);
}
