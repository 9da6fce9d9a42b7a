//! Everything that prevents a plan, collected over all objects. So a person who has to grant rights or correct manifests can do it in one
//! round.

use std::collections::BTreeSet;

use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::cluster::errors::{self, Cause};
use crate::cluster::object::Key;
use crate::identity::access::Right;

/// Why a plan could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The delegate lacks rights in the target, or the operator may not act as the delegate there.
    #[error("{delegate} lacks {} right(s) in the target: {message}", rights.len())]
    MissingRights {
        /// The delegate's user name.
        delegate: String,
        /// What the delegate needs, over all objects. If it holds these rights already, the operator may not act as the delegate. `create`
        /// is included for objects that are not known to exist.
        rights: Vec<Right>,
        /// The API server's first refusal, unchanged.
        message: String,
        /// Everything else that prevents the plan.
        results: Vec<PlanResult>,
    },
    /// The target refuses objects; another attempt would be refused as well.
    #[error("{} object(s) are refused, the first: {}", .0.len(), .0.first().map_or("", |result| result.message.as_str()))]
    Refused(Vec<PlanResult>),
    /// Webhooks of the target can't be reached. Another attempt may succeed after somebody has repaired them.
    #[error("{} object(s) wait for webhooks, the first: {}", .0.len(), .0.first().map_or("", |result| result.message.as_str()))]
    Unreachable(Vec<PlanResult>),
    /// The target could not be asked; another attempt may succeed.
    #[error("the target could not be asked: {0}")]
    Transient(#[source] kube::Error),
}

/// Why one object can't be planned.
#[derive(Debug)]
pub(crate) enum Obstacle {
    /// A call failed. The rights are those that it needed.
    Call { error: kube::Error, rights: Vec<Right> },
    /// A finding prevents it.
    Refusal(PlanResult),
}

/// What prevents a plan.
#[derive(Default)]
pub(crate) struct Findings {
    rights: BTreeSet<Right>,
    first_refusal: Option<String>,
    results: Vec<PlanResult>,
    unreachable: Vec<PlanResult>,
    transient: Option<kube::Error>,
}

impl Findings {
    /// Adds what prevents one object.
    pub(crate) fn add(&mut self, key: &Key, obstacle: Obstacle) {
        match obstacle {
            Obstacle::Refusal(result) => self.results.push(result),
            Obstacle::Call { error, rights } => match errors::classify(&error) {
                Cause::Unauthorized => {
                    self.rights.extend(rights);
                    self.first_refusal.get_or_insert_with(|| errors::message(&error));
                }
                Cause::Transient if errors::is_webhook_failure(&error) => self.unreachable.push(errors::plan_result(key, &error)),
                // Another attempt resolves the race.
                Cause::Transient | Cause::Stale => {
                    self.transient.get_or_insert(error);
                }
                _ => self.results.push(errors::plan_result(key, &error)),
            },
        }
    }

    /// Adds a refusal that needed no call.
    pub(crate) fn refuse(&mut self, key: &Key, reason: Reason, message: &str) {
        self.results.push(errors::result(key, reason, message));
    }

    /// Adds everything that others found.
    pub(crate) fn merge(&mut self, others: Self) {
        self.rights.extend(others.rights);
        self.first_refusal = self.first_refusal.take().or(others.first_refusal);
        self.results.extend(others.results);
        self.unreachable.extend(others.unreachable);
        self.transient = self.transient.take().or(others.transient);
    }

    /// `Ok` if there are no findings, otherwise the error. Findings for people come before those that may pass by themselves.
    pub(crate) fn into_result(self, delegate: String) -> Result<(), PlanError> {
        if let Some(message) = self.first_refusal {
            return Err(PlanError::MissingRights { delegate, rights: self.rights.into_iter().collect(), message, results: self.results });
        }
        if !self.results.is_empty() {
            return Err(PlanError::Refused(self.results));
        }
        if !self.unreachable.is_empty() {
            return Err(PlanError::Unreachable(self.unreachable));
        }
        self.transient.map_or(Ok(()), |error| Err(PlanError::Transient(error)))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn key(name: &str) -> Key {
        Key { group: String::new(), kind: "ConfigMap".into(), name: name.into() }
    }

    fn call(code: u16, message: &str, rights: Vec<Right>) -> Obstacle {
        Obstacle::Call { error: kube::Error::Api(Status::failure(message, "").with_code(code).boxed()), rights }
    }

    #[test]
    fn missing_rights_are_collected_over_all_objects_beside_other_refusals() {
        let mut findings = Findings::default();
        let patch = Right::on("patch", "", "configmaps", "qa");
        findings.add(&key("a"), call(403, r#"User "u" cannot patch resource "configmaps""#, vec![patch.clone()]));
        findings.add(&key("b"), call(403, r#"User "u" cannot patch resource "configmaps""#, vec![patch]));
        findings.add(&key("c"), call(403, r#"User "u" cannot list resource "services""#, vec![Right::on("list", "", "services", "qa")]));
        findings.add(&key("d"), call(422, "bad", vec![]));
        findings.add(&key("e"), call(503, "busy", vec![]));
        let Err(PlanError::MissingRights { rights, results, delegate, message }) = findings.into_result("bot".into()) else { panic!() };
        assert_eq!((rights.len(), results.len(), delegate.as_str()), (2, 1, "bot"));
        assert!(message.contains("cannot patch"));
    }

    #[test]
    fn what_may_pass_is_reported_only_where_nothing_else_is() {
        let mut findings = Findings::default();
        findings.add(&key("e"), call(503, "busy", vec![]));
        assert!(matches!(findings.into_result(String::new()), Err(PlanError::Transient(_))));
        assert!(Findings::default().into_result(String::new()).is_ok());
    }
}
