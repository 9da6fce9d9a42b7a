//! Writes to a repository: first whole blobs, each under its digest, then the manifest that names them. Deletes manifests.

use std::time::Duration;

use hyper::body::{Bytes, Incoming};
use hyper::{Method, Response, StatusCode, Uri};

use super::error::OciError;
use super::session::{Call, Session};
use super::{location, manifest};
use crate::api::reason::Reason;

/// How long the registry may take to receive something and to answer.
const RECEIVE: Duration = Duration::from_secs(45);
/// The most bytes of a refusal that are read.
const REFUSAL: u64 = 16 * 1024;

impl Session<'_> {
    /// Stores a blob if it is not there yet.
    ///
    /// # Errors
    /// If it can't be stored.
    pub(crate) async fn put_blob(&mut self, what: &str, digest: &str, bytes: Bytes) -> Result<(), OciError> {
        if self.has_blob(digest).await? {
            return Ok(());
        }
        let what = format!("its {what} ({} bytes)", bytes.len());
        let begin = self.place("blobs/uploads/")?;
        let response = self.call(&begin, &Call::empty(Method::POST)).await?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.not_taken(response, what).await);
        }
        let uri = with_digest(&self.upload(&response, &begin)?, digest);
        let uri = uri.ok_or_else(|| self.unwell("answered with an upload's address that can't be read".to_owned()))?;
        let put = Call { method: Method::PUT, media_type: "application/octet-stream", body: bytes, within: RECEIVE };
        self.created(&uri, &put, what).await
    }

    /// Stores a manifest under its digest, and checks that it is there.
    ///
    /// # Errors
    /// If it can't be stored.
    pub(crate) async fn put_manifest(&mut self, digest: &str, bytes: Bytes) -> Result<(), OciError> {
        if self.has_manifest(digest).await? {
            return Ok(());
        }
        self.manifest_to(digest, bytes, "its manifest".to_owned()).await?;
        if self.has_manifest(digest).await? {
            return Ok(());
        }
        Err(self.unwell(format!("took a manifest, and does not have it under its digest {digest}")))
    }

    /// The upload URL of a blob, which the registry chooses. Nothing is sent to another host.
    fn upload(&self, response: &Response<Incoming>, from: &Uri) -> Result<Uri, OciError> {
        let refused = |why: String| OciError::Redirect { registry: self.repository().registry.clone(), why };
        let uri = location::of(response, from).map_err(|why| refused(format!("the address of an upload {why}")))?;
        let address = |uri: &Uri| format!("{}://{}", uri.scheme_str().unwrap_or("https"), uri.authority().map_or("", |a| a.as_str()));
        let (own, there) = (address(from), address(&uri));
        if there == own {
            return Ok(uri);
        }
        let there = super::error::shown(&there);
        Err(refused(format!("it sends an upload to {there}, and what is stored goes to {own} alone: let it name itself by that address")))
    }

    /// Sets a tag on a manifest, whatever the tag meant before.
    ///
    /// # Errors
    /// If it can't be set.
    pub(crate) async fn put_tag(&mut self, tag: &str, bytes: Bytes) -> Result<(), OciError> {
        self.manifest_to(tag, bytes, format!("its manifest under the tag {tag}")).await
    }

    /// Whether the registry has a blob. If it would redirect a reader to its blob store, it has the blob.
    ///
    /// # Errors
    /// If the registry does not say.
    pub(crate) async fn has_blob(&mut self, digest: &str) -> Result<bool, OciError> {
        self.has(&format!("blobs/{digest}"), "*/*", StatusCode::is_redirection).await
    }

    /// Whether the registry has a manifest of that tag or digest. A registry answers for manifests itself. If something redirects the call,
    /// it is a proxy, or another way to the same registry, and does not have the manifest.
    ///
    /// # Errors
    /// If the registry does not say.
    pub(crate) async fn has_manifest(&mut self, reference: &str) -> Result<bool, OciError> {
        self.has(&format!("manifests/{reference}"), manifest::MANIFEST, |_| false).await
    }

    /// Deletes a manifest, if it is there.
    ///
    /// # Errors
    /// If the registry does not delete it.
    pub(crate) async fn delete_manifest(&mut self, digest: &str) -> Result<(), OciError> {
        let uri = self.place(&format!("manifests/{digest}"))?;
        let response = self.call(&uri, &Call::empty(Method::DELETE)).await?;
        match response.status() {
            status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
            status @ (StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED) => Err(OciError::NotTaken {
                registry: self.repository().registry.clone(),
                repository: self.repository().to_string(),
                what: "the deletion of a manifest".to_owned(),
                code: status.as_u16(),
                reason: Reason::RegistryRefused,
                advice: "it is configured to delete nothing: let it delete manifests",
            }),
            _ => Err(self.not_taken(response, "the deletion of a manifest".to_owned()).await),
        }
    }

    async fn has(&mut self, path: &str, accept: &'static str, elsewhere: fn(&StatusCode) -> bool) -> Result<bool, OciError> {
        let uri = self.place(path)?;
        let head = Call { media_type: accept, ..Call::empty(Method::HEAD) };
        let response = self.call(&uri, &head).await?;
        match response.status() {
            status if status.is_success() || elsewhere(&status) => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.not_taken(response, "what is to be stored".to_owned()).await),
        }
    }

    async fn manifest_to(&mut self, reference: &str, bytes: Bytes, what: String) -> Result<(), OciError> {
        let uri = self.place(&format!("manifests/{reference}"))?;
        let put = Call { method: Method::PUT, media_type: manifest::MANIFEST, body: bytes, within: RECEIVE };
        self.created(&uri, &put, what).await
    }

    async fn created(&mut self, uri: &Uri, put: &Call, what: String) -> Result<(), OciError> {
        let response = self.call(uri, put).await?;
        if response.status().is_success() { Ok(()) } else { Err(self.not_taken(response, what).await) }
    }

    /// Why the registry refused something, and what to do about it.
    async fn not_taken(&self, response: Response<Incoming>, what: String) -> OciError {
        let status = response.status();
        let may_be_full = status.is_client_error() && !matches!(status.as_u16(), 401 | 429);
        let is_full = status == StatusCode::INSUFFICIENT_STORAGE || (may_be_full && self.speaks_of_a_quota(response).await);
        let (reason, advice) = match status.as_u16() {
            _ if is_full => (Reason::RegistryFull, "its quota is used up: raise it, or remove from the registry what is needed no more"),
            401 | 403 => return self.unauthorized(status.as_u16()),
            404 => (Reason::RegistryRefused, "it has no such repository and makes none by itself: create it there"),
            413 => (
                Reason::RegistryRefused,
                "it, or a proxy before it, takes no body of that size: raise that limit (nginx: client_max_body_size)",
            ),
            429 | 500.. => return self.unwell(format!("answered {}", status.as_u16())),
            300..=399 => {
                let why =
                    "manifests are given by the registry itself, and uploads go to it alone: name it by the address that it answers at"
                        .to_owned();
                return OciError::Redirect { registry: self.repository().registry.clone(), why };
            }
            _ => (
                Reason::RegistryRefused,
                "its own log says why; where tags can't be moved there, remove what has that tag in the repository, or raise the solution's version",
            ),
        };
        let (registry, repository) = (self.repository().registry.clone(), self.repository().to_string());
        OciError::NotTaken { registry, repository, what, code: status.as_u16(), reason, advice }
    }

    /// Registries report a full quota with several status codes, and say it in words. Only this fact is taken from their words.
    async fn speaks_of_a_quota(&self, response: Response<Incoming>) -> bool {
        let said = self.body(response, REFUSAL, "refusal", "").await.unwrap_or_default();
        String::from_utf8_lossy(&said).to_ascii_lowercase().contains("quota")
    }
}

/// The upload URL with the digest of what is sent there.
fn with_digest(upload: &Uri, digest: &str) -> Option<Uri> {
    let between = if upload.query().is_some_and(|q| !q.is_empty()) { '&' } else { '?' };
    let address = upload.to_string();
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("digest", digest).finish();
    format!("{}{between}{query}", address.trim_end_matches('?')).parse().ok()
}

#[cfg(test)]
#[path = "upload_tests.rs"]
mod tests;
