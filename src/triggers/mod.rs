//! Tells other systems what happens to requests: signed `CloudEvents` to a pipeline's sinks, at least once, and in order for each request.
//!
//! Delivery is level-based. The request's own status says what has happened to it ([`happened`]). The pipeline's status says how far each
//! sink has been told ([`progress`]). The difference is sent ([`dispatcher`]). So nothing is lost when the process ends, and no deployment
//! waits for a sink: the controllers know nothing about sinks.

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
