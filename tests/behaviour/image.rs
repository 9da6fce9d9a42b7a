//! The image: made without a daemon, pushed to a registry and pulled again, and started as the Deployment says, as far as this is possible
//! without a container engine.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pilotage_harness::registry::Registry;
use pilotage_harness::{ControlPlane, binaries};
use serde_json::Value;

use crate::install::asked;
use crate::world::PATIENCE;

/// Enters the root that is its first argument, read-only, as the second: in a user namespace in which it can do nothing else.
const CONTAINER: &str = r#"mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"
exec setpriv --no-new-privs unshare --user --map-user="$2" --map-group="$2" --root="$1" --wd=/ /usr/bin/pilotage"#;

/// A process that ends with this value.
struct Container(Child);

impl Drop for Container {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn platform() -> &'static str {
    if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" }
}

/// Makes the image of the program that the tests run, and returns its digest.
fn make(out: &Path) -> String {
    let output = Command::new(binaries::release().unwrap())
        .args(["--version", "0.1.0", "--created", "1764547200", "--out"])
        .arg(out)
        .args(["--program", &format!("{}={}", platform(), env!("CARGO_BIN_EXE_pilotage"))])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).unwrap()
}

/// A blob of a layout.
fn blob(layout: &Path, descriptor: &Value) -> PathBuf {
    layout.join("blobs").join(descriptor["digest"].as_str().unwrap().replace(':', "/"))
}

/// Unpacks the only image of a layout, as a container engine does.
fn unpack(layout: &Path, root: &Path) -> Value {
    let manifest = json_of(&blob(layout, &json_of(&layout.join("index.json"))["manifests"][0]));
    std::fs::create_dir_all(root).unwrap();
    for layer in manifest["layers"].as_array().unwrap() {
        let unpacked = Command::new("tar").arg("-xzf").arg(blob(layout, layer)).arg("-C").arg(root).status().unwrap();
        assert!(unpacked.success());
    }
    json_of(&blob(layout, &manifest["config"]))["config"].take()
}

/// What the Deployment says of its pods.
fn deployed() -> Value {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/operator/deployment.yaml")).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    documents[0]["spec"]["template"]["spec"].clone()
}

#[test]
fn the_image_is_the_same_each_time_and_runs_as_the_deployment_says() {
    let plane = ControlPlane::from_env().expect("a control plane: run `make test`");
    let registry = Registry::start(&plane).unwrap();
    let dir = plane.dir().join(format!("image-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let digest = make(&dir.join("one"));
    assert_eq!(digest, make(&dir.join("two")), "two builds, one digest");

    // A registry takes it as it is, with its bill of materials, and gives it back.
    let there = format!("{}/pilotage:0.1.0", registry.host());
    registry.oras(&dir, &["cp", "--no-tty", "-r", "--from-oci-layout", "one:0.1.0", "--to-plain-http", &there]).unwrap();
    assert_eq!(registry.oras(&dir, &["resolve", "--plain-http", &there]).unwrap().trim(), digest);
    let bills = registry.oras(&dir, &["discover", "--plain-http", "--format", "json", &there]).unwrap();
    let bills: Value = serde_json::from_str(&bills).unwrap();
    let bill = &bills["referrers"][0];
    assert_eq!(bill["artifactType"], "application/vnd.cyclonedx+json", "{bills}");
    registry.oras(&dir, &["pull", "--no-tty", "--plain-http", bill["reference"].as_str().unwrap()]).unwrap();
    let bill = json_of(&dir.join(format!("sbom-{}.cdx.json", platform().replace('/', "-"))));
    assert_eq!((&bill["bomFormat"], &bill["metadata"]["component"]["name"]), (&"CycloneDX".into(), &"pilotage".into()));
    let components = bill["components"].to_string();
    assert!(components.contains("pkg:cargo/kube@") && !components.contains("pkg:cargo/proptest@"), "what is linked, and not what tests it");
    let pull = ["cp", "--no-tty", "--platform", platform(), "--from-plain-http", &there, "--to-oci-layout", "pulled:0.1.0"];
    registry.oras(&dir, &pull).unwrap();

    let root = dir.join("root");
    let config = unpack(&dir.join("pulled"), &root);
    let pod = deployed();
    let user = pod["securityContext"]["runAsUser"].to_string();
    assert_eq!(config["User"], format!("{user}:{}", pod["securityContext"]["runAsGroup"]));
    assert_eq!(config["Entrypoint"], serde_json::json!(["/usr/bin/pilotage"]));
    for there in ["usr/share/zoneinfo/Europe/Prague", "usr/share/doc/pilotage/licences", "etc/ssl/certs/ca-certificates.crt"] {
        assert!(root.join(there).exists(), "{there}");
    }

    // What the kubelet mounts: the token of the Deployment's account.
    let account = root.join("var/run/secrets/kubernetes.io/serviceaccount");
    std::fs::create_dir_all(&account).unwrap();
    let token = plane.service_account_token("pilotage-system", "pilotage").unwrap();
    for (name, content) in [("token", token), ("ca.crt", plane.ca_pem().unwrap()), ("namespace", "pilotage-system".to_owned())] {
        std::fs::write(account.join(name), content).unwrap();
    }
    std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o755)).unwrap();
    let container = &pod["containers"][0];
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_, server) = plane.server().rsplit_once('/').unwrap();
    let (host, server_port) = server.split_once(':').unwrap();
    let log = std::fs::File::create(dir.join("operator.log")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-euc", CONTAINER, "sh"]).arg(&root).arg(&user).env_clear();
    for entry in container["env"].as_array().unwrap() {
        command.env(entry["name"].as_str().unwrap(), entry["value"].as_str().unwrap());
    }
    // It leaves the hosts of other tests alone, and the Lease of their operator.
    let none = format!("image-{}", std::process::id());
    let child = command
        .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", server_port)])
        .envs([("PILOTAGE_HOSTS", none.as_str()), ("PILOTAGE_LEASE_NAME", none.as_str())])
        .envs(pilotage_harness::install::way(plane.lends_tokens()).iter().copied())
        .env("PILOTAGE_ADMIN_ADDRESS", format!("127.0.0.1:{port}"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let running = Container(child);
    let said = || std::fs::read_to_string(dir.join("operator.log")).unwrap();
    let is_ready = || asked(port, "/readyz").is_ok_and(|(status, _)| status.ends_with("200 OK"));
    pilotage_harness::process::wait_until("the operator is ready", PATIENCE, is_ready)
        .unwrap_or_else(|error| panic!("{error}: {}", said()));

    let process = Path::new("/proc").join(running.0.id().to_string());
    let status = std::fs::read_to_string(process.join("status")).unwrap();
    for line in ["CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap();
    let its_root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
    assert!(its_root.split(' ').nth(5).unwrap().split(',').any(|option| option == "ro"), "{its_root}");
    assert!(
        container["securityContext"]["readOnlyRootFilesystem"] == true && container["securityContext"]["allowPrivilegeEscalation"] == false
    );
    drop(running);
    std::fs::remove_dir_all(&dir).unwrap();
}
