//! Reads files into the objects of a solution: YAML and JSON, strictly, and checked like an export.

use kube::CustomResourceExt;
use serde_json::Value;

use super::error::{OciError, shown};
use super::limits;
use super::strict::Strict;
use crate::api::GROUP;
use crate::api::reason::Reason;
use crate::api::reference::SolutionVersion;
use crate::api::settings::{ConnectionDefinition, Dependency, VariableDefinition};
use crate::api::solution::{Solution, SolutionSpec};
use crate::artifact::bundle::Bundle;
use crate::artifact::export;
use crate::artifact::strip;
use crate::cluster::object::{self, Key};
use crate::cluster::replicas;

/// The objects of an artifact, and the definitions of its Solution.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The objects.
    pub(crate) bundle: Bundle,
    pub(crate) environment_variables: Vec<VariableDefinition>,
    pub(crate) connection_references: Vec<ConnectionDefinition>,
    /// The solutions that it depends on.
    pub(crate) dependencies: Vec<Dependency>,
}

/// Collects the contents of an artifact's files.
pub(crate) struct Files<'a> {
    reference: &'a str,
    objects: Vec<(String, Value)>,
    values: usize,
}

impl<'a> Files<'a> {
    /// For the files of that artifact.
    pub(crate) fn of(reference: &'a str) -> Self {
        Self { reference, objects: Vec::new(), values: 0 }
    }

    /// Reads a file. A file whose name is neither YAML nor JSON is ignored.
    ///
    /// # Errors
    /// If it can't be read as manifests.
    pub(crate) fn take(&mut self, path: &str, content: &[u8]) -> Result<(), OciError> {
        let (name, path) = (path.rsplit('/').next().unwrap_or(path), shown(path));
        let refused = |reason, what: String| Err(self.content(reason, what));
        if matches!(name, "kustomization.yaml" | "kustomization.yml" | "Kustomization") {
            return refused(Reason::NotAManifest, format!("{path} has to be built by kustomize first: push what `kustomize build` prints"));
        }
        let read = match name.rsplit_once('.').map(|(_, extension)| extension) {
            Some("yaml" | "yml") => yaml,
            Some("json") => json,
            _ => return Ok(()),
        };
        if content.len() > limits::FILE {
            return Err(self.too_large(format!("{path} has {} bytes, and {} can be read of one file", content.len(), limits::FILE)));
        }
        let documents = match read(content) {
            Ok(documents) => documents,
            Err(why) => return refused(Reason::ManifestUnreadable, format!("{path} {why}: correct it and push it again")),
        };
        self.values += documents.iter().map(count).sum::<usize>();
        if self.values > limits::VALUES {
            return Err(self.too_large(format!("its files hold more than {} values", limits::VALUES)));
        }
        for (index, document) in documents.into_iter().enumerate() {
            if document.is_null() {
                continue;
            }
            let place = if index == 0 { path.clone() } else { format!("{path} (document {})", index + 1) };
            self.document(&place, document)?;
        }
        Ok(())
    }

    fn document(&mut self, place: &str, document: Value) -> Result<(), OciError> {
        let is_list = object::kind(&document).ends_with("List") && object::name(&document).is_empty();
        if let (true, Some(items)) = (is_list, document.get("items").and_then(Value::as_array)) {
            for (index, item) in items.iter().enumerate() {
                self.object(&format!("{place}, item {}", index + 1), item.clone())?;
            }
            return Ok(());
        }
        self.object(place, document)
    }

    fn object(&mut self, place: &str, object: Value) -> Result<(), OciError> {
        for (missing, found) in
            [("apiVersion", object::api_version(&object)), ("kind", object::kind(&object)), ("metadata.name", object::name(&object))]
        {
            if found.is_empty() {
                let what = format!("{place} is no Kubernetes object: it lacks {missing}. Leave it out, or correct it");
                return Err(self.content(Reason::NotAManifest, what));
            }
        }
        self.objects.push((place.to_owned(), object));
        Ok(())
    }

    fn too_large(&self, what: String) -> OciError {
        OciError::TooLarge { reference: self.reference.to_owned(), what }
    }

    fn content(&self, reason: Reason, what: String) -> OciError {
        OciError::Content { reference: self.reference.to_owned(), reason, what }
    }

    /// The objects as they are stored, if they may be stored.
    ///
    /// # Errors
    /// If one of them may not be deployed, or the Solution among them does not match the request.
    pub(crate) fn finish(self, wanted: &SolutionVersion) -> Result<Written, OciError> {
        let refused = |reason, what| OciError::Content { reference: self.reference.to_owned(), reason, what };
        let (solutions, objects): (Vec<_>, Vec<_>) = self
            .objects
            .into_iter()
            .partition(|(_, object)| object::group(object) == GROUP && object::kind(object) == Solution::api_resource().kind);
        let mut written = match solutions.as_slice() {
            [] => Written::default(),
            [(place, solution)] => definitions(place, solution, wanted).map_err(|(reason, what)| refused(reason, what))?,
            [(first, _), (second, _), ..] => {
                return Err(refused(Reason::SolutionAmbiguous, format!("{first} and {second} are both a Solution: push one of them")));
            }
        };
        let mut namespace: Option<(&str, &str)> = None;
        for (place, object) in &objects {
            may_be_deployed(place, object).map_err(|(reason, what)| refused(reason, what))?;
            let Some(own) = object::metadata(object, "namespace") else { continue };
            match namespace {
                Some((other, at)) if other != own => {
                    return Err(refused(
                        Reason::OtherNamespace,
                        format!(
                            "{at} is for namespace {}, and {place} for {}: a solution goes to one namespace; leave metadata.namespace out, \
                             or make two solutions of them",
                            shown(other),
                            shown(own)
                        ),
                    ));
                }
                _ => namespace = Some((own, place)),
            }
        }
        let own = namespace.map(|(own, _)| own.to_owned()).unwrap_or_default();
        let mut seen = std::collections::BTreeMap::new();
        let mut all = Vec::with_capacity(objects.len());
        for (place, object) in &objects {
            if let Some(first) = seen.insert(Key::of(object), place) {
                return Err(refused(Reason::Duplicate, format!("{} is in {first} and in {place}: keep one of them", Key::of(object))));
            }
            all.push(strip::as_written(object, &own));
        }
        if all.is_empty() {
            return Err(refused(Reason::NothingToDeploy, "no file in it that is named *.yaml, *.yml or *.json holds an object".to_owned()));
        }
        replicas::give_up(&mut all);
        written.bundle = Bundle::new(all);
        let size = written.bundle.to_bytes().len();
        if size > export::MAX_BYTES {
            let what = format!("its objects have {size} bytes, and {} can be stored", export::MAX_BYTES);
            return Err(OciError::TooLarge { reference: self.reference.to_owned(), what });
        }
        Ok(written)
    }
}

