//! The `kubectl` plugin: `kubectl pilotage …`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use pilotage::cli;
use pilotage::cluster::errors::message;
use pilotage::text::{self, Shown};

/// Delegated deployments: ask, watch, understand.
#[derive(Parser)]
#[command(name = "kubectl-pilotage", bin_name = "kubectl pilotage", version)]
struct Cli {
    /// The namespace; left out, that of the current context.
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig.
    #[arg(long, global = true)]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print the version of the plugin.
    Version,
    /// Show where solutions are and what requests wait for.
    Status,
    Grant(Box<cli::grant::GrantArgs>),
    Redeploy(Box<cli::redeploy::RedeployArgs>),
    Retry(Box<cli::retry::RetryArgs>),
    Cancel(cli::cancel::CancelArgs),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", text::plain(&said(&error)));
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, up to what the API server says.
fn said(error: &anyhow::Error) -> String {
    let mut words = Vec::new();
    for cause in error.chain() {
        if let Some(answer) = cause.downcast_ref::<kube::Error>() {
            words.push(message(answer));
            break;
        }
        words.push(cause.to_string());
    }
    words.join(": ")
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    // All that is printed goes through here: others wrote most of it.
    let mut out = Shown::new(std::io::stdout());
    match cli.command {
        Command::Version => writeln!(out, "kubectl-pilotage {}", env!("CARGO_PKG_VERSION"))?,
        Command::Status => writeln!(out, "{}", cli::status::run(client(cli.context).await?, cli.namespace).await?)?,
        Command::Redeploy(args) => cli::redeploy::run(client(cli.context).await?, cli.namespace, *args, &mut out).await?,
        Command::Retry(args) => cli::retry::run(client(cli.context).await?, cli.namespace, *args, &mut out).await?,
        Command::Cancel(args) => write!(out, "{}", cli::cancel::run(client(cli.context).await?, cli.namespace, args).await?)?,
        Command::Grant(args) => write!(out, "{}", cli::grant::run(client(cli.context).await?, cli.namespace, *args).await?)?,
    }
    Ok(())
}

async fn client(context: Option<String>) -> anyhow::Result<Client> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("a cryptography provider was installed before main"))?;
    let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
    let config = match Kubeconfig::read() {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await?,
        Err(_) => Config::infer().await?,
    };
    Ok(Client::try_from(config)?)
}
