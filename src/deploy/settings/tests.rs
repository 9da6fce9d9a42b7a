use super::field::segments;
use super::*;
use crate::api::settings::{ConnectionReference, VariableValue};
use crate::cluster::references;

fn objects() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config"}, "data": {"API_URL": "https://dev"}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "empty"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"}, "spec": {"replicas": 1, "template": {"spec": {
            "containers": [{"name": "c", "env": [{"name": "A", "value": "x"}], "envFrom": [{"secretRef": {"name": "dev-db"}}, {"secretRef": {"name": "other"}}]}]}}}}),
    ]
}

fn variable(name: &str, type_: VariableType, target: (Option<&str>, &str, &str, &str)) -> VariableDefinition {
    VariableDefinition {
        name: name.into(),
        description: None,
        type_,
        required: false,
        default: None,
        target: FieldTarget { api_version: target.0.map(Into::into), kind: target.1.into(), name: target.2.into(), path: target.3.into() },
    }
}

fn url() -> VariableDefinition {
    variable("API_URL", VariableType::String, (None, "ConfigMap", "config", "/data/API_URL"))
}

fn replicas() -> VariableDefinition {
    variable("REPLICAS", VariableType::Number, (Some("apps/v1"), "Deployment", "orders", "/spec/replicas"))
}

fn given(values: &[(&str, &str)]) -> DeploymentSettings {
    DeploymentSettings {
        environment_variables: values.iter().map(|(name, value)| VariableValue { name: (*name).into(), value: (*value).into() }).collect(),
        connection_references: Vec::new(),
    }
}

fn connection(name: &str, secret: &str) -> ConnectionReference {
    ConnectionReference { name: name.into(), secret_name: secret.into() }
}

fn declared(name: &str, secret: &str) -> ConnectionDefinition {
    ConnectionDefinition { name: name.into(), secret_name: secret.into(), targets: Vec::new() }
}

fn reasons(result: Result<Resolved, Vec<PlanResult>>) -> Vec<(String, String)> {
    result.unwrap_err().into_iter().map(|r| (r.name, r.reason)).collect()
}

#[test]
fn values_are_set_with_their_type() {
    let resolved = resolve(&objects(), &[url(), replicas()], &[], &given(&[("API_URL", "https://qa"), ("REPLICAS", "3")])).unwrap();
    assert_eq!(resolved.objects[0]["data"]["API_URL"], json!("https://qa"));
    assert_eq!(resolved.objects[2]["spec"]["replicas"], json!(3));
}

#[test]
fn what_an_autoscaler_scales_is_left_to_it() {
    let scaler = |name: &str| {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "scaler"},
               "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}}})
    };
    let with = |name: &str| [objects(), vec![scaler(name)]].concat();
    let settings = given(&[("REPLICAS", "3")]);
    let refused = resolve(&with("orders"), &[replicas()], &[], &settings).unwrap_err();
    assert_eq!((refused.len(), refused[0].reason.as_str()), (1, Reason::SettingTargetForbidden.as_str()));
    assert!(refused[0].message.contains("HorizontalPodAutoscaler scaler scales it"), "{}", refused[0].message);
    assert!(resolve(&with("another"), &[replicas()], &[], &settings).is_ok());
    assert!(resolve(&with("orders"), &[replicas()], &[], &given(&[])).is_ok(), "without a value, nothing is set");
}

#[test]
fn where_only_text_can_stand_a_number_is_text() {
    let in_config = variable("A", VariableType::Number, (Some("v1"), "ConfigMap", "config", "/data/NEW"));
    let in_env =
        variable("B", VariableType::Boolean, (Some("apps/v1"), "Deployment", "orders", "/spec/template/spec/containers/0/env/0/value"));
    let label = variable("C", VariableType::Number, (None, "ConfigMap", "empty", "/metadata/labels/tier"));
    let in_empty = variable("D", VariableType::String, (None, "ConfigMap", "empty", "/data/KEY"));
    let resolved =
        resolve(&objects(), &[in_config, in_env, label, in_empty], &[], &given(&[("A", "5"), ("B", "true"), ("C", "1"), ("D", "d")]))
            .unwrap();
    assert_eq!(resolved.objects[0]["data"]["NEW"], json!("5"));
    assert_eq!(resolved.objects[2]["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"], json!("true"));
    assert_eq!(resolved.objects[1]["metadata"]["labels"]["tier"], json!("1"));
    assert_eq!(resolved.objects[1]["data"]["KEY"], json!("d"));
}

