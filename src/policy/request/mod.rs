//! Decides the next step of a `DeploymentRequest`, and how its state is reported.

pub(crate) mod acceptance;
pub(crate) mod adoption;
pub(crate) mod approvers;
pub(crate) mod cancel;
pub(crate) mod decide;
pub(crate) mod decisions;
pub(crate) mod deployment;
pub(crate) mod difference;
pub(crate) mod gates;
pub(crate) mod hash;
pub(crate) mod not_looked_for;
pub(crate) mod observed;
pub(crate) mod report;
pub(crate) mod rights;
pub(crate) mod rollback;
pub(crate) mod sharing;
pub(crate) mod step;
pub(crate) mod timing;
pub(crate) mod told;
pub(crate) mod vanished;
pub(crate) mod waiting;
pub(crate) mod warnings;

#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod rollback_tests;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod tests;

pub(crate) use decide::decide;
