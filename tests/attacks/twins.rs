//! Two operators that both believe to lead, on a control plane of their own.

use std::path::Path;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use pilotage::api::Artifact;
use pilotage_harness::install::Operator;
use pilotage_harness::{ControlPlane, Options, audit, dev};
use serde_json::json;

use crate::attempt::ignored;
use crate::world::{World, outcome, phase};

const SOLUTIONS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_that_are_awake_one_deploys_what_one_claimed() {
    let program = Path::new(env!("CARGO_BIN_EXE_pilotage"));
    let (plane, first, second) = tokio::task::spawn_blocking(move || {
        let plane = ControlPlane::start(&Options::default()).unwrap();
        let first = dev::operate(&plane, program).unwrap();
        // Its own Lease: it leads too.
        let kubeconfig = plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap();
        let env = [("PILOTAGE_ADMIN_ADDRESS", "127.0.0.1:0"), ("PILOTAGE_LEASE_NAME", "twin")];
        let second = Operator::start(program, &kubeconfig, &plane.dir().join("twin.log"), &env).unwrap();
        (plane, first, second)
    })
    .await
    .unwrap();
    let world = World::on(plane, "twins").await.with_pipeline().await;
    let holder = ["get", "lease", "twin", "-n", "pilotage-system", "-o", "jsonpath={.spec.holderIdentity}"];
    world.until("the twin leads too", async || world.plane.kubectl().run(&holder).unwrap().stdout.contains('-').then_some(())).await;

    let names: Vec<String> = (0..SOLUTIONS).map(|n| format!("orders-{n}")).collect();
    for name in &names {
        world.apply(&[world.solution(name, "1.0.0"), world.config(name, name, json!({"of": name}))]).await;
        world.ask(&world.request(name, "qa", name, "1.0.0")).await;
    }
    for name in &names {
        let end = world.approved(name, "qa").await;
        assert_eq!(phase(&end), "Succeeded", "{name}: {:?}", outcome(&end));
    }
    let (calls, _) = audit::since(&world.plane.audit_log(), 0).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(world.admin.clone(), &world.qa);
    let artifacts: Api<Artifact> = Api::namespaced(world.admin.clone(), &world.host);
    for name in &names {
        let made: Vec<_> = calls
            .iter()
            .filter(|c| c.namespace == world.qa && c.name == *name && c.resource == "configmaps" && c.is_write() && !c.dry_run)
            .map(|c| (c.verb.clone(), c.code))
            .collect();
        let created = made.iter().filter(|(_, code)| *code == 201).count();
        let deployed = artifacts.get(&format!("{name}-1.0.0")).await.unwrap().status.unwrap().deployments.len();
        let arrived = maps.get(name).await.unwrap().data.is_some_and(|data| data["of"] == *name);
        ignored(52, &format!("two operators carry out {name}"), created == 1 && deployed == 1 && arrived, &(made, deployed));
    }
    tokio::task::spawn_blocking(move || (first.stop().unwrap(), second.stop().unwrap())).await.unwrap();
}
