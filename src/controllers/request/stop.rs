//! How a step stops before its end: by what is in the way, which is said of the request, or by an error, after which the reconciliation
//! is made again.

use crate::cluster::blocked::Blocked;
use crate::runtime::controller::ReconcileError;

/// Why a step stopped.
pub(super) enum Stop<B = Blocked> {
    /// What is in the way.
    Because(B),
    Failed(ReconcileError),
}

impl<B> Stop<B> {
    /// What is in the way, as the step that it stopped tells it.
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
