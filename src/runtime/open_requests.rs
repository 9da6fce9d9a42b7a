//! Which requests have not ended, by what they are for. Thousands of ended requests are stored, and only open ones are looked up.

use std::collections::{BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock};

use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};

use crate::api::DeploymentRequest;

/// A host and the name of a solution.
type Subject = (String, String);

/// The names of the requests that have not ended. The index follows the cache of requests and is at most as old as that.
#[derive(Debug, Default)]
pub(crate) struct OpenRequests {
    names: RwLock<HashMap<Subject, BTreeSet<String>>>,
}

impl OpenRequests {
    /// Records a request as it is now, or as it was last seen before it was deleted.
    pub(crate) fn note(&self, request: &DeploymentRequest, is_gone: bool) {
        let subject = (request.namespace().unwrap_or_default(), request.spec.solution.name.clone());
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if !is_gone && is_open(request) {
            names.entry(subject).or_default().insert(request.name_any());
        } else if let Some(of_subject) = names.get_mut(&subject) {
            of_subject.remove(&request.name_any());
            if of_subject.is_empty() {
                names.remove(&subject);
            }
        }
    }

    /// The keys of all.
    pub(crate) fn all(&self) -> Vec<ObjectRef<DeploymentRequest>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.iter().flat_map(|((host, _), of_subject)| of_subject.iter().map(|name| ObjectRef::new(name).within(host))).collect()
    }

    /// The keys of those for one solution in one host.
    pub(crate) fn of(&self, host: &str, solution: &str) -> Vec<ObjectRef<DeploymentRequest>> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let of_subject = names.get(&(host.to_owned(), solution.to_owned()));
        of_subject.into_iter().flatten().map(|name| ObjectRef::new(name).within(host)).collect()
    }
}

/// Whether a request has not ended.
pub(crate) fn is_open(request: &DeploymentRequest) -> bool {
    request.status.as_ref().is_none_or(|s| s.run.end_time.is_none())
}

/// Those of them that are in a cache.
pub(crate) fn cached(
    store: &Store<DeploymentRequest>,
    keys: Vec<ObjectRef<DeploymentRequest>>,
) -> impl Iterator<Item = std::sync::Arc<DeploymentRequest>> {
    keys.into_iter().filter_map(|key| store.get(&key)).filter(|request| is_open(request))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, solution: &str, ended: bool) -> DeploymentRequest {
        let mut request: DeploymentRequest = serde_json::from_value(serde_json::json!({
            "metadata": {"name": name, "namespace": "host"},
            "spec": {"pipeline": "p", "stage": "s", "solution": {"name": solution, "version": "1.0.0"}},
        }))
        .unwrap();
        if ended {
            request.status.get_or_insert_default().run.end_time = Some(jiff::Timestamp::UNIX_EPOCH);
        }
        request
    }

    #[test]
    fn a_request_is_found_from_its_first_sight_to_its_end_or_its_going() {
        let open = OpenRequests::default();
        for name in ["a", "b"] {
            open.note(&request(name, "orders", false), false);
        }
        open.note(&request("c", "billing", false), false);
        assert_eq!((open.of("host", "orders").len(), open.of("host", "billing").len(), open.all().len()), (2, 1, 3));
        assert_eq!(open.of("other", "orders"), []);
        open.note(&request("a", "orders", true), false);
        open.note(&request("b", "orders", false), true);
        open.note(&request("never seen", "shipping", true), false);
        assert_eq!(open.all(), [ObjectRef::new("c").within("host")]);
    }
}
