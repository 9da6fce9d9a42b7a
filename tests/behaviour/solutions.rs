//! Whole applications, as their authors publish them, go from development to production and arrive as they were.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube::api::{DynamicObject, ListParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use pilotage::api::Pipeline;
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, outcome, phase};

/// Applications of others; where they are not there, there is nothing to show.
pub fn applications() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/solutions");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("not shown: there are no applications in {}", folder.display());
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect()
}

/// The objects of a file, labelled as parts of a solution.
pub fn objects(file: &Path, solution: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    objects.retain(|object| !object.is_null());
    for object in &mut objects {
        object["metadata"]["labels"]["app.kubernetes.io/part-of"] = solution.into();
    }
    objects
}

/// What a person would call the same: without what a namespace and its controllers give an object.
fn essence(mut object: Value) -> Value {
    fn remove(object: &mut Value, path: &str, key: &str) {
        if let Some(map) = object.pointer_mut(path).and_then(Value::as_object_mut) {
            map.remove(key);
        }
    }
    remove(&mut object, "", "status");
    for key in ["namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences"] {
        remove(&mut object, "/metadata", key);
    }
    for key in ["kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision"] {
        remove(&mut object, "/metadata/annotations", key);
    }
    if object.pointer("/metadata/annotations").is_some_and(|annotations| *annotations == json!({})) {
        remove(&mut object, "/metadata", "annotations");
    }
    remove(&mut object, "/metadata/labels", "applyset.kubernetes.io/part-of");
    if object["kind"] == "Service" {
        for key in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
            remove(&mut object, "/spec", key);
        }
        for port in object["spec"]["ports"].as_array_mut().unwrap() {
            port.as_object_mut().unwrap().remove("nodePort");
        }
    }
    object
}

/// What a namespace now has of a solution, of the kinds that it is made of: by kind and name.
async fn live(world: &World, namespace: &str, solution: &str, kinds: &HashSet<GroupVersionKind>) -> BTreeMap<String, Value> {
    let of_solution = ListParams::default().labels(&format!("app.kubernetes.io/part-of={solution}"));
    let mut found = BTreeMap::new();
    for kind in kinds {
        let api = Api::<DynamicObject>::namespaced_with(world.admin.clone(), namespace, &ApiResource::from_gvk(kind));
        for object in api.list(&of_solution).await.unwrap() {
            let mut value = serde_json::to_value(&object).unwrap();
            // Items of a list do not repeat their kind.
            value["kind"] = kind.kind.clone().into();
            found.insert(format!("{} {}", kind.kind, object.name_any()), value);
        }
    }
    found
}

fn essences(objects: &BTreeMap<String, Value>) -> Value {
    objects.iter().map(|(name, object)| (name.clone(), essence(object.clone()))).collect()
}

fn kind_of(object: &Value) -> GroupVersionKind {
    let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    GroupVersionKind::gvk(group, version, kind)
}

/// Whether it has, if it is a Deployment, the replicas that it should have.
fn is_available(object: &Value) -> bool {
    let available = |conditions: &Vec<Value>| conditions.iter().any(|c| c["type"] == "Available" && c["status"] == "True");
    object["kind"] != "Deployment" || object["status"]["conditions"].as_array().is_some_and(available)
}

async fn goes_to_production_and_changes_nothing_the_second_time(file: &Path) -> usize {
    let solution = file.file_stem().unwrap().to_str().unwrap();
    let world = World::new(solution).await;
    let objects = objects(file, solution);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let applied = world.plane.kubectl().run_with(&["apply", "--namespace", &world.dev, "-f", "-"], &list.to_string()).unwrap();
    assert!(applied.ok, "{}", applied.stderr);
    world.apply(&[world.solution(solution, "1.0.0")]).await;

    for stage in ["qa", "prod"] {
        let request = world.deploy(&format!("to-{stage}"), stage, solution, "1.0.0").await;
        assert_eq!(phase(&request), "Succeeded", "{solution} to {stage}: {:?}", outcome(&request));
        let plan = request.status.unwrap().run.plan.unwrap();
        assert_eq!(plan.create, i32::try_from(objects.len()).unwrap(), "{solution}: as many objects as its author wrote");
    }
    let kinds: HashSet<GroupVersionKind> = objects.iter().map(kind_of).collect();
    for namespace in [&world.qa, &world.prod] {
        let start = Instant::now();
        loop {
            let (here, there) = (live(&world, &world.dev, solution, &kinds).await, live(&world, namespace, solution, &kinds).await);
            assert_eq!(there.len(), objects.len(), "{solution}: {:?}", there.keys());
            let unavailable: Vec<&String> = there.iter().filter(|(_, o)| !is_available(o)).map(|(name, _)| name).collect();
            let (here, there) = (essences(&here), essences(&there));
            // An autoscaler that has not looked yet, here or there, sets the replicas some seconds later.
            if (here == there && unavailable.is_empty()) || start.elapsed() > PATIENCE {
                assert_json_diff::assert_json_eq!(there, here);
                assert!(unavailable.is_empty(), "not available: {unavailable:?}");
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    // The same again: looked at, and nothing written.
    let mut pipeline = world.pipeline().into_iter().find(|o| o["kind"] == "Pipeline").unwrap();
    pipeline["spec"]["allowRedeployments"] = true.into();
    world.apply_as(&world.olga().await, &pipeline).await.unwrap();
    world.ready::<Pipeline>("standard").await;
    let before = (world.operator_writes(&world.qa, false).len(), world.operator_writes(&world.qa, true).len());
    assert!(before.0 >= objects.len(), "the first deployment is in the audit log");
    let again = world.deploy("again", "qa", solution, "1.0.0").await;
    assert_eq!(phase(&again), "Succeeded", "{:?}", outcome(&again));
    let plan = again.status.as_ref().unwrap().run.plan.clone().unwrap();
    assert_eq!((plan.create, plan.update, plan.delete), (0, 0, 0), "{}: {:?}", again.name_any(), plan.objects);
    let written: Vec<_> = world.operator_writes(&world.qa, false).split_off(before.0);
    assert!(written.is_empty(), "{solution} unchanged: {:?}", written.iter().map(|c| (&c.verb, &c.uri)).collect::<Vec<_>>());
    assert!(world.operator_writes(&world.qa, true).len() > before.1, "it was looked at by dry runs");
    objects.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn published_applications_go_to_production_as_they_are_and_the_second_time_nothing_is_written() {
    let applications = applications();
    let objects =
        futures::future::join_all(applications.iter().map(|file| goes_to_production_and_changes_nothing_the_second_time(file))).await;
    assert_eq!(objects.len(), applications.len());
}
