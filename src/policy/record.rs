//! The durable records within their bounds: the artifact's record of its deployments, and the environment's record of what runs in it. What
//! they prove is never dropped. So what would not fit is refused before anything is written.

use crate::api::artifact::{DeploymentRecord, MAX_DEPLOYMENTS, Outcome};
use crate::api::bounds;
use crate::api::environment::{EnvironmentStatus, MAX_CLUSTER_KINDS, MAX_SOLUTIONS};

/// The number of latest records that an artifact keeps in addition to the latest success of each stage and environment.
const LATEST_RECORDS: usize = 50;
/// The most bytes of all these records. The rest of the artifact may have as many again.
pub(crate) const MOST_RECORD_BYTES: usize = bounds::MOST_WRITTEN / 2;
/// If the status of an environment has this many bytes, it takes no further solution.
const FULL_BYTES: usize = bounds::MOST_WRITTEN / 4 * 3;

/// Adds a record, and keeps all within their bounds.
pub(crate) fn add(records: &mut Vec<DeploymentRecord>, mut new: DeploymentRecord) {
    if new.outcome == Outcome::Succeeded {
        let earlier = records.iter().filter(|r| r.outcome == Outcome::Succeeded && is_of_same_place(r, &new));
        new.first_succeeded_at = earlier.map(|r| r.first_succeeded_at.unwrap_or(r.ended_at)).chain([new.ended_at]).min();
    }
    records.push(new);
    bound(records);
}

/// Keeps the latest success of each stage and environment, and the latest records of all, within the record's bounds.
fn bound(records: &mut Vec<DeploymentRecord>) {
    let total = records.len();
    let mut index = 0;
    let keep: Vec<bool> = (0..total).map(|index| is_latest_success(records, index) || index + LATEST_RECORDS >= total).collect();
    records.retain(|_| {
        index += 1;
        keep.get(index - 1).copied().unwrap_or(true)
    });
    while records.len() > MAX_DEPLOYMENTS {
        remove_oldest(records);
    }
    // The request has all of this too, as long as it exists. What a success was deployed with may be deployed again, and is dropped last.
    for of_successes in [false, true] {
        for index in 0..records.len() {
            if bytes(records) <= MOST_RECORD_BYTES {
                return;
            }
            if is_latest_success(records, index) == of_successes {
                records[index].drop_details();
            }
        }
    }
    while records.len() > 1 && bytes(records) > MOST_RECORD_BYTES {
        remove_oldest(records);
    }
}

/// Records that prove nothing are dropped first, then the oldest proof. The record that was added last is never dropped.
fn remove_oldest(records: &mut Vec<DeploymentRecord>) {
    let oldest = (0..records.len() - 1).find(|index| !is_latest_success(records, *index)).unwrap_or(0);
    records.remove(oldest);
}

fn is_latest_success(records: &[DeploymentRecord], index: usize) -> bool {
    let record = &records[index];
    let is_later = |later: &DeploymentRecord| later.outcome == Outcome::Succeeded && is_of_same_place(record, later);
    record.outcome == Outcome::Succeeded && !records[index + 1..].iter().any(is_later)
}

/// Whether two deployments were to the same stage and target. A target that was deleted and applied again under its name is the same.
fn is_of_same_place(one: &DeploymentRecord, other: &DeploymentRecord) -> bool {
    one.pipeline == other.pipeline && one.stage == other.stage && one.environment_id == other.environment_id && one.cluster == other.cluster
}

fn bytes(records: &[DeploymentRecord]) -> usize {
    serde_json::to_vec(records).map_or(usize::MAX, |bytes| bytes.len())
}

