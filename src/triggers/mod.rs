//! What happens to requests, told to other systems: `CloudEvents` to a pipeline's sinks, signed, at least once, in order per request.
//!
//! Delivery is level-based. What has happened to a request stands in its own status ([`due`]); how far each sink has been told stands in
//! the pipeline's ([`progress`]); what is in between is sent ([`dispatcher`]). So nothing is lost with the process, and no deployment waits for
//! a sink: the controllers know nothing of this.

mod dispatcher;
mod event;
mod happened;
mod health;
mod keys;
mod progress;
mod report;
mod sender;
mod signature;
mod sink_worker;
mod supervisor;
mod wake_ups;

pub(crate) use report::SINKS_DELIVERING;
pub(crate) use supervisor::run;
pub(crate) use wake_ups::{Orders, WakeUps};
