//! Shows text that others wrote. Characters that control a terminal, or that change the direction or the position of text, are shown
//! escaped. So a comment, a name or a server's answer can't clear a screen, set a clipboard, or look like something else.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// The text with its line breaks. Characters that must not have an effect are escaped: `\u{1b}`, `\u{202e}`.
pub fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && c != '\t' && is_unseen(c))
}

/// The same in one line.
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unseen)
}

/// A JSON document whose texts hold no such character unescaped. It stands for the same values.
pub(crate) fn json(document: &str) -> Cow<'_, str> {
    escaped_as(
        document,
        |c| c != '\n' && is_unseen(c),
        |c, shown| {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String can't fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        },
    )
}

/// The same of a YAML document that is written as JSON: YAML knows no pairs of surrogates.
pub(crate) fn yaml(document: &str) -> Cow<'_, str> {
    escaped_as(
        document,
        |c| c != '\n' && is_unseen(c),
        |c, shown| {
            let _ = write!(shown, "\\U{:08x}", u32::from(c));
        },
    )
}

/// Whether a text has characters that are shown escaped.
pub(crate) fn has_unseen(text: &str) -> bool {
    text.chars().any(|c| c != '\n' && is_unseen(c))
}

/// The same, of at most so many characters. It is cut between characters, with a mark.
pub(crate) fn bounded(text: &str, most: usize) -> String {
    let text = plain(text);
    if text.chars().count() <= most {
        return text.into_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

fn escaped(text: &str, which: impl Fn(char) -> bool) -> Cow<'_, str> {
    escaped_as(text, which, |c, shown| match c {
        '\n' | '\r' | '\t' => shown.extend(c.escape_default()),
        c => shown.extend(c.escape_unicode()),
    })
}

fn escaped_as(text: &str, which: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.chars().any(&which) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if which(c) {
            escape(c, &mut shown);
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Control characters, those that change the direction of text, and invisible ones. Characters that join letters or symbols in some scripts
/// are kept.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A terminal or a log to which others' text is written. The text always arrives escaped.
pub struct Shown<W> {
    to: W,
    one_line: bool,
}

impl<W: Write> Shown<W> {
    /// Line breaks are kept.
    pub fn new(to: W) -> Self {
        Self { to, one_line: false }
    }

    /// Each write is one line, as in a log. Its content can't forge another line.
    pub fn by_line(to: W) -> Self {
        Self { to, one_line: true }
    }
}

impl<W: Write> Write for Shown<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        if self.one_line {
            let (body, end) = text.strip_suffix('\n').map_or((text.as_ref(), ""), |body| (body, "\n"));
            self.to.write_all(format!("{}{end}", line(body)).as_bytes())?;
        } else {
            self.to.write_all(plain(&text).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_controls_a_terminal_or_turns_text_is_shown_and_does_nothing() {
        let hostile = "\u{1b}]52;c;cm0=\u{7}\u{202e}gnp.exe\u{9b}2K\r\u{8}\u{0}\u{feff}";
        assert_eq!(plain(hostile), r"\u{1b}]52;c;cm0=\u{7}\u{202e}gnp.exe\u{9b}2K\r\u{8}\u{0}\u{feff}");
        assert!(!line(hostile).chars().any(is_unseen));
    }

    #[test]
    fn lines_of_a_grant_stay_lines_and_a_cell_is_one() {
        let grant = "grant this:\napiVersion: v1\n\tkind: Role\n";
        assert_eq!(plain(grant), grant);
        assert_eq!(line(grant), r"grant this:\napiVersion: v1\n\tkind: Role\n");
    }

    #[test]
    fn what_people_write_stays_as_it_is() {
        for text in ["Příliš žluťoučký kůň", "日本語", "שלום", "مرحبا", "👩\u{200d}💻", "می\u{200c}خواهم", "a 'quoted' \\ \"name\""]
        {
            assert_eq!((plain(text), line(text)), (text.into(), text.into()));
        }
    }

    #[test]
    fn a_document_says_the_same_after_escaping() {
        let hostile = "\u{1b}]52\u{7}\u{202e}\u{9b}\u{7f}\u{e0041}\u{feff}\"\\u001b\n\t";
        let document = serde_json::to_string_pretty(&serde_json::json!({"a": [hostile]})).unwrap();
        for (shown, read) in [
            (json(&document), serde_json::from_str::<serde_json::Value>(&json(&document)).unwrap()),
            (yaml(&document), serde_saphyr::from_str(&yaml(&document)).unwrap()),
        ] {
            assert!(!has_unseen(&shown) && *shown == *plain(&shown), "{shown}");
            assert_eq!(read["a"][0], hostile, "{shown}");
        }
    }

    #[test]
    fn escaping_makes_nothing_longer_than_its_bound() {
        let hostile = "\u{1b}".repeat(100);
        assert_eq!(bounded(&hostile, 100).chars().count(), 100);
        assert!(bounded(&hostile, 100).ends_with('…'));
        assert_eq!(bounded("short", 5), "short");
    }

    #[test]
    fn a_line_of_a_log_forges_no_other() {
        let mut log = Vec::new();
        Shown::by_line(&mut log).write_all(b"WARN a\nINFO b \x1b[31m\n").unwrap();
        Shown::new(&mut log).write_all("x\u{1b}\ny\n".as_bytes()).unwrap();
        assert_eq!(String::from_utf8(log).unwrap(), "WARN a\\nINFO b \\u{1b}[31m\nx\\u{1b}\ny\n");
    }
}
