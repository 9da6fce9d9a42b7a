//! Who deploys where, and which rights that needs. It is read from a stage, a request, an artifact or a Solution, or given by flags.

use std::collections::BTreeSet;

use anyhow::{Context, bail};
use clap::Args;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::api::artifact::ArtifactObject;
use crate::api::environment::RemoteCluster;
use crate::api::reference::Identity;
use crate::api::stage::DelegateType;
use crate::api::{Artifact, DeploymentRequest, Environment, Solution, Stage};
use crate::artifact::export;
use crate::artifact::store::{ArtifactStore, StoreError};
use crate::cli::names::object_name;
use crate::cluster::blocked::{Until, Wait};
use crate::cluster::discovery::Discovery;
use crate::cluster::resources::Resources as _;
use crate::deploy::apply::share;
use crate::deploy::plan::connections;
use crate::deploy::plan::prerequisites;
use crate::identity::access::Right;
use crate::identity::delegate::Delegate;
use crate::identity::grants;

/// The kinds of ordinary applications, used if nothing says which kinds there are: resource and group.
const USUAL: [(&str, &str); 13] = [
    ("configmaps", ""),
    ("persistentvolumeclaims", ""),
    ("serviceaccounts", ""),
    ("services", ""),
    ("daemonsets", "apps"),
    ("deployments", "apps"),
    ("statefulsets", "apps"),
    ("horizontalpodautoscalers", "autoscaling"),
    ("cronjobs", "batch"),
    ("jobs", "batch"),
    ("ingresses", "networking.k8s.io"),
    ("networkpolicies", "networking.k8s.io"),
    ("poddisruptionbudgets", "policy"),
];

/// Who deploys, where, and what.
#[derive(Args, Debug)]
pub(super) struct Acting {
    /// The stage. It says where to deploy and who deploys, unless that is the requester.
    #[arg(long, required_unless_present = "target", value_parser = object_name)]
    stage: Option<String>,
    /// The target namespace, if no stage is given.
    #[arg(long, value_parser = object_name)]
    target: Option<String>,
    /// The delegate, if no stage is given: a service account of the host, or namespace:name for a requester from another namespace.
    #[arg(long, conflicts_with_all = ["user", "request"])]
    service_account: Option<String>,
    /// The person who deploys, if no stage is given: a stage's owner, or a requester.
    #[arg(long, conflicts_with = "request")]
    user: Option<String>,
    /// A group of this person. Give all groups except those that begin with system:.
    #[arg(long, requires = "user")]
    group: Vec<String>,
    /// A request whose requester deploys.
    #[arg(long, value_parser = object_name)]
    request: Option<String>,
    /// For the kinds in this Artifact of the host, and what its objects refer to.
    #[arg(long, value_parser = object_name)]
    artifact: Option<String>,
    /// For the kinds that this Solution has now, and what its objects refer to. --from gives its namespace.
    #[arg(long, requires = "from", value_parser = object_name)]
    solution: Option<String>,
    /// The development namespace of --solution.
    #[arg(long, value_parser = object_name)]
    from: Option<String>,
    /// For this kind, by its plural name and group: services, deployments.apps. Without this flag, an artifact or a solution: the kinds of
    /// ordinary applications.
    #[arg(long = "kind")]
    kinds: Vec<String>,
    /// For a Secret of the target that is offered to solutions (label pilotage.dev/connection). The delegate reads it by name.
    #[arg(long = "secret")]
    secrets: Vec<String>,
    /// For sharing this cluster role after a deployment, if the stage lets requesters ask for that.
    #[arg(long = "share")]
    shares: Vec<String>,
    /// Only what every deployment needs.
    #[arg(long, conflicts_with_all = ["artifact", "solution", "kinds", "secrets", "shares"])]
    least: bool,
}

