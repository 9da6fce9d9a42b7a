//! Whole applications, as their authors publish them, go from development to production and arrive as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use pilotage::api::Pipeline;
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, outcome, phase};

/// Applications of others; where they are not there, there is nothing to show.
fn applications() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/solutions");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("not shown: there are no applications in {}", folder.display());
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect()
}

/// The objects of a file, labelled as parts of a solution.
fn objects(file: &Path, solution: &str) -> Vec<Value> {
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
fn live(world: &World, namespace: &str, solution: &str, kinds: &str) -> BTreeMap<String, Value> {
    let selector = format!("app.kubernetes.io/part-of={solution}");
    let list = world.plane.kubectl().json(&["get", "--namespace", namespace, "--selector", &selector, kinds]).unwrap();
    let name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    list["items"].as_array().unwrap().iter().map(|object| (name(object), object.clone())).collect()
}

fn essences(objects: BTreeMap<String, Value>) -> Value {
    objects.into_iter().map(|(name, object)| (name, essence(object))).collect()
}

fn is_available(condition: &Value) -> bool {
    condition["type"] == "Available" && condition["status"] == "True"
}

async fn goes_to_production_and_changes_nothing_the_second_time(file: &Path) -> usize {
    let solution = file.file_stem().unwrap().to_str().unwrap();
    let world = World::new(solution).await;
    let objects = objects(file, solution);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    world
        .plane
        .kubectl()
        .run_with(&["apply", "--namespace", &world.dev, "-f", "-"], &list.to_string())
        .map(|o| assert!(o.ok, "{}", o.stderr))
        .unwrap();
    world.apply(&[world.solution(solution, "1.0.0")]).await;

    for stage in ["qa", "prod"] {
        let request = world.deploy(&format!("to-{stage}"), stage, solution, "1.0.0").await;
        assert_eq!(phase(&request), "Succeeded", "{solution} to {stage}: {:?}", outcome(&request));
        let plan = request.status.unwrap().run.plan.unwrap();
        assert_eq!(plan.create, i32::try_from(objects.len()).unwrap(), "{solution}: as many objects as its author wrote");
    }
    let kinds: BTreeSet<&str> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    let kinds = Vec::from_iter(kinds).join(",");
    for namespace in [&world.qa, &world.prod] {
        let start = Instant::now();
        loop {
            let (here, there) = (live(&world, &world.dev, solution, &kinds), live(&world, namespace, solution, &kinds));
            assert_eq!(there.len(), objects.len(), "{solution}: {:?}", there.keys());
            let available = |o: &Value| o["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(is_available));
            for deployment in there.values().filter(|o| o["kind"] == "Deployment") {
                assert!(available(deployment), "{}: {}", deployment["metadata"]["name"], deployment["status"]);
            }
            let (here, there) = (essences(here), essences(there));
            // An autoscaler that has not looked yet, here or there, sets the replicas some seconds later.
            if here == there || start.elapsed() > PATIENCE {
                assert_json_diff::assert_json_eq!(there, here);
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
