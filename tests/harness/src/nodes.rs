//! The nodes that kwok simulates.

use std::fmt::Write;

/// The manifests of this many nodes. They are so large that no test reaches their limits.
pub(crate) fn manifests(count: usize) -> String {
    let resources = "cpu: '64'
    memory: 256Gi
    ephemeral-storage: 1Ti
    pods: '1000'";
    let mut yaml = String::new();
    for number in 1..=count {
        let name = name(number);
        let _ = write!(
            yaml,
            "---
apiVersion: v1
kind: Node
metadata:
  name: {name}
  labels:
    kubernetes.io/hostname: {name}
    kubernetes.io/os: linux
    kubernetes.io/arch: amd64
    type: kwok
status:
  capacity:
    {resources}
  allocatable:
    {resources}
"
        );
    }
    yaml
}

pub(crate) fn name(number: usize) -> String {
    format!("node-{number}")
}
