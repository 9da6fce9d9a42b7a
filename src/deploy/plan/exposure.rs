//! What an object opens or reaches beyond the solution: pods that can leave their containers, traffic that is taken or allowed, cloud
//! roles, and controllers that act on other people's workloads. An approver who only reads "1 to create" would see none of this.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::api::reason::Reason;
use crate::cluster::errors::first_few;
use crate::cluster::object;
use crate::cluster::references;
use crate::deploy::plan::rbac_changes::shown;

/// A finding about an object. The most severe one comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Exposure {
    /// Why, in one word.
    pub(crate) what: What,
    /// A sentence that begins with its verb.
    pub(crate) said: String,
}

/// The kinds of exposure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// Pods that are not confined to their containers.
    RunsPrivileged,
    /// An account, or pods, with an identity in a cloud.
    CloudRole,
    /// Controllers that execute the content of an annotation.
    Snippet,
    /// Traffic of others that is taken or redirected.
    TakesTraffic,
    /// More clients can connect than before.
    OpensNetwork,
    /// Other people's workloads that are scaled, protected, or selected.
    ReachesOthers,
    /// A claim that names an existing volume.
    BindsVolume,
}

impl What {
    /// The reason in a plan's results.
    pub(crate) fn reason(self) -> Reason {
        match self {
            Self::RunsPrivileged => Reason::RunsPrivileged,
            Self::CloudRole => Reason::CloudRole,
            Self::Snippet => Reason::Snippet,
            Self::TakesTraffic => Reason::TakesTraffic,
            Self::OpensNetwork => Reason::OpensNetwork,
            Self::ReachesOthers => Reason::ReachesOthers,
            Self::BindsVolume => Reason::BindsVolume,
        }
    }
}

/// Annotations by which an account gets a role in a cloud.
const CLOUD_ROLES: [&str; 6] = [
    "eks.amazonaws.com/role-arn",
    "iam.gke.io/gcp-service-account",
    "azure.workload.identity/client-id",
    "azure.workload.identity/tenant-id",
    "iam.amazonaws.com/role",
    "pod-identity.alibabacloud.com/role-name",
];

/// What an object opens or reaches. `own` are all objects of the solution.
pub(crate) fn of(object: &Value, own: &[&Value]) -> BTreeSet<Exposure> {
    let mut found = BTreeSet::new();
    let mut add = |what: What, said: String| {
        found.insert(Exposure { what, said });
    };
    for pod in references::pods(object) {
        let ways = privileges(pod);
        if !ways.is_empty() {
            add(What::RunsPrivileged, format!("runs pods that are not shut in: {}", ways.join(", ")));
        }
        let tokens = tokens(pod);
        if !tokens.is_empty() {
            add(What::CloudRole, format!("gives its pods tokens for {}", tokens.join(", ")));
        }
    }
    let roles = cloud_roles(object);
    if !roles.is_empty() {
        add(What::CloudRole, format!("acts in a cloud as {}", roles.join(", ")));
    }
    match (object::group(object), object::kind(object)) {
        ("", "Service") => service(object, own, &mut add),
        ("", "Endpoints") | ("discovery.k8s.io", "EndpointSlice") => {
            add(What::TakesTraffic, "names by hand the addresses that traffic goes to".to_owned());
        }
        ("", "PersistentVolumeClaim") => {
            let volume = text(object, "/spec/volumeName");
            if !volume.is_empty() {
                add(What::BindsVolume, format!("asks for PersistentVolume {}, with whatever data it has", shown(volume)));
            }
        }
        ("networking.k8s.io", "NetworkPolicy") => policy(object, own, &mut add),
        ("networking.k8s.io" | "extensions", "Ingress") => snippets(object, &mut add),
        ("policy", "PodDisruptionBudget") => selects(object, "/spec/selector", own, "keeps others from moving", &mut add),
        ("autoscaling.k8s.io", "VerticalPodAutoscaler") => aims(object, "/spec/targetRef", own, &mut add),
        ("autoscaling", "HorizontalPodAutoscaler") | ("keda.sh", "ScaledObject") => aims(object, "/spec/scaleTargetRef", own, &mut add),
        _ => {}
    }
    found
}