/// Why an environment has no room for another solution. `status` already contains that solution.
pub(crate) fn no_room(environment: &str, solution: &str, status: &EnvironmentStatus) -> Option<String> {
    let kinds = status.solutions.iter().find(|s| s.name == solution).map_or(0, |s| s.cluster_scoped.len());
    let why = if status.solutions.len() > MAX_SOLUTIONS {
        format!("an Environment has at most {MAX_SOLUTIONS} solutions, and so many are there already")
    } else if serde_json::to_vec(status).map_or(usize::MAX, |bytes| bytes.len()) > FULL_BYTES {
        format!("its record has as many bytes as it may have ({FULL_BYTES}), with {} solutions in it", status.solutions.len())
    } else if kinds > MAX_CLUSTER_KINDS {
        format!(
            "there may be objects of more than {MAX_CLUSTER_KINDS} kinds of {solution} in the whole cluster, which is more than the record takes"
        )
    } else {
        return None;
    };
    Some(format!(
        "environment {environment} takes no further solution: {why}; nothing was written. Deploy to a namespace with an Environment of its own"
    ))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::api::environment::DeployedSolution;
    use crate::api::record::RecordedSettings;
    use crate::api::reference::GroupKind;
    use crate::api::settings::VariableValue;

    fn record(number: usize, stage: &str, outcome: Outcome) -> DeploymentRecord {
        DeploymentRecord {
            request_uid: format!("r{number}"),
            request: format!("r{number}"),
            pipeline: "p".into(),
            stage: stage.into(),
            stage_uid: stage.into(),
            environment: "e".into(),
            environment_uid: "e".into(),
            environment_id: "i".into(),
            cluster: None,
            settings_digest: String::new(),
            settings: None,
            requested_by: "dana".into(),
            on_behalf_of: None,
            asked_at: None,
            approved_by: None,
            decisions: Vec::new(),
            deployed_by: "bot".into(),
            started_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::from_second(i64::try_from(number).unwrap()).unwrap(),
            outcome,
            reason: None,
            message: None,
            restored: None,
            failed_at: None,
            first_succeeded_at: None,
            plan: None,
            findings: Vec::new(),
            findings_omitted: 0,
            errors: Vec::new(),
            errors_omitted: 0,
            details_omitted: false,
        }
    }

    fn settings(value: &str) -> RecordedSettings {
        let value = VariableValue { name: "GREETING".into(), value: value.into() };
        RecordedSettings { environment_variables: vec![value], connection_references: Vec::new() }
    }

    #[test]
    fn the_first_success_is_remembered_when_its_record_is_dropped() {
        let mut records = Vec::new();
        for number in 7..200 {
            add(&mut records, record(number, "qa", Outcome::Succeeded));
        }
        assert_eq!(records.len(), LATEST_RECORDS);
        assert_eq!(records.last().unwrap().first_succeeded_at, Timestamp::from_second(7).ok());
        add(&mut records, DeploymentRecord { environment_id: "another".into(), ..record(200, "qa", Outcome::Succeeded) });
        assert_eq!(records.last().unwrap().first_succeeded_at, Timestamp::from_second(200).ok(), "another place has its own");
    }

    #[test]
    fn for_want_of_room_the_settings_of_what_runs_go_last_and_it_is_told() {
        let large = "𝒫".repeat(16 * 1024);
        let mut records = Vec::new();
        for (number, stage) in ["qa", "staging", "prod"].into_iter().enumerate() {
            add(&mut records, DeploymentRecord { settings: Some(settings(&large)), ..record(number, stage, Outcome::Succeeded) });
        }
        for number in 3..60 {
            add(&mut records, DeploymentRecord { settings: Some(settings(&large)), ..record(number, "qa", Outcome::Failed) });
            assert!(bytes(&records) <= MOST_RECORD_BYTES);
        }
        let (known, lost): (Vec<_>, Vec<_>) = records.iter().filter(|r| r.outcome == Outcome::Failed).partition(|r| r.settings.is_some());
        assert!(!known.is_empty() && !lost.is_empty() && lost.iter().all(|r| r.details_omitted));
        assert!(records[..3].iter().all(|r| r.settings.is_some() && !r.details_omitted), "a rollback needs them");
    }

    #[test]
    fn the_latest_success_of_each_stage_outlives_the_last_fifty() {
        let mut records =
            vec![record(0, "qa", Outcome::Succeeded), record(1, "prod", Outcome::Succeeded), record(2, "qa", Outcome::Succeeded)];
        for number in 3..103 {
            add(&mut records, record(number, "staging", Outcome::Failed));
        }
        assert_eq!(records.len(), LATEST_RECORDS + 2);
        assert_eq!(records[0].request, "r1");
        assert_eq!(records[1].request, "r2");
    }

    #[test]
    fn more_stages_than_the_record_takes_leave_out_the_oldest() {
        let mut records = Vec::new();
        for number in 0..=MAX_DEPLOYMENTS {
            add(&mut records, record(number, &format!("s{number}"), Outcome::Succeeded));
        }
        assert_eq!((records.len(), records[0].stage.as_str()), (MAX_DEPLOYMENTS, "s1"));
    }

    #[test]
    fn records_of_many_bytes_lose_what_proves_nothing_first() {
        let mut records = vec![record(0, "qa", Outcome::Succeeded)];
        for number in 1..=60 {
            let long = DeploymentRecord { message: Some("𝒫".repeat(16_384)), ..record(number, "qa", Outcome::Failed) };
            add(&mut records, long);
            assert!(bytes(&records) <= MOST_RECORD_BYTES);
        }
        assert_eq!((records[0].request.as_str(), records.last().unwrap().request.as_str()), ("r0", "r60"));
    }

    fn full(count: usize) -> EnvironmentStatus {
        let solutions = (0..count).map(|n| DeployedSolution { name: format!("s{n}"), ..DeployedSolution::default() }).collect();
        EnvironmentStatus { solutions, ..EnvironmentStatus::default() }
    }

    #[test]
    fn one_solution_more_than_an_environment_takes_is_refused_and_none_is_dropped() {
        assert_eq!(no_room("qa", "s1", &full(MAX_SOLUTIONS)), None);
        let message = no_room("qa", "s1", &full(MAX_SOLUTIONS + 1)).unwrap();
        assert!(message.contains("environment qa") && message.contains("at most 512"), "{message}");
        let mut large = full(MAX_SOLUTIONS);
        large.solutions.iter_mut().for_each(|s| s.requested_by = Some("𝒫".repeat(1024)));
        assert!(no_room("qa", "s1", &large).unwrap().contains("bytes"));
        let mut kinds = full(1);
        kinds.solutions[0].cluster_scoped =
            (0..=MAX_CLUSTER_KINDS).map(|n| GroupKind { group: "example.test".into(), kind: format!("K{n}") }).collect();
        assert!(no_room("qa", "s0", &kinds).unwrap().contains("256 kinds"));
    }
}
