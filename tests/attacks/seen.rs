//! Attacks on what approvers see: a version uses, grants or exposes something that nobody was shown.

use pilotage::api::DeploymentRequest;
use pilotage::api::plan::{Plan, PlanResult};
use serde_json::{Value, json};

use crate::attempt::{ignored, told};
use crate::scoped::{RBAC, Swept, bot, named, operator};
use crate::world::{World, ended, outcome, phase, role};

/// An object of a solution in development.
fn part(world: &World, solution: &str, api_version: &str, kind: &str, name: &str, spec: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "namespace": world.dev, "labels": {"app.kubernetes.io/part-of": solution}}});
    if !spec.is_null() {
        object["spec"] = spec;
    }
    object
}

/// A Deployment of a solution whose pods are as given.
fn deployment(world: &World, solution: &str, pod: &Value) -> Value {
    let mut spec = json!({"containers": [{"name": "app", "image": "registry.example.test/app:1"}]});
    spec.as_object_mut().unwrap().extend(pod.as_object().unwrap().clone());
    let labels = json!({"app": solution});
    let spec = json!({"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}});
    part(world, solution, "apps/v1", "Deployment", solution, spec)
}

/// Asks for 1.0.0 of a solution in QA, and waits until its approval is asked for.
async fn planned(world: &World, solution: &str) -> Plan {
    world.ask(&world.request(solution, "qa", solution, "1.0.0")).await;
    let waiting: DeploymentRequest = world.until_request(solution, |r| phase(r) == "AwaitingApproval" || ended(r)).await;
    assert_eq!(phase(&waiting), "AwaitingApproval", "{:?}", outcome(&waiting));
    waiting.status.unwrap().run.plan.unwrap()
}

/// What a plan says with this reason.
fn said(plan: &Plan, reason: &str) -> Vec<String> {
    plan.results.iter().filter(|r| r.reason == reason).map(|r| r.message.clone()).collect()
}

/// The operator wrote nothing to QA, under any identity.
fn untouched(world: &World) {
    let writes = world.operator_writes(&world.qa, false);
    assert!(writes.is_empty(), "{writes:?}");
}

/// Lets QA's delegate, and the operator as the delegate, deploy these resources. Lets makers and the operator read them in development.
async fn may_be_deployed(world: &World, group: &str, resources: &[&str]) {
    let rules = |verbs: &[String]| json!([{"apiGroups": [group], "resources": resources, "verbs": verbs}]);
    let verbs = |prefix: &str, verbs: &[&str]| verbs.iter().map(|verb| format!("{prefix}{verb}")).collect::<Vec<_>>();
    let all = ["get", "list", "patch", "delete", "create"];
    let name = format!("deploys-{}", resources.join("-"));
    world.apply(&role(&world.qa, &name, &rules(&verbs("", &all)), &json!([bot(world, "qa")]))).await;
    let uses = rules(&verbs("impersonate-on:serviceaccount:", &all[..4]));
    world.apply(&role(&world.qa, &format!("{name}-as"), &uses, &json!([operator()]))).await;
    let readers = json!([{"kind": "Group", "apiGroup": RBAC, "name": "makers"}, operator()]);
    let makes = rules(&verbs("", &["get", "list", "watch", "create", "update", "patch"]));
    world.apply(&role(&world.dev, &format!("reads-{name}"), &makes, &readers)).await;
}

/// Defines a kind with any fields. Returns its group.
async fn define(world: &World, word: &str, kind: &str) -> String {
    let group = format!("{}.example.test", named(world, word));
    let plural = format!("{}s", kind.to_lowercase());
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind, "singular": kind.to_lowercase()},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    world.apply(&[definition]).await;
    let kubectl = world.plane.kubectl();
    world.until("the kind is served", async || kubectl.ok(&["get", &format!("{plural}.{group}"), "-n", &world.qa]).ok()).await;
    may_be_deployed(world, &group, &[&plural]).await;
    group
}

/// A Secret and a `ServiceAccount` of QA that nobody offered, and that the delegate may read.
async fn valuables(world: &World) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "vault", "namespace": world.qa}, "stringData": {"key": "canary"}});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "root", "namespace": world.qa}});
    world.apply(&[secret, account]).await;
    world.may_look_at(&["vault", "future"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_of_another_group_is_none() {
    let world = World::new("namesake").await;
    let _swept = Swept::after(&world);
    valuables(&world).await;
    let group = define(&world, "cloud", "ServiceAccount").await;
    world
        .apply(&[
            world.solution("runs", "1.0.0"),
            part(&world, "runs", &format!("{group}/v1"), "ServiceAccount", "root", json!({})),
            deployment(&world, "runs", &json!({"serviceAccountName": "root"})),
        ])
        .await;
    world.ask(&world.request("runs", "qa", "runs", "1.0.0")).await;
    let message = world.waits_for("runs", "NotOffered").await;
    let offer = format!("kubectl label serviceaccounts root -n {} pilotage.dev/connection=true", world.qa);
    told(
        170,
        "a cloud's ServiceAccount of the name of the target's",
        &message,
        &["Deployment runs uses ServiceAccount root", "not offered", &offer],
    );
    untouched(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_will_be_used_once_it_is_there_is_told_and_what_is_there_is_refused() {
    let world = World::new("future").await;
    valuables(&world).await;
    let optional = |name: &str| json!({"volumes": [{"name": "v", "secret": {"secretName": name, "optional": true}}]});
    world.apply(&[world.solution("waits", "1.0.0"), deployment(&world, "waits", &optional("future"))]).await;
    let plan = planned(&world, "waits").await;
    let access: Vec<String> = plan.access.iter().map(|a| format!("{} {} by {}", a.kind, a.name, a.used_by)).collect();
    ignored(171, "an optional Secret that is not there yet", access == ["Secret future by Deployment waits"], &plan.access);
    let told_once = said(&plan, "UsesOnceThere").concat();
    told(171, "an optional Secret, for whoever approves", &told_once, &["Secret future (Deployment waits)", "from when somebody makes it"]);
    world.apply(&[world.solution("takes", "1.0.0"), deployment(&world, "takes", &optional("vault"))]).await;
    world.ask(&world.request("takes", "qa", "takes", "1.0.0")).await;
    let message = world.waits_for("takes", "NotOffered").await;
    told(171, "an optional Secret that is there", &message, &["Deployment takes uses Secret vault"]);
    untouched(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn references_are_seen_wherever_they_are() {
    let world = World::new("unseen").await;
    let _swept = Swept::after(&world);
    valuables(&world).await;
    let group = define(&world, "flows", "Workflow").await;
    let custom = |solution: &str, spec: Value| part(&world, solution, &format!("{group}/v1"), "Workflow", solution, spec);
    let uses =
        json!({"containers": [{"name": "c", "image": "i", "envFrom": [{"secretRef": {"name": "vault"}}]}], "serviceAccountName": "root"});
    let mut ingress = part(
        &world,
        "annotated",
        "networking.k8s.io/v1",
        "Ingress",
        "annotated",
        json!({"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}}),
    );
    ingress["metadata"]["annotations"] = json!({"nginx.ingress.kubernetes.io/auth-secret": format!("{}/vault", world.qa)});
    let attributes = json!({"secretName": "vault", "secretNamespace": world.qa, "shareName": "s"});
    let inline = json!({"volumes": [{"name": "v", "csi": {"driver": "file.csi.azure.com", "volumeAttributes": attributes}}]});
    let flow = json!({"entrypoint": "m", "serviceAccountName": "root", "volumes": [{"name": "v", "secret": {"secretName": "vault"}}],
        "templates": [{"name": "m", "container": {"image": "i"}}]});
    for (name, what, object) in [
        ("inline", "a volume that its driver makes of a Secret", deployment(&world, "inline", &inline)),
        ("annotated", "an annotation of an Ingress", ingress),
        ("flow", "a workflow with volumes of its own", custom("flow", flow)),
        (
            "deep",
            "pods in a place of their own",
            custom("deep", json!({"replicated": [{"template": {"spec": {"template": {"spec": uses}}}}]})),
        ),
        (
            "keyed",
            "a key of a Secret in a kind that nobody knows",
            custom("keyed", json!({"auth": {"secretKeyRef": {"name": "vault", "key": "k"}}})),
        ),
    ] {
        world.apply(&[world.solution(name, "1.0.0"), object]).await;
        world.ask(&world.request(name, "qa", name, "1.0.0")).await;
        let message = world.waits_for(name, "NotOffered").await;
        told(172, what, &message, &["uses Secret vault", "not offered"]);
    }
    // What only looks like a reference is reported.
    world
        .apply(&[
            world.solution("looks", "1.0.0"),
            custom("looks", json!({"store": {"credentialsSecret": "vault"}, "runAs": {"serviceAccountName": "root"}})),
        ])
        .await;
    let plan = planned(&world, "looks").await;
    told(
        172,
        "a field that is called like a Secret",
        &said(&plan, "MayUse").concat(),
        &["Workflow looks may use", "Secret vault", "ServiceAccount root"],
    );
    untouched(&world);
}

/// Bindings may be deployed to QA, and all roles may be bound.
async fn may_bind(world: &World) {
    may_be_deployed(world, RBAC, &["roles", "rolebindings"]).await;
    let everything = json!([{"apiGroups": [RBAC], "resources": ["roles", "clusterroles"], "verbs": ["bind", "escalate"]}]);
    world.apply(&role(&world.qa, "binds", &everything, &json!([bot(world, "qa")]))).await;
    let bot = format!("--as=system:serviceaccount:{}:bot-qa", world.host);
    let may = ["auth", "can-i", "bind", "clusterroles.rbac.authorization.k8s.io", "-n", &world.qa, &bot];
    world.until("the delegate may bind", async || world.plane.kubectl().run(&may).unwrap().ok.then_some(())).await;
}

fn binding(world: &World, solution: &str, name: &str, role: &str, subjects: Value) -> Value {
    let mut object = part(world, solution, "rbac.authorization.k8s.io/v1", "RoleBinding", name, Value::Null);
    object["roleRef"] = json!({"apiGroup": RBAC, "kind": "ClusterRole", "name": role});
    object["subjects"] = subjects;
    object
}

/// What QA's stage allows to share.
async fn allows(world: &World, sharing: Value) {
    let mut stage = world.pipeline().into_iter().find(|o| o["kind"] == "Stage" && o["metadata"]["name"] == "qa").unwrap();
    stage["spec"]["sharing"] = sharing;
    world.apply_as(&world.olga().await, &stage).await.unwrap();
    world.ready::<pilotage::api::Stage>("qa").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_gift_is_hidden_behind_others() {
    let world = World::new("gifts").await;
    may_bind(&world).await;
    allows(&world, json!({"clusterRoles": ["view"], "subjectKinds": ["User"]})).await;
    let mut objects = vec![world.solution("gives", "1.0.0"), world.config("gives", "gives", json!({}))];
    let account = |name: String| json!([{"kind": "ServiceAccount", "name": name, "namespace": world.dev}]);
    objects.extend((0..30).map(|n| binding(&world, "gives", &format!("a{n:02}"), "view", account(format!("x{n}")))));
    let dana = json!([{"kind": "User", "apiGroup": RBAC, "name": "dana"}]);
    objects.push(binding(&world, "gives", "zz", "view", dana));
    let mut wide = part(&world, "gives", "rbac.authorization.k8s.io/v1", "Role", "zz", Value::Null);
    wide["rules"] = json!([{"apiGroups": [""], "resources": ["configmaps", "secrets", "pods/exec"], "verbs": ["get", "create"]}]);
    objects.push(wide);
    world.apply(&objects).await;
    let plan = planned(&world, "gives").await;
    let gifts = said(&plan, "GivesRights");
    told(173, "a binding to a person behind thirty to accounts", &gifts[0], &["RoleBinding zz gives ClusterRole view to User dana"]);
    told(
        173,
        "a role that reads Secrets behind thirty bindings",
        &gifts[1],
        &["Role zz allows get, create on secrets, pods/exec, configmaps"],
    );
    let all = gifts.concat();
    ignored(173, "bindings that are only counted", (0..30).all(|n| all.contains(&format!("/x{n}"))), &gifts);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_in_a_solution_shares_no_more_than_its_stage_lets() {
    let world = World::new("around").await;
    may_bind(&world).await;
    let everybody =
        json!([{"kind": "User", "apiGroup": RBAC, "name": "dana"}, {"kind": "Group", "apiGroup": RBAC, "name": "system:authenticated"}]);
    world.apply(&[world.solution("shares", "1.0.0"), binding(&world, "shares", "shares", "view", everybody)]).await;
    world.ask(&world.request("shares", "qa", "shares", "1.0.0")).await;
    let message = world.fails("shares", "SharingNotAllowed").await;
    let words = [
        "RoleBinding shares shares ClusterRole view with User dana; ClusterRole view with Group system:authenticated",
        "it allows none",
        "nothing was written",
    ];
    told(174, "a binding for everybody, by a stage that shares nothing", &message, &words);
    allows(&world, json!({"clusterRoles": ["view"], "subjectKinds": ["User"]})).await;
    world.ask(&world.request("again", "qa", "shares", "1.0.0")).await;
    let message = world.fails("again", "SharingNotAllowed").await;
    told(
        174,
        "a binding for a group, by a stage that shares with people",
        &message,
        &["with Group system:authenticated", "subjects of kind User"],
    );
    untouched(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_that_waits_for_an_account_is_told_to_whoever_approves() {
    let world = World::new("dangling").await;
    may_be_deployed(&world, RBAC, &["rolebindings"]).await;
    let account = json!([{"kind": "ServiceAccount", "name": "old-operator", "namespace": world.qa}]);
    let mut waits = binding(&world, "none", "dangling", "admin", account);
    waits["metadata"]["namespace"] = world.qa.clone().into();
    world
        .apply(&[
            waits,
            world.solution("dang", "1.0.0"),
            part(&world, "dang", "v1", "ServiceAccount", "old-operator", Value::Null),
            deployment(&world, "dang", &json!({"serviceAccountName": "old-operator"})),
        ])
        .await;
    let plan = planned(&world, "dang").await;
    let words = ["ServiceAccount old-operator is created", "RoleBinding dangling gives it ClusterRole admin"];
    told(175, "an account of a name that a binding waits for", &said(&plan, "BoundAlready").concat(), &words);
    told(
        175,
        "bindings of the whole cluster, which the delegate may not list",
        &said(&plan, "NotLookedAt").concat(),
        &["ClusterRoleBindings", "old-operator"],
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_or_reaches_others_is_told_to_whoever_approves() {
    let world = World::new("opens").await;
    let open = json!({"hostNetwork": true, "containers": [{"name": "c", "image": "i", "securityContext": {"privileged": true}}],
        "volumes": [{"name": "h", "hostPath": {"path": "/"}}]});
    let mut cloud = part(&world, "opens", "v1", "ServiceAccount", "cloud", Value::Null);
    cloud["metadata"]["annotations"] = json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/prod-admin"});
    let backup =
        json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "backup"}, "minReplicas": 1, "maxReplicas": 100});
    world
        .apply(&[
            world.solution("opens", "1.0.0"),
            deployment(&world, "opens", &open),
            part(
                &world,
                "opens",
                "v1",
                "Service",
                "mitm",
                json!({"externalIPs": ["10.96.0.1"], "selector": {"app": "opens"}, "ports": [{"port": 443}]}),
            ),
            part(&world, "opens", "autoscaling/v2", "HorizontalPodAutoscaler", "scale-others", backup),
            part(&world, "opens", "policy/v1", "PodDisruptionBudget", "others", json!({"maxUnavailable": 0, "selector": {}})),
            part(
                &world,
                "opens",
                "networking.k8s.io/v1",
                "NetworkPolicy",
                "all",
                json!({"podSelector": {}, "ingress": [{}], "egress": [{}], "policyTypes": ["Ingress", "Egress"]}),
            ),
            cloud,
        ])
        .await;
    let plan = planned(&world, "opens").await;
    for (what, reason, words) in [
        ("a privileged pod", "RunsPrivileged", ["Deployment opens runs pods", "container c is privileged", "the node's path /"]),
        ("an account with a role in a cloud", "CloudRole", ["ServiceAccount cloud", "role/prod-admin", "eks.amazonaws.com"]),
        ("an address that is taken", "TakesTraffic", ["Service mitm", "takes all traffic", "10.96.0.1"]),
        ("a policy that lets all through", "OpensNetwork", ["NetworkPolicy all", "lets everybody in", "whole namespace"]),
        (
            "controllers of other people's workloads",
            "ReachesOthers",
            ["scales Deployment backup", "keeps others from moving", "PodDisruptionBudget others"],
        ),
    ] {
        let results: Vec<&str> = plan.results.iter().filter(|r: &&PlanResult| r.reason == reason).map(|r| r.message.as_str()).collect();
        told(176, what, &results.join(" "), &words);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_target_makes_of_an_object_is_judged() {
    let world = World::new("rewritten").await;
    valuables(&world).await;
    let (name, kubectl) = (world.qa.clone(), world.plane.kubectl());
    let rules = json!([{"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["CREATE", "UPDATE"]}]);
    let mutation = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{serviceAccountName: 'root'}}}}";
    let group = "admissionregistration.k8s.io/v1";
    world
        .apply(&[
            json!({"apiVersion": group, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": {
                "reinvocationPolicy": "Never",
                "matchConstraints": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.qa}}, "resourceRules": rules},
                "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": mutation}}]}}),
            json!({"apiVersion": group, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": name}, "spec": {"policyName": name}}),
        ])
        .await;
    let probe = ["create", "deployment", "probe", "--image=i", "-n", &world.qa, "--dry-run=server", "-o", "json"];
    world.until("the policy of QA is in force", async || kubectl.ok(&probe).ok()?.contains("\"root\"").then_some(())).await;
    world.apply(&[world.solution("plain", "1.0.0"), deployment(&world, "plain", &json!({}))]).await;
    world.ask(&world.request("plain", "qa", "plain", "1.0.0")).await;
    let message = world.waits_for("plain", "NotOffered").await;
    told(177, "pods that are made to run as an account that nobody offered", &message, &["Deployment plain uses ServiceAccount root"]);
    untouched(&world);
    for kind in ["mutatingadmissionpolicybinding", "mutatingadmissionpolicy"] {
        kubectl.ok(&["delete", kind, &name]).unwrap();
    }
}
