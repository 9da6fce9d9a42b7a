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

/// What is said of something that is not in the namespace that was named as the host: where it is, as far as the Solutions that the
/// caller may read tell of it.
pub async fn whereabouts(client: &Client, named: &str, from: Option<&str>, is_it: impl Fn(&SolutionDeployment) -> bool) -> String {
    let own = from.unwrap_or_else(|| client.default_namespace());
    for namespace in [own, named] {
        // Whoever may not look there is told nothing of it.
        let Ok(window) = Window::open_all(client, Some(namespace)).await else { continue };
        if let Some((_, entry)) = window.with_solutions().find(|(_, entry)| entry.host != named && is_it(entry)) {
            return format!("it is in host {}: name that with -n {} (and --from {namespace} for the Solution)", entry.host, entry.host);
        }
    }
    "-n names the host, the namespace with the pipeline and its stages; the namespace of the Solution is named with --from".to_owned()
}
