//! Whatever a deployment can do in the host's cluster, it can do in another: be rolled back, be replaced by an older version, be shared,
//! have connections, require prerequisites, and be continued after an operator died.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use pilotage::api::plan::PlannedAction;
use pilotage::api::{DeploymentRequest, Environment, Pipeline, Stage, condition};
use serde_json::{Value, json};

use crate::proxy::Action;
use crate::remote::grant;
use crate::remote_fixture::{CLUSTER, RemoteFixture, TURNS};
use crate::world::{ended, outcome, phase};

/// How many writes the first deployment of three objects makes: those of the objects, and that of the set's parent.
const WRITES: usize = 4;

impl RemoteFixture {
    /// Changes the stage of production, as its owner.
    async fn change_stage(&mut self, spec: Value) {
        let stages = Api::<Stage>::namespaced(self.world.olga().await, &self.world.host);
        stages.patch("prod", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
        let world = &self.world;
        self.fixture.tending(world.ready::<Stage>("prod")).await;
    }

    /// Deploys to production, and returns the request whatever its result is.
    async fn try_in_prod(&mut self, request: &DeploymentRequest) -> DeploymentRequest {
        let (world, name) = (&self.world, request.metadata.name.clone().unwrap());
        self.fixture
            .tending(async {
                world.ask(request).await;
                world.approved(&name, "prod").await
            })
            .await
    }

    /// Makes the other cluster refuse `ConfigMaps` of that version when they are written, but not in a dry run.
    async fn refuses(&self, version: &str) {
        let name = self.world.prod.clone();
        let expression = format!("(request.dryRun && object.metadata.name != 'probe') || object.?data.?version.orValue('') != '{version}'");
        let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE", "UPDATE"]}]);
        let group = "admissionregistration.k8s.io/v1";
        self.apply(&json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
            "matchConstraints": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, "resourceRules": rules},
            "validations": [{"expression": expression, "message": "not this version"}]}}))
            .await;
        self.apply(&json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]}}))
            .await;
        let maps = Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(self.admin.clone(), &self.world.prod);
        let probe = serde_json::from_value(json!({"metadata": {"name": "probe"}, "data": {"version": version}})).unwrap();
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        let denied = async || maps.create(&dry_run, &probe).await.err().filter(|e| e.to_string().contains("not this version"));
        self.world.until("the policy over there is in force", denied).await;
    }

    /// Checks the names of what is in production, and its version.
    async fn all_are(&self, solution: &str, version: &str, count: usize) {
        let arrived = self.arrived(solution).await;
        assert_eq!(arrived.len(), count, "{arrived:?}");
        assert!(arrived.iter().all(|(_, held)| held == version), "{arrived:?}");
    }

    /// Who deployed what runs in production, and which version it is.
    async fn on_record(&self, solution: &str) -> (String, String) {
        let environment = Api::<Environment>::namespaced(self.world.admin.clone(), &self.world.host).get("prod").await.unwrap();
        let held = environment.status.unwrap().solutions.into_iter().find(|s| s.name == solution).unwrap();
        assert!(held.claim.is_none(), "nobody deploys any more");
        (held.version.unwrap_or_default(), held.deployed_by.unwrap_or_default())
    }

    fn bot(&self) -> String {
        format!("system:serviceaccount:{}:bot-prod in cluster {CLUSTER}", self.delegates)
    }
}

