//! Pilotage: delegated deployments for Kubernetes.
//!
//! A maker asks to deploy a version of a solution to a stage. The stage's gates decide. The stage's delegate deploys. The host keeps the
//! record.
//!
//! The modules, from low to high: `text` shows what others wrote, `egress` limits where connections go, `api` has the kinds, `cluster` talks
//! to a cluster, `identity` says who acts, `artifact` is what a version is, `deploy` is what is done in a target, `policy` decides (pure,
//! without a client), `runtime` is what all controllers share, `triggers` tells other systems, `controllers` has one folder per kind, `cli`
//! is the plugin, `operator` is the process, and `admin` serves its health and metrics.

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
