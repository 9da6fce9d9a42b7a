//! Reads manifests: files, folders, the standard input; each with several documents.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Context;
use serde_json::Value;

use super::finding::{Finding, Severity};
use super::places::Places;

/// The most bytes of a file: no manifest is larger.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// How deep folders are searched.
const DEEPEST: usize = 32;

/// A document of a file.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) file: String,
    /// The line that the object begins in, from 1.
    pub(super) line: usize,
    /// The line that the document begins in, with all its objects if it is a list.
    pub(super) begins: usize,
    pub(super) object: Value,
    /// Where the object is in the document: empty, or a place in a list.
    pub(super) path: String,
    /// Where each field of the document is.
    pub(super) places: Rc<Places>,
}

/// What was read, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    pub(super) documents: Vec<Document>,
    pub(super) files: usize,
    pub(super) findings: Vec<Finding>,
}

impl Manifests {
    /// Reads all of it. `-` is the standard input.
    ///
    /// # Errors
    /// If a file can't be read.
    pub(super) fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let mut all = Self::default();
        for path in paths {
            if path.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin().take(MAX_BYTES).read_to_string(&mut text).context("reading the standard input")?;
                all.add("-", &text);
                continue;
            }
            let mut files = Vec::new();
            find(path, 0, &mut files)?;
            for file in files {
                let name = file.display().to_string();
                let size = std::fs::metadata(&file).with_context(|| format!("reading {name}"))?.len();
                anyhow::ensure!(size <= MAX_BYTES, "{name} has {size} bytes, and no manifest has more than {MAX_BYTES}");
                all.add(&name, &std::fs::read_to_string(&file).with_context(|| format!("reading {name}"))?);
            }
        }
        Ok(all)
    }

    /// Adds the documents of a file.
    pub(super) fn add(&mut self, file: &str, text: &str) {
        self.files += 1;
        for (line, text) in parts(text) {
            match serde_saphyr::from_str::<Value>(&text) {
                Ok(Value::Null) => {}
                Ok(object) => self.take(file, line, "", &Rc::new(Places::of(&text)), object),
                Err(error) => {
                    let place = error.location().map(|place| (place.line(), place.column()));
                    let at = line + usize::try_from(place.map_or(1, |(line, _)| line)).unwrap_or(1) - 1;
                    let column = place.and_then(|(_, column)| usize::try_from(column).ok());
                    let message = error.to_string().lines().next().unwrap_or_default().to_owned();
                    let mut finding = Finding::new(Severity::Error, file, at, "NotYaml", &message);
                    finding.column = column;
                    self.findings.push(finding);
                }
            }
        }
    }

    /// An object, or the objects of a list.
    fn take(&mut self, file: &str, begins: usize, path: &str, places: &Rc<Places>, object: Value) {
        if object["kind"] == "List"
            && let Some(items) = object["items"].as_array()
        {
            for (index, item) in items.iter().enumerate() {
                let within = if path.is_empty() { String::new() } else { format!("{path}.") };
                self.take(file, begins, &format!("{within}items[{index}]"), places, item.clone());
            }
            return;
        }
        let place = if path.is_empty() { None } else { places.find("", path) };
        let line = place.map_or(begins, |(line, _)| begins + line - 1);
        if !object.is_object() || !object["kind"].is_string() || !object["apiVersion"].is_string() {
            let message = "the document is no Kubernetes object: it lacks apiVersion or kind";
            self.findings.push(Finding::new(Severity::Error, file, line, "NotAnObject", message));
            return;
        }
        self.documents.push(Document { file: file.to_owned(), line, begins, object, path: path.to_owned(), places: places.clone() });
    }
}

/// The documents of a text, each with the line that it begins in. A line that begins with `---` is never within a value.
fn parts(text: &str) -> Vec<(usize, String)> {
    let mut parts = vec![(1, String::new())];
    for (index, line) in text.lines().enumerate() {
        let rest = line.strip_prefix("---").filter(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r']));
        if let Some(rest) = rest {
            // What follows the dashes in their line belongs to the document.
            parts.push((index + 1, format!("   {}\n", rest.trim_end())));
        } else if let Some((_, part)) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    let is_said = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    parts.retain(|(_, part)| part.lines().any(is_said));
    parts
}

fn find(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let about = || format!("reading {}", path.display());
    if !std::fs::metadata(path).with_context(about)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    anyhow::ensure!(depth < DEEPEST, "{} is more than {DEEPEST} folders deep", path.display());
    let mut entries: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(path).with_context(about)? {
        entries.push(entry.with_context(about)?.path());
    }
    entries.sort();
    for entry in entries {
        let is_manifest = entry.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        let is_hidden = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if is_manifest || (entry.is_dir() && !is_hidden && !entry.is_symlink()) {
            find(&entry, depth + 1, files)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_told_apart_and_keep_their_lines() {
        let mut read = Manifests::default();
        read.add(
            "a.yaml",
            "# first\n---\napiVersion: v1\nkind: A\n---\n# nothing\n--- # second\napiVersion: v1\nkind: B\ntext: |\n  ---\n  x\n",
        );
        let seen: Vec<_> = read.documents.iter().map(|d| (d.line, d.object["kind"].as_str().unwrap())).collect();
        assert_eq!(seen, [(2, "A"), (7, "B")]);
        assert!(read.findings.is_empty(), "{:?}", read.findings);
    }

    #[test]
    fn wrong_yaml_is_told_with_its_line_and_column_and_the_rest_is_read() {
        let mut read = Manifests::default();
        read.add("a.yaml", "apiVersion: v1\nkind: A\n---\nkind: B\n  wrong: [\n---\njust text\n---\napiVersion: v1\nkind: C\n");
        assert_eq!(read.documents.len(), 2);
        assert_eq!(read.findings.iter().map(|f| f.reason).collect::<Vec<_>>(), ["NotYaml", "NotAnObject"]);
        assert!(read.findings[0].line >= 5 && read.findings[0].column.is_some(), "{:?}", read.findings[0]);
    }
}
