//! Whole applications, as their authors publish them, are deployed from development to production unchanged.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::core::GroupVersionKind;
use pilotage::api::Pipeline;
use serde_json::{Value, json};

use crate::arrival::{essences, kind_of, live, objects};
use crate::world::{PATIENCE, World, outcome, phase};

/// Applications of other authors, from the folder in `PILOTAGE_SOLUTIONS`. Without it there are none.
pub fn applications() -> Vec<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/solutions");
    let folder = std::env::var_os("PILOTAGE_SOLUTIONS").map_or_else(beside, PathBuf::from);
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("not shown: there are no applications in {}", folder.display());
        return Vec::new();
    };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml")).collect()
}

/// Whether it has the replicas that it should have, if it is a Deployment.
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
            // An autoscaler that has not run yet, in either place, sets the replicas some seconds later.
            if (here == there && unavailable.is_empty()) || start.elapsed() > PATIENCE {
                assert_json_diff::assert_json_eq!(there, here);
                assert!(unavailable.is_empty(), "not available: {unavailable:?}");
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    // The same again: it is compared, and nothing is written.
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
