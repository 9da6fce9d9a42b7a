//! The parts of an artifact in a registry, by its manifest: the layouts of Flux and of ORAS.

use serde::Deserialize;

use super::error::{OciError, shown};
use super::limits;

/// The media type of manifests.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The accepted media types. Other forms are included, so that the message can say what a tag means.
pub(crate) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
                            application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// The media type of an archive as Flux pushes it.
pub(crate) const FLUX_ARCHIVE: &str = "application/vnd.cncf.flux.content.v1.tar+gzip";
/// The media type of Flux's configuration.
pub(crate) const FLUX_CONFIG: &str = "application/vnd.cncf.flux.config.v1+json";
/// The media types of the configuration of artifacts with manifests: Flux's, and those of ORAS without a configuration.
const CONFIGS: [&str; 3] = [FLUX_CONFIG, "application/vnd.oci.empty.v1+json", "application/vnd.unknown.config.v1+json"];
/// The media types of archives, if no annotation says that a layer is a file.
const ARCHIVES: [&str; 2] = [FLUX_ARCHIVE, "application/vnd.oci.image.layer.v1.tar+gzip"];
/// The media types of files. The last is the default of ORAS.
const FILES: [&str; 7] = [
    "application/yaml",
    "application/x-yaml",
    "text/yaml",
    "text/x-yaml",
    "application/json",
    "text/plain",
    "application/vnd.oci.image.layer.v1.tar",
];
/// The annotation in which ORAS names a layer's file or folder.
pub(crate) const TITLE: &str = "org.opencontainers.image.title";
/// The annotation in which ORAS says that a layer is a folder.
pub(crate) const UNPACK: &str = "io.deis.oras.content.unpack";

/// A blob, as a manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    /// The media type.
    #[serde(default)]
    pub(crate) media_type: String,
    /// `sha256:` and a hash.
    pub(crate) digest: String,
    /// How many bytes it has.
    pub(crate) size: u64,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

/// How a layer stores its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a compressed archive.
    Archive,
    /// As one file of this name.
    File(String),
}

/// A layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    pub(crate) blob: Descriptor,
    /// Its content.
    pub(crate) form: Form,
}

/// What is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    /// The configuration. It is fetched and checked, but not read.
    pub(crate) config: Descriptor,
    /// The layers, in their order.
    pub(crate) layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<serde::de::IgnoredAny>,
}

/// Reads a manifest.
///
/// # Errors
/// If it is something else, or exceeds the limits.
pub(crate) fn read(bytes: &[u8], reference: &str) -> Result<Contents, OciError> {
    let wrong = |what: String| OciError::WrongMediaType { reference: reference.to_owned(), what };
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|_| wrong("its manifest is not the JSON of an OCI image manifest".to_owned()))?;
    if manifest.manifests.is_some() {
        return Err(wrong("it is an index of several images, and which of them is meant is not said".to_owned()));
    }
    if let Some(other) = manifest.media_type.filter(|t| t != MANIFEST) {
        return Err(wrong(format!("its manifest has media type {}, not {MANIFEST}", shown(&other))));
    }
    let (Some(config), Some(layers)) = (manifest.config, manifest.layers) else {
        return Err(wrong("its manifest has no config or no layers".to_owned()));
    };
    if manifest.schema_version != 2 {
        return Err(wrong("its manifest is not of schema version 2".to_owned()));
    }
    if !CONFIGS.contains(&config.media_type.as_str()) {
        let what = match config.media_type.as_str() {
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {
                "it is the image of a container".to_owned()
            }
            "application/vnd.cncf.helm.config.v1+json" => "it is a Helm chart: push what `helm template` prints, as files".to_owned(),
            other => format!("its config has media type {}, and none of {} is it", shown(other), CONFIGS.join(", ")),
        };
        return Err(wrong(what));
    }
    let too_large = |what: String| OciError::TooLarge { reference: reference.to_owned(), what };
    if layers.len() > limits::LAYERS {
        return Err(too_large(format!("it has {} layers, and {} can be read", layers.len(), limits::LAYERS)));
    }
    if config.size > limits::CONFIG {
        return Err(too_large(format!("its config has {} bytes, and {} can be read", config.size, limits::CONFIG)));
    }
    let size = layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
    if size > limits::COMPRESSED {
        return Err(too_large(format!("its layers have {size} bytes, and {} can be fetched", limits::COMPRESSED)));
    }
    for blob in layers.iter().chain([&config]) {
        if !is_digest(&blob.digest) {
            return Err(wrong("its manifest names a blob by something else than a sha256 digest".to_owned()));
        }
    }
    let layers = layers.into_iter().map(|blob| layer(blob).map_err(wrong)).collect::<Result<Vec<_>, _>>()?;
    if layers.is_empty() {
        return Err(wrong("it has no layers".to_owned()));
    }
    Ok(Contents { config, layers })
}

