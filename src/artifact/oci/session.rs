//! Talks to one registry about one repository, within limits. Credentials are sent only to the hosts that they are for.
//!
//! No proxy is used, and no redirect passes credentials on.

use std::sync::OnceLock;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;

use super::challenge::{self, Challenge};
use super::credentials::Credentials;
use super::error::OciError;
use super::{limits, location};
use crate::api::repository::Repository;
use crate::artifact::bundle::digest;
use crate::egress::{self, Guarded};

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the head of an answer may take.
const ANSWER: Duration = Duration::from_secs(10);
/// How many redirects are followed. Registries redirect blobs to stores of their own.
const REDIRECTS: usize = 3;
/// The most bytes of a token response.
const TOKEN: u64 = 64 * 1024;

/// How a registry is reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    /// The credentials; empty for none.
    pub(crate) credentials: Credentials,
    /// The certificate authority (PEM), in place of the machine's.
    pub(crate) authority: Option<String>,
    /// Whether to use http.
    pub(crate) plain_http: bool,
    /// Who configured this.
    pub(crate) origin: Origin,
}

/// Who configured how a registry is reached. Messages name what must be corrected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An entry of a pipeline.
    #[default]
    Pipeline,
    /// The operator's flags.
    Operator,
}

impl Origin {
    fn authority(self) -> &'static str {
        match self {
            Self::Pipeline => "its certificateAuthority in the pipeline",
            Self::Operator => "the file of --artifact-store-certificate-authority",
        }
    }

    fn credentials(self) -> &'static str {
        match self {
            Self::Pipeline => "the Secret",
            Self::Operator => "the file of --artifact-store-credentials",
        }
    }

    fn without_credentials(self) -> &'static str {
        match self {
            Self::Pipeline => {
                "name a Secret with credentials in credentialsSecretRef of the pipeline's artifactRepositories, or make it public"
            }
            Self::Operator => "give the operator a file with credentials: --artifact-store-credentials",
        }
    }
}

/// What a session may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Read,
    Write,
    Delete,
}

/// Calls to a registry about one repository.
pub(crate) struct Session<'a> {
    client: Client<HttpsConnector<HttpConnector<Guarded>>, Full<Bytes>>,
    repository: &'a Repository,
    access: &'a Access,
    purpose: Purpose,
    /// The authorization for the registry itself, once it asked for one.
    authorization: Option<String>,
}

/// One call.
pub(super) struct Call {
    /// The method.
    pub(super) method: Method,
    /// The `Accept` header, or the type of the body.
    pub(super) media_type: &'static str,
    /// The body.
    pub(super) body: Bytes,
    /// How long the head of the answer may take.
    pub(super) within: Duration,
}

impl Call {
    /// A call without a body.
    pub(super) fn empty(method: Method) -> Self {
        Self { method, media_type: "*/*", body: Bytes::new(), within: ANSWER }
    }

