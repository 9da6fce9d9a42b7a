//! Access reviews: the API server says what others may do. Nothing is guessed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec,
    SubjectAccessReview, SubjectAccessReviewSpec, SubjectRulesReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::answers::{Answers, is_believed};
use crate::api::names;
use crate::api::reference::Identity;

/// A right: a verb on a resource, in a namespace or everywhere.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Right {
    /// The verb, for example `patch`, or a virtual one, for example `deploy`.
    pub(crate) verb: String,
    /// The API group; empty for the core group.
    pub(crate) group: String,
    /// The resource's plural name.
    pub(crate) resource: String,
    /// The subresource, if any.
    pub(crate) subresource: Option<String>,
    /// The namespace; `None` for cluster-scoped resources.
    pub(crate) namespace: Option<String>,
    /// The name of one object; `None` for all.
    pub(crate) name: Option<String>,
}

impl Right {
    /// `verb` on all `resource` of `group` in `namespace`.
    pub fn on(verb: &str, group: &str, resource: &str, namespace: &str) -> Self {
        Self { verb: verb.into(), group: group.into(), resource: resource.into(), namespace: Some(namespace.into()), ..Self::default() }
    }

    /// The same right, in all namespaces.
    #[must_use]
    pub(crate) fn everywhere(mut self) -> Self {
        self.namespace = None;
        self
    }

    /// `verb` on all `resource` of `group` in `namespace`, or everywhere if there is no namespace.
    pub(crate) fn within(verb: &str, group: &str, resource: &str, namespace: Option<&str>) -> Self {
        let right = Self::on(verb, group, resource, namespace.unwrap_or_default());
        if namespace.is_some() { right } else { right.everywhere() }
    }

    /// The same right, on the one object `name`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The same right, on a subresource.
    #[must_use]
    pub fn of_subresource(mut self, subresource: &str) -> Self {
        self.subresource = Some(subresource.into());
        self
    }

    fn attributes(&self) -> ResourceAttributes {
        ResourceAttributes {
            verb: Some(self.verb.clone()),
            group: Some(self.group.clone()),
            resource: Some(self.resource.clone()),
            subresource: self.subresource.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            ..ResourceAttributes::default()
        }
    }
}

/// Asks the API server what subjects may do.
#[derive(Clone)]
pub struct Access {
    client: Client,
    answers: Arc<Answers>,
}

impl Access {
    /// Asks with this client, which must be allowed to create subject access reviews.
    pub fn new(client: Client) -> Self {
        Self { client, answers: Arc::default() }
    }

    /// Whether `who` holds `right` now.
    ///
    /// # Errors
    /// If the review can't be made.
    pub async fn may(&self, who: &Identity, right: &Right) -> kube::Result<bool> {
        let asked = Instant::now();
        let held = self.ask(who, right).await?;
        if let Some(slot) = self.answers.slot((who.clone(), right.clone())) {
            let mut answer = slot.lock().await;
            if answer.is_none_or(|(at, _)| at < asked) {
                *answer = Some((asked, held));
            }
        }
        Ok(held)
    }

    /// Whether `who` holds `right`, or held it within the last `age`. Callers that ask at the same time share one answer. Only the answer
    /// `believed` is taken from the cache: for the other one the API server is asked again.
    ///
    /// # Errors
    /// If the review can't be made.
    pub(crate) async fn lately(&self, who: &Identity, right: &Right, believed: bool, age: Duration) -> kube::Result<bool> {
        let Some(slot) = self.answers.slot((who.clone(), right.clone())) else { return self.ask(who, right).await };
        let mut answer = slot.lock().await;
        if is_believed(&answer, believed, age) {
            return Ok(believed);
        }
        let asked = Instant::now();
        let held = self.ask(who, right).await?;
        *answer = Some((asked, held));
        Ok(held)
    }

    /// Whether `who` holds one of `rights`, or held it within the last `age`. A right that they held before is asked for first.
    ///
    /// # Errors
    /// If a review can't be made.
    pub(crate) async fn any_lately(&self, who: &Identity, rights: &[Right], age: Duration) -> kube::Result<bool> {
        let (held_before, others): (Vec<&Right>, Vec<&Right>) =
            rights.iter().partition(|right| self.answers.was_yes(&(who.clone(), (*right).clone())));
        for right in held_before.into_iter().chain(others) {
            if self.lately(who, right, true, age).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn ask(&self, who: &Identity, right: &Right) -> kube::Result<bool> {
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(who.username.clone()).filter(|u| !u.is_empty()),
                uid: who.uid.clone(),
                groups: (!who.groups.is_empty()).then(|| who.groups.clone()),
                resource_attributes: Some(right.attributes()),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = Api::<SubjectAccessReview>::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|s| s.allowed))
    }

    /// Whether the operator itself, whatever account it runs as, holds `right`.
    ///
    /// # Errors
    /// If the review can't be made.
    pub(crate) async fn i_may(&self, right: &Right) -> kube::Result<bool> {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec { resource_attributes: Some(right.attributes()), ..SelfSubjectAccessReviewSpec::default() },
            ..SelfSubjectAccessReview::default()
        };
        let answer = Api::<SelfSubjectAccessReview>::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|s| s.allowed))
    }

    /// What the operator itself may do in a namespace.
    ///
    /// # Errors
    /// If the review can't be made.
    pub(crate) async fn own_rules(&self, namespace: &str) -> kube::Result<SubjectRulesReviewStatus> {
        let review = SelfSubjectRulesReview {
            spec: SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) },
            ..SelfSubjectRulesReview::default()
        };
        let answer = Api::<SelfSubjectRulesReview>::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        Ok(answer.status.unwrap_or_default())
    }
}

/// The identity of a `ServiceAccount`, with the groups that the API server gives it.
pub(crate) fn service_account(namespace: &str, name: &str) -> Identity {
    Identity {
        username: crate::api::names::service_account_username(namespace, name),
        uid: None,
        groups: vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}"), "system:authenticated".into()],
    }
}

/// An identity as the API server will see it when it acts: with the groups that the API server adds itself, which records leave out.
pub fn as_authenticated(who: &Identity) -> Identity {
    let mut whole = match names::service_account(&who.username) {
        Some((namespace, name)) => Identity { uid: who.uid.clone(), ..service_account(namespace, name) },
        None => Identity { groups: vec!["system:authenticated".into()], ..who.clone() },
    };
    for group in &who.groups {
        if !whole.groups.contains(group) {
            whole.groups.push(group.clone());
        }
    }
    whole
}

/// The identity that stands for a whole host when a namespace opts in: the group of its `ServiceAccounts`, without a user.
pub(crate) fn host_group(host: &str) -> Identity {
    Identity { username: String::new(), uid: None, groups: vec![format!("system:serviceaccounts:{host}")] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_that_the_api_server_adds_are_asked_for_too() {
        let olga = Identity { username: "olga".into(), uid: Some("1".into()), groups: vec!["makers".into()] };
        assert_eq!(as_authenticated(&olga), Identity { groups: vec!["system:authenticated".into(), "makers".into()], ..olga.clone() });
        let bot = Identity { username: "system:serviceaccount:ci:bot".into(), uid: None, groups: vec![] };
        assert_eq!(as_authenticated(&bot), service_account("ci", "bot"));
    }
}
