//! `kubectl pilotage grant`: the Roles and `RoleBindings` that people, delegates and the operator need. Conditions print the same ones if
//! they are missing. The command prints them, or applies them as the caller.

mod acting;
mod remotely;

use std::io::Write;

use anyhow::Context;
use clap::{Args, Subcommand, ValueEnum};
use kube::core::DynamicObject;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use self::acting::{Acting, Target};
pub(super) use self::acting::{exported, usual};
use super::apply;
use super::connection::Connection;
use super::output::{Format, Output};
use crate::api::environment::EnvironmentType;
use crate::api::reference::{Subject, SubjectKind};
use crate::identity::delegation::{Delegation, Served};
use crate::identity::grants;
use crate::policy::environment::opt_in_verb;
use crate::runtime::admission_check;

/// Print the roles and bindings that somebody needs; --apply applies them as you. The namespace (-n) is the host.
#[derive(Args, Debug)]
pub struct GrantArgs {
    #[command(subcommand)]
    what: What,
    /// Apply them as you instead of printing them. You can grant only rights that you hold yourself, or if you may bind and escalate.
    #[arg(long, global = true)]
    apply: bool,
}

#[derive(Subcommand, Debug)]
enum What {
    /// A namespace becomes a host, in which the operator works.
    Host,
    /// A namespace opts in to the host: as a target, or as a development environment that the operator may read.
    Environment {
        /// The namespace.
        #[arg(value_name = "NAMESPACE")]
        given: String,
        /// What it is to be.
        #[arg(long = "type", value_enum)]
        type_: Kind,
    },
    /// A delegate (or a requester, where a stage has no delegate) decides its requests and deploys to a target.
    Delegate(Acting),
    /// The operator acts as that delegate or requester, only in that target and for these kinds (constrained impersonation).
    Operator(Acting),
    /// Somebody may answer for a service account: they may own stages that delegate to it, without access to its token.
    Own {
        /// The service account of the host.
        #[arg(value_name = "SERVICE_ACCOUNT")]
        account: String,
        #[command(flatten)]
        who: Who,
    },
    /// Somebody asks for deployments through a pipeline. (The pipeline's spec.sharedWith does this too, and undoes it.)
    Deploy {
        /// The pipeline.
        pipeline: String,
        #[command(flatten)]
        who: Who,
    },
    /// Somebody decides the pre-export and the pre-deployment step of one stage, or of all.
    Approve {
        /// The stage. Default: all stages of the host.
        stage: Option<String>,
        #[command(flatten)]
        who: Who,
    },
    /// Somebody refers to Environments from pipelines and stages.
    Use {
        /// The Environments.
        #[arg(required = true)]
        environments: Vec<String>,
        #[command(flatten)]
        who: Who,
    },
    /// Somebody may allow cluster-scoped objects in solutions (spec.clusterScoped of Environments), and may deploy them.
    AllowClusterScoped {
        #[command(flatten)]
        who: Who,
    },
    /// Somebody configures the host, or administers the requests of one pipeline.
    Administer {
        /// The pipeline. Default: the whole host.
        pipeline: Option<String>,
        #[command(flatten)]
        who: Who,
    },
}

/// What a namespace is to be.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Solutions are deployed to it.
    Target,
    /// Solutions are developed in it.
    Development,
}

/// The subject of the grant.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct Who {
    /// A person, by their user name in the API server.
    #[arg(long)]
    user: Option<String>,
    /// A group of people.
    #[arg(long)]
    group: Option<String>,
    /// A service account: its name, or namespace:name if it is not in the host.
    #[arg(long)]
    service_account: Option<String>,
}

impl Who {
    fn subject(&self, host: &str) -> Subject {
        let of = |kind, name: &str| Subject { kind, name: name.to_owned(), namespace: None };
        match (&self.user, &self.group, &self.service_account) {
            (Some(user), _, _) => grants::subject_of(user),
            (_, Some(group), _) => of(SubjectKind::Group, group),
            (_, _, account) => {
                let account = account.as_deref().unwrap_or_default();
                let (namespace, name) = account.split_once(':').unwrap_or((host, account));
                grants::service_account(namespace, name)
            }
        }
    }
}

/// Prints the grant, or applies it and prints what was applied.
///
/// # Errors
/// If something that is named does not exist or can't be read, or if the API server refuses to apply it.
pub async fn run(connection: &Connection, args: GrantArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    connection.named()?;
    let client = connection.client();
    let text = of(&client, connection.namespace().to_owned(), &args).await?;
    if args.apply {
        let mut said: Vec<&str> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let done = apply::all(&client, &text).await?;
        said.push(&done);
        return out.one(&objects(&text)?, &names(&text)?, &said.join("\n"));
    }
    match out.format() {
        // It is YAML as it is, with its comments.
        Format::Yaml => out.verbatim(&text),
        _ => out.one(&objects(&text)?, &names(&text)?, &text),
    }
}