#[test]
fn the_exported_value_stays_where_there_is_none() {
    let resolved = resolve(&objects(), &[url()], &[], &given(&[])).unwrap();
    assert_eq!(resolved.objects, objects());
    let mut with_default = url();
    with_default.default = Some("https://default".into());
    with_default.required = true;
    let resolved = resolve(&objects(), &[with_default], &[], &given(&[])).unwrap();
    assert_eq!(resolved.objects[0]["data"]["API_URL"], json!("https://default"));
}

#[test]
fn every_offence_is_told_at_once_and_no_value_is_repeated() {
    let mut required = url();
    required.required = true;
    let mut no_object = variable("NO_OBJECT", VariableType::String, (None, "ConfigMap", "nowhere", "/data/X"));
    no_object.default = Some("x".into());
    let mut no_path = variable("NO_PATH", VariableType::String, (Some("apps/v1"), "Deployment", "orders", "/spec/strategy/type"));
    no_path.default = Some("Recreate".into());
    let mut identity = variable("NAME", VariableType::String, (None, "ConfigMap", "config", "/metadata/name"));
    identity.default = Some("x".into());
    let result = resolve(
        &objects(),
        &[required, replicas(), no_object, no_path, identity],
        &[declared("db", "dev-db")],
        &DeploymentSettings {
            connection_references: vec![connection("queue", "q")],
            ..given(&[("REPLICAS", "hunter2"), ("TYPO", "hunter2")])
        },
    );
    assert!(result.as_ref().unwrap_err().iter().all(|r| !r.message.contains("hunter2")));
    assert!(result.as_ref().unwrap_err().iter().any(|r| r.message.contains("/spec/strategy,")));
    let expected = [
        ("API_URL", Reason::VariableMissing),
        ("TYPO", Reason::UnknownVariable),
        ("REPLICAS", Reason::WrongType),
        ("NO_OBJECT", Reason::SettingTargetMissing),
        ("NO_PATH", Reason::SettingTargetMissing),
        ("NAME", Reason::SettingTargetForbidden),
        ("db", Reason::ConnectionReferenceMissing),
        ("queue", Reason::UnknownConnectionReference),
    ];
    assert_eq!(reasons(result), expected.map(|(name, reason)| (name.to_owned(), reason.into())));
}

#[test]
fn an_object_of_another_group_is_no_target() {
    let mut definition = replicas();
    definition.target.api_version = None;
    assert_eq!(
        reasons(resolve(&objects(), &[definition], &[], &given(&[("REPLICAS", "1")]))),
        [("REPLICAS".into(), Reason::SettingTargetMissing.into())]
    );
}

#[test]
fn references_point_at_the_targets_secret_and_others_stay() {
    let settings = DeploymentSettings { connection_references: vec![connection("db", "qa-db")], ..DeploymentSettings::default() };
    let resolved = resolve(&objects(), &[], &[declared("db", "dev-db")], &settings).unwrap();
    assert_eq!(references::secrets(&resolved.objects[2]), BTreeSet::from(["qa-db".to_owned(), "other".to_owned()]));
}

#[test]
fn two_references_to_one_secret_must_agree() {
    let settings =
        DeploymentSettings { connection_references: vec![connection("a", "x"), connection("b", "y")], ..DeploymentSettings::default() };
    let connections = [declared("a", "dev-db"), declared("b", "dev-db")];
    assert_eq!(reasons(resolve(&objects(), &[], &connections, &settings)), [("b".into(), Reason::ConnectionReferenceAmbiguous.into())]);
}

#[test]
fn the_digest_covers_defaults_and_not_the_order() {
    let digest =
        |definitions: &[VariableDefinition], values: &[(&str, &str)]| resolve(&objects(), definitions, &[], &given(values)).unwrap().digest;
    let mut with_default = url();
    with_default.default = Some("https://qa".into());
    assert_eq!(digest(&[with_default], &[]), digest(&[url()], &[("API_URL", "https://qa")]));
    assert_eq!(
        digest(&[url(), replicas()], &[("API_URL", "a"), ("REPLICAS", "2")]),
        digest(&[replicas(), url()], &[("REPLICAS", "2"), ("API_URL", "a")])
    );
    assert_ne!(digest(&[url()], &[("API_URL", "a")]), digest(&[url()], &[("API_URL", "b")]));
}

