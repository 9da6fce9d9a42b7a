//! What is wrong in a manifest.

use serde::Serialize;

use super::reading::Document;
use crate::cli::output::{Column, Row, Tone};
use crate::cli::times::Times;
use crate::cluster::object;

/// How grave it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) enum Severity {
    /// The API server refuses it, or it can't work.
    Error,
    /// It is right only together with something that is not in these files, or is not what is usually meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finding {
    pub(super) file: String,
    pub(super) line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<usize>,
    pub(super) severity: Severity,
    /// The kind and the name of the object.
    pub(super) object: String,
    /// The field, if it is about one.
    pub(super) field: String,
    /// What is wrong, in one word for programs.
    pub(super) reason: &'static str,
    /// What is wrong, and what to do.
    pub(super) message: String,
}

impl Finding {
    pub(super) fn new(severity: Severity, file: &str, line: usize, reason: &'static str, message: &str) -> Self {
        let (object, field) = (String::new(), String::new());
        Self { file: file.to_owned(), line, column: None, severity, object, field, reason, message: message.to_owned() }
    }

    /// The same about an object.
    pub(super) fn about(severity: Severity, document: &Document, reason: &'static str, message: impl AsRef<str>) -> Self {
        let mut finding = Self::new(severity, &document.file, document.line, reason, message.as_ref());
        finding.object = format!("{} {}", object::kind(&document.object), object::name(&document.object));
        finding
    }

    /// The same about a field.
    pub(super) fn at(mut self, document: &Document, field: &str) -> Self {
        field.clone_into(&mut self.field);
        if let Some((line, column)) = document.places.find(&document.path, field) {
            (self.line, self.column) = (document.begins + line - 1, Some(column));
        }
        self
    }
}

impl Row for Finding {
    const COLUMNS: &'static [Column] = &[
        Column::new("WHERE"),
        Column::new("SEVERITY"),
        Column::new("OBJECT"),
        Column::new("FIELD"),
        Column::wide("REASON"),
        Column::new("MESSAGE"),
    ];

    fn cells(&self, _: &Times) -> Vec<String> {
        let column = self.column.map(|column| format!(":{column}")).unwrap_or_default();
        vec![
            format!("{}:{}{column}", self.file, self.line),
            format!("{:?}", self.severity),
            self.object.clone(),
            self.field.clone(),
            self.reason.to_owned(),
            self.message.clone(),
        ]
    }

    fn name(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    fn tone(&self) -> Tone {
        if self.severity == Severity::Error { Tone::Bad } else { Tone::Waiting }
    }
}
