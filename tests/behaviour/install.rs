//! Follows `docs/install.md` exactly, on a control plane of its own: its commands run, its manifests apply, and a host is ready at the end.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use assert_json_diff::{CompareMode, Config, NumericMode, assert_json_matches_no_panic};
use pilotage_harness::install::Operator;
use pilotage_harness::{ControlPlane, Kubernetes, Options};
use serde_json::Value;

use crate::world::PATIENCE;

/// The blocks of the page: commands, or YAML.
pub fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let mut found = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("```") {
        let (block, after) = after.split_once("```").expect("a block that ends");
        if let Some(text) = format!("```{block}").strip_prefix(&fence) {
            found.push(text.to_owned());
        }
        rest = after;
    }
    found
}

/// The only block with these words.
fn with<'a>(blocks: &'a [String], words: &str) -> &'a str {
    let mut found = blocks.iter().filter(|block| block.contains(words));
    let block = found.next().unwrap_or_else(|| panic!("no block with {words:?}"));
    assert!(found.next().is_none(), "two blocks with {words:?}");
    block
}

/// Runs commands as they are printed, and stops at the first that fails.
fn run(plane: &ControlPlane, commands: &str) -> Result<String, String> {
    let path = format!("{}:{}", plane.bin().display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-euc", commands])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", path)
        .env("KUBECONFIG", plane.admin_kubeconfig())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
    if output.status.success() { Ok(out) } else { Err(format!("{commands}\n{out}{err}")) }
}

