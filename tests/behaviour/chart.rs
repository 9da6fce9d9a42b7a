//! The chart installs what `deploy/` holds, with the real Helm, on a control plane of its own: it is installed, upgraded, rolled back and
//! uninstalled.

use std::path::{Path, PathBuf};
use std::process::Command;

use pilotage_harness::install::{Operator, built_for_older};
use pilotage_harness::{ControlPlane, Kubectl, Options, binaries};
use serde_json::{Value, json};

use crate::install::{asked, same};
use crate::world::PATIENCE;

/// Helm, with folders of its own.
struct Helm {
    program: PathBuf,
    dir: PathBuf,
    kubeconfig: PathBuf,
}

impl Helm {
    fn run(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new(&self.program)
            .args(args)
            .current_dir(root())
            .env("HELM_CACHE_HOME", self.dir.join("cache"))
            .env("HELM_CONFIG_HOME", self.dir.join("config"))
            .env("HELM_DATA_HOME", self.dir.join("data"))
            .env("KUBECONFIG", &self.kubeconfig)
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
        if output.status.success() { Ok(out) } else { Err(format!("helm {args:?}\n{out}{err}")) }
    }

    /// Packs a chart's folder.
    fn package(&self, chart: &Path) -> String {
        let said = self.run(&["package", &chart.to_string_lossy(), "--destination", &self.dir.to_string_lossy()]).unwrap();
        said.trim().rsplit_once(": ").expect("where it is").1.to_owned()
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn objects(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple::<Value>(yaml).unwrap().into_iter().filter(|object| !object.is_null()).collect()
}

/// The chart of a later version, whose kinds have one more category.
fn next_version(dir: &Path) -> PathBuf {
    let next = dir.join("next");
    let copied = Command::new("cp").args(["-rL", "deploy/chart"]).arg(&next).current_dir(root()).status().unwrap();
    assert!(copied.success());
    for (file, from, to) in [
        ("Chart.yaml", "version: 0.1.0", "version: 0.2.0"),
        ("files/crds/stages.yaml", "    - pilotage\n", "    - pilotage\n    - promotions\n"),
    ] {
        let text = std::fs::read_to_string(next.join(file)).unwrap();
        assert!(text.contains(from), "{file}");
        std::fs::write(next.join(file), text.replacen(from, to, 1)).unwrap();
    }
    next
}

fn categories(kubectl: &Kubectl) -> Value {
    kubectl.json(&["get", "crd", "stages.pilotage.dev"]).unwrap()["spec"]["names"]["categories"].take()
}

fn replicas(kubectl: &Kubectl) -> Value {
    kubectl.json(&["get", "deployment", "pilotage", "-n", "pilotage-system"]).unwrap()["spec"]["replicas"].take()
}

/// Helm's namespace, which all commands name.
const THERE: [&str; 2] = ["--namespace", "pilotage-system"];

#[test]
fn the_chart_installs_upgrades_rolls_back_and_leaves_the_kinds() {
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let kubectl = plane.kubectl();
    let helm = Helm { program: binaries::helm().unwrap(), dir: plane.dir().join("helm"), kubeconfig: plane.admin_kubeconfig() };
    std::fs::create_dir_all(&helm.dir).unwrap();
    let chart = helm.package(&root().join("deploy/chart"));
    let there = |args: &[&str]| helm.run(&[args, &THERE].concat());
    there(&["lint", "--strict", &chart]).unwrap();

    // With the values that it comes with it is what kustomize builds, but for the namespace, which is Helm's to create.
    let built = objects(&kubectl.ok(&["kustomize", &root().join("deploy").to_string_lossy()]).unwrap());
    let mut rendered = objects(&there(&["template", "pilotage", &chart]).unwrap());
    for object in &mut rendered {
        if object["kind"] == "CustomResourceDefinition" {
            let annotations = object["metadata"].as_object_mut().unwrap().remove("annotations").unwrap();
            assert_eq!(annotations, json!({"helm.sh/resource-policy": "keep"}));
        }
        same(&built, object).unwrap_or_else(|how| panic!("the chart has something else than deploy/: {how}"));
    }
    assert_eq!(rendered.len() + 1, built.len());

    // For older versions it is what kustomize builds with the component.
    let older = there(&["template", "pilotage", &chart, "--set", "olderKubernetes.enabled=true", "--kube-version", "1.33.0"]).unwrap();
    let mut rendered = objects(&older);
    let built = built_for_older(&kubectl, root()).unwrap();
    for object in &mut rendered {
        if object["kind"] == "CustomResourceDefinition" {
            object["metadata"].as_object_mut().unwrap().remove("annotations");
        }
        same(&built, object).unwrap_or_else(|how| panic!("the chart has something else than the component: {how}"));
    }
    assert_eq!(rendered.len() + 1, built.len());
    let unsaid = there(&["template", "pilotage", &chart, "--kube-version", "1.35.4"]).unwrap_err();
    assert!(unsaid.contains("set olderKubernetes.enabled"), "{unsaid}");

    // What can't work is refused before anything is installed.
    let elsewhere = helm.run(&["install", "pilotage", &chart, "--namespace", "default"]).unwrap_err();
    assert!(elsewhere.contains("install with --namespace pilotage-system"), "{elsewhere}");
    for (wrong, said) in
        [("replica=1", "'replica' not allowed"), ("image.digest=latest", "/image/digest"), ("hosts={Not_A_Name}", "/hosts/0")]
    {
        let refused = there(&["template", "pilotage", &chart, "--set", wrong]).unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }

    there(&["install", "pilotage", &chart, "--create-namespace", "--wait", "--timeout", "3m"]).unwrap();
    // The Deployment's pods are on nodes that only pretend to run them.
    let kubeconfig = plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let log = plane.dir().join("operator.log");
    let program = Path::new(env!("CARGO_BIN_EXE_pilotage"));
    let operator = Operator::start(program, &kubeconfig, &log, &[("PILOTAGE_ADMIN_ADDRESS", &address)]).unwrap();
    let is_ready = || asked(port, "/readyz").is_ok_and(|(status, _)| status.ends_with("200 OK"));
    pilotage_harness::process::wait_until("the operator is ready", PATIENCE, is_ready).unwrap();
    kubectl.ok(&["apply", "--server-side", "-f", &root().join("examples/contoso/platform.yaml").to_string_lossy()]).unwrap();
    let pipeline = root().join("examples/contoso/pipeline.yaml");
    kubectl.ok(&["apply", "--server-side", "--as=olga", "-f", &pipeline.to_string_lossy()]).unwrap();

    // An upgrade brings the kinds of the new version, and a way back those of the old one.
    let next = helm.package(&next_version(&helm.dir));
    let values = "replicas=3,networkPolicy.enabled=true,hosts={contoso-host,fabrikam-host},artifactStore.url=oci://registry.contoso.test/p,\
                  artifactStore.credentialsSecret=registry";
    there(&["upgrade", "pilotage", &next, "--set", values]).unwrap();
    assert_eq!((replicas(&kubectl), categories(&kubectl)), (json!(3), json!(["pilotage", "promotions"])));
    let pod = kubectl.json(&["get", "deployment", "pilotage", "-n", "pilotage-system"]).unwrap()["spec"]["template"]["spec"].take();
    for told in ["contoso-host,fabrikam-host", "oci://registry.contoso.test/p", "/var/run/artifact-store/.dockerconfigjson"] {
        assert!(pod["containers"][0]["env"].to_string().contains(told), "{pod}");
    }
    assert_eq!(pod["volumes"][0]["secret"]["secretName"], "registry");
    kubectl.ok(&["get", "networkpolicy", "pilotage", "-n", "pilotage-system"]).unwrap();
    there(&["rollback", "pilotage", "1"]).unwrap();
    assert_eq!((replicas(&kubectl), categories(&kubectl)), (json!(2), json!(["pilotage"])));
    assert!(kubectl.ok(&["get", "networkpolicies", "-n", "pilotage-system", "-o", "name"]).unwrap().is_empty());
    operator.stop().unwrap();

    // The kinds stay, with every object of them. The release can be installed again on top of them.
    there(&["uninstall", "pilotage"]).unwrap();
    let stages = kubectl.ok(&["get", "stages", "-n", "contoso-host", "-o", "name"]).unwrap();
    assert_eq!(stages.lines().count(), 2, "{stages}");
    let policies = "validatingadmissionpolicies,mutatingadmissionpolicies,deployments";
    assert!(kubectl.ok(&["get", policies, "-n", "pilotage-system", "-o", "name"]).unwrap().is_empty());
    there(&["install", "pilotage", &chart]).unwrap();
}
