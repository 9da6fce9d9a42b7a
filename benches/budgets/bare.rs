//! A client that makes the calls of a burst and decides nothing: this is what the API server itself allows.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use pilotage::api::{Artifact, DeploymentRequest, Environment, Solution, names};
use pilotage_harness::audit::Call;
use serde_json::{Value, json};

use crate::burst::request_name;
use crate::calls::{self, OPERATOR};
use crate::fleet::{self, PIPELINES, Place, SOLUTIONS};
use crate::stand::{Scene, Stand, approve, request};
use crate::stock::{self, CONCURRENCY};

/// The annotation with which people confirm the deletion of a record.
const CONFIRM_DELETE: &str = "pilotage.dev/confirm-delete";

/// The clients that make the calls, and the objects that they are made on.
struct Bare {
    operator: Client,
    delegate: Client,
    dana: Client,
    bot: Client,
    admin: Client,
    host: String,
    dev: String,
    targets: Vec<String>,
    version: String,
    status: Value,
    environment: Value,
    artifact: Value,
    solution: Value,
    counts: BTreeMap<String, usize>,
    reads: Vec<(bool, String)>,
}

/// Makes the calls of that burst again, on objects of its own. Returns how many requests per second that would be.
pub async fn run(stand: &Stand, scene: &Scene, burst: &[Call], version: &str) -> Result<f64> {
    let bare = Bare::new(stand, scene, burst, version).await?;
    bare.prepare().await?;
    let start = Instant::now();
    stream::iter(0..SOLUTIONS).map(|number| bare.request(number)).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    let took = start.elapsed().as_secs_f64();
    if let Err(error) = bare.tidy().await {
        println!("  the bare client's Environments are still there: {error:#}");
    }
    Ok(f64::from(u32::try_from(SOLUTIONS)?) / took)
}

