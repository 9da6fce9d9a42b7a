//! Reads the kubeconfig of a remote cluster field by field. Known fields are used, all others are refused by name. A kubeconfig can start
//! programs, read files and redirect traffic for whoever loads it. Here it can't, because no loader sees it.
//!
//! Not by serde's `deny_unknown_fields`: its messages quote what was read, which may be a credential in the wrong place, and can't say what to
//! write in place of a refused field.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::http::Uri;
use kube::Config;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Map, Value};

/// The most bytes of a kubeconfig that are read.
const MOST_BYTES: usize = 128 * 1024;
/// The most bytes of an address.
const MOST_ADDRESS: usize = 2048;

/// Names and addresses at which cloud machines get credentials.
const METADATA: [&str; 5] = ["metadata", "metadata.google.internal", "metadata.goog", "fd00:ec2::254", "100.100.100.200"];

/// Fields that a cluster may have.
const OF_CLUSTER: [&str; 6] =
    ["server", "certificate-authority-data", "tls-server-name", "insecure-skip-tls-verify", "disable-compression", "extensions"];
/// Fields that a user may have.
const OF_USER: [&str; 4] = ["token", "client-certificate-data", "client-key-data", "extensions"];
/// Fields that a context may have. Its namespace is not used: the Environment names one.
const OF_CONTEXT: [&str; 4] = ["cluster", "user", "namespace", "extensions"];
/// Fields that the file may have.
const OF_FILE: [&str; 8] = ["apiVersion", "kind", "clusters", "users", "contexts", "current-context", "preferences", "extensions"];

/// A kubeconfig reduced to a server, the authority to trust, and the identity to use.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kubeconfig {
    server: Uri,
    authorities: Vec<Vec<u8>>,
    tls_server_name: Option<String>,
    credential: Credential,
}

/// How the kubeconfig's user authenticates. It must not be printed: it derives no `Debug`.
#[derive(Clone, PartialEq, Eq)]
enum Credential {
    Token(String),
    /// Certificate and key, each as base64 of PEM.
    Certificate(String, String),
}

impl Kubeconfig {
    /// Parses a kubeconfig. `loopback` allows a server on the operator's own machine. That is right if the host's own API server runs there
    /// too.
    ///
    /// # Errors
    /// What is wrong and what to do about it, by the names of fields. It contains no value.
    pub(crate) fn parse(bytes: &[u8], loopback: bool) -> Result<Self, String> {
        if bytes.len() > MOST_BYTES {
            return Err(format!(
                "it has {} bytes, and {MOST_BYTES} are the most: leave out what does not belong to this cluster",
                bytes.len()
            ));
        }
        // A parser's error may quote what it read.
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
        let file: Value = serde_saphyr::from_str(text).map_err(|_| "it is no YAML that can be read".to_owned())?;
        let file = file.as_object().ok_or("it is no kubeconfig: a map with clusters, users and contexts is expected")?;
        known(file, &OF_FILE, "it")?;
        let clusters = entries(file, "clusters", "cluster", &OF_CLUSTER)?;
        let users = entries(file, "users", "user", &OF_USER)?;
        let contexts = entries(file, "contexts", "context", &OF_CONTEXT)?;
        let context = match (text_of(file, "current-context", "it")?, contexts.as_slice()) {
            (Some(current), _) => named(&contexts, current, "current-context names a context that")?,
            (None, [(_, only)]) => only,
            (None, []) => return Err("it has no context: write one into contexts, and its name into current-context".into()),
            (None, _) => return Err("it has several contexts and no current-context: set current-context, or leave one context".into()),
        };
        let chosen = |what: &str| text_of(context, what, "the context")?.ok_or(format!("the context names no {what}: set it"));
        let cluster = named(&clusters, chosen("cluster")?, "the context names a cluster that")?;
        let user = named(&users, chosen("user")?, "the context names a user that")?;
        Ok(Self {
            server: server(cluster, loopback)?,
            authorities: authorities(cluster)?,
            tls_server_name: text_of(cluster, "tls-server-name", "the cluster")?.map(str::to_owned),
            credential: credential(user)?,
        })
    }

    /// The configuration of a client, built from these fields only: no environment, no file, no proxy.
    pub(crate) fn config(&self) -> Config {
        let mut config = self.anonymous();
        match &self.credential {
            Credential::Token(token) => config.auth_info.token = Some(token.clone().into()),
            Credential::Certificate(certificate, key) => {
                config.auth_info.client_certificate_data = Some(certificate.clone());
                config.auth_info.client_key_data = Some(key.clone().into());
            }
        }
        config
    }

