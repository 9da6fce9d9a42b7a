//! Node ports that a person chose in development. A node port exists once in a cluster, so a target in the same cluster can't have it too.

use serde_json::Value;

use crate::api::plan::PlanResult;
use crate::api::reason::Reason;
use crate::api::settings::VariableDefinition;
use crate::cluster::errors::{first_few, result};
use crate::cluster::object::{self, Key};

/// A node port that the target's Service is deployed without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodePort {
    service: String,
    port: i64,
}

/// Removes node ports from Services, so that the API server chooses others. Ports that an environment variable sets stay.
pub(crate) fn leave(objects: &mut [Value], variables: &[VariableDefinition]) -> Vec<NodePort> {
    let mut left = Vec::new();
    for object in objects.iter_mut().filter(|object| object::kind(object) == "Service" && object::group(object).is_empty()) {
        let service = object::name(object).to_owned();
        // Other groups have a kind Service too.
        let of_service = |v: &&VariableDefinition| {
            let group = v.target.api_version.as_deref().map_or("", object::group_of);
            group.is_empty() && v.target.kind == "Service" && v.target.name == service
        };
        let paths: Vec<&str> = variables.iter().filter(of_service).map(|v| v.target.path.as_str()).collect();
        let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for (index, port) in ports.into_iter().flatten().enumerate() {
            let is_variable = [index.to_string().as_str(), port.get("name").and_then(Value::as_str).unwrap_or_default()]
                .iter()
                .any(|item| paths.contains(&format!("/spec/ports/{item}/nodePort").as_str()));
            if is_variable {
                continue;
            }
            if let Some(port) = port.as_object_mut().and_then(|port| port.remove("nodePort")).and_then(|port| port.as_i64()) {
                left.push(NodePort { service: service.clone(), port });
            }
        }
    }
    left
}

/// Reports them to the approver.
pub(crate) fn told(solution: &str, left: &[NodePort]) -> Option<PlanResult> {
    let named = first_few(left.iter().map(|left| format!("{} of Service {}", left.port, left.service)));
    let message = format!(
        "these node ports of development are not taken over, because a node port can be used once in a cluster: {named}. The API server chooses others, or the Service keeps those that it has. \
         To set one, define an environment variable in the Solution with the path /spec/ports/NAME/nodePort"
    );
    let key = Key { group: String::new(), kind: "Solution".into(), name: solution.to_owned() };
    (!left.is_empty()).then(|| result(&key, Reason::NodePortsLeft, &message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_port_stays_only_where_a_variable_is_for_it() {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"type": "NodePort", "ports": [
            {"name": "http", "port": 80, "nodePort": 30080}, {"name": "https", "port": 443, "nodePort": 30443}, {"name": "admin", "port": 81}
        ]}});
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "web"}, "spec": {"ports": [{"nodePort": 1}]}});
        let variable = |name: &str, path: &str| -> VariableDefinition {
            serde_json::from_value(json!({"name": "port", "type": "Number", "target": {"kind": "Service", "name": name, "path": path}}))
                .unwrap()
        };
        let left = |variables: &[VariableDefinition]| {
            let mut objects = [service.clone(), map.clone()];
            let left: Vec<i64> = leave(&mut objects, variables).into_iter().map(|left| left.port).collect();
            assert_eq!(objects[1], map, "it is no Service");
            let kept: Vec<i64> = (0..3).filter_map(|port| objects[0]["spec"]["ports"][port]["nodePort"].as_i64()).collect();
            (left, kept)
        };
        assert_eq!(left(&[]), (vec![30080, 30443], vec![]));
        assert_eq!(left(&[variable("web", "/spec/ports/https/nodePort")]), (vec![30080], vec![30443]));
        assert_eq!(left(&[variable("web", "/spec/ports/0/nodePort")]), (vec![30443], vec![30080]));
        assert_eq!(left(&[variable("other", "/spec/ports/0/nodePort"), variable("web", "/spec/type")]), (vec![30080, 30443], vec![]));
    }

    #[test]
    fn what_is_left_is_named_with_what_to_do() {
        assert_eq!(told("orders", &[]), None);
        let told = told("orders", &[NodePort { service: "web".into(), port: 30080 }]).unwrap();
        for words in ["30080 of Service web", "define an environment variable", "/spec/ports/NAME/nodePort"] {
            assert!(told.message.contains(words), "{words}: {}", told.message);
        }
    }
}
