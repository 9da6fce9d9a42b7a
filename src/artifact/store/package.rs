//! The form of an artifact in a registry: `flux pull artifact` and `oras pull` can read it, and `kubectl apply -f` can apply the result.
//!
//! The same objects always give the same bytes. So the digest of the manifest is known before anything is sent.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::api::names;
use crate::api::reference::SolutionVersion;
use crate::artifact::bundle::{self, Bundle, digest, write_canonical};
use crate::artifact::oci::limits::DECOMPRESSED;
use crate::artifact::oci::manifest::{Descriptor, FLUX_ARCHIVE, FLUX_CONFIG, MANIFEST, TITLE, UNPACK, is_digest};
use crate::artifact::oci::{Spent, read_archive};

/// A file is ended after so many bytes. Readers of manifests read them file by file, and most have a limit for one file.
const FILE_BYTES: usize = 1024 * 1024;
/// The beginning of each document of a file.
const SEPARATOR: &[u8] = b"---\n";
/// The annotation with which ORAS verifies a folder.
const UNPACKED_DIGEST: &str = "io.deis.oras.content.digest";

/// An artifact as it is sent.
pub(crate) struct Package {
    /// The archive.
    pub(crate) layer: Bytes,
    pub(crate) layer_digest: String,
    /// The configuration, which nobody reads.
    pub(crate) config: Bytes,
    pub(crate) config_digest: String,
    /// The digest of the archive before it was compressed.
    unpacked_digest: String,
    unpacked_size: u64,
    folder: String,
    version: String,
    digest: String,
}

impl Package {
    /// The package of these objects, which have that digest.
    ///
    /// # Errors
    /// If they can't be compressed.
    pub(crate) fn of(bundle: &Bundle, what: &SolutionVersion, digest_of_all: &str) -> io::Result<Self> {
        let folder = names::artifact_name(&what.name, &what.version);
        let mut archive = Builder::new(Hashing { hash: Sha256::new(), size: 0, to: GzEncoder::new(Vec::new(), Compression::default()) });
        append(&mut archive, EntryType::Directory, &format!("{folder}/"), &[])?;
        let (mut file, mut line, mut count) = (Vec::new(), Vec::new(), 0);
        for object in bundle.objects() {
            line.clear();
            write_canonical(object, &mut line);
            if !file.is_empty() && file.len() + line.len() > FILE_BYTES {
                count += 1;
                append(&mut archive, EntryType::Regular, &format!("{folder}/objects-{count:03}.yaml"), &file)?;
                file.clear();
            }
            file.extend_from_slice(SEPARATOR);
            write_for_yaml(&line, &mut file);
            file.push(b'\n');
        }
        count += 1;
        append(&mut archive, EntryType::Regular, &format!("{folder}/objects-{count:03}.yaml"), &file)?;
        drop((file, line));
        let Hashing { hash, size: unpacked_size, to } = archive.into_inner()?;
        let layer = to.finish()?;
        let unpacked_digest = bundle::shown(&hash.finalize());
        let config = json!({
            "architecture": "", "os": "", "config": {}, "rootfs": {"type": "layers", "diff_ids": [unpacked_digest]},
        });
        let config = bundle::canonical(&config);
        Ok(Self {
            layer_digest: digest(&layer),
            layer: layer.into(),
            config_digest: digest(&config),
            config: config.into(),
            unpacked_digest,
            unpacked_size,
            folder,
            version: what.version.clone(),
            digest: digest_of_all.to_owned(),
        })
    }

    /// How many bytes the archive has.
    pub(crate) fn layer_size(&self) -> usize {
        self.layer.len()
    }

    /// Whether it can be read again. Texts that YAML needs escaped may take three times their size in the worst case.
    pub(crate) fn is_readable(&self) -> bool {
        self.unpacked_size <= DECOMPRESSED
    }

    /// The tag, for people. The operator never reads by it. Every version is a valid tag.
    pub(crate) fn tag(&self) -> &str {
        &self.version
    }

