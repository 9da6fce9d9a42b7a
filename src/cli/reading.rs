//! Lists objects as the caller: in one namespace, or in all that they may read. What they may not read is told, and is no failure as
//! long as something can be read.

use std::collections::BTreeSet;

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::ask::is_forbidden;
use super::connection::Connection;
use crate::api::Solution;
use crate::api::names::HOST_LABEL;

/// How many objects are read with one call.
const PAGE: u32 = 500;

/// Objects, and what the caller may not read of them.
#[derive(Debug)]
pub struct Read<K> {
    /// The objects.
    pub items: Vec<K>,
    /// What is missing, and why.
    pub not_shown: Vec<String>,
}

impl<K> Default for Read<K> {
    fn default() -> Self {
        Self { items: Vec::new(), not_shown: Vec::new() }
    }
}

/// Where to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Where {
    /// In one namespace.
    One(String),
    /// In all namespaces, with one call.
    Everywhere,
    /// In these, because the caller may not read all.
    Some(Vec<String>),
}

/// The objects of a namespace, a page after the other. `None` if the caller may not read them.
///
/// # Errors
/// If they can't be read for another reason.
pub async fn all<K>(api: &Api<K>, what: &str) -> anyhow::Result<Option<Vec<K>>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let (mut items, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let page = match api.list(&params).await {
            Ok(page) => page,
            Err(error) if is_forbidden(&error) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {what}")),
        };
        items.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => return Ok(Some(items)),
        }
    }
}

/// Lists objects of one kind there.
///
/// # Errors
/// If they can't be read for another reason than a missing right.
pub async fn list<K>(client: &Client, there: &Where) -> anyhow::Result<Read<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let kind = K::plural(&());
    let namespaces = match there {
        Where::Everywhere => {
            let found = all(&Api::<K>::all(client.clone()), &format!("{kind} of all namespaces")).await?;
            let not_shown = if found.is_none() { vec![format!("{kind}: you may not list them in all namespaces")] } else { Vec::new() };
            return Ok(Read { items: found.unwrap_or_default(), not_shown });
        }
        Where::One(namespace) => std::slice::from_ref(namespace),
        Where::Some(namespaces) => namespaces,
    };
    let mut read = Read::default();
    for namespace in namespaces {
        match all(&Api::<K>::namespaced(client.clone(), namespace), &format!("{kind} of namespace {namespace}")).await? {
            Some(items) => read.items.extend(items),
            None => read.not_shown.push(format!("{kind} of namespace {namespace}: you may not list them")),
        }
    }
    Ok(read)
}

/// All hosts that the caller may know of: by a call for all namespaces, by the label of hosts, or by what the Solutions of the current
/// namespace tell.
///
/// # Errors
/// If the API server does not answer.
pub async fn hosts<K>(connection: &Connection) -> anyhow::Result<(Where, Vec<String>)>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let client = connection.client();
    match Api::<K>::all(client.clone()).list(&ListParams::default().limit(1)).await {
        Ok(_) => return Ok((Where::Everywhere, Vec::new())),
        Err(error) if is_forbidden(&error) => {}
        Err(error) => return Err(error).with_context(|| format!("reading {} of all namespaces", K::plural(&()))),
    }
    let own = connection.namespace().to_owned();
    match Api::<Namespace>::all(client.clone()).list(&ListParams::default().labels(&format!("{HOST_LABEL}=true"))).await {
        Ok(found) => Ok((Where::Some(found.iter().map(ResourceExt::name_any).collect()), Vec::new())),
        Err(error) if is_forbidden(&error) => {
            let mut hosts = BTreeSet::from([own.clone()]);
            let solutions = all(&Api::<Solution>::namespaced(client, &own), &format!("solutions of namespace {own}")).await?;
            let told = solutions.iter().flatten().filter_map(|s| s.status.as_ref()).flat_map(|s| &s.deployments);
            hosts.extend(told.map(|entry| entry.host.clone()));
            let hosts: Vec<String> = hosts.into_iter().collect();
            let note = format!("you may not list namespaces, so that only {} was looked at: name others with -n", hosts.join(", "));
            Ok((Where::Some(hosts), vec![note]))
        }
        Err(error) => Err(error).context("reading which namespaces are hosts"),
    }
}