#[test]
fn a_pointer_is_read_as_rfc_6901_says() {
    assert_eq!(segments("/metadata/annotations/a~1b~0c"), Some(vec!["metadata".into(), "annotations".into(), "a/b~c".into()]));
    assert_eq!(segments("data"), None);
    assert_eq!(segments("/a~2"), None);
}

/// One object of each kind that settings go to.
fn landscape() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "config", "annotations": {"a/b": "old"}},
            "data": {"app.properties": "x", "path/to~file": "x"}, "binaryData": {"logo": "AAEC"}}),
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "orders"}, "spec": {"template": {"spec": {
            "initContainers": [{"name": "init", "image": "init:1"}],
            "containers": [
                {"name": "main", "image": "main:1", "args": ["--level", "info"], "env": [{"name": "URL", "value": "x"}]},
                {"name": "sidecar", "image": "sidecar:1"}]}}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"}, "spec": {
            "rules": [{"host": "dev.example.test"}], "tls": [{"hosts": ["dev.example.test"], "secretName": "dev-tls"}]}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "edge"}, "spec": {"ports": [{"name": "http", "port": 80}]}}),
        json!({"apiVersion": "postgresql.cnpg.io/v1", "kind": "Cluster", "metadata": {"name": "main"}, "spec": {
            "instances": 1, "superuserSecret": {"name": "dev-super"}, "bootstrap": {"initdb": {"database": "app"}}}}),
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "report"}, "spec": {"schedule": "0 4 * * *",
            "jobTemplate": {"spec": {"template": {"spec": {"containers": [{"name": "report", "image": "report:1"}]}}}}}}),
    ]
}

