//! Why an artifact can't be stored or read.

use super::{MAX_BYTES, MAX_RECORD};
use crate::api::reason::Reason;
use crate::artifact::oci::OciError;
use crate::cluster::blocked::{Until, Wait};
use crate::cluster::errors::message;

/// Why an artifact could not be stored or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A call failed.
    #[error("{action} in namespace {namespace} failed: {}", message(source))]
    Api {
        /// What was done, and with which object.
        action: String,
        /// The host.
        namespace: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The registry that holds its bytes, or should get them, can't be used now.
    #[error("artifact {artifact} in host {namespace} belongs in {repository} (the operator's --artifact-store): {source}")]
    Registry {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// The repository.
        repository: String,
        /// Why.
        source: OciError,
    },
    /// The archive of what retention removes can't be used now.
    #[error("{what} of host {namespace} is archived in {repository} (the operator's --artifact-store) before it goes: {source}")]
    Archive {
        /// What is to be archived.
        what: String,
        /// The host.
        namespace: String,
        /// The repository.
        repository: String,
        /// Why.
        source: OciError,
    },
    /// There is no registry to archive in.
    #[error(
        "{what} of host {namespace} is to be archived before it goes, and this operator has no registry: whoever runs it starts it with \
         --artifact-store"
    )]
    NoArchive {
        /// What is to be archived.
        what: String,
        /// The host.
        namespace: String,
    },
    /// Its bytes are in a registry that this operator is not configured for.
    #[error(
        "artifact {artifact} in host {namespace} is kept in {repository}, and this operator {keeps}: whoever runs it starts it with --artifact-store {wanted} again, or raise the solution's version"
    )]
    KeptElsewhere {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// The repository.
        repository: String,
        /// Where this operator keeps artifacts, in words.
        keeps: String,
        /// The flag that would be needed.
        wanted: String,
    },
    /// The registry does not have its bytes. It may be another registry for a moment, or somebody deleted them.
    #[error(
        "artifact {artifact} in host {namespace} is kept in {repository} (the operator's --artifact-store), and the registry does not have all of \
         {reference}. Put it back there, from a backup or a copy; a request to the first stage sends it again where what it came from is still at \
         that version and the same; otherwise raise the solution's version"
    )]
    Lost {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// The repository.
        repository: String,
        /// What the registry does not have.
        reference: String,
    },
    /// Retention removed its bytes.
    #[error(
        "the bytes of artifact {artifact} in host {namespace} were removed on {at} by the retention of pipeline {pipeline}. It is only the record          of its deployments now: nothing is deployed from it, and its version is not stored again; raise the solution's version"
    )]
    Removed {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// The pipeline.
        pipeline: String,
        /// When.
        at: jiff::Timestamp,
    },
    /// Some of its chunks are missing.
    #[error(
        "artifact {artifact} in host {namespace} is incomplete: {missing}. Nothing is deployed from it. It is completed where its export is \
         repeated; otherwise raise the solution's version"
    )]
    Incomplete {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// What is missing.
        missing: String,
    },
    /// The bytes are not those that were stored.
    #[error(
        "artifact {artifact} in host {namespace} was altered: {what}. Nothing is deployed from it. Find out who changed it, and raise the \
         solution's version"
    )]
    Altered {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// What has another digest than it should.
        what: String,
    },
    /// The record contradicts itself.
    #[error("artifact {artifact} in host {namespace} can't be read: {why}. Nothing is deployed from it; raise the solution's version")]
    Unreadable {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
        /// What is wrong.
        why: String,
    },
    /// There are too many bytes.
    #[error(
        "version {version} of solution {solution} has {size} bytes, and an artifact has at most {MAX_BYTES}: narrow the solution's selector or components"
    )]
    TooLarge {
        /// The solution.
        solution: String,
        /// The version.
        version: String,
        /// The canonical bytes.
        size: usize,
    },
    /// The definitions and lists in the record have too many bytes.
    #[error(
        "what solution {solution} defines in version {version} has {size} bytes (its environment variables, connection references and dependencies, with \
         descriptions and defaults), and an artifact's record takes {MAX_RECORD}: define fewer, or say less of them, and raise the version"
    )]
    RecordTooLarge {
        /// The solution.
        solution: String,
        /// The version.
        version: String,
        /// The bytes of the record.
        size: usize,
    },
    /// The host, or the development environment in it, has reached its quota.
    #[error("{0}")]
    Full(String),
    /// Somebody else creates or deletes the same artifact at this moment.
    #[error("artifact {artifact} in host {namespace} is being made by another run: it is looked at again")]
    Busy {
        /// The artifact.
        artifact: String,
        /// The host.
        namespace: String,
    },
    /// Compression failed.
    #[error("version {version} of solution {solution} could not be compressed: {source}")]
    Compression {
        /// The solution.
        solution: String,
        /// The version.
        version: String,
        /// Why.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Whether waiting can help.
    pub(crate) fn until(&self) -> Until {
        match self {
            Self::Api { source, .. } => Until::of(source),
            // Problems with the operator's own registry, also its redirects and its existence, are for its administrator to solve.
            Self::Registry { source: OciError::Redirect { .. }, .. }
            | Self::Lost { .. }
            | Self::KeptElsewhere { .. }
            | Self::NoArchive { .. }
            | Self::Full(_) => Until::Wait(Wait::Somebody),
            Self::Registry { source, .. } | Self::Archive { source, .. } => source.until(),
            Self::Busy { .. } | Self::Compression { .. } => Until::Wait(Wait::Server),
            Self::Removed { .. }
            | Self::Incomplete { .. }
            | Self::Altered { .. }
            | Self::Unreadable { .. }
            | Self::TooLarge { .. }
            | Self::RecordTooLarge { .. } => Until::End,
        }
    }

    /// The reason in one word, if the error is about the place where artifacts are kept.
    pub(crate) fn of_place(&self) -> Option<Reason> {
        match self {
            Self::Registry { source, .. } | Self::Archive { source, .. } => Some(source.reason()),
            Self::KeptElsewhere { .. } | Self::NoArchive { .. } => Some(Reason::ArtifactStoreNotConfigured),
            Self::Lost { .. } => Some(Reason::RegistryLacksArtifact),
            Self::Removed { .. } => Some(Reason::ArtifactBytesRemoved),
            Self::Full(_) => Some(Reason::StorageFull),
            _ => None,
        }
    }
}
