//! Pilotage: delegated deployments for Kubernetes.
//!
//! A maker asks for a version of a solution to be deployed to a stage; the stage's gates decide; the
//! stage's delegate deploys; the host keeps the record. `api` holds the kinds, `policy` the decisions
//! (pure, without a client), `cluster` how a cluster is
//! spoken with, `artifact` what a version is, `deploy` what is done in a target, `identity` who acts, `controllers` one folder per
//! kind, `runtime` what all controllers share, `triggers` what other systems are told, `egress` where they may be told, `text` how
//! what others wrote is shown, `operator` the process and `admin` its health and metrics.

pub mod admin;
pub mod api;
pub mod artifact;
pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod deploy;
pub mod egress;
pub mod identity;
pub mod operator;
pub mod policy;
pub mod runtime;
pub mod text;
pub mod triggers;
