//! An application with every kind of object that people write is deployed from development to QA as its maker wrote it, whichever tool put
//! it into development.

mod tool;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use kube::api::DeleteParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt};
use pilotage::api::{Artifact, DeploymentRequest, Pipeline};
use pilotage::artifact::bundle::canonical;
use pilotage::artifact::store::ArtifactStore;
use serde_json::{Value, json};

use self::tool::Tool;
use crate::arrival::{essences, kind_of, labelled, live};
use crate::world::{PATIENCE, World, client, outcome, phase};

const SOLUTION: &str = "harbour";
/// A value in Secrets of development that must not appear anywhere else.
const CANARY: &str = "canary-in-development";
/// The Secrets that the application uses.
const SECRETS: [&str; 3] = ["database", "registry", "tls"];

/// The objects as their maker stores them.
fn written(world: &World) -> Vec<Value> {
    let text = include_str!("application.yaml").replace("SOLUTION", SOLUTION).replace("DEVELOPMENT", &world.dev);
    labelled(&text, SOLUTION)
}

/// The objects by kind and name, as one value to compare.
fn by_name(objects: &[Value]) -> Value {
    objects.iter().map(|o| (format!("{} {}", o["kind"].as_str().unwrap(), o["metadata"]["name"].as_str().unwrap()), o.clone())).collect()
}

/// The part of the written objects that is deployed: everything except the name of their namespace.
fn expected(written: &[Value]) -> Value {
    let mut objects = written.to_vec();
    // The API server itself does not store that an empty value was written.
    let variables = find(&mut objects, "Deployment", "api").pointer_mut("/spec/template/spec/containers/0/env").unwrap();
    variables.as_array_mut().unwrap().last_mut().unwrap().as_object_mut().unwrap().remove("value");
    for binding in objects.iter_mut().filter(|o| o["kind"] == "RoleBinding") {
        binding["subjects"][0].as_object_mut().unwrap().remove("namespace");
    }
    by_name(&objects)
}

fn find<'a>(objects: &'a mut [Value], kind: &str, name: &str) -> &'a mut Value {
    objects.iter_mut().find(|o| o["kind"] == kind && o["metadata"]["name"] == name).unwrap()
}

/// A world in which the application can run: the cluster has its kinds and classes, both namespaces have volumes, the target has its
/// Secrets and lets the delegate write every kind.
async fn world(name: &str) -> World {
    let world = World::new(name).await;
    let everybody = json!([
        {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "makers"},
        {"kind": "ServiceAccount", "namespace": "pilotage-system", "name": "pilotage"},
    ]);
    let rbac = "rbac.authorization.k8s.io";
    let reading = json!([{"apiGroups": [rbac], "resources": ["roles", "rolebindings"], "verbs": ["get", "list"]}]);
    let mut grants = grant(&world.dev, "read-roles", &reading, &everybody);
    for (name, prefix, subject) in [
        ("bot-every-kind", "", json!({"kind": "ServiceAccount", "namespace": world.host, "name": "bot-qa"})),
        (
            "operator-every-kind",
            "impersonate-on:serviceaccount:",
            json!({"kind": "ServiceAccount", "namespace": "pilotage-system", "name": "pilotage"}),
        ),
    ] {
        let mut verbs: Vec<String> = ["get", "list", "patch", "delete"].iter().map(|verb| format!("{prefix}{verb}")).collect();
        if prefix.is_empty() {
            verbs.push("create".into());
        }
        // Also the one that the application does not need: it is checked whether it exists and is offered.
        let looked_at = [SECRETS.as_slice(), &["extra"]].concat();
        let rules = json!([
            {"apiGroups": [""], "resources": ["limitranges", "resourcequotas"], "verbs": verbs},
            {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": verbs},
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs},
            {"apiGroups": [rbac], "resources": ["roles", "rolebindings"], "verbs": verbs},
            {"apiGroups": ["every-kind.test"], "resources": ["berths", "cranes"], "verbs": verbs},
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": looked_at, "verbs": [format!("{prefix}get")]},
        ]);
        grants.extend(grant(&world.qa, name, &rules, &json!([subject])));
    }
    for namespace in [&world.dev, &world.qa] {
        for claim in ["uploads", "data-store-0", "data-store-1"] {
            grants.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("{namespace}-{claim}")},
                "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "every-kind",
                    "claimRef": {"namespace": namespace, "name": claim}, "hostPath": {"path": "/tmp"},
                },
            }));
        }
    }
    for secret in SECRETS {
        grants.push(json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"password": "of-qa"},
            "metadata": {"name": secret, "namespace": world.qa, "labels": {"pilotage.dev/connection": "true"}},
        }));
    }
    world.apply(&grants).await;
    // Parts of the solution, labelled by careless makers: they are applied client-side, so that their values are in an annotation too.
    let secrets: Vec<Value> = SECRETS
        .iter()
        .map(|secret| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": {"password": CANARY},
                "metadata": {"name": secret, "labels": {"app.kubernetes.io/part-of": SOLUTION}},
            })
        })
        .collect();
    Tool::Kubectl.apply(&world, &secrets);
    let mut solution = world.solution(SOLUTION, "1.0.0");
    solution["spec"]["connectionReferences"] = SECRETS.iter().map(|secret| json!({"name": secret, "secretName": secret})).collect();
    world.apply(&[solution]).await;
    world
}

