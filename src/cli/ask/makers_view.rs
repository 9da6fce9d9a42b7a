//! The maker's view: what the status of a Solution, in the maker's own namespace, says about requests that the maker may not read.

use anyhow::Context;
use kube::api::ListParams;
use kube::{Api, Client};

use crate::api::Solution;
use crate::api::solution::SolutionDeployment;
use crate::cli::exit::Exit;

/// The Solutions of a namespace.
#[derive(Debug)]
pub struct MakersView {
    /// The namespace.
    pub namespace: String,
    solutions: Vec<Solution>,
}

impl MakersView {
    /// The view of one Solution.
    ///
    /// # Errors
    /// If the caller may not read it, or it does not exist.
    pub async fn open(client: &Client, namespace: Option<&str>, solution: &str) -> anyhow::Result<Self> {
        let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
        let found = Api::<Solution>::namespaced(client.clone(), &namespace).get(solution).await;
        let found = found.with_context(|| format!("reading Solution {solution} of namespace {namespace}"))?;
        Ok(Self { namespace, solutions: vec![found] })
    }

    /// The view of all Solutions of a namespace.
    ///
    /// # Errors
    /// If the caller may not read them.
    pub async fn open_all(client: &Client, namespace: Option<&str>) -> anyhow::Result<Self> {
        let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
        let found = Api::<Solution>::namespaced(client.clone(), &namespace).list(&ListParams::default()).await;
        let found = found.with_context(|| format!("reading the Solutions of namespace {namespace}"))?;
        Ok(Self { namespace, solutions: found.items })
    }

    /// What it says about a request.
    pub fn of_request(&self, host: Option<&str>, name: &str) -> Option<&SolutionDeployment> {
        self.with_solutions().map(|(_, entry)| entry).find(|entry| entry.request == name && host.is_none_or(|host| entry.host == host))
    }

    /// The Solution that a request is for.
    pub fn solution_of(&self, request: &str) -> Option<&Solution> {
        self.with_solutions().find(|(_, entry)| entry.request == request).map(|(solution, _)| solution)
    }

    /// What it says about a stage. `None` as the host means any host.
    pub fn of_stage(&self, host: Option<&str>, stage: &str) -> Vec<&SolutionDeployment> {
        let entries = self.with_solutions().map(|(_, entry)| entry);
        entries.filter(|entry| entry.stage == stage && host.is_none_or(|host| entry.host == host)).collect()
    }

    fn with_solutions(&self) -> impl Iterator<Item = (&Solution, &SolutionDeployment)> {
        self.solutions.iter().flat_map(|solution| solution.status.iter().flat_map(|s| &s.deployments).map(move |entry| (solution, entry)))
    }
}

/// Whether the namespace that was named is the maker's own, with a Solution that tells of the request: who follows a request there names
/// that, and no host.
///
/// # Errors
/// If it is the maker's own, and none of its Solutions tells of the request.
pub async fn tells_of(client: &Client, namespace: Option<&str>, request: &str) -> anyhow::Result<bool> {
    let Some(namespace) = namespace else { return Ok(false) };
    let Ok(view) = MakersView::open_all(client, Some(namespace)).await else { return Ok(false) };
    if view.solutions.is_empty() {
        return Ok(false);
    }
    if view.of_request(None, request).is_some() {
        return Ok(true);
    }
    Err(Exit::NotFound.because(format!(
        "none of your Solutions of namespace {namespace} tells of request {request}: see kubectl pilotage history -n {namespace}; if it is an older \
         one, name its host with -n, and this namespace with --from"
    )))
}

/// The hint for something that is not in the named host: where it is, if a Solution that the caller may read says it.
pub async fn whereabouts(client: &Client, named: &str, from: Option<&str>, is_it: impl Fn(&SolutionDeployment) -> bool) -> String {
    let own = from.unwrap_or_else(|| client.default_namespace());
    for namespace in [own, named] {
        // A caller who may not read there is told nothing about it.
        let Ok(view) = MakersView::open_all(client, Some(namespace)).await else { continue };
        if let Some((_, entry)) = view.with_solutions().find(|(_, entry)| entry.host != named && is_it(entry)) {
            return format!("it is in host {}: name that with -n {} (and --from {namespace} for the Solution)", entry.host, entry.host);
        }
    }
    "-n names the host, the namespace with the pipeline and its stages; the namespace of the Solution is named with --from".to_owned()
}
