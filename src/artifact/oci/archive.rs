//! Reads a compressed archive, file after file, within limits. Nothing is written to a disk.

use std::cell::Cell;
use std::io::Read;
use std::path::{Component, Path};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::error::{OciError, shown};
use super::limits;
use crate::api::reason::Reason;

/// How much of an artifact was read so far, over all its layers.
#[derive(Clone, Default)]
pub(crate) struct Spent {
    bytes: Rc<Cell<u64>>,
    entries: usize,
}

impl Spent {
    /// Counts a file that is a layer itself.
    ///
    /// # Errors
    /// If it is one file too many.
    pub(crate) fn file(&mut self, size: usize, reference: &str) -> Result<(), OciError> {
        self.bytes.set(self.bytes.get().saturating_add(size as u64));
        if self.bytes.get() > limits::DECOMPRESSED {
            return Err(beyond(reference));
        }
        self.entry(reference)
    }

    fn entry(&mut self, reference: &str) -> Result<(), OciError> {
        self.entries += 1;
        if self.entries > limits::ENTRIES {
            let what = format!("it holds more than {} files and folders", limits::ENTRIES);
            return Err(OciError::TooLarge { reference: reference.to_owned(), what });
        }
        Ok(())
    }
}

fn beyond(reference: &str) -> OciError {
    let what = format!("its files have more than {} bytes when they are unpacked", limits::DECOMPRESSED);
    OciError::TooLarge { reference: reference.to_owned(), what }
}

/// Ends if the limit is exceeded, as a broken archive would.
struct Metered<R> {
    from: R,
    spent: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.spent.set(self.spent.get().saturating_add(count as u64));
        if self.spent.get() > limits::DECOMPRESSED { Err(std::io::Error::other("too large")) } else { Ok(count) }
    }
}

/// Passes each file of a gzip-compressed tar archive to `take`, in order.
///
/// # Errors
/// If the archive contains anything but files and folders with plain paths, exceeds a limit, or can't be read; and the errors of `take`.
pub(crate) fn read(
    compressed: &[u8],
    reference: &str,
    spent: &mut Spent,
    mut take: impl FnMut(&str, Vec<u8>) -> Result<(), OciError>,
) -> Result<(), OciError> {
    let meter = spent.bytes.clone();
    let broken = |_: std::io::Error| {
        if meter.get() > limits::DECOMPRESSED {
            return beyond(reference);
        }
        OciError::Content {
            reference: reference.to_owned(),
            reason: Reason::ArchiveUnreadable,
            what: "a layer is not a gzip-compressed tar archive, or it is damaged: push it again".to_owned(),
        }
    };
    let mut archive = Archive::new(Metered { from: MultiGzDecoder::new(compressed), spent: spent.bytes.clone() });
    for entry in archive.entries().map_err(&broken)? {
        let mut entry = entry.map_err(&broken)?;
        spent.entry(reference)?;
        let refused = |what: String| OciError::Unsafe { reference: reference.to_owned(), what };
        let kind = entry.header().entry_type();
        // Git writes this entry at the beginning, about the commit.
        if kind == EntryType::XGlobalHeader {
            continue;
        }
        let name =
            String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| refused("the name of a file in it is not UTF-8".into()))?;
        plain(&name).map_err(|why| refused(format!("the path {:?} in it {why}", shown(&name))))?;
        match kind {
            EntryType::Directory => {}
            EntryType::Regular | EntryType::Continuous => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).map_err(&broken)?;
                take(&name, content)?;
            }
            other => return Err(refused(format!("{:?} in it is {}", shown(&name), described(other)))),
        }
    }
    Ok(())
}

/// Whether a path stays below its folder. Nothing is ever written there. But whoever pushed such a path may want to harm others, so it is
/// reported.
///
/// # Errors
/// Why it leads elsewhere.
pub(crate) fn plain(path: &str) -> Result<(), String> {
    if path.len() > limits::PATH {
        return Err(format!("has more than {} bytes", limits::PATH));
    }
    if path.contains('\\') || path.chars().any(char::is_control) {
        return Err("has a backslash or a control character".to_owned());
    }
    for component in Path::new(path).components() {
        match component {
            Component::Normal(_) | Component::CurDir => {}
            Component::ParentDir => return Err("leads out of its folder".to_owned()),
            Component::RootDir | Component::Prefix(_) => return Err("is absolute".to_owned()),
        }
    }
    if path.is_empty() { Err("is empty".to_owned()) } else { Ok(()) }
}