    /// Its archive, as a manifest names it.
    pub(crate) fn layer_descriptor(&self) -> Value {
        json!({
            "mediaType": FLUX_ARCHIVE,
            "digest": self.layer_digest,
            "size": self.layer.len(),
            "annotations": {(TITLE): self.folder, (UNPACK): "true", (UNPACKED_DIGEST): self.unpacked_digest},
        })
    }

    /// The manifest of an artifact that was exported at that time.
    pub(crate) fn manifest(&self, exported_at: Timestamp) -> Vec<u8> {
        bundle::canonical(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": FLUX_CONFIG, "digest": self.config_digest, "size": self.config.len()},
            "layers": [self.layer_descriptor()],
            "annotations": {
                "org.opencontainers.image.created": exported_at.to_string(),
                "org.opencontainers.image.revision": format!("{}@{}", self.version, self.digest),
                "org.opencontainers.image.version": self.version,
            },
        }))
    }
}

/// The one layer of a manifest that this operator wrote.
///
/// # Errors
/// Why the manifest is not one of ours.
pub(crate) fn layer_of(manifest: &[u8]) -> Result<Descriptor, String> {
    #[derive(Deserialize)]
    struct Manifest {
        layers: Vec<Descriptor>,
    }
    let manifest: Manifest =
        serde_json::from_slice(manifest).map_err(|_| "its manifest is not the JSON of an OCI image manifest".to_owned())?;
    match <[Descriptor; 1]>::try_from(manifest.layers) {
        Ok([layer]) if layer.media_type == FLUX_ARCHIVE && is_digest(&layer.digest) => Ok(layer),
        _ => Err("its manifest names something else than one archive".to_owned()),
    }
}

/// The objects of an archive.
///
/// # Errors
/// Why the archive is not one of ours.
pub(crate) fn unpack(layer: &[u8]) -> Result<Bundle, String> {
    let mut objects = Vec::new();
    let mut wrong = None;
    let read = read_archive(layer, "its archive", &mut Spent::default(), |_, content| {
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && *line != b"---") {
            match serde_json::from_slice::<Value>(line) {
                Ok(object) => objects.push(object),
                // The content is not repeated: it may be anything.
                Err(error) => wrong = Some(format!("a line of its archive is not JSON (column {})", error.column())),
            }
        }
        Ok(())
    });
    match (read, wrong) {
        (Err(error), _) => Err(error.to_string()),
        (Ok(()), Some(wrong)) => Err(wrong),
        (Ok(()), None) => Ok(Bundle::new(objects)),
    }
}

