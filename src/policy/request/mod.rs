//! Decides the next step of a `DeploymentRequest`, and how its state is reported.

pub mod acceptance;
pub mod adoption;
pub mod approvers;
pub mod decide;
pub mod decisions;
pub mod deployment;
pub mod difference;
pub mod gates;
pub mod hash;
pub mod not_looked_for;
pub mod observed;
pub mod report;
pub mod rights;
pub mod rollback;
pub mod sharing;
pub mod step;
pub mod timing;
pub mod told;
pub mod vanished;
pub mod waiting;
pub mod warnings;

#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod rollback_tests;
#[cfg(test)]
mod scenario;
#[cfg(test)]
mod tests;

pub use decide::decide;
pub use observed::Observed;
pub use step::Step;