/// Who deploys where with which rights.
pub(super) struct Target {
    /// Who deploys.
    pub delegate: Delegate,
    /// The target namespace.
    pub namespace: String,
    /// Which rights it needs in addition to those that every deployment needs.
    pub rights: Vec<Right>,
    /// Whether the delegate decides requests. A requester does not.
    pub decides: bool,
    /// The cluster of the target, if it is another than the host's.
    pub cluster: Option<RemoteCluster>,
    /// What could not be found out, and is missing in the grant.
    pub notes: Vec<String>,
}

impl Acting {
    /// Finds it out from what the caller may read.
    pub async fn resolve(&self, client: &Client, host: &str) -> anyhow::Result<Target> {
        let stage = match &self.stage {
            Some(name) => Some(get::<Stage>(client, host, name).await?),
            None => None,
        };
        let (namespace, cluster) = match (&self.target, &stage) {
            (Some(target), _) => (target.clone(), None),
            (None, Some(stage)) => {
                let target = get::<Environment>(client, host, &stage.spec.target_environment).await?.spec;
                (target.namespace, target.cluster)
            }
            (None, None) => bail!("name the --stage, or the --target namespace"),
        };
        let delegation = stage.as_ref().and_then(|s| s.spec.delegated_deployment.as_ref());
        let (named, decides) = match (self.named(client, host).await?, delegation) {
            (Some(named), _) => (Some(named), delegation.is_some() || stage.is_none()),
            (None, Some(delegation)) => {
                (of_stage(host, stage.as_ref(), delegation.type_, delegation.service_account_name.as_deref()), true)
            }
            (None, None) => (None, false),
        };
        let delegate = named.with_context(|| match &self.stage {
            Some(stage) => format!(
                "stage {stage} has no delegate, so that each requester deploys with their own rights: say which one, with --request, or --user and --group, or --service-account"
            ),
            None => "say who deploys: --service-account, --user with each --group, or --request".to_owned(),
        })?;
        let (rights, notes) = self.rights(client, host, &namespace, cluster.is_some()).await?;
        if let Some(cluster) = &cluster
            && !matches!(&delegate, Delegate::ServicePrincipal { namespace, .. } if namespace == host)
        {
            bail!(
                "the target is in cluster {}, where a service account of the host is stood for by the one of its name, and nobody else can deploy",
                cluster.kubeconfig_secret_ref.name
            );
        }
        Ok(Target { delegate, namespace, rights, decides: decides && self.request.is_none(), cluster, notes })
    }

    async fn named(&self, client: &Client, host: &str) -> anyhow::Result<Option<Delegate>> {
        if let Some(account) = &self.service_account {
            let (namespace, name) = account.split_once(':').unwrap_or((host, account));
            return Ok(Some(Delegate::ServicePrincipal { namespace: namespace.to_owned(), name: name.to_owned() }));
        }
        if let Some(user) = &self.user {
            return Ok(Some(Delegate::of(&Identity { username: user.clone(), uid: None, groups: self.group.clone() })));
        }
        let Some(name) = &self.request else { return Ok(None) };
        let request = get::<DeploymentRequest>(client, host, name).await?;
        let requester = request.spec.requested_by.with_context(|| format!("request {name} does not say who made it (spec.requestedBy)"))?;
        Ok(Some(Delegate::of(&requester)))
    }

