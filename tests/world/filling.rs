//! Clients that say who asks, who owns and who decides where the API server refuses to fill it in, as the plugin does: on versions without
//! mutating policies. Elsewhere nothing of this is ever needed. What a test writes itself is left as it is.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::http::request::Parts;
use hyper::http::{Method, Request, Response};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::client::Body;
use kube::{Api, Client};
use serde_json::{Value, json};

/// The same client, which fills in what is demanded.
pub fn wrap(client: Client) -> Client {
    Client::new(Filling(client), "default")
}

#[derive(Clone)]
struct Filling(Client);

impl tower_service::Service<Request<Body>> for Filling {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = Pin<Box<dyn Future<Output = kube::Result<Response<Body>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        let writes = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
        if !writes || !request.uri().path().starts_with("/apis/pilotage.dev/") {
            return Box::pin(async move { client.send(request).await });
        }
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let mut body = body.collect_bytes().await?.to_vec();
            loop {
                let answer = client.send(Request::from_parts(parts.clone(), Body::from(body.clone()))).await?;
                if !answer.status().is_client_error() {
                    return Ok(answer);
                }
                let (head, said) = answer.into_parts();
                let said = said.collect_bytes().await?.to_vec();
                match filled(&client, &parts, &body, &String::from_utf8_lossy(&said)).await? {
                    Some(more) => body = more,
                    None => return Ok(Response::from_parts(head, Body::from(said))),
                }
            }
        })
    }
}

/// The body with what the refusal says is missing; `None` if it is refused for something else.
async fn filled(client: &Client, parts: &Parts, body: &[u8], said: &str) -> kube::Result<Option<Vec<u8>>> {
    let Ok(mut object) = serde_json::from_slice::<Value>(body) else { return Ok(None) };
    if !object.is_object() {
        return Ok(None);
    }
    if said.contains("spec.requestedBy is not you") && object["spec"]["requestedBy"].is_null() {
        object["spec"]["requestedBy"] = caller(client).await?;
    } else if said.contains("spec.owner is not you") && object["spec"]["owner"].is_null() {
        // A stage keeps its owner, whoever writes it.
        let owner = if parts.method == Method::POST { Value::Null } else { read(client, parts).await["spec"]["owner"].take() };
        object["spec"]["owner"] = if owner.is_null() { owner_of(caller(client).await?) } else { owner };
    } else if said.contains("`by` of a decision is not you") {
        let me = caller(client).await?["username"].clone();
        let Some(decision) = decision(&mut object, "by") else { return Ok(None) };
        decision["by"] = me;
    } else if said.contains("planHash is not that of the plan") {
        let Some(decision) = decision(&mut object, "planHash") else { return Ok(None) };
        decision["planHash"] = read(client, parts).await["status"]["gates"]["approval"]["planHash"].take();
    } else {
        return Ok(None);
    }
    Ok(Some(object.to_string().into_bytes()))
}

/// The decision in a status that does not say this.
fn decision<'a>(object: &'a mut Value, lacks: &str) -> Option<&'a mut Value> {
    let status = object.get_mut("status")?.as_object_mut()?;
    let keys = ["preExportStep", "approval", "preDeploymentStep"];
    status
        .iter_mut()
        .find(|(key, value)| keys.contains(&key.as_str()) && value.is_object() && value[lacks].is_null())
        .map(|(_, value)| value)
}

/// The object that a call is about, as far as the caller may read it.
async fn read(client: &Client, parts: &Parts) -> Value {
    let Ok(request) = Request::get(parts.uri.path().trim_end_matches("/status")).body(Vec::new()) else { return Value::Null };
    client.request(request).await.unwrap_or_default()
}

fn owner_of(mut caller: Value) -> Value {
    if let Some(groups) = caller["groups"].as_array_mut() {
        groups.retain(|group| !group.as_str().is_some_and(|group| group.starts_with("system:")));
    }
    caller
}

async fn caller(client: &Client) -> kube::Result<Value> {
    let review = Api::<SelfSubjectReview>::all(client.clone()).create(&PostParams::default(), &SelfSubjectReview::default()).await?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    let mut caller = json!({"username": user.username, "groups": user.groups.unwrap_or_default()});
    if let Some(uid) = user.uid.filter(|uid| !uid.is_empty()) {
        caller["uid"] = uid.into();
    }
    Ok(caller)
}
