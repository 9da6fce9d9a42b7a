//! `kubectl pilotage check`: does this cluster have what Pilotage needs, and is it installed as this program knows it. One line each.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use super::ask::is_forbidden;
use super::connection::Connection;
use super::exit::Exit;
use super::output::{Column, Listing, Output, Row, Tone};
use super::times::Times;
use crate::api::names::{HOST_LABEL, service_account_username};
use crate::api::{GROUP, crd};
use crate::cluster::errors::message;
use crate::identity::delegation::{Delegation, Fits, Served};
use crate::identity::{OPERATOR_NAME, OPERATOR_NAMESPACE, grants};
use crate::runtime::admission_check;

/// The roles, as they are installed.
const ROLES: [&str; 7] = [
    include_str!("../../deploy/operator/clusterrole.yaml"),
    include_str!("../../deploy/roles/administrator.yaml"),
    include_str!("../../deploy/roles/aggregated.yaml"),
    include_str!("../../deploy/roles/approver.yaml"),
    include_str!("../../deploy/roles/host.yaml"),
    include_str!("../../deploy/roles/user.yaml"),
    include_str!("../../deploy/roles/viewer.yaml"),
];

/// Check whether this cluster has what Pilotage needs, and whether what is installed is of this version and unaltered. With -n, that host
/// is checked too; with -A, all hosts. The exit code is 1 if something is wrong or can't be found out.
#[derive(Args, Debug)]
pub struct CheckArgs {}

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum State {
    /// It is as it should be.
    Good,
    /// It is not.
    Wrong,
    /// The caller may not find it out.
    Unknown,
}

/// One thing that was checked.
#[derive(Clone, Debug, Serialize)]
struct Checked {
    what: String,
    state: State,
    message: String,
}

impl Row for Checked {
    const COLUMNS: &'static [Column] = &[Column::new("CHECK"), Column::new("STATE"), Column::new("MESSAGE")];

    fn cells(&self, _: &Times) -> Vec<String> {
        vec![self.what.clone(), format!("{:?}", self.state), self.message.clone()]
    }

    fn name(&self) -> String {
        self.what.clone()
    }

    fn tone(&self) -> Tone {
        match self.state {
            State::Good => Tone::Good,
            State::Wrong => Tone::Bad,
            State::Unknown => Tone::Waiting,
        }
    }
}

/// Checks everything, and prints a line each.
///
/// # Errors
/// If something is not as it should be, or the API server can't be reached.
pub async fn run(connection: &Connection, _: CheckArgs, out: &mut Output<impl Write + Send>) -> anyhow::Result<()> {
    let client = connection.client();
    let served = served(&client).await?;
    let delegation = admission_check::delegation_now(&client).await;
    // What the caller may not read is most likely as it is meant to be on that version.
    let meant = if served.impersonates() { Delegation::Impersonation } else { Delegation::LentToken };
    let delegation = delegation.unwrap_or(meant);
    let mut rows = vec![version(&served, delegation), features(&client, delegation).await];
    rows.extend(delegation.weaker().iter().map(|weaker| good("weaker than on newer versions", *weaker)));
    for (_, definition) in crd::all() {
        rows.push(kind(&client, &definition).await);
    }
    rows.push(policies(&client, delegation).await);
    rows.extend(roles(&client).await);
    rows.push(operator(&client).await);
    if connection.is_named() {
        rows.extend(host(&client, connection.namespace()).await);
    } else if connection.is_everywhere() {
        match Api::<Namespace>::all(client.clone()).list(&ListParams::default().labels(&format!("{HOST_LABEL}=true"))).await {
            Ok(hosts) => {
                for found in &hosts.items {
                    rows.extend(host(&client, &found.name_any()).await);
                }
            }
            Err(error) => rows.push(unknown("hosts", &error)),
        }
    }
    let count = |state| rows.iter().filter(|row| row.state == state).count();
    let (wrong, unknown) = (count(State::Wrong), count(State::Unknown));
    out.list(&Listing { rows, not_shown: Vec::new() }, "")?;
    if wrong + unknown > 0 {
        return Err(Exit::Failed.because(format!("{wrong} checks failed, and {unknown} could not be made")));
    }
    Ok(())
}

