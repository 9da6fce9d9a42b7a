//! Two operators that both believe that they lead, on a control plane of their own.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;

use futures::{TryStreamExt, future};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, ResourceExt};
use pilotage::api::{Artifact, DeploymentRequest, Environment};
use pilotage_harness::install::{Operator, way};
use pilotage_harness::{ControlPlane, Options, audit, dev};
use serde_json::json;

use crate::attempt::ignored;
use crate::world::{World, ended, outcome, phase};

const SOLUTIONS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn of_two_operators_that_are_awake_one_deploys_what_one_claimed() {
    let program = Path::new(env!("CARGO_BIN_EXE_pilotage"));
    let (plane, first, second) = tokio::task::spawn_blocking(move || {
        let plane = ControlPlane::start(&Options::default()).unwrap();
        let first = dev::operate(&plane, program).unwrap();
        // It has a Lease of its own, so it leads too.
        let kubeconfig = plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap();
        let env = [&[("PILOTAGE_ADMIN_ADDRESS", "127.0.0.1:0"), ("PILOTAGE_LEASE_NAME", "twin")], way(plane.lends_tokens())].concat();
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
    }
    // Two requests for each solution, for one target. Only one of them may change the target at a time, whichever operator carries it out.
    let requests: Vec<_> = names.iter().flat_map(|name| [(name, format!("{name}-a")), (name, format!("{name}-b"))]).collect();
    let environments: Api<Environment> = Api::namespaced(world.admin.clone(), &world.host);
    let since = environments.list(&kube::api::ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    for (name, request) in &requests {
        world.ask(&world.request(request, "qa", name, "1.0.0")).await;
    }
    for (_, request) in &requests {
        world.until_request(request, |r| phase(r) == "AwaitingApproval").await;
    }
    let ends = future::join_all(requests.iter().map(|(_, request)| approved_until_its_end(&world, request)));
    let robbed = claim_taken_away(&environments, &since);
    let mut ends = pin!(ends);
    match future::select(ends.as_mut(), pin!(robbed)).await {
        future::Either::Left((ends, _)) => {
            ignored(52, "two operators claim one environment for two requests", true, &"");
            // The second one finds its work done.
            for pair in ends.chunks(2) {
                let mut outcomes: Vec<_> = pair.iter().map(|end| (phase(end), outcome(end).0)).collect();
                outcomes.sort();
                assert_eq!(
                    outcomes[0],
                    ("Failed".to_owned(), "Superseded".to_owned()),
                    "{:?}",
                    pair.iter().map(outcome).collect::<Vec<_>>()
                );
                assert_eq!(outcomes[1].0, "Succeeded", "{:?}", pair.iter().map(outcome).collect::<Vec<_>>());
            }
        }
        future::Either::Right((robbed, _)) => {
            let ends: Vec<_> = ends.await.iter().map(|end| (end.metadata.name.clone(), phase(end), outcome(end))).collect();
            ignored(52, "two operators claim one environment for two requests", false, &(robbed, ends));
        }
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

/// Approves a request each time it asks.
async fn approved_until_its_end(world: &World, name: &str) -> DeploymentRequest {
    let bot = world.bot("qa").await;
    loop {
        let request = world.until_request(name, |r| ended(r) || phase(r) == "AwaitingApproval").await;
        if ended(&request) {
            return request;
        }
        // Its plan may change in between. Another round sees that.
        let _ = world.approve_as(bot.clone(), name, "Approved").await;
    }
}

/// Waits until a claim on an environment is gone without the result of its request.
async fn claim_taken_away(environments: &Api<Environment>, since: &str) -> String {
    let mut claims: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut events = pin!(environments.watch(&WatchParams::default().timeout(290), since).await.unwrap());
    while let Some(event) = events.try_next().await.unwrap() {
        let WatchEvent::Modified(environment) = event else { continue };
        let solutions = environment.status.as_ref().map(|status| status.solutions.clone()).unwrap_or_default();
        let mut now = BTreeMap::new();
        let mut deployed = BTreeMap::new();
        for solution in solutions {
            let of = (environment.name_any(), solution.name);
            now.extend(solution.claim.map(|claim| (of.clone(), claim.request)));
            deployed.extend(solution.request.map(|request| (of, request)));
        }
        for (of, request) in claims.iter().filter(|((name, _), _)| *name == environment.name_any()) {
            if now.get(of) != Some(request) && deployed.get(of) != Some(request) {
                return format!("the claim of {request} on {of:?} went to {:?} before it was done", now.get(of));
            }
        }
        claims.retain(|(name, _), _| *name != environment.name_any());
        claims.append(&mut now);
    }
    unreachable!("the watch is longer than the test")
}
