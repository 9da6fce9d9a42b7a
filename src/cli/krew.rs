//! The manifest with which krew installs the plugin from the archives of a release.

use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use crate::artifact::bundle;

/// The program in each archive.
const PROGRAM: &str = "kubectl-pilotage";

/// The manifest for these archives, each given as OS/ARCHITECTURE=FILE, for example `linux/amd64=dist/pilotage.tar.gz`. They are
/// downloaded from below `from`.
///
/// # Errors
/// If an archive can't be read, or is not written like that.
pub fn manifest(from: &str, archives: &[String]) -> anyhow::Result<String> {
    if !from.starts_with("https://") {
        bail!("--from {from}: krew downloads from https:// only");
    }
    if archives.is_empty() {
        bail!("name at least one archive: --archive linux/amd64=FILE");
    }
    let platforms = archives.iter().map(|archive| platform(from, archive)).collect::<anyhow::Result<Vec<_>>>()?;
    let manifest = json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "pilotage"},
        "spec": {
            "version": format!("v{}", env!("CARGO_PKG_VERSION")),
            "homepage": from.trim_end_matches('/'),
            "shortDescription": "Delegated deployments and promotion pipelines",
            "description": "Ask for deployments through the pipelines of Pilotage, see what waits for whom and since when, and find out\n\
                where which version runs. The plugin acts with your own rights. The cluster needs the operator of Pilotage.\n",
            "platforms": platforms,
        },
    });
    Ok(serde_saphyr::to_string(&manifest)?)
}

fn platform(from: &str, archive: &str) -> anyhow::Result<Value> {
    let wrong = || format!("--archive {archive}: write OS/ARCHITECTURE=FILE, for example linux/amd64=pilotage.tar.gz");
    let (platform, file) = archive.split_once('=').with_context(wrong)?;
    let (os, architecture) = platform.split_once('/').with_context(wrong)?;
    let name = Path::new(file).file_name().and_then(|name| name.to_str()).with_context(wrong)?;
    let bytes = std::fs::read(file).with_context(|| format!("reading {file}"))?;
    let digest = bundle::digest(&bytes);
    let program = if os == "windows" { format!("{PROGRAM}.exe") } else { PROGRAM.to_owned() };
    Ok(json!({
        "selector": {"matchLabels": {"os": os, "arch": architecture}},
        "uri": format!("{}/{name}", from.trim_end_matches('/')),
        "sha256": digest.trim_start_matches("sha256:"),
        "bin": program,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_names_the_version_and_the_digest_of_each_archive() {
        let file = std::env::temp_dir().join(format!("pilotage-krew-{}.tar.gz", std::process::id()));
        std::fs::write(&file, b"an archive").unwrap();
        let archives = ["linux/amd64", "windows/amd64"].map(|platform| format!("{platform}={}", file.display()));
        let manifest: Value = serde_saphyr::from_str(&manifest("https://example.test/v1/", &archives).unwrap()).unwrap();
        let _ = std::fs::remove_file(&file);
        assert_eq!(manifest["spec"]["version"], format!("v{}", env!("CARGO_PKG_VERSION")));
        let [linux, windows] = &manifest["spec"]["platforms"].as_array().unwrap()[..] else { panic!("two platforms: {manifest}") };
        assert_eq!(linux["sha256"], bundle::digest(b"an archive").trim_start_matches("sha256:"));
        assert_eq!((&linux["bin"], &windows["bin"]), (&json!("kubectl-pilotage"), &json!("kubectl-pilotage.exe")));
        assert!(linux["uri"].as_str().unwrap().starts_with("https://example.test/v1/pilotage-krew-"));
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        for (from, archive) in [
            ("http://example.test", "linux/amd64=x"),
            ("https://example.test", "linux=x"),
            ("https://example.test", "linux/amd64=/does/not/exist"),
        ] {
            assert!(manifest(from, &[archive.to_owned()]).is_err(), "{from} {archive}");
        }
    }
}