fn good(what: impl Into<String>, message: impl Into<String>) -> Checked {
    Checked { what: what.into(), state: State::Good, message: message.into() }
}

fn wrong(what: impl Into<String>, message: impl Into<String>) -> Checked {
    Checked { what: what.into(), state: State::Wrong, message: message.into() }
}

/// A call failed. That something does not exist is wrong; what the caller may not read is not known.
fn unknown(what: impl Into<String>, error: &kube::Error) -> Checked {
    let state = if matches!(error, kube::Error::Api(status) if status.code == 404) { State::Wrong } else { State::Unknown };
    let hint = if is_forbidden(error) { ": you may not find it out; let a cluster administrator run this" } else { "" };
    Checked { what: what.into(), state, message: format!("{}{hint}", message(error)) }
}

async fn served(client: &Client) -> anyhow::Result<Served> {
    let found = client.apiserver_version().await.context("asking for the version of the API server")?;
    Ok(Served::of(&found.major, &found.minor, &found.git_version))
}

/// Which of the two a cluster is, and whether what is installed is for it.
fn version(served: &Served, delegation: Delegation) -> Checked {
    let told = served.told(delegation);
    match served.fits(delegation) {
        Fits::Well | Fits::Weaker => good("Kubernetes", told),
        Fits::Not => wrong("Kubernetes", told),
    }
}

/// The resources that the policies are made of.
async fn features(client: &Client, delegation: Delegation) -> Checked {
    const VALIDATING: [&str; 2] = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"];
    const MUTATING: [&str; 2] = ["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"];
    let mutating = MUTATING.into_iter().filter(|_| delegation == Delegation::Impersonation);
    let what = "admission policies (feature)";
    match client.list_api_group_resources("admissionregistration.k8s.io/v1").await {
        Ok(list) => {
            let missing: Vec<&str> =
                VALIDATING.into_iter().chain(mutating).filter(|wanted| !list.resources.iter().any(|r| r.name == *wanted)).collect();
            if missing.is_empty() {
                return good(what, "admissionregistration.k8s.io/v1 has them");
            }
            wrong(what, format!("admissionregistration.k8s.io/v1 lacks {}: turn the feature gates on", missing.join(", ")))
        }
        Err(error) => unknown(what, &error),
    }
}

async fn kind(client: &Client, wanted: &CustomResourceDefinition) -> Checked {
    let what = format!("kind {}", wanted.spec.names.kind);
    let name = wanted.name_any();
    match Api::<CustomResourceDefinition>::all(client.clone()).get(&name).await {
        Ok(found) => {
            let conditions = found.status.iter().flat_map(|status| status.conditions.iter().flatten());
            if !conditions.into_iter().any(|c| c.type_ == "Established" && c.status == "True") {
                return wrong(what, format!("{name} is not served: kubectl describe crd {name}"));
            }
            if versions(&found) == versions(wanted) {
                good(what, format!("{name} is of this version"))
            } else {
                wrong(what, format!("{name} is not that of this version: kubectl apply --server-side --force-conflicts -f crds/"))
            }
        }
        Err(kube::Error::Api(status)) if status.code == 404 => {
            wrong(what, format!("{name} is not installed: kubectl apply --server-side -f crds/"))
        }
        Err(error) => unknown(what, &error),
    }
}

/// What counts of a definition: its versions with their schemas.
fn versions(definition: &CustomResourceDefinition) -> Vec<(String, Value)> {
    let schema = |version: &k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionVersion| {
        (version.name.clone(), serde_json::to_value(&version.schema).unwrap_or_default())
    };
    definition.spec.versions.iter().map(schema).collect()
}

async fn policies(client: &Client, delegation: Delegation) -> Checked {
    let what = "admission policies";
    match admission_check::missing_now(client, delegation).await {
        Ok(missing) if missing.is_empty() => good(what, "all are in force and unaltered"),
        Ok(missing) => wrong(
            what,
            format!("missing or altered: {}. Nothing deploys until they are back: {}", missing.join(", "), delegation.restores()),
        ),
        Err(error) => unknown(what, &error),
    }
}

