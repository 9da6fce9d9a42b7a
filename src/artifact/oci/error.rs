//! Why an artifact of a registry can't be used.
//!
//! Errors never repeat what a registry answers or what files contain: it may be anything, also credentials.

use crate::api::reason::Reason;
use crate::cluster::blocked::{Until, Wait};

/// Why an artifact of a registry can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OciError {
    /// The registry does not answer.
    #[error("registry {registry} {why}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// Why, in words that begin with a verb.
        why: String,
    },
    /// The registry gives a bad answer, or is too slow. This says nothing about its other repositories.
    #[error("registry {registry} {why}")]
    Unwell {
        /// The registry.
        registry: String,
        /// What the registry does, in words that begin with a verb.
        why: String,
    },
    /// Other callers come first.
    #[error("waits for its turn: the operator is at as many artifacts in registries as it takes at once")]
    Busy,
    /// There is no such tag, or no such manifest.
    #[error("{reference} is not in the registry: push it, or make a new request with a tag that is there")]
    NotFound {
        /// The repository with tag or digest.
        reference: String,
    },
    /// The registry requires other credentials, or any credentials.
    #[error("registry {registry} does not let {who} {what} {repository} ({code}): {advice}")]
    Unauthorized {
        /// The registry.
        registry: String,
        /// The user of the call.
        who: String,
        /// What the call wanted, in one verb.
        what: &'static str,
        /// The repository.
        repository: String,
        /// The registry's answer.
        code: u16,
        /// What to do.
        advice: String,
    },
    /// The credentials are not there yet.
    #[error("registry {registry} is not asked: {why}")]
    NoCredentials {
        /// The registry.
        registry: String,
        /// What is wrong with the credentials, and what to do.
        why: String,
    },
    /// The certificate authority can't be read.
    #[error("registry {registry} is not asked: {why}")]
    NoAuthority {
        /// The registry.
        registry: String,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// The registry refuses to store something.
    #[error("registry {registry} does not take {what} for {repository} ({code}): {advice}")]
    NotTaken {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// What was sent, with its size.
        what: String,
        /// The registry's answer.
        code: u16,
        /// One word.
        reason: Reason,
        /// What to do.
        advice: &'static str,
    },
    /// A host asks for credentials that are for other hosts.
    #[error("registry {registry} sends whoever wants to read {repository} to {realm} for a token, and {missing}; nothing was sent there")]
    ForeignRealm {
        /// The registry.
        registry: String,
        /// The repository.
        repository: String,
        /// The host that gives tokens.
        realm: String,
        /// What must change.
        missing: String,
    },
    /// The registry redirects to a place from which nothing is fetched.
    #[error("registry {registry} answers with a redirect that is not followed: {why}")]
    Redirect {
        /// The registry.
        registry: String,
        /// Why not.
        why: String,
    },
    /// What was received does not match its digest.
    #[error(
        "the {what} of {reference} was altered: it should have digest {expected}, and what the registry sent has {actual}. Nothing is taken from it. \
         Find out who changed the registry's storage, and push the artifact again"
    )]
    DigestMismatch {
        /// Manifest, configuration or layer.
        what: String,
        /// The repository with the digest of the manifest.
        reference: String,
        /// The digest that it should have.
        expected: String,
        /// The digest of what was received.
        actual: String,
    },
    /// The artifact contains no manifests.
    #[error(
        "{reference} can't be deployed: {what}. Push manifests with `flux push artifact`, or with oras as files named *.yaml, *.yml or *.json \
         or as a folder"
    )]
    WrongMediaType {
        /// The repository with tag or digest.
        reference: String,
        /// What it is.
        what: String,
    },
    /// A limit is exceeded.
    #[error("{reference} is too large: {what}. Leave out what is not deployed, or split the solution")]
    TooLarge {
        /// The repository with tag or digest.
        reference: String,
        /// What exceeds which limit.
        what: String,
    },
    /// The archive contains something that an archive of manifests doesn't need.
    #[error("{reference} is refused: {what}. Push plain files and folders only")]
    Unsafe {
        /// The repository with tag or digest.
        reference: String,
        /// What it holds.
        what: String,
    },
    /// Something in the artifact can't be read or may not be deployed.
    #[error("{reference} can't be deployed: {what}")]
    Content {
        /// The repository with tag or digest.
        reference: String,
        /// One word.
        reason: Reason,
        /// What, in which file, and what to do.
        what: String,
    },
}

impl OciError {
    /// Whether waiting can help, and what for.
    pub(crate) fn until(&self) -> Until {
        match self {
            Self::Unreachable { .. } | Self::Unwell { .. } | Self::Busy => Until::Wait(Wait::Server),
            Self::Unauthorized { .. } | Self::NoCredentials { .. } => Until::Wait(Wait::Right),
            Self::NoAuthority { .. } | Self::NotFound { .. } | Self::NotTaken { .. } | Self::ForeignRealm { .. } => {
                Until::Wait(Wait::Somebody)
            }
            Self::Redirect { .. }
            | Self::DigestMismatch { .. }
            | Self::WrongMediaType { .. }
            | Self::TooLarge { .. }
            | Self::Unsafe { .. }
            | Self::Content { .. } => Until::End,
        }
    }

    /// The reason in one word, for conditions.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } | Self::Unwell { .. } => Reason::RegistryUnreachable,
            Self::NoAuthority { .. } => Reason::CertificateAuthorityUnreadable,
            Self::Busy => Reason::RegistryBusy,
            Self::NotFound { .. } => Reason::ArtifactNotFound,
            Self::Unauthorized { .. } => Reason::RegistryUnauthorized,
            Self::NoCredentials { .. } => Reason::CredentialsUnreadable,
            Self::ForeignRealm { .. } => Reason::RegistryRealmNotAllowed,
            Self::Redirect { .. } => Reason::RegistryRedirectRefused,
            Self::DigestMismatch { .. } => Reason::DigestMismatch,
            Self::WrongMediaType { .. } => Reason::WrongMediaType,
            Self::TooLarge { .. } => Reason::ArtifactTooLarge,
            Self::Unsafe { .. } => Reason::ArtifactUnsafe,
            Self::Content { reason, .. } | Self::NotTaken { reason, .. } => *reason,
        }
    }
}

/// A name from outside, as messages show it: without control characters, and at most one line.
pub(crate) fn shown(name: &str) -> String {
    const MOST: usize = 120;
    let plain: String = name.chars().take(MOST).map(|c| if c.is_control() { '?' } else { c }).collect();
    if name.chars().count() > MOST { format!("{plain}…") } else { plain }
}
