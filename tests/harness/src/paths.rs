//! Where things are in the source tree and in the build's output.

use std::path::{Path, PathBuf};

/// The folder of the Go module with the control plane.
pub(crate) fn module() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../controlplane")
}

/// The folder of another Go module, by its path in the source tree.
pub(crate) fn other_module(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The root of the source tree.
pub(crate) fn workspace() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    workspace.canonicalize().unwrap_or(workspace)
}

/// The build's output folder, as cargo chooses it.
pub(crate) fn target() -> PathBuf {
    let workspace = workspace();
    match std::env::var_os("CARGO_TARGET_DIR") {
        // Joining an absolute path replaces the workspace's.
        Some(target) if !target.is_empty() => workspace.join(target),
        _ => workspace.join("target"),
    }
}
