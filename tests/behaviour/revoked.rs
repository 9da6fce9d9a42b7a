//! Rights that are taken away while a request is in progress, in each of its phases. The request waits and prints what grants them again,
//! nothing more is written, and it continues when the grant is applied. A request that has claimed its target and lacks nothing there
//! finishes.

use kube::Api;
use kube::api::{Patch, PatchParams};
use pilotage::api::{DeploymentRequest, Pipeline, Stage};
use serde_json::{Value, json};

use crate::grant::look_again;
use crate::world::{World, client, ended, outcome, phase};

/// Somebody loses a right.
struct Loss {
    /// How the right is taken away.
    take: Take,
    /// What the request then says, in addition to the rule.
    says: fn(&World) -> Vec<String>,
    /// Whether the stage says it. It checks rights from time to time.
    by_stage: bool,
    /// Whether it stops a deployment that has begun.
    stops_deploying: bool,
}

enum Take {
    /// A binding is deleted: its namespace and name.
    Binding(fn(&World) -> (String, &'static str)),
    /// The pipeline is no longer shared with the makers.
    Share,
}

fn bot(world: &World) -> String {
    format!("system:serviceaccount:{}:bot-qa", world.host)
}

/// A stage with a step before the deployment, and its pipeline.
async fn world(name: &str) -> World {
    let world = World::bare(name).await.provokes_refusals().await;
    let olga = world.olga().await;
    for mut object in world.pipeline() {
        if object["metadata"]["name"] == "prod" {
            continue;
        }
        if object["kind"] == "Stage" {
            object["spec"]["preDeploymentStepRequired"] = true.into();
        }
        world.apply_as(&olga, &object).await.unwrap();
    }
    world.ready::<Stage>("qa").await;
    world.ready::<Pipeline>("standard").await;
    world
}

/// The pipeline, written by the cluster's administrator, who loses no rights here. Waits until it is in force.
async fn pipeline(world: &World, spec: Value) {
    let pipelines = Api::<Pipeline>::namespaced(world.admin.clone(), &world.host);
    pipelines.patch("standard", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    world.ready::<Pipeline>("standard").await;
}

async fn ask(world: &World, name: &str) {
    let labels = json!({"app.kubernetes.io/part-of": name});
    let template = json!({"metadata": {"labels": {"app": name}}, "spec": {
        // Only for this request: the node gets the label when its pods may start.
        "nodeSelector": {(format!("{}-{name}", world.host)): "yes"}, "containers": [{"name": "app", "image": "registry.example.test/app:1"}],
    }});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": world.dev, "labels": labels},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
    });
    world.apply(&[world.solution(name, "1.0.0"), world.config(name, name, json!({})), deployment]).await;
    let requests = Api::<DeploymentRequest>::namespaced(world.dana().await, &world.host);
    let request = world.request(name, "qa", name, "1.0.0");
    world.until("dana may ask", async || requests.create(&kube::api::PostParams::default(), &request).await.ok()).await;
}

/// Lets the pods of a request start.
fn release(world: &World, name: &str) {
    let label = format!("{}-{name}=yes", world.host);
    world.plane.kubectl().ok(&["label", "nodes", "--all", "--overwrite", &label]).unwrap();
}

async fn now(world: &World, name: &str) -> DeploymentRequest {
    Api::<DeploymentRequest>::namespaced(world.admin.clone(), &world.host).get(name).await.unwrap()
}

/// Whoever is asked now approves, if they may.
async fn decide(world: &World, request: &DeploymentRequest) {
    let name = request.metadata.name.clone().unwrap();
    let status = request.status.clone().unwrap_or_default();
    if status.run.gates.approval.is_some() && status.approval.is_none() {
        let _ = world.decide("qa", &name, "Approved").await;
    }
    if status.run.gates.pre_deployment_step.is_some() && status.pre_deployment_step.is_none() {
        let completed = Patch::Merge(json!({"status": {"preDeploymentStep": {"decision": "Completed"}}}));
        let eve = Api::<DeploymentRequest>::namespaced(client(world.plane.user_kubeconfig("eve", &[]).unwrap()).await, &world.host);
        let _ = eve.patch_status(&name, &PatchParams::default(), &completed).await;
    }
}

/// Continues a request until it is as wanted.
async fn until(world: &World, name: &str, what: &str, wanted: impl Fn(&DeploymentRequest) -> bool) -> DeploymentRequest {
    world
        .until(&format!("request {name} {what}"), async || {
            let request = now(world, name).await;
            if wanted(&request) {
                return Some(request);
            }
            assert!(!ended(&request), "{name} ended before it {what}: {:?}", outcome(&request));
            decide(world, &request).await;
            None
        })
        .await
}

impl Loss {
    async fn take(&self, world: &World) {
        match &self.take {
            Take::Binding(which) => {
                let (namespace, name) = which(world);
                // What the last phase granted again has other names.
                let kubectl = world.plane.kubectl();
                let found = kubectl.json(&["get", "rolebindings", "-n", &namespace]).unwrap();
                let subjects = |binding: &Value| binding["subjects"].clone();
                let all = found["items"].as_array().unwrap();
                let first = all.iter().find(|b| b["metadata"]["name"] == name).map(subjects);
                let lost = first.unwrap_or_else(|| {
                    let account = if name.starts_with("pilotage") { "pilotage" } else { name };
                    all.iter().map(subjects).find(|s| s[0]["name"] == account).unwrap()
                });
                let theirs = |b: &&Value| {
                    let called = b["metadata"]["name"].as_str().unwrap();
                    b["subjects"] == lost && called != "pilotage-host" && (called == name || called.starts_with("pilotage-"))
                };
                for binding in all.iter().filter(theirs) {
                    kubectl.ok(&["delete", "rolebinding", binding["metadata"]["name"].as_str().unwrap(), "-n", &namespace]).unwrap();
                }
            }
            Take::Share => pipeline(world, json!({"sharedWith": []})).await,
        }
        if self.by_stage {
            look_again(world, "qa", "lost").await;
            world
                .until("the stage has seen it", async || {
                    let (_, message) = world.condition::<Stage>("qa", "Ready").await?;
                    (self.says)(world).iter().all(|word| message.contains(word)).then_some(())
                })
                .await;
        }
    }