fn append<W: Write>(archive: &mut Builder<W>, kind: EntryType, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_size(content.len() as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    archive.append_data(&mut header, path, content)
}

/// JSON is YAML except for a few characters that YAML refuses or treats as the end of a line. They occur only in texts.
fn write_for_yaml(json: &[u8], to: &mut Vec<u8>) {
    let Ok(text) = std::str::from_utf8(json) else { return to.extend_from_slice(json) };
    let mut plain = 0;
    for (at, character) in text.char_indices() {
        if matches!(character, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') {
            to.extend_from_slice(&json[plain..at]);
            to.extend_from_slice(format!("\\u{:04x}", u32::from(character)).as_bytes());
            plain = at + character.len_utf8();
        }
    }
    to.extend_from_slice(&json[plain..]);
}

/// Hashes the bytes that pass through.
struct Hashing<W> {
    hash: Sha256,
    size: u64,
    to: W,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ODD: &str = "a\u{7f}\u{85}\u{9f}\u{2028}\u{feff}\u{ffff}é😀\n\t\"";

    fn bundle(objects: usize, text: &str) -> Bundle {
        let object =
            |n: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{n}")}, "data": {"a": text}});
        Bundle::new((0..objects).map(object).collect())
    }

    fn package(bundle: &Bundle) -> Package {
        Package::of(bundle, &SolutionVersion { name: "orders".into(), version: "1.4.0".into() }, &bundle.digest()).unwrap()
    }

    fn files(layer: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        read_archive(layer, "r", &mut Spent::default(), |path, content| {
            files.push((path.to_owned(), content));
            Ok(())
        })
        .unwrap();
        files
    }

    #[test]
    fn the_same_objects_are_the_same_package_and_come_back() {
        let bundle = bundle(3, ODD);
        let (one, two) = (package(&bundle), package(&bundle));
        assert_eq!(one.manifest(Timestamp::UNIX_EPOCH), two.manifest(Timestamp::UNIX_EPOCH));
        assert_eq!(one.layer, two.layer);
        let manifest = one.manifest(Timestamp::UNIX_EPOCH);
        let layer = layer_of(&manifest).unwrap();
        assert_eq!((layer.digest, layer.size), (one.layer_digest.clone(), one.layer.len() as u64));
        let back = unpack(&one.layer).unwrap();
        assert_eq!((back.digest(), back), (bundle.digest(), bundle));
    }

    #[test]
    fn it_is_what_the_source_reads() {
        let manifest = package(&bundle(1, "x")).manifest(Timestamp::UNIX_EPOCH);
        let contents = crate::artifact::oci::manifest::read(&manifest, "r").unwrap();
        assert_eq!(contents.layers.len(), 1);
        assert_eq!(contents.layers[0].form, crate::artifact::oci::manifest::Form::Archive);
    }

    #[test]
    fn the_files_are_yaml_with_the_same_values() {
        let bundle = bundle(2, ODD);
        let files = files(&package(&bundle).layer);
        assert_eq!(files.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), ["orders-1.4.0/objects-001.yaml"]);
        let text = String::from_utf8(files[0].1.clone()).unwrap();
        assert!(text.starts_with("---\n{\"apiVersion\":\"v1\"") && text.contains("\\u2028") && text.contains("😀"), "{text}");
        let read: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(read, bundle.objects());
    }

    #[test]
    fn no_file_is_larger_than_readers_of_manifests_take() {
        let bundle = bundle(5, &"x".repeat(400 * 1024));
        let files = files(&package(&bundle).layer);
        assert_eq!(
            files.iter().map(|(path, _)| path.rsplit('/').next().unwrap()).collect::<Vec<_>>(),
            ["objects-001.yaml", "objects-002.yaml", "objects-003.yaml"]
        );
        assert!(files.iter().all(|(_, content)| content.len() < FILE_BYTES + 64));
    }

    #[test]
    fn what_could_not_be_read_again_is_known_before_it_is_stored() {
        assert!(package(&bundle(1, &"é".repeat(6 << 20))).is_readable());
        assert!(!package(&bundle(1, &"\u{85}".repeat(6 << 20))).is_readable());
    }

    #[test]
    fn what_is_none_of_ours_is_said_to_be_none_without_its_words() {
        let manifest = |layers: Value| json!({"layers": layers}).to_string();
        let blob = |type_: &str, digest: &str| json!({"mediaType": type_, "digest": digest, "size": 1});
        let right = format!("sha256:{}", "a".repeat(64));
        for wrong in [
            "canary".to_owned(),
            manifest(json!([])),
            manifest(json!([blob("application/zip", &right)])),
            manifest(json!([blob(FLUX_ARCHIVE, "sha256:../../canary")])),
            manifest(json!([blob(FLUX_ARCHIVE, &right), blob(FLUX_ARCHIVE, &right)])),
        ] {
            let why = layer_of(wrong.as_bytes()).unwrap_err();
            assert!(why.contains("its manifest") && !why.contains("canary"), "{why}");
        }
        let mut archive = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        append(&mut archive, EntryType::Regular, "x.yaml", b"{}\ncanary\n").unwrap();
        let why = unpack(&archive.into_inner().unwrap().finish().unwrap()).unwrap_err();
        assert!(why.contains("not JSON") && !why.contains("canary"), "{why}");
        assert!(unpack(b"canary").unwrap_err().contains("not a gzip-compressed tar archive"));
    }
}
