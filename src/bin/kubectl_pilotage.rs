//! The `kubectl` plugin: `kubectl pilotage …`.

use std::process::ExitCode;

use clap::Parser;
use pilotage::cli::command::Cli;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    ExitCode::from(Cli::parse().run().await as u8)
}