#[test]
fn a_value_goes_to_every_kind_of_place() {
    use VariableType::{Boolean, Json, Number, String};
    let (deployment, ingress, service, cluster, cron) = (
        (Some("apps/v1"), "Deployment", "orders"),
        (Some("networking.k8s.io/v1"), "Ingress", "web"),
        (Some("v1"), "Service", "edge"),
        (Some("postgresql.cnpg.io/v1"), "Cluster", "main"),
        (Some("batch/v1"), "CronJob", "report"),
    );
    let config = (None, "ConfigMap", "config");
    let pod = "/spec/template/spec";
    for (type_, object, path, text, place, expected) in [
        (String, config, "/data/app.properties", "a=b", "/data/app.properties", json!("a=b")),
        (String, config, "/data/path~1to~0file", "y", "/data/path~1to~0file", json!("y")),
        (String, config, "/data/no", "yes", "/data/no", json!("yes")),
        (Number, config, "/data/PORT", "8080", "/data/PORT", json!("8080")),
        (Boolean, config, "/data/DEBUG", "true", "/data/DEBUG", json!("true")),
        (Json, config, "/data/flags", "{\"a\": 1}", "/data/flags", json!("{\"a\": 1}")),
        (String, config, "/data/greeting", "přístav ⚓", "/data/greeting", json!("přístav ⚓")),
        (String, config, "/data/empty", "", "/data/empty", json!("")),
        (String, config, "/binaryData/logo", "AAED", "/binaryData/logo", json!("AAED")),
        (String, config, "/metadata/annotations/a~1b", "new", "/metadata/annotations/a~1b", json!("new")),
        (Number, config, "/metadata/labels/tier", "1", "/metadata/labels/tier", json!("1")),
        (Number, deployment, "/spec/replicas", "3", "/spec/replicas", json!(3)),
        (String, deployment, &format!("{pod}/containers/1/image"), "s:2", &format!("{pod}/containers/1/image"), json!("s:2")),
        (String, deployment, &format!("{pod}/containers/main/image"), "m:2", &format!("{pod}/containers/0/image"), json!("m:2")),
        (String, deployment, &format!("{pod}/initContainers/init/image"), "i:2", &format!("{pod}/initContainers/0/image"), json!("i:2")),
        (Number, deployment, &format!("{pod}/containers/main/env/URL/value"), "5", &format!("{pod}/containers/0/env/0/value"), json!("5")),
        (String, deployment, &format!("{pod}/containers/0/args/1"), "debug", &format!("{pod}/containers/0/args/1"), json!("debug")),
        (
            String,
            deployment,
            &format!("{pod}/containers/main/resources/limits/memory"),
            "1Gi",
            &format!("{pod}/containers/0/resources/limits/memory"),
            json!("1Gi"),
        ),
        (String, deployment, &format!("{pod}/nodeSelector/disk"), "ssd", &format!("{pod}/nodeSelector/disk"), json!("ssd")),
        (String, deployment, "/spec/template/metadata/annotations/x~1y", "z", "/spec/template/metadata/annotations/x~1y", json!("z")),
        (
            Json,
            deployment,
            &format!("{pod}/tolerations"),
            "[{\"operator\": \"Exists\"}]",
            &format!("{pod}/tolerations"),
            json!([{"operator": "Exists"}]),
        ),
        (String, ingress, "/spec/rules/0/host", "qa.example.test", "/spec/rules/0/host", json!("qa.example.test")),
        (String, ingress, "/spec/tls/0/hosts/0", "qa.example.test", "/spec/tls/0/hosts/0", json!("qa.example.test")),
        (String, ingress, "/spec/ingressClassName", "internal", "/spec/ingressClassName", json!("internal")),
        (Number, service, "/spec/ports/http/nodePort", "30080", "/spec/ports/0/nodePort", json!(30080)),
        (Number, cluster, "/spec/instances", "3", "/spec/instances", json!(3)),
        (String, cluster, "/spec/bootstrap/initdb/database", "qa", "/spec/bootstrap/initdb/database", json!("qa")),
        (Boolean, cron, "/spec/suspend", "true", "/spec/suspend", json!(true)),
    ] {
        let mut objects = landscape();
        if path.starts_with("/spec/template/metadata") {
            objects[1]["spec"]["template"]["metadata"] = json!({"labels": {"app": "orders"}});
        }
        let definition = variable("V", type_, (object.0, object.1, object.2, path));
        let resolved = resolve(&objects, &[definition], &[], &given(&[("V", text)])).unwrap_or_else(|e| panic!("{path}: {e:?}"));
        let found = resolved.objects.iter().find(|o| o["kind"] == object.1).unwrap();
        assert_eq!(found.pointer(place), Some(&expected), "{path}");
        // And nothing else is touched.
        let untouched = resolved.objects.iter().zip(&objects).filter(|(after, before)| after == before).count();
        assert!(untouched >= objects.len() - 1, "{path}");
    }
}

#[test]
fn a_value_must_be_of_its_type() {
    use VariableType::{Boolean, Json, Number, String};
    for (type_, text, fits) in [
        (String, "anything", true),
        (String, "1e3", true),
        (Number, "3", true),
        (Number, "-1.5", true),
        (Number, "1e3", true),
        (Number, "0o7", false),
        (Number, "three", false),
        (Number, "\"3\"", false),
        (Number, "", false),
        (Number, "NaN", false),
        (Boolean, "true", true),
        (Boolean, "false", true),
        (Boolean, "yes", false),
        (Boolean, "True", false),
        (Boolean, "1", false),
        (Json, "[1, {\"a\": null}]", true),
        (Json, "\"text\"", true),
        (Json, "text", false),
        (Json, "{", false),
    ] {
        let definition = variable("V", type_, (Some("postgresql.cnpg.io/v1"), "Cluster", "main", "/spec/value"));
        let result = resolve(&landscape(), &[definition], &[], &given(&[("V", text)]));
        match result {
            Ok(_) => assert!(fits, "{type_:?} {text:?}"),
            Err(offences) => {
                assert!(!fits, "{type_:?} {text:?}: {offences:?}");
                assert_eq!((offences[0].name.as_str(), offences[0].reason.as_str()), ("V", Reason::WrongType.as_str()));
                assert!(offences[0].message.ends_with("write it as JSON"), "{}", offences[0].message);
            }
        }
    }
}

