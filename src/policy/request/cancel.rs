//! Until when a request can be canceled: as long as nothing was written to the target.

use std::ops::ControlFlow::{self, Break, Continue};

use super::observed::Observed;
use super::step::{End, Ending, Step};
use super::waiting::reached;
use crate::api::reason::Reason;

/// Ends a request that its requester, or an administrator, withdrew.
pub(super) fn withdrawn(o: &Observed) -> ControlFlow<Step> {
    if !o.request.cancel {
        return Continue(());
    }
    Break(Ending::step(End::Canceled, reached(o), Reason::Canceled, "canceled before anything was written to the target"))
}
