//! Follows `docs/install.md` exactly, on a control plane of its own: its commands run, its manifests apply, and a host is ready at the end.

use std::path::Path;
use std::process::Command;

use pilotage_harness::install::Operator;
use pilotage_harness::{ControlPlane, Options};

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

/// Applies again if the API server answers what the page quotes, and only then.
fn apply_again_while_kinds_are_new(plane: &ControlPlane, commands: &str) {
    let is_applied = || match run(plane, commands) {
        Ok(_) => true,
        Err(answer) => {
            assert!(answer.contains("There can be a delay") && answer.contains("not found"), "{answer}");
            false
        }
    };
    pilotage_harness::process::wait_until("the API server knows the kinds in its policies", PATIENCE, is_applied).unwrap();
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

#[test]
fn the_page_on_installing_does_what_it_says() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md")).unwrap();
    let (commands, manifests) = (blocks(&page, ""), blocks(&page, "yaml"));
    let plane = ControlPlane::start(&Options::default()).unwrap();
    let kubectl = plane.kubectl();
    run(&plane, with(&commands, "rollout status")).unwrap();
    // The Deployment's pods are on nodes that only pretend to run them.
    let kubeconfig = plane.service_account_kubeconfig("pilotage-system", "pilotage").unwrap();
    let log = plane.dir().join("operator.log");
    let operator =
        Operator::start(Path::new(env!("CARGO_BIN_EXE_pilotage")), &kubeconfig, &log, &[("PILOTAGE_ADMIN_ADDRESS", "127.0.0.1:0")])
            .unwrap();

    for namespace in ["contoso-dev", "contoso-qa"] {
        kubectl.ok(&["create", "namespace", namespace]).unwrap();
    }
    let whole: Vec<&String> = manifests.iter().filter(|block| block.contains("apiVersion: ")).collect();
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
    apply_again_while_kinds_are_new(&plane, pipeline);
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

    // A registry for large artifacts, with its credentials mounted. An upgrade keeps this.
    let folder = plane.dir().join("artifact-store");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("artifact-store.yaml"), with(&manifests, "# artifact-store.yaml")).unwrap();
    run(&plane, &format!("cd {}\n{}", folder.display(), with(&commands, "create secret docker-registry"))).unwrap();

    // An upgrade applies the same again.
    let again = run(&plane, with(&commands, "rollout status")).unwrap();
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