    /// The request waits, says what it lacks, and writes nothing. Returns its message.
    async fn holds_up(&self, world: &World, name: &str) {
        let words = (self.says)(world);
        let held = until(world, name, &format!("says {words:?}"), |r| words.iter().all(|word| outcome(r).1.contains(word))).await;
        assert!(!ended(&held), "{:?}", outcome(&held));
    }

    /// The request succeeds after the right is given back. The maker's share is restored by whoever took it away, and everything else by
    /// applying what is printed, as often as something is printed.
    async fn ends_well(&self, world: &World, name: &str) {
        release(world, name);
        if matches!(self.take, Take::Share) {
            pipeline(world, json!({"sharedWith": [{"kind": "Group", "name": "makers"}]})).await;
        }
        let mut round = 0;
        let end = world
            .until(&format!("request {name} ends"), async || {
                round += 1;
                let request = now(world, name).await;
                let (_, stage) = world.condition::<Stage>("qa", "Ready").await.unwrap();
                let printed = [outcome(&request).1, stage];
                if let Some(message) = printed.iter().find(|m| m.contains("apiVersion:")) {
                    world.plane.kubectl().apply(&message[message.find("apiVersion:").unwrap()..]).unwrap();
                    look_again(world, "qa", &format!("granted-{name}-{round}")).await;
                } else if ended(&request) {
                    return Some(request);
                }
                decide(world, &request).await;
                None
            })
            .await;
        assert_eq!(phase(&end), "Succeeded", "{:?}", outcome(&end));
        let approved_by = end.status.unwrap().approval.unwrap().by;
        assert_eq!(approved_by, Some(bot(world)));
    }

