//! The identity that deploys in place of the requester.

use kube::Client;

use super::access::{self, Right};
use super::grants;
use crate::api::names;
use crate::api::reference::{Identity, Subject};

/// The API group that the rights to impersonate lie in.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Who deploys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Delegate {
    /// A `ServiceAccount` of the host.
    ServicePrincipal {
        /// The host namespace.
        namespace: String,
        /// The `ServiceAccount`'s name.
        name: String,
    },
    /// A person: the stage's owner, or the requester where the stage has no delegate.
    User {
        /// The user name.
        username: String,
        /// The groups that may be sent: those of `system:*` are left out, the API server adds them itself.
        groups: Vec<String>,
    },
}

impl Delegate {
    /// Whoever it is, as the API server lets others act as them: a `ServiceAccount` as one, as in user mode the API server refuses
    /// it; a person with their groups, but for those of `system:*`, which the API server adds itself and refuses to be sent.
    pub fn of(who: &Identity) -> Self {
        match names::service_account(&who.username) {
            Some((namespace, name)) => Self::ServicePrincipal { namespace: namespace.to_owned(), name: name.to_owned() },
            None => Self::User {
                username: who.username.clone(),
                groups: who.groups.iter().filter(|g| !g.starts_with("system:")).cloned().collect(),
            },
        }
    }

    /// The identity that whoever acts as the delegate has, to the API server: with the groups that it adds itself.
    pub fn identity(&self) -> Identity {
        match self {
            Self::ServicePrincipal { namespace, name } => access::service_account(namespace, name),
            Self::User { username, groups } => {
                access::as_authenticated(&Identity { username: username.clone(), uid: None, groups: groups.clone() })
            }
        }
    }

    /// The delegate as the subject of a binding.
    pub fn subject(&self) -> Subject {
        match self {
            Self::ServicePrincipal { namespace, name } => grants::service_account(namespace, name),
            Self::User { username, .. } => grants::subject_of(username),
        }
    }

    /// What somebody needs to become the delegate: the first half of constrained impersonation. A person is sent with their groups,
    /// each of which is a right of its own.
    pub fn to_become(&self) -> Vec<Right> {
        match self {
            Self::ServicePrincipal { namespace, name } => {
                vec![Right::on("impersonate:serviceaccount", AUTHENTICATION, "serviceaccounts", namespace).named(name)]
            }
            Self::User { username, groups } => {
                let everywhere = |resource: &str, name: &str| Right {
                    verb: "impersonate:user-info".into(),
                    group: AUTHENTICATION.into(),
                    resource: resource.into(),
                    name: Some(name.into()),
                    ..Right::default()
                };
                std::iter::once(everywhere("users", username)).chain(groups.iter().map(|group| everywhere("groups", group))).collect()
            }
        }
    }

    /// What somebody needs to use this right of the delegate in its place: the second half. Server-side apply and its dry run are a
    /// `patch` to whoever impersonates, also where they create.
    pub fn to_use(&self, right: &Right) -> Right {
        let verb = if right.verb == "create" { "patch" } else { &right.verb };
        let mode = match self {
            Self::ServicePrincipal { .. } => "serviceaccount",
            Self::User { .. } => "user-info",
        };
        Right { verb: format!("impersonate-on:{mode}:{verb}"), ..right.clone() }
    }

    /// The name that the API server knows the delegate by.
    pub fn username(&self) -> String {
        match self {
            Self::ServicePrincipal { namespace, name } => names::service_account_username(namespace, name),
            Self::User { username, .. } => username.clone(),
        }
    }
}

/// A client that acts as a delegate. Only this module's parent can make one, so that whoever holds
/// one acts as the delegate that a plan names.
#[derive(Clone)]
pub struct DelegateClient {
    client: Client,
    delegate: Delegate,
}

impl DelegateClient {
    pub(super) fn new(client: Client, delegate: Delegate) -> Self {
        Self { client, delegate }
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Whom it acts as.
    pub fn delegate(&self) -> &Delegate {
        &self.delegate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(username: &str, groups: &[&str]) -> Identity {
        Identity { username: username.into(), uid: Some("u1".into()), groups: groups.iter().map(|&g| g.into()).collect() }
    }

    #[test]
    fn groups_that_may_not_be_sent_are_left_out_and_known_all_the_same() {
        let dana = Delegate::of(&identity("dana", &["makers", "system:authenticated", "system:masters"]));
        assert_eq!(dana, Delegate::User { username: "dana".into(), groups: vec!["makers".into()] });
        assert_eq!(dana.identity().groups, ["system:authenticated", "makers"]);
        let names: Vec<_> = dana.to_become().into_iter().map(|r| (r.resource, r.name.unwrap_or_default(), r.namespace)).collect();
        assert_eq!(names, [("users".into(), "dana".into(), None), ("groups".into(), "makers".into(), None)]);
        let patch = dana.to_use(&Right::on("create", "apps", "deployments", "qa"));
        assert_eq!(patch.verb, "impersonate-on:user-info:patch");
    }

    #[test]
    fn a_service_account_is_never_acted_as_in_user_mode() {
        let bot = Delegate::of(&identity("system:serviceaccount:ci:bot", &["system:serviceaccounts", "system:serviceaccounts:ci"]));
        assert_eq!(bot, Delegate::ServicePrincipal { namespace: "ci".into(), name: "bot".into() });
        assert_eq!(bot.identity(), access::service_account("ci", "bot"));
        assert_eq!(bot.to_become()[0].namespace.as_deref(), Some("ci"), "granted where the account lives");
        assert_eq!(bot.to_use(&Right::on("get", "", "configmaps", "qa")).verb, "impersonate-on:serviceaccount:get");
    }
}
