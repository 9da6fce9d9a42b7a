//! Jobs that the previous version had and the new one lacks. A Job may have removed itself in development (`ttlSecondsAfterFinished`)
//! before its maker asked for the export. Without a warning nobody would notice.

use crate::api::artifact::ArtifactObject;
use crate::api::plan::{MAX_MESSAGE, PlanResult};
use crate::api::reason::Reason;
use crate::cluster::errors::{self, first_few};
use crate::cluster::object::group_of;

/// What is said of such Jobs of the former version's objects, as `is_gone` tells of the new version.
pub(crate) fn jobs(
    solution: &str,
    version: &str,
    former_version: &str,
    former: &[ArtifactObject],
    is_gone: impl Fn(&ArtifactObject) -> bool,
) -> Option<PlanResult> {
    let is_job = |object: &&ArtifactObject| object.kind == "Job" && group_of(&object.api_version) == "batch";
    let gone: Vec<String> = former.iter().filter(is_job).filter(|job| is_gone(job)).map(|job| format!("Job {}", job.name)).collect();
    let message = || {
        format!(
            "{} was part of {former_version} and is not part of {version}: it was not in development any more when that was exported. Where it removed \
             itself there once it had finished (ttlSecondsAfterFinished), apply it again and raise the version, and set its lifetime by an environment \
             variable of the Solution",
            first_few(gone.clone().into_iter())
        )
    };
    (!gone.is_empty()).then(|| PlanResult {
        kind: "Solution".into(),
        name: solution.into(),
        reason: Reason::JobGone.into(),
        message: errors::bounded(&message(), MAX_MESSAGE),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_the_new_version_lacks_is_told() {
        let object = |api_version: &str, kind: &str, name: &str| ArtifactObject {
            api_version: api_version.into(),
            kind: kind.into(),
            name: name.into(),
        };
        let former = [object("batch/v1", "Job", "migrate"), object("batch/v1", "Job", "stays"), object("v1", "ConfigMap", "gone")];
        let told = jobs("orders", "1.1.0", "1.0.0", &former, |object| object.name != "stays").unwrap();
        assert!(told.message.starts_with("Job migrate was part of 1.0.0 and is not part of 1.1.0: "), "{}", told.message);
        assert_eq!(jobs("orders", "1.1.0", "1.0.0", &former, |_| false), None);
    }
}
