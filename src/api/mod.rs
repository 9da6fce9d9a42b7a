//! The custom resources: one file per kind, each with its spec, status, schema rules and the texts
//! that `kubectl explain` prints. `crds/` is generated from here (`pilotage crd`).

pub mod approvers;
pub mod artifact;
pub mod bounds;
pub mod cluster_scoped;
pub mod condition;
pub mod crd;
pub mod duration;
pub mod environment;
pub mod names;
pub mod phase;
pub mod pipeline;
pub mod plan;
pub mod reason;
pub mod record;
pub mod reference;
pub mod repository;
pub mod request;
pub mod request_status;
pub mod retention;
pub mod schedule;
pub mod settings;
pub mod solution;
pub mod solution_plans;
pub mod solution_stages;
pub mod stage;
pub mod words;

pub use artifact::{Artifact, ArtifactSpec, ArtifactStatus};
pub use condition::Condition;
pub use environment::{Environment, EnvironmentSpec, EnvironmentStatus};
pub use phase::Phase;
pub use pipeline::{Pipeline, PipelineSpec, PipelineStatus};
pub use reason::Reason;
pub use request::{DeploymentRequest, DeploymentRequestSpec};
pub use request_status::DeploymentRequestStatus;
pub use solution::{Solution, SolutionSpec, SolutionStatus};
pub use stage::{Stage, StageSpec, StageStatus};

/// The API group of all kinds.
pub const GROUP: &str = "pilotage.dev";
/// The served and stored version.
pub const VERSION: &str = "v1alpha1";
