//! The fixture for faults: one control plane for the tests whose faults happen in proxies, and operators that are started again after a
//! fault has killed them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use pilotage_harness::install::{self, Operator};
use pilotage_harness::{ControlPlane, Kubernetes, Options};

use crate::proxy::Proxy;
use crate::world::World;

/// The operator under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_pilotage");
/// If it makes no call for this long, the operator has done all its work. Its back-off after a first error is shorter.
pub const LULL: Duration = Duration::from_millis(250);

/// Longer than any fault that an operator must survive. Nobody waits for a predecessor's Lease, see [`Fixture::tend`].
pub const LEASE_SECONDS: &str = "60";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A control plane of a test's own, with Pilotage installed and no operator.
pub fn plane() -> ControlPlane {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    install::install(&plane, std::path::Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    plane
}

/// The control plane for faults that do not involve the API server. It ends with this process.
pub fn shared() -> &'static ControlPlane {
    static SHARED: OnceLock<ControlPlane> = OnceLock::new();
    SHARED.get_or_init(plane)
}

/// A bare world on a control plane that others use too. It is not cleaned up: the whole control plane is removed.
pub async fn world(plane: &ControlPlane, name: &str) -> World {
    let mut world = World::on(ControlPlane::attach(plane.dir()).unwrap(), name).await;
    world.keep = true;
    world
}

/// An operator for one world behind a proxy of its own, with a Lease of its own.
pub struct Fixture {
    /// The proxy between it and the API server.
    pub proxy: Arc<Proxy>,
    others: Vec<Arc<Proxy>>,
    operator: Operator,
    kubeconfig: PathBuf,
    log: PathBuf,
    host: String,
    lease: String,
    flags: Vec<(&'static str, String)>,
    again: u32,
}

impl Fixture {
    /// Starts the operator of a world. What shall fail is scripted before, or later.
    pub async fn start(world: &World, prepare: impl FnOnce(&Proxy)) -> Self {
        Self::start_with(world, prepare, Vec::new()).await
    }

    /// The same with additional environment variables.
    pub async fn start_with(world: &World, prepare: impl FnOnce(&Proxy), flags: Vec<(&'static str, String)>) -> Self {
        let plane = &world.plane;
        let proxy = Arc::new(Proxy::start(plane).await);
        prepare(&proxy);
        let kubeconfig = plane.token_kubeconfig(&token(plane), Some(&proxy.url())).unwrap();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let lease = format!("pilotage-{number}");
        let log = plane.dir().join(format!("operator-{number}.log"));
        let operator = start_with(&kubeconfig, &log, &world.host, &format!("{lease}-0"), LEASE_SECONDS, &borrowed(&flags));
        proxy.crashes(operator.pid());
        Self { proxy, others: Vec::new(), operator, kubeconfig, log, host: world.host.clone(), lease, flags, again: 0 }
    }

    /// Lets a proxy to another cluster, or to a registry, kill it too.
    pub fn also_behind(&mut self, proxy: Arc<Proxy>) {
        proxy.crashes(self.operator.pid());
        self.others.push(proxy);
    }

    /// Runs a test's work, and starts the operator again whenever a fault has killed it.
    pub async fn tending<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            // First, because the work may be shorter than the pause.
            self.tend();
            tokio::select! {
                done = &mut work => return done,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    /// Waits until the operator has nothing to do any more. If it was killed, it is started again.
    pub async fn settle(&mut self, world: &World) {
        world
            .until("the operator has nothing to do", async || {
                self.tend();
                // A standby is quiet too, so this checks that it leads.
                (self.leads(world).await && self.proxy.is_quiet(LULL)).then_some(())
            })
            .await;
    }

    async fn leads(&self, world: &World) -> bool {
        let leases: kube::Api<k8s_openapi::api::coordination::v1::Lease> = kube::Api::namespaced(world.admin.clone(), "pilotage-system");
        let lease = leases.get_opt(&format!("{}-{}", self.lease, self.again)).await.ok().flatten();
        lease.and_then(|l| l.spec?.holder_identity).is_some_and(|holder| holder.ends_with(&format!("-{}", self.operator.pid())))
    }

    fn tend(&mut self) {
        if self.operator.runs() {
            return;
        }
        let was_killed = self.proxy.has_crashed() || self.others.iter().any(|proxy| proxy.has_crashed());
        assert!(was_killed, "the operator ended by itself:\n{}", self.tail());
        // A dead operator holds its Lease for a while. A sweep need not wait for that each time, because the next operator uses a Lease of
        // its own.
        self.again += 1;
        let lease = format!("{}-{}", self.lease, self.again);
        self.operator = start_with(&self.kubeconfig, &self.log, &self.host, &lease, LEASE_SECONDS, &borrowed(&self.flags));
        self.proxy.crashes(self.operator.pid());
        self.others.iter().for_each(|proxy| proxy.crashes(self.operator.pid()));
    }

    /// How often it was started again.
    pub fn restarts(&self) -> u32 {
        self.again
    }

    /// The operator's log.
    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of the operator's log.
    pub fn tail(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

/// The operator's token: one for each control plane.
pub fn token(plane: &ControlPlane) -> String {
    static TOKENS: Mutex<BTreeMap<PathBuf, String>> = Mutex::new(BTreeMap::new());
    let mut tokens = TOKENS.lock().unwrap();
    let new = || plane.service_account_token("pilotage-system", "pilotage").unwrap();
    tokens.entry(plane.dir().to_owned()).or_insert_with(new).clone()
}

/// Starts an operator of one host.
pub fn start(kubeconfig: &std::path::Path, log: &std::path::Path, host: &str, lease: &str, lease_seconds: &str) -> Operator {
    start_with(kubeconfig, log, host, lease, lease_seconds, &[])
}

fn borrowed<'a>(flags: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    flags.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

/// The same with additional environment variables.
pub fn start_with(
    kubeconfig: &std::path::Path,
    log: &std::path::Path,
    host: &str,
    lease: &str,
    lease_seconds: &str,
    more: &[(&str, &str)],
) -> Operator {
    let mut env = vec![
        ("PILOTAGE_ADMIN_ADDRESS", "127.0.0.1:0"),
        ("PILOTAGE_HOSTS", host),
        ("PILOTAGE_LEASE_NAME", lease),
        ("PILOTAGE_LEASE_DURATION", lease_seconds),
    ];
    // All control planes of these tests are of the same version.
    env.extend(install::way(!Kubernetes::from_env().unwrap().has_constrained_impersonation()));
    env.extend(more);
    Operator::start(std::path::Path::new(PROGRAM), kubeconfig, log, &env).unwrap()
}
