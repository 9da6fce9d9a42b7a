//! The calls that are made in a target namespace, as the delegate: get, list, patch and delete, no others.

use kube::Client;
use kube::api::{DeleteParams, DynamicObject, GetParams, ListParams, Patch, PatchParams, Preconditions, ValidationDirective};
use kube::core::{ApiResource, Request, Resource as _};
use serde_json::Value;

use crate::api::names;
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;

/// A target namespace, seen as a delegate.
#[derive(Clone)]
pub(super) struct Target {
    client: Client,
    namespace: String,
}

/// Whether a call only shows what it would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    DryRun,
    Write,
}

impl Target {
    pub fn new(delegate: &DelegateClient, namespace: &str) -> Self {
        Self { client: delegate.client(), namespace: namespace.to_owned() }
    }

    /// The right that a call with `verb` on the resource needs.
    pub fn right(&self, verb: &str, resource: &ApiResource) -> Right {
        Right::on(verb, &resource.group, &resource.plural, &self.namespace)
    }

    /// The rights that an apply, which was refused with this error, needs. Where the object does not exist
    /// (or is not known to), the server asks for `patch` first and for `create` as a second check, which it
    /// reaches only with `patch`.
    pub fn rights_to_apply(&self, resource: &ApiResource, exists: bool, error: &kube::Error) -> Vec<Right> {
        let is_first_check =
            matches!(error, kube::Error::Api(status) if status.message.contains(" cannot ") && !status.message.contains(" cannot create "));
        match (exists, is_first_check) {
            (true, _) => vec![self.right("patch", resource)],
            (false, true) => vec![self.right("create", resource), self.right("patch", resource)],
            (false, false) => vec![self.right("create", resource)],
        }
    }

    /// The object, where it exists.
    pub async fn get(&self, resource: &ApiResource, name: &str) -> Result<Option<Value>, kube::Error> {
        let request = self.request(resource).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        match self.client.request_text(request).await {
            Ok(text) => parse(&text).map(Some),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The objects that the selector picks.
    pub async fn list(&self, resource: &ApiResource, selector: &str) -> Result<Vec<Value>, kube::Error> {
        let request = self.request(resource).list(&ListParams::default().labels(selector)).map_err(kube::Error::BuildRequest)?;
        let mut list = parse(&self.client.request_text(request).await?)?;
        Ok(match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        })
    }

    /// Applies the manifest on the server's side, and gives the object as it is then (or would be).
    pub async fn apply(&self, resource: &ApiResource, name: &str, manifest: &Value, force: bool, mode: Mode) -> Result<Value, kube::Error> {
        let params = PatchParams {
            dry_run: mode == Mode::DryRun,
            force,
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let request = self.request(resource).patch(name, &params, &Patch::Apply(manifest)).map_err(kube::Error::BuildRequest)?;
        parse(&self.client.request_text(request).await?)
    }

    /// Deletes the object with this uid, and what depends on it in the background. An object that is not
    /// there any more, under that uid, is no error.
    pub async fn delete(&self, resource: &ApiResource, name: &str, uid: &str, mode: Mode) -> Result<(), kube::Error> {
        let mut params = DeleteParams::background().preconditions(Preconditions { uid: Some(uid.to_owned()), resource_version: None });
        params.dry_run = mode == Mode::DryRun;
        let mut request = self.request(resource).delete(name, &params).map_err(kube::Error::BuildRequest)?;
        if mode == Mode::DryRun {
            // The body says so too, but whoever reads the cluster's audit log sees the address alone, and would find deletions.
            let address = request.uri().to_string();
            let link = if address.contains('?') { "&" } else { "?" };
            if let Ok(shown) = format!("{address}{link}dryRun=All").parse() {
                *request.uri_mut() = shown;
            }
        }
        match self.client.request_text(request).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() && status.message.contains("UID") => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn request(&self, resource: &ApiResource) -> Request {
        Request::new(DynamicObject::url_path(resource, Some(&self.namespace)))
    }
}

/// Not `Client::request`: it would log the whole reply where that can't be parsed.
fn parse(text: &str) -> Result<Value, kube::Error> {
    serde_json::from_str(text).map_err(kube::Error::SerdeError)
}