    fn get(accept: &'static str) -> Self {
        Self { media_type: accept, ..Self::empty(Method::GET) }
    }
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl<'a> Session<'a> {
    /// A session that reads the repository. No call is made yet.
    ///
    /// # Errors
    /// If the certificate authority can't be read.
    pub(crate) fn new(repository: &'a Repository, access: &'a Access) -> Result<Self, OciError> {
        Self::with(repository, access, Purpose::Read)
    }

    /// A session that also writes to the repository.
    ///
    /// # Errors
    /// If the certificate authority can't be read.
    pub(crate) fn writing(repository: &'a Repository, access: &'a Access) -> Result<Self, OciError> {
        Self::with(repository, access, Purpose::Write)
    }

    /// A session that deletes from the repository.
    ///
    /// # Errors
    /// If the certificate authority can't be read.
    pub(crate) fn deleting(repository: &'a Repository, access: &'a Access) -> Result<Self, OciError> {
        Self::with(repository, access, Purpose::Delete)
    }

    fn with(repository: &'a Repository, access: &'a Access, purpose: Purpose) -> Result<Self, OciError> {
        let mut http = HttpConnector::new_with_resolver(Guarded::default());
        http.set_connect_timeout(Some(CONNECT));
        http.enforce_http(false);
        let unread = |why: String| OciError::NoAuthority { registry: repository.registry.clone(), why };
        let corrected = "correct it, or leave it out where the machine trusts the registry's certificate";
        let tls = match &access.authority {
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let added = certificate.map_err(|_| ()).and_then(|der| roots.add(der).map_err(|_| ()));
                    added.map_err(|()| unread(format!("{} is not PEM: {corrected}", access.origin.authority())))?;
                }
                if roots.is_empty() {
                    return Err(unread(format!("{} has no certificate: {corrected}", access.origin.authority())));
                }
                ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()
            }
            None if access.plain_http => ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth(),
            None => of_the_machine().ok_or_else(|| {
                unread(format!("the operator's machine has no certificate authorities: install them, or set {}", access.origin.authority()))
            })?,
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(http);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, repository, access, purpose, authorization: None })
    }

    /// The bytes of a manifest, by tag or digest.
    ///
    /// # Errors
    /// If they can't be fetched.
    pub(crate) async fn manifest(&mut self, reference: &str, accept: &'static str) -> Result<Vec<u8>, OciError> {
        let named = self.named(reference);
        let bytes = self.get(&format!("manifests/{reference}"), accept, limits::MANIFEST, "manifest", &named).await?;
        if reference.starts_with("sha256:") {
            same("manifest", reference, &bytes, &named)?;
        }
        Ok(bytes)
    }

    /// The bytes of a blob. Size and digest must match its manifest.
    ///
    /// # Errors
    /// If they can't be fetched, or don't match.
    pub(crate) async fn blob(&mut self, what: &str, expected: &str, size: u64, reference: &str) -> Result<Vec<u8>, OciError> {
        let longer = |error| match error {
            OciError::TooLarge { reference, .. } => {
                let actual = format!("none: it is longer than {size} bytes");
                OciError::DigestMismatch { what: what.to_owned(), reference, expected: expected.to_owned(), actual }
            }
            other => other,
        };
        let bytes = self.get(&format!("blobs/{expected}"), "*/*", size, what, reference).await.map_err(longer)?;
        same(what, expected, &bytes, reference)?;
        Ok(bytes)
    }

    /// The repository with a tag or digest, as messages show it.
    fn named(&self, reference: &str) -> String {
        let between = if reference.starts_with("sha256:") { '@' } else { ':' };
        format!("{}{between}{reference}", self.repository)
    }

    /// The URL of a part of the repository.
    pub(super) fn place(&self, path: &str) -> Result<Uri, OciError> {
        let scheme = if self.access.plain_http { "http" } else { "https" };
        self.uri(&format!("{scheme}://{}/v2/{}/{path}", self.repository.registry, self.repository.path))
    }

    async fn get(&mut self, path: &str, accept: &'static str, most: u64, what: &str, reference: &str) -> Result<Vec<u8>, OciError> {
        let mut uri = self.place(path)?;
        let call = Call::get(accept);
        let mut asked = false;
        let mut redirects = 0;
        loop {
            let own = uri.authority().is_some_and(|a| a.as_str() == self.repository.registry);
            let authorization = self.authorization.as_deref().filter(|_| own);
            let response = self.send(&uri, &call, authorization).await?;
            let status = response.status();
            if status.is_success() {
                if is_web_page(&response) {
                    return Err(self.unwell(format!("answered with a web page in place of the {what}, as what asks people to log in does")));
                }
                return self.body(response, most, what, reference).await;
            }
            if status.is_redirection() {
                redirects += 1;
                uri = self.follow(&response, &uri, redirects)?;
                continue;
            }
            match status {
                StatusCode::UNAUTHORIZED if own && !asked => {
                    asked = true;
                    self.authorize(&response).await?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.unauthorized(status.as_u16())),
                StatusCode::NOT_FOUND => return Err(OciError::NotFound { reference: reference.to_owned() }),
                other => return Err(self.unwell(format!("answered {}", other.as_u16()))),
            }
        }
    }

    /// A call to the registry itself, with the authorization that it requires. No redirect is followed.
    pub(super) async fn call(&mut self, uri: &Uri, call: &Call) -> Result<Response<Incoming>, OciError> {
        let response = self.send(uri, call, self.authorization.as_deref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        self.authorize(&response).await?;
        self.send(uri, call, self.authorization.as_deref()).await
    }

    /// Finds out which authorization to send from now on.
    async fn authorize(&mut self, response: &Response<Incoming>) -> Result<(), OciError> {
        let header = response.headers().get(WWW_AUTHENTICATE).and_then(|h| h.to_str().ok());
        // No password is sent over http, whatever a caller says.
        let login = self.access.credentials.of(&self.repository.registry).filter(|_| !self.access.plain_http);
        let authorization = match header.and_then(challenge::parse) {
            Some(Challenge::Basic) => login.map(super::credentials::Login::basic).ok_or_else(|| self.unauthorized(401))?,
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service.as_deref()).await?,
            None => return Err(self.unauthorized(401)),
        };
        self.authorization = Some(authorization);
        Ok(())
    }

    /// A token for the repository. The registry chooses the host that issues it, so that host gets credentials only if they are for it.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<String, OciError> {
        let actions = match self.purpose {
            Purpose::Read => "pull",
            Purpose::Write => "pull,push",
            Purpose::Delete => "pull,delete",
        };
        let scope = format!("repository:{}:{actions}", self.repository.path);
        let asked = [("scope", Some(scope.as_str())), ("service", service)].into_iter().filter_map(|(key, value)| Some((key, value?)));
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(asked).finish();
        let between = if realm.contains('?') { '&' } else { '?' };
        let uri = self.uri(&format!("{realm}{between}{query}"))?;
        let host = uri.authority().map(ToString::to_string).unwrap_or_default();
        let foreign = |missing: String| OciError::ForeignRealm {
            registry: self.repository.registry.clone(),
            repository: self.repository.to_string(),
            realm: super::error::shown(&host),
            missing,
        };
        let own = host == self.repository.registry;
        let fits = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => self.access.plain_http && own,
            _ => false,
        };
        if !fits || host.contains('@') {
            return Err(foreign("that is no https address".to_owned()));
        }
        let login = self.access.credentials.of(&host).filter(|_| uri.scheme_str() == Some("https"));
        if login.is_none() && !self.access.credentials.is_empty() {
            return Err(foreign(format!(
                "the credentials are not for that host: where it is the registry's, add an entry for {host} to {}",
                self.access.origin.credentials()
            )));
        }
        let response = self.send(&uri, &Call::get("application/json"), login.map(super::credentials::Login::basic).as_deref()).await?;
        let status = response.status();
        match status.as_u16() {
            200 => {}
            401 | 403 => return Err(self.unauthorized(status.as_u16())),
            other => return Err(self.unwell(format!("sends to {host} for a token, which answered {other}"))),
        }
        let bytes = self.body(response, TOKEN, "token", &self.repository.to_string()).await?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let token = token.and_then(|t| t.token.or(t.access_token)).filter(|t| !t.is_empty());
        token.map(|t| format!("Bearer {t}")).ok_or_else(|| self.unwell(format!("sends to {host} for a token, which gave none")))
    }

    fn follow(&self, response: &Response<Incoming>, from: &Uri, count: usize) -> Result<Uri, OciError> {
        let refused = |why: String| OciError::Redirect { registry: self.repository.registry.clone(), why };
        if count > REDIRECTS {
            return Err(refused(format!("there were more than {REDIRECTS}")));
        }
        let uri = location::of(response, from).map_err(|why| refused(format!("the address {why}")))?;
        let own = uri.authority().is_some_and(|a| a.as_str() == self.repository.registry);
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if self.access.plain_http && own => {}
            _ => return Err(refused("it does not lead to https".to_owned())),
        }
        egress::check(&uri).map_err(|why| refused(format!("it {why}")))?;
        Ok(uri)
    }

    fn uri(&self, text: &str) -> Result<Uri, OciError> {
        let uri: Uri = text.parse().map_err(|_| self.unreachable("can't be asked: its address can't be read".to_owned()))?;
        egress::check(&uri).map_err(|why| self.unreachable(why))?;
        Ok(uri)
    }

    async fn send(&self, uri: &Uri, call: &Call, authorization: Option<&str>) -> Result<Response<Incoming>, OciError> {
        let about = if call.body.is_empty() { ACCEPT } else { CONTENT_TYPE };
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(uri)
            .header(about, call.media_type)
            .header(USER_AGENT, concat!("pilotage/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request
            .body(Full::new(call.body.clone()))
            .map_err(|_| self.unreachable("can't be asked: its address can't be read".to_owned()))?;
        match tokio::time::timeout(call.within, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(self.unreachable(format!("can't be reached: {}", root(&error)))),
            Ok(Err(error)) => Err(self.unwell(format!("broke off: {}", root(&error)))),
            // Sending a large body takes as long as the connection needs.
            Err(_) if !call.body.is_empty() => {
                Err(self.unwell(format!("did not take {} bytes within {} seconds", call.body.len(), call.within.as_secs())))
            }
            Err(_) => Err(self.unreachable(format!("did not answer within {} seconds", call.within.as_secs()))),
        }
    }

    pub(super) async fn body(&self, response: Response<Incoming>, most: u64, what: &str, reference: &str) -> Result<Vec<u8>, OciError> {
        let mut bytes = Vec::new();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| self.unwell(format!("broke off: {}", root(&error))))?;
            let Ok(data) = frame.into_data() else { continue };
            bytes.extend_from_slice(&data);
            if bytes.len() as u64 > most {
                let what = format!("the registry sends more than {most} bytes as its {what}");
                return Err(OciError::TooLarge { reference: reference.to_owned(), what });
            }
        }
        Ok(bytes)
    }

    pub(super) fn unreachable(&self, why: String) -> OciError {
        OciError::Unreachable { registry: self.repository.registry.clone(), why }
    }

    pub(crate) fn unwell(&self, why: String) -> OciError {
        OciError::Unwell { registry: self.repository.registry.clone(), why }
    }

    pub(super) fn unauthorized(&self, code: u16) -> OciError {
        let (registry, origin) = (&self.repository.registry, self.access.origin);
        let what = match self.purpose {
            Purpose::Read => "read",
            Purpose::Write => "write to",
            Purpose::Delete => "delete from",
        };
        // The operator needs both rights on its own store, whatever this call wanted.
        let right = match origin {
            Origin::Pipeline => "pull from",
            Origin::Operator if self.purpose == Purpose::Delete => "push to, pull and delete from",
            Origin::Operator => "push to and pull from",
        };
        let nobody = || "anybody without credentials".to_owned();
        let (who, advice) = match self.access.credentials.of(registry) {
            Some(login) => (
                format!("user {}", super::error::shown(&login.username)),
                format!("let that user {right} it, or correct the credentials in {}", origin.credentials()),
            ),
            None if !self.access.credentials.is_empty() => {
                (nobody(), format!("{} has no entry for {registry}: add one", origin.credentials()))
            }
            None => (nobody(), origin.without_credentials().to_owned()),
        };
        OciError::Unauthorized { registry: registry.clone(), who, what, repository: self.repository.to_string(), code, advice }
    }

    pub(super) fn repository(&self) -> &Repository {
        self.repository
    }
}

/// Whether the answer is a web page for people. A registry's content is never one. Something between us and the registry may ask people to
/// log in for a moment; that alters no artifact.
fn is_web_page(response: &Response<Incoming>) -> bool {
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|header| header.to_str().ok()).unwrap_or_default();
    media_type.split(';').next().is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/html"))
}

fn same(what: &str, expected: &str, bytes: &[u8], reference: &str) -> Result<(), OciError> {
    let actual = digest(bytes);
    if actual == expected {
        return Ok(());
    }
    Err(OciError::DigestMismatch { what: what.to_owned(), reference: reference.to_owned(), expected: expected.to_owned(), actual })
}

/// Trusts the authorities that the machine trusts. They are read once: it is many files, or a large one.
fn of_the_machine() -> Option<ClientConfig> {
    static READ: OnceLock<ClientConfig> = OnceLock::new();
    if READ.get().is_none() {
        // If there are none, they may exist later.
        let _ = READ.set(ClientConfig::builder().with_native_roots().ok()?.with_no_client_auth());
    }
    READ.get().cloned()
}

/// The root cause. It is about connections and certificates, and contains nothing that was sent.
fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
