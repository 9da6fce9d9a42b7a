//! When each version of a Solution first appeared in development. Lead times are counted from there.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::api::Solution;
use crate::api::condition::whole_seconds;
use crate::api::solution::{DevelopedVersion, MOST_DEVELOPED};

/// When a version of the Solution was first seen in development.
pub(crate) fn first_seen(solution: &Solution, version: &str) -> Option<Timestamp> {
    let versions = solution.status.iter().flat_map(|status| &status.developed);
    versions.into_iter().find(|v| v.version == version).map(|v| v.first_seen_at)
}

/// When the Solution's version appeared in development, if it is seen at `now` and was not noted before. The spec of a Solution of the
/// first generation is as old as the Solution.
pub(crate) fn appeared(solution: &Solution, now: Timestamp) -> Timestamp {
    let created = solution.creation_timestamp().map(|at| at.0).filter(|_| solution.metadata.generation == Some(1));
    created.unwrap_or(whole_seconds(now))
}

/// Notes a version. One that comes back keeps its first time, and the oldest ones are dropped.
pub(crate) fn note(versions: &mut Vec<DevelopedVersion>, version: &str, at: Timestamp) {
    if versions.iter().any(|v| v.version == version) {
        return;
    }
    versions.push(DevelopedVersion { version: version.to_owned(), first_seen_at: at });
    versions.drain(..versions.len().saturating_sub(MOST_DEVELOPED));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_version_that_comes_back_keeps_its_first_time_and_the_last_ones_are_kept() {
        let mut versions = Vec::new();
        for number in 0..20 {
            note(&mut versions, &format!("1.{number}.0"), at(number));
            note(&mut versions, "1.0.0", at(100));
        }
        assert_eq!(versions.len(), MOST_DEVELOPED);
        assert_eq!(versions.iter().find(|v| v.version == "1.5.0").unwrap().first_seen_at, at(5));
        assert!(versions.iter().any(|v| v.version == "1.19.0"));
    }

    #[test]
    fn the_first_version_is_as_old_as_the_solution() {
        let solution = |generation: i64| -> Solution {
            serde_json::from_value(json!({
                "metadata": {"name": "orders", "namespace": "dev", "generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"},
                "spec": {"version": "1.0.0"},
            }))
            .unwrap()
        };
        assert_eq!(appeared(&solution(1), at(2_000_000_000)).to_string(), "2026-01-01T00:00:00Z");
        assert_eq!(appeared(&solution(2), at(2_000_000_000)), at(2_000_000_000));
        let mut noted = solution(2);
        note(&mut noted.status.get_or_insert_default().developed, "1.0.0", at(7));
        assert_eq!((first_seen(&noted, "1.0.0"), first_seen(&noted, "1.1.0")), (Some(at(7)), None));
    }
}
