//! When a control plane is ready for tests: its API server answers, and the controllers have done what they do in every cluster before its
//! first user comes.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::kubectl::Kubectl;
use crate::nodes;

/// The roles that are aggregated from others.
const AGGREGATED: [&str; 3] = ["admin", "edit", "view"];

/// Waits until the default `ServiceAccount` exists, the aggregated roles are
/// complete and the nodes can take pods.
pub(crate) fn wait(kubectl: &Kubectl, node_count: usize, within: Duration) -> Result<()> {
    let mut args = vec!["get", "--ignore-not-found", "serviceaccount/default"];
    let roles: Vec<_> =
        AGGREGATED.iter().flat_map(|role| [format!("clusterrole/{role}"), format!("clusterrole/system:aggregate-to-{role}")]).collect();
    let names: Vec<_> = (1..=node_count).map(|number| format!("node/{}", nodes::name(number))).collect();
    args.extend(roles.iter().chain(&names).map(String::as_str));
    let start = Instant::now();
    loop {
        let missing = match kubectl.json(&args) {
            Ok(list) => missing(&list, node_count),
            Err(error) => Some(format!("{error:#}")),
        };
        let Some(missing) = missing else {
            return Ok(());
        };
        if start.elapsed() > within {
            bail!("the control plane is not ready after {} s: {missing}", within.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns what is missing, if anything.
fn missing(list: &Value, node_count: usize) -> Option<String> {
    let Some(items) = list["items"].as_array() else {
        return Some("nothing is there yet".into());
    };
    let find = |kind: &str, name: &str| items.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    if find("ServiceAccount", "default").is_none() {
        return Some("there is no default ServiceAccount".into());
    }
    let rules = |name: &str| find("ClusterRole", name).and_then(|role| role["rules"].as_array());
    // Each of these roles contains the rules of the next one too.
    let mut inner: &[Value] = &[];
    for role in AGGREGATED.iter().rev() {
        let own = rules(&format!("system:aggregate-to-{role}")).map_or(&[][..], Vec::as_slice);
        let whole = rules(role).map_or(&[][..], Vec::as_slice);
        if whole.is_empty() || !inner.iter().chain(own).all(|rule| whole.contains(rule)) {
            return Some(format!("the role {role} is not aggregated"));
        }
        inner = whole;
    }
    let unready = (1..=node_count).map(nodes::name).find(|name| {
        find("Node", name).is_none_or(|node| {
            let ready = node["status"]["conditions"]
                .as_array()
                .is_some_and(|all| all.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"));
            !ready || node["spec"]["taints"].as_array().is_some_and(|taints| !taints.is_empty())
        })
    });
    unready.map(|name| format!("{name} takes no pods"))
}
