//! `--artifact`: what a registry holds is asked for from development too. A Solution of the same name, in the maker's own namespace, tells
//! what becomes of it: who has none gets one.

use anyhow::Context;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use semver::Version;
use serde_json::json;

use crate::api::Solution;
use crate::api::request::{ArtifactSource, OciSource};
use crate::cli::exit::Exit;

/// What is asked for, and its version.
#[derive(Debug)]
pub struct FromRegistry {
    /// Where it is.
    pub source: ArtifactSource,
    /// Its version.
    pub version: String,
}

/// Reads the flags. The version is the tag if that is one.
///
/// # Errors
/// If it is no artifact of a registry, or its version is not known.
pub fn read(artifact: &str, version: Option<&str>) -> anyhow::Result<FromRegistry> {
    let wrong = |why: &str| Exit::Usage.because(format!("--artifact {artifact}: {why}"));
    let form = "write oci://REGISTRY/REPOSITORY:TAG, or oci://REGISTRY/REPOSITORY@sha256:DIGEST";
    let is_repository = |found: &OciSource| found.url.strip_prefix("oci://").is_some_and(|place| place.contains('/'));
    let source = OciSource::read(artifact).filter(is_repository).ok_or_else(|| wrong(form))?;
    let tag = source.tag.as_deref().filter(|tag| Version::parse(tag).is_ok());
    let version = version.or(tag).ok_or_else(|| wrong("name the version that it is with --version"))?.to_owned();
    Ok(FromRegistry { source: ArtifactSource { oci: source }, version })
}

/// Makes a Solution of that name, which has no objects in development.
///
/// # Errors
/// If the caller may not, or there is one by now.
pub async fn follow(solutions: &Api<Solution>, namespace: &str, name: &str, version: &str) -> anyhow::Result<Solution> {
    let follows =
        json!({"metadata": {"name": name}, "spec": {"version": version, "description": "Tells what becomes of versions from a registry"}});
    let made = solutions.create(&PostParams::default(), &serde_json::from_value(follows)?).await;
    made.with_context(|| format!("making Solution {name} in namespace {namespace}, whose status is to tell what becomes of {version}"))
}

/// Takes back a Solution that was made for a request, as no request was made.
pub async fn forget(solutions: &Api<Solution>, made: &Solution) {
    let preconditions = Preconditions { uid: made.uid(), resource_version: None };
    // It does no harm where it stays, and its reader is told already what went wrong.
    let _ = solutions.delete(&made.name_any(), &DeleteParams::default().preconditions(preconditions)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_tag_unless_it_is_named() {
        let of = |artifact: &str, version: Option<&str>| read(artifact, version).map(|found| (found.source.oci.to_string(), found.version));
        let tagged = "oci://registry.example.test:5000/team/orders:1.4.0";
        assert_eq!(of(tagged, None).unwrap(), (tagged.to_owned(), "1.4.0".to_owned()));
        assert_eq!(of(tagged, Some("1.4.1")).unwrap().1, "1.4.1");
        let pinned = format!("oci://registry.example.test/orders@sha256:{}", "a".repeat(64));
        assert_eq!(of(&pinned, Some("1.0.0")).unwrap().0, pinned);
        for (artifact, why) in [
            (pinned.as_str(), "with --version"),
            ("oci://registry.example.test/orders:latest", "with --version"),
            ("registry.example.test/orders:1.0.0", "write oci://"),
            ("oci://registry.example.test:5000", "write oci://"),
            ("", "write oci://"),
        ] {
            let error = of(artifact, None).unwrap_err();
            assert!(Exit::of(&error) == Exit::Usage && error.to_string().contains(why), "{artifact}: {error}");
        }
    }
}