fn described(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Symlink => "a symbolic link",
        EntryType::Link => "a hard link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a named pipe",
        EntryType::GNUSparse => "a sparse file",
        _ => "neither a file nor a folder",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;

    const REFERENCE: &str = "oci://r/x@sha256:0";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// An entry with a name that no honest program would write.
    fn entry(name: &[u8], kind: EntryType, content: &[u8]) -> Vec<u8> {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let mut builder = Builder::new(Vec::new());
        builder.append(&header, content).unwrap();
        builder.into_inner().unwrap()
    }

    fn names(compressed: &[u8]) -> Result<Vec<(String, usize)>, OciError> {
        let mut names = Vec::new();
        read(compressed, REFERENCE, &mut Spent::default(), |name, content| {
            names.push((name.to_owned(), content.len()));
            Ok(())
        })?;
        Ok(names)
    }

    #[test]
    fn files_in_folders_are_read() {
        let mut builder = Builder::new(Vec::new());
        for (path, content) in [("./a.yaml", "x"), ("deep/er/b.yaml", "xy")] {
            let mut header = Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
        let mut folder = Header::new_ustar();
        folder.set_entry_type(EntryType::Directory);
        folder.set_size(0);
        builder.append_data(&mut folder, "empty/", std::io::empty()).unwrap();
        // A name that is longer than a header allows.
        let long = format!("{}/c.yaml", "d".repeat(200));
        let mut header = Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, &long, std::io::empty()).unwrap();
        let found = names(&gzip(&builder.into_inner().unwrap())).unwrap();
        assert_eq!(found, [("a.yaml".into(), 1), ("deep/er/b.yaml".into(), 2), (long, 0)]);
    }

    #[test]
    fn hostile_entries_are_refused_by_name() {
        for (name, kind, words) in [
            (&b"../evil.yaml"[..], EntryType::Regular, "leads out of its folder"),
            (b"a/../../evil.yaml", EntryType::Regular, "leads out of its folder"),
            (b"/etc/evil.yaml", EntryType::Regular, "is absolute"),
            (b"..\\evil.yaml", EntryType::Regular, "backslash"),
            (b"a\nb.yaml", EntryType::Regular, "control character"),
            (b"\xff.yaml", EntryType::Regular, "not UTF-8"),
            (b"../evil", EntryType::Directory, "leads out of its folder"),
            (b"link.yaml", EntryType::Symlink, "a symbolic link"),
            (b"hard.yaml", EntryType::Link, "a hard link"),
            (b"null", EntryType::Char, "a device"),
            (b"disk", EntryType::Block, "a device"),
            (b"pipe", EntryType::Fifo, "a named pipe"),
            (b"odd", EntryType::new(b'V'), "neither a file nor a folder"),
        ] {
            let error = names(&gzip(&entry(name, kind, b""))).unwrap_err();
            assert_eq!(error.reason().as_str(), "ArtifactUnsafe", "{error}");
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("plain files and folders") && !text.contains('\n'), "{words}: {text}");
        }
    }

    #[test]
    fn a_path_beyond_the_limit_is_refused_whichever_way_it_is_written() {
        let mut builder = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, "d/".repeat(limits::PATH), std::io::empty()).unwrap();
        let error = names(&gzip(&builder.into_inner().unwrap())).unwrap_err();
        assert!(error.reason().as_str() == "ArtifactUnsafe" && error.to_string().contains("bytes"), "{error}");
    }

    #[test]
    fn a_bomb_is_left_when_it_goes_off() {
        let zeros = vec![0_u8; usize::try_from(limits::DECOMPRESSED).unwrap() + 1024];
        let compressed = gzip(&entry(b"bomb.yaml", EntryType::Regular, &zeros));
        assert!(compressed.len() < 1024 * 1024, "it is small on its way");
        let error = names(&compressed).unwrap_err();
        assert!(error.reason().as_str() == "ArtifactTooLarge" && error.to_string().contains("unpacked"), "{error}");
        // The limit applies to all layers together.
        let half = vec![0_u8; usize::try_from(limits::DECOMPRESSED).unwrap() * 2 / 3];
        let layer = gzip(&entry(b"half.yaml", EntryType::Regular, &half));
        let mut spent = Spent::default();
        read(&layer, REFERENCE, &mut spent, |_, _| Ok(())).unwrap();
        assert_eq!(read(&layer, REFERENCE, &mut spent, |_, _| Ok(())).unwrap_err().reason().as_str(), "ArtifactTooLarge");
    }

    #[test]
    fn too_many_files_are_not_counted_to_their_end() {
        let mut builder = Builder::new(Vec::new());
        for index in 0..=limits::ENTRIES {
            let mut header = Header::new_gnu();
            header.set_size(0);
            builder.append_data(&mut header, format!("{index}.yaml"), std::io::empty()).unwrap();
        }
        let error = names(&gzip(&builder.into_inner().unwrap())).unwrap_err();
        assert!(error.reason().as_str() == "ArtifactTooLarge" && error.to_string().contains("files and folders"), "{error}");
    }

    #[test]
    fn what_is_no_archive_is_said_to_be_none() {
        let cut = gzip(&entry(b"a.yaml", EntryType::Regular, &[b'x'; 4096]));
        for bytes in [&b"hello"[..], &gzip(&[b'x'; 2048]), &cut[..cut.len() / 2]] {
            assert_eq!(names(bytes).unwrap_err().reason().as_str(), "ArchiveUnreadable");
        }
        assert_eq!(names(&gzip(b"")).unwrap(), [], "nothing in it is found out where objects are looked for");
    }
}
