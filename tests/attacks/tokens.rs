//! Finds code by its tokens. Comments, layout, a comma before a closing bracket, and the file of the code do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::iter::zip;
use std::ops::Range;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};

/// The code to find.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Any sequence of tokens. Its brackets need not be balanced.
    pub code: &'a str,
    /// The last segments of a module's path, if the code is in several.
    pub module: Option<&'a str>,
}

/// Where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: PathBuf,
    pub bytes: Range<usize>,
    line: usize,
}

/// Why it is not in exactly one place.
#[derive(Debug, PartialEq, Eq)]
pub enum NotFound {
    NoCode,
    Nowhere { closest: Option<Place> },
    Several(Vec<Place>),
}

/// The files that are searched.
#[derive(Default)]
pub struct Sources(BTreeMap<PathBuf, Source>);

struct Source {
    module: String,
    code: Code,
}

struct Code {
    text: String,
    tokens: Vec<Range<usize>>,
    /// Which of the tokens count.
    compared: Vec<usize>,
}

impl Sources {
    pub fn add(&mut self, path: &Path, text: String) {
        let Some(code) = Code::read(text) else { panic!("{} is not Rust", path.display()) };
        self.0.insert(path.to_owned(), Source { module: module_of(path), code });
    }

    /// The only place of some code.
    pub fn find(&self, wanted: Wanted<'_>) -> Result<Place, NotFound> {
        let fragment = Fragment::read(wanted.code).ok_or(NotFound::NoCode)?;
        let in_scope = || self.0.iter().filter(|(_, source)| wanted.module.is_none_or(|module| is_end(module, &source.module)));
        let word = fragment.tokens.iter().max_by_key(|token| token.len()).unwrap();
        // Most files are ruled out quickly, because they lack one of the words.
        let places = in_scope().filter(|(_, source)| source.code.text.contains(word)).flat_map(|(path, Source { code, .. })| {
            let starts = (0..code.compared.len()).filter(|at| code.holds(*at, &fragment));
            starts.map(|at| code.place(path, at, &fragment))
        });
        let mut places: Vec<Place> = places.collect();
        match places.len() {
            0 => Err(NotFound::Nowhere {
                closest: in_scope()
                    .filter_map(|(path, source)| source.code.closest(path, &fragment))
                    .max_by_key(|(agree, _)| *agree)
                    .map(|(_, place)| place),
            }),
            1 => Ok(places.remove(0)),
            _ => Err(NotFound::Several(places)),
        }
    }
}

impl Code {
    fn read(text: String) -> Option<Self> {
        let mut tokens = Vec::new();
        flatten(text.parse().ok()?, &text, &mut tokens);
        let is_last_comma =
            |at: usize| &text[tokens[at].clone()] == "," && tokens.get(at + 1).is_some_and(|next| closes(&text[next.clone()]));
        let compared = (0..tokens.len()).filter(|at| !is_last_comma(*at)).collect();
        Some(Self { text, tokens, compared })
    }

    fn token(&self, at: usize) -> Option<&str> {
        Some(&self.text[self.tokens.get(at)?.clone()])
    }

    /// How many tokens from here on match.
    fn agree(&self, at: usize, fragment: &Fragment) -> usize {
        zip(&self.compared[at..], &fragment.tokens).take_while(|(here, wanted)| self.token(**here) == Some(wanted)).count()
    }

    fn holds(&self, at: usize, fragment: &Fragment) -> bool {
        self.agree(at, fragment) == fragment.tokens.len() && self.goes_on_as(at + fragment.tokens.len(), fragment)
    }

    /// Whether the next token may follow a comma at the end of a fragment.
    fn goes_on_as(&self, at: usize, fragment: &Fragment) -> bool {
        let next = self.compared.get(at).and_then(|next| self.token(*next));
        !fragment.ends_in_comma || next.is_none_or(|next| next == "," || closes(next))
    }