/// What the operator answers at a path of its own server: the first and the last line.
pub fn asked(port: u16, path: &str) -> std::io::Result<(String, String)> {
    let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    write!(connection, "GET {path} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let line = |line: Option<&str>| line.unwrap_or_default().to_owned();
    Ok((line(answer.lines().next()), line(answer.lines().last())))
}

/// Rules of the page as a Role of the host, bound to somebody.
fn bound(rules: &str, name: &str, user: &str) -> String {
    format!(
        "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {{name: {name}, namespace: contoso-host}}\n{rules}---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: {name}, namespace: contoso-host}}\n\
         roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}\n\
         subjects: [{{kind: User, apiGroup: rbac.authorization.k8s.io, name: {user}}}]\n"
    )
}

/// Applies the overlay of the page: another image, a component and a patch. Builds those that are for other clusters.
fn apply_overlay(plane: &ControlPlane, overlay: &str, older: &str) {
    let kubectl = plane.kubectl();
    let folder = plane.dir().join("overlay");
    std::fs::create_dir_all(&folder).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_MANIFEST_DIR"), folder.join("pilotage")).unwrap();
    std::fs::write(folder.join("kustomization.yaml"), overlay).unwrap();
    run(plane, &format!("kubectl apply --server-side -k {}", folder.display())).unwrap();
    kubectl.ok(&["get", "networkpolicy", "pilotage", "-n", "pilotage-system"]).unwrap();
    let pod = kubectl.json(&["get", "deployment", "pilotage", "-n", "pilotage-system"]).unwrap()["spec"]["template"]["spec"].take();
    assert_eq!(pod["containers"][0]["image"], "registry.contoso.test/pilotage:0.1.0");
    assert!(pod["containers"][0]["env"].to_string().contains("contoso-host,fabrikam-host"), "{pod}");
    let built = |overlay: &str| {
        std::fs::write(folder.join("kustomization.yaml"), overlay).unwrap();
        run(plane, &format!("kubectl kustomize {}", folder.display())).unwrap()
    };
    assert!(built(&overlay.replace("network-policy", "prometheus")).contains("kind: PodMonitor"));
    let older = built(older);
    for there in ["name: PILOTAGE_DELEGATION", "name: pilotage-lent-token\n", "https://oidc.contoso.test/cluster-1"] {
        assert!(older.contains(there), "{there}");
    }
    assert!(!older.contains("kind: MutatingAdmissionPolicy"));
}

#[test]
fn the_page_on_installing_does_what_it_says() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md")).unwrap();
    let (commands, manifests) = (blocks(&page, ""), blocks(&page, "yaml"));
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let kubectl = plane.kubectl();
    let installing = with(&commands, "rollout status");
    run(&plane, installing).unwrap();
    // The Deployment's pods are on nodes that only pretend to run them.
    let kubeconfig = plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap();
    let log = plane.dir().join("operator.log");
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let program = Path::new(env!("CARGO_BIN_EXE_pilotage"));
    let operator = Operator::start(program, &kubeconfig, &log, &[("PILOTAGE_ADMIN_ADDRESS", &address)]).unwrap();
    let is_ready = || asked(port, "/readyz").is_ok_and(|(status, _)| status.ends_with("200 OK"));
    pilotage_harness::process::wait_until("the operator is ready", PATIENCE, is_ready).unwrap();
    // Whoever waited for that can write Stages and requests at once. The policies know both, and judge them.
    let stage = "kubectl create --dry-run=server -o name -f - <<< '{\"apiVersion\": \"pilotage.dev/v1alpha1\", \"kind\": \"Stage\", \
        \"metadata\": {\"name\": \"first\", \"namespace\": \"default\"}, \"spec\": {\"pipeline\": \"first\", \"targetEnvironment\": \"first\", \"owner\": {\"username\": \"forged\"}}}'";
    let refused = run(&plane, stage).unwrap_err();
    assert!(refused.contains("ValidatingAdmissionPolicy 'pilotage-stage'"), "{refused}");

    // The same again changes nothing.
    run(&plane, "kubectl diff --server-side -k deploy").unwrap();

    for namespace in ["contoso-dev", "contoso-qa"] {
        kubectl.ok(&["create", "namespace", namespace]).unwrap();
    }
    let is_manifest = |block: &&String| block.contains("apiVersion: ") && !block.contains("kind: Kustomization");
    let whole: Vec<&String> = manifests.iter().filter(is_manifest).collect();
    assert_eq!(whole.len(), 7, "host, development, its Events, three grants of a target, delegate");
    for manifest in whole {
        kubectl.apply(manifest).unwrap();
    }
    for (verb, user) in [("# use:", "olga"), ("# delegate:", "olga"), ("# approve:", "eve")] {
        let name = format!("{user}-{}", verb.trim_matches(['#', ' ', ':']));
        kubectl.apply(&bound(with(&manifests, verb), &name, user)).unwrap();
    }
    assert_eq!(run(&plane, with(&commands, "auth can-i")).unwrap().matches("yes").count(), 2);
    kubectl.ok(&["create", "secret", "generic", "qa-orders-db", "-n", "contoso-qa", "--from-literal=password=canary"]).unwrap();
    run(&plane, with(&commands, "kubectl label secret")).unwrap();

    // After what was done by hand, QA is ready. The example creates production.
    let ready = |kind: &str, name: &str| {
        let wait = format!("--timeout={}s", PATIENCE.as_secs());
        kubectl.ok(&["wait", &format!("{kind}/{name}"), "-n", "contoso-host", "--for=condition=Ready", &wait]).unwrap()
    };
    let pipeline = "kubectl apply --server-side --as=olga -f examples/contoso/pipeline.yaml";
    run(&plane, pipeline).unwrap();
    ready("stage", "standard-qa");
    let then = with(&commands, "platform.yaml");
    assert!(then.contains(pipeline), "{then}");
    assert!(run(&plane, then).unwrap().contains("standard-prod"));
    ready("stage", "standard-prod");
    ready("pipeline", "contoso-standard");

    // An administrator with system:masters does not count as the owner of anything.
    let root = plane.kubectl_as(&plane.user_kubeconfig("root", &["system:masters"]).unwrap());
    kubectl.ok(&["delete", "stage", "standard-prod", "-n", "contoso-host"]).unwrap();
    root.ok(&["apply", "--server-side", "--force-conflicts", "-f", "examples/contoso/pipeline.yaml"]).unwrap();
    let reason = "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=NotOwnerOfServicePrincipal";
    kubectl.ok(&["wait", "stage/standard-prod", "-n", "contoso-host", reason, "--timeout=60s"]).unwrap();

    let older = format!("{}{}", with(&manifests, "components/older-kubernetes"), with(&manifests, "name: pilotage-audiences"));
    apply_overlay(&plane, with(&manifests, "components/network-policy"), &older);

    // A registry for large artifacts, with its credentials mounted. An upgrade keeps this.
    let folder = plane.dir().join("artifact-store");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("artifact-store.yaml"), with(&manifests, "# artifact-store.yaml")).unwrap();
    run(&plane, &format!("cd {}\n{}", folder.display(), with(&commands, "create secret docker-registry"))).unwrap();

    // An upgrade applies the same again.
    let again = run(&plane, installing).unwrap();
    assert!(again.contains("customresourcedefinition.apiextensions.k8s.io/pipelines.pilotage.dev serverside-applied"), "{again}");
    ready("stage", "standard-qa");
    let pod = kubectl.json(&["get", "deployment", "pilotage", "-n", "pilotage-system"]).unwrap()["spec"]["template"]["spec"].take();
    let (flags, mounts) = (pod["containers"][0]["env"].to_string(), pod["containers"][0]["volumeMounts"].to_string());
    assert!(flags.contains("oci://registry.contoso.test/pilotage") && flags.contains("PILOTAGE_ADMIN_ADDRESS"), "{flags}");
    assert!(mounts.contains("/var/run/artifact-store") && pod["volumes"].to_string().contains("pilotage-artifact-store"), "{pod}");

    // A policy that somebody changed, and one that was deleted, are restored as the page says. Then the same is applied as usual.
    let change = r#"[{"op": "add", "path": "/spec/matchConditions/-", "value": {"name": "never", "expression": "false"}}]"#;
    kubectl.ok(&["patch", "validatingadmissionpolicy", "pilotage-stage", "--type=json", "-p", change]).unwrap();
    kubectl.ok(&["delete", "validatingadmissionpolicybinding", "pilotage-status"]).unwrap();
    let missing = "--for=jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}=PoliciesMissing";
    kubectl.ok(&["wait", "stage/standard-qa", "-n", "contoso-host", missing, "--timeout=60s"]).unwrap();
    run(&plane, with(&commands, "kubectl replace -f deploy/admission/")).unwrap();
    ready("stage", "standard-qa");
    run(&plane, "kubectl apply --server-side -f deploy/admission/").unwrap();
    // Somebody who did more than the page says is not stuck either.
    run(&plane, "kubectl replace --force -f deploy/admission/").unwrap();
    run(&plane, "kubectl apply --server-side -f deploy/admission/").unwrap();

    // A cluster with Pilotage can also be a remote cluster. What that needs removes nothing.
    run(&plane, "kubectl apply --server-side -f deploy/remote/").unwrap();
    let offers = kubectl.json(&["get", "clusterrole", "pilotage-aggregate-to-admin"]).unwrap()["rules"].to_string();
    assert!(offers.contains("develop") && offers.contains("manage"), "{offers}");
    // Its token is deleted with the account.
    kubectl.ok(&["delete", "--ignore-not-found", "-f", "deploy/remote/"]).unwrap();

    let end = with(&commands, "confirm-delete");
    let unconfirmed = end.lines().find(|line| line.starts_with("kubectl delete namespace")).unwrap();
    assert!(run(&plane, unconfirmed).unwrap_err().contains("holds pipeline contoso-standard"));
    run(&plane, end).unwrap();

    // It is removed while there is a host with everything in it.
    kubectl.ok(&["apply", "--server-side", "-f", "examples/contoso/platform.yaml"]).unwrap();
    run(&plane, pipeline).unwrap();
    ready("pipeline", "contoso-standard");
    operator.stop().unwrap();
    run(&plane, with(&commands, "kubectl delete -f crds/")).unwrap();
    let kinds = "crds,clusterroles,clusterrolebindings,validatingadmissionpolicies,mutatingadmissionpolicies,namespaces,roles,rolebindings";
    let left = kubectl.ok(&["get", kinds, "-A", "-o", "name"]).unwrap();
    let ours: Vec<&str> = left.lines().filter(|line| line.contains("pilotage")).collect();
    assert!(ours.iter().all(|line| line.starts_with("role")), "only what was made for hosts and targets by hand is left: {ours:?}");
    let shared = ["get", "roles,rolebindings", "-A", "-l", "app.kubernetes.io/managed-by=pilotage", "-o", "name"];
    let gone = || kubectl.ok(&shared).unwrap().is_empty();
    pilotage_harness::process::wait_until("what sharing made goes with its pipeline", PATIENCE, gone).unwrap();
}

