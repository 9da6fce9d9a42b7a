//! The control plane of `make up`: one that stays, for trying things out.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::controlplane::{ControlPlane, Options};
use crate::{paths, supervisor};

/// Its folder.
pub fn dir() -> PathBuf {
    paths::target().join("dev")
}

/// Starts it, or attaches to it where it runs already. Tells whether it did.
pub fn up() -> Result<(ControlPlane, bool)> {
    if supervisor::runs(&dir()) {
        let control_plane = ControlPlane::attach(&dir());
        return Ok((control_plane.context("it is being started, or hangs; `pilotage-dev down` ends it")?, true));
    }
    let options = Options { dir: Some(dir()), detached: true, ..Options::default() };
    Ok((ControlPlane::start(&options)?, false))
}

/// Ends it. Tells whether it ran. Its logs stay until the next start.
pub fn down() -> Result<bool> {
    let ran = supervisor::runs(&dir());
    ControlPlane::stop_detached(&dir())?;
    Ok(ran)
}
