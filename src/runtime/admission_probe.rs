//! Whether the API server enforces Pilotage's policies already. It learns of new kinds and policies some seconds after they are stored, and
//! until then it stores no Stage and no request.

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::json;

use crate::api::DeploymentRequest;
use crate::api::reference::Identity;
use crate::identity::OPERATOR_NAMESPACE;
use crate::identity::delegation::Delegation;
use crate::text;

/// How the policy `pilotage-request-create` refuses a request of the operator. It says this after it has found the requester to be the
/// caller, whom the mutating policy of the same name has filled in.
const REFUSAL: &str = "the operator carries requests out and makes none";
/// How RBAC refuses it.
const NO_RIGHT: &str = "cannot create resource \"deploymentrequests\"";

/// What the API server answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The policies are enforced.
    InForce,
    /// The operator lacks the right to ask. Roles of an earlier version do not have it.
    NotAsked,
    /// Not yet: what the answer was instead.
    NotYet(String),
}

/// Asks by a dry run, which stores nothing: the operator asks for a deployment, which the policies have to refuse. Where no policy fills
/// in who asks, the operator names itself.
pub(crate) async fn ask(client: &Client, delegation: Delegation) -> Answer {
    let resource = ApiResource::erase::<DeploymentRequest>(&());
    let mut request = DynamicObject::new("probe", &resource);
    request.data = json!({"spec": {"pipeline": "probe", "stage": "probe", "solution": {"name": "probe", "version": "1.0.0"}}});
    if delegation == Delegation::LentToken {
        match who_am_i(client).await {
            Ok(me) => request.data["spec"]["requestedBy"] = json!(me),
            Err(error) => return Answer::NotYet(text::line(&error.to_string()).into_owned()),
        }
    }
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let answer = Api::<DynamicObject>::namespaced_with(client.clone(), OPERATOR_NAMESPACE, &resource).create(&dry_run, &request).await;
    match answer {
        Ok(_) => Answer::NotYet("it would store a request of the operator, which admission has to refuse".into()),
        Err(kube::Error::Api(status)) => classify(&status.message),
        Err(error) => classify(&error.to_string()),
    }
}

async fn who_am_i(client: &Client) -> kube::Result<Identity> {
    let review = Api::<SelfSubjectReview>::all(client.clone()).create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    Ok(Identity { username: user.username.unwrap_or_default(), uid: user.uid, groups: user.groups.unwrap_or_default() })
}

fn classify(message: &str) -> Answer {
    match message {
        message if message.contains(REFUSAL) => Answer::InForce,
        message if message.contains(NO_RIGHT) => Answer::NotAsked,
        message => Answer::NotYet(text::line(message).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_refusal_of_the_operator_shows_that_the_policies_are_in_force() {
        let policy = include_str!("../../deploy/admission/request-create.yaml");
        assert!(policy.contains(REFUSAL));
        let requester = policy.find("message: \"spec.requestedBy is not you");
        assert!(requester.is_some() && requester < policy.find(REFUSAL), "the requester is checked first");
        assert_eq!(classify(&format!("… denied request: {REFUSAL}: ask as yourself")), Answer::InForce);
        let no_right =
            "deploymentrequests.pilotage.dev is forbidden: User \"…\" cannot create resource \"deploymentrequests\" in API group …";
        assert_eq!(classify(no_right), Answer::NotAsked);
        for answer in
            ["Resource kind … not found. There can be a delay …", "… denied request: spec.requestedBy is not you", "404 page not found"]
        {
            assert_eq!(classify(answer), Answer::NotYet(answer.into()));
        }
    }
}
