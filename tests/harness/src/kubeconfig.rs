//! Kubeconfig files.

use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::certificates::Identity;

/// How a kubeconfig's user proves who they are.
pub(crate) enum Credential<'a> {
    Certificate(&'a Identity),
    Token(&'a str),
}

/// Writes a kubeconfig with one context.
pub(crate) fn write(path: &Path, server: &str, ca_pem: &str, user: &str, credential: &Credential) -> Result<()> {
    let credential = match credential {
        Credential::Certificate(identity) => format!(
            "client-certificate-data: {}\n    client-key-data: {}",
            STANDARD.encode(&identity.certificate),
            STANDARD.encode(&identity.key)
        ),
        Credential::Token(token) => format!("token: {}", quoted(token)?),
    };
    let user = quoted(user)?;
    let text = format!(
        "apiVersion: v1
kind: Config
clusters:
- name: pilotage
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    {credential}
contexts:
- name: pilotage
  context:
    cluster: pilotage
    user: {user}
current-context: pilotage
",
        server = quoted(server)?,
        ca = STANDARD.encode(ca_pem),
    );
    // In one step, because parallel tests may ask for the same user.
    let new = path.with_extension(format!("{}.new", unique()));
    std::fs::write(&new, text).with_context(|| new.display().to_string())?;
    std::fs::rename(&new, path).with_context(|| path.display().to_string())
}

/// A JSON string is a YAML string, whatever is in it.
fn quoted(text: &str) -> Result<String> {
    Ok(serde_json::to_string(text)?)
}

fn unique() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    u64::from(std::process::id()) << 32 | NEXT.fetch_add(1, Ordering::Relaxed)
}