    /// The same without a credential, for clients with a credential of their own.
    pub(crate) fn anonymous(&self) -> Config {
        let mut config = Config::new(self.server.clone());
        config.root_cert = Some(self.authorities.clone());
        config.tls_server_name.clone_from(&self.tls_server_name);
        config
    }
}

/// An entry of a list: its name and its content.
type Entry<'a> = (&'a str, &'a Map<String, Value>);

/// The entries of a list by their names. Entries with unknown fields are refused.
fn entries<'a>(file: &'a Map<String, Value>, list: &str, kind: &str, fields: &[&str]) -> Result<Vec<Entry<'a>>, String> {
    let all = match file.get(list) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(all)) => all,
        Some(_) => return Err(format!("{list} is no list")),
    };
    all.iter()
        .map(|entry| {
            let entry = entry.as_object().ok_or(format!("{list} has an entry that is no map"))?;
            known(entry, &["name", kind], &format!("an entry of {list}"))?;
            let name = text_of(entry, "name", &format!("an entry of {list}"))?.ok_or(format!("an entry of {list} has no name"))?;
            let body = entry.get(kind).and_then(Value::as_object).ok_or(format!("an entry of {list} has no map called {kind}"))?;
            known(body, fields, &format!("a {kind}"))?;
            Ok((name, body))
        })
        .collect()
}

fn named<'a>(all: &[Entry<'a>], name: &str, what: &str) -> Result<&'a Map<String, Value>, String> {
    let mut found = all.iter().filter(|(known, _)| *known == name);
    match (found.next(), found.next()) {
        (Some((_, body)), None) => Ok(body),
        (Some(_), Some(_)) => Err(format!("{what} is there twice: give each its own name")),
        (None, _) => Err(format!("{what} is not there: correct the name")),
    }
}

fn text_of<'a>(map: &'a Map<String, Value>, field: &str, of: &str) -> Result<Option<&'a str>, String> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{field} of {of} is no text")),
    }
}

/// Refuses all fields but the allowed ones. For well-known fields it says what to use in their place.
fn known(map: &Map<String, Value>, allowed: &[&str], of: &str) -> Result<(), String> {
    let Some(field) = map.keys().find(|field| !allowed.contains(&field.as_str())) else {
        return match map.get("insecure-skip-tls-verify") {
            None | Some(Value::Null | Value::Bool(false)) => Ok(()),
            Some(_) => Err(refused(
                "insecure-skip-tls-verify",
                of,
                "a server that anybody can play is trusted by nobody; take it out and set certificate-authority-data",
            )),
        };
    };
    let instead = match field.as_str() {
        "exec" | "auth-provider" => "it would run a program in the operator; use the token of a ServiceAccount of that cluster",
        "certificate-authority" => "it names a file; write the file's content into certificate-authority-data, in base64",
        "client-certificate" | "client-key" => {
            "it names a file; write the file's content into client-certificate-data and client-key-data, in base64"
        }
        "tokenFile" => "it names a file; write the token into token",
        "proxy-url" => "it would send the traffic elsewhere; the operator's network has to reach the server by itself",
        "as" | "as-uid" | "as-groups" | "as-user-extra" => {
            "it would act as somebody else; let the kubeconfig be of the ServiceAccount that is meant"
        }
        "username" | "password" => "API servers take no passwords; use the token of a ServiceAccount of that cluster",
        _ => "it is not a field that is used here; take it out",
    };
    // A name that doesn't look like a name may be a value in the wrong place.
    let plain = field.len() <= 40 && field.chars().all(|c| c.is_ascii_alphabetic() || c == '-');
    Err(refused(if plain { field } else { "a field whose name is none" }, of, instead))
}

fn refused(field: &str, of: &str, instead: &str) -> String {
    format!("{of} has {field}, which is refused: {instead}")
}