fn told(request: &DeploymentRequest, type_: &str) -> (String, String) {
    let conditions = &request.status.as_ref().unwrap().run.conditions;
    let found = condition::find(conditions, type_).unwrap_or_else(|| panic!("no condition {type_}: {conditions:?}"));
    (found.reason.clone(), found.message.clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_fails_over_there_is_taken_back_there_as_the_delegate() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("back").await;
    remote.change_stage(json!({"deployment": {"timeout": "2m", "onFailure": "Rollback"}})).await;
    remote.develop("orders", "1.0.0", 3).await;
    remote.deploy("qa", "orders", "1.0.0").await;
    remote.deploy("prod", "orders", "1.0.0").await;
    remote.refuses("2.0.0").await;
    // The additional object does not name its version and is accepted. So there is something to roll back.
    remote.develop("orders", "2.0.0", 3).await;
    remote.world.apply(&[remote.world.config("orders", "orders-more", json!({}))]).await;
    remote.deploy("qa", "orders", "2.0.0").await;
    let request = remote.world.request("back", "prod", "orders", "2.0.0");
    let failed = remote.try_in_prod(&request).await;
    let (reason, message) = outcome(&failed);
    assert_eq!((phase(&failed).as_str(), reason.as_str()), ("Failed", "RolledBack"), "{message}");
    for part in ["ApplyFailed: ", "not this version", "orders 1.0.0 was put back", "kubectl pilotage retry back"] {
        assert!(message.contains(part), "{part:?} is not said: {message}");
    }
    assert_eq!(failed.status.as_ref().unwrap().run.deployed_by.as_deref(), Some(remote.bot().as_str()));
    remote.all_are("orders", "1.0.0", 3).await;
    assert_eq!(remote.on_record("orders").await, ("1.0.0".to_owned(), remote.bot()));
    let deleted = remote.writes().into_iter().filter(|(_, what)| what == "delete configmaps orders-more/").count();
    assert_eq!(deleted, 1, "what came along was there, and went: {:?}", remote.writes());
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_is_deployed_again_over_there_and_what_it_does_not_have_is_pruned() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("older").await;
    for (version, size) in [("1.0.0", 2), ("2.0.0", 4)] {
        remote.develop("orders", version, size).await;
        remote.deploy("qa", "orders", version).await;
        remote.deploy("prod", "orders", version).await;
    }
    remote.all_are("orders", "2.0.0", 4).await;
    // An object that the older version lacks belongs to somebody else by now: it stays.
    let theirs =
        json!({"metadata": {"labels": {"applyset.kubernetes.io/part-of": "applyset-theirs-v1", "app.kubernetes.io/part-of": "theirs"}}});
    let maps = Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(remote.admin.clone(), &remote.world.prod);
    maps.patch("orders-3", &PatchParams::default(), &Patch::Merge(theirs)).await.unwrap();
    let olga = remote.world.olga().await;
    let pipelines = Api::<Pipeline>::namespaced(olga, &remote.world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": {"allowRedeployments": true}}))).await.unwrap();
    let world = &remote.world;
    remote.fixture.tending(world.ready::<Pipeline>("standard")).await;
    let request = remote.world.request("older", "prod", "orders", "1.0.0");
    let done = remote.try_in_prod(&request).await;
    assert_eq!(phase(&done), "Succeeded", "{:?}", outcome(&done));
    let plan = done.status.unwrap().run.plan.unwrap();
    assert_eq!((plan.update, plan.delete, plan.create), (2, 1, 0), "{:?}", plan.objects);
    assert_eq!((plan.objects[0].action, plan.objects[0].name.as_str()), (PlannedAction::Delete, "orders-2"), "{:?}", plan.objects);
    assert!(plan.results.iter().any(|r| r.reason == "Downgrade"), "{:?}", plan.results);
    remote.all_are("orders", "1.0.0", 2).await;
    assert_eq!(remote.on_record("orders").await, ("1.0.0".to_owned(), remote.bot()));
    assert_eq!(maps.get("orders-3").await.unwrap().data.unwrap()["version"], "2.0.0");
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_shared_over_there_is_bound_there_by_the_delegate_where_it_may() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("share").await;
    remote.change_stage(json!({"sharing": {"clusterRoles": ["view"], "subjectKinds": ["Group"]}})).await;
    let sharing = |remote: &RemoteFixture, name: &str, version: &str| -> DeploymentRequest {
        let mut request = serde_json::to_value(remote.world.request(name, "prod", "orders", version)).unwrap();
        request["spec"]["shareWith"] = json!([{"kind": "Group", "name": "qa-team", "clusterRole": "view"}]);
        serde_json::from_value(request).unwrap()
    };
    remote.develop("orders", "1.0.0", 1).await;
    remote.deploy("qa", "orders", "1.0.0").await;
    let first = sharing(&remote, "first", "1.0.0");
    let first = remote.try_in_prod(&first).await;
    assert_eq!(phase(&first), "Succeeded", "{:?}", outcome(&first));
    let results = first.status.as_ref().unwrap().run.plan.clone().unwrap().results;
    assert!(results.iter().any(|r| r.message.starts_with("would not be shared: ClusterRole view with Group qa-team")), "{results:?}");
    let (reason, message) = told(&first, "Shared");
    assert_eq!(reason, "SharingRefused");
    assert!(message.contains(&format!("of cluster {CLUSTER}. Grant in that cluster:")), "{message}");
    grant(&message);

    remote.develop("orders", "1.1.0", 1).await;
    remote.deploy("qa", "orders", "1.1.0").await;
    let second = sharing(&remote, "second", "1.1.0");
    let second = remote.try_in_prod(&second).await;
    assert_eq!((phase(&second).as_str(), told(&second, "Shared").0.as_str()), ("Succeeded", "Shared"), "{:?}", told(&second, "Shared"));
    let of_solution = ListParams::default().labels("pilotage.dev/solution=orders,app.kubernetes.io/managed-by=pilotage");
    let there = Api::<RoleBinding>::namespaced(remote.admin.clone(), &remote.world.prod).list(&of_solution).await.unwrap().items;
    let [binding] = &there[..] else { panic!("one binding: {there:?}") };
    let subject = &binding.subjects.as_ref().unwrap()[0];
    assert_eq!((binding.role_ref.name.as_str(), subject.name.as_str()), ("view", "qa-team"));
    let here = Api::<RoleBinding>::namespaced(remote.world.admin.clone(), &remote.world.prod).list(&of_solution).await.unwrap().items;
    assert!(here.is_empty(), "nothing is shared at home: {here:?}");
    remote.check_writers();
}

/// A suspended `CronJob` that mounts a Secret. It is healthy at once, in any cluster.
fn connected(remote: &RemoteFixture) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob",
        "metadata": {"name": "orders", "namespace": remote.world.dev, "labels": {"app.kubernetes.io/part-of": "orders"}},
        "spec": {"schedule": "0 5 31 2 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "a", "image": "a", "envFrom": [{"secretRef": {"name": "db"}}]}]}}}}},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_made_to_a_secret_over_there_which_the_delegate_looks_at_there() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::ready("connect").await;
    let secret = |namespace: &str, name: &str, offered: bool| {
        let labels = if offered { json!({"pilotage.dev/connection": "true"}) } else { json!({}) };
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace, "labels": labels},
               "stringData": {"password": "canary-over-there"}})
    };
    let (qa, prod) = (remote.world.qa.clone(), remote.world.prod.clone());
    let mut solution = remote.world.solution("orders", "1.0.0");
    solution["spec"]["connectionReferences"] = json!([{"name": "db", "secretName": "db"}]);
    // In the host's cluster there is a Secret of that name in a namespace of that name, and it is offered. It is not the one that is meant.
    remote.world.apply(&[connected(&remote), solution, secret(&qa, "qa-db", true), secret(&prod, "prod-db", true)]).await;
    remote.world.may_look_at(&["qa-db"]).await;
    let asks = |remote: &RemoteFixture, name: &str, stage: &str| -> DeploymentRequest {
        let mut request = serde_json::to_value(remote.world.request(name, stage, "orders", "1.0.0")).unwrap();
        let settings = json!({"connectionReferences": [{"name": "db", "secretName": format!("{stage}-db")}]});
        request["spec"]["deploymentSettings"] = settings;
        serde_json::from_value(request).unwrap()
    };
    let (world, to_qa) = (&remote.world, asks(&remote, "to-qa", "qa"));
    let in_qa = remote
        .fixture
        .tending(async {
            world.ask(&to_qa).await;
            world.approved("to-qa", "qa").await
        })
        .await;
    assert_eq!(phase(&in_qa), "Succeeded", "{:?}", outcome(&in_qa));

    remote.world.ask(&asks(&remote, "first", "prod")).await;
    let message = remote.waits_for("first", "DelegateLacksTargetAccess").await;
    assert!(message.contains("resources: [secrets], resourceNames: [\"prod-db\"], verbs: [\"get\"]"), "{message}");
    assert!(message.contains(&format!("of cluster {CLUSTER}. Grant in that cluster:")), "{message}");
    grant(&message);
    let absent = remote.waits_for("first", "NotOffered").await;
    assert!(
        absent.contains(&format!("Secret prod-db of namespace {prod}, which is not offered to solutions, or does not exist there")),
        "{absent}"
    );
    remote.apply(&secret(&prod, "prod-db", false)).await;
    remote.world.ask(&asks(&remote, "second", "prod")).await;
    let unoffered = remote.waits_for("second", "NotOffered").await;
    assert!(unoffered.contains(&format!("kubectl label secrets prod-db -n {prod} pilotage.dev/connection=true")), "{unoffered}");
    let sentence = |message: &str| message.split(". Waits until").next().unwrap().to_owned();
    assert_eq!(sentence(&absent), sentence(&unoffered), "nobody is told which Secrets there are");
    let requests: Api<DeploymentRequest> = Api::namespaced(remote.world.admin.clone(), &remote.world.host);
    requests.delete("second", &kube::api::DeleteParams::default()).await.unwrap();
    remote.apply(&secret(&prod, "prod-db", true)).await;
    let world = &remote.world;
    let third = remote.fixture.tending(world.approved("first", "prod")).await;
    assert_eq!(phase(&third), "Succeeded", "{:?}", outcome(&third));
    let access = third.status.unwrap().run.plan.unwrap().access;
    assert_eq!(access.iter().map(|a| (a.kind.as_str(), a.name.as_str())).collect::<Vec<_>>(), [("Secret", "prod-db")]);
    let jobs = Api::<k8s_openapi::api::batch::v1::CronJob>::namespaced(remote.admin.clone(), &prod);
    let job = serde_json::to_value(jobs.get("orders").await.unwrap()).unwrap();
    assert!(job.to_string().contains("\"prod-db\"") && !job.to_string().contains("\"db\""), "{job}");
    let looks: Vec<_> = remote.calls().into_iter().filter(|call| call.resource == "secrets").collect();
    assert!(
        !looks.is_empty() && looks.iter().all(|c| c.user.ends_with(":bot-prod") && c.verb == "get" && c.name == "prod-db"),
        "{looks:?}"
    );
    assert!(!remote.fixture.whole_log().contains("canary-over-there"));
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_environment_over_there_has_to_have_is_looked_for_there_as_the_kubeconfigs_user() {
    let _turn = TURNS.read().await;
    let mut remote = RemoteFixture::new("needs").await;
    let mut pipeline = remote.pipeline();
    let prod = pipeline.iter_mut().find(|o| o["kind"] == "Environment" && o["metadata"]["name"] == "prod").unwrap();
    prod["spec"]["prerequisites"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "db", "condition": "Available"}]);
    let olga = remote.world.olga().await;
    for object in pipeline {
        remote.world.apply_as(&olga, &object).await.unwrap();
    }
    let namespace = remote.world.prod.clone();
    let message = remote.environment_says("PrerequisiteNotReadable").await;
    let who = format!(
        "system:serviceaccount:{}:pilotage may not read prerequisite Deployment db in namespace {namespace} of cluster {CLUSTER}",
        remote.delegates
    );
    assert!(message.contains(&who) && message.contains("resources: [deployments], resourceNames: [\"db\"]"), "{message}");
    grant(&message);
    let message = remote.environment_says("PrerequisiteNotFound").await;
    assert!(message.contains(&format!("does not exist in namespace {namespace} of cluster {CLUSTER}: create it there")), "{message}");
    // Pods that no node accepts: the object exists, but is not available.
    let database = |nodes: Value| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "db", "namespace": namespace}, "spec": {
            "selector": {"matchLabels": {"app": "db"}}, "template": {"metadata": {"labels": {"app": "db"}},
            "spec": {"nodeSelector": nodes, "containers": [{"name": "db", "image": "registry.example/db:1"}]}}}})
    };
    remote.apply(&database(json!({"there": "is-none"}))).await;
    let message = remote.environment_says("PrerequisiteNotReady").await;
    assert!(message.contains("Deployment db") && message.contains("condition Available"), "{message}");
    remote.apply(&database(json!({}))).await;
    remote.environment_says("Validated").await;
    remote.stage_says("Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_crash_around_any_write_over_there_the_same_end_is_reached() {
    let _turn = TURNS.read().await;
    let (mut remote, proxy) = RemoteFixture::behind_proxy("around").await;
    let crashes: Vec<(usize, Action)> =
        (1..=WRITES).flat_map(|number| [(number, Action::CrashBefore), (number, Action::CrashAfter)]).collect();
    for (life, (number, action)) in crashes.iter().copied().enumerate() {
        let solution = format!("app{life}");
        remote.develop(&solution, "1.0.0", WRITES - 1).await;
        let request = remote.ask(&solution, "1.0.0").await;
        let (before, restarts) = (proxy.writes().len(), remote.fixture.restarts());
        let (mut seen, target) = (0, format!("/namespaces/{}/", remote.world.prod));
        proxy.follow(move |call| {
            let counts = call.write.is_some() && call.line.contains(&target);
            seen += usize::from(counts);
            if counts && seen == number { action } else { Action::Forward }
        });
        remote.world.decide("prod", &request, "Approved").await.unwrap();
        remote.succeeds(&request).await;
        assert_eq!(remote.fixture.restarts(), restarts + 1, "it died once: {action:?} {number}");
        remote.all_are(&solution, "1.0.0", WRITES - 1).await;
        assert_eq!(remote.on_record(&solution).await, ("1.0.0".to_owned(), remote.bot()));
        let mut carried_out: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for write in proxy.writes().into_iter().skip(before).filter(|w| w.code.is_some_and(|c| c < 300) && w.line.contains("configmaps/")) {
            let counted = carried_out.entry(write.line).or_default();
            counted.0 += usize::from(write.code == Some(201));
            // A write whose operator died may be repeated by the next operator.
            counted.1 += usize::from(!write.orphan);
        }
        assert_eq!(carried_out.len(), WRITES, "{carried_out:?}");
        assert!(carried_out.values().all(|(created, known)| *created == 1 && *known <= 1), "{action:?} {number}: {carried_out:?}");
    }
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_the_dead_that_arrives_late_over_there_does_not_undo_what_came_after() {
    let _turn = TURNS.read().await;
    let (mut remote, proxy) = RemoteFixture::behind_proxy("late").await;
    remote.develop("orders", "1.0.0", 2).await;
    remote.deploy("qa", "orders", "1.0.0").await;
    remote.deploy("prod", "orders", "1.0.0").await;
    let line = format!("PATCH /api/v1/namespaces/{}/configmaps/orders-0", remote.world.prod);
    let (mut held, late) = (false, line.clone());
    proxy.follow(move |call| {
        let hit = !held && call.write.is_some() && call.line == late;
        held |= hit;
        if hit { Action::Outlive } else { Action::Forward }
    });
    for version in ["2.0.0", "3.0.0"] {
        remote.develop("orders", version, 2).await;
        remote.deploy("qa", "orders", version).await;
        remote.deploy("prod", "orders", version).await;
    }
    assert_eq!(remote.fixture.restarts(), 1, "its maker is dead");
    let position = proxy.writes().iter().position(|w| w.line == line && w.code.is_none()).expect("a write that is under way");
    proxy.release();
    let answer = remote.wait("the late write has arrived", |_| proxy.writes()[position].code).await;
    assert_eq!(answer, 409);
    remote.all_are("orders", "3.0.0", 2).await;
    remote.check_writers();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_void_in_the_midst_of_a_deployment_is_replaced_and_it_goes_on() {
    let _turn = TURNS.read().await;
    let (mut remote, proxy) = RemoteFixture::behind_proxy("void").await;
    remote.develop("orders", "1.0.0", 30).await;
    let request = remote.ask("orders", "1.0.0").await;
    let target = format!("/namespaces/{}/configmaps/orders-", remote.world.prod);
    // Calls that write objects are held until their token is invalid. Other calls are forwarded.
    proxy.follow(move |call| if call.write.is_some() && call.line.contains(&target) { Action::Hold } else { Action::Forward });
    let tokens =
        |remote: &RemoteFixture| remote.writes().iter().filter(|(_, what)| what == "create serviceaccounts bot-prod/token").count();
    let lent = tokens(&remote);
    remote.world.decide("prod", &request, "Approved").await.unwrap();
    let world = &remote.world;
    let under_way = async || proxy.writes().iter().any(|w| w.line.contains("configmaps/orders-") && w.code.is_none()).then_some(());
    remote.fixture.tending(world.until("objects are on their way", under_way)).await;
    remote.revoke("bot-prod").await;
    remote.make_account("bot-prod").await;
    proxy.release();
    remote.succeeds(&request).await;
    let rejected = proxy.writes().iter().filter(|w| w.code == Some(401)).count();
    assert!(rejected > 0, "the old token was void when it was used");
    assert!(tokens(&remote) > lent, "another was asked for");
    remote.all_are("orders", "1.0.0", 30).await;
    assert_eq!(remote.fixture.restarts(), 0);
    assert!(ended(&remote.world.end(&request).await));
    remote.check_writers();
}