#[test]
fn what_is_not_there_is_named_up_to_the_first_thing_that_is_missing() {
    for (object, path, parts) in [
        (("apps/v1", "Deployment", "nowhere"), "/spec/replicas", ["Deployment.apps nowhere is not in this version", "raise the version"]),
        (("v1", "Deployment", "orders"), "/spec/replicas", ["Deployment orders is not in this version", "apiVersion"]),
        (("apps/v1", "Deployment", "orders"), "/spec/stratgy/type", ["has no /spec/stratgy,", "correct the path in the Solution"]),
        (
            ("apps/v1", "Deployment", "orders"),
            "/spec/template/spec/containers/2/image",
            ["has no /spec/template/spec/containers/2,", "correct"],
        ),
        (
            ("apps/v1", "Deployment", "orders"),
            "/spec/template/spec/containers/-/image",
            ["has no /spec/template/spec/containers/-,", "correct"],
        ),
        (("apps/v1", "Deployment", "orders"), "/spec/template/spec/containers/nobody/image", ["containers/nobody,", "correct"]),
        (("apps/v1", "Deployment", "orders"), "/spec/template/spec/containers/+1/image", ["containers/+1,", "correct"]),
        (("apps/v1", "Deployment", "orders"), "/spec/template/spec/containers/main/image/tag", ["image/tag,", "correct"]),
        (("v1", "ConfigMap", "config"), "/data~/x", ["is no JSON pointer", "write it as /data/KEY"]),
    ] {
        let definition = variable("V", VariableType::String, (Some(object.0), object.1, object.2, path));
        let offences = resolve(&landscape(), &[definition], &[], &given(&[("V", "canary")])).unwrap_err();
        assert_eq!(offences.len(), 1, "{path}");
        assert_eq!(
            (offences[0].kind.as_str(), offences[0].reason.as_str()),
            ("EnvironmentVariable", Reason::SettingTargetMissing.as_str()),
            "{path}"
        );
        assert!(parts.iter().all(|part| offences[0].message.contains(part)), "{path}: {}", offences[0].message);
        assert!(!offences[0].message.contains("canary"), "{path}");
    }
}

#[test]
fn what_an_object_is_and_whose_can_not_be_set() {
    for path in [
        "/kind",
        "/apiVersion",
        "/metadata/name",
        "/metadata/namespace",
        "/metadata/finalizers/0",
        "/metadata/ownerReferences",
        "/metadata/labels",
        "/metadata/annotations",
        "/metadata/labels/pilotage.dev~1connection",
        "/metadata/labels/applyset.kubernetes.io~1part-of",
        "/metadata/labels/applyset.kubernetes.io~1id",
        "/status/phase",
    ] {
        let definition = variable("V", VariableType::Json, (None, "ConfigMap", "config", path));
        let result = reasons(resolve(&landscape(), &[definition], &[], &given(&[("V", "{}")])));
        assert_eq!(result, [("V".to_owned(), Reason::SettingTargetForbidden.into())], "{path}");
    }
}

#[test]
fn a_connection_reference_reaches_the_fields_that_it_declares() {
    let target = |path: &str| FieldTarget {
        api_version: Some("postgresql.cnpg.io/v1".into()),
        kind: "Cluster".into(),
        name: "main".into(),
        path: path.into(),
    };
    let mut definition = declared("super", "dev-super");
    definition.targets = vec![target("/spec/superuserSecret/name")];
    let settings = DeploymentSettings { connection_references: vec![connection("super", "qa-super")], ..DeploymentSettings::default() };
    let resolved = resolve(&landscape(), &[], std::slice::from_ref(&definition), &settings).unwrap();
    assert_eq!(resolved.objects[4]["spec"]["superuserSecret"]["name"], json!("qa-super"));
    assert_eq!(resolved.connected, BTreeMap::from([("qa-super".to_owned(), "super".to_owned())]));

    definition.targets = vec![target("/spec/nowhere/name")];
    let offences = resolve(&landscape(), &[], &[definition], &settings).unwrap_err();
    assert_eq!((offences[0].kind.as_str(), offences[0].reason.as_str()), ("ConnectionReference", Reason::SettingTargetMissing.as_str()));
    assert!(offences[0].message.contains("Cluster.postgresql.cnpg.io main has no /spec/nowhere,"), "{}", offences[0].message);
}

#[test]
fn a_default_takes_the_same_way_as_a_value() {
    let mut definition = replicas();
    definition.default = Some("three".into());
    assert_eq!(reasons(resolve(&objects(), &[definition], &[], &given(&[]))), [("REPLICAS".into(), Reason::WrongType.into())]);
}
