//! Which objects are made from files.

use serde_json::json;

use super::*;

fn wanted() -> SolutionVersion {
    SolutionVersion { name: "orders".into(), version: "1.4.0".into() }
}

fn read(files: &[(&str, &str)]) -> Result<Written, OciError> {
    let mut all = Files::of("oci://r/x@sha256:0");
    for (path, text) in files {
        all.take(path, text.as_bytes())?;
    }
    all.finish(&wanted())
}

/// The reason and the message.
fn refusal(files: &[(&str, &str)]) -> (&'static str, String) {
    let error = read(files).unwrap_err();
    (error.reason().as_str(), error.to_string())
}

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: orders}\n";

/// But for keys, which stay the texts that they are written as.
#[test]
fn objects_are_read_as_kubectl_reads_them_and_cleaned_as_an_export_is() {
    let yaml = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: orders\n  namespace: dev\n  uid: x\n  resourceVersion: '1'\n  creationTimestamp: null\n  labels: {app.kubernetes.io/managed-by: Helm, keep: me}\n  annotations:\n    meta.helm.sh/release-name: orders\n    kubectl.kubernetes.io/last-applied-configuration: '{}'\ndata: {on: 'yes', mode: '0644'}\n---\n# nothing\n---\n\
        apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {kustomize.toolkit.fluxcd.io/name: x}}\nspec: {replicas: 1, paused: off, mode: 0644}\nstatus: {replicas: 7}\n";
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}]});
    let written = read(&[("deep/app.yaml", yaml), ("list.json", &list.to_string()), ("README.md", "no: [manifest")]).unwrap();
    assert_eq!(
        written.bundle.objects(),
        [
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "orders", "labels": {"keep": "me"}}, "data": {"on": "yes", "mode": "0644"}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 1, "paused": false, "mode": 420}}),
        ]
    );
    assert!(written.environment_variables.is_empty() && written.connection_references.is_empty() && written.dependencies.is_empty());
}

#[test]
fn the_same_objects_are_the_same_bytes_whatever_the_files() {
    let json = r#"{"kind":"ConfigMap","metadata":{"namespace":"x","name":"orders"},"apiVersion":"v1"}"#;
    let bytes = |files: &[(&str, &str)]| read(files).unwrap().bundle.to_bytes();
    assert_eq!(bytes(&[("a.yaml", MAP)]), bytes(&[("other/b.json", json)]));
}

#[test]
fn a_solution_among_the_files_says_what_may_be_set() {
    let solution = "apiVersion: pilotage.dev/v1alpha1\nkind: Solution\nmetadata: {name: orders}\nspec:\n  version: 1.4.0\n  environmentVariables:\n  - {name: A, target: {kind: ConfigMap, name: orders, path: /data/A}}\n  connectionReferences: [{name: db, secretName: db}]\n  dependencies: [{name: base, version: '>=2.1'}]\n";
    let written = read(&[("solution.yaml", solution), ("a.yaml", MAP)]).unwrap();
    assert_eq!(written.environment_variables[0].name, "A");
    assert_eq!((written.connection_references[0].name.as_str(), written.dependencies[0].name.as_str()), ("db", "base"));
    assert_eq!(written.bundle.objects().len(), 1, "it is not deployed itself");

    let (reason, message) = refusal(&[("s.yaml", &solution.replace("version: 1.4.0", "version: 1.5.0")), ("a.yaml", MAP)]);
    assert_eq!(reason, "SolutionDiffers");
    assert!(message.contains("s.yaml is Solution orders 1.5.0, and the request is for orders 1.4.0"), "{message}");
    assert_eq!(refusal(&[("s.yaml", &solution.replace("name: orders}\n", "name: web}\n"))]).0, "SolutionDiffers");
    assert_eq!(refusal(&[("s.yaml", solution), ("t.yaml", solution)]).0, "SolutionAmbiguous");
    let (reason, message) = refusal(&[("s.yaml", &solution.replace("environmentVariables", "environmentVariable"))]);
    assert!(reason == "SolutionInvalid" && message.contains("the field spec.environmentVariable,"), "{message}");
    let (_, message) = refusal(&[("s.yaml", &solution.replace("secretName: db", "secretName: db, secretname: x"))]);
    assert!(message.contains("spec.connectionReferences[0].secretname"), "{message}");
    assert_eq!(refusal(&[("s.yaml", &solution.replace("secretName: db", "secretName: [db]"))]).0, "SolutionInvalid");
}