fn grant(namespace: &str, name: &str, rules: &Value, subjects: &Value) -> Vec<Value> {
    let rbac = "rbac.authorization.k8s.io";
    let metadata = json!({"name": name, "namespace": namespace});
    vec![
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "Role", "metadata": metadata, "rules": rules}),
        json!({"apiVersion": format!("{rbac}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": name}, "subjects": subjects}),
    ]
}

/// Deploys a version to QA with its connections, and approves it.
async fn deploy(world: &World, name: &str, version: &str) -> DeploymentRequest {
    let mut request = serde_json::to_value(world.request(name, "qa", SOLUTION, version)).unwrap();
    request["spec"]["deploymentSettings"]["connectionReferences"] =
        SECRETS.iter().map(|secret| json!({"name": secret, "secretName": secret})).collect();
    world.ask(&serde_json::from_value(request).unwrap()).await;
    let end = world.approved(name, "qa").await;
    assert_eq!(phase(&end), "Succeeded", "{name}: {:?} {:?}", outcome(&end), end.status.as_ref().map(|s| &s.run.errors));
    end
}

/// The objects of a stored version, and how many bytes they have.
async fn stored(world: &World, version: &str) -> (Vec<Value>, usize) {
    let artifacts = Api::<Artifact>::namespaced(world.admin.clone(), &world.host);
    let artifact = artifacts.get(&format!("{SOLUTION}-{version}")).await.unwrap();
    let bundle = ArtifactStore::new(world.admin.clone()).load(&artifact).await.unwrap();
    assert!(!String::from_utf8(bundle.to_bytes()).unwrap().contains(CANARY));
    (bundle.objects().to_vec(), usize::try_from(artifact.spec.size).unwrap())
}

/// The bytes of the same objects in the artifact's own form, as they were applied.
fn bytes(applied: &[Value]) -> usize {
    applied.iter().map(|object| canonical(object).len() + 1).sum()
}