fn layer(blob: Descriptor) -> Result<Layer, String> {
    let title = blob.annotations.get(TITLE);
    let unpacked = blob.annotations.get(UNPACK).is_some_and(|v| v == "true");
    let type_ = blob.media_type.as_str();
    let form = match title {
        _ if unpacked && ARCHIVES.contains(&type_) => Form::Archive,
        Some(title) if !unpacked && FILES.contains(&type_) => Form::File(title.clone()),
        None if ARCHIVES.contains(&type_) => Form::Archive,
        // Somebody pushed a file as Flux's archive, with ORAS.
        Some(_) if type_ == FLUX_ARCHIVE => Form::Archive,
        _ => {
            return Err(format!(
                "a layer{} has media type {}, which is neither an archive ({}) nor a named file ({})",
                title.map(|t| format!(" ({})", shown(t))).unwrap_or_default(),
                shown(type_),
                ARCHIVES.join(", "),
                FILES.join(", ")
            ));
        }
    };
    Ok(Layer { blob, form })
}

/// Whether a text is `sha256:` and a hash in lower-case hexadecimal. It becomes a part of a URL.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn blob(type_: &str, size: u64, annotations: &Value) -> Value {
        json!({"mediaType": type_, "digest": format!("sha256:{}", "0".repeat(64)), "size": size, "annotations": annotations})
    }

    fn of(config: &str, layers: &[Value]) -> Value {
        json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(config, 2, &json!({})), "layers": layers})
    }

    fn flux(layers: &[Value]) -> Value {
        of(CONFIGS[0], layers)
    }

    fn refusal(manifest: &Value) -> OciError {
        read(manifest.to_string().as_bytes(), "oci://r/x:1").unwrap_err()
    }

    #[test]
    fn the_layouts_of_flux_and_oras_are_read() {
        let contents = read(flux(&[blob(FLUX_ARCHIVE, 9, &json!({}))]).to_string().as_bytes(), "r").unwrap();
        assert_eq!(contents.layers[0].form, Form::Archive);
        let oras = of(
            "application/vnd.oci.empty.v1+json",
            &[
                blob("application/vnd.oci.image.layer.v1.tar", 1, &json!({(TITLE): "app.yaml"})),
                blob("application/vnd.oci.image.layer.v1.tar+gzip", 1, &json!({(TITLE): "app", (UNPACK): "true"})),
            ],
        );
        let contents = read(oras.to_string().as_bytes(), "r").unwrap();
        assert_eq!(contents.layers.iter().map(|l| l.form.clone()).collect::<Vec<_>>(), [Form::File("app.yaml".into()), Form::Archive]);
    }

    #[test]
    fn what_is_something_else_is_said_to_be_that() {
        let archive = blob(FLUX_ARCHIVE, 9, &json!({}));
        for (manifest, words) in [
            (of("application/vnd.oci.image.config.v1+json", std::slice::from_ref(&archive)), "image of a container"),
            (of("application/vnd.cncf.helm.config.v1+json", std::slice::from_ref(&archive)), "Helm chart"),
            (of("application/x", std::slice::from_ref(&archive)), "its config has media type application/x"),
            (flux(&[]), "no layers"),
            (flux(&[blob("application/zip", 1, &json!({(TITLE): "x.zip"}))]), "(x.zip) has media type application/zip"),
            (json!({"schemaVersion": 2, "manifests": [], "config": archive, "layers": []}), "index"),
            (
                json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}),
                "media type application/vnd.oci.image.index",
            ),
            (json!({"schemaVersion": 1, "config": archive, "layers": []}), "schema version 2"),
            (json!([]), "not the JSON"),
        ] {
            let error = refusal(&manifest);
            assert_eq!(error.reason().as_str(), "WrongMediaType");
            assert!(error.to_string().contains(words) && error.to_string().contains("flux push artifact"), "{words}: {error}");
        }
    }

    #[test]
    fn nothing_is_fetched_beyond_the_limits_nor_by_an_odd_digest() {
        let archive = |size: u64| blob(FLUX_ARCHIVE, size, &json!({}));
        let half = limits::COMPRESSED / 2 + 1;
        for (manifest, words) in [
            (flux(&[archive(half), archive(half)]), "can be fetched"),
            (flux(&[archive(u64::MAX), archive(u64::MAX)]), "can be fetched"),
            (flux(&vec![archive(1); limits::LAYERS + 1]), "layers"),
        ] {
            let error = refusal(&manifest);
            assert!(error.reason().as_str() == "ArtifactTooLarge" && error.to_string().contains(words), "{error}");
        }
        for odd in ["sha512:00", "sha256:../../x", "sha256:00", &format!("sha256:{}", "A".repeat(64))] {
            let mut manifest = flux(&[archive(1)]);
            manifest["layers"][0]["digest"] = odd.into();
            assert!(refusal(&manifest).to_string().contains("sha256 digest"), "{odd}");
        }
    }
}
