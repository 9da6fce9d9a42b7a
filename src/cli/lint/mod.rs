//! `kubectl pilotage lint`: checks manifests before they are applied, without a cluster.

mod finding;
mod places;
mod reading;
mod references;
mod schema;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};

use self::finding::{Finding, Severity};
use self::reading::{Document, Manifests};
use super::connection::Connection;
use super::exit::Exit;
use super::output::{Listing, Output};
use crate::api::GROUP;
use crate::cluster::errors::message;
use crate::cluster::object;

/// Check manifests of Pilotage before they are applied, without a cluster: the schema and the rules of each kind, and what the files say
/// together. Other kinds are passed over. The exit code is 1 if there is an error.
#[derive(Args, Debug)]
pub struct LintArgs {
    /// Files and folders; - is the standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Fail on warnings too: for files that are complete, and refer to nothing outside of them.
    #[arg(long)]
    strict: bool,
    /// Also ask the API server, by a dry run of each object as you.
    #[arg(long)]
    server: bool,
}

impl LintArgs {
    /// Whether a cluster is needed.
    pub fn needs_cluster(&self) -> bool {
        self.server
    }
}

/// Checks the files, and prints what is wrong.
///
/// # Errors
/// If a file can't be read, or something is wrong.
pub async fn run(connection: Option<&Connection>, args: LintArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let manifests = Manifests::read(&args.files)?;
    let mut found = check(&manifests, Timestamp::now());
    let ours = manifests.documents.iter().filter(|document| is_ours(document)).count();
    if let Some(connection) = connection {
        for document in manifests.documents.iter().filter(|document| is_ours(document)) {
            found.extend(dry_run(connection, document).await);
        }
    }
    found.sort();
    let errors = found.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = found.len() - errors;
    let said = format!("{ours} objects of Pilotage in {} files: {errors} errors, {warnings} warnings", manifests.files);
    out.list(&Listing { rows: found, not_shown: Vec::new() }, &said)?;
    if errors > 0 || (args.strict && warnings > 0) {
        return Err(Exit::Failed.because(said));
    }
    if warnings > 0 {
        out.note(&said)?;
    }
    Ok(())
}

fn is_ours(document: &Document) -> bool {
    object::group(&document.object) == GROUP
}

/// Everything that is wrong, as far as the files tell.
fn check(manifests: &Manifests, now: Timestamp) -> Vec<Finding> {
    let mut found = manifests.findings.clone();
    let mut sound = Vec::new();
    for document in manifests.documents.iter().filter(|document| is_ours(document)) {
        let wrong = alone(document);
        if wrong.iter().all(|finding| finding.severity == Severity::Warning) {
            sound.push(document);
        }
        found.extend(wrong);
    }
    found.extend(references::findings(&sound, now));
    found
}

/// What is wrong with one object.
fn alone(document: &Document) -> Vec<Finding> {
    let (kind, api_version) = (object::kind(&document.object), object::api_version(&document.object));
    let Some(definition) = schema::DEFINITIONS.get(kind) else {
        let known: Vec<&str> = schema::DEFINITIONS.keys().map(String::as_str).collect();
        let message = format!("{GROUP} has no kind {kind}: there are {}", known.join(", "));
        return vec![Finding::about(Severity::Error, document, "UnknownKind", message)];
    };
    let wanted = format!("{GROUP}/{}", definition.version);
    if api_version != wanted {
        let message = format!("is {api_version}, and this program knows {wanted}");
        return vec![Finding::about(Severity::Error, document, "UnknownVersion", message).at(document, "apiVersion")];
    }
    let mut found = Vec::new();
    if object::name(&document.object).is_empty() && object::metadata(&document.object, "generateName").is_none() {
        found.push(Finding::about(Severity::Error, document, "NoName", "is required").at(document, "metadata.name"));
    }
    if object::metadata(&document.object, "namespace").is_none() {
        let message = "is left out: it goes to whichever namespace is current when it is applied";
        found.push(Finding::about(Severity::Warning, document, "NoNamespace", message).at(document, "metadata.namespace"));
    }
    if kind == "Artifact" {
        found.push(Finding::about(Severity::Error, document, "NotYours", "only the operator makes Artifacts"));
    }
    let violations = definition.violations(&document.object);
    found.extend(
        violations
            .into_iter()
            .map(|(field, message)| Finding::about(Severity::Error, document, "FieldInvalid", message).at(document, &field)),
    );
    if document.object.get("status").is_some() {
        let message = "is ignored when it is applied: the operator writes it";
        found.push(Finding::about(Severity::Warning, document, "StatusIgnored", message).at(document, "status"));
    }
    found
}

/// What the API server says to the object.
async fn dry_run(connection: &Connection, document: &Document) -> Option<Finding> {
    let (name, kind) = (object::name(&document.object), object::kind(&document.object));
    if name.is_empty() {
        return None;
    }
    let refused = |why: String| Some(Finding::about(Severity::Error, document, "Refused", why));
    let read: DynamicObject = match serde_json::from_value(document.object.clone()) {
        Ok(read) => read,
        Err(error) => return refused(error.to_string()),
    };
    let version = object::api_version(&document.object).rsplit('/').next().unwrap_or_default();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(GROUP, version, kind));
    let namespace = object::metadata(&document.object, "namespace").unwrap_or_else(|| connection.namespace());
    let api = Api::<DynamicObject>::namespaced_with(connection.client(), namespace, &resource);
    let params = PatchParams::apply("kubectl-pilotage").force().dry_run();
    match api.patch(name, &params, &Patch::Apply(&read)).await {
        Ok(_) => None,
        Err(error) => refused(message(&error)),
    }
}