type Refusal = (Reason, String);

fn may_be_deployed(place: &str, object: &Value) -> Result<(), Refusal> {
    let key = Key::of(object);
    if !object::is_plain_name(&key.name) {
        return Err((
            Reason::InvalidName,
            format!("the {} in {place} has a name that Kubernetes does not allow: give it another one", shown(&key.kind)),
        ));
    }
    if object::is_too_deep(object) {
        return Err((
            Reason::TooDeeplyNested,
            format!("{place} nests deeper than {} levels, which is more than can be deployed: make it flatter", object::DEEPEST),
        ));
    }
    if (key.group.as_str(), key.kind.as_str()) == ("", "Secret") {
        return Err((
            Reason::SecretNotAllowed,
            format!(
                "{place} is {key}: Secrets are never deployed. Leave it out, declare a connection reference, and create the Secret in the target"
            ),
        ));
    }
    if export::is_never_exported(&key.group, &key.kind) {
        return Err((
            Reason::NeverDeployed,
            format!("{place} is {key} of {}, which is never deployed: leave it out", shown(object::api_version(object))),
        ));
    }
    Ok(())
}

fn definitions(place: &str, solution: &Value, wanted: &SolutionVersion) -> Result<Written, Refusal> {
    let (name, spec) = (object::name(solution), solution.get("spec").cloned().unwrap_or_default());
    let version = spec.get("version").and_then(Value::as_str).unwrap_or_default();
    if (name, version) != (&wanted.name, &wanted.version) {
        return Err((
            Reason::SolutionDiffers,
            format!(
                "{place} is Solution {} {}, and the request is for {} {}: ask for what was pushed, or push what is asked for",
                shown(name),
                shown(version),
                wanted.name,
                wanted.version
            ),
        ));
    }
    if let Some(field) = schema().and_then(|schema| unknown_field(&schema, &spec, "spec")) {
        return Err((
            Reason::SolutionInvalid,
            format!("{place} has the field {}, which a Solution does not have: correct it", shown(&field)),
        ));
    }
    let spec: SolutionSpec = serde_json::from_value(spec).map_err(|_| {
        (
            Reason::SolutionInvalid,
            format!("the spec of the Solution in {place} is not as its kind has it: check it with kubectl apply --dry-run=server"),
        )
    })?;
    Ok(Written {
        bundle: Bundle::default(),
        environment_variables: spec.environment_variables,
        connection_references: spec.connection_references,
        dependencies: spec.dependencies,
    })
}

/// The schema of a Solution's spec, as the API server has it.
fn schema() -> Option<Value> {
    let crd = serde_json::to_value(Solution::crd()).ok()?;
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").cloned()
}

/// The first field that a schema does not have. The API server would refuse it, or drop it with a warning that nobody sees here.
fn unknown_field(schema: &Value, value: &Value, path: &str) -> Option<String> {
    match value {
        Value::Object(map) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let additional = schema.get("additionalProperties");
            map.iter().find_map(|(key, child)| {
                let at = format!("{path}.{key}");
                match properties.and_then(|p| p.get(key)).or(additional) {
                    Some(schema) => unknown_field(schema, child, &at),
                    None => properties.map(|_| at),
                }
            })
        }
        Value::Array(items) => {
            let of_items = schema.get("items")?;
            items.iter().enumerate().find_map(|(index, item)| unknown_field(of_items, item, &format!("{path}[{index}]")))
        }
        _ => None,
    }
}

/// How many values a value consists of.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Object(map) => map.values().map(count).sum(),
        Value::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// Parses as kubectl does, but refuses ambiguous input. The error says where, and contains nothing of the input, which may be a secret.
fn yaml(content: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(content).map_err(|_| "is not UTF-8".to_owned())?;
    let options = serde_saphyr::options! { legacy_octal_numbers: true, reject_unsupported_tags: true };
    serde_saphyr::from_multiple_with_options::<Value>(text, options).map_err(|error| match error.location() {
        Some(at) => format!("is not YAML that can be read (line {}, column {})", at.line(), at.column()),
        None => "is not YAML that can be read".to_owned(),
    })
}

fn json(content: &[u8]) -> Result<Vec<Value>, String> {
    serde_json::Deserializer::from_slice(content)
        .into_iter::<Strict>()
        .map(|document| match document {
            Ok(Strict(value)) => Ok(value),
            Err(error) => Err(format!("is not JSON that can be read (line {}, column {})", error.line(), error.column())),
        })
        .collect()
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
