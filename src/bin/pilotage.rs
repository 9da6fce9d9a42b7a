//! The operator. `pilotage crd` prints the custom resource definitions, `pilotage reasons` the page of all reasons, `pilotage plugin-docs`
//! that of the plugin.

use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use pilotage::api::{crd, words};
use pilotage::cli::{krew, page};
use pilotage::operator::{self, OperatorArgs};
use pilotage::text::Shown;

/// It returns freed memory to the system. The allocator of glibc would keep most of what a large deployment took.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Delegated deployments for Kubernetes: makers ask, gates decide, the stage's delegate deploys.
#[derive(Parser)]
#[command(name = "pilotage", version)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    operator: OperatorArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator (what happens without a command, too).
    Run,
    /// Print the custom resource definitions as YAML.
    Crd {
        /// Write one file for each kind into this folder instead.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Print the page of the plugin's verbs.
    PluginDocs {
        /// Write it into this file instead.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Print the manifest with which krew installs the plugin.
    Krew {
        /// Where the archives are downloaded from.
        #[arg(long, value_name = "URL")]
        from: String,
        /// An archive of the plugin; may be given several times.
        #[arg(long = "archive", value_name = "OS/ARCHITECTURE=FILE")]
        archives: Vec<String>,
    },
    /// Print the page of all reasons and phases.
    Reasons {
        /// Write it into this file instead.
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Crd { out }) => print_definitions(out.as_deref()),
        Some(Command::Reasons { out }) => print_page(out.as_deref(), &words::page()),
        Some(Command::PluginDocs { out }) => print_page(out.as_deref(), &page::page()),
        Some(Command::Krew { from, archives }) => print_page(None, &krew::manifest(&from, &archives)?),
        Some(Command::Run) | None => {
            tracing_subscriber::fmt()
                .with_env_filter(
                    tracing_subscriber::EnvFilter::try_from_default_env()
                        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn,hyper=warn,tower=warn")),
                )
                // What others wrote is in there: each entry is one line, and nothing in it controls a terminal.
                .with_ansi(false)
                .with_writer(|| Shown::by_line(std::io::stderr()))
                .init();
            rustls::crypto::ring::default_provider()
                .install_default()
                .map_err(|_| anyhow::anyhow!("a cryptography provider was installed before main"))?;
            operator::run(cli.operator).await
        }
    }
}

fn print_page(out: Option<&Path>, text: &str) -> anyhow::Result<()> {
    match out {
        Some(file) => std::fs::write(file, text)?,
        None => print!("{text}"),
    }
    Ok(())
}

fn print_definitions(out: Option<&Path>) -> anyhow::Result<()> {
    for (file, definition) in crd::all() {
        let text = crd::to_yaml(&definition)?;
        match out {
            Some(folder) => std::fs::write(folder.join(file), text)?,
            None => print!("---\n{text}"),
        }
    }
    Ok(())
}