/// Whether an object is among others, under its kind and name, and just as it is there.
pub fn same(others: &[Value], object: &Value) -> Result<(), String> {
    let name = |object: &Value| (object["kind"].clone(), object["metadata"]["name"].clone());
    let other = others.iter().find(|other| name(other) == name(object)).ok_or_else(|| format!("{:?} is missing", name(object)))?;
    // 1 and 1.0 are one number.
    let strict = Config::new(CompareMode::Strict).numeric_mode(NumericMode::AssumeFloat);
    assert_json_matches_no_panic(other, object, strict).map_err(|how| format!("{:?}: {how}", name(object)))
}

#[test]
fn kustomize_builds_what_the_files_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binaries = pilotage_harness::binaries::binaries(&Kubernetes::developed_on().unwrap()).unwrap();
    let kubectl = &binaries.argv("kubectl")[0];
    let output = Command::new(kubectl).args(["kustomize", "deploy"]).current_dir(root).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let built: Vec<Value> = serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap();
    let mut compared = 0;
    for folder in ["crds", "deploy/admission", "deploy/operator", "deploy/roles"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|end| end != "yaml") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            for object in serde_saphyr::from_multiple::<Value>(&text).unwrap().into_iter().filter(|object| !object.is_null()) {
                // It writes YAML anew, and doubles line breaks of some folded texts (`>-`). A policy that is not as installed is not in force.
                same(&built, &object).unwrap_or_else(|how| panic!("kustomize changes what is in {}: {how}", path.display()));
                compared += 1;
            }
        }
    }
    assert!(compared > 80, "{compared}");
}
