//! How a step stops early: because of something that blocks it, which the request reports, or because of an error, after which the
//! reconciliation is repeated.

use crate::cluster::blocked::Blocked;
use crate::runtime::controller::ReconcileError;

/// Why a step stopped.
pub(super) enum Stop<B = Blocked> {
    /// What blocks the step.
    Because(B),
    Failed(ReconcileError),
}

impl<B> Stop<B> {
    /// What blocks the step, in the form in which the step reports it.
    pub(super) fn told<T>(self, tell: impl FnOnce(B) -> T) -> Result<T, ReconcileError> {
        match self {
            Self::Because(because) => Ok(tell(because)),
            Self::Failed(error) => Err(error),
        }
    }
}

impl<B> From<ReconcileError> for Stop<B> {
    fn from(error: ReconcileError) -> Self {
        Self::Failed(error)
    }
}

impl<B> From<kube::Error> for Stop<B> {
    fn from(error: kube::Error) -> Self {
        Self::Failed(error.into())
    }
}
