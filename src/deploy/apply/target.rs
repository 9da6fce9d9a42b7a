//! The calls that are made as the delegate, in a target namespace and for cluster-scoped objects: get, list, patch and delete, no others.

use std::borrow::Cow;
use std::fmt::Write as _;

use kube::api::{DeleteParams, DynamicObject, GetParams, ListParams, Patch, PatchParams, Preconditions, ValidationDirective};
use kube::core::{Request, Resource as _};
use serde_json::Value;

use crate::api::names;
use crate::cluster::object::{self, Key, Served};
use crate::cluster::server_warnings::Warnings;
use crate::identity::access::Right;
use crate::identity::delegate::DelegateClient;
use crate::identity::fence::Fence;

/// A target namespace, as a delegate.
#[derive(Clone)]
pub(crate) struct Target {
    delegate: DelegateClient,
    namespace: String,
    warnings: Warnings,
}

/// Whether a call only shows what it would do.
#[derive(Clone, Copy)]
pub(crate) enum Mode<'a> {
    DryRun,
    /// The call is made under the fence, and on the version that it names.
    Write(&'a Fence),
}

impl Mode<'_> {
    fn is_dry_run(self) -> bool {
        matches!(self, Self::DryRun)
    }
}

/// A version that no object has: the first write to a cluster makes the second one. An apply that names it can create, and changes nothing
/// that exists.
const NO_VERSION: &str = "1";

/// Restricts the write to exactly this version of exactly this object, or to a creation.
pub(crate) fn expect(manifest: &mut Value, current: Option<&Value>) {
    let Some(current) = current else {
        object::set_metadata(manifest, "resourceVersion", NO_VERSION);
        return;
    };
    for field in ["uid", "resourceVersion"] {
        if let Some(value) = object::metadata(current, field) {
            object::set_metadata(manifest, field, value);
        }
    }
}

impl Target {
    pub(crate) fn new(delegate: &DelegateClient, namespace: &str) -> Self {
        Self { delegate: delegate.clone(), namespace: namespace.to_owned(), warnings: Warnings::default() }
    }

    /// What the server warned of in dry runs.
    pub(crate) fn warnings(&self) -> &Warnings {
        &self.warnings
    }

    /// The right that a call with `verb` on the kind needs: in the namespace, or in the whole cluster.
    pub(crate) fn right(&self, verb: &str, served: &Served) -> Right {
        let resource = &served.resource;
        Right::within(verb, &resource.group, &resource.plural, self.place(served))
    }

    /// The rights that an apply needs that was refused with this error. If the object does not exist (or is not known to), the server asks
    /// for `patch` first. It asks for `create` in a second check, which it reaches only with `patch`.
    pub(crate) fn rights_to_apply(&self, served: &Served, exists: bool, error: &kube::Error) -> Vec<Right> {
        let is_first_check =
            matches!(error, kube::Error::Api(status) if status.message.contains(" cannot ") && !status.message.contains(" cannot create "));
        match (exists, is_first_check) {
            (true, _) => vec![self.right("patch", served)],
            (false, true) => vec![self.right("create", served), self.right("patch", served)],
            (false, false) => vec![self.right("create", served)],
        }
    }