/// How the containers of a pod can reach beyond themselves.
fn privileges(pod: &Value) -> Vec<String> {
    let mut ways = Vec::new();
    for (field, said) in [("hostNetwork", "the node's network"), ("hostPID", "the node's processes"), ("hostIPC", "the node's memory")] {
        if pod.get(field) == Some(&Value::Bool(true)) {
            ways.push(said.to_owned());
        }
    }
    let is_on = |value: Option<&Value>| value == Some(&Value::Bool(true));
    let on_host = |context: &Value| is_on(context.pointer("/windowsOptions/hostProcess"));
    if pod.get("securityContext").is_some_and(on_host) {
        ways.push("processes of the node".to_owned());
    }
    let containers = ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|field| list(pod, field));
    for container in containers {
        let name = shown(container.get("name").and_then(Value::as_str).unwrap_or_default());
        let context = container.get("securityContext").unwrap_or(&Value::Null);
        if is_on(context.get("privileged")) {
            ways.push(format!("container {name} is privileged"));
        }
        if on_host(context) {
            ways.push(format!("container {name} is a process of the node"));
        }
        if context.get("procMount").is_some_and(|mount| mount == "Unmasked") {
            ways.push(format!("container {name} sees all of /proc"));
        }
        let added: Vec<String> =
            list_at(context, "/capabilities/add").filter_map(Value::as_str).filter(|one| *one != "NET_BIND_SERVICE").map(shown).collect();
        if !added.is_empty() {
            ways.push(format!("container {name} has {}", added.join(" ")));
        }
        let ports: Vec<String> = list(container, "ports")
            .filter_map(|port| port.get("hostPort")?.as_i64())
            .filter(|port| *port > 0)
            .map(|port| port.to_string())
            .collect();
        if !ports.is_empty() {
            ways.push(format!("container {name} listens on the node at {}", ports.join(" ")));
        }
    }
    for volume in list(pod, "volumes") {
        if let Some(path) = volume.pointer("/hostPath/path").and_then(Value::as_str) {
            ways.push(format!("the node's path {}", shown(path)));
        }
    }
    ways
}

/// Services other than the API server for which pods get tokens of their account.
fn tokens(pod: &Value) -> Vec<String> {
    let sources = list(pod, "volumes").flat_map(|volume| list_at(volume, "/projected/sources"));
    sources
        .filter_map(|source| source.pointer("/serviceAccountToken/audience")?.as_str())
        .filter(|audience| !audience.is_empty())
        .map(shown)
        .collect()
}

fn cloud_roles(object: &Value) -> Vec<String> {
    let own = object.pointer("/metadata/annotations");
    let of_pods = ["/spec/template/metadata/annotations", "/spec/jobTemplate/spec/template/metadata/annotations"];
    let annotations = own.into_iter().chain(of_pods.into_iter().filter_map(|place| object.pointer(place)));
    annotations
        .filter_map(Value::as_object)
        .flatten()
        .filter(|(annotation, _)| CLOUD_ROLES.contains(&annotation.as_str()))
        .map(|(annotation, value)| format!("{} ({annotation})", shown(value.as_str().unwrap_or_default())))
        .collect()
}

