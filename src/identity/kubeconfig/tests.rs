use serde_json::json;

use super::*;

/// A certificate that nobody trusts, made for this test.
const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
const CANARY: &str = "canary-7f3a";

/// A kubeconfig that is taken as it is.
fn good() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "there",
        "clusters": [{"name": "c", "cluster": {"server": "https://eu.example:6443", "certificate-authority-data": STANDARD.encode(PEM)}}],
        "users": [{"name": "u", "user": {"token": CANARY}}],
        "contexts": [{"name": "there", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
    })
}

fn read(file: &Value) -> Result<Kubeconfig, String> {
    Kubeconfig::parse(serde_json::to_string(file).unwrap().as_bytes(), false)
}

/// What is said of a good one with one thing changed.
fn complaint(change: impl FnOnce(&mut Value)) -> String {
    let mut file = good();
    change(&mut file);
    let said = read(&file).err().unwrap_or_else(|| panic!("taken: {file}"));
    assert!(!said.contains(CANARY), "a value is told: {said}");
    said
}

fn with_server(server: &str) -> Value {
    let mut file = good();
    file["clusters"][0]["cluster"]["server"] = server.into();
    file
}

#[test]
fn what_is_needed_is_taken_and_nothing_else_gets_into_a_client() {
    let config = read(&good()).ok().unwrap().config();
    assert_eq!(config.cluster_url.to_string(), "https://eu.example:6443/");
    assert_eq!(config.root_cert.as_ref().map(Vec::len), Some(1));
    assert!(config.auth_info.token.is_some() && config.proxy_url.is_none() && !config.accept_invalid_certs);
    assert!(config.root_cert_file.is_none() && config.auth_info.exec.is_none() && config.auth_info.token_file.is_none());
    let mut file = good();
    file["users"][0]["user"] = json!({
        "client-certificate-data": STANDARD.encode(PEM),
        "client-key-data": STANDARD.encode("-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n"),
    });
    file["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes".into();
    file["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = false.into();
    let config = read(&file).ok().unwrap().config();
    assert!(config.auth_info.client_key_data.is_some() && config.auth_info.token.is_none());
    assert_eq!(config.tls_server_name.as_deref(), Some("kubernetes"));
    assert!(read(&file).ok().unwrap().anonymous().auth_info.client_key_data.is_none());
}

#[test]
fn what_runs_programs_reads_files_or_leads_elsewhere_is_refused_by_name() {
    let user = [
        ("exec", json!({"command": CANARY}), "run a program"),
        ("auth-provider", json!({"name": CANARY}), "run a program"),
        ("tokenFile", json!(CANARY), "names a file"),
        ("client-certificate", json!(CANARY), "names a file"),
        ("client-key", json!(CANARY), "names a file"),
        ("username", json!(CANARY), "no passwords"),
        ("password", json!(CANARY), "no passwords"),
        ("as", json!(CANARY), "somebody else"),
        ("as-uid", json!(CANARY), "somebody else"),
        ("as-groups", json!([CANARY]), "somebody else"),
        ("as-user-extra", json!({"a": [CANARY]}), "somebody else"),
        ("act-as", json!(CANARY), "not a field"),
    ];
    for (field, value, why) in user {
        let said = complaint(|file| file["users"][0]["user"][field] = value);
        assert!(said.contains(&format!("a user has {field}, which is refused")) && said.contains(why), "{said}");
    }
    let cluster = [
        ("certificate-authority", json!(CANARY), "names a file"),
        ("proxy-url", json!(CANARY), "elsewhere"),
        ("insecure-skip-tls-verify", json!(true), "trusted by nobody"),
        ("insecure-skip-tls-verify", json!("false"), "trusted by nobody"),
    ];
    for (field, value, why) in cluster {
        let said = complaint(|file| file["clusters"][0]["cluster"][field] = value);
        assert!(said.contains(&format!("a cluster has {field}, which is refused")) && said.contains(why), "{said}");
    }
    // Also where the context does not lead to it.
    let said = complaint(|file| {
        file["users"].as_array_mut().unwrap().push(json!({"name": "v", "user": {"exec": {"command": CANARY}}}));
    });
    assert!(said.contains("a user has exec"), "{said}");
    // A value in the place of a name is not told.
    let said = complaint(|file| file["users"][0]["user"]["canary-7f3a-with.dots"] = "x".into());
    assert!(said.contains("a field whose name is none"), "{said}");
}

#[test]
fn one_context_is_meant_and_all_that_it_names_is_there_once() {
    type Change = fn(&mut Value);
    let cases: [(&str, Change); 11] = [
        ("several contexts and no current-context", |f| {
            f["current-context"] = Value::Null;
            f["contexts"].as_array_mut().unwrap().push(json!({"name": "b", "context": {"cluster": "c", "user": "u"}}));
        }),
        ("no context", |f| {
            f["current-context"] = Value::Null;
            f["contexts"] = json!([]);
        }),
        ("current-context names a context that is not there", |f| f["current-context"] = "x".into()),
        ("the context names a cluster that is not there", |f| f["contexts"][0]["context"]["cluster"] = "x".into()),
        ("the context names a user that is not there", |f| f["contexts"][0]["context"]["user"] = "x".into()),
        ("the context names no user", |f| f["contexts"][0]["context"]["user"] = Value::Null),
        ("a user that is there twice", |f| {
            let twin = f["users"][0].clone();
            f["users"].as_array_mut().unwrap().push(twin);
        }),
        ("no certificate-authority-data", |f| f["clusters"][0]["cluster"]["certificate-authority-data"] = Value::Null),
        ("is no PEM certificate", |f| f["clusters"][0]["cluster"]["certificate-authority-data"] = "canary-7f3a".into()),
        ("no credential", |f| f["users"][0]["user"] = json!({})),
        ("without the other", |f| f["users"][0]["user"] = json!({"client-key-data": "canary-7f3a"})),
    ];
    for (expected, change) in cases {
        let said = complaint(change);
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let mut only = good();
    only["current-context"] = Value::Null;
    assert!(read(&only).is_ok(), "one context is the one that is meant");
}

#[test]
fn what_is_no_kubeconfig_is_refused_without_being_quoted() {
    for text in ["", "canary-7f3a", "- canary-7f3a", "{canary-7f3a", "a: &a [*a, *a]", "users: canary-7f3a", "users: [canary-7f3a]"] {
        let said = Kubeconfig::parse(text.as_bytes(), false).err().unwrap();
        assert!(!said.contains(CANARY), "{text}: {said}");
    }
    assert!(Kubeconfig::parse(&[0xff, 0xfe], false).is_err_and(|said| said.contains("no text")));
    assert!(Kubeconfig::parse(&vec![b' '; MOST_BYTES + 1], false).is_err_and(|said| said.contains("the most")));
    let said = complaint(|file| file["users"][0]["user"]["token"] = "canary-7f3a\r\nX-Evil: 1".into());
    assert!(said.contains("token of the user"), "{said}");
}

#[test]
fn a_server_is_an_https_address_of_another_machine() {
    for taken in ["https://eu.example", "https://eu.example:6443/k8s/clusters/c-1", "https://10.0.0.1:443", "https://[fd00::1]:6443"] {
        assert!(read(&with_server(taken)).is_ok(), "{taken}");
    }
    let cases = [
        ("http://eu.example", "use https"),
        ("eu.example:6443", "no address"),
        ("file:///etc/passwd", "no address"),
        ("https://", "no address"),
        ("https://dana:canary-7f3a@eu.example", "user name or password"),
        ("https://eu.example/?token=canary-7f3a", "query"),
        ("https://169.254.169.254", "metadata"),
        ("https://[::ffff:169.254.169.254]", "metadata"),
        ("https://[fe80::1]:6443", "no server's"),
        ("https://[fd00:ec2::254]", "metadata"),
        ("https://metadata.google.internal.", "metadata"),
        ("https://0.0.0.0:6443", "no server's"),
        ("https://127.0.0.1:6443", "own machine"),
        ("https://[::1]:6443", "own machine"),
        ("https://localhost:6443", "own machine"),
        ("https://127.1", "unusual spelling"),
        ("https://2130706433", "unusual spelling"),
        ("https://0x7f.0x1", "unusual spelling"),
    ];
    for (server, expected) in cases {
        let said = read(&with_server(server)).err().unwrap_or_else(|| panic!("taken: {server}"));
        assert!(said.contains(expected) && !said.contains(CANARY), "{server}: {said}");
    }
    let local = serde_json::to_string(&with_server("https://127.0.0.1:6443")).unwrap();
    assert!(Kubeconfig::parse(local.as_bytes(), true).is_ok(), "where the host's own API server is on loopback too");
}
