//! The tools that people install applications with, and what they leave on the objects.

use serde_json::{Value, json};

use crate::world::World;

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tool {
    /// `kubectl apply`.
    Kubectl,
    /// Flux's kustomize-controller: server-side apply.
    Flux,
    /// Helm 3: an ordinary create.
    Helm,
    /// Argo CD: a client-side apply under its own name, tracking by label.
    ArgoCd,
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kubectl => "kubectl",
            Self::Flux => "flux",
            Self::Helm => "helm",
            Self::ArgoCd => "argo",
        }
    }

    /// Whether what it applied can be told from the server's defaults, so that only this is deployed.
    pub fn tells_what_was_written(self) -> bool {
        self != Self::Helm
    }

    /// The labels and annotations with which it marks its objects.
    fn marks(self, release: &str) -> (Value, Value) {
        match self {
            Self::Kubectl => (json!({}), json!({})),
            Self::Flux => (
                json!({"kustomize.toolkit.fluxcd.io/name": release, "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}),
                json!({"kustomize.toolkit.fluxcd.io/prune": "Enabled"}),
            ),
            Self::Helm => (
                json!({"app.kubernetes.io/managed-by": "Helm", "helm.sh/chart": "harbour-1.0.0", "helm.toolkit.fluxcd.io/name": release}),
                json!({"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": "dev"}),
            ),
            Self::ArgoCd => (json!({"app.kubernetes.io/instance": release}), json!({"argocd.argoproj.io/sync-wave": "1"})),
        }
    }

    /// An object as the tool writes it.
    pub fn marked(self, mut object: Value, release: &str) -> Value {
        let (labels, annotations) = self.marks(release);
        for (map, marks) in [("labels", labels), ("annotations", annotations)] {
            for (key, value) in marks.as_object().unwrap() {
                object["metadata"][map][key] = value.clone();
            }
        }
        object
    }

    /// Removes from an object what the tool wrote, and what a restart left.
    pub fn unmark(self, object: &mut Value) {
        let (labels, annotations) = self.marks("");
        for (map, marks) in [("labels", labels), ("annotations", annotations)] {
            if let Some(held) = object["metadata"][map].as_object_mut() {
                held.retain(|key, _| marks.get(key).is_none());
            }
        }
        if let Some(template) = object.pointer_mut("/spec/template/metadata").and_then(Value::as_object_mut) {
            let restarted = template.get_mut("annotations").and_then(Value::as_object_mut);
            if restarted.is_some_and(|map| map.remove("kubectl.kubernetes.io/restartedAt").is_some() && map.is_empty()) {
                template.remove("annotations");
            }
        }
    }

    /// Puts objects into development.
    pub fn apply(self, world: &World, objects: &[Value]) {
        let how: &[&str] = match self {
            Self::Kubectl => &["apply"],
            Self::Flux => &["apply", "--server-side", "--field-manager=kustomize-controller"],
            Self::Helm => &["create", "--field-manager=helm"],
            Self::ArgoCd => &["apply", "--field-manager=argocd-controller"],
        };
        self.run(world, how, objects);
    }

    /// Takes objects out of development.
    pub fn delete(self, world: &World, objects: &[Value]) {
        self.run(world, &["delete"], objects);
    }

    fn run(self, world: &World, how: &[&str], objects: &[Value]) {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
        let output = world.plane.kubectl().run_with(&[how, &["--namespace", &world.dev, "-f", "-"]].concat(), &list).unwrap();
        assert!(output.ok, "{self:?}: {}", output.stderr);
    }
}
