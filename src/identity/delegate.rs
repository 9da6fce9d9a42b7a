//! The identity that deploys in place of the requester.

use hyper::{Method, Request};
use kube::api::{DynamicObject, ListParams, ObjectList, PartialObjectMeta};
use kube::client::Body;
use kube::core::{ApiResource, Status};
use kube::{Api, Client, Resource};

use super::access::{self, Access, Right};
use super::delegation::Delegation;
use super::grants;
use crate::api::names;
use crate::api::reference::{Identity, Subject};
use crate::cluster::lookup;
use crate::identity::fence::Fence;

/// The API group of the rights to impersonate.
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
    /// A person: the stage's owner, or the requester if the stage has no delegate.
    User {
        /// The user name.
        username: String,
        /// The groups that may be sent. Those of `system:*` are left out; the API server adds them itself.
        groups: Vec<String>,
    },
}

impl Delegate {
    /// The identity in the form that the API server accepts for impersonation. A `ServiceAccount` is sent as a `ServiceAccount`, because
    /// the API server refuses it as a user. A person is sent with their groups, except those of `system:*`, which the API server adds
    /// itself and refuses if they are sent.
    pub(crate) fn of(who: &Identity) -> Self {
        match names::service_account(&who.username) {
            Some((namespace, name)) => Self::ServicePrincipal { namespace: namespace.to_owned(), name: name.to_owned() },
            None => Self::User {
                username: who.username.clone(),
                groups: who.groups.iter().filter(|g| !g.starts_with("system:")).cloned().collect(),
            },
        }
    }

    /// The identity as the API server sees it when somebody acts as the delegate: with the groups that it adds itself.
    pub(crate) fn identity(&self) -> Identity {
        match self {
            Self::ServicePrincipal { namespace, name } => access::service_account(namespace, name),
            Self::User { username, groups } => {
                access::as_authenticated(&Identity { username: username.clone(), uid: None, groups: groups.clone() })
            }
        }
    }

    /// The delegate as the subject of a binding.
    pub(crate) fn subject(&self) -> Subject {
        match self {
            Self::ServicePrincipal { namespace, name } => grants::service_account(namespace, name),
            Self::User { username, .. } => grants::subject_of(username),
        }
    }

