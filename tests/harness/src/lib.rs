//! A real Kubernetes control plane on loopback, for the tests, the benches and the demo: etcd, kube-apiserver, kube-controller-manager,
//! kube-scheduler, and kwok, which simulates the kubelets. Also a real OCI registry.
//!
//! [`ControlPlane`] starts one or attaches to a running one, [`Kubectl`] calls it, and [`audit`] shows who called it and how. All of it is
//! blocking code without a Kubernetes client, so that it links fast.

pub mod audit;
pub mod audit_check;
pub mod binaries;
mod certificates;
pub mod controlplane;
pub mod demo;
pub mod dev;
mod digest;
pub mod install;
mod kubeconfig;
pub mod kubectl;
pub mod kubernetes;
mod nodes;
mod paths;
mod ports;
pub mod process;
mod processes;
mod readiness;
pub mod registry;
pub mod selection;
pub mod supervisor;
pub mod table;
pub mod watch_recorder;

pub use controlplane::{ControlPlane, Installed, Options};
pub use kubectl::{Kubectl, Output};
pub use kubernetes::Kubernetes;
pub use registry::Registry;
