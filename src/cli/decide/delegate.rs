//! A short token of a delegate, which the API server gives to whoever may ask for it, and to nobody else.

use anyhow::{Context, bail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Resource;
use kube::api::PostParams;
use kube::core::Request;

use crate::api::names;
use crate::cli::connection::Connection;
use crate::cli::exit::Exit;

/// How long the token is valid: the least that the API server grants.
const SECONDS: i64 = 600;

/// A connection as the delegate, with a token that is kept in memory only.
///
/// # Errors
/// If the delegate is no `ServiceAccount`, or the caller may not ask for its token.
pub(super) async fn connection(connection: &Connection, host: &str, delegate: Option<&str>) -> anyhow::Result<Connection> {
    let Some(username) = delegate else { bail!("this gate is not the delegate's: decide it under your own name, without --as-delegate") };
    let Some((namespace, name)) = names::service_account(username).filter(|(namespace, _)| *namespace == host) else {
        bail!("{username}, who decides this gate, is no ServiceAccount of host {host}: there is no token of theirs to ask for")
    };
    let wanted = TokenRequest {
        spec: Some(TokenRequestSpec { expiration_seconds: Some(SECONDS), ..TokenRequestSpec::default() }),
        ..TokenRequest::default()
    };
    let request = Request::new(ServiceAccount::url_path(&(), Some(namespace)))
        .create_subresource("token", name, &PostParams::default(), serde_json::to_vec(&wanted)?)
        .context("asking for a token")?;
    // The answer as text: where an answer can't be parsed, the client would log it, and the token with it.
    let text = match connection.client().request_text(request).await {
        Ok(text) => text,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Err(Exit::NotAllowed.because(format!(
                "you may not act as {name}: you need the verb create on serviceaccounts/token {name} in namespace {namespace} ({})",
                status.message
            )));
        }
        Err(error) => return Err(error).with_context(|| format!("asking for a token of ServiceAccount {namespace}/{name}")),
    };
    // The parser's error may quote the token.
    let answer: Option<TokenRequest> = serde_json::from_str(&text).ok();
    let token = answer.and_then(|answer| answer.status?.token).filter(|token| !token.is_empty());
    connection.with_token(token.context("the API server's answer to the request for a token has none")?)
}