#[test]
fn what_an_export_would_not_bring_is_refused_by_name_and_without_its_values() {
    let object = |api: &str, kind: &str, name: &str| {
        format!("apiVersion: {api}\nkind: {kind}\nmetadata: {{name: {name}}}\nstringData: {{a: canary}}\n")
    };
    for (text, reason, words) in [
        (object("v1", "Secret", "db"), "SecretNotAllowed", "b.yaml is Secret db"),
        (object("v1", "Event", "e"), "NeverDeployed", "Event e"),
        (object("pilotage.dev/v1alpha1", "Stage", "prod"), "NeverDeployed", "Stage prod of pilotage.dev/v1alpha1"),
        (object("v1", "ConfigMap", "a/../../b"), "InvalidName", "the ConfigMap in b.yaml"),
        (object("v1", "ConfigMap", "orders"), "Duplicate", "ConfigMap orders is in a.yaml and in b.yaml"),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: x}\n".to_owned(),
            "NotAManifest",
            "b.yaml is no Kubernetes object: it lacks metadata.name",
        ),
        (format!("{MAP}---\n- 1\n"), "NotAManifest", "b.yaml (document 2)"),
        ("a: {b: canary\n".to_owned(), "ManifestUnreadable", "b.yaml is not YAML that can be read (line "),
        ("a: canary\na: canary\n".to_owned(), "ManifestUnreadable", "b.yaml"),
        ("a: !evil canary\n".to_owned(), "ManifestUnreadable", "b.yaml"),
        ("&a [*a, *a]\n".to_owned(), "ManifestUnreadable", "b.yaml"),
    ] {
        let (actual, message) = refusal(&[("a.yaml", MAP), ("b.yaml", &text)]);
        assert_eq!(actual, reason, "{message}");
        assert!(message.contains(words) && !message.contains("canary"), "{words}: {message}");
    }
    for (name, text) in [("x.json", r#"{"a":1,"a":"canary"}"#), ("x.json", "{\"a\":\n canary}"), ("x.json", "")] {
        if text.is_empty() {
            assert_eq!(refusal(&[(name, text)]).0, "NothingToDeploy");
            continue;
        }
        let (reason, message) = refusal(&[(name, text)]);
        assert!(reason == "ManifestUnreadable" && message.contains("x.json is not JSON") && !message.contains("canary"), "{message}");
    }
    assert_eq!(refusal(&[("base/kustomization.yaml", "resources: []")]).0, "NotAManifest");
    assert_eq!(refusal(&[("notes.txt", "x")]).0, "NothingToDeploy");
}

#[test]
fn one_solution_is_for_one_namespace_whatever_its_name() {
    let here =
        |name: &str, namespace: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {namespace}}}\n");
    let written = read(&[("a.yaml", &here("a", "dev")), ("b.yaml", &here("b", "dev")), ("c.yaml", MAP)]).unwrap();
    assert!(written.bundle.objects().iter().all(|o| object::metadata(o, "namespace").is_none()));
    let (reason, message) = refusal(&[("a.yaml", &here("a", "dev")), ("b.yaml", &here("b", "kube-system"))]);
    assert_eq!(reason, "OtherNamespace");
    assert!(message.contains("a.yaml is for namespace dev, and b.yaml for kube-system"), "{message}");
}

#[test]
fn a_laughing_billion_is_not_waited_for() {
    let level = |n: usize| format!("a{n}: &a{n} [{}]", vec![format!("*a{}", n - 1); 9].join(", "));
    let levels: Vec<String> = (1..12).map(level).collect();
    let text = format!("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n{}\n", levels.join("\n"));
    assert_eq!(refusal(&[("a.yaml", &text)]).0, "ManifestUnreadable");
}

#[test]
fn what_is_written_short_and_takes_much_memory_is_left() {
    let dense = |count: usize| {
        format!("{{\"apiVersion\":\"x/v1\",\"kind\":\"X\",\"metadata\":{{\"name\":\"x\"}},\"spec\":[{}0]}}", "0,".repeat(count))
    };
    let (reason, message) = refusal(&[("a.json", &dense(limits::FILE / 2))]);
    assert!(reason == "ArtifactTooLarge" && message.contains("a.json has") && message.contains("of one file"), "{message}");
    let half = dense(limits::VALUES / 2);
    let (reason, message) = refusal(&[("a.json", &half), ("b.json", &half)]);
    assert!(reason == "ArtifactTooLarge" && message.contains("500000 values"), "{message}");
    let flow = format!("a: [{}0]\n", "0,".repeat(limits::VALUES));
    assert!(["ManifestUnreadable", "ArtifactTooLarge"].contains(&refusal(&[("a.yaml", &flow)]).0));
}