    /// The place where most tokens match from the first one on, and how many.
    fn closest(&self, path: &Path, fragment: &Fragment) -> Option<(usize, Place)> {
        let (agree, at) = (0..self.compared.len()).map(|at| (self.agree(at, fragment), at)).max_by_key(|(agree, _)| *agree)?;
        let begin = Fragment { tokens: fragment.tokens[..agree].to_vec(), ends_in_comma: false };
        (agree > 0).then(|| (agree, self.place(path, at, &begin)))
    }

    fn place(&self, path: &Path, at: usize, fragment: &Fragment) -> Place {
        let (first, mut last) = (self.compared[at], self.compared[at + fragment.tokens.len() - 1]);
        if fragment.ends_in_comma && self.token(last + 1) == Some(",") {
            last += 1;
        }
        let bytes = self.tokens[first].start..self.tokens[last].end;
        Place { file: path.to_owned(), line: self.text[..bytes.start].matches('\n').count() + 1, bytes }
    }
}

struct Fragment {
    tokens: Vec<String>,
    /// A comma at the end. It is not among the tokens.
    ends_in_comma: bool,
}

impl Fragment {
    /// How many brackets a fragment may lack.
    const MOST_LACKING: usize = 5;

    /// Brackets that a fragment opens but does not close, or closes but did not open, are added for parsing, and removed again.
    fn read(code: &str) -> Option<Self> {
        let mut added = BTreeSet::from([(String::new(), String::new())]);
        for _ in 0..=Self::MOST_LACKING {
            if let Some((before, read)) =
                added.iter().find_map(|(before, after)| Some((before, Code::read(format!("{before}{code}\n{after}"))?)))
            {
                let own = before.len()..before.len() + code.len();
                let tokens = read.tokens.iter().filter(|token| own.contains(&token.start));
                return Self::of(tokens.map(|token| read.text[token.clone()].to_owned()).collect());
            }
            let more = |(before, after): &(String, String)| {
                [("(", ")"), ("[", "]"), ("{", "}")]
                    .map(|(open, close)| [(format!("{open}{before}"), after.clone()), (before.clone(), format!("{after}{close}"))])
            };
            added = added.iter().flat_map(more).flatten().collect();
        }
        None
    }

    fn of(mut tokens: Vec<String>) -> Option<Self> {
        let ends_in_comma = tokens.pop_if(|last| last == ",").is_some();
        let next: Vec<String> = tokens.iter().skip(1).cloned().collect();
        let mut next = next.iter();
        tokens.retain(|token| next.next().is_none_or(|next| token != "," || !closes(next)));
        (!tokens.is_empty()).then_some(Self { tokens, ends_in_comma })
    }
}

fn closes(token: &str) -> bool {
    matches!(token, ")" | "]" | "}" | ">")
}

fn flatten(stream: TokenStream, text: &str, tokens: &mut Vec<Range<usize>>) {
    let push = |span: Span, tokens: &mut Vec<Range<usize>>| tokens.push(span.byte_range());
    for tree in stream {
        // A comment for rustdoc is parsed as an attribute.
        let start = &text[tree.span().byte_range().start..];
        if start.starts_with("//") || start.starts_with("/*") {
            continue;
        }
        match tree {
            TokenTree::Group(group) => {
                push(group.span_open(), tokens);
                flatten(group.stream(), text, tokens);
                push(group.span_close(), tokens);
            }
            leaf => push(leaf.span(), tokens),
        }
    }
}

/// `src/policy/request/mod.rs` becomes `policy::request`.
fn module_of(path: &Path) -> String {
    let path = path.with_extension("");
    let path = if path.ends_with("mod") { path.parent().unwrap() } else { &path };
    path.iter().skip(1).map(|segment| segment.to_string_lossy()).collect::<Vec<_>>().join("::")
}

fn is_end(end: &str, module: &str) -> bool {
    module.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
}