fn service(object: &Value, own: &[&Value], add: &mut impl FnMut(What, String)) {
    let texts = |pointer: &str| list_at(object, pointer).filter_map(Value::as_str).map(shown).collect::<Vec<_>>();
    let addresses = texts("/spec/externalIPs");
    if !addresses.is_empty() {
        add(What::TakesTraffic, format!("takes all traffic of the cluster to {}", addresses.join(", ")));
    }
    if text(object, "/spec/type") == "ExternalName" {
        add(What::TakesTraffic, format!("leads to {}, outside of the cluster's network rules", shown(text(object, "/spec/externalName"))));
    }
    if text(object, "/spec/type") == "LoadBalancer" {
        let sources = texts("/spec/loadBalancerSourceRanges");
        let from = if sources.is_empty() { "anywhere".to_owned() } else { sources.join(", ") };
        add(What::OpensNetwork, format!("opens a load balancer to {from}"));
    }
    let selector = object.pointer("/spec/selector").and_then(Value::as_object);
    if let Some(selector) = selector.filter(|selector| !selector.is_empty())
        && !own_pods(own).any(|labels| matches(selector, labels))
    {
        add(What::ReachesOthers, format!("leads to pods that no workload of the solution makes: {}", labels_said(selector)));
    }
}

fn policy(object: &Value, own: &[&Value], add: &mut impl FnMut(What, String)) {
    for (direction, peers, opens) in [("ingress", "from", "lets everybody in"), ("egress", "to", "lets everything out")] {
        let opens_all = |rule: &Value| list(rule, peers).next().is_none() || list(rule, peers).any(is_everybody);
        if list_at(object, &format!("/spec/{direction}")).any(opens_all) {
            add(What::OpensNetwork, format!("{opens}, for pods {}", whom(object.pointer("/spec/podSelector"))));
        }
    }
    selects(object, "/spec/podSelector", own, "says who may connect, for others", add);
}

/// Whether a peer of a rule means anybody.
fn is_everybody(peer: &Value) -> bool {
    let is_empty = |field: &str| peer.get(field).is_some_and(|selector| selector.as_object().is_some_and(Map::is_empty));
    matches!(text(peer, "/ipBlock/cidr"), "0.0.0.0/0" | "::/0") && list_at(peer, "/ipBlock/except").next().is_none()
        || is_empty("namespaceSelector") && (peer.get("podSelector").is_none() || is_empty("podSelector"))
}

fn snippets(object: &Value, add: &mut impl FnMut(What, String)) {
    let annotations = object.pointer("/metadata/annotations").and_then(Value::as_object);
    let named = annotations.into_iter().flatten().map(|(name, _)| name).filter(|name| name.contains("snippet")).map(|name| shown(name));
    let named: Vec<String> = named.collect();
    if !named.is_empty() {
        add(
            What::Snippet,
            format!("has the ingress controller run its own text, with all that the controller may read: {}", named.join(", ")),
        );
    }
}

/// Objects that act on a workload by name, if the workload is not the solution's.
fn aims(object: &Value, place: &str, own: &[&Value], add: &mut impl FnMut(What, String)) {
    let Some(target) = object.pointer(place) else { return };
    let field = |name: &str| target.get(name).and_then(Value::as_str).unwrap_or_default();
    let (kind, group) = match field("kind") {
        "" => ("Deployment", "apps"),
        kind => (kind, object::group_of(field("apiVersion"))),
    };
    let is_it = |one: &&Value| object::kind(one) == kind && object::name(one) == field("name") && object::group(one) == group;
    if !own.iter().any(is_it) {
        add(What::ReachesOthers, format!("scales {} {}, which is not the solution's", shown(kind), shown(field("name"))));
    }
}

/// Objects that act on pods by labels that other pods have too.
fn selects(object: &Value, place: &str, own: &[&Value], does: &str, add: &mut impl FnMut(What, String)) {
    let selector = object.pointer(place);
    let labels = selector.and_then(|s| s.get("matchLabels")).and_then(Value::as_object).cloned().unwrap_or_default();
    // Which pods the expressions match is not known here.
    if labels.is_empty() || !own_pods(own).any(|pod| matches(&labels, pod)) {
        add(What::ReachesOthers, format!("{does}: pods {}", whom(selector)));
    }
}

