//! What happens to requests, told to other systems: `CloudEvents` to a pipeline's sinks, signed, at least once, in order per request.
//!
//! Delivery is level-based. What has happened to a request stands in its own status ([`due`]); how far each sink has been told stands in
//! the pipeline's ([`progress`]); what is in between is sent ([`desk`]). So nothing is lost with the process, and no deployment waits for
//! a sink: the controllers know nothing of this.

mod bell;
mod desk;
mod due;
mod event;
mod health;
mod keys;
mod outlet;
mod progress;
mod report;
mod sender;
mod signature;
mod supervisor;

pub use bell::{Bell, Orders};
pub use report::SINKS_DELIVERING;
pub use supervisor::run;
