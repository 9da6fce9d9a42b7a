//! The `kubectl` plugin: `kubectl pilotage …`.

use std::process::ExitCode;

use pilotage::cli::command::Cli;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ended = match Cli::read() {
        Ok(cli) => cli.run().await,
        Err(ended) => ended,
    };
    ExitCode::from(ended as u8)
}