/// QA has what development has. An autoscaler that has not run yet sets its replicas some seconds later.
async fn arrived(world: &World, tool: Tool, objects: &[Value]) {
    let kinds: HashSet<GroupVersionKind> = objects.iter().map(kind_of).collect();
    let start = Instant::now();
    loop {
        let mut here = live(world, &world.dev, SOLUTION, &kinds).await;
        for object in here.values_mut() {
            tool.unmark(object);
        }
        let there = live(world, &world.qa, SOLUTION, &kinds).await;
        assert_eq!(there.keys().collect::<Vec<_>>(), here.keys().collect::<Vec<_>>(), "{tool:?}");
        let (here, there) = (essences(&here), essences(&there));
        if here == there || start.elapsed() > PATIENCE {
            assert_json_diff::assert_json_eq!(there, here);
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The same version again: it is compared, and nothing is written.
async fn again_nothing_is_written(world: &World, tool: Tool) {
    let mut pipeline = world.pipeline().into_iter().find(|o| o["kind"] == "Pipeline").unwrap();
    pipeline["spec"]["allowRedeployments"] = true.into();
    world.apply_as(&world.olga().await, &pipeline).await.unwrap();
    world.ready::<Pipeline>("standard").await;
    let before = world.operator_writes(&world.qa, false).len();
    let again = deploy(world, "again", "1.0.0").await;
    let plan = again.status.as_ref().unwrap().run.plan.clone().unwrap();
    assert_eq!((plan.create, plan.update, plan.delete), (0, 0, 0), "{tool:?}: {:?}", plan.objects);
    assert_eq!(writes(world, before), BTreeMap::new(), "{tool:?}");
}

/// How often each object of QA was written since.
fn writes(world: &World, before: usize) -> BTreeMap<String, usize> {
    let mut writes = BTreeMap::new();
    // A write between a controller's write and its watch event is refused as stale, and decided again.
    for call in world.operator_writes(&world.qa, false).split_off(before).into_iter().filter(|call| call.code != 409) {
        assert!(call.code < 300, "{} {}: {}", call.verb, call.uri, call.message);
        *writes.entry(format!("{} {} {}", call.verb, call.resource, call.name)).or_default() += 1;
    }
    writes
}

/// A version that adds, changes and removes objects makes exactly these changes.
async fn an_upgrade_makes_its_changes_and_no_others(world: &World, tool: Tool, mut objects: Vec<Value>) {
    find(&mut objects, "ConfigMap", "settings")["data"]["MODE"] = "slow".into();
    find(&mut objects, "Deployment", "worker")["spec"]["template"]["spec"]["containers"][0]["image"] =
        "registry.example.test/worker:1.1.0".into();
    find(&mut objects, "StatefulSet", "store")["spec"]["replicas"] = 1.into();
    find(&mut objects, "CronJob", "report")["spec"]["schedule"] = "0 5 31 2 *".into();
    find(&mut objects, "HorizontalPodAutoscaler", "api")["spec"]["maxReplicas"] = 6.into();
    find(&mut objects, "Service", "edge")["spec"]["ports"][0]["targetPort"] = 8444.into();
    find(&mut objects, "Berth", "north")["spec"]["length"] = 130.into();
    let (kept, removed): (Vec<Value>, Vec<Value>) = objects.into_iter().partition(|o| {
        let gone = [("Service", "outside"), ("ReplicaSet", "buoy"), ("NetworkPolicy", "nobody"), ("Crane", "grain")];
        !gone.iter().any(|(kind, name)| o["kind"] == *kind && o["metadata"]["name"] == *name)
    });
    let mut objects = kept;
    objects.extend(labelled("{apiVersion: v1, kind: ConfigMap, metadata: {name: added}, data: {a: b}}", SOLUTION));
    let marked: Vec<Value> = objects.iter().map(|object| tool.marked(object.clone(), SOLUTION)).collect();
    tool.apply(world, &marked);
    tool.delete(world, &removed);
    world
        .plane
        .kubectl()
        .ok(&["patch", "sol", SOLUTION, "-n", &world.dev, "--type=merge", "-p", r#"{"spec":{"version":"1.1.0"}}"#])
        .unwrap();

    let before = world.operator_writes(&world.qa, false).len();
    let upgrade = deploy(world, "upgrade", "1.1.0").await;
    let (bundle, _) = stored(world, "1.1.0").await;
    assert_json_diff::assert_json_eq!(by_name(&bundle), expected(&objects));
    let plan = upgrade.status.unwrap().run.plan.unwrap();
    let planned: BTreeSet<String> = plan.objects.iter().map(|o| format!("{:?} {} {}", o.action, o.kind, o.name)).collect();
    let changes = [
        "Create ConfigMap added",
        "Delete Crane grain",
        "Delete NetworkPolicy nobody",
        "Delete ReplicaSet buoy",
        "Delete Service outside",
        "Update Berth north",
        "Update ConfigMap settings",
        "Update CronJob report",
        "Update Deployment worker",
        "Update HorizontalPodAutoscaler api",
        "Update Service edge",
        "Update StatefulSet store",
    ];
    assert_eq!(planned, changes.iter().map(|c| (*c).to_owned()).collect(), "{tool:?}: {:?}", plan.objects);
    assert_eq!(usize::try_from(plan.unchanged).unwrap(), objects.len() - 8, "{tool:?}");
    let written = [
        "delete cranes grain",
        "delete networkpolicies nobody",
        "delete replicasets buoy",
        "delete services outside",
        "patch berths north",
        "patch configmaps added",
        // The record of the set, which now names fewer kinds.
        "patch configmaps pilotage-harbour",
        "patch configmaps settings",
        "patch cronjobs report",
        "patch deployments worker",
        "patch horizontalpodautoscalers api",
        "patch services edge",
        "patch statefulsets store",
    ];
    assert_eq!(writes(world, before), written.iter().map(|w| ((*w).to_owned(), 1)).collect(), "{tool:?}");
    arrived(world, tool, &[objects, removed].concat()).await;
}

/// What was applied is deployed. Before, `changed` is applied to development and to what is expected.
async fn arrives(tool: Tool, changed: fn(&World, &mut Vec<Value>)) -> (World, Vec<Value>) {
    let world = world(tool.name()).await;
    let mut written = written(&world);
    let applied: Vec<Value> = written.iter().map(|object| tool.marked(object.clone(), SOLUTION)).collect();
    tool.apply(&world, &applied);
    changed(&world, &mut written);
    let first = deploy(&world, "first", "1.0.0").await;
    let (bundle, size) = stored(&world, "1.0.0").await;
    // After a plain create, what was written can't be told from the server's defaults for kinds outside the core API.
    if tool.tells_what_was_written() {
        assert_json_diff::assert_json_eq!(by_name(&bundle), expected(&written));
        let most = bytes(&written);
        assert!(size <= most, "{tool:?}: {size} bytes are stored of {most}");
    }
    let plan = first.status.unwrap().run.plan.unwrap();
    assert_eq!(usize::try_from(plan.create).unwrap(), written.len(), "{tool:?}: as many objects as the maker wrote");
    arrived(&world, tool, &written).await;
    again_nothing_is_written(&world, tool).await;
    (world, written)
}

/// Changes by hand after a tool has applied the objects.
fn edit(world: &World, written: &mut Vec<Value>) {
    let kubectl = world.plane.kubectl();
    let run = |args: &[&str]| kubectl.ok(&[args, &["-n", &world.dev]].concat()).unwrap();
    run(&["scale", "deployment/worker", "--replicas=3"]);
    run(&["set", "image", "deployment/worker", "worker=registry.example.test/worker:1.0.1"]);
    run(&["set", "env", "deployment/worker", "ADDED=by-hand", "LEGACY-"]);
    run(&["rollout", "restart", "deployment/worker"]);
    run(&[
        "patch",
        "configmap/settings",
        "--type=merge",
        "--field-manager=kubectl-edit",
        "-p",
        r#"{"data":{"ADDED":"yes","MODE":null,"COUNTRY":"off"}}"#,
    ]);
    run(&[
        "patch",
        "service/edge",
        "--field-manager=kubectl-edit",
        "-p",
        r#"{"spec":{"ports":[{"port":8080,"name":"more"},{"port":443,"name":"first"}]}}"#,
    ]);
    run(&["annotate", "service/api", "example.test/note=by hand"]);
    run(&["label", "cronjob/report", "tier=back"]);
    run(&["delete", "networkpolicy/nobody"]);
    run(&[
        "patch",
        "berth/north",
        "--type=merge",
        "--field-manager=kubectl-edit",
        "-p",
        r#"{"spec":{"depth":12,"cranes":[{"name":"big"},{"name":"small","lifts":5}]}}"#,
    ]);

    // Argo CD took over this label.
    find(written, "Deployment", "api")["metadata"]["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/instance");
    let worker = find(written, "Deployment", "worker");
    worker["spec"]["replicas"] = 3.into();
    worker["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example.test/worker:1.0.1".into();
    worker["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "QUEUE", "value": "quay"}, {"name": "ADDED", "value": "by-hand"}]);
    let settings = find(written, "ConfigMap", "settings")["data"].as_object_mut().unwrap();
    settings.insert("ADDED".into(), "yes".into());
    settings.insert("COUNTRY".into(), "off".into());
    settings.remove("MODE");
    find(written, "Service", "edge")["spec"]["ports"] =
        json!([{"port": 8080, "name": "more"}, {"port": 443, "targetPort": 8443, "name": "first"}]);
    find(written, "Service", "api")["metadata"]["annotations"]["example.test/note"] = "by hand".into();
    find(written, "CronJob", "report")["metadata"]["labels"]["tier"] = "back".into();
    find(written, "Berth", "north")["spec"]["depth"] = 12.into();
    find(written, "Berth", "north")["spec"]["cranes"] = json!([{"name": "big"}, {"name": "small", "lifts": 5}]);
    written.retain(|o| o["kind"] != "NetworkPolicy" || o["metadata"]["name"] != "nobody");
}

/// Creates the cluster's part, or deletes it.
async fn in_the_cluster(world: &World, present: bool) {
    let text = include_str!("cluster.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
    if present {
        world.apply(&objects).await;
        let kubectl = world.plane.kubectl();
        kubectl
            .ok(&["wait", "--for=condition=Established", "--timeout=30s", "crd/berths.every-kind.test", "crd/cranes.every-kind.test"])
            .unwrap();
        let served = || kubectl.ok(&["api-resources", "--api-group=every-kind.test", "--no-headers"]).unwrap().lines().count() == 2;
        world.until("the new kinds are served", async || served().then_some(())).await;
        return;
    }
    let admin = client(world.plane.admin_kubeconfig()).await;
    for object in objects {
        let api = Api::<DynamicObject>::all_with(admin.clone(), &ApiResource::from_gvk(&kind_of(&object)));
        api.delete(object["metadata"]["name"].as_str().unwrap(), &DeleteParams::default()).await.unwrap();
    }
}

/// The volumes that a world was given.
async fn remove_volumes(world: &World) {
    let volumes = Api::<k8s_openapi::api::core::v1::PersistentVolume>::all(world.admin.clone());
    for volume in volumes.list(&kube::api::ListParams::default()).await.unwrap() {
        let name = volume.name_any();
        if name.starts_with(&world.dev) || name.starts_with(&world.qa) {
            volumes.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }
}

async fn arrives_and_is_upgraded(tool: Tool) -> World {
    let (world, written) = arrives(tool, |_, _| {}).await;
    an_upgrade_makes_its_changes_and_no_others(&world, tool, written).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_of_every_kind_arrives_as_it_was_written_whichever_tool_installed_it() {
    let cluster = World::bare("every-kind").await;
    in_the_cluster(&cluster, true).await;
    // Each has a thread of its own, because what they run blocks.
    let here = tokio::runtime::Handle::current();
    let runs = [Tool::Kubectl, Tool::Flux, Tool::Helm, Tool::ArgoCd].map(|tool| {
        let here = here.clone();
        tokio::task::spawn_blocking(move || {
            here.block_on(async {
                match tool {
                    Tool::Kubectl | Tool::Flux => arrives_and_is_upgraded(tool).await,
                    Tool::Helm => arrives(tool, |_, _| {}).await.0,
                    Tool::ArgoCd => arrives(tool, edit).await.0,
                }
            })
        })
    });
    let worlds = futures::future::join_all(runs).await;
    for world in &worlds {
        remove_volumes(world.as_ref().unwrap()).await;
    }
    in_the_cluster(&cluster, false).await;
}
