//! What is measured: a control plane of its own, an installed Pilotage, its operator as a process, and a world.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use pilotage::api::DeploymentRequest;
use pilotage_harness::install::Operator;
use pilotage_harness::{ControlPlane, Options, dev};
use serde_json::{Value, json};

use crate::observer::Observer;
use crate::world::World;
use crate::{process, stock};

/// The operator's program, unless `PILOTAGE_BENCH_OPERATOR` names another.
const PROGRAM: &str = "target/release/pilotage";

/// Everything that runs.
pub struct Stand {
    /// The operator that is measured.
    operator: Option<Operator>,
    /// Its program.
    pub program: PathBuf,
    /// The control plane. It is ended last.
    pub plane: ControlPlane,
}

impl Stand {
    /// Starts a control plane, installs Pilotage and starts its operator. etcd does not wait for the disk, because the budgets were
    /// measured that way. With `PILOTAGE_BENCH_DURABLE=1` it does.
    pub fn start() -> Result<Self> {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let program = std::env::var_os("PILOTAGE_BENCH_OPERATOR").map_or_else(|| root.join(PROGRAM), PathBuf::from);
        ensure!(program.is_file(), "{} does not exist: use `make bench`, which builds it", program.display());
        let durable_etcd = std::env::var("PILOTAGE_BENCH_DURABLE").is_ok_and(|wanted| wanted == "1");
        let plane = ControlPlane::start(&Options { durable_etcd, ..Options::default() })?;
        let operator = dev::operate(&plane, &program)?;
        Ok(Self { operator: Some(operator), program, plane })
    }

    /// Its memory.
    pub fn rss_mib(&self) -> Result<f64> {
        process::rss_mib(self.operator.as_ref().context("the operator does not run")?.pid())
    }

    /// The peak memory since [`Self::forget_peak`].
    pub fn peak_mib(&self) -> Result<f64> {
        process::peak_mib(self.operator.as_ref().context("the operator does not run")?.pid())
    }

    /// Resets the peak memory.
    pub fn forget_peak(&self) -> Result<()> {
        process::forget_peak(self.operator.as_ref().context("the operator does not run")?.pid())
    }

    /// Its processor time.
    pub fn cpu_ms(&self) -> Result<f64> {
        process::cpu_ms(self.operator.as_ref().context("the operator does not run")?.pid())
    }

    /// Ends the operator.
    pub fn pause(&mut self) -> Result<()> {
        self.operator.take().map_or(Ok(()), Operator::stop)
    }

    /// Starts it again.
    pub fn resume(&mut self) -> Result<()> {
        if self.operator.is_none() {
            self.operator = Some(dev::operate(&self.plane, &self.program)?);
        }
        Ok(())
    }
}

/// The people of a world, and an observer of its requests.
pub struct Scene {
    /// The world.
    pub world: World,
    /// A maker.
    pub dana: Client,
    /// The administrator.
    pub olga: Client,
    /// The delegate of the first stage.
    pub bot_qa: Client,
    /// The delegate of the second.
    pub bot_prod: Client,
    /// Sees what happens.
    pub observer: Observer,
}

/// How long a request took, without the time of its approver.
pub struct Run {
    /// From creation to success, without the decision.
    pub took: Duration,
}

impl Scene {
    /// A world with one pipeline over two delegated stages.
    pub async fn set(plane: &ControlPlane) -> Result<Self> {
        let world = World::on(ControlPlane::attach(plane.dir())?, "bench").await;
        let (dana, olga, bot_qa, bot_prod) = (world.dana().await, world.olga().await, world.bot("qa").await, world.bot("prod").await);
        for object in world.pipeline() {
            stock::apply_one(&olga, &object).await?;
        }
        let observer = Observer::start(world.admin.clone(), &world.host).await?;
        let scene = Self { world, dana, olga, bot_qa, bot_prod, observer };
        scene.askable("standard", "qa").await?;
        scene.askable("standard", "prod").await?;
        Ok(scene)
    }

    /// Waits until a stage is ready and the makers may ask for deployments to it.
    pub async fn askable(&self, pipeline: &str, stage: &str) -> Result<()> {
        self.world.ready::<pilotage::api::Stage>(stage).await;
        self.world.ready::<pilotage::api::Pipeline>(pipeline).await;
        let start = Instant::now();
        let probe = request(&self.world.host, "probe", pipeline, stage, "none", "1.0.0")?;
        let api: Api<DeploymentRequest> = Api::namespaced(self.dana.clone(), &self.world.host);
        // The generated binding takes effect a moment after it is written.
        while let Err(error) = api.create(&PostParams { dry_run: true, ..PostParams::default() }, &probe).await {
            ensure!(start.elapsed() < Duration::from_secs(30), "dana may not ask for a deployment to {stage}: {error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Makes a request of the pipeline `standard`, as dana.
    pub async fn ask(&self, name: &str, pipeline: &str, stage: &str, solution: &str, version: &str) -> Result<()> {
        let request = request(&self.world.host, name, pipeline, stage, solution, version)?;
        Api::<DeploymentRequest>::namespaced(self.dana.clone(), &self.world.host).create(&PostParams::default(), &request).await?;
        Ok(())
    }

    /// Deploys a solution to a stage of the pipeline `standard`, and approves at once.
    pub async fn deploy(&mut self, name: &str, stage: &str, solution: &str, version: &str) -> Result<Run> {
        let asked = Instant::now();
        self.ask(name, "standard", stage, solution, version).await?;
        let opened = self.observer.opened(name).await?;
        approve(if stage == "qa" { &self.bot_qa } else { &self.bot_prod }, &self.world.host, name).await?;
        let decided = Instant::now();
        let ended = self.observer.success(name).await?;
        Ok(Run { took: (opened - asked) + ended.saturating_duration_since(decided) })
    }

    /// Waits until nothing runs any more: neither the records that follow an end, nor Events.
    pub async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    /// Changes a pipeline.
    pub async fn change_pipeline(&self, name: &str, spec: Value) -> Result<()> {
        let api: Api<pilotage::api::Pipeline> = Api::namespaced(self.olga.clone(), &self.world.host);
        api.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await?;
        self.world.ready::<pilotage::api::Pipeline>(name).await;
        Ok(())
    }
}

/// Decides an approval with the delegate's own token.
pub async fn approve(bot: &Client, host: &str, name: &str) -> Result<()> {
    let patch = Patch::Merge(json!({"status": {"approval": {"decision": "Approved", "comments": "measured"}}}));
    Api::<DeploymentRequest>::namespaced(bot.clone(), host).patch_status(name, &PatchParams::default(), &patch).await?;
    Ok(())
}

/// A request.
pub fn request(host: &str, name: &str, pipeline: &str, stage: &str, solution: &str, version: &str) -> Result<DeploymentRequest> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "pilotage.dev/v1alpha1", "kind": "DeploymentRequest", "metadata": {"name": name, "namespace": host},
        "spec": {"pipeline": pipeline, "stage": stage, "solution": {"name": solution, "version": version}},
    }))?)
}