    /// What the operator needs to become the delegate: the first half of constrained impersonation, or the right to ask for its token. A
    /// person is sent with their groups, and each group needs a right of its own; with tokens, a person can't be acted as.
    pub(crate) fn to_become(&self, delegation: Delegation) -> Vec<Right> {
        match self {
            Self::ServicePrincipal { namespace, name } if delegation == Delegation::LentToken => {
                vec![Right::on("create", "", "serviceaccounts", namespace).of_subresource("token").named(name)]
            }
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

    /// What somebody needs to use this right as the delegate: the second half. For the impersonator, server-side apply and its dry run are
    /// a `patch`, also if they create an object. Where tokens are lent, admission asks for the same.
    pub(crate) fn to_use(&self, right: &Right) -> Right {
        let verb = if right.verb == "create" { "patch" } else { &right.verb };
        let mode = match self {
            Self::ServicePrincipal { .. } => "serviceaccount",
            Self::User { .. } => "user-info",
        };
        Right { verb: format!("impersonate-on:{mode}:{verb}"), ..right.clone() }
    }

    /// The name by which the API server knows the delegate.
    pub(crate) fn username(&self) -> String {
        match self {
            Self::ServicePrincipal { namespace, name } => names::service_account_username(namespace, name),
            Self::User { username, .. } => username.clone(),
        }
    }
}

/// A client that acts as a delegate. Only this module's parent can make one, so its holder acts as the delegate that a plan names. Nobody
/// else gets the connection: it can write only under a [`Fence`].
#[derive(Clone)]
pub struct DelegateClient {
    client: Client,
    delegate: Delegate,
}

impl DelegateClient {
    pub(super) fn new(client: Client, delegate: Delegate) -> Self {
        Self { client, delegate }
    }

    /// Reads: the answer to a GET. It makes no other calls.
    pub(crate) async fn read(&self, request: Request<Vec<u8>>) -> kube::Result<String> {
        if request.method() != Method::GET {
            return Err(misused("a write was to be made as if it were a reading"));
        }
        self.client.request_text(request).await
    }

    /// Makes a dry run of a write; the URL says so. Returns the answer, and the warnings that the server sends with it.
    pub(crate) async fn rehearse(&self, request: Request<Vec<u8>>) -> kube::Result<(String, Vec<Vec<u8>>)> {
        if !request.uri().query().is_some_and(|query| query.split('&').any(|part| part == "dryRun=All")) {
            return Err(misused("a write was to be made as if it were a dry run"));
        }
        let (head, body) = self.client.send(request.map(Body::from)).await?.into_parts();
        let text = String::from_utf8_lossy(&body.collect_bytes().await?).into_owned();
        if head.status.is_client_error() || head.status.is_server_error() {
            let told = || Status::failure(text.trim(), "Failed to parse error data").with_code(head.status.as_u16());
            return Err(kube::Error::Api(serde_json::from_str(&text).unwrap_or_else(|_| told()).boxed()));
        }
        let warnings = head.headers.get_all("warning").iter().map(|value| value.as_bytes().to_vec()).collect();
        Ok((text, warnings))
    }

    /// Writes, as long as the fence holds.
    pub(crate) async fn write(&self, fence: &Fence, request: Request<Vec<u8>>) -> kube::Result<String> {
        if !fence.stands() {
            return Err(misused("nothing is written any more: another operator has taken over"));
        }
        self.client.request_text(request).await
    }

    /// The metadata of an object in a namespace, if it exists.
    pub(crate) async fn metadata(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> kube::Result<Option<PartialObjectMeta<DynamicObject>>> {
        lookup::metadata(&Api::<DynamicObject>::namespaced_with(self.client.clone(), namespace, resource), name).await
    }

    /// A page of the objects of a kind: of a namespace, or of the whole cluster.
    pub(crate) async fn page<K>(&self, namespace: Option<&str>, params: &ListParams) -> kube::Result<ObjectList<K>>
    where
        K: Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let request = kube::core::Request::new(K::url_path(&(), namespace)).list(params).map_err(kube::Error::BuildRequest)?;
        serde_json::from_str(&self.read(request).await?).map_err(kube::Error::SerdeError)
    }

    /// Asks what the delegate may do.
    pub(crate) fn access(&self) -> Access {
        Access::new(self.client.clone())
    }

    /// The identity that it acts as.
    pub(crate) fn delegate(&self) -> &Delegate {
        &self.delegate
    }
}

fn misused(why: &str) -> kube::Error {
    kube::Error::Service(why.into())
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use hyper::Response;
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::api::Environment;
    use crate::identity::claimed::Claimed;

    fn identity(username: &str, groups: &[&str]) -> Identity {
        Identity { username: username.into(), uid: Some("u1".into()), groups: groups.iter().map(|&g| g.into()).collect() }
    }

    #[test]
    fn groups_that_may_not_be_sent_are_left_out_and_known_all_the_same() {
        let dana = Delegate::of(&identity("dana", &["makers", "system:authenticated", "system:masters"]));
        assert_eq!(dana, Delegate::User { username: "dana".into(), groups: vec!["makers".into()] });
        assert_eq!(dana.identity().groups, ["system:authenticated", "makers"]);
        let names: Vec<_> =
            dana.to_become(Delegation::Impersonation).into_iter().map(|r| (r.resource, r.name.unwrap_or_default(), r.namespace)).collect();
        assert_eq!(names, [("users".into(), "dana".into(), None), ("groups".into(), "makers".into(), None)]);
        let patch = dana.to_use(&Right::on("create", "apps", "deployments", "qa"));
        assert_eq!(patch.verb, "impersonate-on:user-info:patch");
    }

    #[test]
    fn a_service_account_is_never_acted_as_in_user_mode() {
        let bot = Delegate::of(&identity("system:serviceaccount:ci:bot", &["system:serviceaccounts", "system:serviceaccounts:ci"]));
        assert_eq!(bot, Delegate::ServicePrincipal { namespace: "ci".into(), name: "bot".into() });
        assert_eq!(bot.identity(), access::service_account("ci", "bot"));
        assert_eq!(bot.to_become(Delegation::Impersonation)[0].namespace.as_deref(), Some("ci"), "granted where the account lives");
        assert_eq!(bot.to_use(&Right::on("get", "", "configmaps", "qa")).verb, "impersonate-on:serviceaccount:get");
        let token = Right::on("create", "", "serviceaccounts", "ci").of_subresource("token").named("bot");
        assert_eq!(bot.to_become(Delegation::LentToken), [token], "by name, where the account lives");
    }

    /// Answers every call.
    #[derive(Clone)]
    struct Anything;

    impl tower_service::Service<Request<Body>> for Anything {
        type Response = Response<Body>;
        type Error = std::io::Error;
        type Future = std::future::Ready<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<Body>) -> Self::Future {
            std::future::ready(Ok(Response::new(Body::empty())))
        }
    }

    #[tokio::test]
    async fn nothing_is_written_but_under_a_fence_that_stands() {
        let delegate = Delegate::User { username: "dana".into(), groups: vec![] };
        let client = DelegateClient::new(Client::new(Anything, "qa"), delegate);
        let call = |method: &Method, query: &str| {
            let uri = format!("/api/v1/namespaces/qa/configmaps/x{query}");
            Request::builder().method(method).uri(uri).body(Vec::new()).unwrap()
        };
        assert!(client.read(call(&Method::GET, "")).await.is_ok());
        for method in [Method::PATCH, Method::POST, Method::DELETE] {
            let said = client.read(call(&method, "")).await.unwrap_err().to_string();
            assert!(said.contains("as if it were a reading"), "{said}");
            assert!(client.rehearse(call(&method, "?&dryRun=All&force=true")).await.is_ok());
            for query in ["", "?dryRun=", "?xdryRun=All", "?fieldManager=dryRun=All"] {
                let said = client.rehearse(call(&method, query)).await.unwrap_err().to_string();
                assert!(said.contains("as if it were a dry run"), "{said}");
            }
            for stands in [true, false] {
                let claim = Claimed::from_environment(&claimed(), "orders", "u1").unwrap();
                let fence = Fence::new(claim, Client::new(Anything, "host"), "host", "qa", move || stands);
                assert_eq!(client.write(&fence, call(&method, "")).await.is_ok(), stands, "{method}");
            }
        }
    }

    fn claimed() -> Environment {
        let claim = json!({"request": "r", "requestUID": "u1", "digest": "sha256:d", "since": "2026-01-01T00:00:00Z"});
        serde_json::from_value(json!({
            "apiVersion": "pilotage.dev/v1alpha1", "kind": "Environment",
            "metadata": {"name": "qa", "namespace": "host"},
            "spec": {"type": "Target", "namespace": "qa"},
            "status": {"observedGeneration": 1, "solutions": [{"name": "orders", "claim": claim}]}
        }))
        .unwrap()
    }
}
