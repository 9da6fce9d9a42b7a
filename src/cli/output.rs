//! What the program prints, in the form that was asked for. Others wrote most of it: nothing of it reaches a terminal unescaped.
//!
//! With `-o json`, `yaml`, `name` or `csv` the standard output holds that and nothing else. What is only for people is on the standard
//! error then.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::exit::Exit;
use super::times::Times;
use crate::text::{self, Shown};

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON, with everything that is known.
    Json,
    /// The same as YAML.
    Yaml,
    /// Only the names, as kubectl takes them.
    Name,
    /// All columns as comma-separated values, for lists.
    Csv,
}

/// A column of a list.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    name: &'static str,
    when: When,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    Wide,
    Everywhere,
}

impl Column {
    /// A column that is always there.
    pub const fn new(name: &'static str) -> Self {
        Self { name, when: When::Always }
    }

    /// A column of `-o wide`.
    pub const fn wide(name: &'static str) -> Self {
        Self { name, when: When::Wide }
    }

    /// A column that is there where all namespaces are meant: the namespace.
    pub const fn everywhere(name: &'static str) -> Self {
        Self { name, when: When::Everywhere }
    }
}

/// What a row tells at a glance. It is its colour on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    #[default]
    Plain,
    /// It is done.
    Good,
    /// Somebody or something is waited for.
    Waiting,
    /// It went wrong.
    Bad,
}

/// An entry of a list. As JSON and YAML it is what serde makes of it.
pub trait Row: Serialize {
    /// The columns.
    const COLUMNS: &'static [Column];
    /// The cells, one for each column.
    fn cells(&self, times: &Times) -> Vec<String>;
    /// The kind and the name, as kubectl takes them: `deploymentrequest.pilotage.dev/orders`.
    fn name(&self) -> String;
    /// What it tells at a glance.
    fn tone(&self) -> Tone {
        Tone::Plain
    }
}

/// A list, and what the caller does not see of it.
#[derive(Clone, Debug)]
pub struct Listing<R> {
    /// The entries.
    pub rows: Vec<R>,
    /// What is not shown and why: rights that the caller lacks, entries that were left out.
    pub not_shown: Vec<String>,
}

impl<R> Default for Listing<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), not_shown: Vec::new() }
    }
}

/// Where the program prints.
pub struct Output<W> {
    to: W,
    notes: Box<dyn Write + Send>,
    format: Format,
    everywhere: bool,
    colours: bool,
    now: Timestamp,
}

impl Output<io::Stdout> {
    /// The standard output, and the standard error for what is only for people.
    pub fn standard(format: Format) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        let colours = io::stdout().is_terminal() && !plain && !dumb;
        Self { colours, ..Self::new(io::stdout(), Box::new(io::stderr()), format) }
    }
}

impl<W: Write> Output<W> {
    /// An output without colours.
    pub fn new(to: W, notes: Box<dyn Write + Send>, format: Format) -> Self {
        Self { to, notes, format, everywhere: false, colours: false, now: Timestamp::now() }
    }

    /// The same with the column of the namespace in tables.
    pub fn of_all_namespaces(&mut self, everywhere: bool) {
        self.everywhere = everywhere;
    }