/// The pods that a selector matches, in words.
fn whom(selector: Option<&Value>) -> String {
    let labels = selector.and_then(|s| s.get("matchLabels")).and_then(Value::as_object).filter(|labels| !labels.is_empty());
    let has_more = selector.is_some_and(|s| list(s, "matchExpressions").next().is_some());
    match (labels, has_more) {
        (Some(labels), _) => format!("with {}", labels_said(labels)),
        (None, true) => "of its expressions".to_owned(),
        (None, false) => "of the whole namespace".to_owned(),
    }
}

fn labels_said(labels: &Map<String, Value>) -> String {
    let said: Vec<String> = labels.iter().map(|(key, value)| shown(&format!("{key}={}", value.as_str().unwrap_or_default()))).collect();
    first_few(said.into_iter())
}

fn matches(selector: &Map<String, Value>, labels: &Map<String, Value>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The labels of the pods that the solution's own objects make. The labels of pods that custom resources make are not known here.
fn own_pods<'a>(own: &'a [&'a Value]) -> impl Iterator<Item = &'a Map<String, Value>> {
    let places = ["/spec/template/metadata/labels", "/spec/jobTemplate/spec/template/metadata/labels"];
    own.iter().flat_map(move |object| {
        let of_pod =
            (object::kind(object) == "Pod" && object::group(object).is_empty()).then(|| object.pointer("/metadata/labels")).flatten();
        places.into_iter().filter_map(|place| object.pointer(place)).chain(of_pod).filter_map(Value::as_object)
    })
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn list_at<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(object: &Value, own: &[&Value]) -> Vec<String> {
        of(object, own).into_iter().map(|e| format!("{}: {}", e.what.reason(), e.said)).collect()
    }

    fn deployment(labels: &Value, pod: Value) -> Value {
        let mut object = of_group("apps/v1", "Deployment", json!({"template": {"metadata": {"labels": labels}}}));
        object["metadata"]["name"] = json!("app");
        object["spec"]["template"]["spec"] = pod;
        object
    }

    fn core(kind: &str, spec: Value) -> Value {
        of_group("v1", kind, spec)
    }

    fn of_group(api_version: &str, kind: &str, spec: Value) -> Value {
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
        object["spec"] = spec;
        object
    }

    #[test]
    fn pods_that_are_not_shut_in_are_told_with_every_way_out() {
        let pod = json!({"hostNetwork": true, "hostPID": true, "containers": [
            {"name": "c", "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN", "NET_BIND_SERVICE"]}}, "ports": [{"hostPort": 22}, {"containerPort": 80}]}],
            "volumes": [{"name": "h", "hostPath": {"path": "/"}},
                {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "audience": "sts.amazonaws.com"}}]}}]});
        let told = said(&deployment(&json!({}), pod), &[]);
        assert_eq!(
            told,
            [
                "RunsPrivileged: runs pods that are not shut in: the node's network, the node's processes, container c is privileged, container c has SYS_ADMIN, container c listens on the node at 22, the node's path /",
                "CloudRole: gives its pods tokens for sts.amazonaws.com"
            ]
        );
        let plain = json!({"hostNetwork": false, "containers": [{"name": "c", "securityContext": {"privileged": false, "capabilities": {"drop": ["ALL"]}}}],
            "volumes": [{"name": "e", "emptyDir": {}}]});
        assert_eq!(said(&deployment(&json!({}), plain), &[]), [""; 0]);
    }

    #[test]
    fn traffic_that_is_taken_or_led_elsewhere_is_told() {
        let app = deployment(&json!({"app": "a", "tier": "web"}), json!({"containers": []}));
        assert_eq!(said(&core("Service", json!({"selector": {"app": "a"}})), &[&app]), [""; 0]);
        assert_eq!(
            said(&core("Service", json!({"selector": {"app": "backup"}})), &[&app]),
            ["ReachesOthers: leads to pods that no workload of the solution makes: app=backup"]
        );
        assert_eq!(
            said(&core("Service", json!({"externalIPs": ["10.96.0.1"]})), &[]),
            ["TakesTraffic: takes all traffic of the cluster to 10.96.0.1"]
        );
        assert!(
            said(&core("Service", json!({"type": "ExternalName", "externalName": "metadata.google.internal"})), &[])[0]
                .contains("leads to metadata")
        );
        assert_eq!(said(&core("Service", json!({"type": "LoadBalancer"})), &[]), ["OpensNetwork: opens a load balancer to anywhere"]);
        let some = core("Service", json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]}));
        assert_eq!(said(&some, &[]), ["OpensNetwork: opens a load balancer to 10.0.0.0/8"]);
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "endpoints": [{"addresses": ["10.0.0.53"]}]});
        assert!(said(&slice, &[])[0].starts_with("TakesTraffic"));
    }

    #[test]
    fn policies_that_open_and_controllers_that_reach_others_are_told() {
        let app = deployment(&json!({"app": "a"}), json!({"containers": []}));
        let policy = |spec: Value| said(&of_group("networking.k8s.io/v1", "NetworkPolicy", spec), &[&app]);
        assert_eq!(
            policy(json!({"podSelector": {}, "ingress": [{}], "egress": [{}]})),
            [
                "OpensNetwork: lets everybody in, for pods of the whole namespace",
                "OpensNetwork: lets everything out, for pods of the whole namespace",
                "ReachesOthers: says who may connect, for others: pods of the whole namespace"
            ]
        );
        let own = json!({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"from": [{"podSelector": {}}]}]});
        assert_eq!(policy(own), [""; 0]);
        let cidr = json!({"podSelector": {"matchLabels": {"app": "a"}}, "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]});
        assert_eq!(policy(cidr), ["OpensNetwork: lets everything out, for pods with app=a"]);

        let scales = |name: &str| {
            let spec = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}});
            said(&of_group("autoscaling/v2", "HorizontalPodAutoscaler", spec), &[&app])
        };
        assert_eq!((scales("app"), scales("backup").len()), (Vec::new(), 1));
        assert_eq!(scales("backup"), ["ReachesOthers: scales Deployment backup, which is not the solution's"]);
        let keda = of_group("keda.sh/v1alpha1", "ScaledObject", json!({"scaleTargetRef": {"name": "app"}}));
        assert_eq!(said(&keda, &[&app]), [""; 0]);
        let budget = |selector: Value| said(&of_group("policy/v1", "PodDisruptionBudget", json!({"selector": selector})), &[&app]);
        assert_eq!(budget(json!({"matchLabels": {"app": "a"}})), [""; 0]);
        assert_eq!(budget(json!({})), ["ReachesOthers: keeps others from moving: pods of the whole namespace"]);
        assert_eq!(budget(json!({"matchLabels": {"app": "b"}})), ["ReachesOthers: keeps others from moving: pods with app=b"]);
    }

    #[test]
    fn roles_of_clouds_snippets_and_volumes_are_told() {
        let mut account = core("ServiceAccount", Value::Null);
        account["metadata"]["annotations"] = json!({"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/admin", "other": "x"});
        assert_eq!(said(&account, &[]), ["CloudRole: acts in a cloud as arn:aws:iam::1:role/admin (eks.amazonaws.com/role-arn)"]);
        let mut ingress = of_group("networking.k8s.io/v1", "Ingress", json!({}));
        ingress["metadata"]["annotations"] = json!({"nginx.ingress.kubernetes.io/server-snippet": "return 200 x;"});
        assert!(said(&ingress, &[])[0].ends_with("nginx.ingress.kubernetes.io/server-snippet"));
        let claim = core("PersistentVolumeClaim", json!({"volumeName": "somebodys-pv"}));
        assert_eq!(said(&claim, &[]), ["BindsVolume: asks for PersistentVolume somebodys-pv, with whatever data it has"]);
        assert_eq!(said(&core("PersistentVolumeClaim", json!({})), &[]), [""; 0]);
    }
}
