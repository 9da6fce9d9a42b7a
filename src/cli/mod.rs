//! The `kubectl` plugin. Each verb has a file.

pub mod artifact;
pub mod ask;
pub mod cancel;
pub mod command;
pub mod completion;
pub mod connection;
pub mod deploy;
pub mod exit;
pub mod grant;
pub mod history;
pub mod inbox;
pub mod krew;
pub mod locate;
pub mod output;
pub mod page;
pub mod progress;
pub mod purge;
pub mod reading;
pub mod redeploy;
pub mod report;
pub mod retention;
pub mod retry;
pub mod status;
pub mod times;
pub mod tree;
pub mod watch;