    /// The form that was asked for.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether the output is for people.
    pub fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// Prints a list. `none` is said to people if it is empty.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn list<R: Row>(&mut self, list: &Listing<R>, none: &str) -> anyhow::Result<()> {
        match self.format {
            Format::Table | Format::Wide if list.rows.is_empty() => self.note(none)?,
            Format::Table | Format::Wide => self.table(&list.rows)?,
            Format::Name => {
                for row in &list.rows {
                    writeln!(Shown::new(&mut self.to), "{}", text::line(&row.name()))?;
                }
            }
            Format::Csv => self.csv(&list.rows)?,
            Format::Json | Format::Yaml => return self.document(&json!({"items": list.rows, "notShown": list.not_shown})),
        }
        for note in &list.not_shown {
            self.note(&format!("not shown: {note}"))?;
        }
        Ok(())
    }

    /// Prints one thing: as JSON or YAML, by its name, or as `people` says it.
    ///
    /// # Errors
    /// If it can't be written, or is asked for as CSV.
    pub fn one(&mut self, value: &impl Serialize, name: &str, people: &str) -> anyhow::Result<()> {
        match self.format {
            Format::Table | Format::Wide => writeln!(self, "{}", people.trim_end_matches('\n'))?,
            Format::Name => writeln!(Shown::new(&mut self.to), "{name}")?,
            Format::Json | Format::Yaml => self.document(&serde_json::to_value(value)?)?,
            Format::Csv => return Err(Exit::Usage.because("-o csv is for lists; here it is table, wide, json, yaml or name")),
        }
        Ok(())
    }

    /// Prints one of several things as it happens: JSON in a line, a document of YAML, the name, or a line for people.
    ///
    /// # Errors
    /// If it can't be written, or is asked for as CSV.
    pub fn event(&mut self, value: &impl Serialize, name: &str, people: &str) -> anyhow::Result<()> {
        match self.format {
            Format::Json => writeln!(self.to, "{}", text::json(&serde_json::to_string(value)?))?,
            Format::Yaml => self.documents(&[serde_json::to_value(value)?])?,
            Format::Table | Format::Wide => writeln!(self.to, "{}", text::line(people))?,
            Format::Name | Format::Csv => self.one(value, name, people)?,
        }
        Ok(self.to.flush()?)
    }

    /// Prints a text in the form that it has.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn verbatim(&mut self, text: &str) -> anyhow::Result<()> {
        Ok(write!(Shown::new(&mut self.to), "{text}")?)
    }

    /// Prints objects as YAML, a document for each.
    ///
    /// # Errors
    /// If they can't be written.
    pub fn documents(&mut self, objects: &[Value]) -> anyhow::Result<()> {
        for object in objects {
            let text = document(object, Format::Yaml)?;
            self.to.write_all(format!("---\n{text}").as_bytes())?;
        }
        Ok(())
    }

    /// Says something to people. It is never in what a program reads.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn note(&mut self, note: &str) -> io::Result<()> {
        writeln!(Shown::new(&mut self.notes), "{note}")
    }

    fn document(&mut self, value: &Value) -> anyhow::Result<()> {
        let text = document(value, self.format)?;
        self.to.write_all(text.as_bytes())?;
        Ok(())
    }

    fn columns<R: Row>(&self, all: bool) -> Vec<usize> {
        let wide = all || self.format == Format::Wide;
        let is_shown = |column: &Column| match column.when {
            When::Always => true,
            When::Wide => wide,
            When::Everywhere => wide || self.everywhere,
        };
        R::COLUMNS.iter().enumerate().filter(|(_, column)| is_shown(column)).map(|(at, _)| at).collect()
    }

    fn table<R: Row>(&mut self, rows: &[R]) -> io::Result<()> {
        let (columns, times) = (self.columns::<R>(false), Times::Ages(self.now));
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_header(columns.iter().map(|at| R::COLUMNS[*at].name));
        for row in rows {
            let cells = row.cells(&times);
            table.add_row(columns.iter().map(|at| text::line(&cells[*at]).into_owned()));
        }
        let printed = table.to_string();
        // Each cell is one line, so each row is.
        let tones = std::iter::once(Tone::Plain).chain(rows.iter().map(Row::tone));
        for (line, tone) in printed.lines().zip(tones) {
            self.coloured(text::line(line).trim_end().trim_start_matches(' '), tone)?;
        }
        Ok(())
    }

    fn coloured(&mut self, line: &str, tone: Tone) -> io::Result<()> {
        let code = match tone {
            Tone::Good => "32",
            Tone::Waiting => "33",
            Tone::Bad => "31",
            Tone::Plain => return writeln!(self.to, "{line}"),
        };
        if self.colours { writeln!(self.to, "\u{1b}[{code}m{line}\u{1b}[0m") } else { writeln!(self.to, "{line}") }
    }

    fn csv<R: Row>(&mut self, rows: &[R]) -> anyhow::Result<()> {
        let columns = self.columns::<R>(true);
        let mut writer = csv::Writer::from_writer(&mut self.to);
        writer.write_record(columns.iter().map(|at| R::COLUMNS[*at].name))?;
        for row in rows {
            let cells = row.cells(&Times::Absolute);
            writer.write_record(columns.iter().map(|at| inert(&cells[*at])))?;
        }
        writer.flush()?;
        Ok(())
    }
}

