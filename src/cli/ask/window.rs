//! The maker's window: what the status of a Solution, in their own namespace, says of requests that they may not read.

use anyhow::Context;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::api::Solution;
use crate::api::solution::SolutionDeployment;

/// The Solutions of a namespace.
#[derive(Debug)]
pub struct Window {
    /// The namespace.
    pub namespace: String,
    solutions: Vec<Solution>,
}

impl Window {
    /// The window on one Solution.
    ///
    /// # Errors
    /// Where the caller may not read it, or it does not exist.
    pub async fn open(client: &Client, namespace: Option<&str>, solution: &str) -> anyhow::Result<Self> {
        let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
        let found = Api::<Solution>::namespaced(client.clone(), &namespace).get(solution).await;
        let found = found.with_context(|| format!("reading Solution {solution} of namespace {namespace}"))?;
        Ok(Self { namespace, solutions: vec![found] })
    }

    /// The window on all Solutions of a namespace.
    ///
    /// # Errors
    /// Where the caller may not read them.
    pub async fn open_all(client: &Client, namespace: Option<&str>) -> anyhow::Result<Self> {
        let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
        let found = Api::<Solution>::namespaced(client.clone(), &namespace).list(&ListParams::default()).await;
        let found = found.with_context(|| format!("reading the Solutions of namespace {namespace}"))?;
        Ok(Self { namespace, solutions: found.items })
    }

    /// What it says of a request.
    pub fn of_request(&self, host: Option<&str>, name: &str) -> Option<&SolutionDeployment> {
        self.with_solutions().map(|(_, entry)| entry).find(|entry| entry.request == name && host.is_none_or(|host| entry.host == host))
    }

    /// The Solution that a request is for.
    pub fn solution_of(&self, request: &str) -> Option<&Solution> {
        self.with_solutions().find(|(_, entry)| entry.request == request).map(|(solution, _)| solution)
    }

    /// What it says of a stage, in any host where none is named.
    pub fn of_stage(&self, host: Option<&str>, stage: &str) -> Vec<&SolutionDeployment> {
        let entries = self.with_solutions().map(|(_, entry)| entry);
        entries.filter(|entry| entry.stage == stage && host.is_none_or(|host| entry.host == host)).collect()
    }

    fn with_solutions(&self) -> impl Iterator<Item = (&Solution, &SolutionDeployment)> {
        self.solutions.iter().flat_map(|solution| solution.status.iter().flat_map(|s| &s.deployments).map(move |entry| (solution, entry)))
    }
}

/// Whether a phase is one that is never left.
pub fn has_ended(phase: &str) -> bool {
    ["Succeeded", "Failed", "Rejected", "Canceled"].contains(&phase)
}
