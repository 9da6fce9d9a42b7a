//! The phases of a request.

use super::words::words;

words! {
    /// Where a request is, in one word for people. Stored as text, so that a status of another version of the operator can be read.
    pub enum Phase {
        /// It is looked at, exported, or planned; or waits for what it needs for that
        Pending => "See `waitingFor`",
        /// Gate 1 is open
        AwaitingPreExportStep => "Somebody who may `approve` on the stage decides",
        /// Gate 2 is open
        AwaitingApproval => "The delegate, or whom the stage names, decides",
        /// Gate 3 is open
        AwaitingPreDeploymentStep => "Somebody who may `approve` on the stage decides",
        /// Its gates are decided, and it waits for its time or its turn
        Queued => "",
        /// It has claimed its target and writes to it, or waits for health
        Deploying => "",
        /// The deployment failed, and the version before is put back
        RollingBack => "",
        /// Ended: deployed and healthy
        Succeeded => "",
        /// Ended: it was only to be planned, and could be carried out
        Planned => "Ask again without `planOnly`",
        /// Ended: it could not be carried out
        Failed => "See the message of `Succeeded`, then ask again",
        /// Ended: somebody said no at a gate
        Rejected => "See the comment in the message",
        /// Ended: it was withdrawn, or deleted, before anything was written
        Canceled => "",
        /// In triggers alone: the request was deleted before it could be told how it ended
        Unknown => "See the Artifact's record",
    }
}

impl Phase {
    /// Whether it is one that is never left.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Planned | Self::Failed | Self::Rejected | Self::Canceled | Self::Unknown => true,
            Self::Pending
            | Self::AwaitingPreExportStep
            | Self::AwaitingApproval
            | Self::AwaitingPreDeploymentStep
            | Self::Queued
            | Self::Deploying
            | Self::RollingBack => false,
        }
    }

    /// Whether a stored phase is one that is never left. A word that is not known is none: what the request is at is looked up.
    pub fn has_ended(stored: &str) -> bool {
        Self::of(stored).is_some_and(Self::is_terminal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_of_solutions_knows_which_requests_have_ended() {
        let policy = include_str!("../../deploy/admission/delete.yaml");
        let ended: Vec<String> = Phase::ALL.iter().filter(|phase| phase.is_terminal()).map(|phase| format!("'{phase}'")).collect();
        assert!(policy.contains(&format!("[{}]", ended.join(", "))), "{ended:?}");
    }
}