/// Lines for people. Where the standard output is for programs, they are on the standard error.
impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_for_people() { Shown::new(&mut self.to).write(bytes) } else { Shown::new(&mut self.notes).write(bytes) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()?;
        self.notes.flush()
    }
}

/// A value as JSON, or as YAML.
fn document(value: &Value, format: Format) -> anyhow::Result<String> {
    let mut pretty = serde_json::to_string_pretty(value)?;
    pretty.push('\n');
    if format == Format::Json {
        return Ok(text::json(&pretty).into_owned());
    }
    let yaml = serde_saphyr::to_string(value)?;
    // JSON is YAML. It has a place for every escape, which plain texts of YAML have not.
    Ok(if text::has_unseen(&yaml) { text::yaml(&pretty).into_owned() } else { yaml })
}

/// A cell in one line that no spreadsheet takes for a formula.
fn inert(cell: &str) -> String {
    let line = text::line(cell);
    if line.starts_with(['=', '+', '-', '@']) { format!("'{line}") } else { line.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Greeting {
        name: String,
        words: String,
        host: String,
    }

    impl Row for Greeting {
        const COLUMNS: &'static [Column] = &[Column::everywhere("HOST"), Column::new("NAME"), Column::wide("WORDS")];

        fn cells(&self, _: &Times) -> Vec<String> {
            vec![self.host.clone(), self.name.clone(), self.words.clone()]
        }

        fn name(&self) -> String {
            format!("greeting/{}", self.name)
        }

        fn tone(&self) -> Tone {
            Tone::Good
        }
    }

    fn printed(format: Format, words: &str) -> String {
        let rows = vec![Greeting { name: "a".into(), words: words.into(), host: "h".into() }];
        let mut bytes = Vec::new();
        let mut output = Output::new(&mut bytes, Box::new(io::sink()), format);
        output.list(&Listing { rows, not_shown: vec!["what you may not read".into()] }, "none").unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn each_form_has_the_columns_that_it_promises() {
        assert_eq!(printed(Format::Table, "hi").lines().map(str::trim).collect::<Vec<_>>(), ["NAME", "a"]);
        assert_eq!(printed(Format::Csv, "hi, \"you\""), "HOST,NAME,WORDS\nh,a,\"hi, \"\"you\"\"\"\n");
        assert_eq!(printed(Format::Name, "hi"), "greeting/a\n");
        let read: Value = serde_json::from_str(&printed(Format::Json, "hi")).unwrap();
        assert_eq!(read, json!({"items": [{"name": "a", "words": "hi", "host": "h"}], "notShown": ["what you may not read"]}));
        assert_eq!(serde_saphyr::from_str::<Value>(&printed(Format::Yaml, "hi")).unwrap(), read);
    }

    #[test]
    fn hostile_text_controls_no_terminal_in_any_form_and_programs_read_it_as_it_was() {
        let hostile = "\u{1b}[2K\u{202e}\u{9b}2K\u{200b}\u{e0041}\nforged  row\r,\"";
        for format in Format::value_variants() {
            let shown = printed(*format, hostile);
            assert!(!text::has_unseen(&shown), "{format:?}: {shown:?}");
        }
        assert_eq!(printed(Format::Wide, hostile).lines().count(), 2);
        let read: Value = serde_json::from_str(&printed(Format::Json, hostile)).unwrap();
        assert_eq!(read["items"][0]["words"], hostile);
        assert_eq!(serde_saphyr::from_str::<Value>(&printed(Format::Yaml, hostile)).unwrap(), read);
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)"] {
            assert!(printed(Format::Csv, formula).ends_with(&format!(",'{formula}\n")));
        }
    }

    #[test]
    fn lines_for_people_are_not_among_what_programs_read() {
        for (format, there) in [(Format::Table, "hello\n"), (Format::Json, "")] {
            let mut bytes = Vec::new();
            writeln!(Output::new(&mut bytes, Box::new(io::sink()), format), "hello").unwrap();
            assert_eq!(String::from_utf8(bytes).unwrap(), there);
        }
    }
}