    /// Loses the right in each phase, one request after another.
    async fn in_every_phase(self, name: &str) {
        let world = world(name).await;

        pipeline(&world, json!({"suspend": true})).await;
        ask(&world, "waiting").await;
        world.waits_for("waiting", "PipelineSuspended").await;
        self.take(&world).await;
        pipeline(&world, json!({"suspend": false})).await;
        self.holds_up(&world, "waiting").await;
        assert!(world.operator_writes(&world.qa, false).is_empty(), "nothing was written yet");
        self.ends_well(&world, "waiting").await;

        for (name, at) in [("asked", "AwaitingApproval"), ("approved", "AwaitingPreDeploymentStep")] {
            ask(&world, name).await;
            until(&world, name, at, |r| phase(r) == at).await;
            let written = world.operator_writes(&world.qa, false).len();
            self.take(&world).await;
            self.holds_up(&world, name).await;
            assert_eq!(world.operator_writes(&world.qa, false).len(), written, "{name}: nothing is written without the right");
            self.ends_well(&world, name).await;
        }

        ask(&world, "deploying").await;
        until(&world, "deploying", "waits for health", |r| outcome(r).0 == "WaitingForHealth").await;
        self.take(&world).await;
        if self.stops_deploying {
            self.holds_up(&world, "deploying").await;
            assert_eq!(phase(&now(&world, "deploying").await), "Deploying");
            self.ends_well(&world, "deploying").await;
        } else {
            release(&world, "deploying");
            let end = world.end("deploying").await;
            assert_eq!(phase(&end), "Succeeded", "what has claimed its target and lacks nothing there finishes: {:?}", outcome(&end));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delegates_role_in_the_target() {
    let loss = Loss {
        take: Take::Binding(|world| (world.qa.clone(), "bot-qa")),
        says: |world| {
            vec![format!("{}, who deploys, lacks rights in namespace {}. Grant:", bot(world), world.qa), "kind: RoleBinding".into()]
        },
        by_stage: false,
        stops_deploying: true,
    };
    loss.in_every_phase("lost-target").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_delegates_role_in_the_host() {
    let loss = Loss {
        take: Take::Binding(|world| (world.host.clone(), "bot-qa")),
        says: |world| {
            vec![format!("{} may not decide requests of namespace {}", bot(world), world.host), "name: pilotage-delegate}".into()]
        },
        by_stage: true,
        stops_deploying: false,
    };
    loss.in_every_phase("lost-host").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_operator_may_use_of_the_delegate() {
    let loss = Loss {
        take: Take::Binding(|world| (world.qa.clone(), "pilotage-operator")),
        says: |world| vec![format!("the operator may not act as {}", bot(world)), "impersonate-on:serviceaccount:".into()],
        by_stage: true,
        stops_deploying: true,
    };
    loss.in_every_phase("lost-use").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_the_operator_may_become_the_delegate() {
    let loss = Loss {
        take: Take::Binding(|world| (world.host.clone(), "pilotage-delegates")),
        says: |world| vec![format!("the operator may not act as {}", bot(world)), "verbs: [\"impersonate:serviceaccount\"]".into()],
        by_stage: true,
        stops_deploying: true,
    };
    loss.in_every_phase("lost-become").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_makers_share() {
    let loss = Loss {
        take: Take::Share,
        says: |world| {
            vec![
                format!("dana, who asked, may not deploy through pipeline standard of host {} any more", world.host),
                "to spec.sharedWith of the pipeline again, or applies:".into(),
                "resourceNames: [\"standard\"], verbs: [\"get\", \"deploy\"]".into(),
            ]
        },
        by_stage: false,
        stops_deploying: false,
    };
    loss.in_every_phase("lost-share").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_right_to_answer_for_the_delegate() {
    let loss = Loss {
        take: Take::Binding(|world| (world.host.clone(), "olga")),
        says: |world| {
            vec![
                format!("stage qa: the owner of the stage, olga, may not act as ServiceAccount bot-qa of namespace {}", world.host),
                "resourceNames: [\"bot-qa\"], verbs: [\"delegate\"]".into(),
            ]
        },
        by_stage: false,
        stops_deploying: false,
    };
    loss.in_every_phase("lost-owner").await;
}