async fn roles(client: &Client) -> Vec<Checked> {
    let mut rows = Vec::new();
    for wanted in ROLES.iter().flat_map(|text| serde_saphyr::from_multiple::<ClusterRole>(text).unwrap_or_default()) {
        let name = wanted.name_any();
        let what = format!("ClusterRole {name}");
        rows.push(match Api::<ClusterRole>::all(client.clone()).get(&name).await {
            Ok(found) if found.rules == wanted.rules => good(what, "is of this version"),
            Ok(_) => wrong(what, "has other rules than that of this version: kubectl apply --server-side --force-conflicts -f deploy/roles/ -f deploy/operator/"),
            Err(kube::Error::Api(status)) if status.code == 404 => {
                wrong(what, "is not installed: kubectl apply --server-side -f deploy/roles/ -f deploy/operator/")
            }
            Err(error) => unknown(what, &error),
        });
    }
    rows
}

/// Whether the operator holds its role, in the whole cluster.
async fn operator(client: &Client) -> Checked {
    let what = "operator's rights";
    match may(client, "watch", "deploymentrequests", None).await {
        Ok(true) => good(what, "it watches its kinds"),
        Ok(false) => wrong(what, "it may not watch its kinds: kubectl apply --server-side -f deploy/operator/"),
        Err(error) => unknown(what, &error),
    }
}

/// Whether a namespace is a host in which the operator can work.
async fn host(client: &Client, name: &str) -> Vec<Checked> {
    let what = format!("host {name}");
    let labelled = match Api::<Namespace>::all(client.clone()).get(name).await {
        Ok(found) if found.labels().get(HOST_LABEL).is_some_and(|value| value == "true") => good(&what, "has the label of hosts"),
        Ok(_) => wrong(&what, format!("is no host: kubectl label namespace {name} {HOST_LABEL}=true")),
        Err(error) => unknown(&what, &error),
    };
    let what = format!("host {name}, operator's rights");
    let rights = match may(client, "create", "artifacts", Some(name)).await {
        Ok(true) => good(what, "it works there"),
        Ok(false) => {
            let grant = grants::operator_in_host(name);
            wrong(what, format!("it lacks the ClusterRole pilotage-host there: kubectl pilotage grant host -n {name}, or apply {grant}"))
        }
        Err(error) => unknown(what, &error),
    };
    vec![labelled, rights]
}

/// Whether the operator holds a right on its own kinds.
async fn may(client: &Client, verb: &str, resource: &str, namespace: Option<&str>) -> kube::Result<bool> {
    let attributes = ResourceAttributes {
        group: Some(GROUP.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let groups =
        ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{OPERATOR_NAMESPACE}"), "system:authenticated".to_owned()];
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(service_account_username(OPERATOR_NAMESPACE, OPERATOR_NAME)),
            groups: Some(groups.to_vec()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let answer = Api::<SubjectAccessReview>::all(client.clone()).create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_lacks_what_is_needed_is_told() {
        let of = |minor: &str, delegation| version(&Served::of("1", minor, "v1.x"), delegation);
        assert_eq!(of("36", Delegation::Impersonation).state, State::Good);
        assert_eq!(of("40+", Delegation::Impersonation).state, State::Good);
        let older = of("35", Delegation::Impersonation);
        assert!(older.state == State::Wrong && older.message.contains("older-kubernetes"), "{}", older.message);
        assert_eq!(of("35", Delegation::LentToken).state, State::Good);
    }

    #[test]
    fn every_role_that_is_shipped_is_read() {
        let roles: Vec<ClusterRole> = ROLES.iter().flat_map(|text| serde_saphyr::from_multiple::<ClusterRole>(text).unwrap()).collect();
        assert!(roles.len() >= 10 && roles.iter().all(|role| role.rules.as_ref().is_some_and(|rules| !rules.is_empty())));
    }
}