    async fn rights(&self, client: &Client, host: &str, namespace: &str, is_remote: bool) -> anyhow::Result<(Vec<Right>, Vec<String>)> {
        if self.least {
            return Ok((Vec::new(), Vec::new()));
        }
        let mut notes = Vec::new();
        let mut resources: BTreeSet<Deployed> = BTreeSet::new();
        let discovery = Discovery::new(client.clone());
        if !self.kinds.is_empty() {
            let served = discovery.kinds().await.context("discovering the cluster's kinds")?;
            for kind in &self.kinds {
                let (plural, group) = kind.split_once('.').unwrap_or((kind, ""));
                let found = served.iter().find(|k| k.resource.plural == plural && k.resource.group == group);
                if found.is_none() && !is_remote {
                    bail!("the cluster does not serve {kind}: write its plural name and group, as services or deployments.apps");
                }
                if found.is_none() {
                    notes.push(format!("{kind} is not known in this cluster: it is taken to be in namespaces over there"));
                }
                resources.insert((group.to_owned(), plural.to_owned(), found.is_none_or(|k| k.namespaced)));
            }
        }
        let mut objects: Vec<Value> = Vec::new();
        // Names that stand for a Secret of the target with another name.
        let mut stand_ins: BTreeSet<String> = BTreeSet::new();
        if let Some(name) = &self.artifact {
            let artifact = get::<Artifact>(client, host, name).await?;
            match ArtifactStore::new(client.clone()).load(&artifact).await {
                Ok(bundle) => objects.extend_from_slice(bundle.objects()),
                Err(StoreError::KeptElsewhere { repository, .. }) => notes.push(kept(name, &repository)),
                Err(error) if error.until() == Until::Wait(Wait::Right) => notes.push(unread(name, host)),
                Err(error) => return Err(error.into()),
            }
            stand_ins.extend(artifact.spec.connection_references.iter().map(|c| c.secret_name.clone()));
            for ArtifactObject { api_version, kind, .. } in &artifact.spec.objects {
                let found = discovery.resource(api_version, kind).await.context("discovering the cluster's kinds")?;
                let (resource, namespaced) =
                    found.with_context(|| format!("the cluster does not serve {api_version} {kind} of artifact {name}"))?;
                resources.insert((resource.group, resource.plural, namespaced));
            }
        }
        if let (Some(name), Some(from)) = (&self.solution, &self.from) {
            let solution = get::<Solution>(client, from, name).await?;
            let (kinds, exported): (Vec<_>, Vec<_>) = of_solution(client, &discovery, &solution, from).await?.into_iter().unzip();
            stand_ins.extend(solution.spec.connection_references.iter().map(|c| c.secret_name.clone()));
            resources.extend(kinds);
            objects.extend(exported);
        }
        if resources.is_empty() && self.secrets.is_empty() && self.shares.is_empty() {
            resources.extend(USUAL.map(|(plural, group)| (group.to_owned(), plural.to_owned(), true)));
        }
        // Every deployment needs it, and another grant covers it.
        resources.remove(&(String::new(), "configmaps".to_owned(), true));
        let right = |(group, plural, namespaced): &Deployed| Right::within("get", group, plural, namespaced.then_some(namespace));
        let mut rights: Vec<Right> = resources.iter().flat_map(|deployed| whole(&right(deployed))).collect();
        if !self.shares.is_empty() {
            rights.extend(share::rights(namespace, &self.shares));
        }
        // The objects that they refer to are read by name, unless that is granted anyway.
        let referred: BTreeSet<Right> =
            [connections::rights(namespace, &objects), prerequisites::rights(namespace, &objects)].concat().into_iter().collect();
        rights.extend(referred.into_iter().filter(|right| {
            let deployed = (right.group.clone(), right.resource.clone(), right.namespace.is_some());
            let is_whole = resources.contains(&deployed) || right.resource == "configmaps";
            // What a connection reference stands for has another name in the target. That name is not known here.
            let is_said = right.resource == "secrets"
                && right.name.as_ref().is_some_and(|name| self.secrets.contains(name) || stand_ins.contains(name));
            !is_whole && !is_said
        }));
        if !stand_ins.is_empty() {
            let names: Vec<&str> = stand_ins.iter().map(String::as_str).collect();
            notes.push(format!(
                "Secrets that connection references put in the place of {} are not among this: name each with --secret, as the target calls it",
                names.join(", ")
            ));
        }
        rights.extend(self.secrets.iter().map(|name| Right::on("get", "", "secrets", namespace).named(name)));
        Ok((rights, notes))
    }
}

/// What a grant lacks if an artifact's bytes can't be read, and what to do about it.
const WITHOUT: &str = "what its objects refer to (Secrets, service accounts, claims) is not among this. Name Secrets with --secret";

/// A resource: its group, its plural name, and whether it is namespaced.
type Deployed = (String, String, bool);

