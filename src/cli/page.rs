//! The page `docs/plugin.md`, made of the program's own help.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, CommandFactory, ValueEnum};

use super::command::Cli;
use super::exit::Exit;
use super::output::Format;

/// The head of the page.
const HEAD: &str = "# The plugin

`kubectl pilotage` asks, shows and decides with your own rights: it has none of its own, and there is no server behind it but the API
server. What you may not read it says, and shows the rest.

Put the program `kubectl-pilotage` into a folder of your `PATH`, and kubectl finds it. `make krew` writes the manifest with which
[krew](https://krew.sigs.k8s.io) installs it from archives of a release. `kubectl-pilotage completion bash` prints what shells complete.

Generated from `src/cli` by `make plugin-docs`. `kubectl pilotage VERB --help` says the same.
";

/// What is true of all forms of output.
const OUTPUT: &str = "With `json`, `yaml`, `name` and `csv` the standard output holds that and nothing else; what is only for people is on
the standard error. Lists are `{\"items\": […], \"notShown\": […]}`: `notShown` says what you may not read, or what was left out. Times
are ages in tables, and RFC 3339 elsewhere. Characters that control a terminal or turn text are escaped in every form, and programs read
the original text back from JSON and YAML. A cell of CSV that a spreadsheet would take for a formula begins with `'`. Tables are coloured
on a terminal only, and not if `NO_COLOR` is set.
";

/// The page.
pub fn page() -> String {
    let command = Cli::command();
    let mut page = format!("{HEAD}\n## Flags of all verbs\n\n{}", flags(command.get_arguments()));
    page.push_str("\n## Forms of output\n\n| `-o` | Prints |\n|---|---|\n");
    for value in Format::value_variants().iter().filter_map(ValueEnum::to_possible_value) {
        let _ = writeln!(page, "| `{}` | {} |", value.get_name(), cell(value.get_help().map(ToString::to_string)));
    }
    let _ = write!(page, "\n{OUTPUT}\n## Exit codes\n\n| Code | Means |\n|---|---|\n");
    for code in Exit::value_variants() {
        let meaning = code.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        let _ = writeln!(page, "| {} | {} |", *code as u8, cell(meaning));
    }
    page.push_str("\n## Verbs\n\n| Verb | Does |\n|---|---|\n");
    for verb in verbs(&command) {
        let _ = writeln!(page, "| [`{0}`](#{0}) | {1} |", verb.get_name(), cell(verb.get_about().map(ToString::to_string)));
    }
    for verb in verbs(&command) {
        let _ = write!(page, "\n## {}\n\n", verb.get_name());
        told(verb, "kubectl pilotage", &mut page);
    }
    page
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

/// What a verb does, how it is written, and its flags; then the same of what is below it.
fn told(verb: &Command, before: &str, page: &mut String) {
    let words = format!("{before} {}", verb.get_name());
    let about = verb.get_long_about().or(verb.get_about()).map(ToString::to_string).unwrap_or_default();
    let has_flags = verb.get_arguments().any(|arg| !arg.is_positional());
    let mut usage = words.clone();
    if has_flags {
        usage.push_str(" [FLAGS]");
    }
    for arg in verb.get_positionals() {
        let name = value_name(arg);
        let many = if matches!(arg.get_action(), ArgAction::Append) { "…" } else { "" };
        let _ = if arg.is_required_set() { write!(usage, " {name}{many}") } else { write!(usage, " [{name}{many}]") };
    }
    if verb.has_subcommands() {
        usage.push_str(" …");
    }
    let _ = write!(page, "{}\n\n```\n{usage}\n```\n", about.trim());
    let table = flags(verb.get_arguments());
    if !table.is_empty() {
        let _ = write!(page, "\n{table}");
    }
    for below in verbs(verb) {
        let _ = write!(page, "\n### {} {}\n\n", verb.get_name(), below.get_name());
        told(below, &words, page);
    }
}

fn value_name(arg: &Arg) -> String {
    let named = arg.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
    named.unwrap_or_else(|| arg.get_id().as_str().to_uppercase().replace('_', "-"))
}

/// A row for each argument.
fn flags<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let mut table = String::new();
    for arg in args.filter(|arg| !arg.is_hide_set()) {
        if table.is_empty() {
            table.push_str("| Flag | Means |\n|---|---|\n");
        }
        let takes = arg.get_action().takes_values() && !arg.is_positional();
        let value = if takes { format!(" {}", value_name(arg)) } else { String::new() };
        let written = match (arg.get_short(), arg.get_long()) {
            (Some(short), Some(long)) => format!("`-{short}`, `--{long}{value}`"),
            (None, Some(long)) => format!("`--{long}{value}`"),
            _ => format!("`{}`", value_name(arg)),
        };
        let mut help = cell(arg.get_long_help().or(arg.get_help()).map(ToString::to_string));
        let values: Vec<String> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        if takes && !values.is_empty() {
            let _ = write!(help, ". One of {}", values.join(", "));
        }
        let defaults: Vec<String> = arg.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
        if takes && !defaults.is_empty() {
            let _ = write!(help, ". Default: {}", defaults.join(", "));
        }
        let _ = writeln!(table, "| {written} | {help} |");
    }
    table
}

/// A text in a cell of a table.
fn cell(text: Option<String>) -> String {
    text.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ").trim_end_matches('.').replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_page_is_what_the_help_says() {
        let stored = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/plugin.md")).unwrap();
        assert!(stored == page(), "docs/plugin.md is not what the program says: make plugin-docs");
    }

    #[test]
    fn every_verb_and_every_flag_is_on_the_page() {
        let (page, command) = (page(), Cli::command());
        for verb in verbs(&command) {
            assert!(page.contains(&format!("\n## {}\n", verb.get_name())));
            for long in verb.get_arguments().filter_map(Arg::get_long) {
                assert!(page.contains(&format!("`--{long}")), "--{long} of {}", verb.get_name());
            }
        }
    }
}
