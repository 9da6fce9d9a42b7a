//! Which versions are stored.

use std::cmp::Ordering;
use std::io::Write;

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use semver::Version;
use serde::Serialize;

use crate::api::Artifact;
use crate::api::artifact::Outcome;
use crate::cli::connection::Connection;
use crate::cli::exit::Exit;
use crate::cli::output::{Column, Listing, Output, Row};
use crate::cli::reading::{self, Where};
use crate::cli::times::Times;

/// List the stored versions, the highest of each solution first.
#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Only versions of this solution.
    solution: Option<String>,
}

/// A stored version.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StoredVersion {
    host: String,
    name: String,
    solution: String,
    version: String,
    digest: String,
    objects: i32,
    size: i64,
    source: String,
    exported_by: String,
    exported_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    stored_in: Option<String>,
    succeeded_in: String,
    deployments: usize,
    failures: usize,
}

impl From<&Artifact> for StoredVersion {
    fn from(artifact: &Artifact) -> Self {
        let spec = &artifact.spec;
        let records = artifact.status.as_ref().map(|s| s.deployments.as_slice()).unwrap_or_default();
        Self {
            host: artifact.namespace().unwrap_or_default(),
            name: artifact.name_any(),
            solution: spec.solution.name.clone(),
            version: spec.solution.version.clone(),
            digest: spec.digest.clone(),
            objects: spec.object_count,
            size: spec.size,
            source: spec.source.oci.clone().or_else(|| spec.source.environment.clone()).unwrap_or_default(),
            exported_by: spec.exported_by.username.clone(),
            exported_at: spec.exported_at,
            stored_in: spec.stored_in.clone(),
            succeeded_in: artifact.status.as_ref().map(|s| s.summary.clone()).unwrap_or_default(),
            deployments: records.len(),
            failures: records.iter().filter(|record| record.outcome == Outcome::Failed).count(),
        }
    }
}

impl Row for StoredVersion {
    const COLUMNS: &'static [Column] = &[
        Column::everywhere("HOST"),
        Column::new("SOLUTION"),
        Column::new("VERSION"),
        Column::new("OBJECTS"),
        Column::wide("BYTES"),
        Column::new("FROM"),
        Column::new("EXPORTED BY"),
        Column::new("AGE"),
        Column::new("SUCCEEDED IN"),
        Column::wide("DEPLOYMENTS"),
        Column::wide("FAILURES"),
        Column::wide("DIGEST"),
        Column::wide("STORED IN"),
    ];

    fn cells(&self, times: &Times) -> Vec<String> {
        vec![
            self.host.clone(),
            self.solution.clone(),
            self.version.clone(),
            self.objects.to_string(),
            self.size.to_string(),
            self.source.clone(),
            self.exported_by.clone(),
            times.show(Some(self.exported_at)),
            self.succeeded_in.clone(),
            self.deployments.to_string(),
            self.failures.to_string(),
            self.digest.clone(),
            self.stored_in.clone().unwrap_or_default(),
        ]
    }

    fn name(&self) -> String {
        format!("artifact.pilotage.dev/{}", self.name)
    }
}

pub(super) async fn run(connection: &Connection, args: ListArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let (there, mut not_shown) = if connection.is_everywhere() {
        reading::hosts::<Artifact>(connection).await?
    } else {
        (Where::One(connection.namespace().to_owned()), Vec::new())
    };
    let artifacts = reading::list::<Artifact>(&connection.client(), &there).await?;
    if let (Where::One(host), false) = (&there, artifacts.not_shown.is_empty()) {
        return Err(Exit::NotAllowed.because(format!("you may not list artifacts of namespace {host}: -n names the host")));
    }
    not_shown.extend(artifacts.not_shown);
    let mut rows: Vec<StoredVersion> = artifacts.items.iter().map(StoredVersion::from).collect();
    rows.retain(|row| args.solution.as_ref().is_none_or(|wanted| *wanted == row.solution));
    rows.sort_by(|a, b| (&a.host, &a.solution).cmp(&(&b.host, &b.solution)).then_with(|| higher_first(&a.version, &b.version)));
    out.list(&Listing { rows, not_shown }, "no versions are stored here")
}

/// The order of versions from the highest down; what is no version is compared as text.
pub(crate) fn higher_first(a: &str, b: &str) -> Ordering {
    match (Version::parse(a), Version::parse(b)) {
        (Ok(a), Ok(b)) => b.cmp(&a),
        _ => b.cmp(a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_comes_first() {
        let mut versions = ["1.9.0", "1.10.0", "1.10.0-rc.1", "0.9.0"];
        versions.sort_by(|a, b| higher_first(a, b));
        assert_eq!(versions, ["1.10.0", "1.10.0-rc.1", "1.9.0", "0.9.0"]);
    }
}