/// The rights that deploying the kinds of ordinary applications needs, beyond those of every deployment.
pub(in crate::cli) fn usual(namespace: &str) -> Vec<Right> {
    let kinds = USUAL.iter().filter(|kind| **kind != ("configmaps", ""));
    kinds.flat_map(|(plural, group)| whole(&Right::on("get", group, plural, namespace))).collect()
}

/// The rights that deploying a kind needs.
fn whole(right: &Right) -> Vec<Right> {
    grants::DELEGATE_VERBS.iter().map(|verb| Right { verb: (*verb).to_owned(), ..right.clone() }).collect()
}

fn of_stage(host: &str, stage: Option<&Stage>, type_: DelegateType, account: Option<&str>) -> Option<Delegate> {
    match type_ {
        DelegateType::ServicePrincipal => {
            account.map(|name| Delegate::ServicePrincipal { namespace: host.to_owned(), name: name.to_owned() })
        }
        DelegateType::StageOwner => stage.and_then(|s| s.spec.owner.as_ref()).map(Delegate::of),
    }
}

/// The caller may not read the artifact's bytes, which contain the references.
fn unread(artifact: &str, host: &str) -> String {
    format!("You may not read the ConfigMaps of artifact {artifact} in namespace {host}: {WITHOUT}, or let who may read them run this")
}

/// The plugin has no credentials of the operator's registry.
fn kept(artifact: &str, repository: &str) -> String {
    format!("The bytes of artifact {artifact} are in {repository}, which only the operator reads: {WITHOUT}, or use --solution and --from")
}

/// The objects of a Solution as they would be exported, each with its resource.
async fn of_solution(
    client: &Client,
    discovery: &Discovery,
    solution: &Solution,
    namespace: &str,
) -> anyhow::Result<Vec<(Deployed, Value)>> {
    let name = solution.name_any();
    let selector = export::selector_text(&name, &solution.spec)?;
    let kinds = discovery.kinds().await.context("discovering the cluster's kinds")?;
    let mut found = Vec::new();
    // The export and the plan check what the Environment allows.
    let bounds = export::Bounds { environment: namespace, allowed: None };
    for kind in export::chosen(&kinds, &solution.spec.components, &bounds)? {
        let objects: Api<DynamicObject> = if kind.namespaced {
            Api::namespaced_with(client.clone(), namespace, &kind.resource)
        } else {
            Api::all_with(client.clone(), &kind.resource)
        };
        // What the caller may not read, they may not deploy either.
        let listed = match objects.list(&ListParams::default().labels(&selector)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 403..=405) => continue,
            listed => listed.with_context(|| format!("listing {} of namespace {namespace}", kind.resource.plural))?,
        };
        for object in listed.items {
            let mut live = serde_json::to_value(&object)?;
            // The items of a list of a core kind do not repeat these fields.
            live["apiVersion"] = kind.resource.api_version.clone().into();
            live["kind"] = kind.resource.kind.clone().into();
            let ApiResource { group, plural, .. } = kind.resource.clone();
            found.extend(export::exportable(&live, namespace).map(|object| ((group, plural, kind.namespaced), object)));
        }
    }
    if found.is_empty() {
        bail!("no object in namespace {namespace} has the labels {selector:?} of solution {name}, as far as you may read there");
    }
    Ok(found)
}

/// The objects of a Solution as they would be exported, as far as the caller may read them.
pub(in crate::cli) async fn exported(client: &Client, solution: &Solution, namespace: &str) -> anyhow::Result<Vec<Value>> {
    let found = of_solution(client, &Discovery::new(client.clone()), solution, namespace).await?;
    Ok(found.into_iter().map(|(_, object)| object).collect())
}

async fn get<K>(client: &Client, namespace: &str, name: &str) -> anyhow::Result<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let what = || format!("{} {name} of namespace {namespace}", K::kind(&()));
    Api::<K>::namespaced(client.clone(), namespace).get(name).await.with_context(|| format!("reading {}", what()))
}