    /// The object, if it exists.
    pub(crate) async fn get(&self, served: &Served, name: &str) -> Result<Option<Value>, kube::Error> {
        let request = self.request(served).get(name, &GetParams::default()).map_err(kube::Error::BuildRequest)?;
        match self.delegate.read(request).await {
            Ok(text) => parse(&text).map(Some),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The objects that the selector picks.
    pub(crate) async fn list(&self, served: &Served, selector: &str) -> Result<Vec<Value>, kube::Error> {
        let request = self.request(served).list(&ListParams::default().labels(selector)).map_err(kube::Error::BuildRequest)?;
        let mut list = parse(&self.delegate.read(request).await?)?;
        Ok(match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        })
    }

    /// Applies the manifest by server-side apply, and returns the object as it is then (or would be). The body names the version that the
    /// write is for ([`expect`]).
    pub(crate) async fn apply(
        &self,
        served: &Served,
        name: &str,
        manifest: &Value,
        force: bool,
        mode: Mode<'_>,
    ) -> Result<Value, kube::Error> {
        if !mode.is_dry_run() && object::metadata(manifest, "resourceVersion").is_none() {
            return Err(kube::Error::Service("a write that names no version".into()));
        }
        let params = PatchParams {
            dry_run: mode.is_dry_run(),
            force,
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let mut request = self.request(served).patch(name, &params, &Patch::Apply(manifest)).map_err(kube::Error::BuildRequest)?;
        if let Cow::Owned(escaped) = as_yaml(request.body()) {
            *request.body_mut() = escaped;
        }
        match mode {
            Mode::Write(fence) => parse(&self.delegate.write(fence, request).await?),
            Mode::DryRun => {
                let (text, warnings) = self.delegate.rehearse(request).await?;
                let resource = &served.resource;
                let key = Key { group: resource.group.clone(), kind: resource.kind.clone(), name: name.to_owned() };
                self.warnings.keep(&key, warnings.iter().map(Vec::as_slice));
                parse(&text)
            }
        }
    }

    /// Changes the object by a merge patch, which names the version that it is for. Returns the object as it is then (or would be).
    pub(crate) async fn merge(&self, served: &Served, name: &str, patch: &Value, mode: Mode<'_>) -> Result<Value, kube::Error> {
        let params = PatchParams {
            dry_run: mode.is_dry_run(),
            force: false,
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            field_validation: Some(ValidationDirective::Strict),
        };
        let request = self.request(served).patch(name, &params, &Patch::Merge(patch)).map_err(kube::Error::BuildRequest)?;
        parse(&self.send(request, mode).await?)
    }

    /// Deletes the object with this uid, only in this version if one is given, and its dependents in the background. If no object has that
    /// uid any more, that is no error. Returns the object if it is not gone at once.
    pub(crate) async fn delete(
        &self,
        served: &Served,
        name: &str,
        uid: &str,
        version: Option<&str>,
        mode: Mode<'_>,
    ) -> Result<Option<Value>, kube::Error> {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: version.map(str::to_owned) };
        let mut params = DeleteParams::background().preconditions(preconditions);
        params.dry_run = mode.is_dry_run();
        let mut request = self.request(served).delete(name, &params).map_err(kube::Error::BuildRequest)?;
        if mode.is_dry_run() {
            // The body says so too, but a reader of the cluster's audit log sees only the URL, and would take these calls for deletions.
            let address = request.uri().to_string();
            let link = if address.contains('?') { "&" } else { "?" };
            if let Ok(shown) = format!("{address}{link}dryRun=All").parse() {
                *request.uri_mut() = shown;
            }
        }
        match self.send(request, mode).await {
            Ok(text) => Ok(parse(&text).ok().filter(object::is_being_deleted)),
            Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() && status.message.contains("UID") => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn send(&self, request: hyper::Request<Vec<u8>>, mode: Mode<'_>) -> Result<String, kube::Error> {
        match mode {
            Mode::DryRun => self.delegate.rehearse(request).await.map(|(text, _)| text),
            Mode::Write(fence) => self.delegate.write(fence, request).await,
        }
    }

    fn request(&self, served: &Served) -> Request {
        Request::new(DynamicObject::url_path(&served.resource, self.place(served)))
    }

    /// The namespace in which a call is made; `None` for cluster-scoped objects.
    fn place(&self, served: &Served) -> Option<&str> {
        served.is_namespaced.then_some(self.namespace.as_str())
    }
}

/// The same JSON for a YAML parser, with which the API server reads an apply. In texts, YAML turns some characters into line breaks, which
/// would arrive as spaces, and refuses others. Both are written as escapes.
fn as_yaml(json: &[u8]) -> Cow<'_, [u8]> {
    let is_special = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    // JSON is UTF-8, and outside of texts it is ASCII.
    let Ok(text) = std::str::from_utf8(json) else { return Cow::Borrowed(json) };
    if text.is_ascii() && !text.contains('\u{7f}') || !text.contains(is_special) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_special(c) {
            // Writing to a String can't fail.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped.into_bytes())
}

/// Not `Client::request`: if the reply can't be parsed, that would log the whole reply.
fn parse(text: &str) -> Result<Value, kube::Error> {
    serde_json::from_str(text).map_err(kube::Error::SerdeError)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_write_names_the_version_that_it_is_made_for() {
        let mut manifest = json!({"metadata": {"name": "x"}});
        expect(&mut manifest, None);
        assert_eq!(manifest, json!({"metadata": {"name": "x", "resourceVersion": "1"}}), "it creates, or does nothing");
        expect(&mut manifest, Some(&json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": "7", "generation": 2}})));
        assert_eq!(manifest, json!({"metadata": {"name": "x", "uid": "u", "resourceVersion": "7"}}));
    }

    #[test]
    fn what_yaml_reads_otherwise_is_escaped() {
        assert!(matches!(as_yaml(br#"{"a":"b\u0001"}"#), Cow::Borrowed(_)));
        assert!(matches!(as_yaml("{\"a\":\"příliš 🚢\"}".as_bytes()), Cow::Borrowed(_)));
        let text = "{\"a\":\"x\u{2028}y\u{85}z\u{7f}\u{feff}é🚢\"}";
        assert_eq!(as_yaml(text.as_bytes()).as_ref(), "{\"a\":\"x\\u2028y\\u0085z\\u007f\\ufeffé🚢\"}".as_bytes());
        let read: Value = serde_json::from_slice(&as_yaml(text.as_bytes())).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(text).unwrap(), "it is the same JSON");
    }
}