impl Bare {
    async fn new(stand: &Stand, scene: &Scene, burst: &[Call], version: &str) -> Result<Self> {
        let kubeconfig = stand.plane.service_account_kubeconfig("pilotage-system", "pilotage")?;
        let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(kubeconfig)?, &KubeConfigOptions::default()).await?;
        let mut as_delegate = config.clone();
        as_delegate.auth_info.impersonate = Some(names::service_account_username(&scene.world.host, "bot-qa"));
        let (operator, host, dev) = (Client::try_from(config)?, scene.world.host.clone(), scene.world.dev.clone());
        let admin = scene.world.admin.clone();
        let ours = || burst.iter().filter(|c| c.user == OPERATOR && c.verb != "watch" && c.resource != "leases");
        let mut counts = BTreeMap::new();
        for call in ours().filter(|c| c.is_write()) {
            *counts.entry(key(call)).or_default() += 1;
        }
        let model: DeploymentRequest = Api::namespaced(admin.clone(), &host).get(&request_name(Place::Later, 0, version)).await?;
        let environment: Environment = Api::namespaced(admin.clone(), &host).get(&Place::Later.stage(0)).await?;
        let artifact: Artifact = Api::namespaced(admin.clone(), &host).get(&names::artifact_name(&fleet::solution(0), version)).await?;
        let solution: Solution = Api::namespaced(admin.clone(), &dev).get(&fleet::solution(0)).await?;
        Ok(Self {
            operator,
            delegate: Client::try_from(as_delegate)?,
            dana: scene.dana.clone(),
            bot: scene.bot_qa.clone(),
            admin,
            targets: (0..PIPELINES).map(|p| fleet::namespace(scene, &Place::Later.stage(p))).collect(),
            version: version.to_owned(),
            status: serde_json::to_value(model.status.context("the model has no status")?)?,
            environment: bare_copy(serde_json::to_value(environment)?),
            artifact: bare_copy(serde_json::to_value(artifact)?),
            solution: bare_copy(serde_json::to_value(solution)?),
            counts,
            reads: ours().filter(|c| !c.is_write()).map(|c| (c.impersonated_user.is_some(), c.uri.clone())).collect(),
            host,
            dev,
        })
    }

    /// It uses its own objects, so that no real object is changed. The operator does not run.
    async fn prepare(&self) -> Result<()> {
        let named = |model: &Value, name: String| {
            let mut object = model.clone();
            object["metadata"]["name"] = name.into();
            object.as_object_mut().map(|o| o.remove("status"));
            object
        };
        stock::apply(&self.admin, (0..PIPELINES).map(|p| named(&self.environment, format!("bare-{p}"))).collect()).await?;
        stock::apply(&self.admin, (0..SOLUTIONS).map(|s| named(&self.solution, format!("bare-{s}"))).collect()).await?;
        // The operator may create artifacts, but not change them.
        for number in 0..SOLUTIONS {
            let artifact: Artifact = serde_json::from_value(named(&self.artifact, format!("bare-{number}")))?;
            match Api::namespaced(self.operator.clone(), &self.host).create(&PostParams::default(), &artifact).await {
                // It exists from the round before.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                other => {
                    other.context("creating an artifact")?;
                }
            }
        }
        Ok(())
    }

    /// Deletes Environments for namespaces that others have. They would be validated, and that is not measured next. They are the record of
    /// what is deployed there, so the deletion is confirmed first.
    async fn tidy(&self) -> Result<()> {
        let environments: Api<Environment> = Api::namespaced(self.admin.clone(), &self.host);
        for number in 0..PIPELINES {
            let name = format!("bare-{number}");
            let confirmed = json!({"metadata": {"annotations": {CONFIRM_DELETE: name}}});
            environments.patch(&name, &PatchParams::default(), &Patch::Merge(confirmed)).await?;
            environments.delete(&name, &DeleteParams::default()).await?;
        }
        Ok(())
    }

    /// The part of `count` calls that belongs to this request.
    fn share(count: usize, number: usize) -> std::ops::Range<usize> {
        count * number / SOLUTIONS..count * (number + 1) / SOLUTIONS
    }

    fn times(&self, kind: &str, number: usize) -> usize {
        Self::share(self.counts.get(kind).copied().unwrap_or_default(), number).len()
    }

    async fn request(&self, number: usize) -> Result<()> {
        let pipeline = number % PIPELINES;
        let name = format!("bare-{number}-{}", self.version.replace('.', "-"));
        let wanted =
            request(&self.host, &name, &fleet::pipeline(pipeline), &Place::Later.stage(pipeline), &fleet::solution(number), &self.version)?;
        Api::<DeploymentRequest>::namespaced(self.dana.clone(), &self.host).create(&PostParams::default(), &wanted).await?;
        let reads = &self.reads[Self::share(self.reads.len(), number)];
        let dry_runs = self.times("patch configmaps (dry run)", number);
        let (half, rest) = reads.split_at(reads.len() / 2);
        self.read(half).await?;
        self.reviews(number).await?;
        self.configs(number, dry_runs / 2, true).await?;
        self.status(&name, &["observedGeneration", "phase", "artifact", "plan", "gates", "conditions"], "AwaitingApproval").await?;
        let solutions = self.times("patch solutions/status", number);
        self.records::<Solution>(&self.dev, &self.solution, number, number, solutions.min(1)).await?;
        approve(&self.bot, &self.host, &name).await.context("approving")?;
        self.read(rest).await?;
        self.configs(number, dry_runs - dry_runs / 2, true).await?;
        let environments = self.times("patch environments/status", number);
        self.records::<Environment>(&self.host, &self.environment, pipeline, number, environments / 2).await?;
        for step in 2..self.times("patch deploymentrequests/status", number) {
            self.status(&name, &["startTime", "deployedBy", "conditions"], &format!("Deploying{step}")).await?;
        }
        self.configs(number, self.times("patch configmaps", number), false).await?;
        let artifacts = self.times("patch artifacts/status", number);
        self.records::<Artifact>(&self.host, &self.artifact, number, number, artifacts).await?;
        self.records::<Environment>(&self.host, &self.environment, pipeline, number, environments - environments / 2).await?;
        self.records::<Solution>(&self.dev, &self.solution, number, number, solutions.saturating_sub(1)).await?;
        self.status(&name, &["endTime", "conditions"], "Succeeded").await?;
        self.events(&name, number).await
    }

    /// Exactly the same reads.
    async fn read(&self, reads: &[(bool, String)]) -> Result<()> {
        for (as_delegate, uri) in reads {
            let client = if *as_delegate { &self.delegate } else { &self.operator };
            let request = axum::http::Request::get(uri).body(Vec::new())?;
            match client.request_text(request).await {
                // What did not exist then need not exist now.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => {
                    other?;
                }
            }
        }
        Ok(())
    }

    async fn reviews(&self, number: usize) -> Result<()> {
        use k8s_openapi::api::authorization::v1::SubjectAccessReview;
        let review = json!({"spec": {
            "user": "dana", "groups": ["makers", "system:authenticated"],
            "resourceAttributes": {"verb": "impersonate", "group": "", "resource": "serviceaccounts", "namespace": self.host, "name": "bot-qa"},
        }});
        let review: SubjectAccessReview = serde_json::from_value(review)?;
        for _ in 0..self.times("create subjectaccessreviews", number) {
            Api::all(self.operator.clone()).create(&PostParams::default(), &review).await?;
        }
        Ok(())
    }

    async fn configs(&self, number: usize, times: usize, dry_run: bool) -> Result<()> {
        let params = PatchParams { dry_run, field_manager: Some("bare".into()), force: false, field_validation: None };
        for time in 0..times {
            let namespace = &self.targets[number % PIPELINES];
            let name = format!("bare-{number}-{time}");
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": namespace, "labels": {
                    "app.kubernetes.io/part-of": fleet::solution(number),
                    "applyset.kubernetes.io/part-of": "applyset-0123456789012345678901234567890123456789012-v1",
                }},
                "data": {"greeting": "hello", "version": self.version},
            });
            stock::api(&self.delegate, &object).patch(&name, &params, &Patch::Apply(&object)).await.context("writing a ConfigMap")?;
        }
        Ok(())
    }

    async fn status(&self, name: &str, fields: &[&str], phase: &str) -> Result<()> {
        let mut status: serde_json::Map<String, Value> =
            fields.iter().filter_map(|field| Some(((*field).to_owned(), self.status.get(*field)?.clone()))).collect();
        status.insert("phase".into(), phase.into());
        let patch = Patch::Merge(json!({"status": status}));
        let api: Api<DeploymentRequest> = Api::namespaced(self.operator.clone(), &self.host);
        api.patch_status(name, &PatchParams { field_manager: Some("bare".into()), ..PatchParams::default() }, &patch)
            .await
            .with_context(|| format!("writing the status of a request: {phase}"))?;
        Ok(())
    }

    /// Writes a record as a whole, with something new in it each time.
    async fn records<K>(&self, namespace: &str, model: &Value, object: usize, number: usize, times: usize) -> Result<()>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + serde::de::DeserializeOwned
            + Clone
            + std::fmt::Debug,
    {
        let mut status = model["status"].clone();
        for _ in 0..times {
            for (list, field) in [("solutions", "request"), ("deployments", "request")] {
                if let Some(entry) = status.get_mut(list).and_then(Value::as_array_mut).and_then(|entries| entries.first_mut()) {
                    entry[field] = format!("bare-{number}-{}", jiff::Timestamp::now().as_microsecond()).into();
                }
            }
            let api: Api<K> = Api::namespaced(self.operator.clone(), namespace);
            let params = PatchParams { field_manager: Some("bare".into()), ..PatchParams::default() };
            api.patch_status(&format!("bare-{object}"), &params, &Patch::Merge(json!({"status": status})))
                .await
                .with_context(|| format!("writing a record of kind {}", K::kind(&())))?;
        }
        Ok(())
    }

    async fn events(&self, name: &str, number: usize) -> Result<()> {
        use k8s_openapi::api::events::v1::Event;
        for time in 0..self.times("create events", number) {
            let event: Event = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}.{time}"), "namespace": self.host},
                "eventTime": k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime(jiff::Timestamp::now()),
                "action": "OnDeploymentStarted", "reason": "OnDeploymentStarted", "type": "Normal",
                "reportingController": "pilotage", "reportingInstance": "bare",
                "regarding": {"apiVersion": "pilotage.dev/v1alpha1", "kind": "DeploymentRequest", "name": name, "namespace": self.host},
                "note": "s000 1.0.0 to stage l00 for dana: deploys to environment l00 as the delegate of the stage",
            }))?;
            Api::namespaced(self.operator.clone(), &self.host).create(&PostParams::default(), &event).await?;
        }
        Ok(())
    }
}

/// Events have a key of their own. Calls as the delegate have resources of their own.
fn key(call: &Call) -> String {
    calls::kind(call)
}

/// An object without the fields that the API server set.
fn bare_copy(mut object: Value) -> Value {
    let namespace = object["metadata"]["namespace"].clone();
    object["metadata"] = json!({"namespace": namespace});
    object
}