fn server(cluster: &Map<String, Value>, loopback: bool) -> Result<Uri, String> {
    let text = text_of(cluster, "server", "the cluster")?
        .ok_or("the cluster has no server: set it to the address of its API server, as https://…")?;
    let no_address = || "server of the cluster is no address: write it as https://name:port".to_owned();
    if text.len() > MOST_ADDRESS || text.contains(['#', '\\']) {
        return Err(no_address());
    }
    let uri: Uri = text.parse().map_err(|_| no_address())?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") => return Err("server of the cluster is http, by which the token could be read on its way: use https".into()),
        _ => return Err(no_address()),
    }
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else { return Err(no_address()) };
    if authority.as_str().contains('@') {
        return Err(
            "server of the cluster has a user name or password in its address: take them out, and use the token of a ServiceAccount".into(),
        );
    }
    if uri.query().is_some() {
        return Err("server of the cluster has a query in its address: take it out".into());
    }
    reachable(host, loopback)?;
    Ok(uri)
}

/// Refuses addresses that can't be another cluster's: those of the machine itself, link-local ones, and the metadata service of a cloud.
/// Names are not resolved here; a network policy for the operator limits the rest.
fn reachable(host: &str, loopback: bool) -> Result<(), String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    let refused =
        |what: &str| Err(format!("server of the cluster is {what}: write the address by which that cluster is reached from this one"));
    if bare.is_empty() {
        return refused("no name");
    }
    if METADATA.contains(&bare.as_str()) {
        return refused("the metadata service of a cloud, which gives out credentials");
    }
    let last = bare.rsplit('.').next().unwrap_or_default();
    let Ok(address) = bare.parse::<IpAddr>() else {
        // Resolvers also accept 127.1, 2130706433 and 0x7f.1 as addresses.
        if last.starts_with("0x") || last.chars().all(|c| c.is_ascii_digit()) {
            return refused("an address in an unusual spelling");
        }
        let local = bare == "localhost" || bare.ends_with(".localhost");
        return if local && !loopback { refused("the operator's own machine") } else { Ok(()) };
    };
    let address = address.to_canonical();
    let on_link = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_unspecified() || address.is_multicast() || on_link {
        return refused("an address that is no server's, or the metadata service of a cloud");
    }
    if METADATA.contains(&address.to_string().as_str()) {
        return refused("the metadata service of a cloud, which gives out credentials");
    }
    if address.is_loopback() && !loopback {
        return refused("the operator's own machine");
    }
    Ok(())
}

fn authorities(cluster: &Map<String, Value>) -> Result<Vec<Vec<u8>>, String> {
    let data = text_of(cluster, "certificate-authority-data", "the cluster")?
        .ok_or("the cluster has no certificate-authority-data: set it to the cluster's CA certificate (PEM, in base64)")?;
    let wrong = || "certificate-authority-data of the cluster is no PEM certificate in base64: correct it".to_owned();
    let pem = decoded(data).ok_or_else(wrong)?;
    let all: Vec<Vec<u8>> =
        CertificateDer::pem_slice_iter(&pem).map(|der| der.map(|der| der.to_vec())).collect::<Result<_, _>>().map_err(|_| wrong())?;
    if all.is_empty() { Err(wrong()) } else { Ok(all) }
}

fn credential(user: &Map<String, Value>) -> Result<Credential, String> {
    let of = |field: &str| text_of(user, field, "the user");
    match (of("token")?, of("client-certificate-data")?, of("client-key-data")?) {
        (Some(token), None, None) => {
            let token = token.trim();
            if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
                return Err("token of the user is no token: it has characters that no token has".into());
            }
            Ok(Credential::Token(token.to_owned()))
        }
        (None, Some(certificate), Some(key)) => {
            let pem = |data: &str, begin: &str| decoded(data).is_some_and(|d| String::from_utf8_lossy(&d).contains(begin));
            if !pem(certificate, "-----BEGIN CERTIFICATE-----") {
                return Err("client-certificate-data of the user is no PEM certificate in base64: correct it".into());
            }
            if !pem(key, "PRIVATE KEY-----") {
                return Err("client-key-data of the user is no PEM key in base64: correct it".into());
            }
            let compact = |data: &str| data.split_ascii_whitespace().collect::<String>();
            Ok(Credential::Certificate(compact(certificate), compact(key)))
        }
        (None, None, None) => Err("the user has no credential: set token, or client-certificate-data and client-key-data".into()),
        (None, _, _) => Err("the user has one of client-certificate-data and client-key-data without the other: set both, or token".into()),
        (Some(_), _, _) => Err("the user has a token and a client certificate: leave one of them".into()),
    }
}

fn decoded(data: &str) -> Option<Vec<u8>> {
    STANDARD.decode(data.split_ascii_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests;
