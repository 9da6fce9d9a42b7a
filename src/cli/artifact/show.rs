//! One stored version: where it came from, what it holds, and where it was deployed.

use std::fmt::Write as _;
use std::io::Write;

use clap::Args;
use kube::ResourceExt;

use super::stored;
use crate::api::Artifact;
use crate::api::artifact::Outcome;
use crate::api::phase::Phase;
use crate::cli::connection::Connection;
use crate::cli::names::stored_version;
use crate::cli::output::Output;
use crate::text;

/// Show a stored version: where it came from, what it holds, and where it was deployed.
#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    /// The version, or the name of the Artifact.
    #[arg(value_name = "SOLUTION@VERSION", value_parser = stored_version)]
    what: String,
}

pub(super) async fn run(connection: &Connection, args: &ShowArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    let mut artifact = stored::named(connection, connection.namespace(), &args.what).await?;
    artifact.metadata.managed_fields = None;
    out.one(&artifact, &format!("artifact.pilotage.dev/{}", artifact.name_any()), &described(&artifact))
}

/// The record in lines, as `kubectl describe` has them.
fn described(artifact: &Artifact) -> String {
    let (spec, mut lines) = (&artifact.spec, String::new());
    let mut line = |name: &str, value: &str| {
        // Writing to a String can't fail.
        let _ = writeln!(lines, "{:<16}{}", format!("{name}:"), text::line(value));
    };
    line("Solution", &format!("{} {}", spec.solution.name, spec.solution.version));
    line("Host", &artifact.namespace().unwrap_or_default());
    line("Digest", &spec.digest);
    match (&spec.source.environment, &spec.source.oci) {
        (Some(environment), _) => line("From", &format!("environment {environment}")),
        (None, oci) => line("From", oci.as_deref().unwrap_or_default()),
    }
    line("Exported by", &spec.exported_by.username);
    line("Exported at", &spec.exported_at.to_string());
    line("Stored in", spec.stored_in.as_deref().unwrap_or("ConfigMaps of the host"));
    line("Size", &format!("{} bytes, {} as stored", spec.size, spec.stored_size));
    for variable in &spec.environment_variables {
        line("Variable", &variable.name);
    }
    for connection in &spec.connection_references {
        line("Connection", &format!("{} (Secret {})", connection.name, connection.secret_name));
    }
    for dependency in &spec.dependencies {
        line("Depends on", &dependency.name);
    }
    line("Objects", &spec.object_count.to_string());
    for object in &spec.objects {
        line("", &format!("{} {} {}", object.api_version, object.kind, object.name));
    }
    let records = artifact.status.as_ref().map(|s| s.deployments.as_slice()).unwrap_or_default();
    line("Deployments", &records.len().to_string());
    for record in records {
        let outcome = match record.outcome {
            Outcome::Succeeded => Phase::Succeeded.to_string(),
            Outcome::Failed => format!("{} ({})", Phase::Failed, record.reason.as_deref().unwrap_or_default()),
        };
        let approved = record.approved_by.as_ref().map(|who| format!(", approved by {who}")).unwrap_or_default();
        line(
            "",
            &format!(
                "{} {outcome} in stage {}, environment {}, by request {}: requested by {}{approved}, deployed by {}",
                record.ended_at, record.stage, record.environment, record.request, record.requested_by, record.deployed_by
            ),
        );
    }
    lines
}