impl Place {
    pub fn overlaps(&self, other: &Self) -> bool {
        self.file == other.file && self.bytes.start < other.bytes.end && other.bytes.start < self.bytes.end
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCode => f.write_str("this can't be read as Rust"),
            Self::Nowhere { closest: None } => f.write_str("it stands nowhere"),
            Self::Nowhere { closest: Some(place) } => write!(f, "it stands nowhere; {place} begins like it"),
            Self::Several(places) => {
                let places: Vec<String> = places.iter().map(ToString::to_string).collect();
                write!(f, "it stands at {}", places.join(" and "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(files: &[(&str, &str)]) -> Sources {
        let mut sources = Sources::default();
        for (path, text) in files {
            sources.add(Path::new(path), (*text).to_owned());
        }
        sources
    }

    fn found(text: &str, code: &str) -> Option<String> {
        let place = sources(&[("src/here.rs", text)]).find(Wanted { code, module: None }).ok()?;
        Some(text[place.bytes].to_owned())
    }

    #[test]
    fn code_that_was_formatted_anew_is_found() {
        let before = "if is_due(now) && self.known(name, \"a  b\")? { return Ok(()); }";
        let after = "fn f() {\n    if is_due(now)\n        && self.known(\n            name, // whose\n            /* which */ \"a  b\",\n        )?\n    {\n        return Ok(());\n    }\n}";
        assert_eq!(found(after, before).unwrap(), after[after.find("if").unwrap()..after.rfind('}').unwrap()].trim_end());
        assert_eq!(found(after, &before.replace("a  b", "a b")), None, "what a string says counts");
        assert_eq!(found(before, "known(name, \"a  b\",)").unwrap(), "known(name, \"a  b\")");
    }

    #[test]
    fn comments_do_not_count() {
        let text = "/// if a { b }\nfn f() { // if a { b }\n    if a { /* no */ b }\n    \"if a { b }\" }";
        assert_eq!(found(text, "if a { b }").unwrap(), "if a { /* no */ b }");
    }

    #[test]
    fn brackets_need_not_be_closed() {
        let text = "fn f() { match g(a) { Some(true) => Err(h(b, c)), } }";
        assert_eq!(found(text, "match g(a) {").unwrap(), "match g(a) {");
        assert_eq!(found(text, "c)), }").unwrap(), "c)), }");
        assert_eq!(found(text, "=> Err(h(b,").unwrap(), "=> Err(h(b,");
        assert_eq!(found(text, "(a)) {"), None);
    }

    #[test]
    fn a_comma_at_the_end_is_replaced_where_there_is_one() {
        assert_eq!(found("fn f() { match a { B => c, D => e } }", "B => c,").unwrap(), "B => c,");
        assert_eq!(found("fn f() { match a { B => c, } }", "B => c,").unwrap(), "B => c,");
        assert_eq!(found("fn f() { match a { B => c } }", "B => c,").unwrap(), "B => c");
        assert_eq!(found("fn f() { match a { B => c.d() } }", "B => c,"), None);
    }

    #[test]
    fn code_that_stands_twice_is_refused_with_both_places() {
        let sources = sources(&[("src/a/mod.rs", "fn f() {\n    g(1);\n}"), ("src/a/b.rs", "fn h() { g( 1 ) ; }")]);
        let error = sources.find(Wanted { code: "g(1)", module: None }).unwrap_err();
        assert_eq!(error.to_string(), "it stands at src/a/b.rs:1 and src/a/mod.rs:2");
        let there = |module| sources.find(Wanted { code: "g(1)", module: Some(module) }).map(|place| place.to_string());
        assert_eq!(there("a::b").unwrap(), "src/a/b.rs:1");
        assert_eq!(there("a").unwrap(), "src/a/mod.rs:2");
        assert_eq!(there("c").unwrap_err().to_string(), "it stands nowhere");
    }

    #[test]
    fn code_that_is_nowhere_is_refused_with_what_begins_like_it() {
        let sources = sources(&[("src/a.rs", "fn f() {\n    g(1);\n    g(2, 3);\n}")]);
        let find = |code| sources.find(Wanted { code, module: None }).unwrap_err().to_string();
        assert_eq!(find("g(2, 4)"), "it stands nowhere; src/a.rs:3 begins like it");
        assert_eq!(find("\"open"), "this can't be read as Rust");
        assert_eq!(find("// nothing"), "this can't be read as Rust");
    }
}
