//! `kubectl pilotage rollback`: asks for the version that ran on a stage before the one that runs there now.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use kube::Api;

use super::artifact::higher_first;
use super::ask::Asking;
use super::ask::place::Place;
use super::ask::settings::SettingsArgs;
use super::connection::Connection;
use super::exit::Exit;
use super::names::object_name;
use super::output::Output;
use super::reading;
use super::redeploy::{self, RedeployArgs};
use crate::api::Artifact;
use crate::api::artifact::Outcome;

/// Ask for the version that ran on a stage before, as you, with the settings of the last deployment there; flags change them. The pipeline
/// must allow redeployments. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// The solution.
    #[arg(value_parser = object_name)]
    solution: String,
    /// The stage.
    #[arg(long, value_parser = object_name)]
    stage: String,
    /// The version to go back to. Default: the one that succeeded there last, before the one that runs.
    #[arg(long, value_name = "VERSION", value_parser = object_name)]
    to: Option<String>,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    asking: Asking,
}

/// Finds the version in the record, and asks for it.
///
/// # Errors
/// If the record has none, or the caller may not read it, or the API server refuses the request.
pub async fn run(connection: &Connection, args: RollbackArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let RollbackArgs { solution, stage, to, settings, asking } = args;
    let version = match to {
        Some(version) => version,
        None => before(connection, &solution, &stage, asking.from.as_deref(), out).await?,
    };
    redeploy::run(connection, RedeployArgs::of(solution, version, stage, settings, asking), out).await
}

/// The version that ran there before.
async fn before(
    connection: &Connection,
    solution: &str,
    stage: &str,
    from: Option<&str>,
    out: &mut Output<impl Write + Send>,
) -> anyhow::Result<String> {
    let client = connection.client();
    let place = Place::find(&client, connection.named()?, from, solution, stage, None).await?;
    let host = &place.host;
    let artifacts = reading::all(&Api::<Artifact>::namespaced(client, host), &format!("artifacts of host {host}")).await?;
    let Some(artifacts) = artifacts else {
        return Err(Exit::NotAllowed.because(format!(
            "what ran on stage {stage} before is in the Artifacts of host {host}, which you may not read: name the version with --to"
        )));
    };
    let running = place.running.and_then(|running| running.version);
    let running = running.with_context(|| {
        format!("what stage {stage} runs is not known: nothing of {solution} was deployed there, or you may not read its Environment; name the version with --to")
    })?;
    let found = previous(&artifacts, solution, stage, &running).ok_or_else(|| {
        Exit::NotFound
            .because(format!("the record of host {host} has no version of {solution} that succeeded on stage {stage} before {running}"))
    })?;
    writeln!(out, "back from {running} to {found}, which ran there before")?;
    Ok(found)
}

/// The version of the latest success on the stage, apart from what runs there. Times are in seconds: of two successes of the same one, that
/// which began later counts, and at last the higher version, as in what retention keeps for the way back.
fn previous(artifacts: &[Artifact], solution: &str, stage: &str, running: &str) -> Option<String> {
    let others = artifacts.iter().filter(|artifact| artifact.spec.solution.name == solution && artifact.spec.solution.version != running);
    let successes = others.flat_map(|artifact| {
        let records = artifact.status.iter().flat_map(|status| &status.deployments);
        records
            .filter(|record| record.stage == stage && record.outcome == Outcome::Succeeded)
            .map(|record| ((record.ended_at, record.started_at), artifact.spec.solution.version.as_str()))
    });
    successes.max_by(|(at, a), (other, b)| at.cmp(other).then_with(|| higher_first(b, a))).map(|(_, version)| version.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifact(version: &str, records: &[(&str, &str, &str)]) -> Artifact {
        let record = |(stage, outcome, at): &(&str, &str, &str)| {
            json!({"requestUID": at, "request": "r", "pipeline": "p", "stage": stage, "stageUID": "u", "environment": "e", "environmentUID": "u",
                "environmentId": "u", "settingsDigest": "", "requestedBy": "dana", "deployedBy": "bot", "startedAt": at, "endedAt": at, "outcome": outcome})
        };
        let mut artifact = Artifact::new("a", serde_json::from_value(json!({
            "solution": {"name": "orders", "version": version}, "digest": "sha256:x", "source": {"environment": "dev"},
            "exportedBy": {"username": "dana"}, "exportedAt": "2026-01-01T00:00:00Z", "objectCount": 0, "objects": [], "size": 1, "storedSize": 1, "chunks": 1,
        })).unwrap());
        artifact.status = Some(serde_json::from_value(json!({"deployments": records.iter().map(record).collect::<Vec<_>>()})).unwrap());
        artifact
    }

    #[test]
    fn it_goes_back_to_the_latest_success_there_that_does_not_run() {
        let all = [
            artifact("1.0.0", &[("qa", "Succeeded", "2026-01-01T00:00:00Z")]),
            artifact("2.0.0", &[("qa", "Succeeded", "2026-01-02T00:00:00Z"), ("prod", "Succeeded", "2026-01-05T00:00:00Z")]),
            artifact("3.0.0", &[("qa", "Failed", "2026-01-03T00:00:00Z")]),
            artifact("4.0.0", &[("qa", "Succeeded", "2026-01-04T00:00:00Z")]),
        ];
        assert_eq!(previous(&all, "orders", "qa", "4.0.0").as_deref(), Some("2.0.0"));
        assert_eq!(previous(&all, "orders", "qa", "2.0.0").as_deref(), Some("4.0.0"));
        assert_eq!(previous(&all, "orders", "prod", "2.0.0"), None);
        assert_eq!(previous(&all, "others", "qa", "4.0.0"), None);
    }

    #[test]
    fn of_two_successes_of_one_second_it_goes_back_to_the_higher_version() {
        let at = "2026-01-01T00:00:00Z";
        let mut all = vec![artifact("9.0.0", &[("qa", "Succeeded", at)]), artifact("10.0.0", &[("qa", "Succeeded", at)])];
        assert_eq!(previous(&all, "orders", "qa", "11.0.0").as_deref(), Some("10.0.0"));
        all.reverse();
        assert_eq!(previous(&all, "orders", "qa", "11.0.0").as_deref(), Some("10.0.0"));
    }
}
