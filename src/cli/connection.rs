//! The cluster that the caller means, and who they are there: the flags of kubectl.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Api, Client, Config};

use super::exit::Exit;
use super::names::object_name;
use crate::api::duration;
use crate::api::reference::Identity;

/// The flags that say which cluster, where in it, and as whom.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Connection")]
pub struct ConnectionArgs {
    /// The namespace. Default: that of the current context.
    #[arg(short, long, global = true, value_parser = object_name)]
    namespace: Option<String>,
    /// All namespaces that you may read.
    #[arg(short = 'A', long, global = true)]
    all_namespaces: bool,
    /// The context of the kubeconfig. Default: the current one.
    #[arg(long, global = true)]
    context: Option<String>,
    /// The kubeconfig. Default: the files in KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The user to impersonate; a service account as system:serviceaccount:NAMESPACE:NAME.
    #[arg(long = "as", global = true, value_name = "USER")]
    impersonated: Option<String>,
    /// A group to impersonate; may be given several times.
    #[arg(long = "as-group", global = true, value_name = "GROUP", requires = "impersonated")]
    impersonated_groups: Vec<String>,
    /// How long one call to the API server may take, for example 30s. Default: as long as it takes, as with 0.
    #[arg(long, global = true, value_name = "DURATION")]
    request_timeout: Option<String>,
}

/// A connection to the cluster as the caller.
#[derive(Clone)]
pub struct Connection {
    client: Client,
    config: Config,
    named: Option<String>,
    everywhere: bool,
}

impl Connection {
    /// Reads the kubeconfig. Nothing is sent yet.
    ///
    /// # Errors
    /// If a flag is wrong, or the kubeconfig can't be read.
    pub async fn open(args: &ConnectionArgs) -> anyhow::Result<Self> {
        if args.all_namespaces && args.namespace.is_some() {
            return Err(Exit::Usage.because("--namespace and --all-namespaces exclude each other"));
        }
        if args.impersonated.as_deref() == Some("") {
            return Err(Exit::Usage.because("--as names a user"));
        }
        // A second provider in one process is the first one again.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = config(args).await?;
        if let Some(timeout) = timeout(args.request_timeout.as_deref().unwrap_or("0"))? {
            config.connect_timeout = Some(timeout);
            config.read_timeout = Some(timeout);
            config.reset_reader_on_write = true;
        }
        if args.impersonated.is_some() {
            config.auth_info.impersonate.clone_from(&args.impersonated);
            config.auth_info.impersonate_groups = (!args.impersonated_groups.is_empty()).then(|| args.impersonated_groups.clone());
        }
        let client = Client::try_from(config.clone())?;
        Ok(Self { client, config, named: args.namespace.clone(), everywhere: args.all_namespaces })
    }

    /// A connection to the same cluster as whoever this token is of, and as nobody else: with no certificate, password or impersonation of
    /// the caller.
    ///
    /// # Errors
    /// If there can be no such connection.
    pub(super) fn with_token(&self, token: String) -> anyhow::Result<Self> {
        let mut config = self.config.clone();
        config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() };
        let client = Client::try_from(config.clone())?;
        Ok(Self { client, config, ..self.clone() })
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The namespace that was named, or that of the context.
    pub fn namespace(&self) -> &str {
        self.named.as_deref().unwrap_or_else(|| self.client.default_namespace())
    }

    /// The namespace that was named, for verbs that work in one.
    ///
    /// # Errors
    /// If all namespaces are meant.
    pub fn named(&self) -> anyhow::Result<Option<&str>> {
        if self.everywhere {
            return Err(Exit::Usage.because("this works in one namespace: name it with -n, without --all-namespaces"));
        }
        Ok(self.named.as_deref())
    }

    /// Whether a namespace was named.
    pub fn is_named(&self) -> bool {
        self.named.is_some()
    }

    /// Whether all namespaces are meant.
    pub fn is_everywhere(&self) -> bool {
        self.everywhere
    }

    /// Who the caller is to the API server.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn caller(&self) -> anyhow::Result<Identity> {
        caller(&self.client).await
    }
}

/// Who the caller is to the API server.
///
/// # Errors
/// If the API server does not say.
pub(super) async fn caller(client: &Client) -> anyhow::Result<Identity> {
    let review = Api::<SelfSubjectReview>::all(client.clone()).create(&PostParams::default(), &SelfSubjectReview::default()).await;
    let user = review.context("asking who you are")?.status.and_then(|s| s.user_info).unwrap_or_default();
    Ok(Identity { username: user.username.unwrap_or_default(), uid: user.uid, groups: user.groups.unwrap_or_default() })
}

async fn config(args: &ConnectionArgs) -> anyhow::Result<Config> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let read = match &args.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let usage = |error: KubeconfigError| Exit::Usage.because(error.to_string());
    match read {
        Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(usage),
        // Inside of a cluster there is none.
        Err(error) if args.kubeconfig.is_none() && args.context.is_none() => {
            Config::incluster().map_err(|_| usage(error)).context("there is no cluster to talk to")
        }
        Err(error) => Err(usage(error)),
    }
}

fn timeout(text: &str) -> anyhow::Result<Option<Duration>> {
    if text == "0" {
        return Ok(None);
    }
    let read = duration::parse(text).filter(|timeout| !timeout.is_zero());
    read.map(Some).ok_or_else(|| Exit::Usage.because(format!("--request-timeout {text} is not a duration such as 30s")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_out_is_a_duration_or_none() {
        assert_eq!(timeout("0").unwrap(), None);
        assert_eq!(timeout("1m30s").unwrap(), Some(Duration::from_secs(90)));
        for wrong in ["", "soon", "5", "-1s"] {
            assert_eq!(Exit::of(&timeout(wrong).unwrap_err()), Exit::Usage, "{wrong}");
        }
    }

    #[tokio::test]
    async fn flags_that_contradict_each_other_are_wrong_usage() {
        let both = ConnectionArgs { namespace: Some("a".into()), all_namespaces: true, ..ConnectionArgs::default() };
        let nobody = ConnectionArgs { impersonated: Some(String::new()), ..ConnectionArgs::default() };
        let nowhere = ConnectionArgs { kubeconfig: Some("/does/not/exist".into()), ..ConnectionArgs::default() };
        for wrong in [both, nobody, nowhere] {
            assert_eq!(Connection::open(&wrong).await.err().map(|error| Exit::of(&error)), Some(Exit::Usage));
        }
    }
}