/// The objects of a grant as one list, as kubectl takes it.
fn objects(text: &str) -> anyhow::Result<Value> {
    let objects: Vec<Value> = serde_saphyr::from_multiple(text).context("reading the grant")?;
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": objects}))
}

/// Their names, one in each line.
fn names(text: &str) -> anyhow::Result<String> {
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(text).context("reading the grant")?;
    let name = |object: &DynamicObject| {
        let types = object.types.clone().unwrap_or_default();
        let group = types.api_version.rsplit_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
        format!("{}{group}/{}", types.kind.to_lowercase(), object.name_any())
    };
    Ok(objects.iter().map(name).collect::<Vec<_>>().join("\n"))
}

async fn of(client: &Client, host: String, args: &GrantArgs) -> anyhow::Result<String> {
    Ok(match &args.what {
        What::Host => grants::host(&host),
        What::Environment { given, type_ } => environment(&host, given, *type_),
        What::Delegate(acting) => {
            let Target { delegate, namespace, rights, decides, cluster, notes } = acting.resolve(client, &host).await?;
            if let Some(cluster) = &cluster {
                let there = remotely::delegate(&host, &delegate, cluster, &namespace, &rights);
                return remotely::printed(&there, cluster, args.apply).map(|text| noted(&notes, &text));
            }
            let mut parts = Vec::new();
            if decides {
                parts.push(grants::delegate_in_host(&host, &delegate.subject()));
            }
            parts.push(grants::delegate_in_target(&namespace, &delegate.subject()));
            if !rights.is_empty() {
                parts.push(grants::delegate_in_target_too(&delegate.subject(), &rights));
            }
            noted(&notes, &parts.join("---\n"))
        }
        What::Operator(acting) => {
            let Target { delegate, namespace, rights, cluster, notes, .. } = acting.resolve(client, &host).await?;
            if let Some(cluster) = &cluster {
                let parts = remotely::operator(&host, &delegate, cluster, &namespace);
                return remotely::printed(&parts, cluster, args.apply).map(|text| noted(&notes, &text));
            }
            let mut parts = vec![grants::operator_as_delegate(&namespace, &delegate, delegation(client).await?)];
            if !rights.is_empty() {
                parts.push(grants::operator_in_target_too(&delegate, &rights));
            }
            noted(&notes, &parts.join("---\n"))
        }
        What::Own { account, who } => grants::owner_of(&host, account, &who.subject(&host)),
        What::Deploy { pipeline, who } => grants::maker(&host, pipeline, &who.subject(&host)),
        What::Approve { stage, who } => grants::approver(&host, stage.as_deref(), &who.subject(&host)),
        What::Use { environments, who } => {
            let who = who.subject(&host);
            environments.iter().map(|name| grants::user_of_environment(&host, name, &who)).collect::<Vec<_>>().join("---\n")
        }
        What::AllowClusterScoped { who } => grants::allows_cluster_scoped(&who.subject(&host)),
        What::Administer { pipeline, who } => grants::administrator(&host, pipeline.as_deref(), &who.subject(&host)),
    })
}

/// How the operator acts as delegates in this cluster. Not everybody may read that; then its version tells.
pub(super) async fn delegation(client: &Client) -> anyhow::Result<Delegation> {
    if let Ok(installed) = admission_check::delegation_now(client).await {
        return Ok(installed);
    }
    let found = client.apiserver_version().await.context("asking for the version of the API server")?;
    let impersonates = Served::of(&found.major, &found.minor, &found.git_version).impersonates();
    Ok(if impersonates { Delegation::Impersonation } else { Delegation::LentToken })
}

/// A grant with notes about it as comments.
fn noted(notes: &[String], text: &str) -> String {
    notes.iter().map(|note| format!("# {note}")).chain([text.to_owned()]).collect::<Vec<_>>().join("\n")
}

fn environment(host: &str, namespace: &str, type_: Kind) -> String {
    let opt_in = |type_| grants::opt_in(host, namespace, opt_in_verb(type_));
    match type_ {
        Kind::Target => opt_in(EnvironmentType::Target),
        Kind::Development => format!("{}---\n{}", opt_in(EnvironmentType::Development), grants::operator_exports(namespace)),
    }
}
